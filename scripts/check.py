#!/usr/bin/env python3
"""Run mpkernel's tests in a virtual environment of their own (.venv-check, or what MPKERNEL_CHECK_VENV names).

Tests that need what isn't there (a browser, large libraries) are skipped and say so.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

import _venv

# Tests start many processes, and wait for them: one more at a time than there are cores, but no more than this.
MOST = 4


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        usage="%(prog)s [-h] [ARGUMENT ...]",
        epilog="Arguments go to pytest: -x tests/cli",
    )
    _, for_pytest = parser.parse_known_args()
    python = _venv.make(os.environ.get("MPKERNEL_CHECK_VENV", ".venv-check"), "test", editable=True)
    side_by_side = ["-n", str(min(MOST, 1 + (os.cpu_count() or 1))), "--dist", "loadfile"]
    return subprocess.run([python, "-m", "pytest", *side_by_side, *for_pytest], cwd=_venv.ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
