"""Nodes on workers: as many workers as asked for, and what belongs together on one of them.

In this order: pins are obeyed; cycles stay whole; restartable nodes get workers of their own, if there are
enough for all of them; the members of a group spread; chains stay whole; loads are balanced; few edges cross.
A chain is cut when there would be too few parts for the workers, when whole chains would leave one worker with
far more than its share, or when that saves crossings elsewhere at no more load.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any

from ..errors import DefinitionError
from ..model import ChannelSpec, GraphSpec, Plan
from ..options import RUN_OPTIONS, check_options, suggestion
from .network import Network, fillable, find_atoms, find_chains
from .placement import Merit, Placement, Problem
from .reasons import Outcome, reasons
from .search import solve

__all__ = ["available_cpus", "measured", "partition"]

# When whole chains give way to balance: the fullest worker would carry so many times what it carries with
# cut chains, and more by the weight of so many average nodes. Weights that nobody measured are a guess, and
# a guess must be far off before it is worth a crossing edge.
_MEASURED = (1.1, 0)
_GUESSED = (1.5, 3)


def available_cpus() -> int:
    """The number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no affinity that Python can ask for
        return os.cpu_count() or 1


def measured(report: Any) -> tuple[dict[str, float] | None, dict[tuple[str, str], int] | None]:
    """The weights and the traffic that the report of a run tells, for `partition`; of no report (None), nothing."""
    if report is None:
        return None, None
    return (
        {name: node.busy_s for name, node in report.nodes.items()},
        {(edge.source, edge.target): edge.sent for edge in report.edges},
    )


def partition(
    spec: GraphSpec,
    num_workers: int | None,
    weights: Mapping[str, float] | None = None,
    traffic: Mapping[tuple[str, str], int] | None = None,
    *,
    alone: AbstractSet[str] | None = None,
) -> Plan:
    """Decides which node runs on which worker. The same arguments give the same plan, everywhere.

    Args:
        spec: the resolved graph.
        num_workers: workers to use. With at least as many nodes, exactly so many are used, unless pins
            leave too few nodes for the others; never more than nodes. None: as many as there are cores, or
            as pins name.
        weights: node to its work, in any unit (busy seconds of an earlier run); a node that is not named
            weighs as much as the others on average, names of other graphs are ignored. None: all weigh the same.
        traffic: edge, as (out-port, in-port), to the items that it carried while the weights were measured. Weights
            must be seconds then: an edge between workers costs both of them work for each item. None: each edge
            costs the same, and less than any imbalance.
        alone: nodes that must each have a worker of their own, since they start again when it dies; there are as many
            workers as that takes. None: those whose component asks for it have one if there are enough workers.

    Returns:
        The plan, with a reason for each node. Without a pin, worker 0 has the node defined first.

    Raises:
        DefinitionError: `num_workers` is not a whole number of at least 1; a pin names a node that does not
            exist, or a worker that the run does not have; a weight is negative or not a number; a pin keeps a node
            from being alone.
    """
    check_options({"num_workers": num_workers}, RUN_OPTIONS, "plan")
    _check_weights(weights or {})
    if not spec.nodes:
        return Plan((), {}, frozenset())
    caller = tuple(name for name, node in spec.nodes.items() if node.component.at_caller)
    network = Network.of(_on_workers(spec, caller), weights or {}, traffic or {})
    if alone is not None:
        network = replace(network, restartable=tuple(name in alone for name in network.names))
        if alone:
            least = len(alone) + (len(alone) < len(network.names))
            num_workers = max(available_cpus() if num_workers is None else num_workers, least)
    workers = _workers(spec, network, num_workers)
    placed, outcome = _place(network, workers, _GUESSED if weights is None else _MEASURED)
    where = _renumbered(placed, network, workers)
    worker_of = dict(zip(network.names, where, strict=True))
    for node in alone or ():
        beside = [other for other, worker in worker_of.items() if worker == worker_of[node] and other != node]
        if beside:
            raise DefinitionError(
                f"plan: node {node!r} starts again when its worker dies and must have it to itself, but pins put it "
                f"beside {', '.join(beside)}. Pin them to different workers, or do not pin them."
            )
    why = reasons(network, where, workers, outcome)
    on_workers = tuple(tuple(name for name, worker in worker_of.items() if worker == each) for each in range(workers))
    worker_of.update(dict.fromkeys(caller, workers))
    return Plan(
        workers=on_workers,
        reasons={name: why.get(name, "with the caller, who holds its other end") for name in spec.nodes},
        crossing=frozenset(
            channel.id
            for channel in spec.channels
            if len({worker_of[node] for node in _channel_nodes(spec, channel)}) > 1
        ),
        channels=tuple(_channel_text(spec, channel) for channel in spec.channels),
        caller=caller,
    )


def _on_workers(spec: GraphSpec, caller: Sequence[str]) -> GraphSpec:
    """The graph without what is the caller's: what is left is to be placed."""
    if not caller:
        return spec
    for node in caller:
        if node in spec.pins:
            raise DefinitionError(
                f"plan: node {node!r} is pinned to worker {spec.pins[node]}, but it is a "
                f"{spec.nodes[node].component.name}, which lives with the caller. Leave the pin away."
            )
    gone = frozenset(caller)
    return replace(
        spec,
        nodes={name: node for name, node in spec.nodes.items() if name not in gone},
        # What the caller writes or reads crosses wherever the others are.
        channels=tuple(
            replace(channel, readers=(), edges=()) if gone & set(_channel_nodes(spec, channel)) else channel
            for channel in spec.channels
        ),
        groups={name: members for name, members in spec.groups.items() if members[0] not in gone},
    )


def _check_weights(weights: Mapping[str, float]) -> None:
    for node, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise DefinitionError(f"plan: the weight of node {node!r} must be a number of at least 0, not {weight!r}")


def _workers(spec: GraphSpec, network: Network, asked: int | None) -> int:
    """How many workers the run has: none of them is left without a node."""
    for node in spec.pins:
        if node not in spec.nodes:
            raise DefinitionError(f"plan: pinned node {node!r} is not in the graph.{suggestion(node, spec.nodes)}")
    highest = max(spec.pins.values(), default=-1)
    wanted = max(available_cpus(), highest + 1) if asked is None else asked
    workers = min(wanted, fillable(network.pins))
    for node, worker in spec.pins.items():
        if 0 <= worker < workers:
            continue
        several = f"{workers} workers, 0 to {workers - 1}" if workers > 1 else "one worker, 0"
        cause = ""
        if wanted > workers:
            cause = f": its {len(spec.nodes)} node(s) and their pins cannot fill {wanted} workers, and none stays empty"
        raise DefinitionError(
            f"plan: node {node!r} is pinned to worker {worker}, but this run has {several}{cause}. "
            f"Pin it to a lower worker, or run with more workers or nodes."
        )
    return workers


def _place(network: Network, workers: int, patience: tuple[float, int]) -> tuple[list[int], Outcome]:
    """The worker of each node, and what the reasons need to know."""
    nodes = len(network.names)
    if workers == 1:
        return [0] * nodes, Outcome()
    if workers == nodes:
        return _one_each(network), Outcome()
    atoms = find_atoms(network, workers)
    wishes = sum(any(network.restartable[node] for node in members) for members in atoms.members)
    if wishes + (wishes < len(atoms.members)) > workers:  # one of them alone would be no help to the others
        network = replace(network, restartable=(False,) * nodes)
    chains = find_chains(network, atoms)
    whole = Problem.of(network, atoms, chains, workers)
    too_few = fillable(whole.pins) < workers
    where = None if too_few else _of_atoms(chains, solve(whole))
    if where is None or len(chains) < len(atoms.members):
        cut = Problem.of(network, atoms, [(atom,) for atom in range(len(atoms.members))], workers)
        if where is None:
            where = solve(cut).where
        else:
            kept = Placement.of(cut, where)
            # first against what cannot be beaten: with most graphs there is nothing to gain
            if _cutting_pays(kept.merit(), cut.bound, patience, cut):
                best = solve(cut, where)
                if _cutting_pays(kept.merit(), best.merit(), patience, cut):
                    where = best.where
    of_nodes = [0] * nodes
    for members, worker in zip(atoms.members, where, strict=True):
        for node in members:
            of_nodes[node] = worker
    return of_nodes, Outcome(atoms, tuple(chains), too_few=too_few)


def _of_atoms(chains: Sequence[Sequence[int]], placement: Placement) -> list[int]:
    worker_of = {atom: worker for chain, worker in zip(chains, placement.where, strict=True) for atom in chain}
    return [worker_of[atom] for atom in range(len(worker_of))]


def _cutting_pays(whole: Merit, cut: Merit, patience: tuple[float, int], problem: Problem) -> bool:
    """Whether a placement of cut chains is worth its cuts."""
    if cut.sacrifices != whole.sacrifices:
        return cut.sacrifices < whole.sacrifices
    times, nodes = patience
    average = sum(problem.weights) / len(problem.weights)
    if whole.load > times * cut.load and whole.load - cut.load > nodes * average:
        return True
    return cut.crossing < whole.crossing and cut.load <= whole.load


def _one_each(network: Network) -> list[int]:
    free = iter(sorted(set(range(len(network.names))) - set(network.pins)))
    return [next(free) if pin is None else pin for pin in network.pins]


def _renumbered(where: Sequence[int], network: Network, workers: int) -> list[int]:
    """The same placement; the workers that no pin names are numbered by their first nodes."""
    new = {pin: pin for pin in network.pins if pin is not None}
    free = iter([worker for worker in range(workers) if worker not in new])
    for worker in where:
        if worker not in new:
            new[worker] = next(free)
    return [new[worker] for worker in where]


def _channel_nodes(spec: GraphSpec, channel: ChannelSpec) -> list[str]:
    return [spec.edges[edge].source.node for edge in channel.edges] + [reader.node for reader in channel.readers]


def _channel_text(spec: GraphSpec, channel: ChannelSpec) -> str:
    writers = ", ".join(str(spec.edges[edge].source) for edge in channel.edges)
    return f"{writers} → {', '.join(str(reader) for reader in channel.readers)}"
