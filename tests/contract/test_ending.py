"""How channels of every kind end: by their writers, by their readers, or by `close`."""

from __future__ import annotations

import asyncio

import pytest

from cascata.errors import ChannelClosed, ChannelFailed
from tests.contract.kinds import END, Kind


async def test_the_channel_goes_on_until_the_last_writer_has_closed(quick_kind: Kind) -> None:
    async with quick_kind.made(10, writers=3) as channel:
        for number, writer in enumerate(channel.writers):
            await writer.do("put", number)
            if number < 2:
                await writer.do("close")
        assert await channel.reader.do("take_all", 3) == [0, 1, 2]
        taking = channel.reader.start("take")
        await channel.reader.settle()
        assert not taking.done()
        await channel.writers[2].do("close")
        channel.end_writing()
        assert await taking == END


async def test_closing_hands_over_what_was_put_also_when_nobody_takes_yet(quick_kind: Kind) -> None:
    async with quick_kind.made(1_000) as channel:
        await channel.writer.do("put_all", range(1_000))
        await channel.close_writers()
        assert await channel.reader.do("take_all") == list(range(1_000))


async def test_closing_waits_for_puts_that_others_await(edge_kind: Kind) -> None:
    async with edge_kind.made(1) as channel:
        putting = [channel.writer.start("put", item) for item in range(3)]
        closing = channel.writer.start("close")
        await channel.writer.settle()
        assert not closing.done()
        assert await channel.reader.do("take_all", 3) == [0, 1, 2]
        await closing
        await asyncio.gather(*(each.outcome for each in putting))


async def test_a_writer_is_refused_when_the_last_reader_has_closed(edge_kind: Kind) -> None:
    async with edge_kind.made(2, readers=2) as channel:
        await channel.readers[0].do("close")
        await channel.writer.do("put_until_full")
        waiting = [channel.writer.start("put", "never") for _ in range(3)]
        await channel.writer.settle()
        assert not any(each.done() for each in waiting)
        await channel.readers[1].do("close")
        channel.end_reading()
        for each in waiting:
            with pytest.raises(ChannelClosed):
                await each
        with pytest.raises(ChannelClosed):
            await channel.writer.do("put", "never")


async def test_a_writer_with_room_left_is_refused_as_well(edge_kind: Kind) -> None:
    async with edge_kind.made(100) as channel:
        await channel.writer.do("put", 1)
        await channel.reader.do("close")
        channel.end_reading()
        await channel.writer.settle()
        with pytest.raises(ChannelClosed):
            await channel.writer.do("put", 2)


async def test_a_writer_that_was_stopped_puts_nothing_more_and_what_it_had_put_arrives(edge_kind: Kind) -> None:
    async with edge_kind.made(10, writers=2) as channel:
        await channel.writers[0].do("put_all", [1, 2])
        await channel.writers[0].do("stop")
        with pytest.raises(ChannelClosed):
            await channel.writers[0].do("put", 3)
        await channel.writers[1].do("put", 4)
        await channel.close_writers()
        assert sorted(await channel.reader.do("take_all")) == [1, 2, 4]


async def test_stopping_a_writer_refuses_its_waiting_puts_and_nobody_elses(edge_kind: Kind) -> None:
    async with edge_kind.made(1, writers=2) as channel:
        await channel.writers[1].do("put", "first")
        refused = [channel.writers[0].start("put", item) for item in range(3)]
        await channel.writers[0].settle()
        waiting = channel.writers[1].start("put", "second")
        await channel.writers[1].settle()
        await channel.writers[0].do("stop")
        for each in refused:
            with pytest.raises(ChannelClosed):
                await each
        assert not waiting.done()
        assert await channel.reader.do("take_all", 2) == ["first", "second"]
        await waiting


async def test_a_put_that_waits_while_its_writer_is_stopped_and_goes_on_at_once_arrives(edge_kind: Kind) -> None:
    async with edge_kind.made(1) as channel:
        await channel.writer.do("put", "first")
        waiting = channel.writer.start("put", "second")
        await channel.writer.settle()
        await channel.writer.do("stop_and_resume")
        assert await channel.reader.do("take_all", 2) == ["first", "second"]
        await waiting
        assert await channel.writer.do("sent_and_lost") == (2, 0)


async def test_a_closed_writer_refuses(edge_kind: Kind) -> None:
    async with edge_kind.made(10) as channel:
        await channel.writer.do("put", 1)
        await channel.writer.do("close")
        await channel.writer.do("close")
        with pytest.raises(ChannelClosed):
            await channel.writer.do("put", 2)
        channel.end_writing()
        assert await channel.reader.do("take_all") == [1]


async def test_what_a_writer_gave_up_when_it_closed_is_room_for_the_others(edge_kind: Kind) -> None:
    async with edge_kind.made(8, writers=2) as channel:
        await channel.writers[0].do("put", "x")
        await channel.writers[0].do("close")
        assert await channel.writers[1].do("put_until_full") == 7


async def test_who_waits_at_a_closed_reader_is_told_that_nothing_comes(edge_kind: Kind) -> None:
    async with edge_kind.made(2) as channel:
        assert not await channel.reader.do("close_and_wait")


async def test_close_refuses_putters_and_leaves_what_is_there(public_kind: Kind) -> None:
    async with public_kind.made(2, writers=2) as channel:
        await channel.writers[0].do("put_until_full")
        waiting = [writer.start("put", "never") for writer in channel.writers]
        for writer in channel.writers:
            await writer.settle()
        assert channel.public is not None
        channel.public.close()
        channel.public.close()
        for each in waiting:
            with pytest.raises(ChannelClosed):
                await each
        with pytest.raises(ChannelClosed):
            await channel.writers[1].do("put", "never")
        with pytest.raises(ChannelClosed):
            channel.public.open()
        assert (channel.public.closed, len(channel.public)) == (True, 2)
        assert await channel.reader.do("take_all") == [0, 1]


async def test_close_ends_consumers_that_wait(public_kind: Kind) -> None:
    async with public_kind.made(2, readers=3) as channel:
        taking = [reader.start("take_all") for reader in channel.readers]
        for reader in channel.readers:
            await reader.settle()
        assert channel.public is not None
        channel.public.close()
        assert [await each for each in taking] == [[], [], []]


async def test_a_consumer_waits_for_the_first_publisher(public_kind: Kind) -> None:
    async with public_kind.made(2, writers=0, readers=2, opened=False) as channel:
        assert channel.public is not None
        taking = [reader.start("take_all") for reader in channel.readers]
        for reader in channel.readers:
            await reader.settle()
        assert not any(each.done() for each in taking)
        async with channel.public.open() as sender:
            await sender.put(1)
            await sender.put(2)
        taken = [await each for each in taking]
        assert sorted(taken[0] + taken[1]) == [1, 2]


async def test_the_length_counts_what_was_put_and_not_taken(public_kind: Kind) -> None:
    async with public_kind.made(3) as channel:
        assert channel.public is not None
        assert (len(channel.public), channel.public.capacity, channel.public.closed) == (0, 3, False)
        await channel.writer.do("put_until_full")
        assert len(channel.public) == 3
        await channel.reader.do("take")
        assert len(channel.public) == 2
        assert channel.public  # an empty channel is still a channel


async def test_a_publisher_that_fails_is_told_to_consumers_after_what_was_put(public_kind: Kind) -> None:
    async with public_kind.made(3, writers=2, readers=2) as channel:
        await channel.writers[1].do("put", 1)
        await channel.writers[0].do("put_all", [2, 3])
        waiting = channel.writers[1].start("put", "never")
        await channel.writers[1].settle()
        await channel.writers[0].do("leave", ValueError("disk full"))
        with pytest.raises(ChannelClosed, match=r"failed.*ValueError: disk full"):
            await waiting
        assert [await channel.readers[number % 2].do("take") for number in range(3)] == [1, 2, 3]
        for reader in (*channel.readers, channel.reader):
            with pytest.raises(ChannelFailed, match="ValueError: disk full") as caught:
                await reader.do("take")
            assert isinstance(caught.value.__cause__, ValueError)
        assert channel.public is not None
        assert channel.public.closed


async def test_consumers_that_wait_are_told_of_a_failure(public_kind: Kind) -> None:
    async with public_kind.made(3, writers=2, readers=2) as channel:
        waiting = [reader.start("take") for reader in channel.readers]
        await channel.reader.settle()
        await channel.writers[0].do("leave", OSError(5, "gone"))
        for each in waiting:
            with pytest.raises(ChannelFailed, match="gone") as caught:
                await each
            assert isinstance(caught.value.__cause__, OSError)
            assert caught.value.__cause__.errno == 5


@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit])
async def test_a_publisher_that_was_asked_to_end_has_not_failed(public_kind: Kind, error: type[BaseException]) -> None:
    async with public_kind.made(3) as channel:
        await channel.writer.do("put", 1)
        await channel.writer.do("leave", error())
        assert await channel.reader.do("take_all") == [1]


async def test_the_first_end_of_a_channel_is_its_end(public_kind: Kind) -> None:
    async with public_kind.made(3, writers=2) as channel:
        assert channel.public is not None
        channel.public.close()
        await channel.writers[0].do("leave", ValueError("too late"))
        assert await channel.reader.do("take") == END
    async with public_kind.made(3, writers=2) as channel:
        await channel.writers[0].do("leave", ValueError("the first"))
        await channel.writers[1].do("leave", ValueError("the second"))
        assert channel.public is not None
        channel.public.close()
        with pytest.raises(ChannelFailed, match="the first"):
            await channel.reader.do("take")


async def test_a_writer_that_was_stopped_and_goes_on_has_all_the_room_there_is(edge_kind: Kind) -> None:
    async with edge_kind.made(10) as channel:
        await channel.writer.do("put", 0)
        await channel.writer.do("stop_and_resume")
        assert await channel.writer.do("put_until_full", 1) == 9
        assert await channel.reader.do("take_all", 10) == list(range(10))
