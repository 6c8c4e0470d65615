"""The surroundings of a kernel under test: as for any other, but with this repository's code, and tests' patience."""

from __future__ import annotations

import os
from pathlib import Path

from scripts.harness import sandbox
from scripts.harness.sandbox import POLL, is_gone, poll_until

PATIENCE = float(os.environ.get("MPKERNEL_TEST_PATIENCE", "1"))
# Whether it is as quick as promised is for scripts/bench to say: here the machine may be busy with other tests.
GONE_WITHIN = 3 * sandbox.Sandbox.gone_within * PATIENCE
REPOSITORY = Path(__file__).resolve().parents[2]

__all__ = ["GONE_WITHIN", "PATIENCE", "POLL", "REPOSITORY", "Sandbox", "is_gone", "poll_until"]


class Sandbox(sandbox.Sandbox):
    """Directories and environment for one kernel of this repository."""

    gone_within = GONE_WITHIN

    def environment(self) -> dict[str, str]:
        """What a kernel in this sandbox is started with."""
        path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
        return {**super().environment(), "PYTHONPATH": path}
