"""What a reader that may start again has got and not done: in its channel's home, which outlives it.

    home ── a frame, which it keeps ──> reader ── HOLD: the next item is in hand of a call ──> home
                                               <── HELD: it is known ─────────────────────────
                                        the call runs; what it sends arrives
                                               ── OVER: the call's items are done ───────────> home forgets them

A call begins only when the home knows which items it has in hand, and its items are done only when what it sent has
come to where it is kept. So whatever dies at whatever moment, with whatever was on its way: what is in hand of a call
has failed, what is neither in hand nor done waits still, and the next life of the reader gets both back (AGAIN,
ACCOUNT, and the frames).

A pure machine, like the broker that it is a part of: it neither unpickles nor sends.
"""

from __future__ import annotations

import pickle
from collections import deque
from typing import NamedTuple

from ..ends.budget import Surcharges
from .stream_frames import Frame

__all__ = ["Account", "Kept", "Marks", "read_account"]


class Marks(NamedTuple):
    """How far a reader was with a frame.

    Attributes:
        items: how many can be had of it.
        taken: so many of them, from the first one on, are in hand or done.
        held: index of an item -> the call that has it in hand.
        opened: whether it was unpickled.
        begun: how often that was begun.
    """

    items: int
    taken: int
    held: dict[int, int]
    opened: bool
    begun: int


class Account(NamedTuple):
    """What a reader that starts again is told.

    Attributes:
        marks: of each frame that follows, in order.
        came: edge -> items that came to it so far, those of the frames that follow included.
        released: items that it has told it took.
        last: the last call that had an item in hand.
        counts: what it had counted, as of the last time that something failed.
    """

    marks: list[Marks]
    came: dict[int, int]
    released: int
    last: int
    counts: bytes


def read_account(frame: Frame) -> Account:
    """The account in an ACCOUNT frame."""
    marks, *others = pickle.loads(frame.body)
    return Account([Marks(*each) for each in marks], *others)


class _KeptFrame:
    """A frame that is not done."""

    __slots__ = ("at", "begun", "count", "frame", "held", "opened", "taken")

    def __init__(self, frame: Frame, at: int) -> None:
        self.frame = frame
        self.at = at  # items that came, with this frame
        self.count = frame.amount
        self.taken = 0
        self.held: dict[int, int] = {}
        self.opened = False
        self.begun = 0

    @property
    def key(self) -> tuple[int, int]:
        return self.frame.id, self.frame.seq

    @property
    def done(self) -> bool:
        return self.taken >= self.count and not self.held


class Kept:
    """What a home keeps of one reader that may start again."""

    def __init__(self) -> None:
        self._frames: dict[tuple[int, int], _KeptFrame] = {}  # edge and number, in the order in which they went
        self._fresh: deque[_KeptFrame] = deque()  # those with items that no call has had
        self._calls: dict[int, list[tuple[_KeptFrame, int]]] = {}
        self._came: dict[int, int] = {}
        self._total = 0
        self._released = 0
        self._surcharges = Surcharges()
        self._opening: _KeptFrame | None = None
        self._last = 0
        self._counts = b""

    def went(self, frame: Frame) -> None:
        """A frame of items is sent to the reader."""
        self._total += frame.amount
        self._came[frame.id] = self._came.get(frame.id, 0) + frame.amount
        kept = self._frames[frame.id, frame.seq] = _KeptFrame(frame, self._total)
        self._fresh.append(kept)
        if frame.extra:
            self._surcharges.append((self._total, frame.extra))

    def came_back(self, frame: Frame) -> None:
        """The reader has closed and gives back a frame that it has not opened: another one may take it."""
        kept = self._frames.pop((frame.id, frame.seq), None)
        if kept is None:
            return
        self._fresh.remove(kept)
        self._total -= frame.amount
        self._came[frame.id] -= frame.amount
        if (kept.at, frame.extra) in self._surcharges:
            self._surcharges.remove((kept.at, frame.extra))

    def release(self, count: int) -> int:
        """The reader took so many items. Returns the credits that are free by that."""
        self._released += count
        return count + self._surcharges.up_to(self._released)

    def release_all(self, count: int) -> int:
        """As `release`, for a reader that takes no more."""
        self._released += count
        return count + self._surcharges.up_to(self._total + self._released)

    def opening(self, edge: int, number: int) -> None:
        """A frame is about to be unpickled: so the one before it was."""
        if self._opening is not None:
            self._opening.opened = True
        self._opening = self._frames.get((edge, number))
        if self._opening is not None:
            self._opening.begun += 1

    def opened(self, edge: int, number: int, count: int, counts: bytes) -> None:
        """A frame was unpickled, and so many items can be had of it."""
        self._counts = counts or self._counts
        kept = self._frames.get((edge, number))
        if kept is None:
            return
        kept.opened = True
        kept.count = count
        if not count:
            kept.held.clear()
        if kept.taken >= count and kept in self._fresh:
            self._fresh.remove(kept)
        self._forget(kept)

    def hold(self, count: int, call: int) -> None:
        """The next items are in hand of a call."""
        self._last = call
        held = self._calls.setdefault(call, [])
        while count and self._fresh:
            kept = self._fresh[0]
            kept.opened = True
            for index in range(kept.taken, min(kept.taken + count, kept.count)):
                kept.held[index] = call
                held.append((kept, index))
                kept.taken += 1
                count -= 1
            if kept.taken >= kept.count:
                self._fresh.popleft()

    def take_back(self, call: int) -> None:
        """The last call that took items was not begun: they wait again."""
        for kept, index in reversed(self._calls.pop(call, [])):
            kept.held.pop(index, None)
            kept.taken = index
            if not self._fresh or self._fresh[0] is not kept:
                self._fresh.appendleft(kept)

    def over(self, call: int, counts: bytes) -> None:
        """The items in hand of a call are done."""
        self._counts = counts or self._counts
        for kept, index in self._calls.pop(call, ()):
            kept.held.pop(index, None)
            self._forget(kept)

    def _forget(self, kept: _KeptFrame) -> None:
        if kept.done:
            self._frames.pop(kept.key, None)

    def again(self) -> tuple[bytes, list[Frame]]:
        """The reader has a new life.

        Returns:
            Its account, and the frames that it has not done.
        """
        self._opening = None
        marks = [(each.count, each.taken, each.held, each.opened, each.begun) for each in self._frames.values()]
        body = pickle.dumps((marks, self._came, self._released, self._last, self._counts))
        return body, [each.frame for each in self._frames.values()]
