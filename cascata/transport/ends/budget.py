"""Bytes in a channel, counted in credits: heavy items take more of them, so that few of them fill it.

    budget / capacity = bytes that one credit stands for
    an item of 40 such portions takes 40 credits: one to be put, 39 when its size is known; the reader gives 40 back

Sizes are known when items are pickled: then they have been put. What cannot be paid in full at once is owed, and the
writer puts nothing more before it could: so a channel holds its budget and, for each writer, one item more at most,
and an item above the whole budget passes alone. No item takes more credits than are there for each of its writers:
writers that save for the next put, each with some credits in hand, cannot starve one another.

Since bytes are credits, whoever watches for a run that can no longer move sees a lack of either, and gives room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

__all__ = ["CHANNEL_BYTES", "Purse", "Surcharges", "fill_of"]

CHANNEL_BYTES: Final = 64 << 20
"""Bytes sent and not yet taken in a channel between workers, at most."""


SHARED_WORK_S: Final = 0.0002
"""Work in one frame, at most, when several workers read: so that none holds what another could do."""


def fill_of(work_s: float) -> int:
    """How many items go into one frame when several workers read; `work_s` is the work on one, 0 if nobody knows."""
    return max(1, int(SHARED_WORK_S / work_s)) if work_s > 0 else 1


class Purse:
    """Takes the credits of one writer.

    Args:
        take: takes up to so many credits, and tells how many there were.
        capacity: of the channel, in items.
        share: how many edges write to it.

    Attributes:
        portion: bytes that a credit stands for.
    """

    __slots__ = ("_most", "_owed", "_saved", "_take", "portion")

    def __init__(self, take: Callable[[int], int], capacity: int, share: int) -> None:
        self._take = take
        self._most = max(1, capacity // share)
        self._owed = 0
        self._saved = 0
        self.portion = max(1, CHANNEL_BYTES // capacity)

    def draw(self, most: int) -> int:
        """Takes up to so many credits, or what was owed; 0 when there are none, or not enough, now."""
        if not self._owed:
            return self._take(most)
        self._saved += self._take(self._owed - self._saved)
        if self._saved < self._owed:
            return 0
        saved = self._saved
        self._owed = self._saved = 0
        return saved

    def surcharge(self, nbytes: int, items: int) -> int:
        """Credits that items of so many bytes take beyond one each."""
        nbytes -= nbytes >> 6  # what a pickle adds does not make two portions of one
        return max(0, min(-(-nbytes // self.portion), self._most) - items)

    def pay(self, surcharge: int) -> int:
        """Takes so many, as far as they are there; what is missing is owed. Returns what was taken."""
        paid = self._take(surcharge)
        self._owed = min(self._owed + surcharge - paid, self._most)
        return paid

    def give_up(self) -> int:
        """Credits that were saved, for others: nobody here waits for them."""
        saved, self._saved = self._saved, 0
        return saved


class Surcharges(deque[tuple[int, int]]):
    """What a reader owes for heavy frames beyond a credit for each item: items up to the frame's end, and credits."""

    def up_to(self, taken: int) -> int:
        """Takes out what is owed for those of which all items are among the first so many that came."""
        owed = 0
        while self and self[0][0] <= taken:
            owed += self.popleft()[1]
        return owed
