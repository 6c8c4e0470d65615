"""The kernel's own magics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core import page
from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class
from IPython.core.magics.code import CodeMagics, MacroToEdit
from IPython.display import Javascript, display
from IPython.utils import openpy

import mpkernel
from mpkernel import outcomes
from mpkernel.errors import MPKernelError

if TYPE_CHECKING:
    from mpkernel.worker.shell import ZMQInteractiveShell


_WORDS = ("new", "delete", "kill")
_FORMS = (
    "there are %subshell, %subshell new [--mode shared|snapshot|isolated] [NAME], %subshell delete NAME, "
    "%subshell kill NAME, and %%subshell NAME to run a cell there"
)


def _named(words: list[str], form: str) -> str:
    """The one name that a form wants. Raises UsageError."""
    if len(words) != 1 or words[0].startswith("-"):
        raise UsageError(f"a subshell's name is one word: {form}; {_FORMS}")
    return words[0]


def _new_name(words: list[str], form: str) -> str:
    """The same, of a subshell that is perhaps to be made."""
    name = _named(words, form)
    if name in _WORDS:
        raise UsageError(f"a subshell can't be called {name!r}, which is a word of %subshell: {_FORMS}")
    return name


@magics_class
class KernelMagics(Magics):
    """``%subshell``, what shares variables by hand, and ``%connect_info``."""

    shell: ZMQInteractiveShell

    @line_cell_magic
    def subshell(self, line: str, cell: str | None = None) -> Any:
        """List the kernel's subshells, make or end one, or run a cell in another one.

        ``%subshell``
            a table of all subshells, this one marked.

        ``%subshell new [--mode shared|snapshot|isolated] [NAME]``
            make one. shared: it shares all variables; snapshot: it starts with a copy of them; isolated: with none.

        ``%subshell delete NAME``
            delete one, with its process, whether it is busy or not.

        ``%subshell kill NAME``
            end the process of one, and whatever it runs. The subshell stays, and gets a new process when it is used.

        ``%%subshell NAME``
            run this cell in the subshell NAME (made if there is none), in the background: the cell is done at once, its
            output appears here as it comes.
        """
        words = line.split()
        forms: dict[str, Callable[[list[str]], None]] = {
            "new": self._new_subshell,
            "delete": self._delete_subshell,
            "kill": self._kill_subshell,
        }
        try:
            if cell is not None:
                mpkernel.run(cell, _new_name(words, "%%subshell NAME"))
            elif not words:
                print(mpkernel.format_subshells())
            elif words[0] in forms:
                forms[words[0]](words[1:])
            else:
                raise UsageError(f"%subshell {line.strip()}: {_FORMS}")
        except MPKernelError as error:
            raise UsageError(str(error)) from None

    def _new_subshell(self, words: list[str]) -> None:
        options, rest = self.parse_options(" ".join(words), "", "mode=")
        name = {"name": _new_name(rest.split(), "%subshell new NAME")} if rest.strip() else {}
        made = self.shell.kernel.service.op("new", mode=options.get("mode", "shared"), **name)
        print(f"subshell {made['name'] or made['subshell']}, {made['mode']}")

    def _delete_subshell(self, words: list[str]) -> None:
        name = _named(words, "%subshell delete NAME")
        print(f"subshell {name}: {outcomes.of_delete(self.shell.kernel.service.op('delete', subshell=name))[0]}")

    def _kill_subshell(self, words: list[str]) -> None:
        name = _named(words, "%subshell kill NAME")
        print(f"subshell {name}: {outcomes.of_kill(self.shell.kernel.service.op('kill', subshell=name))[0]}")

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
        if not line.strip():
            raise UsageError("of which variable? %theirs NAME")
        try:
            return mpkernel.theirs(line.strip())
        except MPKernelError as error:
            raise UsageError(str(error)) from None

    @line_cell_magic
    def everywhere(self, line: str, cell: str | None = None) -> None:
        """Run code in the process of every subshell, also of later ones: ``%everywhere CODE`` or ``%%everywhere``."""
        try:
            mpkernel.everywhere(line if cell is None else cell)
        except MPKernelError as error:
            raise UsageError(str(error)) from None

    @line_magic
    def connect_info(self, _line: str) -> None:
        """Show the connection file's content, and how to connect other clients to this kernel."""
        path = Path(self.shell.kernel.settings.connection_file)
        print(path.read_text())
        print(
            f"\nPaste the above JSON into a file and connect with\n    jupyter <app> --existing <file>\n"
            f"or, on this machine\n    jupyter <app> --existing {path.name}"
        )

    @line_magic
    def qtconsole(self, line: str) -> None:
        """Open a Qt console on this kernel, in a process of its own: ``%qtconsole [options of jupyter qtconsole]``."""
        import importlib.util
        import shlex
        import subprocess
        import sys

        if importlib.util.find_spec("qtconsole") is None:
            raise UsageError(f"%qtconsole needs the package qtconsole, which isn't in {sys.prefix}: %pip install it")
        connection_file = self.shell.kernel.settings.connection_file
        subprocess.Popen(
            [sys.executable, "-m", "qtconsole", "--existing", connection_file, *shlex.split(line)],
            start_new_session=True,  # else it would be interrupted and ended with this subshell's cells
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @line_magic
    def autosave(self, line: str) -> None:
        """Have the classic notebook save every so many seconds: ``%autosave SECONDS``; 0 turns it off."""
        try:
            seconds = int(line)
        except ValueError:
            raise UsageError(f"%autosave requires an integer, got {line!r}") from None
        script = Javascript(f"IPython.notebook.set_autosave_interval({seconds * 1000})")
        display(script, include=["application/javascript"])
        print(f"Autosaving every {seconds} seconds" if seconds else "Autosave disabled")

    # --- what a terminal does in place, and a front end elsewhere -----------------------------------------------------

    @line_magic
    def edit(self, line: str = "", last_call: list[str] | None = None) -> None:
        """Have the front end open a file in an editor: ``%edit [-n LINE] [-p] [-r] [WHAT]``.

        WHAT is a file, a function or class (the file that defines it), a variable with text, or numbers of prompts; the
        latter two, and nothing, are put into a temporary file. ``-p``: what was edited last; ``-r``: input as typed.
        Not every front end can do this (consoles do). The file isn't run afterwards: nobody knows when you are done.
        """
        options, what = self.parse_options(line, "prn:")
        find: Any = CodeMagics._find_edit_target
        try:
            found, number, _ = find(self.shell, what, options, last_call or ["", ""])
        except MacroToEdit:
            raise UsageError(f"{what} is a macro, which can't be edited from here: define it anew by %macro") from None
        if found is None:
            raise UsageError(f"{what!r} is neither a variable nor a file that %edit could open")
        payload = {"source": "edit_magic", "filename": str(Path(found).resolve()), "line_number": number}
        self.shell.write_payload(payload)

    @line_magic
    def clear(self, _line: str) -> None:
        """Clear the terminal."""
        self.shell.system("clear")

    @line_magic
    def less(self, line: str) -> None:
        """Show a file in the pager, Python in colours: ``%less FILE``. Also ``%more``."""
        if not line:
            raise UsageError("Missing filename.")
        if line.endswith(".py"):
            page.page(self.shell.pycolorize(openpy.read_py_file(line, skip_encoding_cookie=False)))
        else:
            page.page(Path(line).read_text())

    @line_magic
    def man(self, line: str) -> None:
        """Show a manual page in the pager: ``%man COMMAND``."""
        page.page(self.shell.getoutput(f"man {line} | col -b", split=False))
