"""From what a person typed to the subshells that are meant. Nothing is asked or done here.

A TARGET is ``KERNEL/SUBSHELL``. KERNEL is an id, the start of one, ``kernel-<id>``, or the path of a connection file;
SUBSHELL is ``main``, an id, the start of one, or a name. An exact match goes before the start of an id. What `mpkernel
ps` shows decides what is unique: dead and silent kernels count (the person may mean them), other
implementations' don't.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mpkernel.cli.kernels import PREFIX, SUFFIX, Kernel
from mpkernel.cli.survey import Report, Standing
from mpkernel.errors import TargetError

MAIN = "main"


@dataclass(frozen=True, slots=True)
class Words:
    """A TARGET as it was typed, split in two."""

    kernel: str
    subshell: str | None  # None if only a kernel was named


@dataclass(frozen=True, slots=True)
class Target:
    """A subshell of a kernel that answers."""

    kernel: Kernel
    subshell: str  # the id, or `MAIN`
    name: str | None = field(default=None, compare=False)  # if it is no other subshell's, nor looks like an id

    def __str__(self) -> str:
        return f"{self.kernel.id}/{self.name or self.subshell}"


def split(text: str) -> Words:
    """The two parts of `text`. The slashes of a connection file's path don't count."""
    if text.endswith(SUFFIX):
        return Words(text, None)
    if f"{SUFFIX}/" in text:
        path, _, subshell = text.rpartition(f"{SUFFIX}/")
        return Words(path + SUFFIX, subshell or None)
    kernel, _, subshell = text.partition("/")
    return Words(kernel, subshell or None)


def is_path(word: str) -> bool:
    """Whether the KERNEL `word` is the path of a connection file rather than an id."""
    return word.endswith(SUFFIX) and "/" in word


def matching_kernels(word: str, kernels: Iterable[Kernel]) -> list[Kernel]:
    """The kernels that `word` may mean, going by their files alone."""
    if not word:
        return []
    kernels = list(kernels)
    if is_path(word):
        path = Path(word).absolute()
        return [kernel for kernel in kernels if kernel.path == path or _same_file(kernel.path, path)]
    word = word.removesuffix(SUFFIX)
    ids = {kernel.id: kernel for kernel in kernels}
    for exact in (word, word.removeprefix(PREFIX)):
        if exact in ids:
            return [ids[exact]]
    start = word.removeprefix(PREFIX)
    return [kernel for kernel in kernels if start and kernel.id.startswith(start)]


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def choose_kernel(word: str, reports: Sequence[Report]) -> Report | None:
    """The one of `reports`, all that match `word`, that is meant; None if none of them is ours.

    Raises TargetError, with the candidates, if it may be several.
    """
    possible = [report for report in reports if report.standing is not Standing.FOREIGN]
    if len(possible) > 1:
        raise TargetError(_listed(f"{word!r} may be one of several kernels:", (r.kernel.id for r in possible)))
    return possible[0] if possible else None


def choose_subshell(word: str | None, report: Report) -> Target:
    """The subshell of `report`'s kernel that `word` means. Raises TargetError, with the candidates."""
    names = {str(row["subshell"]): row.get("name") for row in report.subshells}
    if word is None:
        raise TargetError(_listed(f"which subshell of kernel {report.kernel.id}? It has:", described([report])))
    matches = (
        [id_ for id_ in names if id_ == word]
        or [id_ for id_, name in names.items() if name == word]
        or [id_ for id_ in names if word and id_.startswith(word)]
    )
    if not matches:
        problem = f"kernel {report.kernel.id} has no subshell {word!r}; it has:"
        raise TargetError(_listed(problem, described([report])))
    if len(matches) > 1:
        problem = f"{word!r} may be one of several subshells of kernel {report.kernel.id}:"
        raise TargetError(_listed(problem, (_described(report.kernel, id_, names[id_]) for id_ in matches)))
    [match] = matches
    name = names[match]
    plain = name not in names and list(names.values()).count(name) == 1
    return Target(report.kernel, match, name if plain else None)


def described(reports: Iterable[Report]) -> list[str]:
    """Every target in `reports`, with its name, and the kernels that don't tell theirs."""
    lines = []
    for report in reports:
        if report.standing is Standing.SILENT:
            lines.append(f"{report.kernel.id} (not answering)")
        lines += [_described(report.kernel, str(row["subshell"]), row.get("name")) for row in report.subshells]
    return lines


def _described(kernel: Kernel, subshell: str, name: str | None) -> str:
    return f"{kernel.id}/{subshell}" + (f" ({name})" if name else "")


def _listed(problem: str, candidates: Iterable[str]) -> str:
    return "\n  ".join([problem, *candidates])
