"""``!command``: IPython's way to run programs on a terminal of their own, with a gap of pexpect's closed."""

from __future__ import annotations

import functools
import select
from collections.abc import Callable
from typing import Any

from IPython.core.interactiveshell import InteractiveShell


class System:
    """The shell's `system`: IPython's very method, as that looks for variables in the frame that calls it.

    Not a property: users set ``get_ipython().system = get_ipython().system_raw``.
    """

    def __get__(self, shell: InteractiveShell | None, owner: type[InteractiveShell]) -> Callable[[str], None]:
        read_to_the_end()
        return InteractiveShell.system.__get__(shell, owner)  # type: ignore[no-any-return]


@functools.cache
def read_to_the_end() -> type[Any]:
    """Have IPython run programs by a class that loses nothing.

    pexpect waits for output, and if none has come in time it asks whether the program is still there. If that wrote
    something and ended in between, pexpect reports the end and doesn't read what was written.
    """
    import pexpect

    class Program(pexpect.spawn):  # type: ignore[misc]
        def read_nonblocking(self, size: int = 1, timeout: float | None = -1) -> Any:
            try:
                return super().read_nonblocking(size, timeout)
            except pexpect.EOF:
                poll = select.poll()
                poll.register(self.child_fd, select.POLLIN)
                if not any(event & select.POLLIN for _, event in poll.poll(0)):
                    raise
                return super(pexpect.spawn, self).read_nonblocking(size)

    pexpect.spawnb = Program  # IPython takes it instead of `spawn` if it is there
    return Program
