"""Tens of thousands of mixed messages over several subshells, while these are interrupted, killed and deleted."""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from scripts.harness import proc
from scripts.harness.client import Json, Pending
from scripts.harness.kernel import Kernel, Spec
from scripts.harness.sandbox import MARKER
from scripts.soak.kinds import Kinds, Lane, Variable
from scripts.soak.ledger import DROPPED_AFTER, OVERDUE, Case, Ledger
from scripts.soak.report import Part

CHILDREN = 5
IN_FLIGHT = 24  # requests open at once, over all subshells
IN_LANE = 6  # and in one
UNEASY = 2.0  # seconds after a kill in which what is sent to that subshell may fail
# How often, per message: out of 10,000.
DISTURBANCES = {"interrupt": 120, "interrupt any": 10, "kill -9": 12, "op kill": 6, "delete": 25, "kill zygote": 0.5}
FLAT = 8.0  # MB that the broker may grow by in the second half of the run


class Mixed:
    """One run against one kernel."""

    def __init__(self, spec: Spec, messages: int, seed: int, deadline: float) -> None:
        self._spec = spec
        self._messages = messages
        self._deadline = deadline
        self._rng = random.Random(seed)
        self.part = Part(f"{messages:,} mixed messages over main and {CHILDREN} subshells (seed {seed})")
        self._ledger = Ledger(self.part)
        self._sent = 0
        self._disturbed: Counter[str] = Counter()
        self._control: list[tuple[Pending, Any]] = []  # our own requests, with what to do at their reply
        self._memory: list[tuple[int, float]] = []  # messages sent, MB

    def run(self) -> Part:
        start = time.monotonic()
        with Kernel(self._spec) as kernel:
            kernel.start(self._on_message)
            self._kernel, self._front = kernel, kernel.front
            self._front.keep_strays = False
            kernel.warm_up()
            self._front.run("print('x' * 100_000)")  # at the first large message pyzmq opens files, for good
            self._front.ask("delete_subshell_request", {"subshell_id": self._one_more()}, channel="control")
            before = self._files()
            self._lanes = [self._lane(i) for i in range(CHILDREN + 1)]
            self._kinds = Kinds(self._front, self._rng, self._lanes)
            self._go(start)
            self._finish(before)
            self._end(kernel)
        self._summarise(time.monotonic() - start)
        return self.part

    def _lane(self, index: int) -> Lane:
        subshell = self._front.create_subshell() if index else None
        return Lane(index, subshell, Variable(f"soak_n{index}"), Variable(f"soak_l{index}"))

    # --- the loop -----------------------------------------------------------------------------------------------------

    def _go(self, start: float) -> None:
        every = max(1, self._messages // 50)
        overdue_look = time.monotonic() + 5
        while self._sent < self._messages or self._ledger.open:
            if self._sent < self._messages:
                self._send_some(every)
            self._front.pump(0.05)
            self._finish_touched()
            if time.monotonic() > overdue_look:
                overdue_look = time.monotonic() + 2
                if self._look_for_overdue() or time.monotonic() - start > self._deadline:
                    self.part.figures["stopped early after"] = f"{self._sent:,} messages"
                    self._messages = self._sent
                    if time.monotonic() - start > self._deadline + OVERDUE:
                        return

    def _send_some(self, every: int) -> None:
        while self._sent < self._messages and len(self._ledger.open) < IN_FLIGHT:
            lane = self._rng.choice(self._lanes)
            if len(lane.open) >= IN_LANE:
                return
            if self._sent % every == 0:
                self._memory.append((self._sent, proc.rss(self._kernel.pid) / (1 << 20)))
            for kind, often in DISTURBANCES.items():
                if self._rng.random() < often / 10_000:
                    self._disturb(kind, lane)
            if not self._is_there(lane):
                continue  # deleted; its successor isn't there yet
            self._add(self._kinds.make(lane))
            self._sent += 1

    def _add(self, case: Case) -> None:
        self._ledger.add(case)
        if case.lane < 0:
            return
        lane = self._lanes[case.lane]
        if any(other.stops or other.disturbed for other in lane.open):
            case.may_abort = True
        if lane.uneasy_until > time.monotonic() or lane.interrupts_open:
            case.disturbed = True
        if case.kind == "dies":
            for other in lane.open:
                other.may_abort = True
                other.disturbed = other.disturbed or not other.pending.msg_type.startswith("execute")
            lane.uneasy_until = max(lane.uneasy_until, time.monotonic())
        if any(other.kind == "dies" for other in lane.open):
            case.disturbed = True  # comms and side requests die with it; cells are aborted
        lane.open.add(case)

    def _on_message(self, message: Any, pending: Pending | None) -> None:
        self._ledger.on_message(message, pending)
        if message.channel == "stdin" and pending is not None:
            self._front.answer_input(message, f"answer to {message.content['prompt']}")

    def _finish_touched(self) -> None:
        touched, self._ledger.touched = self._ledger.touched, set()
        cases = [case for msg_id in touched if (case := self._ledger.open.get(msg_id)) is not None]
        for case in sorted(cases, key=lambda case: case.pending.replied_at or case.pending.idle_at or 0.0):
            if case.done and not case.dropped:
                self._retire(case)
        for pending, act in list(self._control):
            if pending.replied_at is not None:
                self._control.remove((pending, act))
                act(pending)

    def _retire(self, case: Case) -> None:
        self._ledger.finish(case)
        self._front.forget(case.pending)
        if case.lane >= 0:
            lane = self._lanes[case.lane]
            lane.open.discard(case)
            self._check_count(case, lane)

    def _check_count(self, case: Case, lane: Lane) -> None:
        """Execution counts of a subshell only grow, over the death of its process too."""
        pending = case.pending
        if pending.msg_type != "execute_request" or case.disturbed or pending.status == "aborted":
            return
        count = pending.reply.get("execution_count", 0)
        if pending.subshell == lane.subshell and not pending.content.get("silent") and pending.content.get("code"):
            if count <= lane.last_count and "bad" not in pending.content:
                self.part.violate(f"execution_count of {lane.subshell} went from {lane.last_count} to {count}")
            lane.last_count = max(lane.last_count, count)

    def _look_for_overdue(self) -> bool:
        now = time.perf_counter()
        found = False
        for case in list(self._ledger.open.values()):
            age = now - case.pending.sent
            if case.dropped and age > DROPPED_AFTER:
                self._retire(case)
            elif age > OVERDUE:
                found = True
                self.part.violate(f"{case.kind}: not done after {age:.0f} s")
                if "first overdue" not in self.part.figures:
                    self.part.figures["first overdue"] = self._ps()
                    stacks = self._front.ask(
                        "mpkernel_request",
                        {"op": "trace", "subshell": case.pending.subshell or "main"},
                        channel="control",
                    )
                    self.part.violate("its stacks", str(stacks.reply.get("text", stacks.reply)))
                self._retire(case)
        return found

    # --- disturbances -------------------------------------------------------------------------------------------------

    def _mark(self, lane: Lane) -> None:
        for case in lane.open:
            case.disturbed = True

    def _ask(self, content: Json, act: Any, msg_type: str = "mpkernel_request", subshell: str | None = None) -> None:
        """A control request that isn't counted: it is a tool of the test."""
        self._control.append((self._front.send(msg_type, content, channel="control", subshell=subshell), act))

    def _disturb(self, kind: str, lane: Lane) -> None:
        if not self._is_there(lane):
            return
        self._disturbed[kind] += 1
        target = lane.subshell or "main"
        if kind == "interrupt":
            self._interrupt([lane], {"subshell_id": target})
        elif kind == "interrupt any":
            self._interrupt(self._lanes, {})
        elif kind == "kill -9":
            self._ask({"op": "ps"}, lambda pending: self._kill_9(pending, lane, target))
        elif kind == "op kill":
            self._dying(lane)
            lane.interrupts_open += 1  # until it's answered
            self._ask({"op": "kill", "subshell": target, "grace": 1.0}, lambda _: self._killed(lane))
        elif kind == "delete" and lane.index:
            self._delete(lane)
        elif kind == "kill zygote":
            self._kill_zygote()

    def _interrupt(self, lanes: list[Lane], content: Json) -> None:
        for lane in lanes:
            self._mark(lane)
            lane.interrupts_open += 1

        def interrupted(_: Pending) -> None:
            for lane in lanes:
                lane.interrupts_open -= 1
                self._mark(lane)

        self._ask(content, interrupted, "interrupt_request")

    def _dying(self, lane: Lane) -> None:
        self._mark(lane)
        lane.comms.clear()
        lane.uneasy_until = time.monotonic() + UNEASY

    def _killed(self, lane: Lane) -> None:
        lane.interrupts_open -= 1
        self._dying(lane)

    def _kill_9(self, pending: Pending, lane: Lane, target: str) -> None:
        pid = next((row["pid"] for row in pending.reply["subshells"] if row["subshell"] == target), None)
        if pid is not None and self._is_ours(pid) and target == (lane.subshell or "main") and self._is_there(lane):
            self._dying(lane)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _is_there(self, lane: Lane) -> bool:
        return lane.index == 0 or lane.subshell is not None

    def _is_ours(self, pid: int) -> bool:
        with suppress(OSError):
            return f"{MARKER}={self._kernel.sandbox.root}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
        return False

    def _kill_zygote(self) -> None:
        """The broker's child that isn't a worker and was there first. Nobody should notice."""
        children = self._zygote()
        if children is not None:
            with suppress(ProcessLookupError):
                os.kill(children, signal.SIGKILL)

    def _zygote(self) -> int | None:
        """A worker has threads, the zygote has none."""
        for pid in self._kernel.tree()[1:]:
            with suppress(OSError):
                single = len(os.listdir(f"/proc/{pid}/task")) == 1
                parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
                sockets = sum(entry == "socket" for entry in proc.open_files(pid))
                if single and parent == self._kernel.pid and self._is_ours(pid) and sockets == 1:
                    return pid
        return None

    def _delete(self, lane: Lane) -> None:
        self._dying(lane)
        lane.uneasy_until = 0
        old, lane.subshell = lane.subshell, None
        leftover = set(lane.open)
        lane.open.clear()
        for case in leftover:
            case.lane = -1

        def created(pending: Pending) -> None:
            lane.subshell = str(pending.reply["subshell_id"])
            lane.last_count = 0

        def deleted(pending: Pending) -> None:
            if pending.status != "ok":
                self.part.violate(f"delete of {old} was answered with {pending.reply}")
            self._ask({}, created, "create_subshell_request")

        self._ask({"subshell_id": old}, deleted, "delete_subshell_request")

    # --- the end ------------------------------------------------------------------------------------------------------

    def _ps(self) -> str:
        pending = self._front.send("mpkernel_request", {"op": "ps"}, channel="control")
        if not self._front.wait_until(lambda: pending.replied_at, 5):
            return "ps isn't answered either"
        keys = ("subshell", "state", "pid", "queued", "busy_s", "cell")
        return str([{key: row[key] for key in keys} for row in pending.reply["subshells"]])

    def _one_more(self) -> str:
        """A new subshell that ran a cell."""
        subshell = self._front.create_subshell()
        self._front.run("pass", subshell)
        return subshell

    def _files(self) -> Counter[str]:
        """What the broker has open, by what it points to, once that doesn't change any more."""
        found, since = Counter[str](), time.monotonic()
        end = since + 30
        while time.monotonic() < min(end, since + 3):
            self._front.pump(0.1)
            names = proc.open_files(self._kernel.pid)
            now = Counter(name if name.startswith(("socket", "pipe", "anon")) else "file" for name in names)
            if now != found:
                found, since = now, time.monotonic()
        return found

    def _finish(self, before: Counter[str]) -> None:
        front = self._front
        self._memory.append((self._sent, proc.rss(self._kernel.pid) / (1 << 20)))
        front.wait_until(lambda: not self._control and self._done_control(), 10)
        for lane in self._lanes[1:]:
            if lane.subshell is not None:
                front.ask("delete_subshell_request", {"subshell_id": lane.subshell}, channel="control")
        front.run("pass")
        after = self._files()
        if after != before:
            extra = {name: after[name] - before[name] for name in after | before if after[name] != before[name]}
            self.part.violate(f"the broker has other files open than before: {extra}")
        rows = front.ask("mpkernel_request", {"op": "ps"}, channel="control").reply["subshells"]
        if [row["subshell"] for row in rows] != ["main"]:
            self.part.violate(f"subshells are left: {rows}")
        processes = self._kernel.tree()
        if len(processes) > 4:  # broker, zygote, main, a spare
            self.part.violate(f"{len(processes)} processes are left where 4 belong: {processes}")
        sockets = list(self._kernel.sandbox.xdg.glob("mpk-*/*"))
        self.part.figures["processes, broker's files, files in the sockets' folder, at the end"] = (
            f"{len(processes)}, {after.total()}, {len(sockets)} (started with {before.total()} files)"
        )

    def _done_control(self) -> bool:
        self._finish_touched()
        return not self._control

    def _end(self, kernel: Kernel) -> None:
        processes = kernel.tree()
        kernel.front.send("shutdown_request", {"restart": False}, channel="control")
        if proc.wait_for_end(processes, 2.0) is None:
            self.part.violate("processes are left 2 s after shutdown_request")
        kernel.reap()
        for left in kernel.sandbox.leftovers():
            self.part.violate(f"left over after shutdown: {left}")
        log = kernel.log.read_text(errors="replace")
        self.part.figures["tracebacks in the kernel's log"] = log.count("Traceback (most recent call last)")
        self.log = log

    def _summarise(self, seconds: float) -> None:
        ledger, figures = self._ledger, self.part.figures
        figures["messages"] = f"{ledger.counts.total():,} in {seconds / 60:.1f} min"
        figures["kinds"] = ", ".join(f"{kind} {count}" for kind, count in ledger.counts.most_common())
        figures["disturbances"] = ", ".join(f"{kind} {count}" for kind, count in self._disturbed.most_common())
        figures["replies"] = ", ".join(f"{name} {count}" for name, count in ledger.outcomes.most_common())
        figures["idle seen before the reply (two sockets: allowed)"] = ledger.idle_first
        for kind in ("kernel_info", "add", "complete"):
            if times := ledger.latencies.get(kind):
                worst = f"{max(times) * 1000:.0f}"
                figures[f"{kind}: median, worst (ms)"] = f"{statistics.median(times) * 1000:.1f}, {worst}"
        curve = [mb for _, mb in self._memory]
        if len(curve) > 4:
            shown = ", ".join(f"{curve[round(i * (len(curve) - 1) / 10)]:.1f}" for i in range(11))
            figures["broker's memory over the run (MB resident)"] = shown
            if curve[-1] - curve[len(curve) // 2] > FLAT:
                self.part.violate(
                    f"the broker's memory grew by {curve[-1] - curve[len(curve) // 2]:.1f} MB in the 2nd half"
                )


def run(spec: Spec, messages: int, seed: int, minutes: float) -> Part:
    """`messages` messages, or as many as can be sent in `minutes`."""
    mixed = Mixed(spec, messages, seed, minutes * 60)
    part = mixed.run()
    if part.violations:
        part.save(f"mixed-{seed}", mixed.log)
    return part
