"""Why a node runs where it runs: one sentence for each, said from what was decided."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..records import dataclass
from .network import Atoms, Network

__all__ = ["Outcome", "reasons"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was decided besides the workers.

    Attributes:
        atoms: the atoms that were placed; None when there was nothing to decide.
        chains: the chains of atoms, whole.
        too_few: whether chains had to be cut to fill the workers (otherwise cuts are there for balance).
    """

    atoms: Atoms | None = None
    chains: tuple[tuple[int, ...], ...] = ()
    too_few: bool = False


def reasons(network: Network, where: Sequence[int], workers: int, outcome: Outcome) -> dict[str, str]:
    """A sentence for each node.

    Args:
        network: the graph.
        where: the worker of each node.
        workers: how many workers there are.
        outcome: what was decided.

    Returns:
        Node to sentence, in the order of definition.
    """
    reasoner = _Reasoner(network, where, workers, outcome)
    return {name: reasoner.reason(node) for node, name in enumerate(network.names)}


class _Reasoner:
    def __init__(self, network: Network, where: Sequence[int], workers: int, outcome: Outcome) -> None:
        self._network = network
        self._where = where
        self._workers = workers
        self._outcome = outcome
        self._atom_of: dict[int, int] = {}
        if outcome.atoms is not None:
            self._atom_of = {node: atom for atom, nodes in enumerate(outcome.atoms.members) for node in nodes}
        self._chain_of = {atom: chain for chain in outcome.chains for atom in chain}
        self._population = [list(where).count(worker) for worker in range(workers)]
        self._local: dict[int, set[int]] = {}  # node to the nodes with which it shares a channel that stays local
        for net in network.nets:
            if len({where[node] for node in net.nodes}) == 1:
                for node in net.nodes:
                    self._local.setdefault(node, set()).update(net.nodes)

    def reason(self, node: int) -> str:
        """The first that holds, in the order in which the planner cares."""
        worker = self._where[node]
        if self._network.pins[node] is not None:
            return f"pinned to worker {worker}"
        if self._workers == 1:
            return "there is only one worker"
        return (
            self._in_a_cycle(node)
            or self._restartable(node)
            or self._in_a_group(node)
            or self._alone(node)
            or self._in_a_chain(node)
            or self._beside(node)
            or f"placed on worker {worker} to balance the load"
        )

    def _in_a_cycle(self, node: int) -> str | None:
        atoms = self._outcome.atoms
        if atoms is None:
            return None
        cycle = atoms.members[self._atom_of[node]]
        for taken_apart in atoms.cycles:
            if self._atom_of[node] in taken_apart:
                cycle = tuple(each for atom in taken_apart for each in atoms.members[atom])
        if len(cycle) == 1:
            return None
        others = self._names(each for each in cycle if each != node)
        if len({self._where[each] for each in cycle}) == 1:
            return f"kept with {others}: they form a cycle"
        if len({self._network.pins[each] for each in cycle} - {None}) > 1:
            return f"in a cycle with {others}, which pins take apart"
        return f"in a cycle with {others}, which had to be cut to reach {self._workers} workers"

    def _restartable(self, node: int) -> str | None:
        if not self._network.restartable[node]:
            return None
        worker = self._where[node]
        if self._population[worker] == 1:
            return f"has worker {worker} to itself, since it starts again when its worker dies"
        return (
            f"shares worker {worker} though it starts again when its worker dies: there are too few for one of its own"
        )

    def _in_a_group(self, node: int) -> str | None:
        for group, members in self._network.groups.items():
            if node in members:
                return f"member {members.index(node)} of group {group}, spread over workers"
        return None

    def _alone(self, node: int) -> str | None:
        if self._workers < len(self._network.names):
            return None
        return f"has worker {self._where[node]} to itself: there are as many workers as nodes"

    def _in_a_chain(self, node: int) -> str | None:
        atom = self._atom_of[node]
        chain = self._chain_of[atom]
        place = chain.index(atom)
        if place > 0:
            if self._worker_of(chain[place - 1]) == self._where[node]:
                return None  # `_beside` says it
            why = f"to reach {self._workers} workers" if self._outcome.too_few else "to balance the load"
            return f"cut from {self._label(chain[place - 1])} {why}"
        together = 1
        while together < len(chain) and self._worker_of(chain[together]) == self._where[node]:
            together += 1
        if together == 1:
            return None
        row = [self._label(each) for each in chain[:together]]
        if together > 5:
            row = [*row[:3], "…", row[-1]]
        return f"starts the chain {' → '.join(row)} on worker {self._where[node]}"

    def _beside(self, node: int) -> str | None:
        neighbours = [*self._network.fed_by[node], *self._network.feeds[node]]
        for other in neighbours:
            if other != node and other in self._local.get(node, ()):
                return f"kept with {self._network.names[other]}: their edge stays local"
        return None

    def _worker_of(self, atom: int) -> int:
        assert self._outcome.atoms is not None
        return self._where[self._outcome.atoms.members[atom][0]]

    def _label(self, atom: int) -> str:
        assert self._outcome.atoms is not None
        names = self._names(self._outcome.atoms.members[atom])
        return f"({names})" if len(self._outcome.atoms.members[atom]) > 1 else names

    def _names(self, nodes: Iterable[int]) -> str:
        names = [self._network.names[node] for node in nodes]
        if len(names) > 4:
            return f"{', '.join(names[:3])} and {len(names) - 3} more"
        return ", ".join(names)
