"""The channel that processes share: its state, its signals, its memory."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascata.channel.threads import EMPTY, ENDED
from cascata.errors import ChannelClosed, SerializationError
from cascata.transport.shared.log import SharedChannel, SharedFds
from tests.coroutines import turn
from tests.transport.ends import generator, open_fds


def another(channel: SharedChannel) -> SharedChannel:
    """The same channel as another process would have it."""
    return SharedChannel(channel.capacity, SharedFds(*(os.dup(fd) for fd in channel.fds)))


def blocks(channel: SharedChannel) -> int:
    """Bytes of memory that the channel occupies."""
    return os.fstat(channel.fds.memory).st_blocks * 512


@given(st.lists(st.one_of(st.none(), st.integers(0, 300_000)), max_size=80), st.integers(1, 5))
def test_it_is_a_queue_of_messages_of_any_size(steps: list[int | None], capacity: int) -> None:
    """A number: an item of that size is put; None: one is taken."""
    here = SharedChannel(capacity)
    there = another(here)
    model: deque[int] = deque()
    for step in steps:
        if step is not None:
            assert here.try_put(b"x" * step) == (len(model) < capacity)
            if len(model) < capacity:
                model.append(step)
        else:
            item = there.try_take()
            assert item == b"x" * model.popleft() if model else item is EMPTY
        assert len(here) == len(there) == len(model)


def test_memory_that_was_read_is_given_back_also_when_the_channel_is_never_empty() -> None:
    channel = SharedChannel(10)
    most = 0
    for number in range(400):
        assert channel.try_put(bytes(100_000 + number))
        if number >= 5:
            channel.try_take()
        most = max(most, blocks(channel))
    assert most < 4_000_000


def test_memory_is_given_back_when_the_channel_is_empty() -> None:
    channel = SharedChannel(10)
    for _ in range(3):
        for _ in range(3):
            assert channel.try_put(bytes(5_000_000))
        for _ in range(3):
            channel.try_take()
    assert blocks(channel) < 100_000


def test_a_put_that_was_cut_short_by_death_has_changed_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the process were killed after it has written the message, and before it says so."""
    channel = SharedChannel(3)
    survivor = another(channel)
    assert channel.try_put("first")

    def die(*state: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(channel, "_commit", die)
    with pytest.raises(KeyboardInterrupt):
        channel.try_put("lost")
    assert len(survivor) == 1
    assert survivor.try_put("second")
    assert [survivor.try_take() for _ in range(3)] == ["first", "second", EMPTY]


def test_a_take_that_was_cut_short_by_death_has_taken_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = SharedChannel(3)
    survivor = another(channel)
    assert channel.try_put("first")

    def die(*state: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(channel, "_commit", die)
    with pytest.raises(KeyboardInterrupt):
        channel.try_take()
    assert survivor.try_take() == "first"


def test_a_look_without_the_lock_sees_a_whole_state() -> None:
    channel = SharedChannel(1_000)
    for _ in range(255):
        assert channel.try_put(None)
    watcher = another(channel)
    over = threading.Event()
    seen = set()

    def watch() -> None:
        while not over.is_set():
            seen.add(len(watcher))

    thread = threading.Thread(target=watch)
    thread.start()
    for _ in range(2_000):
        assert channel.try_put(None)  # 255 to 256: every byte of the count changes
        channel.try_take()
    over.set()
    thread.join()
    assert seen <= {255, 256}


def test_an_end_is_not_seen_before_the_first_publisher_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer looks whether publishers are gone; the first one opens; the consumer goes on."""
    channel = SharedChannel(1)
    publisher = another(channel)
    read = channel._try_read
    looks: list[None] = []

    def look() -> Any:
        looks.append(None)
        if len(looks) == 1:
            found = read()
            publisher.open()
            return found
        return read()

    monkeypatch.setattr(channel, "_try_read", look)
    assert channel.try_take() is EMPTY
    publisher.release()
    assert channel.try_take() is ENDED


def test_what_the_last_publisher_put_is_seen_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = SharedChannel(1)
    publisher = another(channel)
    publisher.open()
    read = channel._try_read
    looks: list[None] = []

    def look() -> Any:
        looks.append(None)
        found = read()
        if len(looks) == 1:
            assert publisher.try_put("last")
            publisher.release()
        return found

    monkeypatch.setattr(channel, "_try_read", look)
    assert channel.try_take() == "last"
    assert channel.try_take() is ENDED


async def test_all_who_wait_hear_of_the_first_publisher_whoever_looks_first() -> None:
    channel = SharedChannel(1)
    publisher, other = another(channel), another(channel)
    waiting = asyncio.ensure_future(channel.item())
    await turn(3)
    publisher.open()
    assert other.try_take() is EMPTY  # lowers what says that there may be items
    publisher.release()
    async with asyncio.timeout(10):
        while channel.try_take() is not ENDED:
            await channel.item()
        await waiting


async def test_all_who_wait_for_room_hear_that_it_is_closed_whoever_looks_first() -> None:
    channel = SharedChannel(1)
    other, closer = another(channel), another(channel)
    assert channel.try_put(1)
    assert not channel.try_put(2)
    waiting = asyncio.ensure_future(channel.room())
    await turn(3)
    closer.close()
    with pytest.raises(ChannelClosed):
        other.try_put(2)
    async with asyncio.timeout(10):
        await waiting
    with pytest.raises(ChannelClosed):
        channel.try_put(2)


def test_a_channel_that_is_closed_between_two_looks_is_seen_to_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = SharedChannel(1)
    closer = another(channel)
    assert channel.try_put(1)
    state = channel._state
    looks: list[None] = []

    def look() -> Any:
        looks.append(None)
        found = state()
        if len(looks) == 1:
            closer.close()
        return found

    monkeypatch.setattr(channel, "_state", look)
    with pytest.raises(ChannelClosed):
        channel.try_put(2)
    assert channel.try_take() == 1
    assert channel.try_take() is ENDED


async def test_room_is_told_to_each_who_waits_for_it() -> None:
    channel = SharedChannel(2)
    putters = [another(channel) for _ in range(2)]
    for _ in putters:
        assert channel.try_put(1)
    assert not channel.try_put(1)
    waiting = [asyncio.ensure_future(putter.room()) for putter in putters]
    await turn(3)
    assert not any(each.done() for each in waiting)
    assert [channel.try_take(), channel.try_take()] == [1, 1]
    async with asyncio.timeout(10):
        await asyncio.gather(*waiting)
    assert all(putter.try_put(2) for putter in putters)


def test_many_publishers_of_a_process_hold_one_fd() -> None:
    channel = SharedChannel(1)
    before = open_fds()
    for _ in range(100):
        channel.open()
    assert open_fds() == before + 1
    for _ in range(99):
        channel.release()
    assert channel.try_take() is EMPTY
    channel.release()
    assert channel.try_take() is ENDED
    channel.open()
    assert channel.try_take() is EMPTY
    channel.release()


def test_a_channel_that_cannot_be_made_leaves_no_fds(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(flags: int) -> None:
        raise OSError("short")

    before = open_fds()
    with monkeypatch.context() as short:
        short.setattr(os, "pipe2", fail)
        with pytest.raises(OSError, match="short"):
            SharedChannel(1)
    assert open_fds() == before


class Unknown:
    def __reduce__(self) -> Any:
        return explode, ()


def explode() -> None:
    raise ValueError("boom")


def test_an_item_that_cannot_be_unpickled_is_told_and_the_next_one_is_there() -> None:
    channel = SharedChannel(3)
    assert channel.try_put(Unknown())
    assert channel.try_put("next")
    with pytest.raises(SerializationError, match="boom"):
        channel.try_take()
    assert channel.try_take() == "next"


def test_an_item_that_cannot_be_put_takes_no_room() -> None:
    channel = SharedChannel(1)
    with pytest.raises(SerializationError, match="generator"):
        channel.try_put(generator())
    assert channel.try_put("this can")
