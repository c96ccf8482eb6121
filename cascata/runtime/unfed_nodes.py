"""The nodes that send of themselves, and perhaps never end by themselves: a stop of the run begins with them."""

from __future__ import annotations

from ..model import CycleSpec, GraphSpec

__all__ = ["is_fed", "unfed_nodes"]


def unfed_nodes(spec: GraphSpec) -> frozenset[str]:
    """The nodes that no other node feeds: those without connected in-ports, and those of cycles that nothing enters.

    Sources that the caller of the run feeds are not among them: they end when they are closed.
    """
    alone = {
        name
        for name, node in spec.nodes.items()
        if not node.component.at_caller and not any(given.channels for given in node.inputs.values())
    }
    return frozenset(alone.union(*(cycle.nodes for cycle in spec.cycles if not is_fed(spec, cycle))))


def is_fed(spec: GraphSpec, cycle: CycleSpec) -> bool:
    """Whether other nodes send into a cycle."""
    return any(
        channel not in cycle.channels
        for node in cycle.nodes
        for given in spec.nodes[node].inputs.values()
        for channel in given.channels
    )
