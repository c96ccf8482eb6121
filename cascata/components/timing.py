"""Nodes that hold items back for a time."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TypeVar

from ..dsl import In, Out, Stream, component
from .checks import above_zero, whole
from .waiting import Nothing, next_by, now

__all__ = ["Delay", "RateLimit"]

T = TypeVar("T")


@component(keeps=False)
async def RateLimit(inp: Stream[T], out: Out[T], per_second: In[float], burst: In[int | None] = None) -> None:
    """Sends no more than so many items in a second, evenly.

        graph.polite = RateLimit
        graph.polite.per_second < 5

    In a group each member has the rate for itself.

    Args:
        inp: the items.
        per_second: items in a second, in the long run; 0.1 is one in ten seconds.
        burst: items that may go out at once when none did for a while. None: as many as fit into 10 ms, at least one;
            timers are not more exact than that.
        out: the same items, in their order.

    Raises:
        ValueError: `per_second` is not a number above 0, or `burst` is not a whole number of at least 1.
    """
    pause = 1 / above_zero("per_second", per_second, "items")
    at_once = max(1, math.floor(per_second / 100)) if burst is None else whole("burst", burst, 1)
    due = now()  # when the next item is due, if all before it had gone out evenly
    async for item in inp:
        early = due - (at_once - 1) * pause - now()
        if early > 0:
            await asyncio.sleep(early)
        due = max(due, now()) + pause
        await out.send(item)


@component(keeps=True)
async def Delay(inp: Stream[T], out: Out[T], seconds: In[float], holds: In[int] = 10_000) -> None:
    """Sends each item so many seconds after it came, in the same order.

        graph.later = Delay
        graph.later.seconds < 1.5

    Args:
        inp: the items.
        seconds: from taking an item to sending it.
        holds: items that are held at most; when there are so many, no further one is taken.
        out: the same items.

    Raises:
        ValueError: `seconds` is not a number above 0, or `holds` is not a whole number of at least 1.
    """
    above_zero("seconds", seconds, "seconds")
    whole("holds", holds, 1)
    held: deque[tuple[float, T]] = deque()

    async def send_first() -> None:
        due, item = held.popleft()
        early = due - now()
        if early > 0:
            await asyncio.sleep(early)
        await out.send(item)

    while (item := await next_by(inp, held[0][0] if held else None)) is not Nothing.MORE:
        if item is not Nothing.YET:
            held.append((now() + seconds, item))
        while held and (held[0][0] <= now() or len(held) >= holds):
            await send_first()
    while held:
        await send_first()
