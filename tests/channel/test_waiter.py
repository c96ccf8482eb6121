"""Readers that run within the put that takes the last room, and what they and the writer see of it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

from cascata.channel.base import DONE, Full
from cascata.channel.local import LocalChannel
from cascata.channel.turns import turns
from cascata.channel.waiter import DEEPEST
from tests.coroutines import turn


def reading(channel: LocalChannel, work: Callable[[Any], Awaitable[None]]) -> asyncio.Task[None]:
    """A task that works on each item that comes."""

    async def read() -> None:
        while await channel.wait():
            while channel.items:
                item = channel.items.popleft()
                channel.release()
                await work(item)

    return asyncio.ensure_future(read())


async def keep(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def test_who_takes_the_last_room_finds_it_free_again_without_a_turn_of_the_loop() -> None:
    channel = LocalChannel(3)
    put = channel.writer().put
    taken: list[int] = []

    async def work(item: int) -> None:
        taken.append(item)

    reader = reading(channel, work)
    await turn()
    turned = False

    def note() -> None:
        nonlocal turned
        turned = True

    asyncio.get_running_loop().call_soon(note)
    for item in range(9):
        await put(item)
    assert taken == list(range(9))
    assert not turned
    await keep(reader)


async def test_a_put_that_is_not_awaited_lets_nobody_run() -> None:
    channel = LocalChannel(1)
    put = channel.writer().put
    taken: list[int] = []

    async def work(item: int) -> None:
        taken.append(item)

    reader = reading(channel, work)
    await turn()
    done = put(1)
    assert isinstance(done, Full)
    assert taken == []
    await done
    assert taken == [1]
    await keep(reader)


async def test_a_reader_that_runs_within_a_put_is_the_current_task_and_in_its_own_context() -> None:
    channel = LocalChannel(1)
    put = channel.writer().put
    whose = contextvars.ContextVar("whose", default="nobody's")
    seen: list[tuple[Any, str]] = []

    async def work(item: int) -> None:
        seen.append((asyncio.current_task(), whose.get()))
        whose.set(f"the reader's {item}")

    reader = reading(channel, work)
    await turn()
    whose.set("the writer's")
    me = asyncio.current_task()
    await put(1)
    await put(2)
    assert seen == [(reader, "nobody's"), (reader, "the reader's 1")]
    assert asyncio.current_task() is me
    assert whose.get() == "the writer's"
    await keep(reader)


async def test_time_limits_of_a_reader_and_of_its_writer_end_their_own_task() -> None:
    channel = LocalChannel(1)
    put = channel.writer().put
    ended: list[str] = []
    never = asyncio.Event()

    async def work(item: int) -> None:
        try:
            async with asyncio.timeout(0):
                await never.wait()
        except TimeoutError:
            ended.append(f"work on {item}")

    reader = reading(channel, work)
    await turn()
    async with asyncio.timeout(60):
        await put(1)
        while not ended:
            await turn()
    assert ended == ["work on 1"]
    assert not reader.done()
    await keep(reader)


async def test_where_a_reader_suspends_its_writer_goes_on() -> None:
    channel = LocalChannel(1)
    put = channel.writer().put
    go_on = asyncio.Event()
    began: list[int] = []
    worked: list[int] = []

    async def work(item: int) -> None:
        began.append(item)
        await go_on.wait()
        worked.append(item)

    reader = reading(channel, work)
    await turn()
    await put(1)
    assert (began, worked) == ([1], [])
    assert put(2) is not DONE  # done, and the room is taken
    waiting = asyncio.ensure_future(put(3))
    await turn(5)
    assert not waiting.done()
    go_on.set()
    await waiting
    await turn(5)
    assert worked == [1, 2, 3]
    await keep(reader)


async def test_what_a_reader_raises_ends_its_task_and_not_the_writers() -> None:
    channel = LocalChannel(1)
    put = channel.writer().put

    async def work(item: int) -> None:
        raise ValueError(item)

    reader = reading(channel, work)
    await turn()
    await put(1)
    assert repr(reader.exception()) == "ValueError(1)"


async def test_a_reader_that_is_cancelled_after_it_was_woken_takes_nothing() -> None:
    channel = LocalChannel(2, readers=2)
    put = channel.writer().put
    taken: list[tuple[str, int]] = []

    def noting(name: str) -> Callable[[int], Awaitable[None]]:
        async def work(item: int) -> None:
            taken.append((name, item))

        return work

    first, second = reading(channel, noting("first")), reading(channel, noting("second"))
    await turn()
    await put(1)  # wakes the first one, which has not run yet
    first.cancel()
    await put(2)  # lets it run: it is cancelled, and passes its wake-up on
    await turn(5)
    assert first.cancelled()
    assert taken == [("second", 1), ("second", 2)]
    await keep(second)


async def test_a_long_chain_runs_within_itself_only_so_deep() -> None:
    now = turns()
    length = 5 * DEEPEST
    channels = [LocalChannel(1) for _ in range(length)]
    puts = [channel.writer().put for channel in channels]
    depths: list[int] = []
    out: list[int] = []

    def passing(number: int) -> Callable[[int], Awaitable[None]]:
        async def work(item: int) -> None:
            depths.append(now.depth)
            if number + 1 < length:
                await puts[number + 1](item)
            else:
                out.append(item)

        return work

    readers = [reading(channel, passing(number)) for number, channel in enumerate(channels)]
    await turn()
    for item in range(20):
        await puts[0](item)
    while len(out) < 20:
        await turn()
    assert out == list(range(20))
    assert DEEPEST // 3 < max(depths) <= DEEPEST
    assert now.depth == 0
    for reader in readers:
        await keep(reader)


async def test_a_writer_that_lets_its_reader_run_lets_the_loop_turn_now_and_then() -> None:
    channel = LocalChannel(1)
    put = channel.writer().put

    async def work(item: int) -> None:
        pass

    reader = reading(channel, work)
    await turn()
    beats = 0

    async def heart() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0)
            beats += 1

    beating = asyncio.ensure_future(heart())
    item = 0
    while beats < 10:  # for ever, if the loop never turned: the test's time would end it
        item += 1
        await put(item)
    await keep(beating)
    await keep(reader)
