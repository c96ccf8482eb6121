"""The channel inside one loop: turns, accounts, several writers."""

from __future__ import annotations

import asyncio
import time

import pytest

from cascata.channel.local import LocalChannel
from cascata.errors import ChannelClosed
from tests.coroutines import turn


def take(channel: LocalChannel) -> object:
    item = channel.items.popleft()
    channel.release()
    return item


async def test_a_batch_that_suspends_tells_the_writers_on_the_next_turn() -> None:
    channel = LocalChannel(4)
    put = channel.writer().put
    for item in range(4):
        await put(item)
    waiting = asyncio.ensure_future(put(4))
    await turn()
    channel.taking()
    channel.items.popleft()  # and the batch goes on, without `release`
    await turn(3)
    assert waiting.done()


async def test_a_batch_that_suspends_again_and_again_keeps_no_writer_waiting() -> None:
    channel = LocalChannel(4)
    put = channel.writer().put
    for item in range(4):
        await put(item)
    channel.taking()
    for item in range(4, 20):
        waiting = asyncio.ensure_future(put(item))
        await turn(2)
        channel.items.popleft()  # the batch says nothing: it is not over
        async with asyncio.timeout(10):
            await waiting


async def test_the_counts_of_a_single_edge_need_no_tally() -> None:
    channel = LocalChannel(10)
    writer = channel.writer(7)
    for item in range(5):
        await writer.put(item)
    assert writer.sent == 5
    take(channel)
    take(channel)
    assert channel.taken() == {7: 2}
    assert channel.last_edges() == {7: 1}
    assert channel.close() == {7: 3}


async def test_each_edge_of_several_is_counted() -> None:
    channel = LocalChannel(10)
    writers = [channel.writer(edge) for edge in (3, 5)]
    for item in range(3):
        for writer in writers:
            await writer.put(item)
    for _ in range(3):
        take(channel)
    assert channel.taken() == {3: 2, 5: 1}
    assert channel.close() == {3: 1, 5: 2}
    assert [writer.sent for writer in writers] == [3, 3]


async def test_a_put_that_is_refused_without_an_error_is_lost_and_counted() -> None:
    channel = LocalChannel(2)
    writer = channel.writer()
    await writer.put(1)
    channel.close()
    writer.refusal = lambda: None
    for item in range(1_000):
        await writer.put(item)
    assert (writer.sent, writer.lost) == (1_001, 1_000)
    assert channel.taken() == {0: 0}
    assert writer.closed


async def test_room_goes_to_the_writers_in_the_order_in_which_they_began_to_wait() -> None:
    channel = LocalChannel(1)
    writers = [channel.writer(edge) for edge in range(3)]
    await writers[0].put("first")
    waiting = [asyncio.ensure_future(writers[index % 3].put(index)) for index in range(9)]
    await turn()
    assert take(channel) == "first"
    taken: list[object] = []
    while len(taken) < 9:
        await channel.wait()
        taken.append(take(channel))
    assert taken == list(range(9))
    await asyncio.gather(*waiting)


async def test_several_users_of_the_reading_end_share_the_items() -> None:
    channel = LocalChannel(10, readers=3)
    writer = channel.writer()
    taken: list[list[int]] = [[], [], []]

    async def consume(number: int) -> None:
        while channel.items or await channel.wait():
            taken[number].append(take(channel))  # type: ignore[arg-type]
            await turn(2)  # so long does its work take

    consumers = [asyncio.ensure_future(consume(number)) for number in range(3)]
    for item in range(30):
        await writer.put(item)
    await writer.aclose()
    await asyncio.gather(*consumers)
    assert sorted(item for each in taken for item in each) == list(range(30))
    assert min(len(each) for each in taken) >= 9
    assert channel.close() == channel.close() == {}
    assert channel.close() == {0: 0}


async def test_time_that_the_reader_works_within_a_put_counts_once_however_many_puts_wait() -> None:
    channel = LocalChannel(1)
    writer = channel.writer()

    async def read() -> None:
        while await channel.wait():
            time.sleep(0.002)  # noqa: ASYNC251  # it works, in the await of the put that has taken the last room
            take(channel)

    reading = asyncio.ensure_future(read())
    await asyncio.sleep(0)
    began = time.perf_counter()
    await asyncio.gather(*(writer.put(item) for item in range(20)))
    elapsed = time.perf_counter() - began
    await writer.aclose()
    await reading
    assert writer.blocked_s > 0.036
    assert writer.blocked_s + writer.paused_s <= elapsed


async def test_time_spent_waiting_counts_once_however_many_puts_wait() -> None:
    loop = asyncio.get_running_loop()
    channel = LocalChannel(1)
    writer = channel.writer()
    await writer.put(0)
    began = loop.time()
    waiting = asyncio.gather(*(writer.put(item) for item in range(50)))
    await asyncio.sleep(0.01)
    for _ in range(51):
        await channel.wait()
        take(channel)
    await waiting
    assert 0.009 < writer.blocked_s + writer.paused_s <= loop.time() - began


async def test_a_stopped_writer_refuses_although_it_had_room_in_advance() -> None:
    channel = LocalChannel(100)
    writer = channel.writer()
    await writer.put(1)
    writer.stop()
    with pytest.raises(ChannelClosed):
        await writer.put(2)
    assert writer.sent == 1
    assert channel.items.popleft() == 1


async def test_a_channel_that_is_finished_ends_although_writers_are_open() -> None:
    channel = LocalChannel(10)
    writer = channel.writer()
    waiting = asyncio.ensure_future(channel.wait())
    await turn()
    channel.finish()
    assert not await waiting
    assert channel.ended
    writer.close()


async def test_a_channel_that_grows_takes_what_waits() -> None:
    channel = LocalChannel(1)
    writer = channel.writer()
    await writer.put(0)
    waiting = asyncio.gather(*(writer.put(item) for item in range(1, 4)))
    await turn()
    assert writer.waiting
    channel.grow(3)
    await waiting
    assert list(channel.items) == [0, 1, 2, 3]
    assert not writer.waiting
