"""An array that was copied for others, and doesn't change, is there once; whoever has it notices nothing."""

from __future__ import annotations

import gc
import mmap
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mpkernel.namespace import cold
from mpkernel.namespace.address import address_of
from mpkernel.namespace.cold import COLD, LEAST, MOST, Copies, take_place, why_not
from mpkernel.namespace.pages import HashWatch, PageTracker
from mpkernel.namespace.segments import Opened, memfds_work, write
from mpkernel.namespace.transport import PAGE, Memfds

np = pytest.importorskip("numpy")
pytestmark = pytest.mark.skipif(
    not (memfds_work() and PageTracker.available() and sys.platform == "linux"), reason="pages can't be tracked here"
)

SIZE = 40 << 20  # glibc has smaller ones in its heap, if such have been freed


@pytest.fixture(autouse=True)
def heap_without_room() -> Iterator[None]:
    """Else glibc has larger ones there, too: what tests before have freed is one stretch by now."""
    held = []
    for _ in range(20):
        array = np.empty(SIZE, "u1")
        if cold._has_own_mapping(array.ctypes.data, SIZE):
            break
        held.append(array)
    yield
    held.clear()


@pytest.fixture
def tracker() -> Iterator[PageTracker]:
    tracker = PageTracker()
    yield tracker
    tracker.close()


def flat(array: Any) -> memoryview:
    return memoryview(array).cast("B")


def took_place(array: Any, tracker: PageTracker) -> bool:
    """Whether `array` shares memory with a segment now, that has been let go of."""
    buffer = flat(array)
    watch = tracker.arm(buffer)
    with write(Memfds(), [buffer]) as segment, Opened(Memfds(), segment.place) as opened:
        return take_place(opened, buffer, segment.ranges[0], watch)


def is_in_segment(array: Any) -> bool:
    address = address_of(flat(array))
    assert address is not None
    middle = address + array.nbytes // 2
    with open("/proc/self/maps") as maps:
        for line in maps:
            start, end = (int(number, 16) for number in line.split()[0].split("-"))
            if start <= middle < end:
                return line.split(maxsplit=5)[-1].startswith("/")
    raise AssertionError("an array without memory")


def own_memory() -> int:
    """Bytes that are in no file."""
    info = psutil.Process().memory_info()
    return int(info.rss - info.shared)


def test_the_memory_of_an_array_is_given_back_and_what_it_has_is_the_same(tracker: PageTracker) -> None:
    array = np.random.default_rng(1).random(SIZE // 8)
    copy, before = array.copy(), own_memory()
    assert took_place(array, tracker)
    assert is_in_segment(array)
    assert own_memory() < before - SIZE // 2
    assert np.array_equal(array, copy)


def test_writing_goes_on_and_is_seen(tracker: PageTracker) -> None:
    array = np.zeros(SIZE // 8)
    assert took_place(array, tracker)
    watch = tracker.arm(flat(array))
    assert watch.dirty(flat(array)) == []
    array[[0, 1_000_000, -1]] = 1
    assert [nbytes <= PAGE for _, nbytes in watch.dirty(flat(array))] == [True] * 3
    assert array.sum() == 3
    array += 1
    assert array.sum() == SIZE // 8 + 3


@pytest.mark.parametrize("size", [SIZE // 2, SIZE * 3])
def test_it_can_be_resized(tracker: PageTracker, size: int) -> None:
    array = np.arange(SIZE // 8)
    assert took_place(array, tracker)
    array.resize(size // 8, refcheck=False)
    kept = min(size, SIZE) // 8
    assert np.array_equal(array[:kept], np.arange(kept))
    assert not array[kept:].any()


def test_a_bytearray_can_grow(tracker: PageTracker) -> None:
    array = bytearray(b"ab" * (SIZE // 2))
    view = memoryview(array)
    watch = tracker.arm(view)
    with write(Memfds(), [view]) as segment, Opened(Memfds(), segment.place) as opened:
        assert take_place(opened, view, segment.ranges[0], watch)
    view.release()
    array += b"ab" * SIZE
    assert array == b"ab" * (SIZE // 2 + SIZE)


def test_its_memory_is_freed_with_it(tracker: PageTracker) -> None:
    before = psutil.Process().memory_info().rss
    for _ in range(20):
        array = np.ones(SIZE // 8)
        assert took_place(array, tracker)
        assert array.sum() == SIZE // 8
        del array
        gc.collect()
    assert psutil.Process().memory_info().rss < before + 3 * SIZE


def of_a_file(nbytes: int) -> Any:
    return np.frombuffer(mmap.mmap(-1, nbytes), float)


NOT_ITS_OWN: dict[str, Callable[[], Any]] = {
    "memory that malloc has not given": lambda: of_a_file(SIZE),
    "the same, at the place in a page where malloc's is": lambda: of_a_file(SIZE)[2:],
    "what is small": lambda: np.ones((LEAST - PAGE) // 8),
    "a part in the midst of an array": lambda: np.ones(SIZE // 4)[1000:],
    "half of an array": lambda: np.ones(SIZE // 4)[: SIZE // 8],
}


@pytest.mark.parametrize("make", NOT_ITS_OWN.values(), ids=NOT_ITS_OWN)
def test_other_memory_stays_as_it_is(tracker: PageTracker, make: Callable[[], Any]) -> None:
    array = make()
    copy = array.copy()
    assert not took_place(array, tracker)
    assert np.array_equal(array, copy)


def test_without_page_tracking_nothing_is_replaced() -> None:
    array = np.ones(SIZE // 8)
    with write(Memfds(), [flat(array)]) as segment, Opened(Memfds(), segment.place) as opened:
        assert not take_place(opened, flat(array), segment.ranges[0], HashWatch(flat(array)))
    assert not is_in_segment(array)


@pytest.mark.parametrize(
    ("overcommit", "maps", "why"),
    [
        ("0\n", b"7f00-7f01 rw-s 0 00:05 1 /dev/shm/x\n7f01-7f02 r--p 0 00:01 1 /usr/lib/devices.so\n", ""),
        ("0\n", b"7f00-7f01 rw-s 00000000 00:05 1                  /dev/nvidia0\n", "device"),
        ("2\n", b"", "vm.overcommit_memory"),
        ("", b"", "/proc"),
    ],
)
def test_where_a_device_may_write_or_memory_may_be_refused(
    tmp_path: Path, overcommit: str, maps: bytes, why: str
) -> None:
    (tmp_path / "sys/vm").mkdir(parents=True)
    (tmp_path / "self").mkdir()
    (tmp_path / "sys/vm/overcommit_memory").write_text(overcommit)
    (tmp_path / "self/maps").write_bytes(maps)
    assert why in why_not(tmp_path)
    assert bool(why) == bool(why_not(tmp_path))


# --- segments that are kept open --------------------------------------------------------------------------------------


def test_segments_are_kept_until_they_are_cold_or_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(cold.time, "monotonic", lambda: now)
    before, copies = psutil.Process().num_fds(), Copies()
    array = np.ones(LEAST // 8)
    for key in ("1.1", "1.2", "1.3"):
        copies.add(key, [f"name {key}"], write(Memfds(), [flat(array)]))
        now += 1
    assert psutil.Process().num_fds() == before + 3
    copies.drop_stale(lambda names, key: (names, key) != (["name 1.2"], "1.2"))
    assert psutil.Process().num_fds() == before + 2
    assert list(copies.cold()) == []
    assert copies.seconds_left() == COLD - 3
    now += COLD - 3
    assert [key for _, key, _ in copies.cold()] == ["1.1"]
    copies.drop("1.3")
    copies.drop("1.3")
    assert not copies
    assert psutil.Process().num_fds() == before


def test_few_and_only_large_segments_are_kept() -> None:
    before, copies = psutil.Process().num_fds(), Copies()
    copies.add("1.1", ["small"], write(Memfds(), [bytes(LEAST - 1)]))
    copies.add("", ["a delta"], write(Memfds(), [bytes(LEAST)]))
    assert not copies
    for number in range(MOST + 3):
        copies.add(f"1.{number}", ["x"], write(Memfds(), [bytes(LEAST)]))
    assert psutil.Process().num_fds() == before + MOST
    copies.drop_stale(lambda names, key: False)
    assert psutil.Process().num_fds() == before
