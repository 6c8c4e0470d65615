"""Kernels for other languages: a base class for what runs the code, and their start.

Each subshell has its own instance in a process of its own, so that two subshells run two interpreters of the language.
Names, execution order, interrupts, deaths and restarts are mpkernel's business. See docs/wrapper-kernels.md.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from mpkernel.errors import MPKernelError, StartError

if TYPE_CHECKING:
    from mpkernel.worker.kernel import WorkerKernel

Json = dict[str, Any]


class Kernel:
    """Subclass this and override `do_execute`, and of the others what the language can do. Each may be ``async``."""

    implementation: Any = "mpkernel-wrapper"
    implementation_version: Any = "0"
    banner: Any = ""
    language_info: Any = {"name": "text", "mimetype": "text/plain", "file_extension": ".txt"}  # noqa: RUF012
    help_links: Any = ()
    _instance: ClassVar[Kernel | None] = None

    def __init__(self, worker: WorkerKernel | None = None) -> None:
        self._worker = worker
        self.execution_count = 0
        self.log = logging.getLogger(f"mpkernel.wrapper.{type(self).__name__}")
        type(self)._instance = self

    # --- to override ----------------------------------------------------------------------------------------------

    def do_execute(
        self,
        code: str,
        silent: bool,
        store_history: bool = True,
        user_expressions: Json | None = None,
        allow_stdin: bool = False,
        *,
        cell_meta: Json | None = None,
        cell_id: str | None = None,
    ) -> Any:
        """Run `code`; returns the content of an execute_reply. The last two arguments may be left out."""
        raise NotImplementedError(f"{type(self).__name__} has no do_execute")

    def do_complete(self, code: str, cursor_pos: int) -> Any:
        """Returns the content of a complete_reply."""
        return {"status": "ok", "matches": [], "cursor_start": cursor_pos, "cursor_end": cursor_pos, "metadata": {}}

    def do_inspect(self, code: str, cursor_pos: int, detail_level: int = 0, omit_sections: Iterable[str] = ()) -> Any:
        """Returns the content of an inspect_reply."""
        return {"status": "ok", "found": False, "data": {}, "metadata": {}}

    def do_is_complete(self, code: str) -> Any:
        """Returns the content of an is_complete_reply."""
        return {"status": "unknown"}

    def do_history(self, hist_access_type: str, output: bool, raw: bool, **_: Any) -> Any:
        """Returns the content of a history_reply."""
        return {"status": "ok", "history": []}

    def do_shutdown(self, restart: bool) -> Any:
        """Called when this process ends, unless it is killed."""
        return {"status": "ok", "restart": restart}

    # --- to use -----------------------------------------------------------------------------------------------------

    iopub_socket: Any = None  # the first argument of `send_response`, as elsewhere

    def send_response(
        self,
        stream: Any,
        msg_or_type: str,
        content: Json | None = None,
        ident: Any = None,
        buffers: Sequence[Any] | None = None,
        track: bool = False,
        header: Any = None,
        metadata: Json | None = None,
        channel: Any = None,
    ) -> None:
        """Send a message on iopub, under the request that is running."""
        if self._worker is not None:
            self._worker.publish(msg_or_type, content or {}, metadata=metadata, buffers=buffers)

    def raw_input(self, prompt: str = "") -> str:
        """Ask the user. Raises EOFError, or StdinNotImplementedError if the front end doesn't answer questions."""
        return input(prompt)

    def getpass(self, prompt: str = "Password: ") -> str:
        """The same, without showing what is typed."""
        from getpass import getpass

        return getpass(prompt)

    def get_parent(self, channel: str = "shell") -> Json:
        """The request that is running."""
        return {} if self._worker is None else self._worker.get_parent(channel)

    def kernel_info(self) -> Json:
        """Content of a kernel_info_reply, but for what mpkernel itself adds."""
        return {
            "implementation": str(self.implementation),
            "implementation_version": str(self.implementation_version),
            "language_info": dict(self.language_info),
            "banner": str(self.banner),
            "help_links": list(self.help_links),
        }

    @classmethod
    def instance(cls) -> Kernel:
        """This process's instance. Raises MPKernelError outside of a kernel."""
        if cls._instance is None:
            raise MPKernelError(f"there is no running {cls.__name__} in this process")
        return cls._instance

    @classmethod
    def run_as_main(cls, argv: list[str] | None = None) -> None:
        """Be the kernel; what ``python -m echo_kernel -f FILE`` calls. Ends the process."""
        from mpkernel import launch

        sys.exit(launch.main(argv, kernel_class=name_of(cls)))


def name_of(kernel_class: type[Kernel]) -> str:
    """``module:class``, by which each process finds the class. Raises StartError for one that can't be imported."""
    module = kernel_class.__module__
    if module == "__main__":
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        if spec is None:
            raise StartError(
                f"{kernel_class.__name__} is defined in a script, from which other processes can't import it: put it "
                "into a module, and start it by python -m MODULE"
            )
        module = spec.name
    return f"{module}:{kernel_class.__qualname__}"


def load(name: str) -> type[Kernel]:
    """The inverse of `name_of`."""
    module, _, attributes = name.partition(":")
    found: Any = importlib.import_module(module)
    for attribute in attributes.split("."):
        found = getattr(found, attribute)
    return found  # type: ignore[no-any-return]


async def result_of(value: Any) -> Any:
    """The result of a method that may be ``async``."""
    return await value if inspect.isawaitable(value) else value
