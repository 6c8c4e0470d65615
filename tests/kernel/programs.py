"""What tests of programs that start kernels share: run one, give it a notebook."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from .sandbox import PATIENCE, Sandbox

WITHIN = 40 * PATIENCE  # seconds


def needs(*modules: str) -> pytest.MarkDecorator:
    """Skips where one isn't installed."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} isn't installed")


def run(sandbox: Sandbox, *arguments: str, text: str = "") -> str:
    """The output of a Python program in the sandbox. Raises AssertionError if it fails."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env=sandbox.environment(),
        cwd=sandbox.cwd,
        input=text,
        capture_output=True,
        text=True,
        timeout=WITHIN,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def notebook(sandbox: Sandbox, *cells: str, kernel: str = "python3") -> Path:
    """A notebook of code cells in the sandbox's working folder."""
    content = {
        "cells": [
            {"cell_type": "code", "id": f"c{n}", "source": code, "metadata": {}, "outputs": [], "execution_count": None}
            for n, code in enumerate(cells)
        ],
        "metadata": {"kernelspec": {"name": kernel, "display_name": "Python 3", "language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path = sandbox.cwd / "notebook.ipynb"
    path.write_text(json.dumps(content))
    return path


def free_ports(*channels: str) -> dict[str, int]:
    """A port for each channel that nobody has now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in channels]
        return {channel: server.getsockname()[1] for channel, server in zip(channels, sockets, strict=True)}
