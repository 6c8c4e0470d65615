"""The parts of what numpy, pandas and torch make; none of them is imported here if nobody else has."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from mpkernel.namespace.atoms import plain
from mpkernel.namespace.parts import Alike, Entries, Named, Pairs, Part, Results, State, replaced
from mpkernel.namespace.segments import move_pages

# So many bytes of an array are compared before they are copied: what is equal isn't written to, its pages stay clean.
CHUNK = 1 << 20
# From so many bytes on pages are taken over, if they can be.
PAGED = 1 << 20
# Fewer objects are looked at one by one.
MANY = 1000


@dataclass(frozen=True, slots=True)
class Extent:
    """The memory of an array."""

    low: int
    high: int
    layout: tuple[Any, ...]  # what must be equal for two arrays on corresponding memory


@dataclass(frozen=True, slots=True)
class Base:
    """A class of a library."""

    cls: type
    parts: tuple[Part, ...]
    fits: Callable[[Any, Any], bool]
    links: Callable[[Any], tuple[Any, ...]] | None = None
    memory: Callable[[Any], Extent | None] | None = None


def atom_bases() -> list[type]:
    """Base classes of what has no parts, or is nothing but a process's own."""
    found = []
    for module, names in (("numpy", ("generic", "dtype", "memmap", "ufunc")), ("torch", ("dtype", "device", "Size"))):
        found += [cls for name in names if isinstance(cls := getattr(sys.modules.get(module), name, None), type)]
    return found


def bases() -> list[Base]:
    """The classes that can be patched."""
    return [*_of_numpy(), *_of_pandas(), *_of_torch()]


# --- numpy ------------------------------------------------------------------------------------------------------------


def _of_numpy() -> list[Base]:
    numpy = sys.modules.get("numpy")
    if numpy is None or not hasattr(numpy, "ndarray"):
        return []
    found = [Base(numpy.ndarray, (Elementwise(),), _same_form, memory=_extent)]
    made = sys.modules.get("numpy.random")
    generator, legacy = getattr(made, "Generator", None), getattr(made, "RandomState", None)
    if made is None or generator is None or legacy is None:
        return found
    found.append(Base(generator, (), _always, links=lambda obj: (obj.bit_generator,)))
    found.append(
        Base(legacy, (State(_legacy_state, legacy.set_state),), _always, links=lambda obj: (obj._bit_generator,))
    )
    for name in ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"):
        cls = getattr(made, name, None)
        if cls is not None:
            found.append(Base(cls, (State(lambda obj: obj.state, _set_bits),), _same_seed))
    return found


def _always(*_: Any) -> bool:
    return True


def _legacy_state(obj: Any) -> Any:
    return obj.get_state(legacy=False)


def _set_bits(obj: Any, content: Any) -> None:
    obj.state = content


def _same_seed(old: Any, new: Any) -> bool:
    if sys.modules["numpy"].__version__.startswith(("0.", "1.")):  # its pickles know nothing of seeds
        return True
    return str(getattr(old.seed_seq, "state", None)) == str(getattr(new.seed_seq, "state", None))


def _same_form(old: Any, new: Any) -> bool:
    dtype = old.dtype
    return (
        old.shape == new.shape
        and dtype == new.dtype
        and dtype.metadata is None
        and bool(old.flags.writeable and new.flags.writeable)
        and (dtype.kind == "O" or not dtype.hasobject)
    )


def _extent(obj: Any) -> Extent | None:
    if obj.size == 0:
        return None
    low = high = obj.__array_interface__["data"][0]
    for length, stride in zip(obj.shape, obj.strides, strict=True):
        if stride < 0:
            low += stride * (length - 1)
        else:
            high += stride * (length - 1)
    return Extent(low, high + obj.itemsize, (obj.strides,))


def has_atoms_only(obj: Any) -> bool:
    """Whether it is an array of many objects that all have no parts."""
    numpy = sys.modules.get("numpy")
    return type(obj) is getattr(numpy, "ndarray", None) and obj.dtype == object and obj.size > MANY and plain(obj.flat)


def bits(obj: Any) -> Any:
    """An array's elements as something that is equal only if all bits are."""
    numpy = sys.modules["numpy"]
    base = numpy.ndarray.view(obj, numpy.ndarray)
    size = base.dtype.itemsize
    if base.dtype.kind not in "biufcmMV" or base.dtype.hasobject or size == 0:
        return base
    return base.view(f"u{size}" if size in (1, 2, 4, 8) else f"V{size}")


def same_bits(a: Any, b: Any) -> bool:
    """Whether two arrays have the same form and the same bits."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind == "V" and a.dtype.hasobject:  # whose comparison would be that of the objects
        return bool(a.dumps() == b.dumps())
    return bool(sys.modules["numpy"].array_equal(bits(a), bits(b)))


class Elementwise(Part):
    """The elements of an array. Content: an array; of objects: their list."""

    def read(self, obj: Any) -> Any:
        numpy = sys.modules["numpy"]
        base = numpy.ndarray.view(obj, numpy.ndarray)
        return list(base.flat) if base.dtype.kind == "O" else base

    def write(self, obj: Any, content: Any) -> None:
        numpy = sys.modules["numpy"]
        base = numpy.ndarray.view(obj, numpy.ndarray)
        if isinstance(content, list):
            base[...] = numpy.fromiter(content, dtype=object, count=len(content)).reshape(base.shape)
        elif base.ndim == 0 or base.dtype.kind in "USV":
            base[...] = content
        else:
            _copy(bits(base), bits(content))

    def take(self, obj: Any, content: Any) -> None:
        base = sys.modules["numpy"].ndarray.view(obj, sys.modules["numpy"].ndarray)
        if base.nbytes < PAGED or base.dtype.kind in "OUSV" or not (_is_flat(base) and _is_flat(content)):
            self.write(obj, content)
            return
        first, end = _taken_over(base, content)
        here, there = (array.reshape(-1).view("u1") for array in (base, content))
        _copy(here[:first], there[:first])
        _copy(here[end:], there[end:])

    def children(self, content: Any) -> Iterable[Any]:
        return content if isinstance(content, list) else ()

    def pairs(self, old: Any, new: Any, alike: Alike) -> Pairs:
        return zip(old, new, strict=True) if isinstance(new, list) and len(old) == len(new) else ()

    def mapped(self, content: Any, results: Results) -> Any:
        return replaced(content, results) if isinstance(content, list) else content

    def undo(self, content: Any) -> Any:
        return content if isinstance(content, list) else None


def _is_flat(array: Any) -> bool:
    return bool(array.flags.c_contiguous)


def _taken_over(old: Any, new: Any) -> tuple[int, int]:
    """Which of its bytes, from and to, an old array has by taking over pages of a new one that nobody will look at."""
    source, target = (array.__array_interface__["data"][0] for array in (new, old))
    return move_pages(source, target, old.nbytes)


def _copy(old: Any, new: Any) -> None:
    """Write what differs, as each page that is written is one of this process's own."""
    rows = max(1, CHUNK // max(1, old.nbytes // max(1, len(old))))
    for start in range(0, len(old), rows):
        part, news = old[start : start + rows], new[start : start + rows]
        if not sys.modules["numpy"].array_equal(part, news):
            part[...] = news


def array_of(part: Part, content: Any) -> Any:
    """The array that a part's content is; None if it is something else."""
    if isinstance(part, Elementwise) and not isinstance(content, list):
        return content
    if isinstance(part, Tensor) and content.device.type == "cpu":
        return content.detach().numpy()
    return None


def merge_arrays(base: Any, theirs: Any, mine: Any) -> bool:
    """Take over into `mine`, by element, what `theirs` changed; whether both had changed the same ones.

    The arrays have the same shape and dtype. Bits are compared, so NaN equals itself.
    """
    numpy = sys.modules["numpy"]
    if mine.dtype.names is not None:
        return sum(merge_arrays(base[name], theirs[name], mine[name]) for name in mine.dtype.names) > 0
    if mine.ndim == 0:
        base, theirs, mine = (array.reshape(1) for array in (base, theirs, mine))
    rows = max(1, CHUNK // max(1, mine.nbytes // max(1, len(mine))))
    clash = False
    was, there, here = bits(base), bits(theirs), bits(mine)
    for start in range(0, len(mine), rows):
        span = slice(start, start + rows)
        news = was[span] != there[span]
        if news.any():
            own = was[span] != here[span]
            clash = clash or bool((news & own & (there[span] != here[span])).any())
            numpy.copyto(here[span], there[span], where=news & ~own)
    return clash


def view_of_other(view: Any, of: Any, other: Any) -> Any:
    """An array that shows of `other` what `view` shows of `of`, an array of the same form; None if it can't be made."""
    numpy = sys.modules["numpy"]
    if not all(type(array) is numpy.ndarray and array.dtype == view.dtype for array in (view, of, other)):
        return None
    if of.strides != other.strides or not other.flags.forc or view.dtype.hasobject:
        return None
    whole, part = _extent(of), _extent(view)
    if whole is None or part is None or part.low < whole.low or part.high > whole.high:
        return None
    first = view.__array_interface__["data"][0] - whole.low
    return numpy.ndarray(view.shape, view.dtype, other.ravel("K"), first, view.strides)


# --- pandas -----------------------------------------------------------------------------------------------------------


def _of_pandas() -> list[Base]:
    pandas = sys.modules.get("pandas")
    return [
        Base(cls, (Frame(),), _always)
        for name in ("DataFrame", "Series")
        if isinstance(cls := getattr(pandas, name, None), type)
    ]


class Frame(Named):
    """A DataFrame or Series: the manager of its blocks is taken over as a whole, with its other attributes."""

    # Made anew when wanted, or bound to the object by a weak reference.
    _OWN = ("_item_cache", "_cacher", "_is_copy", "_flags")

    def __init__(self) -> None:
        super().__init__(dict)

    def read(self, obj: Any) -> dict[Any, Any]:
        names = object.__getattribute__(obj, "__dict__")
        content = {name: value for name, value in names.items() if name not in self._OWN}
        if "_flags" in names:
            content["_flags"] = names["_flags"]._allows_duplicate_labels
        return content

    def write(self, obj: Any, content: dict[Any, Any]) -> None:
        names = object.__getattribute__(obj, "__dict__")
        own = {name: names[name] for name in self._OWN if name in names}
        for name in [name for name in names if name not in content]:
            del names[name]
        names.update({name: value for name, value in content.items() if name != "_flags"})
        if "_flags" in own:
            own["_flags"]._allows_duplicate_labels = content.get("_flags", True)
            names["_flags"] = own["_flags"]
        if "_item_cache" in own:
            names["_item_cache"] = {}
        if "_is_copy" in own:
            names["_is_copy"] = None


def same_axis(*axes: Any) -> bool:
    """Whether axes of tables are the same."""
    first = axes[0]
    return all(
        axis is first or (axis.dtype == first.dtype and list(axis.names) == list(first.names) and first.equals(axis))
        for axis in axes
    )


def has_columns_of(now: Any, base: Any) -> bool:
    """Whether a table, or one column, has all rows and a column of another, or that has none."""
    if not same_axis(base.index, now.index):
        return False
    if base.ndim == 1:
        return bool((base.to_numpy() == now.to_numpy()).any()) or base.empty
    if not (base.columns.is_unique and now.columns.is_unique):
        return False
    return base.empty or any(base[label].equals(now[label]) for label in base.columns.intersection(now.columns))


def has_labels_of(now: Any, base: Any) -> bool:
    """Whether both are tables, and one has a column by the name of one of the other's."""
    table: Any = getattr(sys.modules.get("pandas"), "DataFrame", None)
    if table is None or type(now) is not type(base) or not isinstance(base, table):
        return False
    return bool(base.columns.isin(now.columns).any())


# --- torch ------------------------------------------------------------------------------------------------------------


def _of_torch() -> list[Base]:
    torch = sys.modules.get("torch")
    tensor = getattr(torch, "Tensor", None)
    if torch is None or not isinstance(tensor, type):
        return []
    parameter = getattr(getattr(torch, "nn", None), "Parameter", tensor)
    return [
        Base(cls, (Tensor(), Gradient()), _same_tensor, memory=_extent_of_tensor)
        for cls in dict.fromkeys((tensor, parameter))
    ]


def _same_tensor(old: Any, new: Any) -> bool:
    facts = [
        (obj.dtype, obj.device, obj.layout, tuple(obj.shape), obj.requires_grad, obj.is_leaf) for obj in (old, new)
    ]
    return bool(facts[0] == facts[1] and old.is_leaf and str(old.layout) == "torch.strided")


def _extent_of_tensor(obj: Any) -> Extent | None:
    if obj.device.type != "cpu" or obj.numel() == 0:
        return None
    storage = obj.untyped_storage()
    low = storage.data_ptr()
    return Extent(low, low + storage.nbytes(), (storage.nbytes(), obj.storage_offset(), tuple(obj.stride())))


class Tensor(Part):
    """The elements of a tensor. Content: the tensor itself."""

    def read(self, obj: Any) -> Any:
        return obj

    def write(self, obj: Any, content: Any) -> None:
        if obj is not content:
            with sys.modules["torch"].no_grad():
                obj.copy_(content)

    def undo(self, content: Any) -> Any:
        return None


class Gradient(Entries):
    """What hangs on a tensor: its gradient, attributes of users."""

    def read(self, obj: Any) -> dict[Any, Any]:
        return {"grad": obj.grad, "attributes": obj.__dict__}

    def write(self, obj: Any, content: dict[Any, Any]) -> None:
        if obj.grad is not content["grad"]:
            obj.grad = content["grad"]
        if obj.__dict__ is not content["attributes"]:
            obj.__dict__.clear()
            obj.__dict__.update(content["attributes"])
