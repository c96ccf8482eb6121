"""Frames by calls: the order they keep, how many are on their way, when they are chosen, and what breaks them."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascata.transport.tcp import ray_calls as by_calls
from cascata.transport.tcp import station as stations
from cascata.transport.tcp.handshake import Handshake
from cascata.transport.tcp.ray_calls import APART, IN_FLIGHT, Incoming, Load, Outgoing
from cascata.transport.tcp.station import Station
from cascata.transport.tcp.stream_frames import Frame, Kind
from tests.transport.by_calls import Calls, fetch_all
from tests.transport.test_station import Two, is_refused, stranger

# --- the pure parts ---------------------------------------------------------------------------------


def taken(outgoing: Outgoing) -> list[Load]:
    found = []
    while (load := outgoing.take()) is not None:
        found.append(load)
    return found


def test_only_so_many_calls_are_on_their_way_and_what_waits_leaves_together() -> None:
    outgoing = Outgoing()
    for number in range(IN_FLIGHT):
        outgoing.add([b"%d" % number])
        assert taken(outgoing) == [(number, [b"%d" % number])]
    for _ in range(100):
        outgoing.add([b"more"])
    assert taken(outgoing) == []
    outgoing.answered(1)
    assert taken(outgoing) == [(IN_FLIGHT, [b"more" * 100])]


def test_a_call_carries_no_more_than_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_calls, "MOST_BYTES", 10)
    outgoing = Outgoing()
    outgoing.add([b"a" * 25])
    loads = taken(outgoing)
    assert [sum(map(len, pieces)) for _, pieces in loads] == [10, 10, 5]


def test_what_is_large_is_not_copied_and_what_is_small_is_joined() -> None:
    outgoing = Outgoing()
    large = bytes(APART)
    outgoing.add([b"a", b"b", large, b"c", b"d"])
    ((_, pieces),) = taken(outgoing)
    assert pieces == [b"ab", large, b"cd"]
    assert pieces[1] is large


def test_a_load_whose_answer_got_lost_goes_again_as_it_was() -> None:
    outgoing = Outgoing()
    outgoing.add([b"first"])
    before = taken(outgoing)
    outgoing.add([b"second"])
    outgoing.again(0)
    assert taken(outgoing) == [*before, (1, [b"second"])]
    assert not outgoing.idle
    outgoing.answered(0)
    outgoing.answered(1)
    assert outgoing.idle


@given(
    pieces=st.lists(st.binary(max_size=40), max_size=30),
    orders=st.lists(st.tuples(st.integers(0, 5), st.integers(0, IN_FLIGHT), st.booleans(), st.booleans())),
)
def test_whatever_overtakes_or_comes_twice_the_stream_is_the_same(
    pieces: list[bytes], orders: list[tuple[int, int, bool, bool]]
) -> None:
    outgoing, incoming = Outgoing(), Incoming()
    waiting = list(pieces)
    flying: list[Load] = []
    heard: list[Any] = []
    # (pieces to add, which call comes, whether its answer gets lost, whether the call itself does) until all is done
    endless = iter([*orders, *[(5, 0, False, False)] * (2 * len(pieces) + 2 * len(orders) + IN_FLIGHT)])
    for count, which, lost, never in endless:
        outgoing.add(waiting[:count])
        del waiting[:count]
        flying.extend(taken(outgoing))
        assert len({number for number, _ in flying}) <= IN_FLIGHT
        if flying:
            number, load = flying.pop(which % len(flying))
            if not (lost and never):
                heard.extend(incoming.came(number, load))
            if lost:
                outgoing.again(number)
            else:
                outgoing.answered(number)
    assert outgoing.idle
    assert not incoming._early
    assert b"".join(heard) == b"".join(pieces)


# --- between stations -------------------------------------------------------------------------------


class TwoByCalls(Two):
    """As `Two`, with calls. Worker 1 is the one that would connect."""

    def __init__(self, capacity: int = 10, *, forgetful: bool = False, fetched: bool = False) -> None:
        super().__init__(capacity)
        self.diverted: list[tuple[int, int, str]] = []
        for each in (self.home, self.far):
            each._tell_diverted = lambda peer, why, me=each.me: self._divert(me, peer, why)  # type: ignore[misc]
        self.to_home = Calls(1, self.home, forgetful=forgetful)
        self.to_far = Calls(0, self.far, forgetful=forgetful)
        self._fetched = fetched

    def _divert(self, me: int, peer: int, why: str) -> None:
        self.diverted.append((me, peer, why))
        self.loop.call_soon_threadsafe(self.told.set)

    def open(self, address: Any = None) -> None:
        """Opens both; `address` is what worker 1 takes for that of worker 0."""
        self.open_home()
        self.open_far(address)

    def open_home(self) -> None:
        self.home.open({}, {} if self._fetched else {1: self.to_far})

    def open_far(self, address: Any = None) -> None:
        self.far.open({} if address is None else {0: address}, {0: self.to_home})
        if self._fetched:
            fetch_all(self.far, self.home)

    async def until(self, told: Callable[[], Any]) -> None:
        async with asyncio.timeout(20):
            while not told():
                self.told.clear()
                await self.told.wait()


@asynccontextmanager
async def two(**options: Any) -> AsyncIterator[TwoByCalls]:
    made = TwoByCalls(**options)
    try:
        yield made
    finally:
        made.to_home.blocked.set()
        await asyncio.gather(*(asyncio.to_thread(each.close) for each in (made.home, made.far)))


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short patience."""
    monkeypatch.setattr(stations, "KNOCK_S", 0.02)
    monkeypatch.setattr(stations, "DIRECT_S", 0.05)


def nobody() -> Any:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return closed.getsockname()


@pytest.mark.usefixtures("soon")
async def test_where_nobody_can_connect_frames_go_by_calls_and_one_of_both_says_so_once() -> None:
    async with two() as made:
        made.open(nobody())
        await made.works()
        ((me, peer, why),) = made.diverted
        assert (me, peer) == (1, 0)
        assert why
        await made.end()
        assert made.lost == []


@pytest.mark.usefixtures("soon")
async def test_a_handshake_that_never_gets_through_is_no_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with two() as made:
            made.open(silent.getsockname())
            await made.works()
            assert made.diverted == [(1, 0, "it does not answer")]
            await made.end()


@pytest.mark.usefixtures("soon")
async def test_who_is_only_slow_to_begin_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with two() as made:
        made.open_far(made.home.address)
        await asyncio.to_thread(made.to_home.asked.wait)
        made.to_home.asked.clear()
        await asyncio.to_thread(made.to_home.asked.wait)  # the first answer was: not yet
        monkeypatch.setattr(stations, "DIRECT_S", 20)
        made.open_home()
        await made.works()
        assert made.diverted == []
        assert made.to_home.made == made.to_far.made == 0
        await made.end()


@pytest.mark.usefixtures("soon")
async def test_a_connection_that_comes_late_is_refused() -> None:
    async with two() as made:
        made.open(nobody())
        await made.works()
        handshake = Handshake(made.secret, 1, peer=0)
        sock = stranger(made)
        sock.sendall(handshake.opening)
        sock.sendall(handshake.feed(sock.recv(handshake.wants, socket.MSG_WAITALL)))
        assert await asyncio.to_thread(is_refused, sock)
        await made.works()
        await made.end()
        assert made.lost == []


async def test_calls_that_come_before_a_station_is_open_wait_for_it() -> None:
    async with two() as made:
        made.open_far()
        await made.writer.put(1)
        made.writer.flush()
        await asyncio.to_thread(made.to_home.came.wait)
        made.open_home()
        async with asyncio.timeout(20):
            assert await made.take() == 1
        await made.end()


@pytest.mark.parametrize("fetched", [False, True], ids=["called", "fetched"])
async def test_large_arrays_arrive_whole_and_belong_to_their_receiver(fetched: bool) -> None:
    size = 12 << 20
    async with two(capacity=4, fetched=fetched) as made:
        made.open()
        for number in range(4):
            array = np.full(size, number, dtype="u1")
            await made.writer.put(array)
            array[:] = 99  # what is sent is sent
        made.writer.flush()
        for number in range(4):
            array = await made.take()
            assert (array == number).all()
            assert array.flags.writeable
        await made.end()


async def test_who_sends_does_not_wait_for_a_call() -> None:
    async with two(capacity=100) as made:
        made.to_home.blocked.clear()
        made.open()
        for item in range(100):
            await made.writer.put(item)
        made.writer.flush()
        made.to_home.blocked.set()
        assert [await made.take() for _ in range(100)] == list(range(100))
        await made.end()


async def test_answers_that_get_lost_double_nothing_and_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_calls, "AGAIN_S", 0.001)
    async with two(forgetful=True) as made:
        made.open()
        await made.works()
        await made.end()
        assert made.lost == []


async def test_a_worker_that_is_gone_is_told_as_a_connection_that_broke() -> None:
    async with two() as made:
        made.open()
        await made.works()
        waiting = asyncio.ensure_future(made.reader.wait())
        made.to_home.gone = ConnectionError("it has died")
        await made.writer.put(1)
        made.writer.flush()
        await made.until(lambda: made.lost)
        assert made.lost == [(0, "it has died")]
        assert not waiting.done()
        waiting.cancel()


async def test_a_worker_that_does_not_answer_is_given_up_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_calls, "AGAIN_S", 0.01)
    monkeypatch.setattr(by_calls, "DOUBT_S", 0.1)
    async with two() as made:
        made.open()
        await made.works()
        made.to_home.gone = by_calls.UnsureError("it is not there")
        await made.writer.put(1)
        made.writer.flush()
        await made.until(lambda: made.lost)
        assert made.lost == [(0, "it is not there")]


async def test_a_worker_that_cannot_even_be_asked_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stations, "KNOCK_S", 0.01)
    async with two() as made:
        made.to_home.gone = ConnectionError("it has died")
        made.open_far(nobody())
        await made.until(lambda: made.lost)
        assert made.lost[0][0] == 0
        assert "it has died" in made.lost[0][1]
        assert made.diverted == []


@pytest.mark.parametrize("fetched", [False, True], ids=["called", "fetched"])
async def test_a_worker_that_has_ended_is_not_missed_and_leaves_no_thread(fetched: bool) -> None:
    async with two(fetched=fetched) as made:
        made.open()
        await made.works()
        await made.end()
        await asyncio.to_thread(made.home.close)
        made.to_home.gone = ConnectionError("it has ended")
        heard = asyncio.run_coroutine_threadsafe(asyncio.sleep(0), made.far._loop)  # after all that came until now
        await asyncio.wrap_future(heard)
        assert made.far._links[0].over
        await asyncio.to_thread(made.far.close)
        assert made.lost == []
        assert not [each for each in threading.enumerate() if each.name == "cascata-calls"]


# --- fetching ---------------------------------------------------------------------------------------


@asynccontextmanager
async def fetched_from() -> AsyncIterator[tuple[TwoByCalls, Station]]:
    """Two of which worker 1 fetches, and does so only when the test does."""
    async with two(fetched=True) as made:
        made.open_home()
        made.far.open({}, {0: made.to_home})
        await made.until(lambda: made.diverted)
        while made.home._links[1].calls is None:  # noqa: ASYNC110  # made by a thread
            await asyncio.sleep(0)
        yield made, made.home


def send_credit(home: Station) -> None:
    home._links[1].send(Frame(Kind.CREDIT, 0, 1))


async def test_who_fetches_again_without_having_had_it_gets_the_same_again() -> None:
    async with fetched_from() as (_, home):
        send_credit(home)
        first = home.fetch(1, 0, None, 0)
        assert first
        assert home.fetch(1, 0, None, 0) == first
        assert home.fetch(1, 0, first[0][0], 0) == []


async def test_who_asks_anew_is_answered_and_not_the_one_before() -> None:
    async with fetched_from() as (_, home):
        before: list[Any] = []
        waits = threading.Thread(target=lambda: before.append(home.fetch(1, 0, None, 20)))
        waits.start()
        calls = home._links[1].calls
        assert calls is not None
        while calls._turns.get(0) != 1:  # noqa: ASYNC110  # counted by a thread
            await asyncio.sleep(0.001)
        began = time.monotonic()
        asked = asyncio.ensure_future(asyncio.to_thread(home.fetch, 1, 0, None, 20))
        await asyncio.to_thread(waits.join)
        assert before == [[]]
        send_credit(home)
        answer = await asked
        assert answer
        assert answer[0][0] == 0
        assert time.monotonic() - began < 10
