"""The ledger: each item that was sent is delivered, failed, dropped or undelivered, and a run says so when not."""

from __future__ import annotations

import os
import pickle
import signal
from typing import Any

import pytest

from cascata import Graph, In, Out, component
from cascata.errors import ComponentError, LedgerError, WorkerDied
from cascata.observe.board import Board
from tests.engine.parts import Count, Notes, count_to

Options = dict[str, Any]


def test_a_count_that_is_lost_is_an_error_with_the_numbers(
    engine: Options, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Board.edge

    def corrupt(board: Board, edge: int) -> tuple[int, int, int, int]:
        sent, delivered, failed, dropped = honest(board, edge)
        return sent, delivered - 1, failed, dropped

    monkeypatch.setattr(Board, "edge", corrupt)
    with pytest.raises(LedgerError, match=r"count\.number -> keep\.item: sent 10 != delivered 9") as caught:
        count_to(10, notes).run(**engine)
    (edge,) = caught.value.edges
    assert (edge.sent, edge.delivered, edge.balanced) == (10, 9, False)
    assert pickle.loads(pickle.dumps(caught.value)).edges == caught.value.edges


@component
async def FailsAt(number: In[int], out: Out[int], at: In[int] = 50) -> None:
    if number == at:
        raise ValueError(number)
    await out.send(number)


@component
async def DiesAt(number: In[int], out: Out[int], at: In[int] = 50) -> None:
    if number == at:
        os.kill(os.getpid(), signal.SIGKILL)
    await out.send(number)


@component
async def Takes(number: In[int]) -> None:
    pass


def three(middle: Any) -> Graph:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 5000
    graph.middle = middle
    graph.last = Takes
    graph.count >> graph.middle
    graph.middle.out >> graph.last.number
    return graph


def test_the_error_of_a_run_carries_its_report(engine: Options) -> None:
    with pytest.raises(ComponentError) as caught:
        three(FailsAt).run(**engine)
    report = pickle.loads(pickle.dumps(caught.value)).report
    into, out_of = report.edges
    assert (into.failed, report.nodes["middle"].failed) == (1, 1)
    assert into.delivered == 50
    assert into.balanced
    assert out_of.balanced
    assert out_of.sent == 50


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_the_ledger_balances_when_a_worker_is_killed(num_workers: int) -> None:
    with pytest.raises(WorkerDied) as caught:
        three(DiesAt).run(num_workers=num_workers)
    into, out_of = caught.value.report.edges
    assert into.balanced
    assert out_of.balanced
    assert into.sent > 0 or num_workers < 3  # what died with its sender may not have been counted
    assert into.failed == 0
