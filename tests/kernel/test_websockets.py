"""A Jupyter server between kernel and front end: what browsers do, over a websocket in both of its formats."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any

import psutil
import pytest

from mpkernel.kernelspec import DATA, NAME

from .driver import KERNEL
from .exchange import Json
from .sandbox import PATIENCE, Sandbox, poll_until
from .websocket import TOKEN, V1, browser

pytestmark = [
    pytest.mark.skipif(KERNEL != "mpkernel", reason="they are about how mpkernel is found"),
    pytest.mark.skipif(importlib.util.find_spec("jupyter_server") is None, reason="jupyter_server isn't installed"),
]
WITHIN = 30 * PATIENCE


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
        ports: list[int] = []

        def is_there() -> bool:
            for about in sandbox.runtime.glob("jpserver-*.json"):
                with suppress(ValueError):  # it is being written
                    ports.append(json.loads(about.read_text())["port"])
            return bool(ports)

        assert poll_until(is_there, WITHIN), sandbox.log_tail()
        yield f"127.0.0.1:{ports[0]}"
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
