"""The loop around the state machine, with real sockets."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import zmq

from mpkernel.broker.events import FrontendMessage, Subscribed
from mpkernel.broker.loop import Loop

PATIENCE = 10_000  # ms


def test_a_subscription_counts_before_a_request_that_came_after_it(tmp_path: Path) -> None:
    machine, launcher = Mock(), Mock()
    machine.handle.return_value = []
    launcher.fileno.return_value = None
    settings: Any = Mock(directory=tmp_path, memfds=False)
    with zmq.Context() as context:
        kinds = {"shell": zmq.ROUTER, "control": zmq.ROUTER, "stdin": zmq.ROUTER, "iopub": zmq.XPUB, "hb": zmq.ROUTER}
        sockets = {channel: context.socket(kind) for channel, kind in kinds.items()}
        sockets["iopub"].set(zmq.XPUB_MANUAL, 1)
        loop = Loop(machine, Mock(), sockets, launcher, settings, context)
        with context.socket(zmq.SUB) as subscriber, context.socket(zmq.DEALER) as client:
            for channel, socket in (("iopub", subscriber), ("shell", client)):
                sockets[channel].bind(f"inproc://{channel}")
                socket.connect(f"inproc://{channel}")
                loop._watch(sockets[channel], lambda: None)
            subscriber.subscribe(b"")
            client.send(b"a request")
            for channel in ("iopub", "shell"):
                assert sockets[channel].poll(PATIENCE)
            loop._turn()
        for socket in sockets.values():
            socket.close(0)
    events = [type(call.args[0]) for call in machine.handle.call_args_list]
    assert events == [Subscribed, FrontendMessage]
