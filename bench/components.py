"""The graphs that are measured.

    throughput   source ──> map ──> sink     source ──> sink
    delay        slow source ──> late sink
    round trip   ask (worker 0) ──> echo (worker 1) ──> hear (worker 0): the way of a question and its answer

Their nodes do as little as a node can, so that what is left is cascata's own.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from bench.items import delays, items, marks, rate
from cascata import Graph, In, Out, State, component, inport

__all__ = ["chain", "delay", "edge", "round_trip"]


def written_down(path: str) -> Iterator[list[float]]:
    """A list of times that is written to a file when its node ends: sinks run in processes of their own."""
    times: list[float] = []
    yield times
    Path(path).write_text(json.dumps(times), encoding="utf-8")


@component
async def Source(count: In[int], kind: In[str], out: Out[Any]) -> None:
    """Sends `count` items as fast as they are taken."""
    send = out.send
    for item in items(kind, count):
        await send(item)


# A capacity is part of a port's declaration, so that each capacity needs classes of its own.


def map_of(capacity: int) -> Any:
    """A node that passes each item on."""

    @component
    @inport("item", capacity=capacity)
    async def Map(item: In[Any], out: Out[Any]) -> None:
        await out.send(item)

    return Map


def sink_of(kind: str, capacity: int) -> Any:
    """A node that reads the clock when the item of each mark comes."""

    @component
    @inport("item", capacity=capacity)
    async def SinkOfInts(
        item: In[int], awaited: In[tuple[int, ...]], times: State[list[float]] = State(written_down)
    ) -> None:
        if item in awaited:
            times.value.append(perf_counter())

    @component
    @inport("item", capacity=capacity)
    async def SinkOfDicts(
        item: In[dict[str, Any]], awaited: In[tuple[int, ...]], times: State[list[float]] = State(written_down)
    ) -> None:
        if item["id"] in awaited:
            times.value.append(perf_counter())

    return SinkOfInts if kind == "ints" else SinkOfDicts


def run_and_read(graph: Graph, sink: Any, count: int, options: dict[str, Any]) -> tuple[list[float], float]:
    """Runs a graph and reads the times that its sink took.

    Returns:
        The times, and the seconds from the call of `graph.run` to its return.

    Raises:
        RuntimeError: not every item arrived; a figure would mean nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "times.json"
        sink.times < str(path)
        began = perf_counter()
        report = graph.run(**options)
        wall = perf_counter() - began
        if report.nodes["sink"].received != count:
            raise RuntimeError(f"{report.nodes['sink'].received} of {count} items arrived\n{report}")
        return json.loads(path.read_text(encoding="utf-8")), wall


def chain(kind: str, capacity: int, count: int, *, pins: Sequence[int] = (), **options: Any) -> dict[str, float]:
    """Items through source, map and sink.

    Args:
        kind: one of `items.KINDS`.
        capacity: of both edges.
        count: of items.
        pins: the workers of source, map and sink; none: where the plan puts them.
        **options: of `graph.run`.

    Returns:
        "rate": items a second while items move, between the two marks; "whole": items a second over the
        whole of `graph.run`, the start of workers and the end included.
    """
    graph = Graph()
    graph.source = Source
    graph.map = map_of(capacity)
    graph.sink = sink_of(kind, capacity)
    graph.source.out >> graph.map.item
    graph.map.out >> graph.sink.item
    for name, worker in zip(("source", "map", "sink"), pins, strict=False):
        graph.pin(graph.nodes[name], worker)
    return _moved(graph, kind, count, options)


def edge(kind: str, capacity: int, count: int, **options: Any) -> dict[str, float]:
    """Items through one edge, from a source on one worker to a sink on another one. Args and returns as of `chain`."""
    graph = Graph()
    graph.source = Source
    graph.sink = sink_of(kind, capacity)
    graph.pin(graph.source, 0)
    graph.pin(graph.sink, 1)
    graph.source.out >> graph.sink.item
    return _moved(graph, kind, count, {"num_workers": 2, **options})


def _moved(graph: Graph, kind: str, count: int, options: dict[str, Any]) -> dict[str, float]:
    graph.source.kind < kind
    graph.source.count < count
    graph.sink.awaited < marks(count)
    times, wall = run_and_read(graph, graph.sink, count, options)
    return {"rate": rate(count, times), "whole": count / wall}


# -- delay of single items


@component
async def SlowSource(count: In[int], pause: In[float], out: Out[float]) -> None:
    """Sends the time, and after each pause again."""
    for _ in range(count):
        await asyncio.sleep(pause)
        await out.send(perf_counter())


@component
async def LateSink(item: In[float], times: State[list[float]] = State(written_down)) -> None:
    """Notes how long ago an item was sent. On Linux all processes read the same clock."""
    times.value.append(perf_counter() - item)


def delay(count: int, pause: float) -> dict[str, float]:
    """How late items arrive over a crossing edge on which nothing else is on its way.

    Args:
        count: of items.
        pause: seconds between two items.

    Returns:
        "median" and "p99", in seconds.
    """
    graph = Graph()
    graph.source = SlowSource
    graph.sink = LateSink
    graph.pin(graph.source, 0)
    graph.pin(graph.sink, 1)
    graph.source.count < count
    graph.source.pause < pause
    graph.source.out >> graph.sink.item
    times, _ = run_and_read(graph, graph.sink, count, {"num_workers": 2})
    return delays(times)


class Turn:
    """Whose turn it is on worker 0, where `Ask` and `Hear` run side by side in one loop.

    A graph has no cycles yet, and needs none here: the answer comes back to the same worker, which lets
    the next question go.
    """

    came: Final = asyncio.Event()


@component
async def Ask(count: In[int], out: Out[float]) -> None:
    """Sends the time, and after each answer again."""
    for _ in range(count):
        Turn.came.clear()
        await out.send(perf_counter())
        await Turn.came.wait()


@component
async def Echo(item: In[float], out: Out[float]) -> None:
    """Answers."""
    await out.send(item)


@component
async def Hear(item: In[float], times: State[list[float]] = State(written_down)) -> None:
    """Notes how long the answer took."""
    times.value.append(perf_counter() - item)
    Turn.came.set()


def round_trip(count: int, **options: Any) -> dict[str, float]:
    """A question and its answer over two crossing edges; the next question follows at once.

    Args:
        count: of questions.
        **options: of `graph.run`.

    Returns:
        "median" and "p99", in seconds.
    """
    graph = Graph()
    graph.ask = Ask
    graph.echo = Echo
    graph.sink = Hear
    graph.pin(graph.ask, 0)
    graph.pin(graph.echo, 1)
    graph.pin(graph.sink, 0)
    graph.ask.count < count
    graph.ask.out >> graph.echo.item
    graph.echo.out >> graph.sink.item
    times, _ = run_and_read(graph, graph.sink, count, {"num_workers": 2, **options})
    return delays(times)
