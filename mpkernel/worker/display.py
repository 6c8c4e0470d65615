"""Results and displays as messages, past the hooks that libraries put there."""

from __future__ import annotations

from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from traitlets import Bool

from mpkernel.wire import Json
from mpkernel.worker.hooks import Hooked
from mpkernel.worker.parents import Parents, WithParent


class _Sender(Hooked, WithParent):
    """Sends messages."""

    shell: Any

    def _send(self, msg_type: str, content: Json, buffers: list[bytes] | None = None) -> None:
        kernel = self.shell.kernel
        message = self._past_hooks(kernel.codec, self.parent_header, msg_type, content)
        if message is not None:
            given = message.get("buffers") or buffers
            kernel.publish(msg_type, message["content"], metadata=message.get("metadata"), buffers=given)

    # --- what libraries use to send by themselves -------------------------------------------------------------------

    @property
    def session(self) -> Any:
        """As `kernel.session`."""
        return self.shell.kernel.session

    @property
    def pub_socket(self) -> Any:
        """As `kernel.iopub_socket`."""
        return self.shell.kernel.iopub_socket

    @property
    def _parents(self) -> Parents:
        parents: Parents = self.shell.kernel.parents
        return parents


class ZMQDisplayPublisher(_Sender, DisplayPublisher):
    """`display()`, `update_display()` and `clear_output()` as iopub messages."""

    topic = b"display_data"
    store_display_history = Bool(False, help="Keep displays in the history, for %notebook.").tag(config=True)

    def publish(  # type: ignore[override]
        self,
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        *,
        transient: dict[str, Any] | None = None,
        update: bool = False,
        buffers: list[bytes] | None = None,
        **_: Any,
    ) -> None:
        self._validate_data(data, metadata)
        if self.store_display_history:
            self._remember(data)
        content = {"data": data, "metadata": metadata or {}, "transient": transient or {}}
        self._send("update_display_data" if update else "display_data", content, buffers)

    def _remember(self, data: dict[str, Any]) -> None:
        from IPython.core.history import HistoryOutput

        count = self.shell.execution_count - bool(getattr(self, "_in_post_execute", False))
        outputs = self.shell.history_manager.outputs.setdefault(count, [])
        outputs.append(HistoryOutput(output_type="display_data", bundle=data))

    def clear_output(self, wait: bool = False) -> None:
        self._send("clear_output", {"wait": wait})


class ZMQShellDisplayHook(_Sender, DisplayHook):
    """The value of a cell's last expression as an execute_result message."""

    topic = None
    showing = False  # a result is being formatted
    logs = True  # results are kept, for %notebook: the cell is in the history
    _content: dict[str, Any]

    def start_displayhook(self) -> None:
        self.showing = True
        self._content = {"execution_count": self.prompt_count, "data": {}, "metadata": {}}

    def write_output_prompt(self) -> None:
        """The front end draws the prompt."""

    def write_format_data(self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None) -> None:
        self._content["data"] = format_dict
        self._content["metadata"] = md_dict or {}

    def log_output(self, format_dict: dict[str, Any]) -> None:
        if self.logs:
            super().log_output(format_dict)

    def finish_displayhook(self) -> None:
        self.showing = False
        if self._content["data"]:
            self._send("execute_result", self._content)
