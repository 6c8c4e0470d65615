#!/usr/bin/env python3
"""Install mpkernel into a virtual environment of its own, and open the notebook that shows it in JupyterLab.

Without a browser (or with ``--execute``) the notebook is executed instead, and what the cells print is shown.
``--seconds`` sets how long the training runs (default 60).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import webbrowser

import _venv

NOTEBOOK = _venv.ROOT / "docs" / "parallel.ipynb"

SHOW_OUTPUT = """
import json, sys
for cell in json.load(open(sys.argv[1]))["cells"]:
    for output in cell.get("outputs", ()):
        if output["output_type"] == "stream":
            print("   ", "    ".join(output["text"]).rstrip())
"""


def has_browser() -> bool:
    """Whether a page could be opened for the user here."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--execute", action="store_true", help="execute the notebook instead of opening it")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the training runs")
    parser.add_argument("--venv", default=".venv-demo", help="where the environment is made, in the source tree")
    options = parser.parse_args()
    python = _venv.make(options.venv, "demo")
    environment = {**os.environ, "MPKERNEL_DEMO_SECONDS": str(options.seconds)}
    if not options.execute and has_browser():
        print("Opening JupyterLab; end it with Ctrl-C.", flush=True)
        return subprocess.run([python, "-m", "jupyterlab", NOTEBOOK], env=environment, check=False).returncode
    if not options.execute:
        print("There is no browser here, so the notebook is executed.", flush=True)
    result = _venv.ROOT / options.venv / "parallel-executed.ipynb"
    print(f"Executing {NOTEBOOK.name} on mpkernel, for about {options.seconds:.0f} s ...", flush=True)
    command = [python, "-m", "nbconvert", "--to", "notebook", "--execute", "--output", result, NOTEBOOK]
    if code := subprocess.run(command, env=environment, check=False).returncode:
        return code
    subprocess.run([python, "-c", SHOW_OUTPUT, result], check=True)
    print(f"The executed notebook, with its picture, is {result}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
