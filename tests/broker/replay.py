"""Plays an event log (``--event-log FILE``) on a fresh machine: ``python -m tests.broker.replay FILE``.

Put a log of a failed run beside a test, and it fails the same way as often as you like.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpkernel.broker.answers import Facts
from mpkernel.broker.events import Action, Event
from mpkernel.broker.machine import Machine
from mpkernel.broker.recording import FORMAT, digest, unpack
from mpkernel.wire import Codec, Signer


@dataclass
class Step:
    """One event, and what came of it this time; `event` is None at the start."""

    number: int
    event: Event | None
    actions: list[Action]
    same: bool | None  # as when it was recorded; None if the kernel ended before it was written down


def replay(path: Path) -> Iterator[Step]:
    """Handle the events of a log, one after the other. Raises what the machine raises."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    head, *rest = lines
    assert head["format"] == FORMAT, f"{path} is of another version of mpkernel: {head['format']}"
    drawn: deque[str] = deque()
    codec = Codec(Signer(b""), clock=drawn.popleft, **head["codec"])
    facts = Facts(**{**head["facts"], "features": tuple(head["facts"]["features"])})
    machine = Machine(codec, facts, new_id=drawn.popleft, **head["machine"])
    number, event, at = 0, None, 0.0
    outcome: dict[str, Any] | None
    while rest:
        if "event" in rest[0]:
            line = rest.pop(0)
            event, at = unpack(line["event"]), line["at"]
            number += 1
        outcome = rest.pop(0) if rest else None
        drawn.clear()
        drawn.extend(outcome["drawn"] if outcome is not None else ["?"] * 1000)
        actions = machine.start() if event is None else machine.handle(event, at)
        yield Step(number, event, actions, None if outcome is None else outcome["digest"] == digest(actions))


def main() -> int:
    """Print what is different, if anything."""
    number = 0
    for step in replay(Path(sys.argv[1])):
        number = step.number
        if step.same is False:
            print(f"event {step.number} is handled in another way now: {step.event!r:.300}")
            print(*(f"  {action!r:.300}" for action in step.actions), sep="\n")
            return 1
    print(f"{number} events, handled as they were")
    return 0


if __name__ == "__main__":
    sys.exit(main())
