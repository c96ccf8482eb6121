"""A supervisor and its run, for the tests of it."""

from __future__ import annotations

import signal

from cascata import Graph
from cascata.engine.protocol.messages import CancelWorker
from cascata.engine.supervision.events import Exited, Ready
from cascata.engine.supervision.instructions import SetTimer
from cascata.engine.supervision.supervisor import Supervisor
from cascata.errors import ComponentError
from cascata.model import GraphSpec, Plan
from tests.engine.parts import Count, Keep, Notes, Pass

GRACE = 5.0


def specified() -> GraphSpec:
    """count and more → passes_0, passes_1 → keep: channels 0 (shared by the group) and 1, edges 0, 1 and 2, 3."""
    graph = Graph()
    graph.count = Count
    graph.more = Count
    graph.passes = Pass * 2
    graph.keep = Keep
    for source in (graph.count, graph.more):
        source.upto < 1
    graph.keep.notes < Notes("")
    graph.count.number >> graph.passes.item
    graph.more.number >> graph.passes.item
    graph.passes.same >> graph.keep.item
    return graph.resolve()


WORKERS = (("count", "more"), ("passes_0",), ("passes_1", "keep"))


def supervisor(
    workers: tuple[tuple[str, ...], ...] = WORKERS, grace: float = GRACE, booting: tuple[int, ...] = ()
) -> Supervisor:
    run = Supervisor(specified(), Plan(workers, {}, frozenset({0, 1})), grace)
    for worker in range(len(workers)):
        if worker not in booting:
            assert run.handle(Ready(worker)) == []
    return run


def failure(text: str = "as asked") -> ComponentError:
    return ComponentError(text, node="keep", worker=2)


ALL_CANCELLED = [CancelWorker(0), CancelWorker(1), CancelWorker(2), SetTimer(GRACE)]


def restarting() -> Supervisor:
    """Worker 1, with one node, may be started again."""
    run = Supervisor(specified(), Plan(WORKERS, {}, frozenset({0, 1})), GRACE, frozenset({1}))
    for worker in range(3):
        run.handle(Ready(worker))
    return run


def killed(worker: int, at: float) -> Exited:
    return Exited(worker, -signal.SIGKILL, at)
