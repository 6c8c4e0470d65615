#!/usr/bin/env python3
"""Record docs/parallel.ipynb as it runs in JupyterLab: docs/img/parallel.gif and docs/img/parallel.png.

A JupyterLab of its own (temporary settings, no token, 127.0.0.1 only) runs the notebook in a headless Chromium, and
pictures are taken while the `watcher` subshell draws the training that runs in the cell after it. Needs JupyterLab,
matplotlib, numpy, Playwright, Pillow and mpkernel in this Python, and a Chromium.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "docs" / "parallel.ipynb"
IMAGES = ROOT / "docs" / "img"

# Nothing of Chromium's own goes out to the network, and no GPU or user namespace is asked for.
CHROMIUM_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# No question about news covers the notebook, every cell has its height from the start (no windowing), and 120 columns
# of code fit into the width.
SETTINGS = {
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/themes.jupyterlab-settings": {
        "overrides": {"code-font-size": "11px", "content-font-size1": "12px"}
    },
}

OPEN = """async () => {
    const app = window.jupyterapp;
    await app.restored;
    app.shell.mode = 'single-document';
    app.shell.collapseLeft();
    app.shell.collapseRight();
    // Menus, side bars and status bar say nothing here: the picture is for the cells.
    const hide = widget => {
        if (/^jp-(top|menu|bottom)-panel/.test(widget.id) || widget.hasClass('jp-SideBar')) {
            widget.hide();
        } else if (widget.id !== 'jp-main-dock-panel' && widget.layout) {
            for (const child of widget.layout) hide(child);
        }
    };
    hide(app.shell);
    await app.shell.currentWidget.context.sessionContext.ready;
}"""

IS_IDLE = "window.jupyterapp.shell.currentWidget.context.sessionContext.session?.kernel?.status === 'idle'"


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def jupyterlab(seconds: float) -> Iterator[str]:
    """A JupyterLab with a copy of the notebook in its root; yields its address. It is gone afterwards.

    Args:
        seconds: how long the notebook's watcher lets the training run.

    Raises:
        RuntimeError: it didn't come up within a minute; the message has what it logged.
    """
    with tempfile.TemporaryDirectory(prefix="mpkernel-record-") as directory:
        home = Path(directory)
        for name, content in SETTINGS.items():
            path = home / "settings" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))
        work = home / "work"
        work.mkdir()
        shutil.copy(NOTEBOOK, work)
        port = free_port()
        options = {
            "ServerApp.ip": "127.0.0.1",
            "ServerApp.port": port,
            "ServerApp.port_retries": 0,
            "ServerApp.root_dir": work,
            "ServerApp.open_browser": False,
            "ServerApp.allow_root": True,
            "IdentityProvider.token": "",
            "LabApp.expose_app_in_browser": True,
        }
        environment = {
            **os.environ,
            "JUPYTER_CONFIG_DIR": f"{home}/config",
            "JUPYTER_DATA_DIR": f"{home}/data",
            "JUPYTER_RUNTIME_DIR": f"{home}/runtime",
            "JUPYTERLAB_SETTINGS_DIR": f"{home}/settings",
            "JUPYTERLAB_WORKSPACES_DIR": f"{home}/workspaces",
            "IPYTHONDIR": f"{home}/ipython",
            "MPKERNEL_DEMO_SECONDS": str(seconds),
            "OPENBLAS_NUM_THREADS": "1",  # the training takes one core: the other is the watcher's
        }
        command = [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())]
        log = home / "server.log"
        with log.open("wb") as output:
            server = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(300):
                with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/api/status", timeout=5):
                    break
                if server.poll() is not None:
                    raise RuntimeError(f"JupyterLab ended with {server.returncode}:\n{log.read_text()}")
                time.sleep(0.2)
            else:
                raise RuntimeError(f"JupyterLab didn't come up:\n{log.read_text()}")
            yield address
        finally:
            server.terminate()  # on which it shuts its kernels down
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def open_notebook(page: Page, address: str) -> None:
    """Open the notebook alone, without side panels, and wait until its kernel is idle."""
    page.goto(f"{address}/lab/tree/{NOTEBOOK.name}?reset", wait_until="domcontentloaded")
    page.wait_for_function("window.jupyterapp?.shell?.currentWidget?.context?.isReady", timeout=60_000)
    page.evaluate(OPEN)
    page.wait_for_function(IS_IDLE, timeout=60_000)


def frame(page: Page, first: Locator, last: Locator) -> None:
    """Scroll and size the page so that it shows the cells from `first` to `last`, and a line of output to come."""
    first.evaluate("cell => cell.scrollIntoView({block: 'start'})")
    boxes = first.bounding_box(), last.bounding_box()
    if not (boxes[0] and boxes[1] and page.viewport_size):
        raise RuntimeError("the cells to show are not on the page")
    height = boxes[1]["y"] + boxes[1]["height"] + 30
    page.set_viewport_size({"width": page.viewport_size["width"], "height": round(height)})
    first.evaluate("cell => cell.scrollIntoView({block: 'start'})")


def record(page: Page, seconds: float, count: int) -> list[Image.Image]:
    """Run all cells and take `count` pictures, the last one after the end of the training."""
    cells = page.locator(".jp-CodeCell")
    watcher = cells.filter(has_text="%%subshell watcher")
    training = cells.filter(has_text="train()")
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
    plot = watcher.locator(".jp-OutputArea-output img")
    plot.wait_for(timeout=60_000)
    expect(plot).not_to_have_attribute("src", plot.get_attribute("src") or "", timeout=60_000)  # the first curve
    frame(page, watcher, training)
    pictures = []
    began = time.monotonic()
    for index in range(count - 1):
        due = began + index * (seconds - 3) / (count - 1)  # the watcher ends a little before `seconds` after `began`
        page.wait_for_timeout(max(0.0, due - time.monotonic()) * 1000)
        if (prompt := training.locator(".jp-InputPrompt").inner_text().strip()) != "[*]:":
            raise RuntimeError(f"the training should be running at picture {index}, but its prompt is {prompt!r}")
        pictures.append(take(page))
    training.locator(".jp-OutputArea-output").get_by_text("interrupted by the watcher").wait_for()
    page.wait_for_timeout(1000)  # for the cells after it
    pictures.append(take(page))
    return pictures


def take(page: Page) -> Image.Image:
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def save(pictures: list[Image.Image]) -> None:
    """Write the animation (one palette for all frames, so that what doesn't change costs nothing) and the still."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    still = pictures[-2]
    still.save(IMAGES / "parallel.png", optimize=True)
    width, height = still.size
    strip = Image.new("RGB", (width, height * len(pictures)))  # quantized as one, the frames have one palette
    for index, picture in enumerate(pictures):
        strip.paste(picture, (0, index * height))
    strip = strip.quantize(64, dither=Image.Dither.NONE)
    frames = [strip.crop((0, top, width, top + height)) for top in range(0, strip.height, height)]
    durations = [500] * (len(frames) - 1) + [2500]
    frames[0].save(
        IMAGES / "parallel.gif", save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the training runs")
    parser.add_argument("--frames", type=int, default=14, help="pictures in the animation")
    parser.add_argument("--width", type=int, default=920, help="of the pictures, in pixels")
    parser.add_argument("--chromium", default=shutil.which("chromium") or "/usr/bin/chromium", help="the browser")
    options = parser.parse_args()
    with jupyterlab(options.seconds) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.chromium, args=CHROMIUM_ARGUMENTS)
        page = browser.new_page(viewport={"width": options.width, "height": 1000})
        open_notebook(page, address)
        pictures = record(page, options.seconds, options.frames)
        browser.close()
    save(pictures)
    for name in "parallel.gif", "parallel.png":
        print(f"{IMAGES / name}: {(IMAGES / name).stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
