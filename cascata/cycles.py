"""The cycles of a graph: for the checks, for the planner, and for what ends them when a run goes on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

from .model import GraphSpec

__all__ = ["cycles", "feeds_of"]

Node = TypeVar("Node", str, int)


def cycles(feeds: Mapping[Node, Collection[Node]]) -> list[tuple[Node, ...]]:
    """The strongly connected components that have an edge inside them: the nodes that can send to themselves.

    Args:
        feeds: for each node, those that read what it sends.

    Returns:
        The nodes of each cycle, and the cycles by their first nodes, in the order of `feeds`.
    """
    left = _without_ends(feeds)
    if not left:
        return []  # most graphs: importing networkx costs 70 ms, more than a whole plan
    import networkx as nx

    graph: nx.DiGraph[Node] = nx.DiGraph((node, reader) for node in left for reader in feeds[node] if reader in left)
    place = {node: number for number, node in enumerate(feeds)}
    found = [
        tuple(sorted(component, key=place.__getitem__))
        for component in nx.strongly_connected_components(graph)
        if len(component) > 1 or any(node in feeds[node] for node in component)
    ]
    return sorted(found, key=lambda component: place[component[0]])


def feeds_of(spec: GraphSpec) -> dict[str, set[str]]:
    """For each node, those that read what it sends."""
    feeds: dict[str, set[str]] = {name: set() for name in spec.nodes}
    for edge in spec.edges:
        feeds[edge.source.node] |= {reader.node for reader in spec.channels[edge.channel].readers}
    return feeds


def _without_ends(feeds: Mapping[Node, Collection[Node]]) -> set[Node]:
    """What is left when nodes that nothing left feeds are taken away, again and again (Kahn 1962)."""
    feeders = dict.fromkeys(feeds, 0)
    for readers in feeds.values():
        for reader in readers:
            feeders[reader] += 1
    ready = [node for node, count in feeders.items() if not count]
    for node in ready:  # grows while it is walked
        for reader in feeds[node]:
            feeders[reader] -= 1
            if not feeders[reader]:
                ready.append(reader)
    return set(feeds) - set(ready)
