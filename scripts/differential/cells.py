"""Reads the cells of an area: a file with ``# %%`` between them, as many editors know it.

Behind ``# %%`` may stand:

- a JSON object: options of the execute_request (``{"silent": true}``); its key ``"answers"`` lists what is typed
  at `input()`;
- the type of another request and its content: ``complete_request {"code": "pri"}``; the lines below it are its ``code``
  if the content has none;
- ``differs: REASON``: both kernels are right, or ipykernel is wrong.

All cells of an area run in one kernel, in their order.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

AREAS = Path(__file__).parent / "areas"
_MARK = re.compile(r"^# %%(.*)\n", re.MULTILINE)


@dataclass(frozen=True)
class Cell:
    """One request. `differs` is the reason why the kernels' answers need not be the same."""

    area: str
    number: int
    code: str
    msg_type: str = "execute_request"
    content: dict[str, Any] = field(default_factory=dict)
    answers: tuple[str, ...] = ()
    differs: str = ""

    @property
    def label(self) -> str:
        return f"{self.area}:{self.number}"

    @property
    def title(self) -> str:
        """What is asked, in a line."""
        asked = self.code if self.msg_type == "execute_request" else f"{self.msg_type} {json.dumps(self.content)}"
        return asked.strip().replace("\n", " ⏎ ")[:110]


def read(path: Path) -> list[Cell]:
    """The cells of the area in `path`. Raises ValueError that names the cell whose options can't be read."""
    _, *parts = _MARK.split(path.read_text(encoding="utf-8"))
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return [_cell(path.stem, number, mark.strip(), code.rstrip()) for number, (mark, code) in enumerate(pairs, 1)]


def read_notebook(path: Path) -> list[Cell]:
    """The code cells of somebody's notebook. Raises ValueError if it is none."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    found = [cell for cell in notebook.get("cells", ()) if cell["cell_type"] == "code"]
    return [Cell(path.stem, number, "".join(cell["source"])) for number, cell in enumerate(found, 1)]


def _cell(area: str, number: int, mark: str, code: str) -> Cell:
    mark, _, differs = mark.partition("differs:")
    msg_type, _, options = mark.strip().partition("{") if not mark.startswith("{") else ("", "", mark[1:])
    try:
        content = json.loads("{" + options) if options else {}
    except ValueError as error:
        raise ValueError(f"cell {number} of {area}: what is behind '# %%' isn't JSON: {error}") from error
    answers = tuple(content.pop("answers", ()))
    msg_type = msg_type.strip() or "execute_request"
    if answers:
        content["allow_stdin"] = True
    if code and msg_type != "execute_request":
        content.setdefault("code", code)
    return Cell(area, number, code, msg_type, content, answers, differs.strip())
