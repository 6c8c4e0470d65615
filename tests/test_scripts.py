"""The two commands of the README: what they do before and after they have an environment."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(params=["check", "demo"])
def script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))  # as Python does for a script
    return importlib.import_module(request.param)


def test_help_makes_no_environment(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script._venv, "make", lambda *_, **__: pytest.fail("an environment is made"))
    monkeypatch.setattr(sys, "argv", [script.__name__, "--help"])
    with pytest.raises(SystemExit) as end:
        script.main()
    assert end.value.code == 0


@pytest.mark.parametrize("script", ["demo"], indirect=True)
def test_the_result_is_in_the_environments_folder(
    script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(script._venv, "make", lambda *_: Path(sys.executable))
    monkeypatch.setattr(script.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0))
    monkeypatch.setattr(sys, "argv", ["demo", "--execute", "--venv", "folder"])
    assert script.main() == 0
    assert capsys.readouterr().out.endswith(f" is {script._venv.ROOT / 'folder' / 'parallel-executed.ipynb'}\n")


@pytest.mark.parametrize("script", ["check"], indirect=True)
def test_arguments_go_to_pytest(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run: list[list[object]] = []

    def noted(command: list[object], **_: object) -> subprocess.CompletedProcess[bytes]:
        run.append(command)
        return subprocess.CompletedProcess(command, 5)

    monkeypatch.setattr(script._venv, "make", lambda *_, **__: Path("python"))
    monkeypatch.setattr(script.subprocess, "run", noted)
    monkeypatch.setattr(sys, "argv", ["check", "-x", "tests/cli", "-k", "ps"])
    assert script.main() == 5
    [command] = run
    assert (command[:3], command[-4:]) == ([Path("python"), "-m", "pytest"], ["-x", "tests/cli", "-k", "ps"])
