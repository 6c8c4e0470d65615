"""Connection files: what a front end and a kernel agree on before their first message.

https://jupyter-client.readthedocs.io/en/stable/kernels.html#connection-files
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from mpkernel.errors import ConnectionFileError
from mpkernel.wire import Signer

CHANNELS = ("shell", "iopub", "stdin", "control", "hb")


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """The content of a connection file. Port 0 means: not chosen yet."""

    transport: str = "tcp"
    ip: str = "127.0.0.1"
    ports: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CHANNELS, 0))
    key: bytes = field(default=b"", repr=False)
    signature_scheme: str = "hmac-sha256"
    kernel_name: str = ""
    curve_publickey: bytes | None = None
    curve_secretkey: bytes | None = field(default=None, repr=False)
    extra: dict[str, Any] = field(default_factory=dict)  # keys we don't know; kept when the file is written

    def url(self, channel: str) -> str:
        """The ZMQ address of `channel` (one of `CHANNELS`)."""
        port = self.ports[channel]
        return f"ipc://{self.ip}-{port}" if self.transport == "ipc" else f"{self.transport}://{self.ip}:{port}"

    def with_ports(self, **ports: int) -> Self:
        """A copy with some ports set."""
        return replace(self, ports={**self.ports, **ports})

    @classmethod
    def from_json(cls, data: object, source: str = "the connection information") -> Self:
        """Check `data`, parsed JSON. Raises ConnectionFileError that names `source` and the field."""
        if not isinstance(data, dict):
            raise ConnectionFileError(f"{source} is not a JSON object")
        known = dict(data)

        def take(name: str, kind: type, default: Any) -> Any:
            value = known.pop(name, default)
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ConnectionFileError(f"{source}: {name!r} is {value!r}, not of type {kind.__name__}")
            return value

        transport = take("transport", str, "tcp")
        if transport not in ("tcp", "ipc"):
            raise ConnectionFileError(f"{source}: transport {transport!r}; mpkernel serves 'tcp' and 'ipc'")
        ports = {channel: take(f"{channel}_port", int, 0) for channel in CHANNELS}
        for channel, port in ports.items():
            if not 0 <= port <= 65535:
                raise ConnectionFileError(f"{source}: {channel}_port is {port}, not a port")
        chosen = [port for port in ports.values() if port]
        if len(set(chosen)) != len(chosen):
            raise ConnectionFileError(f"{source}: two channels have the same port: {ports}")
        scheme = take("signature_scheme", str, "hmac-sha256")
        key = take("key", str, "").encode()
        try:
            Signer(key, scheme)
        except ValueError as error:
            raise ConnectionFileError(f"{source}: {error}") from error
        curve = {name: known.pop(name, None) for name in ("curve_publickey", "curve_secretkey")}
        if any(curve.values()) and not all(isinstance(value, str) and len(value) == 40 for value in curve.values()):
            raise ConnectionFileError(f"{source}: CURVE needs curve_publickey and curve_secretkey, 40 characters each")
        return cls(
            transport=transport,
            ip=take("ip", str, "127.0.0.1") or "127.0.0.1",
            ports=ports,
            key=key,
            signature_scheme=scheme,
            kernel_name=take("kernel_name", str, ""),
            curve_publickey=curve["curve_publickey"].encode() if curve["curve_publickey"] else None,
            curve_secretkey=curve["curve_secretkey"].encode() if curve["curve_secretkey"] else None,
            extra=known,
        )

    def to_json(self) -> dict[str, Any]:
        """The inverse of `from_json`."""
        data: dict[str, Any] = {
            **self.extra,
            **{f"{channel}_port": port for channel, port in self.ports.items()},
            "transport": self.transport,
            "ip": self.ip,
            "key": self.key.decode(),
            "signature_scheme": self.signature_scheme,
            "kernel_name": self.kernel_name,
        }
        if self.curve_publickey and self.curve_secretkey:
            data["curve_publickey"] = self.curve_publickey.decode()
            data["curve_secretkey"] = self.curve_secretkey.decode()
        return data


def read(path: Path) -> ConnectionInfo:
    """Read a connection file. Raises ConnectionFileError saying what to do."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConnectionFileError(f"connection file {path} doesn't exist") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConnectionFileError(f"connection file {path} can't be read: {error}") from error
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConnectionFileError(f"connection file {path} is not JSON (cut short?): {error}") from error
    return ConnectionInfo.from_json(data, f"connection file {path}")


def write(path: Path, info: ConnectionInfo) -> None:
    """Write a connection file that only its owner can read (it holds the key), in one step."""
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # nobody can have made it before
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump(info.to_json(), file, indent=2)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)
        raise ConnectionFileError(f"connection file {path} can't be written: {error}") from error


def is_listening(info: ConnectionInfo, *, timeout: float = 1.0) -> bool:
    """Whether something accepts connections at the control address: False for a kernel that is gone."""
    try:
        if info.transport == "ipc":
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(timeout)
                probe.connect(f"{info.ip}-{info.ports['control']}")
        else:
            socket.create_connection((info.ip, info.ports["control"]), timeout).close()
    except OSError:
        return False
    return True
