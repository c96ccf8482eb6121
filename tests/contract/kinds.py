"""The kinds of channels, each behind the same small face.

    async with kind.made(capacity, writers=2, readers=2) as channel:
        await channel.writers[0].do("put", 1)
        assert await channel.readers[0].do("take") == 1

What a writer does: `put`, `put_all`, `put_until_full`, `close`, `stop`. What a reader does: `take`, `take_all`,
`close`. An end of the stream is taken as `END`.
"""

from __future__ import annotations

import asyncio
import mmap
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from cascata import Channel
from cascata.channel.local import LocalChannel
from cascata.transport.ends.reader import CrossingReader
from cascata.transport.ends.writer import CrossingWriter
from cascata.transport.linux.fd_hub import Hub
from cascata.transport.linux.ring import AVAILABLE, RingReceiver, RingSender, map_lane
from cascata.transport.linux.sockets import (
    Pair,
    RingPair,
    SocketReceiver,
    SocketSender,
    make_pair,
    make_ring_pairs,
)
from cascata.transport.tcp.broker_carrier import BrokerReceiver, BrokerSender
from cascata.transport.tcp.handshake import new_secret
from cascata.transport.tcp.station import Address, Station
from tests.contract.actors import Actor, Agent, Here, InProcess, InThread
from tests.contract.agents import (
    END,
    EdgeReader,
    EdgeWriter,
    PublicReader,
    PublicWriter,
    SyncReader,
    SyncWriter,
)
from tests.transport.ends import unexpected

__all__ = ["END", "KINDS", "Kind", "Made"]

SETTLING: Final = 5
SETTLING_S: Final = 0.02


@dataclass
class Made:
    """A channel with its ends."""

    capacity: int
    writers: list[Actor] = field(default_factory=list)
    readers: list[Actor] = field(default_factory=list)
    pair: Pair | RingPair | None = None
    home: Actor | None = None
    public: Channel[Any] | None = None

    @property
    def writer(self) -> Actor:
        return self.writers[0]

    @property
    def reader(self) -> Actor:
        return self.readers[0]

    async def close_writers(self) -> None:
        """Closes every writer, and so ends the channel."""
        for writer in self.writers:
            await writer.do("close")
        self.end_writing()

    def end_writing(self) -> None:
        """What the supervisor of a run does when it hears that the last writer has closed."""
        if self.pair is not None:
            self.pair.end_writing()
        if self.home is not None:
            self.home.start("end_writing")

    def end_reading(self) -> None:
        """The same, when the last reader has closed."""
        if self.pair is not None:
            self.pair.end_reading()
        if self.home is not None:
            self.home.start("end_reading")

    async def close(self) -> None:
        for actor in (*self.writers, *self.readers):
            await actor.close()
        if self.pair is not None:
            self.pair.close()


class Kind:
    """A kind of channel.

    Attributes:
        crosses: whether items cross the border of a process.
        cancels: whether what an actor does can be cancelled.
    """

    crosses = False
    cancels = True

    async def make(self, capacity: int, writers: int, readers: int, *, opened: bool = True) -> Made:
        """Makes a channel with so many ends. Unless `opened`, no publisher was ever there (of a public one)."""
        raise NotImplementedError

    @asynccontextmanager
    async def made(
        self, capacity: int, writers: int = 1, readers: int = 1, *, opened: bool = True
    ) -> AsyncIterator[Made]:
        """A channel, and its end."""
        channel = await self.make(capacity, writers, readers, opened=opened)
        try:
            yield channel
        finally:
            await channel.close()


class Local(Kind):
    """`LocalChannel`: everybody in one loop, and all readers at one reading end."""

    async def make(self, capacity: int, writers: int, readers: int, *, opened: bool = True) -> Made:
        channel = LocalChannel(capacity, readers)
        return Made(
            capacity,
            [Here(EdgeWriter, channel.writer(edge)) for edge in range(writers)],
            [Here(EdgeReader, channel) for _ in range(readers)],
        )


class OnStation(Agent):
    """With a station of the portable transport."""

    station: Station

    async def address(self) -> Address:
        return self.station.address

    async def open_station(self, addresses: dict[int, Address]) -> None:
        self.station.open(addresses)

    async def settle(self) -> None:
        """What happens by itself needs other threads, and other processes."""
        for _ in range(SETTLING):
            await super().settle()
            await asyncio.sleep(SETTLING_S / SETTLING)


class BrokeredWriterAgent(OnStation, EdgeWriter):
    """A writer with a station. The home of its channel is worker 0."""

    def __init__(self, me: int, secret: bytes, edge: int, share: int, divided: bool, capacity: int) -> None:
        self.station = Station(me, secret, lost=unexpected, unreached=unexpected, refused=unexpected)
        self.station.knows({edge: 0}, {0})
        carrier = BrokerSender(self.station, edge, 0, 0, capacity, share=share)
        fill = carrier.fill if divided else None
        super().__init__(CrossingWriter(carrier, edge, capacity, share=share, fill=fill, bad=unexpected))

    async def end(self) -> None:
        await super().end()
        await asyncio.to_thread(self.station.close)


class BrokeredReaderAgent(OnStation, EdgeReader):
    """A reader with a station. That of worker 0 is the home of the channel."""

    def __init__(self, me: int, secret: bytes, capacity: int, writers: dict[int, int], readers: int) -> None:
        self.station = Station(me, secret, lost=unexpected, unreached=unexpected, refused=unexpected)
        if me == 0:
            self.station.keep(0, capacity, writers, list(range(readers)))
        self.station.knows(dict.fromkeys(writers, 0), {0} if me else {*range(1, readers), *writers.values()})
        super().__init__(CrossingReader(BrokerReceiver(self.station, 0, 0), capacity, bad=unexpected))

    async def end_writing(self) -> None:
        self.station.end_writing(0)

    async def end_reading(self) -> None:
        self.station.end_reading(0)

    async def end(self) -> None:
        await super().end()
        await asyncio.to_thread(self.station.close)


class Brokered(Kind):
    """`CrossingWriter` and `CrossingReader` over a broker, each with a station of its own, wherever its actor lives."""

    crosses = True

    def __init__(self, actor: Callable[..., Actor]) -> None:
        self._actor = actor

    async def make(self, capacity: int, writers: int, readers: int, *, opened: bool = True) -> Made:
        made = Made(capacity)
        secret = new_secret()
        where = {edge: readers + edge for edge in range(writers)}
        made.readers = [
            self._actor(BrokeredReaderAgent, worker, secret, capacity, where, readers) for worker in range(readers)
        ]
        made.writers = [
            self._actor(BrokeredWriterAgent, worker, secret, edge, writers, readers > 1, capacity)
            for edge, worker in where.items()
        ]
        made.home = made.readers[0]
        actors = (*made.readers, *made.writers)
        addresses = {worker: await actor.do("address") for worker, actor in enumerate(actors)}
        for actor in actors:
            await actor.do("open_station", addresses)
        return made


def _crossing_writer(edge: int, share: int, capacity: int, send: Any, take: Any, give: Any) -> EdgeWriter:
    hub = Hub()
    fds = [_fd(end) for end in (send, take, give)]
    wire = SocketSender(hub, fds[0], fds[1], fds[2] if share > 1 else None)
    writer = CrossingWriter(wire, edge, capacity, share=share, bad=unexpected)
    for fd in fds:
        os.close(fd)
    return EdgeWriter(writer, hub)


def _crossing_reader(capacity: int, receive: Any, give: Any) -> EdgeReader:
    hub = Hub()
    fds = [_fd(end) for end in (receive, give)]
    reader = CrossingReader(SocketReceiver(hub, fds[0], fds[1]), capacity, bad=unexpected)
    for fd in fds:
        os.close(fd)
    return EdgeReader(reader, hub)


def _ring_end(make: Any, memory: Any, ends: Sequence[Any], wire: Any) -> Any:
    """An end of a ring, made of fds that came from elsewhere."""
    hub = Hub()
    fds = [_fd(end) for end in (memory, *ends)]
    mapped = mmap.mmap(fds[0], 0)
    end = make(wire(hub, map_lane(mapped, 0, len(mapped)), *fds[1:]))
    for fd in fds:
        os.close(fd)
    return end, hub


def _ring_writer(capacity: int, memory: Any, *ends: Any) -> EdgeWriter:
    return EdgeWriter(
        *_ring_end(lambda wire: CrossingWriter(wire, 0, capacity, spin=True, bad=unexpected), memory, ends, RingSender)
    )


def _ring_reader(capacity: int, memory: Any, *ends: Any) -> EdgeReader:
    return EdgeReader(
        *_ring_end(lambda wire: CrossingReader(wire, capacity, spin=True, bad=unexpected), memory, ends, RingReceiver)
    )


def _fd(end: Any) -> int:
    fd: int = end if isinstance(end, int) else end.detach()
    return fd


class Crossing(Kind):
    """`CrossingWriter` and `CrossingReader` over the fds of a pair; each end wherever its actor lives."""

    crosses = True

    def __init__(self, actor: Callable[..., Actor]) -> None:
        self._actor = actor

    async def make(self, capacity: int, writers: int, readers: int, *, opened: bool = True) -> Made:
        pair = make_pair(capacity)
        made = Made(pair.capacity, pair=pair)
        for edge in range(writers):
            arguments = edge, writers, pair.capacity, *(self.passed(fd) for fd in (pair.send, pair.take, pair.give))
            made.writers.append(self._actor(_crossing_writer, *arguments))
        for _ in range(readers):
            ends = (self.passed(fd) for fd in (pair.receive, pair.give))
            made.readers.append(self._actor(_crossing_reader, pair.capacity, *ends))
        return made

    def passed(self, fd: int) -> Any:
        return os.dup(fd)


class Ring(Crossing):
    """The same over a ring, which is for one writer and one reader."""

    async def make(self, capacity: int, writers: int, readers: int, *, opened: bool = True) -> Made:
        if not AVAILABLE or (writers, readers) != (1, 1):
            pytest.skip("no channel for a ring")
        (pair,) = make_ring_pairs([capacity])
        made = Made(pair.capacity, pair=pair)
        for make, fds, actors in (
            (_ring_writer, (pair.send, pair.room_bell, pair.item_bell), made.writers),
            (_ring_reader, (pair.receive, pair.item_bell, pair.room_bell), made.readers),
        ):
            ends = (self.passed(fd) for fd in (pair.memory.fd, *fds))
            actors.append(self._actor(make, pair.capacity, *ends))
        return made


class CrossingProcesses(Crossing):
    """The ends of a crossing channel in processes."""

    def __init__(self, context: Any, dup_fd: Any) -> None:
        super().__init__(lambda make, *arguments: InProcess(context, make, *arguments))
        self._dup_fd = dup_fd
        self._forks = context.get_start_method() == "fork"

    def passed(self, fd: int) -> Any:
        return _Passed(fd, self._dup_fd, forks=self._forks)


class RingProcesses(CrossingProcesses, Ring):
    """The ends of a ring in processes."""


class _Passed:
    """An fd on its way into a process, by fork or as an argument."""

    def __init__(self, fd: int, dup_fd: Any, *, forks: bool) -> None:
        self._fd = fd
        self._dup_fd = dup_fd
        self._forks = forks

    def detach(self) -> int:
        return os.dup(self._fd) if self._forks else self._passed.detach()

    def __getstate__(self) -> Any:
        return self._dup_fd(self._fd)

    def __setstate__(self, passed: Any) -> None:
        self._forks = False
        self._passed = passed


class Public(Kind):
    """The public `Channel`; each end wherever its actor lives."""

    def __init__(
        self,
        actor: Callable[..., Actor],
        writer: type[Agent] = PublicWriter,
        reader: type[Agent] = PublicReader,
        *,
        crosses: bool = False,
        cancels: bool = True,
    ) -> None:
        self._actor = actor
        self._writer = writer
        self._reader = reader
        self.crosses = crosses
        self.cancels = cancels

    async def make(self, capacity: int, writers: int, readers: int, *, opened: bool = True) -> Made:
        channel: Channel[Any] = Channel(capacity)
        made = Made(capacity, public=channel)
        with channel.open() if opened else nullcontext():  # lest the first publisher end it
            made.writers = [self._actor(self._writer, channel) for _ in range(writers)]
            made.readers = [self._actor(self._reader, channel) for _ in range(readers)]
            for actor in (*made.writers, *made.readers):
                await actor.settle()
        return made


def _contexts() -> dict[str, Any]:
    import multiprocessing

    import multiprocess

    return {
        f"{package.__name__} {method}": package.get_context(method)
        for package in (multiprocess, multiprocessing)
        for method in ("fork", "forkserver", "spawn")
    }


def _kinds() -> dict[str, Kind]:
    from multiprocess.reduction import DupFd

    kinds: dict[str, Kind] = {
        "local": Local(),
        "crossing, one loop": Crossing(Here),
        "crossing, threads": Crossing(InThread),
        "brokered, one loop": Brokered(Here),
        "ring, one loop": Ring(Here),
        "public, one loop": Public(Here),
        "public, threads": Public(InThread),
        "public, plain threads": Public(Here, SyncWriter, SyncReader, cancels=False),
    }
    for name, context in _contexts().items():
        if name.startswith("multiprocess "):
            kinds[f"crossing, {name}"] = CrossingProcesses(context, DupFd)
            if not name.endswith("forkserver"):  # nothing is handed over that it could treat in its own way
                kinds[f"brokered, {name}"] = Brokered(
                    lambda make, *arguments, context=context: InProcess(context, make, *arguments)
                )
        if name == "multiprocess fork":
            kinds[f"ring, {name}"] = RingProcesses(context, DupFd)
        kinds[f"public, {name}"] = Public(
            lambda make, *arguments, context=context: InProcess(context, make, *arguments), crosses=True
        )
    return kinds


KINDS: Final = _kinds()
