"""The sending end of a channel between workers, over any carrier (see `carrier`).

    put ─> _pending ─ _flush: one frame ─> [ carrier: frames ] ─> receive ─> items ─> popleft
     ▲                                                                         │
     └── credits <───────────────── [ carrier: credits ] <────────── release ──┘

A writer that is alone takes all the credits there are (up to `MOST_AT_ONCE`), another one up to half of its
share; it puts items against them, and flushes at the end of the loop's turn, when the credits run out, and when
the last flush is older than 200 µs: a producer that never suspends must not hold its items back (it looks at the
clock at every put while it is slow, and at every eighth while it is fast). Before it takes more credits it sends
what it has. A reader gives credits back for what was taken: see `channel.base.Reader`.

A writer that finds no credits looks again for a moment before it waits, where there is a core for each worker: to be
woken takes longer than most answers do.

The supervisor ends the channel: for reading when no writer is left (the reader gets the queued frames first, then the
end), altogether when no reader is left.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable
from threading import get_ident
from time import perf_counter
from typing import Any, Final

from ...channel.base import DONE
from ...channel.turns import SLICE_S
from ...channel.unawaited import Forgotten
from ...channel.waiting_line import Place, WaitingLine, WriterBase
from ..codec.encode import Encoder
from .budget import Purse
from .carrier import SendingCarrier
from .spinning import LOOKING_S, Looks

__all__ = ["CrossingWriter"]

FLUSH_S: Final = 0.0002
"""An item waits no longer than this for others to join its frame, by the clock of who puts: see `MOST_AHEAD`."""

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
        share: how many edges write to the channel.
        fill: says how many items may go into one frame now; None: as many as there are credits.
        spin: whether each worker has a core of its own.
        bad: called with an item that cannot be serialised, and why.
        forgotten: called when a put that had to wait was never awaited.
    """

    __slots__ = (
        "_again",
        "_alone",
        "_armed",
        "_carrier",
        "_collect",
        "_credits",
        "_drained",
        "_draw",
        "_encoder",
        "_fill",
        "_fill_by",
        "_finished",
        "_flush_at_turn",
        "_flushed_at",
        "_framed",
        "_framing",
        "_hung_up",
        "_keeps",
        "_looks",
        "_most",
        "_pending",
        "_purse",
        "_report",
        "_retrying",
        "_spare",
        "_spin",
        "_unsent",
        "put",
        "sharing",
    )

    def __init__(
        self,
        carrier: SendingCarrier,
        edge: int,
        capacity: int,
        *,
        share: int = 1,
        fill: Callable[[], int] | None = None,
        spin: bool = False,
        bad: Callable[[Any, BaseException], None],
        forgotten: Forgotten = lambda _=None: None,
    ) -> None:
        super().__init__(edge, WaitingLine(), forgotten)
        self._carrier = carrier
        self._report = bad
        self._alone = share == 1
        self._keeps = self._alone or carrier.recalls
        """Whether credits in hand stay here from one turn of the loop to the next."""
        self._pending: list[Any] = []
        """Items that were put, and are in no frame yet."""
        self._unsent: deque[Any] = deque()
        """Frames that the carrier could not take yet."""
        self._drained = asyncio.Event()
        """Set when the last of those has left."""
        self._hung_up = False
        """Whether no reader is left."""
        self._finished = False
        """Whether this end is closed."""
        self._retrying = False
        """Whether a timer will try to send again."""
        self._armed = False
        """Whether `_turn` will run at the loop's next turn."""
        self._flush_at_turn = self._flush
        self._flushed_at = perf_counter()

        self._credits = 0
        """In hand, without those that `put` may use without a further look (see `_put_fast`)."""
        self._spare = 0
        """In hand, of which a put must ask first whether others come before it."""
        self._framed = 0
        """Items that were put and are no longer pending: in frames, bad, or lost."""
        self._most = min(max(1, capacity if self._alone and fill is None else capacity // (2 * share)), MOST_AT_ONCE)
        """Credits to take at once. Several readers share what there is: none shall get all of it in one frame."""
        self._fill_by = fill
        self._fill = 1
        """Items that go into one frame, at most; the first one tells whether large ones are to be expected."""
        self._purse = Purse(carrier.take, capacity, share)
        self._draw = carrier.take
        """Takes up to so many credits: by the purse, as soon as there may be debts."""

        self._spin = spin
        self._looks = SPINNING_LOOKS if spin else LOOKS
        self._again = Looks()
        if spin:
            self._look_for_room = self._look_while_idle
        self.sharing = carrier.sharing
        self._framing = carrier.framing(edge)
        self._encoder = Encoder(self._framing, portion=self._purse.portion, charge=self._charge)
        self.put, self._collect = self._put_fast()
        carrier.watch(self)

    # -- putting

    def _put_fast(self) -> tuple[Callable[[Any], Any], Callable[[], None]]:
        """Makes `put`, and what takes back the credits that it may still use.

        Functions in a function: what a put needs is at hand in its closure, and nowhere faster.
        """
        ahead = 0  # of the credits in hand, those for puts that need no further look
        step = 1  # so many of them the next look allows, at most
        line, turns, thread = self._line, self._line.turns, self._line.thread
        pending = self._pending
        append = pending.append

        def put(item: Any) -> Any:
            nonlocal ahead
            if ahead:
                ahead -= 1
                append(item)
                return DONE
            return look(item)

        def look(item: Any) -> Any:
            nonlocal ahead, step
            if not self._credits and (
                self.over
                or self.unbegun
                or line.waiting
                or line.granted
                or perf_counter() - turns.turned > SLICE_S
                or not (self._top_up() or self._look_again())
            ):
                return self.later(item)
            self._credits -= 1
            append(item)
            free = self._fill - len(pending)
            if not self._credits or free <= 0:
                if get_ident() == thread:  # another one leaves it to the loop's next turn
                    self._flush()
            elif perf_counter() - self._flushed_at > FLUSH_S:
                step = step // 4 or 1
                if get_ident() == thread:
                    self._flush()
                self._credits, self._spare = 0, self._spare + self._credits  # the next put looks whether to turn
            else:  # the put that takes the last credit, or fills the frame, comes here again
                ahead = (step if step < free else free) - 1  # noqa: FURB136  # `min` takes as long as all the rest
                if ahead >= self._credits:
                    ahead = self._credits - 1
                self._credits -= ahead
                if step < MOST_AHEAD:
                    step *= 2
            if not self._armed and (pending or not self._keeps):  # others may need the credits in hand
                self._arm()
            return DONE

        def collect() -> None:
            nonlocal ahead
            self._credits += ahead
            ahead = 0

        return put, collect

    def _take(self, item: Any) -> None:
        line = self._line
        self._pending.append(item)
        if not line.granted:
            if line.waiting:
                self._flush()
                self._pump()  # credits may be left in the carrier, and nothing else would tell
            elif not self.unbegun:
                self._credits, self._spare = self._spare, 0
        if not self._armed:
            self._arm()
        if (
            not (self._credits or self._spare or line.granted)
            or len(self._pending) >= self._fill
            or perf_counter() - self._flushed_at > FLUSH_S
        ):
            self._flush()

    # -- credits

    def _top_up(self) -> int:
        if self._spare:
            self._credits, self._spare = self._spare, 0
        else:
            self._credits = self._draw(self._most)
        return self._credits

    def _look_again(self) -> int:
        """Looks for credits a little longer, when that has been worth it lately."""
        if self._again.due(perf_counter()):
            for _ in range(self._looks):
                if self._top_up():
                    self._again.found()
                    return self._credits
            if not self._spin:
                self._again.in_vain()
        return 0

    async def _look_while_idle(self, place: Place) -> None:
        """Looks once nobody else in the loop has anything to do. Cancelled: nothing was taken."""
        turns, again = self._line.turns, self._again
        if self._has_room() or not again.due(perf_counter()):
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
                if self._has_room() or self._take_more():
                    self._pump()
        again.in_vain()

    def _has_room(self) -> bool:
        """Whether the next in the line needs no further room, or is not the next."""
        return bool(self._credits or self._spare or self._line.granted)

    def _pump(self) -> None:
        self._collect()
        if self._credits:
            self._credits, self._spare = 0, self._spare + self._credits
        elif not self._spare and not self._line.granted and not self.over:  # who was granted room comes back here
            self._take_more()
        self._hand_out()

    def _take_more(self) -> int:
        self._spare = self._draw(self._most)
        return self._spare

    def _hand_out(self) -> None:
        self._spare -= self._line.grant(self._spare)
        if self._line.waiting:
            self._carrier.want_room()
        if self._spare and not self._armed:
            self._arm()  # gives back what is not used, if others could

    def _room_back(self) -> None:
        self._spare += 1
        self._hand_out()

    def _give_up(self) -> None:
        """Lets go of the credits in hand: others could use them. A writer that is alone keeps them until it goes on."""
        self._collect()
        back = self._credits + self._spare
        self._credits = 0
        if self._alone:
            self._spare = back
            return
        self._spare = 0
        if not self._line.waiting:
            back += self._purse.give_up()
        if back:
            self._carrier.give(back)

    def _charge(self, nbytes: int, count: int) -> int:
        """Takes the credits of a heavy frame beyond one for each item: those in hand first."""
        surcharge = self._purse.surcharge(nbytes, count)
        if not surcharge:
            return 0
        self._draw = self._purse.draw  # from now on there may be debts
        self._collect()
        paid = min(self._credits + self._spare, surcharge)
        self._credits, self._spare = max(0, self._credits - paid), self._spare - max(0, paid - self._credits)
        return paid + self._purse.pay(surcharge - paid)

    def _refuse_item(self, item: Any, problem: BaseException) -> None:
        """An item cannot be serialised. No reader will ever give its credit back."""
        self._report(item, problem)
        if not self._alone:
            self._carrier.give(1)
        elif self.over:  # it may go on later
            self._spare += 1
        else:
            self._room_back()

    # -- sending

    def _arm(self) -> None:
        turns = self._line.turns
        self._armed = True
        turns.errands += 1
        turns.flushes.append(self._flush_at_turn)
        loop = self._line.loop
        (loop.call_soon if get_ident() == self._line.thread else loop.call_soon_threadsafe)(self._turn)

    def _turn(self) -> None:
        turns = self._line.turns
        self._armed = False
        turns.errands -= 1
        turns.flushes.remove(self._flush_at_turn)
        turns.turned = perf_counter()
        self._flush()
        if not self._keeps:
            self._give_up()

    def _flush(self) -> None:
        self._collect()
        self._flushed_at = perf_counter()
        pending, encoder = self._pending, self._encoder
        fill_by = self._fill_by
        if fill_by is not None:
            self._fill = 1 if encoder.eager else min(self._most, fill_by())
        # While a frame waits for room in the carrier, items wait for it as items: frames may hold fds.
        while pending and not self._unsent:
            if self._hung_up:
                self._drop_pending()
                return
            if fill_by is None or len(pending) <= self._fill:
                items = pending.copy()
                del pending[: len(items)]  # and not all: another thread may have put one more in between
            else:
                items = pending[: self._fill]
                del pending[: self._fill]
            total = self._framed = self._framed + len(items)
            made = encoder.encode(total, items, self._refuse_item)
            if isinstance(made, bytes):
                if not self._carrier.transmit_small(self.edge, total, len(items), made):
                    self._transmit(self._framing.small(total, len(items), made))
            else:
                for frame in made:
                    self._transmit(frame)
            if fill_by is None:
                self._collect()  # an item's own code may have put something
                self._fill = 1 if encoder.eager else self._most

    def _transmit(self, frame: Any) -> None:
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
                self._line.loop.call_later(_RETRY_S, self._retry)  # the kernel is short: nothing will wake us
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

    def _drop(self, frame: Any) -> None:
        self.lost += frame.drop()

    def _drop_pending(self) -> None:
        self.lost += len(self._pending)
        self._framed += len(self._pending)
        self._pending.clear()

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

    def on_recall(self) -> bool:
        if self._finished:
            return False
        self._flush()
        if self._line.waiting:
            self._pump()
        if self._line.waiting or self._line.granted:
            return False
        self._give_up()
        return True

    def hang_up(self) -> None:
        if not self._finished:
            self._hung_up = True
            self._end()

    # -- accounts, and the end

    @property
    def sent(self) -> int:
        return self._framed + len(self._pending)

    def _discard(self) -> None:
        self._framed += 1

    @property
    def closed(self) -> bool:
        return self._hung_up or self._finished

    def flush(self) -> None:
        if self._pending:
            self._flush()

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
        await self._carrier.arrived(self.sent)

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
        await self._carrier.parted()

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
