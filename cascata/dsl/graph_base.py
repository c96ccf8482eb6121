"""What a graph holds: nodes, groups and subgraphs, connections, exports and pins.

`Graph`, which is made of this, adds how nodes are written as attributes, and the verbs (`run`, `draw`, `to_json`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Self

from ..errors import DefinitionError
from ..model import Endpoint, GraphSpec
from ..options import suggestion
from .component import Component, Replicas, make_node
from .declare import check_port_name
from .draft import Batch, GraphDraft, GroupDraft, NodeDraft, PortRef
from .group import Group, make_group, make_subgraph
from .inject import home_of
from .operators import is_whole, show
from .ports import InPort, OutPort, Port
from .resolve import resolve
from .vertex import Vertex, node_text

__all__ = ["Edge", "GraphBase"]

_SHOWN: Final = 30


class Edge(NamedTuple):
    """One connection as it was written; a group's port stands for all members."""

    source: Endpoint
    target: Endpoint
    batch: Batch = None
    broadcast: bool = False


class GraphBase:
    """What a graph holds: see `Graph`."""

    __slots__ = ("__weakref__", "_draft", "_home", "_views")

    _draft: GraphDraft
    _home: dict[str, Any] | None
    _views: dict[str, Any]  # nodes, groups and subgraphs

    def __init__(self) -> None:
        self._begin(home_of(sys._getframe(1)))

    def _begin(self, home: dict[str, Any] | None) -> None:
        self._draft = GraphDraft()
        self._home = home
        self._views = {}

    def __getstate__(self) -> GraphDraft:
        return self._draft  # not the names of the module, and not what runs

    def __setstate__(self, draft: GraphDraft) -> None:
        self._begin(None)
        self._draft = draft
        self._show_all()

    def _add(self, name: str, value: object) -> Any:
        if isinstance(value, type) and issubclass(value, Component) and value is not Component:
            self._show_node(self._draft.add_node(name, value))
        elif isinstance(value, Replicas):
            self._show_group(self._draft.add_group(name, value.component, value.size))
        elif isinstance(value, GraphBase):
            self._draft.add_subgraph(name, value._draft)
            self._show_all()
        else:
            raise DefinitionError(f"`graph.{name} = {show(value)}`: {_not_a_node(name, value)}")
        return self._views[name]

    # What users touch is made of the draft, once for each node, so that `graph.x is graph.x`.

    def _show_node(self, draft: NodeDraft) -> Component:
        node = self._views[draft.name] = make_node(draft)
        return node

    def _show_group(self, draft: GroupDraft) -> None:
        self._views[draft.name] = make_group(draft, map(self._show_node, draft.members))

    def _show_all(self) -> None:
        for group in self._draft.groups.values():
            if group.name not in self._views:
                self._show_group(group)
        for node in self._draft.nodes.values():
            if node.name not in self._views:
                self._show_node(node)
        for name, subgraph in self._draft.subgraphs.items():
            if name not in self._views:
                ports = {export: self._port(ref) for export, ref in subgraph.exports.items()}
                self._views[name] = make_subgraph(name, ports)

    def _port(self, ref: PortRef) -> Port:
        port: Port = getattr(self._views[ref.vertex.name], ref.name)
        return port

    @property
    def nodes(self) -> Mapping[str, Component]:
        """Every node by name, members of groups and nodes of subgraphs included, in the order of definition."""
        nodes = {name: self._views[name] for name in self._draft.nodes}
        return MappingProxyType({name: node for name, node in nodes.items() if isinstance(node, Component)})

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Every connection, in the order of definition."""
        links = self._draft.links
        return tuple(Edge(_endpoint(each.source), _endpoint(each.target), each.batch, each.broadcast) for each in links)

    def pin(self, node: Any, worker: int) -> None:
        """Keeps a node, or every member of a group, on one worker.

        Args:
            node: a node or group of this graph, or its name.
            worker: its index; workers count from 0.

        Raises:
            DefinitionError: there is no such node, or the worker is not a whole number of at least 0.
        """
        vertex = self._views.get(node) if isinstance(node, str) else node
        if not isinstance(vertex, Component | Group) or self._views.get(str(vertex)) is not vertex:
            hint = suggestion(node, self._views) if isinstance(node, str) else " Pin a node or a group of this graph."
            raise DefinitionError(f"graph.pin({show(node)}, {worker!r}): no such node in this graph.{hint}")
        if not is_whole(worker, 0):
            raise DefinitionError(
                f"graph.pin({vertex}, {worker!r}): a worker is a whole number of at least 0: they count from 0."
            )
        for member in vertex if isinstance(vertex, Group) else [vertex]:
            self._draft.pins[str(member)] = worker

    def export(self, port: Any, name: str) -> None:
        """Exposes a port where this graph is used in another one: `other.sub = graph` has `other.sub.name`.

        Args:
            port: an in-port or out-port of a node or group of this graph.
            name: under which it is exposed.

        Raises:
            DefinitionError: it is no port of this graph, or the name is taken or reserved.
        """
        if not isinstance(port, InPort | OutPort) or port.ref.vertex.graph is not self._draft:
            raise DefinitionError(f"graph.export({show(port)}, {name!r}): not an in-port or out-port of this graph.")
        check_port_name(name, "graph.export")
        if name in self._draft.exports:
            taken = self._draft.exports[name]
            raise DefinitionError(f"graph.export({port}, {name!r}): {taken} is exported as {name!r} already.")
        self._draft.exports[name] = port.ref

    def copy(self) -> Self:
        """A graph of its own with the same nodes and connections. Constants are the same objects."""
        twin = type(self).__new__(type(self))
        twin._begin(home_of(sys._getframe(1)))
        twin._draft.exports = twin._draft.absorb(self._draft, lambda name: name)
        twin._draft.unfinished = list(self._draft.unfinished)
        twin._show_all()
        return twin

    __copy__ = copy

    def resolve(self) -> GraphSpec:
        """The graph as it stands now, frozen: what runs, checks and pictures read.

        Raises:
            DefinitionError: a line `out >> n` was never finished, or an initializer lacks arguments.
        """
        return resolve(self._draft)

    def __repr__(self) -> str:
        lines = [f"Graph of {len(self._draft.nodes)} nodes and {len(self._draft.links)} connections"]
        lines += [f"  {node_text(node)}" for node in self._draft.nodes.values()]
        lines += [f"  {link}" for link in self._draft.links]
        if len(lines) > _SHOWN:
            lines[_SHOWN:] = [f"  and {len(lines) - _SHOWN} lines more"]
        return "\n".join(lines)


def _endpoint(ref: PortRef) -> Endpoint:
    return Endpoint(ref.vertex.name, ref.name)


def _not_a_node(name: str, value: object) -> str:
    if isinstance(value, Vertex):
        return f"{value} is in a graph already. To add another one write `graph.{name} = MyComponent`."
    if callable(value) and not isinstance(value, type):
        return f"a plain function is not a component. Write @component above `def {getattr(value, '__name__', name)}`."
    if isinstance(value, Port):
        return f"{value} is a port. Connect it with `out >> inp`."
    return "a graph takes a component class, `Class * n`, or another graph."
