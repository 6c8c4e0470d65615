"""What every kernel of this user says about itself: ours or not, alive or not, and its subshells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from mpkernel.cli import client, kernels
from mpkernel.cli.kernels import Kernel, Reach
from mpkernel.errors import KernelUnreachable, MPKernelError, RequestFailed
from mpkernel.wire import Json

OURS = "mpkernel_version"  # a kernel_info_reply of ours has it; what "implementation" is, a wrapper kernel says itself
NOTHING = "no mpkernel kernel is running"


class Standing(Enum):
    """What a connection file turned out to stand for."""

    OURS = "ours"
    FOREIGN = "foreign"  # a kernel of another implementation
    DEAD = "dead"  # its port refuses connections; whose kernel it was can't be known
    SILENT = "silent"  # something listens, but gave no answer that we can use


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome for one connection file."""

    kernel: Kernel
    standing: Standing
    subshells: tuple[Json, ...] = ()  # as the broker's `ps` has them; main is the first
    problem: str = ""  # of a SILENT one: a sentence for the person who asked


class Memory:
    """Which kernels are ours, from one survey to the next.

    Answering `kernel_info_request` makes ipykernel publish busy and idle, and front ends show the last status they
    saw. So a kernel is asked who it is only once, however long ``--watch`` runs.
    """

    def __init__(self) -> None:
        self._ours: dict[tuple[str, bytes], bool] = {}

    def recall(self, kernel: Kernel) -> bool | None:
        """Whether `kernel` is ours; None if it never said."""
        return self._ours.get((str(kernel.path), kernel.info.key))

    def learn(self, kernel: Kernel, ours: bool) -> None:
        """Keep what `kernel` said."""
        self._ours[str(kernel.path), kernel.info.key] = ours


def survey(kernels_: Sequence[Kernel], *, timeout: float, memory: Memory | None = None) -> list[Report]:
    """Ask all `kernels_` at once; a report for each, in the same order.

    Takes as long as the slowest of them, at most `timeout` seconds, plus `kernels.REACH_TIMEOUT_S` if a host is gone.
    """
    memory = memory or Memory()
    reaches = kernels.reach_all(kernels_)
    listening = [kernel for kernel, reach in zip(kernels_, reaches, strict=True) if reach is Reach.LISTENING]
    answers = client.hold([(kernel, _ask(kernel, memory)) for kernel in listening], timeout)
    reports = {kernel.path: _checked(kernel, answer) for kernel, answer in zip(listening, answers, strict=True)}
    for kernel, reach in zip(kernels_, reaches, strict=True):
        if reach is Reach.REFUSED:
            reports[kernel.path] = Report(kernel, Standing.DEAD)
        elif reach is Reach.UNKNOWN:
            problem = f"kernel {kernel.id} can't be reached at {kernel.info.url('control')}"
            reports[kernel.path] = Report(kernel, Standing.SILENT, problem=problem)
    return [reports[kernel.path] for kernel in kernels_]


def shown(reports: Iterable[Report]) -> list[Report]:
    """Those that people are to see: all but other implementations' kernels."""
    return [report for report in reports if report.standing is not Standing.FOREIGN]


def _ask(kernel: Kernel, memory: Memory) -> client.Dialogue[Report]:
    ours = memory.recall(kernel)
    if ours is None:
        try:
            about = yield client.Request("kernel_info_request", {})
        except KernelUnreachable as error:
            problem = f"{error}; whether it is one of mpkernel's can't be told (another program may have its port)"
            return Report(kernel, Standing.SILENT, problem=problem)
        except RequestFailed:
            about = {}
        ours = OURS in about
        memory.learn(kernel, ours)
    if not ours:
        return Report(kernel, Standing.FOREIGN)
    try:
        answer = yield client.operation("ps")
    except KernelUnreachable as error:
        return Report(kernel, Standing.SILENT, problem=f"{error}; it is one of mpkernel's")
    except RequestFailed as error:
        return Report(kernel, Standing.SILENT, problem=f"kernel {kernel.id} can't list its subshells: {error}")
    return Report(kernel, Standing.OURS, tuple(answer.get("subshells", ())))


def _checked(kernel: Kernel, answer: Report | MPKernelError) -> Report:
    return answer if isinstance(answer, Report) else Report(kernel, Standing.SILENT, problem=str(answer))
