"""What cells are called as source files: in tracebacks, in warnings, and by debuggers.

A front end works the name out by itself, from what debugInfo says: folder, Murmur2 hash of the code, suffix. So a cell
has that name whether or not somebody debugs, and a breakpoint finds functions from before. The folder is the kernel's,
not the process's: the name holds in all subshells, and for a new process. The last part of its path begins with
``ipykernel_`` because libraries know code of a notebook by that (numba's cache does).
"""

from __future__ import annotations

import gc
import linecache
import os
import struct
import types
from collections.abc import Iterator
from pathlib import Path

from IPython.core.compilerop import CachingCompiler

HASH_METHOD, HASH_SEED = "Murmur2", 0xC70F6907
SUFFIX = ".py"
_MASK = 0xFFFFFFFF
_MULTIPLIER = 0x5BD1E995


def murmur2(data: bytes, seed: int = HASH_SEED) -> int:
    """MurmurHash2, 32 bits, as at https://github.com/aappleby/smhasher."""
    h = (seed ^ len(data)) & _MASK
    whole = len(data) & ~3
    for (k,) in struct.iter_unpack("<I", memoryview(data)[:whole]):
        k = k * _MULTIPLIER & _MASK
        h = (h * _MULTIPLIER & _MASK) ^ ((k ^ k >> 24) * _MULTIPLIER & _MASK)
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * _MULTIPLIER & _MASK
    h = (h ^ h >> 13) * _MULTIPLIER & _MASK
    return h ^ h >> 15


class CellFiles:
    """`directory` is one that only this user can enter, and that is removed when the kernel ends."""

    def __init__(self, directory: Path, kernel_pid: int) -> None:
        self._folder = directory / f"ipykernel_{kernel_pid}"
        self.prefix = f"{self._folder}{os.sep}"

    def name(self, code: str) -> str:
        """The path of a cell, whether or not it has been written. ``IPYKERNEL_CELL_NAME`` overrides it."""
        given = os.environ.get("IPYKERNEL_CELL_NAME")
        if given is not None:
            return given
        return f"{self.prefix}{murmur2(code.encode(errors='surrogatepass'))}{SUFFIX}"

    def write(self, code: str) -> str:
        """Write a cell for debuggers to read; returns its path. Raises OSError."""
        path = Path(self.name(code))
        if path.parent == self._folder:
            self._folder.mkdir(mode=0o700, exist_ok=True)
        path.write_text(code, encoding="utf-8", errors="surrogatepass", newline="")
        return str(path)


# The source of so many cells is kept in any case, that of others as long as there is a function of theirs. To look for
# these takes a while (10 ms for 500,000 objects): it is done when there are so many sources, or twice as many as last
# time.
KEPT_SOURCES, MANY_SOURCES = 1000, 4000


class CellCompiler(CachingCompiler):
    """IPython's compiler, with our names; and what no traceback can need any more of what it keeps is forgotten."""

    files: CellFiles | None = None  # none in the template, before it is known which worker this is
    _most = MANY_SOURCES

    def get_code_name(self, raw_code: str, transformed_code: str, number: int) -> str:
        """As IPython asks for it when it is about to compile a cell."""
        if self.files is None:
            return str(super().get_code_name(raw_code, transformed_code, number))
        name = self.files.name(raw_code)
        self._filename_map.pop(name, None)  # it is the newest now
        return name

    def cache(self, transformed_code: str, number: int = 0, raw_code: str | None = None) -> str:
        """As IPython does, which never forgets."""
        name = super().cache(transformed_code, number, raw_code)
        if len(self._filename_map) > self._most:
            self._forget_sources()
            self._most = max(MANY_SOURCES, 2 * len(self._filename_map))
        return name

    def _forget_sources(self) -> None:
        needed = {code.co_filename for code in _live_code()} | set(list(self._filename_map)[-KEPT_SOURCES:])
        prefix = self.files.prefix if self.files is not None else "\0"
        for name in [name for name in list(linecache.cache) if name.startswith(prefix) and name not in needed]:
            linecache.cache.pop(name, None)  # what came from other subshells, too
            self._filename_map.pop(name, None)


def _live_code() -> Iterator[types.CodeType]:
    """The code of whatever can still run, or be shown in a traceback."""
    for thing in gc.get_objects():
        kind = type(thing)
        if kind is types.FunctionType:
            yield thing.__code__
        elif kind is types.FrameType:
            yield thing.f_code
        elif kind is types.GeneratorType:
            yield thing.gi_code
        elif kind is types.CoroutineType:
            yield thing.cr_code
        elif kind is types.AsyncGeneratorType:
            yield thing.ag_code
