"""From a draft to the frozen `GraphSpec` that everything behind the DSL reads. The draft is not changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from ..errors import DefinitionError, Failure
from ..model import (
    ERRORS,
    MISSING,
    ChannelSpec,
    EdgeSpec,
    Endpoint,
    GraphSpec,
    InPortSpec,
    InputSpec,
    NodeSpec,
    OutPortSpec,
    OutputSpec,
    SubgraphSpec,
)
from ..records import dataclass
from .draft import GraphDraft, NodeDraft, SubgraphDraft
from .ports import missing_state_args
from .wiring import wires_of

__all__ = ["resolve"]


@dataclass(slots=True)
class _Channel:
    name: str
    capacity: int
    readers: tuple[Endpoint, ...]
    edges: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Wiring:
    """Channels and edges, and which of them each port has."""

    channels: list[_Channel] = field(default_factory=list)
    edges: list[EdgeSpec] = field(default_factory=list)
    read_by: dict[Endpoint, list[int]] = field(default_factory=dict)
    sent_by: dict[Endpoint, list[int]] = field(default_factory=dict)


def resolve(draft: GraphDraft) -> GraphSpec:
    """Freezes a graph as it stands. Constants and arguments are taken by reference.

    Raises:
        DefinitionError: a line `out >> n` was never finished, or an initializer lacks arguments.
    """
    draft.check_finished()
    wiring = _wire(draft)
    return GraphSpec(
        nodes={node.name: _node(node, wiring) for node in draft.nodes.values()},
        channels=tuple(
            ChannelSpec(index, each.name, each.capacity, each.readers, tuple(each.edges))
            for index, each in enumerate(wiring.channels)
        ),
        edges=tuple(wiring.edges),
        groups={group.name: tuple(each.name for each in group.members) for group in draft.groups.values()},
        pins=dict(draft.pins),
        ordered=frozenset(group.name for group in draft.groups.values() if group.ordered),
        subgraphs={name: _subgraph(each) for name, each in draft.subgraphs.items()},
    )


def _subgraph(draft: SubgraphDraft) -> SubgraphSpec:
    return SubgraphSpec(draft.nodes, {name: Endpoint(ref.vertex.name, ref.name) for name, ref in draft.exports.items()})


def _wire(draft: GraphDraft) -> _Wiring:
    wiring = _Wiring()
    ids: dict[tuple[Any, ...], int] = {}
    for number, link in enumerate(draft.links):
        port = link.target.port
        assert isinstance(port, InPortSpec)
        for source, readers in wires_of(link):
            # Whatever goes to the same readers is merged in one channel. Batches are made by the reader, who
            # therefore has a channel of its own for each batched connection.
            key = (readers, None if link.batch is None else number)
            channel = ids.get(key)
            if channel is None:
                channel = ids[key] = len(wiring.channels)
                name = str(link.target) if len(readers) > 1 else str(readers[0])
                if link.batch is not None:
                    name = f"{name} ({'all' if link.batch == 'all' else f'{link.batch} at a time'} of {link.source})"
                wiring.channels.append(_Channel(name, port.capacity, readers))
                for reader in readers:
                    wiring.read_by.setdefault(reader, []).append(channel)
            edge = EdgeSpec(len(wiring.edges), source, channel, link.batch)
            wiring.edges.append(edge)
            wiring.channels[channel].edges.append(edge.id)
            wiring.sent_by.setdefault(source, []).append(edge.id)
    return wiring


def _node(node: NodeDraft, wiring: _Wiring) -> NodeSpec:
    for state in node.spec.states:
        problem = missing_state_args(node, state)
        if problem is not None:
            raise DefinitionError(problem)
    inputs = {port.name: _input(node, port.name, wiring) for port in node.spec.inports}
    triggers, sampled = _triggers(node, inputs)
    outports = list(node.spec.outports)
    if Endpoint(node.name, ERRORS) in wiring.sent_by:
        outports.append(OutPortSpec(ERRORS, Failure))
    return NodeSpec(
        name=node.name,
        component=node.spec,
        inputs=inputs,
        outputs={
            port.name: OutputSpec(port, tuple(wiring.sent_by.get(Endpoint(node.name, port.name), ())))
            for port in outports
        },
        triggers=triggers,
        sampled=sampled,
        state_args=dict(node.state_args),
        group=node.group,
        member=node.member,
    )


def _input(node: NodeDraft, name: str, wiring: _Wiring) -> InputSpec:
    port = next(each for each in node.spec.inports if each.name == name)
    channels = tuple(wiring.read_by.get(Endpoint(node.name, name), ()))
    given = node.constants.get(name, MISSING)
    if channels:  # a constant comes first, then the stream; a default is no longer of use
        return InputSpec(port, seed=given, channels=channels)
    return InputSpec(port, constant=port.default if given is MISSING else given)


def _triggers(node: NodeDraft, inputs: Mapping[str, InputSpec]) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """The trigger groups and the sampled ports."""
    fed = [name for name, each in inputs.items() if each.constant is MISSING and not each.port.stream]
    if not node.triggers:
        return ((tuple(fed),) if fed else ()), ()
    # A constant in a group is always there, so the others decide. A group of nothing else stays as it is
    # written, and the check reports that it is never fed.
    groups = tuple(tuple(name for name in group if name in fed) or group for group in node.triggers)
    named = {name for group in groups for name in group}
    return groups, tuple(name for name in fed if name not in named)
