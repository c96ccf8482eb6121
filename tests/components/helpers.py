"""What the tests of ready-made nodes have in common. Workers import this module: no pytest here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

from cascata import Graph, Out, Stream, component, inport, outport
from cascata.dsl import Component
from cascata.observe.report import RunReport
from tests.engine.parts import Each, Notes, keep

__all__ = ["InPairs", "InPairsByThread", "InPairsDecorated", "around", "through"]


@component
async def InPairs(items: Stream[int], pair: Out[list[int]]) -> AsyncIterator[list[int]]:
    """Lists of two, the rest at the end."""
    kept: list[int] = []
    async for item in items:
        kept.append(item)
        if len(kept) == 2:
            yield kept
            kept = []
    if kept:
        yield kept


@component(thread=True)
def InPairsByThread(items: Stream[int], pair: Out[list[int]]) -> Iterator[list[int]]:
    """The same, in a thread."""
    kept: list[int] = []
    for item in items:
        kept.append(item)
        if len(kept) == 2:
            yield kept
            kept = []
    if kept:
        yield kept


@component
@inport("items", stream=True, capacity=3)
@outport("pair")
async def InPairsDecorated(items, pair):  # type: ignore[no-untyped-def]  # this style has no types
    kept = []
    async for item in items:
        kept.append(item)
        if len(kept) == 2:
            await pair.send(kept)
            kept = []
    if kept:
        await pair.send(kept)


def around(component: type[Component], items: Iterable[Any], notes: Notes, **constants: Any) -> Graph:
    """A graph: `each` sends the items, `node` is of the component, and what it sends is noted."""
    graph = Graph()
    graph.each = Each
    graph.node = component
    graph.each.items < list(items)
    for port, value in constants.items():
        getattr(graph.node, port).set(value)
    graph.each.item >> graph.node.inp
    keep(graph, graph.node.out, notes)
    return graph


def through(
    component: type[Component], items: Iterable[Any], notes: Notes, engine: dict[str, Any], **constants: Any
) -> tuple[list[Any], RunReport]:
    """What a node sends for the items, in order, and the report of the run."""
    report = around(component, items, notes, **constants).run(**engine)
    return notes.read(), report
