"""A program in a terminal: keys go in, and what its screen shows comes back."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pyte
from ptyprocess import PtyProcess

from .sandbox import PATIENCE

WITHIN = 20 * PATIENCE  # seconds
ROWS, COLUMNS = 40, 120


class Terminal:
    """A context manager: the program is killed at the end if it runs still."""

    def __init__(self, argv: Sequence[str], environment: dict[str, str], cwd: Path) -> None:
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self._screen)
        environment = environment | {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
        self._process = PtyProcess.spawn(list(argv), cwd=str(cwd), env=environment, dimensions=(ROWS, COLUMNS))
        self._screen.write_process_input = self.type  # the terminal's own answers, e.g. where the cursor is
        self.pid: int = self._process.pid
        self._read = selectors.DefaultSelector()
        self._read.register(self._process.fd, selectors.EVENT_READ)
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is not None:
            error.add_note(f"on the screen:\n{self.text}")
        self._read.close()
        self._process.close(force=True)

    @property
    def text(self) -> str:
        """The screen."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip()

    @property
    def line(self) -> str:
        """That of the cursor: what is typed goes there."""
        return str(self._screen.display[self._screen.cursor.y]).rstrip()

    def type(self, keys: str) -> None:
        os.write(self._process.fd, keys.encode())

    def wait_until(self, condition: Callable[[], object], what: str, within: float = WITHIN) -> None:
        """Show what the program writes until the condition is true. Raises AssertionError if it doesn't come true."""
        deadline = time.monotonic() + within
        while not condition():
            assert time.monotonic() < deadline, f"no {what}"
            assert not self._ended, f"the program has ended without {what}"
            self._show(0.1)

    def wait_for(self, text: str) -> None:
        self.wait_until(lambda: text in self.text, text)

    def wait_for_prompt(self, prompt: str, within: float = WITHIN) -> None:
        """Wait until the cursor is in a line with this in it."""
        self.wait_until(lambda: prompt in self.line, prompt, within)

    def wait_for_the_end(self) -> int:
        """The exit code."""
        self.wait_until(lambda: self._ended, "end")
        return int(self._process.wait())

    def _show(self, timeout: float) -> None:
        if self._read.select(timeout):
            try:
                self._stream.feed(os.read(self._process.fd, 65536))
            except OSError:  # as Linux says that nobody is at the other end any more
                self._ended = True
