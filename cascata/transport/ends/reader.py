"""The receiving end of a channel between workers, over any carrier. How it works with the other: see `writer`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, Final

from ...channel.base import Tally
from ...channel.turns import SLICE_S, turns
from ...channel.waiter import Waiters
from ...channel.waiting_line import LONGEST_LOOK_S, LOOK_S
from ..codec.decode import decode
from .budget import Surcharges
from .carrier import END, ReceivingCarrier
from .spinning import LOOKING_S, Looks

__all__ = ["CrossingReader"]

LOOKS_A_TURN: Final = 100
"""Looks of a reader between two turns of the loop: others may have something to do."""


class CrossingReader:
    """The receiving end of a channel that crosses a process border, for one process.

    Args:
        carrier: what carries the items.
        capacity: of the channel, in items.
        users: nodes that take from it.
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
        bad: Callable[[int, int, BaseException], None],
        seen: Callable[[int, int], None] = lambda edge, total: None,  # noqa: ARG005
        measured: Callable[[float], None] | None = None,
        spin: bool = False,
    ) -> None:
        self._measured = measured
        self._spin = spin
        self._looks = Looks()
        self.items: deque[Any] = deque()
        self._received: dict[int, int] = {}  # edge -> items that came in here
        self._tally = Tally()
        self._carrier = carrier
        self._enough = max(1, capacity // 2)  # to tell of at once
        self._loop = asyncio.get_running_loop()
        self._users = users
        self._bad = bad
        self._surcharges = Surcharges()
        self._seen = seen
        self._came = 0
        self._released = 0
        self._armed = False
        self._looking = False
        self._look_s = LOOK_S
        self._turns = turns()
        self._waiters = Waiters()
        self._ended = False
        carrier.watch(self)

    def worked(self, seconds: float) -> None:
        if self._measured is not None:
            self._measured(seconds)

    # -- room

    def taking(self) -> None:
        if not self._armed:
            self._armed = True
            self._turns.errands += 1
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._armed = False
        self._turns.errands -= 1
        self._turns.turned = perf_counter()
        self._give_at_turn()
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
            self._turns.errands += 1
            self._loop.call_soon(self._turn)

    def _give(self) -> None:
        """Tells of all the room there is, now."""
        if self._users:
            owed = self.owed()
            if owed:
                self._carrier.give(owed)

    def _give_at_turn(self) -> None:
        """The loop has turned since something was taken."""
        self._give()

    def owed(self) -> int:
        """See `carrier.ReceivingUser`."""
        owed = self._came - len(self.items) - self._released
        self._released += owed
        return owed + self._surcharges.up_to(self._released) if self._surcharges else owed

    def owed_at_the_end(self) -> int:
        """See `carrier.ReceivingUser`."""
        return self.owed() + len(self.items)

    # -- items

    def _receive(self) -> bool:
        """Takes one frame if there is one. True when there may be items, or the end has come."""
        message = self._carrier.receive()
        if message is None:
            return False
        if message is END:
            self._ended = True
            self._waiters.wake_all()
            return True
        edge, count, surcharge, body, where = message
        received = self._received[edge] = self._received.get(edge, 0) + count
        self._seen(edge, received)
        self._came += count
        if surcharge:
            self._surcharges.append((self._came, surcharge))
        items = self._opened(edge, count, body, where)
        if items:
            self.items.extend(items)
            self._tally.came(edge, len(items))
        self._carrier.done()
        return True

    def _opened(self, edge: int, count: int, body: Any, where: Any) -> list[Any]:
        """The items of a frame; those that cannot be unpickled have failed."""
        try:
            if where is None:
                return decode(edge, count, self._bad, body)
            return decode(edge, count, self._bad, *self._carrier.find(body, where))
        except BaseException as problem:  # of an item's own code, which may raise anything
            self._bad(edge, count, problem)
            return []

    async def wait(self) -> bool:
        items = self.items
        waiters = self._waiters
        while not items:
            if self._ended:
                return False
            now = perf_counter()
            if now - self._turns.turned > SLICE_S:
                await asyncio.sleep(0)
                self._turns.turned = perf_counter()
                continue
            if self._receive():
                if waiters.idle:
                    self._share()
                continue
            if self._spin and self._looks.due(now):
                self._give()
                if await self._look_again():
                    continue
            if not self._carrier.sleep():
                continue
            waiter = waiters.enter()
            try:
                await waiter
            except BaseException:
                if waiters.leave(waiter):
                    waiters.wake()  # this wake-up was for an item: somebody else must see it
                raise
            waiters.done(waiter)
        return True

    async def _look_again(self) -> bool:
        """Looks for a moment whether something comes. Cancelled: nothing was taken."""
        idle = await self._turns.give_way()
        if self.items or self._ended:
            return True
        until = perf_counter() + LOOKING_S
        while True:
            # Once at least, though the core is needed: the loop has turned since the last look.
            for _ in range(LOOKS_A_TURN if idle else 1):
                if self._receive():
                    if self._waiters.idle:
                        self._share()
                    self._looks.found()
                    return True
            # Who is going to wait has just looked: the loop does not turn in between, and nothing goes by unseen.
            if not idle or perf_counter() >= until:
                break
            await asyncio.sleep(0)
            self._turns.turned = perf_counter()
            if self.items or self._ended:
                return True
        self._looks.in_vain()
        return False

    def _share(self) -> None:
        """There are items. Sees that others who wait here get those that this one leaves, and what else has come."""
        idle = self._waiters.idle
        while idle and len(self.items) <= len(idle) and not self._ended and self._receive():
            pass
        for _ in range(len(self.items) - 1):
            self._waiters.wake()

    def pass_on(self) -> None:
        if self.items:
            self._waiters.wake()

    def on_frame(self) -> bool:
        """See `carrier.ReceivingUser`."""
        self._waiters.run()
        return bool(self._waiters.idle)

    # -- accounts, and the end

    @property
    def ready(self) -> bool:
        return bool(self.items)

    @property
    def ended(self) -> bool:
        return self._ended and not self.items

    def finish(self) -> None:
        self._ended = True
        self._waiters.wake_all()

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
            self._waiters.wake()
            return {}
        self.finish()  # a task of the caller's may still come here, after a run that failed: it looks at no carrier
        self._tally.settle(len(self.items))
        self._carrier.close()
        return self._tally.left()
