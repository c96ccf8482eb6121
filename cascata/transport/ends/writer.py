"""The channel between processes on Linux: what its ends do, over any kind of carrier (see `carrier` and `ring`).

    put ─> pending ─ flush: one frame ─> [ carrier: frames ] ─> receive ─> items ─> popleft
     ▲                                                                       │
     └── credits <──────────────── [ carrier: credits ] <────────── release ────┘

A writer that is alone takes all the credits there are (up to `MOST_AT_ONCE`), another one up to half of its
share; it puts items against them, and flushes at the end of the loop's turn, when the credits run out, and when
the last flush is older than 200 µs: a producer that never suspends must not hold its items back (it looks at the
clock at every put while it is slow, and at every eighth while it is fast). Before it takes more credits it sends
what it has. A reader gives credits back for what was taken: see `channel.base.Reader`.

Who finds nothing looks again for a moment before it waits, where there is a core for each worker: to be woken
takes longer than most answers do.

Whoever watches over the run ends the channel: for reading when no writer is left (the reader gets the queued
frames first, then the end), altogether when no reader is left.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable
from threading import get_ident
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from ...channel.base import DONE
from ...channel.turns import SLICE_S
from ...channel.unawaited import Forgotten
from ...channel.waiting_line import Place, WaitingLine, WriterBase
from ..codec import frames
from .budget import Purse
from .carrier import SendingCarrier
from .spinning import LOOKING_S, Looks

if TYPE_CHECKING:
    from ..linux.arena import Arena

__all__ = ["CrossingWriter"]

FLUSH_S: Final = 0.0002
"""An item waits no longer than this for others to join its frame, by the clock of who puts: see `MOST_AHEAD`."""

SHARED_WORK_S: Final = 0.0002
"""Work in one frame, at most, when several processes read: so that none holds what another could do."""

LOOKS: Final = 8
"""A writer without credits looks so often for them before it waits: a busy reader gives some back every few
microseconds, and to be woken takes longer. See `spinning`."""

SPINNING_LOOKS: Final = 64
"""The same where each worker has a core of its own."""

MOST_AT_ONCE: Final = 2048
"""Credits that a writer takes at once, at most: with them it does not look whether the loop should turn."""

MOST_AHEAD: Final = 8
"""Puts of a writer from one look at the clock to the next, at most: so many may be late when a producer that never
suspends becomes slow."""

_RETRY_S: Final = 0.001


class CrossingWriter(WriterBase):
    """The sending end of one edge that crosses a process border.

    Args:
        carrier: what carries the items.
        edge: id of the edge.
        capacity: of the channel, in items.
        share: how many edges write to the channel. One that is not alone gives credits back that it does not use.
        work: seconds of work per item as the readers measured it, when several processes read; else None.
        arena: where large items go; see `frames.Encoder`.
        sharing: with the other edges of its out-port that cross; None for an edge that does so alone.
        singly: whether each large item goes in a frame of its own.
        spin: whether each worker has a core of its own.
        bad: called with an item that cannot be serialised, and why.
        forgotten: called when a put that had to wait was never awaited.
    """

    def __init__(  # noqa: C901  # functions in a function: what `put` uses is at hand in its closure, and nowhere faster
        self,
        carrier: SendingCarrier,
        edge: int,
        capacity: int,
        *,
        share: int = 1,
        work: Callable[[], float] | None = None,
        arena: Callable[[], Arena | None] | None = None,
        sharing: frames.Sharing | None = None,
        singly: bool = False,
        spin: bool = False,
        bad: Callable[[Any, BaseException], None],
        forgotten: Forgotten = lambda _=None: None,
    ) -> None:
        line = WaitingLine()
        super().__init__(edge, line, forgotten)
        self._carrier = carrier
        self._loop = line.loop
        self._alone = alone = share == 1
        self._unsent: deque[frames.Frame] = deque()
        self._drained = asyncio.Event()
        self._retrying = False
        self._hung_up = False
        self._finished = False
        carrier.watch(self)

        # Several readers share what there is: none shall get all of it in one frame.
        most = min(max(1, capacity if alone and work is None else capacity // (2 * share)), MOST_AT_ONCE)
        fill = 1  # items that go into one frame, at most
        take = carrier.take
        credits = 0
        ahead = 0  # of the credits in hand, those for puts that need no further look
        step = 1
        spare = 0  # credits in hand of which a put must ask first whether others come before it
        taken = 0  # credits taken, less those given back: the items put, and the credits in hand
        looks = SPINNING_LOOKS if spin else LOOKS
        again = Looks()
        armed = False
        flushed_at = perf_counter()
        pending: list[Any] = []
        append = pending.append
        thread = line.thread
        call_soon = self._loop.call_soon
        turns = line.turns
        purse = Purse(take, capacity, share)
        self.sharing = sharing

        def put(item: Any) -> Any:
            nonlocal ahead
            if ahead:
                ahead -= 1
                append(item)
                return DONE
            return look(item)

        def look(item: Any) -> Any:
            nonlocal ahead, credits, spare, step
            if not credits and (
                self.over
                or self.unbegun
                or line.waiting
                or line.granted
                or perf_counter() - turns.turned > SLICE_S
                or not (top_up() or look_again())
            ):
                return self.later(item)
            credits -= 1
            append(item)
            free = fill - len(pending)
            if not credits or free <= 0:
                flush()
            elif perf_counter() - flushed_at > FLUSH_S:
                step = step // 4 or 1
                flush()
                credits, spare = 0, spare + credits  # the next put looks whether the loop should turn
            else:  # the put that takes the last credit, or fills the frame, comes here again
                ahead = (step if step < free else free) - 1  # noqa: FURB136  # `min` takes as long as all the rest
                if ahead >= credits:
                    ahead = credits - 1
                credits -= ahead
                if step < MOST_AHEAD:
                    step *= 2
            if not armed and (pending or not alone):  # others may need the credits in hand
                arm()
            return DONE

        def look_again() -> int:
            if again.due(perf_counter()):
                for _ in range(looks):
                    if top_up():
                        again.found()
                        return credits
                if not spin:
                    again.in_vain()
            return 0

        async def look_for_room(place: Place) -> None:
            """Looks once nobody else in the loop has anything to do. Cancelled: nothing was taken."""
            if in_hand() or not again.due(perf_counter()):
                return
            if not await turns.give_way():  # the core is needed
                again.in_vain()
                return
            until = perf_counter() + LOOKING_S
            while perf_counter() < until and not turns.busy:
                for _ in range(SPINNING_LOOKS):
                    if place.done:
                        again.found()
                        return
                    if in_hand() or take_more():
                        pump()
            again.in_vain()

        def in_hand() -> bool:
            """Whether the next in the line needs no further room, or is not the next."""
            return bool(credits or spare or line.granted)

        def top_up() -> int:
            nonlocal credits, spare, taken
            if spare:
                credits, spare = spare, 0
            else:
                credits = take(most)
                taken += credits
            return credits

        def pump() -> None:
            nonlocal credits, spare
            collect()
            if credits:
                credits, spare = 0, spare + credits
            elif not spare and not line.granted and not self.over:  # who was granted room comes back here
                take_more()
            hand_out()

        def take_more() -> int:
            nonlocal spare, taken
            spare = take(most)
            taken += spare
            return spare

        def hand_out() -> None:
            nonlocal spare
            spare -= line.grant(spare)
            if line.waiting:
                carrier.want_room()
            if spare and not armed:
                arm()  # gives back what is not used, if others could

        def room_back() -> None:
            nonlocal spare
            spare += 1
            hand_out()

        def take_granted(item: Any) -> None:
            nonlocal credits, spare
            pending.append(item)
            if not line.granted:
                if line.waiting:
                    flush()
                    pump()  # credits may be left in the pipe, and nothing else would tell
                elif not self.unbegun:
                    credits, spare = spare, 0
            if not armed:
                arm()
            if not (credits or spare or line.granted) or len(pending) >= fill or perf_counter() - flushed_at > FLUSH_S:
                flush()

        def arm() -> None:
            nonlocal armed
            armed = True
            turns.errands += 1
            turns.flushes.append(flush)
            (call_soon if get_ident() == thread else self._loop.call_soon_threadsafe)(turn)

        def turn() -> None:
            nonlocal armed
            armed = False
            turns.errands -= 1
            turns.flushes.remove(flush)
            turns.turned = perf_counter()
            flush()
            if not alone:
                give_up()

        def give_up() -> None:
            """Lets go of the credits in hand: gives them back, if others could use them."""
            nonlocal credits, spare, taken
            collect()
            back = credits + spare
            credits = spare = 0
            taken -= back
            if not line.waiting:
                back += purse.give_up()
            if back and not alone:
                carrier.give(back)

        def collect() -> None:
            nonlocal ahead, credits
            credits += ahead
            ahead = 0

        def flush() -> None:
            nonlocal flushed_at, fill
            collect()
            flushed_at = perf_counter()
            if work is not None:
                each = work()
                fill = max(1, min(most, int(SHARED_WORK_S / each))) if each > 0 and not encoder.eager else 1
            # While a frame waits for room in the socket, items wait for it as items: frames may hold fds.
            while pending and not self._unsent:
                if self._hung_up:
                    drop()
                    return
                if work is None or len(pending) <= fill:
                    items = pending.copy()
                    del pending[: len(items)]  # and not all: another thread may have put one more in between
                else:
                    items = pending[:fill]
                    del pending[:fill]
                total = sent() - len(pending)
                made = encoder.encode(total, items, refuse)
                if isinstance(made, bytes):
                    if not carrier.transmit_small(edge, total, len(items), made):
                        self._transmit(encoder.small(total, len(items), made))
                else:
                    for frame in made:
                        self._transmit(frame)
                if work is None:
                    collect()  # an item's own code may have put something
                    fill = 1 if encoder.eager else most

        def pay(surcharge: int) -> int:
            """Takes credits for a heavy frame: those in hand first."""
            nonlocal credits, spare, taken, take
            take = purse.draw  # from now on there may be debts
            collect()
            paid = min(credits + spare, surcharge)
            taken -= paid
            credits, spare = max(0, credits - paid), spare - max(0, paid - credits)
            return paid + purse.pay(surcharge - paid)

        def refuse(item: Any, problem: BaseException) -> None:
            nonlocal taken
            bad(item, problem)
            # No reader will ever give the credit of this item back.
            if not alone:
                carrier.give(1)
            elif not self.over:
                taken += 1
                room_back()

        def drop() -> None:
            self.lost += len(pending)
            pending.clear()

        def sent() -> int:
            return taken - credits - ahead - spare - len(line.granted)

        def discard() -> None:
            nonlocal taken
            taken += 1

        encoder = frames.Encoder(edge, carrier.limit, purse=purse, pay=pay, arena=arena, sharing=sharing, singly=singly)
        self.put: Callable[[Any], Any] = put
        self._pump = pump
        if spin:
            self._look_for_room = look_for_room
        self._take = take_granted
        self._room_back = room_back
        self._discard = discard
        self._sent = sent
        self._flush = flush
        self._drop_pending = drop
        self._give_up = give_up
        self._pending = pending

    @property
    def sent(self) -> int:
        return self._sent()

    @property
    def closed(self) -> bool:
        return self._hung_up or self._finished

    def flush(self) -> None:
        if self._pending:
            self._flush()

    # -- the socket

    def _transmit(self, frame: frames.Frame) -> None:
        if not self._unsent:
            try:
                self._carrier.transmit(frame)
                return
            except OSError as problem:
                if self._is_over(problem):
                    self._drop(frame)
                    return
        self._drained.clear()
        self._unsent.append(frame)
        self._carrier.want_passage()

    def _is_over(self, problem: OSError) -> bool:
        """Whether a send failed for good. Otherwise it is tried again, when writable or a little later."""
        if problem.errno == errno.EAGAIN:
            return False
        if problem.errno in (errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM):
            if not self._retrying:
                self._retrying = True
                self._loop.call_later(_RETRY_S, self._retry)  # the kernel is short: nothing will wake us
            return False
        self.hang_up()
        return True

    def _retry(self) -> None:
        self._retrying = False
        self._send_unsent()

    def _send_unsent(self) -> None:
        while self._unsent:
            try:
                self._carrier.transmit(self._unsent[0])
            except OSError as problem:
                if not self._is_over(problem):
                    self._carrier.want_passage()
                return
            self._unsent.popleft()
            if not self._unsent:
                self._flush()
        self._drained.set()

    def _drop(self, frame: frames.Frame) -> None:
        self.lost += frame.drop()

    # -- told by the carrier

    def on_passage(self) -> bool:
        if not self._unsent:
            return False
        self._send_unsent()
        return True

    def on_room(self) -> bool:
        if not self._line.waiting:
            return False
        self._line.let_go_on(self._pump)
        return True

    # -- the end

    def hang_up(self) -> None:
        """No reader is left: what was not sent cannot be."""
        self._hung_up = True
        self._end()

    def _end(self) -> None:
        """No more is taken here; puts that wait are refused. What cannot be sent any more is dropped."""
        self.over = True
        self._give_up()
        if self._hung_up or self._finished:
            self._drop_pending()
            while self._unsent:
                self._drop(self._unsent.popleft())
            self._drained.set()
        self._line.refuse()

    def stop(self) -> None:
        self._end()
        self._flush()

    def resume(self) -> None:
        self.over = self.closed

    async def flushed(self) -> None:
        """Waits until all that was put has left this process, or never can."""
        self._flush()
        while self._unsent:
            await self._drained.wait()

    async def aclose(self) -> None:
        if self._finished:
            return
        try:
            await self._settle()
            await self.flushed()
            while self._begun:  # another task has put something meanwhile
                await self._settle()
                await self.flushed()
        finally:
            self.close()

    def close(self) -> None:
        if self._finished:
            return
        self.missed = not self._hung_up
        self._finished = True
        self._end()
        if not self._alone:
            self._carrier.give(len(self._line.granted))  # they will find that it is over
            self._alone = True
        self._carrier.close()
