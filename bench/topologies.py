"""Throughput by the shape of the graph. Every end is a process of its own where the name says how many there are.

    m to n      m sources ──> one stream ──> n sinks, each item to whichever is free
    chain of 5  source ──> map ──> map ──> map ──> sink, on two workers
    fan-out     source ──> four sinks, every item to each, on two workers
    group of 2  source ──> map_0, map_1 ──> sink, on two workers

A sink reads the clock at every item, and tells when its first and its last one came.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from bench.components import Source, map_of
from cascata import Graph, In, State, component, inport

__all__ = ["TOPOLOGIES", "chain_of", "topology"]

TOPOLOGIES: Final = {"1 to 1": (1, 1), "2 to 1": (2, 1), "1 to 2": (1, 2), "2 to 2": (2, 2)}
"""Name to the numbers of sources and sinks of one stream."""

NODES: Final = ("chain of 5", "fan-out of 4", "group of 2")
"""Shapes of several streams."""


class Arrivals:
    """When a sink's items came: the first, the last, and how many."""

    __slots__ = ("count", "first", "last")

    def __init__(self) -> None:
        self.count = 0
        self.first = self.last = 0.0


def noted(folder: str) -> Iterator[Arrivals]:
    """Arrivals that go to a file of their own when the node ends."""
    arrivals = Arrivals()
    yield arrivals
    with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".json", delete=False, encoding="utf-8") as file:
        json.dump([arrivals.count, arrivals.first, arrivals.last], file)


def sink_of(capacity: int) -> Any:
    """A node that notes when items come."""

    @component
    @inport("item", capacity=capacity)
    async def Noting(item: In[Any], arrivals: State[Arrivals] = State(noted)) -> None:
        now = perf_counter()
        seen = arrivals.value
        if not seen.count:
            seen.first = now
        seen.count += 1
        seen.last = now

    return Noting


def topology(name: str, kind: str, capacity: int, count: int) -> dict[str, float]:
    """Items through a shape of graph.

    Args:
        name: of `TOPOLOGIES` or `NODES`.
        kind: one of `items.KINDS`.
        capacity: of every in-port.
        count: of items that all sources send together.

    Returns:
        "rate": items a second that arrived, at all sinks together, between the first and the last arrival.

    Raises:
        RuntimeError: not every item arrived.
    """
    graph = Graph()
    workers, copies = 2, 1
    if name in TOPOLOGIES:
        sources, sinks = TOPOLOGIES[name]
        workers = sources + sinks
        graph.source = Source * sources
        graph.sink = sink_of(capacity) * sinks
        graph.source.out >> graph.sink.item
        for place, node in enumerate([*graph.nodes.values()]):
            graph.pin(node, place)
        graph.source.count < count // sources
        count = count // sources * sources
    else:
        graph.source = Source
        graph.source.count < count
        graph.sink = sink_of(capacity) * 4 if name == "fan-out of 4" else sink_of(capacity)
        if name == "fan-out of 4":
            copies = 4
            graph.source.out.broadcast() >> graph.sink.item
        elif name == "group of 2":
            graph.map = map_of(capacity) * 2
            graph.source.out >> graph.map.item
            graph.map.out >> graph.sink.item
        else:
            _in_a_row(graph, graph.source.out, 3, capacity) >> graph.sink.item
    graph.source.kind < kind
    with tempfile.TemporaryDirectory() as folder:
        graph.sink.arrivals < folder
        graph.run(num_workers=workers)
        found = [json.loads(file.read_text(encoding="utf-8")) for file in Path(folder).glob("*.json")]
    return {"rate": _rate(found, count * copies)}


def _rate(found: Sequence[Sequence[float]], expected: int) -> float:
    arrived = sum(count for count, _, _ in found)
    if arrived != expected:
        raise RuntimeError(f"{arrived} of {expected} items arrived")
    began = min(first for count, first, _ in found if count)
    return (arrived - 1) / (max(last for _, _, last in found) - began)


def _in_a_row(graph: Graph, out: Any, maps: int, capacity: int) -> Any:
    for number in range(maps):
        node = graph.add(map_of(capacity), f"map_{number}")
        out >> node.item
        out = node.out
    return out


def chain_of(maps: int, capacity: int, count: int) -> float:
    """Seconds for each item through source, so many maps and sink, inside one worker."""
    graph = Graph()
    graph.source = Source
    graph.source.count < count
    graph.source.kind < "ints"
    graph.sink = sink_of(capacity)
    _in_a_row(graph, graph.source.out, maps, capacity) >> graph.sink.item
    with tempfile.TemporaryDirectory() as folder:
        graph.sink.arrivals < folder
        graph.run(num_workers=1)
        found = [json.loads(file.read_text(encoding="utf-8")) for file in Path(folder).glob("*.json")]
    return 1 / _rate(found, count)
