"""The channel between processes on Linux: a SEQPACKET socket for frames, a pipe for credits.

    put ─> pending ─ flush: one frame ─> [ socket ] ─> receive ─> items ─> popleft
     ▲                                                                        │
     └── credits <──────────────── [ pipe, a byte a free slot ] <── release ──┘

A writer takes up to half of the capacity in credits at once (less when it is not alone), puts items
against them, and flushes at the end of the loop's turn, when the credits run out, and when the last
flush is older than 200 µs: a producer that never suspends must not hold its items back. Before it
takes more credits it sends what it has. A reader gives credits back for what was taken: see
`channel.base.Reader`.

Whoever watches over the run ends the channel by shutting the socket down: for reading when no writer
is left (the reader gets the queued frames first, then the end), altogether when no reader is left.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import deque
from collections.abc import Callable, Mapping
from socket import SO_SNDBUF, SOL_SOCKET, socket
from time import perf_counter
from typing import Any, Final

from ..channel.base import DONE, Tally
from ..channel.line import LONGEST_LOOK_S, LOOK_S, SLICE_S, LateWriter, Line
from . import frames
from .credit import give, take
from .hub import HUNG_UP, READABLE, WRITABLE, Hub
from .pair import Pair, count_unread, make_pair

__all__ = ["CrossingReader", "CrossingWriter", "Pair", "count_unread", "make_pair"]

FLUSH_S: Final = 0.0002
"""An item waits no longer than this for others to join its frame."""

SHARED_WORK_S: Final = 0.0002
"""Work in one frame, at most, when several processes read: so that none holds what another could do."""

LOOKS: Final = 8
"""A writer without credits looks so often for them before it waits: a busy reader gives some back every few
microseconds, and to be woken takes longer. Where it was in vain, the next look is shorter."""

MOST_AT_ONCE: Final = 2048
"""Credits that a writer takes at once, at most: with them it does not look whether the loop should turn."""

_RETRY_S: Final = 0.001


class CrossingWriter(LateWriter):
    """The sending end of one edge that crosses a process border.

    Args:
        hub: of the running loop.
        edge: id of the edge.
        send, take_credits: fds of the channel; this object makes its own of them.
        capacity: of the channel, in items.
        give_credits: where credits that are not used at once are given back, for an edge that is not alone on
            its channel; None for one that is.
        share: how many edges write to the channel.
        work: seconds of work per item as the readers measured it, when several processes read; else None.
        bad: called with an item that cannot be serialised, and why.
        forgotten: called when a put that had to wait was never awaited.
    """

    def __init__(  # noqa: C901  # functions in a function: what `put` uses is at hand in its closure, and nowhere faster
        self,
        hub: Hub,
        edge: int,
        send: int,
        take_credits: int,
        capacity: int,
        *,
        give_credits: int | None = None,
        share: int = 1,
        work: Callable[[], float] | None = None,
        bad: Callable[[Any, Exception], None],
        forgotten: Callable[[], None] = lambda: None,
    ) -> None:
        line = Line()
        super().__init__(edge, line, forgotten)
        self._hub = hub
        self._loop = line.loop
        self._socket = socket(fileno=os.dup(send))
        self._credit = os.dup(take_credits)
        self._give = None if give_credits is None else os.dup(give_credits)
        self._unsent: deque[frames.Frame] = deque()
        self._drained = asyncio.Event()
        self._retrying = False
        self._hung_up = False
        self._finished = False
        self._awaits_credit = self._awaits_socket = False
        hub.watch(self._credit, 0, self._on_credit)
        hub.watch(self._socket.fileno(), 0, self._on_socket)

        most = min(max(1, capacity // (2 * share)), MOST_AT_ONCE)
        fill = most if work is None else 1  # items that go into one frame, at most
        credit = self._credit
        credits = 0
        spare = 0  # credits in hand of which a put must ask first whether others come before it
        taken = 0  # credits taken, less those given back: the items put, and the credits in hand
        patience = LOOKS
        armed = False
        flushed_at = perf_counter()
        pending: list[Any] = []
        call_soon = self._loop.call_soon
        limit = min(frames.INLINE_LIMIT, self._socket.getsockopt(SOL_SOCKET, SO_SNDBUF) // 2)

        def put(item: Any) -> Any:
            nonlocal credits, armed
            if credits:
                credits -= 1
                pending.append(item)
                if not armed:
                    armed = True
                    call_soon(turn)
                if not credits or len(pending) >= fill or perf_counter() - flushed_at > FLUSH_S:
                    flush()
                return DONE
            if (
                self.over
                or self.unbegun
                or line.waiting
                or line.granted
                or perf_counter() - line.turned > SLICE_S
                or not (top_up() or look_again())
            ):
                return self.later(item)
            return put(item)

        def look_again() -> int:
            nonlocal patience
            for _ in range(patience):
                if top_up():
                    patience = LOOKS
                    return credits
            patience = patience // 2 or 1
            return 0

        def top_up() -> int:
            nonlocal credits, spare, taken
            if spare:
                credits, spare = spare, 0
            else:
                credits = take(credit, most)
                taken += credits
            return credits

        def pump() -> None:
            nonlocal credits, spare, taken
            if credits:
                credits, spare = 0, spare + credits
            elif not spare and not line.granted and not self.over:  # who was granted room comes back here
                spare = take(credit, most)
                taken += spare
            hand_out()

        def hand_out() -> None:
            nonlocal spare, armed
            spare -= line.grant(spare)
            if line.waiting and not self._awaits_credit:
                self._awaits_credit = True
                hub.change(credit, READABLE)
            if spare and not armed:
                armed = True
                call_soon(turn)  # gives back what is not used, if others could

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
                    pump()  # credits may be left in the pipe, and nothing else would tell
                elif not self.unbegun:
                    credits, spare = spare, 0
            if not armed:
                armed = True
                call_soon(turn)
            if not (credits or spare or line.granted) or len(pending) >= fill or perf_counter() - flushed_at > FLUSH_S:
                flush()

        def turn() -> None:
            nonlocal armed
            armed = False
            line.turned = perf_counter()
            flush()
            if self._give is not None:
                give_up()

        def give_up() -> None:
            """Lets go of the credits in hand: gives them back, if others could use them."""
            nonlocal credits, spare, taken
            back = credits + spare
            if back:
                credits = spare = 0
                taken -= back
                if self._give is not None:
                    give(self._give, back)

        def flush() -> None:
            nonlocal flushed_at, fill
            flushed_at = perf_counter()
            if work is not None:
                each = work()
                fill = max(1, min(most, int(SHARED_WORK_S / each))) if each > 0 else 1
            # While a frame waits for room in the socket, items wait for it as items: frames may hold fds.
            while pending and not self._unsent:
                if self._hung_up:
                    drop()
                    return
                if work is None or len(pending) <= fill:
                    items = pending.copy()
                    pending.clear()
                else:
                    items = pending[:fill]
                    del pending[:fill]
                for frame in frames.encode(edge, sent() - len(pending), items, refuse, limit):
                    self._transmit(frame)

        def refuse(item: Any, problem: Exception) -> None:
            nonlocal taken
            bad(item, problem)
            # No reader will ever give the credit of this item back.
            if self._give is not None:
                give(self._give, 1)
            elif not self.over:
                taken += 1
                room_back()

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
        self._pending = pending

    @property
    def sent(self) -> int:
        return self._sent()

    @property
    def closed(self) -> bool:
        return self._hung_up or self._finished

    def flush(self) -> None:
        self._flush()

    # -- the socket

    def _transmit(self, frame: frames.Frame) -> None:
        if not self._unsent:
            try:
                frames.transmit(self._socket, frame)
                return
            except OSError as problem:
                if self._is_over(problem):
                    self._drop(frame)
                    return
        self._drained.clear()
        self._unsent.append(frame)
        if not self._awaits_socket:
            self._awaits_socket = True
            self._hub.change(self._socket.fileno(), WRITABLE)

    def _is_over(self, problem: OSError) -> bool:
        """Whether a send failed for good. Otherwise it is tried again, when writable or a little later."""
        if problem.errno == errno.EAGAIN:
            return False
        if problem.errno in (errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM):
            if not self._retrying:
                self._retrying = True
                self._loop.call_later(_RETRY_S, self._retry)  # the kernel is short: nothing will wake us
            return False
        self._hang_up()
        return True

    def _retry(self) -> None:
        self._retrying = False
        self._send_unsent()

    def _send_unsent(self) -> None:
        while self._unsent:
            try:
                frames.transmit(self._socket, self._unsent[0])
            except OSError as problem:
                self._is_over(problem)
                return
            self._unsent.popleft()
            if not self._unsent:
                self._flush()
        self._drained.set()

    def _drop(self, frame: frames.Frame) -> None:
        self.lost += frames.HEADER.unpack(frame.header)[3]
        if frame.fd >= 0:
            os.close(frame.fd)

    def _on_socket(self, events: int) -> None:
        if events & HUNG_UP:
            self._hang_up()
        elif self._unsent:
            self._send_unsent()
        else:  # readers make room all the time: only who waits for it shall be woken
            self._awaits_socket = False
            self._hub.change(self._socket.fileno(), 0)

    def _on_credit(self, events: int) -> None:
        if self._line.waiting:
            self._pump()
        elif events & READABLE:
            self._awaits_credit = False
            self._hub.change(self._credit, 0)

    # -- the end

    def _hang_up(self) -> None:
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

    async def aclose(self) -> None:
        if self._finished:
            return
        try:
            await self._settle()
            self._flush()
            while self._unsent:
                await self._drained.wait()
        finally:
            self.close()

    def close(self) -> None:
        if self._finished:
            return
        self._finished = True
        self._end()
        self._hub.forget(self._credit)
        self._hub.forget(self._socket.fileno())
        os.close(self._credit)
        if self._give is not None:
            give(self._give, len(self._line.granted))  # they will find that it is over
            os.close(self._give)
            self._give = None
        self._socket.close()


class CrossingReader:
    """The receiving end of a channel that crosses a process border, for one process.

    Args:
        hub: of the running loop.
        receive, give_credits: fds of the channel; this object makes its own of them.
        users: nodes that take from it.
        bad: called with the edge, the count and the error of items that cannot be unpickled.
        seen: called with the edge of each frame that comes in, and how many items were sent on it up to then.
        measured: called with the seconds of work that an item took, when several processes read.
    """

    def __init__(
        self,
        hub: Hub,
        receive: int,
        give_credits: int,
        *,
        users: int = 1,
        bad: Callable[[int, int, Exception], None],
        seen: Callable[[int, int], None] = lambda edge, total: None,  # noqa: ARG005
        measured: Callable[[float], None] | None = None,
    ) -> None:
        self._measured = measured
        self.items: deque[Any] = deque()
        self._received: dict[int, int] = {}  # edge -> items that came in here
        self._tally = Tally()
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._socket = socket(fileno=os.dup(receive))
        self._credit = os.dup(give_credits)
        self._users = users
        self._bad = bad
        self._seen = seen
        self._buffer = bytearray(frames.HEADER.size + frames.INLINE_LIMIT)
        self._came = 0
        self._released = 0
        self._armed = False
        self._looking = False
        self._look_s = LOOK_S
        self._turned = perf_counter()
        self._takers: deque[asyncio.Future[None]] = deque()
        self._ended = False
        hub.watch(self._socket.fileno(), READABLE, self._on_readable)

    def worked(self, seconds: float) -> None:
        if self._measured is not None:
            self._measured(seconds)

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
        owed = self._came - len(self.items) - self._released
        if owed and self._users:
            self._released += owed
            give(self._credit, owed)

    # -- items

    def _receive(self) -> bool:
        """Takes one frame if there is one. True when there may be items, or the end has come."""
        while True:
            try:
                message = frames.receive(self._socket, self._buffer)
            except BlockingIOError:
                return False
            except OSError as problem:
                if problem.errno == errno.ECONNRESET:
                    continue  # said once, before frames that are still queued
                raise
            break
        if message is None:
            self._ended = True
            self._wake(len(self._takers))
            return True
        view, fd = message
        _, edge, total, count = frames.HEADER.unpack_from(view)
        self._received[edge] = self._received.get(edge, 0) + count
        self._seen(edge, total)
        self._came += count
        try:
            items = frames.decode(view, fd, lambda problem: self._bad(edge, 1, problem)).items
        except Exception as problem:
            self._bad(edge, count, problem)
        else:
            self.items.extend(items)
            self._tally.came(edge, len(items))
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
            self.release()
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
        while self._takers and len(self.items) <= len(self._takers) and not self._ended and self._receive():
            pass
        self._wake(len(self.items) - 1)

    def pass_on(self) -> None:
        if self.items:
            self._wake(1)

    def _on_readable(self, events: int) -> None:
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
        self._hub.forget(self._socket.fileno())
        self._socket.close()
        os.close(self._credit)
        return self._tally.left()
