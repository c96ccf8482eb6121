"""How a run ends: its report from the stats board, or its first error."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from ... import log
from ...errors import CascataError, LedgerError
from ...model import ERRORS, GraphSpec, Plan
from ...observe.board import FAILED_ITEMS, Board
from ...observe.report import EdgeReport, NodeReport, RunReport
from ...transport.ends.unread import Unread
from .supervisor import RESTARTS, RESTARTS_WITHIN_S

__all__ = ["make_report", "raise_outcome", "tell_of_growth", "tell_of_resistance", "tell_of_restart"]


def make_report(
    spec: GraphSpec,
    plan: Plan,
    board: Board,
    wall_s: float,
    engine: str,
    *,
    start_method: str | None = None,
    unread: Mapping[int, Unread] | None = None,
    complete: bool = True,
    lost: AbstractSet[int] = frozenset(),
    again: AbstractSet[int] = frozenset(),
) -> RunReport:
    """What a run did, as its workers counted it.

    Args:
        spec: the graph.
        plan: which node ran on which worker.
        board: the stats board.
        wall_s: seconds that the run took.
        engine: its name.
        start_method: of worker processes.
        unread: edge -> what was found in its channel when the run was over. Its readers had ended by then.
        complete: whether the run came to its end: then what was left unread was dropped by its readers. Else it was on
            its way, and is undelivered.
        again: workers that were started again. What they sent is what has come in elsewhere: their own count died.
        lost: workers that did not live to count all that they did: what is not accounted for was with them.
    """
    placed = {node: worker for worker, nodes in enumerate(plan.parts) for node in nodes}
    unread = unread or {}
    found = {edge: each.items for edge, each in unread.items()}
    left: Counter[str] = (
        Counter()
    )  # what no reader took in any more: of a stream that a group shared, its first member's
    for edge in spec.edges:
        dropped = (found.get(edge.id, 0) if complete else 0) + board.lost(edge.id)
        left[spec.channels[edge.channel].readers[0].node] += dropped
    nodes = {}
    for row, (name, node) in enumerate(spec.nodes.items()):
        received, sent, failed, dropped, busy_s, starved_s, blocked_s = board.node(row)
        nodes[name] = NodeReport(
            node=name,
            component=node.component.name,
            worker=None if node.component.at_caller else placed[name],
            received=received,
            sent=sent,
            failed=failed,
            dropped=dropped + left[name],
            busy_s=busy_s,
            starved_s=starved_s,
            blocked_s=blocked_s,
        )
    edges = []
    for edge in spec.edges:
        sent, delivered, failed, dropped = board.edge(edge.id)
        undelivered = 0 if complete else found.get(edge.id, 0)
        dropped += found.get(edge.id, 0) - undelivered
        writer = placed[edge.source.node]
        if writer in again or writer in lost:
            left_it = board.came(edge.id) + found.get(edge.id, 0) + board.lost(edge.id)
            left_it += board.outcome(edge.id, writer, FAILED_ITEMS)  # what could not be pickled
            sent = left_it if writer in again else max(sent, left_it)
        ends = {placed[edge.source.node], *(placed[reader.node] for reader in spec.channels[edge.channel].readers)}
        if lost & ends:
            accounted = delivered + failed + dropped
            sent = max(sent, accounted + undelivered)
            undelivered = sent - accounted
        edges.append(
            EdgeReport(
                source=str(edge.source),
                target=spec.channels[edge.channel].name,
                sent=sent,
                delivered=delivered,
                failed=failed,
                dropped=dropped,
                undelivered=undelivered,
            )
        )
    for name, node in spec.nodes.items():
        if placed[name] in again:
            ports = [each.edges for port, each in node.outputs.items() if port != ERRORS and each.edges]
            nodes[name] = replace(nodes[name], sent=sum(max(edges[edge].sent for edge in ids) for ids in ports))
    return RunReport(
        nodes=nodes,
        edges=tuple(edges),
        wall_s=wall_s,
        num_workers=len(plan.workers),
        engine=engine,
        start_method=start_method,
    )


def tell_of_growth(spec: GraphSpec, channel: int, capacity: int, extra: int, waits: Sequence[str]) -> None:
    """Logs who waited for whom, and that a channel was given more room, since nothing could move otherwise."""
    log.warning(
        "nothing could move: %s; so the capacity of %s was raised from %d to %d. Give the port that much to begin with "
        "(@inport(..., capacity=)) to save the pause",
        "; ".join(waits),
        spec.channels[channel].name,
        capacity,
        capacity + extra,
    )


def tell_of_restart(nodes: Sequence[str], death: CascataError, times: int) -> None:
    """Logs that a worker with these nodes is started again."""
    log.warning(
        "%s. Started again: %s (%d of at most %d times in %g s)",
        str(death).partition(". ")[0],
        ", ".join(nodes),
        times,
        RESTARTS,
        RESTARTS_WITHIN_S,
    )


def tell_of_resistance(workers: Iterable[str]) -> None:
    """Logs the nodes of each worker that was killed since it did not end when the run was stopped."""
    for nodes in workers:
        log.warning(
            "the run was stopped, and the worker of %s was killed: it did not end when it was cancelled at the end of "
            "the stop's time. A thread or a computation cannot be cancelled: look at `stopping: Stopping` in it",
            nodes,
        )


def raise_outcome(errors: Sequence[BaseException], report: RunReport, *, cancelled: bool) -> None:
    """Raises how a run ended, unless it came to its end with nothing unaccounted for.

    Raises:
        CascataError: the first failure, with the others in `.others` and what the run did in `.report`.
        CancelledError: the run was cancelled.
        LedgerError: items are unaccounted for.
    """
    if errors:
        first, *others = errors
        if isinstance(first, CascataError):
            first.others = (*first.others, *others)
            first.report = report
        raise first
    if cancelled:
        raise asyncio.CancelledError
    unbalanced = tuple(edge for edge in report.edges if not edge.balanced)
    if unbalanced:
        error = LedgerError(
            f"the run has ended, but items are unaccounted for: {'; '.join(map(str, unbalanced))}. This should not "
            f"happen, whatever a graph does: its results may lack items. Please report it",
            edges=unbalanced,
        )
        error.report = report
        raise error
