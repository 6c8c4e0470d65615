"""Comms of a worker: the `comm` package's manager, speaking through the lanes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import comm
from comm.base_comm import BaseComm, CommManager

if TYPE_CHECKING:
    from mpkernel.worker.kernel import WorkerKernel

log = logging.getLogger("mpkernel.worker")


class Comms:
    """Makes ``comm.create_comm()`` and widgets work in this worker."""

    def __init__(self, kernel: WorkerKernel) -> None:
        self.manager = CommManager()
        manager = self.manager

        class Comm(BaseComm):
            """A comm whose messages go out under the request that is running."""

            def publish_msg(
                self,
                msg_type: str,
                data: Any = None,
                metadata: Any = None,
                buffers: Any = None,
                **keys: Any,
            ) -> None:
                content = {"data": data if data is not None else {}, "comm_id": self.comm_id, **keys}
                note = None
                if msg_type in ("comm_open", "comm_close"):
                    note = [msg_type, self.comm_id, self.target_name]
                kernel.publish(msg_type, content, metadata=metadata, buffers=buffers, topic=self.topic, comm=note)

        comm.create_comm = Comm
        comm.get_comm_manager = lambda: manager

    def handle(self, msg_type: str, message: dict[str, Any]) -> None:
        """A comm_open, comm_msg or comm_close from the front end; errors of callbacks are shown by `comm`."""
        getattr(self.manager, msg_type)(None, "", message)
