"""``mpkernel install`` and ``mpkernel uninstall``: kernelspecs, from the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mpkernel import kernelspec
from mpkernel.errors import StartError, UnsupportedPlatform


def add_parsers(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both commands; each sets ``run``, a function of the parsed arguments that returns the exit code."""
    parser = subparsers.add_parser(
        "install",
        help="make the kernel known to Jupyter under another name, elsewhere, or with options",
        description="Make the kernel known to Jupyter. Installing the package has done so already, in its environment; "
        "this is for another name (--name python3 makes it the default kernel), another place, or options.",
        allow_abbrev=False,
    )
    _add_place(parser, "the kernelspecs of all users of this machine")
    parser.add_argument("--display-name", metavar="TEXT", help="what the front ends show")
    parser.add_argument(
        "--env",
        nargs=2,
        action="append",
        default=[],
        metavar=("KEY", "VALUE"),
        help="an environment variable for the kernel; ${OTHER} in VALUE is filled in when it starts. Repeatable",
    )
    parser.add_argument(
        "--interrupt-mode",
        choices=("signal", "message"),
        default="signal",
        help="how front ends interrupt the kernel: by SIGINT, or by a message on the control channel (default: signal)",
    )
    parser.add_argument(
        "extra_arguments",
        nargs=argparse.REMAINDER,
        action=_AfterDashes,
        metavar="-- ARGUMENT ...",
        help="arguments for the kernel, added to its command line",
    )
    parser.set_defaults(run=run_install)

    parser = subparsers.add_parser(
        "uninstall",
        help="remove a kernelspec of mpkernel",
        description="Remove a kernelspec of mpkernel; the package stays.",
        allow_abbrev=False,
    )
    _add_place(parser, "the kernelspec that Jupyter uses")
    parser.add_argument("-y", "--yes", action="store_true", help="don't ask")
    parser.add_argument("--force", action="store_true", help="remove it even if it isn't mpkernel's")
    parser.set_defaults(run=run_uninstall)


def run_install(args: argparse.Namespace) -> int:
    """Install a kernelspec, and say where, what it replaced, and what Jupyter makes of it."""
    try:
        name = kernelspec.check_name(args.name)
        if args.extra_arguments:
            _check_arguments(args.extra_arguments)
        replaced = kernelspec.read(kernelspec.location(user=args.user, prefix=args.prefix) / name)
        directory = kernelspec.install(
            name,
            user=args.user,
            prefix=args.prefix,
            display_name=args.display_name,
            env=dict(args.env),
            extra_arguments=args.extra_arguments,
            interrupt_mode=args.interrupt_mode,
        )
        _report(name, directory, replaced)
    except (kernelspec.KernelspecError, UnsupportedPlatform) as error:
        return _fail("install", error)
    return 0


def _check_arguments(arguments: list[str]) -> None:
    """Raises InvalidKernelspec for options that the kernel would only warn of, where nobody looks, or end for."""
    from mpkernel import options

    try:
        options.check(arguments)
    except StartError as error:
        raise kernelspec.InvalidKernelspec(f"the kernel wouldn't take these arguments: {error}") from error


def run_uninstall(args: argparse.Namespace) -> int:
    """Remove a kernelspec after asking, and say which one Jupyter uses now, if there is another."""
    place: dict[str, Any] = {"user": args.user, "prefix": args.prefix, "force": args.force}
    try:
        name = kernelspec.check_name(args.name)
        directory = kernelspec.locate(name, **place)
        if not (args.yes or _confirm(f"Remove {directory}?")):
            print("Nothing removed; --yes removes without asking.", file=sys.stderr)
            return 1
        print(f"Removed {kernelspec.uninstall(name, **place)}")
        if name in (left := kernelspec.known()):
            print(f"Jupyter now uses the kernelspec {name!r} in {left[name]}")
    except kernelspec.KernelspecError as error:
        return _fail("uninstall", error)
    return 0


def _report(name: str, directory: Path, replaced: Mapping[str, Any]) -> None:
    print(f"Installed the kernelspec {name!r} in {directory}")
    if replaced and not kernelspec.runs_mpkernel(replaced):
        print(f"It replaces the kernel {replaced.get('display_name', name)!r} that was there.")
    used = kernelspec.known().get(name)
    if used is not None and used.resolve() != directory.resolve():
        print(f"Jupyter doesn't use it: it finds {used} first. Remove that one, or install to the same place.")
        return
    if used is None:
        print(f"Jupyter doesn't look there yet. Start it with JUPYTER_PATH={directory.parents[1]}")
    shown = kernelspec.read(directory).get("display_name")
    print(f"Next: start `jupyter lab` and choose the kernel {shown!r}.")


def _add_place(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--name", default=kernelspec.NAME, help=f"the kernel's name (default: {kernelspec.NAME})")
    place = parser.add_argument_group("place", f"Without any of these: {default}.").add_mutually_exclusive_group()
    place.add_argument("--user", action="store_true", help="the user's kernelspecs")
    place.add_argument(
        "--sys-prefix",
        action="store_const",
        const=sys.prefix,
        dest="prefix",
        help=f"this Python environment's ({sys.prefix})".replace("%", "%%"),
    )
    place.add_argument("--prefix", metavar="DIR", help="those in DIR/share/jupyter/kernels")


class _AfterDashes(argparse.Action):
    """Takes what follows ``--``. Anything before it is a mistake, such as a name without ``--name``."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        values = list(values or ())
        if values and values[0] != "--":
            parser.error(f"unexpected argument {values[0]!r}; arguments for the kernel go after `--`")
        setattr(namespace, self.dest, values[1:])


def _confirm(question: str) -> bool:
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _fail(command: str, error: Exception) -> int:
    print(f"mpkernel {command}: {error}", file=sys.stderr)
    return 2 if isinstance(error, kernelspec.InvalidKernelspec) else 1
