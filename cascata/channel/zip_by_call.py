"""Zips items by the `live.call` that they belong to, whatever overtook them or was left out on their way.

    port a: A1 B1 C1 ──> [ A1 waits ] ──> B1 C1 …          port b's B2 came first: the group (B1, B2) is complete,
    port b: B2 C2 ─────> [          ]                      and A1 waits for A2, or until its call has ended

Items that belong to no call are zipped in the order in which they came, as at any synchronised group.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Arrival", "ZipByCall"]

Arrival = tuple[Any, Mapping[int, int]]
"""An item, and the edges that it came on (see `base.Reader.last_edges`)."""


class ZipByCall:
    """The items of one synchronised group that wait for their partners.

    Args:
        ports: of the group, in the order in which `add` returns their items.
    """

    def __init__(self, ports: Sequence[str]) -> None:
        self._ports = tuple(ports)
        self._waiting: dict[str, dict[tuple[int, ...], deque[Arrival]]] = {port: {} for port in ports}
        """Port -> calls -> their items there, in the order in which they came. No calls have items at every port."""

    def add(self, port: str, calls: tuple[int, ...], came: Arrival) -> list[Arrival] | None:
        """An item has come.

        Args:
            port: where it has.
            calls: the numbers of those that it belongs to; items of no call are partners of one another.
            came: the item.

        Returns:
            The item and its partners, in the order of the ports; None while one is missing.
        """
        self._waiting[port].setdefault(calls, deque()).append(came)
        if not all(calls in waiting for waiting in self._waiting.values()):
            return None
        met = []
        for each in self._ports:
            waiting = self._waiting[each]
            met.append(waiting[calls].popleft())
            if not waiting[calls]:
                del waiting[calls]
        return met

    def waiting(self, port: str, calls: tuple[int, ...] = ()) -> int:
        """How many items of some calls (or of none) wait at a port."""
        return len(self._waiting[port].get(calls, ()))

    def empty(self, port: str) -> bool:
        """Whether nothing waits at a port."""
        return not self._waiting[port]

    def forget(self, oldest: int) -> list[Arrival]:
        """Takes out what belongs to calls before that one, whose callers wait no longer; and returns it."""
        gone: list[Arrival] = []
        for waiting in self._waiting.values():
            # Calls begin in the order of their numbers: behind items of one that goes on, none need be looked for now.
            unwanted = []
            for calls in waiting:
                if calls:
                    if calls[-1] >= oldest:
                        break
                    unwanted.append(calls)
            for calls in unwanted:
                gone += waiting.pop(calls)
        return gone

    def clear(self) -> list[Arrival]:
        """Takes out all that waits, and returns it."""
        gone = [came for waiting in self._waiting.values() for each in waiting.values() for came in each]
        for waiting in self._waiting.values():
            waiting.clear()
        return gone
