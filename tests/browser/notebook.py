"""A notebook open in JupyterLab, as its user sees it: cells run by commands, prompts and outputs read off the page."""

from __future__ import annotations

import contextlib
import re
import uuid

from playwright.sync_api import Locator, Page, TimeoutError, expect

from mpkernel.kernelspec import NAME

MADE = """async ([path, cells, kernel]) => {
    const metadata = {kernelspec: {name: kernel, display_name: kernel}};
    const content = {nbformat: 4, nbformat_minor: 5, metadata, cells: cells.map((source, index) => ({
        id: `cell-${index}`, cell_type: 'code', metadata: {}, outputs: [], execution_count: null, source}))};
    await window.jupyterapp.serviceManager.contents.save(path, {type: 'notebook', format: 'json', content});
}"""

OPENED = """async path => {
    const app = window.jupyterapp;
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
    """A notebook in a page; from `new`, or what `path` names."""

    def __init__(self, page: Page, path: str) -> None:
        self.page = page
        self.path = path
        page.evaluate(OPENED, path)

    @classmethod
    def new(cls, page: Page, *cells: str, name: str = "", kernel: str = NAME) -> Notebook:
        """A new notebook with these cells, and a kernel that is idle."""
        path = f"{name or uuid.uuid4()}.ipynb"
        page.evaluate(MADE, [path, cells, kernel])
        notebook = cls(page, path)
        notebook.wait_status("idle")
        return notebook

    def close(self) -> None:
        """Close the notebook and end its kernel."""
        self.page.evaluate(
            """async () => {
                await window.notebook.context.sessionContext.shutdown();
                await window.notebook.context.save();  // or JupyterLab asks whether to, when output came later
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

    def wait_kernel(self, name: str) -> None:
        """Wait until the notebook has a kernel of this kernelspec."""
        self.page.wait_for_function(f"{KERNEL}?.name === '{name}'", timeout=20_000)

    def command(self, name: str) -> None:
        """What a button or a menu does with this notebook; it may end in a dialog, which is not waited for."""
        self.page.evaluate(
            """name => {
                window.jupyterapp.shell.activateById(window.notebook.id);
                window.jupyterapp.commands.execute(name);
            }""",
            name,
        )

    def interrupt(self) -> None:
        """The stop button."""
        self.command("notebook:interrupt-kernel")

    @property
    def dialog(self) -> Locator:
        return self.page.locator(".jp-Dialog")

    def accept(self) -> None:
        """Say yes in a dialog."""
        self.dialog.locator(".jp-mod-accept").click()
        self.dialog.wait_for(state="detached")

    def show_later_output(self) -> Locator:
        """What the kernel sends from now on, for whichever cell, as text in the page."""
        self.page.evaluate(
            f"""() => {{
                const heard = document.body.appendChild(document.createElement('pre'));
                heard.id = 'heard';
                heard.hidden = true;
                {KERNEL}.iopubMessage.connect((_, message) => {{ heard.textContent += message.content.text ?? ''; }});
            }}"""
        )
        return self.page.locator("#heard")

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

    def _edit_end(self, index: int) -> None:
        """Put the cursor to the end of a cell."""
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

    def inspect(self, index: int) -> Locator:
        """Ask what stands at the end of a cell (as Shift-Tab does); returns the tooltip."""
        self._edit_end(index)
        self.command("tooltip:launch-notebook")
        return self.page.locator(".jp-Tooltip")

    def complete(self, index: int) -> Locator:
        """Ask for completion at the end of a cell (as Tab does); returns the completer's entries."""
        self._edit_end(index)
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
