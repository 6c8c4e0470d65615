"""What came of an operation on a subshell, as a sentence: for the command line, and for the magics."""

from __future__ import annotations

from typing import Any

Reply = dict[str, Any]
Outcome = tuple[str, bool]  # the sentence, and whether that is a success

_MANY_NAMES = 10


def of_interrupt(reply: Reply) -> Outcome:
    if not reply.get("interrupted"):
        return "nothing was running", True
    cell = next((line for line in str(reply.get("cell") or "").splitlines() if line.strip()), "")
    return f"interrupted: {cell}" if cell else "interrupted", True


def of_delete(reply: Reply) -> Outcome:
    return "; ".join(["deleted", *_aborted(reply)]), True


def of_kill(reply: Reply) -> Outcome:
    """Such as: sent TERM; exited after 0.3 s; 2 queued cells aborted; 14 names kept."""
    sent = [str(name) for name in reply.get("sent") or ()]
    if not sent:
        return "nothing was running", True
    exited = bool(reply.get("exited"))
    after = reply.get("after_s")
    ended = "exited" if exited else "still running"
    if after is not None:
        ended += f" after {after:.1f} s"
    how = str(reply.get("how") or "")
    expected = ("", "exited with code 0", f"killed by SIG{sent[-1]}")  # goes without saying
    if exited and how not in expected:
        ended += f" ({how})"
    return "; ".join([f"sent {', then '.join(sent)}", ended, *_aborted(reply), *_names(reply)]), exited


def _aborted(reply: Reply) -> list[str]:
    aborted = int(reply.get("aborted") or 0)
    return [f"{count(aborted, 'queued cell')} aborted"] if aborted else []


def _names(reply: Reply) -> list[str]:
    said = []
    if reply.get("names_kept") is not None:
        said.append(f"{count(int(reply['names_kept']), 'name')} kept")
    lost = [str(name) for name in reply.get("names_lost") or ()]
    if lost:
        more = [] if len(lost) <= _MANY_NAMES else ["…"]
        said.append(f"{count(len(lost), 'name')} lost: {', '.join([*lost[:_MANY_NAMES], *more])}")
    return said


def count(number: int, what: str, many: str = "") -> str:
    """``1 queued cell``, ``2 queued cells``."""
    return f"{number} {what}" if number == 1 else f"{number} {many or what + 's'}"
