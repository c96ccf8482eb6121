"""A graph as networkx knows it, for analyses of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..model import MISSING, GraphSpec

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["to_networkx"]


def to_networkx(spec: GraphSpec) -> nx.MultiDiGraph[str]:
    """The resolved graph as a `MultiDiGraph`: its nodes by name, and an edge for each way that an item can take.

    A node has the attributes `component` (its name), `module`, `group` (or None), `member`, `constants` (in-port to
    value, defaults in force included), `seeds`, `subgraphs` (those that it is in, the outermost first) and `worker`
    (where it is pinned, or None). An edge has `source_port`, `target_port`, `batch`, `capacity` and `channel`: edges
    into one channel are merged, and each item goes to one of its readers.
    """
    import networkx as nx

    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    around = sorted(spec.subgraphs.items(), key=lambda each: (-len(each[1].nodes), len(each[0])))
    for name, node in spec.nodes.items():
        values: dict[str, dict[str, Any]] = {
            kind: {port: value for port, fed in node.inputs.items() if (value := getattr(fed, kind)) is not MISSING}
            for kind in ("constant", "seed")
        }
        graph.add_node(
            name,
            component=node.component.name,
            module=node.component.module,
            group=node.group,
            member=node.member,
            constants=values["constant"],
            seeds=values["seed"],
            subgraphs=tuple(subgraph for subgraph, each in around if name in each.nodes),
            worker=spec.pins.get(name),
        )
    for edge in spec.edges:
        channel = spec.channels[edge.channel]
        for reader in channel.readers:
            graph.add_edge(
                edge.source.node,
                reader.node,
                source_port=edge.source.port,
                target_port=reader.port,
                batch=edge.batch,
                capacity=channel.capacity,
                channel=channel.id,
            )
    return graph
