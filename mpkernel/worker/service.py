"""The service thread: answers what must not wait for the running cell, and what a cell asks of the broker."""

from __future__ import annotations

import itertools
import queue
import threading
from typing import TYPE_CHECKING, Any

from mpkernel import messages
from mpkernel.errors import MPKernelError, RequestFailed
from mpkernel.namespace import pickling

if TYPE_CHECKING:
    from mpkernel.worker.kernel import WorkerKernel


# The first worker imports what tracebacks need after this many seconds: not while the kernel starts.
WARM_UP_DELAY = 0.5


class Service:
    """`put` is called by the IO thread; `ask` by user code, in any thread."""

    def __init__(self, kernel: WorkerKernel) -> None:
        self._kernel = kernel
        self._inbox: queue.SimpleQueue[messages.LaneMessage] = queue.SimpleQueue()
        self._tokens = itertools.count(1)
        self._waiting: dict[int, queue.SimpleQueue[Any]] = {}
        self._thread = threading.Thread(target=self._serve, name="mpkernel-service", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, message: messages.LaneMessage) -> None:
        """Hand over a message; answers wake those who wait for them."""
        if isinstance(message, (messages.OpReply, messages.LiveValue)):
            if waiting := self._waiting.get(message.token):
                waiting.put(message)
        else:
            self._inbox.put(message)

    def _serve(self) -> None:
        try:
            message = self._inbox.get(timeout=WARM_UP_DELAY)
        except queue.Empty:
            self._kernel.shell.warm_up()
            message = self._inbox.get()
        while True:
            try:
                if isinstance(message, messages.SideRequest):
                    self._answer(message)
                elif isinstance(message, messages.ReadLive):
                    self._read(message)
            except BaseException:
                self._kernel.log.exception("the service thread could not answer a %s", type(message).__name__)
            message = self._inbox.get()

    def _answer(self, request: messages.SideRequest) -> None:
        from mpkernel.worker.kernel import message_of

        kernel = self._kernel
        message = message_of(request)
        content = kernel.answer_side_request(message)
        reply = message.msg_type.removesuffix("_request") + "_reply"
        blobs = tuple(kernel.codec.pack(reply, content, parent=message.header_frame))
        kernel.lanes.send(messages.Reply(request.seq, abort=False, execution_count=0, blobs=blobs), service=True)

    def _read(self, message: messages.ReadLive) -> None:
        namespace = self._kernel.shell.user_ns
        error: str | None = None
        blobs: tuple[bytes, ...] = ()
        if message.name not in namespace:
            error = f"there is no variable {message.name!r} in subshell {self._kernel.subshell_id or 'main'}"
        else:
            try:
                blobs = (pickling.dumps_while_changing(namespace[message.name], namespace),)
            except Exception as reason:
                error = f"the value of {message.name!r} can't be pickled: {reason}"
        self._kernel.lanes.send(messages.LiveAnswer(message.token, error, blobs), service=True)

    # --- for user code ------------------------------------------------------------------------------------------------

    def op(self, name: str, **content: Any) -> dict[str, Any]:
        """Ask the broker for an operation (``ps``, ``interrupt``, …). Raises RequestFailed."""
        reply = self._ask(lambda token: messages.Op(token, name, content)).content
        if reply.get("status") != "ok":
            raise RequestFailed(str(reply.get("evalue", reply)))
        return dict(reply)

    def parent(self) -> dict[str, Any]:
        """The header of the request that the calling code belongs to."""
        return self._kernel.parents.get()

    def live(self, name: str, subshell: str | None) -> Any:
        """The value that `name` has now in another subshell. Raises MPKernelError if it can't be had."""
        ask = self._ask(lambda token: messages.AskLive(token, name, subshell), service=True)
        if ask.error is not None:
            raise MPKernelError(ask.error)
        return pickling.loads(ask.blobs[0])

    def _ask(self, make: Any, *, service: bool = False) -> Any:
        token = next(self._tokens)
        answer = self._waiting[token] = queue.SimpleQueue()
        try:
            self._kernel.lanes.send(make(token), service=service)
            return answer.get()
        finally:
            del self._waiting[token]
