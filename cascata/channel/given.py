"""What was sent and must not be changed any more: found out for `debug=True`, and costing nothing without.

    send(item) ──> Given: the item, and what it looked like ──┬─ local:    looked at again when it is taken
                                                              └─ crossing: ... when it is pickled for its way,
                                                                           and when others were sent or its node ends

`send` gives an item away. Between nodes of one worker the object itself is handed over, and what crosses is pickled a
moment later: who changes an item after sending it changes what arrives, or not, as it happens.

An item looks like what `pickle` writes for it. What pickle cannot take, and what gives a different pickle each time,
cannot be watched, and passes as it is.
"""

from __future__ import annotations

import pickle
from asyncio import CancelledError
from collections import deque
from collections.abc import Callable
from typing import Any, Final

__all__ = ["CheckedItems", "Given", "Guard", "bare", "checked"]

KEPT: Final = 8
"""Items of an out-port that are looked at once more after they have gone to other workers."""

_NEVER_CHANGE: Final = frozenset({bool, bytes, complex, float, int, range, str, type(None)})


class Given:
    """An item on its way, with what it looked like when it was sent. Arrives as the item alone."""

    __slots__ = ("_changed", "_looked", "item")

    def __init__(self, item: Any, looked: bytes, changed: Callable[[Any], None]) -> None:
        self.item: Any = item
        self._looked: bytes | None = looked
        self._changed = changed

    def check(self) -> bool:
        """Whether the item is what it was. When it is not, that is told, once."""
        if self._looked is not None and _looks(self.item) != self._looked:
            self._looked = None
            self._changed(self.item)
        return self._looked is not None

    def __reduce__(self) -> tuple[Any, ...]:
        self.check()
        return _arrived, (self.item,)


class Guard:
    """Watches what is sent on one out-port.

    Args:
        changed: called with an item that was changed after it was sent.
        keeps: whether nobody here takes over what is sent, so that it can be looked at later, too.
    """

    def __init__(self, changed: Callable[[Any], None], *, keeps: bool) -> None:
        self._changed = changed
        self._keeps = keeps
        self._recent: deque[Given] = deque()

    def given(self, item: Any) -> Any:
        """What to send for an item: the item itself if it cannot be watched."""
        if type(item) is Given:  # sent before, to be let go later
            return item
        if type(item) in _NEVER_CHANGE:
            return item
        looked = _looks(item)
        if looked is None or looked != _looks(item):
            return item
        return Given(item, looked, self._changed)

    def sent(self, item: Any) -> None:
        """An item that `given` gave is on its way."""
        if self._keeps and type(item) is Given:
            self._recent.append(item)
            if len(self._recent) > KEPT:
                self._recent.popleft().check()

    def look(self) -> None:
        """Looks at what was sent last, and lets go of it."""
        while self._recent:
            self._recent.popleft().check()


class CheckedItems(deque[Any]):
    """The items of a channel, each looked at when it is taken."""

    def popleft(self) -> Any:
        return checked(super().popleft())

    def __getitem__(self, index: Any) -> Any:
        return checked(super().__getitem__(index))


def bare(item: Any) -> Any:
    """The item that was sent."""
    return item.item if type(item) is Given else item


def checked(item: Any) -> Any:
    """The item that was sent, looked at again. Raises `CancelledError` when it was changed."""
    if type(item) is Given:
        if not item.check():
            raise CancelledError("the item was changed after it was sent")  # the run is ending for it
        return item.item
    return item


def _arrived(item: Any) -> Any:
    return item


def _looks(item: Any) -> bytes | None:
    """A digest of what pickle writes for an item; None if it cannot."""
    from hashlib import blake2b  # only `debug` needs it

    buffers: list[pickle.PickleBuffer] = []
    try:
        digest = blake2b(pickle.dumps(item, 5, buffer_callback=buffers.append))
        for each in buffers:
            digest.update(each.raw())
    except Exception:  # of a user's class, too
        return None
    return digest.digest()
