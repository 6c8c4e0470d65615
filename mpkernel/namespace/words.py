"""The words of a payload: what a pickle asks its loader for by name, since a pickle can only name importable functions.

None of these is ever called. `mpkernel.namespace.loading.Loader` puts a method of its own in the place of each, which
knows the namespace, the definitions and the buffers of the process that loads.
"""

from __future__ import annotations

from typing import Any, NoReturn


def _only_a_word(*_: Any) -> NoReturn:
    raise RuntimeError("a payload of the shared namespace can only be loaded by mpkernel.namespace.pickling")


def definition(def_id: str) -> Any:
    """A class, or anything else that is defined but has no closure."""
    _only_a_word(def_id)


def function(def_id: str, cells: Any) -> Any:
    """A function with the cells of its closure."""
    _only_a_word(def_id, cells)


def fill(made: Any, contents: Any) -> None:
    """Fill cells, and attributes of definitions: pairs of cell and content; triples of id, attribute and content."""
    _only_a_word(made, contents)


def attributes(obj: Any, named: Any) -> None:
    """Give an object this very dict as ``__dict__``."""
    _only_a_word(obj, named)


def original(module: str, qualname: str, name: str) -> Any:
    """What a library had there before the notebook set it."""
    _only_a_word(module, qualname, name)


def cell(cell_id: str | None) -> Any:
    """A cell of a closure, empty as yet."""
    _only_a_word(cell_id)


def stub(*note: Any) -> Any:
    """What lives in one process only."""
    _only_a_word(note)


def references(obj: Any, refs: Any) -> None:
    """Tell a block or index of pandas who has the same memory."""
    _only_a_word(obj, refs)


def array(view: int, *rest: Any) -> Any:
    """A numpy array on memory that travels beside the pickle."""
    _only_a_word(view, rest)


def memmap(file: Any, *rest: Any) -> Any:
    """A numpy array on the memory of a file."""
    _only_a_word(file, rest)


def array_state(array: Any, state: Any) -> None:
    """What numpy says of an array of a class of the notebook, and its attributes, of which numpy says nothing."""
    _only_a_word(array, state)


def strings(text: int, shape: Any) -> Any:
    """A numpy array of strings, which travel beside the pickle."""
    _only_a_word(text, shape)


def tensor(view: int, *rest: Any) -> Any:
    """A torch tensor on memory that travels beside the pickle."""
    _only_a_word(view, rest)


def member(enum: Any, name: str) -> Any:
    """A member of an enum."""
    _only_a_word(enum, name)


def exception(kind: Any, args: Any) -> Any:
    """An exception, without its own ``__init__``, which may want other arguments than ``args``."""
    _only_a_word(kind, args)


def traceback(frames: Any, sources: Any) -> Any:
    """Where an exception came from."""
    _only_a_word(frames, sources)


def twin(kind: str, made_of: Any, *note: Any) -> Any:
    """What each process has one of its own for: a lock, a context variable, a task that is over."""
    _only_a_word(kind, made_of, note)


def weak(kind: Any, content: Any) -> Any:
    """A weak reference, or a container of such, from what it refers to."""
    _only_a_word(kind, content)


def match(pattern: Any, *asked: Any) -> Any:
    """What a regular expression found."""
    _only_a_word(pattern, asked)


def instance(kind: Any, *args: Any) -> Any:
    """An instance whose class has a ``__new__`` that may want other arguments than these."""
    _only_a_word(kind, args)


def made(base: Any, kind: Any, *args: Any) -> Any:
    """An instance of a class on a built-in one, made as that makes its own, of these arguments."""
    _only_a_word(base, kind, args)


def called(kind: Any, make: Any, *args: Any) -> Any:
    """An instance of a class, which `make` makes of these arguments."""
    _only_a_word(kind, make, args)


def known(state: Any, make: Any, *args: Any) -> Any:
    """What `make` makes of these arguments, with a part of its state, which its hash may need."""
    _only_a_word(state, make, args)


def module(globals_id: str, name: str, registered: bool) -> Any:
    """A module that can't be imported, empty as yet."""
    _only_a_word(globals_id, name, registered)


def main() -> Any:
    """The module ``__main__``."""
    _only_a_word()


def shell() -> Any:
    """IPython's shell."""
    _only_a_word()


def content(obj: Any, parts: Any) -> None:
    """Attributes, items and fields of a list, set or dict whose class may have its own way of taking them."""
    _only_a_word(obj, parts)


def stream(name: str) -> Any:
    """Standard output and the like."""
    _only_a_word(name)


def deferred(value: Any) -> Any:
    """A value whose parts get their state only after all are made: for what is nested deep."""
    _only_a_word(value)


def afresh(obj: Any, content: Any) -> Any:
    """All of the state of an object that has a part of it, in order."""
    _only_a_word(obj, content)


def state(obj: Any, content: Any) -> Any:
    """The state of an object, set without asking it how: of what is nested deep, or has a ``__getattr__``."""
    _only_a_word(obj, content)
