"""How a run ends: its report from the stats board, its warnings, or its first error."""

from __future__ import annotations

import asyncio
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence

from .. import log
from ..errors import CascataError, CascataWarning
from ..model import GraphSpec, Plan
from ..observe.board import Board
from ..observe.report import EdgeReport, NodeReport, RunReport

__all__ = ["make_report", "raise_outcome", "tell_of_growth", "warn_of_unawaited"]


def make_report(
    spec: GraphSpec,
    plan: Plan,
    board: Board,
    wall_s: float,
    engine: str,
    *,
    start_method: str | None = None,
    unread: Mapping[int, int] | None = None,
) -> RunReport:
    """What a run did, as its workers counted it.

    Args:
        spec: the graph.
        plan: which node ran on which worker.
        board: the stats board.
        wall_s: seconds that the run took.
        engine: its name.
        start_method: of worker processes.
        unread: edge -> items that were found in its channel when the run was over. Its readers had ended by then.
    """
    placed = {node: worker for worker, nodes in enumerate(plan.workers) for node in nodes}
    on_the_way = dict(unread or {})
    left: Counter[str] = (
        Counter()
    )  # what no reader took in any more: of a stream that a group shared, its first member's
    for edge in spec.edges:
        left[spec.channels[edge.channel].readers[0].node] += on_the_way.get(edge.id, 0) + board.lost(edge.id)
    nodes = {}
    for row, (name, node) in enumerate(spec.nodes.items()):
        received, sent, failed, dropped, busy_s, starved_s, blocked_s = board.node(row)
        nodes[name] = NodeReport(
            node=name,
            component=node.component.name,
            worker=placed[name],
            received=received,
            sent=sent,
            failed=failed,
            dropped=dropped + left[name],
            busy_s=busy_s,
            starved_s=starved_s,
            blocked_s=blocked_s,
        )
    edges = []  # of a run that succeeded: nothing is undelivered, what was left unread was dropped by its reader
    for edge in spec.edges:
        sent, delivered, failed, dropped = board.edge(edge.id)
        dropped += on_the_way.get(edge.id, 0)
        edges.append(
            EdgeReport(
                source=str(edge.source),
                target=spec.channels[edge.channel].name,
                sent=sent,
                delivered=delivered,
                failed=failed,
                dropped=dropped,
            )
        )
    return RunReport(
        nodes=nodes,
        edges=tuple(edges),
        wall_s=wall_s,
        num_workers=len(plan.workers),
        engine=engine,
        start_method=start_method,
    )


def warn_of_unawaited(unawaited: Mapping[str, int]) -> None:
    """Names the nodes that lost items by not awaiting `send`."""
    for node, count in unawaited.items():
        warnings.warn(
            f"node {node!r}: {count} call(s) of `send` had to wait and were never awaited, so their items were not "
            f"sent. Write `await port.send(item)`",
            CascataWarning,
            stacklevel=2,
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


def raise_outcome(errors: Sequence[BaseException], *, cancelled: bool) -> None:
    """Raises the first failure with the others in `.others`, or the cancellation, if there was any."""
    if errors:
        first, *others = errors
        if isinstance(first, CascataError):
            first.others = (*first.others, *others)
        raise first
    if cancelled:
        raise asyncio.CancelledError
