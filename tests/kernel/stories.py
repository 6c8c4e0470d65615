"""Short scripts of cells in several subshells, for the tests of shared variables.

A story is text. ``A: code`` is a cell in subshell A that must succeed (further lines are indented by three more
columns), ``B? expression`` must be true in subshell B, ``B! NameError: code`` must raise that error there. ``M`` is the
main shell, other letters are subshells that the story makes.
"""

from __future__ import annotations

import ast
import re
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import pytest

from .driver import Gate, Kernel, Pending, Result
from .sandbox import PATIENCE

needs_numpy = pytest.mark.skipif(find_spec("numpy") is None, reason="needs numpy")
needs_pandas = pytest.mark.skipif(find_spec("pandas") is None, reason="needs pandas")
needs_pydantic = pytest.mark.skipif(find_spec("pydantic") is None, reason="needs pydantic")

SOON = 5.0 * PATIENCE  # seconds within which what changed between two cells is seen elsewhere
BETWEEN_LOOKS = 0.05  # seconds between two looks at what changes while no cell runs
TRUE = ("True", "np.True_")
_LINE = re.compile(r"([A-Z])([:?!])(?: |$)(.*)")

# Leaves what IPython put there; a private name of a story is always `_held`.
_CLEAN_UP = (
    "[globals().pop(_n, None) for _n in list(globals())"
    " if _n not in get_ipython().user_ns_hidden and (not _n.startswith('_') or _n == '_held')]"
)


def blocks(text: str) -> dict[str, str]:
    """By title, code: from blocks of a line ``# title`` and lines of code, with an empty line between them."""
    found = {}
    for block in textwrap.dedent(text).strip("\n").split("\n\n"):
        title, _, code = block.partition("\n")
        if not title.startswith("# ") or not code:
            raise ValueError(f"not a titled block: {block!r}")
        found[title[2:]] = code
    return found


def examples(text: str) -> dict[str, tuple[str, str]]:
    """By title, code and what is true after it: blocks with lines ``? expression`` for the latter."""
    found = {}
    for title, block in blocks(text).items():
        code = [line for line in block.splitlines() if not line.startswith("? ")]
        checks = [line[2:] for line in block.splitlines() if line.startswith("? ")]
        found[title] = ("\n".join(code), " and ".join(checks))
    return found


@dataclass(frozen=True, slots=True)
class Step:
    """One cell of a story."""

    letter: str
    sign: str
    code: str


def steps(text: str) -> Iterator[Step]:
    """The cells of a story. Raises ValueError for a line that belongs to none."""
    letter = sign = ""
    lines: list[str] = []
    for line in textwrap.dedent(text).strip("\n").splitlines():
        match = _LINE.match(line)
        if match is None:
            if line[:3].strip() or not letter:
                raise ValueError(f"not a line of a story: {line!r}")
            lines.append(line[3:])
            continue
        if letter:
            yield Step(letter, sign, "\n".join(lines))
        letter, sign, lines = match[1], match[2], [match[3]]
    if letter:
        yield Step(letter, sign, "\n".join(lines))


class Open:
    """A cell that has done the first part of its work and waits at a gate before the rest."""

    def __init__(self, pending: Pending, gate: Gate) -> None:
        self.pending = pending
        self._gate = gate

    def finish(self) -> Result:
        """Let the cell go on, and wait for its end."""
        if not self.pending.is_done:
            self._gate.release()
        return self.pending.wait()


class Stories:
    """Plays stories on one kernel. Call `close` after each test."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._subshells: dict[str, str | None] = {"M": None}
        self._gates = 0
        self._failed = False
        self._opened: list[Open] = []

    def __call__(self, text: str) -> None:
        """Play a story. All its subshells run a cell before it begins, so that each gets the news as news."""
        story = list(steps(text))
        for letter in dict.fromkeys(step.letter for step in story):
            self.run(letter, "pass")
        for number, step in enumerate(story):
            try:
                self._play(step)
            except AssertionError as error:
                told = [f"{s.letter}{s.sign} {s.code}" for s in story[: number + 1]]
                error.add_note("the story so far:\n" + textwrap.indent("\n".join(told), "    "))
                raise

    def _play(self, step: Step) -> None:
        if step.sign == ":":
            self.run(step.letter, step.code)
        elif step.sign == "?":
            self.check(step.letter, step.code)
        else:
            ename, _, code = step.code.partition(": ")
            result = self.kernel.run(code, self.subshell(step.letter))
            assert result.ename == ename, f"{step.letter}: {code!r} gave {result.ename or 'no error'}: {result}"

    def subshell(self, letter: str) -> str | None:
        """The subshell of that letter, made if need be."""
        if letter not in self._subshells:
            self._subshells[letter] = self.kernel.create_subshell()
        return self._subshells[letter]

    def run(self, letter: str, code: str, timeout: float | None = None) -> Result:
        """Run a cell that must succeed."""
        self._failed = True
        result = self.kernel.run(code, self.subshell(letter), timeout=timeout)
        assert result.status == "ok", f"{letter}: {code!r} failed: {result.traceback or result}"
        self._failed = False
        return result

    def check(self, letter: str, expression: str) -> None:
        """Fail unless `expression` is true in that subshell."""
        result = self.run(letter, expression)
        if result.text not in TRUE:
            self._failed = True
            raise AssertionError(
                f"{letter}: {expression} is {result.text or 'nothing'}{self._seen(letter, expression)}"
            )

    def _seen(self, letter: str, expression: str) -> str:
        """What the left side of a comparison is, for a failure message."""
        tree = ast.parse(expression, mode="eval").body
        if not isinstance(tree, ast.Compare):
            return ""
        left = ast.unparse(tree.left)
        result = self.kernel.run(left, self.subshell(letter))
        return f": {left} is {result.text or result.ename}"

    def eventually(self, letter: str, expression: str) -> None:
        """Fail unless `expression` is true in one of many cells within some seconds."""
        deadline = time.monotonic() + SOON
        while self.run(letter, expression).text not in TRUE:
            if time.monotonic() > deadline:
                self.check(letter, expression)
                return
            time.sleep(BETWEEN_LOOKS)

    def gate(self) -> Gate:
        """A new gate."""
        self._gates += 1
        name = f"gate-{self._gates}"
        (self.kernel.sandbox.cwd / name).unlink(missing_ok=True)
        return self.kernel.gate(name)

    def open_cell(self, letter: str, before: str, after: str = "pass") -> Open:
        """A cell that has run `before`, and runs `after` when it is told to finish."""
        gate = self.gate()
        code = f"{before}\nprint('ready', flush=True)\n{gate.pass_through}\n{after}"
        cell = Open(self.kernel.start(code, self.subshell(letter)), gate)
        self._opened.append(cell)
        return cell

    def at_once(self, **cells: str) -> list[Result]:
        """Run cells, by letter, in such a way that all have started before one of them works; they end in order."""
        opened = [self.open_cell(letter, "pass", code) for letter, code in cells.items()]
        results = [cell.finish() for cell in opened]
        for result in results:
            assert result.status == "ok", result.traceback
        return results

    def without_subshells(self) -> Stories:
        """Delete the subshells, so that those which the story names are new."""
        for subshell in self._subshells.values():
            if subshell is not None:
                self.kernel.delete_subshell(subshell)
        self._subshells = {"M": None}
        return self

    def close(self) -> None:
        """Delete all names; the subshells too, if something went wrong. They are kept for what they have imported."""
        for cell in self._opened:  # a test that failed leaves them so
            if not cell.pending.is_done:
                cell.finish()
        self._opened.clear()
        if self._failed:
            self.without_subshells()
        self._failed = False
        self.kernel.run(_CLEAN_UP, silent=True, store_history=False)
