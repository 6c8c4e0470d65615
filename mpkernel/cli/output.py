"""What goes to people beside the result: one line on stderr, with the program's name before it."""

from __future__ import annotations

import sys

from mpkernel.cli.text import clean


def complain(message: str) -> None:
    """Say on stderr what went wrong. `message` may hold text of a kernel's."""
    print("mpkernel:", clean(message, keep="\n"), file=sys.stderr)
