"""The service thread: answers what must not wait for the running cell, and what a cell asks of the broker.

It runs as little of the user's code as it can, so that it is there for the other subshells; see `looks` for the rest.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
import types
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mpkernel import messages
from mpkernel.errors import MPKernelError, RequestFailed
from mpkernel.worker.looks import Looks
from mpkernel.worker.threads import KernelThread

if TYPE_CHECKING:
    from mpkernel.wire import Json, Message
    from mpkernel.worker.kernel import WorkerKernel
    from mpkernel.worker.wrapped import Wrapped


# The first worker imports what tracebacks need after this many seconds: not while the kernel starts, or a cell runs.
WARM_UP_DELAY = 0.5
# The main thread stands still for at most so many seconds for somebody who wants to know something.
MAKE_WAY = 0.02
# A cell that starts asks so often for what it can reach, at most: what came the last time may have named more.
ROUNDS = 20


class Service:
    """`put` is called by the IO thread; `ask` by user code, in any thread."""

    def __init__(self, kernel: WorkerKernel) -> None:
        self._kernel = kernel
        self._inbox: queue.SimpleQueue[messages.LaneMessage] = queue.SimpleQueue()
        self._tokens = itertools.count(1)
        self._waiting: dict[int, queue.SimpleQueue[Any]] = {}
        self._in_call = False  # the main thread calls a method for another subshell, or is about to
        self._called = threading.Event()  # there was something to do: no time to warm up
        self._answered = threading.Lock()  # as a signal to `make_way`: free once there is an answer
        self._helper: threading.Thread | None = None
        self._thread = KernelThread("service", self._serve)
        self.looks = Looks(kernel, self._reply)

    def start(self) -> None:
        self._thread.start()
        if not self._kernel.shell.warm:
            KernelThread("warm-up", self._warm_up).start()

    def _warm_up(self) -> None:
        while not self._kernel.shell.warm and not self._called.wait(WARM_UP_DELAY):
            if not self._kernel.running:  # it takes 80 ms of CPU time, and the GIL
                self._kernel.shell.warm_up()

    def in_background(self, call: Callable[[], None]) -> None:
        """Run `call` in a thread, unless the last one is still at it."""
        if self._helper is None or not self._helper.is_alive():
            self._helper = KernelThread("background", call)
            self._helper.start()

    def make_way(self) -> None:
        """In the main thread, in a signal handler: let the other threads have the GIL until the answer is out.

        Other handlers may run meanwhile, and raise. An Event would be left locked then, for good.
        """
        self._answered.acquire(blocking=False)
        self._answered.acquire(timeout=MAKE_WAY)

    def _has_answered(self) -> None:
        with suppress(RuntimeError):  # nobody waits
            self._answered.release()

    def put(self, message: messages.LaneMessage) -> None:
        """Hand over a message; answers wake those who wait for them."""
        if isinstance(message, (messages.OpReply, messages.LiveValue, messages.Acquired)):
            if waiting := self._waiting.get(message.token):
                waiting.put(message)
        else:
            self._inbox.put(message)

    def _serve(self) -> None:
        while True:
            message = self._inbox.get()
            self._called.set()
            try:
                if isinstance(message, messages.SideRequest):
                    self._answer(message)
                    continue
                if isinstance(message, messages.ReadLive):
                    self._read(message)
                elif isinstance(message, messages.Release):
                    self._release(message)
                elif isinstance(message, messages.Call):
                    self._call(message)
                elif isinstance(message, messages.Keep):
                    self._kernel.sync.keep(message.key, message.names)
                elif isinstance(message, messages.Taken):
                    self._kernel.sync.taken(message.segments, message.refused)
                    if self._kernel.sync.seconds_to_cold is not None:
                        self._kernel.loop.call_soon_threadsafe(self._kernel.background.cool_later)
            except BaseException as error:
                if isinstance(message, messages.SideRequest):
                    self._kernel.die(error)  # somebody waits for the answer
                self._kernel.log.exception("the service thread could not answer a %s", type(message).__name__)
            self._kernel.lanes.when_sent(self._has_answered)

    def _answer(self, request: messages.SideRequest) -> None:
        from mpkernel.worker.kernel import message_of

        kernel = self._kernel
        message = message_of(request)
        if message.msg_type == "debug_request":
            kernel.debugger.put(request)
        elif kernel.wrapped is not None:  # in the main thread, when that is free
            asyncio.run_coroutine_threadsafe(self._answer_later(kernel.wrapped, request, message), kernel.loop)
        else:
            self.looks.put(request, message)

    async def _answer_later(self, wrapped: Wrapped, request: messages.SideRequest, message: Message) -> None:
        self._reply(request, message, await wrapped.answer(message, beside=True))

    def _reply(self, request: messages.SideRequest, message: Message, content: Json) -> None:
        kernel = self._kernel
        blobs = kernel.pack_reply(message, content)
        kernel.lanes.send(messages.Reply(request.seq, abort=False, execution_count=0, blobs=blobs), service=True)
        kernel.lanes.when_sent(self._has_answered)

    def _release(self, message: messages.Release) -> None:
        try:
            self._kernel.sync.release_names(message.names)
        finally:
            self._kernel.lanes.send(messages.Released(message.token))

    def _read(self, message: messages.ReadLive) -> None:
        sync, label = self._kernel.sync, self._kernel.where()
        error: str | None = None
        fields: tuple[list[Any], tuple[bytes, ...]] = ([], ())
        try:
            fields = sync.parcels.pack({message.name: self.names[message.name]})
        except KeyError:
            error = f"there is no variable {message.name!r} in subshell {label}"
        except Exception as reason:
            error = f"the value of {message.name!r} can't be pickled: {reason}"
        self._kernel.lanes.send(messages.LiveAnswer(message.token, error, False, *fields), service=True)

    def _call(self, message: messages.Call) -> None:
        """In the main thread if that is idle, as many objects belong to a thread; else, or to wait, in a new one."""
        kernel = self._kernel
        waits = kernel.sync.parcels.may_wait(message.held)
        if waits or kernel.running or kernel.callbacks.busy or self._in_call:
            KernelThread("call", self._perform, (message, _as_callback(message) and not waits)).start()
        else:
            self._in_call = True
            kernel.loop.call_soon_threadsafe(self._perform_in_main, message)

    def _perform_in_main(self, message: messages.Call) -> None:
        try:
            self._perform(message, as_callback=_as_callback(message))
        finally:
            self._in_call = False

    def _perform(self, message: messages.Call, as_callback: bool) -> None:
        """What a callback puts out and commits is with the broker before the answer."""
        error: str | None = None
        fields: tuple[list[Any], tuple[bytes, ...]] = ([], ())
        background = True

        def call() -> None:
            nonlocal fields, error
            try:
                fields = self._kernel.sync.parcels.call(message.held, message.method, message.components, message.blobs)
            except BaseException as reason:
                error = f"{type(reason).__name__}: {reason}"

        try:
            if as_callback:
                background = self._kernel.call_here(call, message.parent)
            else:
                call()
        except BaseException as reason:  # an interrupt that came late
            error = f"{type(reason).__name__}: {reason}"
        answer = messages.LiveAnswer(message.token, error, background, *fields)
        self._kernel.lanes.send(answer, service=not as_callback)

    # --- for user code ------------------------------------------------------------------------------------------------

    def op(self, op: str, /, **content: Any) -> dict[str, Any]:
        """Ask the broker for an operation (``ps``, ``interrupt``, …). Raises RequestFailed."""
        reply = self._ask(lambda token: messages.Op(token, op, content)).content
        if reply.get("status") != "ok":
            raise RequestFailed(str(reply.get("evalue", reply)))
        return dict(reply)

    def is_alive(self, worker: int) -> bool:
        """Whether a worker is there; also if that can't be known, as in a process that user code forked."""
        try:
            return self._kernel.lanes.forked or bool(self.op("alive", worker=worker)["alive"])
        except RequestFailed:  # on our way out
            return True

    def parent(self) -> dict[str, Any]:
        """The header of the request that the calling code belongs to."""
        return self._kernel.parents.get()

    def acquire(self, names: list[str] | None) -> list[list[str]]:
        """Take over the newest values of `names` (None: all) that the other subshells have.

        Returns those that did not answer in time, with the cells that they run. Should an interrupt come first, what
        was asked for is taken over later.
        """
        also = sorted(self._kernel.sync.loadable)
        answer: messages.Acquired = self._ask(lambda token: messages.Acquire(token, names, also))
        with self._kernel.interrupts.shelter():
            self._kernel.sync.take()
        return answer.silent

    def acquire_reached(self, codes: Collection[types.CodeType], *, crowded: bool) -> list[list[str]]:
        """As `acquire`, for what `codes` can reach."""
        sync = self._kernel.sync
        silent: list[list[str]] = []
        asked: set[str] | None = set()
        missed: set[str] = set()
        for _ in range(ROUNDS):
            names = sync.needs(codes, crowded=crowded)
            before, missed = missed, {name for name in names or () if sync.is_offered(name)}
            # What could not be loaded may be by now: a key's `__hash__` needed something that came with it.
            done = names is not None and asked is not None and names <= asked and missed in (set(), before)
            if asked is None or (done and not sync.loadable):
                break
            silent = self.acquire(None if names is None else sorted(names))
            asked = None if names is None else asked | names
        return silent

    def fetch(self, name: str) -> bool:
        """In the midst of a cell: have the value of `name`, if it is only offered here; whether it is here now."""
        kernel = self._kernel
        if not (kernel.sync.is_offered(name) and kernel.interrupts.in_users_code and not kernel.lanes.forked):
            return False
        self.acquire_reached([compile(name, "<name>", "eval")], crowded=False)
        with kernel.interrupts.shelter():
            kernel.sync.prepare()
        return name in self.names

    def _acquire_within(self, names: list[str] | None) -> list[list[str]]:
        """As `acquire`, in the midst of a cell, which may change at once what has come."""
        silent = self.acquire(names)
        self._kernel.cells.acquire_offered()
        with self._kernel.interrupts.shelter():
            self._kernel.sync.prepare()
        for line in self._kernel.sync.not_had(names or ()):
            self._kernel.warn(line)
        return silent

    def _commit(self, names: list[str] | None) -> None:
        with self._kernel.interrupts.shelter():
            self._kernel.sync.release_names(names)

    def live(self, name: str, subshell: str | None) -> Any:
        """The value that `name` has now in another subshell. Raises MPKernelError if it can't be had."""
        return self._value(lambda token: messages.AskLive(token, name, subshell))

    def theirs(self, name: str) -> Any:
        """The value of `name` that lost the last conflict. Raises MPKernelError if there is none."""
        values = self._values(lambda token: messages.AskTheirs(token, name))
        return values[name]  # what it shares objects with came, too

    def call(self, worker: int, held: int, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a method of an object in another process. Raises MPKernelError with what it raised."""
        fields = self._kernel.sync.parcels.pack({"args": args, "kwargs": kwargs})
        return self._value(lambda token: messages.AskCall(token, worker, held, method, self.parent(), *fields))

    @property
    def names(self) -> dict[str, Any]:
        """The namespace."""
        namespace: dict[str, Any] = self._kernel.shell.user_ns
        return namespace

    def pull(self, names: list[str] | None) -> None:
        """Take over the newest values of `names` (None: all), though a cell is running here. Raises NameError."""
        here = set(self.names)
        self._commit(names)
        silent = self._acquire_within(names)
        for name in names or ():
            # One that was here was deleted elsewhere.
            if name not in here and name not in self.names and not self._kernel.sync.is_offered(name):
                unknown = "".join(f"; subshell {where} does not answer (in C code?)" for where, _ in silent)
                raise NameError(f"there is no variable {name!r} to pull, here or in another subshell{unknown}")

    def publish(self, names: list[str] | None) -> None:
        """Commit the values of `names` (None: all that changed) now."""
        with self._kernel.interrupts.shelter():
            self._kernel.sync.publish(names)

    def save(self, path: str) -> dict[str, Any]:
        """Write what is shared, this cell's variables as they are now, to a file. Raises RequestFailed."""
        self._commit(None)
        return self.op("save", path=path)

    def restore(self, path: str) -> dict[str, Any]:
        """Take over what a file has, in all subshells; in this one at once. Raises RequestFailed."""
        self._commit(None)  # what was changed before is older than the file's
        reply = self.op("restore", path=path)
        self._acquire_within(reply["names"])
        return reply

    def _value(self, make: Any) -> Any:
        (value,) = self._values(make).values()
        return value

    def _values(self, make: Any) -> dict[str, Any]:
        answer = self._ask(make, service=True)
        if answer.error is not None:
            raise MPKernelError(answer.error)
        return self._kernel.sync.parcels.unpack(answer.components, answer.blobs)

    def _ask(self, make: Any, *, service: bool = False) -> Any:
        if threading.current_thread() is self._kernel.lanes:  # the garbage collector may run anything in any thread
            raise RequestFailed("the thread that receives the answer can't wait for it")
        if self._kernel.lanes.forked:
            raise RequestFailed("this process was forked by a cell, and can't ask the kernel: do it in the cell")
        token = next(self._tokens)
        answer = self._waiting[token] = queue.SimpleQueue()
        try:
            self._kernel.lanes.send(make(token), service=service)
            return answer.get()
        finally:
            del self._waiting[token]


def _as_callback(message: messages.Call) -> bool:
    """Whether it may change variables."""
    return message.method not in ("__getattr__", "__dir__")
