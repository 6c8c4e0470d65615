"""IPython's magics, and the kernel's own; scripts/differential compares several hundred of them with ipykernel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .driver import Kernel, Result


def payloads(result: Result) -> list[dict[str, Any]]:
    return list(result.content["payload"])


@pytest.mark.parametrize("magic", ["edit", "ed"])
def test_edit_asks_the_front_end(shared_kernel: Kernel, magic: str) -> None:
    path = shared_kernel.sandbox.cwd / "edited.py"
    path.write_text("x = 1\n")
    (payload,) = payloads(shared_kernel.run(f"%{magic} -n 3 edited.py"))
    assert payload["source"] == "edit_magic"
    assert (Path(payload["filename"]).resolve(), payload["line_number"]) == (path.resolve(), "3")


def test_edit_says_what_it_can_not_find(shared_kernel: Kernel) -> None:
    assert "no_such" in shared_kernel.run("%edit no_such").stderr


@pytest.mark.parametrize("magic", ["less", "more"])
def test_a_file_in_the_pager(shared_kernel: Kernel, magic: str) -> None:
    (shared_kernel.sandbox.cwd / "text.txt").write_text("plain text\n")
    (payload,) = payloads(shared_kernel.run(f"%{magic} text.txt"))
    assert payload == {"source": "page", "data": {"text/plain": "plain text\n"}, "start": 0}
    assert "Missing filename" in shared_kernel.run(f"%{magic}").stderr
    assert shared_kernel.run(f"%{magic} no-such-file").ename == "FileNotFoundError"


def test_man_in_the_pager(shared_kernel: Kernel) -> None:
    (payload,) = payloads(shared_kernel.run("%man no_such_page_at_all"))
    assert payload["source"] == "page"


def test_clear_and_autosave(shared_kernel: Kernel) -> None:
    assert "\x1b[" in shared_kernel.run("%clear").stdout
    result = shared_kernel.run("%autosave 60")
    assert (result.output_types, result.stdout) == (["display_data", "stream"], "Autosaving every 60 seconds\n")
    assert shared_kernel.run("%autosave 0").stdout == "Autosave disabled\n"
    assert "requires an integer" in shared_kernel.run("%autosave soon").stderr


def test_connect_info_has_the_connection_file(shared_kernel: Kernel) -> None:
    text = shared_kernel.run("%connect_info").stdout
    info, _ = json.JSONDecoder().raw_decode(text)
    assert info["shell_port"] == shared_kernel.connection["shell_port"]
    assert "--existing" in text


def test_qtconsole_says_what_is_missing(shared_kernel: Kernel) -> None:
    code = "import importlib.util as u; find = u.find_spec\nu.find_spec = lambda name: None"
    shared_kernel.run(code)
    assert "qtconsole" in shared_kernel.run("%qtconsole").stderr
    shared_kernel.run("u.find_spec = find")


@pytest.mark.parametrize("code", ["class Bad:\n    def __repr__(self): raise ValueError('bad')\nBad()"])
def test_a_result_that_can_not_be_shown_fails_the_cell(shared_kernel: Kernel, code: str) -> None:
    gate = shared_kernel.gate("both are sent")
    failing, behind = shared_kernel.submit(f"{gate.pass_through}\n{code}"), shared_kernel.submit("1")
    gate.release()
    result = failing.wait()
    assert (result.status, result.error is not None) == ("error", True)
    assert behind.wait().status == "aborted"
    if shared_kernel.run("1").status == "ok":
        assert result.ename in ("ValueError", "NoneType")  # the latter by ipykernel


def test_an_exception_without_a_text_is_shown_by_its_name(shared_kernel: Kernel) -> None:
    result = shared_kernel.run("class Odd(Exception):\n    def __str__(self): raise RuntimeError('no')\nraise Odd")
    assert result.status == "error"
    assert result.error is not None
    assert "Odd" in "\n".join(result.error["traceback"])


def test_a_failing_hook_shows_the_users_frames_only(shared_kernel: Kernel) -> None:
    shared_kernel.run("def fails(): raise ValueError('in hook')\nget_ipython().events.register('pre_execute', fails)")
    result = shared_kernel.run("get_ipython().events.unregister('pre_execute', fails)")
    assert result.error is not None
    assert "worker" not in "\n".join(result.error["traceback"])
    assert "Error in callback" in result.stdout


def test_error_replies_have_what_ipyparallel_reads(shared_kernel: Kernel) -> None:
    assert set(shared_kernel.run("1/0").content["engine_info"]) == {"engine_uuid", "engine_id", "method"}


def test_completions_without_types(shared_kernel: Kernel) -> None:
    request = {"code": "pri", "cursor_pos": 3}
    shared_kernel.run("get_ipython().kernel.use_experimental_completions = False")
    assert shared_kernel.request("complete_request", request).content["metadata"] == {}
    shared_kernel.run("get_ipython().kernel.use_experimental_completions = True")
    assert "_jupyter_types_experimental" in shared_kernel.request("complete_request", request).content["metadata"]
