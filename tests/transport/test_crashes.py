"""Processes that are killed or stopped at any moment, with a channel in their hands."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import multiprocess
import pytest

from cascata import Channel
from cascata.errors import ChannelClosed, ChannelFailed
from cascata.transport.ends.reader import CrossingReader
from cascata.transport.ends.writer import CrossingWriter
from cascata.transport.linux import ring
from cascata.transport.linux.fd_hub import Hub
from cascata.transport.linux.sockets import Pair, RingPair, make_pair, make_ring_pairs
from tests.transport.ends import unexpected

FORK = multiprocess.get_context("fork")
HANGS_S = 20.0
"""Seconds after which nothing is expected to happen any more."""


@contextmanager
def processes(*targets: Any) -> Iterator[list[Any]]:
    """Runs functions in processes; kills what is left of them at the end."""
    running = [FORK.Process(target=target, args=arguments) for target, *arguments in targets]
    for process in running:
        process.start()
    try:
        yield running
    finally:
        for process in running:
            if process.is_alive():
                process.kill()
            process.join()
            process.close()


def payload(number: int, item: int) -> bytes:
    """Bytes of a length of its own, some longer than a page."""
    return bytes([number]) * (item * 997 % 9_000)


# --- the public channel -----------------------------------------------------------------------------


def publish(channel: Channel[Any], number: int, count: int | None) -> None:
    with channel.open():
        item = 0
        while item != count:
            channel.put_sync((number, item, payload(number, item)))
            item += 1


def test_consumers_of_killed_publishers_get_what_was_put_and_are_told_then() -> None:
    rng = random.Random(1)
    for _ in range(60):
        channel: Channel[Any] = Channel(rng.choice([1, 3, 20]))
        with channel.open() as holding, processes((publish, channel, 0, None), (publish, channel, 1, 150)) as running:
            taken: dict[int, int] = {0: 0, 1: 0}
            kill_at = rng.randrange(100)
            while True:
                if sum(taken.values()) == kill_at:
                    running[0].kill()
                if taken[1]:
                    holding.close()  # publisher 1 has come, too
                try:
                    number, item, content = channel.get_sync(timeout=HANGS_S)
                except ChannelFailed:
                    break
                except ChannelClosed:  # it was killed before it had opened
                    assert not taken[0]
                    break
                assert item == taken[number]
                assert content == payload(number, item)
                taken[number] += 1
            assert taken[1] == 150


async def test_a_consumer_that_waits_is_told_when_the_last_publisher_was_killed() -> None:
    for _ in range(40):
        channel: Channel[Any] = Channel(3)
        with channel.open() as holding, processes((publish, channel, 0, 5), (publish, channel, 1, None)) as running:
            async with asyncio.timeout(HANGS_S):
                consumers = [asyncio.ensure_future(take_until_told(channel)) for _ in range(2)]
                while (await channel.get())[0] != 1:
                    pass  # until publisher 1 has come
                holding.close()
                await asyncio.to_thread(running[0].join)
                running[1].kill()
                await asyncio.gather(*consumers)


async def take_until_told(channel: Channel[Any]) -> None:
    with pytest.raises(ChannelFailed, match="has died"):
        [item async for item in channel]


def test_a_publisher_that_closed_before_its_process_was_killed_has_not_failed() -> None:
    channel: Channel[Any] = Channel(10)
    with processes((close_and_hang, channel)) as (process,):
        assert channel.get_sync(timeout=HANGS_S) == "last"
        with pytest.raises(ChannelClosed):
            channel.get_sync(timeout=HANGS_S)  # it has closed
        process.kill()
        process.join()
        with pytest.raises(ChannelClosed):
            channel.get_sync(timeout=0)


def close_and_hang(channel: Channel[Any]) -> None:
    with channel.open() as sender:
        sender.put_sync("last")
    signal.pause()


def consume(channel: Channel[int], reports: int) -> None:
    while True:
        try:
            item = channel.get_sync()
        except ChannelClosed:
            return
        os.write(reports, item.to_bytes(4, "little"))


def read_reports(fd: int) -> list[int]:
    """Everything that was reported, until nobody is left who could."""
    data = b""
    while part := os.read(fd, 65_536):
        data += part
    assert len(data) % 4 == 0
    return [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4)]


def test_a_killed_consumer_takes_nothing_with_it_but_the_item_in_its_hand() -> None:
    rng = random.Random(2)
    for _ in range(60):
        channel: Channel[int] = Channel(rng.choice([1, 3, 20]))
        reports_r, reports = os.pipe()
        with channel.open() as sender, processes(*[(consume, channel, reports)] * 2) as running:
            os.close(reports)
            killed_at = rng.randrange(300)
            for item in range(300):
                if item == killed_at:
                    running[0].kill()
                sender.put_sync(item, timeout=HANGS_S)
            sender.close()
            reported = read_reports(reports_r)
        os.close(reports_r)
        assert len(set(reported)) == len(reported)
        assert len(reported) >= 299


def hammer(channel: Channel[bytes]) -> None:
    while True:
        channel.put_sync(b"x" * 3_000)
        channel.get_sync()


def test_a_process_that_is_killed_never_leaves_the_lock_held() -> None:
    rng = random.Random(3)
    channel: Channel[bytes] = Channel(10)
    with channel.open():
        for _ in range(100):
            with processes((hammer, channel)) as (process,):
                for _ in range(rng.randrange(60)):
                    channel.put_sync(b"y" * 5_000, timeout=HANGS_S)
                    channel.get_sync(timeout=HANGS_S)
                process.kill()
                process.join()
            while len(channel):
                assert set(channel.get_sync(timeout=HANGS_S)) in ({ord("x")}, {ord("y")})


def test_a_process_that_is_stopped_for_a_while_loses_nothing() -> None:
    rng = random.Random(4)
    for _ in range(10):
        channel: Channel[Any] = Channel(5)
        reports_r, reports = os.pipe()
        with processes((publish_numbers, channel, 400), (consume, channel, reports)) as running:
            os.close(reports)
            taken = []
            for _ in range(rng.randrange(1, 20)):
                try:
                    taken.append(channel.get_sync(timeout=HANGS_S))
                except ChannelClosed:
                    break
                process = rng.choice(running)
                if process.is_alive():
                    os.kill(process.pid, signal.SIGSTOP)
                    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
                    os.kill(process.pid, signal.SIGCONT)
            reported = read_reports(reports_r)
        os.close(reports_r)
        assert sorted(taken + reported) == list(range(400))


def publish_numbers(channel: Channel[int], count: int) -> None:
    with channel.open():
        for item in range(count):
            channel.put_sync(item)


# --- a crossing channel -----------------------------------------------------------------------------


def write_forever(pair: Pair, edge: int, share: int) -> None:
    async def write() -> None:
        writer = CrossingWriter(pair.sender(Hub(), shared=share > 1), edge, pair.capacity, share=share, bad=unexpected)
        item = 0
        while True:
            await writer.put((edge, item, payload(edge, item)))
            item += 1

    asyncio.run(write())


async def test_what_killed_writers_had_sent_arrives_whole_and_without_a_gap() -> None:
    rng = random.Random(5)
    for _ in range(60):
        pair, hub = make_pair(rng.choice([1, 10, 100])), Hub()
        reader = CrossingReader(pair.receiver(hub), pair.capacity, bad=unexpected)
        with processes((write_forever, pair, 0, 2), (write_forever, pair, 1, 2)) as running:
            taken = [0, 0]
            kill_at = rng.randrange(1, 300)
            async with asyncio.timeout(HANGS_S):
                while reader.items or await reader.wait():
                    edge, item, content = reader.items.popleft()
                    reader.release()
                    assert (item, content) == (taken[edge], payload(edge, item))
                    taken[edge] += 1
                    if sum(taken) == kill_at:
                        for process in running:
                            process.kill()
                            process.join()
                        pair.end_writing()
            assert sum(taken) >= kill_at
        reader.close()
        hub.close()
        pair.close()


def write_into_a_ring_forever(pair: RingPair) -> None:
    async def write() -> None:
        writer = CrossingWriter(pair.sender(Hub()), 0, pair.capacity, bad=unexpected)
        item = 0
        while True:
            await writer.put((item, bytes(50_000 if item % 7 == 3 else item % 50)))  # some go through the socket
            item += 1

    asyncio.run(write())


@pytest.mark.skipif(not ring.AVAILABLE, reason="needs total store order")
async def test_what_a_killed_writer_had_put_into_a_ring_arrives_whole_and_without_a_gap() -> None:
    rng = random.Random(7)
    for number in range(40):
        (pair,), hub = make_ring_pairs([rng.choice([1, 10, 100])]), Hub()
        reader = CrossingReader(pair.receiver(hub), pair.capacity, spin=number % 2 == 0, bad=unexpected)
        with processes((write_into_a_ring_forever, pair)) as running:
            taken = 0
            kill_at = rng.randrange(1, 300)
            async with asyncio.timeout(HANGS_S):
                while reader.items or await reader.wait():
                    item, content = reader.items.popleft()
                    reader.release()
                    assert (item, len(content)) == (taken, 50_000 if taken % 7 == 3 else taken % 50)
                    taken += 1
                    if taken == kill_at:
                        running[0].kill()
                        running[0].join()
                        pair.end_writing()
            assert taken >= kill_at
        reader.close()
        hub.close()
        pair.close()


def read_forever(pair: Pair, reports: int) -> None:
    async def read() -> None:
        reader = CrossingReader(pair.receiver(Hub()), pair.capacity, bad=unexpected)
        while reader.items or await reader.wait():
            os.write(reports, reader.items.popleft().to_bytes(4, "little"))
            reader.release()

    asyncio.run(read())


async def test_when_a_reader_is_killed_the_others_go_on_with_what_it_had_not_received() -> None:
    rng = random.Random(6)
    for _ in range(40):
        pair, hub = make_pair(100), Hub()
        reports_r, reports = os.pipe()
        writer = CrossingWriter(pair.sender(hub), 0, pair.capacity, fill=lambda: 1, bad=unexpected)
        with processes((read_forever, pair, reports), (read_forever, pair, reports)) as running:
            os.close(reports)
            kill_at = rng.randrange(150)
            async with asyncio.timeout(HANGS_S):
                for item in range(150):
                    if item == kill_at:
                        running[0].kill()
                    await writer.put(item)
                await writer.aclose()
            pair.end_writing()
            reported = read_reports(reports_r)
        os.close(reports_r)
        hub.close()
        pair.close()
        assert len(set(reported)) == len(reported)
        assert len(reported) >= 149  # a frame holds one item here: the one in its hand
