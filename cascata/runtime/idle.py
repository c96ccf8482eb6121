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
    """The counts of nodes that cannot move: by them the supervisor knows whether an item is on its way to them.

    Attributes:
        sent: crossing edge -> items sent from here.
        received: crossing edge -> items that came in here.
        awaited: the crossing edges from which an item would make a node move.
        turned: of a part of a cycle: whether anything ever went round, or was there to begin with.
        fed: of a part of a cycle: whether something may still enter it from outside.
    """

    sent: Mapping[int, int]
    received: Mapping[int, int]
    awaited: frozenset[int]
    turned: bool = False
    fed: bool = False


def nothing_on_its_way(rests: Iterable[Rest], written: AbstractSet[int] = frozenset()) -> bool:
    """Whether on each edge that a node waits at, all that was sent has been received.

    Args:
        rests: those of all workers, or of all parts of a cycle.
        written: edges whose writers have ended: all that they sent is in the channel, where a node that waits sees it.
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
