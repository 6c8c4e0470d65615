"""What a worker does with requests: `get_ipython().kernel`.

Requests of the ordered lane are run here, in the main thread, one at a time (the broker sends the next one after the
reply). Each is a task on an event loop that never stops, in one context: background tasks go on between cells, context
variables persist.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import contextvars
import getpass
import json
import logging
import os
import sys
import threading
import traceback
import types
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

from mpkernel import messages
from mpkernel.errors import BadMessage, Killed
from mpkernel.namespace.pickling import Pickling
from mpkernel.namespace.segments import choose
from mpkernel.namespace.sync import NamespaceSync
from mpkernel.settings import WorkerSettings
from mpkernel.wire import Codec, Json, Message, Signer, _utc_now, iopub_topic
from mpkernel.worker import figures, side_requests
from mpkernel.worker.api import LibraryAPI, request_of
from mpkernel.worker.callbacks import Callbacks
from mpkernel.worker.cellfiles import CellFiles
from mpkernel.worker.comms import Comms
from mpkernel.worker.debugger import Debugger
from mpkernel.worker.inputs import Inputs
from mpkernel.worker.interrupts import Interrupts
from mpkernel.worker.kicker import Kicker
from mpkernel.worker.lanes import WorkerLanes
from mpkernel.worker.parents import Parents
from mpkernel.worker.service import Service
from mpkernel.worker.shell import ZMQInteractiveShell, text_of
from mpkernel.worker.streams import Streams
from mpkernel.worker.threads import is_users
from mpkernel.worker.wrapped import Wrapped

if TYPE_CHECKING:
    from IPython.core.interactiveshell import ExecutionResult

# Between cells, variables that might have changed are looked at for so long, with such pauses (seconds).
SWEEP_SLICE, SWEEP_PAUSE = 0.005, 0.02

# A cell that starts asks so often for what it can reach.
ACQUIRE_ROUNDS = 4

# Large values are copied when no cell has run for so long (seconds).
BACK_UP_AFTER = 0.3

Handler = Callable[[messages.Request, Message], Awaitable[Json | None]]


class WorkerKernel(LibraryAPI):
    """One worker's kernel object: the shell, the loop, and the messages between them."""

    use_experimental_completions = True  # say of what type a completion is

    def __init__(
        self,
        shell: ZMQInteractiveShell,
        settings: WorkerSettings,
        worker: int,
        loop: asyncio.AbstractEventLoop,
        lifeline_fd: int,
    ) -> None:
        self.shell = shell
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
        self.lanes = WorkerLanes(settings, worker, self.codec, self._on_message, lifeline_fd)
        self.interrupts.kicker = self.lanes.kicker = Kicker(self.lanes.wakeup_fd)
        self.streams = Streams(self.lanes, self.parents, settings, worker)
        self.parents.follow_threads()
        self.inputs = Inputs(self.lanes, self.codec, lambda: self._input_parent)
        self.service = Service(self)
        self.interrupts.kicker.make_way = self.service.make_way
        self.comms = Comms(self)
        self.cell_files = CellFiles(settings.directory, settings.broker_pid)
        self.debugger = Debugger(self)
        self.interrupts.first_await = lambda: self.lanes.send(messages.Awaits(self._input_parent[0]))
        self.interrupts.let_go = self.debugger.let_go
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
        pickling = Pickling(shell.user_ns, worker, self.where, self.interrupts.kicker.limit)
        self.sync = NamespaceSync(
            shell.user_ns, pickling, self.lanes.send, self._warn, choose(settings.directory, memfds=settings.memfds)
        )
        self.last_error: Json | None = None
        self.display_failed = False  # a formatter raised while a cell's result was shown
        self.told_to_end = False
        self.running = False
        self._callback_ran = False  # beside the cell
        self._request_task: asyncio.Task[None] | None = None
        self._backing_up: asyncio.TimerHandle | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._main_thread = threading.main_thread()
        # ipyparallel reads it from error replies.
        self._engine_info = {"engine_uuid": settings.session, "engine_id": -1, "method": "execute"}
        self._context = contextvars.copy_context()
        self._input_parent: tuple[int, Json, bool] = (0, {}, False)
        self._handlers: dict[str, Handler] = {
            "execute_request": self._execute,
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
        if isinstance(message, (messages.News, messages.Merge, messages.Acquired)):
            self.sync.put(message)
        if handler := self._in_main.get(type(message)):
            with suppress(RuntimeError):  # the loop is closed: we are on our way out
                self.loop.call_soon_threadsafe(handler, message)
        elif isinstance(message, messages.InputReply):
            self.inputs.answer(message)
        elif isinstance(message, messages.CommRequest):
            self.callbacks.put(message)
        else:
            self.service.put(message)

    def wrap(self, kernel_class: str) -> None:
        """Be a wrapper kernel's worker. `lanes` must be there to take its description."""
        self.wrapped = Wrapped(kernel_class, self)

    def _on_exit(self, message: messages.Exit) -> None:
        if self.wrapped is not None:
            self.wrapped.restart = message.restart
            self.wrapped.told.set()
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

    def _warn(self, text: str) -> None:
        print(f"mpkernel: {text}", file=sys.stderr)

    def _on_request(self, request: messages.Request) -> None:
        task = self.loop.create_task(self._run(request), context=self._context)
        task.add_done_callback(self._has_run)

    def _has_run(self, task: asyncio.Task[None]) -> None:
        """If no reply could be made, end: the broker has one then, and a new process for what comes next."""
        if not task.cancelled() and task.exception() is not None and not self.told_to_end:
            self.log.critical("a request could not be answered, so this process ends: %s", type(task.exception()))
            os._exit(1)

    async def _run(self, request: messages.Request) -> None:
        """One request, from `Started` to `Reply`: whatever happens in between, both are sent."""
        message = message_of(request)
        content: Json | None = None
        self.running = True
        self._request_task = asyncio.current_task()
        with self.interrupts.request():
            self.lanes.send(messages.Started(request.seq))
            try:
                self.parents.set(request_of(message, request.output_parent or message.header))
                content = await self._handlers[message.msg_type](request, message)
            except (BadMessage, KeyboardInterrupt, Killed) as error:
                content = error_content(error)
            except BaseException as error:  # not user code's: that is caught where it runs
                content = error_content(error)
                self._log_failure(f"a {message.msg_type} failed")
        if os.getpid() != self.lanes.pid:  # a child that the cell forked ran on to its end: the kernel is its parent
            sys.stdout.flush()
            os._exit(0)
        self._reply(request, message, content)
        self.running, self._request_task = False, None
        if self.shell.exiting:
            self.lanes.send(messages.Op(0, "shutdown", {}))
        if self.interrupts.terminating:
            self._end()
        elif message.msg_type == "execute_request" and self.wrapped is None:
            self.shell.open_history()

    def _log_failure(self, what: str) -> None:
        """Log the exception that is being handled. It may be a user's, whose own methods fail."""
        try:
            self.log.exception(what)
        except Exception as failure:
            self.log.error("%s, and the traceback can't be shown: %s", what, type(failure).__name__)

    def _reply(self, request: messages.Request, message: Message, content: Json | None) -> None:
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
            reply = message.msg_type.removesuffix("_request") + "_reply"
            blobs = tuple(self.codec.pack(reply, content, parent=message.header_frame, metadata=metadata))
        count, last = self.shell.execution_count - 1, self.interrupts.terminating
        if self.wrapped is not None:
            count = self.wrapped.kernel.execution_count
        background = self._look_at_background()
        self.lanes.send(messages.Reply(request.seq, abort, count, blobs, last, background))

    def _look_at_background(self) -> bool:
        """After a commit: whether it may have left something out. That is looked for from now on."""
        self.sync.background = self._has_background()
        background = self.sync.background or not self.sync.settled
        if background:
            self._sweep_soon()
        else:
            self._back_up_soon()
        return background

    def _sweep_soon(self) -> None:
        if self._sweeping is None:
            self._sweeping = self.loop.call_later(SWEEP_PAUSE, self._sweep)

    def _sweep(self) -> None:
        """Between cells: find what they changed by ways that their end did not look at, or change in the background."""
        self._sweeping = None
        if self.running:
            return  # its end will see to it
        try:
            if self.sync.background and not self._has_background():
                self.sync.background = False  # it has ended, and may have changed anything since the cell
                self.sync.start_over()
            settled = self.sync.sweep(SWEEP_SLICE)
        except Exception:
            self._log_failure("looking for changed variables failed")
            return
        if not settled:
            self._sweep_soon()
        elif not self._has_background():
            self.lanes.send(messages.Settled())
            self._back_up_soon()

    def _back_up_soon(self) -> None:
        if self.sync.holds and self._backing_up is None:
            self._backing_up = self.loop.call_later(BACK_UP_AFTER, self._back_up)

    def _back_up(self) -> None:
        """The user pauses: what is large can be copied now, so that it outlives this process."""
        self._backing_up = None
        if not self.running:  # else at the next pause
            self.service.in_background(self.sync.back_up)

    def _commit(self) -> None:
        try:
            self.sync.commit()
        except BaseException:  # whatever users' objects do when they are looked at, the cell has its reply
            self._log_failure("what the cell changed could not be committed")
        self.streams.drain()

    def _has_background(self) -> bool:
        """Whether threads or tasks of the user's go on, which may change variables."""
        if any(is_users(thread) for thread in threading.enumerate() if thread is not self._main_thread):
            return True
        return self.callbacks.busy or any(task is not self._request_task for task in asyncio.all_tasks(self.loop))

    # --- execute ----------------------------------------------------------------------------------------------------

    async def _execute(self, request: messages.Request, message: Message) -> Json:
        content = message.content()
        code, silent = content.get("code", ""), bool(content.get("silent", False))
        if not isinstance(code, str):
            return {**error_content(TypeError("execute_request: 'code' must be a string")), "execution_count": 0}
        store_history = bool(content.get("store_history", not silent)) and not silent
        self._input_parent = (request.seq, message.header, bool(content.get("allow_stdin", False)))
        if self.wrapped is not None:
            return await self._execute_wrapped(self.wrapped, request, message)
        metadata = {"started": _utc_now(), "dependencies_met": True, "engine": self.codec.session}
        shell = self.shell
        payloads: Any = shell.payload_manager
        payloads.clear_payload()
        self.last_error, self.display_failed = None, False
        shell.displayhook.showing = False  # type: ignore[attr-defined]
        if not silent:
            self.publish("execute_input", {"code": code, "execution_count": shell.execution_count})
        result: Any = await self._run_cell(code, silent, store_history, message, crowded=request.crowded)
        error = result.error_before_exec or result.error_in_exec
        reply: Json = {"status": "ok"}
        shown: Json | None = self.last_error
        failed = error is not None or self.display_failed
        if failed:  # shown already, unless IPython printed it (exception groups)
            reply = dict(shown) if shown is not None else error_content(error, with_traceback=True)
            reply |= {"status": "error", "engine_info": self._engine_info}
        count = result.execution_count if store_history and result.execution_count else shell.execution_count - 1
        reply["execution_count"] = count
        try:
            reply["user_expressions"] = {} if failed else self._user_expressions(content.get("user_expressions"))
        except (KeyboardInterrupt, Killed) as interrupt:  # the cell is done; only this isn't
            reply["user_expressions"] = {"interrupted": error_content(interrupt)}
        reply["payload"] = payloads.read_payload()
        payloads.clear_payload()
        reply["__metadata__"] = {**metadata, "status": reply["status"]}
        reply["__abort__"] = failed and bool(content.get("stop_on_error", True))
        self._input_parent = (0, {}, False)
        return reply

    async def _execute_wrapped(self, wrapped: Wrapped, request: messages.Request, message: Message) -> Json:
        metadata = {"started": _utc_now(), "dependencies_met": True, "engine": self.codec.session}
        reply = await wrapped.execute(request, message)
        reply["__metadata__"] = {**metadata, "status": reply["status"]}
        reply["__abort__"] = reply["status"] == "error" and bool(message.content().get("stop_on_error", True))
        self._input_parent = (0, {}, False)
        self.debugger.end_of_cell()
        return reply

    async def _run_cell(
        self, code: str, silent: bool, store_history: bool, message: Message, *, crowded: bool
    ) -> ExecutionResult:
        shell = self.shell
        metadata = message.metadata()
        options: Json = {
            "store_history": store_history,
            "silent": silent,
            "cell_id": metadata.get("cellId"),
            **({"cell_meta": metadata} if shell.takes_cell_meta else {}),
        }
        preprocessing_error = None
        try:
            with self.interrupts.window():  # input transformers are user code, too
                transformed = shell.transform_cell(code)
                try:
                    self._acquire(transformed, crowded)
                except Exception:  # odd objects of the user's; the cell can do with what is here
                    self._log_failure("the newest values of variables could not be had")
        except BaseException as error:
            frames = error.__traceback__
            transformed, preprocessing_error = code, (type(error), error, frames and frames.tb_next)  # without ours
        if not shell.asyncio_runs_cells and shell.should_run_async(
            code, transformed_cell=transformed, preprocessing_exc_tuple=preprocessing_error
        ):
            with shell.default_sigint():
                sync_result: ExecutionResult = shell.run_cell(code, **options)
                return sync_result
        coroutine = shell.run_cell_async(
            code, transformed_cell=transformed, preprocessing_exc_tuple=preprocessing_error, **options
        )
        try:
            result: ExecutionResult = await self.interrupts.drive(coroutine)
        except BaseException as error:  # an interrupt that hit IPython's own work, or the cell's task was cancelled
            if self.last_error is None or not isinstance(error, Exception):
                shell.showtraceback()  # else IPython failed to store what it has shown
            from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult

            result = ExecutionResult(
                ExecutionInfo(code, store_history, silent, True, options["cell_id"], transformed_cell=transformed)
            )
            result.execution_count = shell.execution_count - 1
            result.error_in_exec = error
        try:
            shell.events.trigger("post_execute")
            if not silent:
                shell.events.trigger("post_run_cell", result)
        except (KeyboardInterrupt, Killed) as error:
            shell.showtraceback()
            result.error_in_exec = error
        return result

    def _acquire(self, transformed: str, crowded: bool) -> None:
        """Before a cell runs: the newest values of what it can reach, from cells that run elsewhere too."""
        if self.sync.awaits_merge:
            self.service.acquire([])  # the answer comes after what is to be merged
        if not self.sync.may_need(crowded=crowded) or (code := compiled(transformed)) is None:
            return
        silent: list[list[str]] = []
        asked: set[str] | None = set()
        for _ in range(ACQUIRE_ROUNDS):  # what comes may name what is to be had, too
            names = self.sync.needs(code, crowded=crowded)
            if asked is None or names == set() or (names is not None and names <= asked):
                break
            silent = self.service.acquire(None if names is None else sorted(names))
            asked = None if names is None else asked | names
        if missing := self.sync.needs(code, crowded=False):
            self._warn(
                f"{', '.join(sorted(missing))} stays in its subshell: there isn't enough memory for a copy here. "
                "%%subshell runs a cell there"
            )
        with self.interrupts.shelter():
            self.sync.before_cell(code)
        for where, running in silent:
            their_code = compiled(self.shell.transform_cell(running))
            if their_code and (stale := self.sync.touched_by_both(code, their_code)):
                self._warn(f"subshell {where} does not answer (in C code?): {stale} as of its last commit")

    def _user_expressions(self, expressions: Any) -> Json:
        if not isinstance(expressions, dict) or not expressions:
            return {}
        with self.interrupts.window():
            return dict(self.shell.user_expressions(expressions))

    # --- the other requests -----------------------------------------------------------------------------------------

    async def _side_request(self, _request: messages.Request, message: Message) -> Json:
        if self.wrapped is not None:
            return await self.wrapped.answer(message)
        if message.msg_type == "complete_request":
            side_requests.import_jedi(self.shell)  # outside of the window: half imported, it would stay broken
        try:
            with self.interrupts.window():
                return self.answer_side_request(message)
        except KeyboardInterrupt as error:
            return error_content(error)

    def answer_side_request(self, message: Message) -> Json:
        """Completion and the like, in the main thread or in the service thread."""
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
        if not self.running:
            self.interrupts.install()
            self.sync.before_cell(None)

    def _run_callback(self, request: messages.CommRequest) -> None:
        """In the main thread or beside it, in a context of its own."""
        message = message_of(request)
        in_main = threading.current_thread() is self._main_thread
        try:
            self.parents.set_here(request_of(message, message.header))
            with figures.apart() if self.running or not in_main else nullcontext(), self.interrupts.callback():
                self.comms.handle(message.msg_type, self.parents.request())
        except KeyboardInterrupt:
            self.shell.showtraceback()
            if in_main:
                self.interrupts.hit_a_callback()
        except BaseException:  # a bad message, or SystemExit
            self.shell.showtraceback()

    def _after_callbacks(self, requests: list[messages.CommRequest]) -> None:
        in_main = threading.current_thread() is self._main_thread
        if in_main and not self.running:
            self._commit()
            background = self._look_at_background()
        else:
            background = True
            if in_main:
                self._callback_ran = True
            else:
                self.loop.call_soon_threadsafe(self._after_callback_in_thread)
        for request in requests:
            self.lanes.send(
                messages.Reply(request.seq, abort=False, execution_count=0, blobs=(), background=background)
            )

    def _after_callback_in_thread(self) -> None:
        """It may have changed any variable."""
        if self.running:
            self._callback_ran = True
        else:
            self.sync.start_over()
            self._sweep_soon()

    # --- for the shell and for libraries ----------------------------------------------------------------------------

    def between_statements(self) -> None:
        """Of a cell: others may see what it has bound so far, and callbacks may run."""
        self.sync.release()
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
    ) -> None:
        """Send a message on iopub, under `parent` (a header) or the request that the calling code belongs to."""
        self.streams.drain()
        blobs = self.codec.pack(
            msg_type,
            content,
            parent=self.parents.get() if parent is None else parent,
            metadata=metadata,
            buffers=[bytes(buffer) for buffer in buffers or ()],
            idents=[topic or iopub_topic(self.settings.kernel_id, msg_type)],
        )
        self.lanes.send(messages.IOPub(comm, tuple(blobs)))


def message_of(request: messages.Request | messages.SideRequest | messages.CommRequest) -> Message:
    """The Jupyter message that `request` carries; the broker has checked it."""
    n = request.n_idents
    header = json.loads(request.blobs[n])
    return Message(request.blobs[:n], header, request.blobs[n:])


def compiled(cell: str) -> types.CodeType | None:
    """The code of a cell that IPython has transformed; None if it has a syntax error."""
    try:
        code: types.CodeType = compile(cell, "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        return code
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def error_content(error: BaseException, *, with_traceback: bool = False) -> Json:
    """An error reply's content."""
    name, text = type(error).__name__, text_of(error)
    lines = traceback.format_exception(error) if with_traceback else [f"{name}: {text}"]
    return {"status": "error", "ename": name, "evalue": text, "traceback": lines}
