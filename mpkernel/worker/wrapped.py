"""What a worker of a wrapper kernel does with requests: `mpkernel.wrapper.Kernel`'s methods instead of IPython's.

They are called in the main thread, one at a time: an interpreter that runs in another process, or behind a pipe, can't
answer a completion while it runs a cell.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from mpkernel import messages
from mpkernel.wire import Json, Message
from mpkernel.worker.cells import error_content
from mpkernel.wrapper import load, result_of

if TYPE_CHECKING:
    from mpkernel.worker.kernel import WorkerKernel

# Exit and SIGTERM come together, in either order; only Exit knows whether it is for a restart (seconds).
EXIT_COMES_WITHIN = 0.5


class Wrapped:
    """The instance of the wrapper's class in this worker."""

    def __init__(self, name: str, worker: WorkerKernel) -> None:
        self._worker = worker
        self.kernel = load(name)(worker)
        self._accepts = _keywords(self.kernel.do_execute)
        self._one_at_a_time = asyncio.Lock()
        self._restart = False
        self._told = threading.Event()

    async def execute(self, request: messages.Request, message: Message) -> Json:
        """Content of an execute_reply. Whatever `do_execute` raises is shown as the cell's error."""
        content, kernel = message.content(), self.kernel
        silent = bool(content.get("silent", False))
        code = content.get("code", "")
        if not silent:
            kernel.execution_count += 1
            self._worker.publish("execute_input", {"code": code, "execution_count": kernel.execution_count})
        extra = {"cell_meta": message.metadata(), "cell_id": message.metadata().get("cellId")}
        arguments = {
            "code": code,
            "silent": silent,
            "store_history": bool(content.get("store_history", not silent)) and not silent,
            "user_expressions": content.get("user_expressions") or {},
            "allow_stdin": bool(content.get("allow_stdin", False)),
            **{name: value for name, value in extra.items() if name in self._accepts},
        }
        try:
            async with self._one_at_a_time:
                reply = await self._worker.interrupts.drive(self._call("do_execute", **arguments))
        except (Exception, KeyboardInterrupt, asyncio.CancelledError) as raised:
            error = self._worker.interrupts.behind(raised) or raised
            reply = error_content(error, with_traceback=True)
            self._worker.publish("error", {key: reply[key] for key in ("ename", "evalue", "traceback")})
        return {
            "status": "ok",
            "execution_count": kernel.execution_count,
            "payload": [],
            "user_expressions": {},
            **(reply or {}),
        }

    async def answer(self, message: Message, *, beside: bool = False) -> Json:
        """Content of the reply to a completion or the like; `beside` a cell: it is no request of its own."""
        interrupts = self._worker.interrupts
        content = message.content()
        arguments: Json = {}
        if message.msg_type in ("complete_request", "inspect_request"):
            code, cursor = str(content.get("code", "")), content.get("cursor_pos")
            arguments = {"code": code, "cursor_pos": cursor if isinstance(cursor, int) else len(code)}
        if message.msg_type == "inspect_request":
            arguments["detail_level"] = content.get("detail_level", 0)
            if "omit_sections" in _keywords(self.kernel.do_inspect):
                arguments["omit_sections"] = content.get("omit_sections", ())
        elif message.msg_type == "is_complete_request":
            arguments = {"code": str(content.get("code", ""))}
        elif message.msg_type == "history_request":
            arguments = {"hist_access_type": "tail", "output": False, "raw": True, **content}
        try:
            async with self._one_at_a_time:
                method = "do_" + message.msg_type.removesuffix("_request")
                if beside:
                    return dict(await self._call(method, interrupts.callback(), **arguments))
                return dict(await interrupts.drive(self._call(method, **arguments)))
        except (Exception, KeyboardInterrupt, asyncio.CancelledError) as raised:
            return error_content(interrupts.behind(raised) or raised)

    async def _call(self, method: str, window: AbstractContextManager[None] | None = None, /, **arguments: Any) -> Any:
        with window or self._worker.interrupts.window():
            return await result_of(getattr(self.kernel, method)(**arguments))

    def tell(self, *, restart: bool) -> None:
        """In the IO thread: the process is to end, to be started again or not."""
        self._restart = restart
        self._told.set()

    def shut_down(self, loop: asyncio.AbstractEventLoop) -> None:
        """At the end of the process."""
        self._told.wait(EXIT_COMES_WITHIN)
        loop.run_until_complete(result_of(self.kernel.do_shutdown(self._restart)))


def _keywords(method: Any) -> set[str]:
    parameters = inspect.signature(method).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return {*parameters, "cell_meta", "cell_id", "omit_sections"}
    return set(parameters)
