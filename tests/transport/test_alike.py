"""What one carrier has learned, all have: the same writer and the same reader work over each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from cascata.transport.ends.writer import FLUSH_S, MOST_AHEAD
from cascata.transport.linux import ring
from tests.coroutines import turn
from tests.transport.ends import Crossing, brokered, crossing

MB = 1 << 20

SETTLED = 20
"""Turns of the loop after which nothing more happens by itself."""

Of = Callable[[int], Any]


@asynccontextmanager
async def over_a_ring(capacity: int) -> AsyncIterator[Any]:
    """A channel over the carrier of one writer and one reader."""
    if not ring.AVAILABLE:
        pytest.skip("needs total store order")
    with pytest.MonkeyPatch.context() as there:
        there.setattr(Crossing, "over_a_ring", True)
        made = crossing(capacity)
        ends = await made.__aenter__()
    try:
        yield ends
    finally:
        await made.__aexit__(None, None, None)


@pytest.fixture(params=[crossing, over_a_ring, brokered], ids=["sockets", "ring", "broker"])
def of(request: pytest.FixtureRequest) -> Of:
    """Makes a channel of a capacity."""
    chosen: Of = request.param
    return chosen


@pytest.fixture(autouse=True)
def no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent, and nothing lets the loop turn, just because this machine is slow."""
    monkeypatch.setattr("cascata.transport.ends.writer.FLUSH_S", 1_000.0)
    monkeypatch.setattr("cascata.transport.ends.writer.SLICE_S", 1_000.0)
    monkeypatch.setattr("cascata.transport.ends.reader.SLICE_S", 1_000.0)


async def test_a_lone_writer_takes_all_the_room_at_once(of: Of, monkeypatch: pytest.MonkeyPatch) -> None:
    async with of(100) as ends:
        taken: list[int] = []
        draw = ends.writer._draw

        def counted(most: int) -> int:
            taken.append(draw(most))
            return taken[-1]

        monkeypatch.setattr(ends.writer, "_draw", counted)
        for item in range(100):
            await ends.writer.put(item)
        assert taken == [100]


async def test_a_fast_producer_looks_at_the_clock_at_every_eighth_put(of: Of, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0

    def clock() -> float:
        nonlocal looked
        looked += 1
        return 0.0

    async with of(1_000) as ends:
        await ends.writer.put(0)
        monkeypatch.setattr("cascata.transport.ends.writer.perf_counter", clock)
        for item in range(800):
            await ends.writer.put(item)
        assert looked <= 800 / MOST_AHEAD + SETTLED


async def test_a_fast_producer_that_becomes_slow_holds_few_items_back(of: Of, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cascata.transport.ends.writer.FLUSH_S", FLUSH_S)
    now = 0.0
    async with of(1_000) as ends:
        monkeypatch.setattr("cascata.transport.ends.writer.perf_counter", lambda: now)
        ends.writer.flush()
        for item in range(200):
            await ends.writer.put(item)
        ends.writer.flush()
        held = []
        for item in range(50):
            now += 0.6 * FLUSH_S
            await ends.writer.put(item)
            held.append(len(ends.writer._pending))
    assert max(held) <= MOST_AHEAD
    assert max(held[-20:]) <= 2


async def test_a_writer_that_waits_for_room_goes_on_without_another_turn_of_the_loop(of: Of) -> None:
    told: list[str] = []

    async def writes() -> None:
        await ends.writer.put(3)
        told.append("written")

    async with of(2) as ends, asyncio.timeout(30):
        await ends.writer.put(1)
        await ends.writer.put(2)
        writing = asyncio.ensure_future(writes())
        await turn(SETTLED)
        assert [await ends.take(), await ends.take()] == [1, 2]
        loop = asyncio.get_running_loop()
        if isinstance(ends, Crossing):
            loop.call_soon(ends.hub._dispatch)
        loop.call_soon(told.append, "turned")
        await turn()
        assert told == ["written", "turned"]
        await writing


async def test_a_reader_that_waits_goes_on_without_another_turn_of_the_loop(of: Of) -> None:
    told: list[Any] = []

    async def reads() -> None:
        told.append(await ends.take())

    async with of(2) as ends, asyncio.timeout(30):
        reading = asyncio.ensure_future(reads())
        await turn(SETTLED)
        await ends.writer.put(1)
        ends.writer.flush()
        loop = asyncio.get_running_loop()
        if isinstance(ends, Crossing):
            loop.call_soon(ends.hub._dispatch)
        loop.call_soon(told.append, "turned")
        await turn()
        assert told == [1, "turned"]
        await reading


async def test_room_comes_back_in_large_portions(of: Of, monkeypatch: pytest.MonkeyPatch) -> None:
    async with of(100) as ends:
        for item in range(100):
            await ends.writer.put(item)
        assert await ends.take() == 0  # of a frame of its own: it told whether the others are large
        await ends.reader.wait()
        given: list[int] = []
        monkeypatch.setattr(ends.reader._carrier, "give", given.append)
        for _ in range(99):
            await ends.take()
        assert len(given) <= 2


async def test_all_in_a_loop_see_by_one_clock_when_it_has_turned(of: Of) -> None:
    async with of(2) as ends:
        assert ends.reader._turns is ends.writer._line.turns


async def test_a_large_item_is_copied_within_its_put(of: Of) -> None:
    async with of(4) as ends, asyncio.timeout(30):
        array = np.zeros(MB, "u1")
        held = bytearray(MB)
        await ends.writer.put(array)
        await ends.writer.put(held)
        array[:] = 1
        held[:] = b"x" * MB
        assert not (await ends.take()).any()
        assert await ends.take() == bytearray(MB)
