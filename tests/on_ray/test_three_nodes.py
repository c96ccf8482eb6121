"""Three nodes on one machine, one of which is lost. The last of these tests: Ray takes its time to forget a node."""

from __future__ import annotations

import time
from typing import Any

import pytest

from cascata import Graph
from cascata.errors import WorkerDied
from tests.engine.parts import Endless, Notes
from tests.on_ray.borrowed import ON_RAY
from tests.on_ray.parts import SOON_S, AtLeft, AtRight, until

pytestmark = ON_RAY


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
        assert time.monotonic() - began < SOON_S
    finally:
        cluster.remove_node(third)
    assert caught.value.nodes == ("right",)
    (note,) = caught.value.__notes__
    assert f"on node {right.node_id}" in note
    assert ("left", "torn down") in notes.read()
