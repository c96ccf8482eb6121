"""A cancelled put leaves nothing behind; a cancelled take loses nothing. Whenever it comes."""

from __future__ import annotations

import asyncio

import pytest

from tests.contract.kinds import Kind


async def test_a_cancelled_put_leaves_nothing_behind(cancelling_kind: Kind) -> None:
    async with cancelling_kind.made(2) as channel:
        await channel.writer.do("put_all", [0, 1])
        putting = channel.writer.start("put", "cancelled")
        await channel.writer.settle()
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        after = channel.writer.start("put", 2)
        assert await channel.reader.do("take_all", 3) == [0, 1, 2]
        await after
        assert await channel.writer.do("put_until_full") == 2


async def test_a_cancelled_put_makes_way_for_the_next(cancelling_kind: Kind) -> None:
    async with cancelling_kind.made(1) as channel:
        await channel.writer.do("put", 0)
        first, second = (channel.writer.start("put", item) for item in ("cancelled", 1))
        await channel.writer.settle()
        first.cancel()
        await channel.writer.settle()
        assert not second.done()
        assert await channel.reader.do("take_all", 2) == [0, 1]
        await second


async def test_a_cancelled_take_loses_nothing(cancelling_kind: Kind) -> None:
    async with cancelling_kind.made(2) as channel:
        taking = channel.reader.start("take")
        await channel.reader.settle()
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        await channel.writer.do("put_all", [0, 1])
        assert await channel.reader.do("take_all", 2) == [0, 1]


async def test_a_cancelled_take_makes_way_for_the_next(cancelling_kind: Kind) -> None:
    async with cancelling_kind.made(2) as channel:
        first = channel.reader.start("take")
        second = channel.reader.start("take")
        await channel.reader.settle()
        first.cancel()
        await channel.reader.settle()  # in another process, the item might come before the cancellation
        await channel.writer.do("put", 0)
        assert await second == 0
