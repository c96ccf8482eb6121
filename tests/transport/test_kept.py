"""What a home keeps of a reader that may start again: it dies at any moment, with anything on its way."""

from __future__ import annotations

import asyncio
import pickle
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from cascata.transport.ends.writer import CrossingWriter
from cascata.transport.tcp.broker import Broker
from cascata.transport.tcp.broker_carrier import BrokerSender
from cascata.transport.tcp.restartable_reader import KeptReader
from cascata.transport.tcp.stream_frames import Frame, Kind
from tests.transport.ends import unexpected

HOME, READER, WRITER, EDGE = 0, 1, 2, 5
CAPACITY = 6


def posts_nothing(worker: int, frame: Frame) -> None:
    """To nobody."""


class World:
    """A home, one life after the other of a reader, and what is on its way between them."""

    def __init__(self, batch: int) -> None:
        self.me = READER
        self.batch = batch
        self.to_reader: deque[Frame] = deque()
        self.to_home: deque[Frame] = deque()
        self.room = CAPACITY
        self.sent = self.deaths = 0
        self.opening = False
        self.results: list[int] = []
        self.failed: list[int] = []
        self.broker = Broker(0, CAPACITY, {EDGE: WRITER}, [READER], self._post, frozenset({READER}))
        self.reader: KeptReader
        self.end: Any  # the carrier's, which hears
        self.begin(again=False)

    def _post(self, worker: int, frame: Frame) -> None:
        if worker == READER:
            self.to_reader.append(frame)
        elif frame.kind == Kind.CREDIT:
            self.room += frame.amount

    def add_reader(self, channel: int, home: int, end: Any) -> Callable[..., None]:
        """As a station does."""
        assert (channel, home) == (0, HOME)
        self.end = end
        queue = self.to_home
        return lambda *frames: queue.extend(frames)

    def begin(self, *, again: bool) -> None:
        self.reader = KeptReader(self, 0, HOME, CAPACITY, bad=unexpected, again=again)  # type: ignore[arg-type]
        self.task = asyncio.ensure_future(self._work(self.reader, again=again))

    async def _work(self, reader: KeptReader, *, again: bool) -> None:
        """What a node does: calls of some items each, one after the other."""
        call = 0
        if again:
            await reader.recall()
            reader.restore(frozenset())
            call = reader.last
            for died, held in sorted(reader.in_hand.items()):
                self.failed += [item for _, item in held]
                reader.done(died)
            assert not reader.lost
        part: list[int] = []
        while reader.items or await reader.wait() or part:
            if reader.items:
                part.append(reader.items.popleft())
                reader.release()
            if part and (len(part) == self.batch or reader.ended):
                call += 1
                await reader.hold(call)
                self.results += part
                part = []
                await asyncio.sleep(0)  # a death in the midst of the call
                reader.done(call)
        reader.close()

    def put(self, count: int) -> None:
        items = list(range(self.sent, self.sent + min(count, self.room)))
        if items:
            self.sent += len(items)
            self.room -= len(items)
            self.broker.handle(WRITER, Frame(Kind.DATA, EDGE, len(items), self.sent, pickle.dumps(items, 5)))

    def come(self, where: str) -> None:
        if where == "home" and self.to_home:
            frame = self.to_home.popleft()
            self.opening = frame.kind == Kind.OPENING
            self.broker.handle(READER, frame)
        elif where == "reader" and self.to_reader:
            self.end.hear(self.to_reader.popleft())

    async def die(self, kept: int) -> None:
        """What the reader has sent comes as far as `kept`; the rest, and what was to come to it, is lost.

        It does not die of unpickling: what follows that comes, too.
        """
        await asyncio.sleep(0)
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.deaths += 1
        while self.to_home and (kept > 0 or self.opening):
            self.come("home")
            kept -= 1
        self.to_home = deque()
        self.to_reader.clear()
        self.broker.away(READER)
        self.begin(again=True)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_every_item_arrives_once_or_fails_in_hand_whenever_the_reader_dies(batch: int) -> None:
    async def play(chance: random.Random) -> World:
        world = World(batch)
        for _ in range(200):
            match chance.choices(["put", "home", "reader", "turn", "die"], [3, 6, 6, 8, 1])[0]:
                case "put":
                    world.put(chance.randint(1, 4))
                case "die":
                    await world.die(chance.randint(0, 2))
                case "turn":
                    await asyncio.sleep(0)
                case where:
                    world.come(where)
            assert world.room >= 0
        world.broker.handle(WRITER, Frame(Kind.CLOSE, EDGE))
        world.broker.end_writing()
        for _ in range(1000):
            world.come("home")
            world.come("reader")
            await asyncio.sleep(0)
        assert world.task.done(), world.reader
        world.broker.end_reading()
        return world

    for seed in range(100):
        world = asyncio.run(play(random.Random(seed)))
        assert set(world.results) | set(world.failed) == set(range(world.sent)), seed
        assert world.results == sorted(set(world.results)), seed
        assert len(world.failed) <= world.deaths * batch, seed  # twice, when the life dies that fails them
        assert world.broker.over, seed
        assert not world.broker.unread(), seed


def test_a_writer_that_starts_again_gets_the_credits_of_its_earlier_life_and_goes_on_counting() -> None:
    posted: list[tuple[int, Frame]] = []
    broker = Broker(0, 10, {EDGE: WRITER}, [HOME], lambda to, frame: posted.append((to, frame)), frozenset({WRITER}))
    broker.handle(WRITER, Frame(Kind.DATA, EDGE, 3, 3, b"pickle"))
    broker.away(WRITER)
    broker.handle(HOME, Frame(Kind.ASK, 0, 3))  # nobody is there to be granted the room
    assert [frame.kind for _, frame in posted] == [Kind.DATA]
    broker.handle(WRITER, Frame(Kind.REOPEN, EDGE))
    assert posted[1:] == [(WRITER, Frame(Kind.REOPENED, EDGE, 0, 3)), (WRITER, Frame(Kind.CREDIT, EDGE, 10))]


def test_a_home_is_needed_until_the_supervisor_has_ended_the_channel_of_who_may_come_back() -> None:
    broker = Broker(0, 10, {EDGE: WRITER}, [READER], posts_nothing, frozenset({WRITER, READER}))
    broker.handle(WRITER, Frame(Kind.CLOSE, EDGE))
    broker.handle(READER, Frame(Kind.DONE, 0))
    assert not broker.over
    broker.end_writing()
    assert not broker.over
    broker.end_reading()
    assert broker.over


def test_who_comes_back_after_its_readers_have_ended_is_told_so() -> None:
    posted: list[Frame] = []
    broker = Broker(0, 10, {EDGE: WRITER}, [HOME], lambda _, frame: posted.append(frame), frozenset({WRITER}))
    broker.away(WRITER)
    broker.end_reading()
    posted.clear()  # it was not there to hear it
    broker.handle(WRITER, Frame(Kind.REOPEN, EDGE))
    assert Frame(Kind.REFUSED, EDGE) in posted


class Wire:
    """The station of a writer whose home is elsewhere."""

    me = WRITER

    def __init__(self) -> None:
        self.sent: list[Frame] = []
        self.end: Any = None

    def writer(self, **life: bool) -> CrossingWriter:
        """Of a worker that may start again."""
        carrier = BrokerSender(self, EDGE, 0, HOME, 10, returning=True, **life)  # type: ignore[arg-type]
        return CrossingWriter(carrier, EDGE, 10, fill=carrier.fill, bad=unexpected)

    def add_writer(self, edge: int, channel: int, home: int, end: Any) -> Callable[..., None]:
        assert (edge, channel, home) == (EDGE, 0, HOME)
        self.end = end
        return lambda *frames: self.sent.extend(frames)


def test_what_was_put_leaves_within_its_put_and_is_flushed_when_the_home_has_it() -> None:
    async def put() -> None:
        wire = Wire()
        writer = wire.writer(confirms=True)
        await writer.put("one")
        await writer.put("two")
        assert [(frame.kind, frame.seq) for frame in wire.sent] == [(Kind.DATA, 1), (Kind.DATA, 2)]
        flushed = asyncio.ensure_future(writer.flushed())
        await asyncio.sleep(0)
        assert wire.sent[-1].kind == Kind.SYNC
        assert not flushed.done()
        wire.end.hear(Frame(Kind.SYNCED, EDGE))
        await flushed
        await writer.flushed()  # nothing was put since
        assert len(wire.sent) == 3

    asyncio.run(put())


def test_a_writer_that_starts_again_holds_nothing_and_hears_nothing_that_was_meant_for_its_earlier_life() -> None:
    async def put() -> None:
        wire = Wire()
        writer = wire.writer(again=True)
        wire.end.hear(Frame(Kind.CREDIT, EDGE, 5))
        waiting = asyncio.ensure_future(writer.put("one"))
        await asyncio.sleep(0)
        assert not waiting.done()
        wire.end.hear(Frame(Kind.REOPENED, EDGE, 0, 3))
        wire.end.hear(Frame(Kind.CREDIT, EDGE, 1))
        await waiting
        writer.flush()
        assert [(frame.kind, frame.seq) for frame in wire.sent] == [(Kind.REOPEN, 0), (Kind.DATA, 4)]
        writer.close()

    asyncio.run(put())
