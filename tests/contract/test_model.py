"""Any schedule of puts, takes and cancellations, against what must hold at every turn of the loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascata import Channel
from cascata.channel.base import DONE, Full, Pending
from cascata.channel.local import LocalChannel
from tests.coroutines import turn
from tests.transport import ends

Put = Callable[[Any], Any]
Ends = tuple[list[Put], Callable[[], Any]]
"""The writers' `put`s, and `take`."""

SCHEDULES: Final = int(os.environ.get("CASCATA_SCHEDULES", "150"))
"""How many are tried for each kind of channel, others in each run."""

SETTLED: Final = 200
"""Turns of the loop after which nothing more happens by itself."""


def taker(reader: Any) -> Callable[[], Any]:
    async def take() -> Any:
        while not reader.items:
            await reader.wait()
        item = reader.items.popleft()
        reader.release()
        return item

    return take


@asynccontextmanager
async def local(capacity: int, writers: int) -> AsyncIterator[Ends]:
    channel = LocalChannel(capacity)
    yield [channel.writer(edge).put for edge in range(writers)], taker(channel)


@asynccontextmanager
async def crossing(capacity: int, writers: int) -> AsyncIterator[Ends]:
    async with ends.crossing(capacity, writers) as made:
        yield [writer.put for writer in made.writers], taker(made.reader)


@asynccontextmanager
async def brokered(capacity: int, writers: int) -> AsyncIterator[Ends]:
    async with ends.brokered(capacity, writers) as made:
        yield [writer.put for writer in made.writers], taker(made.reader)


def sender(channel: Channel[Any]) -> Put:
    """Puts one after the other: the order of those who put at the same time is nobody's."""
    one_at_a_time = asyncio.Lock()

    async def put(item: Any) -> None:
        async with one_at_a_time:
            await channel.put(item)

    return put


@asynccontextmanager
async def public(capacity: int, writers: int) -> AsyncIterator[Ends]:
    channel: Channel[Any] = Channel(capacity)
    yield [sender(channel) for _ in range(writers)], channel.get


@asynccontextmanager
async def shared(capacity: int, writers: int) -> AsyncIterator[Ends]:
    channel: Channel[Any] = Channel(capacity)
    channel._share()
    yield [sender(channel) for _ in range(writers)], channel.get


class Run:
    """A channel, and what was asked of it."""

    def __init__(self, capacity: int, made: Ends) -> None:
        self.capacity = capacity
        self.puts, self.take = made
        self.putting: dict[tuple[int, int], asyncio.Future[None]] = {}
        self.held: list[tuple[tuple[int, int], Pending]] = []
        self.anytime: set[tuple[int, int]] = set()  # puts that were awaited later than they were made
        self.taking: list[asyncio.Task[None]] = []
        self.put_log: list[tuple[int, int]] = []
        self.take_log: list[tuple[int, int]] = []
        self.letting: list[asyncio.Future[None]] = []  # who took the last room, and lets readers run
        self.number = 0

    def start_put(self, writer: int, *, hold: bool = False) -> None:
        item = (writer % len(self.puts), self.number)
        self.number += 1
        awaitable = self.puts[item[0]](item)
        if awaitable is DONE:
            self.put_log.append(item)
        elif isinstance(awaitable, Full):
            self.put_log.append(item)
            self.letting.append(asyncio.ensure_future(awaitable))
        elif hold and isinstance(awaitable, Pending):
            self.held.append((item, awaitable))
            self.anytime.add(item)
        else:
            self.await_put(item, awaitable)

    def await_put(self, item: tuple[int, int], awaitable: Any) -> None:
        def finished(task: asyncio.Future[None]) -> None:
            if not task.cancelled():
                self.put_log.append(item)

        task = self.putting[item] = asyncio.ensure_future(awaitable)
        task.add_done_callback(finished)

    def start_take(self) -> None:
        async def take() -> None:
            self.take_log.append(await self.take())

        self.taking.append(asyncio.ensure_future(take()))

    def check(self) -> None:
        assert len(self.put_log) - len(self.take_log) <= self.capacity
        for writer in range(len(self.puts)):
            own = [item for item in self.take_log if item[0] == writer and item not in self.anytime]
            assert own == sorted(own)
        assert len(set(self.take_log)) == len(self.take_log)

    def check_settled(self) -> None:
        self.check()
        assert set(self.take_log) <= set(self.put_log)
        if any(not task.done() for task in self.putting.values()):
            assert len(self.put_log) - len(self.take_log) == self.capacity, "a put waits although there is room"
        if any(not task.done() for task in self.taking):
            assert len(self.put_log) == len(self.take_log), "a take waits although there is an item"

    async def finish(self) -> None:
        self.held.clear()
        await turn(SETTLED)
        self.check_settled()
        for task in (*self.putting.values(), *self.taking):
            task.cancel()
        await turn(SETTLED)
        async with asyncio.timeout(HANGS_S):
            while len(self.take_log) < len(self.put_log):
                self.take_log.append(await self.take())
            self.check()
            assert set(self.take_log) == set(self.put_log)
            # Nothing that was cancelled took room with it.
            await asyncio.gather(*(self.puts[0]((0, self.number + n)) for n in range(self.capacity)))


HANGS_S: Final = 5.0

Step = tuple[str, int]

steps: Final = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["put", "put 3"]), st.integers(0, 1)),
        st.tuples(st.just("take"), st.integers(1, 4)),
        st.tuples(st.just("hold"), st.integers(0, 1)),
        st.tuples(st.sampled_from(["cancel put", "cancel take", "await held", "drop held"]), st.integers(0, 30)),
        st.tuples(st.just("turn"), st.integers(1, 3)),
        st.tuples(st.just("settle"), st.just(0)),
    ),
    max_size=50,
)


async def follow(  # noqa: C901  # a step has many kinds
    kind: Callable[[int, int], AbstractAsyncContextManager[Ends]], case: Any
) -> None:
    capacity, writers, schedule = case
    async with kind(capacity, writers) as made:
        run = Run(capacity, made)
        for name, number in schedule:
            match name:
                case "put":
                    run.start_put(number)
                case "put 3":
                    for _ in range(3):
                        run.start_put(number)
                case "take":
                    for _ in range(number):
                        run.start_take()
                case "hold":
                    run.start_put(number, hold=True)
                case "await held" if run.held:
                    run.await_put(*run.held.pop(number % len(run.held)))
                case "drop held" if run.held:
                    del run.held[number % len(run.held)]
                case "cancel put" if run.putting:
                    tasks = list(run.putting.values())
                    tasks[number % len(tasks)].cancel()
                case "cancel take" if run.taking:
                    run.taking[number % len(run.taking)].cancel()
                case "turn":
                    for _ in range(number):
                        await turn()
                        run.check()
                case "settle":
                    await turn(SETTLED)
                    run.check_settled()
        await run.finish()


@pytest.mark.parametrize("of", [local, crossing, brokered, public, shared])
def test_no_schedule_loses_doubles_reorders_or_overfills(
    of: Callable[[int, int], AbstractAsyncContextManager[Ends]],
) -> None:
    @settings(max_examples=SCHEDULES)
    @given(st.tuples(st.integers(1, 6), st.integers(1, 2), steps))
    def follow_any(case: Any) -> None:
        asyncio.run(follow(of, case))

    follow_any()
