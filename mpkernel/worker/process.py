"""The life of a worker process, from its first line to its last."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from typing import Any, NoReturn

from mpkernel import logs
from mpkernel.messages import DUMP_SIGNAL, Describe, Ending, Logged
from mpkernel.settings import WorkerSettings
from mpkernel.worker.app import IPythonKernel
from mpkernel.worker.forks import Forks
from mpkernel.worker.ipykernel_names import IPykernelNames
from mpkernel.worker.kernel import WorkerKernel
from mpkernel.worker.template import Template

# A cell that eats all memory should be what the system kills, not the broker (proc(5), oom_score_adj).
OOM_SCORE_ADJ = 500


def run(template: Template, settings: WorkerSettings, worker: int) -> NoReturn:
    """Be the worker until told to exit. Never returns."""
    _settle(settings, worker)
    app = template.app
    settings = replace(settings, capture_fds=settings.capture_fds and app.capture_fd_output, quiet=app.quiet)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    kernel = WorkerKernel(template, settings, worker, loop)
    kernel.use_experimental_completions = IPythonKernel(parent=app).use_experimental_completions
    kernel.interrupts.install()
    Forks(kernel.interrupts, kernel.lanes.wakeup_fd).install()
    IPykernelNames(kernel).install()
    with kernel.streams.drained():
        app.run_startup()
    kernel.sync.startup_done()
    kernel.service.start()
    if settings.kernel_class:
        kernel.wrap(settings.kernel_class)
    kernel.lanes.start()  # says Hello
    logs.hand_on(lambda line: kernel.lanes.send(Logged(line)))
    if kernel.wrapped is not None:
        kernel.lanes.send(Describe(kernel.wrapped.kernel.kernel_info()))
    code = 0
    try:
        while not kernel.told_to_end:
            try:
                loop.run_forever()
            except KeyboardInterrupt:
                kernel.warn("an interrupt has ended a task, or a callback, that ran in the background")
    except SystemExit as error:  # raised by a callback of the user's
        code = error.code if isinstance(error.code, int) else 1
    finally:
        for signum in (signal.SIGINT, signal.SIGTERM):  # whoever wants it gone sooner has SIGKILL
            signal.signal(signum, signal.SIG_IGN)
        _close(kernel)
    sys.exit(code)


def _settle(settings: WorkerSettings, worker: int) -> None:
    """Make this process a worker: group, signals, standard input, what happens if the broker or the worker dies."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    if sys.platform == "linux":
        from mpkernel.prctl import PR_SET_PDEATHSIG, prctl

        with suppress(OSError):  # also while C code holds the GIL and the IO thread can't run
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(OOM_SCORE_ADJ))
    if os.getppid() != settings.broker_pid:
        os._exit(1)  # it died before it could matter
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    logs.to_fd(os.dup(2), settings.log_level, settings.log_format)  # fd 2 will soon be the notebook's
    dump = open(settings.dump_file(worker), "wb", buffering=0)  # noqa: SIM115
    faulthandler.enable(dump, all_threads=True)
    faulthandler.register(DUMP_SIGNAL, dump, all_threads=True)


def _close(kernel: WorkerKernel) -> None:
    """The exit hooks run after this, with output still possible through the pipes' other ends."""
    kernel.sync.close()
    kernel.lanes.send(Ending())
    if kernel.wrapped is not None:
        try:
            kernel.wrapped.shut_down(kernel.loop)
        except BaseException:
            kernel.log.exception("do_shutdown failed")
    with suppress(Exception):
        history: Any = kernel.shell.history_manager
        history.end_session()
    kernel.streams.drain()
    kernel.lanes.flush(1.0)
    os.killpg(os.getpgrp(), signal.SIGTERM)  # what cells started may say goodbye, too
