"""A front end that doesn't read slows down who prints, for a while; it takes neither memory nor the others' replies."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psutil
import pytest
import zmq

from .driver import Client, Kernel, start_kernel
from .exchange import Message, Pending

pytestmark = pytest.mark.mpkernel_only("it drops what is too much")

FLOOD = "import sys\nwhile True: sys.stdout.write('x' * 9999 + '\\n')"
CHILDREN = "import subprocess\nsubprocess.run(['yes', 'x' * 9999])"
C_CODE = "import ctypes\nputs = ctypes.CDLL(None).puts\nwhile True: puts(b'x' * 9999)"
DISPLAYS = "from IPython.display import display\nwhile True: display({'text/plain': 'x' * 300_000}, raw=True)"
MB = 1 << 20
MOST = 200 * MB  # of the broker, with one cell that prints
FOR_EVER = "--MPKernelApp.reader_patience=1000"


@pytest.fixture
def patient() -> Iterator[Kernel]:
    """A kernel that waits as long as it takes for its front ends."""
    with start_kernel(FOR_EVER) as kernel:
        yield kernel


class Deaf:
    """A subscriber to iopub that never reads."""

    def __init__(self, kernel: Client) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.rcvhwm = 1
        self._socket.subscribe(b"")
        self._socket.connect(kernel.url("iopub"))
        welcomed = kernel.strays.copy()
        kernel.wait_until(lambda: len(_welcomes(kernel.strays)) > len(_welcomes(welcomed)), "welcome of another client")

    def __enter__(self) -> Deaf:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)


def _welcomes(messages: list[Message]) -> list[Message]:
    return [message for message in messages if message.type == "iopub_welcome"]


def size(kernel: Kernel) -> int:
    """Bytes that the broker takes."""
    return psutil.Process(kernel.process.pid).memory_info().rss


def wait_until_it_waits(kernel: Kernel, pending: Pending) -> None:
    """Until it has printed something, and nothing more comes while the kernel answers others."""

    def still() -> bool:
        before = len(pending.messages)
        for _ in range(20):
            asked = kernel.send("kernel_info_request", channel="control")  # its idle may have to wait
            kernel.wait_until(lambda asked=asked: asked.reply is not None, "reply")  # type: ignore[misc]
        return len(pending.messages) == before > 2

    kernel.wait_until(still, "end of the output")


@pytest.mark.parametrize("code", [FLOOD, CHILDREN, C_CODE, DISPLAYS], ids=["print", "child", "C", "display"])
def test_a_cell_that_prints_without_end_waits_and_can_be_interrupted(patient: Kernel, code: str) -> None:
    with Deaf(patient):
        flood = patient.submit(code)
        wait_until_it_waits(patient, flood)
        assert size(patient) < MOST
        patient.send("interrupt_request", channel="control")
        patient.wait_until(lambda: flood.reply is not None, "reply")  # its idle waits behind what it printed
        assert flood.reply is not None
        assert flood.reply.content["status"] in ("error", "ok")
    flood.wait()
    assert patient.value("6 * 7") == 42


def test_other_subshells_work_while_one_waits(patient: Kernel) -> None:
    other = patient.create_subshell()
    patient.value("1", other)
    with Deaf(patient):
        flood = patient.submit(FLOOD)
        wait_until_it_waits(patient, flood)
        reply = patient.submit("x = 6 * 7", other)
        patient.wait_until(lambda: reply.reply is not None, "reply of another subshell")
        patient.send("interrupt_request", channel="control")
    flood.wait()
    assert patient.value("x", other) == 42


def test_killing_a_cell_that_waits(patient: Kernel) -> None:
    pid = patient.value("__import__('os').getpid()")
    with Deaf(patient):
        flood = patient.submit(FLOOD)
        wait_until_it_waits(patient, flood)
        os.kill(pid, 9)
        patient.wait_until(lambda: flood.reply is not None, "reply")
    assert flood.wait().ename == "WorkerDied"


def test_who_reads_nothing_for_long_holds_nobody_up() -> None:
    with start_kernel("--MPKernelApp.reader_patience=0.5") as kernel, Deaf(kernel):
        text = kernel.run("for n in range(20_000): print(f'{n:05}', 'x' * 4990)").stdout
        assert text.count("\n") == 20_000
        assert size(kernel) < MOST


def test_a_front_end_that_never_reads_its_replies_takes_little() -> None:
    code = {"code": "", "silent": True, "user_expressions": {"x": "'x' * 100_000"}}
    with start_kernel("--MPKernelApp.reader_patience=0.5") as kernel:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        deaf = context.socket(zmq.DEALER)
        deaf.sndhwm = 0
        deaf.rcvhwm = 1
        deaf.connect(kernel.url("shell"))
        before = size(kernel)
        for _ in range(1000):
            message = kernel.message("execute_request", code)
            deaf.send_multipart(kernel.session.serialize(message))
        wait_for_all = kernel.submit("1")
        wait_for_all.wait()
        assert size(kernel) - before < 100 * MB
        context.destroy(linger=0)
