"""What can be measured: metrics with their targets, and the functions that measure them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from scripts.harness.kernel import Kernel


class Over(float):
    """A value of which is known only that it is larger than this: the deadline came first."""


class Unable(Exception):
    """This kernel has nothing of the kind; that's no failure."""


@dataclass(frozen=True)
class Options:
    """Sizes that a short run makes smaller."""

    trips: int = 100  # round trips whose median is one sample
    deadline: float = 8.0  # seconds after which "it doesn't end" is the result
    idle_seconds: float = 60.0
    cold_seconds: float = 30.0  # after which memory that nobody uses should be given back
    loop_seconds: float = 1.5  # of one CPU loop
    interpreter: Mapping[str, str] = field(default_factory=dict)  # kernel's name: its Python


class Target(Protocol):
    """What the design promises."""

    def __str__(self) -> str: ...

    def share(self, mine: float, theirs: float | None) -> float | None:
        """How much of what is allowed is used: held up to 1; None if it can't be told."""


@dataclass(frozen=True)
class RatioAtMost:
    limit: float

    def __str__(self) -> str:
        return f"≤ {self.limit:g}x"

    def share(self, mine: float, theirs: float | None) -> float | None:
        return mine / theirs / self.limit if theirs else None


@dataclass(frozen=True)
class AtMost:
    limit: float
    unit: str

    def __str__(self) -> str:
        return f"≤ {self.limit:g} {self.unit}"

    def share(self, mine: float, theirs: float | None) -> float | None:
        return mine / self.limit


@dataclass(frozen=True)
class AtLeast:
    limit: float
    unit: str

    def __str__(self) -> str:
        return f"≥ {self.limit:g} {self.unit}"

    def share(self, mine: float, theirs: float | None) -> float | None:
        return self.limit / mine if mine else None


@dataclass(frozen=True)
class Metric:
    """One row of the table; values are in `unit`."""

    key: str
    title: str
    unit: str
    target: Target | None = None

    @property
    def more_is_better(self) -> bool:
        return isinstance(self.target, AtLeast)


Values = dict[str, float]  # by the metric's key
Function = Callable[[Kernel, Options], Values]


@dataclass(frozen=True)
class Measurement:
    name: str
    section: str
    metrics: tuple[Metric, ...]
    run: Function
    fresh: bool  # wants a kernel that isn't started yet
    only: str | None  # a kernel's name: the others have no such thing
    rarely: bool  # slow and steady: a third of the repeats is enough

    def function(self, kernel: str) -> Function | None:
        """How this is measured with the kernel of that name; None if it isn't."""
        if kernel in OTHER_WAYS:
            return OTHER_WAYS[kernel].get(self.name)
        return self.run if self.only is None or kernel.startswith(self.only) else None


REGISTRY: list[Measurement] = []
OTHER_WAYS: dict[str, dict[str, Function]] = {}  # by kernel and name of the measurement


def measures(
    section: str, *metrics: Metric, fresh: bool = False, only: str | None = None, rarely: bool = False
) -> Callable[[Function], Function]:
    """Register a function that measures `metrics`; it gets a warm kernel of its own (`fresh`: one yet to start)."""

    def register(function: Function) -> Function:
        REGISTRY.append(Measurement(function.__name__, section, metrics, function, fresh, only, rarely))
        return function

    return register


def measures_with(kernel: str, name: str) -> Callable[[Function], Function]:
    """Register how the measurement `name` goes with `kernel`, which then has no others than those registered so."""

    def register(function: Function) -> Function:
        OTHER_WAYS.setdefault(kernel, {})[name] = function
        return function

    return register
