"""A notebook open in JupyterLab, as its user sees it: cells run by commands, prompts and outputs read off the page."""

from __future__ import annotations

import contextlib
import re
import uuid

from playwright.sync_api import Locator, Page, TimeoutError, expect

MADE = """async ([path, cells]) => {
    const app = window.jupyterapp;
    const metadata = {kernelspec: {name: 'mpkernel', display_name: 'Python 3 (mpkernel)'}};
    const content = {nbformat: 4, nbformat_minor: 5, metadata, cells: cells.map((source, index) => ({
        id: `cell-${index}`, cell_type: 'code', metadata: {}, outputs: [], execution_count: null, source}))};
    await app.serviceManager.contents.save(path, {type: 'notebook', format: 'json', content});
    const notebook = await app.commands.execute('docmanager:open', {path});
    await notebook.context.ready;
    await notebook.context.sessionContext.ready;
    window.notebook = notebook;
}"""

CONSOLE = """async () => {
    const app = window.jupyterapp;
    const before = new Set(app.shell.widgets('main'));
    await app.commands.execute('notebook:create-subshell-console');
    window.subshell = [...app.shell.widgets('main')].find(widget => !before.has(widget) && widget.console);
    await window.subshell.sessionContext.ready;
}"""

RUN = """index => {
    window.jupyterapp.shell.activateById(window.notebook.id);
    window.notebook.content.activeCellIndex = index;
    window.notebook.content.deselectAll();
    window.jupyterapp.commands.execute('notebook:run-cell');
}"""

KERNEL = "window.notebook.context.sessionContext.session.kernel"


class Notebook:
    """A new notebook with these cells, and a kernel that is idle."""

    def __init__(self, page: Page, *cells: str, name: str = "") -> None:
        self.page = page
        page.evaluate(MADE, [f"{name or uuid.uuid4()}.ipynb", cells])
        self.wait_status("idle")

    def close(self) -> None:
        """Close the notebook and end its kernel."""
        self.page.evaluate(
            """async () => {
                await window.notebook.context.save();
                await window.notebook.context.sessionContext.shutdown();
                window.notebook.close();
            }"""
        )

    def cell(self, index: int) -> Locator:
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook-cell").nth(index)

    def output(self, index: int) -> Locator:
        return self.cell(index).locator(".jp-Cell-outputArea")

    def start(self, index: int) -> None:
        """Run a cell and wait until it is running."""
        self.page.evaluate(RUN, index)
        self.wait_running(index)
        self.wait_status("busy")

    def run(self, index: int) -> None:
        """Run a cell that hasn't been run yet to its end."""
        self.page.evaluate(RUN, index)
        self.wait_done(index)

    def wait_running(self, index: int) -> None:
        expect(self.cell(index).locator(".jp-InputPrompt")).to_have_text("[*]:")

    def wait_done(self, index: int) -> None:
        """Wait until the cell's prompt has a number."""
        expect(self.cell(index).locator(".jp-InputPrompt")).to_have_text(re.compile(r"\[\d+\]:"), timeout=20_000)

    def wait_status(self, status: str) -> None:
        """Wait until the kernel indicator would show this."""
        self.page.wait_for_function(f"{KERNEL}?.status === '{status}'", timeout=20_000)

    def interrupt(self) -> None:
        """The stop button."""
        self.page.evaluate("window.jupyterapp.commands.execute('notebook:interrupt-kernel')")

    def debug(self) -> Locator:
        """Switch the debugger on, by the bug in the toolbar; returns its panel."""
        bug = self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-DebuggerBugButton")
        for _ in range(10):  # JupyterLab forgets a click that comes while it still asks the kernel for its state
            if bug.get_attribute("aria-pressed") != "true":
                bug.click()
            with contextlib.suppress(TimeoutError):
                self.cell(0).locator(".cm-breakpoint-gutter").first.wait_for(timeout=2000)
                break
        return self.page.locator(".jp-DebuggerSidebar")

    def click_gutter(self, index: int, line: int) -> None:
        """Click beside a line of a cell (from 1): that sets a breakpoint."""
        gutter = self.cell(index).locator(".cm-breakpoint-gutter .cm-gutterElement")
        gutter.nth(line).click()  # the first is an invisible one, for the width
        gutter.nth(line).locator(".cm-breakpoint-icon").wait_for()

    def complete(self, index: int) -> Locator:
        """Ask for completion at the end of a cell (as Tab does); returns the completer's entries."""
        self.page.evaluate(
            """index => {
                window.notebook.content.activeCellIndex = index;
                window.notebook.content.mode = 'edit';
                const editor = window.notebook.content.activeCell.editor;
                editor.focus();
                const line = editor.lineCount - 1;
                editor.setCursorPosition({line, column: editor.getLine(line).length});
            }""",
            index,
        )
        entries = self.page.locator(".jp-Completer:not(.lm-mod-hidden) .jp-Completer-item")
        for _ in range(10):  # the completer comes to a cell some time after the focus
            self.page.evaluate("() => { window.jupyterapp.commands.execute('completer:invoke-notebook') }")
            with contextlib.suppress(TimeoutError):
                entries.first.wait_for(timeout=2000)
                break
        return entries


class Console:
    """The New Subshell Console of a notebook."""

    def __init__(self, notebook: Notebook) -> None:
        self.page = notebook.page
        self.page.evaluate(CONSOLE)
        self.page.wait_for_function("window.subshell.sessionContext.session?.kernel?.subshellId")

    def run(self, code: str) -> None:
        self.page.evaluate(
            """code => {
                window.jupyterapp.shell.activateById(window.subshell.id);
                window.subshell.console.promptCell.model.sharedModel.setSource(code);
                window.subshell.console.execute(true);
            }""",
            code,
        )

    @property
    def output(self) -> Locator:
        """What the last cell that was run in it shows."""
        return self.page.locator(".jp-CodeConsole-content .jp-CodeCell").last.locator(".jp-Cell-outputArea")

    def close(self) -> None:
        self.page.evaluate("window.subshell.close()")
