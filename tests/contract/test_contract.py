"""What every kind of channel promises, wherever its ends live and however they came there."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.contract.kinds import END, Kind


async def exactly_capacity(kind: Kind, capacity: int) -> None:
    async with kind.made(capacity) as channel:
        assert await channel.writer.do("put_until_full") == capacity
        assert await channel.reader.do("take") == 0
        await channel.writer.do("put", capacity)  # waits for the room, which takes its time from another process
        assert await channel.writer.do("put_until_full", capacity + 1) == 0
        assert await channel.reader.do("take_all", capacity) == list(range(1, capacity + 1))


@pytest.mark.parametrize("capacity", [1, 2, 3, 10, 1_000])
async def test_exactly_capacity_puts_complete_while_nobody_takes(quick_kind: Kind, capacity: int) -> None:
    await exactly_capacity(quick_kind, capacity)


async def test_so_it_is_however_the_processes_were_started(far_kind: Kind) -> None:
    await exactly_capacity(far_kind, 3)


async def test_a_large_capacity_is_kept_to_the_last_item(quick_kind: Kind) -> None:
    await exactly_capacity(quick_kind, 70_000)


async def test_each_item_is_taken_once_and_each_senders_order_is_kept(kind: Kind) -> None:
    count, writers, readers = 1_000, 2, 2
    async with kind.made(7, writers, readers) as channel:
        taking = [reader.start("take_all") for reader in channel.readers]
        putting = [
            writer.start("put_all", [(number, index) for index in range(count)])
            for number, writer in enumerate(channel.writers)
        ]
        await asyncio.gather(*(each.outcome for each in putting))
        await channel.close_writers()
        taken = await asyncio.gather(*(each.outcome for each in taking))
    everything = [tuple(item) for items in taken for item in items]
    assert Counter(everything) == Counter((number, index) for number in range(writers) for index in range(count))
    for items in taken:
        for number in range(writers):
            own = [index for who, index in items if who == number]
            assert own == sorted(own)


async def test_the_end_comes_after_the_last_item(kind: Kind) -> None:
    async with kind.made(10) as channel:
        await channel.writer.do("put_all", [1, 2, 3])
        await channel.close_writers()
        assert await channel.reader.do("take_all") == [1, 2, 3]
        assert await channel.reader.do("take") == END


async def test_a_consumer_that_was_first_waits_for_the_items_and_for_the_end(kind: Kind) -> None:
    async with kind.made(10, readers=2) as channel:
        taking = [reader.start("take_all") for reader in channel.readers]
        for reader in channel.readers:
            await reader.settle()
        assert not any(each.done() for each in taking)
        await channel.writer.do("put_all", range(30))
        await channel.close_writers()
        taken = [await each for each in taking]
    assert sorted(taken[0] + taken[1]) == list(range(30))


async def test_a_put_waits_until_an_item_is_taken(kind: Kind) -> None:
    async with kind.made(2) as channel:
        await channel.writer.do("put_all", ["a", "b"])
        putting = channel.writer.start("put", "c")
        await channel.writer.settle()
        assert not putting.done()
        assert await channel.reader.do("take") == "a"
        await putting
        assert await channel.reader.do("take_all", 2) == ["b", "c"]


class Point:
    """An item with a class of its own."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and other.x == self.x

    def __hash__(self) -> int:
        return hash(self.x)


async def test_any_object_is_an_item(kind: Kind) -> None:
    items: list[Any] = [None, False, 0, "", [], (), {"a": [1, {2}]}, Point(3), Exception("x"), b"\0" * 70_000]
    async with kind.made(len(items)) as channel:
        await channel.writer.do("put_all", items)
        taken = await channel.reader.do("take_all", len(items))
    assert repr(taken.pop(8)) == repr(items.pop(8))
    assert taken == items
