"""`input()` and `getpass()` ask the front end that runs the cell, and get its answer and no other's."""

from __future__ import annotations

import pytest

from .driver import Client, Kernel, Pending

CROSSED = "input() in two shells crosses replies, and may kill the kernel"


def answer_all(kernel: Kernel, pendings: dict[str, Pending], *, with_parent: bool) -> None:
    """Answer each input request with the name of the cell that asks, in the order in which they come.

    A kernel may show them one after the other, so an answer must not wait for the next request.
    """
    answered: set[str] = set()

    def unanswered() -> list[str]:
        return [name for name, pending in pendings.items() if pending.input_requests and name not in answered]

    while len(answered) < len(pendings):
        kernel.wait_until(lambda: bool(unanswered()), "next input_request")
        oldest = min(unanswered(), key=lambda name: pendings[name].input_requests[0].number)
        kernel.answer_input(pendings[oldest].input_requests[0], f"answer to {oldest}", with_parent=with_parent)
        answered.add(oldest)


def test_input_asks_the_front_end_and_returns_its_answer(kernel: Kernel, shell: str | None) -> None:
    pending = kernel.submit("print('before', end='')\nanswer = input('name? ')\nprint(answer)", shell, allow_stdin=True)
    request = pending.wait_for_input_request()
    assert request.content == {"prompt": "name? ", "password": False}
    assert request.channel == "stdin"
    assert pending.reply is None
    kernel.answer_input(request, "Grüße 🐍")
    assert pending.wait().stdout == "beforeGrüße 🐍\n"


def test_getpass_asks_for_a_password(kernel: Kernel, shell: str | None) -> None:
    pending = kernel.submit("from getpass import getpass\nprint(len(getpass('pin? ')))", shell, allow_stdin=True)
    request = pending.wait_for_input_request()
    assert request.content == {"prompt": "pin? ", "password": True}
    kernel.answer_input(request, "secret")
    assert pending.wait().stdout == "6\n"


def test_a_prompt_may_be_any_object(shared_kernel: Kernel) -> None:
    pending = shared_kernel.submit("x = input(42)", allow_stdin=True)
    request = pending.wait_for_input_request()
    assert request.content["prompt"] == "42"
    shared_kernel.answer_input(request, "")
    assert pending.wait().status == "ok"


def test_several_inputs_in_one_cell_are_answered_in_turn(shared_kernel: Kernel) -> None:
    pending = shared_kernel.submit("answers = [input(str(n)) for n in range(5)]\nanswers", allow_stdin=True)
    for n in range(5):
        pending.wait_until(lambda n=n: len(pending.input_requests) == n + 1, f"input_request {n}")  # type: ignore[misc]
        request = pending.input_requests[n]
        assert request.content["prompt"] == str(n)
        shared_kernel.answer_input(request, f"answer {n}")
    assert pending.wait().text == str([f"answer {n}" for n in range(5)])


@pytest.mark.mpkernel_only(CROSSED)
@pytest.mark.parametrize("with_parent", [True, False], ids=["with parent header", "without parent header"])
def test_inputs_in_four_shells_at_once_get_their_own_answers(kernel: Kernel, with_parent: bool) -> None:
    shells = {"main": None} | {f"child {n}": kernel.create_subshell() for n in range(3)}
    for round in range(3):
        asking = "input()" if round % 2 == 0 else "__import__('getpass').getpass()"
        pendings = {name: kernel.submit(f"print({asking})", shell, allow_stdin=True) for name, shell in shells.items()}
        answer_all(kernel, pendings, with_parent=with_parent)
        for name, pending in pendings.items():
            assert pending.wait().stdout == f"answer to {name}\n"
            assert len(pending.input_requests) == 1


def test_input_is_refused_where_the_front_end_allows_none(kernel: Kernel, shell: str | None) -> None:
    for code, name in {"input()": "raw_input", "import getpass; getpass.getpass()": "getpass"}.items():
        result = kernel.run(code, shell, allow_stdin=False)
        assert result.ename == "StdinNotImplementedError"
        assert result.content["evalue"] == f"{name} was called, but this frontend does not support input requests."
    pending = kernel.submit("print(input())", shell, allow_stdin=True)
    kernel.answer_input(pending.wait_for_input_request(), "allowed again")
    assert pending.wait().stdout == "allowed again\n"


def test_ctrl_d_is_an_end_of_file(shared_kernel: Kernel) -> None:
    pending = shared_kernel.submit("input()", allow_stdin=True)
    shared_kernel.answer_input(pending.wait_for_input_request(), "\x04")
    assert pending.wait().ename == "EOFError"


def test_only_the_client_that_runs_the_cell_is_asked(kernel: Kernel) -> None:
    with Client(kernel.connection_file) as other:
        pending = other.submit("print(input('who? '))", allow_stdin=True)
        request = pending.wait_for_input_request()
        kernel.control("kernel_info_request")
        assert [stray for stray in kernel.strays if stray.type == "input_request"] == []
        other.answer_input(request, "the other")
        assert pending.wait().stdout == "the other\n"


@pytest.mark.mpkernel_only(CROSSED)
def test_two_clients_in_two_shells_are_each_asked_and_answer_without_parent(kernel: Kernel) -> None:
    child = kernel.create_subshell()
    with Client(kernel.connection_file) as other:
        mine = kernel.submit("print(input('mine? '))", allow_stdin=True)
        theirs = other.submit("print(input('theirs? '))", child, allow_stdin=True)
        mine_asked, theirs_asked = mine.wait_for_input_request(), theirs.wait_for_input_request()
        other.answer_input(theirs_asked, "theirs", with_parent=False)
        kernel.answer_input(mine_asked, "mine", with_parent=False)
        assert theirs.wait().stdout == "theirs\n"
        assert mine.wait().stdout == "mine\n"


@pytest.mark.mpkernel_only("control isn't held up, but side requests are")
def test_side_requests_are_answered_while_a_cell_asks(kernel: Kernel) -> None:
    pending = kernel.submit("print(input())", allow_stdin=True)
    request = pending.wait_for_input_request()
    assert kernel.request("complete_request", {"code": "pri", "cursor_pos": 3}).status == "ok"
    assert kernel.control("kernel_info_request").status == "ok"
    kernel.answer_input(request, "done")
    assert pending.wait().stdout == "done\n"
