"""The receiving end of a channel that a broker keeps: see `brokered_writer` for how it works with the sending one."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, Final

from ...channel.base import Tally
from ...channel.turns import SLICE_S
from ...channel.waiting_line import LONGEST_LOOK_S, LOOK_S
from ..codec.decode import decode
from ..ends.budget import Surcharges
from ..shared.loops import InLoop
from .station import Station
from .stream_frames import Frame, Kind

__all__ = ["BrokeredReader"]

AHEAD_S: Final = 0.002
"""A reader far from its channel's home asks for the next frame while it works on one that is less work than this."""


class BrokeredReader:
    """The receiving end of a channel, for one worker.

    Args:
        station: of this worker.
        channel: its id.
        home: the worker that keeps it.
        users: nodes that take from this end.
        bad: called with the edge, the count and the error of items that cannot be unpickled.
        seen: called with the edge of each frame that comes in, and how many items have come in on it.
    """

    def __init__(
        self,
        station: Station,
        channel: int,
        home: int,
        *,
        users: int = 1,
        bad: Callable[[int, int, BaseException], None],
        seen: Callable[[int, int], None] = lambda edge, total: None,  # noqa: ARG005
    ) -> None:
        self.items: deque[Any] = deque()
        self._channel = channel
        self._far = home != station.me
        self._call = InLoop()
        self._loop = asyncio.get_running_loop()
        self._users = users
        self._bad = bad
        self._seen = seen
        self._frames: deque[Frame] = deque()  # came, and not read yet
        self._heard = 0  # frames of items that came
        self._closed = False
        self._closing = threading.Lock()  # a frame either came before the end was closed, or after
        self._awaits_frame = False
        self._asked = False
        self._work_s = 0.0
        self._received: dict[int, int] = {}  # edge -> items that came in here
        self._tally = Tally()
        self._came = 0
        self._released = 0
        self._surcharges = Surcharges()
        self._armed = False
        self._looking = False
        self._look_s = LOOK_S
        self._turned = perf_counter()
        self._takers: deque[asyncio.Future[None]] = deque()
        self._ended = False
        self._tell = station.add_reader(channel, home, self)

    def worked(self, seconds: float) -> None:
        self._work_s = seconds

    # -- room

    def taking(self) -> None:
        if not self._armed:
            self._armed = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._armed = False
        self._turned = perf_counter()
        self._tell_much()
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
        self._give()

    def _tell_much(self) -> bool:
        """Tells of the room there is, if it is worth it; whether it was."""
        self._give()
        return True

    def _give(self) -> None:
        owed = self._owed()
        if owed and self._users:
            self._tell(Frame(Kind.GIVE, self._channel, owed))

    def _owed(self) -> int:
        owed = self._came - len(self.items) - self._released
        self._released += owed
        return owed + self._surcharges.up_to(self._released) if self._surcharges else owed

    def _owed_at_the_end(self) -> int:
        return self._owed() + len(self.items)

    # -- items

    def hear(self, frame: Frame) -> None:
        with self._closing:
            closed = self._closed
            if not closed:
                self._heard += frame.kind == Kind.DATA
                self._frames.append(frame)
        if closed:
            if frame.kind == Kind.DATA:  # it was under way when the last user left
                self._tell(frame._replace(kind=Kind.RETURN))
        elif self._awaits_frame:
            self._awaits_frame = False
            self._call(self._on_frame)

    def _on_frame(self) -> None:
        self._wake(1)

    def _ask(self) -> None:
        """Wants the next frame; tells what was taken as well."""
        self._asked = True
        self._tell(Frame(Kind.ASK, self._channel, self._owed(), int(self._work_s * 1e9)))

    def _receive(self) -> bool:
        """Takes one frame if there is one. True when there may be items, or the end has come."""
        if not self._frames:
            return False
        frame = self._frames.popleft()
        self._asked = False
        if frame.kind == Kind.END:
            self._ended = True
            self._wake(len(self._takers))
            return True
        edge, count = frame.id, frame.amount
        received = self._received[edge] = self._received.get(edge, 0) + count
        self._seen(edge, received)
        self._came += count
        if frame.extra:
            self._surcharges.append((self._came, frame.extra))
        items = self._opened(frame)
        self.items.extend(items)
        if items:
            self._tally.came(edge, len(items))
            if self._far and 0 < self._work_s * count < AHEAD_S:
                self._ask()
        return True

    def _opened(self, frame: Frame) -> list[Any]:
        """The items of a frame; those that cannot be unpickled have failed."""
        edge = frame.id
        try:
            return decode(edge, frame.amount, self._bad, *frame.parts())
        except BaseException as problem:  # of an item's own code, which may raise anything
            self._bad(edge, frame.amount, problem)
            return []

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
            if not self._asked:
                self._ask()
            else:
                self.release()
            self._awaits_frame = True
            if self._frames:
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

    def _share(self) -> None:
        """There are items. Sees that others who wait here get those that this one leaves, and what else has come."""
        while self._takers and len(self.items) <= len(self._takers) and not self._ended:
            if not self._asked and not self._frames:
                self._ask()
            if not self._receive():
                self._awaits_frame = True
                if not self._frames:
                    break
        self._wake(len(self.items) - 1)

    def pass_on(self) -> None:
        if self.items:
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
        self.finish()  # a task of the caller's may still come here, after a run that failed: nothing would wake it
        self._tally.settle(len(self.items))
        with self._closing:
            self._closed = True
        for frame in self._frames:  # another reader may take these
            if frame.kind == Kind.DATA:
                self._tell(frame._replace(kind=Kind.RETURN))
        self._tell(Frame(Kind.DONE, self._channel, self._owed_at_the_end(), self._heard))
        return self._tally.left()
