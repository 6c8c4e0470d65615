"""Programs that a cell runs: all that they write is shown."""

from __future__ import annotations

from typing import Any

import pytest

from mpkernel.worker.commands import read_to_the_end

pytest.importorskip("pexpect")


def test_what_a_program_writes_just_before_it_ends_is_read() -> None:
    """It does so between the two looks of which the first finds no output, and the second no program."""
    program: Any = read_to_the_end()("/bin/sh", ["-c", "read line; echo late; exit 3"], echo=False)
    is_alive, looks = program.isalive, []

    def look() -> bool:
        looks.append(1)
        if len(looks) == 2:
            program.sendline("go")
            program.ptyproc.wait()
            program.terminated = True
            return False
        return bool(is_alive())

    program.isalive = look
    assert program.read_nonblocking(100, timeout=0.05) == b"late\r\n"
    assert len(looks) == 2
    program.isalive = is_alive
    import pexpect

    with pytest.raises(pexpect.EOF):
        program.read_nonblocking(100, timeout=0.05)
    program.close()
    assert program.exitstatus == 3
