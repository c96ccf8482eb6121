"""Nodes that start again on Ray when their actor dies: see `tests/fault/test_restart.py` for what that promises."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cascata import Graph, Sink, Source
from cascata.errors import ComponentError, WorkerDied
from tests.fault.test_restart import ITEMS, POISON, AlwaysDies, Concurrent, Plain, is_balanced, poisoned
from tests.on_ray.borrowed import ON_RAY

pytestmark = ON_RAY


def test_what_was_in_hand_of_a_dead_actor_fails_and_all_others_arrive_once(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    graph, letters, results = poisoned(Concurrent, ITEMS, tmp_path)
    report = graph.run(engine="ray", num_workers=2)
    ((found, _),) = results.read()
    failed = [item for _, item, _ in letters.read()]
    assert POISON in failed
    assert len(failed) <= 4  # calls at once
    assert found == [number for number in range(ITEMS) if number not in failed]
    assert {type(error) for _, _, error in letters.read()} == {WorkerDied}
    into, done = report.edges[0], report.nodes["node"]
    assert (into.sent, into.delivered, into.failed) == (ITEMS, len(found), len(failed))
    assert (done.received, done.sent, done.failed) == (ITEMS, len(found), len(failed))
    assert is_balanced(report)
    assert "Started again: node (1 of at most 3 times in 60 s)" in caplog.text


def test_an_actor_that_dies_too_often_ends_the_run_with_its_history(tmp_path: Any) -> None:
    graph, letters, _ = poisoned(AlwaysDies, ITEMS, tmp_path)
    with pytest.raises(WorkerDied, match=r"started again 3 times within 60 s") as caught:
        graph.run(engine="ray", num_workers=2)
    assert len(caught.value.history) == 4
    assert [item for _, item, _ in letters.read()] == [0, 1, 2]


def test_the_caller_whose_item_kills_an_actor_gets_that_error_and_the_others_their_answers() -> None:
    """All workers may start again: the caller keeps what they have not done."""
    graph = Graph()
    graph.asked = Source()
    graph.node = Plain
    graph.answered = Sink()
    graph.asked.out >> graph.node.number
    graph.node.out >> graph.answered.inp

    async def ask() -> list[Any]:
        async with graph.open(engine="ray", num_workers=1) as live:
            asked = (live.call(number, timeout=20) for number in (POISON - 1, POISON, POISON + 1))
            return await asyncio.gather(*asked, return_exceptions=True)

    answers = asyncio.run(ask())
    assert (answers[0], answers[2]) == (POISON - 1, POISON + 1)
    assert isinstance(answers[1], ComponentError)
    assert isinstance(answers[1].__cause__, WorkerDied)
