"""What a worker needs to know to start: sent to the zygote, which hands them on by fork, or to a spawned process."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpkernel.wire import Signer

# Before the settings, on the zygote's socket: how many bytes they are.
SETTINGS_SIZE = struct.Struct("!I")

# The streams whose file descriptors are captured.
STREAMS = {"stdout": 1, "stderr": 2}


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """`config` is a traitlets Config (or a plain dict); `directory` holds the lanes' sockets."""

    directory: Path
    broker_pid: int
    lifeline_fd: int  # read end of a pipe that only the broker can write to: EOF means that it is gone
    lane_key: bytes = field(repr=False)  # signs the lanes; the connection file's key may be empty
    key: bytes = field(repr=False)
    signature_scheme: str
    session: str
    username: str
    connection_file: str
    kernel_id: str = ""
    memfds: bool = True  # else large values travel by files in `directory`
    config: dict[str, Any] = field(default_factory=dict)
    profile: str = "default"
    extra_config_file: str = ""
    log_level: int | str = 30
    log_format: str = "text"
    capture_fds: bool = True
    quiet: bool = True  # else what cells print is written to the worker's own stdout and stderr as well
    kernel_class: str = ""  # of a wrapper kernel: ``module:class``
    debug_just_my_code: bool = False
    filter_internal_frames: bool = True  # debuggers show and step into the user's code and its libraries only
    comms_while_busy: str = "thread"
    user_ns: dict[str, Any] | None = None
    silenced: tuple[int, ...] = ()  # of the kernel's own stdout and stderr
    open_files: int | None = None  # the soft limit that user code is to find; the broker needs more

    def lane(self, worker: int, kind: str) -> str:
        """The ZMQ address of a worker's ``ordered`` or ``service`` lane; the broker binds it."""
        return f"ipc://{self.directory}/{worker}.{kind[0]}"

    def lane_login(self, worker: int, kind: str) -> tuple[bytes, bytes]:
        """User name and password with which a worker connects to its lane: nobody else gets what is sent there."""
        name = f"{worker}.{kind}".encode()
        return name, self.lane_signer().sign([b"login", name])

    def fifo(self, worker: int, fd: int) -> Path:
        """What stands behind a worker's fd 1 or 2. The broker keeps it open, and reads it if the worker dies."""
        return self.directory / f"{worker}.{fd}"

    def dump_file(self, worker: int) -> Path:
        """Where `faulthandler` writes for this worker."""
        return self.directory / f"{worker}.dump"

    def loading_file(self, worker: int) -> Path:
        """Where this worker notes which variable it loads."""
        return self.directory / f"{worker}.loading"

    def lane_signer(self) -> Signer:
        """Signs what goes between broker and workers."""
        return Signer(self.lane_key)
