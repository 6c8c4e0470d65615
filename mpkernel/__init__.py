"""A Jupyter kernel for Python in which every subshell is a process of its own.

In a notebook on this kernel::

    import mpkernel

    mpkernel.live("losses")                # what `losses` is right now in the subshell that is running
    mpkernel.run("plot()", "plotter")      # run code in the subshell "plotter", in the background
    mpkernel.subshells()                   # what there is, and what it does
    mpkernel.interrupt("main")             # stop what another subshell runs

Importing this costs nothing: broker, workers and command line each import only what they need.
"""

from __future__ import annotations

from typing import Any

from mpkernel.errors import MPKernelError

__version__ = "0.1.0.dev0"
__all__ = ["MPKernelError", "__version__", "format_subshells", "interrupt", "live", "run", "subshells"]


def _service() -> Any:
    """The running kernel's service. Raises MPKernelError outside of one."""
    import sys

    from mpkernel.errors import MPKernelError

    shell = sys.modules.get("mpkernel.worker.shell")
    kernel = getattr(shell.ZMQInteractiveShell.instance(), "kernel", None) if shell is not None else None
    if kernel is None:
        raise MPKernelError("this works in a notebook that runs on mpkernel only; start one with that kernel")
    return kernel.service


def live(name: str, subshell: str | None = None) -> Any:
    """The value that the variable `name` has at this moment in a subshell, even while that runs a cell.

    `subshell` is ``"main"``, an id or a name; by default the one whose running cell was started last. The value is a
    copy. Raises MPKernelError if there is no such subshell or variable, or if the value can't be pickled.
    """
    return _service().live(name, subshell)


def run(code: str, subshell: str) -> str:
    """Run `code` in `subshell` (``"main"``, an id or a name; a new name makes a new subshell), in the background.

    Output appears under the cell that called this. Returns the subshell's id. Raises RequestFailed for the caller's own
    subshell, which is busy with the caller.
    """
    service = _service()
    return str(service.op("run", code=code, subshell=subshell, parent=service.parent())["subshell"])


def interrupt(subshell: str) -> bool:
    """Interrupt what `subshell` (``"main"``, an id or a name) runs; False if it ran nothing."""
    return bool(_service().op("interrupt", subshell=subshell)["interrupted"])


def subshells() -> list[dict[str, Any]]:
    """A dict for each subshell: id, name, state, pid, running cell, … as ``mpkernel ps --json`` has them."""
    return list(_service().op("ps")["subshells"])


def format_subshells() -> str:
    """The table that ``%subshell`` prints; a star marks the subshell that asks."""
    import os

    rows: list[tuple[str, ...]] = [("", "subshell", "name", "state", "pid", "count", "cell")]
    for row in subshells():
        star = "*" if row["pid"] == os.getpid() else ""
        cells = (row["subshell"], row["name"], row["state"], row["pid"], row["execution_count"], row["cell"])
        rows.append((star, *("" if cell is None else str(cell)[:50] for cell in cells)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
