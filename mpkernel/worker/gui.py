"""Event loops of GUI toolkits (``%gui tk``, ``%matplotlib qt``): their events are handled on the loop of the cells.

While no cell runs, or one awaits, the toolkit is given the word every `INTERVAL` seconds. While a cell computes, its
windows stand still, as in any kernel, unless the cell gives the toolkit the word itself (``plt.pause``).

Libraries bring toolkits of their own by ``ipykernel.eventloops.register_integration``: a function of the kernel that
handles events and returns after ``kernel._poll_interval`` seconds at the latest, to be called again.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from IPython.core.error import UsageError

INTERVAL = 0.02

# These have no loop of their own.
LOOPLESS = frozenset((None, "", "asyncio", "inline", "agg", "notebook", "nbagg", "webagg", "widget", "ipympl"))

_QT_BINDINGS = ("PyQt6", "PySide6", "PyQt5", "PySide2")

Pump = Callable[[], object]
Integration = Callable[[Any], object]


class Gui:
    """At most one toolkit; another one replaces it. `kernel` is what the functions of libraries are given."""

    def __init__(self, loop: asyncio.AbstractEventLoop, kernel: object) -> None:
        self._loop = loop
        self._kernel = kernel
        self._registered: dict[str, Integration] = {}
        self._leave: Callable[[], object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.active: str | None = None

    def enable(self, gui: str | None) -> None:
        """Run the events of this toolkit from now on, or of none. Raises UsageError if it can't be had."""
        integration = self._registered.get(gui or "")
        pump = None if integration else self._toolkit(gui)
        self._stop()
        self.active = gui
        if integration is not None:
            # Read late, as its ``exit`` decorates what is defined below it.
            self._leave = lambda: getattr(integration, "exit_hook", lambda _: None)(self._kernel)
            pump = functools.partial(integration, self._kernel)
        if pump is not None:
            self._pump(pump)

    def register_integration(self, *names: str) -> Callable[[Integration], Integration]:
        """A decorator: the function runs the events of the toolkit of these names (``%gui NAME``).

        It gets an attribute ``exit``, a decorator for the function that is called when the toolkit is left.
        """

        def register(function: Integration) -> Integration:
            def leave(on_exit: Integration) -> Integration:
                decorated.exit_hook = on_exit
                return on_exit

            decorated: Any = function
            decorated.exit = leave
            self._registered.update(dict.fromkeys(names, function))
            return function

        return register

    def _toolkit(self, gui: str | None) -> Pump | None:
        if gui in LOOPLESS:
            return None
        assert gui is not None
        start = _TOOLKITS.get("qt" if gui.startswith("qt") else gui)
        if start is None:
            known = ", ".join(sorted({"qt5", "qt6", *_TOOLKITS, *self._registered, *filter(None, LOOPLESS)}))
            raise UsageError(f"there is no GUI event loop {gui!r}; there are {known}")
        return start(gui)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()

    def _pump(self, pump: Pump) -> None:
        try:
            pump()
        except Exception as error:  # the toolkit has shut down, say
            print(f"the {self.active} event loop has ended: {error}", file=sys.stderr)
            self.active = self._timer = self._leave = None
        else:
            self._timer = self._loop.call_later(INTERVAL, self._pump, pump)


def _tk(_gui: str) -> Pump:
    tkinter = _import("tkinter", "tk")
    try:
        root = tkinter.Tk()
    except tkinter.TclError as error:
        raise UsageError(_no_display("tk", str(error))) from None
    root.withdraw()
    update: Pump = root.update  # handles the events of all windows of this thread
    return update


def _qt(gui: str) -> Pump:
    if not os.environ.get("QT_QPA_PLATFORM"):  # else Qt would end the process
        _need_display(gui)
    wanted = [name for name in _QT_BINDINGS if gui == "qt" or name.endswith(gui[2:])]
    present = [name for name in wanted if name in sys.modules] or wanted
    for name in present:
        try:
            widgets: Any = importlib.import_module(f"{name}.QtWidgets")
        except ImportError:
            continue
        app = widgets.QApplication.instance() or widgets.QApplication(["mpkernel"])
        app.setQuitOnLastWindowClosed(False)
        process: Pump = app.processEvents
        return process
    raise UsageError(f"%gui {gui} needs one of {', '.join(wanted)}; install one, e.g. %pip install {wanted[0]}")


def _gtk3(gui: str) -> Pump:
    gi = _import("gi", gui)
    _need_display(gui)
    gi.require_version("Gtk", "3.0")
    gtk: Any = importlib.import_module("gi.repository.Gtk")

    def pump() -> None:
        while gtk.events_pending():
            gtk.main_iteration()

    return pump


def _wx(gui: str) -> Pump:
    wx = _import("wx", gui)
    _need_display(gui)
    app = wx.App.Get() or wx.App(redirect=False)
    loop = wx.GUIEventLoop()

    def pump() -> None:
        active = wx.EventLoopActivator(loop)
        while loop.Pending():
            loop.Dispatch()
        app.ProcessPendingEvents()
        loop.ProcessIdle()
        del active

    return pump


def _osx(gui: str) -> Pump:
    why = "is not integrated in mpkernel" if sys.platform == "darwin" else "needs macOS, which this isn't"
    raise UsageError(f"%gui {gui} {why}; use %matplotlib inline, %matplotlib widget (ipympl) or %gui qt")


_TOOLKITS: dict[str, Callable[[str], Pump]] = {
    "tk": _tk,
    "qt": _qt,
    "gtk": _gtk3,
    "gtk3": _gtk3,
    "wx": _wx,
    "osx": _osx,
    "macosx": _osx,
}


def _import(module: str, gui: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f"%gui {gui} needs the Python module {module!r}, which can't be imported: {error}") from None


def _need_display(gui: str) -> None:
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UsageError(_no_display(gui, "neither DISPLAY nor WAYLAND_DISPLAY is set"))


def _no_display(gui: str, why: str) -> str:
    return (
        f"%gui {gui}: windows can't be opened where the kernel runs ({why}). "
        "Plots in the notebook need none: %matplotlib inline, or %matplotlib widget (ipympl)"
    )
