"""Big buffers reach other processes in one copy, can't be forged or changed under way, and leave nothing behind."""

from __future__ import annotations

import json
import mmap
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import astuple, replace
from pathlib import Path
from pickle import PickleBuffer
from typing import Any

import psutil
import pytest

from mpkernel.errors import BadSegment
from mpkernel.namespace.address import address_of
from mpkernel.namespace.deltas import Delta, apply_delta, attach_with, write_delta
from mpkernel.namespace.runs import Run
from mpkernel.namespace.segments import Segment, Segments, attach, choose, memfds_work, write
from mpkernel.namespace.transport import PAGE, Files, Memfds, Place, Transport

MB = 1 << 20
linux = pytest.mark.skipif(not memfds_work(), reason="no memfds")


@pytest.fixture
def broker(transport: Transport) -> Iterator[Segments]:
    segments = Segments(transport)
    yield segments
    segments.close()


@pytest.fixture(autouse=True)
def nothing_stays(tmp_path: Path) -> Iterator[None]:
    process = psutil.Process()
    before = process.num_fds()
    yield
    assert process.num_fds() == before


def taken(broker: Segments, segment: Segment) -> int:
    """As in a kernel: the broker takes it, then the writer closes it."""
    with segment:
        return broker.take(os.getpid(), segment.place.name, segment.size)


def mapped() -> int:
    """Bytes of address space."""
    return psutil.Process().memory_info().vms


def test_buffers_arrive_as_they_were(transport: Transport, broker: Segments) -> None:
    buffers = [b"a" * 100_000, bytearray(b"b" * PAGE), memoryview(b""), PickleBuffer(bytearray(range(256)) * 1000)]
    segment = write(transport, buffers)
    assert [nbytes for _, nbytes in segment.ranges] == [100_000, PAGE, 0, 256_000]
    pages = [set(range(offset // PAGE, -(-(offset + nbytes) // PAGE))) for offset, nbytes in segment.ranges]
    assert sum(map(len, pages)) == len(set().union(*pages))
    number = taken(broker, segment)
    views = attach(transport, broker.place(number), segment.ranges)
    assert [bytes(view) for view in views] == [bytes(buffer) for buffer in buffers]


def test_no_buffers_and_empty_buffers_are_no_special_case(transport: Transport, broker: Segments) -> None:
    for buffers in ([], [b""], [b"", b""]):
        segment = write(transport, buffers)
        number = taken(broker, segment)
        assert [bytes(view) for view in attach(transport, broker.place(number), segment.ranges)] == buffers


def test_what_one_reader_writes_no_other_sees(transport: Transport, broker: Segments) -> None:
    segment = write(transport, [b"x" * MB])
    place = broker.place(taken(broker, segment))
    (one,), (other,) = attach(transport, place, segment.ranges), attach(transport, place, segment.ranges)
    assert not one.readonly
    one[5] = 0
    assert other[5] == ord("x")
    assert attach(transport, place, segment.ranges)[0][5] == ord("x")


def placed(size: int, skew: int) -> memoryview:
    """Memory that begins so far from the start of a page."""
    return memoryview(mmap.mmap(-1, size + PAGE))[skew : skew + size]


@pytest.mark.parametrize("skew", [0, 16, PAGE - 1])
def test_a_page_begins_where_one_begins_for_the_writer(transport: Transport, broker: Segments, skew: int) -> None:
    view = placed(3 * PAGE, skew)
    view[:] = os.urandom(3 * PAGE)
    segment = write(transport, [b"x", view])
    (_, other) = attach(transport, broker.place(taken(broker, segment)), segment.ranges)
    assert other == view
    address = address_of(other)
    assert address is not None
    assert address % PAGE == skew


def test_a_mapping_stays_when_the_segment_is_let_go(transport: Transport, broker: Segments) -> None:
    segment = write(transport, [b"x" * MB])
    number = taken(broker, segment)
    (view,) = attach(transport, broker.place(number), segment.ranges)
    place = broker.place(number)
    assert broker.release(number)
    assert bytes(view) == b"x" * MB
    with pytest.raises(BadSegment):
        attach(transport, place, segment.ranges)


def test_it_is_mapped_as_long_as_any_view_lives(transport: Transport, broker: Segments) -> None:
    segment = write(transport, [b"x" * (64 * MB), b"y" * 100])
    number = taken(broker, segment)
    before = mapped()
    views = attach(transport, broker.place(number), segment.ranges)
    part = views[1][10:20]
    assert mapped() >= before + 64 * MB
    del views
    assert mapped() >= before + 64 * MB
    assert bytes(part) == b"y" * 10
    del part
    assert mapped() < before + 32 * MB


def test_references_are_counted(transport: Transport, broker: Segments, tmp_path: Path) -> None:
    segment = write(transport, [b"x" * 10_000])
    number = taken(broker, segment)
    other = taken(broker, write(transport, [b"y"]))
    assert number != other
    assert broker.total == segment.size + PAGE
    broker.hold(number)
    assert not broker.release(number)
    assert number in broker
    assert broker.release(number)
    assert number not in broker
    assert broker.total == PAGE
    assert broker.release(other)
    assert (broker.total, len(broker), os.listdir(tmp_path)) == (0, 0, [])


def test_the_writers_end_has_no_hold_on_it(transport: Transport, broker: Segments) -> None:
    """The process that wrote it ends before anybody reads."""
    code = (
        "import sys; from pathlib import Path; from mpkernel.namespace.segments import choose, write; import os;"
        f"segment = write(choose(Path(sys.argv[1]), memfds={isinstance(transport, Memfds)}), [b'x' * {MB}]);"
        "print(os.getpid(), segment.size, segment.place.name, flush=True); sys.stdin.read()"
    )
    directory = str(getattr(transport, "_directory", "."))
    with subprocess.Popen([sys.executable, "-c", code, directory], stdin=-1, stdout=-1, text=True) as writer:
        assert writer.stdout is not None
        pid, size, name = writer.stdout.readline().split()
        number = broker.take(int(pid), name, int(size))
        writer.kill()
    (view,) = attach(transport, broker.place(number), [(0, MB)])
    assert bytes(view) == b"x" * MB


def test_a_place_is_plain_json(transport: Transport) -> None:
    with write(transport, [b"x"]) as segment:
        assert Place(*json.loads(json.dumps(astuple(segment.place)))) == segment.place


# --- refused --------------------------------------------------------------------------------------------------


def test_a_segment_of_another_size_is_refused(transport: Transport, broker: Segments) -> None:
    with write(transport, [b"x" * 10_000]) as segment:
        with pytest.raises(BadSegment, match="announced"):
            broker.take(os.getpid(), segment.place.name, segment.size + PAGE)
        broker.release(broker.take(os.getpid(), segment.place.name, segment.size))


@pytest.mark.parametrize("name", ["", "-1", "../../etc/passwd", "segment-/etc/passwd", "segment-nope", "9999999", "²"])
def test_a_name_that_names_no_segment_is_refused(broker: Segments, name: str) -> None:
    with pytest.raises(BadSegment):
        broker.take(os.getpid(), name, PAGE)
    assert len(broker) == 0


@linux
def test_an_unsealed_memfd_a_file_a_pipe_and_a_socket_are_refused() -> None:
    broker = Segments(Memfds())
    read, written = os.pipe()
    memfd = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    os.ftruncate(memfd, PAGE)
    with tempfile.TemporaryFile() as file, socket.socket() as sock, open("/dev/null") as null:
        file.truncate(PAGE)
        for fd in (memfd, file.fileno(), sock.fileno(), null.fileno(), read, written):
            with pytest.raises(BadSegment):
                broker.take(os.getpid(), str(fd), PAGE)
    for fd in (memfd, read, written):
        os.close(fd)


@linux
def test_a_sealed_memfd_cannot_be_written() -> None:
    with write(Memfds(), [b"x"]) as segment:
        with pytest.raises(PermissionError):
            os.pwrite(segment.fds[0], b"y", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(segment.fds[0], 0)


def test_an_unfinished_file_is_refused_and_a_link_too(tmp_path: Path) -> None:
    files = Files(tmp_path)
    broker = Segments(files)
    fd, name = files.create(MB)
    os.ftruncate(fd, PAGE)
    with pytest.raises(BadSegment, match="sealed"):
        broker.take(os.getpid(), name, PAGE)
    files.drop(fd, name)
    (tmp_path / "segment-link").symlink_to("/etc/passwd")
    with pytest.raises(BadSegment):
        broker.take(os.getpid(), "segment-link", PAGE)


def test_ranges_outside_the_segment_are_refused(transport: Transport) -> None:
    with write(transport, [b"x" * 10_000]) as segment:
        for ranges in ([(0, 20_000)], [(-PAGE, 10)], [(0, -1)], [(5, segment.size)], [(1 << 62, 1)]):
            with pytest.raises(BadSegment):
                attach(transport, segment.place, ranges)


def test_a_dead_process_has_no_segments() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    with pytest.raises(BadSegment, match="gone"):
        Segments(Memfds() if memfds_work() else Files(Path("/nowhere"))).take(gone.pid, "3", PAGE)


def test_a_write_that_fails_leaves_nothing(
    transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwritev", full)
    with pytest.raises(OSError, match="No space"):
        write(transport, [b"x"])
    assert os.listdir(tmp_path) == []


# --- deltas ---------------------------------------------------------------------------------------------------


def changed_copy(base: bytes, *runs: tuple[int, int]) -> bytearray:
    copy = bytearray(base)
    for offset, nbytes in runs:
        copy[offset : offset + nbytes] = b"!" * nbytes
    return copy


def test_a_delta_over_its_base_is_the_new_content(transport: Transport, broker: Segments) -> None:
    bases = [bytes(range(256)) * 4000, b"untouched" * 10_000, b"end" * 12_345]
    base = write(transport, bases)
    place = broker.place(taken(broker, base))
    runs = [[(10, 5), (500_000, 200_000)], [], [(37_000, 35)]]  # a short one, a long one, and the very end
    news = [changed_copy(old, *some) for old, some in zip(bases, runs, strict=True)]
    segment, delta = write_delta(transport, news, runs)
    assert segment.size < 300_000
    segment_id = taken(broker, segment)
    delta = replace(delta, place=broker.place(segment_id))
    views = attach_with(transport, place, base.ranges, [delta])
    assert [bytes(view) for view in views] == [bytes(new) for new in news]
    broker.release(segment_id)
    views[0][500_000] = 7  # still there, still private
    assert [bytes(view) for view in attach(transport, place, base.ranges)] == bases


@pytest.mark.parametrize("skews", [(16, 16), (16, 0), (0, 16), (48, 16)])
@pytest.mark.parametrize("run", [(0, 100_000), (100_000, 200_000), (MB - 100_000, 100_000), (0, MB), (5000, 1)])
def test_a_delta_of_memory_that_begins_elsewhere_in_its_page(
    transport: Transport, broker: Segments, skews: tuple[int, int], run: Run
) -> None:
    old, new = (placed(MB, skew) for skew in skews)
    old[:] = os.urandom(MB)
    new[:] = changed_copy(bytes(old), run)
    base = write(transport, [b"", old, b"after"])
    place = broker.place(taken(broker, base))
    segment, delta = write_delta(transport, [b"", new, b"after"], [[], [run], []])
    delta = replace(delta, place=broker.place(taken(broker, segment)))
    views = attach_with(transport, place, base.ranges, [delta])
    assert [bytes(view) for view in views] == [b"", bytes(new), b"after"]
    apply_delta(transport, [memoryview(b""), old, memoryview(b"after")], delta)
    assert old == new


def test_later_deltas_win(transport: Transport, broker: Segments) -> None:
    old = b"." * MB
    base = write(transport, [old])
    place = broker.place(taken(broker, base))
    first, second = bytearray(old), bytearray(old)
    first[: 512 << 10] = b"1" * (512 << 10)
    second[:] = first
    second[256 << 10 : 768 << 10] = b"2" * (512 << 10)
    deltas: list[Delta] = []
    for new, run in ((first, (0, 512 << 10)), (second, (256 << 10, 512 << 10))):
        segment, delta = write_delta(transport, [new], [[run]])
        deltas.append(replace(delta, place=broker.place(taken(broker, segment))))
    (view,) = attach_with(transport, place, base.ranges, deltas)
    assert bytes(view) == bytes(second)


def test_a_delta_is_copied_into_a_buffer_that_is_there(transport: Transport) -> None:
    old = b"." * 1_000_003
    runs = [(offset, 3) for offset in range(0, 1_000_000, 2 * PAGE)] + [(1_000_000, 3)]
    new = changed_copy(old, *runs)
    mine = bytearray(old)
    segment, delta = write_delta(transport, [new], [runs])
    with segment:
        apply_delta(transport, [memoryview(mine)], delta)
    assert mine == new


def test_thousands_of_runs(transport: Transport) -> None:
    old = bytes(32 * MB)
    runs = [(offset, 1) for offset in range(0, 32 * MB, 2 * PAGE)]
    long = [(offset, 64 << 10) for offset in range(0, 32 * MB, 128 << 10)]
    with write(transport, [old]) as base:
        for some in (runs, long):
            new = changed_copy(old, *some)
            segment, delta = write_delta(transport, [new], [some])
            with segment:
                (view,) = attach_with(transport, base.place, base.ranges, [delta])
            assert view == new


def test_a_delta_that_does_not_fit_is_refused_before_it_is_written(transport: Transport) -> None:
    old = b"." * (4 * PAGE)
    new = placed(4 * PAGE, 0)
    new[:] = changed_copy(old, (PAGE, PAGE))
    segment, delta = write_delta(transport, [new], [[(PAGE, PAGE)]])
    wrong = [
        replace(delta, runs=[[(4 * PAGE, PAGE)]]),
        replace(delta, runs=[[(-PAGE, PAGE)]]),
        replace(delta, runs=[[(PAGE + 8, PAGE - 1)]]),
        replace(delta, runs=[[(0, 2 * PAGE)]]),
        replace(delta, runs=[[]]),
        replace(delta, runs=[[(PAGE, PAGE)], []]),
        replace(delta, ranges=[(PAGE, PAGE)]),
    ]
    mine = bytearray(old)
    with segment:
        for delta in wrong:
            with pytest.raises(BadSegment):
                apply_delta(transport, [memoryview(mine)], delta)
    assert mine == old


def test_no_change_is_a_delta_as_well(transport: Transport) -> None:
    with write(transport, [b"x" * PAGE]) as base:
        segment, delta = write_delta(transport, [b"x" * PAGE], [[]])
        segment.close()
        (view,) = attach_with(transport, base.place, base.ranges, [delta])
        assert bytes(view) == b"x" * PAGE


# --- parts ----------------------------------------------------------------------------------------------------


@pytest.fixture
def striped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments are in three parts from 3 MB on."""
    monkeypatch.setattr("mpkernel.namespace.segments.STRIPE_FROM", MB)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)


@linux
@pytest.mark.usefixtures("striped")
def test_big_segments_are_written_in_parts_and_read_as_one() -> None:
    transport = Memfds()
    broker = Segments(transport)
    data = os.urandom(3 * MB + 5000)
    buffers = [data[: 900 * 1024], data[900 * 1024 :]]
    base = write(transport, buffers)
    assert len(base.fds) == 3
    place = broker.place(taken(broker, base))
    views = attach(transport, place, base.ranges)
    assert [bytes(view) for view in views] == buffers
    runs = [[(0, 700_000)], [(offset, 10) for offset in range(0, MB, 2 * PAGE)] + [(MB, 1_100_000)]]
    news = [changed_copy(old, *some) for old, some in zip(buffers, runs, strict=True)]
    piece, delta = write_delta(transport, news, runs)
    assert len(piece.fds) > 1
    delta = replace(delta, place=broker.place(taken(broker, piece)))
    assert [bytes(view) for view in attach_with(transport, place, base.ranges, [delta])] == news
    apply_delta(transport, views, delta)
    assert [bytes(view) for view in views] == news
    assert broker.total == base.size + piece.size
    broker.close()


@linux
@pytest.mark.usefixtures("striped")
def test_a_segment_with_a_bad_part_is_refused_as_a_whole() -> None:
    broker = Segments(Memfds())
    with write(Memfds(), [bytes(3 * MB)]) as segment:
        a, b, c = segment.place.names()
        for names in ([a, b], [a, b, c, c], [a, b, "99999"], []):
            with pytest.raises(BadSegment):
                broker.take(os.getpid(), "+".join(names), segment.size)
        with pytest.raises(BadSegment):
            broker.take(os.getpid(), segment.place.name, -1)
    assert len(broker) == 0


@linux
@pytest.mark.usefixtures("striped")
def test_an_error_in_another_thread_is_an_error_of_the_write(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwritev

    def full(*args: Any) -> int:
        if threading.current_thread() is not threading.main_thread():
            raise OSError(28, "No space left on device")
        return real(*args)

    monkeypatch.setattr(os, "pwritev", full)
    with pytest.raises(OSError, match="No space"):
        write(Memfds(), [bytes(3 * MB)])


@linux
@pytest.mark.usefixtures("striped")
def test_an_interrupted_write_writes_to_nobody_elses_file(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwritev
    go_on = threading.Event()

    def interrupted(*args: Any) -> int:
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        go_on.wait(10)
        return real(*args)

    monkeypatch.setattr(os, "pwritev", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(Memfds(), [bytes(3 * MB)])
    with tempfile.TemporaryFile() as one, tempfile.TemporaryFile() as two, tempfile.TemporaryFile() as three:
        go_on.set()
        for thread in threading.enumerate():
            if thread.name == "mpkernel-write":
                thread.join()
        assert [os.fstat(file.fileno()).st_size for file in (one, two, three)] == [0, 0, 0]


@linux
@pytest.mark.usefixtures("striped")
def test_without_threads_it_is_written_nevertheless(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more)
    data = os.urandom(3 * MB)
    with write(Memfds(), [data]) as segment:
        assert bytes(attach(Memfds(), segment.place, segment.ranges)[0]) == data


# --- the rest -------------------------------------------------------------------------------------------------


def test_writing_leaves_other_threads_running(transport: Transport) -> None:
    counted = 0
    done = threading.Event()

    def count() -> None:
        nonlocal counted
        while not done.is_set():
            counted += 1

    data = bytes(128 * MB)
    thread = threading.Thread(target=count)
    thread.start()
    before = counted
    write(transport, [data]).close()
    during = counted - before
    done.set()
    thread.join()
    assert during > 1000


@linux
def test_memfds_are_chosen_where_they_work(tmp_path: Path) -> None:
    assert isinstance(choose(tmp_path), Memfds)
    assert isinstance(choose(tmp_path, memfds=False), Files)
    assert not memfds_work(peer=2**22 + 1)  # no such process
