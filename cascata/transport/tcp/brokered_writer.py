"""The sending end of a channel that a broker keeps, and how it works with the receiving one.

    put ─> pending ─ flush: one frame ─> the home's broker ─> frames ─> items ─> popleft
     ▲                                         │  ▲                        │
     └────────────── credits <─────────────────┘  └──── give, ask <────────┘

See `transport.tcp.broker` for the home and `channel.base` for the rules. What is put in one turn of the loop leaves as
one frame; a producer that never suspends flushes by the clock. Frames come in the I/O thread, or from a broker in this
worker: `hear` only notes them, and wakes the loop when somebody there waits for one. An end that waits first says that
it waits and then looks once more, `hear` first notes the frame and then looks whether somebody waits: so one of the two
sees the other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from threading import get_ident
from time import perf_counter
from typing import Any, Final

from ...channel.base import DONE
from ...channel.turns import SLICE_S
from ...channel.unawaited import Forgotten
from ...channel.waiting_line import WaitingLine, WriterBase
from ..codec.encode import Encoder
from ..ends.budget import Purse
from ..shared.loops import InLoop
from .broker import initial_credits
from .station import Station
from .stream_frames import Frame, FramesOfItems, Kind

__all__ = ["BrokeredWriter"]

FLUSH_S: Final = 0.0002
"""An item waits no longer than this for others to join its frame."""

MOST_AT_ONCE: Final = 2048
"""Credits that a writer uses at once, at most: with them it does not look whether the loop should turn."""

UNLIMITED: Final = 1 << 62


class BrokeredWriter(WriterBase):
    """The sending end of one edge.

    Args:
        station: of this worker.
        edge: id of the edge.
        channel: id of its channel.
        home: the worker that keeps the channel.
        capacity: of the channel, in items.
        share: how many edges write to it.
        divided: whether several workers read it.
        shared: whether the same items go out on other edges as well.
        returning: whether its worker may start again: then nothing stays here, each item leaves within its `put`.
        again: whether it has: then it holds no credits, and says so first.
        confirms: whether `flushed` asks the home whether all has come.
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
        shared: bool = False,
        returning: bool = False,
        again: bool = False,
        confirms: bool = False,
        bad: Callable[[Any, BaseException], None],
        forgotten: Forgotten = lambda _=None: None,
    ) -> None:
        line = WaitingLine()
        super().__init__(edge, line, forgotten)
        self._call = InLoop()
        self._hung_up = False
        self._finished = False
        self._awaits_credit = False
        self._confirmed: asyncio.Future[None] = line.loop.create_future()
        inbox: deque[int] = deque([0 if again else initial_credits(capacity, share)])  # credits that came
        self._inbox = inbox
        self._deaf = again  # until the home answers: what it said before that was to an earlier life
        self._before = 0  # items that earlier lives have sent
        self._confirms = confirms
        self._come = 0  # items that have come to the home, as far as is known
        self._syncs: deque[tuple[int, asyncio.Future[None]]] = deque()
        tell = self._tell = station.add_writer(edge, channel, home, self)

        alone = share == 1
        most = min(max(1, capacity // (2 * share)), MOST_AT_ONCE)
        self.fill = 1  # items that go into one frame, at most
        self._most_fill = 1 if returning else UNLIMITED
        self._home_fill = 1 if divided or returning else UNLIMITED  # the same as the home says
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
                    (call_soon if get_ident() == line.thread else line.loop.call_soon_threadsafe)(turn)
                due = not credits or len(pending) >= self.fill or perf_counter() - flushed_at > FLUSH_S
                if due and get_ident() == line.thread:  # another one leaves it to the loop's next turn
                    flush()
                return DONE
            if (
                self.over
                or self.unbegun
                or line.waiting
                or line.granted
                or perf_counter() - line.turns.turned > SLICE_S
                or not top_up()
            ):
                return self.later(item)
            return put(item)

        def top_up() -> int:
            nonlocal credits, spare
            if spare:
                credits, spare = spare, 0
            else:
                credits = in_hand()
            return credits

        def in_hand() -> int:
            """Takes credits for items in hand."""
            nonlocal taken
            drawn = draw(most)
            taken += drawn
            return drawn

        def grab(most: int) -> int:
            """Takes up to so many credits; asks for some when there are none."""
            nonlocal reserve, wanted
            collect()
            if not reserve and not alone and not wanted:
                wanted = True
                tell(Frame(Kind.WANT, edge, most))
                collect()  # a broker in this worker has answered already
            drawn = min(reserve, most)
            reserve -= drawn
            return drawn

        purse = Purse(grab, capacity, share)
        draw: Callable[[int], int] = grab

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
                spare = in_hand()
                if not spare and line.waiting:
                    self._awaits_credit = True
                    spare = in_hand()  # one may have come just now
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
            line.turns.turned = perf_counter()
            flush()

        def give_up() -> None:
            """Lets go of credits that are not used: gives them back, if others could use them."""
            nonlocal credits, spare, taken, reserve
            collect()
            back = credits + spare + reserve
            taken -= credits + spare
            credits = spare = reserve = 0
            if not line.waiting:
                back += purse.give_up()
            if back and not alone and not self.closed:  # the home takes back all that a closed writer held
                tell(Frame(Kind.BACK, edge, back))

        def flush() -> None:
            nonlocal flushed_at
            flushed_at = perf_counter()
            while pending:
                fill = self.fill
                if self._hung_up:
                    drop()
                    return
                if len(pending) <= fill:
                    items = pending.copy()
                    del pending[: len(items)]  # and not all: another thread may have put one more in between
                else:
                    items = pending[:fill]
                    del pending[:fill]
                total = self._before + sent() - len(pending)
                made = encoder.encode(total, items, refuse)
                if isinstance(made, bytes):
                    tell(framing.small(total, len(items), made))
                else:
                    for frame in made:
                        tell(frame)
                self.fill = 1 if encoder.eager else self._home_fill

        def pay(surcharge: int) -> int:
            """Takes credits for a heavy frame: those in hand first."""
            nonlocal credits, spare, taken, draw
            draw = purse.draw  # from now on there may be debts
            paid = min(credits + spare, surcharge)
            taken -= paid
            credits, spare = max(0, credits - paid), spare - max(0, paid - credits)
            return paid + purse.pay(surcharge - paid)

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

        def charge(nbytes: int, count: int) -> int:
            surcharge = purse.surcharge(nbytes, count)
            return pay(surcharge) if surcharge else 0

        framing = FramesOfItems(edge, shared=shared)
        encoder = Encoder(framing, portion=purse.portion, charge=charge)
        self.put: Callable[[Any], Any] = put
        self._pump = pump
        self._take = take_granted
        self._room_back = room_back
        self._discard = discard
        self._sent = sent
        self._flush = flush
        self._drop_pending = drop
        self._give_up = give_up
        if again:
            tell(Frame(Kind.REOPEN, edge))

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
        if frame.kind == Kind.REOPENED:
            self._before = frame.seq
            self._deaf = False
        if self._deaf:
            return
        if frame.kind == Kind.CREDIT:
            self._home_fill = min(frame.seq or UNLIMITED, self._most_fill)
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
        elif frame.kind == Kind.SYNCED:
            self._call(self._on_synced)

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

    # -- for who may start again

    async def flushed(self) -> None:
        """Waits until all that was put has come to the home, or never can."""
        self._flush()
        sent = self._sent()
        if not self._confirms or sent == self._come:
            return
        come = self._line.loop.create_future()
        self._syncs.append((sent, come))
        self._tell(Frame(Kind.SYNC, self.edge))
        await come

    def _on_synced(self) -> None:
        sent, come = self._syncs.popleft()
        self._come = max(self._come, sent)
        if not come.done():  # who waited may have been cancelled
            come.set_result(None)

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

    def resume(self) -> None:
        self.over = self.closed

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
        self.missed = not self._hung_up
        self._finished = True
        self._end()
        self._tell(Frame(Kind.CLOSE, self.edge))
