"""What a user sees in JupyterLab: each test works a notebook, in a real browser, on a kernel of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from mpkernel.kernelspec import DISPLAY_NAME, NAME
from tests.kernel.sandbox import poll_until
from tests.readme import blocks

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.notebook import Notebook

Open = Callable[..., "Notebook"]


@pytest.fixture
def open_notebook(page: Page) -> Iterator[Open]:
    from tests.browser.notebook import Notebook

    opened: list[Notebook] = []

    def new(*cells: str, kernel: str = NAME) -> Notebook:
        opened.append(Notebook.new(page, *cells, kernel=kernel))
        return opened[-1]

    yield new
    for notebook in opened:
        notebook.close()


def see(locator: object, text: str) -> None:
    """Wait until this text is on the page there."""
    from playwright.sync_api import expect

    expect(locator).to_contain_text(text, timeout=20_000)


def test_a_subshell_console_answers_while_the_notebook_is_busy(open_notebook: Open) -> None:
    from tests.browser.notebook import Console

    notebook = open_notebook("x = 41", "while True: pass", "x")
    notebook.run(0)
    notebook.start(1)
    console = Console(notebook)
    console.run("x += 1; x")
    see(console.output, "42")
    notebook.wait_running(1)
    notebook.wait_status("busy")
    console.close()
    notebook.interrupt()
    see(notebook.output(1), "KeyboardInterrupt")
    notebook.wait_done(1)  # what is sent earlier is aborted with it
    notebook.run(2)
    see(notebook.output(2), "42")
    notebook.wait_status("idle")


def test_a_subshell_console_sees_what_the_notebooks_cell_has_just_now(open_notebook: Open) -> None:
    from tests.browser.notebook import Console

    notebook = open_notebook("n = 0\nwhile True: n += 1")
    notebook.start(0)
    console = Console(notebook)
    console.run("before = n; print('running', before > 0)")
    see(console.output, "running True")
    console.run("print('later', n > before)")
    see(console.output, "later True")
    notebook.wait_running(0)
    console.close()
    notebook.interrupt()
    see(notebook.output(0), "KeyboardInterrupt")


def test_the_readmes_cells_watch_a_loop(open_notebook: Open) -> None:
    notebook = open_notebook(*blocks("python"))
    notebook.run(0)
    notebook.run(1)
    notebook.start(2)
    see(notebook.output(1), "steps, loss [0.9")
    notebook.wait_running(2)
    notebook.interrupt()
    see(notebook.output(2), "KeyboardInterrupt")


def test_the_stop_button_stops_what_was_started_last(open_notebook: Open) -> None:
    from tests.browser.notebook import Console

    notebook = open_notebook("while True: pass")
    notebook.start(0)
    console = Console(notebook)
    console.run("print('started')\nwhile True: pass")
    see(console.output, "started")
    notebook.interrupt()
    see(console.output, "KeyboardInterrupt")
    notebook.wait_running(0)
    notebook.interrupt()
    see(notebook.output(0), "KeyboardInterrupt")


@pytest.mark.parametrize(
    "code", ["while True: pass", "import asyncio; await asyncio.sleep(100)", "import time; time.sleep(100)"]
)
def test_the_stop_button_stops_a_cell(open_notebook: Open, code: str) -> None:
    notebook = open_notebook(f"print('started')\n{code}")
    notebook.start(0)
    see(notebook.output(0), "started")  # the kernel is busy with widgets, too, when a page is opened
    notebook.interrupt()
    see(notebook.output(0), "KeyboardInterrupt")
    notebook.wait_status("idle")


def test_a_killed_process_costs_its_cell_only(open_notebook: Open) -> None:
    notebook = open_notebook("kept = 'still here'", "import os; os.kill(os.getpid(), 9)", "kept")
    notebook.run(0)
    notebook.run(1)
    see(notebook.output(1), "WorkerDied")
    see(notebook.output(1), "SIGKILL")
    notebook.wait_status("idle")
    notebook.run(2)
    see(notebook.output(2), "still here")
    notebook.wait_status("idle")


def test_a_killed_kernel_is_told_of_and_started_again(open_notebook: Open) -> None:
    notebook = open_notebook("x = 1", "import os; os.kill(os.getppid(), 9)", "'x' in globals()")
    notebook.run(0)
    notebook.start(1)
    see(notebook.dialog, "restart")
    notebook.accept()
    notebook.wait_status("idle")
    notebook.run(2)
    see(notebook.output(2), "False")


def test_the_kernel_is_changed_by_the_menu(open_notebook: Open, page: Page) -> None:
    pytest.importorskip("ipykernel")
    notebook = open_notebook("'mpkernel' in __import__('sys').modules", "x = 20 + 22; x", kernel="python3")
    notebook.run(0)
    see(notebook.output(0), "False")
    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.get_by_role("menuitem", name="Change Kernel…").click()
    notebook.dialog.locator("select").select_option(label=DISPLAY_NAME)
    notebook.accept()
    notebook.wait_kernel(NAME)
    notebook.wait_status("idle")
    notebook.run(1)
    see(notebook.output(1), "42")
    notebook.run(0)
    see(notebook.output(0), "True")


def test_closing_a_subshell_console_ends_its_process(open_notebook: Open) -> None:
    import psutil

    from tests.browser.notebook import Console

    notebook = open_notebook("import os\nos.getpid()")
    notebook.run(0)
    console = Console(notebook)
    console.run("print('pid', os.getpid(), 'end')")
    see(console.output, "end")
    main, child = (int(re.search(r"\d{2,}", output.inner_text())[0]) for output in (notebook.output(0), console.output))
    assert main != child
    console.close()
    assert poll_until(lambda: not psutil.pid_exists(child), 10)
    assert psutil.pid_exists(main)


def test_a_console_whose_subshell_a_restart_ended_says_so(open_notebook: Open, page: Page) -> None:
    from tests.browser.notebook import Console

    notebook = open_notebook("1")
    console = Console(notebook)
    page.evaluate("window.notebook.context.sessionContext.restartKernel()")
    notebook.wait_status("idle")
    console.run("1")
    see(console.output, "SubshellNotFound")


def test_completion_while_a_cell_runs(open_notebook: Open, page: Page) -> None:
    notebook = open_notebook("class Ship:\n    masts = 3\nship = Ship()", "while True: pass", "ship.")
    notebook.run(0)
    notebook.start(1)
    see(notebook.complete(2), "masts")
    page.keyboard.press("Escape")
    notebook.wait_running(1)
    notebook.wait_status("busy")
    notebook.interrupt()
    see(notebook.output(1), "KeyboardInterrupt")


def test_a_tooltip_while_a_cell_runs(open_notebook: Open, page: Page) -> None:
    notebook = open_notebook("def sail(knots):\n    'Hoist the sails.'", "while True: pass", "sail")
    notebook.run(0)
    notebook.start(1)
    see(notebook.inspect(2), "Hoist the sails.")
    page.keyboard.press("Escape")
    notebook.wait_running(1)
    notebook.wait_status("busy")
    notebook.interrupt()
    see(notebook.output(1), "KeyboardInterrupt")


def test_restart_and_run_all_while_a_cell_runs(open_notebook: Open) -> None:
    first = "from pathlib import Path\nprint('seen' in globals())\nseen = 1"
    waits_once = "log = Path('runs.txt')\nlog.write_text('x' + (log.read_text() if log.exists() else ''))\n"
    notebook = open_notebook(first, waits_once + "while log.read_text() == 'x': pass\nprint('second run')", "seen")
    notebook.run(0)
    notebook.run(0)
    see(notebook.output(0), "True")
    notebook.start(1)
    notebook.command("notebook:restart-run-all")
    notebook.accept()
    see(notebook.output(0), "False")
    see(notebook.output(1), "second run")
    see(notebook.output(2), "1")
    see(notebook.cell(2).locator(".jp-InputPrompt"), "[3]:")
    notebook.wait_status("idle")


def test_a_page_is_loaded_again_while_a_cell_runs(other_page: Page) -> None:
    """JupyterLab puts nothing under a cell that it didn't start; but the kernel's messages and state are there."""
    from tests.browser.conftest import wait_restored
    from tests.browser.notebook import Console, Notebook

    loop = "import os, time\nn = 0\nwhile not os.path.exists('go'): n += 1; print(n, flush=True); time.sleep(0.05)"
    notebook = Notebook.new(other_page, f"{loop}\nos.remove('go'); print('end')", "print('reached', n > 1)")
    notebook.start(0)
    see(notebook.output(0), "1")
    other_page.evaluate("window.notebook.context.save()")
    other_page.reload(wait_until="domcontentloaded")
    wait_restored(other_page)
    notebook = Notebook(other_page, notebook.path)
    notebook.wait_status("busy")
    heard = notebook.show_later_output()
    notebook.start(1)
    console = Console(notebook)
    console.run("open('go', 'w').close()")
    see(heard, "end")
    notebook.wait_done(1)
    see(notebook.output(1), "reached True")
    notebook.wait_status("idle")
    notebook.close()


def test_two_tabs_on_one_notebook(open_notebook: Open, other_page: Page) -> None:
    from tests.browser.notebook import Notebook

    notebook = open_notebook(
        "x = 1\nprint('started')\nwhile True: pass", "x += 1\nprint('x is', x)", "print(input('? '))"
    )
    other = Notebook(other_page, notebook.path)
    other.wait_status("idle")
    notebook.start(0)
    see(notebook.output(0), "started")
    other.wait_status("busy")
    other.interrupt()
    see(notebook.output(0), "KeyboardInterrupt")
    other.wait_status("idle")
    other.run(1)
    see(other.output(1), "x is 2")
    notebook.run(1)
    see(notebook.output(1), "x is 3")
    other.start(2)
    box = other.cell(2).locator(".jp-Stdin-input")
    box.fill("the other")
    assert notebook.cell(2).locator(".jp-Stdin-input").count() == 0
    box.press("Enter")
    see(other.output(2), "the other")
    notebook.wait_status("idle")


def test_a_restart_in_one_tab_is_noticed_in_the_other(open_notebook: Open, other_page: Page) -> None:
    from playwright.sync_api import expect

    from tests.browser.notebook import Notebook

    notebook = open_notebook("x = 1", "print('started')\nwhile True: pass", "print('x' in globals())")
    other = Notebook(other_page, notebook.path)
    other.wait_status("idle")
    notebook.run(0)
    notebook.start(1)
    see(notebook.output(1), "started")
    other_page.evaluate("window.notebook.context.sessionContext.restartKernel()")
    other.wait_status("idle")
    notebook.wait_status("idle")
    expect(notebook.cell(1).locator(".jp-InputPrompt")).to_have_text("[2]:")
    notebook.run(2)
    see(notebook.output(2), "False")


def test_input_is_asked_for_and_answered(open_notebook: Open) -> None:
    notebook = open_notebook("name = input('who? ')\nprint('hello', name)")
    notebook.start(0)
    box = notebook.cell(0).locator(".jp-Stdin-input")
    box.fill("Ada")
    box.press("Enter")
    see(notebook.output(0), "hello Ada")
    notebook.wait_status("idle")


def test_a_slider_is_moved(open_notebook: Open, page: Page) -> None:
    code = "from ipywidgets import interact\n@interact(x=(0, 50))\ndef square(x=3): print('square', x * x)"
    notebook = open_notebook(code)
    notebook.run(0)
    see(notebook.output(0), "square 9")
    notebook.cell(0).locator(".noUi-handle").focus()
    page.keyboard.press("ArrowRight")
    see(notebook.output(0), "square 16")
    notebook.wait_status("idle")


def test_a_slider_is_moved_while_a_cell_runs(open_notebook: Open, page: Page) -> None:
    slider = "import time, ipywidgets as w\nslider = w.IntSlider(); progress = w.Label('0'); w.VBox([slider, progress])"
    loop = "n = 0\nwhile slider.value < 2: n += 1; progress.value = f'at {n}'; time.sleep(0.02)\nprint('stopped')"
    notebook = open_notebook(slider, loop)
    notebook.run(0)
    see(notebook.output(0), "0")
    notebook.start(1)
    see(notebook.output(0), "at ")
    notebook.cell(0).locator(".noUi-handle").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    see(notebook.output(1), "stopped")
    notebook.wait_status("idle")


def test_a_button_prints_into_an_output_widget_while_a_cell_runs(open_notebook: Open) -> None:
    button = (
        "import time, ipywidgets as w\nout = w.Output(); button = w.Button(description='press'); stop = False\n"
        "def pressed(_):\n    global stop\n    with out: print('was pressed')\n    stop = True\n"
        "button.on_click(pressed)\nw.VBox([button, out])"
    )
    notebook = open_notebook(button, "while not stop: pass\nprint('went on')")
    notebook.run(0)
    notebook.cell(0).locator("button:has-text('press')").wait_for()
    notebook.start(1)
    notebook.cell(0).locator("button:has-text('press')").click()
    see(notebook.output(0), "was pressed")
    see(notebook.output(1), "went on")


def test_a_plot_is_shown_once(open_notebook: Open) -> None:
    pytest.importorskip("matplotlib")
    notebook = open_notebook("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nNone")
    notebook.run(0)
    notebook.output(0).locator("img").wait_for()
    assert notebook.output(0).locator("img").count() == 1


def test_a_bar_of_tqdm_advances_while_the_cell_runs(open_notebook: Open) -> None:
    pytest.importorskip("tqdm")
    code = (
        "from tqdm.notebook import tqdm\nimport ipywidgets as w\n"
        "for n in tqdm(range(4), mininterval=0):\n    while n == 2: pass"
    )
    notebook = open_notebook(code)
    notebook.start(0)
    see(notebook.output(0), "2/4")
    notebook.interrupt()
    see(notebook.output(0), "KeyboardInterrupt")


def test_a_subshell_in_the_background_writes_under_its_cell(open_notebook: Open) -> None:
    notebook = open_notebook("%%subshell behind\nprint('started')\nwhile True: pass", "1 + 1")
    notebook.run(0)
    see(notebook.output(0), "started")
    notebook.run(1)
    see(notebook.output(1), "2")
    notebook.wait_status("busy")
    notebook.interrupt()
    see(notebook.output(0), "KeyboardInterrupt")
    notebook.wait_status("idle")


def test_a_click_beside_a_line_stops_the_cell_there(open_notebook: Open) -> None:
    notebook = open_notebook("def add(n):\n    result = n + 1\n    return result\n\nprint(add(41))")
    panel = notebook.debug()
    notebook.click_gutter(0, 3)
    notebook.start(0)
    variables = panel.locator(".jp-DebuggerVariables")
    see(variables, "result")
    see(variables, "42")
    see(panel.locator(".jp-DebuggerCallstack"), "add")
    panel.locator("[data-command='debugger:continue'], [title^='Continue']").first.click()
    notebook.wait_done(0)
    see(notebook.output(0), "42")
    notebook.wait_status("idle")
