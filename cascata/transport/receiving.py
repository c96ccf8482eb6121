"""The receiving end of a channel between processes: see `crossing` for how it works with the sending one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from ..channel.base import Tally
from ..channel.line import LONGEST_LOOK_S, LOOK_S, SLICE_S
from . import frames
from .budget import Surcharges
from .carriers import END, ReceivingCarrier

if TYPE_CHECKING:
    from .arena import Arenas

__all__ = ["CrossingReader"]

SPIN_S: Final = 0.000025
"""Where each part of a run has a core of its own, a reader looks for so long before it waits. After it looked in vain
it does not look at the next wait, then at the next three, and so on: on a machine that others keep busy, looking
only takes time from those who are looked for."""

MOST_UNLOOKED: Final = 255
"""Waits without a look, at most: when things change, that is seen."""

LOOKS_A_TURN: Final = 16
"""Looks of a reader between two turns of the loop: others may have something to do."""


class CrossingReader:
    """The receiving end of a channel that crosses a process border, for one process.

    Args:
        carrier: what carries the items.
        capacity: of the channel, in items.
        users: nodes that take from it.
        arenas: gives those of who sends large items.
        bad: called with the edge, the count and the error of items that cannot be unpickled.
        seen: called with the edge of each frame that comes in, and how many items have come in on it.
        measured: called with the seconds of work that an item took, when several processes read.
        spin: whether each worker has a core of its own.
    """

    def __init__(
        self,
        carrier: ReceivingCarrier,
        capacity: int,
        *,
        users: int = 1,
        arenas: Callable[[], Arenas] | None = None,
        bad: Callable[[int, int, BaseException], None],
        seen: Callable[[int, int], None] = lambda edge, total: None,  # noqa: ARG005
        measured: Callable[[float], None] | None = None,
        spin: bool = False,
    ) -> None:
        self._measured = measured
        self._spin = spin
        self._unlooked = self._in_vain = 0  # waits without a look: still to come, and after the next look in vain
        self.items: deque[Any] = deque()
        self._received: dict[int, int] = {}  # edge -> items that came in here
        self._tally = Tally()
        self._carrier = carrier
        self._enough = max(1, capacity // 2)  # to tell of at once
        self._loop = asyncio.get_running_loop()
        self._users = users
        self._bad = bad
        self._arenas = arenas
        self._surcharges = Surcharges()
        self._seen = seen
        self._came = 0
        self._released = 0
        self._armed = False
        self._looking = False
        self._look_s = LOOK_S
        self._turned = perf_counter()
        self._takers: deque[asyncio.Future[None]] = deque()
        self._ended = False
        carrier.watch(self._on_readable)

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
        self._give()
        if self.items and not self._looking and self._users:
            self._looking = True
            self._look_s = LOOK_S
            self._loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        """A batch that suspends again and again says nothing of what it takes in between."""
        released = self._released
        self._give()
        self._looking = bool(self.items) and self._users > 0
        if self._looking:
            self._look_s = LOOK_S if self._released > released else min(2 * self._look_s, LONGEST_LOOK_S)
            self._loop.call_later(self._look_s, self._look)

    def release(self) -> None:
        owed = self._came - len(self.items) - self._released
        if owed >= self._enough:
            self._give()
        elif owed and not self._armed:  # in small portions it would come back in small frames
            self._armed = True
            self._loop.call_soon(self._turn)

    def _give(self) -> None:
        """Tells of all the room there is, now."""
        owed = self._came - len(self.items) - self._released
        if owed and self._users:
            self._released += owed
            self._carrier.give(owed + self._surcharges.up_to(self._released) if self._surcharges else owed)

    # -- items

    def _receive(self) -> bool:
        """Takes one frame if there is one. True when there may be items, or the end has come."""
        message = self._carrier.receive()
        if message is None:
            return False
        if message is END:
            self._ended = True
            self._wake(len(self._takers))
            return True
        view, fd = message
        _, edge, _, count, surcharge = frames.HEADER.unpack_from(view)
        received = self._received[edge] = self._received.get(edge, 0) + count
        self._seen(edge, received)
        self._came += count
        if surcharge:
            self._surcharges.append((self._came, surcharge))
        try:
            items = frames.decode(view, fd, lambda problem: self._bad(edge, 1, problem), self._arenas).items
        except BaseException as problem:  # of an item's own code, which may raise anything
            self._bad(edge, count, problem)
        else:
            self.items.extend(items)
            self._tally.came(edge, len(items))
        self._carrier.done()
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
            self._give()
            if self._unlooked:
                self._unlooked -= 1
            elif self._spin and await self._look_again():
                continue
            if not self._carrier.sleep():
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

    async def _look_again(self) -> bool:
        """Looks for a moment whether something comes. Cancelled: nothing was taken."""
        until = perf_counter() + SPIN_S
        while True:
            for _ in range(LOOKS_A_TURN):
                if self._receive():
                    if self._takers:
                        self._share()
                    self._in_vain = 0
                    return True
            # Who is going to wait has just looked: the loop does not turn in between, and nothing goes by unseen.
            if perf_counter() >= until:
                break
            await asyncio.sleep(0)
            self._turned = perf_counter()
            if self.items or self._ended:
                return True
        self._unlooked = self._in_vain = min(2 * self._in_vain + 1, MOST_UNLOOKED)
        return False

    def _share(self) -> None:
        """There are items. Sees that others who wait here get those that this one leaves, and what else has come."""
        while self._takers and len(self.items) <= len(self._takers) and not self._ended and self._receive():
            pass
        self._wake(len(self.items) - 1)

    def pass_on(self) -> None:
        if self.items:
            self._wake(1)

    def _on_readable(self) -> bool:
        self._wake(1)
        return bool(self._takers)

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
        self._carrier.close()
        return self._tally.left()
