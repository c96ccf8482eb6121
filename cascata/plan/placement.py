"""Blocks on workers, and the key that says how good that is.

A *block* is what the search moves: a chain of atoms, or one atom (network.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from ..records import dataclass
from .network import Atoms, Net, Network, pin_of

__all__ = ["TOLERANCE", "Key", "Merit", "Placement", "Problem"]

Key = tuple[int, int, int, int, int, int]

TOLERANCE: Final = 20  # loads within a 20th of the fair share of each other count as equally balanced


class Merit(NamedTuple):
    """What is good about a placement, so that those of whole and of cut chains can be compared."""

    sacrifices: tuple[int, int, int]
    load: int
    crossing: int


@dataclass(frozen=True, slots=True)
class Problem:
    """Blocks to be placed on `workers` workers, none of which may stay empty.

    Attributes:
        workers: how many workers.
        weights: the weight of each block.
        nets: what joins the blocks.
        nets_of: for each block, the nets that it is in.
        pins: for each block, the worker on which it must be, or None.
        alone: for each block, whether it wants a worker of its own.
        spread: for each block, (group, members of it in the block).
        cycles_of: for each block, the taken-apart cycles that it belongs to.
        feeds: for each block, the blocks that it feeds.
        groups, cycles: how many there are.
        priced: whether crossing nets are work for the workers: then they count as load.
    """

    workers: int
    weights: tuple[int, ...]
    nets: tuple[Net, ...]
    nets_of: tuple[tuple[int, ...], ...]
    pins: tuple[int | None, ...]
    alone: tuple[bool, ...]
    spread: tuple[tuple[tuple[int, int], ...], ...]
    cycles_of: tuple[tuple[int, ...], ...]
    feeds: tuple[tuple[int, ...], ...]
    groups: int
    cycles: int
    priced: bool

    @classmethod
    def of(cls, network: Network, atoms: Atoms, chains: Sequence[Sequence[int]], workers: int) -> Problem:
        """The problem of placing chains of atoms."""
        blocks = [tuple(node for atom in chain for node in atoms.members[atom]) for chain in chains]
        block_of = {node: block for block, nodes in enumerate(blocks) for node in nodes}
        block_of_atom = {atom: block for block, chain in enumerate(chains) for atom in chain}
        nets = []
        for net in network.nets:
            joined = tuple(sorted({block_of[node] for node in net.nodes}))
            if len(joined) > 1:
                nets.append(Net(joined, net.cost))
        return cls(
            workers=workers,
            weights=tuple(sum(network.weights[node] for node in nodes) for nodes in blocks),
            nets=tuple(nets),
            nets_of=tuple(
                tuple(number for number, net in enumerate(nets) if block in net.nodes) for block in range(len(blocks))
            ),
            pins=tuple(pin_of(network, nodes) for nodes in blocks),
            alone=tuple(any(network.restartable[node] for node in nodes) for nodes in blocks),
            spread=tuple(
                tuple(
                    (group, inside)
                    for group, members in enumerate(network.groups.values())
                    if (inside := sum(member in nodes for member in members))
                )
                for nodes in blocks
            ),
            cycles_of=tuple(
                tuple(
                    number
                    for number, cycle in enumerate(atoms.cycles)
                    if any(block_of_atom[atom] == block for atom in cycle)
                )
                for block in range(len(blocks))
            ),
            feeds=tuple(
                tuple(sorted({block_of[other] for node in nodes for other in network.feeds[node]} - {block}))
                for block, nodes in enumerate(blocks)
            ),
            groups=len(network.groups),
            cycles=len(atoms.cycles),
            priced=network.priced,
        )

    @property
    def fair_share(self) -> int:
        """The least load that the fullest worker can have."""
        return max(-(-sum(self.weights) // self.workers), *self.weights)

    @property
    def bound(self) -> Merit:
        """What no placement can beat."""
        sizes = [0] * self.groups
        for spread in self.spread:
            for group, members in spread:
                sizes[group] += members
        least = 0
        for size in sizes:
            each, rest = divmod(size, self.workers)
            least += self.workers * each * each + rest * (2 * each + 1)
        return Merit((self.cycles, 0, least), self.fair_share, 0)


class Placement:
    """Blocks on workers, with all that the key needs kept up to date. A block may be on no worker yet."""

    __slots__ = (
        "_alone",
        "_blocks",
        "_crossing",
        "_fair",
        "_inside",
        "_pieces",
        "_reach",
        "_spread",
        "_square",
        "_step",
        "_touched",
        "_uneven",
        "load",
        "problem",
        "where",
    )

    def __init__(self, problem: Problem) -> None:
        workers = range(problem.workers)
        self.problem: Problem = problem
        self.where: list[int] = [-1] * len(problem.weights)
        self.load: list[int] = [0 for _ in workers]
        self._fair = problem.fair_share
        self._step = max(1, self._fair // TOLERANCE)
        self._blocks = [0 for _ in workers]
        self._alone = [0 for _ in workers]
        self._spread = [[0 for _ in workers] for _ in range(problem.groups)]
        self._touched = [[0 for _ in workers] for _ in range(problem.cycles)]
        self._inside = [[0 for _ in workers] for _ in problem.nets]
        self._reach = [0 for _ in problem.nets]
        self._crossing = 0
        self._uneven = 0
        self._pieces = 0
        self._square = 0

    @classmethod
    def of(cls, problem: Problem, where: Sequence[int]) -> Placement:
        """Every block placed as said."""
        placement = cls(problem)
        placement.load_placed(where)
        return placement

    def key(self) -> Key:
        """What makes a placement good, the most important first; less is better.

        Pieces of cycles that are taken apart; company of those who want a worker of their own; unevenness
        of groups; load of the fullest worker above its fair share, in steps; crossing edges; unevenness of
        the loads. None of them falls when a further block is placed: branch and bound rests on that.
        """
        above = (self._fullest() - self._fair) // self._step
        return (self._pieces, self._company(), self._uneven, max(0, above), self._crossing, self._square)

    def merit(self) -> Merit:
        """The pieces of cycles, those who share though they want to be alone, unevenness; load; crossing edges."""
        shared = sum(alone for alone, blocks in zip(self._alone, self._blocks, strict=True) if blocks > 1)
        return Merit((self._pieces, shared, self._uneven), self._fullest(), self._crossing)

    def _fullest(self) -> int:
        """The load of the fullest worker. What crosses, if it is priced, may all be work of that one."""
        return max(self.load) + (self._crossing if self.problem.priced else 0)

    def _company(self) -> int:
        many = len(self.where) + 1
        return sum(
            many * alone + blocks - 1
            for alone, blocks in zip(self._alone, self._blocks, strict=True)
            if alone and blocks > 1
        )

    def put(self, block: int, worker: int) -> None:
        """Places a block that is on no worker."""
        problem = self.problem
        self.where[block] = worker
        weight = problem.weights[block]
        self._square += weight * (2 * self.load[worker] + weight)
        self.load[worker] += weight
        self._blocks[worker] += 1
        self._alone[worker] += problem.alone[block]
        for group, members in problem.spread[block]:
            row = self._spread[group]
            self._uneven += members * (2 * row[worker] + members)
            row[worker] += members
        for cycle in problem.cycles_of[block]:
            row = self._touched[cycle]
            self._pieces += not row[worker]
            row[worker] += 1
        for net in problem.nets_of[block]:
            row = self._inside[net]
            if not row[worker]:
                self._reach[net] += 1
                if self._reach[net] == 2:
                    self._crossing += problem.nets[net].cost
            row[worker] += 1

    def take(self, block: int) -> int:
        """Takes a block from its worker, which is returned: exactly the reverse of `put`."""
        problem = self.problem
        worker = self.where[block]
        self.where[block] = -1
        weight = problem.weights[block]
        self.load[worker] -= weight
        self._square -= weight * (2 * self.load[worker] + weight)
        self._blocks[worker] -= 1
        self._alone[worker] -= problem.alone[block]
        for group, members in problem.spread[block]:
            row = self._spread[group]
            row[worker] -= members
            self._uneven -= members * (2 * row[worker] + members)
        for cycle in problem.cycles_of[block]:
            row = self._touched[cycle]
            row[worker] -= 1
            self._pieces -= not row[worker]
        for net in problem.nets_of[block]:
            row = self._inside[net]
            row[worker] -= 1
            if not row[worker]:
                self._reach[net] -= 1
                if self._reach[net] == 1:
                    self._crossing -= problem.nets[net].cost
        return worker

    def move(self, block: int, worker: int) -> int:
        """Moves a block and returns where it was."""
        before = self.take(block)
        self.put(block, worker)
        return before

    def load_placed(self, where: Sequence[int]) -> None:
        """Places every block as said."""
        for block, worker in enumerate(where):
            if self.where[block] >= 0:
                self.take(block)
            self.put(block, worker)

    def may_leave(self, block: int) -> bool:
        """Whether a block is free to move without leaving its worker empty."""
        return self.problem.pins[block] is None and self._blocks[self.where[block]] > 1

    def empty_workers(self) -> list[int]:
        return [worker for worker, blocks in enumerate(self._blocks) if not blocks]

    def targets(self, block: int) -> list[int]:
        """The workers to which it may be worth moving a block."""
        problem = self.problem
        here = self.where[block]
        if problem.workers <= 4:
            return [worker for worker in range(problem.workers) if worker != here]
        found = {
            self.where[other] for net in problem.nets_of[block] for other in problem.nets[net].nodes if other != block
        }
        found.add(min(range(problem.workers), key=self.load.__getitem__))
        for group, _ in problem.spread[block]:
            row = self._spread[group]
            found.add(min(range(problem.workers), key=lambda worker: (row[worker], self.load[worker])))
        return sorted(found - {here, -1})

    def at_the_border(self) -> list[int]:
        """The blocks in crossing nets."""
        return sorted(
            {
                block
                for net, reach in zip(self.problem.nets, self._reach, strict=True)
                if reach > 1
                for block in net.nodes
            }
        )

    def fewer_crossing(self, block: int, worker: int) -> int:
        """How many crossing edges fewer there would be with a block on another worker; less than 0: more."""
        here = self.where[block]
        fewer = 0
        for number in self.problem.nets_of[block]:
            reach, row = self._reach[number], self._inside[number]
            if reach == 1:
                fewer -= self.problem.nets[number].cost
            elif reach == 2 and row[here] == 1 and row[worker]:
                fewer += self.problem.nets[number].cost
        return fewer
