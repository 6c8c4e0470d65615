"""Turns the messages for one request into lines that are the same if two kernels said the same.

What is by its nature different goes: ids, times, addresses, pids, paths of the sandbox, names of the cells' files. How
text is cut into messages, and the order between stdout and stderr, which ipykernel doesn't keep, go as well.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from scripts.harness.client import DELIMITER, Message, Pending

_RULES: tuple[tuple[str, str], ...] = (
    (
        r"/\S*/ipykernel_\d+/\d+\.py|(/tmp/)?<ipython-input-\d+-[0-9a-f]+>|/\S*/mpkernel_\d+/\d+\.py|/tmp/mpk\S*/\d+\.py",
        "CELL",
    ),
    (r"\b\d{6,}\.py(?=, line)", "CELL"),
    (r"/tmp/mp[bt]-[\w.]+", "SANDBOX"),
    (r"(?<=/tmp/)(tmp|ipython_edit_|ipython_)\w+", "TMP"),
    (r"ipython_edit_\w+", "TMP"),
    (r"0x[0-9a-f]{6,}", "0xADDRESS"),
    (r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}(_\d+){0,2}", "UUID"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)?", "DATE"),
    (r"\b\d\d:\d\d:\d\d\b", "TIME"),
    (r"[\d.]+(e[+-]\d+)? (ns|μs|µs|us|ms|s)\b( ± [\d.]+ (ns|μs|µs|us|ms|s))?", "DURATION"),
    (r"(?<=in )\d+\.\d+( seconds|s\b)", "DURATION"),
    (r"(?<=Thread-)\d+", "N"),
    (r"(?<=pid[=: ])\d+", "PID"),
    (r"(?<=object at )[0-9a-f]{12}", "ADDRESS"),
    (r"[\w/.-]*/(ipykernel|mpkernel/worker)/[\w.]+\.py(:\d+|\S* line \d+)?", "KERNEL-MODULE"),
    (r"ipykernel(?=[.\w]*\b)|mpkernel(\.worker)?(?=[.\w]*\b)", "KERNEL"),
    (r"KERNEL\.(zmqshell|shell|kernel|ipkernel)\b", "KERNEL"),
)
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_SOURCE_LINE = re.compile(r"(-+> *)?\s*\d+ |\s*\[\.\.\. skipping|-+>\s*\d+$|\s*\d+$|\s*\(\.\.\.\)")
_IDS = {"display_id", "comm_id", "engine_uuid"}
_COMPILED = [(re.compile(pattern), word) for pattern, word in _RULES]


def text(value: str) -> str:
    """`value` without what is different in each run."""
    for pattern, word in _COMPILED:
        value = pattern.sub(word, value)
    return value


def lines(pending: Pending) -> list[str]:
    """All that was answered to a request."""
    if not pending.shown("error"):  # printed by IPython without a traceback, of which ipykernel's reply has none either
        for reply in pending.replies:
            reply.content.pop("traceback", None)
    said = [_line(message) for message in pending.replies + pending.inputs]
    return [*(f"iopub {line}" for line in _streams_in_place(pending.iopub)), *said]


def outputs(of_a_cell: Iterable[dict[str, Any]]) -> list[str]:
    """What a notebook has kept of a cell."""
    made: list[str] = []
    written: dict[str, str] = {}
    for output in of_a_cell:
        if output["output_type"] == "stream":
            written[output["name"]] = written.get(output["name"], "") + "".join(output["text"])
        else:
            made += [*_text_lines(written), value(output)]
            written = {}
    return [*made, *_text_lines(written)]


def value(of_json: Any) -> str:
    """A line for a value of JSON types."""
    return _dump(_plain(of_json))


def _streams_in_place(messages: Iterable[Message]) -> Iterator[str]:
    """A line for each message; text between two others becomes one line for each stream."""
    written: dict[str, str] = {}
    last: list[str] = []
    for message in messages:
        if message.msg_type == "stream":
            name = message.content["name"]
            written[name] = written.get(name, "") + message.content["text"]
        elif message.msg_type == "status":  # what C code wrote may come after idle, on ipykernel
            (last if message.content["execution_state"] == "idle" else []).append("status idle")
        else:
            yield from _text_lines(written)
            written = {}
            yield _line(message)
    yield from _text_lines(written)
    yield from last


def _text_lines(written: dict[str, str]) -> Iterator[str]:
    for name in sorted(written):
        yield f"stream {name} {text(written[name])!r}"


def _line(message: Message) -> str:
    frames = message.frames
    at = frames.index(DELIMITER)
    metadata = json.loads(frames[at + 4])
    content = _plain(message.content)
    parts = [message.channel if message.channel != "iopub" else "", message.msg_type, _dump(content)]
    if metadata:
        parts.append(f"metadata {sorted(metadata)}")
    if buffers := len(frames) - at - 6:
        parts.append(f"{buffers} buffers")
    return " ".join(filter(None, parts))


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return {key: _of_key(key, item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _of_key(key: str, value: Any) -> Any:
    if key in _IDS:
        return "ID"
    return _outline(value) if key == "traceback" and isinstance(value, list) else _plain(value)


def _outline(traceback: list[str]) -> list[str]:
    """A traceback without colours and source lines.

    ipykernel gives cells the names of files that don't exist, on which IPython falls back to showing less.
    """
    plain = _ANSI.sub("", text("\n".join(traceback)))
    kept = [line for line in plain.splitlines() if line.strip() and not _SOURCE_LINE.match(line)]
    return [line for line, _ in itertools.groupby(kept)]  # recursion: shown more or less often


def _dump(content: Any) -> str:
    return json.dumps(content, sort_keys=True, ensure_ascii=False)
