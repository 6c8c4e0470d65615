"""What a worker does with requests: `get_ipython().kernel`.

Requests of the ordered lane are run here, in the main thread, one at a time (the broker sends the next one after the
reply). Each is a task on an event loop that never stops, in one context: background tasks go on between cells, context
variables persist.
"""

from __future__ import annotations

import asyncio
import builtins
import getpass
import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from mpkernel import messages
from mpkernel.errors import BadMessage, Killed
from mpkernel.loading_note import LoadingNote
from mpkernel.namespace.pickling import Pickling
from mpkernel.namespace.segments import choose
from mpkernel.namespace.sync import NamespaceSync
from mpkernel.settings import WorkerSettings
from mpkernel.wire import Codec, Json, Message, Signer, iopub_topic, loads
from mpkernel.worker import figures, listeners, side_requests
from mpkernel.worker.api import LibraryAPI, request_of
from mpkernel.worker.background import Background
from mpkernel.worker.callbacks import Callbacks
from mpkernel.worker.cellfiles import CellFiles
from mpkernel.worker.cells import Cells, error_content
from mpkernel.worker.comms import Comms
from mpkernel.worker.debugger import Debugger
from mpkernel.worker.inputs import Inputs
from mpkernel.worker.interrupts import Interrupts
from mpkernel.worker.kicker import Kicker
from mpkernel.worker.lanes import WorkerLanes
from mpkernel.worker.parents import SILENT, Parents, as_request
from mpkernel.worker.service import Service
from mpkernel.worker.streams import Streams
from mpkernel.worker.template import Template
from mpkernel.worker.wrapped import Wrapped

# The exit code of a worker that a cell has broken (sysexits.h: EX_SOFTWARE).
BROKEN = 70

Handler = Callable[[messages.Request, Message], Awaitable[Json | None]]


class WorkerKernel(LibraryAPI):
    """One worker's kernel object: the shell, the loop, and the messages between them."""

    use_experimental_completions = True  # say of what type a completion is

    def __init__(
        self,
        template: Template,
        settings: WorkerSettings,
        worker: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.shell = shell = template.shell
        self.loop = loop
        self.log = logging.getLogger("mpkernel.worker")
        self.subshell_id: str | None = None
        self.subshell_name: str | None = None
        self.settings = settings
        self.parents = Parents()
        self.interrupts = Interrupts(loop, self._end)
        self.codec = Codec(
            Signer(settings.key, settings.signature_scheme),
            session=settings.session,
            username=settings.username,
            origin=f"w{worker}",
        )
        self.lanes = WorkerLanes(settings, worker, self.codec, self._on_message)
        self.interrupts.kicker = self.lanes.kicker = Kicker(self.lanes.wakeup_fd)
        self.lanes.later = shell.save_history
        self.streams = Streams(self.lanes, self.parents, settings, worker, self.wait_for_readers)
        self.parents.follow_threads()
        self.inputs = Inputs(self.lanes, self.codec, lambda: self.cells.input_parent)
        self.cells = Cells(self)
        self.background = Background(self)
        self.service = Service(self)
        self.interrupts.kicker.make_way = self.service.make_way
        self.comms = Comms(self)
        self.cell_files = CellFiles(settings.directory, settings.broker_pid)
        self.debugger = Debugger(self)
        self.interrupts.first_await = lambda: self.lanes.send(messages.Awaits(self.cells.input_parent[0]))
        self.interrupts.let_go = self.debugger.let_go
        self._context = template.context
        self.callbacks = Callbacks(
            loop,
            begin=self._before_callbacks,
            handle=lambda request: self._context.copy().run(self._run_callback, request),
            answer=self._after_callbacks,
            main_is_free=lambda: self.interrupts.suspended or not self.running,
            in_thread=settings.comms_while_busy in ("thread", "always"),
            always_in_thread=settings.comms_while_busy == "always",
        )
        self.interrupts.interrupt_callback = self.callbacks.interrupt
        self.interrupts.interrupt_look = self.service.looks.interrupt
        service = self.service
        pickling = Pickling(
            shell.user_ns,
            worker,
            self.where,
            self.interrupts.kicker.limit,
            service.is_alive,
            service.call,
            self.parents.silent,
        )
        self.sync = NamespaceSync(
            shell.user_ns,
            pickling,
            self.lanes.send,
            self.warn,
            choose(settings.directory, memfds=settings.memfds),
            template.state,
        )
        self.sync.note_loading(LoadingNote(settings.loading_file(worker)).write)
        self.sync.calls_back = lambda: self.comms.are_awaited or self.debugger.attached or listeners.are_set(shell)
        self.interrupts.awaited = lambda: self.sync.has_to_merge
        self.told_to_end = False
        self.running = False
        self._answered: int | None = None  # the last request that was
        self._callback_ran = False  # beside the cell
        self.request_task: asyncio.Task[None] | None = None
        self._main_thread = threading.main_thread()
        self._handlers: dict[str, Handler] = {
            "execute_request": self.cells.execute,
            **dict.fromkeys(side_requests.ANSWERS, self._side_request),
        }
        self.wrapped: Wrapped | None = None
        self._in_main: dict[type, Callable[[Any], None]] = {
            messages.Request: self._on_request,
            messages.News: self._on_versions,
            messages.Merge: self._on_versions,
            messages.Assign: self._on_assign,
            messages.Exit: self._on_exit,
        }
        builtins.input = self.inputs.input
        getpass.getpass = self.inputs.getpass
        shell.attach(self)
        shell.parent.kernel = self  # type: ignore[union-attr]

    def where(self) -> str:
        """How people call this subshell."""
        return self.subshell_name or self.subshell_id or "main"

    # --- messages from the broker -----------------------------------------------------------------------------------

    def _on_message(self, message: messages.LaneMessage) -> None:
        """In the IO thread."""
        self.sync.put_off()
        if isinstance(message, messages.Exit) and self.wrapped is not None:
            self.wrapped.tell(restart=message.restart)  # at once: SIGTERM may have stopped the loop
        if isinstance(message, (messages.News, messages.Merge, messages.Acquired)):
            self.sync.put(message)
        if handler := self._in_main.get(type(message)):
            try:
                self.loop.call_soon_threadsafe(handler, message)
            except RuntimeError as error:
                if not self.told_to_end:  # a cell has closed the loop
                    self.die(error)
        elif isinstance(message, messages.InputReply):
            self.inputs.answer(message)
        elif isinstance(message, messages.CommRequest):
            self.callbacks.put(message)
        else:
            self.service.put(message)

    def wrap(self, kernel_class: str) -> None:
        """Be a wrapper kernel's worker. `lanes` must be there to take its description."""
        self.wrapped = Wrapped(kernel_class, self)

    def _on_exit(self, _message: messages.Exit) -> None:
        self._end()

    def _end(self) -> None:
        self.told_to_end = True
        self.loop.stop()

    def _on_assign(self, message: messages.Assign) -> None:
        self.subshell_id, self.subshell_name = message.subshell, message.name
        self.sync.mode = message.mode
        for code in message.everywhere:
            self.shell.run_cell(code, store_history=False, silent=True)
        self.sync.startup_done()
        if self.wrapped is not None:
            self.wrapped.kernel.execution_count = message.execution_count
        self.shell.skip_prompts(message.execution_count)

    def _on_versions(self, _message: messages.News | messages.Merge) -> None:
        if not self.running:  # else at the cell's end: its names don't change while it runs
            self.sync.take()

    def warn(self, text: str) -> None:
        print(f"mpkernel: {text}", file=sys.stderr)

    def _on_request(self, request: messages.Request) -> None:
        # Not by `create_task`: a task factory of the user's may do anything.
        task = asyncio.Task(self._run(request), loop=self.loop, context=self._context)
        task.add_done_callback(lambda task: self._end_if_broken(request, task))

    def _end_if_broken(self, request: messages.Request, task: asyncio.Task[None]) -> None:
        """A request that cannot even be answered: a cell broke what we are made of. A new process is sound."""
        error = None if task.cancelled() else task.exception()  # a cell may have cancelled all tasks, its own too
        if self._answered == request.seq:
            if error is not None:
                self.log.error("after a request: %r", error, exc_info=error)
        elif not self.told_to_end:
            self.die(error)

    def die(self, error: BaseException | None) -> None:
        """End at once, as what is left of this process can't be relied on; the broker answers what it had to do."""
        with suppress(BaseException):
            self.log.critical("this process can't go on, its own parts are broken: %r", error, exc_info=error)
        os._exit(BROKEN)

    async def _run(self, request: messages.Request) -> None:
        """One request, from `Started` to `Reply`: whatever happens in between, both are sent."""
        message = message_of(request)
        content: Json | None = None
        self.running = True
        self.request_task = asyncio.current_task()
        with self.interrupts.request() as missed:
            self.lanes.send(messages.Started(request.seq, missed), soon=True)
            try:
                self.parents.set(request_of(message, request.output_parent or message.header))
                content = await self._handlers[message.msg_type](request, message)
            except (BadMessage, KeyboardInterrupt, Killed) as error:
                content = error_content(error)
            except BaseException as error:  # not user code's: that is caught where it runs
                content = error_content(error)
                self.log.exception("a %s failed", message.msg_type)
        if self.lanes.forked:  # a child of the cell's ran on to its end: the kernel is its parent
            sys.stdout.flush()
            os._exit(0)
        _free_log()
        reply = self._reply(request, message, content)
        self.running, self.request_task = False, None  # before anybody can know
        self.lanes.send(reply)
        self._answered = request.seq
        if self.shell.exiting:
            self.lanes.send(messages.Op(0, "shutdown", {}))
        if self.interrupts.terminating:
            self._end()
        elif message.msg_type == "execute_request" and self.wrapped is None:
            self.shell.open_history()

    def _reply(self, request: messages.Request, message: Message, content: Json | None) -> messages.Reply:
        """What is left to do at the end of a request, and the message that says that it is over."""
        self.streams.drain()
        blobs: tuple[bytes, ...] = ()
        metadata: Json = {}
        abort = False
        if message.msg_type == "execute_request" and content is not None:
            abort = content.pop("__abort__", False)
            metadata = content.pop("__metadata__", {})
        if message.msg_type not in side_requests.ANSWERS:
            self._commit()
        if self._callback_ran:
            self._callback_ran = False
            self.sync.start_over()
        if message.msg_type.endswith("_request") and content is not None:
            blobs = self.pack_reply(message, content, metadata)
        count, last = self.shell.execution_count - 1, self.interrupts.terminating
        if self.wrapped is not None:
            count = self.wrapped.kernel.execution_count
        background = self.background.look()
        return messages.Reply(request.seq, abort, count, blobs, last, background)

    def pack_reply(self, message: Message, content: Json, metadata: Json | None = None) -> tuple[bytes, ...]:
        """The frames of the reply to `message`; of an error if users' objects in `content` have no JSON form."""
        reply, parent = message.msg_type.removesuffix("_request") + "_reply", message.header_frame
        try:
            return tuple(self.codec.pack(reply, content, parent=parent, metadata=metadata))
        except Exception as error:
            self.log.info("a %s can't be sent", reply, exc_info=True)
            return tuple(self.codec.pack(reply, error_content(error), parent=parent, metadata=metadata))

    def _commit(self) -> None:
        try:
            self.sync.commit()
            if self.interrupts.terminating:  # the last chance to merge what others were faster with
                self.service.acquire([])  # the answer comes after that
        except BaseException:  # whatever users' objects do when they are looked at, the cell has its reply
            self.log.exception("what the cell changed could not be committed")
        self.streams.drain()

    # --- the other requests -----------------------------------------------------------------------------------------

    async def _side_request(self, _request: messages.Request, message: Message) -> Json:
        if self.wrapped is not None:
            return await self.wrapped.answer(message)
        if message.msg_type == "complete_request":
            side_requests.import_jedi(self.shell)  # outside of the window: half imported, it would stay broken
        try:
            with self.interrupts.window():
                if waiting := self.sync.waiting_in(str(message.content().get("code", ""))):
                    self.service.acquire(sorted(waiting))
                return self.answer_side_request(message)
        except KeyboardInterrupt as error:
            return error_content(error)

    def answer_side_request(self, message: Message) -> Json:
        """Completion and the like, in the main thread or in one beside it."""
        try:
            return side_requests.ANSWERS[message.msg_type](self.shell, message.content())
        except Exception as error:
            return error_content(error)

    # --- callbacks of comms: see `Callbacks` ------------------------------------------------------------------------

    def publish_names(self) -> None:
        """Between two statements of a cell: others may see what it has bound so far."""
        with self.interrupts.shelter():  # user code may have called `run_cell`
            self.sync.release()

    def _before_callbacks(self) -> None:
        if self.running:
            self._prepare_for_callback()
        else:
            self.interrupts.install()
            self.sync.before_cell(None)

    def _prepare_for_callback(self) -> None:
        """Beside a cell it may change what has come from elsewhere since that began."""
        try:
            self.sync.prepare()
        except Exception:
            self.log.exception("what a callback changes may not be found")

    @contextmanager
    def _as_callback(self, request: Json) -> Iterator[None]:
        """In the main thread or beside it: what it puts out belongs to `request`."""
        in_main = threading.current_thread() is self._main_thread
        if not in_main:
            self._prepare_for_callback()
        self.parents.set_here(request)
        with figures.apart() if self.running or not in_main else nullcontext(), self.interrupts.callback():
            yield

    def _run_callback(self, request: messages.CommRequest) -> None:
        """In a context of its own."""
        message = message_of(request)
        try:
            with self._as_callback(request_of(message, message.header)):
                self.comms.handle(message.msg_type, self.parents.request())
        except KeyboardInterrupt:
            self.shell.showtraceback()
            if threading.current_thread() is self._main_thread:
                self.interrupts.hit_a_callback()
        except BaseException:  # a bad message, or SystemExit
            self.shell.showtraceback()

    def _after_callbacks(self, requests: list[messages.CommRequest]) -> None:
        background = self._after_callback()
        for request in requests:
            self.lanes.send(
                messages.Reply(request.seq, abort=False, execution_count=0, blobs=(), background=background)
            )

    def _after_callback(self) -> bool:
        """What it changed is committed, if no cell runs. Returns whether other code ran beside it, or goes on."""
        in_main = threading.current_thread() is self._main_thread
        if in_main and not self.running:
            self._commit()
            return self.background.look()
        if in_main:
            self._callback_ran = True
        else:
            self.loop.call_soon_threadsafe(self._after_callback_in_thread)
        return True

    def call_here(self, call: Callable[[], None], parent: Json) -> bool:
        """As a callback, for a cell of another subshell, to whose request (a header) the output belongs.

        In the main thread if that is idle, or in another. Returns whether other code ran beside it, or goes on.
        """

        def run() -> None:
            with self._as_callback(as_request(parent)):
                call()

        if threading.current_thread() is self._main_thread:
            self._before_callbacks()
        self._context.copy().run(run)
        return self._after_callback()

    def _after_callback_in_thread(self) -> None:
        """It may have changed any variable."""
        if self.running:
            self._callback_ran = True
        else:
            self.sync.start_over()
            self.background.sweep_soon()

    # --- for the shell and for libraries ----------------------------------------------------------------------------

    def between_statements(self) -> None:
        """Of a cell: others may see what it has bound so far, and callbacks may run."""
        self.publish_names()
        self.callbacks.take()

    def publish(
        self,
        msg_type: str,
        content: Json,
        *,
        metadata: Json | None = None,
        buffers: Sequence[Any] | None = None,
        topic: bytes | None = None,
        comm: list[str] | None = None,
        parent: Json | None = None,
        soon: bool = False,
    ) -> None:
        """Send a message on iopub, under `parent` (a header) or the request that the calling code belongs to."""
        if self.lanes.forked:
            _print_instead(msg_type, content)
            return
        parent = self.parents.get() if parent is None else parent
        if parent is SILENT["header"]:
            return
        self.streams.drain()
        blobs = self.codec.pack(
            msg_type,
            content,
            parent=parent,
            metadata=metadata,
            buffers=[bytes(buffer) for buffer in buffers or ()],
            idents=[topic or iopub_topic(self.settings.kernel_id, msg_type)],
        )
        self.lanes.send(messages.IOPub(comm, tuple(blobs)), soon=soon)
        self.lanes.pace.count(sum(map(len, blobs)))
        if self.lanes.pace.crowded and msg_type != "error":  # an interrupted cell shows how it ended, and ends
            self.wait_for_readers()

    def wait_for_readers(self) -> None:
        """Front ends are far behind: whoever shows more waits for them, if that can be interrupted."""
        in_io_thread = threading.current_thread() is self.lanes
        is_served = self.lanes.is_alive() and not self.lanes.forked
        if is_served and not in_io_thread and self.interrupts.can_wait():
            self.lanes.pace.wait()


def _print_instead(msg_type: str, content: Json) -> None:
    """In a process that a cell has forked, which can print but send nothing."""
    if msg_type == "error":
        print("\n".join(content["traceback"]), file=sys.stderr)
    elif text := content.get("data", {}).get("text/plain"):
        print(text)


def _free_log() -> None:
    """In the main thread, at the end of a request: an interrupt may have come between taking logging's lock and its
    ``try``. All threads that log, or make an event loop, would wait for it."""
    lock: Any = getattr(logging, "_lock", None)
    while lock is not None and lock._is_owned():
        lock.release()


def message_of(request: messages.Request | messages.SideRequest | messages.CommRequest) -> Message:
    """The Jupyter message that `request` carries; the broker has checked it."""
    n = request.n_idents
    header = loads(request.blobs[n])
    return Message(request.blobs[:n], header, request.blobs[n:])
