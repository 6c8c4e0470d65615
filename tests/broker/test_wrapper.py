"""A wrapper kernel: its first worker says what the language is; until then nobody is told anything else."""

from __future__ import annotations

from mpkernel import messages

from .bench import Kernel

DESCRIPTION = {"implementation": "Echo", "language_info": {"name": "echo"}}


def test_kernel_info_waits_for_the_description() -> None:
    kernel = Kernel(wrapper=True)
    early = kernel.ask("kernel_info_request")
    assert kernel.replies(early) == []
    kernel.worker().launch().hello().say(messages.Describe(DESCRIPTION))
    late = kernel.ask("kernel_info_request", channel="control")
    for asked in (early, late):
        assert kernel.reply(asked)["implementation"] == "Echo"
        assert kernel.story(asked) == ["busy", "kernel_info_reply", "idle"]
    kernel.check(all_answered=True)


def test_kernel_info_is_answered_if_the_worker_can_not_start() -> None:
    kernel = Kernel(wrapper=True)
    asked = kernel.ask("kernel_info_request")
    kernel.worker().launch().die(1)
    assert kernel.status(asked) == "ok"


def test_kernel_info_is_answered_at_shutdown() -> None:
    kernel = Kernel(wrapper=True)
    asked = kernel.ask("kernel_info_request")
    kernel.ask("shutdown_request", {"restart": True}, channel="control")
    assert kernel.status(asked) == "ok"


def test_the_end_says_whether_it_is_for_a_restart() -> None:
    for restart in (True, False):
        kernel = Kernel(wrapper=True)
        worker = kernel.worker().launch().hello()
        kernel.ask("shutdown_request", {"restart": restart}, channel="control")
        assert worker.got(messages.Exit) == [messages.Exit(restart)]
