"""A Jupyter server between kernel and front end: what browsers do, over a websocket in both of its formats."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import itertools
import json
import struct
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import psutil
import pytest

from mpkernel.kernelspec import DATA, NAME

from .driver import KERNEL
from .exchange import Json
from .sandbox import PATIENCE, Sandbox, poll_until

pytestmark = [
    pytest.mark.skipif(KERNEL != "mpkernel", reason="they are about how mpkernel is found"),
    pytest.mark.skipif(importlib.util.find_spec("jupyter_server") is None, reason="jupyter_server isn't installed"),
]
WITHIN = 30 * PATIENCE
TOKEN = "secret"
V1 = "v1.kernel.websocket.jupyter.org"
PARTS = ("header", "parent_header", "metadata", "content")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Host and port of a Jupyter server that finds the kernelspec of these sources."""
    with Sandbox() as sandbox:
        specs = sandbox.root / "jupyter" / "kernels"
        specs.mkdir(parents=True)
        (specs / NAME).symlink_to(DATA)
        options = (
            f"--IdentityProvider.token={TOKEN}",
            "--ServerApp.allow_root=True",
            "--ServerApp.port=0",
            "--no-browser",
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyter_server", *options],
            env=sandbox.environment() | {"JUPYTER_PATH": str(specs.parent)},
            cwd=sandbox.cwd,
            stdout=sandbox.log.open("w"),
            stderr=subprocess.STDOUT,
        )
        sandbox.record([psutil.Process(process.pid)])
        assert poll_until(lambda: bool(list(sandbox.runtime.glob("jpserver-*.json"))), WITHIN), sandbox.log_tail()
        (about,) = sandbox.runtime.glob("jpserver-*.json")
        yield f"127.0.0.1:{json.loads(about.read_text())['port']}"
        process.terminate()  # its kernels end with it
        process.wait(WITHIN)
        (sandbox.runtime / "jupyter_cookie_secret").unlink(missing_ok=True)  # is left behind on purpose
        assert sandbox.leftovers() == []


async def call(server: str, method: str, path: str, content: Json | None = None) -> Any:
    """Ask the server's REST interface."""
    from tornado.httpclient import AsyncHTTPClient

    body = json.dumps(content or {}) if method == "POST" else None
    url, headers = f"http://{server}/api/kernels{path}", {"Authorization": f"token {TOKEN}"}
    response = await AsyncHTTPClient().fetch(url, method=method, body=body, headers=headers, request_timeout=WITHIN)
    return json.loads(response.body or b"null")


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


def story(tell: Callable[[str, str, str], Coroutine[Any, Any, None]]) -> Callable[[str, str], None]:
    """A test on a fresh kernel of the server, by either protocol: `tell` gets server, kernel id and protocol."""

    async def with_kernel(server: str, protocol: str) -> None:
        kernel = (await call(server, "POST", "", {"name": NAME}))["id"]
        try:
            await tell(server, kernel, protocol)
        finally:
            await call(server, "DELETE", f"/{kernel}")

    @pytest.mark.parametrize("protocol", [V1, ""], ids=["v1", "json"])
    def test(server: str, protocol: str) -> None:
        asyncio.run(with_kernel(server, protocol))

    return test


@story
async def test_cells_run_and_ask(server: str, kernel: str, protocol: str) -> None:
    async with browser(server, kernel, protocol) as page:
        assert await page.run("print('hello')") == ("ok", "hello\n")
        assert await page.run("print(input('name? '))", "somebody") == ("ok", "somebody\n")
        assert await page.run("1/0") == ("error", "")


@story
async def test_the_stop_button(server: str, kernel: str, protocol: str) -> None:
    async with browser(server, kernel, protocol) as page:
        cell = await page.start("print('ready', flush=True)\nwhile True: pass")
        await page.until(lambda m: m["header"]["msg_type"] == "stream")
        await call(server, "POST", f"/{kernel}/interrupt")
        assert (await page.end(cell))[0] == "error"
        assert await page.run("print(1)") == ("ok", "1\n")


@story
async def test_the_restart_button(server: str, kernel: str, protocol: str) -> None:
    async with browser(server, kernel, protocol) as page:
        await page.run("x = 1")
        assert (await call(server, "POST", f"/{kernel}/restart"))["id"] == kernel
    async with browser(server, kernel, protocol) as page:  # as front ends do
        assert await page.run("print('x' in globals())") == ("ok", "False\n")


@story
async def test_a_page_that_stays_connected_through_a_restart_loses_nothing(
    server: str, kernel: str, protocol: str
) -> None:
    async with browser(server, kernel, protocol) as page:
        for _ in range(2):
            await page.run("x = 1")
            await call(server, "POST", f"/{kernel}/restart")
            assert await page.run("print('x' in globals())") == ("ok", "False\n")


@story
async def test_a_page_that_is_loaded_again_finds_the_kernel_and_its_running_cell(
    server: str, kernel: str, protocol: str
) -> None:
    async with browser(server, kernel, protocol) as page:
        await page.run("x = 1")
        await page.start("print('ready', flush=True)\nx = input('? ')\nprint('done')")
        asked = await page.until(lambda m: m["header"]["msg_type"] == "input_request")
    async with browser(server, kernel, protocol) as page:
        assert (await call(server, "GET", f"/{kernel}"))["execution_state"] == "busy"
        await page.send("stdin", "input_reply", {"value": "2", "status": "ok"}, asked["header"])
        assert await page.run("print(x)") == ("ok", "2\n")


@story
async def test_two_pages_of_one_kernel_are_asked_each_for_itself(server: str, kernel: str, protocol: str) -> None:
    async with browser(server, kernel, protocol) as one, browser(server, kernel, protocol) as other:
        assert await one.run("print(input())", "one") == ("ok", "one\n")
        assert await other.run("print(input())", "other") == ("ok", "other\n")
        assert await one.run("print('again', input())", "one") == ("ok", "again one\n")
