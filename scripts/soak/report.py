"""What a soak test found."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MOST_SHOWN = 25  # violations that are printed in full


@dataclass
class Part:
    """The result of one test: figures by name, violations in the order in which they were seen."""

    name: str
    figures: dict[str, Any] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)  # of each violation, too long for a table

    def violate(self, text: str, details: str = "") -> None:
        self.violations.append(text)
        self.details.append(f"{len(self.violations)}. {text}\n{details}")

    def save(self, name: str, log: str) -> None:
        """Write details and the kernel's log to a temporary file, and name it in the figures."""
        path = Path(tempfile.gettempdir()) / f"soak-{name}.log"
        path.write_text("\n".join([*self.details, "=== the kernel's log ===", log]))
        self.figures["details and the kernel's log"] = path

    def markdown(self) -> str:
        lines = [f"### {self.name}", "", "| what | |", "|---|---|"]
        lines += [f"| {name} | {value} |" for name, value in self.figures.items()]
        lines.append(f"| violations | {len(self.violations) or 'none'} |")
        if self.violations:
            lines += ["", *(f"- {text}" for text in self.violations[:MOST_SHOWN])]
            if len(self.violations) > MOST_SHOWN:
                lines.append(f"- … and {len(self.violations) - MOST_SHOWN} more")
        return "\n".join(lines)
