"""The channel between loops and threads of one process: who waits is woken, and no wake-up is lost."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from cascata.channel.threads import EMPTY, ENDED, ThreadChannel
from tests.coroutines import turn


def test_what_is_not_an_item_says_so() -> None:
    channel = ThreadChannel(1)
    assert channel.try_take() is EMPTY
    channel.close()
    assert channel.try_take() is ENDED
    assert (repr(EMPTY), repr(ENDED)) == ("EMPTY", "ENDED")


async def test_a_waiter_whose_coroutine_is_closed_passes_its_wake_up_on() -> None:
    channel = ThreadChannel(1)
    waiting = channel.item()
    waiting.send(None)
    other = asyncio.ensure_future(channel.item())
    await turn()
    assert channel.try_put(1)
    waiting.close()
    async with asyncio.timeout(10):
        await other


async def test_a_waiter_that_is_cancelled_when_it_was_woken_passes_its_wake_up_on() -> None:
    channel = ThreadChannel(1)
    first, second = (asyncio.ensure_future(channel.item()) for _ in range(2))
    await turn()
    assert channel.try_put(1)
    first.cancel()
    async with asyncio.timeout(10):
        await second


async def test_a_waiter_that_is_cancelled_before_it_was_woken_takes_no_wake_up() -> None:
    channel = ThreadChannel(1)
    first, second = (asyncio.ensure_future(channel.item()) for _ in range(2))
    await turn()
    first.cancel()
    await turn()
    assert channel.try_put(1)
    async with asyncio.timeout(10):
        await second


def test_a_waiter_whose_loop_was_closed_takes_no_wake_up() -> None:
    channel = ThreadChannel(1)
    dead = asyncio.new_event_loop()
    waiting = channel.item()

    async def begin() -> None:
        waiting.send(None)

    dead.run_until_complete(begin())
    dead.close()

    async def wait() -> None:
        other = asyncio.ensure_future(channel.item())
        await turn()
        assert channel.try_put(1)
        async with asyncio.timeout(10):
            await other

    asyncio.run(wait())
    waiting.close()


def test_a_thread_that_gave_up_waiting_takes_no_wake_up() -> None:
    channel = ThreadChannel(1)
    channel.item_sync(timeout=0)

    async def wait() -> None:
        other = asyncio.ensure_future(channel.item())
        await turn()
        assert channel.try_put(1)
        async with asyncio.timeout(10):
            await other

    asyncio.run(wait())


class Interrupted(BaseException):
    pass


async def test_a_thread_that_is_interrupted_when_it_was_woken_passes_its_wake_up_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    channel = ThreadChannel(1)
    others: list[Any] = []

    class Gate(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            other = channel.item()
            others.extend([other, other.send(None)])
            assert channel.try_put(1)
            raise Interrupted

    monkeypatch.setattr("cascata.channel.threads.threading.Event", Gate)
    with pytest.raises(Interrupted):
        channel.item_sync(None)
    await turn(2)
    other, wakes = others
    assert wakes.done()
    other.close()


def test_nothing_is_done_to_a_channel_that_has_moved() -> None:
    channel = ThreadChannel(1)
    assert channel.open()
    channel.moved = True
    assert not channel.open()
    assert not channel.release()
    assert not channel.close()
    assert not channel.try_put(1)
    assert channel.try_take() is EMPTY
    assert (channel.publishers, channel.closed, len(channel)) == (1, False, 0)


def test_timeouts_of_any_length_are_understood() -> None:
    channel = ThreadChannel(1)

    def put() -> None:
        assert channel.try_put(1)

    for timeout in (float("inf"), 1e300, threading.TIMEOUT_MAX * 2):
        thread = threading.Timer(0, put)
        thread.start()
        while channel.try_take() is EMPTY:
            channel.item_sync(timeout)
        thread.join()


def run_in_threads(*targets: Any) -> None:
    threads = [threading.Thread(target=target) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_many_threads_and_loops_at_once_take_each_item_once() -> None:  # noqa: C901  # eight at once
    channel = ThreadChannel(2)
    count = 3_000
    taken: list[int] = []

    def put(first: int) -> None:
        for item in range(first, count, 4):
            while not channel.try_put(item):
                channel.room_sync(None)

    async def put_all(first: int) -> None:
        for item in range(first, count, 4):
            while not channel.try_put(item):
                await channel.room()

    def put_in_loop(first: int) -> None:
        asyncio.run(put_all(first))

    def take() -> None:
        while (item := channel.try_take()) is not ENDED:
            if item is EMPTY:
                channel.item_sync(None)
            else:
                taken.append(item)

    async def take_all() -> None:
        while (item := channel.try_take()) is not ENDED:
            if item is EMPTY:
                await channel.item()
            else:
                taken.append(item)

    def take_in_loop() -> None:
        asyncio.run(take_all())

    takers = [threading.Thread(target=target) for target in (take, take, take_in_loop, take_in_loop)]
    for taker in takers:
        taker.start()
    run_in_threads(lambda: put(0), lambda: put(1), lambda: put_in_loop(2), lambda: put_in_loop(3))
    channel.close()
    for taker in takers:
        taker.join()
    assert sorted(taken) == list(range(count))
