"""The Jupyter wire protocol: messages as signed frames, for broker, workers and command line alike.

A message on a socket is ``[*idents, DELIMITER, signature, header, parent_header, metadata, content, *buffers]``
(https://jupyter-client.readthedocs.io/en/stable/messaging.html). The four dicts are JSON; the signature is the hex
HMAC of their bytes. `jupyter_client.session` does the same but takes 160 ms to import, more than the rest of the
broker together, and parses all four dicts where the broker needs one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import math
import numbers
import os
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime  # by name, as `_encode`: a cell may put something else into these modules
from pathlib import PurePath
from typing import Any

from mpkernel.errors import BadMessage, BadSignature

PROTOCOL_VERSION = "5.5"
DELIMITER = b"<IDS|MSG>"
EMPTY_DICT = b"{}"

# A header holds ids, a name and a date: a few hundred bytes. What is larger isn't parsed, nor even hashed.
MAX_HEADER_BYTES = 1 << 20
# How many signatures are remembered to refuse a replayed message, at most; jupyter_client keeps as many.
MAX_REMEMBERED_SIGNATURES = 1 << 16
# Of each so much that it is a small int: of 10**13 other messages one would begin like one of them.
_HEX_DIGITS = 15

Json = dict[str, Any]


def utc_now() -> str:
    """The time as messages have it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _default(value: object) -> Any:
    """What a content dict may hold beyond JSON's own types, as Jupyter's front ends expect it."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            value = value.astimezone()
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset, tuple)) or hasattr(value, "__next__"):
        return list(value)  # type: ignore[call-overload]
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"{type(value).__name__} {value!r:.80} can't be sent as JSON")


def _without_nan(value: Any) -> Any:
    """`value` with NaN and infinities as strings: browsers' JSON has neither."""
    if isinstance(value, float):
        return value if math.isfinite(value) else float.__repr__(value)  # numpy's own says "np.float64(nan)"
    if isinstance(value, Mapping):
        return {_without_nan(key) if isinstance(key, float) else key: _without_nan(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    if isinstance(value, (str, bytes, int)) or value is None:
        return value
    return _without_nan(_default(value))


_encode = json.JSONEncoder(default=_default, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_decode = json.loads


def dumps(value: Any) -> bytes:
    """`value` as UTF-8 JSON. Dates, bytes, numpy scalars and the like are converted, NaN becomes ``"nan"``.

    Raises TypeError for what has no JSON form.
    """
    try:
        text = _encode(value)
    except ValueError:  # NaN, or what contains itself
        try:
            text = _encode(_without_nan(value))
        except RecursionError as error:
            raise TypeError(f"a {type(value).__name__} that contains itself can't be sent as JSON") from error
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return well_formed(text).encode("utf-8")


def well_formed(text: str) -> str:
    """`text` without lone surrogates, which come from file names, or as half a character."""
    return text.encode("utf-8", errors="surrogatepass").decode("utf-8", errors="replace")


def loads(data: bytes) -> Any:
    """The JSON in `data`. Raises BadMessage if it is none."""
    try:
        return _decode(data)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"not JSON: {error}") from error


@dataclass(frozen=True, slots=True)
class Message:
    """One received message. Only the header is parsed; the other dicts stay as bytes until someone asks."""

    idents: tuple[bytes, ...]
    header: Json
    frames: tuple[bytes, ...]  # header, parent_header, metadata, content, *buffers

    @property
    def msg_type(self) -> str:
        return str(self.header["msg_type"])

    @property
    def msg_id(self) -> str:
        return str(self.header["msg_id"])

    @property
    def subshell_id(self) -> str | None:
        """Of another type it is none that there is, as the request has to be answered."""
        value = self.header.get("subshell_id")
        return None if value is None else str(value)

    def sent(self) -> float | None:
        """When, by the sender's clock (seconds since 1970); None if it doesn't say."""
        try:
            return datetime.fromisoformat(str(self.header.get("date"))).timestamp()
        except (ValueError, OverflowError, OSError):
            return None

    @property
    def header_frame(self) -> bytes:
        return self.frames[0]

    def parent_header(self) -> Json:
        return _dict(loads(self.frames[1]), "parent_header")

    def metadata(self) -> Json:
        return _dict(loads(self.frames[2]), "metadata")

    def content(self) -> Json:
        return _dict(loads(self.frames[3]), "content")

    @property
    def buffers(self) -> tuple[bytes, ...]:
        return self.frames[4:]


def _dict(value: Any, what: str) -> Json:
    if not isinstance(value, dict):
        raise BadMessage(f"the {what} is a {type(value).__name__}, not an object")
    return value


class Signer:
    """HMAC over frames, with the key and ``signature_scheme`` of the connection file.

    An empty key means that messages are not signed, as Jupyter defines it.
    """

    def __init__(self, key: bytes, scheme: str = "hmac-sha256") -> None:
        name, _, digest = scheme.partition("-")
        if name != "hmac" or digest not in hashlib.algorithms_available or not hashlib.new(digest).digest_size:
            raise ValueError(f"unknown signature scheme {scheme!r}; 'hmac-sha256' is the usual one")
        self.key = key
        self.scheme = scheme
        self._template = hmac.new(key, digestmod=digest) if key else None

    def sign(self, frames: Iterable[bytes]) -> bytes:
        """Hex digest of `frames`, or ``b""`` without a key."""
        if self._template is None:
            return b""
        mac = self._template.copy()
        for frame in frames:
            mac.update(frame)
        return mac.hexdigest().encode("ascii")

    def verify(self, signature: bytes, frames: Iterable[bytes]) -> bool:
        """Whether `signature` is the one of `frames`; compared in constant time."""
        return self._template is None or hmac.compare_digest(self.sign(frames), signature)


def iopub_topic(kernel_id: str, msg_type: str) -> bytes:
    """What a subscriber to iopub can ask for, as ipykernel names it."""
    if msg_type in ("display_data", "update_display_data", "clear_output"):
        return b"display_data"
    return f"kernel.{kernel_id}.{msg_type}".encode()


class Codec:
    """Packs and unpacks messages under one session id and one key.

    Everything that a kernel sends must carry one ``header.session``: JupyterLab drops messages when it changes. So the
    broker makes the id and all workers use it; message ids differ by `origin`.
    """

    def __init__(
        self,
        signer: Signer,
        *,
        session: str | None = None,
        username: str = "",
        origin: str | None = None,
        clock: Callable[[], str] = utc_now,
    ) -> None:
        self.signer = signer
        self.session = session or uuid.uuid4().hex
        self.username = username
        self._origin = origin if origin is not None else str(os.getpid())
        self._counter = itertools.count()
        self._clock = clock
        self._seen: set[int] = set()  # beginnings of signatures
        self._seen_before: set[int] = set()

    def header(self, msg_type: str, **extra: Any) -> Json:
        """A fresh header dict."""
        return {
            "msg_id": f"{self.session}_{self._origin}_{next(self._counter)}",
            "msg_type": msg_type,
            "username": self.username,
            "session": self.session,
            "date": self._clock(),
            "version": PROTOCOL_VERSION,
            **extra,
        }

    def pack(
        self,
        msg_type: str,
        content: Any,
        *,
        parent: bytes | Json = EMPTY_DICT,
        metadata: Any = None,
        buffers: Sequence[bytes] = (),
        idents: Sequence[bytes] = (),
        header: Json | None = None,
    ) -> list[bytes]:
        """All frames of a new message, signed. `parent` may be a header frame as it was received.

        Raises TypeError if `content` or `metadata` has no JSON form.
        """
        signed = [
            dumps(header if header is not None else self.header(msg_type)),
            parent if isinstance(parent, bytes) else dumps(parent),
            dumps(metadata) if metadata else EMPTY_DICT,
            content if isinstance(content, bytes) else dumps(content),
        ]
        return [*idents, DELIMITER, self.signer.sign(signed), *signed, *buffers]

    def unpack(self, frames: Sequence[bytes], *, refuse_replays: bool = True) -> Message:
        """The message in `frames`, as they came from a socket.

        Raises BadSignature or BadMessage, saying what is wrong; nothing of an unsigned message is parsed.
        """
        try:
            split = frames.index(DELIMITER)
        except ValueError:
            raise BadMessage("no <IDS|MSG> delimiter") from None
        idents, signature, signed = frames[:split], frames[split + 1 : split + 2], frames[split + 2 : split + 6]
        if len(signed) < 4:
            raise BadMessage(f"{len(signed)} frames after the signature; header, parent, metadata, content are needed")
        if len(signed[0]) > MAX_HEADER_BYTES or len(signed[1]) > MAX_HEADER_BYTES:
            raise BadMessage(f"a header of {max(len(signed[0]), len(signed[1]))} bytes; at most {MAX_HEADER_BYTES}")
        if not self.signer.verify(signature[0], signed):
            raise BadSignature("the signature doesn't match; is the key that of this kernel's connection file?")
        if refuse_replays and self.signer.key:
            self._remember(signature[0])
        header = _dict(loads(signed[0]), "header")
        for field in ("msg_type", "msg_id"):
            if not isinstance(header.get(field), str):
                raise BadMessage(f"the header has no {field}")
        return Message(tuple(idents), header, (*signed, *frames[split + 6 :]))

    def _remember(self, signature: bytes) -> None:
        number = int(signature[:_HEX_DIGITS], 16)
        if number in self._seen or number in self._seen_before:
            raise BadSignature("a message with this signature came before: a replay")
        self._seen.add(number)
        if len(self._seen) >= MAX_REMEMBERED_SIGNATURES // 2:
            self._seen, self._seen_before = set(), self._seen
