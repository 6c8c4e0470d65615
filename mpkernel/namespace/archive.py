"""Files of saved namespaces: written and read in a stream, signed, replaced in one step.

::

    MAGIC | length of the header, 8 bytes | header, JSON | MAC of the header | blobs | segments | MAC of all

The header says how many bytes each blob and each segment has. Nothing here is unpickled, and nothing that isn't signed
is even parsed. The functions block: they are run in a thread that shares nothing with the broker but what it is given.
"""

from __future__ import annotations

import glob
import hashlib
import hmac
import importlib.util
import json
import os
import platform
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from mpkernel.errors import BadArchive
from mpkernel.namespace.component import Component
from mpkernel.namespace.pressure import room_for
from mpkernel.namespace.segments import Opened
from mpkernel.namespace.transport import Place, Transport

MAGIC = b"mpkernel namespace 1\n"
_LENGTH_BYTES = 8
_MAC_BYTES = 32
_CHUNK = 1 << 20
# Functions are saved as bytecode, which only the same Python understands.
_BYTECODE = importlib.util.MAGIC_NUMBER.hex()

LeftOut = list[list[Any]]  # pairs: names, and why they, or a part of them, are not in the file


class Cancelled(Exception):
    """The kernel ends before the file is written or read."""


@dataclass(frozen=True, slots=True)
class Made:
    """A segment that was read from a file, and is this process's until the broker's table takes it."""

    fd: int
    name: str
    size: int


@dataclass(slots=True)
class Content:
    """What a file has. ``segment`` and ``deltas`` of a component's `meta` say by ``part`` which segment they are."""

    components: list[Component]
    left_out: LeftOut
    saved: str  # when, as people write it
    segments: list[Made] = field(default_factory=list)


# --- writing ------------------------------------------------------------------------------------------------------


def describe(components: Sequence[Component]) -> tuple[list[Any], list[bytes], list[Place]]:
    """Of components as the store has them: their part of the header, their blobs, and where their segments are."""
    heads: list[Any] = []
    blobs: list[bytes] = []
    places: list[Place] = []
    parts: dict[Place, int] = {}

    def numbered(told: dict[str, Any]) -> dict[str, Any]:
        place = Place(told["pid"], told["name"], told["size"])
        if place not in parts:
            parts[place] = len(places)
            places.append(place)
        return {"part": parts[place], **{key: told[key] for key in told if key not in ("pid", "name")}}

    for component in components:
        meta = dict(component.meta)
        if "segment" in meta:
            meta["segment"] = numbered(meta["segment"])
        if "deltas" in meta:
            meta["deltas"] = [numbered(told) for told in meta["deltas"]]
        heads.append([list(component.names), meta, [len(blob) for blob in component.blobs]])
        blobs += component.blobs
    return heads, blobs, places


def write(
    path: Path,
    key: bytes,
    content: tuple[list[Any], list[bytes], list[Place]],
    left_out: LeftOut,
    transport: Transport,
    *,
    saved: str,
    cancelled: Callable[[], bool] = lambda: False,
) -> int:
    """Write what `describe` returned into a file that only its owner can read; returns its size.

    Raises OSError, BadArchive, BadSegment, Cancelled.
    """
    _check_replaceable(path)
    heads, blobs, places = content
    header = json.dumps(
        {
            "python": platform.python_version(),
            "bytecode": _BYTECODE,
            "saved": saved,
            "left_out": left_out,
            "components": heads,
            "segments": [place.size for place in places],
        }
    ).encode()
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)  # mode 0600
    try:
        with open(fd, "wb") as file:
            mac = _mac(key)
            start = MAGIC + len(header).to_bytes(_LENGTH_BYTES, "big") + header
            mac.update(start)
            file.write(start + mac.digest())
            for chunk in _chunks(blobs, places, transport):
                if cancelled():
                    raise Cancelled
                mac.update(chunk)
                file.write(chunk)
            file.write(mac.digest())
            file.flush()
            os.fsync(fd)
            size = file.tell()
        if cancelled():
            raise Cancelled
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(path.parent)
    return size


def unfinished(path: Path) -> str:
    """The pattern of names that files have, beside `path`, which a process that was killed has left."""
    return f".{glob.escape(path.name)}.*.part"


def _chunks(blobs: Sequence[bytes], places: Sequence[Place], transport: Transport) -> Iterator[bytes | memoryview]:
    yield from blobs
    buffer = memoryview(bytearray(_CHUNK))
    for place in places:
        with Opened(transport, place) as opened:
            for offset in range(0, place.size, _CHUNK):
                piece = buffer[: min(_CHUNK, place.size - offset)]
                opened.read([piece], offset)
                yield piece


def _check_replaceable(path: Path) -> None:
    """Whoever mistypes a name isn't to lose a file for it. Raises BadArchive."""
    try:
        with _opened(path) as file:
            start = file.read(len(MAGIC))
    except FileNotFoundError:
        return
    if start and start != MAGIC:
        raise BadArchive(f"{path} exists and is not a saved namespace: choose another name, or remove it first")


def _sync_folder(folder: Path) -> None:
    """The new name is on disk as well, where a folder can be synced."""
    with suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _mac(key: bytes) -> hashlib.blake2b:
    return hashlib.blake2b(key=key, digest_size=_MAC_BYTES, person=b"mpkernel.save")


# --- reading ------------------------------------------------------------------------------------------------------


def read(path: Path, key: bytes, transport: Transport, *, cancelled: Callable[[], bool] = lambda: False) -> Content:
    """What `path` has, its segments in memory of this process.

    Raises BadArchive if it isn't as this user's key signed it, or can't be used here; OSError, Cancelled.
    """
    with _opened(path) as file:
        mac = _mac(key)
        header = _header(path, file, mac)
        sizes = [size for _, _, sizes in header["components"] for size in sizes]
        total = sum(sizes) + sum(header["segments"]) + _MAC_BYTES
        left = os.fstat(file.fileno()).st_size - file.tell()
        if left != total:
            raise BadArchive(_cut_short(path) if left < total else _altered(path))
        if header["bytecode"] != _BYTECODE:
            raise BadArchive(
                f"{path} was saved by Python {header['python']}, and functions are saved as bytecode: "
                f"restore it in a kernel with that Python (this one has {platform.python_version()})"
            )
        room_for(total)
        made: list[Made] = []
        try:
            blobs = [_exactly(path, file, size, mac) for size in sizes]
            for size in header["segments"]:
                made.append(Made(*transport.create(size), size))
                _copy(path, file, made[-1], mac, cancelled)
            if not hmac.compare_digest(mac.digest(), file.read(_MAC_BYTES)):
                raise BadArchive(_altered(path))
            for segment in made:
                transport.seal(segment.fd, segment.name)
        except BaseException:
            drop(made, transport)
            raise
    given = iter(blobs)
    components = [
        Component(tuple(names), meta=meta, blobs=tuple(next(given) for _ in sizes))
        for names, meta, sizes in header["components"]
    ]
    return Content(components, header["left_out"], header["saved"], made)


def drop(made: Sequence[Made], transport: Transport) -> None:
    """Let go of segments that nobody takes, or that were taken."""
    for segment in made:
        transport.drop(segment.fd, segment.name)


def _opened(path: Path) -> BinaryIO:
    """Open a plain file; whatever else has that name isn't waited for. Raises BadArchive, OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise BadArchive(f"{path} is not a file")
    return open(fd, "rb")


def _header(path: Path, file: BinaryIO, mac: hashlib.blake2b) -> dict[str, Any]:
    """The header, once it is known to be ours."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(len(MAGIC))
    if start != MAGIC:
        whole = MAGIC.startswith(start) and size < len(MAGIC)
        raise BadArchive(_cut_short(path) if whole else f"{path} is not a namespace that mpkernel saved")
    length = file.read(_LENGTH_BYTES)
    nbytes = int.from_bytes(length, "big")
    if len(length) < _LENGTH_BYTES or nbytes > size:
        raise BadArchive(_cut_short(path))
    header = file.read(nbytes)
    mac.update(start + length + header)
    signature = file.read(_MAC_BYTES)
    if len(signature) < _MAC_BYTES:
        raise BadArchive(_cut_short(path))
    if not hmac.compare_digest(mac.digest(), signature):
        raise BadArchive(
            f"{path} was not signed with your key, or was altered since. To restore it could run code of whoever wrote "
            "it: nothing of it was loaded. If it is yours and from another account, bring that account's key along "
            "(mpkernel/signing-key in Jupyter's data folder, see `jupyter --data-dir`)"
        )
    told: dict[str, Any] = json.loads(header)
    return told


def _exactly(path: Path, file: BinaryIO, size: int, mac: hashlib.blake2b) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise BadArchive(_cut_short(path))
    mac.update(data)
    return data


def _copy(path: Path, file: BinaryIO, segment: Made, mac: hashlib.blake2b, cancelled: Callable[[], bool]) -> None:
    left = segment.size
    while left:
        if cancelled():
            raise Cancelled
        chunk = memoryview(_exactly(path, file, min(_CHUNK, left), mac))
        left -= len(chunk)
        while chunk:
            chunk = chunk[os.write(segment.fd, chunk) :]


def _cut_short(path: Path) -> str:
    return f"{path} is cut short: copy it again, or restore another one. Nothing of it was loaded"


def _altered(path: Path) -> str:
    return f"{path} was altered since it was saved: restore another one. Nothing of it was loaded"
