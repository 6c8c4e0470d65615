"""SIGINT raises where user code runs, waits where it doesn't, and never reaches the next request."""

from __future__ import annotations

import asyncio
import signal
import traceback
from collections.abc import Callable, Coroutine, Iterator
from signal import SIGINT, SIGTERM, raise_signal
from typing import Any

import pytest

from mpkernel.errors import Killed
from mpkernel.worker.interrupts import Interrupts, users_frames


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop; the signal handlers are put back after the test."""
    handlers = {signum: signal.getsignal(signum) for signum in (SIGINT, SIGTERM)}
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()
    for signum, handler in handlers.items():
        signal.signal(signum, handler)


@pytest.fixture
def interrupts(loop: asyncio.AbstractEventLoop) -> Interrupts:
    """A worker's interrupts, installed."""
    interrupts = Interrupts(loop, loop.stop)
    interrupts.install()
    return interrupts


# --- windows ----------------------------------------------------------------------------------------------------------


def test_in_a_window_of_a_request_it_raises_at_once(interrupts: Interrupts) -> None:
    with interrupts.request(), pytest.raises(KeyboardInterrupt), interrupts.window():
        raise_signal(SIGINT)
    assert not interrupts.terminating


def test_between_requests_it_is_ignored(interrupts: Interrupts) -> None:
    raise_signal(SIGINT)
    with interrupts.window():
        raise_signal(SIGINT)
    with interrupts.request() as missed, interrupts.window():
        assert missed
    with interrupts.request() as missed:
        raise_signal(SIGINT)
        assert not missed
    with interrupts.request() as missed:
        assert not missed


def test_outside_a_window_it_is_kept_for_the_next_one(interrupts: Interrupts) -> None:
    with interrupts.request():
        raise_signal(SIGINT)
        with pytest.raises(KeyboardInterrupt), interrupts.window():
            raise AssertionError("the window opened")


def test_it_raises_once(interrupts: Interrupts) -> None:
    with interrupts.request():
        raise_signal(SIGINT)
        raise_signal(SIGINT)
        with pytest.raises(KeyboardInterrupt), interrupts.window():
            pass
        with interrupts.window():
            pass


def test_what_is_kept_at_the_end_of_a_request_is_not_for_the_next(interrupts: Interrupts) -> None:
    with interrupts.request():
        raise_signal(SIGINT)
    with interrupts.request(), interrupts.window():
        pass


def test_what_is_kept_at_the_end_of_a_request_is_dropped(interrupts: Interrupts) -> None:
    with interrupts.request():
        raise_signal(SIGINT)
    try:
        with interrupts.window():  # a hook of a background task, say
            pass
    except KeyboardInterrupt:
        pytest.fail("it hit what runs between two requests")


def test_after_a_window_it_is_kept_again(interrupts: Interrupts) -> None:
    with interrupts.request():
        with interrupts.window():
            pass
        raise_signal(SIGINT)
        with pytest.raises(KeyboardInterrupt), interrupts.window():
            pass


def test_after_an_inner_window_the_outer_one_is_still_open(interrupts: Interrupts) -> None:
    def nested() -> None:
        with interrupts.window():
            with interrupts.window():
                pass
            raise_signal(SIGINT)

    with interrupts.request(), pytest.raises(KeyboardInterrupt):
        nested()


def test_a_window_that_ends_with_an_error_is_closed(interrupts: Interrupts) -> None:
    with interrupts.request():
        with pytest.raises(ZeroDivisionError), interrupts.window():
            raise ZeroDivisionError
        raise_signal(SIGINT)
        with pytest.raises(KeyboardInterrupt), interrupts.window():
            pass


def test_a_request_takes_the_handlers_back_that_user_code_has_set(interrupts: Interrupts) -> None:
    signal.signal(SIGINT, signal.SIG_IGN)
    with interrupts.request(), pytest.raises(KeyboardInterrupt), interrupts.window():
        raise_signal(SIGINT)


def test_in_a_process_that_user_code_forked_signals_do_what_they_do_by_default(interrupts: Interrupts) -> None:
    interrupts.uninstall()
    assert signal.getsignal(SIGINT) is signal.default_int_handler
    assert signal.getsignal(SIGTERM) is signal.SIG_DFL


def test_handlers_of_the_users_stay_in_a_process_that_they_fork(interrupts: Interrupts) -> None:
    signal.signal(SIGTERM, signal.SIG_IGN)
    signal.signal(SIGINT, signal.SIG_IGN)
    interrupts.uninstall()
    assert signal.getsignal(SIGINT) is signal.getsignal(SIGTERM) is signal.SIG_IGN


# --- SIGTERM ----------------------------------------------------------------------------------------------------------


def test_sigterm_raises_killed_in_a_window(interrupts: Interrupts) -> None:
    with interrupts.request(), pytest.raises(Killed), interrupts.window():
        raise_signal(SIGTERM)
    assert interrupts.terminating


def test_sigterm_outside_a_window_is_kept_for_the_next_one(interrupts: Interrupts) -> None:
    with interrupts.request():
        raise_signal(SIGTERM)
        assert interrupts.terminating
        with pytest.raises(Killed), interrupts.window():
            pass


def test_sigterm_between_requests_ends_the_loop(interrupts: Interrupts, loop: asyncio.AbstractEventLoop) -> None:
    loop.call_soon(raise_signal, SIGTERM)
    loop.run_forever()
    assert interrupts.terminating


# --- a cell that awaits -----------------------------------------------------------------------------------------------

Cell = Coroutine[Any, Any, Any]


def drive(interrupts: Interrupts, cell: Cell, *, meanwhile: Callable[[], object] = lambda: None) -> Any:
    """Run a cell as a request; `meanwhile` is called once it waits."""

    async def request() -> Any:
        with interrupts.request():
            asyncio.get_running_loop().call_soon(meanwhile)
            result = await interrupts.drive(cell)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        return result

    return interrupts._loop.run_until_complete(request())


def interrupt() -> None:
    raise_signal(SIGINT)


async def forever() -> None:
    """Wait for what never comes."""
    await asyncio.get_running_loop().create_future()


def test_a_cell_that_is_not_interrupted_has_its_result(interrupts: Interrupts) -> None:
    async def cell() -> int:
        await asyncio.sleep(0)
        return 42

    assert drive(interrupts, cell()) == 42


def test_a_cells_error_is_the_requests(interrupts: Interrupts) -> None:
    async def cell() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        drive(interrupts, cell())


def test_an_await_is_interrupted_where_it_is(interrupts: Interrupts) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        drive(interrupts, forever(), meanwhile=interrupt)
    assert caught.traceback[-1].name == "forever"


def test_an_await_gets_killed_by_sigterm(interrupts: Interrupts) -> None:
    with pytest.raises(Killed):
        drive(interrupts, forever(), meanwhile=lambda: raise_signal(SIGTERM))
    assert interrupts.terminating


def test_a_cell_can_catch_the_interrupt_and_go_on(interrupts: Interrupts) -> None:
    async def cell() -> str:
        try:
            await forever()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "went on"

    assert drive(interrupts, cell(), meanwhile=interrupt) == "went on"


def test_a_cell_can_be_interrupted_again(interrupts: Interrupts) -> None:
    async def cell() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            asyncio.get_running_loop().call_soon(interrupt)
            await forever()

    with pytest.raises(KeyboardInterrupt):
        drive(interrupts, cell(), meanwhile=interrupt)


def test_many_interrupts_at_once_are_one(interrupts: Interrupts) -> None:
    async def cell() -> str:
        try:
            await forever()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return "went on"

    def twice() -> None:
        interrupt()
        interrupt()

    assert drive(interrupts, cell(), meanwhile=twice) == "went on"


def test_an_interrupt_as_the_awaited_thing_comes_is_not_lost(interrupts: Interrupts) -> None:
    future = interrupts._loop.create_future()

    async def cell() -> None:
        await future

    def come() -> None:
        future.set_result(None)
        interrupt()

    with pytest.raises(KeyboardInterrupt):
        drive(interrupts, cell(), meanwhile=come)


def test_an_interrupt_between_two_awaits_raises_at_the_next(interrupts: Interrupts) -> None:
    """Outside of a window: IPython's own work between two statements."""

    async def cell() -> str:
        interrupt()
        await forever()
        return "never"

    async def request() -> None:
        with interrupts.request():
            await interrupts.drive(cell())

    task = interrupts._loop.create_task(request())
    interrupts._loop.call_soon(interrupt)
    with pytest.raises(KeyboardInterrupt):
        interrupts._loop.run_until_complete(task)


def test_a_task_that_somebody_else_cancels_is_cancelled(interrupts: Interrupts) -> None:
    async def request() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_soon(task.cancel)
        with interrupts.request():
            await interrupts.drive(forever())

    with pytest.raises(asyncio.CancelledError):
        interrupts._loop.run_until_complete(request())


def test_an_interrupt_of_a_cell_does_not_touch_its_background_tasks(interrupts: Interrupts) -> None:
    background: list[asyncio.Task[None]] = []

    async def cell() -> None:
        background.append(asyncio.get_running_loop().create_task(forever()))
        await forever()

    with pytest.raises(KeyboardInterrupt):
        drive(interrupts, cell(), meanwhile=interrupt)
    assert not background[0].done()
    background[0].cancel()
    interrupts._loop.run_until_complete(asyncio.wait(background))


def test_between_two_cells_an_interrupt_does_not_touch_background_tasks(interrupts: Interrupts) -> None:
    async def background() -> str:
        interrupt()
        await asyncio.sleep(0)
        return "undisturbed"

    assert interrupts._loop.run_until_complete(background()) == "undisturbed"


def test_an_interrupt_of_a_task_group_ends_its_tasks(interrupts: Interrupts) -> None:
    ended = []

    async def member() -> None:
        try:
            await forever()
        finally:
            ended.append(True)

    async def cell() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(member())

    with pytest.raises(KeyboardInterrupt):
        drive(interrupts, cell(), meanwhile=lambda: interrupts._loop.call_soon(interrupt))
    try:
        assert ended == [True] * 3
    finally:
        rest = asyncio.all_tasks(interrupts._loop)
        for task in rest:
            task.cancel()
        if rest:
            interrupts._loop.run_until_complete(asyncio.wait(rest))


# --- tracebacks -------------------------------------------------------------------------------------------------------


def frames(error: BaseException) -> list[str]:
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def test_the_handlers_frames_are_cut_off_a_traceback(interrupts: Interrupts) -> None:
    def user_code() -> None:
        with interrupts.window():
            raise_signal(SIGINT)

    with interrupts.request(), pytest.raises(KeyboardInterrupt) as caught:
        user_code()
    assert frames(caught.value)[-1] == "_raise"
    users_frames(caught.value.__traceback__)
    assert frames(caught.value)[-1] == "user_code"


def test_a_traceback_without_own_frames_stays_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        raise ZeroDivisionError
    before = frames(caught.value)
    users_frames(caught.value.__traceback__)
    assert frames(caught.value) == before
    users_frames(None)


# --- callbacks of comms ------------------------------------------------------------------------------------------


def test_a_callback_is_interrupted_though_no_request_runs(interrupts: Interrupts) -> None:
    with pytest.raises(KeyboardInterrupt), interrupts.callback():
        raise_signal(SIGINT)
    raise_signal(SIGINT)  # it has ended
