"""Puts that wait: in which order they get room, and what becomes of those that are cancelled or refused.

    put without room ──> Pending ──awaited──> a place in the line ──granted──> room is reserved ──> the item is taken
                            │                      │                                │
                      never awaited:           cancelled, refused:             cancelled, refused:
                      `forgotten`              leaves the line                 the room goes to the next

Room that was granted belongs to the one that it was granted to until that one has run: nobody overtakes. A put
finds room at once only while no earlier one waits, so that a writer's items keep their order.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from time import perf_counter
from typing import Any, Final

from ..errors import CascataError, ChannelClosed
from .base import Pending
from .turns import SLICE_S, Turns, turns
from .unawaited import Forgotten, Unawaited, attempt
from .waiter import Waiter

__all__ = ["BEGINNING_TURNS", "LONGEST_LOOK_S", "LOOK_S", "LateWriter", "Line"]

LOOK_S: Final = 0.001
"""A reader says after a batch what it has taken. Should a batch suspend again and again, the channel looks for itself,
first after this time."""

LONGEST_LOOK_S: Final = 0.064
"""Looks that find nothing become rarer, up to this."""

MOST_FORGOTTEN: Final = 10_000
"""Puts that were never awaited, after which the next one raises: a loop that awaits nothing would never be told."""

BEGINNING_TURNS: Final = 3
"""Turns of the loop that tasks have to begin with a put that was made for them: `wait_for` in a task takes two."""


class Place(Waiter):
    """Where one put waits.

    Attributes:
        room: whether room is reserved for it; else, once it is woken, it is refused.
    """

    __slots__ = ("room",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.room: bool = False

    @property
    def done(self) -> bool:
        return self.woken or self.cancelled


class Line:
    """Those who wait for room in a channel, in one event loop, in the order of their arrival.

    Attributes:
        waiting: places of those without room, and whose they are.
        granted: places of those that have room reserved and did not run yet.
        turns: of the loop.
        thread: that the loop runs in.
    """

    __slots__ = ("_next", "granted", "loop", "thread", "turns", "waiting")

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.waiting: deque[tuple[Place, LateWriter]] = deque()
        self.granted: deque[Place] = deque()
        self._next: deque[Place] | None = None  # those who go on now, while the loop lets them
        self.turns: Turns = turns()
        self.thread: int = threading.get_ident()

    def enter(self, writer: LateWriter) -> Place:
        """A place at the end."""
        place = Place(self.loop)
        self.waiting.append((place, writer))
        return place

    def leave(self, place: Place) -> bool:
        """Gives a place up; whether room had been granted to it."""
        if place in self.granted:
            self.granted.remove(place)
            return True
        for entry in self.waiting:
            if entry[0] is place:
                self.waiting.remove(entry)
                break
        return False

    def grant(self, room: int) -> int:
        """Reserves room for the first in the line; returns how much of it found somebody."""
        granted = 0
        while granted < room and self.waiting:
            place, _ = self.waiting.popleft()
            if not place.cancelled:  # else its task has not run yet
                place.room = True
                self._wake(place)
                self.granted.append(place)
                granted += 1
        return granted

    def refuse(self, writer: LateWriter | None = None) -> None:
        """Sends the puts of one writer away, or all."""
        staying: list[tuple[Place, LateWriter]] = []
        for entry in self.waiting:
            place, whose = entry
            if writer is not None and whose is not writer:
                staying.append(entry)
            elif not place.cancelled:
                self._wake(place)
        self.waiting.clear()
        self.waiting.extend(staying)

    def _wake(self, place: Place) -> None:
        place.woken = True
        if place.awaited:
            if self._next is None:
                self.loop.call_soon(place.go_on)
            else:
                self._next.append(place)

    def let_go_on(self, pump: Callable[[], None]) -> None:
        """Calls what grants room; who gets some goes on at once. Called by the loop: no task is running."""
        following = self._next = deque()
        try:
            pump()
            while following:
                following.popleft().go_on()
        finally:
            self._next = None
            for place in following:  # one before them has ended the program
                self.loop.call_soon(place.go_on)


def _nothing() -> None:
    pass


class LateWriter:
    """What the writers of every kind do with puts that find no room.

    Args:
        edge: id of the edge.
        line: where its puts wait.
        forgotten: called when a put that had to wait was never awaited.

    Attributes:
        over: whether this writer takes no more.
        unbegun: puts that had to wait and were not awaited yet: later ones must not overtake them.
        goes_on: called when the next put has to wait after one was forgotten.
        missed: whether somebody read when this end was closed: what is put from then on is missed.
    """

    __slots__ = (
        "_begun",
        "_discard",
        "_excused",
        "_forgot",
        "_forgotten",
        "_let_read",
        "_line",
        "_look_for_room",
        "_pump",
        "_room_back",
        "_settled",
        "_since",
        "_take",
        "_unawaited",
        "blocked_s",
        "edge",
        "goes_on",
        "lost",
        "missed",
        "outlived",
        "over",
        "paused_s",
        "refusal",
        "unbegun",
    )

    _pump: Callable[[], None]
    """Grants what room there is to the line."""

    _take: Callable[[Any], None]
    """Takes an item that has room."""

    _room_back: Callable[[], None]
    """Makes use of room that was granted and is not needed."""

    _discard: Callable[[], None]
    """Counts an item as sent."""

    put: Callable[[Any], Any]
    """See `Writer`."""

    def __init__(self, edge: int, line: Line, forgotten: Forgotten) -> None:
        self.refusal: Callable[[], BaseException | None] = lambda: ChannelClosed("the channel has no reader any more")
        self.outlived: Callable[[], BaseException | None] | None = None
        self.goes_on: Callable[[], None] = _nothing
        self.edge: int = edge
        self.lost: int = 0
        self.missed: bool = False
        self.blocked_s: float = 0.0
        self.paused_s: float = 0.0
        self.over: bool = False
        self.unbegun: int = 0
        self._begun = 0
        self._since = 0.0
        self._line = line
        self._forgotten = forgotten
        self._forgot = 0
        self._excused = 0  # of the puts that nobody has awaited yet, those of attempts that failed
        self._unawaited = Unawaited(None)  # those of the attempt that put last
        self._settled: asyncio.Event | None = None
        self._let_read = _nothing
        self._look_for_room: Callable[[Place], Coroutine[Any, Any, None]] | None = None

    @property
    def waiting(self) -> bool:
        return self._begun > 0  # what somebody keeps and does not await keeps nobody waiting

    def later(self, item: Any) -> Pending:
        """What `put` returns when the item has to wait.

        Raises:
            CascataError: far too many puts were never awaited.
        """
        if self._forgot:
            if self._forgot > MOST_FORGOTTEN:
                raise CascataError(
                    f"more than {MOST_FORGOTTEN} calls of `send` were not awaited, and their items are lost: write "
                    f"`await port.send(item)`"
                )
            self.goes_on()
        if threading.get_ident() != self._line.thread:  # put when the loop awaits it, by `run_coroutine_threadsafe`
            return Pending(partial(self._put_in_loop, item), partial(self._forget, Unawaited(attempt.get())))
        return _Late(self, item)

    async def _put_in_loop(self, item: Any) -> None:
        await self.put(item)

    def made(self) -> Unawaited:
        """Those that the running attempt makes, with one more."""
        those = self._unawaited
        running = attempt.get()
        if those.attempt is not running or those.excused:
            those = self._unawaited = Unawaited(None) if running is None else running.at(self)
        those.count += 1
        self.unbegun += 1
        return those

    def begin(self, item: Any, those: Unawaited) -> Coroutine[Any, Any, None]:
        """One of those is awaited for the first time."""
        self.unbegun -= 1
        those.count -= 1
        if those.excused:
            self._excused -= 1
        return self._refuse() if self.over else self._put_later(item)

    def forget(self, those: Unawaited) -> None:
        """One of those will never be awaited."""
        self.unbegun -= 1
        those.count -= 1
        if those.excused:
            self._excused -= 1
        else:
            self._forget(those)

    def _forget(self, those: Unawaited) -> None:
        self._forgot += 1
        those.forgotten += 1
        self._forgotten(those)

    @property
    def unawaited(self) -> int:
        return self.unbegun - self._excused

    def excused(self, those: Unawaited) -> None:
        """The attempt that made those has failed."""
        self._excused += those.count
        self._forgot -= those.forgotten

    async def _put_later(self, item: Any) -> None:
        line = self._line
        began = perf_counter()
        if not self._begun:
            self._since = began
        self._begun += 1
        turned = False
        place = line.enter(self)
        try:
            if began - line.turns.turned > SLICE_S:
                await asyncio.sleep(0)
                line.turns.turned = perf_counter()
                self.paused_s += line.turns.turned - self._since
                self._since = line.turns.turned
            if self._look_for_room is not None and not place.done:
                await self._look_for_room(place)
            if not place.done:
                self._pump()
            if not place.done:
                turned = True
                await place
            elif line.granted and line.granted[0] is not place:  # others before it have room, too, and run first
                turned = True
                await asyncio.sleep(0)
        except BaseException:
            if line.leave(place):
                self._room_back()
            raise
        finally:
            # The time since the first of several waiting puts began belongs to all of them, and counts once.
            now = perf_counter()
            self.blocked_s += now - self._since
            self._since = now
            if turned:
                line.turns.turned = now
            self._begun -= 1
            if self._settled is not None and not self._begun:
                self._settled.set()
        if place.room:
            line.granted.remove(place)
            if not self.over:
                self._take(item)
                return self._let_read()
            self._room_back()
        if not self.over:  # refused by a stop that was taken back before this ran
            return await self._put_later(item)
        return await self._refuse()

    async def _refuse(self) -> None:
        error = self.outlived() if self.missed and self.outlived is not None else self.refusal()
        if error is not None:
            raise error
        line = self._line
        if perf_counter() - line.turns.turned > SLICE_S:
            await asyncio.sleep(0)
            line.turns.turned = perf_counter()
        self.lost += 1
        self._discard()

    async def _settle(self) -> None:
        """Waits for the puts that were awaited before, in tasks of their own, and still have no room."""
        while True:
            for _ in range(BEGINNING_TURNS):
                if not self.unbegun:
                    break
                await asyncio.sleep(0)  # tasks that were just made for them begin
            if not self._begun:
                return
            if self._settled is None:
                self._settled = asyncio.Event()
            self._settled.clear()
            await self._settled.wait()


class _Late(Pending):
    """A put that has to wait in its writer's line."""

    __slots__ = ("_item", "_those", "_writer")

    def __init__(self, writer: LateWriter, item: Any) -> None:
        self._coroutine = None
        self._those = writer.made()
        self._writer = writer
        self._item = item

    def _begun(self) -> Coroutine[Any, Any, None]:
        coroutine = self._coroutine
        if coroutine is None:
            coroutine = self._coroutine = self._writer.begin(self._item, self._those)
        return coroutine

    def __del__(self) -> None:
        if self._coroutine is None:
            self._writer.forget(self._those)
