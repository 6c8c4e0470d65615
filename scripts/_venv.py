"""A virtual environment with mpkernel in it, made by a plain Python: what `demo.py` and `check.py` share.

Only the standard library is imported here, as nothing else is there yet.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent


def make(name: str, *extras: str, editable: bool = False) -> Path:
    """Make (or bring up to date) the environment ``ROOT/name``; returns its Python. Ends the program if it can't."""
    if sys.version_info < (3, 11):
        _give_up(f"this is Python {sys.version.split()[0]}; mpkernel needs 3.11 or newer. Run this with such a Python.")
    if os.name != "posix":
        _give_up("mpkernel runs on Linux and macOS (and in WSL).")
    directory = ROOT / name
    python = directory / "bin" / "python"
    if not python.exists():
        print(f"Making a virtual environment in {directory} ...", flush=True)
        if subprocess.run([sys.executable, "-m", "venv", "--clear", directory], check=False).returncode != 0:
            _give_up("python -m venv failed. On Debian and Ubuntu it is in the package python3-venv.")
    what = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
    print(f"Installing mpkernel ({', '.join(extras) or 'no extras'}) ...", flush=True)
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.run([*command, *(["-e"] if editable else []), what], check=False).returncode != 0:
        _give_up(f"pip could not install {what}; see its message above.")
    return python


def _give_up(reason: str) -> NoReturn:
    sys.exit(f"{Path(sys.argv[0]).name}: {reason}")
