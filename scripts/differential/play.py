"""Runs an area's cells on one kernel."""

from __future__ import annotations

from scripts.differential import normalise
from scripts.differential.cells import Cell
from scripts.harness.client import NoAnswer, Pending
from scripts.harness.kernel import Kernel, Spec


def play(spec: Spec, cells: list[Cell], patience: float, *, in_child: bool = False) -> list[list[str]]:
    """For each cell the lines that `normalise.lines` makes of what came back.

    `in_child`: in a child subshell instead of the parent. A kernel that doesn't answer, or ends, is replaced by a new
    one.
    """
    answered: list[list[str]] = []
    rest = list(cells)
    while rest:
        with Kernel(spec) as kernel:
            kernel.start()
            kernel.front.wait_for_iopub()
            subshell = kernel.front.create_subshell() if in_child else None
            sent: list[Pending] = []
            end = ""
            for cell in rest:
                sent.append(_send(kernel, cell, subshell))
                try:
                    _answer(kernel, cell, sent[-1], patience)
                except NoAnswer as error:
                    end = f"no answer: {str(error)[:60]}"
                    break
            kernel.front.wait_until(lambda: False, 0.3)  # text that comes after idle
            answered += [normalise.lines(pending) for pending in sent]
            if end:
                answered[-1].append(end)
            rest = rest[len(sent) :]
    return answered


def _send(kernel: Kernel, cell: Cell, subshell: str | None) -> Pending:
    if cell.msg_type == "execute_request":
        return kernel.front.execute(**{"code": cell.code, "subshell": subshell, **cell.content})
    if cell.msg_type == "usage_request":
        return kernel.front.send(cell.msg_type, cell.content, channel="control")
    return kernel.front.send(cell.msg_type, cell.content, subshell=subshell)


def _answer(kernel: Kernel, cell: Cell, pending: Pending, patience: float) -> None:
    answers = iter(cell.answers)
    answered = 0
    while answered < len(cell.answers):
        if not kernel.front.wait_until(lambda n=answered: len(pending.inputs) > n or pending.done, patience):  # type: ignore[misc]
            raise NoAnswer("no input_request")
        if pending.done:
            return
        kernel.front.answer_input(pending.inputs[answered], next(answers))
        answered += 1
    if cell.msg_type.endswith("_request"):
        kernel.front.wait(pending, timeout=patience)
    elif not kernel.front.wait_until(lambda: pending.idle_at, patience):
        raise NoAnswer("no idle")
