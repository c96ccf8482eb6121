"""A graph as it was written, in plain data: what is saved and loaded.

    Graph (dsl) <── draft ──> Outline <── write, read ──> JSON

A `GraphSpec` is what a graph comes to; an `Outline` is how it was said, so that a loaded graph still has its groups
and subgraphs under their names. Components are text here, "module:qualified.Name": finding the class is for the
graph language to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from ..model import Endpoint, StateArgs
from ..records import dataclass

__all__ = ["Batch", "ConnectionOutline", "GraphOutline", "NodeOutline", "Settings", "SubgraphOutline"]

Batch = int | Literal["all"] | None


@dataclass(frozen=True, slots=True)
class Settings:
    """What was said to one node: values for its in-ports, arguments for its states, what triggers it."""

    constants: Mapping[str, Any] = field(default_factory=dict)
    states: Mapping[str, StateArgs] = field(default_factory=dict)
    triggers: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class NodeOutline:
    """A node, or a group of nodes. `size` is None for a node; `settings` has one entry for each member."""

    name: str
    component: str
    settings: tuple[Settings, ...] = (Settings(),)
    size: int | None = None
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class ConnectionOutline:
    """A connection as it was written; the port of a group stands for all members."""

    source: Endpoint
    target: Endpoint
    batch: Batch = None
    broadcast: bool = False


@dataclass(frozen=True, slots=True)
class SubgraphOutline:
    """A copy of another graph: the nodes in it (members of groups by their own names), and what it exports."""

    name: str
    nodes: tuple[str, ...]
    exports: Mapping[str, Endpoint]


@dataclass(frozen=True, slots=True)
class GraphOutline:
    """Everything that was said about a graph. Nodes, connections and subgraphs are in the order of definition."""

    nodes: tuple[NodeOutline, ...] = ()
    connections: tuple[ConnectionOutline, ...] = ()
    subgraphs: tuple[SubgraphOutline, ...] = ()
    exports: Mapping[str, Endpoint] = field(default_factory=dict)
    pins: Mapping[str, int] = field(default_factory=dict)
