"""`mpkernel info` and `logs`: what a kernel runs on, and what it has logged."""

from __future__ import annotations

import argparse
import json
import sys

from mpkernel.cli import client
from mpkernel.cli.act import ask, one_kernel
from mpkernel.cli.text import clean, duration, size
from mpkernel.outcomes import count
from mpkernel.wire import Json


def info(args: argparse.Namespace) -> int:
    """Versions, limits in force, fast paths."""
    kernel = one_kernel(args)
    reply = ask(kernel, client.operation("info"), args.timeout)
    if args.json:
        print(json.dumps({"kernel": kernel.id, **{key: reply[key] for key in reply if key != "status"}}))
    else:
        print(clean("\n".join([f"kernel {kernel.id}", *_lines(reply)]), keep="\n"))
    return 0


def _lines(reply: Json) -> list[str]:
    versions, limits = reply["versions"], reply["limits"]
    waiting, beside = size(limits["waiting_bytes"]), size(limits["beside_bytes"])
    return [
        f"  mpkernel {reply['version']}, Python {versions['python']}, IPython {reply['ipython']}, "
        f"pyzmq {versions['pyzmq']} with libzmq {versions['libzmq']}, {versions['system']}",
        f"  pid {reply['pid']}, {duration(reply['age_s'])} old, {count(reply['subshells'], 'subshell')}, "
        f"{count(reply['processes'], 'process', 'processes')}, {count(reply['names'], 'shared name')}",
        f"  open files of the broker: {limits['open_files_now']}, {_at_most(limits['open_files'])}",
        f"  processes of the user: {_at_most(limits['processes_of_the_user'])}",
        *(f"  {it['name']}: {size(it['available_bytes'])} of {size(it['bytes'])} left" for it in limits["memory"]),
        f"  copies of large values: {size(limits['copies_bytes_now'])}, at most {size(limits['copies_bytes'])}",
        f"  requests: {waiting} may wait for a subshell, {beside} be with its process beside its cell",
        f"  a front end that reads nothing for {limits['reader_patience_s']:g} s is disconnected",
        f"  variables are {'kept in ' + reply['kept_in'] if reply['kept_in'] else 'not kept (--keep)'}",
        f"  events are {'written down' if reply['event_log'] else 'not written down (--event-log)'}",
        f"  channels are {'encrypted (CURVE)' if reply['encrypted'] else 'signed, not encrypted'}",
        *(f"  {path['name']}: {'on' if path['on'] else 'off: ' + path['why']}" for path in reply["fast_paths"]),
    ]


def _at_most(limit: int | None) -> str:
    return "no limit" if limit is None else f"at most {limit}"


def logs(args: argparse.Namespace) -> int:
    """The last lines that the broker and the workers have logged."""
    kernel = one_kernel(args)
    reply = ask(kernel, client.operation("logs"), args.timeout)
    if not reply["lines"]:
        print(f"kernel {kernel.id} has logged nothing from level info on", file=sys.stderr)
    for line in reply["lines"]:
        if args.json:
            print(json.dumps(line))
        else:
            print(clean(f"{line['time']} {line['level']} {line['pid']} {line['text']}", keep="\n"))
    return 0
