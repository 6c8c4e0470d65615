"""A watch tells what was written to a buffer, by whatever means, and nothing that wasn't written for long."""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from mpkernel.namespace.pages import CHUNK, PAGE, HashWatch, PageTracker, PageWatch
from mpkernel.namespace.runs import Run, aligned, merged, total

np = pytest.importorskip("numpy")

SIZE = 8 << 20
ways = pytest.mark.parametrize("tracker", ["pages", "hashes"], indirect=True)
only_pages = pytest.mark.parametrize("tracker", ["pages"], indirect=True)


@pytest.fixture
def tracker(request: pytest.FixtureRequest) -> Iterator[PageTracker]:
    if request.param == "pages" and not PageTracker.available():
        pytest.skip("the kernel doesn't track pages")
    tracker = PageTracker(pages=request.param == "pages")
    yield tracker
    tracker.close()


def flat(array: Any) -> memoryview:
    return memoryview(array).cast("B")


def numbers(size: int = SIZE) -> Any:
    return np.arange(size // 8, dtype="f8")


def covers(runs: list[Run], offset: int) -> bool:
    return any(start <= offset < start + nbytes for start, nbytes in runs)


def read_into(array: Any) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"\xff" * 8)
        file.seek(0)
        os.readv(file.fileno(), [flat(array)[80_000:80_008]])


def in_a_thread(array: Any) -> None:
    thread = threading.Thread(target=array.__setitem__, args=(10_000, -1))
    thread.start()
    thread.join()


writes: dict[str, Callable[[Any], Any]] = {
    "an element": lambda array: array.__setitem__(10_000, -1),
    "a view": lambda array: array[9_990:].reshape(-1, 2)[5:6].fill(-1),
    "ufunc.at": lambda array: np.add.at(array, [10_000], 5),
    "a memoryview": lambda array: flat(array).__setitem__(80_000, 77),
    "the system, in read(2)": read_into,
    "C": lambda array: ctypes.memset(array.ctypes.data + 80_000, 1, 8),
    "a thread": in_a_thread,
}


@ways
@pytest.mark.parametrize("write", writes.values(), ids=writes)
def test_sees_a_write_by(tracker: PageTracker, write: Callable[[Any], Any]) -> None:
    array = numbers()
    watch = tracker.arm(flat(array))
    assert watch.dirty(flat(array)) == []
    write(array)
    runs = watch.dirty(flat(array))
    assert covers(runs, 80_000)
    assert total(runs) <= CHUNK
    assert watch.dirty(flat(array)) == []


@ways
def test_reading_is_not_writing(tracker: PageTracker) -> None:
    array = numbers()
    watch = tracker.arm(flat(array))
    assert array.sum() > 0
    assert array.copy().nbytes == SIZE
    with tempfile.TemporaryFile() as file:
        file.write(flat(array))
    assert watch.dirty(flat(array)) == []


@ways
def test_the_ends_that_share_pages_with_others_are_watched(tracker: PageTracker) -> None:
    whole = bytearray(SIZE)
    buffer = memoryview(whole)[100 : SIZE - 300]
    watch = tracker.arm(buffer)
    whole[:100] = b"x" * 100  # a neighbour
    whole[-300:] = b"x" * 300
    assert watch.dirty(buffer) == []
    buffer[0] = 1
    buffer[-1] = 1
    runs = watch.dirty(buffer)
    assert len(runs) == 2
    assert covers(runs, 0)
    assert covers(runs, buffer.nbytes - 1)
    assert runs[-1][0] + runs[-1][1] == buffer.nbytes
    assert watch.dirty(buffer) == []


@ways
def test_random_writes_are_all_covered(tracker: PageTracker) -> None:
    random = np.random.default_rng(1)
    array = numbers()
    watch = tracker.arm(flat(array))
    for _ in range(20):
        before = array.copy()
        array[random.integers(0, array.size, random.integers(0, 600))] += 1
        here, there = flat(array), flat(before)
        for start, nbytes in watch.dirty(here):
            there[start : start + nbytes] = here[start : start + nbytes]
        assert np.array_equal(array, before)


@only_pages
def test_written_pages_are_told_to_the_page(tracker: PageTracker) -> None:
    array = numbers(128 << 20)  # numpy asks for huge pages here
    watch = tracker.arm(flat(array))
    assert isinstance(watch, PageWatch)
    array[[1_000_000, 5_000_000, 9_000_000]] = 1
    runs = watch.dirty(flat(array))
    assert [nbytes for _, nbytes in runs] == [PAGE] * 3
    array += 1
    assert total(watch.dirty(flat(array))) == array.nbytes


@ways
def test_what_was_put_back_is_told_again(tracker: PageTracker) -> None:
    array = numbers()
    watch = tracker.arm(flat(array))
    array[10_000] = 1
    runs = watch.dirty(flat(array))
    watch.put_back(runs)
    array[500_000] = 1
    again = watch.dirty(flat(array))
    assert covers(again, 80_000)
    assert covers(again, 4_000_000)
    assert watch.dirty(flat(array)) == []


@only_pages
def test_an_interrupt_in_the_midst_loses_nothing(tracker: PageTracker, monkeypatch: pytest.MonkeyPatch) -> None:
    array = numbers()
    watch = tracker.arm(flat(array))
    array[10_000] = 1

    def interrupted(buffer: memoryview) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(watch, "_hashes", interrupted)
        with pytest.raises(KeyboardInterrupt):
            watch.dirty(flat(array))
    assert watch.dirty(flat(array)) == [(0, SIZE)]
    assert watch.dirty(flat(array)) == []


@only_pages
def test_other_memory_at_the_same_address_is_not_what_was_armed(tracker: PageTracker) -> None:
    array = numbers()
    there = -(-array.ctypes.data // PAGE) * PAGE
    watch = tracker.arm(flat(array))
    assert watch.valid(flat(array))
    libc = ctypes.CDLL(None)
    libc.mmap.argtypes = (ctypes.c_void_p, *[ctypes.c_size_t] * 5)
    libc.mmap.restype = ctypes.c_void_p
    assert libc.mmap(there, PAGE, 3, mmap.MAP_PRIVATE | mmap.MAP_ANON | 0x10, 2**64 - 1, 0) == there  # MAP_FIXED
    assert not watch.valid(flat(array))
    assert watch.dirty(flat(array)) == [(0, SIZE)]


@ways
def test_a_buffer_of_another_size_is_written_as_a_whole(tracker: PageTracker) -> None:
    array = numbers()
    watch = tracker.arm(flat(array))
    assert not watch.valid(flat(array)[:-8])
    assert watch.dirty(flat(array)[:-8]) == [(0, SIZE - 8)]


@only_pages
def test_a_newer_watch_of_the_same_memory_ends_the_older(tracker: PageTracker) -> None:
    array = numbers()
    older = tracker.arm(flat(array)[: SIZE // 2])
    newer = tracker.arm(flat(array))
    assert not older.valid(flat(array)[: SIZE // 2])
    older.close()
    array[10_000] = 1
    assert covers(newer.dirty(flat(array)), 80_000)


@only_pages
def test_a_watch_leaves_the_memory_free_to_be_resized(tracker: PageTracker) -> None:
    block = bytearray(SIZE)
    watch = tracker.arm(memoryview(block))
    block.extend(b"x" * SIZE)
    assert watch.dirty(memoryview(block)) == [(0, 2 * SIZE)]


@only_pages
def test_given_back_pages_count_as_written(tracker: PageTracker) -> None:
    with mmap.mmap(-1, SIZE, mmap.MAP_PRIVATE) as block:
        block.write(b"x" * SIZE)
        buffer = memoryview(block)
        watch = tracker.arm(buffer)
        block.madvise(mmap.MADV_DONTNEED, 4 * PAGE, PAGE)
        assert covers(watch.dirty(buffer), 4 * PAGE)
        buffer.release()


@only_pages
def test_memory_not_yet_there_and_private_mappings_are_tracked(tracker: PageTracker) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * SIZE)
        file.flush()
        for fd in (-1, file.fileno()):
            with mmap.mmap(fd, SIZE, mmap.MAP_PRIVATE) as block:
                buffer = memoryview(block)
                watch = tracker.arm(buffer)
                assert sum(block[::PAGE]) >= 0  # reading brings the pages in
                assert watch.dirty(buffer) == []
                block[10 * PAGE] = 7
                assert watch.dirty(buffer) == [(10 * PAGE, PAGE)]
                buffer.release()


def _in_child(check: Callable[[], bool]) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads of the test runner
        child = os.fork()
    if child == 0:
        os._exit(0 if check() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@only_pages
def test_a_forked_child_does_not_disturb_the_parents_watch(tracker: PageTracker) -> None:
    array = numbers()
    watch = tracker.arm(flat(array))
    array[10_000] = 1

    def child() -> bool:
        array[500_000] = 1
        whole = watch.dirty(flat(array)) == [(0, SIZE)]
        fresh = PageTracker(pages=True).arm(flat(array))
        array[0:10] = 5
        clean = covers(fresh.dirty(flat(array)), 0)
        unusable = isinstance(tracker.arm(flat(array)), HashWatch)
        watch.close()
        tracker.close()
        return whole and clean and unusable

    assert _in_child(child)
    runs = watch.dirty(flat(array))
    assert covers(runs, 80_000)
    assert not covers(runs, 4_000_000)
    array[20_000] = 1
    assert covers(watch.dirty(flat(array)), 160_000)


@only_pages
def test_a_handle_that_the_user_closed_makes_everything_written(tracker: PageTracker) -> None:
    array = numbers()
    watch = tracker.arm(flat(array))
    assert tracker._userfault is not None
    os.close(tracker._userfault._pagemap)
    assert watch.dirty(flat(array)) == [(0, SIZE)]


@only_pages
def test_nothing_stays_open(tracker: PageTracker) -> None:
    before = psutil.Process().num_fds()
    for _ in range(3):
        other = PageTracker()
        other.arm(flat(numbers()))
        other.close()
    assert psutil.Process().num_fds() == before


def test_runs_that_touch_become_one() -> None:
    assert merged([(8, 2), (0, 4), (4, 1), (20, 0), (9, 5)]) == [(0, 5), (8, 6)]


def test_runs_are_widened_to_pages_and_the_buffers_end() -> None:
    assert aligned([(10, 5), (4090, 10), (9990, 10)], 4096, 10_000) == [(0, 10_000)]
    assert aligned([(4100, 1), (20_000, 1)], 4096, 100_000) == [(4096, 4096), (16384, 4096)]
