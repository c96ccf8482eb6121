"""Batches for a stream that a group shares: `out >> 3 >= group.port`.

    ── item ──> [port (batch)] ── list ──> members, whichever is free

A batch is made by who reads the stream. Where several members do, one node makes the batches, and the members share
those: else each of them would have a rest of its own.
"""

from __future__ import annotations

from dataclasses import replace

from ...model import (
    ChannelSpec,
    ComponentSpec,
    EdgeSpec,
    Endpoint,
    GraphSpec,
    InPortSpec,
    InputSpec,
    NodeSpec,
    OutPortSpec,
    OutputSpec,
)

__all__ = ["share_batches"]


async def hand_on(batch: object, out: object) -> object:  # noqa: ARG001  # what it returns goes to its only out-port
    """The runner of the node that makes batches."""
    return batch


def share_batches(spec: GraphSpec) -> GraphSpec:
    """The graph with a node more for each batched stream that several nodes read."""
    nodes = dict(spec.nodes)
    channels, edges = list(spec.channels), list(spec.edges)
    for channel in spec.channels:
        if len(channel.readers) < 2 or spec.edges[channel.edges[0]].batch is None:
            continue
        name = channel.name
        port = InPortSpec("batch", capacity=channel.capacity)
        batched, edge = len(channels), len(edges)
        edges.append(EdgeSpec(edge, Endpoint(name, "out"), batched))
        channels.append(ChannelSpec(batched, name, channel.capacity, channel.readers, (edge,)))
        channels[channel.id] = replace(channel, readers=(Endpoint(name, "batch"),))
        for reader in channel.readers:
            fed = nodes[reader.node].inputs[reader.port]
            moved = tuple(batched if each == channel.id else each for each in fed.channels)
            inputs = {**nodes[reader.node].inputs, reader.port: replace(fed, channels=moved)}
            nodes[reader.node] = replace(nodes[reader.node], inputs=inputs)
        nodes[name] = NodeSpec(
            name=name,
            component=ComponentSpec(
                name="Batch",
                module=__name__,
                qualname="Batch",
                runner=hand_on,
                form="async",
                parameters=("batch", "out"),
                inports=(port,),
                outports=(OutPortSpec("out"),),
            ),
            inputs={"batch": InputSpec(port, channels=(channel.id,))},
            outputs={"out": OutputSpec(OutPortSpec("out"), (edge,))},
            triggers=(("batch",),),
        )
    return (
        replace(spec, nodes=nodes, channels=tuple(channels), edges=tuple(edges))
        if len(nodes) > len(spec.nodes)
        else spec
    )
