"""IPython's own configuration in a worker: profile, extensions, startup files, exec_lines, matplotlib.

The section is called ``IPKernelApp``, as in the ``ipython_kernel_config.py`` that users have; libraries look for that
name in ``get_ipython().config``, too.
"""

from __future__ import annotations

import logging
from typing import Any

from IPython.core.application import BaseIPythonApplication
from IPython.core.completer import IPCompleter
from IPython.core.history import HistoryManager
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.profiledir import ProfileDir
from IPython.core.shellapp import InteractiveShellApp
from traitlets import Bool, List, Unicode
from traitlets.config import Config, Configurable

from mpkernel.settings import WorkerSettings
from mpkernel.worker.shell import STORE_MAGIC, ZMQInteractiveShell


class IPythonKernel(Configurable):
    """Options that users have in a section of this name."""

    use_experimental_completions = Bool(True, help="Say of what type a completion is.").tag(config=True)


CLASSES: list[Any] = [
    InteractiveShellApp,
    ZMQInteractiveShell,
    InteractiveShell,
    HistoryManager,
    IPCompleter,
    ProfileDir,
    IPythonKernel,
]


class IPKernelApp(BaseIPythonApplication, InteractiveShellApp):
    """Sets a shell up as a kernel's, in each worker."""

    name = "ipython-kernel"
    classes = CLASSES
    subapp = None
    connection_file = Unicode("").tag(config=True)
    capture_fd_output = Bool(True, help="Show what C code and child processes write to stdout and stderr.").tag(
        config=True
    )
    quiet = Bool(True, help="Write nothing of what cells print to the kernel's own stdout and stderr.").tag(config=True)
    # IPython's short name has each worker look through the whole path for a module "storemagic" first.
    default_extensions = List(Unicode(), [STORE_MAGIC]).tag(config=False)
    shell: ZMQInteractiveShell

    def load_profile(self, settings: WorkerSettings) -> None:
        """Find the profile and load its ``ipython_config.py`` and ``ipython_kernel_config.py``."""
        given = Config(settings.config)
        self.profile = settings.profile
        self.update_config(given)
        self.init_profile_dir()
        self.init_config_files()
        self.load_config_file()
        self.update_config(given)  # the command line and Jupyter's files have the last word
        self.config.IPKernelApp.connection_file = self.connection_file = settings.connection_file

    @property
    def config_file_name(self) -> str:  # type: ignore[override]
        return "ipython_kernel_config.py"

    def build_shell(self, settings: WorkerSettings) -> ZMQInteractiveShell:
        """The shell, without a kernel yet."""
        self.shell = ZMQInteractiveShell.instance(parent=self, profile_dir=self.profile_dir, user_ns=settings.user_ns)
        self.shell.configurables.append(self)  # type: ignore[arg-type] # for %config
        return self.shell

    def run_startup(self) -> None:
        """Path, extensions, startup files, exec_lines and exec_files, pylab: what makes a fresh shell the user's."""
        for step in (self.init_path, self.init_gui_pylab, self.init_extensions, self.init_code):
            try:
                step()
            except Exception:
                logging.getLogger("mpkernel.worker").exception("%s failed", step.__name__)

    def exit(self, exit_status: Any = 0) -> None:
        """The profile can't be used: say so by the exit code of this process."""
        raise SystemExit(exit_status)
