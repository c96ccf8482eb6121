"""Cycles: how a graph with feedback comes to its end.

A node ends when what feeds it has ended; in a cycle each node waits for the others. A cycle ends when nothing can
move in it any more: each of its nodes waits for items, none is on its way between them, and what feeds the cycle
from outside has ended. Its channels are ended then, and its nodes end like all others.

For that, what circulates must be told from what enters: where an in-port has both, they get channels of their own.

A cycle has also come to its end when nobody reads any more what its nodes send to others: its nodes are stopped
then, as a single node would be, although they still read one another.

Each worker reports its part of a cycle when that part rests, with the counts of what it sent and received on the
cycle's crossing edges. When all parts rest, and on each edge the sender's count is the receiver's, nothing can be
on its way: the first part to move after its report would need an item that was sent before its sender's report, and
such an item had been received before its own. (Message counting, after Mattern 1987.)
"""

from __future__ import annotations

from dataclasses import replace

from ...cycles import cycles, feeds_of
from ...model import ChannelSpec, CycleSpec, EdgeSpec, GraphSpec

__all__ = ["separate"]


def separate(spec: GraphSpec) -> GraphSpec:
    """The graph with its cycles named, and with what circulates in them on channels of its own."""
    found = cycles(feeds_of(spec))
    if not found:
        return spec
    cycle_of = {node: number for number, nodes in enumerate(found) for node in nodes}
    channels: list[ChannelSpec] = list(spec.channels)
    edges: list[EdgeSpec] = list(spec.edges)
    added: dict[int, int] = {}  # channel -> the one that takes its circulating edges
    inside: list[set[int]] = [set() for _ in found]
    for channel in spec.channels:
        readers = {cycle_of.get(reader.node) for reader in channel.readers}
        for number in readers - {None}:
            assert number is not None  # for the type checker
            circulating = [edge for edge in channel.edges if cycle_of.get(spec.edges[edge].source.node) == number]
            if not circulating:
                continue
            if len(circulating) == len(channel.edges):
                inside[number].add(channel.id)
                continue
            new = len(channels)
            added[channel.id] = new
            rest = tuple(edge for edge in channel.edges if edge not in circulating)
            channels[channel.id] = replace(channels[channel.id], edges=rest)
            channels.append(replace(channel, id=new, edges=tuple(circulating)))
            for edge in circulating:
                edges[edge] = replace(edges[edge], channel=new)
            inside[number].add(new)
    nodes = {
        name: replace(
            node,
            inputs={
                port: replace(fed, channels=(*fed.channels, *(added[each] for each in fed.channels if each in added)))
                for port, fed in node.inputs.items()
            },
        )
        for name, node in spec.nodes.items()
    }
    named = tuple(
        CycleSpec(members, frozenset(ids), _outward(edges, channels, members))
        for members, ids in zip(found, inside, strict=True)
    )
    return replace(spec, nodes=nodes, channels=tuple(channels), edges=tuple(edges), cycles=named)


def _outward(edges: list[EdgeSpec], channels: list[ChannelSpec], members: tuple[str, ...]) -> frozenset[int]:
    return frozenset(
        edge.id
        for edge in edges
        if edge.source.node in members and not any(reader.node in members for reader in channels[edge.channel].readers)
    )
