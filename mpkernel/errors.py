"""Every error that mpkernel raises or reports to a person, so that the whole tree can be seen at once.

A message names the thing, the reason and the next step. The classes whose names appear in a notebook as ``ename``
(`WorkerDied`, `SubshellDeleted`, `Killed`, ...) never derive from `KeyboardInterrupt` or `SystemExit`.
"""

from __future__ import annotations


class MPKernelError(Exception):
    """Base of all errors that mpkernel raises on purpose."""


# --- starting ---------------------------------------------------------------------------------------------------


class StartError(MPKernelError):
    """The kernel can't start; the message is for the person who started it. Exit code 1."""


class UnsupportedPlatform(StartError):
    """mpkernel doesn't run on this operating system."""


class ConnectionFileError(StartError):
    """A connection file is missing, unreadable, incomplete, or asks for what can't be had."""


# --- the wire ---------------------------------------------------------------------------------------------------


class BadMessage(MPKernelError):
    """Frames from a front end that are not a Jupyter message of this kernel. They are logged and dropped."""


class BadSignature(BadMessage):
    """The HMAC signature doesn't match, is missing, or was seen before."""


# --- what becomes of a request ----------------------------------------------------------------------------------


class SubshellNotFound(MPKernelError):
    """A request names a subshell that doesn't exist, or exists no more."""


class SubshellDeleted(MPKernelError):
    """The subshell was deleted while the request ran in it."""


class TooManyRequests(MPKernelError):
    """So much waits for a subshell that no more is taken."""


class NoAnswer(MPKernelError):
    """A process didn't answer in time what needn't wait for the cell that it runs."""


class WorkerDied(MPKernelError):
    """The process of a subshell ended while it ran a request (signal, out of memory, `os._exit`)."""


class WorkerStartFailed(MPKernelError):
    """No worker process could be started for a subshell."""


class Killed(BaseException):
    """Raised in the running cell of a worker that was asked to terminate (SIGTERM)."""

    def __init__(self, text: str = "the process of this subshell was told to end (SIGTERM)") -> None:
        super().__init__(text)


# --- the shared namespace ---------------------------------------------------------------------------------------


class LivesElsewhere(MPKernelError, RuntimeError):
    """A value was used that can't leave the process of another subshell; here is only a stub of it."""


class TookTooLong(BaseException):
    """Raised in code of the user's objects that is run to pickle them, if it takes too long."""


class BadSegment(MPKernelError):
    """A big buffer's memory is not there, not of the size that was announced, or not sealed. It is refused."""


class BadArchive(MPKernelError):
    """A file isn't a saved namespace, not signed with this user's key, cut short, altered, or of another Python."""


class KeyFileError(MPKernelError):
    """The key that signs saved namespaces can't be read or made, or others could have read it."""


# --- the command line and the API in a notebook -------------------------------------------------------------------


class TargetError(MPKernelError):
    """A TARGET of the command line names nothing, or more than one thing. Exit code 2."""


class KernelUnreachable(MPKernelError):
    """A kernel didn't answer on its control channel in time."""


class RequestFailed(MPKernelError):
    """The kernel answered a request of the command line or of the API with an error."""
