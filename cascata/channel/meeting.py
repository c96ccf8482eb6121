"""Where items of calls meet at a zip: each those of its own call, whatever overtook it or was left out on its way.

    port a: A1 B1 C1 ──> [ A1 waits ] ──> B1 C1 …          port b's B2 came first: the call with (B1, B2) is made,
    port b: B2 C2 ─────> [          ]                      and A1 waits for A2 or until nobody wants it any more

Items that belong to no call meet in the order in which they came, as at any zip.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Came", "Meeting"]

Came = tuple[Any, Mapping[int, int]]
"""An item, and the edges that it came on (see `base.Reader.last_edges`)."""


class Meeting:
    """Items that wait for their partners.

    Args:
        ports: that are zipped.
    """

    def __init__(self, ports: Sequence[str]) -> None:
        self._ports = tuple(ports)
        self._waiting: dict[str, dict[tuple[int, ...], deque[Came]]] = {port: {} for port in ports}
        """Port -> calls -> its items, in the order in which they came. No call has items at every port."""

    def add(self, port: str, calls: tuple[int, ...], came: Came) -> list[Came] | None:
        """An item has come. Returns it with its partners, in the order of the ports, or None: it waits.

        Args:
            port: at which.
            calls: that it belongs to; none is a call like another.
            came: the item.
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

    def forget(self, oldest: int) -> list[Came]:
        """Gives back what belongs to calls before that one, which nobody waits for any more."""
        gone: list[Came] = []
        for waiting in self._waiting.values():
            # Calls come about in their order: what is behind one that is still wanted can wait for its turn.
            unwanted = []
            for calls in waiting:
                if calls:
                    if calls[-1] >= oldest:
                        break
                    unwanted.append(calls)
            for calls in unwanted:
                gone += waiting.pop(calls)
        return gone

    def clear(self) -> list[Came]:
        """Gives back all that waits."""
        gone = [came for waiting in self._waiting.values() for each in waiting.values() for came in each]
        for waiting in self._waiting.values():
            waiting.clear()
        return gone
