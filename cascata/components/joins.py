"""Nodes that make one stream of several."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from ..dsl import In, Out, Stream, component

__all__ = ["Merge", "ZipLatest"]

T = TypeVar("T")
U = TypeVar("U")


@component
async def Merge(inp: In[T], out: Out[T]) -> None:
    """Sends on what comes from several senders, as it comes: one port for what many produce.

        graph.all = Merge
        graph.left.out >> graph.all.inp
        graph.right.out >> graph.all.inp

    Every in-port merges what is connected to it. This node gives the merged stream a name: to export it from a
    subgraph, or to connect it to several nodes at once.

    Args:
        inp: connect as many out-ports as you like.
        out: all of their items; those of one sender in its order.
    """
    await out.send(inp)


@component(keeps=True)
async def ZipLatest(inp: Stream[T], latest: Stream[U], out: Out[tuple[T, U]]) -> None:
    """Sends each item together with the latest value of another stream.

        graph.priced = ZipLatest
        graph.orders.out >> graph.priced.inp
        graph.prices.out >> graph.priced.latest

    Args:
        inp: the items; it ends with them.
        latest: the values. Nothing is sent before the first of them has come; after their end the last one stays.
        out: pairs of an item and a value.

    Raises:
        ValueError: `latest` ended before its first value.
    """
    try:
        value = await anext(latest)
    except StopAsyncIteration:
        raise ValueError("'latest' ended before its first value, so that there is nothing to pair items with") from None

    async def follow() -> None:
        nonlocal value
        async for each in latest:
            value = each

    following = asyncio.create_task(follow())
    try:
        async for item in inp:
            await out.send((item, value))
    finally:
        following.cancel()
        await asyncio.wait([following])
