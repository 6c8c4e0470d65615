"""The kernelspec's entry: read the options, fork the zygote, become the broker.

The order is what makes the start fast: the zygote is forked before anything large is imported, and imports IPython on
another core while the broker binds its sockets. It must come before there are threads (libzmq has some).
"""

from __future__ import annotations

import errno
import getpass
import importlib.metadata
import logging
import os
import platform
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import mpkernel
from mpkernel import connection, logs, options
from mpkernel.errors import ConnectionFileError, StartError, UnsupportedPlatform
from mpkernel.settings import WorkerSettings
from mpkernel.wire import Codec, Signer

if TYPE_CHECKING:
    import zmq

log = logging.getLogger("mpkernel")

# sun_path holds 108 bytes on Linux, 104 on macOS, with the terminating NUL.
MAX_SOCKET_PATH = 103
# Of the broker, which needs ten for a subshell.
MAX_OPEN_FILES = 65536
# Room for "/<worker>.o" behind the directory's path.
_LANE_NAME_ROOM = 16


def main(
    argv: list[str] | None = None,
    *,
    kernel_class: str = "",
    user_ns: dict[str, Any] | None = None,
    ready: Callable[[Path], None] = lambda _: None,
) -> int:
    """Run a kernel until it is shut down; returns the exit code.

    `kernel_class`: of a wrapper kernel, see `wrapper`. `user_ns`: variables that the shells begin with, see `embed`;
    `ready` is called with the connection file as soon as clients can connect.
    """
    try:
        _check_platform()
        app = options.load(sys.argv[1:] if argv is None else argv)
        _silence(app)
        logs.to_fd(2, cast(int | str, app.log_level))
        with ExitStack() as stack:
            _run(app, stack, kernel_class, user_ns, ready)
    except StartError as error:
        print(f"mpkernel: {error}", file=sys.stderr)
        return 1
    return 0


def _silence(app: options.MPKernelApp) -> None:
    for wanted, fd in ((app.no_stdout, 1), (app.no_stderr, 2)):
        if wanted:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, fd)
            os.close(null)


def _check_platform() -> None:
    if os.name != "posix":
        raise UnsupportedPlatform(
            f"mpkernel doesn't run on {platform.system()}: it needs fork, signals and unix sockets. "
            "Use it on Linux or macOS (or in WSL), or the ipykernel kernel here."
        )


def _run(
    app: options.MPKernelApp,
    stack: ExitStack,
    kernel_class: str,
    user_ns: dict[str, Any] | None,
    ready: Callable[[Path], None],
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # until the broker handles it
    parent = _parent()
    path, info, ours = _connection(app)
    directory = stack.enter_context(_socket_directory())
    lifeline_read, lifeline_write = os.pipe()  # workers see EOF when the broker is gone
    os.set_inheritable(lifeline_write, False)
    given = app.session_options
    codec = Codec(
        Signer(info.key, info.signature_scheme),
        session=given.get("session"),
        username=given.get("username") or _username(),
        origin="broker",
    )
    settings = WorkerSettings(
        directory=directory,
        broker_pid=os.getpid(),
        lifeline_fd=lifeline_read,
        lane_key=secrets.token_hex(32).encode(),
        key=info.key,
        signature_scheme=info.signature_scheme,
        session=codec.session,
        username=codec.username,
        connection_file=str(path),
        kernel_id=path.stem.removeprefix("kernel-"),
        memfds=hasattr(os, "memfd_create") and os.environ.get("MPKERNEL_SEGMENTS") != "files",
        config=app.shell_config(),
        profile=app.profile,
        log_level=cast(int | str, app.log_level),
        kernel_class=kernel_class,
        user_ns=user_ns,
        capture_fds=app.capture_fd_output and "PYTEST_CURRENT_TEST" not in os.environ,
        open_files=_open_files(),
        debug_just_my_code=app.debug_just_my_code,
        filter_internal_frames=app.filter_internal_frames,
        comms_while_busy=app.comms_while_busy,
    )
    method = os.environ.get("MPKERNEL_START", app.start_method)
    if method not in ("fork", "spawn"):
        raise StartError(f"MPKERNEL_START is {method!r}; it can be 'fork' or 'spawn'")
    if user_ns is not None and method == "spawn":
        raise StartError("a kernel over a program's variables needs start_method 'fork'")
    zygote = _fork_zygote(settings, (lifeline_write,)) if method == "fork" else None

    # From here on: the broker. What is imported now, the zygote has not had to wait for.
    import zmq

    from mpkernel.broker.answers import Facts
    from mpkernel.broker.loop import Loop
    from mpkernel.broker.machine import Machine
    from mpkernel.broker.processes import SpawnLauncher, ZygoteConnection, ZygoteLauncher

    _become_subreaper()
    _allow_open_files()
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, context.get(zmq.SOCKET_LIMIT))
    stack.callback(context.term)
    sockets, ports = _bind(context, info, stack)
    if ours or ports != info.ports:
        info = replace(info, ports=ports)
        connection.write(path, info)
    if ours:
        stack.callback(path.unlink, missing_ok=True)
        print(f"To connect another client to this kernel, use:\n    --existing {path.name}", file=sys.stderr)
    ready(path)
    launcher = ZygoteLauncher(ZygoteConnection(*zygote), settings) if zygote else SpawnLauncher(settings)
    facts = Facts(
        mpkernel_version=mpkernel.__version__,
        ipython_version=importlib.metadata.version("ipython"),
        python_version=platform.python_version(),
        ports=ports,
        help_links=app.help_links,
        pid=os.getpid(),
        wrapper=bool(kernel_class),
    )
    machine = Machine(
        codec,
        facts,
        kernel_id=settings.kernel_id,
        interrupt_target=app.interrupt_target,
        comms_while_busy=app.comms_while_busy,
        stop_on_error_timeout=app.stop_on_error_timeout,
        now=time.monotonic(),
    )
    Loop(machine, codec, sockets, launcher, settings, context, parent=parent, patience=app.reader_patience).run()


def _username() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without an entry, as in containers
        return str(os.getuid())


# --- the connection -----------------------------------------------------------------------------------------------


def _connection(app: options.MPKernelApp) -> tuple[Path, connection.ConnectionInfo, bool]:
    """The connection file's path, its content, and whether it is ours to remove at the end."""
    if app.connection_file:
        path = Path(app.connection_file).absolute()
        if path.exists() or os.sep in app.connection_file:
            return path, connection.read(path), False
    from jupyter_core.paths import jupyter_runtime_dir

    path = Path(jupyter_runtime_dir()) / (app.connection_file or f"kernel-{os.getpid()}.json")
    if path.exists():
        return path, connection.read(path), False
    data = {
        "ip": app.ip,
        "transport": app.transport,
        "key": app.session_options.get("key", secrets.token_hex(16)),
        "signature_scheme": app.session_options.get("signature_scheme") or "hmac-sha256",
        "kernel_name": "mpkernel",
        **{f"{channel}_port": port for channel, port in app.port_options().items()},
    }
    info = connection.ConnectionInfo.from_json(data)
    if info.transport == "ipc" and info.ip == "127.0.0.1":
        info = replace(info, ip=str(path.with_suffix("")) + "-ipc")
    return path, info, True


def _bind(
    context: zmq.Context[Any], info: connection.ConnectionInfo, stack: ExitStack
) -> tuple[dict[str, zmq.Socket[bytes]], dict[str, int]]:
    """Bind the five channels; returns the sockets and the ports. Raises ConnectionFileError if one is taken."""
    import zmq

    kinds = {"shell": zmq.ROUTER, "control": zmq.ROUTER, "stdin": zmq.ROUTER, "iopub": zmq.XPUB, "hb": zmq.ROUTER}
    sockets: dict[str, zmq.Socket[bytes]] = {}
    ports: dict[str, int] = {}
    for channel, kind in kinds.items():
        socket_ = sockets[channel] = context.socket(kind)
        stack.callback(socket_.close, 1000)  # ms for the last messages to go out
        socket_.rcvhwm = 1000  # the loop sees to what is sent, see `broker.outgoing`
        if kind == zmq.ROUTER:
            socket_.router_handover = 1  # a client that comes back with its identity gets it
        else:
            socket_.xpub_verbose = 1  # every subscription is welcomed
        if info.curve_publickey and info.curve_secretkey:
            if not zmq.has("curve"):
                raise ConnectionFileError("the connection file asks for CURVE, which this pyzmq was built without")
            socket_.curve_server = True
            socket_.curve_publickey = info.curve_publickey
            socket_.curve_secretkey = info.curve_secretkey
        ports[channel] = _bind_one(socket_, info, channel)
        if info.transport == "ipc":
            stack.callback(Path(info.with_ports(**ports).url(channel).removeprefix("ipc://")).unlink, missing_ok=True)
    return sockets, ports


def _bind_one(socket_: zmq.Socket[bytes], info: connection.ConnectionInfo, channel: str) -> int:
    import zmq

    port = info.ports[channel]
    if info.transport == "ipc":
        if port == 0:
            port = next(
                n for n in range(1, 1 << 16) if not os.path.exists(info.with_ports(**{channel: n}).url(channel)[6:])
            )
        path = info.with_ports(**{channel: port}).url(channel).removeprefix("ipc://")
        if len(os.fsencode(path)) > MAX_SOCKET_PATH:
            raise ConnectionFileError(
                f"the {channel} socket's path is longer than {MAX_SOCKET_PATH} bytes: {path}. Choose a shorter 'ip'."
            )
    try:
        if port == 0:
            return socket_.bind_to_random_port(f"{info.transport}://{info.ip}")
        socket_.bind(info.with_ports(**{channel: port}).url(channel))
    except zmq.ZMQError as error:
        what = f"the {channel} channel can't listen at {info.with_ports(**{channel: port}).url(channel)}"
        if error.errno == errno.EADDRINUSE:
            raise ConnectionFileError(f"{what}: the address is in use, by another kernel or program") from error
        raise ConnectionFileError(f"{what}: {error.strerror}") from error
    return port


# --- directory, zygote, parent --------------------------------------------------------------------------------------


@contextmanager
def _socket_directory() -> Iterator[Path]:
    """A fresh directory for the lanes' sockets that only this user can enter; gone at the end."""
    tried = []
    for base in dict.fromkeys((os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp")):
        if not base or len(os.fsencode(base)) > MAX_SOCKET_PATH - _LANE_NAME_ROOM - len("/mpk-12345678"):
            continue
        try:
            directory = Path(tempfile.mkdtemp(prefix="mpk-", dir=base))  # mode 0700
        except OSError as error:
            tried.append(f"{base} ({error.strerror})")
            continue
        owner = os.getpid()
        try:
            yield directory
        finally:
            if os.getpid() == owner:
                shutil.rmtree(directory, ignore_errors=True)
        return
    raise StartError(
        f"there is no directory for the kernel's sockets: tried {', '.join(tried) or 'none with a short enough path'}. "
        "Set XDG_RUNTIME_DIR or TMPDIR to a directory that you can write to, with a path under 70 bytes."
    )


def _fork_zygote(settings: WorkerSettings, close: tuple[int, ...]) -> tuple[socket.socket, int]:
    """Fork the zygote from this still small process; returns our end of its socket, and its pid."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            ours.close()
            for fd in close:
                os.close(fd)
            from mpkernel.worker import zygote

            zygote.main(settings, theirs)
            code = 0
        except BaseException:
            log.exception("the zygote failed")
        finally:
            os._exit(code)
    theirs.close()
    return ours, pid


def _parent() -> int | None:
    """The process that started the kernel, if the kernel should end with it.

    Only if a front end did: jupyter_client says so with JPY_PARENT_PID. A kernel started by hand outlives its shell.
    Raises StartError if the front end is gone already.
    """
    parent, front_end = os.getppid(), os.environ.get("JPY_PARENT_PID")
    if front_end is None:
        return None
    if parent == 1 and front_end != "1":  # in a container the front end may well be process 1
        raise StartError(f"the process that started this kernel ({front_end}) is gone already")
    return parent


def _open_files() -> int:
    """The limit that we found."""
    import resource  # not on Windows, where we say so and end

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _allow_open_files() -> None:
    """As many as the system allows without being asked."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        most = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _become_subreaper() -> None:
    """Workers are the zygote's grandchildren; make this process the one that reaps them (prctl(2))."""
    if sys.platform == "linux":
        from mpkernel.prctl import PR_SET_CHILD_SUBREAPER, prctl

        prctl(PR_SET_CHILD_SUBREAPER, 1)
