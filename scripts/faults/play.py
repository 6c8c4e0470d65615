"""One fault on one kernel: is it there afterwards, after how long, and with which variables?"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from scripts.harness.client import FrontEnd, NoAnswer
from scripts.harness.kernel import Kernel, Spec

NAMES = 5
ANSWER_WITHIN = 10.0  # seconds for the cell that does it; then it is interrupted, twice, and killed
STEP = 1.0
USABLE_WITHIN = 10.0


@dataclass
class Outcome:
    """`survived`: the same kernel answers; `helped`: what a user had to do for it."""

    survived: bool = False
    seconds: float | None = None
    kept: int = 0
    others: bool = False
    helped: list[str] = field(default_factory=list)
    note: str = ""


def play(spec: Spec, code: str) -> Outcome:
    """Run `code` in a subshell of a fresh kernel."""
    outcome = Outcome()
    with Kernel(spec) as kernel:
        kernel.start()
        kernel.warm_up()
        front = kernel.front
        other = front.create_subshell()
        front.run("unharmed = 1", other)
        front.run("\n".join(f"kept_{n} = [{n}]" for n in range(NAMES)))
        begin = time.perf_counter()
        pending = front.execute(code)
        try:
            if not front.wait_until(lambda: pending.done, ANSWER_WITHIN):
                outcome.helped = _help(kernel, front, pending.msg_id)
            outcome.note = str(pending.reply.get("ename", "ok")) if pending.replies else "no answer"
            _use(front, outcome, begin, other)
        except (NoAnswer, RuntimeError) as error:
            outcome.note += f"; {error}"[:80]
        outcome.survived = outcome.seconds is not None
    return outcome


def _help(kernel: Kernel, front: FrontEnd, msg_id: str) -> list[str]:
    """As a user would: interrupt, again, kill."""
    done = []
    pending = front.pending[msg_id]
    for _ in range(2):
        kernel.interrupt()
        done.append("interrupt")
        if front.wait_until(lambda: pending.done, STEP):
            return done
    if kernel.is_mpkernel:
        done.append("kill")
        front.send("mpkernel_request", {"op": "kill", "subshell": "main", "grace": STEP}, channel="control")
        front.wait_until(lambda: pending.done, USABLE_WITHIN)
    return done


def _use(front: FrontEnd, outcome: Outcome, begin: float, other: str) -> None:
    """Work on: in the subshell that did it, and in the other one."""
    deadline = time.perf_counter() + USABLE_WITHIN
    while True:
        kept = f"sum(globals().get(f'kept_{{n}}') == [n] for n in range({NAMES}))"
        probe = front.execute("6 * 7", user_expressions={"n": kept})
        front.wait(probe, timeout=USABLE_WITHIN)
        if probe.status == "ok":
            break
        if time.perf_counter() > deadline:
            raise NoAnswer(f"{probe.reply.get('ename')}: {probe.reply.get('evalue')}")
    outcome.seconds = time.perf_counter() - begin
    shown = probe.reply.get("user_expressions", {}).get("n", {}).get("data", {}).get("text/plain", "")
    outcome.kept = int(shown) if shown.isdigit() else 0
    beside = front.execute("unharmed + 1", other)
    front.wait(beside, timeout=USABLE_WITHIN)
    outcome.others = beside.status == "ok"
