"""What libraries use of `get_ipython().kernel` and the kernel itself doesn't need.

The names are ipykernel's. Who writes a library for Jupyter finds here, and nowhere else, what it can count on.
"""

from __future__ import annotations

import asyncio
import functools
import warnings
from typing import TYPE_CHECKING, Any

import mpkernel
from mpkernel.wire import PROTOCOL_VERSION, Json, Message
from mpkernel.worker import side_requests
from mpkernel.worker.parents import Parents, as_request

if TYPE_CHECKING:
    from mpkernel.settings import WorkerSettings
    from mpkernel.worker.comms import Comms
    from mpkernel.worker.inputs import Inputs
    from mpkernel.worker.session import IOPubSocket, WorkerSession
    from mpkernel.worker.shell import ZMQInteractiveShell


class LibraryAPI:
    """A base of the worker's kernel."""

    implementation = "mpkernel"
    implementation_version = mpkernel.__version__
    language = "python"
    _poll_interval = 0.01  # seconds that an event loop of `register_integration` may run at a stretch, as in ipykernel

    shell: ZMQInteractiveShell
    settings: WorkerSettings
    parents: Parents
    comms: Comms
    inputs: Inputs
    loop: asyncio.AbstractEventLoop

    # --- the request that the calling code belongs to ---------------------------------------------------------------

    def get_parent(self, channel: str | None = None) -> Json:
        """The request that the calling code belongs to: in a task, thread or callback the one that started it."""
        return self.parents.request()

    def set_parent(self, ident: Any, parent: Json, channel: str = "shell") -> None:
        """What the calling code puts out belongs to this request (or header) from now on."""
        self.parents.set_here(as_request(parent))

    @property
    def _parent_header(self) -> Json:
        warnings.warn("kernel._parent_header is deprecated: use kernel.get_parent()", DeprecationWarning, stacklevel=2)
        return self.get_parent()

    @property
    def _parent_ident(self) -> dict[str, list[bytes]]:
        idents = list(self.get_parent().get("idents", ()))
        return {"shell": idents, "control": idents}

    # --- sending ----------------------------------------------------------------------------------------------------

    @functools.cached_property
    def session(self) -> WorkerSession:
        """For ``kernel.session.send(kernel.iopub_socket, msg_type, content, …)``."""
        from mpkernel.worker.session import WorkerSession

        return WorkerSession(self)  # type: ignore[arg-type]

    @property
    def iopub_socket(self) -> IOPubSocket:
        """Stands for the iopub channel."""
        from mpkernel.worker.session import IOPUB

        return IOPUB

    def send_response(
        self,
        stream: Any,
        msg_or_type: Any,
        content: Json | None = None,
        ident: Any = None,
        buffers: Any = None,
        track: bool = False,
        header: Json | None = None,
        metadata: Json | None = None,
        channel: str | None = None,
    ) -> Any:
        """Send on iopub, under the request that the calling code belongs to."""
        parent = self.get_parent()
        return self.session.send(stream, msg_or_type, content, parent, ident, buffers, track, header, metadata)

    @property
    def ident(self) -> str:
        """The kernel's id."""
        return self.settings.kernel_id

    def _topic(self, topic: str) -> bytes:
        return f"kernel.{self.ident}.{topic}".encode()

    # --- what it is -------------------------------------------------------------------------------------------------

    @property
    def comm_manager(self) -> Any:
        """The `comm` package's manager."""
        return self.comms.manager

    @property
    def app(self) -> Any:
        """The application that the shell was made by; has `connection_file`."""
        return self.shell.parent

    @property
    def config(self) -> Any:
        return self.shell.config

    @property
    def user_ns(self) -> dict[str, Any]:
        """The namespace."""
        namespace: dict[str, Any] = self.shell.user_ns
        return namespace

    @property
    def user_module(self) -> Any:
        return self.shell.user_module

    @property
    def execution_count(self) -> int:
        """The number of the prompt that runs, or comes next."""
        return self.shell.execution_count

    @property
    def banner(self) -> str:
        """What a console shows first."""
        return str(self.shell.banner)

    @property
    def kernel_info(self) -> Json:
        """What a kernel_info_reply says, without the front end's part."""
        return {
            "implementation": self.implementation,
            "implementation_version": self.implementation_version,
            "language_info": self.language_info,
            "protocol_version": PROTOCOL_VERSION,
            "banner": self.banner,
        }

    @property
    def language_info(self) -> Json:
        """As in kernel_info_reply."""
        import platform

        return {
            "name": "python",
            "version": platform.python_version(),
            "mimetype": "text/x-python",
            "codemirror_mode": {"name": "ipython", "version": 3},
            "pygments_lexer": "ipython3",
            "nbconvert_exporter": "python",
            "file_extension": ".py",
        }

    # --- loops ------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def io_loop(self) -> Any:
        """Tornado's view of the event loop that runs the cells."""
        from tornado.platform.asyncio import AsyncIOLoop

        return AsyncIOLoop(asyncio_loop=self.loop, make_current=False)

    @property
    def asyncio_event_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that runs the cells."""
        return self.loop

    # --- requests, made by code -------------------------------------------------------------------------------------

    async def do_execute(
        self,
        code: str,
        silent: bool,
        store_history: bool = True,
        user_expressions: Json | None = None,
        allow_stdin: bool = False,
        **_: Any,
    ) -> Json:
        """Run `code` as a cell, from within a cell that awaits this."""
        result: Any = await self.shell.run_cell_async(
            code, store_history=store_history, silent=silent, transformed_cell=self.shell.transform_cell(code)
        )
        reply: Json = {"status": "ok" if result.success else "error", "execution_count": result.execution_count}
        error = result.error_before_exec or result.error_in_exec
        if error is not None:
            return {**reply, "ename": type(error).__name__, "evalue": str(error), "traceback": []}
        return {**reply, "payload": [], "user_expressions": self.shell.user_expressions(user_expressions or {})}

    def do_complete(self, code: str, cursor_pos: int | None) -> Json:
        """Content of a complete_reply."""
        return side_requests.complete(self.shell, {"code": code, "cursor_pos": cursor_pos})

    def do_inspect(
        self, code: str, cursor_pos: int | None, detail_level: int = 0, omit_sections: tuple[str, ...] = ()
    ) -> Json:
        """Content of an inspect_reply."""
        content = {"code": code, "cursor_pos": cursor_pos, "detail_level": detail_level, "omit_sections": omit_sections}
        return side_requests.inspect(self.shell, content)

    def do_is_complete(self, code: str) -> Json:
        """Content of an is_complete_reply."""
        return side_requests.is_complete(self.shell, {"code": code})

    def do_history(self, hist_access_type: str, output: bool, raw: bool, **content: Any) -> Json:
        """Content of a history_reply."""
        given = {"hist_access_type": hist_access_type, "output": output, "raw": raw, **content}
        return side_requests.history(self.shell, {name: value for name, value in given.items() if value is not None})

    def raw_input(self, prompt: str = "") -> str:
        """As `input`."""
        return self.inputs.input(prompt)

    def getpass(self, prompt: str = "", stream: Any = None) -> str:
        """As `getpass.getpass`."""
        return self.inputs.getpass(prompt, stream)


def request_of(message: Message, header: Json) -> Json:
    """`message` as libraries know requests; `header` says whose output its output is."""
    return {
        "header": header,
        "parent_header": message.parent_header(),
        "metadata": message.metadata(),
        "content": message.content(),
        "buffers": list(message.buffers),
        "msg_id": header.get("msg_id", message.msg_id),
        "msg_type": header.get("msg_type", message.msg_type),
        "idents": message.idents,
    }
