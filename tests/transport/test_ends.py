"""The ends of a crossing channel: stopped, closed in the middle, or gone; and what was left in it."""

from __future__ import annotations

import asyncio
import os

import numpy as np
import pytest

from cascata.errors import ChannelClosed
from cascata.transport.linux import ring
from cascata.transport.linux.sockets import count_unread, make_pair
from tests.coroutines import turn
from tests.transport.ends import Crossing, crossing, open_fds

pytestmark = pytest.mark.usefixtures("no_clock")

MB = 1 << 20

SETTLED = 20
"""Turns of the loop after which nothing more happens by itself."""


async def test_a_stopped_writer_uses_no_credits_that_it_has_in_hand(carrier: str) -> None:
    async with crossing(100) as ends:
        await ends.writer.put(1)
        ends.writer.stop()
        with pytest.raises(ChannelClosed):
            await ends.writer.put(2)
        assert ends.writer.sent == 1
        await ends.writer.aclose()
        ends.pair.end_writing()
        assert await ends.take_all() == [1]


async def test_what_a_closed_writer_had_not_sent_is_lost_and_counted(carrier: str) -> None:
    async with crossing(100) as ends:
        for item in range(10):
            await ends.writer.put(item)
        ends.writer.close()
        assert (ends.writer.sent, ends.writer.lost) == (10, 9)
        ends.pair.end_writing()
        assert await ends.take_all() == [0]


async def test_what_could_not_be_sent_when_the_readers_left_is_lost_and_counted(carrier: str) -> None:
    async with crossing(100) as ends:
        ends.writer.refusal = lambda: None
        await ends.writer.put(0)
        assert await ends.take() == 0
        for item in range(10):
            await ends.writer.put(item)
        ends.pair.end_reading()
        for item in range(200):
            await ends.writer.put(item)
        await turn(SETTLED)
        assert ends.writer.closed
        await ends.writer.aclose()
        assert (ends.writer.sent, ends.writer.lost) == (211, 210)


async def test_a_cancelled_aclose_closes_and_drops_the_rest(small_sockets: None) -> None:
    async with crossing(3_000) as ends:
        for item in range(2_000):
            await ends.writer.put(item)
            ends.writer.flush()
        closing = asyncio.ensure_future(ends.writer.aclose())
        await turn(SETTLED)
        assert not closing.done()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert ends.writer.closed
        ends.pair.end_writing()
        assert len(await ends.take_all()) + ends.writer.lost == ends.writer.sent == 2_000


async def test_closing_ends_that_are_busy_touches_no_fd_of_others() -> None:
    """What was armed for the loop's next turn must not run on fds that belong to somebody else by then."""
    async with crossing(10, writers=2) as ends:
        await ends.writers[0].put(1)
        ends.reader.taking()
        await ends.reader.wait()
        ends.reader.items.popleft()
        for writer in ends.writers:
            writer.close()
        ends.reader.close()
        others = [os.pipe2(os.O_NONBLOCK) for _ in range(4)]  # get the numbers that just became free
        await turn(SETTLED)
        for reading, writing in others:
            with pytest.raises(BlockingIOError):
                os.read(reading, 1)
            os.close(reading)
            os.close(writing)
        ends.readers.clear()


async def test_two_who_close_at_once_both_return(small_sockets: None) -> None:
    async with crossing(3_000) as ends, asyncio.timeout(10):
        for item in range(1_000):
            await ends.writer.put(item)
            ends.writer.flush()
        closing = [asyncio.ensure_future(ends.writer.aclose()) for _ in range(2)]
        await turn(SETTLED)
        assert not any(each.done() for each in closing)
        closing[0].cancel()
        await asyncio.wait(closing)
        assert not closing[1].cancelled()


async def test_what_is_left_in_a_channel_is_counted_by_edge() -> None:
    async with crossing(100, writers=2) as ends:
        for item in range(5):
            await ends.writers[item % 2].put(item)
        await ends.writers[1].put(np.zeros(100_000))
        await turn()
        before = open_fds()
        assert count_unread(ends.pair.receive) == {0: (3, 3), 1: (3, 3)}
        assert open_fds() == before


@pytest.mark.skipif(not ring.AVAILABLE, reason="needs total store order")
async def test_what_is_left_in_a_ring_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Crossing, "over_a_ring", True)
    async with crossing(100) as ends:
        for item in range(5):
            await ends.writer.put(item)
            ends.writer.flush()
        for size in (50_000, 100_000, 3_000):  # through the socket; in memory of its own; in the ring
            await ends.writer.put(bytes(size))
            ends.writer.flush()
        assert await ends.take() == 0
        assert ends.pair.count_unread() == {0: (7, 8)}
        assert [await ends.take() for _ in range(4)] == [1, 2, 3, 4]
        assert [len(await ends.take()) for _ in range(3)] == [50_000, 100_000, 3_000]
        assert ends.pair.count_unread() == {}


@pytest.mark.skipif(not ring.AVAILABLE, reason="needs total store order")
async def test_a_ring_that_is_full_of_bytes_keeps_its_items_until_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Crossing, "over_a_ring", True)
    async with crossing(1_000) as ends, asyncio.timeout(20):
        for item in range(1_000):
            await ends.writer.put((item, bytes(item * 7)))
            ends.writer.flush()
        assert ends.writer._unsent  # 3.5 MB do not fit
        assert [await ends.take() for _ in range(1_000)] == [(item, bytes(item * 7)) for item in range(1_000)]


@pytest.mark.skipif(not ring.AVAILABLE, reason="needs total store order")
async def test_frames_that_meet_the_end_of_a_ring_are_whole_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Crossing, "over_a_ring", True)
    async with crossing(100) as ends, asyncio.timeout(20):
        for item in range(300):
            await ends.writer.put((item, bytes(item * 61)))
            ends.writer.flush()
            if item >= 4:
                assert ends.pair.count_unread() == {0: (5, item + 1)}
                assert await ends.take() == (item - 4, bytes((item - 4) * 61))


def test_a_pair_that_cannot_be_made_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(capacity: int) -> None:
        raise OSError("short")

    monkeypatch.setattr("cascata.transport.linux.sockets.credit_pipe", fail)
    with pytest.raises(OSError, match="short"):
        make_pair(1)
