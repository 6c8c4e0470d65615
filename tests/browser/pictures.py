"""``python -m tests.browser.pictures``: the pictures of JupyterLab in docs/img, made anew.

Needs JupyterLab, ipywidgets, matplotlib, Playwright, Pillow and mpkernel in this Python, and a Chromium.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from mpkernel.kernelspec import DATA, NAME
from scripts.record import CHROMIUM_ARGUMENTS, IMAGES, jupyterlab

from .conftest import CHROMIUM
from .notebook import Console, Notebook

COLOURS = 64  # of a picture: text stays clear, and the file small

BESIDE = """() => {
    const app = window.jupyterapp;
    app.shell.add(window.subshell, 'main', {mode: 'split-right', ref: window.notebook.id});
    app.shell.activateById(window.notebook.id);
}"""

TRAINING = """import time

losses = []
for step in range(10_000):
    losses.append(100 / (step + 1))
    time.sleep(0.05)"""

LOOKING = "len(losses), losses[-1]"

STOPPED = """def mean(values):
    total = sum(values)
    count = len(values)
    return total / count

mean([1, 2, 6])"""

WIDGETS = """import ipywidgets as widgets

speed = widgets.IntSlider(value=30, description="speed")
progress = widgets.IntProgress(max=100, description="progress")
stop = widgets.Button(description="stop")
stop.on_click(lambda _: setattr(stop, "disabled", True))
widgets.VBox([speed, progress, stop])"""

LOOP = """import time

while not stop.disabled:
    progress.value = (progress.value + speed.value) % 100
    time.sleep(0.2)"""


def console(page: Page) -> Notebook:
    """A subshell's console sees the variables of the cell that runs in the notebook."""
    notebook = Notebook.new(page, TRAINING, name="training")
    notebook.start(0)
    beside = Console(notebook)
    page.evaluate(BESIDE)
    beside.run(LOOKING)
    expect(beside.output).to_contain_text("(")
    notebook.wait_running(0)
    return notebook


def debugger(page: Page) -> Notebook:
    """A cell stands at a breakpoint."""
    notebook = Notebook.new(page, STOPPED, name="mean")
    panel = notebook.debug()
    page.evaluate("() => window.jupyterapp.shell.expandRight()")
    notebook.click_gutter(0, 4)
    notebook.start(0)
    expect(panel.locator(".jp-DebuggerVariables")).to_contain_text("total")
    expect(panel.locator(".jp-DebuggerCallstack")).to_contain_text("mean")
    return notebook


def widgets(page: Page) -> Notebook:
    """A slider steers a loop that runs."""
    notebook = Notebook.new(page, WIDGETS, LOOP, name="widgets")
    notebook.run(0)
    notebook.start(1)
    notebook.cell(0).locator(".noUi-handle").focus()
    page.keyboard.press("ArrowRight")
    expect(notebook.output(0)).to_contain_text("31")
    return notebook


PICTURES: dict[str, tuple[int, Callable[[Page], Notebook]]] = {  # by name: height in pixels
    "console": (330, console),
    "debugger": (560, debugger),
    "widgets": (480, widgets),
}


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="mpkernel-pictures-") as folder:
        shutil.copytree(DATA, Path(folder) / "kernels" / NAME)
        os.environ["JUPYTER_PATH"] = folder
        for name, (height, show) in PICTURES.items():
            with jupyterlab(seconds=5) as address, sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
                page = browser.new_page(viewport={"width": 1000, "height": height})
                page.goto(f"{address}/lab?reset", wait_until="domcontentloaded")
                page.wait_for_function("window.jupyterapp?.shell", timeout=60_000)
                page.evaluate("window.jupyterapp.restored.then(() => window.jupyterapp.shell.collapseLeft())")
                notebook = show(page)
                picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
                notebook.interrupt()
                browser.close()
            path = IMAGES / f"{name}.png"
            picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
            print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
