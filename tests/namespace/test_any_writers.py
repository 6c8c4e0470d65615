"""Several subshells change the same variables at once, in whatever order messages arrive: no change is lost or doubled.

The broker's machine and the workers' halves of the namespace service are the real ones. Between them are lanes on which
messages lie until the test has them delivered. Cells add numbers to containers; those of them that are done are to have
all their numbers in all subshells at the end, each once.
"""

from __future__ import annotations

import random
import re
import sys
import types
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpkernel import messages
from mpkernel.messages import LaneMessage
from mpkernel.namespace import changes, dumping, store, sync, weight
from mpkernel.namespace.pickling import Pickling
from mpkernel.namespace.sync import NamespaceSync
from mpkernel.namespace.views import View
from tests.broker.bench import Asked, FakeWorker, Kernel, code_of, message_of

from .bench import Space, through_lane

COUNT = 3
SIZE = 300  # of arrays: there are fewer cells
STEPS = 34  # a number below that is of a cell, or a step; one above, a disturbance
LIBRARY = "mpt_lib"
sys.path.append(str(Path(__file__).parent / "libraries"))


@dataclass(frozen=True)
class World:
    """What cells do in a test: {} is a number of their own."""

    first: str
    cells: list[str]
    adds: dict[str, str]  # by name, a pattern of the cells that add their number to it
    numbers: Callable[[Any], Iterable[int]] = lambda value: value or ()  # that a value has


def elements(value: Any) -> Iterable[int]:
    """Of an array, or a column of a table. What is beyond SIZE is for the cells that write to views."""
    if value is None:
        return ()
    numbers = [int(number) for number in (value["n"] if hasattr(value, "columns") else value)[:SIZE]]
    return [number for number in numbers if number]


CONTAINERS = World(
    "xs = []; d = dict(); s = set(); box = []",
    [
        "xs.append({})",
        "d[{}] = 1",
        "s.add({})",
        "xs = [*xs, {}]",
        "box.append(xs)",
        "xs.append({})\nd[{}] = 1\nbox.append(d)",
        "xs.append({})\npull()\nxs.append(-{})",
        "xs.append({})\npull('d')\nd[{}] = 1",
        "box = [xs]",
        "box = []",
        "pass",
    ],
    {"xs": r"xs\.append\({}\)|\*xs", "d": r"d\[", "s": r"s\.add"},
)

# One thing or the other is in a place of its own.
PLACES = World(
    "xs = []; ys = []; box = [xs]; d = {'k': ys}",
    [
        "xs.append({})",
        "ys.append({})",
        "box[0] = xs",
        "box[0] = ys",
        "d['k'] = xs",
        "d['k'] = ys",
        "xs.append({})\nbox[0] = d['k']",
        "ys.append({})\nd['k'] = box[0]",
        "box.append(ys)",
        "xs = [*xs, {}]",
        "pass",
    ],
    {"xs": r"xs\.append|\*xs", "ys": r"ys\.append"},
)


def inner(value: Any) -> list[int]:
    """Of the lists in a list."""
    return [number for row in value for number in row]


# Names are bound to one row after another, of which each is in the list.
ROWS = World(
    "rows = [[], [], []]; row = first = rows[0]; found = []",
    [
        "row = rows[1]",
        "row = rows[2]; row.append({})",
        "for row in rows[:2]: pass",
        "for row in rows[1:]: row.append({}) if row is rows[2] else None",
        "row.append({})",
        "first.append({})",
        "rows[0].append({})",
        "rows[1].append({}); first = rows[1]",
        "first = row",
        "found = [row for row in rows if row]",
        "found = [first]; first.append({})",
        "found.append(row)",
        "row = rows[1]\npull()\nrow.append({})",
        "row, first = first, row",
        "pass",
    ],
    {"rows": r"append\({}\)"},
    inner,
)

CLASSES = World(
    "xs = []; K = type('K', (), {'all': xs, '__module__': '__main__'}); k = K(); box = []",
    [
        "xs.append({})",
        "K.all.append({})",
        "k.all.append({})",
        "box.append(K.all)",
        "box.append(K())",
        "box = [k]",
        "k = K()",
        "xs = [*xs, {}]; K.all = xs",
        "K.all.append({})\npull()\nxs.append(-{})",
        "pass",
    ],
    {"xs": r"append\({}\)|\*xs"},
)

# What needs a library, which each process imports when it has to.
OF_A_LIBRARY = World(
    "import mpt_lib; xs = mpt_lib.Numbers(); d = dict(); s = set(); box = []",
    [
        "xs.append({})",
        "d[{}] = 1",
        "s.add({})",
        "xs = mpt_lib.Numbers([*xs, {}])",
        "box.append(xs)",
        "xs.append({})\nd[{}] = 1\nbox.append(d)",
        "d[{}] = 1\ns.add({})\nbox.append(s)",
        "xs.append({})\npull()\nxs.append(-{})",
        "s.add({})\npull('d')\nd[{}] = 1",
        "box = [xs, d]",
        "box = [d, mpt_lib.Numbers()]",
        "box = []",
        "import mpt_lib",
        "pass",
    ],
    {"xs": r"xs\.append\({}\)|\*xs", "d": r"d\[", "s": r"s\.add"},
)

# An array, and others on the same memory.
ARRAYS = World(
    f"import numpy; a = numpy.zeros({4 * SIZE}, int); part = a[5:]; even = a[::2]; box = []",
    [
        "a[{}] = {}",
        "a[{}] = {}; box.append(a)",
        f"part[{SIZE} + {{}}] = 1",
        f"even[{SIZE} + {{}}] = 1",
        f"a[{{}}] = {{}}\npull()\npart[{SIZE} + {{}}] = 1",
        "box.append(part)",
        "box = [even]",
        "box = []",
        "part = a[5:]",
        "even = a[::2]",
        "pass",
    ],
    {"a": r"^a\["},
    elements,
)

TABLES = World(
    f"import numpy, pandas; a = numpy.zeros({SIZE}, int); t = pandas.DataFrame({{'n': a}}); box = []",
    [
        "t.loc[{}, 'n'] = {}",
        "t['c{}'] = {}",
        "t.loc[{}, 'n'] = {}; a[{}] = {}",
        "a[{}] = {}; box.append(a)",
        "t['c{}'] = a",
        "t.loc[{}, 'n'] = {}\npull('t')\na[{}] = {}",
        "box.append(t)",
        "box = [a, t]",
        "box = []",
        "[t.pop(name) for name in list(t) if name != 'n']",
        "pass",
    ],
    {"t": r"t\.loc", "a": r"\ba\[\{\}"},
    elements,
)


def shown(value: Any) -> str:
    """Sets that are equal look the same."""
    if isinstance(value, set):
        return f"set({sorted(value)})"
    if isinstance(value, dict):
        return f"dict({[(key, shown(item)) for key, item in value.items()]})"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}({[shown(item) for item in value]})"
    if hasattr(value, "columns"):
        return repr({name: value[name].tolist() for name in sorted(value)})
    return repr(value.tolist() if hasattr(value, "tolist") else value)


def share_memory(*values: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and all(type(value) is numpy.ndarray for value in values) and numpy.shares_memory(*values)


class Process(Space):
    """A worker, whose threads do nothing but what the test has them do."""

    def __init__(self, fake: FakeWorker) -> None:
        super().__init__()
        self.library: types.ModuleType | None = None  # it has a copy of its own
        self.fake = fake
        self.out: deque[LaneMessage] = deque()
        self.warnings: list[str] = []
        self.main: deque[LaneMessage] = deque()  # what waits for the main thread
        self.service: deque[LaneMessage] = deque()
        self.seen = [0, 0]
        self.cell: Iterator[None] | None = None
        self.waits_for = 0  # a token
        self.broke_off = False  # some cell
        self.answered: set[int] = set()
        self._token = 0
        with self.as_main():
            pickling = Pickling(self.names, fake.id, lambda: f"worker {fake.id}")
            self.sync = NamespaceSync(self.names, pickling, self.out.append, self.warnings.append)
            self.sync.startup_done()

    @contextmanager
    def as_main(self) -> Iterator[None]:
        """Be ``__main__``, and have imported what it has imported."""
        if sys.modules["__main__"] is self._module:
            yield
            return
        with super().as_main():
            if self.library is not None:
                sys.modules[LIBRARY] = self.library
            try:
                yield
            finally:
                self.library = sys.modules.pop(LIBRARY, None)

    def state(self) -> dict[str, Any]:
        """What it has, and what in it is one object."""
        found = {name: value for name, value in sorted(self.names.items()) if name[0] != "_" and name != LIBRARY}
        if "K" in found:
            found["K.all"] = found.pop("K").all
        one = [[a for a in found if found[a] is found[b] or share_memory(found[a], found[b])] for b in found]
        return {name: re.sub(r" at 0x\w+", "", shown(value)) for name, value in found.items()} | {"one": one}

    def steps(self) -> list[Callable[[], None]]:
        """What may happen next here."""
        found: list[Callable[[], None]] = []
        if self.out:
            found.append(self.up)
        for lane, queue in enumerate((self.fake.ordered, self.fake.service)):
            if self.seen[lane] < len(queue):
                found.append(lambda lane=lane, queue=queue: self.down(lane, queue[self.seen[lane]]))
        if self.service:
            found.append(self.serve)
        if self.cell is not None:
            if not self.waits_for or self.waits_for in self.answered:
                found.append(self.go_on)
        elif self.main:
            found.append(self.begin)
        elif not self.sync.settled:
            found.append(self.sweep)
        return found

    def up(self) -> None:
        self.fake.say(through_lane(self.out.popleft()))

    def down(self, lane: int, message: LaneMessage) -> None:
        self.seen[lane] += 1
        message = through_lane(message)
        if isinstance(message, messages.Acquired):
            self.sync.put(message)
            self.answered.add(message.token)
        elif isinstance(message, (messages.News, messages.Merge)):
            self.sync.put(message)
            self.main.append(message)
        elif lane:
            self.service.append(message)
        else:
            self.main.append(message)

    def serve(self) -> None:
        message = self.service.popleft()
        if isinstance(message, messages.Release):
            with self.as_main():
                self.sync.release_names(message.names)
            self.out.append(messages.Released(message.token))

    def begin(self) -> None:
        message = self.main.popleft()
        if isinstance(message, messages.Request):
            self.out.append(messages.Started(message.seq))
            self.cell = self.run(message)
        elif not isinstance(message, messages.Assign):
            with self.as_main():
                self.sync.take()

    def sweep(self) -> None:
        """In a pause: see to what there was no time for."""
        with self.as_main():
            self.sync.sweep(0.005)
            self.sync.sweep_dear()
        if self.sync.settled:
            self.out.append(messages.Settled())

    def go_on(self) -> None:
        assert self.cell is not None
        with self.as_main():
            next(self.cell, None)

    def acquire(self, names: list[str] | None) -> Iterator[None]:
        self._token += 1
        self.out.append(messages.Acquire(self._token, names, sorted(self.sync.loadable)))
        self.waits_for = self._token
        yield
        self.waits_for = 0
        self.sync.take()

    def run(self, request: messages.Request) -> Iterator[None]:
        """As `worker.cells` and `worker.kernel` do."""
        code = code_of(request)
        self.sync.starts(beside=request.beside, alone=request.alone)
        if self.sync.awaits_merge:
            yield from self.acquire([])
        whole = compile(code, "cell", "exec")
        asked: set[str] | None = set()
        for _ in range(5):
            names = self.sync.needs([whole], crowded=request.crowded)
            if asked is None or (names is not None and names <= asked and not self.sync.loadable):
                break
            yield from self.acquire(None if names is None else sorted(names))
            asked = None if names is None else asked | names
        self.warnings += self.sync.not_had(self.sync.needs([whole], crowded=False) or ())
        self.sync.before_cell(whole)
        for line in code.splitlines():
            yield
            if pulled := re.match(r"pull\((.*)\)", line):
                names = [pulled[1].strip("'")] if pulled[1] else None
                self.sync.release_names(names)
                yield from self.acquire(names)
                self.sync.prepare()
                continue
            statement = compile(line, "cell", "exec")
            self.sync.ran(statement)
            try:
                self.execute(statement)
            except NameError:  # its only value was lost with a process, or didn't come in time
                self.broke_off = True
                break
            self.sync.release()
        yield
        self.sync.commit()
        blobs = self.fake.pack_reply(message_of(request), {"status": "ok"})
        self.out.append(messages.Reply(request.seq, False, 1, tuple(blobs), background=not self.sync.settled))
        self.fake.running, self.fake.started = None, False
        self.cell = None


class Lab:
    """A kernel of some subshells."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.kernel = Kernel()
        self.ids = [None, *(self.kernel.create() for _ in range(COUNT - 1))]
        self.processes = [self.process(who) for who in range(COUNT)]
        self.number = 0
        self.waited = self.died = False
        self.cells: dict[int, tuple[Asked, str]] = {}
        self.warnings: list[str] = []
        self.void: set[int] = set()
        self.execute(0, world.first)
        self.drain()

    def process(self, who: int) -> Process:
        fake = self.kernel.ready(self.ids[who])
        process = Process(fake)
        process.seen = [len(fake.ordered), len(fake.service)]
        for news in fake.got(messages.News):
            process.sync.put(news)
        with process.as_main():
            process.sync.take()
        return process

    def execute(self, who: int, cell: str) -> None:
        self.number += 1
        self.cells[self.number] = self.kernel.execute(cell.replace("{}", str(self.number)), self.ids[who]), cell

    def disturb(self, who: int, which: int) -> None:
        """What may happen at any time: it passes, or the service thread tells what has changed."""
        if not which:
            self.kernel.pass_time(0.3)
            return
        process, names = self.processes[who], [*self.world.adds, "box"]
        with process.as_main():
            process.sync.release_names([names[which % len(names)]])

    def play(self, course: list[tuple[int, int, int]], deaths: bool) -> None:
        cells = self.world.cells
        for who, what, which in course:
            if deaths and what == len(cells):
                self.die(who)
            elif what >= STEPS:
                self.disturb(who, which)
            elif what < len(cells) and self.processes[who].fake.running is None:
                self.execute(who, cells[what])
            else:
                self.step(who, which)

    def step(self, who: int, which: int) -> None:
        if steps := self.processes[who].steps():
            steps[which % len(steps)]()

    def die(self, who: int) -> None:
        self.died = True
        self.warnings += self.processes[who].warnings
        self.processes[who].fake.die()
        self.processes[who] = self.process(who)

    def drain(self) -> None:
        """Until there is nothing left to do."""
        for _ in range(3000):
            steps = [step for process in self.processes for step in process.steps()]
            if steps:
                steps[0]()
            elif any(key[0] in ("acquire", "turn") for key in self.kernel.timers):
                self.waited = True
                self.kernel.pass_time(0.5)
            else:
                return
        raise AssertionError("it never ends")

    def check(self) -> None:
        self.drain()
        for asked, cell in self.cells.values():
            assert self.kernel.status(asked) == "ok" or self.died, f"no reply to {cell}"
        for who in range(COUNT):
            self.execute(who, "globals()")
            self.drain()
        self.kernel.check(all_answered=True)
        self.check_void()
        states = [process.state() for process in self.processes]
        self.warnings += [warning for process in self.processes for warning in process.warnings]
        context = f"{states}\n{self.warnings}"
        assert self.died or all(state == states[0] for state in states), context
        assert not self.waited, "somebody was waited for in vain"
        for name, adds in self.world.adds.items():
            if any(re.search(rf"\b{name}\b", warning) for warning in self.warnings):
                continue  # one value was overruled by another, which was said
            found = Counter(self.world.numbers(self.processes[0].names.get(name)))
            expected = Counter(number for number, (_, cell) in self.cells.items() if re.search(adds, cell))
            expected.update(-number for number, (_, cell) in self.cells.items() if name == "xs" and "-{}" in cell)
            if self.died or any(process.broke_off for process in self.processes):
                assert found <= expected, f"{name}: {context}"
            else:
                assert found == expected, f"{name}: {context}"

    def check_void(self) -> None:
        """Broker and workers took the same merges for void, and nothing is left of any."""
        for process in self.processes:
            told = {merge.number for merge in process.fake.got(messages.Merge)}
            assert process.sync._void == told & self.void
            view = self.kernel.machine.sharing.store._view(process.fake.id)
            assert not view.clashing
            assert not view.merges
            heads = self.kernel.machine.sharing.store._heads
            old = [name for name in view.passed_over if name in heads and heads[name].version <= view.seen]
            assert all(view.has.get(name) is heads[name] for name in old)
        sharing = self.kernel.machine.sharing
        assert not sharing._untold
        assert not any(sharing._half_released.values())
        assert not sharing.turns._waiting

    @contextmanager
    def noting_void(self) -> Iterator[None]:
        """Take down which merges the broker takes for void."""
        original = View.void

        def void(view: View, changed: Set[str]) -> Any:
            before = set(view.merges)
            found = original(view, changed)
            self.void |= before - view.merges.keys()
            return found

        with mock.patch.object(View, "void", void):
            yield


def run(course: list[tuple[int, int, int]], world: World, deaths: bool = False) -> None:
    lab = Lab(world)
    with lab.noting_void():
        lab.play(course, deaths)
        lab.check()


courses = st.lists(
    st.tuples(st.integers(0, COUNT - 1), st.integers(0, STEPS + 3), st.integers(0, 5)), min_size=40, max_size=150
)


def travel(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """How values travel: with the news, on demand, only after their owner was asked for them, or when it has time."""
    monkeypatch.setattr(sync, "RELEASE_INTERVAL", 0)
    if how != "sent":
        monkeypatch.setattr(store, "MAX_SENT_UNASKED", 50)
    if how == "held":
        monkeypatch.setattr(weight, "HEAVY", 100)
    if how == "late":
        for limit in ("ALONE", "NOT_ALONE", "SHARE"):
            monkeypatch.setattr(sync, limit, 0.0)
        monkeypatch.setattr(changes, "MIN_TRIED", 0.0)
        monkeypatch.setattr(changes, "DEAR", 0.0)
        monkeypatch.setattr(dumping, "CHECK_EVERY", 1)


@pytest.fixture(params=["sent", "offered", "held", "late"])
def dear(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    travel(request.param, monkeypatch)


@pytest.mark.parametrize(
    ("how", "seed", "deaths"),
    [("sent", 20409, False), ("held", 20189, False), ("held", 30513, False), ("offered", 30963, True)],
)
def test_courses_that_failed_once(how: str, seed: int, deaths: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by playing tens of thousands of them."""
    travel(how, monkeypatch)
    rng = random.Random(seed)
    course = [(rng.randrange(COUNT), rng.randrange(STEPS), rng.randrange(3)) for _ in range(rng.randint(20, 120))]
    run(course, CONTAINERS, deaths)


# `box`, of which another subshell has a large value, is grouped with arrays: so these don't count as bound.
BOUND_BY_NOBODY = (
    "1.6 1.0 1.25 2.1 2.22 0.0 0.33 0.0 0.13 0.27 2.30 1.0 1.0 1.0 0.14 1.17 2.16 2.0 2.22.3 1.16 2.0 2.0 0.0 0.0 1.0 "
    "0.35 2.24 1.14 2.0 2.23 2.0 0.0 0.19.2 2.0 2.24 0.17 0.23.5 2.27 0.25.3 2.33 2.14 2.0 0.30.1 2.32 2.20 1.0 2.0 "
    "0.17 1.23 0.30 1.0 0.11 1.18 0.28 1.17 2.33 2.9.4 2.26.1 2.12.5 2.27.2 2.30.3 1.35.1 "
)


@pytest.mark.parametrize(("how", "world", "steps"), [("held", ARRAYS, BOUND_BY_NOBODY)])
def test_steps_that_failed_once(how: str, world: World, steps: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is as in `courses`: who, what, and which if it isn't the first."""
    pytest.importorskip("numpy")
    travel(how, monkeypatch)
    course = [tuple(map(int, f"{step}.0".split(".")[:3])) for step in steps.split()]
    run([(who, what, which) for who, what, which in course], world)


@pytest.mark.usefixtures("dear")
@pytest.mark.parametrize("deaths", [False, True], ids=["all live", "some die"])
@pytest.mark.parametrize("world", [CONTAINERS, CLASSES, OF_A_LIBRARY], ids=["containers", "classes", "library"])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(course=courses)
def test_nothing_is_lost_or_doubled(
    request: pytest.FixtureRequest, world: World, deaths: bool, course: list[tuple[int, int, int]]
) -> None:
    if world is CLASSES and "late" in request.node.callspec.id:
        pytest.skip("that a class has the list of a variable is told too late")
    run(course, world, deaths)


@pytest.mark.usefixtures("dear")
@pytest.mark.parametrize("deaths", [False, True], ids=["all live", "some die"])
@pytest.mark.parametrize(("world", "library"), [(ARRAYS, "numpy"), (TABLES, "pandas")], ids=["arrays", "tables"])
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(course=courses)
def test_nothing_is_lost_of_arrays(
    world: World, library: str, deaths: bool, course: list[tuple[int, int, int]]
) -> None:
    pytest.importorskip(library)
    run(course, world, deaths)


@pytest.mark.parametrize("how", ["sent", "offered"])  # of what is held nobody tells what it has in common with others
@pytest.mark.parametrize("deaths", [False, True], ids=["all live", "some die"])
@pytest.mark.parametrize("world", [PLACES, ROWS], ids=["places", "rows"])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(course=courses)
def test_nothing_is_lost_where_one_thing_takes_the_place_of_another(
    how: str, world: World, deaths: bool, monkeypatch: pytest.MonkeyPatch, course: list[tuple[int, int, int]]
) -> None:
    travel(how, monkeypatch)
    run(course, world, deaths)
