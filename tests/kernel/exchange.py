"""What comes back from a kernel: messages, the result of a request, and a request that is still under way."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .client import Client

Json = dict[str, Any]
Channel = Literal["shell", "control", "stdin", "iopub"]

OUTPUT_TYPES = {"stream", "display_data", "update_display_data", "execute_result", "error", "clear_output"}
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Message:
    """One message from the kernel."""

    channel: Channel
    raw: Json = field(repr=False)
    topic: bytes
    number: int  # counts a client's messages in the order in which they came

    @property
    def type(self) -> str:
        return str(self.raw["header"]["msg_type"])

    @property
    def header(self) -> Json:
        return dict(self.raw["header"])

    @property
    def parent(self) -> Json:
        return dict(self.raw["parent_header"])

    @property
    def content(self) -> Json:
        return dict(self.raw["content"])

    @property
    def metadata(self) -> Json:
        return dict(self.raw["metadata"])

    def __str__(self) -> str:
        return f"{self.channel} {self.type} {self.content!s:.300}"


@dataclass(frozen=True)
class Result:
    """All that came back for one request."""

    messages: tuple[Message, ...]
    reply: Message

    @property
    def content(self) -> Json:
        return self.reply.content

    @property
    def status(self) -> str:
        return str(self.content["status"])

    @property
    def ename(self) -> str:
        """Name of the error in the reply, or "" if it has none."""
        return str(self.content.get("ename", ""))

    @property
    def outputs(self) -> list[Message]:
        """What a notebook shows below the cell, in order."""
        return [message for message in self.messages if message.type in OUTPUT_TYPES]

    @property
    def output_types(self) -> list[str]:
        """Types of the outputs, each run of one type once: how text is cut into messages isn't promised."""
        return [msg_type for msg_type, _ in itertools.groupby(message.type for message in self.outputs)]

    def of_type(self, msg_type: str) -> list[Json]:
        """Contents of all messages of that type."""
        return [message.content for message in self.messages if message.type == msg_type]

    @property
    def stdout(self) -> str:
        return _stream_text(self.messages, "stdout")

    @property
    def stderr(self) -> str:
        return _stream_text(self.messages, "stderr")

    @property
    def data(self) -> Json:
        """MIME bundle of the cell's result; empty if it has none."""
        results = self.of_type("execute_result")
        return dict(results[-1]["data"]) if results else {}

    @property
    def text(self) -> str:
        """The cell's result as text; "" if it has none."""
        return str(self.data.get("text/plain", ""))

    @property
    def error(self) -> Json | None:
        """Content of the `error` message on iopub."""
        errors = self.of_type("error")
        return errors[-1] if errors else None

    @property
    def traceback(self) -> str:
        """The traceback in the reply, without colours."""
        return ANSI.sub("", "\n".join(self.content.get("traceback", [])))

    @property
    def statuses(self) -> list[str]:
        return [content["execution_state"] for content in self.of_type("status")]

    def __str__(self) -> str:
        return "\n".join(map(str, self.messages))


def _stream_text(messages: Sequence[Message], name: str) -> str:
    contents = [message.content for message in messages if message.type == "stream"]
    return "".join(content["text"] for content in contents if content["name"] == name)


class Pending:
    """A request that was sent, with what has come back for it so far."""

    def __init__(self, client: Client, channel: Channel, msg_type: str, msg_id: str) -> None:
        self._client = client
        self.channel = channel
        self.msg_type = msg_type
        self.msg_id = msg_id
        self.messages: list[Message] = []

    @property
    def stdout(self) -> str:
        return _stream_text(self.messages, "stdout")

    @property
    def stderr(self) -> str:
        return _stream_text(self.messages, "stderr")

    @property
    def reply(self) -> Message | None:
        replies = [message for message in self.messages if message.channel == self.channel]
        assert len(replies) <= 1, f"{len(replies)} replies to one {self.msg_type}: {[str(reply) for reply in replies]}"
        return replies[0] if replies else None

    @property
    def input_requests(self) -> list[Message]:
        return [message for message in self.messages if message.type == "input_request"]

    @property
    def is_idle(self) -> bool:
        statuses = [message.content["execution_state"] for message in self.messages if message.type == "status"]
        return "idle" in statuses

    @property
    def is_done(self) -> bool:
        return self.reply is not None and self.is_idle

    def wait_until(self, condition: Callable[[], bool], what: str, timeout: float | None = None) -> None:
        """Wait for `condition` on this request's messages; `what` says in a failure what was missing."""
        try:
            self._client.wait_until(condition, what, timeout)
        except TimeoutError as error:
            error.add_note(f"so far for this {self.msg_type}:\n" + "\n".join(map(str, self.messages)))
            raise

    def wait(self, timeout: float | None = None) -> Result:
        """The result, once reply and idle are there."""
        self.wait_until(lambda: self.is_done, f"reply and idle for a {self.msg_type}", timeout)
        reply = self.reply
        assert reply is not None
        result = Result(tuple(self.messages), reply)
        expected = self.msg_type.removesuffix("_request") + "_reply"
        assert reply.type == expected, f"a {self.msg_type} was answered with a {reply.type}"
        assert result.statuses[0] == "busy", f"not busy first: {result.statuses}"
        assert result.statuses.count("idle") == 1, f"not one idle: {result.statuses}"
        return result

    def wait_for_idle(self, timeout: float | None = None) -> list[Message]:
        """The messages up to idle, for what has no reply: comm messages and the like."""
        self.wait_until(lambda: self.is_idle, f"idle for a {self.msg_type}", timeout)
        return self.messages

    def wait_for_stream(self, text: str, timeout: float | None = None) -> None:
        """Wait until `text` has been printed."""
        self.wait_until(lambda: text in self.stdout, f"{text!r} on stdout", timeout)

    def wait_for_input_request(self, timeout: float | None = None) -> Message:
        """The newest `input_request`."""
        self.wait_until(lambda: bool(self.input_requests), "an input_request", timeout)
        return self.input_requests[-1]
