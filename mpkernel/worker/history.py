"""What was entered is kept in IPython's database, which all subshells write to, and other kernels.

Who writes locks it for all others, and may then wait for the GIL as long as a cell of its process likes. So ours is
locked only while one statement is carried out, for which no GIL is needed; and no cell waits for a lock of others.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from IPython.core import history
from traitlets import default

from mpkernel.wire import well_formed

# Seconds for which a thread waits until the others have written. Then what it has waits for the next time.
PATIENCE = 1.0
MOST_LINES = 500  # in a statement: its parameters are limited


class Busy(Exception):
    """Others have locked the database."""


class HistoryManager(history.HistoryManager):
    """IPython's, for more than one process. `%config` calls it by its name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._writing = threading.Lock()
        super().__init__(*args, **kwargs)

    @default("log")
    def _default_log(self) -> logging.Logger:
        """The kernel's: what is wrong with the database is not for the cell that happens to run."""
        return logging.getLogger("mpkernel.worker")

    @default("connection_options")
    def _default_connection_options(self) -> dict[str, Any]:
        """Each statement is a transaction of its own."""
        return {"check_same_thread": False, "timeout": PATIENCE, "isolation_level": None}

    @property
    def _corrupt_db_limit(self) -> int:  # type: ignore[override]
        """How often IPython moves the file away, and begins a new one, when something is wrong with it.

        Not when the disk is full, say: the others have the file open, and would fail in turn. Raises Busy, as IPython
        would do without the file from now on.
        """
        import sqlite3

        error = sys.exc_info()[1]
        if _is_busy(error):
            raise Busy(str(error)) from error
        return 0 if isinstance(error, sqlite3.OperationalError) else 2

    @default("db_cache_size")
    def _default_db_cache_size(self) -> int:
        """As good as never: `save` is called a moment after each cell has begun, and writes what has come by then.

        Else the thread that writes holds up the next cell, for as long as the disk takes.
        """
        return sys.maxsize

    def new_session(self, conn: Any = None) -> None:
        """Raises Busy. IPython would do without the database from now on."""
        with _busy_told():
            super().new_session(conn)

    def store_inputs(self, line_num: int, source: str, source_raw: str | None = None) -> None:
        """Without lone surrogates, as the database takes none: every later request for the history would fail."""
        super().store_inputs(line_num, well_formed(source), None if source_raw is None else well_formed(source_raw))

    def save(self) -> None:
        """In any thread: have the other one write what isn't written yet."""
        if self.save_flag is not None and (self.db_input_cache or self.db_output_cache):
            if hasattr(self, "_restart_thread_if_stopped"):  # IPython >= 9
                self._restart_thread_if_stopped()
            self.save_flag.set()

    def writeout_cache(self, conn: Any = None) -> None:
        """Write what was entered, or, if others have locked the database, some time later."""
        if not self.enabled or not self._writing.acquire(timeout=2 * PATIENCE):
            return
        try:
            self._write("history", "db_input_cache", conn or self.db)
            self._write("output_history", "db_output_cache", conn or self.db)
        except Busy:
            if self.save_flag is not None:
                self.save_flag.set()
        finally:
            self._writing.release()

    def _write(self, table: str, cache: str, conn: Any) -> None:
        """Raises Busy; then the lines are in the cache again."""
        lock = getattr(self, f"{cache}_lock")
        with lock:
            lines = getattr(self, cache)[:MOST_LINES]
            setattr(self, cache, getattr(self, cache)[len(lines) :])
        if not lines:
            return
        try:
            self._insert(table, lines, conn)
        except Busy:
            with lock:
                setattr(self, cache, lines + getattr(self, cache))
            raise
        self._write(table, cache, conn)

    def _insert(self, table: str, lines: list[tuple[Any, ...]], conn: Any) -> None:
        import sqlite3

        values = ",".join([f"({','.join('?' * (1 + len(lines[0])))})"] * len(lines))
        for has_failed in (False, True):
            try:
                rows = [(self.session_number, *line) for line in lines]
                with _busy_told():
                    conn.execute(f"INSERT INTO {table} VALUES {values}", [value for row in rows for value in row])
                return
            except sqlite3.IntegrityError:  # somebody else writes to our session
                if not has_failed:
                    self.new_session(conn)


@contextmanager
def _busy_told() -> Iterator[None]:
    import sqlite3

    try:
        yield
    except sqlite3.OperationalError as error:
        if _is_busy(error):
            raise Busy(str(error)) from error
        raise


def _is_busy(error: Any) -> bool:
    import sqlite3

    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
