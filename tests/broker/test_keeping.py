"""Files of saved namespaces, as the broker's logic sees them."""

from __future__ import annotations

import pytest

from mpkernel import messages
from mpkernel.broker.events import LoadNamespace, RemoveFile, SaveNamespace
from mpkernel.broker.keeping import DAY, PAUSE
from mpkernel.namespace.component import Component

from .bench import Kernel


def saved_names(action: SaveNamespace) -> list[str]:
    return sorted(name for component in action.components for name in component.names)


@pytest.fixture
def kept() -> Kernel:
    """A kernel that keeps its variables over restarts, and found none."""
    kernel = Kernel(keep="/kept")
    kernel.file_done(saved="")
    kernel.ready()
    return kernel


def test_a_save_has_what_was_committed_and_lists_what_it_cannot_have(kernel: Kernel) -> None:
    worker = kernel.ready()
    worker.commit("a", "b", lost=["stub"])
    asked = kernel.op("save", path="/file")
    [action] = kernel.files
    assert isinstance(action, SaveNamespace)
    assert saved_names(action) == ["a", "b"]
    kernel.file_done()
    assert kernel.reply(asked)["names"] == ["a", "b"]


def test_a_save_waits_for_running_cells_and_for_large_values_but_not_for_ever(kernel: Kernel) -> None:
    kernel.running()
    other = kernel.ready(kernel.create())
    other.hold("big")
    kernel.op("save", path="/file")
    assert not kernel.files
    assert [m.names for m in kernel.worker().got(messages.Release)] == [None]
    assert [m.names for m in other.got(messages.Release)] == [["big"]]
    kernel.pass_time(1)
    assert not kernel.files  # the cell is given up, the large value isn't
    other.commit("big")
    other.say(messages.Released(other.got(messages.Release)[0].token))
    [action] = kernel.files
    assert isinstance(action, SaveNamespace)
    assert saved_names(action) == ["big"]
    kernel.file_done()


def test_a_large_value_that_nobody_gives_is_listed(kernel: Kernel) -> None:
    kernel.ready().hold("big")
    asked = kernel.op("save", path="/file")
    kernel.pass_time(200)
    kernel.file_done()
    reply = kernel.reply(asked)
    assert (reply["names"], reply["left_out"][0][0]) == ([], ["big"])


def test_what_is_restored_is_news_to_all(kernel: Kernel) -> None:
    worker = kernel.ready()
    worker.commit("a")
    asked = kernel.op("restore", path="/file")
    kernel.file_done(Component(("a",), blobs=(b"from the file",)))
    assert kernel.reply(asked)["names"] == ["a"]
    kernel.execute()
    assert worker.got(messages.News)[-1].blobs == (b"from the file",)
    worker.reply()


def test_what_is_refused_is_an_error(kernel: Kernel) -> None:
    asked = kernel.op("restore", path="/file")
    kernel.file_done(Component(("a",)), error="it was altered")
    assert kernel.reply(asked)["evalue"] == "it was altered"
    assert not kernel.machine.sharing.store.kept_names()


@pytest.mark.parametrize("path", [None, 5, "", "relative", "/nul\0"])
def test_a_bad_path_is_an_error(kernel: Kernel, path: object) -> None:
    for op in ("save", "restore"):
        assert kernel.reply(kernel.op(op, path=path))["ename"] == "BadMessage"


def test_cells_wait_for_what_was_kept_and_the_first_one_says_so() -> None:
    kernel = Kernel(keep="/kept")
    worker = kernel.worker().hello()
    first, second = kernel.execute("1"), kernel.execute("2")
    assert kernel.files == [LoadNamespace(kernel.files[0].token, "/kept", if_there=True)]
    assert kernel.story(first) == []
    kernel.file_done(Component(("a",), blobs=(b"kept",)))
    assert worker.got(messages.News)[0].blobs == (b"kept",)
    assert kernel.story(first) == ["busy", "stream"]
    worker.reply()
    worker.reply()
    assert "stream" not in kernel.story(second)


def test_cells_do_not_wait_for_ever() -> None:
    kernel = Kernel(keep="/kept")
    worker = kernel.worker().hello()
    kernel.execute()
    kernel.pass_time(200)
    worker.reply()
    kernel.file_done(Component(("late",)))
    assert not kernel.machine.sharing.store.kept_names()


def test_commits_are_written_after_a_pause_one_file_at_a_time(kept: Kernel) -> None:
    worker = kept.worker()
    worker.commit("a")
    kept.pass_time(1)
    worker.commit("b")
    assert not kept.files
    kept.pass_time(1)
    assert len(kept.files) == 1
    worker.commit("c")
    kept.now += 3  # it takes so long
    kept.pass_time(100)
    assert len(kept.files) == 1
    kept.file_done()
    assert not kept.files
    worker.commit("d")
    kept.pass_time(2000)
    assert saved_names(kept.files[0]) == ["a", "b", "c", "d"]
    kept.file_done()
    kept.pass_time(2000)
    assert not kept.files


def test_a_file_is_written_once_a_day_so_that_it_does_not_look_left_behind(kept: Kernel) -> None:
    for _ in range(2):
        kept.pass_time(DAY + PAUSE)
        kept.file_done()
        assert not kept.files


def test_at_a_restart_the_kernel_ends_when_all_is_written(kept: Kernel) -> None:
    worker = kept.worker()
    worker.commit("a")
    shutdown = kept.control("shutdown_request", {"restart": True})
    assert kept.reply(shutdown)["restart"] is True
    worker.die(0)
    for other in kept.living():
        other.die(0)
    assert not kept.stopped
    kept.file_done()
    assert kept.stopped
    assert not kept.done(RemoveFile)


def test_at_a_restart_a_file_that_is_being_written_is_not_the_last(kept: Kernel) -> None:
    kept.worker().commit("a")
    kept.pass_time(2)
    kept.worker().commit("b")
    kept.control("shutdown_request", {"restart": True})
    for worker in kept.living():
        worker.die(0)
    assert [saved_names(action) for action in kept.files] == [["a"], ["a", "b"]]
    kept.file_done()
    assert not kept.stopped
    kept.file_done()
    assert kept.stopped


def test_who_waits_for_a_file_is_told_that_the_kernel_ends(kernel: Kernel) -> None:
    kernel.running()
    waiting = kernel.op("save", path="/file")  # for the cell
    reading = kernel.op("restore", path="/file")
    kernel.control("shutdown_request")
    for asked in (waiting, reading):
        assert "shutting down" in kernel.reply(asked)["evalue"]
    kernel.file_done()


def test_at_a_restart_a_disk_that_hangs_is_not_waited_for(kept: Kernel) -> None:
    kept.control("shutdown_request", {"restart": True})
    for worker in kept.living():
        worker.die(0)
    kept.pass_time(100)
    assert kept.stopped


def test_at_any_other_end_the_file_is_removed(kept: Kernel) -> None:
    kept.control("shutdown_request", {"restart": False})
    assert kept.done(RemoveFile) == [RemoveFile("/kept")]
