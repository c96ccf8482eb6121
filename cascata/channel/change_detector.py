"""Finds items that a component changes after it has sent them: for `debug=True`, and costing nothing without.

    send(item) ── ChangeDetector.watch ──> WatchedItem: the item and its digest
                                             ├─ local:    `checked` when it is taken
                                             └─ crossing: `check` when it is pickled for its way,
                                                          and once more when others were sent or its node ends

`send` gives an item away. Between nodes of one worker the object itself is handed over, and what crosses is pickled a
moment later: so a component that changes an item after sending it changes what arrives, or not, as it happens.

The digest is of what `pickle` writes for an item. What pickle cannot take, and what gives a different pickle each time,
cannot be watched, and passes as it is.
"""

from __future__ import annotations

import pickle
from asyncio import CancelledError
from collections import deque
from collections.abc import Callable
from typing import Any, Final

__all__ = ["ChangeDetector", "CheckedDeque", "WatchedItem", "bare", "checked"]

RECENT: Final = 8
"""Items of an out-port that are checked once more after they have gone to other workers."""

_NEVER_CHANGE: Final = frozenset({bool, bytes, complex, float, int, range, str, type(None)})


class WatchedItem:
    """An item on its way, with its digest when it was sent. Unpickled, it is the item alone."""

    __slots__ = ("_changed", "_digest", "item")

    def __init__(self, item: Any, digest: bytes, changed: Callable[[Any], None]) -> None:
        self.item = item
        self._digest: bytes | None = digest
        self._changed = changed

    def check(self) -> bool:
        """Whether the item is what it was. The first time that it is not, `changed` is called."""
        if self._digest is not None and _digest(self.item) != self._digest:
            self._digest = None
            self._changed(self.item)
        return self._digest is not None

    def __reduce__(self) -> tuple[Any, ...]:
        self.check()
        return _arrived, (self.item,)


class ChangeDetector:
    """Watches what is sent on one out-port.

    Args:
        changed: called with an item that was changed after it was sent.
        keeps: whether all of it goes to other workers: then no node here may change it, and it is checked later, too.
    """

    def __init__(self, changed: Callable[[Any], None], *, keeps: bool) -> None:
        self._changed = changed
        self._keeps = keeps
        self._recent: deque[WatchedItem] = deque()

    def watch(self, item: Any) -> Any:
        """What to send for an item: the item itself if it cannot be watched."""
        if type(item) is WatchedItem:  # it was kept by `BufferedSends`, and leaves now
            return item
        if type(item) in _NEVER_CHANGE:
            return item
        digest = _digest(item)
        if digest is None or digest != _digest(item):
            return item
        return WatchedItem(item, digest, self._changed)

    def has_left(self, item: Any) -> None:
        """What `watch` returned is on its way."""
        if self._keeps and type(item) is WatchedItem:
            self._recent.append(item)
            if len(self._recent) > RECENT:
                self._recent.popleft().check()

    def check_recent(self) -> None:
        """Checks what was sent last, for the last time."""
        while self._recent:
            self._recent.popleft().check()


class CheckedDeque(deque[Any]):
    """The items of a channel, each checked when it is taken."""

    def popleft(self) -> Any:
        return checked(super().popleft())

    def __getitem__(self, index: Any) -> Any:
        return checked(super().__getitem__(index))


def bare(item: Any) -> Any:
    """The item that was sent."""
    return item.item if type(item) is WatchedItem else item


def checked(item: Any) -> Any:
    """The item that was sent, checked.

    Raises:
        CancelledError: it was changed.
    """
    if type(item) is WatchedItem:
        if not item.check():
            raise CancelledError("the item was changed after it was sent")  # the run is ending for it
        return item.item
    return item


def _arrived(item: Any) -> Any:
    """What a pickled `WatchedItem` becomes."""
    return item


def _digest(item: Any) -> bytes | None:
    """A digest of what pickle writes for an item; None if pickle cannot take it."""
    from hashlib import blake2b  # only `debug` needs it

    buffers: list[pickle.PickleBuffer] = []
    try:
        found = blake2b(pickle.dumps(item, 5, buffer_callback=buffers.append))
        for each in buffers:
            found.update(each.raw())
    except Exception:  # of a user's class, too
        return None
    return found.digest()
