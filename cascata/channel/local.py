"""The channel inside one event loop: a deque, and futures for those who wait.

A writer that has the channel to itself takes room in advance (`_room`), so that a put with room costs
one test and one append. Room is handed to waiting writers in the order of their arrival; while
any wait, newcomers queue behind them.

Writers that wait are woken when half the capacity is free, when the reader waits, or on the loop's
next turn (see `Reader.taking`): waking them for each single item would make both sides take turns.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, Final

from ..errors import ChannelClosed
from .base import DONE, Pending, Tally

__all__ = ["LocalChannel", "LocalWriter"]

ADVANCE: Final = 256
"""Puts without a look at the clock, at most."""

SLICE_S: Final = 0.001
"""A writer that never waits lets the loop turn after this many seconds."""


class LocalChannel:
    """A bounded channel in one event loop; this object is its reader. See `base` for the rules.

    Args:
        capacity: items sent and not yet taken, at most.
        readers: users of the reading end; the channel refuses items when all have closed.
    """

    __slots__ = (
        "_armed",
        "_granted",
        "_loop",
        "_only",
        "_open_readers",
        "_takers",
        "_waiting",
        "_writers",
        "capacity",
        "items",
        "tally",
        "turned",
    )

    def __init__(self, capacity: int, readers: int = 1) -> None:
        self.capacity = capacity
        self.items: deque[Any] = deque()
        self._takers: deque[asyncio.Future[None]] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._granted = 0
        self._writers: list[LocalWriter] = []
        self._only: LocalWriter | None = None
        self._open_readers = readers
        self.tally = Tally()  # kept when several edges write
        self._armed = False
        self._loop = asyncio.get_running_loop()
        self.turned = perf_counter()  # when the loop was last seen to turn

    def writer(self, edge: int = 0, forgotten: Callable[[], None] = lambda: None) -> LocalWriter:
        """A new writer. The channel ends when all have closed: make them all before the first is used."""
        writer = LocalWriter(self, edge, forgotten)
        self._writers.append(writer)
        self._only = writer if len(self._writers) == 1 else None
        if self._only is None:
            for each in self._writers:
                each.share()
        return writer

    @property
    def closed(self) -> bool:
        return self._open_readers == 0

    # -- the reading end

    def taking(self) -> None:
        if self._waiting and not self._armed:
            self._armed = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._armed = False
        self.release()

    def release(self) -> None:
        if self._waiting:
            room = self.capacity - len(self.items) - self._granted
            while room > 0 and self._waiting:
                waiter = self._waiting.popleft()
                if not waiter.done():
                    waiter.set_result(None)
                    self._granted += 1
                    room -= 1

    def worked(self, seconds: float) -> None:
        pass

    async def wait(self) -> bool:
        items = self.items
        while not items:
            if not self._writers:
                return False
            self.release()
            taker = self._loop.create_future()
            self._takers.append(taker)
            try:
                await taker
            except asyncio.CancelledError:
                if taker in self._takers:
                    self._takers.remove(taker)
                elif items:
                    self.wake_taker()  # this wake-up was for an item: somebody else must see it
                raise
            self.turned = perf_counter()
        return True

    def wake_taker(self) -> None:
        while self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)
                return

    @property
    def ready(self) -> bool:
        return bool(self.items)

    @property
    def ended(self) -> bool:
        return not self.items and not self._writers

    def grow(self, extra: int) -> None:
        """Makes room for more items."""
        self.capacity += extra
        self.release()

    def finish(self) -> None:
        """Ends the channel although its writers are open: nothing will be put any more."""
        self._writers.clear()
        self._wake_takers()

    def received(self) -> Mapping[int, int]:
        return {}  # between nodes of one loop nothing is ever on its way

    def taken(self) -> Mapping[int, int]:
        if self._only is not None:
            return {self._only.edge: self._only.sent - self._only.lost - len(self.items)}
        return self.tally.settle(len(self.items))

    def last_edge(self) -> int | None:
        if self._only is not None:
            return self._only.edge
        self.tally.settle(len(self.items))
        return self.tally.last

    def close(self) -> Mapping[int, int]:
        self._open_readers -= 1
        if self._open_readers:
            return {}
        if self._only is not None:
            left: Mapping[int, int] = {self._only.edge: len(self.items)}
        else:
            self.tally.settle(len(self.items))
            left = self.tally.left()
        for writer in self._writers:
            writer.share()
        self._wake_waiting()
        return left

    def _wake_waiting(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
                self._granted += 1
        self._waiting.clear()

    def _wake_takers(self) -> None:
        while self._takers:
            self.wake_taker()

    # -- what writers use

    def gone(self, writer: LocalWriter) -> None:
        """A writer has closed; the last one ends the channel."""
        if writer in self._writers:
            self._writers.remove(writer)
        if not self._writers:
            self._wake_takers()

    async def wait_for_room(self, stopped: Callable[[], bool]) -> None:
        """Returns when the caller may append at once, or when there is no reader, or it is stopped."""
        while self._waiting or self._granted or len(self.items) >= self.capacity:
            if self.closed or stopped():
                return
            waiter = self._loop.create_future()
            self._waiting.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._granted -= 1
                    self.release()
                elif waiter in self._waiting:
                    self._waiting.remove(waiter)
                raise
            self._granted -= 1
            if len(self.items) < self.capacity:
                return

    def wake_stopped(self) -> None:
        """Wakes every waiting writer, so that stopped ones notice."""
        self._wake_waiting()


class LocalWriter:
    """The sending end of one edge of a `LocalChannel`."""

    __slots__ = (
        "_advance",
        "_closed",
        "_shared",
        "_stopped",
        "blocked_s",
        "channel",
        "edge",
        "lost",
        "paused_s",
        "put",
        "refusal",
    )

    def __init__(self, channel: LocalChannel, edge: int, forgotten: Callable[[], None]) -> None:
        self.channel = channel
        self.edge = edge
        self.refusal: Callable[[], BaseException | None] = lambda: ChannelClosed("the channel has no reader any more")
        self.blocked_s = 0.0
        self.paused_s = 0.0
        self.lost = 0
        self._stopped = False
        self._closed = False
        self._shared = False
        room = 0  # puts that need no further look at the channel
        sent = 0  # items taken, and room taken in advance
        append = channel.items.append
        items = channel.items
        takers = channel._takers
        tally = channel.tally

        def put(item: Any) -> Any:
            nonlocal room
            if room:
                room -= 1
                append(item)
                if takers:
                    channel.wake_taker()
                return DONE
            return look(item)

        def look(item: Any) -> Any:
            nonlocal room, sent
            if self._stopped or channel._waiting or channel._granted or not channel._open_readers:
                return Pending(lambda: put_later(item), forgotten)
            free = channel.capacity - len(items)
            if free <= 0 or perf_counter() - channel.turned > SLICE_S:
                return Pending(lambda: put_later(item), forgotten)
            room = 1 if self._shared else min(free, ADVANCE)
            sent += room
            if self._shared:
                tally.came(edge)
            return put(item)

        async def put_later(item: Any) -> None:
            nonlocal room, sent
            began = perf_counter()
            full = len(items) >= channel.capacity
            try:
                if full or channel._waiting or channel._granted:
                    await channel.wait_for_room(lambda: self._stopped)
                elif not self._stopped and channel._open_readers:
                    await asyncio.sleep(0)
                    await channel.wait_for_room(lambda: self._stopped)
            finally:
                channel.turned = perf_counter()
                if full:
                    self.blocked_s += channel.turned - began
                else:
                    self.paused_s += channel.turned - began
            if self._stopped or not channel._open_readers:
                error = self.refusal()
                if error is not None:
                    raise error
                if perf_counter() - channel.turned > SLICE_S:
                    await asyncio.sleep(0)
                    channel.turned = perf_counter()
                sent += 1
                self.lost += 1
                return
            if room:  # taken in advance by a later put while this one let the loop turn
                room -= 1
            else:
                sent += 1
            if self._shared:
                tally.came(edge)
            append(item)
            if takers:
                channel.wake_taker()

        def advance(back: bool) -> int:
            """Gives room that was taken in advance back; returns the count of items taken."""
            nonlocal room, sent
            if back:
                sent -= room
                room = 0
            return sent - room

        self.put: Callable[[Any], Any] = put
        self._advance = advance

    @property
    def sent(self) -> int:
        return self._advance(False)

    @property
    def waiting(self) -> bool:
        return bool(self.channel._waiting or self.channel._granted)

    @property
    def closed(self) -> bool:
        return not self.channel._open_readers

    def share(self) -> None:
        """Another writer joined, or the readers left: no room may be taken in advance any more."""
        self._shared = True
        self._advance(True)

    def stop(self) -> None:
        self._stopped = True
        self._advance(True)
        self.channel.wake_stopped()

    def flush(self) -> None:
        pass

    async def aclose(self) -> None:
        self.close()

    def close(self) -> None:
        """Closes this end; the last writer ends the channel."""
        if not self._closed:
            self._closed = True
            self.channel.gone(self)
