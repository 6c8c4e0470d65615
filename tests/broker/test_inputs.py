"""`input()` asks the client that runs the cell; each answer goes to the question that it answers."""

from __future__ import annotations

import itertools

import pytest

from mpkernel.broker import inputs
from mpkernel.broker.inputs import OpenInputs
from mpkernel.broker.state import OpenInput, Request, Worker
from mpkernel.wire import Codec, Json, Signer

from .bench import CONSOLE, JUPYTERLAB, Kernel, Sent


def questions(kernel: Kernel) -> list[str]:
    return [sent.content["prompt"] for sent in kernel.sent("stdin", "input_request")]


def asking(kernel: Kernel, *subshells: str | None, client: tuple[bytes, ...] = JUPYTERLAB) -> list[Sent]:
    """A cell in each of the subshells asks; returns what was shown."""
    for subshell in subshells:
        kernel.running("input()", subshell, client=client)
        kernel.worker(subshell).ask_input(subshell or "main")
    return kernel.sent("stdin", "input_request")[-len(subshells) :]


def answers(kernel: Kernel, *subshells: str | None) -> list[list[str]]:
    return [[value for _, value in kernel.worker(subshell).typed] for subshell in subshells]


@pytest.fixture
def three(kernel: Kernel) -> list[str | None]:
    return [None, kernel.create(), kernel.create()]


def test_the_client_that_runs_the_cell_is_asked_and_its_answer_reaches_the_cell(kernel: Kernel) -> None:
    [shown] = asking(kernel, None, client=CONSOLE)
    assert (shown.channel, shown.to) == ("stdin", CONSOLE)
    kernel.answer_input("Grüße", to=shown, client=CONSOLE)
    assert kernel.worker().typed == [(1, "Grüße")]


def test_three_subshells_ask_at_once(kernel: Kernel, three: list[str | None]) -> None:
    asking(kernel, *three)
    assert questions(kernel) == [subshell or "main" for subshell in three]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_an_answer_finds_its_question_by_its_parent(
    kernel: Kernel, three: list[str | None], order: tuple[int, ...]
) -> None:
    shown = asking(kernel, *three)
    for n in order:
        kernel.answer_input(f"answer {n}", to=shown[n])
    assert answers(kernel, *three) == [["answer 0"], ["answer 1"], ["answer 2"]]


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_an_answer_finds_its_question_by_its_subshell(
    kernel: Kernel, three: list[str | None], order: tuple[int, ...]
) -> None:
    asking(kernel, *three)
    for n in order:
        kernel.answer_input(f"answer {n}", subshell=three[n])
    assert answers(kernel, *three) == [[], ["answer 1"], ["answer 2"]]


def test_an_answer_may_name_the_cell_instead_of_the_question(kernel: Kernel, three: list[str | None]) -> None:
    cells = []
    for subshell in three:
        cells.append(kernel.running("input()", subshell))
        kernel.worker(subshell).ask_input()
    kernel.answer_input("typed", parent=cells[1].message.header)
    assert answers(kernel, *three) == [[], ["typed"], []]


def test_an_answer_that_names_nothing_is_for_the_oldest_question(kernel: Kernel, three: list[str | None]) -> None:
    asking(kernel, three[1], three[0], three[2])
    for n in range(3):
        kernel.answer_input(f"answer {n}")
    assert answers(kernel, *three) == [["answer 1"], ["answer 0"], ["answer 2"]]


def test_an_answer_that_names_nothing_is_for_ones_own_question(kernel: Kernel, three: list[str | None]) -> None:
    asking(kernel, three[0], client=CONSOLE)
    asking(kernel, three[1], client=JUPYTERLAB)
    kernel.answer_input("mine", client=JUPYTERLAB)
    assert answers(kernel, *three[:2]) == [[], ["mine"]]


def test_an_answer_to_a_question_that_is_no_longer_open_answers_no_other(
    kernel: Kernel, three: list[str | None]
) -> None:
    first, _ = asking(kernel, *three[:2])
    kernel.answer_input("once", to=first)
    kernel.answer_input("twice", to=first)
    assert answers(kernel, *three[:2]) == [["once"], []]


def test_an_answer_that_nobody_waits_for_is_dropped(kernel: Kernel) -> None:
    kernel.running()
    kernel.clear()
    kernel.answer_input("hello?")
    assert kernel.worker().typed == []
    assert "nobody waits" in kernel.logged()[0]


@pytest.mark.parametrize("value", [3, None, True, ["a"], {"b": 1}])
def test_an_answer_is_always_a_text(kernel: Kernel, value: object) -> None:
    asking(kernel, None)
    kernel.answer_input(value)
    [[typed]] = answers(kernel, None)
    assert isinstance(typed, str)


@pytest.mark.parametrize("content", [b"not JSON", b"[]", b"null"])
def test_a_malformed_answer_leaves_the_question_open(kernel: Kernel, content: bytes) -> None:
    [shown] = asking(kernel, None)
    kernel.clear()
    kernel.ask("input_reply", content, channel="stdin", parent=shown.message.header)
    assert "dropped" in kernel.logged()[0]
    kernel.answer_input("again", to=shown)
    assert answers(kernel, None) == [["again"]]


def test_several_questions_in_one_cell_are_asked_and_answered_in_turn(kernel: Kernel) -> None:
    kernel.running()
    for n in range(3):
        kernel.worker().ask_input(str(n))
        kernel.answer_input(f"answer {n}")
    assert answers(kernel, None) == [["answer 0", "answer 1", "answer 2"]]


# --- questions that are taken back ----------------------------------------------------------------------------------


def test_a_question_of_an_interrupted_cell_is_not_answered(kernel: Kernel) -> None:
    child = kernel.create()
    asking(kernel, None, child)
    kernel.interrupt("subshell-1")
    kernel.worker().cancel_input(1)
    kernel.answer_input("for the child")
    assert answers(kernel, None, child) == [[], ["for the child"]]


def test_a_question_ends_with_its_cell(kernel: Kernel) -> None:
    child = kernel.create()
    asking(kernel, None, child)
    kernel.worker().reply()
    kernel.answer_input("for the child")
    assert answers(kernel, None, child) == [[], ["for the child"]]


def test_a_question_ends_with_its_process(kernel: Kernel) -> None:
    child = kernel.create()
    asking(kernel, None, child)
    dead = kernel.worker()
    dead.die()
    kernel.answer_input("for the child")
    assert (dead.typed, answers(kernel, child)) == ([], [["for the child"]])


def test_a_question_ends_with_its_subshell(kernel: Kernel) -> None:
    child = kernel.create()
    asking(kernel, child, None)
    worker = kernel.worker(child)
    kernel.delete(child)
    kernel.answer_input("for main")
    assert (worker.typed, answers(kernel, None)) == ([], [["for main"]])


def test_a_question_of_a_cell_that_was_answered_meanwhile_is_not_shown(kernel: Kernel) -> None:
    child = kernel.create()
    kernel.running("input()", child)
    worker = kernel.worker(child)
    kernel.delete(child)
    worker.ask_input()
    assert questions(kernel) == []


# --- clients that don't know about subshells ------------------------------------------------------------------------


class Clients:
    """`OpenInputs` and requests of several cells."""

    def __init__(self) -> None:
        self.inputs = OpenInputs()
        self._codec = Codec(Signer(b""))

    def ask(self, name: str, *, aware: bool, worker: int = 1, seq: int = 1) -> list[str]:
        """A cell asks; returns what is shown now."""
        header: Json = self._codec.header("execute_request", **({"subshell_id": None} if aware else {}))
        message = self._codec.unpack(self._codec.pack("execute_request", {}, header=header, idents=[b"client"]))
        self.inputs.note_client(message)
        entry = OpenInput(Worker(worker), 1, Request(seq, "shell", message, 0.0), name, ())
        return names(self.inputs.add(entry))

    def answer(self) -> tuple[str | None, list[str]]:
        """An answer without parent; returns what it answered and what is shown now."""
        frames = self._codec.pack("input_reply", {"value": ""}, idents=[b"client"])
        entry, shown = self.inputs.answer(self._codec.unpack(frames))
        return entry.msg_id if entry is not None else None, names(shown)


def names(entries: list[OpenInput]) -> list[str]:
    return [entry.msg_id for entry in entries]


def test_a_client_unaware_of_subshells_is_asked_one_question_at_a_time() -> None:
    client = Clients()
    assert [client.ask(name, aware=False) for name in "abc"] == [["a"], [], []]
    assert [client.answer() for _ in range(4)] == [("a", ["b"]), ("b", ["c"]), ("c", []), (None, [])]


def test_the_next_question_is_shown_when_the_one_before_is_taken_back() -> None:
    client = Clients()
    client.ask("a", aware=False, worker=1)
    client.ask("b", aware=False, worker=2)
    assert names(client.inputs.drop(worker=1)) == ["b"]


def test_taking_back_a_question_that_waits_shows_nothing_new() -> None:
    client = Clients()
    client.ask("a", aware=False, worker=1)
    client.ask("b", aware=False, worker=2)
    assert client.inputs.drop(worker=2) == []
    assert client.answer() == ("a", [])


def test_a_question_that_is_not_shown_yet_is_not_answered() -> None:
    client = Clients()
    client.ask("a", aware=False, worker=1)
    client.ask("b", aware=False, worker=2)
    assert client.answer() == ("a", ["b"])


def test_a_client_that_learns_of_subshells_is_shown_all_that_waits() -> None:
    client = Clients()
    client.ask("a", aware=False)
    client.ask("b", aware=False)
    assert client.ask("c", aware=True) == ["b", "c"]


@pytest.mark.parametrize(("token", "seq", "left"), [(1, None, []), (2, None, ["a"]), (None, 1, []), (None, 2, ["a"])])
def test_questions_are_dropped_by_token_and_by_request(token: int | None, seq: int | None, left: list[str]) -> None:
    client = Clients()
    client.ask("a", aware=True)
    client.inputs.drop(worker=1, token=token, seq=seq)
    answered, _ = client.answer()
    assert [answered] * len(left) == left
    assert (answered is None) == (not left)


def test_of_so_many_clients_the_latest_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MOST_CLIENTS", 2)
    kernel = Kernel()
    first = kernel.create()
    asking(kernel, None, client=CONSOLE)
    for n in range(5):
        kernel.ask("kernel_info_request", client=(b"client %d" % n,))
    kernel.running("input()", first, client=JUPYTERLAB)
    kernel.worker(first).ask_input("of one that is remembered")
    assert questions(kernel)[-1] == "of one that is remembered"
