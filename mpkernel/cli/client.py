"""Talk to the brokers of many kernels at once: one poller, one DEALER socket per dialogue.

A dialogue is a generator that yields requests and is sent the content of each reply, so that what is asked next is
written down as straight code, and no kernel waits for another. Errors are raised inside the dialogue, at its `yield`:
`KernelUnreachable` when time is up, `RequestFailed` when the reply is an error.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import zmq

from mpkernel.cli.kernels import Kernel
from mpkernel.errors import BadMessage, KernelUnreachable, MPKernelError, RequestFailed
from mpkernel.wire import Codec, Json, Signer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """One message on the control channel."""

    msg_type: str
    content: Json


Dialogue = Generator[Request, Json, T]


def operation(op: str, **arguments: Any) -> Request:
    """The request with which the command line asks a broker to do `op`."""
    return Request("mpkernel_request", {"op": op, **arguments})


def single(request: Request) -> Dialogue[Json]:
    """The dialogue of one request: its result is the reply's content."""
    return (yield request)


def hold(dialogues: Iterable[tuple[Kernel, Dialogue[T]]], timeout: float) -> list[T | MPKernelError]:
    """Hold all `dialogues` side by side, each in at most `timeout` seconds; their results, in the same order.

    What a dialogue doesn't catch itself is its result.
    """
    context = zmq.Context()
    try:
        calls = [_Call(context, kernel, dialogue) for kernel, dialogue in dialogues]
        _run(calls, timeout)
        return [call.result for call in calls]
    finally:
        context.destroy(linger=0)


def _run(calls: Sequence[_Call[T]], timeout: float) -> None:
    poller = zmq.Poller()
    waiting: dict[zmq.Socket[bytes], _Call[T]] = {}
    for call in calls:
        call.open()
        if not call.done:
            waiting[call.socket] = call
            poller.register(call.socket, zmq.POLLIN)
    deadline = time.monotonic() + timeout
    while waiting:
        left = deadline - time.monotonic()
        ready = poller.poll(math.ceil(left * 1000)) if left > 0 else []
        if not ready:
            break
        for socket, _ in ready:
            call = waiting[socket]
            call.receive()
            if call.done:
                poller.unregister(socket)
                del waiting[socket]
    for call in waiting.values():
        call.give_up(f"no answer from kernel {call.kernel.id} within {timeout:g} s")


class _Call(Generic[T]):
    """A dialogue and its socket."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], kernel: Kernel, dialogue: Dialogue[T]) -> None:
        self.kernel = kernel
        self.socket = context.socket(zmq.DEALER)
        self.done = False
        self._dialogue = dialogue
        self._codec = Codec(Signer(kernel.info.key, kernel.info.signature_scheme))
        self._unreachable: str | None = None  # why the socket has no peer: a DEALER without one blocks when it sends
        self._awaited = ""  # the msg_id of the request that is open
        self._result: T | MPKernelError | None = None

    @property
    def result(self) -> T | MPKernelError:
        return self._result  # type: ignore[return-value]  # None only before `done`, or where T allows it

    def open(self) -> None:
        """Connect and send the first request."""
        info = self.kernel.info
        try:
            if info.curve_publickey and info.curve_secretkey:
                # The file's own keypair, as jupyter_client does: who can read the file may talk to the kernel.
                self.socket.curve_secretkey = info.curve_secretkey
                self.socket.curve_publickey = info.curve_publickey
                self.socket.curve_serverkey = info.curve_publickey
            self.socket.connect(info.url("control"))
        except zmq.ZMQError as error:
            self._unreachable = f"kernel {self.kernel.id} can't be reached at {info.url('control')}: {error}"
        self._step(lambda: next(self._dialogue))

    def receive(self) -> None:
        """Take one message. What isn't the awaited reply, or isn't signed with the kernel's key, is dropped."""
        try:
            reply = self._codec.unpack(self.socket.recv_multipart())
            if reply.parent_header().get("msg_id") != self._awaited:
                return
            content = reply.content()
        except BadMessage:
            return
        if content.get("status") == "error":
            reason = str(content.get("evalue") or content.get("ename") or "the kernel answered with an error")
            self._step(lambda: self._dialogue.throw(RequestFailed(reason)))
        else:
            self._step(lambda: self._dialogue.send(content))

    def give_up(self, reason: str) -> None:
        """End the dialogue, which may still make a result of the error."""
        error = KernelUnreachable(reason)
        try:
            self._dialogue.throw(error)
        except StopIteration as stop:
            self._finish(stop.value)
        except MPKernelError as escaped:
            self._finish(escaped)
        else:  # it asks on
            self._dialogue.close()
            self._finish(error)

    def _step(self, resume: Callable[[], Request]) -> None:
        try:
            request = resume()
        except StopIteration as stop:
            self._finish(stop.value)
        except MPKernelError as error:
            self._finish(error)
        else:
            self._send(request)

    def _send(self, request: Request) -> None:
        if self._unreachable is not None:
            self.give_up(self._unreachable)
            return
        header = self._codec.header(request.msg_type)
        self._awaited = header["msg_id"]
        self.socket.send_multipart(self._codec.pack(request.msg_type, request.content, header=header))

    def _finish(self, result: T | MPKernelError) -> None:
        self.done = True
        self._result = result
