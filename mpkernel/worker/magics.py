"""The kernel's own magics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class

import mpkernel
from mpkernel.errors import MPKernelError

if TYPE_CHECKING:
    from mpkernel.worker.shell import ZMQInteractiveShell


@magics_class
class KernelMagics(Magics):
    """``%subshell``, what shares variables by hand, and ``%connect_info``."""

    shell: ZMQInteractiveShell

    @line_cell_magic
    def subshell(self, line: str, cell: str | None = None) -> Any:
        """List the kernel's subshells, make one, or run a cell in another one.

        ``%subshell``
            a table of all subshells, this one marked.

        ``%subshell new [--mode shared|snapshot|isolated] [NAME]``
            make one. shared: it shares all variables; snapshot: it starts with a copy of them; isolated: with none.

        ``%%subshell NAME``
            run this cell in the subshell NAME (made if there is none), in the background: the cell is done at once, its
            output appears here as it comes.
        """
        words = line.split()
        try:
            if cell is None and words[:1] == ["new"]:
                options, rest = self.parse_options(" ".join(words[1:]), "", "mode=")
                name = {"name": rest.strip()} if rest.strip() else {}
                made = self.shell.kernel.service.op("new", mode=options.get("mode", "shared"), **name)
                print(f"subshell {made['name'] or made['subshell']}, {made['mode']}")
            elif cell is None:
                print(mpkernel.format_subshells())
            elif len(words) != 1 or words[0].startswith("-"):
                raise UsageError("%%subshell needs the name of a subshell, one word: %%subshell NAME")
            else:
                mpkernel.run(cell, words[0])
        except MPKernelError as error:
            raise UsageError(str(error)) from None

    @line_magic
    def pull(self, line: str) -> None:
        """Take over the newest values of variables from other subshells in the midst of a cell: ``%pull [NAME …]``."""
        mpkernel.pull(*line.split())

    @line_magic
    def publish(self, line: str) -> None:
        """Let other subshells see variables in the midst of a cell: ``%publish [NAME …]``."""
        mpkernel.publish(*line.split())

    @line_magic
    def theirs(self, line: str) -> Any:
        """The value that lost when two subshells changed a variable at the same time: ``%theirs NAME``."""
        try:
            return mpkernel.theirs(line.strip())
        except MPKernelError as error:
            raise UsageError(str(error)) from None

    @line_cell_magic
    def everywhere(self, line: str, cell: str | None = None) -> None:
        """Run code in the process of every subshell, also of later ones: ``%everywhere CODE`` or ``%%everywhere``."""
        mpkernel.everywhere(line if cell is None else cell)

    @line_magic
    def connect_info(self, _line: str) -> None:
        """Show the connection file's content, and how to connect other clients to this kernel."""
        from pathlib import Path

        path = Path(self.shell.kernel.settings.connection_file)
        print(path.read_text())
        print(
            f"\nPaste the above JSON into a file and connect with\n    jupyter <app> --existing <file>\n"
            f"or, on this machine\n    jupyter <app> --existing {path.name}"
        )
