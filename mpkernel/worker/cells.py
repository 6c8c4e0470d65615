"""Cells are run: what they need is fetched from elsewhere before, and their reply is made after.

A cell runs on IPython's shell; what it changed is committed by the kernel when its reply is sent.
"""

from __future__ import annotations

import ast
import traceback
import types
from typing import TYPE_CHECKING, Any

from mpkernel import messages
from mpkernel.errors import Killed
from mpkernel.wire import Json, Message, utc_now
from mpkernel.worker.shell import TAKES_CELL_META, text_of

if TYPE_CHECKING:
    from IPython.core.interactiveshell import ExecutionResult

    from mpkernel.worker.kernel import WorkerKernel


class Cells:
    def __init__(self, kernel: WorkerKernel) -> None:
        self._kernel = kernel
        self.input_parent: tuple[int, Json, bool] = (0, {}, False)  # of the cell that runs: seq, header, allow_stdin
        self.last_error: Json | None = None  # as it was shown
        self.display_failed = False  # a formatter raised while a cell's result was shown
        self._running = ""  # the cell that runs, transformed
        # ipyparallel reads it from error replies.
        self._engine_info = {"engine_uuid": kernel.settings.session, "engine_id": -1, "method": "execute"}

    async def execute(self, request: messages.Request, message: Message) -> Json:
        content = message.content()
        code = content.get("code", "")
        if not isinstance(code, str):
            return {**error_content(TypeError("execute_request: 'code' must be a string")), "execution_count": 0}
        kernel = self._kernel
        metadata = {"started": utc_now(), "dependencies_met": True, "engine": kernel.codec.session}
        self.input_parent = (request.seq, message.header, bool(content.get("allow_stdin", False)))
        try:
            if kernel.wrapped is not None:
                reply = await kernel.wrapped.execute(request, message)
            else:
                reply = await self._run_in_shell(code, message, request)
        finally:
            self.input_parent, self._running = (0, {}, False), ""
            kernel.debugger.end_of_cell()
        reply["__metadata__"] = {**metadata, "status": reply["status"]}
        reply["__abort__"] = reply["status"] == "error" and bool(content.get("stop_on_error", True))
        return reply

    async def _run_in_shell(self, code: str, message: Message, request: messages.Request) -> Json:
        content = message.content()
        silent = bool(content.get("silent", False))
        store_history = bool(content.get("store_history", not silent)) and not silent
        shell = self._kernel.shell
        payloads: Any = shell.payload_manager
        payloads.clear_payload()
        self.last_error, self.display_failed = None, False
        shell.displayhook.showing = False  # type: ignore[attr-defined]
        shell.displayhook.logs = store_history  # type: ignore[attr-defined]
        if not silent:
            shown_input = {"code": code, "execution_count": shell.execution_count}
            self._kernel.publish("execute_input", shown_input, soon=True)
        result: Any = await self._run(code, silent, store_history, message, request)
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
        return reply

    async def _run(
        self, code: str, silent: bool, store_history: bool, message: Message, request: messages.Request
    ) -> ExecutionResult:
        shell = self._kernel.shell
        metadata = message.metadata()
        options: Json = {
            "store_history": store_history,
            "silent": silent,
            "cell_id": metadata.get("cellId"),
            **({"cell_meta": metadata} if TAKES_CELL_META else {}),
        }
        preprocessing_error = None
        try:
            with self._kernel.interrupts.window():  # input transformers are user code, too
                transformed = shell.transform_cell(code)
                try:
                    self._acquire(transformed, message.content().get("user_expressions"), request)
                except Exception:  # odd objects of the user's; the cell can do with what is here
                    self._kernel.log.exception("the newest values of variables could not be had")
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
            result: ExecutionResult = await self._kernel.interrupts.drive(coroutine)
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

    def _acquire(self, transformed: str, expressions: Any, request: messages.Request) -> None:
        """Before a cell runs: the newest values of what it can reach, from cells that run elsewhere too."""
        self._running = transformed
        crowded = request.crowded
        with self._kernel.interrupts.shelter():
            self._kernel.sync.starts(beside=request.beside, alone=request.alone)
        if self._kernel.sync.awaits_merge:
            self._kernel.service.acquire([])  # the answer comes after what is to be merged
        if not self._kernel.sync.may_need(crowded=crowded) or (code := compiled(transformed)) is None:
            return
        texts = (
            [text for text in expressions.values() if isinstance(text, str)] if isinstance(expressions, dict) else []
        )
        codes = [code, *filter(None, map(compiled, texts))]
        silent = self._kernel.service.acquire_reached(codes, crowded=crowded)
        for line in self._kernel.sync.not_had(self._kernel.sync.needs(codes, crowded=False) or ()):
            self._kernel.warn(line)
        with self._kernel.interrupts.shelter():
            self._kernel.sync.before_cell(code)
        for where, running in silent:
            their_code = compiled(self._kernel.shell.transform_cell(running))
            if their_code and (stale := self._kernel.sync.touched_by_both(code, their_code)):
                self._kernel.warn(f"subshell {where} does not answer (in C code?): {stale} as of its last commit")

    def acquire_offered(self) -> None:
        """In the midst of a cell: what it can reach of what was only offered by now.

        What the cell bound to such a name would count as made in full knowledge of the other value.
        """
        if self._kernel.sync.has_offers and (code := compiled(self._running)):
            self._kernel.service.acquire_reached([code], crowded=False)

    def _user_expressions(self, expressions: Any) -> Json:
        if not isinstance(expressions, dict) or not expressions:
            return {}
        with self._kernel.interrupts.window():
            return dict(self._kernel.shell.user_expressions(expressions))


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
