"""The resolved graph: what every layer behind the DSL reads. Frozen, picklable, no behaviour.

    Graph (dsl) ── resolve ──> GraphSpec ──> check, plan, draw, serial
                                   └───────> Plan ──> engine ──> runtime

A *channel* carries items to one in-port (or to the same in-port of all members of a group, which
share it); an *edge* is one connection of an out-port to a channel. Several edges into one channel
are merged; several edges out of one out-port each get every item. An in-port reads one channel or
several: a group member that has a stream shared with its group and an edge of its own reads two.
"""

from __future__ import annotations

import enum
import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import field, fields
from typing import Any, Final, Literal

from .records import dataclass

__all__ = [
    "DEFAULT_CAPACITY",
    "ERRORS",
    "MISSING",
    "ChannelSpec",
    "ComponentSpec",
    "CycleSpec",
    "EdgeSpec",
    "Endpoint",
    "GraphSpec",
    "InPortSpec",
    "InputSpec",
    "Missing",
    "NodeRole",
    "NodeSpec",
    "OutPortSpec",
    "OutputSpec",
    "Plan",
    "RunnerForm",
    "StateArgs",
    "StateSpec",
    "SubgraphSpec",
    "load_component",
]

DEFAULT_CAPACITY: Final = 100

ERRORS: Final = "errors"
"""The out-port that every node has, for its failures. It stands in a `NodeSpec` only where it is connected."""


class Missing(enum.Enum):
    """The type of `MISSING`: no value was given (None is a value)."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing.MISSING

RunnerForm = Literal["async", "async_generator", "plain", "generator"]

NodeRole = Literal["plain", "in order", "reorders"]
"""What a node does for an ordered group: nothing, tell what its results belong to, or put results in order."""


@dataclass(frozen=True, slots=True)
class InPortSpec:
    """An in-port as declared. `type` is the annotation, or `Any`; `capacity` counts items.

    A `stream` is read by the runner itself: it triggers nothing, and is not sampled.
    """

    name: str
    type: Any = Any
    capacity: int = DEFAULT_CAPACITY
    default: Any = MISSING
    stream: bool = False


@dataclass(frozen=True, slots=True)
class OutPortSpec:
    """An out-port as declared. `type` is the annotation, or `Any`."""

    name: str
    type: Any = Any


@dataclass(frozen=True, slots=True)
class StateSpec:
    """State of an instance: `initializer(*args, **kwargs)` makes it in the worker before the first item."""

    name: str
    initializer: Callable[..., Any]
    type: Any = Any


@dataclass(frozen=True, slots=True)
class StateArgs:
    """Arguments for an initializer."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


def load_component(module: str, qualname: str) -> ComponentSpec:
    """A component that was pickled by reference: imports its module."""
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    spec: ComponentSpec = found.spec
    return spec


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """A component class as declared.

    `parameters` are the runner's parameters in the order of its signature, `keyword_only` those of
    them that must be passed by name. Pickled by reference when it can be imported under its name,
    by value otherwise (`__main__` is never imported by a worker).
    """

    name: str
    module: str
    qualname: str
    runner: Callable[..., Any]
    form: RunnerForm
    parameters: tuple[str, ...]
    keyword_only: frozenset[str] = frozenset()
    inports: tuple[InPortSpec, ...] = ()
    outports: tuple[OutPortSpec, ...] = ()
    states: tuple[StateSpec, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    doc: str | None = None
    at_caller: bool = False
    """Whether its instances live in the process that runs the graph, as the ends that the caller holds: a source or a
    sink."""
    stopping: tuple[str, ...] = ()
    """The parameters that get the event by which a run says that it is to end. They are no ports."""

    def __reduce__(self) -> tuple[Any, ...]:
        if self.module != "__main__":
            found: Any = sys.modules.get(self.module)
            for part in self.qualname.split("."):
                found = getattr(found, part, None)
            if found is not None and getattr(found, "spec", None) is self:
                return load_component, (self.module, self.qualname)
        return ComponentSpec, tuple(getattr(self, each.name) for each in fields(self))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A port of a node."""

    node: str
    port: str

    def __str__(self) -> str:
        return f"{self.node}.{self.port}"


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What an in-port of a node is fed with: a constant, or channels with perhaps a first value (`seed`)."""

    port: InPortSpec
    constant: Any = MISSING
    seed: Any = MISSING
    channels: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """Where an out-port of a node sends to. No edges: what is sent is discarded."""

    port: OutPortSpec
    edges: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """An instance of a component in a graph.

    `triggers` are the groups of in-ports that make the runner run: each group is zipped, and each
    group on its own triggers. `sampled` in-ports are read for their latest value. In-ports with a
    constant stand in neither. No triggers: the runner runs once.
    """

    name: str
    component: ComponentSpec
    inputs: Mapping[str, InputSpec]
    outputs: Mapping[str, OutputSpec]
    triggers: tuple[tuple[str, ...], ...] = ()
    sampled: tuple[str, ...] = ()
    state_args: Mapping[str, StateArgs] = field(default_factory=dict)
    group: str | None = None
    member: int = 0
    role: NodeRole = "plain"


@dataclass(frozen=True, slots=True)
class EdgeSpec:
    """A connection of an out-port to a channel. `id` is its index in `GraphSpec.edges`."""

    id: int
    source: Endpoint
    channel: int
    batch: int | Literal["all"] | None = None


@dataclass(frozen=True, slots=True)
class ChannelSpec:
    """A bounded stream of items. `id` is its index in `GraphSpec.channels`.

    Each item goes to exactly one of the `readers` (several for a group: whichever is free).
    `edges` are the ids of the edges that write to it.
    """

    id: int
    name: str
    capacity: int
    readers: tuple[Endpoint, ...]
    edges: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CycleSpec:
    """Nodes that can send to themselves.

    `channels` are the ids of those that carry what circulates among them, `outward` those of the edges by which they
    send to other nodes.
    """

    nodes: tuple[str, ...]
    channels: frozenset[int]
    outward: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class SubgraphSpec:
    """A copy of a graph inside another one: its nodes, those of graphs within it included, and what it exports.

    `exports` maps a name to the port that it exposes; the endpoint's node may be a group, which stands for its members.
    """

    nodes: tuple[str, ...]
    exports: Mapping[str, Endpoint] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """A resolved graph. `nodes` keeps the order of definition; `pins` maps a node to its worker.

    `ordered` names the groups whose results leave in the order of their inputs. `cycles` is filled in for a run, when
    what circulates has been given channels of its own. `subgraphs` are for reading: what runs is in the nodes.
    """

    nodes: Mapping[str, NodeSpec]
    channels: tuple[ChannelSpec, ...]
    edges: tuple[EdgeSpec, ...]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pins: Mapping[str, int] = field(default_factory=dict)
    ordered: frozenset[str] = frozenset()
    cycles: tuple[CycleSpec, ...] = ()
    subgraphs: Mapping[str, SubgraphSpec] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """Which node runs on which worker, and why.

    Attributes:
        workers: the nodes of each worker, in the order of definition.
        reasons: node to one sentence.
        crossing: ids of the channels that cross a process border: not all of their writers and
            readers are on one worker.
        channels: for reading, each channel by its id as "its writers → its readers".
        caller: the nodes that are on no worker, but with the caller: sources and sinks.
    """

    workers: tuple[tuple[str, ...], ...]
    reasons: Mapping[str, str]
    crossing: frozenset[int]
    channels: tuple[str, ...] = ()
    caller: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[tuple[str, ...], ...]:
        """The nodes of each worker, and behind them those of the caller, if there are any."""
        return (*self.workers, self.caller) if self.caller else self.workers

    def __str__(self) -> str:
        width = max((len(node) for nodes in self.parts for node in nodes), default=0)
        lines = []
        for worker, nodes in enumerate(self.parts):
            lines.append(f"worker {worker}" if worker < len(self.workers) else "caller")
            lines += [f"  {node:{width}}  {self.reasons.get(node, '')}".rstrip() for node in nodes]
        for title, crosses in (("local channels", False), ("crossing channels", True)):
            found = [text for number, text in enumerate(self.channels) if (number in self.crossing) is crosses]
            if found:
                lines += [title, *(f"  {text}" for text in found)]
        return "\n".join(lines)
