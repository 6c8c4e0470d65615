"""The worker's main thread makes way for others in a signal handler, whatever signals come meanwhile."""

from __future__ import annotations

import os
import resource
import signal
import threading
from collections.abc import Iterator

import pytest

from mpkernel.errors import TookTooLong
from mpkernel.messages import KICK_SIGNAL
from mpkernel.worker.kicker import STAND_IN, Kicker
from mpkernel.worker.service import Service

HANDLED = (signal.SIGINT, KICK_SIGNAL, STAND_IN)


@pytest.fixture
def kicker() -> Iterator[Kicker]:
    """The main thread's, installed; its alarms are for the test to set off."""
    handlers = {signum: signal.getsignal(signum) for signum in HANDLED}
    read, write = os.pipe()
    os.set_blocking(write, False)
    kicker = Kicker(write)
    kicker.install()
    yield kicker
    signal.set_wakeup_fd(-1)
    for signum, handler in handlers.items():
        signal.signal(signum, handler)
    os.close(read)
    os.close(write)


def test_kicks_and_interrupts_may_come_while_it_makes_way(kicker: Kicker) -> None:
    service = Service.__new__(Service)
    service._answered = threading.Lock()
    inside = 0

    def make_way() -> None:
        nonlocal inside
        inside += 1
        try:
            service.make_way()
        except KeyboardInterrupt:
            pass
        finally:
            inside -= 1

    def on_interrupt(*_: object) -> None:
        if inside:
            raise KeyboardInterrupt

    def disturb(main: int) -> None:
        for _ in range(2000):
            signal.pthread_kill(main, KICK_SIGNAL)
            signal.pthread_kill(main, signal.SIGINT)
            signal.pthread_kill(main, KICK_SIGNAL)
            service._has_answered()

    kicker.make_way = make_way
    signal.signal(signal.SIGINT, on_interrupt)
    thread = threading.Thread(target=disturb, args=[threading.get_ident()], daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


def test_it_kicks_where_no_signal_may_wait(kicker: Kicker) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_SIGPENDING)
    resource.setrlimit(resource.RLIMIT_SIGPENDING, (0, hard))
    try:
        kicker.install()
        kicker.noticed()
        kicker.kick()
        kicker.kick()  # none is needed, as the first was handled
        assert kicker.due is None
    finally:
        resource.setrlimit(resource.RLIMIT_SIGPENDING, (soft, hard))


def test_a_limit_ends_what_takes_too_long(kicker: Kicker) -> None:
    def run_on() -> None:
        with kicker.limit(0):
            kicker.act()
            for _ in range(10**9):
                pass

    with pytest.raises(TookTooLong):
        run_on()
    assert kicker.next_due() is None


def test_an_alarm_that_comes_late_hits_nobody(kicker: Kicker) -> None:
    with kicker.limit(0):
        pass
    kicker.act()
    assert kicker.next_due() is None
    with kicker.limit(3600):
        pass


def test_what_comes_in_a_pause_is_not_ended(kicker: Kicker) -> None:
    with kicker.limit(0) as clock:
        assert clock is not None
        clock.pause()
        kicker.act()
        signal.raise_signal(KICK_SIGNAL)
        clock.go_on()
        clock.pause()
        assert kicker.next_due() is not None
    assert kicker.next_due() is None


def test_a_limit_within_another_ends_nothing(kicker: Kicker) -> None:
    with kicker.limit(3600) as outer, kicker.limit(0) as inner:
        kicker.act()
        assert outer is not None
        assert inner is None
