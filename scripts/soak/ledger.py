"""The book of all requests: what each got, in which order, and that nothing came too often, too late or not at all.

The rules, for every request: on iopub first busy, last idle, idle once; exactly one reply of the right type on the
channel it was sent on (none where the type has none); nothing after that. Between the sockets no order is defined, but
a reply isn't later than idle, nor busy than the reply, by more than `SKEW`. All messages carry one ``header.session``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from scripts.harness.client import Message, Pending
from scripts.soak.report import Part

SKEW = 0.5  # seconds between two sockets of one client, on a busy machine
OVERDUE = 60.0  # seconds after which a request counts as left without an answer
DROPPED_AFTER = 2.0  # seconds in which nothing may come for a message that must be dropped

Check = Callable[[Pending], str | None]


@dataclass(eq=False)
class Case:
    """A request, and what is expected of it."""

    kind: str
    pending: Pending
    check: Check
    lane: int  # index of the subshell whose queue it is in; -1: the broker answers
    stops: bool = False  # an error that aborts what is queued behind it
    dropped: bool = False  # malformed: nothing may come
    disturbed: bool = False  # interrupted, killed or deleted meanwhile: it may have failed
    may_abort: bool = False  # something before it in its queue may have failed
    on_done: Callable[[Case], None] | None = None
    history: list[str] = field(default_factory=list)

    @property
    def has_reply(self) -> bool:
        return self.pending.msg_type.endswith("_request")

    @property
    def done(self) -> bool:
        return self.pending.idle_at is not None and (not self.has_reply or self.pending.replied_at is not None)


class Ledger:
    """`on_message` is the front end's listener; violations go into `part`."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.open: dict[str, Case] = {}
        self.counts: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.idle_first = 0  # idle was seen before the reply: no violation, see above
        self.touched: set[str] = set()
        self.latencies: dict[str, list[float]] = {}
        self._closed: dict[str, str] = {}
        self._session: str | None = None

    def add(self, case: Case) -> None:
        self.open[case.pending.msg_id] = case
        self.counts[case.kind] += 1

    def on_message(self, message: Message, pending: Pending | None) -> None:
        session = message.header.get("session")
        if self._session is None:
            self._session = session
        elif session != self._session:
            self.part.violate(f"header.session changed from {self._session} to {session} in a {message.msg_type}")
        parent = message.parent.get("msg_id")
        if pending is not None:
            self.touched.add(pending.msg_id)
        elif parent in self._closed:
            self.part.violate(f"late: {_show(message)} for a finished {self._closed[parent]}", str(message))
        elif parent is not None:
            self.part.violate(f"{_show(message)} has a parent that nobody sent: {message.parent}")

    def finish(self, case: Case) -> None:
        """`case` is done, or known to be dropped: judge it."""
        del self.open[case.pending.msg_id]
        self._closed[case.pending.msg_id] = case.kind
        pending = case.pending
        if pending.replied_at is not None and pending.idle_at is not None and not case.disturbed:
            self.latencies.setdefault(case.kind, []).append(pending.seconds)
        for wrong in (*self._form(case), *self._content(case)):
            everything = "\n".join(str(m) for m in (*pending.iopub, *pending.replies))
            self.part.violate(f"{case.kind}: {wrong}; {describe(case)}", everything)
        if case.on_done is not None:
            case.on_done(case)

    def _form(self, case: Case) -> list[str]:
        pending, wrong = case.pending, []
        if case.dropped:
            return ["it must be dropped, but something came"] if pending.iopub or pending.replies else []
        states = [m.content["execution_state"] for m in pending.iopub if m.msg_type == "status"]
        if not pending.iopub or pending.iopub[0].content.get("execution_state") != "busy":
            wrong.append("the first message on iopub isn't busy")
        if states.count("idle") != 1 or pending.iopub[-1].content.get("execution_state") != "idle":
            wrong.append(f"idle must come once, at the end; the states are {states}")
        expected = pending.msg_type.removesuffix("_request") + "_reply"
        types = [(m.msg_type, m.channel) for m in pending.replies]
        if types != ([(expected, pending.channel)] if case.has_reply else []):
            wrong.append(f"the replies are {types}")
        elif case.has_reply and pending.iopub:
            assert pending.replied_at is not None
            assert pending.idle_at is not None
            self.idle_first += pending.idle_at < pending.replied_at
            if pending.replied_at - pending.idle_at > SKEW:
                wrong.append(f"the reply came {pending.replied_at - pending.idle_at:.2f} s after idle")
            if pending.iopub[0].at - pending.replied_at > SKEW:
                wrong.append("busy came long after the reply")
        return wrong

    def _content(self, case: Case) -> list[str]:
        pending = case.pending
        if case.dropped or (case.has_reply and not pending.replies):
            return []  # `_form` says so
        status = pending.status if pending.replies else "none"
        name = pending.reply.get("ename") if pending.replies and status == "error" else None
        self.outcomes[f"{status} {name}" if name and case.disturbed else status] += 1
        wrong = case.check(pending)
        if wrong is None:
            return []
        if (case.may_abort or case.disturbed) and status == "aborted":
            return []
        if case.disturbed and (status == "none" or name in DISTURBANCES):
            return []
        if case.disturbed and pending.msg_type != "execute_request":
            return []
        if case.disturbed and "KeyboardInterrupt" in pending.text("stderr") + str(pending.reply):
            return []  # it hit IPython's own work, which goes on with what it has
        return [wrong]


# What the reply to a request may name if its subshell was interrupted, killed or deleted.
DISTURBANCES = {"KeyboardInterrupt", "WorkerDied", "Killed", "SubshellDeleted", "SubshellNotFound", "CancelledError"}


def _show(message: Message) -> str:
    return f"{message.msg_type} on {message.channel} {str(message.content)[:120]}"


def describe(case: Case) -> str:
    """What one needs to see of a request that went wrong."""
    pending = case.pending
    came = [f"+{(m.at - pending.sent) * 1000:.0f}ms {_show(m)}" for m in (*pending.iopub, *pending.replies)]
    flags = [flag for flag in ("disturbed", "may_abort") if getattr(case, flag)]
    return (
        f"{pending.msg_type} {str(pending.content)[:160]} on {pending.channel}, subshell {pending.subshell}"
        f"{' [' + ', '.join(flags) + ']' if flags else ''}{' ' + str(case.history) if case.history else ''}: "
        f"{'; '.join(came[:12]) or 'nothing came'}"
    )
