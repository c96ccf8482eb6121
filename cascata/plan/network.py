"""The graph as the planner sees it: numbers instead of names, and the parts that stay together.

    GraphSpec ──> Network ──> atoms ──> chains ──> blocks (search.py)

An *atom* is a node, or the nodes of a cycle. A *chain* is a row of atoms of which each feeds only the
next one and is its only feeder: cutting it costs a crossing, and keeping it whole costs nothing but balance.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from ..cycles import cycles
from ..model import GraphSpec
from ..records import dataclass

__all__ = ["Atoms", "Net", "Network", "fillable", "find_atoms", "find_chains", "flow_order", "pin_of"]

_FINENESS = 10_000

_CROSSING_S = 1e-6
"""Seconds of work that an item costs its sender, and again its reader, by crossing: about what `bench/` measures."""


@dataclass(frozen=True, slots=True)
class Net:
    """A channel that joins several nodes: it crosses unless all of them are on one worker.

    `cost` counts the edges that write to it: when it crosses, each of them does. When their traffic was measured, it is
    the work of taking it across, in the unit of the weights.
    """

    nodes: tuple[int, ...]
    cost: int


@dataclass(frozen=True, slots=True)
class Network:
    """A graph with its nodes numbered in the order of definition.

    Attributes:
        names: number to name.
        weights: whole numbers, so that sums are exact and a plan never depends on the order of additions.
        nets: the channels between different nodes.
        feeds: for each node, the nodes that read what it sends.
        fed_by: for each node, the nodes that send to it.
        pins: the worker on which a node must run, or None.
        restartable: whether a node starts again when its worker dies, and so wants a worker of its own.
        groups: group to its members.
        priced: whether the cost of a net is work, to be compared with weights.
    """

    names: tuple[str, ...]
    weights: tuple[int, ...]
    nets: tuple[Net, ...]
    feeds: tuple[tuple[int, ...], ...]
    fed_by: tuple[tuple[int, ...], ...]
    pins: tuple[int | None, ...]
    restartable: tuple[bool, ...]
    groups: Mapping[str, tuple[int, ...]]
    priced: bool = False

    @classmethod
    def of(cls, spec: GraphSpec, weights: Mapping[str, float], traffic: Mapping[tuple[str, str], int]) -> Network:
        """The network of a graph, as `partition` says it."""
        names = tuple(spec.nodes)
        known = [weights[name] for name in names if name in weights]
        usual = sum(known) / len(known) if known else 1.0
        heavy = [weights.get(name, usual) for name in names]
        number = {name: index for index, name in enumerate(names)}
        nets = []
        feeds: list[set[int]] = [set() for _ in names]
        fed_by: list[set[int]] = [set() for _ in names]
        for channel in spec.channels:
            writers = {number[spec.edges[edge].source.node] for edge in channel.edges}
            readers = {number[reader.node] for reader in channel.readers}
            for writer in writers:
                feeds[writer] |= readers
            for reader in readers:
                fed_by[reader] |= writers
            joined = tuple(sorted(writers | readers))
            if len(joined) > 1:
                edges = [(str(spec.edges[edge].source), channel.name) for edge in channel.edges]
                items = sum(traffic.get(edge, 0) for edge in edges)
                cost = _whole(items * _CROSSING_S, max(heavy)) if traffic else max(1, len(edges))
                nets.append(Net(joined, cost))
        return cls(
            names,
            tuple(_whole(each, max(heavy)) for each in heavy),
            tuple(nets),
            tuple(tuple(sorted(each)) for each in feeds),
            tuple(tuple(sorted(each)) for each in fed_by),
            tuple(spec.pins.get(name) for name in names),
            tuple(node.component.options.get("on_worker_death") == "restart" for node in spec.nodes.values()),
            {group: tuple(number[member] for member in members) for group, members in spec.groups.items()},
            priced=bool(traffic),
        )


def _whole(weight: float, heaviest: float) -> int:
    """A weight in proportion, as a whole number of at least 1: nodes that weigh nothing still spread."""
    return 1 + round(_FINENESS * weight / heaviest) if heaviest > 0 else 1


@dataclass(frozen=True, slots=True)
class Atoms:
    """What is placed as one, numbered in the order of definition.

    Attributes:
        members: the nodes of each atom.
        cycles: the cycles whose nodes are placed one by one, as numbers of atoms: they should stay together
            as far as possible.
    """

    members: tuple[tuple[int, ...], ...]
    cycles: tuple[tuple[int, ...], ...]

    def fillable(self, network: Network) -> int:
        """How many workers these atoms can fill: those that pins name, and one for each unpinned atom."""
        return fillable(pin_of(network, members) for members in self.members)


def fillable(pins: Iterable[int | None]) -> int:
    """How many workers parts with these pins can fill."""
    free = 0
    named = set()
    for pin in pins:
        if pin is None:
            free += 1
        else:
            named.add(pin)
    return free + len(named)


def pin_of(network: Network, nodes: Iterable[int]) -> int | None:
    """The worker that holds these nodes by a pin, or None."""
    return next((pin for node in nodes if (pin := network.pins[node]) is not None), None)


def flow_order(feeds: Sequence[Iterable[int]]) -> list[int]:
    """The nodes in the direction of flow, each branch in one piece.

    Reverse postorder of a depth-first walk: a topological order when there is no cycle.
    """
    order: list[int] = []
    met: set[int] = set()
    for root in reversed(range(len(feeds))):
        if root in met:
            continue
        met.add(root)
        way = [(root, iter(sorted(feeds[root], reverse=True)))]
        while way:
            node, following = way[-1]
            for successor in following:
                if successor not in met:
                    met.add(successor)
                    way.append((successor, iter(sorted(feeds[successor], reverse=True))))
                    break
            else:
                order.append(node)
                way.pop()
    order.reverse()
    return order


def find_atoms(network: Network, workers: int) -> Atoms:
    """The atoms of a graph, enough of them to fill `workers` workers.

    A cycle is one atom, unless its nodes are pinned to different workers, or the atoms would be too few:
    then the cycles with the most nodes are taken apart first.
    """
    whole = [cycle for cycle in cycles(dict(enumerate(network.feeds))) if len(cycle) > 1]
    apart = [cycle for cycle in whole if len({network.pins[node] for node in cycle} - {None}) > 1]
    whole = [cycle for cycle in whole if cycle not in apart]
    while True:
        atoms = _atoms(len(network.names), whole, apart)
        if not whole or atoms.fillable(network) >= workers:
            return atoms
        largest = max(whole, key=len)
        whole.remove(largest)
        apart.append(largest)


def _atoms(nodes: int, whole: list[tuple[int, ...]], apart: list[tuple[int, ...]]) -> Atoms:
    joined = {node: cycle for cycle in whole for node in cycle}
    members = tuple(joined.get(node, (node,)) for node in range(nodes) if node not in joined or joined[node][0] == node)
    atom_of = {node: atom for atom, each in enumerate(members) for node in each}
    return Atoms(members, tuple(tuple(atom_of[node] for node in cycle) for cycle in apart))


def find_chains(network: Network, atoms: Atoms) -> list[tuple[int, ...]]:
    """The chains as numbers of atoms in the direction of flow; an atom between chains is a chain of one.

    Restartable nodes, the nodes of a cycle that is taken apart and members of one group are never chained
    to each other, and a chain with several pins is left in pieces between them.
    """
    atom_of = {node: atom for atom, each in enumerate(atoms.members) for node in each}
    following = _links(network, atoms, atom_of)
    continued = set(following.values())
    chains = []
    for first in range(len(atoms.members)):
        if first in continued:
            continue
        chain = [first]
        while chain[-1] in following:
            chain.append(following[chain[-1]])
        chains += _split_by_pins(chain, [pin_of(network, atoms.members[atom]) for atom in chain])
    return chains


def _links(network: Network, atoms: Atoms, atom_of: Mapping[int, int]) -> dict[int, int]:
    after: list[set[int]] = []
    before: list[set[int]] = []
    for atom, members in enumerate(atoms.members):
        after.append({atom_of[other] for node in members for other in network.feeds[node]} - {atom})
        before.append({atom_of[other] for node in members for other in network.fed_by[node]} - {atom})
    apart = {atom for cycle in atoms.cycles for atom in cycle}
    apart |= {atom for atom, each in enumerate(atoms.members) if any(network.restartable[node] for node in each)}
    siblings = [{atom_of[node] for node in group} for group in network.groups.values()]
    return {
        atom: following
        for atom in range(len(atoms.members))
        if len(after[atom]) == 1
        for following in after[atom]
        if before[following] == {atom}
        and not {atom, following} & apart
        and not any({atom, following} <= group for group in siblings)
    }


def _split_by_pins(chain: Sequence[int], pins: Sequence[int | None]) -> list[tuple[int, ...]]:
    pinned = [place for place, pin in enumerate(pins) if pin is not None]
    cuts = {
        cut
        for place, later in pairwise(pinned)
        if pins[place] != pins[later]
        for cut in range(place + 1, later + 1)  # where exactly to cut is left to the search
    }
    borders = [0, *sorted(cuts), len(chain)]
    return [tuple(chain[start:end]) for start, end in pairwise(borders)]
