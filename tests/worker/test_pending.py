"""What an event loop has still to run of the user's."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from mpkernel.worker import gui, pending
from mpkernel.worker.pending import users_callbacks


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def users() -> None: ...


def test_timers_and_callbacks_that_are_due_count_until_they_are_cancelled(loop: asyncio.AbstractEventLoop) -> None:
    assert not users_callbacks(loop)
    for callback in (users, functools.partial(users), print):
        handle = loop.call_later(3600, callback) if callback is users else loop.call_soon(callback)
        assert users_callbacks(loop)
        handle.cancel()
        assert not users_callbacks(loop)


def test_what_the_kernel_has_on_its_loop_does_not_count(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_later(3600, pending.users_callbacks, loop)
    loop.call_soon(functools.partial(pending.users_callbacks, loop))
    assert not users_callbacks(loop)


def test_that_another_thread_has_woken_the_loop_does_not_count(loop: asyncio.AbstractEventLoop) -> None:
    async def cell() -> bool:
        loop._csock.send(b"\0")  # type: ignore[attr-defined]  # what `call_soon_threadsafe` does
        await asyncio.sleep(0)  # the loop finds out, and goes on here before it reads that
        assert len(loop._ready) == 1  # type: ignore[attr-defined]
        return users_callbacks(loop)

    assert not loop.run_until_complete(cell())


def test_other_threads_may_wake_the_loop_meanwhile(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked about a handle may let them."""
    for _ in range(3):
        loop.call_soon(pending.users_callbacks, loop)
    is_users = pending._is_users

    def meanwhile(*handle: Any) -> bool:
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(pending.users_callbacks, loop))
        thread.start()
        thread.join()
        return is_users(*handle)

    monkeypatch.setattr(pending, "_is_users", meanwhile)
    assert not users_callbacks(loop)


def test_the_events_of_a_toolkit_do(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_later(3600, gui.Gui(loop, None)._pump, users)
    assert users_callbacks(loop)


def test_a_file_that_is_watched_counts(loop: asyncio.AbstractEventLoop) -> None:
    read, write = os.pipe()
    loop.add_reader(read, users)
    assert users_callbacks(loop)
    loop.remove_reader(read)
    assert not users_callbacks(loop)
    os.close(read)
    os.close(write)


def test_a_loop_of_another_kind_is_taken_to_have_none() -> None:
    assert not users_callbacks(asyncio.AbstractEventLoop())
