"""The broker's loop: all its sockets, pids, clocks and file descriptors, in one thread around one poller.

It turns what happens into events for the `Machine` and does what the machine answers. `zmq.Poller` is level-triggered:
what isn't read now is reported again, so nothing gets lost between a send and a read on one socket (ipykernel#1529).
Nothing here waits for a worker. Signal handlers only note; the loop acts.
"""

from __future__ import annotations

import errno
import heapq
import logging
import math
import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

import zmq

from mpkernel import logs, messages
from mpkernel.broker import answers
from mpkernel.broker.events import (
    Acknowledge,
    Action,
    CancelTimer,
    DumpStacks,
    Event,
    FromWorker,
    FrontendMessage,
    Inquire,
    Inquired,
    Interrupted,
    LoadNamespace,
    Log,
    MeasureUsage,
    MemoryShort,
    NamespaceLoaded,
    NamespaceSaved,
    RemoveFile,
    SaveNamespace,
    SegmentsRefused,
    Send,
    SetTimer,
    SignalProcess,
    SignalWorker,
    StacksDumped,
    StartWorker,
    Stop,
    Subscribed,
    TimerFired,
    ToldToStop,
    ToWorker,
    UsageMeasured,
    WorkerGone,
    WorkerLaunched,
)
from mpkernel.broker.holding import crowded, take_segments
from mpkernel.broker.lanes import Lanes
from mpkernel.broker.machine import Machine
from mpkernel.broker.outgoing import LOOK, LOOK_SOON, Outgoing
from mpkernel.broker.processes import (
    ENDING_SIGNALS,
    LAUNCH_FAILED,
    LOOK_AFTER_LAUNCH,
    Launcher,
    has_room_for_files,
    keep_directory,
    reap,
    signal_group,
)
from mpkernel.broker.usage import UsageMeter
from mpkernel.errors import BadMessage
from mpkernel.loading_note import read_note
from mpkernel.namespace.pressure import cap, shortage
from mpkernel.namespace.segments import Segments, choose
from mpkernel.settings import WorkerSettings
from mpkernel.surroundings import refusal
from mpkernel.wire import Codec

if TYPE_CHECKING:
    from mpkernel.broker.filing import Filing
    from mpkernel.broker.recording import Recorder

log = logging.getLogger("mpkernel.broker")

# How many messages are read from one socket before the others get their turn.
BATCH = 256
# A worker has ended but its lane isn't at its end (a child it forked holds the socket open): wait no longer than this.
DRAIN_LIMIT = 0.5
# A worker closes its lane when it ends. If it is still there after so many seconds, a cell did: by `os.execv`, say.
CUT_OFF_LIMIT = 2.0
# Of the broker's; about ten are for good. If they run out while a worker connects, it could never be reached.
FILES_OF_A_WORKER = 24
# Without pidfds: look so often whether the parent is still there.
PARENT_LOOK = 1.0
# If it can't be found out how much memory there is, copies take as much as they need.
_UNLIMITED = 1 << 60
# faulthandler's dump has no end mark: it's complete when the file has been still for this long.
DUMP_STILL, DUMP_LIMIT = 0.05, 2.0


class Loop:
    """Runs a kernel. `sockets` are bound, by channel name. `patience`: seconds for front ends that read nothing."""

    def __init__(
        self,
        machine: Machine,
        codec: Codec,
        sockets: dict[str, zmq.Socket[bytes]],
        launcher: Launcher,
        settings: WorkerSettings,
        context: zmq.Context[Any],
        *,
        parent: int | None = None,
        recorder: Recorder | None = None,
        patience: float = 10.0,
    ) -> None:
        self._machine = machine
        self._codec = codec
        self._sockets = sockets
        self._outgoing = {name: Outgoing(s, name) for name, s in sockets.items() if name != "hb"}
        self._patience = max(1, round(patience / LOOK))  # in looks: they stop with us, when the machine is suspended
        self._launcher = launcher
        self._launcher_fd: int | None = None
        self._settings = settings
        self._poller = zmq.Poller()
        self._handlers: dict[Any, Callable[[], None]] = {}  # by what the poller returns: socket or fd
        self._lanes = Lanes(context, settings, self._watch, self._unwatch)
        self._timers: list[tuple[float, int, tuple[Any, ...], Callable[[], None]]] = []  # heap
        self._timer_of: dict[tuple[Any, ...], int] = {}  # key: the only valid entry's number
        self._timer_count = 0
        self._pids: dict[int, int] = {}  # pid: worker
        self._unclaimed: dict[int, int] = {}  # reaped before the launcher told whose they were
        self._returncodes: dict[int, int] = {}  # workers that ended, whose lane isn't at its end yet
        self._noted: list[int] = []  # signals
        self._usage = UsageMeter()
        transport = choose(settings.directory, memfds=settings.memfds)
        self._segments = Segments(transport)
        self._transport = transport
        self._filing: Filing | None = None  # nothing was saved yet
        self._memory_cap = _found(cap, _UNLIMITED)
        self._running = True
        self._parent = parent
        self._recorder = recorder
        self._log = logs.keep()
        self._do: dict[type, Callable[[Any], None]] = {
            Send: self._send,
            Acknowledge: self._acknowledge,
            ToWorker: lambda a: self._lanes.send(a.worker, a.message, service=a.service),
            StartWorker: self._start_worker,
            SignalWorker: self._signal_worker,
            SignalProcess: self._signal_process,
            SetTimer: lambda a: self._set_timer(a.key, a.delay, lambda: self._event(TimerFired(a.key))),
            CancelTimer: lambda a: self._cancel_timer(a.key),
            MeasureUsage: lambda a: self._event(UsageMeasured(a.token, _or_error(self._usage.measure))),
            DumpStacks: self._dump_stacks,
            SaveNamespace: self._file,
            LoadNamespace: self._file,
            RemoveFile: self._remove_file,
            Inquire: lambda a: self._event(Inquired(a.token, _or_error(lambda: self._find_out(a.what)))),
            Log: lambda a: getattr(log, a.level)(a.text),
            Stop: lambda _: self._stop(),
        }

    # --- running ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until the kernel has stopped and all its workers are gone."""
        with ExitStack() as stack:
            stack.callback(self._segments.close)
            stack.callback(self._close_files)
            stack.callback(self._launcher.close)
            stack.callback(self._lanes.close)
            stack.callback(self._release)
            self._note_signals(stack)
            for channel in ("shell", "control", "stdin"):
                self._watch(self._sockets[channel], lambda channel=channel: self._read_frontend(channel))  # type: ignore[misc]
            self._watch(self._sockets["iopub"], self._read_subscriptions)
            self._watch(self._sockets["hb"], self._beat)
            if self._parent is not None:
                self._watch_parent(self._parent, stack)
            self._act(self._recorded(self._machine.start()))
            zmq.Frame(b"", copy=False)  # pyzmq starts a thread for this, while there are files and threads to be had
            self._reap()  # who ended before the handlers were there
            while self._running:
                self._turn()

    def _turn(self) -> None:
        """Wait for something to happen, and handle all of it.

        Signals first: an interrupt isn't for what came after it. Then front ends, so that an abort finds its queue.
        """
        self._watch_launcher()
        ready = dict(self._poller.poll(self._next_timeout()))
        _guarded("a signal", self._act_on_signals)
        if asked := [channel for channel in ("control", "shell") if self._sockets[channel] in ready]:
            # Who has subscribed before it asked sees what becomes of it.
            _guarded("a subscription", self._read_subscriptions)
        for channel in asked:
            _guarded(f"the {channel} channel", self._read_frontend, channel)
        for source in ready:
            if handler := self._handlers.get(source):
                _guarded("a handler", handler)
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, number, key, callback = heapq.heappop(self._timers)
            if self._timer_of.get(key) == number:
                del self._timer_of[key]
                _guarded(f"the timer {key}", callback)

    def _event(self, event: Event) -> None:
        if log.isEnabledFor(logging.DEBUG):
            log.debug("event %s", event)
        now = time.monotonic()
        if self._recorder is not None:
            self._recorder.event(event, now)
        try:
            actions = self._machine.handle(event, now)
        except Exception:
            log.critical("please report this: an event of type %s failed", type(event).__name__, exc_info=True)
            actions = self._machine.salvage()
        self._act(self._recorded(actions))

    def _recorded(self, actions: list[Action]) -> list[Action]:
        if self._recorder is not None:
            self._recorder.actions(actions)
        return actions

    def _act(self, actions: list[Action]) -> None:
        for action in actions:
            if log.isEnabledFor(logging.DEBUG):
                log.debug("action %s", action)
            _guarded(type(action).__name__, self._do[type(action)], action)

    def _stop(self) -> None:
        self._running = False

    def _find_out(self, what: str) -> dict[str, Any]:
        if what == "logs":
            return {"lines": list(self._log)}
        from mpkernel.broker import condition

        return condition.describe(
            forks=self._launcher.fileno() is not None,
            transport=self._transport,
            segments=self._segments,
            memory_cap=self._memory_cap,
            patience=self._patience * LOOK,
            curve=self._sockets["control"].mechanism == zmq.CURVE,
            watches_parent=self._parent is not None,
            records=self._recorder is not None,
        )

    def _files(self) -> Filing:
        if self._filing is None:
            from mpkernel.broker.filing import Filing  # seldom needed, and not while the kernel starts

            self._filing = filing = Filing(self._segments, self._transport)

            def finished() -> None:
                for event in filing.finished():
                    self._event(event)

            self._watch(filing.fileno(), finished)
        return self._filing

    def _file(self, action: SaveNamespace | LoadNamespace) -> None:
        try:
            self._files().begin(action)
        except Exception as error:
            why = refusal(error) if isinstance(error, OSError) else str(error)
            if not isinstance(error, (OSError, RuntimeError)):  # no files, no thread
                log.critical("please report this: %s failed", type(action).__name__, exc_info=True)
            done = NamespaceSaved if isinstance(action, SaveNamespace) else NamespaceLoaded
            self._event(done(action.token, why))

    def _close_files(self) -> None:
        if self._filing is not None:
            self._filing.close()

    def _remove_file(self, action: RemoveFile) -> None:
        try:
            self._files().remove(action.path)
        except OSError as error:
            log.warning("%s can't be removed: %s", action.path, error.strerror)

    # --- polling and timers -----------------------------------------------------------------------------------------

    def _watch(self, source: Any, handler: Callable[[], None]) -> None:
        self._poller.register(source, zmq.POLLIN)
        self._handlers[source] = handler

    def _unwatch(self, source: Any) -> None:
        if self._handlers.pop(source, None) is not None:
            self._poller.unregister(source)

    def _watch_launcher(self) -> None:
        """A launcher's file descriptor changes when its zygote is started again."""
        fd = self._launcher.fileno()
        if fd != self._launcher_fd:
            if self._launcher_fd is not None:
                self._unwatch(self._launcher_fd)
            if fd is not None:
                self._watch(fd, self._read_launcher)
            self._launcher_fd = fd

    def _next_timeout(self) -> int | None:
        """Milliseconds until the next timer; 0 if a signal has come whose byte in the pipe was read with another's."""
        if self._noted:
            return 0
        if not self._timers:
            return None
        return math.ceil(max(0.0, self._timers[0][0] - time.monotonic()) * 1000)

    def _set_timer(self, key: tuple[Any, ...], delay: float, callback: Callable[[], None]) -> None:
        self._timer_count += 1
        self._timer_of[key] = self._timer_count
        heapq.heappush(self._timers, (time.monotonic() + delay, self._timer_count, key, callback))

    def _cancel_timer(self, key: tuple[Any, ...]) -> None:
        self._timer_of.pop(key, None)

    # --- front ends -------------------------------------------------------------------------------------------------

    def _read_frontend(self, channel: str) -> None:
        socket = self._sockets[channel]
        for _ in range(BATCH):
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                message = self._codec.unpack(frames)
            except BadMessage as error:
                log.warning("a message on the %s channel was dropped: %s", channel, error)
                continue
            self._event(FrontendMessage(channel, message))

    def _read_subscriptions(self) -> None:
        """A subscription counts from here on (XPUB_MANUAL), so the welcome is the first that a front end sees.

        As anybody may subscribe, and have beats answered: not more of them than other messages.
        """
        socket = self._sockets["iopub"]
        with suppress(zmq.Again):
            for _ in range(BATCH):
                frame = socket.recv(zmq.NOBLOCK)
                if frame[:1] == b"\x01":
                    socket.subscribe(frame[1:])
                    self._event(Subscribed(frame[1:]))
                elif frame[:1] == b"\x00":
                    socket.unsubscribe(frame[1:])

    def _beat(self) -> None:
        socket = self._sockets["hb"]
        with suppress(zmq.Again):
            for _ in range(BATCH):
                socket.send_multipart(socket.recv_multipart(zmq.NOBLOCK), zmq.NOBLOCK)

    def _send(self, action: Send) -> None:
        outgoing = self._outgoing[action.channel]
        outgoing.send(action.frames, own=action.own)
        if outgoing.waits and ("outgoing",) not in self._timer_of:
            self._set_timer(("outgoing",), LOOK_SOON, self._look_at_outgoing)

    def _look_at_outgoing(self) -> None:
        again = [outgoing.look(self._patience) for outgoing in self._outgoing.values() if outgoing.waits]
        if any(outgoing.waits for outgoing in self._outgoing.values()):
            self._set_timer(("outgoing",), min(again, default=LOOK_SOON), self._look_at_outgoing)

    def _acknowledge(self, action: Acknowledge) -> None:
        passed = messages.Passed(action.token)
        self._outgoing["iopub"].when_sent(lambda: self._lanes.send(action.worker, passed, service=True))

    def _release(self) -> None:
        for outgoing in self._outgoing.values():
            outgoing.release()

    # --- workers ----------------------------------------------------------------------------------------------------

    def _start_worker(self, action: StartWorker) -> None:
        try:
            if not has_room_for_files(FILES_OF_A_WORKER):
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            keep_directory(self._settings.directory)
            self._lanes.open(action.worker, lambda: self._read_lane(action.worker))
            self._launcher.launch(action.worker)
        except (OSError, zmq.ZMQError) as error:
            why = refusal(error) if isinstance(error, OSError) else str(error)
            self._gone(action.worker, None, why)
            return
        self._set_timer(("launch", action.worker), LOOK_AFTER_LAUNCH, lambda: self._look_after(action.worker))
        self._read_launcher()

    def _look_after(self, worker: int) -> None:
        """A zygote that is stopped, or sockets that somebody tidied up, must not leave requests without an answer."""
        again = self._launcher.look_after(worker)
        if again is None and (pid := self._pid_of(worker)) is not None and not self._lanes.was_accepted(worker):
            again = LOOK_AFTER_LAUNCH
            if not self._lanes.can_be_found(worker):
                log.warning("the sockets for process %d were removed before it had connected", pid)
                signal_group(pid, signal.SIGKILL)
        if again is not None:
            self._set_timer(("launch", worker), again, lambda: self._look_after(worker))

    def _read_launcher(self) -> None:
        for worker, pid in self._launcher.launched():
            if pid < 0:
                error = OSError(-pid, os.strerror(-pid))
                self._gone(worker, None, "see the kernel's log" if pid == LAUNCH_FAILED else refusal(error))
                continue
            self._pids[pid] = worker
            self._event(WorkerLaunched(worker, pid))
            if pid in self._unclaimed:
                self._worker_ended(pid, self._unclaimed.pop(pid))

    def _read_lane(self, worker: int) -> None:
        """Hand on what a worker said; at the end of its lane, if its process has ended, that too."""
        for message in self._lanes.receive(worker, BATCH):
            if isinstance(message, messages.Hello):
                self._read_launcher()  # the launcher spoke before the worker did: now its pid is known
                if self._pids.get(message.pid) != worker:
                    log.error("worker %d says it is process %d, which is not ours: refused", worker, message.pid)
                    continue
                self._lanes.accept(worker, message.pid)
                self._cancel_timer(("launch", worker))
            elif isinstance(message, messages.Logged):
                self._log.append(message.line)
                continue
            elif isinstance(message, messages.Commit):
                if too_many := crowded(message):
                    self._event(MemoryShort(0, too_many))
                answer, refused = take_segments(self._segments, worker, self._pid_of(worker) or 0, message)
                if answer is not None:
                    self._lanes.send(worker, answer, service=True)
                    if refused:
                        self._event(SegmentsRefused(worker, refused))
                    self._event(FromWorker(worker, message))
                    if short := _found(lambda: shortage(self._segments.total, self._memory_cap), 0):
                        self._event(MemoryShort(short))
                    continue
            self._event(FromWorker(worker, message))
        if self._lanes.at_end(worker):
            if worker in self._returncodes:
                self._finish_worker(worker)
            elif ("cut off", worker) not in self._timer_of:
                self._set_timer(("cut off", worker), CUT_OFF_LIMIT, lambda: self._end_cut_off(worker))

    def _end_cut_off(self, worker: int) -> None:
        """A process that has closed its lane, and goes on, could never answer again."""
        if (pid := self._pid_of(worker)) is not None:
            log.warning("process %d has closed its connection to the kernel (did a cell?): it is killed", pid)
            signal_group(pid, signal.SIGKILL)

    def _pid_of(self, worker: int) -> int | None:
        return next((pid for pid, known in self._pids.items() if known == worker), None)

    def _signal_worker(self, action: SignalWorker) -> None:
        if (pid := self._pid_of(action.worker)) is not None:
            signal_group(pid, action.signum)

    def _signal_process(self, action: SignalProcess) -> None:
        if (pid := self._pid_of(action.worker)) is not None:
            os.kill(pid, action.signum)  # not reaped yet, so it's still that one

    def _reap(self) -> None:
        for pid, returncode in reap(self._pids):
            if pid in self._pids:
                self._worker_ended(pid, returncode)
            elif self._launcher.exited(pid):
                log.warning("the zygote (pid %d) ended with %d", pid, returncode)
                self._read_launcher()
            else:
                self._unclaimed[pid] = returncode  # a worker of which we'll hear, or a stray child of one
                while len(self._unclaimed) > BATCH:
                    del self._unclaimed[next(iter(self._unclaimed))]

    def _worker_ended(self, pid: int, returncode: int) -> None:
        worker = self._pids.pop(pid)
        self._launcher.exited(pid)
        self._returncodes[worker] = returncode
        self._read_lane(worker)
        if worker in self._returncodes:
            if self._lanes.was_accepted(worker):
                self._set_timer(("drain", worker), DRAIN_LIMIT, lambda: self._finish_worker(worker))
            else:
                self._finish_worker(worker)

    def _finish_worker(self, worker: int) -> None:
        if worker in self._returncodes:
            self._cancel_timer(("drain", worker))
            self._gone(worker, self._returncodes.pop(worker))

    def _gone(self, worker: int, returncode: int | None, reason: str = "") -> None:
        for key in ("launch", "cut off"):
            self._cancel_timer((key, worker))
        last_words = tuple(self._lanes.last_words(worker))
        self._lanes.shut(worker)
        dump_file = self._settings.dump_file(worker)
        dump = ""
        with suppress(OSError):
            dump = dump_file.read_text(errors="replace") if returncode is not None and returncode < 0 else ""
        dump_file.unlink(missing_ok=True)
        loading = read_note(self._settings.loading_file(worker))
        self._event(WorkerGone(worker, returncode, reason, dump, last_words, loading))

    def _dump_stacks(self, action: DumpStacks) -> None:
        path = self._settings.dump_file(action.worker)
        start = path.stat().st_size if path.exists() else 0
        deadline = time.monotonic() + DUMP_LIMIT
        pid = self._pid_of(action.worker)
        if pid is None or not path.exists():
            self._event(StacksDumped(action.token, "the process is gone\n"))
            return
        os.kill(pid, messages.DUMP_SIGNAL)

        def look(size: int) -> None:
            grown = path.stat().st_size if path.exists() else size
            if (grown == size and grown > start) or time.monotonic() > deadline or not path.exists():
                text = ""
                with suppress(OSError):
                    text = path.read_bytes()[start:].decode(errors="replace")
                self._event(StacksDumped(action.token, text or "the process did not answer (is it stopped?)\n"))
            else:
                self._set_timer(("dump", action.token), DUMP_STILL, lambda: look(grown))

        self._set_timer(("dump", action.token), DUMP_STILL, lambda: look(start))

    # --- signals and the parent -------------------------------------------------------------------------------------

    def _note_signals(self, stack: ExitStack) -> None:
        """Handlers that only note; the byte that Python writes to the pipe wakes the poller."""
        read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
        os.set_blocking(read_end, False)
        os.set_blocking(write_end, False)
        stack.callback(os.close, read_end)
        stack.callback(os.close, write_end)

        def note(signum: int, _frame: FrameType | None) -> None:
            self._noted.append(signum)

        for signum in (signal.SIGINT, signal.SIGCHLD, *ENDING_SIGNALS):
            signal.signal(signum, note)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        stack.callback(signal.set_wakeup_fd, -1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)

        def empty() -> None:
            with suppress(BlockingIOError):
                os.read(read_end, 4096)

        self._watch(read_end, empty)

    def _act_on_signals(self) -> None:
        noted, self._noted = self._noted, []
        for signum in dict.fromkeys(noted):
            if signum == signal.SIGCHLD:
                self._reap()
            elif signum == signal.SIGINT:
                self._event(Interrupted())
            else:
                self._event(ToldToStop(signal.Signals(signum).name))

    def _watch_parent(self, pid: int, stack: ExitStack) -> None:
        """Stop when the process that started the kernel is gone: told by a pidfd, or (macOS) by looking."""
        gone = ToldToStop("the process that started the kernel is gone")
        if os.getppid() != pid:
            self._event(gone)
        elif (fd := _pidfd(pid)) is not None:
            stack.callback(os.close, fd)

            def died() -> None:
                self._unwatch(fd)
                self._event(gone)

            self._watch(fd, died)
        else:
            self._set_timer(("parent",), PARENT_LOOK, lambda: self._watch_parent(pid, stack))


def _guarded(what: str, call: Callable[..., None], *args: Any) -> None:
    """What fails here costs an answer at most: without the broker there's no kernel."""
    try:
        call(*args)
    except Exception:
        log.critical("please report this: %s failed", what, exc_info=True)


def _or_error(look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `look` finds out, or the reply that it can't, as files run out, say."""
    try:
        return look()
    except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for the answer
        return answers.error(error)


def _found(look: Callable[[], int], otherwise: int) -> int:
    """What a look at the system's memory tells, if it can be taken: what fails there must not end the kernel."""
    try:
        return look()
    except (OSError, ImportError, LookupError, ValueError) as error:
        log.warning("it can't be found out how much memory there is: %s", error)
        return otherwise


def _pidfd(pid: int) -> int | None:
    """None where there are none, or a container forbids them."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None
