"""Both ends of a channel that crosses, in one loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cascata.transport.codec.decode import decode
from cascata.transport.codec.encode import Encoder
from cascata.transport.ends.reader import CrossingReader
from cascata.transport.ends.writer import CrossingWriter
from cascata.transport.linux.arena import Arenas
from cascata.transport.linux.fd_hub import Hub
from cascata.transport.linux.large_items import Large, Messages, Sharing, find
from cascata.transport.linux.messages import INLINE_LIMIT, Frame, open_message
from cascata.transport.linux.sockets import Pair, RingPair, make_pair, make_ring_pairs
from cascata.transport.tcp.broker_carrier import BrokerReceiver, BrokerSender
from cascata.transport.tcp.handshake import new_secret
from cascata.transport.tcp.station import Station

__all__ = ["Brokered", "Crossing", "Frames", "brokered", "crossing", "generator", "open_fds", "opened", "unexpected"]


def generator() -> Any:
    """What neither pickle nor dill can take."""
    return iter(item for item in range(0))


def unexpected(*problem: Any) -> None:
    """A callback for what should not happen."""
    raise AssertionError(problem)


class Frames:
    """Makes frames as an edge does that goes through a socket."""

    def __init__(
        self, edge: int = 0, limit: int = INLINE_LIMIT, *, arena: Any = None, sharing: Sharing | None = None
    ) -> None:
        self.framing = Messages(edge, limit, Large(arena, sharing))
        self.encoder = Encoder(self.framing)

    def make(self, total: int, items: list[Any], bad: Callable[[Any, BaseException], None]) -> list[Frame]:
        made = self.encoder.encode(total, items, bad)
        return [self.framing.small(total, len(items), made)] if isinstance(made, bytes) else list(made)


def opened(
    view: memoryview,
    fd: int,
    bad: Callable[[int, int, BaseException], None] = unexpected,
    arenas: Callable[[], Arenas] | None = None,
) -> list[Any]:
    """The items of a message."""
    edge, count, _, body, where = open_message(view, fd)
    return decode(edge, count, bad, *((body,) if where is None else find(memoryview(body), where, arenas)))


def open_fds() -> int:
    """How many fds this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


class Crossing:
    """A pair with writers and readers, and what they complained about.

    `over_a_ring` says which wires it is made of.

    Args:
        capacity: of the channel.
        writers: how many edges write to it.
        users: nodes that share the reading end.
        readers: reading ends, as if in several processes.
        fill: of the writers.
    """

    over_a_ring = False

    def __init__(
        self, capacity: int, writers: int = 1, users: int = 1, readers: int = 1, fill: Callable[[], int] | None = None
    ) -> None:
        self.hub = Hub()
        pair: Pair | RingPair
        if Crossing.over_a_ring:
            assert (writers, readers) == (1, 1)
            (pair,) = make_ring_pairs([capacity])
            senders = [pair.sender(self.hub)]
        else:
            pair = make_pair(capacity)
            senders = [pair.sender(self.hub, shared=writers > 1) for _ in range(writers)]
        self.pair: Any = pair
        self.forgotten = 0
        self.bad_items: list[tuple[Any, BaseException]] = []
        self.bad_frames: list[tuple[int, int, BaseException]] = []
        self.writers = [
            CrossingWriter(
                sender,
                edge,
                self.pair.capacity,
                share=writers,
                fill=fill,
                bad=lambda item, problem: self.bad_items.append((item, problem)),
                forgotten=self._forget,
            )
            for edge, sender in enumerate(senders)
        ]
        self.users = users
        self.readers = [
            CrossingReader(
                self.pair.receiver(self.hub),
                self.pair.capacity,
                users=users,
                bad=lambda edge, count, problem: self.bad_frames.append((edge, count, problem)),
            )
            for _ in range(readers)
        ]

    def _forget(self, _: object = None) -> None:
        self.forgotten += 1

    @property
    def writer(self) -> CrossingWriter:
        return self.writers[0]

    @property
    def reader(self) -> CrossingReader:
        return self.readers[0]

    def frames_waiting(self) -> int:
        """How many frames have left the writer and were not received. Takes them."""
        count = 0
        wire = self.pair.receiver(self.hub)
        while wire.receive() is not None:
            wire.done()
            count += 1
        wire.close()
        return count

    async def take(self, reader: CrossingReader | None = None) -> Any:
        reader = reader or self.reader
        if not reader.items:
            assert await reader.wait()
        item = reader.items.popleft()
        reader.release()
        return item

    async def take_all(self) -> list[Any]:
        taken = []
        while self.reader.items or await self.reader.wait():
            taken.append(await self.take())
        return taken

    def close(self) -> None:
        for writer in self.writers:
            writer.close()
        for reader in self.readers:
            for _ in range(self.users):
                reader.close()
        self.hub.close()
        self.pair.close()


@asynccontextmanager
async def crossing(
    capacity: int, writers: int = 1, users: int = 1, readers: int = 1, fill: Callable[[], int] | None = None
) -> AsyncIterator[Crossing]:
    """A crossing channel, and its end."""
    made = Crossing(capacity, writers, users, readers, fill)
    try:
        yield made
    finally:
        made.close()


class Brokered:
    """All ends of a brokered channel in its home: what `Crossing` is for the other transport.

    Args:
        capacity: of the channel.
        writers: how many edges write to it.
    """

    def __init__(self, capacity: int, writers: int = 1) -> None:
        self.station = Station(0, new_secret(), lost=unexpected, unreached=unexpected, refused=unexpected)
        self.station.keep(0, capacity, dict.fromkeys(range(writers), 0), [0])
        self.forgotten = 0
        self.writers = [
            CrossingWriter(
                BrokerSender(self.station, edge, 0, 0, capacity, share=writers),
                edge,
                capacity,
                share=writers,
                bad=unexpected,
                forgotten=self._forget,
            )
            for edge in range(writers)
        ]
        self.writer = self.writers[0]
        self.reader = CrossingReader(BrokerReceiver(self.station, 0, 0), capacity, bad=unexpected)

    def _forget(self, _: object = None) -> None:
        self.forgotten += 1

    async def take(self) -> Any:
        if not self.reader.items:
            assert await self.reader.wait()
        item = self.reader.items.popleft()
        self.reader.release()
        return item

    def close(self) -> None:
        for writer in self.writers:
            writer.close()
        self.reader.close()
        self.station.close()


@asynccontextmanager
async def brokered(capacity: int, writers: int = 1) -> AsyncIterator[Brokered]:
    """A brokered channel, and its end."""
    made = Brokered(capacity, writers)
    try:
        yield made
    finally:
        made.close()
