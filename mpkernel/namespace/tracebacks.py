"""Tracebacks as a description of their frames, and tracebacks of such frames made from that.

A frame can't be made, but a generator that has not begun has one. That of a generator function whose code has the
name and the position of the original shows the same lines; it has the globals, and no local variables.
"""

from __future__ import annotations

import ast
import functools
import itertools
import sys
import types
from typing import Any

# Of each frame: module, file, name, qualified name, line, and position of the expression as `co_positions` gives it.
Frames = tuple[tuple[Any, str, str, str, int, tuple[int | None, ...]], ...]


def described(traceback: types.TracebackType | None) -> Frames:
    """The frames of a traceback, in order."""
    frames = []
    while traceback is not None:
        code, module = traceback.tb_frame.f_code, traceback.tb_frame.f_globals.get("__name__")
        position = next(itertools.islice(code.co_positions(), traceback.tb_lasti // 2, None), (None,) * 4)
        where = (code.co_filename, code.co_name, code.co_qualname, traceback.tb_lineno, position)
        frames.append((module if type(module) is str else None, *where))
        traceback = traceback.tb_next
    return tuple(frames)


def made(frames: Frames, namespace: dict[Any, Any]) -> types.TracebackType | None:
    """A traceback of such frames; `namespace` is what those of the notebook have as globals."""
    traceback = None
    for module, filename, name, qualname, line, position in reversed(frames):
        code, instruction = _code(filename, name, qualname, line, position)
        here = namespace if module == "__main__" else getattr(sys.modules.get(module), "__dict__", {"__name__": module})
        frame = types.FunctionType(code, here)().gi_frame
        traceback = types.TracebackType(traceback, frame, instruction, line)
    return traceback


@functools.lru_cache
def _code(
    filename: str, name: str, qualname: str, line: int, position: tuple[int | None, ...]
) -> tuple[types.CodeType, int]:
    """Code of a generator function, and which of its instructions is at `position`."""
    tree = ast.parse("def generator(): yield")
    first, last, start, end = position
    columns = (-1, -1) if start is None or end is None else (start, end)
    names = ("lineno", "end_lineno", "col_offset", "end_col_offset")
    place = dict(zip(names, (first or line, last or line, *columns), strict=True))
    for node in ast.walk(tree):
        vars(node).update({key: value for key, value in place.items() if key in node._attributes})
    module = compile(tree, filename, "exec")
    code = next(part for part in module.co_consts if isinstance(part, types.CodeType))
    at = next((index for index, found in enumerate(code.co_positions()) if found == position), 0)
    return code.replace(co_name=name, co_qualname=qualname), 2 * at


def of_error(error: BaseException) -> Frames:
    """The frames of where an exception comes from."""
    return described(error.__traceback__)


def put(error: BaseException, frames: Frames) -> None:
    """Have an exception come from there; one that does keeps its own frames, with their variables."""
    if of_error(error) != frames:
        error.__traceback__ = made(frames, vars(sys.modules["__main__"]))
