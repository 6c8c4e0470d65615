"""debug_requests go to the debugger of a subshell, whatever runs there; what is left of them, the broker answers."""

from __future__ import annotations

import signal

from mpkernel import messages

from .bench import Asked, FakeWorker, Json, Kernel

INFO = {"type": "request", "seq": 7, "command": "debugInfo"}


def debug(kernel: Kernel, subshell: str | None = None) -> Asked:
    return kernel.control("debug_request", INFO, subshell=subshell)


def attached(kernel: Kernel, subshell: str | None = None) -> tuple[FakeWorker, Asked]:
    """A process to which a debugger has attached, and the last request to it."""
    worker = kernel.ready(subshell)
    request = debug(kernel, subshell)
    worker.reply_aside(success=True)
    worker.say(messages.Debugged(attached=True))
    return worker, request


def events(kernel: Kernel) -> list[tuple[Json, str | None]]:
    return [(sent.content, sent.parent) for sent in kernel.sent("iopub", "debug_event")]


def check_failure(reply: Json) -> None:
    assert (reply["type"], reply["success"], reply["command"], reply["request_seq"]) == (
        "response",
        False,
        "debugInfo",
        7,
    )
    assert reply["message"]


def test_an_idle_and_a_busy_worker_get_it_on_the_service_lane(kernel: Kernel) -> None:
    worker = kernel.ready()
    for _ in range(2):
        request = debug(kernel)
        assert len(worker.side) == 1
        assert kernel.story(request) == ["busy"]
        worker.reply_aside(success=True)
        assert kernel.story(request) == ["busy", "debug_reply", "idle"]
        kernel.running()


def test_it_waits_for_the_process_and_not_for_the_queue(kernel: Kernel) -> None:
    cell = kernel.execute()
    requests = [debug(kernel) for _ in range(2)]
    assert kernel.story(requests[0]) == []
    worker = kernel.worker().hello()
    assert len(worker.side) == 2
    for _ in requests:
        worker.reply_aside(success=True)
    assert kernel.story(requests[1]) == ["busy", "debug_reply", "idle"]
    assert kernel.status(cell) is None


def test_a_subshell_without_a_process_gets_one(kernel: Kernel) -> None:
    child = kernel.create()
    request = debug(kernel, child)
    worker = kernel.worker(child)
    if not worker.said_hello:
        worker.hello()
    worker.reply_aside(success=True)
    assert kernel.reply(request)["success"] is True


def test_a_process_that_ends_ends_the_session_and_what_it_was_asked(kernel: Kernel) -> None:
    worker, last = attached(kernel)
    request = debug(kernel)
    worker.die()
    check_failure(kernel.reply(request))
    [(event, parent)] = events(kernel)
    assert (event["type"], event["event"]) == ("event", "terminated")
    assert parent == request.id != last.id
    again = debug(kernel)  # goes to the new process
    kernel.worker().hello().reply_aside(success=True)
    assert kernel.reply(again)["success"] is True


def test_what_comes_while_a_process_is_killed_is_for_the_next(kernel: Kernel) -> None:
    worker, _ = attached(kernel)
    kernel.op("kill", subshell="main")
    request = debug(kernel)
    assert kernel.story(request) == []
    worker.die(-signal.SIGTERM)
    next_worker = kernel.worker()
    if not next_worker.said_hello:
        next_worker.hello()
    next_worker.reply_aside(success=True)
    assert kernel.reply(request)["success"] is True


def test_a_deleted_subshell_says_terminated_and_answers(kernel: Kernel) -> None:
    child = kernel.create()
    worker, _ = attached(kernel, child)
    request = debug(kernel, child)
    kernel.delete(child)
    check_failure(kernel.reply(request))
    worker.die(0)
    assert [event["event"] for event, _ in events(kernel)] == ["terminated"]


def test_a_process_that_nobody_debugs_says_nothing(kernel: Kernel) -> None:
    worker, _ = attached(kernel)
    worker.say(messages.Debugged(attached=False))
    worker.die()
    assert events(kernel) == []


def test_processes_that_cannot_start_are_told(kernel: Kernel) -> None:
    request = debug(kernel)
    for _ in range(3):
        worker = kernel.worker()
        if worker.pid is None:
            worker.launch()
        worker.die(1)
    check_failure(kernel.reply(request))


def test_an_unknown_subshell_and_the_end_of_the_kernel_are_failures(kernel: Kernel) -> None:
    check_failure(kernel.reply(debug(kernel, "nobody")))
    kernel.ready()
    request = debug(kernel)
    kernel.control("shutdown_request", {"restart": False})
    check_failure(kernel.reply(request))
    check_failure(kernel.reply(debug(kernel)))
    kernel.check(all_answered=True)
