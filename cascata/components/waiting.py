"""Waiting for an item, but not for ever: what the nodes that keep time have in common."""

from __future__ import annotations

import asyncio
import enum
from typing import TypeVar

from ..dsl import Stream

__all__ = ["Nothing", "next_by", "now"]

T = TypeVar("T")


class Nothing(enum.Enum):
    """Why there is no item."""

    YET = "the time has come first"
    MORE = "the stream has ended"


def now() -> float:
    """Seconds by the loop's clock, which never goes back."""
    return asyncio.get_running_loop().time()


async def next_by(stream: Stream[T], when: float | None) -> T | Nothing:
    """The next item, if it comes by a time. One that is there is taken even when the time has passed.

    Args:
        stream: to take it from.
        when: by the loop's clock; None: wait as long as it takes.
    """
    try:
        return await stream.next(None if when is None else max(0.0, when - now()))
    except TimeoutError:
        return Nothing.YET
    except StopAsyncIteration:
        return Nothing.MORE
