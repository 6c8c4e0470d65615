"""Very many messages of all kinds through one kernel: what they cost, and what of it stays in memory."""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator

from scripts.faults.table import Row
from scripts.harness import proc
from scripts.harness.client import FrontEnd, Pending
from scripts.harness.kernel import Kernel, Spec

AT_A_TIME = 50
SAMPLES = 20  # of memory, over the run
SETTLED = 100_000  # by then all that has a limit has come to it, or a tenth of the run
FLAT = 5.0  # MB that it may be off the median after that
MB = 1 << 20
COMM = "many"
SETUP = f"""
from IPython.display import display
def opened(comm, message):
    comm.on_msg(lambda message: comm.send({{'n': message['content']['data']['n'] + 1}}))
get_ipython().kernel.comm_manager.register_target({COMM!r}, opened)
data = {{}}
"""

Send = Callable[[FrontEnd, int, str | None], Pending]


def _cell(code: str) -> Send:
    """A cell that isn't in the history: `In`, `Out` and `_i1`, `_i2`, … grow in every IPython."""
    return lambda front, n, shell: front.execute(code.format(n=n), shell, store_history=False, stop_on_error=False)


def _request(msg_type: str, **content: object) -> Send:
    return lambda front, _, shell: front.send(msg_type, content, subshell=shell)


def _comm(front: FrontEnd, n: int, shell: str | None) -> Pending:
    return front.send("comm_msg", {"comm_id": f"comm of {shell}", "data": {"n": n}}, subshell=shell)


# What is sent, in turn.
MIX: list[Send] = [
    _cell("x = {n}"),
    _cell("data['key {n}'.__len__()] = [{n}]"),
    _request("complete_request", code="data.ke", cursor_pos=7),
    _comm,
    _cell("display({{'text/plain': '{n}'}}, raw=True, display_id='one')"),
    _cell("print({n})"),
    _request("is_complete_request", code="for x in y:"),
    _comm,
    _cell("[{n}] * 10"),
    _request("inspect_request", code="data", cursor_pos=4, detail_level=0),
    _cell("def f(): return {n}"),
    _request("kernel_info_request"),
    _comm,
    _cell("1 / 0  # {n}"),
    _cell("await __import__('asyncio').sleep(0)"),
]


def many(spec: Spec, messages: int) -> list[Row]:
    """`messages` requests to main and one more subshell."""
    with Kernel(spec) as kernel:
        kernel.start()
        kernel.warm_up()
        front = kernel.front
        shells = (None, front.create_subshell())
        for shell in shells:
            front.run(SETUP, shell)
            opening = {"comm_id": f"comm of {shell}", "target_name": COMM, "data": {}}
            _settle(front, [front.send("comm_open", opening, subshell=shell)])
        front.keep_strays = False
        begin, samples = time.perf_counter(), []
        batches = _batches(front, messages, shells)
        every = max(1, messages // AT_A_TIME // SAMPLES)
        for number, batch in enumerate(batches, 1):
            _settle(front, batch)
            if number % every == 0 or number * AT_A_TIME == SETTLED:
                sizes = {pid: proc.private(pid) / MB for pid in kernel.tree()}
                samples.append((number * AT_A_TIME, sizes))
                shown = " ".join(f"{pid}:{size:.1f}" for pid, size in sizes.items())
                took = time.perf_counter() - begin
                print(f"{number * AT_A_TIME:,} after {took:.0f} s: {shown}", file=sys.stderr, flush=True)
        took = time.perf_counter() - begin
        settled = next(i for i, (sent, _) in enumerate(samples) if sent >= min(SETTLED, messages // 10))
        totals = [sum(sizes.values()) for _, sizes in samples]
        middle = statistics.median(totals[settled:])
        off = max(abs(total - middle) for total in totals[settled:])
        return [
            Row(f"{messages:,} messages of {len(MIX)} kinds, {AT_A_TIME} under way at a time", f"{took / 60:.0f} min"),
            Row("memory of all its processes (private, MB)", ", ".join(f"{total:.0f}" for total in totals)),
            Row(f"from the {samples[settled][0]:,}th message to the last", f"{middle:.0f} ± {off:.1f} MB", off > FLAT),
        ]


def _batches(front: FrontEnd, messages: int, shells: tuple[str | None, ...]) -> Iterator[list[Pending]]:
    numbers = itertools.count()
    for _ in range(messages // AT_A_TIME):
        chosen = itertools.islice(numbers, AT_A_TIME)
        yield [MIX[n // len(shells) % len(MIX)](front, n, shells[n % len(shells)]) for n in chosen]


def _settle(front: FrontEnd, batch: list[Pending]) -> None:
    """Until all are answered; messages for comms have no reply."""
    for pending in batch:
        front.wait_until(lambda p=pending: p.idle_at and (p.replied_at or p.msg_type[:4] == "comm"))  # type: ignore[misc]
        front.forget(pending)
