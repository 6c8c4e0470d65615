"""Thousands of interrupts at random moments around short cells.

No process may be lost, every request is answered, a cell that nobody interrupted never sees KeyboardInterrupt, and an
interrupt that was sent to a cell that would go on for long ends it.

``mpkernel_request interrupt`` answers with the first line of the cell that it meant, so the test knows whom each
interrupt was for. Of `interrupt_request` it knows only which cells were open meanwhile.
"""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field

from scripts.harness.client import Pending
from scripts.harness.kernel import Kernel, Spec
from scripts.soak.report import Part

TWICE = 0.02  # how often a cell that was interrupted already is interrupted again, at each look
PATIENCE = 15.0  # seconds after an interrupt in which a cell that would go on must end
SHORT = (
    "pass",
    "1 + 1",
    "x_ = sum(range(20_000))",
    "print('a'); print('b')",
    "import time; time.sleep(0.002)",
    "import asyncio; await asyncio.sleep(0.002)",
    "for i_ in range(20_000): pass",
    "def f_(): return [i for i in range(1000)]\nf_()",
    "raise ValueError",
    "display(1)",
    "%time 1 + 1",
    "y_ = {i: [i] for i in range(500)}",
)
LONG = (
    "import time; time.sleep(60)",
    "while True: pass",
    "import asyncio; await asyncio.sleep(60)",
    "import subprocess; subprocess.run(['sleep', '60'])",
    "import threading; threading.Event().wait(60)",
    "import asyncio\nwhile True: await asyncio.sleep(0.001)",
)


@dataclass(eq=False)
class Cell:
    token: str
    code: str
    pending: Pending
    long: bool
    blamed: bool = False  # an interrupt was, or may have been, for this cell
    first_blamed: float | None = None
    hits: int = 0  # how many interrupts were, or may have been, for it
    told: list[str] = field(default_factory=list)


class Stress:
    def __init__(self, spec: Spec, count: int, seed: int, deadline: float) -> None:
        self._spec = spec
        self._count = count
        self._deadline = deadline
        self._rng = random.Random(seed)
        self.part = Part(f"{count:,} interrupts at random moments (seed {seed})")
        self._n = 0
        self._cells: dict[str, Cell] = {}
        self._open: dict[str | None, list[Cell]] = {}
        self._outcomes: Counter[str] = Counter()
        self._missed = 0
        self._interrupts: list[tuple[Pending, str | None, bool, list[Cell]]] = []
        self._effects: Counter[str] = Counter()
        self._long_ends: list[float] = []
        self._hit: set[str | None] = set()  # subshells that had an interrupt since their last cell ended

    def run(self) -> Part:
        start = time.monotonic()
        with Kernel(self._spec) as kernel:
            kernel.start()
            kernel.warm_up()
            self._front = front = kernel.front
            front.keep_strays = False
            targets: list[str | None] = [None, front.create_subshell(), front.create_subshell()]
            bystander = front.create_subshell()
            everyone = [*targets, bystander]
            for subshell in everyone:
                self._open[subshell] = []
                front.run("import time, asyncio, subprocess, threading", subshell)
            pids = self._pids()
            sent = 0
            while sent < self._count and time.monotonic() - start < self._deadline:
                for subshell in everyone:
                    while len(self._open[subshell]) < 3:
                        self._submit(subshell, may_be_long=subshell != bystander)
                end = time.perf_counter() + self._rng.choice((0, 0, self._rng.uniform(0, 0.01)))
                while (left := end - time.perf_counter()) > 0:
                    front.pump(left)
                front.pump(0)
                self._take()
                target = self._rng.choice(targets)
                if target in self._hit and self._rng.random() > TWICE:
                    front.pump(0.002)
                    continue  # it had one since its last cell ended
                self._hit.add(target)
                self._interrupt(target)
                sent += 1
                while len(self._interrupts) > 6:
                    front.pump(0.05)
                    self._take()
                if sent % 500 == 0 and (now := self._pids()) != pids:
                    self.part.violate(f"after {sent} interrupts the processes are {now}, not {pids}")
                    pids = now
            self._drain(targets)
            if (now := self._pids()) != pids:
                self.part.violate(f"at the end the processes are {now}, not {pids}")
            for subshell in everyone:
                front.run("1 + 1", subshell)
            log = kernel.log.read_text(errors="replace")
            self.part.figures["tracebacks in the kernel's log"] = log.count("Traceback (most recent call last)")
            self.log = log
        self._summarise(sent, time.monotonic() - start)
        return self.part

    def _pids(self) -> dict[str, int]:
        rows = self._front.ask("mpkernel_request", {"op": "ps"}, channel="control").reply["subshells"]
        return {row["subshell"]: row["pid"] for row in rows}

    def _submit(self, subshell: str | None, *, may_be_long: bool) -> None:
        self._n += 1
        token = f"#cell{self._n}"
        long = may_be_long and self._rng.random() < 0.1
        code = self._rng.choice(LONG if long else SHORT)
        cell_magic = code.startswith("%")
        text = f"{token}\n{code}" if not cell_magic else f"{code} {token}"
        pending = self._front.execute(text, subshell, stop_on_error=False)
        cell = Cell(token if not cell_magic else text, code, pending, long)
        self._cells[cell.token] = cell
        self._open[subshell].append(cell)

    def _interrupt(self, subshell: str | None) -> None:
        """By the operation, which says whom it meant, or by the protocol's message."""
        label, front = subshell or "main", self._front
        if self._rng.random() < 0.6:
            pending = front.send("mpkernel_request", {"op": "interrupt", "subshell": label}, channel="control")
            self._interrupts.append((pending, subshell, True, []))
        else:
            pending = front.send("interrupt_request", {"subshell_id": label}, channel="control")
            self._interrupts.append((pending, subshell, False, []))

    def _take(self) -> None:
        """Judge the cells that are done, and note whom the interrupts were for."""
        for entry in list(self._interrupts):
            pending, subshell, exact, _ = entry
            if pending.replied_at is None:
                continue
            self._interrupts.remove(entry)
            if not exact:
                for cell in self._open[subshell]:  # any of these may be meant
                    self._blame(cell)
            elif pending.reply.get("interrupted"):
                cell_or_none = self._cells.get(str(pending.reply["cell"]))
                if cell_or_none is None:
                    self.part.violate(f"the interrupt was for a cell that nobody sent: {pending.reply}")
                else:
                    self._blame(cell_or_none)
                    cell_or_none.told.append("meant")
            else:
                self._effects["nothing ran"] += 1
        if self._interrupts:
            return  # a cell that is done may turn out to be meant
        for subshell, cells in self._open.items():
            for cell in [cell for cell in cells if cell.pending.done]:
                cells.remove(cell)
                self._hit.discard(subshell)
                self._judge(cell)
            for cell in cells:
                if cell.first_blamed is not None and cell.long and "meant" in cell.told:
                    age = time.perf_counter() - cell.first_blamed
                    if age > PATIENCE:
                        self.part.violate(f"an interrupt of {cell.code!r} had no effect within {age:.0f} s")
                        cell.first_blamed = time.perf_counter()

    def _blame(self, cell: Cell) -> None:
        cell.blamed = True
        cell.hits += 1
        cell.first_blamed = cell.first_blamed or time.perf_counter()

    def _judge(self, cell: Cell) -> None:
        pending = cell.pending
        self._front.forget(pending)
        del self._cells[cell.token]
        name = pending.reply.get("ename", pending.status)
        self._outcomes[f"{'long' if cell.long else 'short'}: {name}"] += 1
        expected = "ValueError" if "ValueError" in cell.code else "ok"
        if name == "KeyboardInterrupt":
            if not cell.blamed:
                self.part.violate(f"a cell that nobody interrupted got KeyboardInterrupt: {cell.code!r}")
            if "meant" in cell.told:
                self._effects["hit the cell that was meant"] += 1
            if cell.long and cell.first_blamed is not None:
                self._long_ends.append(pending.seconds)
        elif name != expected:
            mark = " (interrupted)" if cell.blamed else ""
            self.part.violate(
                f"{cell.code!r}{mark} ended with {name}: {str(pending.reply)[:200]}", self._all_of(pending)
            )
        elif cell.long:
            self.part.violate(f"{cell.code!r} ended by itself")
        elif "meant" in cell.told:
            self._effects["came too late for the cell that was meant"] += 1
        if len(pending.replies) != 1:
            self.part.violate(f"{len(pending.replies)} replies to {cell.code!r}")
        idles = [m for m in pending.shown("status") if m.content["execution_state"] == "idle"]
        if len(idles) != 1:
            self.part.violate(f"{len(idles)} idles for {cell.code!r}")
        if name == "KeyboardInterrupt" and (shown := len(pending.shown("error"))) != 1:
            if shown == 0 and "KeyboardInterrupt" in pending.text("stderr"):
                self._outcomes["shown as text, as a second interrupt hit the display of the first"] += 1
            elif shown <= cell.hits:
                self._outcomes["shown twice, for two interrupts"] += 1
            else:
                text = f"KeyboardInterrupt in {cell.code!r} was shown {shown} times"
                self.part.violate(text, self._all_of(pending))
        if name == "KeyboardInterrupt" and "mpkernel" in (text := "\n".join(pending.reply["traceback"])):
            self._outcomes["traceback shows the kernel's own frames"] += 1
            self.part.details.append(f"a traceback with the kernel's own frames:\n{text}")

    @staticmethod
    def _all_of(pending: Pending) -> str:
        return "\n".join(str(message) for message in (*pending.iopub, *pending.replies))

    def _drain(self, targets: list[str | None]) -> None:
        """Let all cells end; interrupt the long ones."""
        deadline = time.monotonic() + 60
        while any(self._open.values()) and time.monotonic() < deadline:
            self._front.pump(0.1)
            self._take()
            for subshell in targets:
                if any(cell.long for cell in self._open[subshell]) and not self._interrupts:
                    self._interrupt(subshell)
        for subshell, cells in self._open.items():
            for cell in cells:
                self.part.violate(f"{cell.code!r} in {subshell or 'main'} was never answered")

    def _summarise(self, sent: int, seconds: float) -> None:
        figures = self.part.figures
        figures["interrupts"] = f"{sent:,} in {seconds / 60:.1f} min"
        figures["cells"] = ", ".join(f"{name} {count}" for name, count in self._outcomes.most_common())
        figures["interrupts with a known target"] = ", ".join(f"{k} {n}" for k, n in self._effects.most_common())
        if self._long_ends:
            figures["cells that would go on: from sending to the end (s), median"] = round(
                statistics.median(self._long_ends), 3
            )


def run(spec: Spec, count: int, seed: int, minutes: float) -> Part:
    """`count` interrupts, or as many as can be sent in `minutes`."""
    stress = Stress(spec, count, seed, minutes * 60)
    part = stress.run()
    if part.details:
        part.save(f"interrupts-{seed}", stress.log)
    return part
