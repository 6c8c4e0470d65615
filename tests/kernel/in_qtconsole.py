"""What somebody does in qtconsole, told by a program of its own: ``python -m tests.kernel.in_qtconsole``.

Keys are typed into the real application, on Qt's platform ``offscreen``; what its window then shows is what counts.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from qtconsole.qtconsoleapp import JupyterQtConsoleApp
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from .driver import KERNELSPEC
from .sandbox import PATIENCE

WITHIN = 20 * PATIENCE  # seconds


class Console:
    """The application's window with one console."""

    def __init__(self) -> None:
        self.app = JupyterQtConsoleApp()
        self.app.initialize(["--no-banner", f"--kernel={KERNELSPEC}", "--JupyterWidget.gui_completion=droplist"])
        self.app.window.confirm_exit = False
        self.app.window.show()
        self.widget = self.app.window.active_frontend
        self.widget.confirm_restart = False
        self.wait_for_prompt()

    def close(self) -> None:
        """Close the window, which ends the kernel."""
        self.app.window.close()
        self.app.app.processEvents()

    @property
    def text(self) -> str:
        """What the window shows, without what `clear` has taken away."""
        return str(self.widget._control.toPlainText()).replace("\u2029", "\n")

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + WITHIN
        while not condition():
            assert time.monotonic() < deadline, f"no {what}; there is:\n{self.text}"
            QTest.qWait(10)  # handles events; processEvents would lose a reference to None each time

    def wait_for(self, text: str) -> None:
        self.wait_until(lambda: text in self.text, text)

    def wait_for_prompt(self) -> None:
        self.wait_until(lambda: re.search(r"In \[\d+\]: $", self.text), "prompt")

    def clear(self) -> None:
        """Leave an empty prompt on an empty window."""
        self.widget.reset(clear=True)
        self.wait_for_prompt()

    def type(self, text: str) -> None:
        QTest.keyClicks(self.widget._control, text)

    def press(self, key: Qt.Key, *modifiers: Qt.KeyboardModifier) -> None:
        QTest.keyClick(self.widget._control, key, *modifiers)

    def start(self, code: str) -> None:
        self.type(code)
        self.press(Qt.Key.Key_Return)

    def run(self, code: str) -> None:
        """Run a cell and wait for the next prompt."""
        self.start(code)
        self.wait_for_prompt()


def execute(console: Console) -> None:
    console.run("print('a' * 3); 6 * 7")
    assert "\naaa\n" in console.text
    assert re.search(r"Out\[\d+\]: 42\n", console.text)
    console.run("1 / 0")
    assert "ZeroDivisionError" in console.text


def complete(console: Console) -> None:
    console.run("sensible_name = 5")
    console.type("sensible_n")
    console.press(Qt.Key.Key_Tab)
    console.wait_until(lambda: console.text.endswith("]: sensible_name"), "completion")
    console.press(Qt.Key.Key_Return)
    console.wait_for("]: 5\n")


def page(console: Console) -> None:
    console.run("import subprocess")
    console.start("subprocess.Popen?")  # more than what fits
    pages = console.widget._page_control
    console.wait_until(lambda: "Execute a child program" in pages.toPlainText() and pages.isVisible(), "page")
    QTest.keyClick(pages, Qt.Key.Key_Q)
    assert not pages.isVisible()


def see_a_call_tip(console: Console) -> None:
    console.run("f = lambda some_argument: 1")
    console.type("f(")
    tip = console.widget._call_tip_widget
    console.wait_until(lambda: "some_argument" in tip.text(), "call tip")


def answer_input(console: Console) -> None:
    console.start("print('answer', input('what? ') * 2)")
    console.wait_for("\nwhat? ")
    console.start("ab")
    console.wait_for("\nanswer abab\n")


def plot(console: Console) -> None:
    console.run("import matplotlib.pyplot as plt; _ = plt.plot([1, 2])")
    assert console.text.count("\ufffc") == 1  # stands for an image
    assert "<img" in console.widget._control.document().toHtml()


def interrupt(console: Console) -> None:
    console.start("print('rea' 'dy'); all(n == 0 for n in iter(int, 1))")
    console.wait_for("\nready\n")
    console.press(Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    console.wait_for("KeyboardInterrupt")
    console.wait_for_prompt()
    console.run("print('go', 'on')")
    assert "\ngo on\n" in console.text


def restart(console: Console) -> None:
    console.run("x = 1")
    console.press(Qt.Key.Key_Period, Qt.KeyboardModifier.ControlModifier)
    console.wait_for("Restarting kernel")
    console.wait_for_prompt()
    console.run("print('x' in globals(), 'he' 're')")
    console.wait_for("False here")


STORIES = (execute, complete, page, see_a_call_tip, answer_input, plot, interrupt, restart)


def main() -> None:
    console = Console()
    try:
        for story in STORIES:
            print(story.__name__, flush=True)
            console.clear()
            story(console)
    finally:
        console.close()


if __name__ == "__main__":
    main()
