"""pyplot's figures, for a callback that runs beside a cell: its own ones, apart from the cell's.

The inline backend shows and closes all open figures when a request ends. A callback that ends while a cell draws
would take the cell's half-drawn figures along (jupyterlab#19719), and each would draw on the other's current figure.
Figures of other backends (ipympl) live on between requests, and are everybody's.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_OWN: ContextVar[OrderedDict[int, Any] | None] = ContextVar("mpkernel_figures", default=None)


class _Figures:
    """Stands for the dict of pyplot's figure managers: a callback's own, if it has one, else everybody's."""

    def __init__(self, everybodys: OrderedDict[int, Any]) -> None:
        self.everybodys = everybodys

    @property
    def _now(self) -> OrderedDict[int, Any]:
        own = _OWN.get()
        return self.everybodys if own is None else own

    def __getattr__(self, name: str) -> Any:
        return getattr(self._now, name)

    def __len__(self) -> int:
        return len(self._now)

    def __iter__(self) -> Iterator[int]:
        return iter(self._now)

    def __reversed__(self) -> Iterator[int]:
        backwards: Iterator[int] = reversed(self._now)
        return backwards

    def __contains__(self, number: object) -> bool:
        return number in self._now

    def __getitem__(self, number: int) -> Any:
        return self._now[number]

    def __setitem__(self, number: int, manager: Any) -> None:
        self._now[number] = manager

    def __delitem__(self, number: int) -> None:
        del self._now[number]


@contextmanager
def apart() -> Iterator[None]:
    """While a callback runs beside a cell, in a context of its own."""
    helpers, inline = sys.modules.get("matplotlib._pylab_helpers"), sys.modules.get("matplotlib_inline.backend_inline")
    if helpers is None or inline is None or not _is_inline():
        yield
        return
    figures: Any = helpers.Gcf.figs
    if not isinstance(figures, _Figures):
        figures = helpers.Gcf.figs = _Figures(figures)
    show: Any = inline.show
    to_draw, show._to_draw = show._to_draw, []
    drawn, before = show._draw_called, set(figures.everybodys)
    token = _OWN.set(OrderedDict())
    try:
        yield
    finally:
        _OWN.reset(token)
        show._to_draw = to_draw
        # Else the cell's figures would not be shown at its end.
        show._draw_called = drawn or not before.issuperset(figures.everybodys)


def _is_inline() -> bool:
    parameters: Any = sys.modules["matplotlib"].rcParams
    return "inline" in str(dict.get(parameters, "backend"))
