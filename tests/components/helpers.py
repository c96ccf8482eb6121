"""What the tests of ready-made nodes have in common. Workers import this module: no pytest here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cascata import Graph
from cascata.dsl import Component
from cascata.observe.report import RunReport
from tests.engine.parts import Each, Notes, keep

__all__ = ["around", "through"]


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
