from __future__ import annotations

import array
import collections
import dataclasses
import functools
import io
import mmap
import pickle
import random
import threading
import types
import weakref
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpkernel.namespace import survey
from mpkernel.namespace.anatomy import Kind, Kinds
from mpkernel.namespace.deltas import attach_with, write_delta
from mpkernel.namespace.graft import graft
from mpkernel.namespace.same import same
from mpkernel.namespace.segments import attach, choose, write
from mpkernel.namespace.transport import PAGE

from .bench import Amount, Group, noted

np = pytest.importorskip("numpy")


class Thing:
    def __init__(self, **names: Any) -> None:
        self.__dict__.update(names)


class Slotted:
    __slots__ = ("a", "b")


class Both(Slotted):
    pass


class MyList(list):  # type: ignore[type-arg]
    pass


class MyDict(dict):  # type: ignore[type-arg]
    def __getitem__(self, key: Any) -> Any:
        raise AssertionError("user code ran")

    def update(self, *_: Any, **__: Any) -> None:
        raise AssertionError("user code ran")


class Hostile:
    def __getattribute__(self, name: str) -> Any:
        raise AssertionError("user code ran")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AssertionError("user code ran")

    def __eq__(self, other: object) -> bool:
        raise AssertionError("user code ran")

    __hash__ = object.__hash__


@dataclasses.dataclass(frozen=True)
class Frozen:
    number: int
    items: list[int] = dataclasses.field(default_factory=list, hash=False)


class MyTuple(tuple):  # type: ignore[type-arg]
    pass


class Point(NamedTuple):
    x: Any
    y: Any


class Singleton:
    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> Any:
        return (registered, (self.name,))


@functools.cache
def registered(name: str) -> Singleton:
    return Singleton(name)


def copied(value: Any) -> Any:
    return pickle.loads(cloudpickle.dumps(value))


def one(old: Any, new: Any, **kwargs: Any) -> Any:
    return graft({"x": old}, {"x": new}, **kwargs)["x"]


def bare(cls: Any, **names: Any) -> Any:
    made = object.__new__(cls)
    for name, value in names.items():
        object.__setattr__(made, name, value)
    return made


def counter() -> Any:
    count = 0
    seen: list[int] = []

    def step() -> int:
        nonlocal count
        count += 1
        seen.append(count)
        return count

    return step


class Text(str):
    pass


PAIRS: list[tuple[Any, Any]] = [
    ([1], [1, 2]),
    ({"a": 1, "b": 2}, {"b": 3, "c": 4}),
    (collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=1, a=2)),
    (collections.defaultdict(int, a=1), collections.defaultdict(list, a=[2])),
    (collections.Counter("aab"), collections.Counter("abbc")),
    ({1, 2}, {2, 3}),
    (collections.deque([1], 3), collections.deque([2, 3], 3)),
    (bytearray(b"one"), bytearray(b"other")),
    (array.array("i", [1]), array.array("i", [2, 3])),
    (Thing(a=1, b=[1]), Thing(b=[2], c=3)),
    (bare(Slotted, a=1), bare(Slotted, b=[2])),
    (bare(Both, a=1, c=2), bare(Both, b=1, d=[3])),
    (MyList([1]), MyList([2, [3]])),
    (MyDict({"a": 1}), MyDict({"a": 2, "b": [3]})),
    (types.SimpleNamespace(a=1), types.SimpleNamespace(b=[2])),
    (functools.partial(print, 1), functools.partial(print, 2, end="")),
    (ValueError("a"), ValueError("b", [1])),
    (Frozen(1, [1]), Frozen(1, [2])),
    (noted(Text("a"), n=1), noted(Text("a"), n=[2])),
    (noted(Amount(1.5), n=1), noted(Amount(1.5), n=[2])),
    (noted(Group([1, 2]), n=1), noted(Group([2, 1]), n=[2])),
    (noted(MyTuple((1, 2)), n=1), noted(MyTuple((1, 2)), m=2)),
    (np.arange(4.0), np.arange(4.0) * 2),
    (np.zeros((3, 3))[:, 1], np.ones((3, 3))[:, 1]),
    (np.array([[1], None], dtype=object), np.array([[2], {}], dtype=object)),
    (np.zeros(2, "i4,f8"), np.ones(2, "i4,f8")),
    (np.array(1.0), np.array(2.0)),
]


@pytest.mark.parametrize(("old", "new"), PAIRS, ids=lambda value: type(value).__name__)
def test_an_old_object_stays_and_gets_the_new_content(old: Any, new: Any) -> None:
    wanted = copied(new)
    result = one(old, new)
    assert result is old
    assert same(result, wanted)


def test_another_type_shape_or_code_is_taken_as_it_came() -> None:
    for old, new in (([1], {1: 2}), (np.zeros(2), np.zeros(3)), (np.zeros(2), np.zeros(2, "i8")), ((1,), (2,))):
        assert one(old, new) is new
    assert one(collections.deque([1], 2), new := collections.deque([1], 3)) is new


def test_a_read_only_array_is_not_written_to() -> None:
    old = np.zeros(2)
    old.flags.writeable = False
    assert one(old, new := np.ones(2)) is new
    assert old.sum() == 0


def test_a_dict_has_the_new_order() -> None:
    old = {"a": 1, "b": 2}
    assert list(one(old, {"b": 2, "a": 1})) == ["b", "a"]


def test_what_is_nested_stays_too() -> None:
    inner = [1]
    thing = Thing(inner=inner)
    old = {"a": [thing], 3: inner}
    assert one(old, copied({"a": [Thing(inner=(new := [2]))], 3: new})) is old
    assert old["a"][0] is thing
    assert thing.inner is inner  # type: ignore[attr-defined]
    assert inner == [2]


def test_aliases_of_the_new_are_aliases_afterwards() -> None:
    a, b = [1], [1]
    new = copied({"a": (shared := [2]), "b": shared})
    result = graft({"a": a, "b": b}, new)
    assert result["a"] is result["b"] is a
    assert b == [1]


def test_what_is_no_alias_in_the_new_is_none_afterwards() -> None:
    shared = [1]
    result = graft({"a": shared, "b": shared}, {"a": [2], "b": [3]})
    assert (result["a"], result["b"]) == ([2], [3])
    assert result["a"] is not result["b"]


def test_a_name_goes_before_what_is_nested() -> None:
    row = [1]
    table = [[0], row]
    result = graft({"table": table, "row": row}, copied({"table": [(new := [5]), [6]], "row": new}))
    assert result["row"] is row
    assert table[0] is row
    assert table == [[5], [6]]


def test_cycles() -> None:
    old: list[Any] = [1]
    old.append(old)
    new: list[Any] = [2]
    new.append({"me": new})
    assert one(old, new) is old
    assert old[1]["me"] is old


def test_a_tuple_is_made_anew_only_if_something_in_it_stays() -> None:
    inner = [1]
    old = (inner, 2)
    assert one(old, new := (1, "two")) is new
    assert one(old, (inner2 := [5], 2)) is old
    assert inner == inner2 == [5]
    result = one(old, ([6], 3))
    assert result == ([6], 3)
    assert result[0] is inner


def test_a_tuple_that_contains_itself_through_a_list() -> None:
    box: list[Any] = []
    old = (box,)
    box.append(old)
    new = copied(old)
    new[0].append(1)
    result = one(old, new)
    assert result[0] is box
    assert box == [result, 1] or box[0][0] is box


def test_nested_tuples_with_shared_parts() -> None:
    lists = [[1], [2]]
    a = (lists[0],)
    old = (a, (a, lists[1]), a)
    result = one(old, copied(((b := ([3],)), (b, [4]), b)))
    assert result == (([3],), (([3],), [4]), ([3],))
    assert result[0] is result[1][0] is result[2]
    assert result[0][0] is lists[0]


def test_a_named_tuple_keeps_its_class() -> None:
    inner = [1]
    result = one(Point(inner, 1), Point([2], 3))
    assert type(result) is Point
    assert result == Point([2], 3)
    assert result.x is inner


def test_a_tuple_of_a_class_keeps_its_attributes() -> None:
    inner = [1]
    new = MyTuple(([2],))
    new.more = new[0]  # type: ignore[attr-defined]
    result = one(MyTuple((inner,)), new)
    assert type(result) is MyTuple
    assert result[0] is result.more is inner
    assert inner == [2]


def test_a_bound_method_is_bound_to_the_old_object() -> None:
    thing = MyList([1])
    result = graft({"f": thing.append, "x": thing}, copied({"f": (new := MyList([2])).append, "x": new}))
    assert result["x"] is thing
    result["f"](3)
    assert thing == [2, 3]


def test_lists_of_different_lengths_are_paired_by_what_is_alike() -> None:
    a, b, c = Thing(n=1), Thing(n=2), Thing(n=3)
    old = [a, b, c]
    one(old, copied([Thing(n=0), a, b, c]))
    assert old[1:] == [a, b, c]
    one(old, copied([a, c]))
    assert old == [a, c]
    one(old, copied([a, c, Thing(n=4)]))
    assert old[:2] == [a, c]
    assert [thing.n for thing in old] == [1, 3, 4]  # type: ignore[attr-defined]


def test_keys_that_are_objects_stay() -> None:
    key = Thing(n=1)
    old = {key: [1]}
    value = old[key]
    one(old, copied({Thing(n=2): [2]}))
    assert list(old) == [key]
    assert old[key] is value
    assert key.n == 2  # type: ignore[attr-defined]


def test_keys_and_elements_are_found_after_a_graft() -> None:
    key = Thing()
    result = graft(
        {"key": key, "d": {(key, 1): 1}, "s": {key}, "f": frozenset((key,))},
        copied({"key": (new := Thing()), "d": {(new, 1): 2}, "s": {new}, "f": frozenset((new,))}),
    )
    assert result["key"] is key
    assert result["d"][key, 1] == 2
    assert key in result["s"]
    assert key in result["f"]


def test_an_object_hashed_by_value_is_not_changed() -> None:
    old = Frozen(1)
    assert one(old, new := Frozen(2)) is new
    assert old.number == 1
    assert one(old, Frozen(1, [3])) is old
    assert old.items == [3]


def test_what_has_its_own_way_of_pickling_is_not_patched() -> None:
    red, blue = registered("red"), registered("blue")
    assert one(red, copied(blue)) is blue
    assert (red.name, blue.name) == ("red", "blue")


def test_no_code_of_the_class_runs() -> None:
    old, new = object.__new__(Hostile), object.__new__(Hostile)
    object.__setattr__(old, "x", [1])
    object.__setattr__(new, "x", [2])
    assert one([old], [new])[0] is old
    assert object.__getattribute__(old, "x") == [2]


def test_modules_classes_locks_and_weak_references_are_left() -> None:
    lock = threading.Lock()
    for old, new in ((types, io), (Thing, Both), (lock, threading.Lock()), (weakref.ref(Thing), weakref.ref(Both))):
        assert one(old, new) is new


def test_what_is_to_be_kept_is_neither_patched_nor_looked_into() -> None:
    old, new = Thing(n=[1]), Thing(n=[2])
    assert one([old], [new], keep=lambda obj: type(obj) is Thing)[0] is new
    assert old.n == [1]  # type: ignore[attr-defined]


def test_a_closure_goes_on_with_the_new_state() -> None:
    old, new = counter(), counter()
    seen = old.__closure__[1].cell_contents
    new(), new()
    new = types.FunctionType(new.__code__, old.__globals__, "step", None, new.__closure__)
    assert graft({"f": old}, {"f": new})["f"] is old
    assert old() == 3
    assert seen == [1, 2, 3]


def test_closures_that_share_cells_share_them_afterwards() -> None:
    def pair() -> Any:
        n = 0

        def up() -> None:
            nonlocal n
            n += 1

        return up, lambda: n

    up, get = pair()
    new_up, new_get = pair()
    new_up()
    result = graft({"up": up, "get": get}, {"up": new_up, "get": new_get})
    assert result == {"up": up, "get": get}
    up()
    assert get() == 2
    # One of two was replaced: neither can stay.
    new_up, new_get = pair()
    result = graft({"up": up, "get": len}, {"up": new_up, "get": new_get})
    result["up"]()
    assert result["get"]() == 1


def test_views_are_views_afterwards() -> None:
    old = np.arange(10.0)
    view = old[2:5]
    new = old * 2
    result = graft({"a": old, "v": view}, {"a": new, "v": new[2:5]})
    assert result["a"] is old
    assert result["v"] is view
    assert view.tolist() == [4, 6, 8]


@pytest.mark.parametrize("low", [1, 2])
def test_arrays_whose_overlap_changed_are_taken_as_they_came(low: int) -> None:
    old, new = np.arange(10.0), np.arange(10.0) * 2
    view = old[2:5] if low == 1 else old[2:5].copy()
    result = graft({"a": old, "v": view}, {"a": new, "v": new[low : low + 3]})
    assert np.shares_memory(result["a"], result["v"])
    assert result["v"].tolist() == new[low : low + 3].tolist()
    result = graft({"a": old, "v": old[2:5]}, {"a": new, "v": new[2:5].copy()})
    assert not np.shares_memory(result["a"], result["v"])


def test_equal_parts_of_an_array_are_not_written() -> None:
    old = np.zeros(1 << 18)
    new = old.copy()
    new[5] = 1
    assert one(old, new) is old
    assert old[5] == 1


def versions(skew: int) -> tuple[Any, Any, Any]:
    """An array as a reader has it, as it gets it once more after it was changed, and what it should be then.

    It has rows of 10,000 bytes, and begins `skew` bytes after the start of a page.
    """
    transport = choose(Path())
    memory = memoryview(mmap.mmap(-1, 3 << 20))[skew : skew + 2_000_000]
    array = np.frombuffer(memory, float)
    end_of_pages = (array.nbytes + skew) // PAGE * PAGE - skew
    changed = [0, 1000, end_of_pages - 8, array.nbytes - 8]
    with write(transport, [memory]) as base:
        array[[offset // 8 for offset in changed]] = 7
        segment, delta = write_delta(transport, [memory], [[(offset, 8) for offset in changed]])
        with segment:
            views = [*attach(transport, base.place, base.ranges)]
            views += attach_with(transport, base.place, base.ranges, [delta])
    old, new = (np.frombuffer(view, float).reshape(200, 1250) for view in views)
    return old, new, array.reshape(200, 1250)


@pytest.mark.parametrize("skew", [0, 16])
def test_a_row_of_which_a_part_was_in_pages_that_were_taken_over(skew: int) -> None:
    old, new, wanted = versions(skew)
    assert one(old, new) is old
    assert np.array_equal(old, wanted)


@pytest.mark.parametrize("skew", [0, 16])
@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[:],
        lambda a: a.reshape(-1)[3:],
        lambda a: a[::2],
        lambda a: a.T,
        lambda a: a.reshape(-1)[512:],
        lambda a: pytest.importorskip("pandas").DataFrame(a, copy=False),
    ],
)
def test_several_arrays_on_memory_that_could_be_taken_over(skew: int, view: Any) -> None:
    for names in ("av", "va"):
        old, new, wanted = versions(skew)
        olds, news = {"a": old, "v": view(old)}, {"a": new, "v": view(new)}
        results = graft({name: olds[name] for name in names}, {name: news[name] for name in names})
        assert np.array_equal(results["a"], wanted)
        assert np.array_equal(results["v"], view(wanted))
        assert np.shares_memory(results["a"], results["v"])


def test_random_generators_go_on_from_the_new_state() -> None:
    for make in (random.Random, np.random.default_rng, np.random.RandomState):
        old, new = make(1), make(1)
        wanted = [new.random(), new.random(), new.random()][2]
        new = copied(make(1))
        new.random(), new.random()
        assert one(old, new) is old
        assert old.random() == wanted


def test_files_in_memory() -> None:
    for old, new in ((io.StringIO("a"), io.StringIO("bc\r\n", newline="")), (io.BytesIO(b"a"), io.BytesIO(b"bc"))):
        new.seek(1)
        wanted = new.getvalue()  # type: ignore[attr-defined]
        assert one(old, new) is old
        assert (old.tell(), old.getvalue()) == (1, wanted)  # type: ignore[attr-defined]


def test_what_cannot_be_looked_into_keeps_what_it_refers_to() -> None:
    items = [1]
    new = copied({"items": (fresh := [1, 2]), "it": iter(fresh)})
    result = graft({"items": items, "it": iter(items)}, new)
    result["items"].append(3)
    assert list(result["it"]) == [1, 2, 3]


def test_a_failure_puts_everything_back_and_takes_the_new_object() -> None:
    data = bytearray(b"abc")
    locked = memoryview(data)  # a bytearray with a view can't change its size
    first: list[Any] = [1]
    old = {"first": first, "data": data, "last": {"data": data}}
    result = graft(old, copied({"first": [2], "data": (new := bytearray(b"longer")), "last": {"data": new}}))
    assert result["first"] is first
    assert first == [2]
    assert result["data"] == b"longer"
    assert result["last"]["data"] is result["data"]
    assert bytes(locked) == b"abc"


def test_a_hash_that_raises_is_no_harm() -> None:
    class Bad:
        broken = False

        def __hash__(self) -> int:
            if Bad.broken:
                raise RuntimeError("no")
            return 1

        def __eq__(self, other: object) -> bool:
            return self is other

    old, new = {Bad(): [1]}, {Bad(): [2]}
    Bad.broken = True
    assert list(one(old, new).values()) == [[2]]


def linked(length: int, value: int) -> Any:
    top: Any = None
    for _ in range(length):
        top = [value, top]
    return top


def test_depth_does_not_matter() -> None:
    old = linked(30_000, 1)
    assert one(old, linked(30_000, 2)) is old
    depth = 0
    walk = old
    while walk is not None:
        assert walk[0] == 2
        depth, walk = depth + 1, walk[1]
    assert depth == 30_000
    deep: Any = ()
    deep_new: Any = ([1],)
    for _ in range(2_000):
        deep, deep_new = (deep,), (deep_new,)
    assert one(deep, deep_new) is deep_new


def test_what_is_nested_is_not_compared_anew_at_each_level(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    class Looks(Kinds):
        def of(self, cls: type) -> Kind:
            nonlocal looks
            looks += cls is tuple
            return super().of(cls)

    def nested() -> Any:
        value: Any = ([],)
        for index in range(500):
            value = (index, value)
        return value

    monkeypatch.setattr("mpkernel.namespace.graft.Kinds", Looks)
    old, new = nested(), nested()
    assert graft({"x": old}, {"x": new})["x"] is old
    assert looks < 10 * 500


def test_large_plain_data_is_taken_as_a_whole_yet_aliases_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "BULK", 10)
    rows = [{"n": n} for n in range(50)]
    tags = [{"tags": [n]} for n in range(50)]
    old = {"rows": rows, "row": rows[3], "tag": tags[7]["tags"], "tags": tags}
    row, tag = old["row"], old["tag"]
    new = copied(old)
    new["row"]["n"] = "new"
    new["tag"].append("new")
    result = graft(old, new)
    assert result["rows"] is rows
    assert rows[3] is row
    assert row == {"n": "new"}
    assert tags[7]["tags"] is tag
    assert tag == [7, "new"]


def test_models_of_libraries_stay() -> None:
    pydantic = pytest.importorskip("pydantic")
    traitlets = pytest.importorskip("traitlets")

    class Model(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        a: int
        b: list[int] = []  # noqa: RUF012

    class Traits(traitlets.HasTraits):  # type: ignore[misc, name-defined]
        a = traitlets.Int()
        b = traitlets.List()

    for cls in (Model, Traits):
        old, new = cls(a=1), cls(a=2, b=[3])
        assert one(old, new) is old
        assert (old.a, old.b) == (2, [3])
    assert one(Model(a=1), Model(a=2)).model_dump() == {"a": 2, "b": []}


def test_a_data_frame_stays() -> None:
    pd = pytest.importorskip("pandas")
    old = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    new = copied(pd.DataFrame({"a": [1, 2, 3], "c": [1.0, 2.0, None]}))
    wanted = new.copy()
    result = graft({"df": old, "s": old["a"]}, {"df": new, "s": new["a"]})
    assert result["df"] is old
    pd.testing.assert_frame_equal(old, wanted)
    pd.testing.assert_series_equal(result["s"], wanted["a"])
    old.loc[0, "a"] = 9
    old["d"] = [1, 2, 3]
    assert old["a"].tolist() == [9, 2, 3]
    assert old.flags.allows_duplicate_labels
    assert old.describe().shape[1] == 3


def test_objects_in_a_data_frame_are_aliases_of_what_has_a_name() -> None:
    pd = pytest.importorskip("pandas")
    item = [1]
    old = {"item": item, "df": pd.DataFrame({"o": pd.Series([item, None], dtype=object)})}
    new = copied(old)
    new["item"].append(2)
    result = graft(old, new)
    assert result["df"] is old["df"]
    assert result["df"]["o"][0] is result["item"]
    assert result["item"] == [1, 2]


# --- properties ---------------------------------------------------------------------------------------------------


def graphs() -> Any:
    """Objects that share parts at random, and refer to themselves."""
    return st.tuples(st.integers(1, 12), st.randoms(use_true_random=False)).map(lambda pair: build(*pair))


def build(size: int, rng: random.Random) -> dict[str, Any]:
    makes = (list, dict, set, Thing, lambda: bare(Slotted), MyList, collections.deque, lambda: np.array([None, None]))
    nodes: list[Any] = [rng.choice(makes)() for _ in range(size)]
    frozen: list[Any] = []
    for _ in range(rng.randrange(4)):
        frozen.append(tuple(rng.choice([*nodes, *frozen, 1]) for _ in range(rng.randrange(1, 4))))
    for node in nodes:
        for _ in range(rng.randrange(4)):
            fill(node, rng.choice([*nodes, *frozen, 1, "a", 2.5]), rng)
    names = rng.sample("abcdefgh", rng.randrange(1, 6))
    return {name: rng.choice(nodes + frozen) for name in names}


def fill(node: Any, value: Any, rng: random.Random) -> None:
    if isinstance(node, (list, collections.deque)):
        node.append(value)
    elif isinstance(node, dict):
        node[rng.choice([1, "k", (2, 3), Frozen(1), Thing()])] = value
    elif isinstance(node, set):
        node.add(rng.choice([1, "x", Thing(), Frozen(2)]))
    elif isinstance(node, np.ndarray):
        node[rng.randrange(2)] = value
    else:
        object.__setattr__(node, rng.choice("ab"), value)


def shape(names: dict[str, Any]) -> Any:
    """The graph as data: each object by its number in the order of the walk, with its type and content."""
    numbers: dict[int, int] = {}
    rows: list[Any] = []

    def walk(value: Any) -> Any:
        if type(value) in (int, float, str, type(None)):
            return value
        if isinstance(value, (tuple, Frozen)):
            return tuple(map(walk, value)) if isinstance(value, tuple) else repr(value)
        if id(value) in numbers:
            return ("seen", numbers[id(value)])
        numbers[id(value)] = len(numbers)
        row: list[Any] = [type(value).__name__]
        rows.append(row)
        if isinstance(value, dict):
            row.append([(walk(key), walk(item)) for key, item in value.items()])
        elif isinstance(value, set):
            row.append(sorted(repr(item) if type(item) is not Thing else "Thing" for item in value))
        elif isinstance(value, (list, collections.deque)):
            row.append([walk(item) for item in value])
        elif isinstance(value, np.ndarray):
            row.append([walk(item) for item in value.tolist()])
        elif isinstance(value, Slotted):
            row.append([(name, walk(getattr(value, name))) for name in "ab" if hasattr(value, name)])
        else:
            row.append([(name, walk(item)) for name, item in sorted(vars(value).items())])
        return ("new", numbers[id(value)])

    return [(name, walk(names[name])) for name in sorted(names)], rows


@settings(max_examples=400)
@given(graphs(), graphs())
def test_a_graft_has_the_structure_and_the_aliases_of_the_new(old: dict[str, Any], new: dict[str, Any]) -> None:
    wanted = shape(new)
    assert shape(graft(old, new)) == wanted


@settings(max_examples=100)
@given(graphs())
def test_grafting_what_did_not_change_keeps_every_object(old: dict[str, Any]) -> None:
    before = {name: id(value) for name, value in old.items() if not isinstance(value, tuple)}
    wanted = shape(old)
    result = graft(old, copied(old))
    assert {name: id(value) for name, value in result.items() if name in before} == before
    assert shape(result) == wanted
