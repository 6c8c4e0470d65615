"""The claims of docs/security.md that only a whole kernel can show."""

from __future__ import annotations

import ast
import gc
import json
import secrets
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import zmq
from jupyter_client.blocking import BlockingKernelClient

from .driver import COMMAND, Kernel, start_kernel
from .sandbox import REPOSITORY, Sandbox, poll_until

pytestmark = [
    pytest.mark.mpkernel_only("it is about how mpkernel is made"),
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]


def in_use(kernel: Kernel) -> str:
    """Has the kernel do what it can: subshells, shared objects, a large array, a debugger. Returns a subshell."""
    child = kernel.create_subshell()
    kernel.run("class A: pass\na = A(); a.xs = [1]\nbig = bytearray(1_000_000)\nimport mpkernel, os, sys")
    assert kernel.value("a.xs, len(big)", child) == ([1], 1_000_000)
    return child


def socket_folder(kernel: Kernel) -> Path:
    [folder] = kernel.sandbox.xdg.glob("mpk-*")
    return folder


def test_the_socket_folder_is_the_users_alone(kernel: Kernel) -> None:
    in_use(kernel)
    folder = socket_folder(kernel)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with start_kernel() as other:
        assert socket_folder(other).name != folder.name  # and `mkdtemp` has 2^41 names
    assert stat.S_IMODE(Path(kernel.connection_file).stat().st_mode) == 0o600


def test_the_lanes_of_workers_can_not_be_found(kernel: Kernel) -> None:
    """Once a worker is there, there is nothing left to connect to."""
    in_use(kernel)
    folder = socket_folder(kernel)
    assert poll_until(lambda: not [path for path in folder.iterdir() if path.is_socket()], 5)


def test_no_port_is_open_but_the_five(kernel: Kernel) -> None:
    in_use(kernel)
    kernel.control("debug_request", {"type": "request", "seq": 1, "command": "initialize", "arguments": {}})
    listening = [
        (connection.laddr.ip, connection.laddr.port)
        for connections in kernel.told(lambda of: (getattr(of, "net_connections", None) or of.connections)("inet"))
        for connection in connections
        if connection.status == psutil.CONN_LISTEN
    ]
    ports = [value for name, value in kernel.connection.items() if name.endswith("_port")]
    assert sorted(listening) == sorted(("127.0.0.1", port) for port in ports)


def test_no_key_is_in_an_argument_an_environment_or_the_log() -> None:
    with start_kernel("--debug") as kernel:
        child = in_use(kernel)
        lane_key = kernel.value("get_ipython().kernel.settings.lane_key[::-1]").decode()[::-1]  # not to be logged by us
        keys = [kernel.connection["key"], lane_key]
        for key in keys:
            assert len(key) >= 32
        for name in ("cmdline", "environ"):
            for shown in kernel.told(lambda of, name=name: Path(f"/proc/{of.pid}/{name}").read_bytes()):
                assert not [key for key in keys if key.encode() in shown], shown
        for subshell in (None, child):
            seen = kernel.run("print(dict(os.environ), sys.argv)", subshell).stdout
            assert not [key for key in keys if key in seen]
        assert not kernel.shut_down()
        log = kernel.sandbox.log.read_text(errors="replace")
        assert "FrontendMessage" in log  # it does have everything else
        assert not [key for key in keys if key in log]


WATCH = """
import os, sys
def _watch(event, args):
    if event in ("pickle.find_class", "marshal.loads"):
        with open(os.environ["WATCH_FILE"], "a") as file:
            print(event, os.getpid(), *args[:2], file=file)
if any("mpkernel" in word for word in sys.orig_argv):
    sys.addaudithook(_watch)
"""


def test_the_broker_unpickles_nothing(tmp_path: Path) -> None:
    """Python reports each class that an unpickler looks up; workers look some up, the broker none."""
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    watched = tmp_path / "watched"
    env = {"PYTHONPATH": f"{tmp_path}:{REPOSITORY}", "WATCH_FILE": str(watched)}
    with start_kernel("--keep", env=env) as kernel:
        broker = kernel.process.pid
        in_use(kernel)
        kernel.run("a.xs.append(2)")
        kernel.run("import fractions; half = fractions.Fraction(1, 2)", kernel.create_subshell())
        assert kernel.value("half.denominator") == 2
        kernel.run(f"mpkernel.save({str(tmp_path / 'file')!r}); mpkernel.restore({str(tmp_path / 'file')!r})")
        worker = kernel.value("os.getpid()")
        pids = [int(line.split()[1]) for line in watched.read_text().splitlines() if line.startswith("pickle")]
        assert worker in pids
        assert broker not in pids


def test_what_the_broker_imports_has_no_way_to_unpickle() -> None:
    """By what is written: it makes pickles of its settings, and loads none; and it imports nobody who would."""
    code = "import sys, mpkernel.broker.loop, mpkernel.broker.machine, mpkernel.broker.filing; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    modules = set(done.stdout.split())
    assert not modules & {
        "cloudpickle",
        "IPython",
        "numpy",
        "mpkernel.namespace.pickling",
        "mpkernel.namespace.loading",
    }
    ours = [name for name in modules if name.startswith("mpkernel.")]
    assert "mpkernel.namespace.store" in ours
    paths = [path for name in ours if (path := REPOSITORY / (name.replace(".", "/") + ".py")).exists()]
    gc.disable()  # Python 3.11 raises SystemError if a finalizer parses something meanwhile
    try:
        trees = {path: ast.parse(path.read_text()) for path in paths}
    finally:
        gc.enable()
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in LOADERS, f"{path}:{node.lineno}"
            if isinstance(node, ast.Name):
                assert node.id not in ("eval", "exec"), f"{path}:{node.lineno}"


LOADERS = {("pickle", "load"), ("pickle", "loads"), ("pickle", "Unpickler"), ("marshal", "load"), ("marshal", "loads")}


@pytest.mark.skipif(not zmq.has("curve"), reason="pyzmq was built without CURVE")
@pytest.mark.skipif(not hasattr(BlockingKernelClient, "curve_publickey"), reason="jupyter_client has no CURVE")
def test_with_curve_only_clients_with_the_keys_are_answered() -> None:
    public, secret = (key.decode() for key in zmq.curve_keypair())
    with Sandbox() as sandbox:
        path = sandbox.runtime / "kernel-curve.json"
        info = {"transport": "tcp", "ip": "127.0.0.1", "key": secrets.token_hex(16), "signature_scheme": "hmac-sha256"}
        info |= {f"{channel}_port": 0 for channel in ("shell", "iopub", "stdin", "control", "hb")}
        path.write_text(json.dumps(info | {"curve_publickey": public, "curve_secretkey": secret}))
        with sandbox.log.open("w") as log:
            process = subprocess.Popen(
                [*COMMAND, "-f", str(path)], env=sandbox.environment(), cwd=sandbox.cwd, stdout=log, stderr=log
            )
        try:
            assert poll_until(lambda: json.loads(path.read_text())["shell_port"] != 0, 20)
            info = json.loads(path.read_text())
            other = zmq.curve_keypair()
            strangers = [_client(info, None), _client(info, (*other, other[0]))]
            heartbeats = [_heartbeat(info, None), _heartbeat(info, (*other, other[0]))]
            known = BlockingKernelClient()
            known.load_connection_info(info)
            known.start_channels()
            known.wait_for_ready(timeout=20)
            reply = known.execute_interactive("6 * 7", timeout=20, output_hook=lambda _: None)
            assert reply["content"]["status"] == "ok"
            assert not [socket for socket in (*strangers, *heartbeats) if socket.poll(200)]
            for socket in (*strangers, *heartbeats):
                socket.close(0)
            known.shutdown()
            known.stop_channels()
            known.context.destroy(linger=0)
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()


def _client(info: dict[str, object], keys: tuple[bytes, bytes, bytes] | None) -> zmq.Socket[bytes]:
    socket = zmq.Context.instance().socket(zmq.SUB)
    return _connected(socket, info["iopub_port"], keys, subscribe=True)


def _heartbeat(info: dict[str, object], keys: tuple[bytes, bytes, bytes] | None) -> zmq.Socket[bytes]:
    socket = _connected(zmq.Context.instance().socket(zmq.DEALER), info["hb_port"], keys)
    socket.send(b"ping", zmq.NOBLOCK)
    return socket


def _connected(
    socket: zmq.Socket[bytes], port: object, keys: tuple[bytes, bytes, bytes] | None, *, subscribe: bool = False
) -> zmq.Socket[bytes]:
    if keys is not None:
        socket.curve_publickey, socket.curve_secretkey, socket.curve_serverkey = keys
    if subscribe:
        socket.subscribe(b"")
    socket.connect(f"tcp://127.0.0.1:{port}")
    return socket
