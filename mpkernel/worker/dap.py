"""pydevd, the core of debugpy, in this process, and the conversation with it in the Debug Adapter Protocol.

It speaks the protocol itself, so debugpy's adapter, a process of its own that listens on a TCP port, isn't needed: the
two ends of a socket pair are all. Nobody else on the machine can connect.

https://microsoft.github.io/debug-adapter-protocol/specification
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import json
import os
import socket
import sys
import threading
import types
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from typing import Any

from mpkernel.wire import Json
from mpkernel.worker.threads import leave_alone

# What pydevd has a stopped thread do. It never answers if that goes on first.
IN_STOPPED_THREAD = frozenset(
    (
        *("stackTrace", "variables", "evaluate", "setVariable", "setExpression"),
        *("completions", "exceptionInfo", "stepInTargets", "goto"),
    )
)
# It never answers "continue", either, if nothing is stopped.
GO_ON = frozenset(("continue", "next", "stepIn", "stepOut"))
NO_STEP = -1  # pydevd's word


class DebuggerUnavailable(Exception):
    """There is no debugpy, or it doesn't start."""


class Pydevd:
    """All of it belongs to one asyncio loop, in a thread of the kernel's own.

    `on_going_on` is called in a thread of the user's, before it goes on after it was stopped; it may raise.
    """

    def __init__(self, on_event: Callable[[Json], None], on_going_on: Callable[[], None]) -> None:
        self._on_event = on_event
        self._on_going_on = on_going_on
        self._seqs = itertools.count(1)
        self._pending: dict[int, tuple[str, asyncio.Future[Json]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._commands: frozenset[str] = frozenset()
        self._tasks: list[asyncio.Task[None]] = []

    async def connect(self) -> None:
        """Import and start pydevd, once. Raises DebuggerUnavailable."""
        if self._writer is not None:
            return
        self._loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        try:
            self._commands = _start(theirs, self._on_going_on, self._failed)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._tasks.append(asyncio.create_task(self._read(reader)))

    def knows(self, command: str) -> bool:
        """Whether pydevd would answer `command`. (It is silent to others.)"""
        return command.lower() in self._commands

    async def request(self, command: str, arguments: Json | None = None) -> Json:
        """Send a request, and wait for its response."""
        assert self._writer is not None
        seq = next(self._seqs)
        future = asyncio.get_running_loop().create_future()
        self._pending[seq] = command, future
        message = {"type": "request", "seq": seq, "command": command, "arguments": arguments or {}}
        body = json.dumps(message).encode()
        self._writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        try:
            response: Json = await future
            return response
        finally:
            self._pending.pop(seq, None)

    def give_up(self, why: str, commands: Container[str]) -> None:
        """Answer with a failure what pydevd won't answer any more."""
        for command, future in self._pending.values():
            if command in commands and not future.done():
                future.set_result({"success": False, "message": why})

    def _failed(self, seq: int, why: str) -> None:
        """In pydevd's thread that reads requests: one of them can't be done."""
        failure = {"type": "response", "request_seq": seq, "success": False, "message": why}
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._answered, failure)

    def _answered(self, response: Json) -> None:
        _, future = self._pending.get(response["request_seq"], (None, None))
        if future is not None and not future.done():
            future.set_result(response)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                message = json.loads(await reader.readexactly(int(head.partition(b":")[2])))
            except (asyncio.IncompleteReadError, OSError):
                self.give_up("the debugger has ended", {command for command, _ in self._pending.values()})
                return
            message.pop("pydevd_cmd_id", None)
            if message["type"] == "event":
                self._on_event(message)
            elif message["type"] == "response":
                self._answered(message)


def _start(
    connection: socket.socket, on_going_on: Callable[[], None], on_failure: Callable[[int, str], None]
) -> frozenset[str]:
    """Have pydevd listen to `connection`; returns the requests that it knows."""
    pydevd = import_pydevd()
    from _pydevd_bundle import pydevd_constants, pydevd_defaults, pydevd_vm_type
    from _pydevd_bundle.pydevd_process_net_command_json import PyDevJsonCommandProcessor
    from IPython.core.history import HistorySavingThread

    leave_alone(HistorySavingThread)
    if pydevd.get_global_debugger() is not None:
        raise DebuggerUnavailable("code in this kernel has started debugpy itself: there can be one debugger only")
    pydevd_defaults.PydevdCustomization.DEFAULT_PROTOCOL = pydevd_constants.HTTP_JSON_PROTOCOL

    class Debugger(pydevd.PyDB):  # type: ignore[misc,name-defined]
        def do_wait_suspend(self, *args: Any, **kwargs: Any) -> Any:
            result = super().do_wait_suspend(*args, **kwargs)
            on_going_on()
            return result

    debugger = Debugger()
    atexit.unregister(pydevd.stoptrace)  # waits for half a second until its threads have ended
    pydevd_vm_type.setup_type()
    pydevd.SetupHolder.setup = {
        "client": "127.0.0.1",  # as the port, never used: there is a connection
        "port": 0,
        "server": False,
        "multiprocess": False,
        "skip-notify-stdin": True,
        pydevd_constants.ARGUMENT_PPID: 0,
    }
    debugger.initialize_network(connection, terminate_on_socket_close=False)
    process = debugger.reader.process_net_command_json

    def process_or_refuse(debugger: Any, content: bytes) -> None:
        """pydevd would stop listening at the first request with arguments that it doesn't expect."""
        try:
            process(debugger, content)
        except Exception as error:
            on_failure(json.loads(content)["seq"], f"{type(error).__name__}: {error}")

    debugger.reader.process_net_command_json = process_or_refuse
    debugger.ready_to_run = True
    debugger.start_auxiliary_daemon_threads()
    debugger.check_alive_thread.do_kill_pydev_thread()  # ends the session with the user's threads; holds an exit up
    os.register_at_fork(after_in_child=stop_tracing)
    handlers = (name for name in dir(PyDevJsonCommandProcessor) if name.startswith("on_"))
    return frozenset(name.removeprefix("on_").removesuffix("_request") for name in handlers)


def import_pydevd() -> Any:
    """Import pydevd as debugpy has it: 0.1 s, 10 MB. Raises DebuggerUnavailable."""
    breakpointhook = sys.breakpointhook  # pydevd has its own, which does nothing unless somebody is attached
    # Else pydevd warns, on the notebook's stderr, that it can't stop in the few modules that are frozen into Python.
    validate = os.environ.get("PYDEVD_DISABLE_FILE_VALIDATION")
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = validate or "1"
    try:
        import debugpy.server  # noqa: F401  # makes its pydevd known
        import pydevd
    except ImportError as error:
        raise DebuggerUnavailable(f"debugpy can't be imported ({error}); try 'pip install debugpy'") from error
    finally:
        if validate is None:
            del os.environ["PYDEVD_DISABLE_FILE_VALIDATION"]
        sys.breakpointhook = breakpointhook
    return pydevd


def trace_all_threads() -> None:
    """From now on breakpoints are looked for, in threads that are there and in new ones."""
    import pydevd

    pydevd.settrace(suspend=False, notify_stdin=False)
    debugger = pydevd.get_global_debugger()
    debugger.set_tracing_for_untraced_contexts()


@contextmanager
def statement(*, stepping: bool) -> Iterator[Callable[[], bool]]:
    """A statement of a cell runs in here. Yields a function that says, at its end, whether to step into the next one.

    The kernel's own work between two statements isn't to be stepped through, whatever it imports there.
    """
    import pydevd
    from _pydevd_bundle import pydevd_comm_constants as commands
    from _pydevd_bundle.pydevd_additional_thread_info import set_additional_thread_info

    def set_step(command: int) -> None:
        info.pydev_original_step_cmd = info.pydev_step_cmd = command
        info.pydev_step_stop = None
        info.update_stepping_info()

    # Here, too, as code may have set another trace function, or it couldn't be set from outside.
    pydevd.settrace(suspend=False, trace_only_current_thread=True, notify_stdin=False)
    info = set_additional_thread_info(threading.current_thread())
    if stepping:
        mine_only = pydevd.get_global_debugger().get_use_libraries_filter()
        set_step(commands.CMD_STEP_INTO_MY_CODE if mine_only else commands.CMD_STEP_INTO)
    stepped = False
    try:
        yield lambda: stepped
    finally:
        stepped = info.pydev_step_cmd != NO_STEP
        if stepped:
            set_step(NO_STEP)


def stop_at_breakpoint_calls() -> None:
    """From now on ``breakpoint()`` is one for the debugger, unless the user wants it to be something else."""
    if sys.breakpointhook is sys.__breakpointhook__ and "PYTHONBREAKPOINT" not in os.environ:
        sys.breakpointhook = _stop_here


def ignore_breakpoint_calls() -> None:
    """``breakpoint()`` is what it was before."""
    if sys.breakpointhook is _stop_here:
        sys.breakpointhook = sys.__breakpointhook__


def _stop_here(*_args: Any, **_kwargs: Any) -> None:
    import pydevd

    caller = sys._getframe(1)
    pydevd.settrace(suspend=True, trace_only_current_thread=True, stop_at_frame=caller, notify_stdin=False)


def waits(frame: types.FrameType | None) -> bool:
    """Whether a thread whose current frame this is stands at a breakpoint, and evaluates nothing there."""
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith(("pydevd", "_pydevd_")):
            return module == "pydevd"  # it waits in there; expressions are evaluated in other modules
        frame = frame.f_back
    return False


def stop_tracing() -> None:
    """In this process, for good: in a child that was forked there is nobody to let a stopped thread go on."""
    if hasattr(sys, "monitoring") and sys.monitoring.get_tool(sys.monitoring.DEBUGGER_ID):
        sys.monitoring.set_events(sys.monitoring.DEBUGGER_ID, 0)
    threading.settrace(None)
    sys.settrace(None)
