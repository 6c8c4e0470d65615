"""Two cells at once, each of one statement: they give what one after the other could, or somebody is told."""

from __future__ import annotations

from typing import Any

import pytest

from mpkernel.namespace.store import NamespaceStore

from .bench import Notebook

FIRST = "rows = [{'n': n} for n in range(4)]; row = rows[0]; xs = [1, 2]; ys = xs; d = {'k': [0]}; box = [xs]"
NAMES = ("box", "d", "row", "rows", "xs", "ys")
# {} is a number of the cell's own.
STATEMENTS = [
    "row = rows[0]",
    "row = rows[1]",
    "row = rows[-1]",
    "row = rows[1]; row['r'] = {}",
    "row['a'] = {}",
    "row = dict(row, z={})",
    "rows[0]['b'] = {}",
    "rows[1]['c'] = {}",
    "rows[2]['e'] = {}",
    "rows.append(dict(n={}))",
    "rows.insert(0, dict(n={}))",
    "rows.reverse()",
    "rows = rows[::-1]",
    "rows = [r for r in rows if r['n'] != 1]",
    "rows[:] = [r for r in rows if r['n'] != 1]",
    "for row in rows[:2]: row['l'] = {}",
    "for row in rows[2:]: row['m'] = {}",
    "for row in rows: row['o'] = {}",
    "d['k'] = [{}]",
    "d['j'] = {}",
    "d['k'].append({})",
    "d['xs'] = xs",
    "d['row'] = row",
    "d = {{'new': {}}}",
    "d = {{**d, 'more': {}}}",
    "xs = [{}]",
    "xs = xs + [{}]",
    "xs = [*xs, {}]; box[0] = xs",
    "xs.append({})",
    "ys.append({})",
    "ys = xs",
    "ys = box[0]",
    "box.append({})",
    "box[0] = [{}]",
    "box[0].append({})",
    "del d['k']",
    "del row",
]
# Both do what either would have done: the order is turned.
ONCE = ("rows.reverse()", "rows = rows[::-1]")
# What one takes away while the other changes it stays.
KEPT = [
    {"del d['k']", "d['k'].append({})"},
    {"d = {{'new': {}}}", "d['k'].append({})"},
    {"del row", "row['a'] = {}"},
    {"del row", "row = dict(row, z={})"},
]


def seen(names: dict[str, Any]) -> str:
    """The names with their values, and what is one object. Lists of numbers are sorted: who appends first is open."""
    met: dict[int, int] = {}

    def shown(value: Any) -> str:
        if not isinstance(value, (list, dict)):
            return repr(value)
        if id(value) in met:
            return f"#{met[id(value)]}"
        number = met[id(value)] = len(met)
        if isinstance(value, dict):
            return f"{number}:{{{', '.join(f'{key}: {shown(value[key])}' for key in sorted(value))}}}"
        items = [shown(item) for item in value]
        return f"{number}:[{', '.join(sorted(items) if all(type(item) is int for item in value) else items)}]"

    return "\n".join(f"{name} = {shown(names[name])}" for name in NAMES if name in names)


def in_turn(*cells: str) -> str | None:
    """What the cells give in this order; None if one fails."""
    names: dict[str, Any] = {}
    try:
        exec(FIRST, names)
        for cell in cells:
            exec(cell, names)
    except (LookupError, NameError):
        return None
    return seen(names)


def at_once(one: str, other: str) -> tuple[str, str, list[str]]:
    """What two subshells have after these two cells, and what was said."""
    store = NamespaceStore()
    a, b = Notebook(store, 1), Notebook(store, 2)
    a.run(FIRST)
    b.run("pass")
    a.start(one)
    b.start(other)
    a.commit()
    b.commit()
    a.run("pass")
    b.run("pass")
    return seen(a.names), seen(b.names), a.warnings + b.warnings


@pytest.mark.parametrize("first", STATEMENTS)
def test_two_cells_at_once_give_what_they_could_give_in_turn(first: str) -> None:
    wrong = []
    for second in STATEMENTS:
        if {first, second} in KEPT or (first in ONCE and second in ONCE):
            continue
        one, other = first.format(100), second.format(200)
        wanted = {in_turn(one, other), in_turn(other, one)} - {None}
        here, there, told = at_once(one, other)
        assert here == there, f"{one} || {other}"
        if wanted and here not in wanted and not told:
            wrong.append(f"{one} || {other}\n{here}\n  instead of\n{wanted.pop()}")
    assert not wrong, "\n\n".join(wrong)
