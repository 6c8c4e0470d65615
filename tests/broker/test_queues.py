"""Each subshell has a queue of its own: one request at a time, in order, and an error aborts that queue only."""

from __future__ import annotations

import pytest

from mpkernel import messages
from mpkernel.broker import waiting
from mpkernel.broker.events import StartWorker

from .bench import Kernel

SIDE = "complete_request"


def test_a_request_goes_to_the_worker_of_its_subshell(kernel: Kernel) -> None:
    first, second = kernel.create(), kernel.create()
    for subshell in (None, first, second):
        kernel.ready(subshell)
    for subshell in (None, first, second):
        kernel.execute(f"in {subshell}", subshell)
    assert [kernel.worker(subshell).cell for subshell in (None, first, second)] == [
        "in None",
        f"in {first}",
        f"in {second}",
    ]


def test_a_worker_gets_one_request_at_a_time_in_order(kernel: Kernel) -> None:
    worker = kernel.ready()
    cells = [kernel.execute(f"cell {n}") for n in range(4)]
    for n in range(4):
        assert worker.cell == f"cell {n}"
        assert [kernel.status(cell) for cell in cells] == ["ok"] * n + [None] * (4 - n)
        worker.reply()
    assert worker.running is None


def test_what_waits_for_the_process_runs_in_order_once_it_is_ready(kernel: Kernel) -> None:
    cells = [kernel.execute(f"cell {n}") for n in range(3)]
    assert [kernel.story(cell) for cell in cells] == [[], [], []]
    worker = kernel.worker().hello()
    for n in range(3):
        assert worker.cell == f"cell {n}"
        worker.reply()
    assert [kernel.status(cell) for cell in cells] == ["ok"] * 3


def test_a_busy_subshell_does_not_hold_up_another(kernel: Kernel) -> None:
    child = kernel.create()
    kernel.running()
    waiting = kernel.execute("waits")
    kernel.ready(child)
    other = kernel.execute("runs", child)
    kernel.worker(child).reply()
    assert kernel.status(other) == "ok"
    assert kernel.story(waiting) == []


def test_cells_on_control_wait_their_turn_in_the_same_queue(kernel: Kernel) -> None:
    worker = kernel.ready()
    kernel.execute("first")
    control = kernel.execute("second", channel="control")
    assert worker.cell == "first"
    worker.reply()
    assert worker.cell == "second"
    worker.reply()
    assert kernel.status(control) == "ok"


def test_reply_idle_and_the_next_busy_come_in_this_order(kernel: Kernel) -> None:
    worker = kernel.ready()
    first, second = kernel.execute(), kernel.execute()
    kernel.clear()
    worker.start().reply()
    told = [(sent.type, sent.parent) for sent in kernel.sent()]
    assert told == [("execute_reply", first.id), ("status", first.id), ("status", second.id)]
    assert kernel.iopub_states() == [("idle", first.id), ("busy", second.id)]


def test_each_subshell_counts_its_own_executions(kernel: Kernel) -> None:
    child = kernel.create()
    for subshell in (None, child, None, None):
        kernel.ready(subshell)
        kernel.execute("1", subshell)
        kernel.worker(subshell).reply()
    rows = kernel.ps()
    assert rows["main"]["execution_count"] == 3
    assert rows[child]["execution_count"] == 2  # one to make it ready


def test_a_reply_to_what_is_not_running_is_ignored(kernel: Kernel) -> None:
    cell = kernel.running()
    kernel.worker().say(messages.Reply(999_999, True, 7, ()))
    assert kernel.story(cell) == ["busy"]
    assert kernel.ps()["main"]["execution_count"] == 0


# --- stop on error --------------------------------------------------------------------------------------------------


def test_an_error_aborts_the_cells_that_are_queued(kernel: Kernel) -> None:
    worker = kernel.ready()
    failing = kernel.execute("1/0")
    queued = [kernel.execute(str(n)) for n in range(3)]
    worker.reply("error", abort=True)
    assert kernel.status(failing) == "error"
    assert [kernel.story(cell) for cell in queued] == [["busy", "execute_reply", "idle"]] * 3
    assert [kernel.status(cell) for cell in queued] == ["aborted"] * 3
    assert worker.running is None


@pytest.mark.parametrize(
    ("date", "status"),
    [
        ("2026-01-01T00:00:00.150Z", "aborted"),  # sent before the error could be known
        ("2026-01-01T00:00:00.250000+00:00", "ok"),
        ("yesterday", "ok"),
        ("2026-01-01T00:00:00.100Z", "ok"),  # a client whose clock stands still
    ],
)
def test_what_was_sent_before_an_error_could_be_known_is_aborted(kernel: Kernel, date: str, status: str) -> None:
    worker = kernel.ready()
    kernel.execute("1/0", date="2026-01-01T00:00:00.100Z")
    kernel.pass_time(0.1)
    worker.start().reply("error", abort=True)
    late = kernel.execute("of the same Run all", date=date)
    if status == "ok":
        worker.start().reply("ok")
    assert kernel.status(late) == status


def test_a_client_whose_clock_was_set_back_can_go_on_after_an_error(kernel: Kernel) -> None:
    """By its clock, the next cell was sent while the one that failed ran."""
    worker = kernel.ready()
    kernel.execute("1/0", date="2026-01-01T00:00:00Z")
    kernel.pass_time(3600)
    worker.start().reply("error", abort=True)
    kernel.pass_time(5)
    after = kernel.execute("sent half an hour before the error, it seems", date="2026-01-01T00:30:00Z")
    worker.start().reply("ok")
    assert kernel.status(after) == "ok"


def test_an_aborted_reply_has_all_that_an_execute_reply_has(kernel: Kernel) -> None:
    worker = kernel.ready()
    kernel.execute("1/0")
    queued = kernel.execute()
    worker.reply("error", abort=True)
    content = {"status": "aborted", "execution_count": 0, "payload": [], "user_expressions": {}}
    assert kernel.reply(queued) == content
    assert kernel.replies(queued)[0].message.metadata()["status"] == "aborted"


def test_an_error_in_one_subshell_aborts_nothing_in_another(kernel: Kernel) -> None:
    child = kernel.create()
    kernel.running()
    kernel.running(subshell=child)
    mine, theirs = kernel.execute(), kernel.execute(subshell=child)
    kernel.worker(child).reply("error", abort=True)
    assert kernel.status(theirs) == "aborted"
    assert kernel.status(mine) is None
    kernel.worker().reply()
    kernel.worker().reply()
    assert kernel.status(mine) == "ok"


def test_an_error_of_a_cell_that_does_not_stop_aborts_nothing(kernel: Kernel) -> None:
    worker = kernel.ready()
    kernel.execute("1/0", stop_on_error=False)
    queued = kernel.execute("2")
    worker.reply("error", abort=False)
    assert worker.cell == "2"
    worker.reply()
    assert kernel.status(queued) == "ok"


def test_only_cells_are_aborted(kernel: Kernel) -> None:
    worker = kernel.ready()
    kernel.ask("complete_request")  # in the main thread, so that the other one has to wait
    failing, completion, cell = kernel.execute("1/0"), kernel.ask("complete_request"), kernel.execute()
    worker.reply()
    worker.reply("error", abort=True)
    assert (kernel.status(failing), kernel.status(cell)) == ("error", "aborted")
    assert kernel.story(completion) == ["busy"]
    worker.reply()
    assert kernel.status(completion) == "ok"


def test_what_comes_after_the_error_runs(kernel: Kernel) -> None:
    worker = kernel.ready()
    kernel.execute("1/0")
    worker.reply("error", abort=True)
    kernel.execute("2")
    assert worker.cell == "2"


@pytest.fixture
def patient() -> Kernel:
    """A kernel with ``stop_on_error_timeout``."""
    return Kernel(stop_on_error_timeout=0.5)


def test_cells_that_come_within_the_timeout_are_aborted_too(patient: Kernel) -> None:
    worker = patient.ready()
    patient.execute("1/0")
    worker.reply("error", abort=True)
    patient.pass_time(0.4)
    late = patient.execute("late")
    assert patient.story(late) == ["busy", "execute_reply", "idle"]
    assert patient.status(late) == "aborted"
    patient.pass_time(0.2)
    patient.execute("later")
    assert worker.cell == "later"
    patient.check()


def test_the_timeout_is_for_cells_of_that_subshell_only(patient: Kernel) -> None:
    child = patient.create()
    patient.ready(child)
    worker = patient.ready()
    patient.execute("1/0")
    worker.reply("error", abort=True)
    patient.ask(SIDE)
    assert worker.running is not None
    patient.execute("theirs", child)
    assert patient.worker(child).cell == "theirs"


def test_the_timeout_outlives_a_deleted_subshell(patient: Kernel) -> None:
    child = patient.create()
    worker = patient.ready(child)
    patient.execute("1/0", child)
    worker.reply("error", abort=True)
    patient.delete(child)
    worker.die()
    patient.pass_time(1)
    patient.check(all_answered=True)


# --- processes are made when they are needed ------------------------------------------------------------------------


def test_a_kernel_starts_mains_process_at_once(kernel: Kernel) -> None:
    assert kernel.done(StartWorker) == [StartWorker(kernel.worker().id)]


def test_a_new_subshell_has_no_process(kernel: Kernel) -> None:
    kernel.clear()
    child = kernel.create()
    assert kernel.done(StartWorker) == []
    assert kernel.ps()[child]["state"] == "lazy"
    assert kernel.ps()[child]["pid"] is None


@pytest.mark.parametrize("msg_type", ["execute_request", SIDE, "comm_open"])
def test_the_first_request_makes_the_process(kernel: Kernel, msg_type: str) -> None:
    child = kernel.create()
    kernel.ask(msg_type, {"code": "1"}, subshell=child)
    assert kernel.done(StartWorker)[-1].worker == kernel.worker(child).id
    assert kernel.ps()[child]["state"] == "starting"
    worker = kernel.worker(child).hello()
    (worker.reply_comm if worker.comms else worker.reply)()
    kernel.check(all_answered=True)


def test_more_requests_make_no_more_processes(kernel: Kernel) -> None:
    child = kernel.create()
    kernel.clear()
    for _ in range(3):
        kernel.execute(subshell=child)
    assert len(kernel.done(StartWorker)) == 1


@pytest.mark.parametrize("msg_type", ["kernel_info_request", "comm_info_request", "connect_request"])
def test_what_the_broker_answers_makes_no_process(kernel: Kernel, msg_type: str) -> None:
    child = kernel.create()
    kernel.clear()
    request = kernel.ask(msg_type, subshell=child)
    assert kernel.done(StartWorker) == []
    assert kernel.status(request) == "ok"


def test_a_process_is_told_whose_it_is_before_its_first_request(kernel: Kernel) -> None:
    child = kernel.create("plotter")
    kernel.execute("1", child)
    worker = kernel.worker(child).hello()
    assert worker.ordered[0] == messages.Assign(child, "plotter", 0)
    assert isinstance(worker.ordered[1], messages.Request)


def test_a_process_that_says_nothing_gets_nothing(kernel: Kernel) -> None:
    kernel.execute()
    worker = kernel.worker().launch()
    assert worker.ordered == []


# --- the spare process ----------------------------------------------------------------------------------------------


def test_a_spare_is_started_a_while_after_the_last_process_was_taken(kernel: Kernel) -> None:
    kernel.worker().hello()
    assert kernel.spare is None
    kernel.pass_time(1)
    assert kernel.spare is not None


def test_there_is_one_spare_at_most(kernel: Kernel) -> None:
    kernel.worker().hello()
    kernel.pass_time(10)
    for _ in range(3):
        kernel.ready(kernel.create())
        kernel.pass_time(10)
    assert len(kernel.living()) == 5  # main, three children, one spare


def test_the_first_request_of_a_subshell_takes_the_spare(kernel: Kernel) -> None:
    kernel.worker().hello()
    kernel.pass_time(1)
    spare = kernel.spare
    assert spare is not None
    spare.hello()
    child = kernel.create()
    kernel.clear()
    kernel.execute("1", child)
    assert kernel.done(StartWorker) == []
    assert spare is kernel.worker(child)
    assert spare.got(messages.Assign) == [messages.Assign(child, None, 0)]
    assert spare.cell == "1"
    assert kernel.spare is None


def test_a_spare_that_is_still_starting_can_be_taken(kernel: Kernel) -> None:
    kernel.worker().hello()
    kernel.pass_time(1)
    child = kernel.create()
    kernel.execute("1", child)
    worker = kernel.worker(child)
    assert worker.ordered == []
    worker.hello()
    assert worker.got(messages.Assign) == [messages.Assign(child, None, 0)]
    assert worker.cell == "1"


def test_a_spare_that_dies_is_replaced_when_the_next_process_is_taken(kernel: Kernel) -> None:
    kernel.worker().hello()
    kernel.pass_time(1)
    assert kernel.spare is not None
    kernel.spare.die(1)
    kernel.pass_time(100)
    assert len(kernel.living()) == 1
    kernel.ready(kernel.create())
    kernel.pass_time(1)
    assert len(kernel.living()) == 3


def test_a_spare_belongs_to_no_subshell(kernel: Kernel) -> None:
    kernel.worker().hello()
    kernel.pass_time(1)
    assert kernel.spare is not None
    kernel.spare.hello()
    assert list(kernel.ps()) == ["main"]
    assert kernel.spare.ordered == []


# --- the namespace rides along --------------------------------------------------------------------------------------


def test_a_worker_hears_the_news_right_before_a_request(kernel: Kernel) -> None:
    child = kernel.create()
    main, other = kernel.ready(), kernel.ready(child)
    kernel.execute("x = 1")
    main.commit("x")
    main.reply()
    kernel.execute("x", child)
    assert [type(message) for message in other.ordered[-2:]] == [messages.News, messages.Request]
    assert other.got(messages.News)[0].components[0][0] == ["x"]
    other.reply()
    kernel.execute("x", child)
    assert len(other.got(messages.News)) == 1


def test_a_worker_hears_nothing_of_its_own_commits(kernel: Kernel) -> None:
    main = kernel.ready()
    kernel.execute("x = 1")
    main.commit("x")
    main.reply()
    kernel.execute("x")
    assert main.got(messages.News) == []


def test_a_new_process_hears_all_that_was_kept(kernel: Kernel) -> None:
    main = kernel.ready()
    kernel.execute("x, f = 1, open('f')")
    main.commit("x", lost=["f"])
    main.reply()
    main.die()
    kernel.execute("x")
    assert kernel.worker().hello().got(messages.News)[0].components[0][0] == ["x"]


def test_the_count_goes_on_in_the_next_process(kernel: Kernel) -> None:
    worker = kernel.ready()
    for _ in range(3):
        kernel.execute()
        worker.reply()
    worker.die()
    kernel.execute()
    assert kernel.worker().hello().got(messages.Assign) == [messages.Assign(None, None, 3)]


def test_what_there_is_no_memory_for_is_refused(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    child = kernel.create()
    kernel.ready(child)
    worker = kernel.ready()
    kernel.running()
    monkeypatch.setattr(waiting, "MAX_WAITING", 100_000)
    large = kernel.execute("'" + "x" * 90_000 + "'")
    refused = kernel.execute("'" + "y" * 90_000 + "'")
    assert kernel.story(refused) == ["busy", "error", "execute_reply", "idle"]
    assert kernel.reply(refused)["ename"] == "TooManyRequests"
    assert "1 requests" in kernel.reply(refused)["evalue"]
    beside = kernel.execute("1", child)
    kernel.worker(child).reply()
    worker.reply()
    worker.reply()
    again = kernel.execute("'" + "y" * 90_000 + "'")
    worker.reply()
    assert [kernel.status(cell) for cell in (large, beside, again)] == ["ok"] * 3


def test_a_request_that_is_larger_than_all_that_may_wait_is_taken(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = kernel.ready()
    kernel.running()
    monkeypatch.setattr(waiting, "MAX_WAITING", 1)
    cell = kernel.execute("1")
    worker.reply()
    worker.reply()
    assert kernel.status(cell) == "ok"
