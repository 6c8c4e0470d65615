"""Two subshells that change one variable again and again: who has to merge gets its turn, and no change is lost."""

from __future__ import annotations

from typing import Any

import pytest

from mpkernel import messages
from mpkernel.broker.events import SegmentsRefused
from mpkernel.broker.turns import TURN_LIMIT
from mpkernel.namespace.component import LOST

from .bench import Asked, FakeWorker, Kernel


class Race:
    """`slow` was overtaken twice and has its turn; `quick` goes on with short cells."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.child = kernel.create()
        self.quick, self.slow = kernel.ready(), kernel.ready(self.child)
        self.held_back = kernel.running("x = 2", self.child)
        self.quick_cell("x")
        self.slow.commit("x")
        self.slow.reply()
        self.quick_cell("x")
        self.slow.commit("x")
        assert len(self.merges(self.slow)) == 2

    def quick_cell(self, *names: str) -> Asked:
        cell = self.kernel.running("x = 1")
        for name in names:
            self.quick.commit(name)
        self.quick.reply()
        return cell

    def merges(self, worker: FakeWorker) -> list[messages.Merge]:
        return worker.got(messages.Merge)

    def is_over(self, cell: Asked) -> bool:
        return self.kernel.status(cell) == "ok"


@pytest.fixture
def race(kernel: Kernel) -> Race:
    return Race(kernel)


def test_a_commit_of_the_same_name_waits_and_is_merged_then(race: Race) -> None:
    cell = race.quick_cell("x")
    assert not race.is_over(cell)
    assert race.merges(race.quick) == []
    race.slow.commit("x")
    assert race.is_over(race.held_back)
    [merge] = race.merges(race.quick)
    assert merge.names == ["x"]
    assert not race.is_over(cell)
    race.quick.commit("x")
    assert race.is_over(cell)


def test_what_was_lost_and_sent_again_in_a_turn_is_not_taken_for_lost(race: Race) -> None:
    race.kernel.running("x = 1")
    race.kernel.handle(SegmentsRefused(race.quick.id, ["x"]))
    lost: list[Any] = [["x"], LOST, {"rebound": ["x"]}, 0]
    race.quick.say(messages.Commit(race.quick._last_told(), [lost], [], force=False, blobs=()))
    race.quick.reply()
    race.quick.commit("x")
    race.quick.say(messages.Resent())
    race.slow.commit("x")
    while any(worker.merge() for worker in (race.quick, race.slow)):
        pass
    race.kernel.execute("x = 9", race.child)
    race.slow.commit("x")
    race.slow.reply()
    told = len(race.quick.got(messages.News))
    race.kernel.execute("x")
    assert any(head[0] == ["x"] for news in race.quick.got(messages.News)[told:] for head in news.components)


def test_other_names_do_not_wait(race: Race) -> None:
    assert race.is_over(race.quick_cell("y"))


def test_what_was_committed_first_is_there_first(race: Race) -> None:
    def names() -> set[str]:
        return {name for part in race.kernel.machine.sharing.store.heads() for name in part.names}

    cell = race.quick_cell("x", "y")
    assert "y" not in names()
    race.slow.commit("x")
    assert "y" in names()
    race.quick.commit("x")
    assert race.is_over(cell)


def test_what_waits_was_committed_without_what_was_told_since(race: Race) -> None:
    """That a message for a comm has been handled says only what came before it."""
    third_id = race.kernel.create()
    third = race.kernel.ready(third_id)
    race.quick.open_comm("slider")
    race.quick.commit("x", "y")
    race.kernel.running("y = 3", third_id)
    third.commit("y")
    third.reply()
    race.kernel.ask("comm_msg", {"comm_id": "slider", "data": {}})
    told = race.quick.got(messages.News)[-1]
    assert [head[0] for head in told.components] == [["y"]]
    race.quick.reply_comm()
    race.slow.commit("x")
    [merge] = race.merges(race.quick)
    assert merge.names == ["x", "y"]


def test_one_at_a_time_has_a_turn(race: Race) -> None:
    third_id = race.kernel.create()
    third = race.kernel.ready(third_id)
    cell = race.kernel.running("x = 3", third_id)
    third.commit("x")
    third.reply()
    assert not race.is_over(cell)
    race.slow.commit("x")
    assert len(race.merges(third)) == 1
    third.commit("x")
    assert race.is_over(cell)


def test_who_dies_in_its_turn_holds_nobody_up(race: Race) -> None:
    cell = race.quick_cell("x")
    race.slow.die()
    assert race.is_over(cell)
    assert race.kernel.reply(race.held_back)["ename"] == "WorkerDied"


def test_what_a_process_has_committed_counts_though_it_died_waiting(race: Race) -> None:
    race.quick_cell("x")
    race.quick.die()
    race.slow.commit("x")
    assert len(race.merges(race.slow)) == 3
    race.slow.commit("x")
    assert race.is_over(race.held_back)


def test_a_turn_ends(race: Race) -> None:
    cell = race.quick_cell("x")
    race.kernel.pass_time(TURN_LIMIT)
    assert race.is_over(cell)
    race.slow.commit("x")
    assert len(race.merges(race.slow)) == 3
    race.slow.commit("x")
    assert race.is_over(race.held_back)


def test_a_cell_that_is_still_running_gets_no_turn(kernel: Kernel) -> None:
    """It merges at its end, which may be far."""
    child = kernel.create()
    quick, slow = kernel.ready(), kernel.ready(child)
    kernel.running("while True: xs.append(1)", child)
    for _ in range(3):
        cell = kernel.running("x = 1")
        quick.commit("x")
        quick.reply()
        assert kernel.status(cell) == "ok"
        slow.commit("x")


def test_who_needs_what_another_alone_has_does_not_hold_that_up(race: Race) -> None:
    race.kernel.running("big = ...")
    race.quick.hold("z")
    race.quick.reply()
    first, _ = race.merges(race.slow)
    race.slow.say(messages.Commit(first.number, [[["z"], "value", {}, 1]], [], False, (b"z",)))
    cell = race.kernel.running("z, x = 1, 1")
    heads = [[["x", "z"], "value", {}, 1]]
    race.quick.say(messages.Commit(0, heads, [], False, (b"both",)))
    race.quick.release()
    race.quick.reply()
    assert race.is_over(cell)
    assert race.merges(race.slow)[-1].names == ["z"]
    assert b"both" in race.merges(race.slow)[-1].blobs
