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
from dataclasses import dataclass
from socket import AF_UNIX, SO_SNDBUF, SOCK_CLOEXEC, SOCK_SEQPACKET, SOL_SOCKET, socket, socketpair
from time import perf_counter
from typing import Any, Final

from ..channel.base import DONE, Pending, Tally
from ..errors import ChannelClosed
from . import frames
from .credit import credit_pipe, give, take
from .hub import HUNG_UP, READABLE, WRITABLE, Hub

__all__ = ["CrossingReader", "CrossingWriter", "Pair", "count_unread", "make_pair"]

FLUSH_S: Final = 0.0002
"""An item waits no longer than this for others to join its frame."""

SLICE_S: Final = 0.001
"""A writer that never waits lets the loop turn after this many seconds."""

SHARED_WORK_S: Final = 0.0002
"""Work in one frame, at most, when several processes read: so that none holds what another could do."""

SOCKET_BYTES: Final = 1 << 20

_RETRY_S: Final = 0.001


@dataclass(slots=True)
class Pair:
    """The four ends of a crossing channel, as fds, and its capacity in items."""

    send: int
    receive: int
    take: int
    give: int
    capacity: int

    def close(self) -> None:
        for fd in (self.send, self.receive, self.take, self.give):
            os.close(fd)


def make_pair(capacity: int) -> Pair:
    """Makes the kernel's side of a crossing channel."""
    near, far = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    near.setsockopt(SOL_SOCKET, SO_SNDBUF, SOCKET_BYTES)
    near.setblocking(False)
    far.setblocking(False)
    try:
        reading, writing, capacity = credit_pipe(capacity)
    except BaseException:
        near.close()
        far.close()
        raise
    return Pair(near.detach(), far.detach(), reading, writing, capacity)


class CrossingWriter:
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

    def __init__(
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
        self.refusal: Callable[[], BaseException | None] = lambda: ChannelClosed("the channel has no reader any more")
        self.blocked_s = 0.0
        self.paused_s = 0.0
        self.edge = edge
        self.lost = 0
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._socket = socket(fileno=os.dup(send))
        self._credit = os.dup(take_credits)
        self._give = None if give_credits is None else os.dup(give_credits)
        self._unsent: deque[frames.Frame] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._drained: asyncio.Future[None] | None = None
        self._hung_up = False
        self._over = False  # hung up, or stopped
        self._finished = False
        hub.watch(self._credit, READABLE, self._on_credit)
        hub.watch(self._socket.fileno(), WRITABLE, self._on_socket)

        most = max(1, capacity // (2 * share))
        fill = most if work is None else 1  # items that go into one frame, at most
        credit = self._credit
        credits = 0
        taken = 0  # credits taken, less those given back: the items put, and the credits in hand
        armed = False
        flushed_at = turned = perf_counter()
        pending: list[Any] = []
        call_soon = self._loop.call_soon

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
            if self._over or self._waiting or perf_counter() - turned > SLICE_S or not top_up():
                return Pending(lambda: put_later(item), forgotten)
            return put(item)

        def top_up() -> int:
            nonlocal credits, taken
            credits = take(credit, most)
            taken += credits
            return credits

        async def put_later(item: Any) -> None:
            nonlocal taken, turned
            began = perf_counter()
            if began - turned > SLICE_S:
                await asyncio.sleep(0)
                turned = perf_counter()
                self.paused_s += turned - began
            first = True  # the first wait is behind those who wait already, a further one keeps its turn
            while not self._over and ((first and self._waiting) or not (credits or top_up())):
                waiter = self._loop.create_future()
                if first:
                    self._waiting.append(waiter)
                else:
                    self._waiting.appendleft(waiter)
                first = False
                began = perf_counter()
                try:
                    await waiter
                except asyncio.CancelledError:
                    if waiter in self._waiting:
                        self._waiting.remove(waiter)
                    else:
                        self._wake_next()
                    raise
                finally:
                    turned = perf_counter()
                    self.blocked_s += turned - began
            if self._over:
                self._wake_next()
                error = self.refusal()
                if error is not None:
                    raise error
                taken += 1
                self.lost += 1
                return
            put(item)
            self._wake_next()  # credits may be left, here or in the pipe, and nothing else would tell

        def turn() -> None:
            nonlocal armed, turned
            armed = False
            turned = perf_counter()
            flush()
            if credits:
                give_back()

        def give_back() -> None:
            nonlocal credits, taken
            if self._give is not None:
                back, credits = credits, 0
                taken -= back
                give(self._give, back)

        def flush() -> None:
            nonlocal flushed_at, fill
            flushed_at = perf_counter()
            if work is not None:
                each = work()
                fill = max(1, min(most, int(SHARED_WORK_S / each))) if each > 0 else 1
            if not pending:
                return
            items = pending.copy()
            pending.clear()
            if self._hung_up:
                self.lost += len(items)
                return
            for frame in frames.encode(edge, taken - credits, items, bad):
                self._transmit(frame)

        def sent() -> int:
            return taken - credits

        self.put: Callable[[Any], Any] = put
        self._sent = sent
        self._flush = flush
        self._give_back = give_back

    @property
    def sent(self) -> int:
        return self._sent()

    @property
    def waiting(self) -> bool:
        return bool(self._waiting)

    @property
    def closed(self) -> bool:
        return self._hung_up

    def flush(self) -> None:
        self._flush()

    def _transmit(self, frame: frames.Frame) -> None:
        if not self._unsent:
            try:
                frames.transmit(self._socket, frame)
                return
            except OSError as problem:
                if self._is_over(problem):
                    self._drop(frame)
                    return
        self._unsent.append(frame)

    def _is_over(self, problem: OSError) -> bool:
        """Whether a send failed for good. Otherwise it is tried again, when writable or a little later."""
        if problem.errno in (errno.EAGAIN, errno.EINTR):
            return False
        if problem.errno in (errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM, errno.EMFILE):
            self._loop.call_later(_RETRY_S, self._send_unsent)  # the kernel is short: nothing will wake us
            return False
        self._hang_up()
        return True

    def _send_unsent(self) -> None:
        while self._unsent and not self._finished:
            try:
                frames.transmit(self._socket, self._unsent[0])
            except OSError as problem:
                self._is_over(problem)
                return
            self._unsent.popleft()
        if not self._unsent and self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _drop(self, frame: frames.Frame) -> None:
        self.lost += frames.HEADER.unpack(frame.header)[3]
        if frame.fd >= 0:
            os.close(frame.fd)

    def _on_socket(self, events: int) -> None:
        if events & HUNG_UP:
            self._hang_up()
        elif self._unsent:
            self._send_unsent()

    def _hang_up(self) -> None:
        """No reader is left: what was not sent cannot be."""
        self._hung_up = self._over = True
        while self._unsent:
            self._drop(self._unsent.popleft())
        self._wake_all()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _on_credit(self, events: int) -> None:
        self._wake_next()

    def _wake_next(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _wake_all(self) -> None:
        while self._waiting:
            self._wake_next()

    def stop(self) -> None:
        self._over = True
        self._flush()
        self._give_back()
        self._wake_all()

    async def aclose(self) -> None:
        """Sends what is left, then lets go of the fds. Cancelled: what is left is dropped."""
        if self._finished:
            return
        try:
            self._flush()
            if self._unsent and not self._hung_up:
                self._drained = self._loop.create_future()
                await self._drained
            self._give_back()
        finally:
            self.close()

    def close(self) -> None:
        """Lets go of the fds at once; what was not sent is dropped."""
        if self._finished:
            return
        self._finished = True
        while self._unsent:
            self._drop(self._unsent.popleft())
        self._hub.forget(self._credit)
        self._hub.forget(self._socket.fileno())
        os.close(self._credit)
        if self._give is not None:
            os.close(self._give)
        self._socket.close()


class CrossingReader:
    """The receiving end of a channel that crosses a process border, for one process.

    Args:
        hub: of the running loop.
        receive, give_credits: fds of the channel; this object makes its own of them.
        users: nodes that take from it.
        bad: called with the edge, the count and the error of items that cannot be unpickled.
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
        self._buffer = bytearray(frames.HEADER.size + frames.INLINE_LIMIT + 4096)
        self._came = 0
        self._released = 0
        self._armed = False
        self._takers: deque[asyncio.Future[None]] = deque()
        self._ended = False
        hub.watch(self._socket.fileno(), READABLE, self._on_readable)

    def worked(self, seconds: float) -> None:
        if self._measured is not None:
            self._measured(seconds)

    def taking(self) -> None:
        if not self._armed:
            self._armed = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._armed = False
        if self._users:
            self.release()

    def release(self) -> None:
        owed = self._came - len(self.items) - self._released
        if owed:
            self._released += owed
            give(self._credit, owed)

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
            self._wake_all()
            return True
        view, fd = message
        _, edge, _, count = frames.HEADER.unpack_from(view)
        self._received[edge] = self._received.get(edge, 0) + count
        self._came += count
        try:
            items = frames.decode(view, fd, lambda problem: self._bad(edge, 1, problem)).items
            self.items.extend(items)
            self._tally.came(edge, len(items))
        except Exception as problem:
            self._bad(edge, count, problem)
        finally:
            view.release()
        if len(self.items) > 1 and self._takers:
            self._wake(len(self.items) - 1)
        return True

    async def wait(self) -> bool:
        items = self.items
        while not items:
            if self._ended:
                return False
            if self._receive():
                continue
            self.release()
            taker = self._loop.create_future()
            self._takers.append(taker)
            try:
                await taker
            except asyncio.CancelledError:
                if taker in self._takers:
                    self._takers.remove(taker)
                else:
                    self._wake(1)  # this wake-up was for an item: somebody else must see it
                raise
        return True

    def _on_readable(self, events: int) -> None:
        self._wake(1)

    def _wake(self, count: int) -> None:
        while count > 0 and self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)
                count -= 1

    def _wake_all(self) -> None:
        self._wake(len(self._takers))

    @property
    def ready(self) -> bool:
        return bool(self.items)

    @property
    def ended(self) -> bool:
        return self._ended and not self.items

    def received(self) -> Mapping[int, int]:
        return self._received

    def taken(self) -> Mapping[int, int]:
        return self._tally.settle(len(self.items))

    def last_edge(self) -> int | None:
        self._tally.settle(len(self.items))
        return self._tally.last

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


def count_unread(receive: int) -> dict[int, int]:
    """Takes what is left in a channel, when nobody else reads or writes it any more, and counts it.

    Returns:
        edge -> items.
    """
    left: dict[int, int] = {}
    buffer = bytearray(frames.HEADER.size)
    with socket(fileno=os.dup(receive)) as sock:
        while True:
            try:
                message = frames.receive(sock, buffer)
            except OSError as problem:
                if problem.errno == errno.ECONNRESET:
                    continue
                return left
            if message is None:
                return left
            view, fd = message
            if fd >= 0:
                os.close(fd)
            _, edge, _, count = frames.HEADER.unpack_from(view)
            left[edge] = left.get(edge, 0) + count
