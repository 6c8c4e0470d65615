"""One kernel under test: started as a front end does (`jupyter_client.KernelManager`), ended without a trace."""

from __future__ import annotations

import functools
import json
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

from scripts.harness import proc
from scripts.harness.client import FrontEnd, Listener
from scripts.harness.sandbox import Sandbox

MODULES = {"mpkernel": "mpkernel", "ipykernel": "ipykernel_launcher", "xpython": "xpython_launcher"}
_SPEC = "under-test"
_TOLD = ("mpkernel", "ipykernel", "xeus-python", "async-kernel", "ipyparallel", "ipython", "pyzmq", "tornado")


@dataclass(frozen=True)
class Spec:
    """How to start a kernel; `python` is its interpreter if that is known."""

    name: str
    argv: Sequence[str]
    python: str | None = None
    interrupt_mode: str = "signal"
    env: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Spec:
        """From ``NAME=WHAT``: an interpreter, a folder with a kernel.json, or a command line. Raises ValueError."""
        name, _, what = text.partition("=")
        if not name or not what:
            raise ValueError(f"{text!r} is not NAME=INTERPRETER, NAME=KERNELSPEC-FOLDER or NAME='COMMAND LINE'")
        path = Path(what).expanduser()
        if (path / "kernel.json").is_file():
            spec = json.loads((path / "kernel.json").read_text())
            return cls(name, spec["argv"], None, spec.get("interrupt_mode", "signal"), spec.get("env", {}))
        if path.is_file():
            return cls.of_interpreter(name, str(path.absolute()))
        argv = shlex.split(what)
        if len(argv) < 2:
            raise ValueError(f"{what!r} is no file, no folder with a kernel.json, and no command line either")
        return cls(name, argv, argv[0])

    @classmethod
    def installed(cls, name: str, folder: Path, python: str) -> Spec:
        """From the folder of a kernelspec; `python` replaces the interpreter in it, which may be any on the PATH."""
        spec = json.loads((folder / "kernel.json").read_text())
        argv = (python, *spec["argv"][1:])
        return cls(name, argv, python, spec.get("interrupt_mode", "signal"), spec.get("env", {}))

    @classmethod
    def of_interpreter(cls, name: str, python: str) -> Spec:
        """The kernel whose name (up to a dash) is in `MODULES`, in this interpreter; ipykernel for other names."""
        module = MODULES.get(name.partition("-")[0], MODULES["ipykernel"])
        return cls(name, (python, "-m", module, "-f", "{connection_file}"), python)

    def versions(self) -> str:
        """Python's, the kernel's and IPython's version, for the report."""
        if self.python is None:
            return " ".join(self.argv)
        code = (
            "import importlib.metadata as m, platform\n"
            "out = ['Python ' + platform.python_version()]\n"
            f"for n in {_TOLD!r}:\n"
            "    try: out.append(n + ' ' + m.version(n))\n"
            "    except m.PackageNotFoundError: pass\n"
            "print(', '.join(out))"
        )
        done = subprocess.run([self.python, "-c", code], capture_output=True, text=True, check=False)
        return done.stdout.strip() or "unknown"


class Kernel:
    """A kernel in a sandbox of its own. A context manager; `start` is a step of its own, as it may be measured."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.sandbox = Sandbox()
        self.log = self.sandbox.root / "kernel.log"
        folder = self.sandbox.data / "kernels" / _SPEC
        folder.mkdir(parents=True)
        content = {
            "argv": list(spec.argv),
            "display_name": spec.name,
            "language": "python",
            "interrupt_mode": spec.interrupt_mode,
            "env": spec.env,
        }
        (folder / "kernel.json").write_text(json.dumps(content))
        self._manager = KernelManager(
            kernel_name=_SPEC,
            kernel_spec_manager=KernelSpecManager(
                kernel_dirs=[str(folder.parent)], ensure_native_kernel=False, data_dir=str(self.sandbox.data)
            ),
            connection_file=str(self.sandbox.runtime / "kernel.json"),
        )
        self._front: FrontEnd | None = None
        self.pid = 0

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, on_message: Listener | None = None) -> None:
        """`KernelManager.start_kernel`, and connect."""
        with self.log.open("w") as log:
            environment = self.sandbox.environment()
            self._manager.start_kernel(env=environment, cwd=str(self.sandbox.cwd), stdout=log, stderr=log)
        self.pid = self._manager.provisioner.pid  # type: ignore[union-attr]
        self._front = FrontEnd(self.connection_file, on_message)

    @property
    def front(self) -> FrontEnd:
        assert self._front is not None, "start() comes first"
        return self._front

    @property
    def connection_file(self) -> Path:
        return Path(self._manager.connection_file)

    @functools.cached_property
    def has_subshells(self) -> bool:
        """Whether it says that it has them."""
        return "kernel subshells" in self.front.ask("kernel_info_request").reply.get("supported_features", ())

    @property
    def is_mpkernel(self) -> bool:
        return self.spec.name.startswith("mpkernel")

    def warm_up(self) -> None:
        """To where a user's session is after its first cells."""
        self.front.wait_for_iopub()
        for _ in range(3):
            self.front.run("pass")

    def tree(self) -> list[int]:
        """The pids of the kernel's process and of all below it."""
        try:
            return [self.pid, *(child.pid for child in psutil.Process(self.pid).children(recursive=True))]
        except psutil.NoSuchProcess:
            return []

    def interrupt(self) -> None:
        """As the front end's Stop button does."""
        self._manager.interrupt_kernel()

    def log_tail(self, characters: int = 2000) -> str:
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""

    def reap(self) -> None:
        """Take notice that the process has ended, and remove the connection file, as a front end does."""
        with suppress(Exception):
            self._manager.shutdown_kernel(now=True)

    def close(self) -> None:
        """Shut down, kill if that takes too long, and remove all traces."""
        try:
            if self._front is not None:
                self._front.send("shutdown_request", {"restart": False}, channel="control")
                deadline = time.monotonic() + 1.5
                while proc.wait_for_end([self.pid], 0.01) is None and time.monotonic() < deadline:
                    self._front.pump(0.01)
                self._front.close()
        finally:
            self.sandbox.kill_everything()
            self.reap()
            shutil.rmtree(self.sandbox.root, ignore_errors=True)
