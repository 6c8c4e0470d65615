"""The IPython shell of a worker: where results, displays, tracebacks and pages become messages."""

from __future__ import annotations

import asyncio
import builtins
import importlib
import inspect
import os
import signal
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from time import monotonic  # by name: a cell may put another clock into the module
from typing import TYPE_CHECKING, Any, Literal

from IPython.core import page, payloadpage
from IPython.core.autocall import ZMQExitAutocall
from IPython.core.builtin_trap import BuiltinTrap
from IPython.core.inputtransformer2 import TransformerManager
from IPython.core.interactiveshell import InteractiveShell, InteractiveShellABC
from IPython.core.prefilter import PrefilterChecker
from traitlets import Any as AnyTrait
from traitlets import CBool, Instance, Integer, Type, default

from mpkernel.errors import Killed
from mpkernel.wire import Json
from mpkernel.worker.cellfiles import CellCompiler
from mpkernel.worker.commands import System
from mpkernel.worker.display import ZMQDisplayPublisher, ZMQShellDisplayHook
from mpkernel.worker.gui import Gui
from mpkernel.worker.history import Busy, HistoryManager
from mpkernel.worker.interrupts import users_frames, without_the_wait
from mpkernel.worker.main_module import fetch_missing
from mpkernel.worker.parents import Parents, WithParent

if TYPE_CHECKING:
    from mpkernel.worker.kernel import WorkerKernel

# Newer IPythons hand a cell's metadata to its hooks.
TAKES_CELL_META = "cell_meta" in inspect.signature(InteractiveShell.run_cell_async).parameters
HISTORY_PAUSE = 10.0  # seconds until a database that others have locked is tried again
STORE_MAGIC = "IPython.extensions.storemagic"  # the one extension that IPython always loads
# What each worker would import at its start or after its first cell: read from the disk once, in memory that all share.
AT_START = ("IPython.core.logger", STORE_MAGIC, "mpkernel.prctl", "sqlite3")


class ElsewhereChecker(PrefilterChecker):
    """A variable whose value is still elsewhere hides a magic of its name, as one that is here does."""

    priority = Integer(650).tag(config=True)  # before IPython looks for magics
    shell: Any
    prefilter_manager: Any

    def check(self, line_info: Any) -> Any:
        """The handler of the line; None if it is for others to say."""
        is_offered = self.shell.kernel.sync.is_offered(line_info.ifun.partition(".")[0])
        if not is_offered or self.shell.find_magic(line_info.ifun) is None:
            return None
        return self.prefilter_manager.get_handler_by_name("normal")


class LockedBuiltinTrap(BuiltinTrap):
    """IPython's, for more than one thread: completions come beside a cell. Else one of two may find half of it done."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self._lock = threading.RLock()

    def __enter__(self) -> BuiltinTrap:
        with self._lock:
            return super().__enter__()

    def __exit__(self, *error: Any) -> Literal[False]:
        with self._lock:
            return super().__exit__(*error)


class ZMQInteractiveShell(WithParent, InteractiveShell):
    """Named as libraries expect it: by this name, and its module's, they know that they are in a notebook."""

    __module__ = "ipykernel.zmqshell"  # see `ipykernel_names`

    displayhook_class = Type(ZMQShellDisplayHook)
    display_pub_class = Type(ZMQDisplayPublisher)
    compiler_class = Type(CellCompiler)
    system = System()
    readline_use = CBool(False)
    autoindent = CBool(False)
    exiter = Instance(ZMQExitAutocall)
    keepkernel_on_exit = None
    warm = False
    exiting = False  # the user said exit
    _history_again = 0.0
    template_modules: frozenset[str] = frozenset()  # names of what was imported before any code of the user's

    @default("exiter")
    def _default_exiter(self) -> ZMQExitAutocall:
        return ZMQExitAutocall(self)

    kernel: WorkerKernel = AnyTrait()  # type: ignore[assignment]

    # --- set-up: in the template, without a kernel; then `attach` in the worker --------------------------------------

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Trio finds a wakeup fd that isn't its own: the kicker's, which doesn't keep trio from its signals.
        warnings.filterwarnings(
            "ignore", message=".*Trio's signal handling code might have collided", category=RuntimeWarning
        )

    def init_environment(self) -> None:
        """What programs started from a cell should know: they write to a notebook, not to a terminal."""
        os.environ["TERM"] = "xterm-color"
        os.environ["CLICOLOR"] = "1"
        os.environ["FORCE_COLOR"] = "1"
        os.environ["CLICOLOR_FORCE"] = "1"
        os.environ["PAGER"] = os.environ["GIT_PAGER"] = "cat"
        os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")

    def init_builtins(self) -> None:
        super().init_builtins()
        self.builtin_trap = LockedBuiltinTrap(self)
        # Not only while a cell runs: libraries are imported for values that arrive, too, and ask whether this is a
        # notebook (pandas, for the width of tables).
        vars(builtins)["get_ipython"] = self.get_ipython

    def init_prefilter(self) -> None:
        super().init_prefilter()
        manager = self.prefilter_manager
        ElsewhereChecker(shell=self, prefilter_manager=manager, parent=manager)  # which it makes itself known to

    def init_hooks(self) -> None:
        super().init_hooks()
        self.set_hook("show_in_pager", page.as_hook(payloadpage.page), 99)

    def init_history(self) -> None:
        """In the template: nothing is opened, as a database handle doesn't survive a fork. See `open_history`."""
        self.history_manager = HistoryManager(shell=self, parent=self, enabled=False)
        self.configurables.append(self.history_manager)  # type: ignore[arg-type]

    def take_over_pdb(self) -> None:
        """``breakpoint()`` and ``pdb.set_trace()`` ask on stdin, as ``%debug`` does, and an interrupt ends them."""
        debugger: Any = importlib.import_module("IPython.core.debugger")
        pdb: Any = importlib.import_module("pdb")
        debugger.Pdb = pdb.Pdb = getattr(debugger, "InterruptiblePdb", debugger.Pdb)
        pdb.set_trace = debugger.set_trace

    def init_magics(self) -> None:
        super().init_magics()
        from mpkernel.worker.magics import KernelMagics

        self.register_magics(KernelMagics)
        for alias, magic in (("ed", "edit"), ("more", "less")):
            self.magics_manager.register_alias(alias, magic)

    def warm_up(self) -> None:
        """Import what each worker would at its start, compile what cells are split by, make a traceback (60 ms): once.

        Not what the first completion would: jedi parses builtins and typing into 30 MB of objects.
        """
        if not self.warm:
            self.warm = True
            for module in AT_START:
                importlib.import_module(module)
            TransformerManager().transform_cell("pass")  # not the shell's, which may call code of the user's
            try:
                raise KeyboardInterrupt
            except KeyboardInterrupt as error:
                self.InteractiveTB.structured_traceback(type(error), error, error.__traceback__)

    def attach(self, kernel: WorkerKernel) -> None:
        """In the worker: from now on messages can be sent."""
        self.kernel = kernel
        compiler: Any = self.compile
        compiler.files = kernel.cell_files
        self.gui = Gui(kernel.loop, kernel)
        self._history_lock = threading.Lock()
        self.events.trigger = self._trigger  # type: ignore[method-assign]
        self._shelter_lazy_magics()
        if type(self.user_module) is types.ModuleType:
            fetch_missing(self.user_module, kernel.service.fetch)
        if (session_name := os.environ.get("JPY_SESSION_NAME")) is not None:
            self.user_ns["__session__"] = session_name
            self.user_ns_hidden["__session__"] = session_name

    def _shelter_lazy_magics(self) -> None:
        """IPython imports some magics when they are first used. An interrupt then would lose them for good."""
        manager: Any = self.magics_manager
        load = getattr(manager, "load_lazy", None)  # since IPython 9.18
        if load is None:
            return

        def load_sheltered(*args: Any) -> None:
            if threading.current_thread() is threading.main_thread():
                with self.kernel.interrupts.shelter():
                    load(*args)
            else:
                load(*args)

        manager.load_lazy = load_sheltered

    def skip_prompts(self, count: int) -> None:
        """The subshell has used so many prompts before this process: `In` goes on where they end."""
        self.execution_count = count + 1
        manager: Any = self.history_manager
        for entered in (manager.input_hist_parsed, manager.input_hist_raw):
            entered.extend([""] * (count + 1 - len(entered)))

    def _trigger(self, event: str, *args: Any, **kwargs: Any) -> None:
        """As in IPython; but hooks that aren't IPython's own (figures are drawn in one) can be interrupted.

        Raises KeyboardInterrupt then, which IPython would print and forget.
        """
        for hook in list(self.events.callbacks[event]):
            own = str(getattr(hook, "__module__", "")).startswith("IPython.core.")
            if isinstance(hook, types.FunctionType) and hook.__module__ == "__main__":
                self.kernel.sync.before_cell(hook.__code__)
                self.kernel.sync.ran(hook.__code__)
            try:
                with nullcontext() if own else self.kernel.interrupts.window():
                    hook(*args, **kwargs)
            except Exception:
                print(f"Error in callback {hook} (for {event}), with arguments args {args},kwargs {kwargs}:")
                kind, error, frames = sys.exc_info()
                self.showtraceback((kind, error, frames and frames.tb_next))  # without this frame

    def open_history(self) -> None:
        """Open the history database and move over what has been entered so far: one session for each subshell.

        In whichever thread needs it first: the main thread after a cell, the one beside it for a history_request. If
        others have locked it, it is tried again some cells later.
        """
        with self._history_lock:
            if not self.history_manager.enabled and monotonic() >= self._history_again:  # type: ignore[union-attr]
                self._open_history()

    def _open_history(self) -> None:
        old: Any = self.history_manager
        try:
            manager = HistoryManager(shell=self, parent=self)
        except Busy as error:
            self.kernel.log.info("history waits: %s", error)
            self._history_again = monotonic() + HISTORY_PAUSE
            return
        except Exception as error:
            self.kernel.log.warning("history is off: %s", error)
            old.enabled = True
            return
        for name in ("input_hist_parsed", "input_hist_raw", "output_hist", "output_hist_reprs"):
            setattr(manager, name, getattr(old, name))
        for name in ("_i", "_ii", "_iii", "_i00"):
            setattr(manager, name, getattr(old, name))
        for name in ("outputs", "exceptions"):  # IPython >= 9
            if hasattr(old, name):
                setattr(manager, name, getattr(old, name))
        manager.db_input_cache = old.db_input_cache
        self.configurables[self.configurables.index(old)] = manager  # type: ignore[call-overload]
        self.history_manager = manager
        manager.save()

    def save_history(self) -> None:
        """In any thread: have what was entered written to the database."""
        if isinstance(self.history_manager, HistoryManager):
            self.history_manager.save()

    # --- running user code ------------------------------------------------------------------------------------------

    async def run_code(self, code_obj: Any, result: Any = None, *, async_: bool = False) -> bool:
        """As in IPython, in a window in which an interrupt raises."""
        __tracebackhide__ = "__ipython_bottom__"
        self.kernel.sync.ran(code_obj)
        traced = self.kernel.debugger.statement() if self.kernel.debugger.attached else nullcontext()
        with traced, self.kernel.interrupts.window():
            failed: bool = await super().run_code(code_obj, result, async_=async_)
        if result is not None and (interrupt := self.kernel.interrupts.behind(result.error_in_exec)) is not None:
            result.error_in_exec = interrupt
        self.kernel.between_statements()
        return failed

    @property
    def asyncio_runs_cells(self) -> bool:
        """Whether top-level await belongs to our event loop, not to ``%autoawait trio`` or another runner's."""
        return self.trio_runner is None and self.loop_runner is self.loop_runner_map["asyncio"][0]

    @contextmanager
    def default_sigint(self) -> Iterator[None]:
        """For runners that handle SIGINT themselves if they find Python's own handler there (trio does)."""
        ours = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, ours)

    def showtraceback(self, exc_tuple: Any = None, *args: Any, **kwargs: Any) -> None:
        """Only the user's frames, not those of the handler that raised KeyboardInterrupt."""
        _, error, frames = sys.exc_info() if exc_tuple is None else exc_tuple
        if isinstance(error, (KeyboardInterrupt, Killed)):
            frames = users_frames(frames)
            exc_tuple = (type(error), error, frames)
        if (interrupt := self.kernel.interrupts.behind(error)) is not None:
            exc_tuple = (type(interrupt), interrupt, without_the_wait(frames))
        try:
            super().showtraceback(exc_tuple, *args, **kwargs)
        except Exception as failure:  # of an exception's own methods
            assert error is not None
            name = type(error).__name__
            why = (
                f"{name}: {text_of(error)} (its traceback can't be shown: {type(failure).__name__} {text_of(failure)})"
            )
            self._showtraceback(type(error), error, [why])

    def _showtraceback(self, etype: type[BaseException], evalue: BaseException, stb: list[str]) -> None:
        content = {"ename": etype.__name__, "evalue": text_of(evalue), "traceback": stb}
        if self.kernel.parents.get() is self.kernel.parents.current:  # not of a callback beside the cell
            self.kernel.cells.last_error = content
            self.kernel.cells.display_failed |= self.displayhook.showing  # type: ignore[attr-defined]
        self.kernel.publish("error", content)

    def _format_exception_for_storage(self, exception: BaseException, *args: Any, **kwargs: Any) -> Json:
        """For the history: as it was shown. IPython would make the traceback a second time, which delays the reply."""
        shown = self.kernel.cells.last_error
        if shown and (shown["ename"], shown["evalue"]) == (type(exception).__name__, text_of(exception)):
            return dict(shown)
        stored: Json = super()._format_exception_for_storage(exception, *args, **kwargs)
        return stored

    def ask_exit(self) -> None:
        """``exit`` and ``quit``: the kernel ends after this cell (and the front end may start it again)."""
        self.exiting = not self.keepkernel_on_exit
        self.write_payload({"source": "ask_exit", "keepkernel": bool(self.keepkernel_on_exit)})

    def set_next_input(self, text: str, replace: bool = False) -> None:
        """Have the front end put `text` into the next cell, or this one."""
        self.write_payload({"source": "set_next_input", "text": text, "replace": replace})

    def write_payload(self, payload: dict[str, Any]) -> None:
        """Send `payload` to the front end, in the reply to the running request."""
        manager: Any = self.payload_manager
        manager.write_payload(payload)

    def run_cell(self, *args: Any, **kwargs: Any) -> Any:
        """Also called by user code (``get_ipython().run_cell``), within a running loop."""
        self._last_traceback = None
        return super().run_cell(*args, **kwargs)

    def enable_gui(self, gui: str | None = None) -> None:
        """Run a toolkit's event loop beside the cells. Raises UsageError if there is none, or no display."""
        self.gui.enable(gui)
        self.active_eventloop = self.gui.active

    def init_virtualenv(self) -> None:
        """The kernel runs in its environment already."""

    def get_parent(self) -> Json:
        """The request that the calling code belongs to."""
        return self._parents.request()

    @property
    def parent_header(self) -> Json:
        """As `get_parent`: in ipykernel the shell's is the whole request, that of streams and displays its header."""
        return self.get_parent()

    @parent_header.setter
    def parent_header(self, parent: Json) -> None:
        self.set_parent(parent)

    @property
    def _parents(self) -> Parents:
        return self.kernel.parents

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that runs the cells."""
        return self.kernel.loop


def text_of(value: BaseException) -> str:
    try:
        return str(value)
    except Exception as error:
        return f"<the exception's __str__ raised {type(error).__name__}>"


InteractiveShellABC.register(ZMQInteractiveShell)
