"""The ends of a channel that a broker keeps: what writers and readers are on the portable transport.

    put ─> pending ─ flush: one frame ─> the home's broker ─> frames ─> items ─> popleft
     ▲                                         │  ▲                        │
     └────────────── credits <─────────────────┘  └──── give, ask <────────┘

See `transport.broker` for the home and `channel.base` for the rules. What is put in one turn of the loop leaves as one
frame; a producer that never suspends flushes by the clock. Frames come in the I/O thread, or from a broker in this
worker: `hear` only notes them, and wakes the loop when somebody there waits for one. An end that waits first says that
it waits and then looks once more, `hear` first notes the frame and then looks whether somebody waits: so one of the two
sees the other.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import perf_counter
from typing import Any, Final

from ..channel.base import DONE, Tally
from ..channel.line import LONGEST_LOOK_S, LOOK_S, SLICE_S, LateWriter, Line
from .broker import initial_credits
from .codec import pack, unpack
from .station import Station
from .wire import MOST_BUFFERS, Frame, Kind

__all__ = ["BrokeredReader", "BrokeredWriter"]

FLUSH_S: Final = 0.0002
"""An item waits no longer than this for others to join its frame."""

AHEAD_S: Final = 0.002
"""A reader far from its channel's home asks for the next frame while it works on one that is less work than this."""

MOST_AT_ONCE: Final = 2048
"""Credits that a writer uses at once, at most: with them it does not look whether the loop should turn."""

UNLIMITED: Final = 1 << 62


class _Caller:
    """Has things done in the loop of an end, from any thread."""

    __slots__ = ("_loop", "_thread")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def __call__(self, callback: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed, and the end with it
            if threading.get_ident() == self._thread:
                self._loop.call_soon(callback)
            else:
                self._loop.call_soon_threadsafe(callback)


class BrokeredWriter(LateWriter):
    """The sending end of one edge.

    Args:
        station: of this worker.
        edge: id of the edge.
        channel: id of its channel.
        home: the worker that keeps the channel.
        capacity: of the channel, in items.
        share: how many edges write to it.
        divided: whether several workers read it.
        bad: called with an item that cannot be serialised, and why.
        forgotten: called when a put that had to wait was never awaited.
    """

    def __init__(  # noqa: C901  # functions in a function: what `put` uses is at hand in its closure, and nowhere faster
        self,
        station: Station,
        edge: int,
        channel: int,
        home: int,
        capacity: int,
        *,
        share: int = 1,
        divided: bool = False,
        bad: Callable[[Any, BaseException], None],
        forgotten: Callable[[], None] = lambda: None,
    ) -> None:
        line = Line()
        super().__init__(edge, line, forgotten)
        self._call = _Caller()
        self._hung_up = False
        self._finished = False
        self._awaits_credit = False
        self._confirmed: asyncio.Future[None] = line.loop.create_future()
        inbox: deque[int] = deque([initial_credits(capacity, share)])  # credits that came
        self._inbox = inbox
        tell = self._tell = station.add_writer(edge, channel, home, self)

        alone = share == 1
        most = min(max(1, capacity // (2 * share)), MOST_AT_ONCE)
        self.fill = 1 if divided else UNLIMITED  # items that go into one frame, at most
        reserve = 0  # credits that came, and are not in hand
        credits = 0
        spare = 0  # credits in hand of which a put must ask first whether others come before it
        taken = 0  # credits taken in hand, less those given back: the items put, and the credits in hand
        wanted = False
        armed = False
        flushed_at = perf_counter()
        pending: list[Any] = []
        call_soon = line.loop.call_soon

        def put(item: Any) -> Any:
            nonlocal credits, armed
            if credits:
                credits -= 1
                pending.append(item)
                if not armed:
                    armed = True
                    call_soon(turn)
                if not credits or len(pending) >= self.fill or perf_counter() - flushed_at > FLUSH_S:
                    flush()
                return DONE
            if (
                self.over
                or self.unbegun
                or line.waiting
                or line.granted
                or perf_counter() - line.turned > SLICE_S
                or not top_up()
            ):
                return self.later(item)
            return put(item)

        def top_up() -> int:
            nonlocal credits, spare
            credits, spare = (spare, 0) if spare else (draw(), 0)
            return credits

        def draw() -> int:
            """Takes credits in hand; asks for some when there are none."""
            nonlocal reserve, taken, wanted
            collect()
            if not reserve and not alone and not wanted:
                wanted = True
                tell(Frame(Kind.WANT, edge, most))
                collect()  # a broker in this worker has answered already
            drawn = min(reserve, most)
            reserve -= drawn
            taken += drawn
            return drawn

        def collect() -> None:
            nonlocal reserve, wanted
            while inbox:
                reserve += inbox.popleft()
                wanted = False

        def pump() -> None:
            nonlocal credits, spare
            if credits:
                credits, spare = 0, spare + credits
            elif not spare and not line.granted and not self.over:  # who was granted room comes back here
                spare = draw()
                if not spare and line.waiting:
                    self._awaits_credit = True
                    spare = draw()  # one may have come just now
            hand_out()

        def hand_out() -> None:
            nonlocal spare, armed
            spare -= line.grant(spare)
            if line.waiting:
                self._awaits_credit = True
                if inbox and not line.granted and not spare:
                    self._call(self._on_credit)
            if spare and not armed:
                armed = True
                call_soon(turn)

        def room_back() -> None:
            nonlocal spare
            spare += 1
            hand_out()

        def take_granted(item: Any) -> None:
            nonlocal armed, credits, spare
            pending.append(item)
            if not line.granted:
                if line.waiting:
                    flush()
                    pump()
                elif not self.unbegun:
                    credits, spare = spare, 0
            if not armed:
                armed = True
                call_soon(turn)
            if not (credits or spare or line.granted) or len(pending) >= self.fill or late():
                flush()

        def late() -> bool:
            return perf_counter() - flushed_at > FLUSH_S

        def turn() -> None:
            nonlocal armed
            armed = False
            line.turned = perf_counter()
            flush()

        def give_up() -> None:
            """Lets go of credits that are not used: gives them back, if others could use them."""
            nonlocal credits, spare, taken, reserve
            collect()
            back = credits + spare + reserve
            taken -= credits + spare
            credits = spare = reserve = 0
            if back and not alone and not self.closed:  # the home takes back all that a closed writer held
                tell(Frame(Kind.BACK, edge, back))

        def flush() -> None:
            nonlocal flushed_at
            flushed_at = perf_counter()
            fill = self.fill
            while pending:
                if self._hung_up:
                    drop()
                    return
                if len(pending) <= fill:
                    items = pending.copy()
                    pending.clear()
                else:
                    items = pending[:fill]
                    del pending[:fill]
                for each in pack(sent() - len(pending), items, refuse, MOST_BUFFERS):
                    tell(Frame(Kind.DATA, edge, each.amount, each.total, each.body, each.buffers))

        def refuse(item: Any, problem: BaseException) -> None:
            nonlocal taken
            bad(item, problem)
            # Its credit was not used up: the home counts only what comes.
            if not self.over:
                taken += 1
                room_back()
            elif not alone and not self._finished:
                tell(Frame(Kind.BACK, edge, 1))

        def drop() -> None:
            self.lost += len(pending)
            pending.clear()

        def sent() -> int:
            return taken - credits - spare - len(line.granted)

        def discard() -> None:
            nonlocal taken
            taken += 1

        self.put: Callable[[Any], Any] = put
        self._pump = pump
        self._take = take_granted
        self._room_back = room_back
        self._discard = discard
        self._sent = sent
        self._flush = flush
        self._drop_pending = drop
        self._give_up = give_up

    @property
    def sent(self) -> int:
        return self._sent()

    @property
    def closed(self) -> bool:
        return self._hung_up or self._finished

    def flush(self) -> None:
        self._flush()

    # -- what the home says

    def hear(self, frame: Frame) -> None:
        if frame.kind == Kind.CREDIT:
            self.fill = frame.seq or UNLIMITED
            self._inbox.append(frame.amount)
            if self._awaits_credit:
                self._awaits_credit = False
                self._call(self._on_credit)
        elif frame.kind == Kind.RECALL:
            self._call(self._on_recall)
        elif frame.kind == Kind.REFUSED:
            self._call(self._hang_up)
        elif frame.kind == Kind.CLOSED:
            self._call(self._on_closed)

    def _on_credit(self) -> None:
        if self._line.waiting:
            self._pump()

    def _on_recall(self) -> None:
        if self._finished:
            return
        self._flush()
        if self._line.waiting:
            self._pump()
        if not self._line.waiting and not self._line.granted:
            self._give_up()

    def _on_closed(self) -> None:
        if not self._confirmed.done():
            self._confirmed.set_result(None)

    # -- the end

    def _hang_up(self) -> None:
        """No reader is left: what was not sent cannot be."""
        if not self._finished:
            self._hung_up = True
            self._end()

    def _end(self) -> None:
        """No more is taken here; puts that wait are refused. What cannot be sent any more is dropped."""
        self.over = True
        if self._hung_up or self._finished:
            self._drop_pending()
        self._give_up()
        self._line.refuse()

    def stop(self) -> None:
        self._end()
        self._flush()

    async def aclose(self) -> None:
        if self._finished:
            return
        try:
            await self._settle()
            self._flush()
        finally:
            self.close()
        await self._confirmed

    def close(self) -> None:
        if self._finished:
            return
        self._finished = True
        self._end()
        self._tell(Frame(Kind.CLOSE, self.edge))


class BrokeredReader:
    """The receiving end of a channel, for one worker.

    Args:
        station: of this worker.
        channel: its id.
        home: the worker that keeps it.
        users: nodes that take from this end.
        bad: called with the edge, the count and the error of items that cannot be unpickled.
        seen: called with the edge of each frame that comes in, and how many items have come in on it.
    """

    def __init__(
        self,
        station: Station,
        channel: int,
        home: int,
        *,
        users: int = 1,
        bad: Callable[[int, int, BaseException], None],
        seen: Callable[[int, int], None] = lambda edge, total: None,  # noqa: ARG005
    ) -> None:
        self.items: deque[Any] = deque()
        self._channel = channel
        self._far = home != station.me
        self._call = _Caller()
        self._loop = asyncio.get_running_loop()
        self._users = users
        self._bad = bad
        self._seen = seen
        self._frames: deque[Frame] = deque()  # came, and not read yet
        self._heard = 0  # frames of items that came
        self._closed = False
        self._closing = threading.Lock()  # a frame either came before the end was closed, or after
        self._awaits_frame = False
        self._asked = False
        self._work_s = 0.0
        self._received: dict[int, int] = {}  # edge -> items that came in here
        self._tally = Tally()
        self._came = 0
        self._released = 0
        self._armed = False
        self._looking = False
        self._look_s = LOOK_S
        self._turned = perf_counter()
        self._takers: deque[asyncio.Future[None]] = deque()
        self._ended = False
        self._tell = station.add_reader(channel, home, self)

    def worked(self, seconds: float) -> None:
        self._work_s = seconds

    # -- room

    def taking(self) -> None:
        if not self._armed:
            self._armed = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._armed = False
        self._turned = perf_counter()
        self.release()
        if self.items and not self._looking and self._users:
            self._looking = True
            self._look_s = LOOK_S
            self._loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        """A batch that suspends again and again says nothing of what it takes in between."""
        released = self._released
        self.release()
        self._looking = bool(self.items) and self._users > 0
        if self._looking:
            self._look_s = LOOK_S if self._released > released else min(2 * self._look_s, LONGEST_LOOK_S)
            self._loop.call_later(self._look_s, self._look)

    def release(self) -> None:
        owed = self._owed()
        if owed and self._users:
            self._tell(Frame(Kind.GIVE, self._channel, owed))

    def _owed(self) -> int:
        owed = self._came - len(self.items) - self._released
        self._released += owed
        return owed

    # -- items

    def hear(self, frame: Frame) -> None:
        with self._closing:
            closed = self._closed
            if not closed:
                self._heard += frame.kind == Kind.DATA
                self._frames.append(frame)
        if closed:
            if frame.kind == Kind.DATA:  # it was under way when the last user left
                self._tell(frame._replace(kind=Kind.RETURN))
        elif self._awaits_frame:
            self._awaits_frame = False
            self._call(self._on_frame)

    def _on_frame(self) -> None:
        self._wake(1)

    def _ask(self) -> None:
        """Wants the next frame; tells what was taken as well."""
        self._asked = True
        self._tell(Frame(Kind.ASK, self._channel, self._owed(), int(self._work_s * 1e9)))

    def _receive(self) -> bool:
        """Takes one frame if there is one. True when there may be items, or the end has come."""
        if not self._frames:
            return False
        frame = self._frames.popleft()
        self._asked = False
        if frame.kind == Kind.END:
            self._ended = True
            self._wake(len(self._takers))
            return True
        edge, count = frame.id, frame.amount
        self._received[edge] = self._received.get(edge, 0) + count
        self._seen(edge, self._received[edge])
        self._came += count
        try:
            items = unpack(count, frame.body, frame.buffers, lambda problem: self._bad(edge, 1, problem))
        except BaseException as problem:  # of an item's own code, which may raise anything
            self._bad(edge, count, problem)
        else:
            self.items.extend(items)
            self._tally.came(edge, len(items))
            if self._far and 0 < self._work_s * count < AHEAD_S:
                self._ask()
        return True

    async def wait(self) -> bool:
        items = self.items
        while not items:
            if self._ended:
                return False
            if perf_counter() - self._turned > SLICE_S:
                await asyncio.sleep(0)
                self._turned = perf_counter()
                continue
            if self._receive():
                if self._takers:
                    self._share()
                continue
            if not self._asked:
                self._ask()
            else:
                self.release()
            self._awaits_frame = True
            if self._frames:
                continue
            taker = self._loop.create_future()
            self._takers.append(taker)
            try:
                await taker
            except BaseException:
                if taker in self._takers:
                    self._takers.remove(taker)
                else:
                    self._wake(1)  # this wake-up was for an item: somebody else must see it
                raise
            self._turned = perf_counter()
        return True

    def _share(self) -> None:
        """There are items. Sees that others who wait here get those that this one leaves, and what else has come."""
        while self._takers and len(self.items) <= len(self._takers) and not self._ended:
            if not self._asked and not self._frames:
                self._ask()
            if not self._receive():
                self._awaits_frame = True
                if not self._frames:
                    break
        self._wake(len(self.items) - 1)

    def pass_on(self) -> None:
        if self.items:
            self._wake(1)

    def _wake(self, count: int) -> None:
        while count > 0 and self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)
                count -= 1

    # -- accounts, and the end

    @property
    def ready(self) -> bool:
        return bool(self.items)

    @property
    def ended(self) -> bool:
        return self._ended and not self.items

    def finish(self) -> None:
        self._ended = True
        self._wake(len(self._takers))

    def received(self) -> Mapping[int, int]:
        return self._received

    def taken(self) -> Mapping[int, int]:
        return self._tally.settle(len(self.items))

    def last_edges(self) -> Mapping[int, int]:
        self._tally.settle(len(self.items))
        return self._tally.last_edges()

    def close(self) -> Mapping[int, int]:
        self._users -= 1
        if self._users:
            self._wake(1)
            return {}
        self._tally.settle(len(self.items))
        with self._closing:
            self._closed = True
        for frame in self._frames:  # another reader may take these
            if frame.kind == Kind.DATA:
                self._tell(frame._replace(kind=Kind.RETURN))
        self._tell(Frame(Kind.DONE, self._channel, self._owed() + len(self.items), self._heard))
        return self._tally.left()
