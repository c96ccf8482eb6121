"""Ordered groups: `group.ordered()`.

    ── item ──> [group (in)] ── (number, item) ──> members, whichever is free ──┐
                                                                                │ a channel per member
    <── results, by number ── [group (out)] <── (number, [(port, result), …]) ──┘

One node numbers what enters, and one puts results in their order. It takes from each member's channel only what
comes next, so that a member that is ahead waits with its channel full: what is kept is bounded by the members'
capacities, and nobody waits for ever, since the member that has the next number finds its own channel empty.
"""

from __future__ import annotations

from dataclasses import replace

from ...errors import DefinitionError
from ...model import (
    ERRORS,
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
from ...runtime.order.ordered import RESULTS, reorder, tag

__all__ = ["put_in_order"]


def put_in_order(spec: GraphSpec) -> GraphSpec:
    """The graph with two nodes more for each ordered group.

    Raises:
        DefinitionError: a group cannot be ordered as it is wired.
    """
    for group in sorted(spec.ordered):
        spec = _Ordering(spec, group).spec()
    return spec


class _Ordering:
    """One ordered group."""

    def __init__(self, spec: GraphSpec, group: str) -> None:
        self._spec = spec
        self._group = group
        self._members = [spec.nodes[name] for name in spec.groups[group]]
        self._component = self._members[0].component
        self._in = f"{group} (in)"
        self._out = f"{group} (out)"
        self._port = self._shared_port()

    def _refuse(self, why: str) -> DefinitionError:
        return DefinitionError(f"{self._group}.ordered(): {why}")

    def _shared_port(self) -> str:
        first = self._members[0]
        streams = [port for port, given in first.inputs.items() if given.port.stream]
        if streams:
            raise self._refuse(
                f"its members read the stream {streams[0]!r} themselves, so that nobody can say which item a result "
                f"belongs to. Let them receive one item (`{streams[0]}: In[...]`)"
            )
        if len(first.triggers) != 1 or len(first.triggers[0]) != 1 or first.sampled:
            raise self._refuse("its members must be triggered by one in-port, and give the others constants")
        ((port,),) = first.triggers
        if self._component.options.get("concurrency", 1) > 1:
            raise self._refuse("its component has concurrency=; use more members instead")
        channels = {channel for member in self._members for channel in member.inputs[port].channels}
        for channel in channels:
            if len(self._spec.channels[channel].readers) != len(self._members):
                raise self._refuse(
                    f"every member must read the same stream on {port!r}, so that there is an order to keep; one "
                    f"member alone is fed by {self._spec.channels[channel].name}"
                )
        return port

    def spec(self) -> GraphSpec:
        """The graph with the group in order."""
        spec, port = self._spec, self._port
        given = self._members[0].inputs[port]
        capacity = given.port.capacity
        channels = list(spec.channels)
        names = {member.name for member in self._members}

        # What came to the members comes to the node that numbers it.
        for channel in given.channels:
            channels[channel] = replace(channels[channel], readers=(Endpoint(self._in, "item"),))

        # What the members sent is sent by the node that puts it in order, once for all of them. Failures are not.
        edges: list[EdgeSpec] = []
        sent: dict[str, dict[int, int]] = {}  # out-port -> channel -> edge
        renumbered: dict[int, int] = {}
        for edge in spec.edges:
            ordered = edge.source.node in names and edge.source.port != ERRORS
            if ordered:
                known = sent.setdefault(edge.source.port, {})
                if edge.channel in known:
                    continue
                known[edge.channel] = len(edges)
            source = Endpoint(self._out, edge.source.port) if ordered else edge.source
            renumbered[edge.id] = len(edges)
            edges.append(replace(edge, id=len(edges), source=source))
        if any(len(spec.nodes[each].outputs[out].edges) != len(known) for out, known in sent.items() for each in names):
            raise self._refuse("its members are wired one by one to a group of the same size; connect it to a node")
        for index, channel_spec in enumerate(channels):
            kept = tuple(renumbered[edge] for edge in channel_spec.edges if edge in renumbered)
            channels[index] = replace(channel_spec, edges=kept)

        def connect(source: Endpoint, readers: tuple[Endpoint, ...], name: str) -> tuple[int, int]:
            channel, new = len(channels), len(edges)
            edges.append(EdgeSpec(new, source, channel))
            channels.append(ChannelSpec(channel, name, capacity, readers, (new,)))
            return channel, new

        shared = tuple(Endpoint(member.name, port) for member in self._members)
        numbered, numbers = connect(Endpoint(self._in, "numbered"), shared, f"{self._group}.{port}")
        nodes = {
            name: replace(
                node,
                outputs={
                    out: OutputSpec(each.port, tuple(renumbered[edge] for edge in each.edges if edge in renumbered))
                    for out, each in node.outputs.items()
                },
            )
            for name, node in spec.nodes.items()
        }
        results: dict[str, InputSpec] = {}
        for member in self._members:
            name = f"member_{member.member}"
            target = Endpoint(self._out, name)
            channel, result = connect(Endpoint(member.name, RESULTS), (target,), str(target))
            results[name] = InputSpec(InPortSpec(name, capacity=capacity), channels=(channel,))
            nodes[member.name] = replace(
                nodes[member.name],
                inputs={**member.inputs, port: replace(member.inputs[port], channels=(numbered,))},
                outputs={
                    RESULTS: OutputSpec(OutPortSpec(RESULTS), (result,)),
                    **{port: each for port, each in nodes[member.name].outputs.items() if port == ERRORS},
                },
                role="in order",
            )
        nodes[self._in] = self._numbering(given, numbers)
        nodes[self._out] = self._reordering(results, {out: tuple(known.values()) for out, known in sent.items()})
        return replace(spec, nodes=nodes, channels=tuple(channels), edges=tuple(edges))

    def _numbering(self, given: InputSpec, edge: int) -> NodeSpec:
        port = replace(given.port, name="item")
        component = ComponentSpec(
            name="Number",
            module=tag.__module__,
            qualname="Number",
            runner=tag,
            form="async",
            parameters=("item", "numbered"),
            inports=(port,),
            outports=(OutPortSpec("numbered"),),
        )
        return NodeSpec(
            name=self._in,
            component=component,
            inputs={"item": replace(given, port=port)},
            outputs={"numbered": OutputSpec(OutPortSpec("numbered"), (edge,))},
            triggers=(("item",),),
        )

    def _reordering(self, results: dict[str, InputSpec], sent: dict[str, tuple[int, ...]]) -> NodeSpec:
        outports = self._component.outports
        component = ComponentSpec(
            name="Reorder",
            module=reorder.__module__,
            qualname="Reorder",
            runner=reorder,
            form="async",
            parameters=(),
            inports=tuple(each.port for each in results.values()),
            outports=outports,
        )
        return NodeSpec(
            name=self._out,
            component=component,
            inputs=results,
            outputs={port.name: OutputSpec(port, sent.get(port.name, ())) for port in outports},
            triggers=tuple((name,) for name in results),
            role="reorders",
        )
