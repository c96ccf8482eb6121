"""Puts that had to wait and were not awaited yet: which attempt at a call made them, and whether it has failed.

A call that fails between a `send` and its `await` drops what it has not awaited. That is part of its failure, and not
an `await` that the component forgot: such puts are excused. Calls run side by side, so each put belongs to the attempt
in whose context it was made; tasks that the call makes inherit that.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final, Protocol

__all__ = ["Attempt", "Forgotten", "Unawaited", "attempt"]


class Place(Protocol):
    """Where puts wait to be awaited: a writer, or the buffered sends of a call."""

    def excused(self, those: Unawaited) -> None:
        """The attempt that made them has failed."""


class Unawaited:
    """Puts that one attempt has made at one place.

    Attributes:
        attempt: that made them; None: no call of a runner did.
        count: how many of them were not awaited yet.
        forgotten: how many of them will never be awaited.
        excused: whether the attempt has failed.
    """

    __slots__ = ("attempt", "count", "excused", "forgotten")

    def __init__(self, attempt: Attempt | None) -> None:
        self.attempt: Attempt | None = attempt
        self.count: int = 0
        self.forgotten: int = 0
        self.excused: bool = False


class Forgotten(Protocol):
    """Called with the puts of which one was never awaited; in any thread, perhaps by `__del__`."""

    def __call__(self, those: Unawaited | None = None, /) -> Any: ...


class Attempt:
    """An attempt at a call of a runner; or, one after the other, all calls of a node without options."""

    __slots__ = ("_places",)

    def __init__(self) -> None:
        self._places: dict[Place, Unawaited] = {}

    def at(self, place: Place) -> Unawaited:
        """What it makes at a place from now on."""
        those = self._places.get(place)
        if those is None:
            those = self._places[place] = Unawaited(self)
        return those

    def end(self) -> None:
        """It has ended and not failed."""
        self._places = {}  # they refer to it: freed at once, and not by the garbage collector

    def excuse(self) -> None:
        """It has failed: the puts that it has made so far are excused. Those that its tasks make later are not."""
        places, self._places = self._places, {}
        for place, those in places.items():
            those.excused = True
            place.excused(those)


attempt: Final[ContextVar[Attempt | None]] = ContextVar("cascata-attempt", default=None)
"""The attempt that the running code belongs to."""
