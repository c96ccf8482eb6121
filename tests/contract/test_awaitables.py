"""What `put` of an edge's writer returns works wherever a coroutine does; loops that never wait still turn."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from cascata.channel.local import LocalChannel
from tests.contract.kinds import Kind
from tests.coroutines import turn
from tests.transport.ends import brokered, crossing


class Local:
    """A local channel with what is asked of a crossing one below."""

    def __init__(self, capacity: int) -> None:
        self.forgotten = 0
        self.reader = LocalChannel(capacity)
        self.writer = self.reader.writer(0, self._forget)

    def _forget(self, _: object = None) -> None:
        self.forgotten += 1

    async def take(self) -> Any:
        if not self.reader.items:
            assert await self.reader.wait()
        item = self.reader.items.popleft()
        self.reader.release()
        return item


@asynccontextmanager
async def local(capacity: int) -> AsyncIterator[Local]:
    yield Local(capacity)


edges = pytest.mark.parametrize("edge", [local, crossing, brokered])


@edges
async def test_a_put_works_with_create_task_gather_and_wait_for(edge: Any) -> None:
    async with edge(2) as ends:
        await asyncio.create_task(ends.writer.put(0))
        await asyncio.wait_for(ends.writer.put(1), 10)
        waiting = asyncio.gather(ends.writer.put(2), ends.writer.put(3), ends.writer.put(4))
        late = asyncio.ensure_future(asyncio.wait_for(ends.writer.put(5), 10))
        assert [await ends.take() for _ in range(6)] == list(range(6))
        await waiting
        await late
        async with asyncio.TaskGroup() as group:
            for item in range(5):
                group.create_task(ends.writer.put(item))
            assert [await ends.take() for _ in range(5)] == list(range(5))
        assert ends.forgotten == 0


@edges
async def test_a_put_that_has_to_wait_and_is_never_awaited_is_told(edge: Any) -> None:
    async with edge(1) as ends:
        await ends.writer.put("in")
        ends.writer.put("out")
        gc.collect()
        assert ends.forgotten == 1
        assert await ends.take() == "in"
        await ends.writer.put("in again")
        assert await ends.take() == "in again"
        assert ends.forgotten == 1


@edges
async def test_a_put_that_times_out_leaves_nothing_behind(edge: Any) -> None:
    async with edge(1) as ends:
        await ends.writer.put(0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ends.writer.put("late"), 0.001)
        assert await ends.take() == 0
        await ends.writer.put(1)
        assert await ends.take() == 1
        assert ends.writer.sent == 2
        assert ends.forgotten == 0


@edges
async def test_puts_that_were_made_one_after_the_other_are_taken_in_that_order_when_awaited_together(edge: Any) -> None:
    async with edge(3) as ends:
        for item in range(3):
            await ends.writer.put(item)
        awaitables = [ends.writer.put(3)]
        assert await ends.take() == 0  # now there is room again, before the fourth is awaited
        await turn(5)
        awaitables += [ends.writer.put(item) for item in range(4, 8)]
        together = asyncio.gather(*awaitables)
        assert [await ends.take() for _ in range(7)] == list(range(1, 8))
        await together


@edges
async def test_a_put_that_waits_is_not_overtaken(edge: Any) -> None:
    async with edge(1) as ends:
        await ends.writer.put(0)
        waiting = asyncio.ensure_future(ends.writer.put(1))
        await turn()
        overtaking = []

        async def take() -> None:
            assert await ends.take() == 0
            for _ in range(20):  # at any turn until the waiting put has run
                overtaking.append(asyncio.ensure_future(ends.writer.put(2)))
                await turn()

        await take()
        assert await ends.take() == 1
        await waiting
        for each in overtaking:
            each.cancel()
        await asyncio.wait(overtaking)


@edges
async def test_a_put_that_nobody_awaits_yet_does_not_stop_the_others(edge: Any) -> None:
    async with edge(1) as ends:
        await ends.writer.put(0)
        held = ends.writer.put(1)
        for item in range(2, 5):
            other = asyncio.ensure_future(ends.writer.put(item))
            await ends.take()
            await other
        assert await ends.take() == 4
        await held
        assert await ends.take() == 1


@edges
async def test_an_awaited_put_cannot_be_awaited_again(edge: Any) -> None:
    async with edge(1) as ends:
        await ends.writer.put(0)
        waiting = ends.writer.put(1)
        assert await ends.take() == 0
        await waiting
        with pytest.raises(RuntimeError):
            await waiting
        assert ends.writer.sent == 2


async def test_who_always_finds_room_lets_the_loop_turn(quick_kind: Kind) -> None:
    async with quick_kind.made(50_000) as channel:
        assert await channel.writer.do("turns", "put_range", 50_000) > 3


async def test_who_always_finds_items_lets_the_loop_turn(public_kind: Kind) -> None:
    async with public_kind.made(50_000) as channel:
        await channel.writer.do("put_range", 50_000)
        assert await channel.reader.do("turns", "take_and_sum", 50_000) > 3
