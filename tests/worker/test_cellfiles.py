"""What cells are called, and how long their sources are kept."""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mpkernel.worker.cellfiles import KEPT_SOURCES, MANY_SOURCES, CellCompiler, CellFiles


@pytest.fixture
def compiler(tmp_path: Path) -> Iterator[CellCompiler]:
    compiler = CellCompiler()
    compiler.files = CellFiles(tmp_path, 1)
    yield compiler
    for name in kept(compiler):
        del linecache.cache[name]


def kept(compiler: CellCompiler) -> list[str]:
    assert compiler.files is not None
    return [name for name in linecache.cache if name.startswith(compiler.files.prefix)]


def run(compiler: CellCompiler, code: str, number: int = 0) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(code, compiler.cache(code, number), "exec"), names)
    return names


def run_many(compiler: CellCompiler, count: int = MANY_SOURCES + 1) -> None:
    for n in range(count):
        compiler.cache(f"x = {n}", n)


def test_sources_that_nobody_can_need_any_more_are_forgotten(compiler: CellCompiler) -> None:
    run_many(compiler)
    assert len(kept(compiler)) <= KEPT_SOURCES + 1
    assert len(compiler._filename_map) <= KEPT_SOURCES + 1
    newest = compiler.get_code_name(f"x = {MANY_SOURCES}", "", 0)
    assert linecache.getline(newest, 1) == f"x = {MANY_SOURCES}\n"


@pytest.mark.parametrize(
    ("code", "held"),
    [
        ("def f():\n    return 1\n", lambda names: names["f"]),
        ("class A:\n    def f(self):\n        return 1\n", lambda names: names["A"].f),
        ("g = (n for n in range(3))\nnext(g)\n", lambda names: names["g"].gi_code),
    ],
    ids=["function", "class", "generator"],
)
def test_the_source_of_what_is_still_there_is_kept(compiler: CellCompiler, code: str, held: Any) -> None:
    names = run(compiler, code)
    run_many(compiler)
    assert inspect.getsource(held(names)).strip() in code


def test_the_source_of_a_traceback_that_is_still_there_is_kept(compiler: CellCompiler) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        run(compiler, "1 / 0  # why")
    run_many(compiler)
    assert "# why" in str(caught.traceback[-1].statement)
