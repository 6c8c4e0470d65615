"""`input()` and `getpass()` in a worker: a question to the client that sent the request, and its answer."""

from __future__ import annotations

import itertools
import queue
import sys
import warnings
from collections.abc import Callable
from typing import Any

from IPython.core.error import StdinNotImplementedError

from mpkernel import messages
from mpkernel.wire import Codec, Json
from mpkernel.worker.lanes import WorkerLanes

END_OF_FILE = "\x04"


class Inputs:
    """`current` gives the running request: its seq, its header, and whether its front end answers questions."""

    def __init__(self, lanes: WorkerLanes, codec: Codec, current: Callable[[], tuple[int, Json, bool]]) -> None:
        self._lanes = lanes
        self._codec = codec
        self._current = current
        self._tokens = itertools.count(1)
        self._waiting: dict[int, queue.SimpleQueue[str]] = {}

    def answer(self, reply: messages.InputReply) -> None:
        """In the IO thread: what the user typed."""
        if waiting := self._waiting.get(reply.token):
            waiting.put(reply.value)

    def input(self, prompt: object = "") -> str:
        """Replaces `builtins.input`. Raises EOFError for Ctrl-D, StdinNotImplementedError if nobody would answer."""
        return self._ask(str(prompt), password=False)

    def getpass(self, prompt: str = "Password: ", stream: object = None, *, echo_char: str | None = None) -> str:
        """Replaces `getpass.getpass`; `stream` and `echo_char` have no meaning in a front end."""
        if stream is not None:
            warnings.warn("The `stream` parameter of `getpass.getpass` has no effect here", UserWarning, stacklevel=2)
        return self._ask(prompt, password=True)

    def _ask(self, prompt: str, *, password: bool) -> str:
        seq, parent, allowed = self._current()
        if not allowed:
            # As every kernel for Python says it: nbclient's tests go by these words, and people search for them.
            what = "getpass" if password else "raw_input"
            raise StdinNotImplementedError(f"{what} was called, but this frontend does not support input requests.")
        if self._lanes.forked:  # as in any process that has no terminal
            raise EOFError("a process that was forked by a cell can't ask for input")
        sys.stdout.flush()
        sys.stderr.flush()
        header = self._codec.header("input_request", subshell_id=parent.get("subshell_id"))
        content: dict[str, Any] = {"prompt": prompt, "password": password}
        frames = self._codec.pack("input_request", content, parent=parent, header=header)
        token = next(self._tokens)
        answer = self._waiting[token] = queue.SimpleQueue()
        try:
            self._lanes.send(messages.InputRequest(token, seq, header["msg_id"], tuple(frames)))
            value = answer.get()
        except BaseException:  # interrupted or killed: nobody waits for that answer any more
            self._lanes.send(messages.InputCancelled(token))
            raise
        finally:
            del self._waiting[token]
        if value == END_OF_FILE:
            raise EOFError
        return value
