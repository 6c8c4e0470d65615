"""What a run found, a row for each figure."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    what: str
    how_much: str
    bad: bool = False  # more than a kernel may take

    def markdown(self) -> str:
        return f"| {self.what} | {f'**{self.how_much}**' if self.bad else self.how_much} |"


# So idle a kernel is (CPU seconds a second), however many processes it has: shown as 0.0 %.
IDLE = 0.0005


def cpu_when_idle(what: str, share: float, kernels: int = 1) -> Row:
    """CPU of `kernels` kernels in which nothing happens."""
    return Row(what, f"{share:.1%}", share / kernels >= IDLE)
