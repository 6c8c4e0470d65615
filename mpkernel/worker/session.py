"""`get_ipython().kernel.session`, for libraries that send messages of their own on iopub.

A `jupyter_client.session.Session` as they expect it, that hands what is sent on iopub to the worker's lanes: there is
no iopub socket in a worker. Made when it is first asked for, as jupyter_client takes long to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jupyter_client.session import Session

if TYPE_CHECKING:
    from mpkernel.worker.kernel import WorkerKernel


class IOPubSocket:
    """What `kernel.iopub_socket` is: only good for being passed to `session.send`."""

    def __repr__(self) -> str:
        return "<the iopub channel, for session.send and kernel.send_response>"


IOPUB = IOPubSocket()


class WorkerSession(Session):
    """Signs with the kernel's key, under the kernel's session id."""

    def __init__(self, kernel: WorkerKernel) -> None:
        settings = kernel.settings
        super().__init__(
            key=settings.key,
            signature_scheme=settings.signature_scheme,
            session=settings.session,
            username=settings.username,
        )
        self._kernel = kernel

    def send(
        self,
        stream: Any,
        msg_or_type: dict[str, Any] | str,
        content: dict[str, Any] | None = None,
        parent: dict[str, Any] | None = None,
        ident: Any = None,
        buffers: Any = None,
        track: bool = False,
        header: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> dict[str, Any] | None:
        """Send a message on iopub, under `parent` or else the request that the calling code belongs to."""
        if stream is not IOPUB:
            return super().send(stream, msg_or_type, content, parent, ident, buffers, track, header, metadata)
        if isinstance(msg_or_type, dict):
            message = msg_or_type
            buffers = buffers or message.get("buffers")
        else:
            message = self.msg(msg_or_type, content, parent=parent, header=header, metadata=metadata)
        topic = ident[0] if isinstance(ident, list) else ident
        self._kernel.publish(
            message["header"]["msg_type"],
            message["content"],
            metadata=message.get("metadata"),
            buffers=buffers,
            topic=topic.encode() if isinstance(topic, str) else topic,
            parent=message.get("parent_header") or None,
        )
        return message
