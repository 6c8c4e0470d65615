"""The kernel's options: command line, and ``jupyter_mpkernel_config.py`` in Jupyter's configuration folders.

Options of the IPython shell (``InteractiveShellApp``, ``IPKernelApp``, ``InlineBackend``, …) are accepted here too and
handed on; the workers read the profile's ``ipython_config.py`` and ``ipython_kernel_config.py`` themselves, so that
the broker needs no IPython.
"""

from __future__ import annotations

import ast
import io
import logging
import os
import re
import sys
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_config_path
from traitlets import Bool, Enum, Float, Integer, List, TraitError, Unicode
from traitlets.config import Application, Config
from traitlets.config.loader import ConfigFileNotFound

import mpkernel
from mpkernel.errors import StartError

CONFIG_NAME = "jupyter_mpkernel_config"
# The classes in ipykernel to which the options belong that mpkernel knows by the same name.
THEIR_SECTIONS = ("IPKernelApp", "IPythonKernel", "Kernel")
# Options of theirs that have no meaning here, with what there is instead.
NOT_HERE = {
    "kernel_class": "kernels for other languages derive from mpkernel.wrapper.Kernel",
    "shell_class": "extensions and IPython's hooks can change the shell",
    "displayhook_class": "get_ipython().displayhook.register_hook can change results",
    "outstream_class": "sys.stdout.register_hook can change what is printed",
    "trio_loop": "use IPKernelApp.exec_lines with '%autoawait trio'",
}


def _switches(section: str, *names: str) -> dict[str, tuple[dict[str, dict[str, bool]], str]]:
    """The flags ``--x`` and ``--no-x`` for options of the shell."""
    return {
        f"{prefix}{name.replace('_', '-')}": ({section: {name: value}}, f"Turn {section}.{name} {state}.")
        for name in names
        for prefix, value, state in (("", True, "on"), ("no-", False, "off"))
    }


class MPKernelApp(Application):
    """Options of the mpkernel broker."""

    name = "mpkernel"
    version = mpkernel.__version__
    description = "A Jupyter kernel for Python in which every subshell is a process."

    connection_file = Unicode("", help="Connection file, read if it exists, else written.").tag(config=True)
    ip = Unicode("127.0.0.1", help="Address to listen on, if there is no connection file.").tag(config=True)
    transport = Enum(["tcp", "ipc"], "tcp", help="Transport, if there is no connection file.").tag(config=True)
    shell_port = Integer(0, help="Port of the shell channel; 0 chooses one.").tag(config=True)
    iopub_port = Integer(0, help="Port of the iopub channel; 0 chooses one.").tag(config=True)
    stdin_port = Integer(0, help="Port of the stdin channel; 0 chooses one.").tag(config=True)
    control_port = Integer(0, help="Port of the control channel; 0 chooses one.").tag(config=True)
    hb_port = Integer(0, help="Port of the heartbeat; 0 chooses one.").tag(config=True)
    interrupt_target = Enum(
        ["latest", "parent", "all"],
        "latest",
        help="What an interrupt without a subshell id stops: the cell started last (again: the one before), "
        "the parent subshell's, or every running cell.",
    ).tag(config=True)
    comms_while_busy = Enum(
        ["thread", "always", "statement", "wait"],
        "thread",
        help="When, while a cell runs where a widget lives, messages for it are handled that the front end sends under "
        "a subshell id (as JupyterLab does): at once, in a thread ('always': even if no cell runs, so that a slow one "
        "holds up no cell); when the cell awaits something or comes to its next top-level statement; or when it has "
        "ended.",
    ).tag(config=True)
    reader_patience = Float(
        10.0,
        min=0.1,
        help="Seconds that output waits for a front end that reads nothing. Then it is disconnected.",
    ).tag(config=True)
    stop_on_error_timeout = Float(
        0.0, help="After an error, execute requests that arrive within so many seconds are aborted, too."
    ).tag(config=True)
    keep = Bool(
        False,
        help="Keep variables and definitions when the kernel is restarted, or crashes as a whole: in a signed file in "
        "Jupyter's data folder, which is removed when the kernel is shut down.",
    ).tag(config=True)
    event_log = Unicode(
        "",
        help="Write all that happens to the broker into this file, from which a run can be replayed. It has what cells "
        "say and print.",
    ).tag(config=True)
    raise_config_file_errors = Bool(True)  # else traitlets would go on without the file
    no_stdout = Bool(False, help="Drop what the kernel's own processes write to their stdout.").tag(config=True)
    no_stderr = Bool(False, help="Drop what the kernel's own processes write to their stderr: the log.").tag(
        config=True
    )
    capture_fd_output = Bool(True, help="Show what C code and child processes write to stdout and stderr.").tag(
        config=True
    )
    debug_just_my_code = Bool(
        False, help="Debuggers stop in the user's code only, not in libraries and the standard library."
    ).tag(config=True)
    filter_internal_frames = Bool(
        True, help="Debuggers neither show nor step into the kernel's own code, and what it has imported."
    ).tag(config=True)
    start_method = Enum(
        ["fork", "spawn"],
        "spawn" if sys.platform == "darwin" else "fork",
        help="How workers start: forked from a warm template process, or as fresh interpreters. "
        "The environment variable MPKERNEL_START overrides it.",
    ).tag(config=True)
    profile = Unicode("default", help="The IPython profile that the shells use.").tag(config=True)
    extra_config_file = Unicode("", help="One more configuration file to load.").tag(config=True)
    log_level = Enum((0, 10, 20, 30, 40, 50, "DEBUG", "INFO", "WARN", "WARNING", "ERROR", "CRITICAL"), 30).tag(
        config=True
    )
    log_style = Enum(["text", "json"], "text", help="The log's lines: for people, or objects for programs.").tag(
        config=True
    )
    parent_handle = Integer(0, help="Accepted and not used (Windows).").tag(config=True)
    help_links: Any = List(help="Links of the front end's Help menu: text and url each.").tag(config=True)

    aliases: Any = {  # noqa: RUF012
        ("f", "connection-file"): "MPKernelApp.connection_file",
        "ip": "MPKernelApp.ip",
        "transport": "MPKernelApp.transport",
        "shell": "MPKernelApp.shell_port",
        "iopub": "MPKernelApp.iopub_port",
        "stdin": "MPKernelApp.stdin_port",
        "control": "MPKernelApp.control_port",
        "hb": "MPKernelApp.hb_port",
        "interrupt-target": "MPKernelApp.interrupt_target",
        "comms-while-busy": "MPKernelApp.comms_while_busy",
        "profile": "MPKernelApp.profile",
        "config": "MPKernelApp.extra_config_file",
        "log-level": "MPKernelApp.log_level",
        "log-format": "MPKernelApp.log_style",
        "event-log": "MPKernelApp.event_log",
        "matplotlib": "InteractiveShellApp.matplotlib",
        "pylab": "InteractiveShellApp.pylab",
        "gui": "InteractiveShellApp.gui",
        "ext": "InteractiveShellApp.extra_extensions",
        "cache-size": "InteractiveShell.cache_size",
        "colors": "InteractiveShell.colors",
        "theme": "InteractiveShell.colors",
        "profile-dir": "ProfileDir.location",
        "ipython-dir": "BaseIPythonApplication.ipython_dir",
        "autocall": "InteractiveShell.autocall",
        "logfile": "InteractiveShell.logfile",
        "logappend": "InteractiveShell.logappend",
        "c": "InteractiveShellApp.code_to_run",
        "m": "InteractiveShellApp.module_to_run",
        "ident": "Session.session",
        "user": "Session.username",
        "keyfile": "Session.keyfile",
    }
    flags = {  # noqa: RUF012
        "debug": ({"MPKernelApp": {"log_level": 10}}, "Log every event and action."),
        "pylab": ({"InteractiveShellApp": {"pylab": "auto"}}, "Use numpy and matplotlib interactively."),
        "matplotlib": ({"InteractiveShellApp": {"matplotlib": "auto"}}, "Configure matplotlib."),
        "keep": ({"MPKernelApp": {"keep": True}}, "Keep variables and definitions over restarts."),
        "quiet": ({"MPKernelApp": {"log_level": 50}}, "Log nothing but what ends the kernel."),
        "no-stdout": ({"MPKernelApp": {"no_stdout": True}}, "Drop the kernel's own stdout."),
        "no-stderr": ({"MPKernelApp": {"no_stderr": True}}, "Drop the kernel's own stderr."),
        "no-secure": ({"Session": {"key": b""}}, "Don't sign messages, if there is no connection file."),
        "secure": ({}, "Sign messages, which is the default."),
        **_switches("InteractiveShell", "automagic", "pdb", "color_info", "autoindent"),
        **_switches("InteractiveShellApp", "ignore_cwd"),
        **_switches("PlainTextFormatter", "pprint"),
    }

    def _help_links_default(self) -> list[dict[str, str]]:
        return [
            {"text": "Python Reference", "url": f"https://docs.python.org/{sys.version_info[0]}.{sys.version_info[1]}"},
            {"text": "IPython Reference", "url": "https://ipython.readthedocs.io/en/stable/"},
            {"text": "NumPy Reference", "url": "https://numpy.org/doc/stable/"},
            {"text": "pandas Reference", "url": "https://pandas.pydata.org/docs/"},
            {"text": "Matplotlib Reference", "url": "https://matplotlib.org/stable/contents.html"},
        ]

    @property
    def silenced(self) -> tuple[int, ...]:
        """The file descriptors of which what is written is to be dropped."""
        return tuple(fd for fd, silent in ((1, self.no_stdout), (2, self.no_stderr)) if silent)

    def load(self, argv: list[str]) -> None:
        """Read `argv` and the configuration files. Raises StartError; ends the process for ``--help``."""
        if any(argument.startswith(("-h", "--help")) for argument in argv):
            self._know_shell_options()
        self._parse(argv)
        from_command_line = self.cli_config
        for directory in reversed(jupyter_config_path()):
            self._load_file(CONFIG_NAME, directory)
        if self.extra_config_file:
            path = Path(self.extra_config_file).absolute()
            if not path.exists():
                raise StartError(f"configuration file {path} doesn't exist; check --config")
            self._load_file(path.name, str(path.parent))
        self.update_config(from_command_line)
        self._adopt()
        self._check_profile()

    def _parse(self, argv: list[str]) -> None:
        said = io.StringIO()
        try:
            with redirect_stderr(said):  # argparse explains itself there, and exits
                self.parse_command_line(argv)
        except SystemExit as end:
            if end.code:
                raise StartError(f"{_explained(said.getvalue())}. See --help-all.") from None
            raise

    def _check_profile(self) -> None:
        """Raises StartError if it is sure that IPython won't find its profile: without one there is no shell.

        IPython, which would take long to be imported here, also looks whether its folder can be written to.
        """
        theirs = {**self.config.get("BaseIPythonApplication", {}), **self.config.get("IPKernelApp", {})}
        if "auto_create" in theirs:
            return
        if location := self.config.get("ProfileDir", {}).get("location"):
            if not _expanded(location).is_dir():
                remedy = f"ipython profile create --profile-dir={location}"
                raise StartError(f"profile folder {location} not found; make it with: {remedy}")
            return
        name = theirs.get("profile", self.profile)
        given = theirs.get("ipython_dir") or os.environ.get("IPYTHONDIR")
        xdg = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
        folders = [given] if given else ["~/.ipython", f"{xdg}/ipython"]
        if name != "default" and not any(_expanded(folder, f"profile_{name}").is_dir() for folder in folders):
            raise StartError(f"profile {name!r} not found; make it with: ipython profile create {name}")

    def _adopt(self) -> None:
        """Take options that were written for ipykernel, such as ``--IPKernelApp.ip=…``, where ours aren't set."""
        ours = self.config.get("MPKernelApp", {})
        for section in THEIR_SECTIONS:
            for name, value in self.config.get(section, {}).items():
                if name in NOT_HERE:
                    self.log.warning("%s.%s has no effect in mpkernel: %s", section, name, NOT_HERE[name])
                elif name in self.traits(config=True) and name not in ours:
                    self.update_config(Config({"MPKernelApp": {name: value}}))

    @property
    def session_options(self) -> dict[str, str]:
        """What ``--Session.key=…`` and the like set. Raises StartError for what isn't possible."""
        given = {name: _text(value) for name, value in self.config.get("Session", {}).items()}
        if keyfile := given.pop("keyfile", ""):
            try:
                given["key"] = Path(keyfile).read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                raise StartError(f"Session.keyfile {keyfile} can't be read: {error}") from error
        for name in ("packer", "unpacker"):
            if given.get(name, "json") not in ("json", "orjson"):
                raise StartError(f"Session.{name} is {given[name]!r}; mpkernel speaks JSON: leave that option out")
        return given

    def _load_file(self, name: str, directory: str) -> None:
        try:
            self.load_config_file(name, path=directory)
        except ConfigFileNotFound:
            pass
        except Exception as error:
            raise StartError(f"configuration {name} in {directory} can't be loaded: {error}") from error

    def shell_config(self) -> Config:
        """What the workers' shells get: everything that isn't the broker's."""
        config = Config(
            {name: section for name, section in self.config.items() if name not in ("MPKernelApp", "Session")}
        )
        ours = {*self.traits(config=True), *NOT_HERE, "interrupt"} - {"capture_fd_output"}
        for theirs in (config.get(section, {}) for section in THEIR_SECTIONS):
            for name in ours & set(theirs):
                del theirs[name]
        return config

    def _know_shell_options(self) -> None:
        """Only for ``--help``: the classes that aliases and handed-on options belong to."""
        from jupyter_client.session import Session

        from mpkernel.worker.app import CLASSES, IPKernelApp

        self.classes = [type(self), IPKernelApp, Session, *CLASSES]

    def unknown_options(self) -> list[str]:
        """A sentence for each option of a shell's section that the shells don't have."""
        self._know_shell_options()
        ours = {*self.traits(config=True), *NOT_HERE}
        known = {each.__name__: {*each.class_trait_names(config=True)} for each in self._classes_inc_parents()}
        known |= {section: ours | known.get(section, set()) for section in THEIR_SECTIONS}
        return [
            f"{section} has no option {name!r}"
            for section, options in self.config.items()
            if section in known and section != type(self).__name__  # traitlets itself warns of that one
            for name in options
            if name not in known[section]
        ]

    def port_options(self) -> dict[str, int]:
        """The ports by channel, 0 for one that is to be chosen."""
        return {channel: getattr(self, f"{channel}_port") for channel in ("shell", "iopub", "stdin", "control", "hb")}


def check(argv: list[str]) -> None:
    """Raises StartError if `argv`, which is only noted down, has an option that neither mpkernel nor the shells know.

    A section that isn't known here may be an extension's, and passes. (A start merely warns of an option.)
    """
    app = MPKernelApp()
    told, said = _Told(), io.StringIO()
    app.log.addFilter(told)
    try:
        with redirect_stderr(said):  # argparse explains itself there, and exits
            app.parse_command_line(argv)
    except SystemExit:
        told.lines = told.lines or [_explained(said.getvalue())]
    except (TraitError, ValueError) as error:
        told.lines.append(str(error))
    finally:
        app.log.removeFilter(told)
    problems = [*told.lines, *(f"unexpected argument {word!r}" for word in app.extra_args), *app.unknown_options()]
    if problems:
        raise StartError(f"{'; '.join(problems)}. The options are in `python -m mpkernel --help-all`")


def _explained(said: str) -> str:
    """What argparse has said, which takes each word that it doesn't know for an option that has a value."""
    error = said.rpartition("error: ")[2].strip()
    if match := re.fullmatch(r"argument (\S+): expected one argument", error):
        return f"{match[1]} is no flag; if it is an option, its value is missing"
    return error


class _Told(logging.Filter):
    """Keeps warnings and errors, and lets nothing pass."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            self.lines.append(record.getMessage().rstrip("."))
        return False


class _Once(logging.Filter):
    """Lets a line pass once: traitlets warns of an unknown option again each time that it takes options over."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        line = record.getMessage()
        new = line not in self._seen
        self._seen.add(line)
        return new


def _expanded(*parts: str) -> Path:
    return Path(os.path.expandvars(os.path.join(*parts))).expanduser()


def _text(value: object) -> str:
    """An option's value, which may have been written as in Python: VS Code gives ``--Session.key=b"…"``."""
    if isinstance(value, str) and value.strip("b")[:1] in ("'", '"'):
        with suppress(SyntaxError, ValueError):
            value = ast.literal_eval(value)
    return value.decode() if isinstance(value, bytes) else str(value)


def load(argv: list[str]) -> MPKernelApp:
    """The options in `argv` and in the configuration files.

    Raises StartError for what can't be understood, with the option's name.
    """
    app = MPKernelApp()
    once = _Once()
    app.log.addFilter(once)
    try:
        app.load(argv)
    except (TraitError, ValueError) as error:
        raise StartError(f"an option can't be understood: {error}. See --help-all.") from error
    finally:
        app.log.removeFilter(once)
    return app
