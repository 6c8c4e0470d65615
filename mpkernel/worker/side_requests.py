"""Completion, inspection, completeness and history: requests that only look.

An idle worker answers them in its main thread, as user code expects it; while a cell runs, a thread does (`looks`).
"""

from __future__ import annotations

import importlib
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from IPython.core.completer import ProvisionalCompleterWarning, rectify_completions
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.tokenutil import token_at_cursor

from mpkernel.wire import Json, well_formed


def _cursor(content: Json) -> tuple[str, int]:
    code = str(content.get("code", ""))
    cursor = content.get("cursor_pos")
    return code, len(code) if not isinstance(cursor, int) else max(0, min(cursor, len(code)))


def allow_provisional() -> None:
    """Let IPython's completion API be used, which is "provisional" and an error otherwise.

    For good: IPython's own `provisionalcompleter` puts the filters back as they were, for all threads at once, so that
    two completions at a time (in the main thread and beside it) make one of them fail.
    """
    ours = ("ignore", None, ProvisionalCompleterWarning, None, 0)
    if warnings.filters[:1] != [ours]:
        warnings.filterwarnings("ignore", category=ProvisionalCompleterWarning)


# Jedi isn't made for threads: two completions at once, one of them the first, break those that follow.
_completing = threading.RLock()
# One that takes longer (seconds), in another thread, is waited for where an interrupt can end that.
LONG_COMPLETION = 2.0


# So often jedi is looked for: if somebody changes `sys.path` meanwhile, as debugpy does, an entry is passed over.
IMPORTS = 5


def import_jedi(shell: InteractiveShell) -> bool:
    """What the first completion would import and read, so that an interrupt can't leave that half done for good.

    Returns whether jedi can be used.

    Jedi's parser, parso, keeps files that it parsed in a cache on disk. It fails, and a completion finds nothing, when
    another process is just writing such a file or making the folder, when the disk is full, or mounted read-only. It
    can do without: it parses the file itself.
    """
    if not getattr(shell.Completer, "use_jedi", False) or not _completing.acquire(timeout=LONG_COMPLETION):
        return False
    try:
        _import_jedi()
    except Exception:
        logging.getLogger("mpkernel.worker").warning("jedi can't be used", exc_info=True)
        return False
    finally:
        _completing.release()
    return True


def _import_jedi() -> None:
    if sys.modules.get("jedi.api.classes") is None:
        for left in reversed(range(IMPORTS)):
            try:
                importlib.import_module("jedi.api.classes")
            except ImportError:
                if not left:
                    raise
            else:
                break
        cache: Any = importlib.import_module("parso.cache")
        for name in ("_load_from_file_system", "_save_to_file_system", "_remove_cache_and_update_lock"):
            setattr(cache, name, _or_none(getattr(cache, name)))
        sys.modules["jedi"].Interpreter("str.", [{}]).complete(1, 4)


def _or_none(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception:
            return None

    return call


@contextmanager
def _jedi_if(shell: InteractiveShell, usable: bool) -> Iterator[None]:
    """Without jedi, IPython looks for the attributes by itself."""
    wanted = getattr(shell.Completer, "use_jedi", False)
    if wanted and not usable:
        shell.Completer.use_jedi = False
    try:
        yield
    finally:
        if wanted and not usable:
            shell.Completer.use_jedi = wanted


def complete(shell: InteractiveShell, content: Json) -> Json:
    """Content of a complete_reply."""
    code, cursor = _cursor(content)
    usable = import_jedi(shell)
    allow_provisional()
    with _completing, _jedi_if(shell, usable):
        found = list(rectify_completions(code, shell.Completer.completions(code, cursor)))
    start = found[0].start if found else cursor
    end = found[0].end if found else cursor
    types = [{"start": c.start, "end": c.end, "text": c.text, "type": c.type, "signature": c.signature} for c in found]
    with_types = getattr(getattr(shell, "kernel", None), "use_experimental_completions", True)
    return {
        "status": "ok",
        "matches": [c.text for c in found],
        "cursor_start": start,
        "cursor_end": end,
        "metadata": {"_jupyter_types_experimental": types} if with_types else {},
    }


def inspect(shell: InteractiveShell, content: Json) -> Json:
    """Content of an inspect_reply."""
    code, cursor = _cursor(content)
    detail = content.get("detail_level", 0)
    omit = content.get("omit_sections", ())
    reply: Json = {"status": "ok", "found": False, "data": {}, "metadata": {}}
    try:
        name = token_at_cursor(code, cursor)
        bundle = shell.object_inspect_mime(name, detail_level=1 if detail else 0, omit_sections=omit)
    except KeyError:
        return reply
    if not shell.enable_html_pager:
        bundle.pop("text/html", None)
    return {**reply, "found": True, "data": bundle}


def is_complete(shell: InteractiveShell, content: Json) -> Json:
    """Content of an is_complete_reply."""
    status, indent = shell.input_transformer_manager.check_complete(well_formed(str(content.get("code", ""))))
    return {"status": status, **({"indent": " " * (indent or 0)} if status == "incomplete" else {})}


def history(shell: Any, content: Json) -> Json:
    """Content of a history_reply: tail, range or search."""
    shell.open_history()
    manager = shell.history_manager
    raw, output = bool(content.get("raw", True)), bool(content.get("output", False))
    kind = content.get("hist_access_type", "tail")
    if kind == "tail":
        found = manager.get_tail(content.get("n", 10), raw=raw, output=output, include_latest=True)
    elif kind == "range":
        session, start = content.get("session", 0), content.get("start", 1)
        found = manager.get_range(session, start, content.get("stop"), raw=raw, output=output)
        if session > 0:  # IPython calls the current one 0
            found = [(session, *entry[1:]) for entry in found]
    elif kind == "search":
        pattern, unique = well_formed(str(content.get("pattern", "*"))), bool(content.get("unique", False))
        found = manager.search(pattern, raw=raw, output=output, n=content.get("n"), unique=unique)
    else:
        raise ValueError(f"hist_access_type is {kind!r}; it can be 'tail', 'range' or 'search'")
    return {"status": "ok", "history": list(found)}


ANSWERS: dict[str, Callable[[Any, Json], Json]] = {
    "complete_request": complete,
    "inspect_request": inspect,
    "is_complete_request": is_complete,
    "history_request": history,
}
