"""A graph while it is written: plain mutable data that the operators fill in and `resolve` reads.

What users touch (nodes, groups, ports) are views of it. A *vertex* is a node or a group: whatever a
port belongs to. A group is its members and no more; what is said to a group's port is said to each.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from typing import Any, ClassVar, Final, Literal, TypeAlias

from ..errors import DefinitionError
from ..model import ComponentSpec, Endpoint, InPortSpec, OutPortSpec, StateArgs
from ..options import RUN_OPTIONS
from ..records import dataclass

__all__ = [
    "RESERVED_NODE_NAMES",
    "Batch",
    "Declared",
    "GraphDraft",
    "GroupDraft",
    "Link",
    "NodeDraft",
    "PortRef",
    "SubgraphDraft",
    "VertexDraft",
]

Batch: TypeAlias = int | Literal["all"] | None

RESERVED_NODE_NAMES: Final = (
    "add",
    "astream",
    "check",
    "check_deadlocks",
    "copy",
    "draw",
    "edges",
    "export",
    "from_json",
    "join",
    "nodes",
    "open",
    "pin",
    "resolve",
    "run",
    "run_async",
    "shard",
    "start",
    "stop",
    "stream",
    "to_dot",
    "to_json",
    "to_mermaid",
    "to_networkx",
)
"""Names that a graph uses itself. Names that begin with an underscore cannot be node names either."""


RESERVED_LIVE_NAMES: Final = ("call", "report")
"""Names that a running graph uses itself beside those of its sources and sinks."""


class Declared:
    """What a component class is to a draft: it was declared by somebody. `component.Component` is the only one."""

    __slots__ = ()

    spec: ClassVar[ComponentSpec]


@dataclass(slots=True, eq=False, repr=False)
class NodeDraft:
    """An instance of a component, with what was said to it."""

    graph: GraphDraft
    name: str
    component: type[Declared]
    group: str | None = None
    member: int = 0
    constants: dict[str, Any] = field(default_factory=dict)
    state_args: dict[str, StateArgs] = field(default_factory=dict)
    triggers: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def spec(self) -> ComponentSpec:
        """The component as declared."""
        return self.component.spec

    @property
    def members(self) -> tuple[NodeDraft, ...]:
        """Itself: a node is a vertex of one."""
        return (self,)


@dataclass(slots=True, eq=False, repr=False)
class GroupDraft:
    """Members of one component that stand together under one name."""

    graph: GraphDraft
    name: str
    members: tuple[NodeDraft, ...]
    ordered: bool = False

    @property
    def spec(self) -> ComponentSpec:
        """The component of every member."""
        return self.members[0].spec


VertexDraft: TypeAlias = NodeDraft | GroupDraft


@dataclass(frozen=True, slots=True)
class PortRef:
    """A port of a vertex."""

    vertex: VertexDraft
    port: InPortSpec | OutPortSpec = field(compare=False)  # a default may be an array, which has no yes or no
    name: str

    def __str__(self) -> str:
        return f"{self.vertex.name}.{self.name}"

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The port on each member."""
        return tuple(Endpoint(member.name, self.name) for member in self.vertex.members)


@dataclass(frozen=True, slots=True)
class Link:
    """One connection as it was written."""

    source: PortRef
    target: PortRef
    batch: Batch = None
    broadcast: bool = False

    def __str__(self) -> str:
        if self.batch == "all":
            return f"{self.source} >>= {self.target}"
        if self.batch is not None:
            return f"{self.source} >> {self.batch} >= {self.target}"
        return f"{self.source}{'.broadcast()' if self.broadcast else ''} >> {self.target}"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SubgraphDraft:
    """A copy of another graph: the names of its nodes, and what it exports, as ports of the copies."""

    nodes: tuple[str, ...]
    exports: Mapping[str, PortRef]


@dataclass(slots=True, eq=False, repr=False)
class GraphDraft:
    """Everything that was said about a graph, in the order in which it was said.

    Attributes:
        wires: what is connected already: an out-port's endpoint and the in-port endpoints that share its
            items. The same wire twice would deliver every item twice.
        wired: ports that have a connection, in either direction.
        unfinished: `out >> n` without its `>= inp`, as texts.
    """

    nodes: dict[str, NodeDraft] = field(default_factory=dict)
    groups: dict[str, GroupDraft] = field(default_factory=dict)
    subgraphs: dict[str, SubgraphDraft] = field(default_factory=dict)
    exports: dict[str, PortRef] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    wires: set[tuple[Endpoint, tuple[Endpoint, ...]]] = field(default_factory=set)
    wired: set[Endpoint] = field(default_factory=set)
    pins: dict[str, int] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)

    def claim(self, *names: str) -> None:
        """Checks that all of the names are free and may be used, before anything is changed.

        Raises:
            DefinitionError: one of them is taken, reserved, or not a name.
        """
        for name in names:
            given: object = name
            if not isinstance(given, str) or not given.isidentifier() or keyword.iskeyword(given):
                raise DefinitionError(
                    f"{given!r} cannot be the name of a node: it is an attribute of the graph, so write a Python name."
                )
            if name in RESERVED_NODE_NAMES or name.startswith("_"):
                raise DefinitionError(
                    f"{name!r} cannot be the name of a node: the graph uses it itself. Reserved are "
                    f"{', '.join(RESERVED_NODE_NAMES)}, and names that begin with an underscore."
                )
            taken = self.describe(name)
            if taken is not None:
                raise DefinitionError(
                    f"graph.{name} is there already: {taken}. Take another name, or begin with a new Graph()."
                )

    def describe(self, name: str) -> str | None:
        """What stands under a name, or None."""
        if name in self.nodes:
            group = self.nodes[name].group
            return f"a node of {self.nodes[name].spec.name}" + (f", member of the group {group}" if group else "")
        if name in self.groups:
            return f"a group of {len(self.groups[name].members)} x {self.groups[name].spec.name}"
        return "a subgraph" if name in self.subgraphs else None

    def add_node(self, name: str, component: type[Declared]) -> NodeDraft:
        """Adds an instance. Raises `DefinitionError` as `claim` does."""
        self.claim(name)
        self._check_held(name, component.spec)
        self.nodes[name] = NodeDraft(self, name, component)
        return self.nodes[name]

    def _check_held(self, name: str, component: ComponentSpec) -> None:
        """Raises `DefinitionError` for a source or sink that could not be reached by its name."""
        if not component.at_caller:
            return
        if component.outports and name in RUN_OPTIONS:
            raise DefinitionError(
                f"{name!r} cannot be the name of a source: it is an option of runs, and `graph.stream({name}=…)` would "
                f"mean that. Options are {', '.join(RUN_OPTIONS)}."
            )
        if name in RESERVED_LIVE_NAMES:
            raise DefinitionError(
                f"{name!r} cannot be the name of a {component.name.lower()}: `live.{name}`, inside `graph.open()`, is "
                f"something else. Reserved are {', '.join(RESERVED_LIVE_NAMES)}."
            )

    def add_group(self, name: str, component: type[Declared], size: int) -> GroupDraft:
        """Adds a group with members `name_0` to `name_{size - 1}`. Raises `DefinitionError` as `claim` does."""
        names = [f"{name}_{index}" for index in range(size)]
        self.claim(name, *names)
        members = tuple(NodeDraft(self, each, component, name, index) for index, each in enumerate(names))
        self.nodes.update(zip(names, members, strict=True))
        self.groups[name] = GroupDraft(self, name, members)
        return self.groups[name]

    def check_finished(self) -> None:
        """Raises `DefinitionError` when a line `out >> n` was never finished."""
        if self.unfinished:
            lines = ", ".join(f"`{line}`" for line in self.unfinished)
            raise DefinitionError(f"{lines} connects nothing: write `{self.unfinished[0]} >= inp` for batches.")

    def add_subgraph(self, name: str, other: GraphDraft) -> None:
        """Adds a copy of another graph, its nodes named `name_node`. Raises `DefinitionError` as `claim` does."""
        other.check_finished()
        renamed = [f"{name}_{each}" for each in (*other.nodes, *other.groups, *other.subgraphs)]
        self.claim(name, *renamed)
        nodes = tuple(f"{name}_{each}" for each in other.nodes)
        self.subgraphs[name] = SubgraphDraft(nodes, self.absorb(other, lambda each: f"{name}_{each}"))

    def absorb(self, other: GraphDraft, rename: Callable[[str], str]) -> dict[str, PortRef]:
        """Copies everything of another graph into this one. The new names must be free.

        Constants and arguments are taken over by reference. Nothing of the copy is shared with the
        original that a later change could reach.

        Returns:
            What the other graph exports, as ports of the copies.
        """
        copies: dict[str, VertexDraft] = {}
        for node in list(other.nodes.values()):
            copies[node.name] = self.nodes[rename(node.name)] = replace(
                node,
                graph=self,
                name=rename(node.name),
                group=None if node.group is None else rename(node.group),
                constants=dict(node.constants),
                state_args=dict(node.state_args),
                triggers=list(node.triggers),
            )
        for group in list(other.groups.values()):
            name = rename(group.name)
            members = tuple(self.nodes[rename(each.name)] for each in group.members)
            copies[group.name] = self.groups[name] = GroupDraft(self, name, members, group.ordered)

        def moved(ref: PortRef) -> PortRef:
            return replace(ref, vertex=copies[ref.vertex.name])

        def all_moved(refs: Mapping[str, PortRef]) -> dict[str, PortRef]:
            return {name: moved(ref) for name, ref in refs.items()}

        def at(endpoint: Endpoint) -> Endpoint:
            return Endpoint(rename(endpoint.node), endpoint.port)

        for name, inner in list(other.subgraphs.items()):
            nodes = tuple(map(rename, inner.nodes))
            self.subgraphs[rename(name)] = SubgraphDraft(nodes, all_moved(inner.exports))
        for link in list(other.links):
            self.links.append(replace(link, source=moved(link.source), target=moved(link.target)))
        self.wires |= {(at(source), tuple(map(at, readers))) for source, readers in other.wires}
        self.wired |= set(map(at, other.wired))
        self.pins.update((rename(name), worker) for name, worker in list(other.pins.items()))
        return all_moved(other.exports)
