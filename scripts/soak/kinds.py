"""The kinds of requests, each with the answer that must come."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from scripts.harness.client import DELIMITER, FrontEnd, Pending
from scripts.soak.ledger import Case, Check

EMPTY_CHECK: Check = lambda _: None  # noqa: E731
COMM_CELL = """
import comm, sys
c = comm.create_comm(target_name='soak', data={{'n': {n}}})
c.on_msg(lambda m, c=c: c.send({{'echo': m['content']['data']}}))
sys.__dict__.setdefault('soak_comms', {{}})[c.comm_id] = c
del c
"""


@dataclass
class Variable:
    """A name that only one lane writes and all lanes read."""

    name: str
    writes: list[Case] = field(default_factory=list)  # in the order they were sent
    values: list[int] = field(default_factory=list)

    def allowed(self, read: Pending) -> tuple[set[int], bool]:
        """Values that a read may see, and whether the name may be missing.

        The last write that was surely done before the read was sent, and all that were sent after that one.
        """
        end = read.replied_at or float("inf")
        first = -1
        for i, write in enumerate(self.writes):
            done = write.pending.idle_at
            if done is not None and done < read.sent and not write.disturbed and write.pending.status == "ok":
                first = i
        later = [v for w, v in zip(self.writes, self.values, strict=True) if w.pending.sent < end][max(first, 0) :]
        return set(later), first < 0


@dataclass
class Lane:
    """One subshell of the test; when it is deleted, its successor has another id."""

    index: int
    subshell: str | None
    number: Variable
    items: Variable
    comms: list[str] = field(default_factory=list)
    open: set[Case] = field(default_factory=set)
    uneasy_until: float = 0.0  # its process was killed: until then whatever is sent may fail
    interrupts_open: int = 0
    last_count: int = 0


# What the kernel may say when subshells that share variables are all busy at once.
_NOTES = re.compile(r"mpkernel: (subshell \S+ does not answer|.* was changed in another subshell at the same time).*\n")


def shown_matches(
    pending: Pending,
    *,
    status: str = "ok",
    ename: str | None = None,
    stdout: str = "",
    stderr: str | None = "",
    results: tuple[str, ...] = (),
    displays: tuple[str, ...] = (),
    inputs: int | None = 1,
) -> str | None:
    """Everything that a cell showed, compared with what it must show."""
    got_results = tuple(m.content["data"]["text/plain"] for m in pending.shown("execute_result"))
    got_displays = tuple(m.content["data"]["text/plain"] for m in pending.shown("display_data"))
    pairs: list[tuple[str, Any, Any]] = [
        ("status", pending.status, status),
        ("ename", pending.reply.get("ename"), ename),
        ("stdout", pending.text(), stdout),
        ("execute_result", got_results, results),
        ("display_data", got_displays, displays),
        ("number of errors", len(pending.shown("error")), int(status == "error")),
    ]
    if inputs is not None:
        pairs.append(("number of execute_inputs", len(pending.shown("execute_input")), inputs))
    if stderr is not None:
        pairs.append(("stderr", _NOTES.sub("", pending.text("stderr")), stderr))
    for what, got, expected in pairs:
        if got != expected:
            return f"{what} is {str(got)[:120]!r}, not {str(expected)[:120]!r}"
    return None


class Kinds:
    """Makes cases. `table` has (weight, make) pairs; `make` takes the lane."""

    def __init__(self, front: FrontEnd, rng: random.Random, lanes: list[Lane]) -> None:
        self._front = front
        self._rng = rng
        self._lanes = lanes
        self._n = 0
        self._last_frames: list[bytes] | None = None
        self.table: list[tuple[float, Callable[[Lane], Case]]] = [
            (12, self.add),
            (8, self.printing),
            (4, self.both_streams),
            (4, self.displaying),
            (3, self.many_lines),
            (4, self.failing),
            (2, self.failing_and_stopping),
            (2, self.syntax_error),
            (3, self.silent),
            (3, self.expressions),
            (4, self.sleeping),
            (4, self.awaiting),
            (2, self.looping),
            (10, self.write_number),
            (10, self.read_number),
            (4, self.write_item),
            (4, self.read_item),
            (2, self.asking),
            (0.3, self.shell_command),
            (0.1, self.dying),
            (3, self.complete),
            (3, self.inspect),
            (3, self.is_complete),
            (2, self.history),
            (3, self.kernel_info),
            (1, self.comm_info),
            (1, self.connect_info),
            (1, self.list_subshells),
            (1, self.usage_or_debug),
            (1, self.ps),
            (2, self.comm_open),
            (4, self.comm_msg),
            (1, self.comm_close),
            (0.5, self.comm_to_nobody),
            (0.7, self.unknown_type),
            (0.7, self.unknown_subshell),
            (0.7, self.bad_content),
            (0.7, self.bad_frames),
            (0.5, self.delete_unknown),
        ]

    def make(self, lane: Lane) -> Case:
        weights = [weight for weight, _ in self.table]
        (_, make) = self._rng.choices(self.table, weights)[0]
        return make(lane)

    def _next(self) -> int:
        self._n += 1
        return self._n

    def _cell(self, kind: str, lane: Lane, code: str, check: Check, *, stops: bool = False, **options: Any) -> Case:
        options = {"stop_on_error": stops, **options}
        return Case(kind, self._front.execute(code, lane.subshell, **options), check, lane.index, stops=stops)

    def _request(self, kind: str, lane: Lane | None, msg_type: str, content: Any, check: Check, **to: Any) -> Case:
        subshell = lane.subshell if lane is not None else None
        pending = self._front.send(msg_type, content, subshell=subshell, **to)
        return Case(kind, pending, check, lane.index if lane is not None else -1)

    # --- cells --------------------------------------------------------------------------------------------------------

    def add(self, lane: Lane) -> Case:
        a, b = self._rng.randrange(10**6), self._next()
        return self._cell("add", lane, f"{a} + {b}", lambda p: shown_matches(p, results=(str(a + b),)))

    def printing(self, lane: Lane) -> Case:
        n = self._next()
        return self._cell("print", lane, f"print('line', {n})", lambda p: shown_matches(p, stdout=f"line {n}\n"))

    def both_streams(self, lane: Lane) -> Case:
        n = self._next()
        code = f"import sys\nprint('out {n}')\nprint('err {n}', file=sys.stderr)\nprint('more {n}')"
        check = lambda p: shown_matches(p, stdout=f"out {n}\nmore {n}\n", stderr=f"err {n}\n")  # noqa: E731
        return self._cell("both streams", lane, code, check)

    def displaying(self, lane: Lane) -> Case:
        n = self._next()
        check = lambda p: shown_matches(p, displays=(f"a{n}", f"b{n}"), results=(str(n),))  # noqa: E731
        code = f"display({{'text/plain': 'a{n}'}}, raw=True)\ndisplay({{'text/plain': 'b{n}'}}, raw=True)\n{n}"
        return self._cell("display", lane, code, check)

    def many_lines(self, lane: Lane) -> Case:
        n, count = self._next(), self._rng.choice((10, 300, 3000))
        text = "".join(f"{n} {i}\n" for i in range(count))
        code = f"for i_ in range({count}): print({n}, i_)"
        return self._cell("many lines", lane, code, lambda p: shown_matches(p, stdout=text))

    def failing(self, lane: Lane) -> Case:
        n = self._next()
        check = lambda p: shown_matches(p, status="error", ename="ValueError")  # noqa: E731
        return self._cell("error", lane, f"raise ValueError({n})", check)

    def failing_and_stopping(self, lane: Lane) -> Case:
        check = lambda p: shown_matches(p, status="error", ename="ZeroDivisionError")  # noqa: E731
        return self._cell("error, stops the queue", lane, "1 / 0", check, stops=True)

    def syntax_error(self, lane: Lane) -> Case:
        check = lambda p: shown_matches(p, status="error", ename="SyntaxError")  # noqa: E731
        return self._cell("syntax error", lane, f"x = = {self._next()}", check)

    def silent(self, lane: Lane) -> Case:
        return self._cell("silent", lane, f"{self._next()}", lambda p: shown_matches(p, inputs=0), silent=True)

    def expressions(self, lane: Lane) -> Case:
        n = self._next()

        def check(pending: Pending) -> str | None:
            got = pending.reply.get("user_expressions", {})
            if (
                got.get("a", {}).get("data", {}).get("text/plain") != str(n * 2)
                or got.get("b", {}).get("status") != "error"
            ):
                return f"user_expressions are {got}"
            return shown_matches(pending)

        wanted = {"a": f"{n} * 2", "b": "no_such_name_"}
        return self._cell("user_expressions", lane, "pass", check, user_expressions=wanted)

    def sleeping(self, lane: Lane) -> Case:
        return self._cell("sleep", lane, f"import time; time.sleep({self._rng.uniform(0, 0.03):.4f})", shown_matches)

    def awaiting(self, lane: Lane) -> Case:
        n = self._next()
        code = f"import asyncio; await asyncio.sleep({self._rng.uniform(0, 0.03):.4f}); {n}"
        return self._cell("await", lane, code, lambda p: shown_matches(p, results=(str(n),)))

    def looping(self, lane: Lane) -> Case:
        return self._cell("loop", lane, f"for i_ in range({self._rng.randrange(300_000)}): pass", shown_matches)

    def asking(self, lane: Lane) -> Case:
        n = self._next()
        check = lambda p: shown_matches(p, results=(f"'answer to {n}'",))  # noqa: E731
        return self._cell("input", lane, f"input('{n}')", check, allow_stdin=True)

    def shell_command(self, lane: Lane) -> Case:
        n = self._next()

        def check(pending: Pending) -> str | None:
            cut_short = case.disturbed and "say" not in pending.text()  # IPython ends the program, and the cell goes on
            return None if f"say {n}" in pending.text() or cut_short else f"stdout is {pending.text()!r}"

        case = self._cell("shell command", lane, f"!echo say {n}", check)
        return case

    def dying(self, lane: Lane) -> Case:
        """The cell ends its own process: an error reply, and nothing else is lost."""
        code = self._rng.choice(("import os; os._exit(3)", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"))
        lane.comms.clear()
        check = lambda p: shown_matches(p, status="error", ename="WorkerDied", stderr=None, inputs=None)  # noqa: E731
        case = self._cell("dies", lane, code, check, stops=True)
        case.on_done = lambda _: lane.comms.clear()  # also those that were opened by cells before it in the queue
        return case

    # --- the shared namespace -----------------------------------------------------------------------------------------

    def _write(self, variable: Variable, lane: Lane, code: str, value: int) -> Case:
        case = self._cell(f"write {variable.name[:5]}", lane, code, shown_matches)
        variable.writes.append(case)
        variable.values.append(value)
        del variable.writes[:-100], variable.values[:-100]
        return case

    def write_number(self, lane: Lane) -> Case:
        n = self._next()
        return self._write(lane.number, lane, f"{lane.number.name} = {n}", n)

    def write_item(self, lane: Lane) -> Case:
        n, name = self._next(), lane.items.name
        code = f"globals().setdefault('{name}', [0]).append({n}); del {name}[:-5]"
        return self._write(lane.items, lane, code, n)

    def _read(self, variable: Variable, lane: Lane, code: str) -> Case:
        def check(pending: Pending) -> str | None:
            allowed, may_be_missing = variable.allowed(pending)
            if may_be_missing and pending.status == "error" and pending.reply.get("ename") == "NameError":
                return None
            got = [m.content["data"]["text/plain"] for m in pending.shown("execute_result")]
            if got and (got[0] in {str(value) for value in allowed} or (may_be_missing and len(variable.values) < 100)):
                return None
            latest = zip(variable.writes[-3:], variable.values[-3:], strict=True)
            last = [(value, w.pending.status if w.pending.replies else "open", w.disturbed) for w, value in latest]
            seen = got or pending.reply.get("ename")
            return f"{variable.name} reads {seen}, allowed is {sorted(allowed)}; last writes: {last}"

        return self._cell(f"read {variable.name[:5]}", lane, code, check)

    def read_number(self, lane: Lane) -> Case:
        variable = self._rng.choice(self._lanes).number
        return self._read(variable, lane, variable.name)

    def read_item(self, lane: Lane) -> Case:
        variable = self._rng.choice(self._lanes).items
        return self._read(variable, lane, f"{variable.name}[-1]")

    # --- other requests -----------------------------------------------------------------------------------------------

    def complete(self, lane: Lane) -> Case:
        def check(pending: Pending) -> str | None:
            matches = pending.reply.get("matches", ())
            return None if any(m.endswith("isdigit") for m in matches) else f"matches are {matches}"

        return self._request("complete", lane, "complete_request", {"code": "str.isdi", "cursor_pos": 8}, check)

    def inspect(self, lane: Lane) -> Case:
        def check(pending: Pending) -> str | None:
            found = "number of items" in str(pending.reply.get("data"))
            return None if found else f"the reply is {pending.reply!r:.100}"

        content = {"code": "len", "cursor_pos": 2, "detail_level": 0}
        return self._request("inspect", lane, "inspect_request", content, check)

    def is_complete(self, lane: Lane) -> Case:
        code, status = self._rng.choice((("1 + 1", "complete"), ("for i in x:", "incomplete"), ("x = = 1", "invalid")))
        check = lambda p: None if p.status == status else f"is_complete says {p.status}, not {status}"  # noqa: E731
        return self._request("is_complete", lane, "is_complete_request", {"code": code}, check)

    def history(self, lane: Lane) -> Case:
        content = {
            "hist_access_type": "tail",
            "n": 5,
            "raw": True,
            "output": False,
            "session": 0,
            "start": 0,
            "stop": 0,
        }

        def check(pending: Pending) -> str | None:
            ok = pending.status == "ok" and len(pending.reply["history"]) <= 6
            return None if ok else f"the reply is {pending.reply!r:.100}"

        return self._request("history", lane, "history_request", content, check)

    def _by_broker(self, kind: str, lane: Lane | None, msg_type: str, content: Any, key: str, **to: Any) -> Case:
        """A request that the broker answers itself; `key` must be in the reply."""

        def check(pending: Pending) -> str | None:
            return None if key in pending.reply else f"the reply is {pending.reply!r:.100}"

        case = self._request(kind, lane, msg_type, content, check, **to)
        case.lane = -1
        return case

    def kernel_info(self, lane: Lane) -> Case:
        channel = self._rng.choice(("shell", "control"))
        return self._by_broker("kernel_info", None, "kernel_info_request", {}, "protocol_version", channel=channel)

    def comm_info(self, lane: Lane) -> Case:
        return self._by_broker("comm_info", None, "comm_info_request", {"target_name": "soak"}, "comms")

    def connect_info(self, lane: Lane) -> Case:
        return self._by_broker("connect", None, "connect_request", {}, "shell_port")

    def list_subshells(self, lane: Lane) -> Case:
        return self._by_broker("list_subshell", None, "list_subshell_request", {}, "subshell_id", channel="control")

    def usage_or_debug(self, lane: Lane) -> Case:
        if self._rng.random() < 0.3:
            return self._by_broker("usage", None, "usage_request", {}, "kernel_memory", channel="control")
        content = {"type": "request", "command": "debugInfo", "seq": 1, "arguments": {}}
        return self._by_broker("debug", None, "debug_request", content, "success", channel="control")

    def ps(self, lane: Lane) -> Case:
        return self._by_broker("ps", None, "mpkernel_request", {"op": "ps"}, "subshells", channel="control")

    # --- comms --------------------------------------------------------------------------------------------------------

    def comm_open(self, lane: Lane) -> Case:
        def check(pending: Pending) -> str | None:
            opened = [m.content["comm_id"] for m in pending.shown("comm_open")]
            return None if len(opened) == 1 else f"{len(opened)} comms were opened"

        def keep(case: Case) -> None:
            if not case.disturbed and case.pending.status == "ok":
                lane.comms += [m.content["comm_id"] for m in case.pending.shown("comm_open")]

        case = self._cell("comm_open", lane, COMM_CELL.format(n=self._next()), check)
        case.on_done = keep
        return case

    def comm_msg(self, lane: Lane) -> Case:
        """From the front end, under the id of any subshell: it must reach the owner."""
        if not lane.comms:
            return self.comm_open(lane)
        n, comm_id = self._next(), self._rng.choice(lane.comms)
        sender = self._rng.choice(self._lanes)

        def check(pending: Pending) -> str | None:
            got = [m.content["data"] for m in pending.shown("comm_msg")]
            refused = [m.content["ename"] for m in pending.shown("error")]
            if refused == ["SubshellNotFound"] and pending.subshell != sender.subshell:
                return None  # the subshell in whose name it was sent is deleted by now
            return None if got == [{"echo": n}] else f"the callback answered {got}, not {n}"

        case = self._request("comm_msg", sender, "comm_msg", {"comm_id": comm_id, "data": n}, check)
        case.lane = lane.index
        if sender is not lane and sender.subshell is not None:
            case.history.append(f"owned by {lane.subshell}")
        return case

    def comm_close(self, lane: Lane) -> Case:
        if not lane.comms:
            return self.comm_open(lane)
        comm_id = lane.comms.pop(self._rng.randrange(len(lane.comms)))
        return self._request("comm_close", lane, "comm_close", {"comm_id": comm_id, "data": {}}, EMPTY_CHECK)

    def comm_to_nobody(self, lane: Lane) -> Case:
        content = {"comm_id": f"nobody-{self._next()}", "data": {}, "target_name": "no-such-target"}
        return self._request("comm to nobody", lane, self._rng.choice(("comm_open", "comm_msg")), content, EMPTY_CHECK)

    # --- bad messages -------------------------------------------------------------------------------------------------

    def unknown_type(self, lane: Lane) -> Case:
        msg_type = self._rng.choice(("nonsense_request", "nonsense"))
        channel = self._rng.choice(("shell", "control"))
        check = lambda p: None if not p.replies or p.status == "error" else f"status is {p.status}"  # noqa: E731
        return self._request("unknown type", None, msg_type, {}, check, channel=channel)

    def unknown_subshell(self, lane: Lane) -> Case:
        msg_type = self._rng.choice(("execute_request", "complete_request", "kernel_info_request"))
        header = self._front.header(msg_type, f"no-such-{self._next()}")
        if self._rng.random() < 0.3:
            header["subshell_id"] = 7
        content = {"code": "1", "cursor_pos": 0}
        pending = self._front.send_frames(self._front.frames(header, content), header, content=content)
        check = lambda p: None if p.reply.get("ename") == "SubshellNotFound" else f"{p.reply!r:.100}"  # noqa: E731
        return Case("unknown subshell", pending, check, -1)

    def delete_unknown(self, lane: Lane) -> Case:
        check = lambda p: None if p.status == "error" else f"status is {p.status}"  # noqa: E731
        content = {"subshell_id": f"no-such-{self._next()}"}
        return self._request("delete unknown", None, "delete_subshell_request", content, check, channel="control")

    def bad_content(self, lane: Lane) -> Case:
        msg_type, content = self._rng.choice(
            (
                ("execute_request", []),
                ("execute_request", "text"),
                ("execute_request", {"code": 7}),
                ("complete_request", [1]),
                ("inspect_request", None),
                ("history_request", {"hist_access_type": "nonsense"}),
                ("is_complete_request", 5),
            )
        )
        header = self._front.header(msg_type, lane.subshell)
        frames = self._front.frames(header, content)
        pending = self._front.send_frames(frames, header, content={"bad": repr(content)})
        check = lambda p: None if p.status == "error" else f"status is {p.status}"  # noqa: E731
        return Case(f"bad content {msg_type}", pending, check, lane.index)

    def bad_frames(self, lane: Lane) -> Case:
        """What must be dropped, silently but for the log: unsigned, wrongly signed, cut, replayed, not JSON."""
        front = self._front
        header = front.header("execute_request", lane.subshell)
        content = {"code": f"print('must not run {self._next()}')", "silent": False}
        good = front.frames(header, content)
        way = self._rng.randrange(6)
        if way == 0:
            frames = [DELIMITER, b"0" * 64, *good[2:]]
        elif way == 1:
            frames = [DELIMITER, b"", *good[2:]]
        elif way == 2:
            frames = good[: self._rng.randrange(1, 6)]
        elif way == 3:
            frames = [b"no", b"delimiter"]
        elif way == 4:
            frames = [DELIMITER, good[1], good[2][:-1], *good[3:]]
        else:
            frames = front.frames(["not", "an", "object"], content)
        pending = front.send_frames(frames, header, self._rng.choice(("shell", "control")), content)
        return Case(f"bad frames {way}", pending, EMPTY_CHECK, -1, dropped=True)
