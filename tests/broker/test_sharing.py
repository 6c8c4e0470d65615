"""Sharing variables: replies wait for merges, cells that start ask those that run, subshells may share less."""

from __future__ import annotations

import pytest

from mpkernel import messages
from mpkernel.broker.events import MemoryShort, SignalProcess
from mpkernel.broker.sharing import ANSWER_LIMIT, IDLE_LIMIT, KICK_AFTER, MERGED_LIMIT, TELL_AFTER, UNNAMED_LIMIT
from mpkernel.namespace import views
from mpkernel.namespace.component import DELETED, HELD, VALUE

from .bench import Asked, FakeWorker, Kernel


@pytest.fixture
def two(kernel: Kernel) -> tuple[FakeWorker, FakeWorker, str]:
    """The workers of main and of a subshell, and the subshell's id."""
    child = kernel.create()
    return kernel.ready(), kernel.ready(child), child


Two = tuple[FakeWorker, FakeWorker, str]


def merges(worker: FakeWorker) -> list[messages.Merge]:
    return worker.got(messages.Merge)


def acquired(worker: FakeWorker) -> list[messages.Acquired]:
    return worker.got(messages.Acquired)


def clash(kernel: Kernel, main: FakeWorker, other: FakeWorker, child: str, *, hold: bool = False) -> Asked:
    """Both run a cell that changes x; main's ends first, and may keep its value to itself. The other's cell."""
    kernel.running("x = 1")
    cell = kernel.running("x = 2", child)
    if hold:
        main.hold("x")
    else:
        main.commit("x")
    main.reply()
    other.say(messages.Commit(0, [[["x"], "value", {}, 1]], [], False, (b"2",)))
    return cell


def test_a_commit_that_comes_too_late_must_be_merged(kernel: Kernel, two: Two) -> None:
    clash(kernel, *two)
    [merge] = merges(two[1])
    assert (merge.names, merge.n_theirs, merge.blobs) == (["x"], 1, (b"x",))


def test_the_reply_waits_until_the_worker_has_merged(kernel: Kernel, two: Two) -> None:
    _, other, child = two
    clash(kernel, *two)
    other.reply()
    later = kernel.execute("later", child)
    assert "busy" in kernel.ps()[child]["state"]
    assert kernel.story(later) == []
    other.commit("x")
    assert kernel.ps()[child]["cell"] == "later"
    assert kernel.worker(child).cell == "later"


@pytest.fixture
def held(kernel: Kernel, two: Two) -> Asked:
    """The other's cell, which has replied, of two that clash; main keeps its value to itself."""
    cell = clash(kernel, *two, hold=True)
    two[1].reply()
    return cell


def test_who_alone_has_a_value_is_asked_for_it_when_it_is_to_be_merged(kernel: Kernel, two: Two, held: Asked) -> None:
    main, other, _ = two
    [release] = main.got(messages.Release)
    assert release.names == ["x"]
    assert merges(other) == []
    main.commit("x")
    main.release()
    [merge] = merges(other)
    assert (merge.names, merge.n_theirs, merge.components[0][1], merge.blobs) == (["x"], 1, VALUE, (b"x",))
    assert kernel.status(held) is None
    other.merge()
    assert kernel.status(held) == "ok"


def test_what_is_to_be_merged_comes_with_no_news_before(kernel: Kernel, two: Two, held: Asked) -> None:
    """Or they would overwrite what the cell has made."""
    main, other, _ = two
    main.commit("x")
    kernel.running("y = 1")
    main.commit("y")
    main.reply()
    other.say(messages.Acquire(1, None, []))
    assert acquired(other) == []
    main.release()
    merge, answer = other.ordered[-2:]
    assert isinstance(merge, messages.Merge)
    assert isinstance(answer, messages.Acquired)
    assert merge.blobs == (b"x",)
    assert [names for names, *_ in answer.components] == [["y"]]


def test_who_asks_for_a_large_value_waits_until_it_is_merged_with_what_others_are_asked_for(
    kernel: Kernel, two: Two
) -> None:
    main, other, child = two
    third = kernel.ready(kernel.create())
    kernel.running("x = [1]")
    kernel.running("box = [x]", child)
    main.hold("x")
    main.reply()
    other.hold("box")
    other.reply()
    third.say(messages.Acquire(1, ["box"], []))
    other.say(messages.Commit(0, [[["box", "x"], "value", {}, 1]], [], False, (b"both",)))
    other.release()
    assert (acquired(third), merges(other)) == ([], [])
    main.commit("x")
    main.release()
    assert acquired(third) == []
    other.merge()
    assert [names for names, *_ in acquired(third)[0].components] == [["box"], ["x"]]


@pytest.mark.parametrize("how", ["dies", "is silent"])
def test_who_does_not_give_what_is_to_be_merged_is_not_waited_for(
    kernel: Kernel, two: Two, held: Asked, how: str
) -> None:
    main, other, _ = two
    if how == "dies":
        main.die()
    else:
        kernel.pass_time(ANSWER_LIMIT + MERGED_LIMIT)
    [merge] = merges(other)
    assert merge.names == ["x"]
    assert [kind for _, kind, *_ in merge.components[: merge.n_theirs]] == ([] if how == "dies" else [HELD])
    other.merge()
    assert kernel.status(held) == "ok"


def test_who_dies_before_what_it_must_merge_is_there_is_answered_for(kernel: Kernel, two: Two, held: Asked) -> None:
    main, other, _ = two
    other.die()
    assert kernel.reply(held)["ename"] == "WorkerDied"
    main.commit("x")
    main.release()
    assert merges(other) == []


def test_the_reply_waits_until_what_was_refused_was_sent_again(kernel: Kernel) -> None:
    main = kernel.ready()
    cell = kernel.running("x = large()")
    main.lose_memory("x")
    main.lose_memory("y")
    main.reply()
    main.say(messages.Resent())
    assert kernel.status(cell) is None
    main.commit("x", "y")
    main.say(messages.Resent())
    assert kernel.status(cell) == "ok"


def test_a_reply_without_what_its_cell_made_is_not_given(kernel: Kernel) -> None:
    """The process was killed before the broker had got hold of its memory."""
    main = kernel.ready()
    cell = kernel.running("x = large()")
    main.lose_memory("x")
    main.reply()
    main.die()
    assert kernel.reply(cell)["ename"] == "WorkerDied"
    assert "lost, because only that process could have them: 1 name (x)" in kernel.reply(cell)["evalue"]


def test_who_dies_before_it_has_merged_is_answered_for(kernel: Kernel, two: Two) -> None:
    other = two[1]
    cell = clash(kernel, *two)
    other.reply()
    assert kernel.status(cell) is None
    other.die()
    assert kernel.reply(cell)["ename"] == "WorkerDied"


def test_a_cell_that_starts_alone_need_not_ask(kernel: Kernel, two: Two) -> None:
    main, _, _ = two
    kernel.execute("x")
    assert main.running is not None
    assert not main.running.crowded


def test_a_cell_that_starts_beside_another_may_ask_that(kernel: Kernel, two: Two) -> None:
    main, other, child = two
    kernel.running("while True: xs.append(1)")
    kernel.running("len(xs)", child)
    assert other.running is not None
    assert other.running.crowded
    other.say(messages.Acquire(7, ["xs"], []))
    [release] = main.got(messages.Release)
    assert release.names == ["xs"]
    assert acquired(other) == []
    main.commit("xs")
    main.say(messages.Released(release.token))
    [answer] = acquired(other)
    assert (answer.token, answer.components[0][0], answer.silent) == (7, ["xs"], [])


def test_who_does_not_answer_at_once_is_kicked(kernel: Kernel, two: Two) -> None:
    main, other, child = two
    kernel.running("while True: pass")
    kernel.running("x", child)
    other.say(messages.Acquire(1, None, []))
    assert kernel.done(SignalProcess) == []
    kernel.pass_time(KICK_AFTER)
    assert [(signal.worker, signal.signum) for signal in kernel.done(SignalProcess)] == [
        (main.id, messages.KICK_SIGNAL)
    ]


def test_who_does_not_answer_in_time_is_left_alone_and_named(kernel: Kernel, two: Two) -> None:
    main, other, child = two
    kernel.running("sorted(xs)")
    kernel.running("x", child)
    other.say(messages.Acquire(1, ["x"], []))
    kernel.pass_time(ANSWER_LIMIT)
    assert [answer.silent for answer in acquired(other)] == [[["main", "sorted(xs)"]]]
    other.reply()
    kernel.running("x", child)
    other.say(messages.Acquire(2, ["x"], []))
    assert acquired(other)[-1].token == 2  # nobody waits for it a second time
    main.say(messages.Released(main.got(messages.Release)[0].token))
    other.reply()
    kernel.running("x", child)
    other.say(messages.Acquire(3, ["x"], []))
    assert acquired(other)[-1].token == 2  # but now that it has answered


def test_who_runs_no_cell_has_longer_to_answer(kernel: Kernel, two: Two) -> None:
    main, other, child = two
    kernel.running("x = 1")
    main.reply(background=True)
    kernel.running("x", child)
    other.say(messages.Acquire(1, ["x"], []))
    kernel.pass_time(ANSWER_LIMIT)
    assert acquired(other) == []
    kernel.pass_time(IDLE_LIMIT)
    assert [answer.token for answer in acquired(other)] == [1]


def test_nobody_waits_for_who_is_gone(kernel: Kernel, two: Two) -> None:
    main, other, child = two
    kernel.running("while True: pass")
    kernel.running("x", child)
    other.say(messages.Acquire(1, ["x"], []))
    main.die()
    assert [answer.token for answer in acquired(other)] == [1]


def test_who_has_threads_that_go_on_is_asked_too(kernel: Kernel, two: Two) -> None:
    main, other, child = two
    kernel.execute("Thread(...).start()")
    main.start()
    assert main.running is not None
    main.reply(background=True)
    kernel.running("x", child)
    assert other.running is not None
    assert other.running.crowded


def test_who_has_threads_that_go_on_hears_the_news_soon(kernel: Kernel, two: Two) -> None:
    main, other, child = two
    kernel.running("Thread(...).start()")
    main.reply(background=True)
    kernel.running("x = 1", child)
    for _ in range(3):
        other.commit("x")
    assert main.got(messages.News) == []
    kernel.pass_time(TELL_AFTER)
    assert len(main.got(messages.News)) == 1
    kernel.running("cell")
    other.commit("x")
    kernel.pass_time(TELL_AFTER)
    assert len(main.got(messages.News)) == 1  # names don't change under a cell
    main.reply(background=True)
    kernel.pass_time(TELL_AFTER)
    assert len(main.got(messages.News)) == 2


def test_a_subshell_with_a_snapshot_hears_the_news_once(kernel: Kernel) -> None:
    main = kernel.ready()
    kernel.execute("x = 1")
    main.commit("x")
    main.reply()
    snap = kernel.reply(kernel.control("create_subshell_request", {"mode": "snapshot"}))["subshell_id"]
    worker = kernel.ready(snap)
    kernel.execute("x", snap)
    worker.reply()
    kernel.execute("x = 2")
    main.commit("x")
    main.reply()
    kernel.execute("x", snap)
    assert len(worker.got(messages.News)) == 1
    assert worker.got(messages.Assign)[0].mode == "snapshot"


def test_an_isolated_subshell_hears_none(kernel: Kernel) -> None:
    main = kernel.ready()
    kernel.execute("x = 1")
    main.commit("x")
    main.reply()
    alone = kernel.reply(kernel.control("create_subshell_request", {"mode": "isolated"}))["subshell_id"]
    worker = kernel.ready(alone)
    kernel.execute("x", alone)
    assert worker.got(messages.News) == []


def test_an_unknown_mode_is_an_error(kernel: Kernel) -> None:
    reply = kernel.reply(kernel.control("create_subshell_request", {"mode": "shard"}))
    assert reply["status"] == "error"
    assert "shared, snapshot, isolated" in reply["evalue"]


def test_what_runs_everywhere_runs_first_in_new_processes(kernel: Kernel, two: Two) -> None:
    main, other, child = two
    kernel.running()
    main.op("everywhere", code="import os")
    assert other.cell == "import os"
    third = kernel.create()
    assert kernel.ready(third).got(messages.Assign)[0].everywhere == ["import os"]
    assert kernel.ps()[child]["state"] == "busy"


def test_who_had_to_be_kicked_is_kicked_at_once_until_its_cell_is_done(kernel: Kernel, two: Two) -> None:
    main, other, child = two
    kernel.running("while True: pass")
    kernel.running("x", child)
    other.say(messages.Acquire(1, None, []))
    kernel.pass_time(KICK_AFTER)
    main.say(messages.Released(main.got(messages.Release)[-1].token))
    other.say(messages.Acquire(2, None, []))
    assert len(kernel.done(SignalProcess)) == 2
    main.say(messages.Released(main.got(messages.Release)[-1].token))
    main.reply()
    kernel.running("time.sleep(100)")
    other.say(messages.Acquire(3, None, []))
    assert len(kernel.done(SignalProcess)) == 2


def test_who_alone_has_a_value_is_waited_for_longer_and_the_others_are_not(kernel: Kernel, two: Two) -> None:
    _, other, child = two
    third = kernel.create()
    holder = kernel.ready(third)
    kernel.execute("big = ...", third)
    holder.hold("big")
    holder.reply()
    kernel.running("while True: pass")
    kernel.running("big", child)
    other.say(messages.Acquire(1, ["big"], []))
    kernel.pass_time(ANSWER_LIMIT)
    assert acquired(other) == []
    holder.commit("big")
    holder.say(messages.Released(holder.got(messages.Release)[-1].token))
    [answer] = acquired(other)
    assert (answer.components[0][0], answer.silent) == (["big"], [["main", "while True: pass"]])


def test_what_a_cell_leaves_running_is_no_cell_beside(kernel: Kernel, two: Two) -> None:
    main, other, child = two
    kernel.running("thread.start()")
    main.reply(background=True)
    kernel.running("xs", child)
    assert other.running is not None
    assert other.running.crowded
    assert not other.running.beside
    other.reply()
    kernel.running("while True: pass")
    kernel.running("xs", child)
    assert other.running.beside


def test_a_cell_that_may_reach_everything_gets_what_only_others_have(kernel: Kernel, two: Two) -> None:
    main, holder, child = two
    kernel.execute("big = ...; small = 1", child)
    holder.commit("small")
    holder.hold("big")
    holder.reply()
    kernel.running("eval('big')")
    main.say(messages.Acquire(1, None, []))
    [release] = holder.got(messages.Release)
    assert release.names == ["big"]
    assert acquired(main) == []
    holder.commit("big")
    holder.say(messages.Released(release.token))
    [answer] = acquired(main)
    assert [names for names, *_ in answer.components] == [["big"]]


def test_who_does_not_give_what_no_cell_names_is_waited_for_once(kernel: Kernel, two: Two) -> None:
    main, holder, child = two
    kernel.execute("big = ...", child)
    holder.hold("big")
    holder.reply()
    cell = kernel.running("eval('1')")
    main.say(messages.Acquire(1, None, []))
    kernel.pass_time(ANSWER_LIMIT + UNNAMED_LIMIT)
    assert [answer.token for answer in acquired(main)] == [1]
    [told] = kernel.sent("iopub", "stream", about=cell)
    assert "big: the newest value stays in its subshell" in told.content["text"]
    main.reply()
    again = kernel.running("eval('2')")
    main.say(messages.Acquire(2, None, []))
    assert [answer.token for answer in acquired(main)] == [1, 2]
    assert kernel.sent("iopub", "stream", about=again) == []  # it was told


def test_what_was_given_up_is_kept_by_another_that_has_it_when_its_maker_dies(kernel: Kernel, two: Two) -> None:
    main, other, child = two
    kernel.execute("big = ...", child)
    segment = {"name": "7", "size": 100, "ranges": [], "key": "2.1"}
    other.say(messages.Commit(0, [[["big"], "value", {"segment": segment}, 0]], [], False, ()))
    other.reply()
    kernel.running("big")
    main.reply()
    kernel.handle(MemoryShort(100))
    assert [(kept.key, kept.names) for kept in other.got(messages.Keep)] == [("2.1", ["big"])]
    dying = kernel.running("crash()", child)
    other.die()
    assert "lost" not in kernel.reply(dying)["evalue"]
    assert [(kept.key, kept.names) for kept in main.got(messages.Keep)] == [("2.1", ["big"])]


@pytest.mark.parametrize("background", [False, True])
def test_who_handles_only_messages_for_comms_has_heard_what_it_was_told(
    kernel: Kernel, two: Two, monkeypatch: pytest.MonkeyPatch, *, background: bool
) -> None:
    """But for one whose threads may have had them; to that, no more is told than can be remembered."""
    main, other, child = two
    monkeypatch.setattr(views, "MOST_UNHEARD", 20 * views.MESSAGE)
    main.open_comm("slider")
    for _ in range(100):
        kernel.running("x = 1", child)
        other.commit("x")
        other.reply()
        kernel.ask("comm_msg", {"comm_id": "slider", "data": {}})
        main.reply_comm(background=background)
    waiting = kernel.machine.sharing.store._views[main.id].told
    assert len(waiting) == 20 if background else not waiting
    kernel.running("x")
    main.reply()
    assert not waiting
    assert len(main.got(messages.News)) == (21 if background else 100)


def test_who_is_only_called_has_heard_what_it_was_told(kernel: Kernel, two: Two) -> None:
    main, other, child = two
    for token in range(100):
        kernel.running("slider.value = 1", child)
        other.commit("x")
        other.say(messages.AskCall(token, main.id, 1, "move", {}, [], ()))
        main.say(messages.LiveAnswer(main.got(messages.Call)[-1].token, None, False, [], ()))
        other.reply()
    assert not kernel.machine.sharing.store._views[main.id].told
    assert len(main.got(messages.News)) == 100


def test_what_only_a_dead_process_had_is_not_offered_any_more(kernel: Kernel, two: Two) -> None:
    main, other, child = two
    kernel.running("x = y = 0")
    main.commit("x")
    main.reply()
    kernel.running("x = y = large()", child)
    other.hold("x", "y")
    other.reply()
    kernel.execute("pass")
    main.reply()
    dying = kernel.running("crash()", child)
    other.die()
    assert "2 names (x, y); there is an older value, which counts again: x." in kernel.reply(dying)["evalue"]
    kernel.execute("x")
    news = main.got(messages.News)[-1]
    assert [(names, kind) for names, kind, *_ in news.components] == [(["x"], VALUE), (["y"], DELETED)]


@pytest.mark.parametrize("mode", ["snapshot", "isolated"])
def test_who_goes_its_own_way_pulls_nothing_but_what_it_names(kernel: Kernel, mode: str) -> None:
    main = kernel.ready()
    own = kernel.reply(kernel.control("create_subshell_request", {"mode": mode}))["subshell_id"]
    puller = kernel.ready(own)
    kernel.running("x = y = 1")
    main.commit("x", "y")
    main.reply()
    kernel.running("pull('y'); pull()", own)
    puller.say(messages.Acquire(1, ["y"], []))
    puller.say(messages.Acquire(2, None, []))
    assert [[names for names, *_ in answer.components] for answer in acquired(puller)] == [[["y"]], [["x"]]]


def test_a_cell_waits_for_what_was_refused_and_is_sent_again(kernel: Kernel, two: Two) -> None:
    main, holder, child = two
    kernel.running("big = ...", child)
    holder.hold("big")
    holder.reply()
    kernel.running("big")
    main.say(messages.Acquire(1, ["big"], []))
    holder.lose_memory("big")
    assert holder.release()
    assert acquired(main) == []
    holder.commit("big")
    holder.say(messages.Resent())
    [answer] = acquired(main)
    assert [names for names, *_ in answer.components] == [["big"]]


@pytest.fixture
def to_merge_first(kernel: Kernel, two: Two) -> Two:
    """Main asks for what the other alone has, and has to merge before others can have it."""
    main, holder, child = two
    kernel.running("big, x = ...", child)
    holder.hold("big")
    holder.reply()
    kernel.running("x = 1")
    main.commit("x")
    main.say(messages.Acquire(1, ["big"], []))
    holder.say(messages.Commit(0, [[["big", "x"], "value", {}, 1]], [], False, (b"both",)))
    holder.release()
    return two


def test_a_value_comes_though_its_owner_has_to_merge_it_first(to_merge_first: Two) -> None:
    main, holder, _ = to_merge_first
    assert acquired(main) == []
    [merge] = merges(holder)
    holder.say(messages.Commit(merge.number, [[["big", "x"], "value", {}, 1]], [], False, (b"merged",)))
    [answer] = acquired(main)
    assert answer.blobs == (b"merged",)


def test_what_is_refused_before_what_it_must_merge_is_there_is_merged_with_that(
    kernel: Kernel, two: Two, held: Asked
) -> None:
    main, other, _ = two
    other.say(messages.Commit(0, [[["x", "y"], "value", {}, 1]], [], False, (b"2",)))
    main.commit("x")
    main.release()
    [merge] = merges(other)
    assert merge.names == ["x", "y"]
    other.commit("x", "y")
    assert kernel.status(held) == "ok"
    kernel.pass_time(ANSWER_LIMIT + MERGED_LIMIT)
    assert merges(other) == [merge]


@pytest.fixture
def unmerged(kernel: Kernel, two: Two) -> Two:
    """The other is idle, and has been told to merge what it has made of x; main runs a cell."""
    main, other, child = two
    kernel.running("x", child)
    other.reply()
    kernel.running("x = 1")
    main.commit("x")
    other.say(messages.Commit(0, [[["x"], "value", {}, 1]], [], False, (b"2",)))
    return two


def test_who_asks_waits_until_an_idle_process_has_merged_what_it_has_told(kernel: Kernel, unmerged: Two) -> None:
    main, other, _ = unmerged
    main.reply()
    kernel.execute("x")
    assert main.running is not None
    assert main.running.crowded
    main.say(messages.Acquire(1, ["x"], []))
    other.release()
    assert acquired(main) == []
    [merge] = merges(other)
    other.say(messages.Commit(merge.number, [[["x"], "value", {}, 1]], [], False, (b"merged",)))
    assert [answer.blobs for answer in acquired(main)] == [(b"merged",)]


def test_who_asks_for_something_else_does_not_wait_for_a_merge(kernel: Kernel, unmerged: Two) -> None:
    main, other, _ = unmerged
    main.say(messages.Acquire(1, ["y"], []))
    other.release()
    assert len(acquired(main)) == 1


def test_a_merge_is_waited_for_but_so_long(kernel: Kernel, unmerged: Two) -> None:
    main, other, _ = unmerged
    main.say(messages.Acquire(1, ["x"], []))
    other.release()
    kernel.pass_time(ANSWER_LIMIT)
    assert acquired(main) == []
    kernel.pass_time(IDLE_LIMIT)
    assert len(acquired(main)) == 1
    main.say(messages.Acquire(2, ["x"], []))
    assert len(acquired(main)) == 2  # not again
    other.merge()
    main.reply()
    kernel.running("x", unmerged[2])
    kernel.running("x")
    main.say(messages.Acquire(3, ["x"], []))
    assert len(acquired(main)) == 2  # but now that it is through


def test_a_large_value_is_waited_for_until_it_is_merged_but_not_while_its_owner_runs_a_cell(
    kernel: Kernel, to_merge_first: Two
) -> None:
    main, _, child = to_merge_first
    kernel.pass_time(ANSWER_LIMIT)
    kernel.running("while True: pass", child)
    assert acquired(main) == []
    kernel.pass_time(IDLE_LIMIT)
    assert len(acquired(main)) == 1


def test_who_runs_a_cell_is_not_waited_for_until_it_has_merged(kernel: Kernel, unmerged: Two) -> None:
    main, other, child = unmerged
    kernel.running("while True: pass", child)
    main.say(messages.Acquire(1, ["x"], []))
    other.release()
    assert len(acquired(main)) == 1


def test_nobody_waits_for_a_merge_that_waits_for_him(kernel: Kernel, two: Two) -> None:
    main, holder, child = two
    third = kernel.ready(kernel.create())
    kernel.running("box = [x]", child)
    holder.hold("box")
    holder.reply()
    kernel.running("x = 1")
    main.commit("x")
    main.reply()
    third.say(messages.Commit(0, [[["box"], "value", {}, 1]], [], False, (b"third's",)))
    holder.say(messages.Commit(0, [[["box", "x"], "value", {}, 1]], [], False, (b"holder's",)))
    holder.release()
    assert (len(merges(holder)), merges(third)) == (1, [])
    kernel.running("box", child)
    holder.say(messages.Acquire(1, ["box"], []))
    third.release()
    assert len(acquired(holder)) == 1
    holder.merge()
    assert [merge.blobs for merge in merges(third)] == [(b"box",)]
