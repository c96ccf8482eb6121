"""The ports at which actors and the program listen, and what becomes of a run when one of them cannot be reached."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

import pytest

from cascata import Graph, Sink, Source
from cascata.engine.ray.run import RayRun
from cascata.errors import CascataError
from cascata.transport.tcp import station
from cascata.transport.tcp.station import Address
from tests.engine.parts import Add, Notes, count_to
from tests.on_ray.borrowed import ON_RAY

pytestmark = ON_RAY

NOBODY: Address = ("127.0.0.1", 9)
"""Where nobody listens."""


def stream_through_an_actor() -> list[int]:
    graph = Graph()
    graph.numbers = Source()
    graph.plus = Add
    graph.results = Sink()
    graph.numbers.out >> graph.plus.number
    graph.plus.total >> graph.results.inp
    return list(graph.stream(range(3), engine="ray", num_workers=1))


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can connect to the first worker."""
    right = RayRun._addresses_with
    monkeypatch.setattr(RayRun, "_addresses_with", lambda run, addresses: {**right(run, addresses), 0: NOBODY})


@pytest.mark.timeout(180)  # a worker with a set-up hook is a new process, that imports these tests
@pytest.mark.usefixtures("unreachable")
def test_actors_that_cannot_reach_each_other_end_the_run_with_what_was_tried_and_what_to_do(notes: Notes) -> None:
    soon = {"worker_process_setup_hook": "tests.on_ray.parts.hurry"}
    with pytest.raises(CascataError) as caught:
        count_to(3, notes).run(engine="ray", num_workers=2, runtime_env=soon)
    text = str(caught.value)
    assert text.startswith("worker 1 (")
    assert " could not connect to worker 0 (" in text
    assert text.count("; actor ") == text.count(" on node ") == 2
    assert "127.0.0.1:9 was tried for " in text
    assert "Connection refused" in text
    assert "set CASCATA_PORTS=" in text


@pytest.mark.usefixtures("unreachable")
def test_a_program_that_cannot_reach_an_actor_ends_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(station, "CONNECT_S", 0.3)
    with pytest.raises(CascataError, match=r"this program \([\d.]+\) could not connect to worker 0 \(plus; actor "):
        stream_through_an_actor()


def test_actors_and_the_program_listen_within_the_range_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASCATA_PORTS", "28400-28799")
    right = RayRun._addresses_with
    told: dict[int, Address] = {}

    def noted(run: RayRun, addresses: Mapping[int, Address]) -> dict[int, Address]:
        told.update(found := right(run, addresses))
        return found

    monkeypatch.setattr(RayRun, "_addresses_with", noted)
    assert stream_through_an_actor() == [1, 2, 3]
    assert sorted(told) == [0, 1]
    assert all(28_400 <= port <= 28_799 for _, port in told.values())


def test_a_range_that_is_used_up_on_a_machine_ends_the_run_and_says_so(
    cluster: Any, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server((cluster.head_node.node_ip_address, 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("CASCATA_PORTS", f"{port}-{port}")
        with pytest.raises(CascataError, match=rf"worker \d \(\w+\) cannot listen .* every port of .*={port}-{port} "):
            count_to(3, notes).run(engine="ray", num_workers=2)
