"""An in-port that receives lists: `out >> 3 >= inp` and `out >>= inp`.

channel ── reader.items ──> BatchReader.wait ── a list is full, or the stream ends ──> items ──> node
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from .base import Reader

__all__ = ["BatchReader"]


class BatchReader:
    """A reader whose items are lists of another reader's items. See `base.Reader` for the rules.

    Items are taken as they come, so that a list may be longer than the channel's capacity. At the end of the stream
    comes what is left, unless that is nothing.

    Args:
        reader: where the items come from.
        size: items in a list; None: all of the stream in one list.
    """

    def __init__(self, reader: Reader, size: int | None) -> None:
        self.items: deque[list[Any]] = deque()
        self._reader = reader
        self._size = size
        self._part: list[Any] = []  # of the list that is not full yet
        self._before: Mapping[int, int] = {}  # what had been taken when the last list was complete
        self._last: Mapping[int, int] = {}

    def taking(self) -> None:
        """Nothing to tell: the items of a list were taken out of their channel when the list was made."""

    def release(self) -> None:
        self._reader.release()

    def worked(self, seconds: float) -> None:
        self._reader.worked(seconds / (self._size or 1))

    async def wait(self) -> bool:
        source = self._reader.items
        while not self.items:
            while source and len(self._part) != self._size:
                self._part.append(source.popleft())
            self._reader.release()
            if len(self._part) != self._size:
                if await self._reader.wait():
                    continue
                if not self._part:
                    return False
            self.items.append(self._part)
            self._part = []
            taken = dict(self._reader.taken())
            self._last = {edge: more for edge, items in taken.items() if (more := items - self._before.get(edge, 0))}
            self._before = taken
        return True

    def pass_on(self) -> None:
        self._reader.pass_on()

    @property
    def ready(self) -> bool:
        return bool(self.items) or self._reader.ready

    @property
    def ended(self) -> bool:
        return not self.items and not self._part and self._reader.ended

    def finish(self) -> None:
        self._reader.finish()

    def received(self) -> Mapping[int, int]:
        return self._reader.received()

    def taken(self) -> Mapping[int, int]:
        return self._reader.taken()

    def last_edges(self) -> Mapping[int, int]:
        return self._last

    def close(self) -> Mapping[int, int]:
        return self._reader.close()
