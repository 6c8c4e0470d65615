"""What processes use."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pytest

from mpkernel.cli.usage import SAMPLE_S, Meter, is_local
from mpkernel.connection import ConnectionInfo

ME = os.getpid()
ENDED = 2**22 + 1  # above the largest pid of Linux


@dataclass
class Clock:
    """A clock that only goes on while someone sleeps."""

    now: float = 0.0
    burnt: float = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def work(self, seconds: float) -> None:
        """Use CPU for 50 ms while this clock goes on by `seconds`."""
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass
        self.now += seconds


@pytest.fixture
def family() -> Iterator[list[int]]:
    """The pids of a process and of its child."""
    process = subprocess.Popen(
        ["sh", "-c", "sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    yield [process.pid, child]
    os.killpg(process.pid, signal.SIGKILL)
    process.stdout.close()
    process.wait()


def test_the_first_reading_takes_one_short_sample() -> None:
    clock = Clock()
    usage = Meter(clock=clock, sleep=clock.sleep).read([ME])[ME]
    assert clock.now == SAMPLE_S
    assert usage.cpu_percent is not None


def test_cpu_is_what_was_used_since_the_last_reading() -> None:
    clock = Clock()
    meter = Meter(clock=clock, sleep=clock.sleep)
    meter.read([ME])
    clock.work(0.1)
    used = meter.read([ME])[ME].cpu_percent
    assert used is not None
    assert used >= 30  # 50 ms of 100, counted in ticks of 10 ms
    assert clock.now == pytest.approx(SAMPLE_S + 0.1)  # no second sample


def test_a_process_that_is_new_since_the_last_reading_has_no_cpu_figure_yet(family: list[int]) -> None:
    clock = Clock()
    meter = Meter(clock=clock, sleep=clock.sleep)
    meter.read([ME])
    clock.sleep(1)
    usage = meter.read([ME, family[0]])
    assert usage[family[0]].cpu_percent is None
    assert usage[family[0]].rss is not None


def test_processes_that_a_cell_started_count(family: list[int]) -> None:
    clock = Clock()
    for _ in range(50):  # the system may take pages away between two looks
        usage = Meter(clock=clock, sleep=clock.sleep).read(family[:1])[family[0]]
        memory = [psutil.Process(pid).memory_full_info() for pid in family]
        expected = (sum(one.rss for one in memory), sum(one.uss for one in memory))
        if (usage.rss, usage.private) == expected:
            break
    assert (usage.rss, usage.private) == expected


def test_without_processes_nothing_is_waited_for() -> None:
    clock = Clock()
    assert Meter(clock=clock, sleep=clock.sleep).read([]) == {}
    assert clock.now == 0


def test_a_process_that_is_gone_is_left_out() -> None:
    clock = Clock()
    assert Meter(clock=clock, sleep=clock.sleep).read([ENDED]) == {}


@pytest.mark.parametrize(
    ("info", "local"),
    [
        (ConnectionInfo(ip="127.0.0.1"), True),
        (ConnectionInfo(ip="127.0.0.2"), True),
        (ConnectionInfo(ip="0.0.0.0"), True),
        (ConnectionInfo(ip="localhost"), True),
        (ConnectionInfo(transport="ipc", ip="/run/x"), True),
        (ConnectionInfo(ip="192.0.2.7"), False),
        (ConnectionInfo(ip="far.example"), False),
    ],
)
def test_only_pids_of_this_machine_are_measured(info: ConnectionInfo, local: bool) -> None:
    assert is_local(info) is local
