"""Hooks that libraries put before messages: they may look at one, change it, or swallow it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from mpkernel.wire import Json

if TYPE_CHECKING:
    from mpkernel.wire import Codec

Hook = Callable[[Json], Json | None]


class Hooked:
    """A hook gets a message as a dict and returns one, or None if that is to be sent no further.

    It is for what the thread sends that registered it.
    """

    _hooks_by_thread: threading.local | None = None

    @property
    def _hooks(self) -> list[Hook]:
        """Those of the calling thread."""
        if self._hooks_by_thread is None:
            self._hooks_by_thread = threading.local()
        hooks: list[Hook] = self._hooks_by_thread.__dict__.setdefault("hooks", [])
        return hooks

    def register_hook(self, hook: Hook) -> None:
        """Have each message that this thread sends here pass `hook`."""
        self._hooks.append(hook)

    def unregister_hook(self, hook: Hook) -> bool:
        """Undo `register_hook`; whether it was registered in this thread."""
        if hook not in self._hooks:
            return False
        self._hooks.remove(hook)
        return True

    def _past_hooks(self, codec: Codec, parent: Json, msg_type: str, content: Json) -> Json | None:
        """The message that is left to be sent, if any."""
        message: Json | None = {"msg_type": msg_type, "content": content, "metadata": {}}
        if self._hooks_by_thread is None or not self._hooks:
            return message
        header = codec.header(msg_type)
        message = {**message, "header": header, "msg_id": header["msg_id"], "parent_header": parent}  # type: ignore[dict-item]
        for hook in list(self._hooks):
            if message is not None:
                message = hook(message)
        return message
