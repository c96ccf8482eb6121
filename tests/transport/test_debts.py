"""Room that a heavy item has taken beyond its own place, and that its writer still owes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from cascata.transport.ends.reader import CrossingReader
from cascata.transport.ends.writer import CrossingWriter
from cascata.transport.tcp.broker_carrier import BrokerReceiver, BrokerSender
from cascata.transport.tcp.handshake import new_secret
from cascata.transport.tcp.station import Station

CAPACITY = 8
HEAVY = b"x" * (32 << 20)
LIMIT_S = 30.0


def unexpected(*what: Any) -> None:
    raise AssertionError(what)


async def test_a_writer_over_tcp_that_owes_room_for_a_heavy_item_goes_on_when_all_of_it_is_free() -> None:
    secret = new_secret()
    home, far = (Station(me, secret, lost=unexpected, unreached=unexpected, refused=unexpected) for me in (0, 1))
    home.keep(0, CAPACITY, {0: 1, 1: 1}, [0])
    home.knows({0: 0, 1: 0}, {1})
    far.knows({0: 0, 1: 0}, {0})
    reader = CrossingReader(BrokerReceiver(home, 0, 0), CAPACITY, bad=unexpected)
    writers = [
        CrossingWriter(BrokerSender(far, edge, 0, 0, CAPACITY, share=2), edge, CAPACITY, share=2, bad=unexpected)
        for edge in (0, 1)
    ]
    home.open({})
    far.open({0: home.address})
    came: list[Any] = []

    async def take() -> None:
        while not reader.items:
            await reader.wait()
        came.append(reader.items.popleft())
        reader.release()

    async def put() -> None:
        await writers[0].put(HEAVY)
        await writers[0].put("last")

    async def all_of_it() -> None:
        for _ in range(CAPACITY // 2):
            for writer in writers:
                await writer.put("small")
        for writer in writers:
            writer.flush()
        putting = asyncio.ensure_future(put())
        await take()
        reader._give()
        while not writers[0]._purse._owed:  # noqa: ASYNC110  # one place is free: the heavy item goes, and owes the others
            await asyncio.sleep(0)
        while len(came) < CAPACITY + 2:
            await take()
        await putting

    try:
        await asyncio.wait_for(all_of_it(), LIMIT_S)
        assert came[-1] == "last"
    finally:
        far._closing = home._closing = True
        with suppress(Exception):
            await asyncio.gather(asyncio.to_thread(far.close), asyncio.to_thread(home.close))
