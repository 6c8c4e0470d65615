"""A debugger's side of the Debug Adapter Protocol, over debug_requests and debug_events."""

from __future__ import annotations

import itertools

from .client import Client
from .exchange import Json, Message, Pending

# As JupyterLab introduces itself.
INTRODUCTION = {
    "clientID": "jupyterlab",
    "clientName": "JupyterLab",
    "adapterID": "",
    "pathFormat": "path",
    "linesStartAt1": True,
    "columnsStartAt1": True,
    "supportsVariableType": True,
    "supportsVariablePaging": True,
    "supportsRunInTerminalRequest": True,
    "locale": "en",
}


class Debugging:
    """Talks to the debugger of one subshell."""

    def __init__(self, client: Client, subshell: str | None = None) -> None:
        self.client = client
        self.subshell = subshell
        self._seqs = itertools.count(1)
        self._sent: list[Pending] = []
        self._seen = -1  # number of the last event that was waited for

    def send(self, command: str, arguments: Json | None = None) -> Pending:
        content = {"type": "request", "seq": next(self._seqs), "command": command, "arguments": arguments or {}}
        pending = self.client.send("debug_request", content, channel="control", subshell=self.subshell)
        self._sent.append(pending)
        return pending

    def request(self, command: str, **arguments: object) -> Json:
        """Content of the reply; what holds for each of them is checked."""
        pending = self.send(command, arguments)
        content = pending.wait().content
        assert content["type"] == "response"
        assert content["command"] == command
        assert content["request_seq"] > 0
        return content

    def ask(self, command: str, **arguments: object) -> Json:
        """Body of the reply to a request that must succeed."""
        content = self.request(command, **arguments)
        assert content["success"] is True, content
        return dict(content.get("body", {}))

    def refused(self, command: str, **arguments: object) -> str:
        """The message of the reply to a request that must fail."""
        content = self.request(command, **arguments)
        assert content["success"] is False, content
        return str(content["message"])

    def attach(self) -> None:
        self.ask("initialize", **INTRODUCTION)
        self.ask("attach")

    def set_breakpoints(self, code: str, *lines: int, **more: object) -> str:
        """Set those of the cell `code`; returns its path."""
        path = str(self.ask("dumpCell", code=code)["sourcePath"])
        wanted = [{"line": line, **more} for line in lines]
        found = self.ask("setBreakpoints", source={"path": path}, breakpoints=wanted, sourceModified=False)
        assert [breakpoint["verified"] for breakpoint in found["breakpoints"]] == [True] * len(lines)
        return path

    def events(self, name: str) -> list[Message]:
        messages = [m for p in self._sent for m in p.messages if m.type == "debug_event" and m.content["event"] == name]
        return sorted(messages, key=lambda message: message.number)

    def wait_for(self, name: str) -> Json:
        """Body of the next event of that name after the last one that was waited for."""

        def new() -> list[Message]:
            return [message for message in self.events(name) if message.number > self._seen]

        self.client.wait_until(lambda: bool(new()), f"debug_event {name!r}")
        event = new()[0]
        self._seen = event.number
        return dict(event.content.get("body", {}))

    def stop(self, cell: str, subshell: str | None = None) -> Pending:
        """Run `cell`, which must come to a breakpoint."""
        pending = self.client.submit(cell, subshell if subshell is not None else self.subshell)
        self.wait_for("stopped")
        return pending

    @property
    def frames(self) -> list[Json]:
        """The stack of the main thread, which is stopped."""
        return list(self.ask("stackTrace", threadId=1)["stackFrames"])

    def scope(self, name: str) -> dict[str, str]:
        """Names and values in "Locals" or "Globals" of the topmost frame."""
        scopes = self.ask("scopes", frameId=self.frames[0]["id"])["scopes"]
        (reference,) = [scope["variablesReference"] for scope in scopes if scope["name"] == name]
        variables = self.ask("variables", variablesReference=reference)["variables"]
        return {variable["name"]: variable["value"] for variable in variables}
