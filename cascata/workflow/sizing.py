"""How large a batch should be, by what the ones before it took.

The first batches hold one item. Later ones hold what takes `TARGET_S` of work, as measured, so that sending a batch
costs little beside it, and no more than their share of what is left, so that all workers end together (guided
self-scheduling: Polychronopoulos and Kuck 1987).
"""

from __future__ import annotations

from typing import Final

__all__ = ["TARGET_S", "BatchSize"]

TARGET_S: Final = 0.075
GROWTH: Final = 8
"""A batch is at most so many times the largest that was measured: what was measured on few items is not sure."""

_WEIGHT: Final = 0.5
"""Of the newest measurement, against all before it."""


class BatchSize:
    """The size of the next batch.

    Args:
        workers: that share the batches.
        items: in all; None: nobody knows.
    """

    __slots__ = ("_each_s", "_largest", "_left", "_workers")

    def __init__(self, workers: int, items: int | None) -> None:
        self._workers = workers
        self._left = items
        self._each_s: float | None = None
        self._largest = 0

    def measured(self, items: int, seconds: float) -> None:
        """A batch of so many items took so many seconds of work."""
        each = seconds / items
        self._each_s = each if self._each_s is None else (1 - _WEIGHT) * self._each_s + _WEIGHT * each
        self._largest = max(self._largest, items)

    def next(self) -> int:
        """The size of the next batch, at least 1."""
        if self._each_s is None:
            return 1
        most = GROWTH * self._largest
        size = most if self._each_s * most <= TARGET_S else int(TARGET_S / self._each_s)
        if self._left is not None:
            size = min(size, -(-self._left // (2 * self._workers)))
        return max(1, size)

    def taken(self, items: int) -> None:
        """So many items have been taken from the data."""
        if self._left is not None:
            self._left = max(0, self._left - items)
