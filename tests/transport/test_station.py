"""Connections between workers: whom they let in, what they survive, and what they tell."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from cascata.transport.ends.reader import CrossingReader
from cascata.transport.ends.writer import CrossingWriter
from cascata.transport.tcp import station as stations
from cascata.transport.tcp.broker_carrier import BrokerReceiver, BrokerSender
from cascata.transport.tcp.handshake import HELLO, MAGIC, Handshake, new_secret
from cascata.transport.tcp.station import Station
from cascata.transport.tcp.stream_frames import HEADER, Frame, Kind, chunks
from tests.transport.ends import open_fds, unexpected

STRANGERS = 1_000


class Two:
    """Worker 0, which reads a channel and is its home, and worker 1, which writes it."""

    def __init__(self, capacity: int = 10) -> None:
        self.secret = new_secret()
        self.refused: list[str] = []
        self.lost: list[tuple[int, str]] = []
        self.told = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.home, self.far = (
            Station(me, self.secret, lost=self._lose, refused=self.refused.append) for me in range(2)
        )
        self.home.keep(0, capacity, {0: 1}, [0])
        self.home.knows({0: 0}, {1})
        self.far.knows({0: 0}, {0})
        self.reader = CrossingReader(BrokerReceiver(self.home, 0, 0), capacity, bad=unexpected)
        self.writer = CrossingWriter(BrokerSender(self.far, 0, 0, 0, capacity), 0, capacity, bad=unexpected)

    def _lose(self, peer: int, why: str) -> None:
        self.lost.append((peer, why))
        self.loop.call_soon_threadsafe(self.told.set)

    def open(self) -> None:
        addresses = {0: self.home.address, 1: self.far.address}
        self.home.open(addresses)
        self.far.open(addresses)

    async def take(self) -> Any:
        if not self.reader.items:
            assert await self.reader.wait()
        item = self.reader.items.popleft()
        self.reader.release()
        return item

    async def works(self) -> None:
        """Shows that items pass."""
        async with asyncio.timeout(20):
            for item in range(100):
                await self.writer.put(item)
                assert await self.take() == item

    async def end(self) -> None:
        """An end in order."""
        async with asyncio.timeout(20):
            await self.writer.aclose()
            self.home.end_writing(0)
            assert not await self.reader.wait()
            self.reader.close()
            await asyncio.gather(self.home.served(), self.far.served())


@asynccontextmanager
async def two(capacity: int = 10) -> AsyncIterator[Two]:
    made = Two(capacity)
    try:
        yield made
    finally:
        await asyncio.gather(*(asyncio.to_thread(each.close) for each in (made.home, made.far)))


def stranger(made: Two) -> socket.socket:
    return socket.create_connection(made.home.address)


def is_refused(sock: socket.socket) -> bool:
    """Whether the other end closes the connection, without a byte that needs the secret."""
    sock.settimeout(20)
    try:
        while sock.recv(4096):
            pass
    except ConnectionError:
        pass
    sock.close()
    return True


# --- strangers --------------------------------------------------------------------------------------


def random_bytes(made: Two) -> bytes:
    return os.urandom(5_000)


def a_browser(made: Two) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: worker.example\r\nAccept: */*\r\nConnection: close\r\n\r\n"


def a_huge_length(made: Two) -> bytes:
    return HEADER.pack(Kind.DATA, False, 0, 0, 1, 0, 0, 1, 1 << 40) + b"x" * 100


def a_frame_without_a_handshake(made: Two) -> bytes:
    return b"".join(bytes(chunk) for chunk in chunks(Frame(Kind.DATA, 0, 1, 1, b"pickle" * 20)))


def a_wrong_proof(made: Two) -> bytes:
    return Handshake(new_secret(), 1, peer=0).opening + os.urandom(32)


@pytest.mark.parametrize("said", [random_bytes, a_browser, a_huge_length, a_frame_without_a_handshake, a_wrong_proof])
async def test_who_does_not_know_the_secret_is_refused_and_logged_once(said: Callable[[Two], bytes]) -> None:
    async with two() as made:
        made.open()
        for _ in range(3):
            sock = stranger(made)
            sock.sendall(said(made))
            assert await asyncio.to_thread(is_refused, sock)
        await made.works()
        assert len(made.refused) == 1
        assert "worker 0" in made.refused[0]
        assert "was refused" in made.refused[0]
        await made.end()
        assert made.lost == []


async def test_half_a_handshake_costs_its_time_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stations, "HANDSHAKE_S", 0.05)
    async with two() as made:
        made.open()
        silent, half = stranger(made), stranger(made)
        half.sendall(HELLO.pack(MAGIC, 1, os.urandom(32))[:20])
        await made.works()
        assert await asyncio.to_thread(is_refused, silent)
        assert await asyncio.to_thread(is_refused, half)
        assert len(made.refused) == 1
        await made.end()


async def test_thousands_of_connections_hold_a_few_fds_and_keep_no_worker_out() -> None:
    async with two() as made:
        before = open_fds()
        made.home.open({})
        addresses = {0: made.home.address}
        most = 0
        for number in range(STRANGERS):
            with socket.socket() as sock:
                sock.setblocking(False)
                sock.connect_ex(made.home.address)
                if number == STRANGERS // 2:
                    made.far.open(addresses)  # a worker among them
                if not number % 20:
                    await asyncio.sleep(0)
                    most = max(most, open_fds() - before)
        await made.works()
        assert most <= stations.MOST_STRANGERS + 20
        assert len(made.refused) <= 1
        await made.end()
        assert made.lost == []


async def test_a_worker_of_the_run_that_is_not_expected_is_refused() -> None:
    async with two() as made:
        made.open()
        await made.works()
        for index in (1, 7):  # one that is connected already, one that shares no channel
            handshake = Handshake(made.secret, index, peer=0)
            sock = stranger(made)
            sock.sendall(handshake.opening)
            sock.sendall(handshake.feed(sock.recv(handshake.wants, socket.MSG_WAITALL)))
            assert await asyncio.to_thread(is_refused, sock)
        await made.works()
        await made.end()


# --- what breaks ------------------------------------------------------------------------------------


async def test_a_connection_that_breaks_is_told_to_both_and_looks_like_no_end() -> None:
    async with two() as made:
        made.open()
        await made.works()
        waiting = asyncio.ensure_future(made.reader.wait())
        await asyncio.sleep(0)
        connection = made.home._links[1].connection
        assert connection is not None
        made.home._loop.call_soon_threadsafe(connection.abort, None)
        async with asyncio.timeout(20):
            while len(made.lost) < 2:
                made.told.clear()
                await made.told.wait()
        assert sorted(peer for peer, _ in made.lost) == [0, 1]
        assert not waiting.done()
        waiting.cancel()


@pytest.mark.parametrize("at", [1, HEADER.size - 1, HEADER.size, HEADER.size + 50])
async def test_a_frame_that_was_cut_short_is_never_delivered(at: int) -> None:
    async with two() as made:
        made.home.open({})
        handshake = Handshake(made.secret, 1, peer=0)
        sock = stranger(made)
        sock.sendall(handshake.opening)
        sock.sendall(handshake.feed(await asyncio.to_thread(sock.recv, handshake.wants, socket.MSG_WAITALL)))
        data = b"".join(bytes(chunk) for chunk in chunks(Frame(Kind.DATA, 0, 1, 1, b"x" * 100)))
        sock.sendall(data[:at])
        sock.close()
        async with asyncio.timeout(20):
            await made.told.wait()
        assert made.lost[0][0] == 1
        assert made.home.unread() == {}


async def test_a_worker_that_is_not_there_is_told_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stations, "CONNECT_S", 0.1)
    async with two() as made:
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            address = nobody.getsockname()
        made.far.open({0: address})
        async with asyncio.timeout(20):
            await made.told.wait()
        assert made.lost[0][0] == 0
        assert "no connection to 127.0.0.1" in made.lost[0][1]


# --- what passes ------------------------------------------------------------------------------------


async def test_what_the_socket_does_not_take_waits_without_blocking_the_loop() -> None:
    size = 8 << 20
    async with two(capacity=4) as made:
        made.open()
        for number in range(4):
            await made.writer.put(np.full(size, number, dtype="u1"))
        made.writer.flush()
        for number in range(4):
            array = await made.take()
            assert (array == number).all()
            assert array.flags.writeable
        await made.end()


async def test_nothing_is_accepted_before_the_station_is_open() -> None:
    async with two() as made:
        made.far.open({0: made.home.address})
        await made.writer.put(1)
        made.writer.flush()
        waiting = asyncio.ensure_future(made.take())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        made.home.open({})
        assert await waiting == 1
        await made.end()


async def test_a_worker_that_has_ended_says_goodbye_and_is_not_missed() -> None:
    async with two() as made:
        made.open()
        await made.works()
        await made.end()
        await asyncio.to_thread(made.far.close)
        await asyncio.to_thread(made.home.close)
        assert made.lost == []
        assert made.refused == []


async def test_what_nobody_took_is_counted_where_the_channel_lives() -> None:
    async with two() as made:
        made.open()
        for item in range(5):
            await made.writer.put(item)
        assert await made.take() == 0
        left = sum(made.reader.close().values())
        made.home.end_reading(0)
        await made.writer.aclose()
        await asyncio.gather(made.home.served(), made.far.served())
        unread = sum(left.items for left in made.home.unread().values())
        assert 1 + left + unread + made.writer.lost == made.writer.sent == 5
