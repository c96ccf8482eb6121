"""Frames by calls of the other worker's methods: the way for two workers that cannot connect to each other.

    any thread ── Link.send ──> Outgoing: joined, numbered ── a thread calls ──> Incoming: in order ─> frames
                                    ▲     few on their way         │                (in the I/O thread there)
                                    └───────── answered <──────────┘

What is sent is the same stream of bytes as on a connection (`transport.tcp.stream_frames`), cut where it suits. A call
puts its load into a queue and returns, so an answer says that the load has come. Calls may overtake each other, and
one whose answer got lost is made again: loads have numbers, so the stream keeps its order, and nothing is doubled or
missed. Few calls are on their way at once, and what waits meanwhile leaves together: that is what makes calls bearable.

A worker that cannot be called, as the program that runs the graph, fetches instead: it calls, and the answer is a load.
Nothing here knows whose calls they are: an engine brings a `Reach` for each of the others.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from .buffer_pool import BufferPool
from .stream_frames import Assembler, Chunk, Frame, WireError

if TYPE_CHECKING:
    from .peer_link import Link

__all__ = ["APART", "IN_FLIGHT", "ByCalls", "Incoming", "Load", "Outgoing", "Reach", "UnsureError"]

IN_FLIGHT: Final = 3
"""Calls that are on their way at once, from one worker to one other. More are no faster, and less is sent by each."""

MOST_BYTES: Final = 4 << 20
"""Bytes of one call: from here on a larger one is not faster."""

APART: Final = 64 * 1024
"""Pieces of this size and more are handed to a call as they are; smaller ones are joined."""

DOUBT_S: Final = 2.0
"""Seconds in which a worker that does not answer a call may turn up again."""

AGAIN_S: Final = 0.1
"""Seconds before a call without an answer is made again."""

Load = tuple[int, Sequence[Chunk]]
"""Number, and bytes in pieces."""


class UnsureError(Exception):
    """A call has not been answered: it may have come, or not, and the other end may live."""


class Reach(Protocol):
    """Another worker, whose methods can be called. May block for a moment, so not for the I/O thread.

    The exception of a future is `UnsureError`, or says that the other end is gone. Futures run already: nobody can
    cancel them.
    """

    def frames(self, number: int, pieces: Sequence[Chunk]) -> Future[None]:
        """Has `Station.called` called there."""

    def is_open(self) -> Future[bool]:
        """What `Station.is_open` is there."""


class Outgoing:
    """What is to leave by calls: joined, numbered, few at once. A pure machine."""

    def __init__(self) -> None:
        self._waiting: deque[Chunk] = deque()
        self._flying: dict[int, Sequence[Chunk]] = {}
        self._again: deque[int] = deque()
        self._next = 0

    def add(self, pieces: Iterable[Chunk]) -> None:
        """Takes bytes, which nobody may change any more."""
        self._waiting.extend(pieces)

    def take(self) -> Load | None:
        """What the next call should carry; None when nothing waits, or enough is on its way."""
        if self._again:
            number = self._again.popleft()
            return number, self._flying[number]
        if not self._waiting or len(self._flying) >= IN_FLIGHT:
            return None
        number, self._next = self._next, self._next + 1
        pieces = self._flying[number] = self._joined()
        return number, pieces

    def _joined(self) -> list[Chunk]:
        pieces: list[Chunk] = []
        small: list[Chunk] = []
        room = MOST_BYTES
        while self._waiting and room:
            piece = self._waiting.popleft()
            if len(piece) > room:
                view = memoryview(piece)
                self._waiting.appendleft(view[room:])
                piece = view[:room]
            room -= len(piece)
            if len(piece) < APART:
                small.append(piece)
                continue
            if small:
                pieces.append(b"".join(small))
                small.clear()
            pieces.append(piece)
        if small:
            pieces.append(b"".join(small))
        return pieces

    def answered(self, number: int) -> None:
        """A load has come."""
        del self._flying[number]

    def again(self, number: int) -> None:
        """A load may not have come."""
        self._again.append(number)

    @property
    def idle(self) -> bool:
        """Whether all that was sent has come."""
        return not self._waiting and not self._flying


class Incoming:
    """Puts loads in order. A pure machine."""

    def __init__(self) -> None:
        self._next = 0
        self._early: dict[int, Sequence[Chunk]] = {}

    def came(self, number: int, pieces: Sequence[Chunk]) -> list[Chunk]:
        """Takes a load; returns the bytes, in pieces, which are next in the stream."""
        if number < self._next:
            return []
        self._early[number] = pieces
        ready: list[Chunk] = []
        while self._next in self._early:
            ready.extend(self._early.pop(self._next))
            self._next += 1
        return ready


class ByCalls:
    """Both directions of the way between this worker and one other. Made in the I/O thread.

    Args:
        link: to the other worker.
        loop: of the I/O thread.
        reach: the other worker; None when it fetches.
        received: called with each frame.
        lost: called when nothing comes any more, with the reason; None when the other end has said goodbye.
        pool: what frames are put together in.
    """

    def __init__(
        self,
        link: Link,
        loop: asyncio.AbstractEventLoop,
        reach: Reach | None,
        received: Callable[[ByCalls, Frame], None],
        lost: Callable[[ByCalls, Exception | None], None],
        pool: BufferPool,
    ) -> None:
        self.link: Link | None = link
        self.when_idle: Callable[[], None] | None = None
        """Called, in any thread, when all that was sent has come."""
        self._loop = loop
        self._lost = lost
        self._frames = Assembler(lambda frame: received(self, frame), pool.take)
        self._incoming = Incoming()
        self._outgoing = Outgoing()
        self._over = False
        self._doubted: float | None = None  # since when
        self._given: dict[int, int] = {}  # who fetches -> the load that was given last
        self._turns: dict[int, int] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        if reach is not None:
            self._thread = threading.Thread(target=self._call, args=(reach,), name="cascata-calls", daemon=True)
            self._thread.start()

    # -- out

    def add(self, pieces: Iterable[Chunk]) -> None:
        """Sends bytes, which nobody may change any more; never waits. From any thread."""
        with self._changed:
            if not self._over:
                self._outgoing.add(pieces)
                self._changed.notify()

    def _call(self, reach: Reach) -> None:
        """In a thread of its own: to make a call takes half a millisecond, or longer with many bytes."""
        while True:
            with self._changed:
                load = self._outgoing.take()
                while load is None and not self._over:
                    self._changed.wait()
                    load = self._outgoing.take()
                if self._over or load is None:
                    return
            try:
                answer = reach.frames(*load)
            except Exception as problem:  # whatever the calls are made of
                self._tell(self.abort, problem)
            else:
                answer.add_done_callback(partial(self._answered, load[0]))

    def _answered(self, number: int, answer: Future[None]) -> None:
        """In any thread."""
        problem = answer.exception()
        if problem is None:
            self._has_come(number)
            return
        now = time.monotonic()
        with self._changed:
            began = self._doubted = self._doubted or now
        if isinstance(problem, UnsureError) and now - began < DOUBT_S:
            self._tell(self._loop.call_later, AGAIN_S, self._again, number)
        else:
            self._tell(self.abort, problem)

    def _has_come(self, number: int) -> None:
        with self._changed:
            self._doubted = None
            if self._over:
                return
            self._outgoing.answered(number)
            self._changed.notify()
            idle = self._outgoing.idle
        if idle and self.when_idle is not None:
            self.when_idle()

    def _again(self, number: int) -> None:
        with self._changed:
            self._outgoing.again(number)
            self._changed.notify()

    @property
    def idle(self) -> bool:
        """Whether all that was sent has come."""
        with self._changed:
            return self._outgoing.idle

    def fetch(self, who: int, had: int | None, wait_s: float) -> list[Load] | None:
        """What the next call would carry, for a worker that cannot be called. From any thread; waits a moment for it.

        Args:
            who: which of several that fetch.
            had: number of the last load that it was given, which so is known to have come.
            wait_s: seconds to wait, at most.

        Returns:
            A load, or nothing so far; None when there will be no more.
        """
        until = time.monotonic() + wait_s
        with self._changed:
            # Of two with the same name the earlier one has nobody left who waits for it.
            turn = self._turns[who] = self._turns.get(who, 0) + 1
            last = self._given.pop(who, None)
            if last is not None and last == had:
                self._has_come(last)
            elif last is not None:
                self._outgoing.again(last)
            self._changed.notify_all()
            while not self._over and self._turns[who] == turn:
                load = self._outgoing.take()
                if load is not None:
                    self._given[who] = load[0]
                    return [load]
                left = until - time.monotonic()
                if left <= 0:
                    return []
                self._changed.wait(left)
            return None if self._over else []

    # -- in, in the I/O thread

    def came(self, number: int, pieces: Sequence[Chunk]) -> None:
        """Takes what a call has brought."""
        try:
            for piece in self._incoming.came(number, pieces):
                self._feed(memoryview(piece))
        except WireError as problem:
            self.abort(problem)

    def _feed(self, piece: memoryview) -> None:
        while piece and not self._over:
            room = self._frames.room()
            count = min(len(room), len(piece))
            room[:count] = piece[:count]
            piece = piece[count:]
            self._frames.came(count)

    # -- the end

    def close(self) -> None:
        """The other end needs this way no more. In the I/O thread."""
        self._lost(self, None)

    def abort(self, why: Exception | None) -> None:
        """Nothing more can be sent, or understood. In the I/O thread."""
        if not self._over:
            self._lost(self, why)

    def end(self) -> None:
        """Sends and takes nothing more."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def join(self, wait_s: float) -> None:
        """Waits until the thread that calls has ended, after `end`. A call may hold it up: not for longer than that."""
        if self._thread is not None:
            self._thread.join(wait_s)

    def _tell(self, what: Callable[..., object], *args: object) -> None:
        """Has something done in the I/O thread."""
        with suppress(RuntimeError):  # its loop is closed
            self._loop.call_soon_threadsafe(what, *args)
