"""The life of the broker's process: options, connection, sockets, loop."""

from __future__ import annotations

import errno
import gc
import getpass
import importlib.util
import os
import platform
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import mpkernel
from mpkernel import connection, logs, options
from mpkernel.broker.processes import ENDING_SIGNALS, SpawnLauncher, ZygoteConnection, ZygoteLauncher
from mpkernel.errors import ConnectionFileError, StartError
from mpkernel.settings import WorkerSettings
from mpkernel.surroundings import check_threads
from mpkernel.wire import Codec, Signer, utc_now

if TYPE_CHECKING:
    import zmq

    from mpkernel.broker.recording import Recorder
    from mpkernel.launch import Start

# sun_path holds 108 bytes on Linux, 104 on macOS, with the terminating NUL.
MAX_SOCKET_PATH = 103
# Of the broker, which needs ten for a subshell.
MAX_OPEN_FILES = 65536
# Of libzmq, of pyzmq for what is sent without a copy, and one for files.
THREADS = 6
# Room for "/<worker>.o" behind the directory's path.
_LANE_NAME_ROOM = 16


def run(
    argv: list[str],
    start: Start,
    kernel_class: str,
    user_ns: dict[str, Any] | None,
    ready: Callable[[Path], None],
) -> None:
    """Be the broker, until the kernel is shut down; the arguments are those of `launch.main`. Raises StartError."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)  # until the loop handles them
    zygote = ZygoteConnection(*start.zygote) if start.zygote is not None else None
    with ExitStack() as stack:
        if zygote is not None:
            stack.callback(zygote.close, now=True)  # unless the launcher has done so
        app = options.load(argv)
        logs.silence(app.silenced)
        logs.to_fd(2, cast(int | str, app.log_level), app.log_style)
        _run(app, stack, zygote, start, kernel_class, user_ns, ready)


def _run(
    app: options.MPKernelApp,
    stack: ExitStack,
    zygote: ZygoteConnection | None,
    start: Start,
    kernel_class: str,
    user_ns: dict[str, Any] | None,
    ready: Callable[[Path], None],
) -> None:
    parent = _parent()
    path, info, ours = _connection(app)
    given = app.session_options
    named = {"session": given.get("session") or uuid.uuid4().hex, "username": given.get("username") or _username()}
    recorder = _recorder(app, stack)
    clock = utc_now if recorder is None else recorder.drawn(utc_now)
    codec = Codec(Signer(info.key, info.signature_scheme), origin="broker", clock=clock, **named)
    directory = stack.enter_context(_socket_directory(zygote))  # the zygote is about to know of it, and would remove it
    if zygote is not None:
        stack.callback(zygote.close, now=True)  # before the folder is gone, which it would complain of
    segments = os.environ.get("MPKERNEL_SEGMENTS", "")
    if segments not in ("", "files", "memfds"):
        raise StartError(f"MPKERNEL_SEGMENTS is {segments!r}; it can be 'files' or 'memfds'")
    settings = WorkerSettings(
        directory=directory,
        broker_pid=os.getpid(),
        lifeline_fd=start.lifeline_fd,
        lane_key=secrets.token_hex(32).encode(),
        key=info.key,
        signature_scheme=info.signature_scheme,
        session=codec.session,
        username=codec.username,
        connection_file=str(path),
        kernel_id=path.stem.removeprefix("kernel-"),
        memfds=segments != "files" and _memfds_work(),
        config=app.shell_config(),
        profile=app.profile,
        log_level=cast(int | str, app.log_level),
        log_format=app.log_style,
        kernel_class=kernel_class,
        capture_fds=app.capture_fd_output and "PYTEST_CURRENT_TEST" not in os.environ,
        open_files=_open_files(),
        silenced=app.silenced,
        debug_just_my_code=app.debug_just_my_code,
        filter_internal_frames=app.filter_internal_frames,
        comms_while_busy=app.comms_while_busy,
    )
    method = os.environ.get("MPKERNEL_START", app.start_method)
    if method not in ("fork", "spawn"):
        raise StartError(f"MPKERNEL_START is {method!r}; it can be 'fork' or 'spawn'")
    if method == "fork" and not _become_subreaper():
        method = "spawn"
    if user_ns is not None and method == "spawn":
        raise StartError("a kernel over a program's variables needs start_method 'fork'")
    if zygote is not None and method == "spawn":
        zygote.close(now=True)
        zygote = None
    if zygote is not None:
        zygote.settle(settings)

    # Not needed to get the zygote going: so it has not had to wait for these.
    import zmq

    from mpkernel.broker.answers import Facts
    from mpkernel.broker.loop import Loop
    from mpkernel.broker.machine import Machine, new_subshell_id

    _allow_open_files()
    check_threads(THREADS)
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, context.get(zmq.SOCKET_LIMIT))
    stack.callback(context.term)
    sockets, ports = _bind(context, info, stack, start.listening)
    if ours or ports != info.ports:
        info = replace(info, ports=ports)
        connection.write(path, info)
    if ours:
        stack.callback(path.unlink, missing_ok=True)
        existing = path if os.sep in app.connection_file else path.name
        print(f"To connect another client to this kernel, use:\n    --existing {existing}", file=sys.stderr)
    ready(path)
    launcher = ZygoteLauncher(zygote, settings) if zygote is not None else SpawnLauncher(settings)
    facts = Facts(
        mpkernel_version=mpkernel.__version__,
        ipython_version=_ipython_version(),
        python_version=platform.python_version(),
        ports=ports,
        help_links=app.help_links,
        pid=os.getpid(),
        wrapper=bool(kernel_class),
    )
    options_: dict[str, Any] = {
        "kernel_id": settings.kernel_id,
        "interrupt_target": app.interrupt_target,
        "comms_while_busy": app.comms_while_busy,
        "stop_on_error_timeout": app.stop_on_error_timeout,
        "keep": _kept_file(path, info) if app.keep and not ours else "",
        "now": time.monotonic(),
    }
    new_id = new_subshell_id if recorder is None else recorder.drawn(new_subshell_id)
    if recorder is not None:
        recorder.began(options_, {**named, "origin": "broker"}, facts)
    machine = Machine(codec, facts, new_id=new_id, **options_)
    gc.enable()
    Loop(
        machine,
        codec,
        sockets,
        launcher,
        settings,
        context,
        parent=parent,
        recorder=recorder,
        patience=app.reader_patience,
    ).run()


def _recorder(app: options.MPKernelApp, stack: ExitStack) -> Recorder | None:
    if not app.event_log:
        return None
    from mpkernel.broker.recording import Recorder  # seldom wanted

    recorder = Recorder(Path(app.event_log).expanduser().absolute())
    stack.callback(recorder.close)
    return recorder


def _kept_file(connection_file: Path, info: connection.ConnectionInfo) -> str:
    """Where this kernel keeps its namespace. When it is started again, it has the same connection file and key."""
    import hashlib

    from mpkernel.keys import kept_folder

    same = hashlib.blake2b(os.fsencode(connection_file) + b"\0" + info.key, digest_size=8).hexdigest()
    return str(kept_folder() / f"{connection_file.stem.removeprefix('kernel-')}-{same}")


def _username() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without an entry, as in containers
        return str(os.getuid())


def _ipython_version() -> str:
    """Read off the name of its metadata's folder, as a rule: importlib.metadata takes 20 ms to be imported."""
    spec = importlib.util.find_spec("IPython")
    if spec is not None and spec.origin is not None:
        for folder in Path(spec.origin).parent.parent.glob("ipython-*.dist-info"):
            return folder.stem.removeprefix("ipython-")
    from importlib.metadata import version

    return version("ipython")


# --- the connection -----------------------------------------------------------------------------------------------


def _connection(app: options.MPKernelApp) -> tuple[Path, connection.ConnectionInfo, bool]:
    """The connection file's path, its content, and whether it is ours to remove at the end."""
    if app.connection_file:
        path = Path(app.connection_file).absolute()
    if not app.connection_file or (not path.exists() and os.sep not in app.connection_file):
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
    context: zmq.Context[Any],
    info: connection.ConnectionInfo,
    stack: ExitStack,
    listening: dict[str, socket.socket],
) -> tuple[dict[str, zmq.Socket[bytes]], dict[str, int]]:
    """Bind the five channels; returns the sockets and the ports. Raises ConnectionFileError if one is taken.

    Those that are `listening` already are taken over if they are what `info` says, and closed if not.
    """
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
            socket_.xpub_verbose = 1  # every subscription is welcomed,
            socket_.set(zmq.XPUB_MANUAL, 1)  # and counts from then on
        if info.curve_publickey and info.curve_secretkey:
            if not zmq.has("curve"):
                raise ConnectionFileError("the connection file asks for CURVE, which this pyzmq was built without")
            socket_.curve_server = True
            socket_.curve_publickey = info.curve_publickey
            socket_.curve_secretkey = info.curve_secretkey
        if (early := listening.pop(channel, None)) is not None:
            if info.transport == "tcp" and early.getsockname()[:2] == (info.ip, info.ports[channel]):
                socket_.set(zmq.USE_FD, early.detach())
            else:
                early.close()
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


# --- directory, parent --------------------------------------------------------------------------------------


@contextmanager
def _socket_directory(zygote: ZygoteConnection | None) -> Iterator[Path]:
    """A fresh directory for the lanes' sockets that only this user can enter; gone at the end."""
    name = f"mpk-{secrets.token_hex(4)}"
    tried, usual = [], None
    with suppress(FileNotFoundError):  # it has tried what there is
        usual = tempfile.gettempdir()
    for base in dict.fromkeys((os.environ.get("XDG_RUNTIME_DIR"), usual, "/tmp")):
        if not base or len(os.fsencode(base)) > MAX_SOCKET_PATH - _LANE_NAME_ROOM - len(f"/{name}"):
            continue
        directory = Path(base).absolute() / name
        if zygote is not None:
            zygote.announce(directory)
        try:
            directory.mkdir(mode=0o700)
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
    return parent or None  # 0: it is in another pid namespace, where we can't watch it (a container's process 1)


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


def _memfds_work() -> bool:
    """Whether a container lets us have them; and processes find each other's through /proc."""
    try:
        fd = os.memfd_create("mpkernel", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (AttributeError, OSError):
        return False
    try:
        os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _become_subreaper() -> bool:
    """Workers are the zygote's grandchildren; make this process the one that reaps them (prctl(2)).

    False where that is forbidden: then only our own children can be.
    """
    if sys.platform == "linux":
        from mpkernel.prctl import PR_SET_CHILD_SUBREAPER, prctl

        try:
            prctl(PR_SET_CHILD_SUBREAPER, 1)
        except OSError:
            return False
    return True
