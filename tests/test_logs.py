"""Mpkernel's own log."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from mpkernel import logs

log = logging.getLogger("mpkernel.test")


@pytest.fixture
def lines() -> Iterator[list[logs.Line]]:
    """What is handed on."""
    ours = logging.getLogger("mpkernel")
    handlers, level = ours.handlers[:], ours.level
    lines: list[logs.Line] = []
    logs.hand_on(lines.append)
    yield lines
    ours.handlers[:] = handlers
    ours.setLevel(level)


def test_a_line_has_all_that_is_known(lines: list[logs.Line]) -> None:
    log.warning("what happened: %s", "this")
    log.debug("not that")
    [line] = lines
    assert (line["level"], line["logger"], line["text"]) == ("warning", "mpkernel.test", "what happened: this")


def test_of_what_is_logged_without_end_so_much_a_second_is_handed_on(
    lines: list[logs.Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MOST_A_SECOND", 10)
    now = 1_000_000.0
    monkeypatch.setattr(logging.LogRecord, "created", property(lambda _: now, lambda *_: None), raising=False)
    for _ in range(50):
        log.warning("again")
    assert len(lines) == 10
    now += 1
    log.warning("again")
    assert len(lines) == 11
