"""What an idle worker tells the supervisor, and what follows from it.

A worker is idle when nothing on it can move: each node waits for items, or for room, or has ended (see `idle_watch`).
With its report come the counts that show whether something is still on its way between workers. If nothing is, and all
workers are idle, only more room can help (Parks 1995), or nothing can.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from ..records import dataclass

__all__ = ["LOOK_S", "IdleReport", "Rest", "may_end", "nothing_on_its_way"]

LOOK_S: Final = 0.1
"""Seconds between two looks; what did not change from one to the next is told."""


@dataclass(frozen=True, slots=True)
class Rest:
    """What tells whether something is on its way to nodes that rest.

    Attributes:
        sent: crossing edge -> items sent from here.
        received: crossing edge -> items that came in here.
        awaited: the crossing edges from which an item would make a node move.
    """

    sent: Mapping[int, int]
    received: Mapping[int, int]
    awaited: frozenset[int]
    turned: bool = False
    """Of a part of a cycle: whether anything ever went round, or was there to begin with."""
    fed: bool = False
    """Of a part of a cycle: whether something may still enter it from outside."""


def nothing_on_its_way(rests: Iterable[Rest], written: AbstractSet[int] = frozenset()) -> bool:
    """Whether on each edge that somebody waits at, all that was sent has been received.

    `written` are edges whose writers have ended. All that they sent lies in the channel: who waits there sees it.
    """
    rests = list(rests)
    return all(
        sum(rest.sent.get(edge, 0) for rest in rests) == sum(rest.received.get(edge, 0) for rest in rests)
        for edge in frozenset().union(*(rest.awaited for rest in rests)) - written
    )


def may_end(rests: Iterable[Rest]) -> bool:
    """Whether a cycle that rests has come to its end, rather than never having begun."""
    rests = list(rests)
    return any(rest.turned for rest in rests) or not any(rest.fed for rest in rests)


@dataclass(frozen=True, slots=True)
class IdleReport:
    """The state of an idle worker.

    Attributes:
        rest: whether something is on its way to it.
        blocked: node -> the channels in which it waits for room.
        waiting: node -> the channels from which it waits for items.
        doing: node -> what it waits for, in words.
        moved: grows with everything that the worker does: two reports with the same number are of the same state.
    """

    rest: Rest
    blocked: Mapping[str, frozenset[int]]
    waiting: Mapping[str, frozenset[int]]
    doing: Mapping[str, str]
    moved: int
