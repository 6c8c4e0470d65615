"""Comms of a worker: the `comm` package's manager, speaking through the lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comm
from comm.base_comm import BaseComm, CommManager

from mpkernel import messages

if TYPE_CHECKING:
    from mpkernel.worker.kernel import WorkerKernel


class Comms:
    """Makes ``comm.create_comm()`` and widgets work in this worker."""

    def __init__(self, kernel: WorkerKernel) -> None:
        self._kernel = kernel

        class Comm(BaseComm):
            """A comm whose messages go out under the request that the sending code belongs to."""

            @property
            def kernel(self) -> WorkerKernel:
                """Libraries of ipywidgets 7's time send only if there is one."""
                return kernel

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

        class Manager(CommManager):
            """Tells the broker to whom a front end's comm_open may go."""

            def register_target(self, target_name: str, f: Any) -> None:
                super().register_target(target_name, f)
                kernel.lanes.send(messages.CommTarget(target_name, taken=True))

            def unregister_target(self, target_name: str, f: Any) -> Any:
                kernel.lanes.send(messages.CommTarget(target_name, taken=False))
                return super().unregister_target(target_name, f)

        self.manager = manager = Manager()
        comm.create_comm = Comm
        comm.get_comm_manager = lambda: manager
        self._handlers = {"comm_open": self._opened, "comm_msg": self._message, "comm_close": self._closed}

    @property
    def are_awaited(self) -> bool:
        """Whether messages of front ends may call code here."""
        return bool(self.manager.comms or self.manager.targets)

    def handle(self, msg_type: str, message: dict[str, Any]) -> None:
        """A message from the front end. What a callback raises is shown, under that message."""
        try:
            self._handlers[msg_type](str(message["content"].get("comm_id")), message)
        except Exception:
            self._kernel.shell.showtraceback()

    def _opened(self, comm_id: str, message: dict[str, Any]) -> None:
        target = message["content"].get("target_name")
        taker = self.manager.targets.get(target)
        opened = comm.create_comm(comm_id=comm_id, primary=False, target_name=str(target))
        self.manager.register_comm(opened)
        if taker is None:  # JupyterLab looks for widgets when a page is loaded
            self._kernel.log.warning("nothing here takes comms of the target %r: it is told to be closed", target)
            opened.close()
            return
        try:
            taker(opened, message)
        except BaseException:
            opened.close()
            raise

    def _message(self, comm_id: str, message: dict[str, Any]) -> None:
        known = self.manager.comms.get(comm_id)
        if known is not None:
            known.handle_msg(message)
            return
        self._kernel.log.warning("a message came for comm %s, which isn't there: it is told to be closed", comm_id)
        self._kernel.publish("comm_close", {"comm_id": comm_id, "data": {}}, comm=["comm_close", comm_id, ""])

    def _closed(self, comm_id: str, message: dict[str, Any]) -> None:
        known = self.manager.comms.pop(comm_id, None)
        if known is not None:
            known._closed = True
            known.handle_close(message)
