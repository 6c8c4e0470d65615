"""What the broker says itself: contents of replies and errors."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mpkernel.wire import PROTOCOL_VERSION


def debug_failure(request: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    """`content`, an error or ``aborted``, as the Debug Adapter Protocol has it, too."""
    return {
        "type": "response",
        "request_seq": request.get("seq", 0),
        "success": False,
        "command": request.get("command", ""),
        "message": content.get("evalue", "the process that was to answer this has ended"),
        **content,
    }


def error(exception: BaseException) -> dict[str, Any]:
    """An error reply's content, as front ends show it."""
    name, text = type(exception).__name__, str(exception)
    red, plain = "\x1b[31m", "\x1b[0m"
    notes = [line for note in getattr(exception, "__notes__", ()) for line in note.splitlines()]
    return {
        "status": "error",
        "ename": name,
        "evalue": text,
        "traceback": [f"{red}{name}{plain}: {text}", *notes],
    }


def aborted() -> dict[str, Any]:
    """The content for a request that is not run because one before it failed."""
    return {"status": "aborted"}


def how_it_ended(returncode: int | None, reason: str = "") -> str:
    """``"killed by SIGKILL"`` and the like, from a return code as `subprocess` gives it."""
    if returncode is None:
        return reason or "it could not be started"
    if returncode < 0:
        try:
            name = signal.Signals(-returncode).name
        except ValueError:
            name = f"signal {-returncode}"
        return f"killed by {name}"
    return f"exited with code {returncode}"


def crash_excerpt(dump: str) -> str:
    """Of what `faulthandler` wrote: the error, and the crashing thread down to the cell."""
    lines = dump.splitlines()
    head = next((line for line in lines if line.startswith("Fatal Python error")), "")
    start = next((n for n, line in enumerate(lines) if line.startswith("Current thread")), len(lines))
    frames = []
    for line in lines[start + 1 :]:
        if not line.startswith("  ") or f"IPython{os.sep}core{os.sep}interactiveshell.py" in line:
            break
        frames.append(line)
    return "\n".join([head, *(["most recent call first:"] if frames else []), *frames]).strip()


def death_notice(
    subshell: str,
    pid: int | None,
    how: str,
    cell: str | None,
    kept: list[str],
    lost: list[str],
    older: Sequence[str] = (),
) -> str:
    """What is said to the user whose cell ran in a process that died. `older`: lost names that have an older value."""
    parts = [
        f"the process of subshell {subshell} (pid {pid}) was {how}"
        if how.startswith("killed")
        else f"the process of subshell {subshell} (pid {pid}) {how}"
    ]
    if cell is not None:
        parts.append(f" while it ran {cell[:60]!r}")
    parts.append(". The kernel and its other subshells go on; the next cell here gets a new process. ")
    parts.append(f"{_names(kept)} kept as of the last finished cell" if kept else "No names had been kept yet")
    if lost:
        parts.append(f"; lost, because only that process could have them: {_names(lost)}")
    if older:
        parts.append(f"; there is an older value, which counts again: {', '.join(older[:_MOST])}")
    if how == "killed by SIGKILL":
        parts.append(". SIGKILL often means that memory ran out (see `dmesg`)")
    return "".join(parts) + "."


# So many names are shown.
_MOST = 12


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:_MOST])
    return f"{len(names)} name{'s' * (len(names) != 1)} ({shown}{', …' if len(names) > _MOST else ''})"


@dataclass(frozen=True, slots=True)
class Facts:
    """What does not change while the kernel lives."""

    mpkernel_version: str
    ipython_version: str
    python_version: str
    ports: dict[str, int] = field(default_factory=dict)
    help_links: list[dict[str, str]] = field(default_factory=list)
    features: tuple[str, ...] = ("kernel subshells", "debugger")
    pid: int = 0
    wrapper: bool = False  # the workers say what the language is

    def kernel_info(self) -> dict[str, Any]:
        """Content of a kernel_info_reply."""
        return {
            "status": "ok",
            "protocol_version": PROTOCOL_VERSION,
            "implementation": "mpkernel",
            "implementation_version": self.mpkernel_version,
            "mpkernel_version": self.mpkernel_version,  # says who we are also where a wrapper says what it is
            "language_info": {
                "name": "python",
                "version": self.python_version,
                "mimetype": "text/x-python",
                "codemirror_mode": {"name": "ipython", "version": 3},
                "pygments_lexer": "ipython3",
                "nbconvert_exporter": "python",
                "file_extension": ".py",
            },
            "banner": (
                f"Python {self.python_version}, IPython {self.ipython_version}, mpkernel {self.mpkernel_version}: "
                "every subshell is a process. Type '%subshell' to list them, '?' for help."
            ),
            "help_links": self.help_links,
            "supported_features": list(self.features),
        }

    def connect(self) -> dict[str, Any]:
        """Content of a connect_reply: the ports."""
        return {"status": "ok", **{f"{channel}_port": port for channel, port in self.ports.items()}}
