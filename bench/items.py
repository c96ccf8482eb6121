"""What is sent through everything that is measured, the same for cascata and for what it is compared with.

Each item is made anew when it is sent: a pickle refers back to an object that it holds already, so that sending one
object again and again would measure something that nobody does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

__all__ = ["KINDS", "delays", "items", "marks", "rate"]

KINDS: Final = ("ints", "dicts")
"""Kinds of small items."""

WARM_UP: Final = 10
"""One item in so many is let through before the clock starts."""


def items(kind: str, count: int) -> Iterable[Any]:
    """`count` new items of a kind, numbered from 0: an int is its number, a dict holds it as "id"."""
    if kind == "ints":
        return range(count)
    return ({"id": number, "name": "reading", "value": number * 0.5} for number in range(count))


def marks(count: int) -> tuple[int, int]:
    """The numbers of the items at whose arrival the clock is read: when a tenth has come, and the last."""
    return count // WARM_UP, count - 1


def rate(count: int, times: Sequence[float]) -> float:
    """Items a second between the two marks.

    Args:
        count: of items sent.
        times: `perf_counter` at the two marks, in seconds.
    """
    first, last = marks(count)
    began, ended = times
    return (last - first) / (ended - began)


def delays(times: Sequence[float]) -> dict[str, float]:
    """The median and the 99th percentile of times of single items, in seconds.

    The first tenth is left out: the other side may still be starting.
    """
    ordered = sorted(times[len(times) // WARM_UP :])
    return {name: ordered[int(share * (len(ordered) - 1))] for name, share in (("median", 0.5), ("p99", 0.99))}
