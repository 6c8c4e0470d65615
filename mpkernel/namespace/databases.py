"""Rows of `sqlite3`, which are copied.

SQLAlchemy: each process has engines of its own, with connections of its own, to the same database.

Classes that it maps stay where they are: what it does to them can't be done again, and a copy that comes back would
undo it.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
from typing import Any

from mpkernel.namespace.dumping import Dumper, Reduced

MAPPED = "SQLAlchemy has mapped it, or its class, in that process"


def reduce_engine(dumper: Dumper, engine: Any) -> Reduced:
    """By what `create_engine` was given. A database in memory is that of one process."""
    if engine.dialect.name == "sqlite" and engine.url.database in (None, "", ":memory:"):
        return dumper.stub(engine, "its database is in the memory of that process")
    arguments = inspect.getclosurevars(engine.pool._creator).nonlocals.get("cparams")
    if arguments is None:
        return dumper.stub(engine, "it makes connections in a way of its own")
    return connected, (engine.url, dict(arguments), type(engine.pool), engine.echo)


def reduce_row(_: Dumper, row: Any) -> Reduced:
    """A row that `sqlite3` has found, with the names of its columns."""
    return found_row, (row.keys(), tuple(row))


def found_row(names: list[str], values: tuple[Any, ...]) -> Any:
    """Only a cursor makes one."""
    sqlite3 = importlib.import_module("sqlite3")
    columns = ", ".join('? as "{}"'.format(name.replace('"', '""')) for name in names)
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        return sqlite3.Row(database.execute(f"select {columns}", values), values)


def is_mapped(cls: type) -> bool:
    """Whether a class of the notebook has a mapper, or collects them."""
    own = [base for base in cls.__mro__ if base.__module__ == "__main__"]
    return any(name in vars(base) for base in own for name in ("__mapper__", "_sa_registry"))


def connected(url: Any, arguments: dict[str, Any], pool: type, echo: Any) -> Any:
    """An engine; raises ImportError, and whatever `create_engine` raises."""
    create = importlib.import_module("sqlalchemy").create_engine
    return create(url, connect_args=arguments, poolclass=pool, echo=echo)
