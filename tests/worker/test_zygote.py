"""What the zygote does before it has its settings."""

from __future__ import annotations

import socket
from pathlib import Path

from mpkernel.broker.processes import ZygoteConnection
from mpkernel.worker import zygote


def test_a_folder_that_was_about_to_be_made_goes_with_a_broker_that_was_killed(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    connection = ZygoteConnection(ours, 0)
    made, never_made = tmp_path / "made", tmp_path / "never"
    for folder in (never_made, made):
        connection.announce(folder)
    made.mkdir()
    ours.close()
    assert zygote.receive_settings(theirs) is None
    assert list(tmp_path.iterdir()) == []
