"""Nodes that put items together in lists."""

from __future__ import annotations

from collections import deque
from typing import TypeVar

from ..dsl import In, Out, Stream, component
from .checks import above_zero, whole
from .waiting import Nothing, next_by, now

__all__ = ["Batch", "CollectToList", "TimeWindow", "Window"]

T = TypeVar("T")


@component(keeps=True)
async def Batch(
    inp: Stream[T], out: Out[list[T]], size: In[int | None] = None, seconds: In[float | None] = None
) -> None:
    """Puts items together in lists, bounded by their number, by time, or by both.

        graph.batch = Batch
        graph.batch.size < 500
        graph.batch.seconds < 0.2

    Where only the number matters, a batching edge does the same without a node: `out >> 500 >= inp`.

    Args:
        inp: the items.
        size: items in a list; None: as many as come in the time.
        seconds: a list is sent this long after its first item was taken, full or not; None: when it is full.
        out: the lists, none of them empty. What is left is sent at the end.

    Raises:
        ValueError: neither `size` nor `seconds` is given, or one is not a number above 0.
    """
    if size is None and seconds is None:
        raise ValueError("a batch needs a bound: write `node.size < 100`, `node.seconds < 0.5`, or both")
    if size is not None:
        whole("size", size, 1)
    if seconds is not None:
        above_zero("seconds", seconds, "seconds")
    batch: list[T] = []
    due: float | None = None
    while (item := await next_by(inp, due)) is not Nothing.MORE:
        if item is not Nothing.YET:
            batch.append(item)
            if due is None and seconds is not None:
                due = now() + seconds
        if len(batch) == size or (due is not None and now() >= due):
            await out.send(batch)
            batch, due = [], None
    if batch:
        await out.send(batch)


@component(keeps=True)
async def Window(
    inp: Stream[T], out: Out[list[T]], size: In[int], step: In[int] = 1, partial: In[bool] = False
) -> None:
    """Sends lists of neighbours: the last `size` items, every `step` items.

        graph.pairs = Window
        graph.pairs.size < 2

    With `step` equal to `size` nothing overlaps; with a greater one, the items between two windows are in none.

    Args:
        inp: the items.
        size: items in a window.
        step: items from the beginning of a window to that of the next.
        partial: whether the windows that were begun and not filled are sent at the end.
        out: the windows.

    Raises:
        ValueError: `size` or `step` is not a whole number of at least 1.
    """
    whole("size", size, 1)
    whole("step", step, 1)
    window: deque[T] = deque()
    skip = 0
    async for item in inp:
        if skip:
            skip -= 1
            continue
        window.append(item)
        if len(window) == size:
            await out.send(list(window))
            for _ in range(min(step, size)):
                window.popleft()
            skip = max(0, step - size)
    while partial and window:
        await out.send(list(window))
        for _ in range(min(step, len(window))):
            window.popleft()


@component(keeps=True)
async def TimeWindow(inp: Stream[T], out: Out[list[T]], seconds: In[float], step: In[float | None] = None) -> None:
    """Sends lists of what came lately: every `step` seconds, the items of the last `seconds`.

        graph.lately = TimeWindow
        graph.lately.seconds < 60
        graph.lately.step < 10

    The clock starts with the first item. An item belongs to the moment at which this node takes it.

    Args:
        inp: the items.
        seconds: how far a window reaches back from its end.
        step: seconds from the end of a window to that of the next; None: as many as a window has, so that each item is
            in exactly one.
        out: the windows that are not empty. At the end of the stream those that are still open are sent at once.

    Raises:
        ValueError: `seconds` or `step` is not a number above 0.
    """
    above_zero("seconds", seconds, "seconds")
    every = seconds if step is None else above_zero("step", step, "seconds")
    items: deque[tuple[float, T]] = deque()
    started: float | None = None
    closes = 0.0

    async def close() -> None:
        nonlocal closes
        while items and items[0][0] < closes - seconds:
            items.popleft()
        if items:
            await out.send([item for _, item in items])
        closes += every
        while items and items[0][0] < closes - seconds:
            items.popleft()

    while (item := await next_by(inp, closes if items else None)) is not Nothing.MORE:
        came = now()
        while items and closes <= came:
            await close()
        if item is Nothing.YET:
            continue
        if started is None:
            started = came
        if not items:
            closes = started + ((came - started) // every + 1) * every
        items.append((came, item))
    while items:
        await close()


@component(keeps=True)
async def CollectToList(inp: Stream[T], out: Out[list[T]]) -> None:
    """Sends all items as one list at the end; an empty one when there were none.

        graph.all = CollectToList

    All of them are kept until then. The edge `out >>= inp` does the same without a node, but for an empty stream, of
    which it delivers nothing.

    Args:
        inp: the items.
        out: the list.
    """
    await out.send([item async for item in inp])
