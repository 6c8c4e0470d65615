#!/usr/bin/env python3
"""Run ipykernel's own black-box tests - those that start a kernel by its name and talk to it - against mpkernel.

The source distribution is downloaded into a temporary folder, in which ``python3`` is a kernelspec of mpkernel, and
nothing of it is kept. Prints the tests that pass and those that don't; docs/compatibility.md says of each of the latter
why. Needs an interpreter with mpkernel, ipykernel, pytest, pytest-asyncio, pytest-timeout and flaky: what is missing is
installed into the temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

# Not test_curve and test_start_kernel, which make objects of ipykernel's classes: they would pass without any mpkernel.
FILES = ("test_kernel", "test_message_spec", "test_subshells", "test_async")
ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(prog="ipykernel_suite.py", description=__doc__)
    parser.add_argument("--version", default="7.4.0", help="of ipykernel (7.4.0)")
    parser.add_argument("--timeout", type=int, default=30, metavar="SECONDS", help="for one test (30)")
    parser.add_argument("--tracebacks", action="store_true", help="show why tests fail")
    parser.add_argument("pytest", nargs="*", help="further arguments for pytest, behind --")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mps-") as name:
        folder = Path(name)
        tests = _download(arguments.version, folder)
        environment = _environment(folder)
        report = folder / "report.xml"
        command = [sys.executable, "-m", "pytest", *(str(tests / f"{file}.py") for file in FILES)]
        command += ["-c", str(tests.parent / "pyproject.toml"), "-W", "default", "-p", "no:cacheprovider", "-q"]
        command += [f"--timeout={arguments.timeout}", f"--junitxml={report}", *arguments.pytest]
        command += [] if arguments.tracebacks else ["--tb=line", "--no-showlocals"]
        done = subprocess.run(
            command,
            cwd=tests.parent,
            env=environment,
            check=False,
            stdout=None if arguments.tracebacks else subprocess.DEVNULL,
        )
        if not report.exists():
            print(f"pytest ended with {done.returncode} and no report", file=sys.stderr)
            return 2
        return _print(report)


def _download(version: str, folder: Path) -> Path:
    """The folder with the tests."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    source = ["download", "--no-deps", "--no-binary", "ipykernel", "--no-build-isolation", "-d", str(folder)]
    subprocess.run([*pip, *source, f"ipykernel=={version}"], check=True)
    subprocess.run(
        [
            *pip,
            "install",
            "--target",
            str(folder / "site"),
            "--no-deps",
            "flaky",
            "pytest-asyncio",
            "pytest-cov",
            "coverage",
        ],
        check=True,
    )
    with tarfile.open(next(folder.glob("ipykernel-*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return folder / f"ipykernel-{version}" / "tests"


def _environment(folder: Path) -> dict[str, str]:
    spec = {
        "argv": [sys.executable, "-m", "mpkernel", "-f", "{connection_file}"],
        "display_name": "mpkernel",
        "language": "python",
        "metadata": {"supported_encryption": ["curve"]},
    }
    directory = folder / "jupyter" / "kernels" / "python3"
    directory.mkdir(parents=True)
    (directory / "kernel.json").write_text(json.dumps(spec))
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JUPYTER", "JPY_", "IPY", "MPLBACKEND"))
    }
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), str(folder / "site"), os.environ.get("PYTHONPATH")))),
        "JUPYTER_PATH": str(folder / "jupyter"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "IPYTHONDIR": str(folder / "ipython"),
    }


def _print(report: Path) -> int:
    """The tests by outcome; 0 if none failed."""
    outcomes: dict[str, list[str]] = {"passed": [], "skipped": [], "failed": []}
    for case in ET.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        kinds = {child.tag: child for child in case}
        problem = next((kinds[tag] for tag in ("failure", "error") if tag in kinds), None)
        if problem is not None:
            outcomes["failed"].append(f"{name}: {' '.join(problem.get('message', '').split())[:200]}")
        else:
            outcomes["skipped" if "skipped" in kinds else "passed"].append(name)
    for outcome, names in outcomes.items():
        print(f"\n{outcome} ({len(names)}):")
        for name in names:
            print(f"  {name}")
    return 1 if outcomes["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
