"""A randomized test of shared variables: cells in several subshells change containers, a model knows the answer.

Each round, some subshells have a cell open at the same time. The cells change different parts (keys, elements of a set,
bytes, attributes, names, or append items), so that in whatever order they end nothing may be lost. Now and then two
of them set the same key: the one that ends later counts, and says so.
Then one subshell after the other must agree with the model in every value.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

from .driver import KERNEL
from .stories import Open, Stories

LENGTH = 64  # elements of the array
KEYS = 24  # keys, members and attributes that may be there
SET_UP = f"""
class Thing: pass
numbers, table, group, thing = list(range(4)), {{}}, set(), Thing()
inner = table["inner"] = {{}}
cells = bytearray({LENGTH})
fought = {{}}
def put_into(d, k, v): d[k] = v
"""


@dataclass(slots=True)
class Model:
    """What the variables must be."""

    numbers: list[int] = field(default_factory=lambda: list(range(4)))
    table: dict[int, int] = field(default_factory=dict)
    inner: dict[int, int] = field(default_factory=dict)
    group: set[int] = field(default_factory=set)
    attributes: dict[str, int] = field(default_factory=dict)
    cells: bytearray = field(default_factory=lambda: bytearray(LENGTH))
    plain: dict[str, int] = field(default_factory=dict)
    fought: dict[int, str] = field(default_factory=dict)

    def check(self) -> str:
        """An expression that lists what is different."""
        expected = {
            "sorted(numbers)": sorted(self.numbers),
            "{k: v for k, v in table.items() if k != 'inner'}": self.table,
            "inner": self.inner,
            "group": self.group,
            "vars(thing)": self.attributes,
            "bytes(cells)": bytes(self.cells),
            "{n: v for n, v in globals().items() if n.startswith('plain')}": self.plain,
            "fought": self.fought,
            "table['inner'] is inner": True,
        }
        rows = [f"({text!r}, {text}, {value!r})" for text, value in expected.items()]
        return f"[row for row in [{', '.join(rows)}] if row[1] != row[2]]"


class Round:
    """The changes of one round: no two cells change the same thing."""

    def __init__(self, dice: random.Random, model: Model) -> None:
        self._dice = dice
        self._model = model
        self._taken: set[tuple[str, int]] = set()

    def _free(self, kind: str, size: int = KEYS) -> int | None:
        """A part of `kind` that no other cell of this round changes."""
        part = self._dice.randrange(size)
        if (kind, part) in self._taken:
            return None
        self._taken.add((kind, part))
        return part

    def change(self) -> str:
        """Code for one change, made in the model as well."""
        kinds = (self._append, self._key, self._inner, self._member, self._attribute, self._cell, self._name)
        return self._dice.choice(kinds)() or "pass"

    def _append(self) -> str:
        value = self._dice.randrange(10**9)
        self._model.numbers.append(value)
        return f"numbers.append({value})"

    def _key(self) -> str:
        key = self._free("key")
        if key is None:
            return ""
        if key in self._model.table and self._dice.random() < 0.3:
            del self._model.table[key]
            return f"del table[{key}]"
        self._model.table[key] = value = self._dice.randrange(1000)
        return self._dice.choice([f"table[{key}] = {value}", f"put_into(table, {key}, {value})"])

    def _inner(self) -> str:
        key = self._free("inner")
        if key is None:
            return ""
        self._model.inner[key] = value = self._dice.randrange(1000)
        return self._dice.choice([f"inner[{key}] = {value}", f"table['inner'].update({{{key}: {value}}})"])

    def _member(self) -> str:
        member = self._free("member")
        if member is None:
            return ""
        there = member in self._model.group
        (self._model.group.discard if there else self._model.group.add)(member)
        return f"group.{'discard' if there else 'add'}({member})"

    def _attribute(self) -> str:
        number = self._free("attribute")
        if number is None:
            return ""
        self._model.attributes[f"a{number}"] = value = self._dice.randrange(1000)
        return f"thing.a{number} = {value}"

    def _cell(self) -> str:
        index = self._free("cell", LENGTH)
        if index is None:
            return ""
        self._model.cells[index] = value = self._dice.randrange(256)
        return f"cells[{index}] = {value}"

    def _name(self) -> str:
        number = self._free("name")
        if number is None:
            return ""
        name = f"plain{number}"
        if name in self._model.plain and self._dice.random() < 0.3:
            del self._model.plain[name]
            return f"del {name}"
        self._model.plain[name] = value = self._dice.randrange(1000)
        return f"{name} = {value}"


def play_at_random(story: Stories, seed: int, *, seconds: float, rounds: int, letters: str = "MABC") -> int:
    """Play up to `rounds` rounds for up to `seconds`, and return how many. Raises AssertionError at the first error."""
    dice = random.Random(seed)
    model = Model()
    log: list[str] = []
    story.run(letters[0], SET_UP)
    deadline = time.monotonic() + seconds
    for number in range(rounds):
        if time.monotonic() > deadline:
            return number
        _play_round(story, dice, model, letters, log)
        for letter in dice.sample(letters, 2):
            wrong = story.run(letter, model.check()).text
            if wrong != "[]":
                told = "\n".join(log[-30:])
                raise AssertionError(f"seed {seed}, round {number}: in {letter} {wrong}\nthe last cells:\n{told}")
    return rounds


def _play_round(story: Stories, dice: random.Random, model: Model, letters: str, log: list[str]) -> None:
    """Cells in one to all subshells, open at the same time, that end in any order."""
    changes = Round(dice, model)
    chosen = dice.sample(letters, dice.randint(1, len(letters)))
    fighters = chosen[:2] if len(chosen) > 1 and dice.random() < 0.2 else []
    key, number = dice.randrange(KEYS), len(log)  # a value that wasn't there before: to set the same is no change
    opened: list[tuple[str, Open]] = []
    for letter in chosen:
        before, after = ("\n".join(changes.change() for _ in range(dice.randint(0, 2))) or "pass" for _ in range(2))
        if letter in fighters:
            after += f"\nfought[{key}] = {f'{letter}{number}'!r}"
        log.append(f"{letter}: {before!r}, then {after!r}")
        opened.append((letter, story.open_cell(letter, before, after)))
    dice.shuffle(opened)
    fought = False
    for letter, cell in opened:
        warning_due = letter in fighters and fought and KERNEL == "mpkernel"
        if letter in fighters:
            fought = True
            model.fought[key] = f"{letter}{number}"
        result = cell.finish()
        log.append(f"{letter} ends: {result.status} {result.stderr}")
        # On a busy machine one that should answer may not get a core in time. Nothing is lost by that.
        warnings = [line for line in result.stderr.splitlines() if "does not answer" not in line]
        if result.status != "ok" or bool(warnings) != warning_due:
            raise AssertionError(f"{result.traceback}, warning expected: {warning_due}\n" + "\n".join(log[-30:]))
