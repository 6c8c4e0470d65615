"""The loop around the state machine, with real sockets."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import zmq

from mpkernel.broker.events import FrontendMessage, Interrupted, Subscribed
from mpkernel.broker.loop import BATCH, Loop

PATIENCE = 10_000  # ms
KINDS = {"shell": zmq.ROUTER, "control": zmq.ROUTER, "stdin": zmq.ROUTER, "iopub": zmq.XPUB, "hb": zmq.ROUTER}


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    with zmq.Context() as made:
        yield made
        made.destroy(linger=0)


@pytest.fixture
def machine() -> Mock:
    made = Mock()
    made.handle.return_value = []
    return made


@pytest.fixture
def sockets(context: zmq.Context[Any]) -> dict[str, zmq.Socket[bytes]]:
    return {channel: context.socket(kind) for channel, kind in KINDS.items()}


@pytest.fixture
def loop(
    context: zmq.Context[Any], machine: Mock, sockets: dict[str, zmq.Socket[bytes]], tmp_path: Path
) -> Iterator[Loop]:
    launcher = Mock()
    launcher.fileno.return_value = None
    settings: Any = Mock(directory=tmp_path, memfds=False)
    made = Loop(machine, Mock(), sockets, launcher, settings, context)
    yield made
    made._segments.close()


def events(machine: Mock) -> list[type]:
    return [type(call.args[0]) for call in machine.handle.call_args_list]


def test_a_subscription_counts_before_a_request_that_came_after_it(
    loop: Loop, machine: Mock, sockets: dict[str, zmq.Socket[bytes]], context: zmq.Context[Any]
) -> None:
    sockets["iopub"].set(zmq.XPUB_MANUAL, 1)
    subscriber, client = context.socket(zmq.SUB), context.socket(zmq.DEALER)
    for channel, socket in (("iopub", subscriber), ("shell", client)):
        sockets[channel].bind(f"inproc://{channel}")
        socket.connect(f"inproc://{channel}")
        loop._watch(sockets[channel], lambda: None)
    subscriber.subscribe(b"")
    client.send(b"a request")
    for channel in ("iopub", "shell"):
        assert sockets[channel].poll(PATIENCE)
    loop._turn()
    assert events(machine) == [Subscribed, FrontendMessage]


def test_who_subscribes_without_end_keeps_nobody_waiting(
    loop: Loop, machine: Mock, sockets: dict[str, zmq.Socket[bytes]], context: zmq.Context[Any]
) -> None:
    """Anybody can, without the key."""
    sockets["iopub"].set(zmq.XPUB_MANUAL, 1)
    sockets["iopub"].set_hwm(0)
    stranger, client = context.socket(zmq.XSUB), context.socket(zmq.DEALER)
    stranger.set_hwm(0)
    for channel, socket in (("iopub", stranger), ("shell", client)):
        sockets[channel].bind(f"inproc://{channel}")
        socket.connect(f"inproc://{channel}")
        loop._watch(sockets[channel], lambda: None)
    client.send(b"a request")
    for number in range(5000):
        stranger.send(b"\x01%d" % number)
    for channel in ("iopub", "shell"):
        assert sockets[channel].poll(PATIENCE)
    loop._turn()
    assert FrontendMessage in events(machine)
    assert events(machine).count(Subscribed) <= 2 * BATCH


def test_a_signal_that_comes_while_another_is_acted_on_is_acted_on_soon(loop: Loop, machine: Mock) -> None:
    def another(*_event: Any) -> list[Any]:
        machine.handle.side_effect = None
        os.kill(os.getpid(), signal.SIGINT)
        return []

    machine.handle.side_effect = another
    before = {signum: signal.getsignal(signum) for signum in signal.valid_signals()}
    try:
        with ExitStack() as stack:
            loop._note_signals(stack)
            os.kill(os.getpid(), signal.SIGINT)
            loop._turn()
            assert loop._next_timeout() == 0
            loop._turn()
    finally:
        for signum, handler in before.items():
            if signal.getsignal(signum) is not handler:
                signal.signal(signum, handler)
    assert events(machine) == [Interrupted, Interrupted]
    assert loop._next_timeout() is None
