"""Whatever a cell shows, names, raises or sends, it is shown or told of, and the kernel stays usable."""

from __future__ import annotations

import json
import sys

import pytest

from .client import LOOP
from .debugging import INTRODUCTION, Debugging
from .driver import Kernel
from .exchange import Pending
from .sandbox import PATIENCE, poll_until

HALF = "\\ud800"  # a lone surrogate, as the code of a cell writes it
LOST = "the output is lost, with an error in the log"


def answers(kernel: Kernel) -> None:
    assert kernel.value("6 * 7") == 42


# --- displays --------------------------------------------------------------------------------------------------------


def test_a_repr_of_200_mb_arrives(shared_kernel: Kernel) -> None:
    result = shared_kernel.run("class Big:\n    def __repr__(self): return 'x' * 200_000_000\nBig()")
    assert (result.status, len(result.text)) == ("ok", 200_000_000)
    answers(shared_kernel)


CIRCULAR = "data = []; data.append(data)\n"
DEEP = "data = []\nfor _ in range(100_000): data = [data]\n"


@pytest.mark.parametrize(
    ("code", "ename", "shown"),
    [
        (f"{CIRCULAR}B({{'text/plain': 'b', 'application/json': data}})", "TypeError", ""),
        (f"{DEEP}B({{'text/plain': 'b', 'application/json': data}})", "RecursionError", ""),
        (f"{DEEP}data", "RecursionError", ""),
        ("B({'text/plain': 'b', 'application/json': {'n': float('nan')}})", "", "b"),
        ("B({'text/plain': {'a set'}})", "", "['a set']"),
        ("B('no dict')", "", "<__main__.B at"),
        ("class I:\n    def __repr__(self): return 5\nI()", "TypeError", ""),
        ("class R:\n    def __repr__(self): return repr(self)\nR()", "RecursionError", ""),
        ("class E:\n    def __repr__(self): raise SystemExit\nE()", "SystemExit", ""),
        ("class K:\n    def __repr__(self): raise KeyboardInterrupt\nK()", "KeyboardInterrupt", ""),
        ("get_ipython().display_formatter.format = lambda *_, **__: 1 / 0\n5", "ZeroDivisionError", ""),
    ],
)
@pytest.mark.mpkernel_only("it has other names for the errors")
def test_what_can_not_be_shown_is_told_of(shared_kernel: Kernel, code: str, ename: str, shown: str) -> None:
    bundle = "class B:\n    def __init__(self, bundle): self.bundle = bundle\n"
    shared_kernel.run(f"{bundle}    def _repr_mimebundle_(self, **_): return self.bundle")
    result = shared_kernel.run(code)
    if sys.version_info >= (3, 14) and result.ename == "IndexError":
        ename = result.ename  # IPython's own clean-up fails when Python has no room for more calls
    assert result.ename == ename
    assert shown in result.text
    assert (result.error or {}).get("ename", "") == ename
    shared_kernel.run("vars(get_ipython().display_formatter).pop('format', None)")
    answers(shared_kernel)


# --- half characters and NUL -----------------------------------------------------------------------------------------


@pytest.mark.mpkernel_only(LOST)
@pytest.mark.parametrize(
    ("code", "shown"),
    [
        (f"print('a{HALF}b', 'c\\0d')", "c\0d"),
        (f"import sys; print('a{HALF}b', 'c\\0d', file=sys.stderr)", "c\0d"),
        (f"display({{'text/plain': 'a{HALF}b c\\0d'}}, raw=True)", "c\0d"),
        (f"class S:\n    def __repr__(self): return 'a{HALF}b c\\0d'\nS()", "c\0d"),
        (f"raise ValueError('a{HALF}b c\\0d')", "c\0d"),
        (f"from comm import create_comm; c = create_comm('t', data={{'a{HALF}b': 'c\\0d'}}); c.close()", "c\0d"),
        (f"get_ipython().set_next_input('a{HALF}b c\\0d')", "c\0d"),
    ],
)
def test_half_a_character_is_shown_as_such(shared_kernel: Kernel, code: str, shown: str) -> None:
    result = shared_kernel.run(code)
    text = repr([message.content for message in result.messages if message.type != "execute_input"])
    assert "\ufffd" in text
    assert repr(shown)[1:-1] in text
    answers(shared_kernel)


def test_variables_with_such_names_are_shared(kernel: Kernel) -> None:
    child = kernel.create_subshell()
    kernel.run(f"globals().update({{'n{HALF}': 5, 'n\\0': 6}}); text = 'q{HALF}'")
    assert kernel.value(f"[globals()['n{HALF}'], globals()['n\\0'], text == 'q{HALF}']", child) == [5, 6, True]
    kernel.run(f"globals()['n{HALF}'] = 7; del globals()['n\\0']", child)
    assert kernel.value(f"[globals()['n{HALF}'], 'n\\0' in globals()]") == [7, False]


def send_half(kernel: Kernel, msg_type: str, **content: object) -> Pending:
    """A request with half characters in it, which a browser may send and `Session` can't."""
    message = kernel.message(msg_type)
    frames = kernel.session.serialize(message)
    frames[5] = json.dumps(content).encode()
    frames[1] = kernel.session.sign(frames[2:6])
    return kernel.send_frames(frames, message["header"])


@pytest.mark.mpkernel_only("no reply")
def test_half_a_character_in_a_cell_is_told_of_and_the_history_goes_on(kernel: Kernel) -> None:
    half = json.loads(f'"{HALF}"')
    result = send_half(kernel, "execute_request", code=f"'{half}'", silent=False, store_history=True).wait()
    assert result.ename == "UnicodeEncodeError"
    kernel.run("'after'")
    for kind in ({"hist_access_type": "tail", "n": 2}, {"hist_access_type": "search", "pattern": f"*{half}*", "n": 5}):
        reply = send_half(kernel, "history_request", raw=True, output=False, **kind).wait()
        assert reply.status == "ok"
    tail = kernel.request("history_request", {"raw": True, "output": False, "hist_access_type": "tail", "n": 2})
    assert [code for *_, code in tail.content["history"]] == ["'\ufffd\ufffd\ufffd'", "'after'"]
    for msg_type in ("complete_request", "inspect_request", "is_complete_request"):
        assert send_half(kernel, msg_type, code=f"'{half}'; pri", cursor_pos=8, detail_level=0).wait().statuses


def test_nul_in_a_cell_is_told_of(shared_kernel: Kernel) -> None:
    for code in ("x = 1\0", "'a\0b'"):
        assert shared_kernel.run(code).ename == "SyntaxError"
    answers(shared_kernel)


# --- what never ends -------------------------------------------------------------------------------------------------

ENDLESS = """class Endless:
    def __dir__(self):
        {inside}
        while True: pass
    __repr__ = __dir__
endless = Endless()"""
LOOKS = [
    ("complete_request", {"code": "endless.", "cursor_pos": 8}),
    ("inspect_request", {"code": "endless", "cursor_pos": 7, "detail_level": 0}),
]


@pytest.mark.mpkernel_only("no reply")
@pytest.mark.parametrize(("msg_type", "content"), LOOKS)
def test_a_look_that_never_ends_is_interrupted(kernel: Kernel, msg_type: str, content: dict[str, object]) -> None:
    gate = kernel.gate("gate")
    kernel.run(ENDLESS.format(inside=gate.pass_through))
    look = kernel.send(msg_type, content)
    gate.release()
    kernel.interrupt()
    look.wait()
    answers(kernel)


@pytest.mark.mpkernel_only("such requests wait for the cell")
@pytest.mark.parametrize(("msg_type", "content"), LOOKS)
def test_a_look_that_never_ends_holds_up_nobody_and_is_interrupted(
    kernel: Kernel, msg_type: str, content: dict[str, object]
) -> None:
    gate = kernel.gate("gate")
    kernel.run(ENDLESS.format(inside=gate.pass_through))
    cell = kernel.start(f"seen = 'live'\n{LOOP}")
    look = kernel.send(msg_type, content)
    gate.release()
    child = kernel.create_subshell()
    kernel.run("import mpkernel", child)
    assert kernel.value("mpkernel.live('seen')", child) == "live"
    assert not look.is_done
    kernel.interrupt()
    assert cell.wait().ename == "KeyboardInterrupt"
    # What has just begun is spared, as an interrupt may be late.
    assert poll_until(lambda: kernel.interrupt() is not None and look.is_done, 20 * PATIENCE)
    answers(kernel)
    assert "print" in kernel.request("complete_request", {"code": "pri", "cursor_pos": 3}).content["matches"]


# --- comms and debugger ----------------------------------------------------------------------------------------------


@pytest.mark.heavy
@pytest.mark.timeout(180)
def test_control_answers_while_10_000_messages_for_a_comm_are_handled_in_order(kernel: Kernel) -> None:
    kernel.run(
        "from comm import get_comm_manager\nheard = []\n"
        "def opened(comm, _): comm.on_msg(lambda m: heard.append(m['content']['data']['n']))\n"
        "get_comm_manager().register_target('flood', opened)"
    )
    kernel.send("comm_open", {"comm_id": "c", "target_name": "flood", "data": {}}).wait_for_idle()
    sent = [kernel.send("comm_msg", {"comm_id": "c", "data": {"n": n}}) for n in range(10_000)]
    info = kernel.send("kernel_info_request", channel="control")
    info.wait_until(lambda: info.reply is not None, "a reply")
    assert not sent[-1].is_idle
    kernel.wait_until(lambda: sent[-1].is_idle, "idle of the last message", 90)
    kernel.wait_until(lambda: all(pending.is_idle for pending in sent), "idle of all messages")
    assert kernel.value("heard == list(range(10_000))") is True


def test_a_debugger_that_begins_anew(kernel: Kernel) -> None:
    """A page is loaded again, or a second one is opened, while the debugger is on."""
    for ends in (False, False, True, False):
        debug = Debugging(kernel)
        debug.ask("initialize", **INTRODUCTION)
        debug.ask("attach")
        assert debug.ask("debugInfo")["isStarted"] is True
        debug.set_breakpoints("x = 1\ny = 2", 2)
        cell = debug.stop("x = 1\ny = 2")
        debug.ask("continue", threadId=1)
        assert cell.wait().status == "ok"
        if ends:
            debug.ask("disconnect", terminateDebuggee=True, restart=True)
            assert debug.ask("debugInfo")["isStarted"] is False
    answers(kernel)
