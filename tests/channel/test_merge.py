"""Several channels behind one in-port."""

from __future__ import annotations

import asyncio

import pytest

from cascata.channel.local import LocalChannel
from cascata.channel.merge import MergedReader
from tests.coroutines import turn


async def merged(count: int, first: tuple[object, ...] = ()) -> tuple[MergedReader, list[LocalChannel]]:
    channels = [LocalChannel(10) for _ in range(count)]
    return MergedReader(channels, first), channels


async def take_all(reader: MergedReader) -> list[object]:
    taken = []
    while reader.items or await reader.wait():
        taken.append(reader.items.popleft())
        reader.release()
    return taken


async def test_first_values_come_first_and_then_the_stream() -> None:
    reader, (channel,) = await merged(1, ("seed",))
    writer = channel.writer()
    await writer.put(1)
    await writer.put(2)
    await writer.aclose()
    assert await take_all(reader) == ["seed", 1, 2]
    assert reader.ended


async def test_channels_take_turns_and_none_starves() -> None:
    reader, channels = await merged(3)
    for number, channel in enumerate(channels):
        writer = channel.writer(number)
        for item in range(3):
            await writer.put((number, item))
        await writer.aclose()
    taken = await take_all(reader)
    assert taken == [(number, item) for item in range(3) for number in range(3)]


async def test_it_waits_for_whichever_comes_and_ends_with_the_last() -> None:
    ended: list[None] = []
    channels = [LocalChannel(10), LocalChannel(10)]
    reader = MergedReader(channels, one_ended=lambda: ended.append(None))
    writers = [channel.writer(edge) for edge, channel in enumerate(channels)]
    taking = asyncio.ensure_future(take_all(reader))
    await turn(20)
    await writers[1].put("b")
    await turn(20)
    await writers[0].put("a")
    await writers[0].aclose()
    await turn(20)
    assert ended == [None]
    await writers[1].put("c")
    await writers[1].aclose()
    assert await taking == ["b", "a", "c"]


async def test_a_cancelled_wait_loses_nothing() -> None:
    reader, channels = await merged(2)
    writers = [channel.writer(edge) for edge, channel in enumerate(channels)]
    waiting = asyncio.ensure_future(reader.wait())
    await turn(3)
    await writers[0].put(1)
    await writers[1].put(2)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    for writer in writers:
        await writer.aclose()
    assert await take_all(reader) == [1, 2]


async def test_who_waits_beside_it_for_the_same_channel_gets_what_it_does_not_take() -> None:
    """Woken for items of two channels, it takes one: the other item must not lie there until it comes back."""
    shared, own = LocalChannel(10, readers=2), LocalChannel(10)
    reader = MergedReader([own, shared])
    writers = own.writer(0), shared.writer(1)
    waiting = asyncio.ensure_future(reader.wait())
    await turn(3)
    neighbour = asyncio.ensure_future(shared.wait())
    await turn(3)
    await writers[0].put("own")
    await writers[1].put("shared")
    async with asyncio.timeout(10):
        assert await waiting
        assert reader.items.popleft() == "own"
        assert await neighbour
    assert shared.items.popleft() == "shared"


class Broken(LocalChannel):
    async def wait(self) -> bool:  # type: ignore[override]  # a coroutine in place of a generator that is awaited like one
        raise OSError("broken")


async def test_an_error_of_one_channel_is_raised() -> None:
    reader = MergedReader([Broken(1), LocalChannel(1)])
    with pytest.raises(OSError, match="broken"):
        await reader.wait()


async def test_an_item_that_left_its_channel_and_was_not_taken_counts_as_left() -> None:
    reader, channels = await merged(2)
    for edge, channel in enumerate(channels):
        writer = channel.writer(edge)
        for item in range(3):
            await writer.put(item)
    for _ in range(3):
        await reader.wait()
        reader.items.popleft()
    assert reader.taken() == {0: 2, 1: 1}
    assert await reader.wait()
    assert reader.taken() == {0: 2, 1: 1}
    assert reader.close() == {0: 1, 1: 2}
