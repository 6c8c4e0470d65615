"""IPython's profile: what is wrong with its folder doesn't keep a kernel from starting."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mpkernel.worker.app import IPKernelApp


def test_no_room_for_its_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    def full(_: str, to: str) -> None:
        Path(to).touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copy", full)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    settings: Any = SimpleNamespace(config={}, profile="default", connection_file="")
    app = IPKernelApp()
    app.load_profile(settings)
    assert app.profile_dir.location == str(tmp_path / "profile_default")
    assert "No space left on device" in caplog.text
