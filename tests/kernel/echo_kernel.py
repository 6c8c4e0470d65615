"""A wrapper kernel for the tests. The first word of a cell says what to do."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from mpkernel.wrapper import Kernel


class EchoKernel(Kernel):
    implementation = "Echo"
    implementation_version = "1.2"
    language_info = {"name": "echo", "mimetype": "text/x-echo", "file_extension": ".echo"}  # noqa: RUF012

    @property
    def banner(self) -> str:
        return f"echo, in process {os.getpid()}"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.cells = 0

    def do_execute(
        self,
        code: str,
        silent: bool,
        store_history: bool = True,
        user_expressions: Any = None,
        allow_stdin: bool = False,
    ) -> dict[str, Any]:
        self.cells += 1
        word, _, rest = code.partition(" ")
        answers = {
            "count": lambda: str(self.cells),
            "pid": lambda: str(os.getpid()),
            "ask": lambda: self.raw_input(rest),
            "sleep": lambda: [print("asleep", flush=True), time.sleep(float(rest)), "slept"][-1],
            "fail": lambda: 1 / 0,
            "exit": lambda: os._exit(3),
        }
        text = answers.get(word, lambda: rest)()
        if not silent:
            self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": str(text)})
        return {"status": "ok", "execution_count": self.execution_count, "payload": [], "user_expressions": {}}

    async def do_complete(self, code: str, cursor_pos: int) -> dict[str, Any]:
        await asyncio.sleep(0)
        if code == "hang":
            time.sleep(1000)
        elif code == "hang and await":
            await asyncio.sleep(1000)
        return {
            "odd": object() if code == "odd" else None,
            "status": "ok",
            "matches": [word for word in ("count", "pid") if word.startswith(code[:cursor_pos])],
            "cursor_start": 0,
            "cursor_end": cursor_pos,
            "metadata": {},
        }

    def do_inspect(self, code: str, cursor_pos: int, detail_level: int = 0) -> dict[str, Any]:
        return {"status": "ok", "found": True, "data": {"text/plain": f"{code} at {cursor_pos}"}, "metadata": {}}

    def do_is_complete(self, code: str) -> dict[str, Any]:
        return {"status": "incomplete" if code.endswith("\\") else "complete"}

    def do_history(self, hist_access_type: str, output: bool, raw: bool, **_: Any) -> dict[str, Any]:
        return {"status": "ok", "history": [[0, 1, hist_access_type]]}

    async def do_shutdown(self, restart: bool) -> dict[str, Any]:
        with Path("shutdown").open("a") as file:
            file.write(f"{restart}\n")
        return {"status": "ok", "restart": restart}


if __name__ == "__main__":
    EchoKernel.run_as_main()
