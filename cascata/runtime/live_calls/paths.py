"""Which ways the items of `live.call` can take, and why a graph cannot give each caller its own answer.

    source ── channels on the way ──> nodes ──> sink           what passes there may become an answer
       └───── other channels ──> a log, a file                 what passes there cannot

A node on the way must send what comes of one call while it has an item of that call in hand, and of no other. What is
known to do otherwise is refused by name before the first call; the rest is watched while it runs (see `lineage`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ...model import GraphSpec, NodeSpec

__all__ = ["on_the_way", "ports_on_the_way", "refusals"]


def on_the_way(spec: GraphSpec) -> frozenset[int]:
    """The ids of the channels by which something of a source's item can come to a sink."""
    ends = [node for node in spec.nodes.values() if node.component.at_caller]
    after: dict[str, set[str]] = {name: set() for name in spec.nodes}
    before: dict[str, set[str]] = {name: set() for name in spec.nodes}
    for writer, reader, _ in _steps(spec):
        after[writer].add(reader)
        before[reader].add(writer)
    fed = _reached((node.name for node in ends if node.outputs), after)
    leading = _reached((node.name for node in ends if node.inputs), before)
    return frozenset(channel for writer, reader, channel in _steps(spec) if writer in fed and reader in leading)


def _steps(spec: GraphSpec) -> Iterator[tuple[str, str, int]]:
    """Each node that writes to a channel with each that reads it."""
    for channel in spec.channels:
        for edge in channel.edges:
            for reader in channel.readers:
                yield spec.edges[edge].source.node, reader.node, channel.id


def _reached(starts: Iterable[str], neighbours: Mapping[str, Iterable[str]]) -> set[str]:
    found = set(starts)
    left = list(found)
    while left:
        new = set(neighbours[left.pop()]) - found
        found |= new
        left += new
    return found


def ports_on_the_way(node: NodeSpec, way: frozenset[int], ports: Iterable[str]) -> list[str]:
    """Those of the in-ports of a node to which items of calls can come."""
    return [port for port in ports if not way.isdisjoint(node.inputs[port].channels)]


def refusals(spec: GraphSpec, *, restarts: bool) -> list[str]:
    """Why not every caller would get its own answer: one text for each place, with what to do.

    Args:
        spec: the graph, as it was defined.
        restarts: whether the run starts the nodes of dead workers again.
    """
    way = on_the_way(spec)
    found = [
        f"the edge from {spec.edges[edge].source} to {channel.readers[0]} puts items of several calls together in one "
        "list. Leave the batch away, and put items together inside the component, which then answers each"
        for channel in spec.channels
        if channel.id in way
        for edge in channel.edges
        if spec.edges[edge].batch is not None
    ]
    for node in spec.nodes.values():
        ports = ports_on_the_way(node, way, node.inputs)
        if ports and not node.component.at_caller:
            why = _why_not(spec, node, ports, restarts=restarts)
            if why is not None:
                found.append(f"node {node.name!r} ({node.component.name}) {why}")
    return found


def _why_not(spec: GraphSpec, node: NodeSpec, ports: Sequence[str], *, restarts: bool) -> str | None:
    """Why a node may give one caller's answer to another, or None.

    Args:
        spec: the graph.
        node: of it.
        ports: its in-ports to which items of calls can come.
        restarts: whether the run starts the nodes of dead workers again.
    """
    options = node.component.options
    keeps = options.get("keeps")
    if keeps:
        return (
            "keeps items for later, or puts several together: what it sends may come of another call's item. Answer "
            "each item while it is in hand, in a component of your own"
        )
    streams = [port for port in ports if node.inputs[port].port.stream]
    if streams and keeps is None:
        return (
            f"reads the stream {streams[0]!r} itself, and may send what comes of an earlier item when it has taken the "
            f"next. Receive one item (`{streams[0]}: In[...]`); or, if all that it sends comes of the item that it "
            "took last, declare @component(keeps=False)"
        )
    for group in node.triggers:
        own = [port for port in ports if port in group]
        others = [port for port in ports if port not in group]
        if own and others:
            return (
                f"is called for items of {own[0]!r} and sees the latest item of {others[0]!r} with each, which may be "
                "another call's. Feed what it samples from elsewhere than the source, or send both in one item"
            )
        if len(own) < 2:
            continue
        other = [port for port in group if port not in own and node.inputs[port].channels]
        if other:
            return (
                f"zips {own[0]!r} and {own[1]!r}, to which the items of a call come, with {other[0]!r}, to which none "
                "do. Zip the two in a node of their own"
            )
        turning = _fed_by_itself(spec, node, own)
        if turning is not None:
            return (
                f"zips {turning!r}, which it feeds itself in a cycle, with what comes next: with another call's item. "
                "Let one item carry both round the cycle"
            )
        if restarts or options.get("on_worker_death") == "restart":
            return (
                f"zips {own[0]!r} and {own[1]!r}, and starts again when its worker dies, which loses what waits there "
                'for its partner. Leave on_worker_death="restart" away'
            )
    return None


def _fed_by_itself(spec: GraphSpec, node: NodeSpec, ports: Iterable[str]) -> str | None:
    """The first of the in-ports to which what the node sends can come back."""
    after: dict[str, set[str]] = {name: set() for name in spec.nodes}
    for writer, reader, _ in _steps(spec):
        after[writer].add(reader)
    reached = _reached([node.name], after) if after[node.name] else set()
    if not any(node.name in after[name] for name in reached):
        return None
    for port in ports:
        for channel in node.inputs[port].channels:
            if any(spec.edges[edge].source.node in reached for edge in spec.channels[channel].edges):
                return port
    return None
