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
    """``%subshell`` and ``%connect_info``."""

    shell: ZMQInteractiveShell

    @line_cell_magic
    def subshell(self, line: str, cell: str | None = None) -> Any:
        """List the kernel's subshells, or run a cell in another one.

        ``%subshell``
            a table of all subshells, this one marked.

        ``%%subshell NAME``
            run this cell in the subshell NAME (made if there is none), in the background: the cell is done at once, its
            output appears here as it comes.
        """
        if cell is None:
            print(mpkernel.format_subshells())
            return
        words = line.split()
        if len(words) != 1 or words[0].startswith("-"):
            raise UsageError("%%subshell needs the name of a subshell, one word: %%subshell NAME")
        try:
            mpkernel.run(cell, words[0])
        except MPKernelError as error:
            raise UsageError(str(error)) from None

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
