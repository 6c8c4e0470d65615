"""Large arrays of strings: they arrive as they were, changes are seen, and nothing is held alive."""

from __future__ import annotations

import sys

import pytest

from mpkernel.namespace.holders import NOBODY_ELSE
from mpkernel.namespace.payload import from_component, to_component
from mpkernel.namespace.pickling import Pickled, Pickling
from mpkernel.namespace.segments import Segments
from mpkernel.namespace.transport import Transport

from .bench import Space

np = pytest.importorskip("numpy")

N = 30_000
KINDS = {
    "all different": f"[f'row {{i}}' for i in range({N})]",
    "few different": f"[f'row {{i % 7}}' for i in range({N})]",
    "few, with what looks like the separator": f"['a\\0b' if i % 2 else '' for i in range({N})]",
    "different, with what looks like the separator": f"[f'{{i}}\\0' for i in range({N})]",
    "few at first sight": f"['x'] * {N // 150} + [f'{{i}}' if i % 150 else 'x' for i in range({N - N // 150})]",
    "not quite Unicode": f"[chr(0xD800 + i % 3) + '🐍' * (i % 3) for i in range({N})]",
    "with gaps": f"[None if i % 3 == 0 else float('nan') if i % 5 == 0 else str(i) for i in range({N})]",
    "not many": "[f'row {i}' for i in range(1500)]",
}


@pytest.fixture
def here() -> Space:
    space = Space()
    space.execute("import numpy as np")
    return space


def pickling_of(space: Space, worker: int = 1) -> Pickling:
    return Pickling(space.names, worker, lambda: "main")


def sent(pickled: Pickled, transport: Transport) -> Pickled:
    """What another process gets."""
    part, segment = to_component(["a"], pickled, transport, key="1.1")
    broker = Segments(transport)
    if segment is None:
        return from_component(part, transport)
    with segment:
        number = broker.take(part.meta["segment"]["pid"], segment.place.name, segment.size)
        place = broker.place(number)
        part.meta["segment"].update(pid=place.pid, name=place.name)
        received = from_component(part, transport)
        broker.close()
    return received


@pytest.mark.parametrize("shape", ["-1", "(-1, 2)", "(1, -1)"])
@pytest.mark.parametrize("elements", KINDS.values(), ids=KINDS)
def test_they_arrive_as_they_were(elements: str, shape: str, here: Space, transport: Transport) -> None:
    here.execute(f"a = np.array({elements}, dtype=object).reshape({shape})")
    before = here.names["a"]
    pickled = pickling_of(here).dump({"a": before})
    assert pickled.texts
    for received in (sent(pickled, transport), pickled):
        after = pickling_of(here, 2).load(received)["a"]
        assert after.shape == before.shape
        assert [repr(item) for item in after.flat] == [repr(item) for item in before.flat]


def test_few_different_strings_are_few_there(here: Space, transport: Transport) -> None:
    pytest.importorskip("pandas")
    here.execute(f"a = np.array({KINDS['few different']}, dtype=object)")
    received = pickling_of(here, 2).load(sent(pickling_of(here).dump({"a": here.names["a"]}), transport))
    assert len({id(item) for item in received["a"]}) == 7


@pytest.mark.parametrize(
    "other", ["[1]", "{}", "object()", "type('Text', (str,), {})('x')", "np.str_('x')"], ids=lambda text: text
)
def test_what_could_change_is_looked_at_each_time(other: str, here: Space) -> None:
    here.execute(f"a = np.array({KINDS['all different']}, dtype=object); a[5] = {other}")
    assert not pickling_of(here).dump({"a": here.names["a"]}).texts


@pytest.mark.parametrize("made", ["a", "a.reshape(2, -1)", "a[100:20_000]", "{'frame': a}"])
@pytest.mark.parametrize(
    "change", ["a[200] = 'row 20x'", "a[200], a[201] = a[201], a[200]", "a[200] = None", "a[:] = a[::-1].copy()"]
)
def test_a_change_is_seen(made: str, change: str, here: Space) -> None:
    here.execute(f"a = np.array({KINDS['all different']}, dtype=object); b = {made}")
    pickling, value = pickling_of(here), here.names["b"]
    before = pickling.dump(value).digest()
    assert pickling.digest(value) == before
    here.execute(change)
    after = pickling.digest(value)
    assert after != before
    assert pickling.dump(value).digest() == after


def test_a_string_in_the_place_of_one_that_is_gone_is_seen(here: Space) -> None:
    here.execute(f"a = np.array({KINDS['all different']}, dtype=object)")
    pickling, value = pickling_of(here), here.names["a"]
    seen = {pickling.digest(value)}
    for turn in range(20):  # each new string would be where the last one was, if nobody held that
        here.execute(f"a[200] = None; a[200] = 'turn {turn:02}'")
        seen.add(pickling.digest(value))
    assert len(seen) == 21


def test_what_arrived_counts_as_known(here: Space, transport: Transport) -> None:
    here.execute(f"a = np.array({KINDS['all different']}, dtype=object)")
    there = pickling_of(here, 2)
    received = there.load(sent(pickling_of(here).dump({"a": here.names["a"]}), transport))
    before = there.digest(received)
    assert there.digest(received) == before
    received["a"][7] = "other"
    assert there.digest(received) != before


def test_strings_go_with_their_array(here: Space) -> None:
    here.execute(f"a = np.array({KINDS['all different']}, dtype=object)")
    pickling, string = pickling_of(here), here.names["a"][5]
    alone = sys.getrefcount(string)
    pickling.digest(here.names["a"])
    assert sys.getrefcount(string) == alone + 1
    here.execute("del a")
    assert sys.getrefcount(string) == alone - 1


def test_defaults_of_functions_may_be_such_arrays(here: Space) -> None:
    here.execute(f"def f(a=np.array({KINDS['few different']}, dtype=object)): return a[8]")
    there = Space()
    there.execute("import numpy as np")
    with here.as_main():
        pickled = pickling_of(here).dump({"f": here.names["f"]})
    with there.as_main():
        there.names.update(pickling_of(there, 2).load(pickled))
    assert there.value("f()") == "row 1"


def test_a_column_beside_numbers_that_change_stays(here: Space) -> None:
    pytest.importorskip("pandas")
    here.execute(
        "import pandas as pd\n"
        f"df = pd.DataFrame({{'n': np.arange({N}.0), 's': {KINDS['all different']}}})\n"
        f"df['o'] = pd.Series({KINDS['with gaps']}, dtype=object)\n"
        "column = df['s']"
    )
    pickling, value = pickling_of(here), {"df": here.names["df"]}

    def look() -> tuple[bytes | None, list[int]]:
        pickled = pickling.dump(value)
        return pickled.digest(), [text.stamp for text in pickled.texts]

    digest, stamps = look()
    assert look() == (digest, stamps)
    here.execute("df.loc[3, 'n'] = -1.0")
    other, same = look()
    assert other != digest
    assert same == stamps
    here.execute("df.loc[3, 's'] = 'new'")
    assert look()[1] != stamps


def test_strings_that_were_replaced_by_numbers_are_let_go(here: Space) -> None:
    here.execute(f"a = np.array({KINDS['all different']}, dtype=object)")
    pickling, string = pickling_of(here), here.names["a"][5]
    pickling.digest(here.names["a"])
    here.names["a"][:] = 0
    pickling.digest(here.names["a"])
    assert sys.getrefcount(string) == NOBODY_ELSE


def test_views_that_are_gone_are_forgotten(here: Space) -> None:
    here.execute(f"a = np.array({KINDS['all different']}, dtype=object)")
    pickling, string = pickling_of(here), here.names["a"][500]
    for start in range(100):
        pickling.digest(here.names["a"][start : start + 20_000])
    assert sys.getrefcount(string) < 20
