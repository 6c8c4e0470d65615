"""Front ends that people sit in front of, driven by their keys or pages: qtconsole, voila, euporie, jupyter console.

They run as any other program would start them; what they show is what counts. With ``MPKERNEL_TEST_KERNEL=ipykernel``
the same stories are told of ipykernel.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from .driver import KERNELSPEC, install_kernelspec
from .programs import WITHIN, free_ports, needs, notebook, run
from .sandbox import Sandbox, poll_until

# Ends in no other way than by an interrupt. "ready" isn't in the code: who sees it doesn't see the code.
ENDLESS = "print('rea' 'dy'); all(n == 0 for n in iter(int, 1))"


@pytest.fixture
def home() -> Iterator[Sandbox]:
    """Where front ends find the kernel under test, and none of its processes is left over at the end."""
    with Sandbox() as sandbox, pytest.MonkeyPatch.context() as patch:
        install_kernelspec(sandbox.data)
        patch.setenv("QT_QPA_PLATFORM", "offscreen")
        yield sandbox
        assert poll_until(lambda: not sandbox.still_running(), sandbox.gone_within), sandbox.still_running()


@needs("qtconsole", "PySide6")
@pytest.mark.heavy
def test_qtconsole(home: Sandbox) -> None:
    pytest.importorskip("qtpy.QtTest", reason="Qt can't be loaded here", exc_type=ImportError)
    told = run(home, "-m", "tests.kernel.in_qtconsole").split()
    assert told == ["execute", "complete", "page", "see_a_call_tip", "answer_input", "plot", "interrupt", "restart"]


class NoFocus(Exception):
    """The box for an answer isn't where the cursor is."""


@needs("euporie", "pyte")
@pytest.mark.heavy
def test_euporie_console(home: Sandbox) -> None:
    """Whether its box for an answer gets the focus is a matter of timing, as its code says: then another is tried."""
    for _ in range(5):
        with suppress(NoFocus):
            work_in_euporie(home)
            return
    pytest.fail("the box for an answer never got the focus")


def work_in_euporie(home: Sandbox) -> None:
    from .terminal import Terminal

    argv = [sys.executable, "-m", "euporie.console", "--kernel-name", KERNELSPEC]
    with Terminal(argv, home.environment(), home.cwd) as terminal:
        terminal.wait_for_prompt("In [1]:")
        terminal.type("6 * 7\r")
        terminal.wait_for("Out[1]: 42")
        terminal.wait_for_prompt("In [2]:")
        terminal.type("input('wh' 'at? ') * 2\r")
        terminal.wait_for("what?")
        try:
            terminal.wait_for_prompt("what?", within=3)
        except AssertionError as error:
            raise NoFocus from error
        terminal.type("ab\r")
        terminal.wait_for("Out[2]: 'abab'")
        terminal.wait_for_prompt("In [3]:")
        terminal.type(f"{ENDLESS}\r")
        terminal.wait_for("  ready")
        terminal.type("\x03")
        terminal.wait_for("KeyboardInterrupt")
        terminal.wait_for_prompt("In [4]:")
        terminal.type("sensible_name = 5\r")
        terminal.wait_for_prompt("In [5]:")
        terminal.type("sensible_n\t")
        terminal.wait_for("In [5]: ▏>▕sensible_name")
        terminal.type("\x11")
        assert terminal.wait_for_the_end() == 0


@needs("euporie", "pyte")
@pytest.mark.heavy
def test_euporie_notebook(home: Sandbox) -> None:
    from .terminal import Terminal

    path = notebook(home, "print('fir' 'st', 6 * 7)", ENDLESS, kernel=KERNELSPEC)
    argv = [sys.executable, "-m", "euporie.notebook", str(path)]
    with Terminal(argv, home.environment(), home.cwd) as terminal:
        terminal.wait_for("[ ] ▏>▕print('fir'")
        terminal.type("\x05")  # run the cell
        terminal.wait_for("[1] first 42")
        terminal.type("\x1b[B\x05")  # and the one below
        terminal.wait_for("ready")
        terminal.type("ii")
        terminal.wait_for("KeyboardInterrupt")
        terminal.type("\x11")
        terminal.wait_for("Unsaved Changes")
        terminal.type("\r")  # save them
        assert terminal.wait_for_the_end() == 0
    first, second = json.loads(path.read_text())["cells"]
    assert "".join(part for output in first["outputs"] for part in output["text"]) == "first 42\n"  # in any pieces
    assert second["outputs"][-1]["ename"] == "KeyboardInterrupt"


@needs("jupyter_console", "pyte")
def test_jupyter_console(home: Sandbox) -> None:
    """It waits for its history for a second, and takes one that comes later for another answer: then once more."""
    for _ in range(5):
        with suppress(Impatient):
            work_in_jupyter_console(home)
            return
    pytest.fail("the history never came within a second")


class Impatient(Exception):
    """A front end took the answer to one request for that to another."""


def work_in_jupyter_console(home: Sandbox) -> None:
    from .terminal import Terminal

    argv = [sys.executable, "-m", "jupyter_console", f"--kernel={KERNELSPEC}"]
    with Terminal(argv, home.environment(), home.cwd) as terminal:
        terminal.wait_for_prompt("In [1]:")
        terminal.type("6 * 7\r")
        terminal.wait_for("Out[1]: 42")
        if "did not respond properly" in terminal.text:
            raise Impatient
        terminal.wait_for_prompt("In [2]:")
        terminal.type("print(input('wh' 'at? ') * 2)\r")
        terminal.wait_for_prompt("what?")
        terminal.type("ab\r")
        terminal.wait_for("\nabab")
        terminal.wait_for_prompt("In [3]:")
        terminal.type(f"{ENDLESS}\r")
        terminal.wait_for("\nready")
        terminal.type("\x03")
        terminal.wait_for("KeyboardInterrupt")
        terminal.wait_for_prompt("In [4]:")
        terminal.type("sensible_name = 5\r")
        terminal.wait_for_prompt("In [5]:")
        terminal.type("sensible_n\t")
        terminal.wait_for("In [5]: sensible_name")
        terminal.type("\r")
        terminal.wait_for("Out[5]: 5")
        terminal.type("exit\r")
        assert terminal.wait_for_the_end() == 0


PAGE = (
    "print('fir' 'st', 6 * 7)",
    "import matplotlib.pyplot as plt\n_ = plt.plot([1, 2])",
    "import ipywidgets\nslider, label = ipywidgets.IntSlider(value=3), ipywidgets.Label()\n"
    "slider.observe(lambda change: setattr(label, 'value', f'moved to {change.new}'), 'value')\n"
    "display(slider, label)",
)


@needs("voila", "ipywidgets", "matplotlib")
@pytest.mark.heavy
def test_voila(home: Sandbox) -> None:
    """A page with output, plot and widgets, whose callback is called by what the page sends."""
    path, port = notebook(home, *PAGE, kernel=KERNELSPEC), free_ports("http")["http"]
    argv = [sys.executable, "-m", "voila", str(path), "--no-browser", f"--port={port}"]
    with home.log.open("w") as log:
        process = subprocess.Popen(argv, env=home.environment(), cwd=home.cwd, stdout=log, stderr=log)
    home.record([psutil.Process(process.pid)])
    assert poll_until(lambda: "is running at" in home.log_tail() or process.poll() is not None, WITHIN)
    asyncio.run(look_at_the_page(f"127.0.0.1:{port}"))
    process.terminate()
    assert process.wait(WITHIN) == 0


async def look_at_the_page(server: str) -> None:
    from tornado.httpclient import AsyncHTTPClient

    from .websocket import V1, browser

    response = await AsyncHTTPClient().fetch(f"http://{server}/", request_timeout=WITHIN)
    page = response.body.decode()
    assert "first 42" in page
    assert '"image/png": "iVBOR' in page
    (kernel,) = re.findall(r'"kernelId": "([^"]+)"', page)
    slider, label = re.findall(r'"model_id": "([0-9a-f]+)"', page)
    async with browser(server, kernel, V1) as socket:
        change = {"method": "update", "state": {"value": 7}, "buffer_paths": []}
        await socket.send("shell", "comm_msg", {"comm_id": slider, "data": change})
        answer = await socket.until(lambda message: message["content"].get("comm_id") == label)
        assert answer["content"]["data"]["state"] == {"value": "moved to 7"}
