"""Connections between workers: whom they let in, what they survive, and what they tell."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any

import numpy as np
import pytest

from cascata.errors import CascataError
from cascata.transport.ends.reader import CrossingReader
from cascata.transport.ends.writer import CrossingWriter
from cascata.transport.tcp import ports
from cascata.transport.tcp import station as stations
from cascata.transport.tcp.broker_carrier import BrokerReceiver, BrokerSender
from cascata.transport.tcp.handshake import HELLO, MAGIC, Handshake, new_secret
from cascata.transport.tcp.station import Address, Station
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
            Station(me, self.secret, lost=self._lose, unreached=self._lose, refused=self.refused.append)
            for me in range(2)
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


@asynccontextmanager
async def nobody(*, listens: bool, full: bool = False) -> AsyncIterator[Address]:
    """A port at which connections are refused; or at which somebody listens who says nothing; or never answers."""
    with socket.socket() as sock, ExitStack() as callers:
        sock.bind(("127.0.0.1", 0))
        if listens:
            sock.listen(0 if full else 64)
        for _ in range(4 if full else 0):  # the kernel leaves what comes beyond the queue without an answer
            caller = callers.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(sock.getsockname())
        yield sock.getsockname()


@pytest.mark.parametrize(
    ("listens", "full", "words"),
    [
        (False, False, "Connection refused"),
        (True, True, "no answer"),
        (True, False, "has not proved within 0.1 s that it is this worker"),
    ],
    ids=["refused", "no answer", "no proof"],
)
async def test_a_worker_that_cannot_be_reached_is_told_with_its_address_and_the_systems_words(
    monkeypatch: pytest.MonkeyPatch, listens: bool, full: bool, words: str
) -> None:
    monkeypatch.setattr(stations, "CONNECT_S", 0.3)
    monkeypatch.setattr(stations, "PROOF_S", 0.1)
    async with two() as made, nobody(listens=listens, full=full) as address:
        made.far.open({0: address})
        async with asyncio.timeout(20):
            await made.told.wait()
        ((peer, why),) = made.lost
        assert peer == 0
        assert why.startswith(f"127.0.0.1:{address[1]} was tried for ")
        assert why.endswith(words)


async def test_a_worker_that_takes_its_time_to_begin_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stations, "CONNECT_S", 0.1)
    monkeypatch.setattr(stations, "PROOF_S", 0.1)
    async with two() as made:
        made.far.open({0: made.home.address})
        await asyncio.sleep(0.3)
        made.home.open({})
        await made.works()
        await made.end()
        assert made.lost == []


async def test_a_worker_that_was_lost_before_the_other_one_began_is_told_after_what_it_sent() -> None:
    async with two() as made:
        made.far.open({0: made.home.address})
        await made.writer.put(1)
        made.writer.flush()
        async with asyncio.timeout(20):
            while (link := made.far._links[0]).connection is None or not link._drained:  # noqa: ASYNC110  # set by a thread
                await asyncio.sleep(0.001)
            made.far._loop.call_soon_threadsafe(link.connection.abort, None)
            await made.told.wait()
            made.told.clear()
            while not all(each.is_lost for each in made.home._early or ()):  # noqa: ASYNC110  # set by a thread
                await asyncio.sleep(0.001)
            made.home.open({})
            await made.told.wait()
        assert sorted(peer for peer, _ in made.lost) == [0, 1]
        assert await made.take() == 1


# --- ports ------------------------------------------------------------------------------------------


def free_ports(count: int) -> range:
    """So many ports in a row that nobody has."""
    while True:
        with ExitStack() as stack:
            first = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
            with suppress(OSError, OverflowError):
                for port in range(first + 1, first + count):
                    stack.enter_context(socket.create_server(("127.0.0.1", port)))
                return range(first, first + count)


def at_one_of(free: range) -> Station:
    return Station(0, new_secret(), ports=free, lost=unexpected, unreached=unexpected, refused=lambda _: None)


def test_stations_listen_within_a_range_and_skip_what_is_taken() -> None:
    free = free_ports(3)
    with ExitStack() as stack:
        stack.enter_context(socket.create_server(("127.0.0.1", free[0])))
        for port in free[1:]:
            station = at_one_of(free)
            stack.callback(station.close)
            assert station.address == ("127.0.0.1", port)
        with pytest.raises(CascataError, match=rf"every port of CASCATA_PORTS={free[0]}-{free[-1]} is taken at 127"):
            at_one_of(free)


async def test_a_port_is_free_again_as_soon_as_its_station_is_closed() -> None:
    (port,) = free = free_ports(1)
    for _ in range(2):
        station = at_one_of(free)
        assert station.address[1] == port
        with socket.create_connection(station.address) as sock:
            sock.sendall(HELLO.pack(b"nonsense", 1, bytes(32)))
            assert is_refused(sock)  # who closes a connection first remembers it for a minute
        await asyncio.to_thread(station.close)


@pytest.mark.parametrize(
    "asked", ["20000", "20100-20000", "0-10", "65000-65536", "20000-", "-20000", "a-b", "1-2-3", "20000,20001", "²-³"]
)
def test_what_is_no_range_of_ports_is_refused(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setenv("CASCATA_PORTS", asked)
    with pytest.raises(CascataError, match=f"CASCATA_PORTS={asked!r} is no range of ports.*CASCATA_PORTS=20000-20100"):
        ports.asked_for()


@pytest.mark.parametrize("asked", ["20000-20100", " 20000 - 20100 "])
def test_a_range_has_both_of_its_ends(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setenv("CASCATA_PORTS", asked)
    assert ports.asked_for() == range(20000, 20101)


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


async def test_what_comes_before_a_station_is_open_waits() -> None:
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
