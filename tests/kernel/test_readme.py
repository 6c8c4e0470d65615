"""What README.md shows works as it stands: cells pasted into a notebook, commands typed in a terminal, its notebook."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.readme import blocks

from .driver import Kernel, start_kernel
from .sandbox import REPOSITORY

pytestmark = pytest.mark.mpkernel_only("its own README")


def test_the_cells_watch_a_loop_and_the_commands_reach_it(kernel: Kernel) -> None:
    *before, loop = blocks("python")
    cells = [kernel.submit(code) for code in before]
    for cell in cells:
        assert cell.wait().status == "ok"
    running, watching = kernel.submit(loop), cells[-1]
    line = re.compile(r"^[1-9]\d* steps, loss \[0\.\d+\]$", re.MULTILINE)
    watching.wait_until(lambda: bool(line.search(watching.stdout)), "line of the watcher's")
    assert running.reply is None

    for line in next(block for block in blocks("console") if "mpkernel ps" in block).splitlines():
        command, *words = shlex.split(line.removeprefix("$ "), comments=True)
        assert command == "mpkernel"
        words = [word.replace("3f2a/", "under-test/") for word in words]
        main = "import sys; from mpkernel.cli import main; sys.exit(main())"
        env = kernel.sandbox.environment() | {"JUPYTER_RUNTIME_DIR": str(kernel.sandbox.runtime)}
        done = subprocess.run(
            [sys.executable, "-c", main, *words], env=env, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert "nothing was running" not in done.stdout
    assert running.wait().ename == "Killed"
    assert [m.content["ename"] for m in watching.messages if m.type == "error"] == ["KeyboardInterrupt"]
    assert kernel.value("len(losses) > 0")


@pytest.mark.skipif(not (find_spec("numpy") and find_spec("matplotlib")), reason="needs numpy and matplotlib")
def test_the_notebook_says_nothing_but_what_it_prints() -> None:
    notebook = json.loads((REPOSITORY / "docs" / "parallel.ipynb").read_text())
    with start_kernel(env={"MPKERNEL_DEMO_SECONDS": "2"}) as kernel:
        codes = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
        cells = [kernel.submit(code) for code in codes]
        results = [cell.wait() for cell in cells]
        assert [result.status for result in results] == ["ok"] * len(codes)
        assert [result.stderr for result in results] == [""] * len(codes)
        assert any("interrupted by the watcher" in result.stdout for result in results)
