"""A facet's mark: it must notice whatever reading the facet would, and stay as it is as long as nothing changes."""

from __future__ import annotations

import random
import sys
import types
import warnings
from collections.abc import Callable

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from mpkernel.namespace.facets import Builtins
from mpkernel.namespace.library_options import MatplotlibOptions, PandasOptions
from mpkernel.namespace.process_state import Facet
from mpkernel.namespace.random_streams import NumpyRandomNumbers, RandomNumbers
from mpkernel.namespace.warning_filters import Warnings


def unnoticed(facet: Facet, changes: list[Callable[[], object]]) -> list[int]:
    """Which of the changes, made one after the other, `facet`'s mark doesn't show."""
    missed = []
    for number, change in enumerate(changes):
        before, mark = facet.read(), facet.mark()
        assert mark is None or (facet.is_marked(mark) and facet.is_marked(mark))
        change()
        assert facet.read() != before, "no change at all"
        if mark is not None and facet.is_marked(mark):
            missed.append(number)
    return missed


def test_what_ipython_sets_and_hides_while_a_cell_runs_is_no_change_of_builtins() -> None:
    shell = InteractiveShell(config=Config(HistoryManager={"enabled": False}))
    facet = Builtins()
    before = facet.read()
    with shell.builtin_trap:
        assert facet.read() == before


def test_random_numbers() -> None:
    facet = RandomNumbers()
    assert facet.mark() is not None
    changes = [random.random, lambda: random.seed(1), lambda: random.gauss(0, 1), lambda: random.gauss(0, 1)]
    assert unnoticed(facet, [*changes, lambda: random.shuffle([1, 2, 3]), random.seed]) == []


def test_filters_for_warnings_of_a_library_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    library = types.ModuleType("mpt_library")
    exec("class Odd(Warning): pass\nclass Even(Warning): pass", vars(library))
    told = [("ignore", None, "mpt_library:Odd", None, 0), ("error", None, ResourceWarning, None, 0)]
    told += [("always", None, "mpt_library:Even", None, 0), ("once", None, UserWarning, None, 0)]
    facet = Warnings()
    with warnings.catch_warnings():
        facet.write({"": told})
        assert [category for _, _, category, *_ in warnings.filters] == [ResourceWarning, UserWarning]
        assert facet.read() == {"": told}
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=BytesWarning, append=True)
        newest, oldest = ("ignore", None, DeprecationWarning, None, 0), ("ignore", None, BytesWarning, None, 0)
        assert facet.read() == {"": [newest, *told, oldest]}
        monkeypatch.setitem(sys.modules, "mpt_library", library)
        facet.arrived()
        kinds = [category.__name__ for _, _, category, *_ in warnings.filters]
        assert kinds == ["DeprecationWarning", "Odd", "ResourceWarning", "Even", "UserWarning", "BytesWarning"]
        assert facet.read() == {"": [newest, *told, oldest]}
        warnings.resetwarnings()
        assert facet.read() == {"": []}


def test_numpys_random_numbers() -> None:
    np = pytest.importorskip("numpy")
    facet = NumpyRandomNumbers()
    np.random.seed(1)
    assert facet.mark() is not None
    changes = [np.random.rand, lambda: np.random.seed(2), np.random.randn, np.random.randn, np.random.randn]
    assert unnoticed(facet, [*changes, lambda: np.random.shuffle([1, 2, 3]), np.random.seed]) == []


def test_another_generator_of_numpys() -> None:
    np = pytest.importorskip("numpy")
    facet, ours = NumpyRandomNumbers(), np.random.get_bit_generator()
    mark = facet.mark()
    try:
        np.random.set_bit_generator(np.random.MT19937(3))
        assert not facet.is_marked(mark)
        np.random.set_bit_generator(np.random.PCG64(3))
        assert facet.mark() is None
    finally:
        np.random.set_bit_generator(ours)


def test_options_of_pandas() -> None:
    pd = pytest.importorskip("pandas")
    changes = [lambda: pd.set_option("display.width", 61), lambda: pd.reset_option("display.width")]
    assert unnoticed(PandasOptions(), changes) == []


def test_options_of_matplotlib() -> None:
    mpl = pytest.importorskip("matplotlib")
    facet = MatplotlibOptions()
    with mpl.rc_context():
        changes = [
            lambda: mpl.rcParams.update({"lines.linewidth": 7}),
            lambda: mpl.rcParams["font.serif"].append("Nothing"),
            mpl.rcdefaults,
        ]
        assert unnoticed(facet, changes) == []
