"""A websocket to a kernel of a Jupyter server, as a page in a browser has it, in both of its formats."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import struct
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

from .exchange import Json
from .sandbox import PATIENCE

WITHIN = 30 * PATIENCE
TOKEN = "secret"
V1 = "v1.kernel.websocket.jupyter.org"
PARTS = ("header", "parent_header", "metadata", "content")


class Browser:
    """One websocket. `protocol` is a subprotocol, or "" for messages as JSON."""

    def __init__(self, connection: Any, protocol: str) -> None:
        assert (connection.selected_subprotocol or "") == protocol
        self._connection = connection
        self._protocol = protocol
        self._session = uuid.uuid4().hex
        self._ids = itertools.count()

    async def send(self, channel: str, msg_type: str, content: Json, parent: Json | None = None) -> str:
        """Send a message; returns its id."""
        header = {"msg_id": f"{self._session}-{next(self._ids)}", "msg_type": msg_type, "session": self._session}
        header |= {"username": "", "date": "2026-01-01T00:00:00Z", "version": "5.4"}
        parts = {"header": header, "parent_header": parent or {}, "metadata": {}, "content": content}
        if not self._protocol:
            await self._connection.write_message(json.dumps({**parts, "channel": channel, "buffers": []}))
            return header["msg_id"]
        frames = [channel.encode(), *(json.dumps(parts[name]).encode() for name in PARTS)]
        starts = itertools.accumulate(map(len, frames), initial=8 * (len(frames) + 2))
        offsets = [len(frames) + 1, *starts]
        packed = struct.pack(f"<{len(offsets)}Q", *offsets)
        await self._connection.write_message(packed + b"".join(frames), binary=True)
        return header["msg_id"]

    async def receive(self) -> Json:
        """The next message."""
        data = await asyncio.wait_for(self._connection.read_message(), WITHIN)
        assert data is not None, "the server closed the websocket"
        if isinstance(data, str):
            return dict(json.loads(data))
        (count,) = struct.unpack_from("<Q", data)
        offsets = struct.unpack_from(f"<{count}Q", data, 8)
        channel, *parts = (data[start:end] for start, end in itertools.pairwise(offsets))
        loaded = {name: json.loads(part) for name, part in zip(PARTS, parts, strict=False)}  # buffers may follow
        return {"channel": channel.decode(), **loaded}

    async def until(self, wanted: Callable[[Json], bool]) -> Json:
        while not wanted(message := await self.receive()):
            pass
        return message

    async def run(self, code: str, answer: str | None = None) -> tuple[str, str]:
        """Run a cell; returns its status and what it printed."""
        return await self.end(await self.start(code), answer)

    async def start(self, code: str) -> str:
        return await self.send("shell", "execute_request", {"code": code, "silent": False, "allow_stdin": True})

    async def end(self, msg_id: str, answer: str | None = None) -> tuple[str, str]:
        status, text, idle = "", "", False
        while not (status and idle):
            message = await self.until(lambda m: m["parent_header"].get("msg_id") == msg_id)
            msg_type, content = message["header"]["msg_type"], message["content"]
            text += content["text"] if msg_type == "stream" else ""
            status = content["status"] if msg_type == "execute_reply" else status
            idle |= content.get("execution_state") == "idle"
            if msg_type == "input_request":
                await self.send("stdin", "input_reply", {"value": answer, "status": "ok"}, message["header"])
        return status, text


@contextlib.asynccontextmanager
async def browser(server: str, kernel: str, protocol: str) -> AsyncIterator[Browser]:
    from tornado.websocket import websocket_connect

    url = f"ws://{server}/api/kernels/{kernel}/channels?token={TOKEN}&session_id={uuid.uuid4().hex}"
    connection = await websocket_connect(url, subprotocols=[protocol] if protocol else None)
    try:
        yield Browser(connection, protocol)
    finally:
        connection.close()
