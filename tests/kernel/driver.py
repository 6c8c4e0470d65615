"""Starts real kernels for tests, and fails the test if anything of one is left when it has stopped.

The command is given in a kernelspec of the kernel's own sandbox, so the path is that of any front end:
`jupyter_client.KernelManager` finds the kernelspec, makes the connection file and starts the process.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

from .client import LOOP, READY, Client
from .exchange import Channel, Json, Message, Pending, Result
from .sandbox import GONE_WITHIN, Sandbox, poll_until

T = TypeVar("T")

__all__ = [
    "KERNEL",
    "LOOP",
    "READY",
    "Channel",
    "Client",
    "Gate",
    "Json",
    "Kernel",
    "Message",
    "Pending",
    "Result",
    "start_kernel",
]

KERNEL = os.environ.get("MPKERNEL_TEST_KERNEL", "mpkernel")
MODULES = {"mpkernel": "mpkernel", "ipykernel": "ipykernel_launcher"}
COMMAND = [sys.executable, "-m", MODULES[KERNEL]]
KERNELSPEC = "kernel-under-test"


def install_kernelspec(data_folder: Path, *arguments: str, command: Sequence[str] = COMMAND) -> None:
    """Put a kernelspec for the kernel under test into a Jupyter data folder."""
    folder = data_folder / "kernels" / KERNELSPEC
    folder.mkdir(parents=True)
    spec = {
        "argv": [*command, "-f", "{connection_file}", *arguments],
        "display_name": "the kernel under test",
        "language": "python",
    }
    (folder / "kernel.json").write_text(json.dumps(spec))


class Gate:
    """A fifo at which a cell waits until the test lets it go on: cells meet by messages, not by time."""

    def __init__(self, path: Path, client: Client) -> None:
        os.mkfifo(path)
        self.path = path
        self.pass_through = f"open({str(path)!r}).close()"  # code that blocks until `release`
        self._client = client

    def _try_to_open(self) -> bool:
        try:
            os.close(os.open(self.path, os.O_WRONLY | os.O_NONBLOCK))
        except OSError as error:
            if error.errno != errno.ENXIO:  # nobody waits at the gate yet
                raise
            return False
        return True

    def release(self) -> None:
        """Wait until a cell waits at the gate, and let it through."""
        self._client.wait_until(self._try_to_open, f"cell waiting at {self.path.name}")


class Kernel(Client):
    """A running kernel in a sandbox, and a client of it."""

    def __init__(
        self,
        sandbox: Sandbox,
        *arguments: str,
        env: dict[str, str] | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.sandbox = sandbox
        install_kernelspec(sandbox.data, *arguments, command=command)
        specs = KernelSpecManager(kernel_dirs=[str(sandbox.data / "kernels")], ensure_native_kernel=False)
        self.manager = KernelManager(
            kernel_name=KERNELSPEC,
            kernel_spec_manager=specs,
            connection_file=str(sandbox.runtime / "kernel-under-test.json"),
        )
        self._log = sandbox.log.open("w")  # kept open, as a restart uses it again
        environment = sandbox.environment() | (env or {})
        self.manager.start_kernel(env=environment, cwd=str(sandbox.cwd), stdout=self._log, stderr=self._log)
        self._note_process()
        super().__init__(self.manager.connection_file)
        self.request("kernel_info_request")  # as every front end does first

    def _note_process(self) -> None:
        self.process = psutil.Process(getattr(self.manager.provisioner, "pid", None))
        self.sandbox.record([self.process])

    def check_alive(self) -> None:
        if not self.manager.is_alive():
            raise ChildProcessError(f"the kernel has ended; its log:\n{self.sandbox.log_tail()}")

    def processes(self) -> set[psutil.Process]:
        """All live processes of the kernel: its tree, and what was re-parented."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self.sandbox.record(self.process.children(recursive=True))
        return self.sandbox.processes()

    def told(self, look: Callable[[psutil.Process], T]) -> list[T]:
        """What `look` tells of each process that doesn't end just now."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                found.append(look(process))
        return found

    def gate(self, name: str) -> Gate:
        return Gate(self.sandbox.cwd / name, self)

    def interrupt_by_signal(self) -> None:
        """Interrupt as jupyter_server does: SIGINT to the process group of the process it started."""
        self.manager.interrupt_kernel()
        self.control("kernel_info_request")  # a signal has no reply; what answers this has seen the signal

    def restart(self) -> None:
        """Restart through the kernel manager, as the button in a front end does, and connect again."""
        self.close()
        self.processes()
        self.manager.restart_kernel()
        self._note_process()
        self.strays.clear()
        self._open()

    def shut_down(self, timeout: float = GONE_WITHIN) -> list[str]:
        """Send `shutdown_request`, nothing else. Returns what is left of the kernel `timeout` seconds later."""
        self.processes()
        deadline = time.monotonic() + timeout
        pending = self.send("shutdown_request", {"restart": False}, channel="control")
        with contextlib.suppress(TimeoutError, ChildProcessError):
            self.wait_until(lambda: pending.reply is not None, "shutdown_reply", timeout)
        return self.what_is_left(deadline - time.monotonic())

    def what_is_left(self, timeout: float = GONE_WITHIN) -> list[str]:
        """Processes and files of the kernel that are there after `timeout` seconds, when it has been ended somehow."""
        self.close()
        deadline = time.monotonic() + timeout
        poll_until(lambda: not self.manager.is_alive(), timeout)
        self.manager.cleanup_connection_file()
        return self.sandbox.leftovers(deadline - time.monotonic())

    def stop(self) -> None:
        """Shut down, and raise AssertionError if a process or a file is left."""
        left = self.shut_down() if self.manager.is_alive() else self.what_is_left()
        self.sandbox.kill_everything()
        self.manager.cleanup_resources()
        self._log.close()
        if left and KERNEL == "mpkernel":  # ipykernel neither ends while it is busy, nor is it ours to judge
            raise AssertionError("left over by the kernel:\n" + "\n".join(left))
        if "please report this" in self.sandbox.log.read_text(errors="replace"):
            raise AssertionError("something in the broker failed")


def _kernel_on_free_ports(sandbox: Sandbox, *arguments: str, **options: Any) -> Kernel:
    """jupyter_client chooses free ports; on a busy machine a connection may take one before the kernel listens."""
    tries = 3
    while True:
        try:
            return Kernel(sandbox, *arguments, **options)
        except ChildProcessError as error:
            tries -= 1
            if not tries or "the address is in use" not in str(error):
                raise
            shutil.rmtree(sandbox.data / "kernels")


@contextlib.contextmanager
def start_kernel(
    *arguments: str, env: dict[str, str] | None = None, command: Sequence[str] = COMMAND
) -> Iterator[Kernel]:
    """A fresh kernel with `arguments` on its command line and `env` added to its environment."""
    with Sandbox() as sandbox:
        try:
            kernel = _kernel_on_free_ports(sandbox, *arguments, env=env, command=command)
            yield kernel
            kernel.stop()
        except BaseException as error:
            error.add_note(f"the kernel's log:\n{sandbox.log_tail()}")
            error.add_note(f"its processes:\n{sandbox.state()}")
            raise
