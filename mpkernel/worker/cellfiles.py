"""What cells are called as source files: in tracebacks, in warnings, and by debuggers.

A front end works the name out by itself, from what debugInfo says: folder, Murmur2 hash of the code, suffix. So a cell
has that name whether or not somebody debugs, and a breakpoint finds functions from before. The folder is the kernel's,
not the process's: the name holds in all subshells, and for a new process. The last part of its path begins with
``ipykernel_`` because libraries know code of a notebook by that (numba's cache does).
"""

from __future__ import annotations

import os
import struct
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


class CellCompiler(CachingCompiler):
    """IPython's compiler, with our names."""

    files: CellFiles | None = None  # none in the template, before it is known which worker this is

    def get_code_name(self, raw_code: str, transformed_code: str, number: int) -> str:
        """As IPython asks for it when it is about to compile a cell."""
        if self.files is None:
            return str(super().get_code_name(raw_code, transformed_code, number))
        return self.files.name(raw_code)
