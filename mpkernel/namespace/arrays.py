"""How arrays, tables and tensors are pickled: as what they are, on memory that travels beside the pickle."""

from __future__ import annotations

import functools
import gc
import mmap
import os
import sys
from typing import Any

from mpkernel.namespace import texts, words
from mpkernel.namespace.definitions import importable
from mpkernel.namespace.dumping import Dumper, Reduced
from mpkernel.namespace.memory import extent
from mpkernel.namespace.pages import WATCHED
from mpkernel.namespace.wholes import reduce_library

_PLAIN_DTYPES = "biufcmMSUV"
# An index of pandas with so few labels is copied each time.
_SHORT = 1000
# A part of a table that reaches over more memory than so many times its own is copied.
_MOST_SPREAD = 8


def reduce_array(dumper: Dumper, array: Any) -> Reduced:
    """A numpy array, as a view of memory."""
    dtype = array.dtype
    if dtype.kind == "O" and array.size >= texts.FROM and array.flags.c_contiguous:
        text = dumper.context.texts.of(array)
        return dumper.by_itself(array) if text is None else (words.strings, (dumper.apart(text), array.shape))
    if dtype.kind not in _PLAIN_DTYPES or dtype.hasobject or array.size == 0:
        return dumper.by_itself(array)
    interface = array.__array_interface__
    address = interface["data"][0]
    low, high = extent(address, array.shape, array.strides, array.itemsize)
    if low == high:
        return dumper.by_itself(array)
    owner = array.base
    while owner is not None:
        if type(owner) is sys.modules["numpy"].memmap and (mapped := _in_file(array, owner)) is not None:
            return mapped
        dumper.memory.add(id(owner))
        owner = owner.obj if type(owner) is memoryview else getattr(owner, "base", None)
    view = dumper.views.add(low, high, array)
    return words.array, (view, array.shape, array.strides, dtype, address - low, array.flags.writeable, type(array))


def reduce_memmap(dumper: Dumper, array: Any) -> Reduced:
    """A numpy array in a file, or a part of one: whoever has it writes to the file."""
    return _in_file(array, array) or reduce_own_array(dumper, array)


def _in_file(array: Any, owner: Any) -> Reduced:
    """How to map elsewhere what `array` has of the file of `owner`, a memmap; None if only its content can travel."""
    mapping, filename = owner._mmap, owner.filename
    if mapping is None or filename is None or owner.mode == "c" or array.size == 0 or array.dtype.hasobject:
        return None
    address = array.__array_interface__["data"][0]
    low, high = extent(address, array.shape, array.strides, array.itemsize)
    begin = sys.modules["numpy"].frombuffer(mapping, "u1").__array_interface__["data"][0]
    start = owner.offset - owner.offset % mmap.ALLOCATIONGRANULARITY + low - begin
    try:
        if os.path.getsize(filename) < start + high - low:
            return None
    except OSError:
        return None
    form = (array.shape, array.strides, array.dtype, address - low, array.flags.writeable)
    return words.memmap, ((filename, owner.mode, owner.offset), start, high - low, type(array), *form)


def reduce_own_array(dumper: Dumper, array: Any) -> Reduced:
    """An array of a class of the notebook, with its attributes."""
    reduced = dumper.by_itself(array)
    plain = type(array).__reduce__ is sys.modules["numpy"].ndarray.__reduce__ and not hasattr(array, "_mmap")
    if not plain or not vars(array) or type(reduced) is not tuple or len(reduced) != 3:
        return reduced
    return (*reduced[:2], (reduced[2], dict(vars(array))), None, None, words.array_state)


def reduce_ufunc(dumper: Dumper, ufunc: Any) -> Reduced:
    """What `numpy.frompyfunc` has made of a function."""
    function = next((part for part in gc.get_referents(ufunc) if callable(part)), None)
    if function is None:
        return dumper.by_itself(ufunc)
    make = sys.modules["numpy"].frompyfunc
    if ufunc.identity is not None:
        make = functools.partial(make, identity=ufunc.identity)
    return make, (function, ufunc.nin, ufunc.nout)


def reduce_tensor(dumper: Dumper, tensor: Any) -> Reduced:
    """A torch tensor in main memory, as a view of its storage."""
    torch = sys.modules["torch"]
    if tensor.device.type != "cpu":
        return dumper.stub(tensor, f"it is in the memory of {tensor.device}")
    plain = tensor.layout is torch.strided and not (tensor.is_quantized or tensor.is_conj() or tensor.is_neg())
    if not plain or not tensor.is_leaf or tensor.untyped_storage().nbytes() == 0:
        return dumper.by_itself(tensor)
    storage = tensor.untyped_storage()
    low = storage.data_ptr()
    dumper.memory.add(low)
    view = dumper.views.add(low, low + storage.nbytes(), storage)
    made = (tensor.dtype, tensor.storage_offset(), tuple(tensor.size()), tensor.stride(), tensor.requires_grad)
    state = (tensor.grad, dict(vars(tensor)))
    rest = (state,) if tensor.grad is not None or state[1] else ()
    return words.tensor, (view, storage.nbytes(), type(tensor), *made, *rest)


def reduce_frame(dumper: Dumper, frame: Any) -> Reduced:
    """A DataFrame or Series without the list that is its class's own: all that refer to it would be one component."""
    reduced = reduce_library(dumper, frame) if importable(type(frame)) else dumper.by_itself(frame)
    if type(reduced) is tuple and len(reduced) > 2 and type(reduced[2]) is dict:
        of_class = type(frame)._metadata
        own = {name: value for name, value in reduced[2].items() if value is not of_class}
        return (*reduced[:2], own, *reduced[3:])
    return reduced


def reduce_block(dumper: Dumper, block: Any) -> Reduced:
    """A block of a DataFrame, whose memory others may have, too: pandas 3 copies before it writes then.

    What isn't contiguous, as rows or columns in another order, pandas would copy for each look at it. It travels as a
    view, too, if it is large, and most of what it is a view of.
    """
    reduced = dumper.by_itself(block)
    values: Any = block.values
    copy: Any = reduced[1][0] if type(reduced) is tuple and reduced[1] else None
    if type(copy) is type(values) is sys.modules["numpy"].ndarray and copy is not values:
        if copy.nbytes >= WATCHED and _spread(values) <= _MOST_SPREAD:
            reduced = reduced[0], (values, *reduced[1][1:]), *reduced[2:]
        else:
            dumper.views.made.append(copy)
            return reduced
    return _with_references(reduced, getattr(block, "refs", None))


def _spread(array: Any) -> float:
    """How much memory an array reaches over, as a multiple of its own."""
    low, high = extent(0, array.shape, array.strides, array.itemsize)
    return (high - low) / int(array.nbytes)


def reduce_index(dumper: Dumper, index: Any) -> Reduced:
    """The same, of an index of numbers: others share no memory in other processes.

    Nobody can change what an index has. So short ones, as of columns, which copies of a table have together, don't make
    one component of them.
    """
    reduced = dumper.by_itself(index)
    if type(reduced) is tuple and len(index) <= _SHORT and type(reduced[1][-1]) is dict:
        kind, state = reduced[1]
        return reduced[0], (kind, {**state, "data": index._data.copy()})
    return _with_references(reduced, index._references if getattr(index.dtype, "kind", "O") in "biufcmM" else None)


def _with_references(reduced: Reduced, refs: Any) -> Reduced:
    if type(reduced) is tuple and not any(reduced[2:]) and refs is not None and _copies_on_write():
        return (*reduced[:2], refs, None, None, words.references)
    return reduced


def reduce_single_manager(dumper: Dumper, manager: Any) -> Reduced:
    """What a Series has, by its block: pandas itself would take that apart."""
    return (type(manager), (manager.blocks[0], manager.axes[0])) if _copies_on_write() else dumper.by_itself(manager)


def reduce_references(_: Dumper, refs: Any) -> Reduced:
    """What knows who has the same memory: they say so themselves when they are loaded."""
    return type(refs), ()


def _copies_on_write() -> bool:
    version = getattr(sys.modules.get("pandas"), "__version__", "0")
    return int(version.split(".")[0]) >= 3
