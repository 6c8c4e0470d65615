"""`mpkernel interrupt`, `kill`, `new`, `delete` and `trace`: find the targets, ask their brokers, say what came of it.

All targets are looked up first, and nothing is done if one of them is unknown or ambiguous.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mpkernel import outcomes
from mpkernel.cli import client, kernels, survey, targets
from mpkernel.cli.kernels import Kernel
from mpkernel.cli.output import complain
from mpkernel.cli.survey import Report, Standing
from mpkernel.cli.targets import Target
from mpkernel.cli.text import clean, size
from mpkernel.errors import ConnectionFileError, KernelUnreachable, MPKernelError, TargetError
from mpkernel.outcomes import count
from mpkernel.wire import Json

# What an operation that waits for a process to end, or for its stacks, may take beyond the time it was given.
PROCESS_PATIENCE_S = 10.0
# What writing or reading a large file may take.
FILE_PATIENCE_S = 600.0


def interrupt(args: argparse.Namespace) -> int:
    """Stop the running cell of each target."""
    return _on_targets(args, client.operation("interrupt"), outcomes.of_interrupt, default_subshell=targets.MAIN)


def kill(args: argparse.Namespace) -> int:
    """End the process of each target; its subshell stays and gets a new one."""
    request = client.operation("kill", signal=args.signal, grace=args.grace)
    return _on_targets(args, request, outcomes.of_kill, patience=args.grace + PROCESS_PATIENCE_S)


def delete(args: argparse.Namespace) -> int:
    """Delete each target, with its process and its queue."""
    return _on_targets(args, client.operation("delete"), outcomes.of_delete, patience=PROCESS_PATIENCE_S)


def trace(args: argparse.Namespace) -> int:
    """Print the stacks of all threads of one target."""
    [target] = _resolve([args.target], args.timeout, default_subshell=targets.MAIN)
    if isinstance(target, MPKernelError):
        raise target
    request = client.operation("trace", subshell=target.subshell)
    reply = ask(target.kernel, request, args.timeout + PROCESS_PATIENCE_S)
    print(clean(str(reply.get("text", "")), keep="\n\t").rstrip("\n"))
    return 0


def new(args: argparse.Namespace) -> int:
    """Make a subshell and print its TARGET and nothing else, for scripts."""
    kernel = one_kernel(args)
    reply = ask(kernel, client.operation("new", name=args.name, mode=args.mode), args.timeout)
    print(Target(kernel, str(reply["subshell"])))
    return 0


def save(args: argparse.Namespace) -> int:
    """Write what a kernel's subshells share to a file."""
    return _with_file(args, "save", "saved")


def restore(args: argparse.Namespace) -> int:
    """Put what was saved into a kernel."""
    return _with_file(args, "restore", "restored")


def _with_file(args: argparse.Namespace, op: str, done: str) -> int:
    kernel = one_kernel(args)
    path = Path(args.file).expanduser().absolute()
    reply = ask(kernel, client.operation(op, path=str(path)), args.timeout + FILE_PATIENCE_S)
    nbytes = f", {size(int(reply['nbytes']))}" if "nbytes" in reply else ""
    print(f"{kernel.id}: {done} {count(len(reply['names']), 'name')}{nbytes}")
    for names, why in reply["left_out"]:
        complain(f"left out: {', '.join(names)} ({why})")
    return 0


def one_kernel(args: argparse.Namespace) -> Kernel:
    """The kernel that ``args.kernel`` means, which answers."""
    words = targets.split(args.kernel)
    if words.subshell is not None:
        raise TargetError(f"a KERNEL is needed, not a subshell: {words.kernel!r}, not {args.kernel!r}")
    report = _choose_kernel(words.kernel, _reports([words.kernel], args.timeout)[words.kernel], args.timeout)
    _must_answer(report)
    return report.kernel


# --- asking -------------------------------------------------------------------------------------------------------


def _on_targets(
    args: argparse.Namespace,
    request: client.Request,
    told: Callable[[Json], outcomes.Outcome],
    *,
    default_subshell: str | None = None,
    patience: float = 0.0,
) -> int:
    """Ask for `request` on all targets at once, tell what came of each; the exit code."""
    if not args.targets:
        return _without_targets(args.timeout)
    found = list(dict.fromkeys(_resolve(args.targets, args.timeout, default_subshell=default_subshell)))
    asked = [target for target in found if isinstance(target, Target)]
    dialogues = [
        (t.kernel, client.single(client.Request(request.msg_type, {**request.content, "subshell": t.subshell})))
        for t in asked
    ]
    replies = dict(zip(asked, client.hold(dialogues, args.timeout + patience), strict=True))
    failed = False
    for target in found:
        if isinstance(target, MPKernelError):
            complain(str(target))
            failed = True
            continue
        reply = replies[target]
        sentence, good = (str(reply), False) if isinstance(reply, MPKernelError) else told(reply)
        if good:
            print(clean(f"{target}: {sentence}"))
        else:
            complain(f"{target}: {sentence}")
            failed = True
    return 1 if failed else 0


def ask(kernel: Kernel, request: client.Request, timeout: float) -> Json:
    """The reply's content. Raises KernelUnreachable, RequestFailed."""
    [reply] = client.hold([(kernel, client.single(request))], timeout)
    if isinstance(reply, MPKernelError):
        raise reply
    return reply


def _without_targets(timeout: float) -> int:
    """``mpkernel ps -q | xargs mpkernel interrupt`` comes here when there is nothing."""
    everything = _everything(timeout)
    if everything:
        raise TargetError("\n  ".join(["which TARGET? There are:", *everything]))
    print(survey.NOTHING)
    return 0


# --- finding the targets ------------------------------------------------------------------------------------------


def _resolve(texts: Sequence[str], timeout: float, *, default_subshell: str | None) -> list[Target | MPKernelError]:
    """What each of `texts` means, or why nothing can be asked of it. Raises TargetError if a text means nothing, or
    more than one thing."""
    words = [targets.split(text) for text in texts]
    reports = _reports((word.kernel for word in words), timeout)
    found: list[Target | MPKernelError] = []
    wrong: list[str] = []
    for word in words:
        try:
            report = _choose_kernel(word.kernel, reports[word.kernel], timeout)
            _must_answer(report)
            found.append(targets.choose_subshell(word.subshell or default_subshell, report))
        except TargetError as error:
            wrong.append(str(error))
        except KernelUnreachable as error:
            found.append(error)
    if wrong:
        raise TargetError("\n".join(dict.fromkeys(wrong)))
    return found


def _reports(words: Iterable[str], timeout: float) -> dict[str, list[Report]]:
    """For each KERNEL in `words` the kernels that it may mean. Others aren't asked: one that hangs would cost time."""
    files, _ = kernels.find(kernels.runtime_directory())
    matches = {word: targets.matching_kernels(word, files) or _elsewhere(word) for word in words}
    asked = list({kernel.path: kernel for matching in matches.values() for kernel in matching}.values())
    reports = {report.kernel.path: report for report in survey.survey(asked, timeout=timeout)}
    return {word: [reports[kernel.path] for kernel in matching] for word, matching in matches.items()}


def _elsewhere(word: str) -> list[Kernel]:
    """The kernel of a connection file that isn't in the runtime directory."""
    if not targets.is_path(word):
        return []
    try:
        return [kernels.at(Path(word))]
    except ConnectionFileError as error:
        raise TargetError(str(error)) from error


def _choose_kernel(word: str, reports: Sequence[Report], timeout: float) -> Report:
    report = targets.choose_kernel(word, reports)
    if report is not None:
        return report
    problem = f"kernel {reports[0].kernel.id} is not one of mpkernel's" if reports else f"there is no kernel {word!r}"
    _, unreadable = kernels.find(kernels.runtime_directory())
    problem = "; ".join([problem, *unreadable])
    everything = _everything(timeout)
    if not everything:
        raise TargetError(f"{problem}; {survey.NOTHING}")
    raise TargetError("\n  ".join([f"{problem}; there are:", *everything]))


def _must_answer(report: Report) -> None:
    if report.standing is Standing.DEAD:
        kernel = report.kernel
        raise KernelUnreachable(f"kernel {kernel.id} is dead; `mpkernel clean` removes its connection file")
    if report.standing is Standing.SILENT:
        raise KernelUnreachable(report.problem)


def _everything(timeout: float) -> list[str]:
    """All targets that there are, for a person whose target is none of them."""
    files, _ = kernels.find(kernels.runtime_directory())
    return targets.described(survey.survey(files, timeout=timeout))
