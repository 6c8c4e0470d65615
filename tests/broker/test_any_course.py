"""Whatever happens, in whatever order: each request gets busy, its reply and idle, and the kernel ends when told to.

`Kernel` asserts with each action that it is for a living worker, that a worker has one request at a time, and that
SIGINT is sent only while that request runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mpkernel import messages
from mpkernel.broker.events import DumpStacks, Interrupted, StacksDumped, ToldToStop
from mpkernel.namespace.component import Component

from .bench import CONSOLE, JUPYTERLAB, FakeWorker, Kernel

Predicate = Callable[[FakeWorker], bool]

OPS = ["ps", "interrupt", "kill", "new", "delete", "trace", "run", "save", "restore", "info", "logs"]
anyone = st.integers(0, 5)  # an index into whatever there is
malformed = st.sampled_from([b"not JSON", b"[]", b"null", {"subshell_id": [], "comm_id": 1, "op": {}, "name": 3}])
REQUESTS = [
    *("execute_request", "complete_request", "history_request", "comm_open", "comm_msg", "comm_close"),
    *("kernel_info_request", "comm_info_request", "connect_request", "interrupt_request", "usage_request"),
    *("create_subshell_request", "delete_subshell_request", "list_subshell_request", "debug_request"),
    *("mpkernel_request", "no_such_request", "no_such_message"),
]


def not_launched(worker: FakeWorker) -> bool:
    return worker.pid is None


def not_ready(worker: FakeWorker) -> bool:
    return not worker.said_hello


def ready(worker: FakeWorker) -> bool:
    return worker.said_hello


def waits(worker: FakeWorker) -> bool:
    return worker.running is not None and not worker.started


def runs(worker: FakeWorker) -> bool:
    return worker.started


def has_comms(worker: FakeWorker) -> bool:
    return bool(worker.comms)


def asked_aside(worker: FakeWorker) -> bool:
    return bool(worker.side)


def reads(worker: FakeWorker) -> bool:
    return bool(worker.got(messages.ReadLive))


def calls(worker: FakeWorker) -> bool:
    return bool(worker.got(messages.Call))


def released(worker: FakeWorker) -> bool:
    return bool(worker.got(messages.Release))


def given_up(worker: FakeWorker) -> bool:
    return worker.given_up


def when(that: Predicate) -> Callable[[Any], Any]:
    """There must be such a worker."""
    return precondition(lambda self: bool(self.workers(that)))


class AnyCourse(RuleBasedStateMachine):
    """Front ends, workers, disks and the clock do whatever they like."""

    keep = ""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = Kernel(stop_on_error_timeout=0.2, keep=self.keep)
        self.kernel.measures_at_once = True
        self.kernel.worker().hello()
        self.tokens: list[tuple[FakeWorker, int]] = []  # questions that workers asked
        self.answered: set[int] = set()  # dumps

    def subshell(self, index: int) -> str | None:
        """One of the subshells, or one that doesn't exist."""
        there = [*self.kernel.machine.subshells, "nobody"]
        return there[index % len(there)]

    def workers(self, that: Predicate) -> list[FakeWorker]:
        there = self.kernel.workers.values() if that is given_up else self.kernel.living()
        return [worker for worker in there if that(worker)]

    def worker(self, index: int, that: Predicate = bool) -> FakeWorker:
        """One of the workers of which that is true."""
        there = self.workers(that)
        return there[index % len(there)]

    # --- front ends -------------------------------------------------------------------------------------------------

    @rule(who=anyone, stop=st.booleans(), client=st.sampled_from([JUPYTERLAB, CONSOLE]), aware=st.booleans())
    def execute(self, who: int, stop: bool, client: tuple[bytes, ...], aware: bool) -> None:
        self.kernel.execute("1", self.subshell(who) if aware else None, client=client, aware=aware, stop_on_error=stop)

    @rule(who=anyone, msg_type=st.sampled_from(REQUESTS), channel=st.sampled_from(["shell", "control"]))
    def ask(self, who: int, msg_type: str, channel: str) -> None:
        self.kernel.ask(msg_type, channel=channel, subshell=self.subshell(who))

    @rule(msg_type=st.sampled_from(REQUESTS), content=malformed)
    def ask_nonsense(self, msg_type: str, content: object) -> None:
        self.kernel.control(msg_type, content)

    @rule(who=anyone, kind=st.sampled_from(["comm_open", "comm_msg", "comm_close"]), comm_id=st.sampled_from("ab"))
    def comm(self, who: int, kind: str, comm_id: str) -> None:
        content = {"comm_id": comm_id, "target_name": "t", "data": {}}
        self.kernel.ask(kind, content, subshell=self.subshell(who))

    @rule(name=st.sampled_from([None, "a"]))
    def create(self, name: str | None) -> None:
        if len(self.kernel.machine.subshells) < 4:
            self.kernel.control("create_subshell_request", {"name": name})

    @rule(who=anyone, chance=st.integers(0, 2))
    def delete(self, who: int, chance: int) -> None:
        if not chance:  # seldom
            self.kernel.delete(self.subshell(who))

    @rule(who=st.none() | anyone)
    def interrupt(self, who: int | None) -> None:
        self.kernel.interrupt(None if who is None else self.subshell(who))

    @rule(who=anyone, op=st.sampled_from(OPS))
    def op(self, who: int, op: str) -> None:
        if op != "new" or len(self.kernel.machine.subshells) < 4:
            self.kernel.op(op, subshell=self.subshell(who) or "main", code="1", grace=0.5, path="/file")

    @rule(which=anyone, with_parent=st.booleans(), value=st.sampled_from(["typed", 3]))
    def answer_input(self, which: int, with_parent: bool, value: object) -> None:
        asked = self.kernel.sent("stdin", "input_request")
        to = asked[which % len(asked)] if asked and with_parent else None
        self.kernel.answer_input(value, to=to)

    @precondition(lambda self: len(self.kernel.done(DumpStacks)) > len(self.answered))
    @rule()
    def dump_stacks(self) -> None:
        for action in self.kernel.done(DumpStacks):
            if action.token not in self.answered:
                self.answered.add(action.token)
                self.kernel.handle(StacksDumped(action.token, "stacks"))

    @precondition(lambda self: self.kernel.files)
    @rule(error=st.sampled_from(["", "the disk is full"]), name=st.sampled_from("xyz"))
    def file_done(self, error: str, name: str) -> None:
        self.kernel.file_done(Component((name,), blobs=(b"pickle",)), error=error)

    @when(ready)
    @rule(who=anyone, name=st.sampled_from("xyz"))
    def hold(self, who: int, name: str) -> None:
        self.worker(who, ready).hold(name)

    @when(released)
    @rule(who=anyone, which=anyone)
    def release(self, who: int, which: int) -> None:
        worker = self.worker(who, released)
        asked = worker.got(messages.Release)
        worker.say(messages.Released(asked[which % len(asked)].token))

    # --- workers ----------------------------------------------------------------------------------------------------

    @when(not_launched)
    @rule(who=anyone)
    def launch(self, who: int) -> None:
        self.worker(who, not_launched).launch()

    @when(not_ready)
    @rule(who=anyone)
    def hello(self, who: int) -> None:
        self.worker(who, not_ready).hello()

    @when(waits)
    @rule(who=anyone)
    def start(self, who: int) -> None:
        self.worker(who, waits).start()

    @when(runs)
    @rule(who=anyone, abort=st.booleans(), last=st.sampled_from([False] * 5 + [True]))
    def reply(self, who: int, abort: bool, last: bool) -> None:
        self.worker(who, runs).reply("error" if abort else "ok", abort=abort, last=last)

    @when(has_comms)
    @rule(who=anyone, background=st.booleans())
    def reply_comm(self, who: int, background: bool) -> None:
        self.worker(who, has_comms).reply_comm(background=background)

    @when(asked_aside)
    @rule(who=anyone)
    def reply_aside(self, who: int) -> None:
        self.worker(who, asked_aside).reply_aside()

    @when(ready)
    @rule(who=anyone, comm_id=st.sampled_from("ab"), opens=st.booleans())
    def publish(self, who: int, comm_id: str, opens: bool) -> None:
        worker = self.worker(who, ready)
        worker.print("text")
        (worker.open_comm if opens else worker.close_comm)(comm_id)
        worker.commit("x", deleted=["y"], lost=["z"])
        worker.say(messages.Flush(1))

    @when(ready)
    @rule(who=anyone)
    def merge(self, who: int) -> None:
        self.worker(who, ready).merge()

    @when(ready)
    @rule(who=anyone)
    def lose_memory(self, who: int) -> None:
        self.worker(who, ready).lose_memory("x")

    @when(ready)
    @rule(who=anyone)
    def run_exit_hooks(self, who: int) -> None:
        self.worker(who, ready).say(messages.Ending())

    @when(ready)
    @rule(who=anyone)
    def resend(self, who: int) -> None:
        self.worker(who, ready).resend()

    @when(runs)
    @rule(who=anyone)
    def ask_input(self, who: int) -> None:
        worker = self.worker(who, runs)
        self.tokens.append((worker, worker.ask_input()))

    @precondition(lambda self: self.tokens)
    @rule(which=anyone)
    def cancel_input(self, which: int) -> None:
        worker, token = self.tokens.pop(which % len(self.tokens))
        worker.cancel_input(token)

    @when(runs)
    @rule(who=anyone, whom=anyone, op=st.sampled_from(["ps", "interrupt", "kill", "delete", "trace", "run"]))
    def op_of_a_cell(self, who: int, whom: int, op: str) -> None:
        self.worker(who, runs).op(op, subshell=self.subshell(whom) or "main", code="1")

    @when(ready)
    @rule(who=anyone, whom=anyone, token=anyone)
    def live_read(self, who: int, whom: int, token: int) -> None:
        self.worker(who, ready).say(messages.AskLive(token, "x", self.subshell(whom) or "main"))

    @when(reads)
    @rule(who=anyone)
    def answer_live_read(self, who: int) -> None:
        worker = self.worker(who, reads)
        worker.say(messages.LiveAnswer(worker.got(messages.ReadLive)[-1].token, None, True, [], (b"pickle",)))

    @when(ready)
    @rule(who=anyone, token=anyone, names=st.none() | st.lists(st.sampled_from("xyz"), unique=True))
    def acquire(self, who: int, token: int, names: list[str] | None) -> None:
        self.worker(who, ready).say(messages.Acquire(token, names, ["z"]))

    @when(ready)
    @rule(who=anyone, number=st.integers(0, 9), name=st.sampled_from("xyz"))
    def miss(self, who: int, number: int, name: str) -> None:
        self.worker(who, ready).say(messages.Missed(number, [name]))

    @when(ready)
    @rule(who=anyone)
    def settle(self, who: int) -> None:
        self.worker(who, ready).say(messages.Settled())

    @when(ready)
    @rule(who=anyone, token=anyone, name=st.sampled_from("xyz"))
    def ask_theirs(self, who: int, token: int, name: str) -> None:
        self.worker(who, ready).say(messages.AskTheirs(token, name))

    @when(ready)
    @rule(who=anyone, whom=anyone, token=anyone)
    def ask_call(self, who: int, whom: int, token: int) -> None:
        worker, other = self.worker(who, ready), self.worker(whom)
        worker.say(messages.AskCall(token, other.id, 1, "__len__", {}, [], ()))

    @when(calls)
    @rule(who=anyone)
    def answer_call(self, who: int) -> None:
        worker = self.worker(who, calls)
        worker.say(messages.LiveAnswer(worker.got(messages.Call)[-1].token, "it failed", True, [], ()))

    @when(runs)
    @rule(who=anyone)
    def come_to_an_await(self, who: int) -> None:
        worker = self.worker(who, runs)
        assert worker.running is not None
        worker.say(messages.Awaits(worker.running.seq))

    @when(ready)
    @rule(who=anyone, taken=st.booleans())
    def take_comms(self, who: int, taken: bool) -> None:
        self.worker(who, ready).say(messages.CommTarget("t", taken))

    @when(ready)
    @rule(who=anyone, attached=st.booleans())
    def attach_debugger(self, who: int, attached: bool) -> None:
        self.worker(who, ready).say(messages.Debugged(attached))

    @when(ready)
    @rule(who=anyone, token=anyone)
    def mark(self, who: int, token: int) -> None:
        self.worker(who, ready).say(messages.Mark(token))

    @when(ready)
    @rule(who=anyone)
    def describe(self, who: int) -> None:
        self.worker(who, ready).say(messages.Describe({"implementation": "echo"}))

    @when(bool)
    @rule(who=anyone, returncode=st.sampled_from([0, 1, -9, -11]), chance=st.integers(0, 2))
    def die(self, who: int, returncode: int, chance: int) -> None:
        worker = self.worker(who)
        if not chance:
            worker.die(None if worker.pid is None else returncode)

    @when(given_up)
    @rule(who=anyone, returncode=st.sampled_from([None, 0, -9]))
    def come_back(self, who: int, returncode: int | None) -> None:
        worker = self.worker(who, given_up)
        if worker.pid is None:
            worker.launch()
        elif returncode is None:
            worker.say(messages.Settled())
            worker.say(messages.Reply(1, False, 1, ()))
        else:
            worker.die(returncode)

    # --- the rest of the world --------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.1, 0.5, 2.0]))
    def pass_time(self, seconds: float) -> None:
        self.kernel.pass_time(seconds)

    @rule()
    def signal_int(self) -> None:
        self.kernel.handle(Interrupted())

    @rule(by_signal=st.booleans(), restart=st.booleans(), chance=st.integers(0, 4))
    def shut_down(self, by_signal: bool, restart: bool, chance: int) -> None:
        if not chance and by_signal:
            self.kernel.handle(ToldToStop("SIGTERM"))
        elif not chance:
            self.kernel.control("shutdown_request", {"restart": restart})

    # --- what always holds ------------------------------------------------------------------------------------------

    @invariant()
    def requests_take_their_course(self) -> None:
        self.kernel.check()

    @invariant()
    def the_state_is_busy_while_a_cell_runs(self) -> None:
        if self.kernel.machine.running_cells():
            assert self.kernel.state == "busy"

    @invariant()
    def a_worker_has_what_its_subshell_runs(self) -> None:
        for subshell in self.kernel.machine.subshells.values():
            if subshell.running is not None:
                assert subshell.worker is not None
                runs_it = self.kernel.workers[subshell.worker.id].running is not None
                assert runs_it != (subshell.worker.held_back is not None), "it has replied, or it hasn't"
            elif subshell.queue:
                assert subshell.worker is not None, "somebody must run what is queued"
                waits = subshell.worker.ending or not subshell.worker.ready or self.kernel.machine.keeping.loading
                assert waits, "a free worker is left without work"

    @invariant()
    def comms_belong_to_living_workers(self) -> None:
        living = {worker.id for worker in self.kernel.living()}
        assert {owner.id for owner in self.kernel.machine.comms.owners.workers()} <= living

    @precondition(lambda self: self.kernel.stopped)
    @invariant()
    def a_kernel_that_has_stopped_owes_nobody_an_answer(self) -> None:
        self.kernel.check(all_answered=True)

    def teardown(self) -> None:
        """Whatever has happened, it can be brought to an end: by the workers doing their work, or by shutdown."""
        kernel = self.kernel
        self._finish_files()
        if not kernel.machine.stopping:
            for _ in range(1000):
                kernel.pass_time(1)
                self.dump_stacks()
                self._finish_files()
                worked = [self._work(worker) for worker in kernel.living()]
                if not any(worked):
                    break
            else:
                raise AssertionError("the work never ends")
            kernel.check(all_answered=True)
            assert kernel.state in ("idle", "starting")
            kernel.control("shutdown_request")
        for worker in kernel.living():
            worker.launch()
        kernel.pass_time(2)
        self._finish_files()
        kernel.pass_time(2)
        assert all(worker.signals for worker in kernel.living())
        for worker in kernel.living():
            worker.die()
        assert kernel.stopped
        kernel.check(all_answered=True)

    def _finish_files(self) -> None:
        while self.kernel.files:
            self.kernel.file_done()

    def _work(self, worker: FakeWorker) -> bool:
        """One step of a worker that behaves; False if it has nothing to do."""
        ending = self.kernel.machine.workers[worker.id].ending
        if ending:
            if worker.pid is None:
                worker.launch()
            worker.die()
        elif not worker.said_hello:
            worker.hello()
        elif worker.side:
            worker.reply_aside()
        elif worker.comms:
            worker.reply_comm()
        elif worker.running is not None:
            worker.reply()
        else:
            return worker.merge() or worker.release() or worker.resend()
        return True


class AnyCourseKept(AnyCourse):
    """The same, of a kernel that keeps its variables over restarts."""

    keep = "/kept"


TestAnyCourseKept = AnyCourseKept.TestCase
TestAnyCourseKept.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestAnyCourse = AnyCourse.TestCase
TestAnyCourse.settings = settings(max_examples=60, stateful_step_count=40)
