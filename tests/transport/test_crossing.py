"""The crossing channel beyond the contract: credits, frames, bad items, readers."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import time
from typing import Any

import numpy as np
import pytest

from cascata.transport.ends.budget import fill_of
from cascata.transport.ends.spinning import LOOKING_S
from cascata.transport.ends.writer import FLUSH_S, MOST_AHEAD
from cascata.transport.linux import messages
from cascata.transport.linux.sockets import SocketSender
from tests.coroutines import turn
from tests.transport.ends import crossing, generator, open_fds

pytestmark = pytest.mark.usefixtures("no_clock")

MB = 1 << 20

SETTLED = 20
"""Turns of the loop after which nothing more happens by itself."""


def explode(text: str) -> Any:
    raise ValueError(text)


class Explosive:
    """Can be pickled, and not unpickled."""

    def __reduce__(self) -> Any:
        return explode, ("boom",)


# --- credits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("writers", [1, 2])
async def test_items_that_cannot_cross_use_up_no_room(writers: int) -> None:
    async with crossing(4, writers) as ends, asyncio.timeout(10):
        for _ in range(20):
            await ends.writer.put(generator())
            await turn()
        assert len(ends.bad_items) == 20
        for item in range(4):
            await ends.writer.put(item)
        assert ends.writer.sent == 24
        assert [await ends.take() for _ in range(4)] == [0, 1, 2, 3]


@pytest.mark.parametrize("writers", [1, 2])
async def test_items_that_cannot_be_unpickled_use_up_no_room(writers: int) -> None:
    async with crossing(4, writers) as ends, asyncio.timeout(10):
        for _ in range(20):
            await ends.writer.put(Explosive())
            await ends.writer.put(7)
            assert await ends.take() == 7
        assert [count for _, count, _ in ends.bad_frames] == [1] * 20


async def test_a_second_writer_gets_all_the_room_while_the_first_idles() -> None:
    async with crossing(12, writers=3) as ends, asyncio.timeout(10):
        for writer in ends.writers:
            await writer.put(writer.edge)
            await turn()
        for item in range(9):
            await ends.writers[1].put(item)
        waiting = asyncio.ensure_future(ends.writers[2].put("x"))
        await turn(SETTLED)
        assert not waiting.done()
        await ends.take()
        await waiting


async def test_a_writer_that_waits_gets_the_room_that_another_gives_back() -> None:
    async with crossing(8, writers=2) as ends, asyncio.timeout(10):
        for item in range(5):
            await ends.writers[0].put(item)  # and has more credits in hand until the loop turns
        await asyncio.gather(*(ends.writers[1].put(item) for item in range(3)))


async def test_a_cancelled_put_gives_its_room_back_to_all() -> None:
    capacity = 3
    async with crossing(capacity, writers=2) as ends, asyncio.timeout(10):
        for item in range(capacity):
            await ends.writers[0].put(item)
        waiting = [asyncio.ensure_future(ends.writers[0].put("cancelled")) for _ in range(5)]
        await turn(SETTLED)
        await ends.take()
        for _ in range(3):
            await turn()  # somewhere here the first of them is granted room
            for each in waiting:
                each.cancel()
        await asyncio.wait(waiting)
        await ends.writers[1].put("here")


async def test_a_reader_may_give_room_back_in_any_portions() -> None:
    """Writes to a pipe that do not fit into its last page begin a new one: the pipe must be large enough for that."""
    capacity = 60_000
    async with crossing(capacity) as ends, asyncio.timeout(30):
        for _ in range(capacity):
            await ends.writer.put(None)
        for portion in [2_049, 2_500, 3_000, 4_097, 1, 2_047] * 12:
            for _ in range(portion):
                if not ends.reader.items:
                    await ends.reader.wait()
                ends.reader.items.popleft()
            ends.reader.release()
            await asyncio.gather(*(ends.writer.put(None) for _ in range(portion)))


async def test_a_reader_whose_writers_are_gone_releases_all_the_same() -> None:
    async with crossing(4) as ends:
        await ends.writer.put(1)
        await ends.writer.aclose()
        os.close(ends.pair.take)
        assert await ends.take() == 1
        ends.reader.release()
        ends.pair.take = os.open(os.devnull, os.O_RDONLY)


async def test_a_writer_that_has_room_is_not_woken_by_readers_that_make_more() -> None:
    async with crossing(100) as ends:
        await ends.writer.put(0)
        await turn(SETTLED)
        woken: list[int] = []
        carrier = ends.writer._carrier
        assert isinstance(carrier, SocketSender)
        for fd in (carrier.credit, carrier.socket.fileno()):
            ends.hub._callbacks[fd] = woken.append
        for item in range(10):
            assert await ends.take() == item
            await turn(SETTLED)
            await ends.writer.put(item + 1)
        assert woken == []


# --- frames -----------------------------------------------------------------------------------------


async def test_what_was_put_leaves_when_the_loop_turns(carrier: str) -> None:
    async with crossing(100) as ends:
        await ends.writer.put(0)
        assert await ends.take() == 0  # the first one leaves at once
        for item in range(10):
            await ends.writer.put(item)
        assert ends.writer._pending
        await turn()
        assert [await ends.take() for _ in range(10)] == list(range(10))


async def test_a_producer_that_never_suspends_does_not_hold_its_items_back(
    monkeypatch: pytest.MonkeyPatch, carrier: str
) -> None:
    monkeypatch.setattr("cascata.transport.ends.writer.FLUSH_S", FLUSH_S)
    async with crossing(100) as ends:
        await ends.writer.put(0)
        assert await ends.take() == 0  # the first one leaves at once
        await ends.writer.put(0)
        until = time.perf_counter() + 2 * FLUSH_S
        while time.perf_counter() < until:
            pass
        await ends.writer.put(1)
        assert not ends.writer._pending


async def test_a_fast_producer_that_becomes_slow_holds_few_items_back_and_soon_none(
    monkeypatch: pytest.MonkeyPatch, carrier: str
) -> None:
    monkeypatch.setattr("cascata.transport.ends.writer.FLUSH_S", FLUSH_S)
    monkeypatch.setattr("cascata.transport.ends.writer.SLICE_S", 1_000.0)  # else the loop turns, and flushes as well
    now = time.perf_counter()
    monkeypatch.setattr("cascata.transport.ends.writer.perf_counter", lambda: now)
    async with crossing(1_000) as made:
        put = made.writer.put
        for number in range(200):
            await put(number)
        made.writer.flush()
        held = []
        for number in range(50):
            now += 0.6 * FLUSH_S
            await put(number)
            held.append(len(made.writer._pending))
    assert max(held) <= MOST_AHEAD, "none of these puts let the loop turn"
    assert max(held[-20:]) <= 2, "as many as fit into that time"


async def test_while_the_socket_is_full_items_wait_and_keep_their_order(small_sockets: None) -> None:
    capacity = 60_000
    async with crossing(capacity) as ends, asyncio.timeout(30):
        for item in range(capacity):
            await ends.writer.put(item)
            if item < 2_000:
                ends.writer.flush()
        assert len(ends.writer._unsent) <= 1
        closing = asyncio.ensure_future(ends.writer.aclose())
        await turn(SETTLED)
        assert not closing.done()
        assert [await ends.take() for _ in range(capacity)] == list(range(capacity))
        await closing


async def test_large_items_that_wait_hold_no_fds(small_sockets: None) -> None:
    async with crossing(3_000) as ends:
        before = open_fds()
        item = bytes(200_000)
        for _ in range(1_500):
            await ends.writer.put(item)
            ends.writer.flush()
        assert open_fds() <= before + 1
        for _ in range(1_500):
            assert len(await ends.take()) == len(item)


async def test_arrays_that_are_kept_hold_no_fds(carrier: str) -> None:
    async with crossing(10) as ends:
        kept = []
        before = open_fds()
        for number in range(100):
            await ends.writer.put(np.full(20_000, number))
            kept.append(await ends.take())
        assert open_fds() == before
        assert [array[0] for array in kept] == list(range(100))
        assert all(array.flags.writeable for array in kept)


async def test_frames_are_cut_to_little_work_when_several_processes_read() -> None:
    seconds = 0.0
    async with crossing(1_000, fill=lambda: fill_of(seconds)) as ends:
        for item in range(5):
            await ends.writer.put(item)
        assert ends.frames_waiting() == 5  # nobody has told yet: one by one
        seconds = 0.000_05
        ends.writer._flush()
        for item in range(12):
            await ends.writer.put(item)
        await turn()
        assert 3 <= ends.frames_waiting() <= 4
        seconds = 10.0
        ends.writer._flush()
        for item in range(3):
            await ends.writer.put(item)
        assert ends.frames_waiting() == 3


async def test_a_bad_item_fails_alone_and_the_order_of_the_others_is_kept(carrier: str) -> None:
    async with crossing(100) as ends:
        items = [generator() if item % 7 == 3 else (lambda: None) if item % 7 == 5 else item for item in range(50)]
        for item in items:
            await ends.writer.put(item)
        ends.writer.flush()
        good = [item for item in items if isinstance(item, int)]
        taken = [await ends.take() for _ in range(50 - len(ends.bad_items))]
        assert [item for item in taken if isinstance(item, int)] == good
        assert len(ends.bad_items) == 7
        assert ends.writer.sent == 50


class Sends:
    """An item whose own code sends others."""

    def __init__(self, put: Any, items: list[Any]) -> None:
        self.put = put
        self.items = items

    def __reduce__(self) -> Any:
        for item in self.items:
            self.put(item)
        self.items = []
        return str, ("sends",)


async def test_what_an_item_sends_while_it_is_pickled_arrives(carrier: str) -> None:
    async with crossing(100) as ends:
        put = ends.writer.put
        large = np.ones(MB)
        for item in (1, Sends(put, [2, large, 3]), 4, Sends(put, [large, 5, 6]), large, 7):
            await put(item)
        taken: list[Any] = []
        while len(taken) < 12:
            ends.writer.flush()
            taken.append(await ends.take())
        shown = [item if isinstance(item, int | str) else "large" for item in taken]
        assert sorted(map(str, shown)) == sorted(
            map(str, [1, "sends", 2, "large", 3, 4, "sends", "large", 5, 6, "large", 7])
        )
        assert ends.writer.sent == 12
        assert [await ends.writer.put(number) for number in range(100)] == [None] * 100, "no credit was lost"


async def test_an_item_that_cannot_be_unpickled_fails_alone(carrier: str) -> None:
    async with crossing(100) as ends:
        for item in range(50):
            await ends.writer.put(Explosive() if item % 10 == 5 else item)
        assert [await ends.take() for _ in range(45)] == [item for item in range(50) if item % 10 != 5]
        assert [(edge, count, str(problem)) for edge, count, problem in ends.bad_frames] == [(0, 1, "boom")] * 5
        assert ends.reader.taken() == {0: 45}


async def test_a_system_that_allows_only_small_messages_is_served_as_well(small_sockets: None) -> None:
    async with crossing(10) as ends, asyncio.timeout(10):
        for size in (10, 3_000, 10_000, 100_000):
            await ends.writer.put(bytes(size))
            assert len(await ends.take()) == size


async def test_a_kernel_that_is_short_of_something_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with crossing(10) as ends, asyncio.timeout(10):
        transmit = messages.transmit
        failures = [OSError(number, "short") for number in (105, 12, 109, 105)]

        def short(*arguments: Any) -> None:
            if failures:
                raise failures.pop()
            transmit(*arguments)

        monkeypatch.setattr(messages, "transmit", short)
        await ends.writer.put(1)
        await turn()
        await ends.writer.put(2)
        assert [await ends.take(), await ends.take()] == [1, 2]
        assert not failures


# --- readers ----------------------------------------------------------------------------------------


async def test_who_shares_the_reading_end_is_woken_for_each_item(carrier: str) -> None:
    async with crossing(10, users=2) as ends, asyncio.timeout(10):
        first, second = (asyncio.ensure_future(ends.take()) for _ in range(2))
        await turn(SETTLED)
        await ends.writer.put(1)
        ends.writer.flush()
        await ends.writer.put(2)  # a frame of its own
        assert sorted([await first, await second]) == [1, 2]


async def test_who_gives_up_waiting_passes_its_wake_up_on(carrier: str) -> None:
    async with crossing(10, users=2) as ends, asyncio.timeout(10):
        first, second = (asyncio.ensure_future(ends.take()) for _ in range(2))
        await turn(SETTLED)
        await ends.writer.put(1)
        for _ in range(4):
            await turn()
            if not ends.reader._waiters.idle or len(ends.reader._waiters.idle) == 1:
                break
        first.cancel()
        await asyncio.wait([first])
        if not first.cancelled():
            await ends.writer.put(2)
        await second


async def test_what_comes_while_a_reader_lets_the_loop_turn_between_two_looks_is_seen(
    carrier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = (number * 0.8 * LOOKING_S for number in itertools.count())
    monkeypatch.setattr("cascata.transport.ends.reader.perf_counter", lambda: next(clock))
    async with crossing(10) as ends, asyncio.timeout(10):
        ends.reader._spin = True
        ends.reader._turns._ready = ()  # it looks at once
        taking = asyncio.ensure_future(ends.take())
        await turn()  # it has looked, found nothing, and will see at its clock that it has looked long enough
        ends.reader._turns.turned = math.inf  # the put is not to let the loop turn
        await ends.writer.put(1)
        ends.writer.flush()
        ends.hub._dispatch()  # as when another channel has made it look: nobody waits here yet
        assert await taking == 1


async def test_what_comes_while_a_reader_gives_way_to_others_is_seen(carrier: str) -> None:
    async with crossing(10) as ends, asyncio.timeout(10):
        ends.reader._spin = True
        ends.reader._turns._ready = [None] * 9  # they always have something to do
        taking = asyncio.ensure_future(ends.take())
        await turn(2)
        ends.reader._turns.turned = math.inf  # the put is not to let the loop turn
        await ends.writer.put(1)
        ends.writer.flush()
        ends.hub._dispatch()  # nobody waits here yet
        assert await taking == 1


async def test_what_others_in_the_loop_are_about_to_do_comes_before_a_look(
    carrier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be the question whose answer is looked for."""
    async with crossing(10) as ends, asyncio.timeout(10):
        ends.reader._spin = True
        monkeypatch.setattr(ends.reader._carrier, "sleep", lambda: pytest.fail("it went to sleep"))
        monkeypatch.setattr("cascata.transport.ends.reader.LOOKING_S", 0.0)
        taking = asyncio.ensure_future(ends.take())
        asking = asyncio.ensure_future(ends.writer.put(1))
        assert await taking == 1
        await asking


async def test_a_batch_that_suspends_again_and_again_keeps_no_writer_waiting(carrier: str) -> None:
    async with crossing(4) as ends, asyncio.timeout(20):
        for item in range(4):
            await ends.writer.put(item)
        await ends.reader.wait()
        ends.reader.taking()
        for item in range(4, 12):
            waiting = asyncio.ensure_future(ends.writer.put(item))
            await turn(2)
            if not ends.reader.items:
                await ends.reader.wait()
                ends.reader.taking()
            ends.reader.items.popleft()  # and the batch goes on, without `release`
            await waiting


async def test_two_reading_ends_divide_the_items() -> None:
    async with crossing(4, readers=2) as ends, asyncio.timeout(10):
        taking = [asyncio.ensure_future(ends.take(reader)) for reader in ends.readers]
        await turn(SETTLED)
        await ends.writer.put(1)
        ends.writer.flush()
        await ends.writer.put(2)
        assert sorted([await each for each in taking]) == [1, 2]


async def test_a_reader_that_always_finds_frames_lets_the_loop_turn() -> None:
    async with crossing(60_000) as ends:
        for item in range(60_000):
            await ends.writer.put(item)
            if item % 100 == 0:
                ends.writer.flush()

        async def take_all() -> None:
            for _ in range(60_000):
                await ends.take()

        taking = asyncio.ensure_future(take_all())
        turns = 0
        while not taking.done():
            await turn()
            turns += 1
        assert turns > 5
