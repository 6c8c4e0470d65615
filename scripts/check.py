#!/usr/bin/env python3
"""Run mpkernel's tests in a virtual environment of their own. Arguments go to pytest.

Tests that need what isn't there (a browser, large libraries) are skipped and say so.
"""

from __future__ import annotations

import os
import subprocess
import sys

import _venv


def main() -> int:
    python = _venv.make(os.environ.get("MPKERNEL_CHECK_VENV", ".venv-check"), "test", editable=True)
    return subprocess.run([python, "-m", "pytest", *sys.argv[1:]], cwd=_venv.ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
