"""Actors that cannot connect to each other: their frames go by Ray calls, and nothing else is different."""

from __future__ import annotations

import inspect
import logging
import signal
import time
from typing import Any

import pytest

from cascata import Graph, Sink, Source
from cascata.engine.ray.actor import WorkerActor
from cascata.engine.ray.run import RayRun
from cascata.errors import CascataError, WorkerDied
from cascata.transport.tcp.station import Address
from tests.engine import test_ending, test_sending, test_streams
from tests.engine.parts import Add, Count, Each, Endless, Notes, Pass, keep
from tests.language import test_cycles
from tests.live import test_call, test_open, test_stream
from tests.on_ray.borrowed import ON_RAY, borrowed
from tests.on_ray.parts import SOON_S, At, Dies, until
from tests.workflow import test_dag

pytestmark = ON_RAY

NOBODY: Address = ("127.0.0.1", 9)
"""Where nobody listens."""


@pytest.fixture(autouse=True)
def by_calls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No direct connections, but in the tests that are about who connects."""
    if "unreachable" not in request.fixturenames:
        monkeypatch.setenv("CASCATA_TRANSPORT", "calls")


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Workers whose stations nobody can connect to."""
    workers: set[int] = set()
    addresses_with = RayRun._addresses_with

    def astray(run: RayRun, addresses: Any) -> dict[int, Address]:
        right = addresses_with(run, addresses)
        return {worker: NOBODY if worker in workers else address for worker, address in right.items()}

    monkeypatch.setattr(RayRun, "_addresses_with", astray)
    return workers


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    return [text for text in found if "no direct connection" in text]


# What users see, of other rooms: order, back-pressure, ends in both directions, large arrays, the caller's side.
for tests in (
    borrowed(test_sending, "back_pressure_reaches"),
    borrowed(test_ending, "a_whole_chain_is_stopped"),
    borrowed(test_streams, "a_fan_out_delivers", "large_arrays"),
    borrowed(test_cycles, "fibonacci"),
    borrowed(test_call, "calls_from_many_tasks", but=("a_killed_worker",)),
    borrowed(test_open, "back_pressure_reaches", "leaving_by_an_exception", but=("a_killed_worker",)),
    borrowed(test_stream, "sources_are_named", but=("a_killed_worker",)),
    borrowed(test_dag, "members_of_a_node"),
):
    globals().update(tests)


def test_an_actor_keeps_the_order_of_its_calls() -> None:
    # One coroutine among its methods, and Ray takes it for an async actor.
    assert inspect.getmembers(WorkerActor, inspect.iscoroutinefunction) == []


def test_one_pair_goes_by_calls_and_the_others_do_not_and_the_log_says_which(
    unreachable: set[int], notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    unreachable.add(0)
    graph = Graph()
    graph.count = Count
    graph.count.upto < 500
    graph.same = Pass
    graph.count.number >> graph.same.item
    kept = keep(graph, graph.same.same, notes)
    for worker, node in enumerate((graph.count, graph.same, kept)):
        graph.pin(node, worker)
    report = graph.run(engine="ray", num_workers=3)
    assert notes.read() == list(range(500))
    assert all(edge.sent == edge.delivered == 500 for edge in report.edges)
    (text,) = warnings_of(caplog)
    assert "from worker 1 (node " in text
    assert "to worker 0 (node " in text
    assert "Connect call failed" in text
    assert "worker 2" not in text


def test_a_program_that_cannot_connect_sends_and_reads_by_calls(
    unreachable: set[int], caplog: pytest.LogCaptureFixture
) -> None:
    unreachable.add(0)
    graph = Graph()
    graph.numbers = Source()
    graph.plus = Add
    graph.results = Sink()
    graph.numbers.out >> graph.plus.number
    graph.plus.total >> graph.results.inp
    assert list(graph.stream(range(500), engine="ray", num_workers=1)) == list(range(1, 501))
    (text,) = warnings_of(caplog)
    assert "from this program (" in text


@pytest.mark.parametrize("busy", [True, False], ids=["busy", "idle"])
def test_a_dead_actor_is_told_within_seconds(notes: Notes, busy: bool) -> None:
    graph = Graph()
    graph.source = Endless if busy else Each
    if not busy:
        graph.source.items < [0, 1, 2]
    graph.dies = Dies
    graph.dies.signal < signal.SIGKILL
    graph.dies.told < notes
    graph.holds = At
    graph.holds.place < (notes, "holds")
    (graph.source.number if busy else graph.source.item) >> graph.dies.number
    graph.dies.same >> graph.holds.number
    graph.pin(graph.source, 0)
    graph.pin(graph.dies, 1)
    graph.pin(graph.holds, 2)
    graph.start(engine="ray", num_workers=3)
    until(notes, 1)
    began = time.monotonic()
    with pytest.raises(WorkerDied) as caught:
        graph.join()
    assert time.monotonic() - began < SOON_S
    assert (caught.value.worker, caught.value.nodes) == (1, ("dies",))
    assert notes.read()[-1] == ("holds", "torn down")


def test_a_dead_actor_that_answers_the_program_ends_the_stream() -> None:
    graph = Graph()
    graph.numbers = Source()
    graph.dies = Dies
    graph.dies.signal < signal.SIGKILL
    graph.results = Sink()
    graph.numbers.out >> graph.dies.number
    graph.dies.same >> graph.results.inp
    began = time.monotonic()
    with pytest.raises(WorkerDied):
        list(graph.stream(range(100), engine="ray", num_workers=1))
    assert time.monotonic() - began < 2 * SOON_S  # its start among them


def test_a_run_that_is_stopped_drains(notes: Notes) -> None:
    graph = Graph()
    graph.endless = Endless
    keep(graph, graph.endless.number, notes)
    graph.start(engine="ray", num_workers=2)
    until(notes, 300)
    graph.stop()
    report = graph.join()
    assert notes.read() == list(range(report.nodes["endless"].sent))


def test_another_transport_than_there_is_cannot_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASCATA_TRANSPORT", "pigeons")
    graph = Graph()
    graph.endless = Endless
    with pytest.raises(CascataError, match=r"CASCATA_TRANSPORT='pigeons': .*'calls', for workers on Ray"):
        graph.run(engine="ray")
