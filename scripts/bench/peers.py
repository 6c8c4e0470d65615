"""The kernels that mpkernel is measured beside, and how they come into environments of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.harness.kernel import Spec

LIBRARIES = ("numpy", "pandas", "matplotlib")  # what the cells of some rows import


@dataclass(frozen=True)
class Peer:
    """A kernel on PyPI: what to install, and the name of the kernelspec that this installs."""

    name: str
    requirement: str
    kernelspec: str = "python3"


IPYKERNEL = Peer("ipykernel", "ipykernel")
OTHERS = (
    Peer("xeus-python", "xeus-python", "xpython"),
    Peer("async-kernel", "async-kernel", "async"),
    Peer("ipykernel-6", "ipykernel<7"),
    Peer("ipyparallel", "ipyparallel"),  # engines that an ipykernel's cells start: see rows_ipyparallel
)


class NotInstalled(Exception):
    """An environment for a peer could not be made; says why."""


def spec_of(peer: Peer, folder: Path) -> Spec:
    """How to start `peer`; its environment is ``folder/NAME``, made if it isn't there. Raises NotInstalled."""
    environment = folder / peer.name
    python = environment / "bin" / "python"
    kernelspec = environment / "share" / "jupyter" / "kernels" / peer.kernelspec
    if not kernelspec.is_dir():
        print(f"installing {peer.requirement} into {environment} ...", file=sys.stderr, flush=True)
        _run([sys.executable, "-m", "venv", "--clear", str(environment)], peer)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--compile"]
        _run([*pip, peer.requirement, *LIBRARIES], peer)
    if not kernelspec.is_dir():
        raise NotInstalled(f"{peer.name}: its package has no kernelspec {peer.kernelspec!r}")
    return Spec.installed(peer.name, kernelspec, str(python))


def _run(command: Sequence[str], peer: Peer) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()
        raise NotInstalled(f"{peer.name}: {' '.join(command[1:4])} failed: {said[-1]:.200}")
