"""The event log (``--event-log FILE``): all that happens to the broker's logic, so that it can happen again in a test.

The `Machine` is pure: the same events at the same times give the same actions, if ids and dates are the same, too. So
a line of the file has an event with its time, and the next one the ids and dates that were drawn meanwhile, with a
digest of the actions. The first line has what the machine was made with. ``tests/broker/replay.py`` plays a file.

It has everything that cells say and print, so it is for its owner only, and off unless asked for. Keys are not in it;
signatures are left out of the digests, so that a replay needs none.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TextIO

from mpkernel import messages
from mpkernel.broker import events
from mpkernel.broker.answers import Facts
from mpkernel.errors import StartError
from mpkernel.namespace.component import Component
from mpkernel.records import Record
from mpkernel.wire import DELIMITER, Message

log = logging.getLogger("mpkernel.broker")

FORMAT = 1
# The file doesn't grow beyond so many bytes: what is left out then is the end, as a replay needs the beginning.
LIMIT = 256 << 20
_BEGINS = b'{"format": '

_CLASSES: dict[str, Any] = {
    **{f"event.{kind.__name__}": kind for kind in vars(events).values() if isinstance(kind, type)},
    **{f"lane.{kind.__name__}": kind for kind in vars(messages).values() if isinstance(kind, type)},
    "Message": Message,
    "Component": Component,
}
_NAMES = {kind: name for name, kind in _CLASSES.items() if issubclass(kind, Record) or is_dataclass(kind)}


class Recorder:
    """Writes one event log. Use `drawn` for what gives the machine ids and dates."""

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        self._drawn: list[str] = []
        self._left = limit
        try:
            if path.exists():
                if not _is_event_log(path):
                    raise StartError(f"{path} is there and is no event log: give --event-log another name")
                path.replace(path.with_name(path.name + ".old"))
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartError(f"the event log {path} can't be written: {error.strerror}; check --event-log") from error
        self._file: TextIO | None = open(fd, "w", encoding="utf-8")  # noqa: SIM115

    def drawn(self, source: Callable[[], str]) -> Callable[[], str]:
        """`source`, of which each answer is noted."""

        def draw() -> str:
            answer = source()
            self._drawn.append(answer)
            return answer

        return draw

    def began(self, machine: dict[str, Any], codec: dict[str, Any], facts: Facts) -> None:
        """First of all: what machine, codec and facts were made with."""
        self._drawn.clear()
        self._write({"format": FORMAT, "machine": machine, "codec": codec, "facts": asdict(facts)})

    def event(self, event: events.Event, now: float) -> None:
        """It is about to be handled."""
        try:
            if self._file is not None:
                self._write({"at": now, "event": pack(event)})
        except Exception:
            log.critical("please report this: %s can't be written down", type(event).__name__, exc_info=True)
            self.close()

    def actions(self, actions: Sequence[events.Action]) -> None:
        """What came of it."""
        drawn, self._drawn = self._drawn, []
        try:
            if self._file is not None:
                kinds = [type(action).__name__ for action in actions]
                self._write({"drawn": drawn, "actions": kinds, "digest": digest(actions)})
        except Exception:
            log.critical("please report this: actions can't be written down", exc_info=True)
            self.close()

    def close(self) -> None:
        """It is complete."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is None:
            return
        text = json.dumps(line) + "\n"
        self._left -= len(text)
        try:
            if self._left < 0:
                log.warning("the event log is full: what follows isn't in it")
                self.close()
            else:
                self._file.write(text)
                self._file.flush()  # the last event before a crash is the one that matters
        except OSError as error:
            log.warning("the event log can't be written any more: %s", error.strerror)
            self._file = None


def _is_event_log(path: Path) -> bool:
    """One that has nothing yet counts."""
    with path.open("rb") as file:
        return file.read(len(_BEGINS)) in (b"", _BEGINS)


def digest(actions: Sequence[events.Action]) -> str:
    """The same for the same actions, whatever key signed them."""
    text = json.dumps([pack(action, signatures=False) for action in actions], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def pack(value: Any, *, signatures: bool = True) -> Any:
    """`value`, made of what events and actions consist of, as JSON."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)) or hasattr(value, "bytes"):  # a zmq.Frame
        data = value.bytes if hasattr(value, "bytes") else value
        return {"bytes": base64.b64encode(data).decode()}
    if isinstance(value, dict):
        return {"dict": [[pack(key), pack(item, signatures=signatures)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        items = [pack(item, signatures=signatures) for item in value]
        if not signatures and DELIMITER in value:
            items[value.index(DELIMITER) + 1] = None
        return items if isinstance(value, list) else {"tuple": items}
    name = _NAMES[type(value)]
    return {name: [pack(getattr(value, field.name), signatures=signatures) for field in fields(value)]}


def unpack(value: Any) -> Any:
    """The inverse of `pack`."""
    if isinstance(value, list):
        return [unpack(item) for item in value]
    if not isinstance(value, dict):
        return value
    [(name, given)] = value.items()
    if name == "bytes":
        return base64.b64decode(given)
    if name == "dict":
        return {unpack(key): unpack(item) for key, item in given}
    if name == "tuple":
        return tuple(unpack(item) for item in given)
    return _CLASSES[name](*map(unpack, given))
