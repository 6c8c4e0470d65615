"""Handlers of loggers: a description by which another process makes the same, and what they write to.

What a handler writes to may be a variable of the notebook, or the handler itself is one. Elsewhere it is looked up by
its name when something is logged, so that it is the very object that cells there see.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

Description = tuple[Any, ...]  # the target, the level, the formatter


class _Variable:
    """What a variable of the notebook is, as a stream."""

    def __init__(self, name: str) -> None:
        self.name = name

    def _stream(self) -> Any:
        return getattr(sys.modules["__main__"], self.name, None)

    def write(self, text: str) -> None:
        if hasattr(stream := self._stream(), "write"):
            stream.write(text)

    def flush(self) -> None:
        if hasattr(stream := self._stream(), "flush"):
            stream.flush()


class _Named(logging.Handler):
    """The handler that a variable of the notebook is."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.variable = name

    def _real(self) -> Any:
        return getattr(sys.modules["__main__"], self.variable, None)

    def __eq__(self, other: object) -> bool:
        """`removeHandler` looks for it by what the variable is."""
        return other is self or (isinstance(other, logging.Handler) and other is self._real())

    __hash__ = logging.Handler.__hash__

    def emit(self, record: logging.LogRecord) -> None:
        handler = self._real()
        if isinstance(handler, logging.Handler) and record.levelno >= handler.level:
            handler.handle(record)


def described(handlers: list[logging.Handler]) -> Iterator[Description]:
    """How to make those that can be made elsewhere."""
    for handler in handlers:
        target = _target(handler)
        if target is None:
            continue
        if isinstance(target, logging.Handler) or target[0] == "handler":
            yield target, 0, None  # it has these by itself
        elif handler.formatter is None:
            yield target, handler.level, None
        elif type(handler.formatter) is logging.Formatter:
            yield target, handler.level, _format(handler.formatter)


def _target(handler: logging.Handler) -> Any:
    """What it writes to: a standard stream, a file, a variable, itself; None: it stays here."""
    if isinstance(handler, logging.FileHandler) and type(handler).__module__.partition(".")[0] == "logging":
        _append(handler)
        return "file", handler.baseFilename, handler.encoding
    if type(handler) is _Named:
        return "handler", handler.variable
    if type(handler) is logging.StreamHandler:
        for standard in ("stdout", "stderr"):
            if handler.stream is getattr(sys, standard):
                return "standard", standard
        if type(handler.stream) is _Variable:
            return "stream", handler.stream.name
    if (name := _name_of(handler)) is not None:
        return "handler", name
    if type(handler) is logging.StreamHandler and (name := _name_of(handler.stream)) is not None:
        return "stream", name
    return handler if type(handler).__module__ == "__main__" else None


def _append(handler: logging.FileHandler) -> None:
    """Others write to the end of the file: what was opened with mode "w" would write over that."""
    if handler.stream is not None:
        fd = handler.stream.fileno()
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        if not flags & os.O_APPEND:
            fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_APPEND)


def _file(path: str, encoding: str | None) -> logging.Handler:
    """Of a file that its owner may rotate."""
    from logging.handlers import WatchedFileHandler

    return WatchedFileHandler(path, encoding=encoding)


def _name_of(value: Any) -> str | None:
    """The variable that has this value."""
    names = list(vars(sys.modules["__main__"]).items())
    return next((name for name, other in names if other is value and not name.startswith("_")), None)


def _format(formatter: logging.Formatter) -> tuple[Any, ...]:
    styles: dict[str, tuple[Any, str]] = logging._STYLES
    style = next((key for key, (kind, _) in styles.items() if type(formatter._style) is kind), "%")
    return formatter._fmt, formatter.datefmt, style


def made(target: Any, level: int, formatter: tuple[Any, ...] | None) -> logging.Handler:
    """The handler of a description."""
    if isinstance(target, logging.Handler):
        return target
    handler: logging.Handler = _MAKERS[target[0]](*target[1:])
    handler.setLevel(level)
    if formatter is not None:
        handler.setFormatter(logging.Formatter(*formatter))
    return handler


_MAKERS: dict[str, Any] = {
    "standard": lambda name: logging.StreamHandler(getattr(sys, name)),
    "file": _file,
    "handler": _Named,
    "stream": lambda name: logging.StreamHandler(_Variable(name)),
}


def loggers() -> Iterator[tuple[str, logging.Logger]]:
    """All that are in use, by name; the root has none."""
    for name, logger in [("", logging.root), *logging.root.manager.loggerDict.items()]:
        if isinstance(logger, logging.Logger) and not _is_as_made(logger):
            yield name, logger


def _is_as_made(logger: logging.Logger) -> bool:
    """As nearly all are, of which there may be thousands."""
    return logger.level == 0 and not logger.handlers and logger.propagate and not logger.disabled


def used(value: Any) -> tuple[list[str], list[logging.Handler]]:
    """The variables and the handlers that are used by who logs by `value`, a logger or the module."""
    if value is not logging and not issubclass(type(value), (logging.Logger, logging.LoggerAdapter)):
        return [], []
    handlers = [handler for _, logger in loggers() for handler in logger.handlers]
    targets = [_target(handler) for handler in handlers]
    return [target[1] for target in targets if type(target) is tuple and target[0] in ("handler", "stream")], handlers
