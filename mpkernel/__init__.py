"""A Jupyter kernel for Python in which every subshell is a process of its own.

In a notebook on this kernel::

    import mpkernel

    mpkernel.run("plot()", "plotter")      # run code in the subshell "plotter", in the background
    mpkernel.subshells()                   # what there is, and what it does
    mpkernel.interrupt("main")             # stop what another subshell runs
    mpkernel.live("losses")                # a copy of what `losses` is right now in the subshell that is running
    mpkernel.pull("losses")                # take over its newest value in the midst of a cell
    mpkernel.publish("losses")             # let others see it in the midst of a cell
    mpkernel.theirs("n")                   # the value that lost, when two subshells changed `n` at the same time
    mpkernel.everywhere("%matplotlib agg") # run code in every subshell's process
    mpkernel.remote(connection).commit()   # use an object where it lives, if it can't be copied
    mpkernel.save("today.mpk")             # write all variables and definitions to a file
    mpkernel.restore("today.mpk")          # and have them back, in this kernel or another one

In a program::

    mpkernel.embed_kernel()                # a kernel over the variables here, until a client shuts it down
    mpkernel.start_kernel(vars())          # the same beside the program; returns an object with `stop`

Importing this costs nothing: broker, workers and command line each import only what they need.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from mpkernel.errors import MPKernelError

if TYPE_CHECKING:
    from mpkernel.embed import embed_kernel, start_kernel

__version__ = "0.1.0.dev0"
__all__ = [
    "MPKernelError",
    "Remote",
    "__version__",
    "embed_kernel",
    "everywhere",
    "format_subshells",
    "interrupt",
    "live",
    "publish",
    "pull",
    "remote",
    "restore",
    "run",
    "save",
    "start_kernel",
    "subshells",
    "theirs",
]


def __getattr__(name: str) -> Any:
    if name in ("embed_kernel", "start_kernel"):
        from mpkernel import embed

        return getattr(embed, name)
    raise AttributeError(f"module 'mpkernel' has no attribute {name!r}")


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
    copy; what can't be copied comes as a stand-in (see `remote`). Raises MPKernelError if there is no such subshell or
    variable, TypeError for what isn't a name.
    """
    _check_names(name, *(() if subshell is None else (subshell,)))
    return _service().live(name, subshell)


def pull(*names: str) -> None:
    """Take over the newest values of these variables (default: of all), also from cells that are running elsewhere.

    At the start of a cell this happens by itself. Between, variables don't change under a running cell unless it asks.
    Raises NameError if no subshell has such a variable, TypeError for what isn't a name.
    """
    _check_names(*names)
    _service().pull(list(names) or None)


def publish(*names: str) -> None:
    """Let cells that start elsewhere see the present values of these variables (default: of all that have changed).

    At the end of a cell this happens by itself, but not in a subshell whose mode is ``snapshot`` or ``isolated``.
    Raises NameError if there is no such variable, TypeError for what isn't a name.
    """
    _check_names(*names)
    _service().publish(list(names) or None)


def theirs(name: str) -> Any:
    """The value of `name` that lost, when two subshells had changed it at the same time and it could not be merged.

    Raises MPKernelError if there is none, TypeError for what isn't a name.
    """
    _check_names(name)
    return _service().theirs(name)


def _check_names(*names: object) -> None:
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"variables and subshells are given by name, as text ('x'), not as {type(name).__name__}")


def everywhere(code: str) -> None:
    """Run `code` here, in the process of every other subshell (after the cell that runs there), and first in new ones.

    For what belongs to a process and isn't shared: variables of modules, signal handlers, options of some libraries.
    It can't be taken back, but be followed by its opposite, by the same means. Code that fails here is run nowhere
    else: its error is shown, and MPKernelError raised.
    """
    import IPython

    service = _service()
    result = IPython.get_ipython().run_cell(code, store_history=False)
    if not result.success:
        error = type(result.error_before_exec or result.error_in_exec).__name__
        raise MPKernelError(f"the code failed here ({error}, see above), and isn't run in other subshells")
    service.op("everywhere", code=code, parent=service.parent())


def save(path: str | os.PathLike[str]) -> Report:
    """Write all that the subshells share into a file, signed with your key: variables, functions, classes, imports.

    What can't be copied is left out, and listed. An older file of that name is replaced when the new one is complete.
    Raises MPKernelError, saying what is wrong.
    """
    return Report("saved", _service().save(_absolute(path)))


def restore(path: str | os.PathLike[str]) -> Report:
    """Have back what `save` wrote: in all subshells, at their next cell; here at once. Other variables stay.

    A file that your key didn't sign, or that was altered or cut short, is refused before anything of it is loaded.
    Raises MPKernelError, saying what to do.
    """
    return Report("restored", _service().restore(_absolute(path)))


def _absolute(path: str | os.PathLike[str]) -> str:
    return os.path.abspath(os.path.expanduser(os.fspath(path)))


class Report(dict[str, Any]):
    """What was saved or restored, shown as text: ``names``; and ``left_out``: names, and why they, or a part of them,
    are not in the file."""

    def __init__(self, done: str, reply: dict[str, Any]) -> None:
        super().__init__(names=reply["names"], left_out=reply["left_out"])
        self._done = done

    def __repr__(self) -> str:
        left_out = [f"left out: {', '.join(names)} ({why})" for names, why in self["left_out"]]
        return "\n".join([f"{self._done} {len(self['names'])} names: {', '.join(self['names'])}", *left_out])


def remote(stub: Any) -> Remote:
    """A proxy of an object that can't be copied, and lives in another subshell: its methods run there.

    Its attributes are read and set there. (A widget needs no proxy: ``slider.value = 5`` works in all subshells.)
    `stub` is what stands for the object here, or the variable's name. If that subshell runs a cell, the method runs
    beside it in a thread. Arguments and results are copied. Raises MPKernelError if there is nothing to reach, or with
    what the method raised.
    """
    from mpkernel.namespace.stubs import Stub, note_of

    value = _service().names[stub] if isinstance(stub, str) and stub in _service().names else stub
    if value is stub and isinstance(stub, str):
        raise MPKernelError(f"there is no variable {stub!r} here")
    if type(value) is not Stub:
        raise MPKernelError(f"{stub!r} doesn't stand for something in another subshell: use it as it is")
    note = note_of(value)
    return Remote(note.owner, note.token)


class Remote:
    """Methods and attributes of an object in another process, but for private ones; see `remote`."""

    _worker: int
    _token: int

    def __init__(self, worker: int, token: int) -> None:
        self._worker, self._token = worker, token

    def __getattr__(self, name: str) -> Any:
        """A method, or a copy of the value that the attribute has there. Raises AttributeError."""
        _refuse_private(name)
        found, value = _service().call(self._worker, self._token, "__getattr__", (name,), {})
        if found == "nothing":
            raise AttributeError(value)
        if found == "value":
            return value
        return lambda *args, **kwargs: _service().call(self._worker, self._token, name, args, kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("_worker", "_token"):
            object.__setattr__(self, name, value)
        else:
            _refuse_private(name)
            _service().call(self._worker, self._token, "__setattr__", (name, value), {})

    def __iter__(self) -> Remote:
        return self

    def __next__(self) -> Any:
        """The next item of a generator or iterator. Raises StopIteration."""
        more, item = _service().call(self._worker, self._token, "__next__", (), {})
        if not more:
            raise StopIteration
        return item

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _service().call(self._worker, self._token, "__call__", args, kwargs)


def _refuse_private(name: str) -> None:
    if name.startswith("_"):  # display and inspection try many such, and take "no" for an answer
        raise AttributeError(f"{name!r} is private: mpkernel.remote reaches names without an underscore at the start")


def run(code: str, subshell: str) -> str:
    """Run `code` in `subshell` (``"main"``, an id or a name; a new name makes a new subshell), in the background.

    Output appears under the cell that called this. Returns the subshell's id. Raises MPKernelError for the caller's own
    subshell, which is busy with the caller.
    """
    service = _service()
    return str(service.op("run", code=code, subshell=subshell, parent=service.parent())["subshell"])


def interrupt(subshell: str) -> bool:
    """Interrupt what `subshell` (``"main"``, an id or a name) runs; False if it ran nothing."""
    return bool(_service().op("interrupt", subshell=subshell)["interrupted"])


def subshells() -> list[dict[str, Any]]:
    """A dict for each subshell, of what the broker knows.

    ``subshell`` ("main" or an id), ``name`` (or None), ``mode`` ("shared", "snapshot", "isolated"), ``state`` ("idle",
    "busy", "starting", "stopping", "lazy": it has no process yet, "dead": it gets a new one when it is used), ``pid``,
    ``execution_count``, ``cell`` (the first line of the running one), ``busy_s`` and ``idle_s`` (seconds; one of them
    is None), ``queued`` (requests), ``age_s``.
    ``mpkernel ps --json`` has measures of the processes besides.
    """
    return list(_service().op("ps")["subshells"])


def format_subshells() -> str:
    """The table that ``%subshell`` prints; a star marks the subshell that asks."""
    rows: list[tuple[str, ...]] = [("", "subshell", "name", "mode", "state", "pid", "count", "cell")]
    for row in subshells():
        star = "*" if row["pid"] == os.getpid() else ""
        shown = [row[field] for field in ("subshell", "name", "mode", "state", "pid", "execution_count", "cell")]
        rows.append((star, *("" if cell is None else str(cell)[:50] for cell in shown)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
