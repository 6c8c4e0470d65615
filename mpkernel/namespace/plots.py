"""What is special about matplotlib's objects; it isn't imported here if nobody else has.

Everything in a plot refers to everything else, and drawing it changes much of that: caches, ticks, flags. So a plot is
taken as a whole: it is neither patched nor merged by its parts, and two plots are the same if they look the same. Else
one that two subshells have merely displayed would be a conflict, in dozens of places.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from mpkernel.namespace.dumping import Dumper, Handler, Reduced

_INLINE = "matplotlib_inline.backend_inline"


def base() -> type | None:
    """The class of all that is in a plot, figures included; None if nothing was imported that plots."""
    found = getattr(sys.modules.get("matplotlib.artist"), "Artist", None)
    return found if isinstance(found, type) else None


class Pictures:
    """What plots look like; each figure is drawn once. The figures must be copies, as drawing changes them."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Any, bytes]] = {}  # with the figure, so that no id is used twice

    def same(self, a: Any, b: Any) -> bool:
        """Whether the figures to which two artists belong look the same. Raises whatever drawing them raises."""
        return self._picture(a) == self._picture(b)

    def _picture(self, artist: Any) -> bytes:
        figure = artist.figure
        figure = getattr(figure, "_root_figure", None) or figure  # of a subfigure
        if id(figure) not in self._seen:
            self._seen[id(figure)] = (figure, _drawn(figure))
        return self._seen[id(figure)][1]


def _drawn(figure: Any) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()  # a layout may need a second look at what it has placed
    canvas.draw()
    return hashlib.blake2b(canvas.buffer_rgba()).digest() + repr(figure.get_size_inches()).encode()


# --- pickling ---------------------------------------------------------------------------------------------------------


def reduce_figure(dumper: Dumper, figure: Any) -> Reduced:
    """A figure, with the resolution that was set, not the one it was made with; pyplot doesn't hear of it there."""
    reduced = dumper.by_itself(figure)
    if (state := _state(reduced)) is not None:
        state.pop("_restore_to_pylab", None)
        if "_dpi" in state:
            state["_dpi"] = state["_original_dpi"] = figure.dpi / getattr(figure.canvas, "device_pixel_ratio", 1)
    if _INLINE in sys.modules and type(reduced) is tuple:
        return (shown_inline, reduced[:2], *reduced[2:])
    return reduced


def shown_inline(make: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """A figure; importing the backend has it shown as a picture by a process that has not plotted yet."""
    with suppress(Exception):
        importlib.import_module(_INLINE)
    return make(*args)


def reduce_callbacks(dumper: Dumper, registry: Any) -> Reduced:
    """A registry of callbacks. Its `__getstate__` takes the next number, so that no two pickles would be alike."""
    reduced = dumper.by_itself(registry)
    if (state := _state(reduced)) is not None and isinstance(number := state.get("_cid_gen"), int):
        registry._cid_gen = itertools.count(number)
    return reduced


def reduce_transform(dumper: Dumper, transform: Any) -> Reduced:
    """A transform knows which others are made of it, by their ids: those that came from elsewhere are in it twice."""
    reduced = dumper.by_itself(transform)
    if (state := _state(reduced)) is not None and isinstance(parents := state.get("_parents"), dict):
        own = {id(parent): parent for parent in parents.values() if parent is not None}
        state["_parents"] = dict(enumerate(own.values()))
    return reduced


def _state(reduced: Reduced) -> dict[str, Any] | None:
    """The attributes in what `__reduce__` returned; made for it, so they may be changed."""
    if type(reduced) is tuple and len(reduced) > 2 and type(reduced[2]) is dict:
        return reduced[2]
    return None


REDUCERS: tuple[tuple[str, str, Handler], ...] = (
    ("matplotlib.figure", "Figure", reduce_figure),
    ("matplotlib.cbook", "CallbackRegistry", reduce_callbacks),
    ("matplotlib.transforms", "TransformNode", reduce_transform),
)
