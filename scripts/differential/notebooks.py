"""``--notebooks``: an area's cells, or somebody's notebook, executed by the programs that people and schedulers use.

Each program executes the same notebook on both kernels, and the notebooks that come out are compared: outputs cell by
cell, and the states of widgets. Cells that are asked something, or whose answers may differ, are left out; a cell may
fail.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.differential import cells, normalise
from scripts.differential.cells import Cell
from scripts.differential.show import show
from scripts.harness.kernel import Spec
from scripts.harness.sandbox import Sandbox

AREAS = ("libraries", "widgets")  # what people have in notebooks
_KERNEL = "under-test"
_WITHIN = 300  # seconds for a notebook
_STATES = "application/vnd.jupyter.widget-state+json"

# Arguments of Python, which the path of a notebook follows; the result replaces it, or is at OUT.
_NBCLIENT = """
import nbclient, nbformat, sys
notebook = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(notebook, allow_errors=True, store_widget_state=True).execute()
nbformat.write(notebook, "out.ipynb")
"""
_JUPYTER_EXECUTE = "from nbclient.cli import main; main()"
_PROGRAMS = {
    "nbclient": ("-c", _NBCLIENT, "in.ipynb"),
    "papermill": ("-m", "papermill", "in.ipynb", "out.ipynb", "--no-progress-bar"),
    "jupyter execute": ("-c", _JUPYTER_EXECUTE, "--allow-errors", "--output=out.ipynb", "in.ipynb"),
}


@dataclass(frozen=True)
class Executed:
    """What came out: lines for each cell, and for the states of widgets."""

    cells: list[list[str]]
    seconds: float


def compare(kernels: Sequence[Spec], areas: Sequence[Path]) -> int:
    """Print a table, and below it what differs. Returns the exit code."""
    print(f"{'program':16} {'area':10} {'cells':>5} {'same':>5}" + "".join(f" {k.name + ' s':>12}" for k in kernels))
    different: list[tuple[str, Cell, list[str], list[str]]] = []
    for path in areas:
        is_notebook = path.suffix == ".ipynb"
        asked = cells.read_notebook(path) if is_notebook else cells.read(path)
        asked = [cell for cell in asked if _is_for_notebooks(cell)]
        for program in _PROGRAMS if not is_notebook else ("nbclient",):
            ours, theirs = (_execute(program, spec, asked) for spec in kernels)
            named = [*asked, Cell(path.stem, len(asked) + 1, "the states of widgets")]
            apart = [parts for parts in zip(named, ours.cells, theirs.cells, strict=True) if parts[1] != parts[2]]
            different += [(program, *parts) for parts in apart]
            count = len(asked)
            seconds = "".join(f" {executed.seconds:12.1f}" for executed in (ours, theirs))
            print(f"{program:16} {path.stem:10} {count:5} {len(named) - len(apart) - 1:5}{seconds}", flush=True)
    for program, cell, mine, other in different:
        print(f"\n{program}:", end="")
        show(cell, mine, other, list(kernels))
    return 1 if different else 0


def _is_for_notebooks(cell: Cell) -> bool:
    return cell.msg_type == "execute_request" and not (cell.content or cell.answers or cell.differs)


def _execute(program: str, spec: Spec, asked: Sequence[Cell]) -> Executed:
    with Sandbox() as sandbox:
        folder = sandbox.folder(f"data/kernels/{_KERNEL}")
        described = {"argv": list(spec.argv), "display_name": spec.name, "language": "python", "env": spec.env}
        (folder / "kernel.json").write_text(json.dumps(described))
        (sandbox.cwd / "in.ipynb").write_text(json.dumps(_notebook(asked)))
        began = time.monotonic()
        try:
            done = subprocess.run(
                [sys.executable, *_PROGRAMS[program]],
                env=sandbox.environment(),
                cwd=sandbox.cwd,
                capture_output=True,
                text=True,
                timeout=_WITHIN,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise SystemExit(f"{program} on {spec.name} has not ended after {_WITHIN} s; is a reply lost?") from None
        seconds = time.monotonic() - began
        result = sandbox.cwd / "out.ipynb"
        if not result.exists():
            raise SystemExit(f"{program} on {spec.name} made no notebook: {done.stderr[-2000:]}")
        return _read(json.loads(result.read_text()), seconds)


def _notebook(asked: Sequence[Cell]) -> dict[str, Any]:
    """The tag says to nbclient and papermill that the cell may fail."""
    code = [
        {
            "cell_type": "code",
            "id": f"c{cell.number}",
            "source": cell.code,
            "metadata": {"tags": ["raises-exception"]},
            "outputs": [],
            "execution_count": None,
        }
        for cell in asked
    ]
    kernelspec = {"name": _KERNEL, "display_name": _KERNEL, "language": "python"}
    return {"cells": code, "metadata": {"kernelspec": kernelspec}, "nbformat": 4, "nbformat_minor": 5}


def _read(notebook: dict[str, Any], seconds: float) -> Executed:
    code = [
        cell for cell in notebook["cells"] if cell["cell_type"] == "code"
    ]  # papermill adds others to tell of errors
    shown = [[f"count {cell['execution_count']}", *normalise.outputs(cell["outputs"])] for cell in code]
    models = notebook["metadata"].get("widgets", {}).get(_STATES, {}).get("state", {}).values()
    return Executed([*shown, sorted(map(normalise.value, models))], seconds)
