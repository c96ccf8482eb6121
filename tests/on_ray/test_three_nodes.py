"""Three nodes on one machine, one of which is lost. The last of these tests: Ray takes its time to forget a node."""

from __future__ import annotations

import time
from typing import Any

import pytest

from cascata import Graph
from cascata.engine.ray import run as engine_ray
from cascata.errors import CascataError, WorkerDied
from tests.engine.parts import Endless, Flag, Notes
from tests.on_ray.borrowed import ON_RAY
from tests.on_ray.parts import SOON_S, AgainAtRight, AtLeft, AtRight, CountsUntil, Tells, until
from tests.speed import in_time

pytestmark = ON_RAY


def test_a_run_goes_on_elsewhere_when_a_node_of_the_cluster_is_lost_and_ends_when_there_is_no_other(
    cluster: Any, notes: Notes, flags: list[Flag], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, results = Notes(str(tmp_path / "sent")), Notes(str(tmp_path / "results"))
    nodes = {each.node_id: each for each in (cluster.add_node(num_cpus=1, resources={"right": 1}) for _ in range(2))}
    graph = Graph()
    graph.counts = CountsUntil
    graph.again = AgainAtRight
    graph.tells = Tells
    graph.counts.over < flags[0]
    graph.counts.notes < sent
    graph.again.place < (notes, "again")
    graph.tells.notes < results
    graph.counts.number >> graph.again.number
    graph.again.same >> graph.tells.results
    graph.again.errors >> graph.tells.failures
    try:
        cluster.wait_for_nodes()
        graph.start(engine="ray", num_workers=2)
        ((_, _, _, place),) = until(notes, 1)
        cluster.remove_node(nodes.pop(place), allow_graceful=False)
        _, (_, _, _, other) = until(notes, 2)
        assert other in nodes
        flags[0].set()
        report = graph.join()
        (total,) = sent.read()
        ((found, failed),) = results.read()
        lost = [item for item, _ in failed]
        assert len(lost) <= 1  # what was in hand
        assert {error for _, error in failed} <= {WorkerDied}
        assert [each for each in found if each not in lost] == [each for each in range(total) if each not in lost]
        into = report.edges[0]
        assert (into.sent, into.delivered, into.failed, into.undelivered) == (total, total - len(lost), len(lost), 0)
        assert all(each.balanced for each in report.edges)

        monkeypatch.setattr(engine_ray, "SHORT_S", 1.0)
        graph.counts.over < flags[1]
        graph.start(engine="ray", num_workers=2)
        until(notes, 4)
    finally:
        for each in nodes.values():
            cluster.remove_node(each, allow_graceful=False)
    with pytest.raises(CascataError, match=r"\(again\) (has no place|asks for).*1 right.* no ") as caught:
        graph.join()
    assert any("it was to start again: worker" in note for note in caught.value.__notes__)


def test_a_node_of_the_cluster_that_is_lost_ends_the_run_and_names_it(cluster: Any, notes: Notes) -> None:
    right = cluster.add_node(num_cpus=1, resources={"right": 1})
    third = cluster.add_node(num_cpus=1, resources={"third": 1})
    graph = Graph()
    graph.endless = Endless
    for name, kind in (("left", AtLeft), ("right", AtRight)):
        graph.add(kind, name).place < (notes, name)
    graph.endless.number >> graph.left.number
    graph.left.same >> graph.right.number
    try:
        cluster.wait_for_nodes()
        graph.start(engine="ray", num_workers=3)
        places = {name: node for name, _, _, node in until(notes, 2)}
        assert places["right"] == right.node_id
        assert places["left"] == cluster.head_node.node_id
    finally:
        cluster.remove_node(right, allow_graceful=False)
    began = time.monotonic()
    try:
        with pytest.raises(WorkerDied) as caught:
            graph.join()
        assert in_time(SOON_S, since=began)
    finally:
        cluster.remove_node(third)
    assert caught.value.nodes == ("right",)
    (note,) = caught.value.__notes__
    assert f"on node {right.node_id}" in note
    assert ("left", "torn down") in notes.read()
