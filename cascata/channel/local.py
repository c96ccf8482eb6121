"""The channel inside one event loop: a deque, and a line of those who wait.

A writer that has the channel to itself takes room in advance (`room`), so that a put with room costs
one test and one append. Room is handed to waiting writers in the order of their arrival; while
any wait, newcomers queue behind them.

Writers that wait are woken when the reader waits or has done with a batch, or on the loop's
next turn (see `Reader.taking`): waking them for each single item would make both sides take turns.
"""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Callable, Generator, Mapping
from time import perf_counter
from typing import Any, Final

from .base import DONE, Full, Tally
from .line import LONGEST_LOOK_S, LOOK_S, LateWriter, Line
from .turns import SLICE_S
from .unawaited import Forgotten
from .waiter import Waiters

__all__ = ["LocalChannel", "LocalWriter"]

ADVANCE: Final = 256
"""Puts without a look at the clock, at most."""


class LocalChannel:
    """A bounded channel in one event loop; this object is its reader. See `base` for the rules.

    Args:
        capacity: items sent and not yet taken, at most.
        readers: users of the reading end; the channel refuses items when all have closed.
    """

    __slots__ = (
        "_armed",
        "_line",
        "_look_s",
        "_looking",
        "_loop",
        "_only",
        "_open_readers",
        "_waiters",
        "_writers",
        "capacity",
        "items",
        "tally",
    )

    def __init__(self, capacity: int, readers: int = 1) -> None:
        self.capacity: int = capacity
        self.items: deque[Any] = deque()
        self._line = Line()
        self._loop = self._line.loop
        self._waiters = Waiters()
        self._writers: list[LocalWriter] = []
        self._only: LocalWriter | None = None
        self._open_readers = readers
        self.tally: Tally = Tally()  # kept when several edges write
        self._armed = False
        self._looking = False
        self._look_s = LOOK_S

    def writer(self, edge: int = 0, forgotten: Forgotten = lambda _=None: None) -> LocalWriter:
        """A new writer. The channel ends when all have closed: make them all before the first is used."""
        writer = LocalWriter(self, self._line, edge, forgotten)
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
        if self._line.waiting and not self._armed:
            self._armed = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._armed = False
        self.release()

    def release(self) -> None:
        line = self._line
        if line.waiting:
            line.grant(self.capacity - len(self.items) - len(line.granted))

    def pump(self) -> None:
        """Gives room to those who wait, now, and looks for more room as long as any do."""
        self.release()
        if self._line.waiting and not self._looking:
            self._looking = True
            self._look_s = LOOK_S
            self._loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        waited = len(self._line.waiting)
        self.release()
        waits = len(self._line.waiting)
        self._looking = waits > 0
        if waits:
            self._look_s = LOOK_S if waits < waited else min(2 * self._look_s, LONGEST_LOOK_S)
            self._loop.call_later(self._look_s, self._look)

    def worked(self, seconds: float) -> None:
        pass

    @types.coroutine
    def wait(self) -> Generator[Any, None, bool]:
        items = self.items
        waiters = self._waiters
        while not items:
            if not self._writers:
                return False
            if self._line.waiting:
                self.release()
            waiter = waiters.enter()
            try:
                yield waiter
            except BaseException:
                if waiters.leave(waiter):
                    self.pass_on()  # this wake-up was for an item: somebody else must see it
                raise
            waiters.done(waiter)
        return True

    def pass_on(self) -> None:
        if self.items:
            self._waiters.wake()

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
        self._waiters.wake_all()

    def received(self) -> Mapping[int, int]:
        return {}  # between nodes of one loop nothing is ever on its way

    def taken(self) -> Mapping[int, int]:
        if self._only is not None:
            return {self._only.edge: self._only.sent - self._only.lost - len(self.items)}
        return self.tally.settle(len(self.items))

    def last_edges(self) -> Mapping[int, int]:
        if self._only is not None:
            return {self._only.edge: 1}
        self.tally.settle(len(self.items))
        return self.tally.last_edges()

    def close(self) -> Mapping[int, int]:
        self._open_readers -= 1
        if self._open_readers:
            self.pass_on()
            return {}
        if self._only is not None:
            left: Mapping[int, int] = {self._only.edge: len(self.items)}
        else:
            self.tally.settle(len(self.items))
            left = self.tally.left()
        for writer in self._writers:
            writer.end()
        return left

    # -- what writers use

    def gone(self, writer: LocalWriter) -> None:
        """A writer has closed; the last one ends the channel."""
        if writer in self._writers:
            self._writers.remove(writer)
        if not self._writers:
            self._waiters.wake_all()


class LocalWriter(LateWriter):
    """The sending end of one edge of a `LocalChannel`."""

    __slots__ = ("_closed", "_give_up", "_sent", "_shared", "channel", "put")

    over: bool
    missed: bool

    def __init__(  # noqa: C901  # functions in a function: what `put` uses is at hand in its closure, and nowhere faster
        self, channel: LocalChannel, line: Line, edge: int, forgotten: Forgotten
    ) -> None:
        super().__init__(edge, line, forgotten)
        self.channel: LocalChannel = channel
        self._closed = False
        self._shared = False
        self._pump = channel.pump
        self._room_back = channel.release
        room = 0  # puts that need no further look at the channel
        sent = 0  # items taken, and room taken in advance
        append = channel.items.append
        items = channel.items
        waiters = channel._waiters
        idle = waiters.idle
        turns = line.turns
        tally = channel.tally

        def put(item: Any) -> Any:
            nonlocal room
            if room:
                room -= 1
                append(item)
                if idle:
                    waiters.wake()
                return DONE
            return look(item)

        def look(item: Any) -> Any:
            nonlocal room, sent
            free = channel.capacity - len(items)
            if (
                free <= 0
                or self.over
                or self.unbegun
                or line.waiting
                or line.granted
                or perf_counter() - turns.turned > SLICE_S
            ):
                return self.later(item)
            if self._shared:
                tally.came(edge)
            elif free > 2:
                room = min(free, ADVANCE) - 2  # the put that takes the last room comes here again
                sent += room
            sent += 1
            append(item)
            if idle:
                waiters.wake()
            return full if free == 1 else DONE

        def let_read() -> None:
            if len(items) >= channel.capacity:
                began = perf_counter()
                waiters.run_within()
                self.blocked_s += perf_counter() - began

        full = Full(let_read)
        self._let_read = let_read

        def take(item: Any) -> None:
            nonlocal sent
            sent += 1
            if self._shared:
                tally.came(edge)
            append(item)
            if idle:
                waiters.wake()

        def discard() -> None:
            nonlocal sent
            sent += 1

        def give_up() -> None:
            """Gives room back that was taken in advance."""
            nonlocal room, sent
            sent -= room
            room = 0

        self.put: Callable[[Any], Any] = put
        self._take = take
        self._discard = discard

        def taken() -> int:
            return sent - room

        self._give_up = give_up
        self._sent = taken

    @property
    def sent(self) -> int:
        return self._sent()

    @property
    def closed(self) -> bool:
        return self._closed or not self.channel._open_readers

    def share(self) -> None:
        """Another writer joined: no room may be taken in advance any more."""
        self._shared = True
        self._give_up()

    def end(self) -> None:
        """No more is taken here; puts that wait are refused."""
        self.over = True
        self._give_up()
        self._line.refuse(self)

    def stop(self) -> None:
        self.end()

    def resume(self) -> None:
        self.over = self.closed

    def flush(self) -> None:
        pass

    async def aclose(self) -> None:
        try:
            await self._settle()
        finally:
            self.close()

    def close(self) -> None:
        """Closes this end; the last writer ends the channel."""
        if not self._closed:
            self.missed = not self.closed
            self._closed = True
            self.end()
            self.channel.gone(self)
