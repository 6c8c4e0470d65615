"""What all workers have in common, made once, in the process that they are forked from.

Whatever a worker makes or looks through by itself is in memory of its own: to look at an object writes its count of
references, and so copies the page that it is on.
"""

from __future__ import annotations

import contextvars
import gc
import resource
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mpkernel.namespace.facets import all_facets
from mpkernel.namespace.process_state import ProcessState
from mpkernel.settings import WorkerSettings
from mpkernel.worker.app import IPKernelApp
from mpkernel.worker.shell_facets import shell_facets


class Template:
    """IPython imported, the profile read, a shell built. Starts no thread."""

    def __init__(self, settings: WorkerSettings) -> None:
        if settings.open_files is not None:
            with suppress(OSError, ValueError):
                hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
                resource.setrlimit(resource.RLIMIT_NOFILE, (settings.open_files, hard))
        self.app = IPKernelApp.instance()
        with _temporary_folders_in(settings.directory):
            self.app.load_profile(settings)
            self.shell = self.app.build_shell(settings)
        self.shell.take_over_pdb()
        self.shell.template_modules = frozenset(sys.modules)
        self.context = contextvars.copy_context()  # in which cells run
        self.state = ProcessState([*all_facets(self.context, self.shell.user_ns), *shell_facets(self.shell)])
        gc.freeze()  # the pages of what exists now stay shared: the collector doesn't touch them
        gc.enable()

    def warm_up(self) -> None:
        """Do once what would take each worker time. The first one is forked before, as it has to be there soon."""
        if not self.shell.warm:
            self.shell.warm_up()
            self.state.rebase()
            gc.freeze()


@contextmanager
def _temporary_folders_in(folder: Path) -> Iterator[None]:
    """Where HOME can't be written to, IPython makes itself a folder for its profile, and never removes it."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
