"""The report of a run adds up, on every engine: what was sent was delivered, failed or was dropped."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Any

import pytest

from cascata import Graph, In, Out, component, inport
from cascata.errors import ComponentError
from tests.engine.parts import Count, Each, KeepPair, Notes, Pass, count_to, keep

Options = dict[str, Any]


def edges_of(report: Any) -> dict[tuple[str, str], Any]:
    return {(edge.source, edge.target): edge for edge in report.edges}


def test_counts_of_a_chain_are_those_of_its_items(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 1234
    graph.passes = Pass
    graph.count >> graph.passes
    keep(graph, graph.passes.same, notes)
    report = graph.run(**engine)
    counts = {name: (node.received, node.sent, node.failed, node.dropped) for name, node in report.nodes.items()}
    assert counts == {"count": (0, 1234, 0, 0), "passes": (1234, 1234, 0, 0), "keep": (1234, 0, 0, 0)}
    assert [(edge.source, edge.target) for edge in report.edges] == [
        ("count.number", "passes.item"),
        ("passes.same", "keep.item"),
    ]
    for edge in report.edges:
        assert (edge.sent, edge.delivered, edge.failed, edge.dropped, edge.undelivered) == (1234, 1234, 0, 0, 0)


def test_an_item_that_goes_to_several_ports_is_sent_once_and_counted_on_each_edge(
    engine: Options, notes: Notes
) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 100
    for number in range(3):
        keep(graph, graph.count.number, notes, f"keep_{number}")
    report = graph.run(**engine)
    assert report.nodes["count"].sent == 100
    assert [edge.sent for edge in report.edges] == [100] * 3


def test_merged_edges_are_counted_apart(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.few = Count
    graph.few.upto < 100
    graph.many = Count
    graph.many.upto < 1000
    keep(graph, graph.few.number, notes)
    graph.many.number >> graph.keep.item
    report = graph.run(**engine)
    edges = edges_of(report)
    assert edges["few.number", "keep.item"].delivered == 100
    assert edges["many.number", "keep.item"].delivered == 1000
    assert report.nodes["keep"].received == 1100


def test_a_seed_is_received_and_was_sent_by_nobody(engine: Options, notes: Notes) -> None:
    graph = count_to(10, notes)
    graph.keep.item < "seed"
    report = graph.run(**engine)
    assert report.nodes["keep"].received == 11
    assert (report.edges[0].sent, report.edges[0].delivered) == (10, 10)
    assert report.edges[0].balanced


def test_counts_balance_whatever_a_zip_leaves_unread(engine: Options, notes: Notes) -> None:
    graph = Graph()
    for name, items in (("short", 3), ("long", 50), ("longest", 1000)):
        node = graph.add(Count, name)
        node.upto < items
    graph.pair = KeepPair
    graph.pair.notes < notes
    graph.short.number >> graph.pair.left
    graph.long.number >> graph.pair.right
    graph.longest.number >> graph.pair.right
    report = graph.run(**engine)
    assert report.nodes["pair"].received == 6
    assert all(edge.balanced for edge in report.edges)
    edges = edges_of(report)
    right = [edges[f"{name}.number", "pair.right"] for name in ("long", "longest")]
    assert sum(edge.delivered for edge in right) == 3
    assert sum(edge.dropped for edge in report.edges) == report.nodes["pair"].dropped


# --- on_error="skip" --------------------------------------------------------------------------------


@component
async def FailsAtOdd(number: In[int], out: Out[int]) -> None:
    if number % 2:
        raise ValueError(f"{number} is odd")
    await out.send(number)


@component
def FailsAtOddPlainly(number: In[int], out: Out[int]) -> int:
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


@component
async def FailsAfterSending(number: In[int], out: Out[int]) -> None:
    await out.send(number)
    if number % 2:
        raise ValueError(f"{number} is odd")


def failing(node: Any, notes: Notes, upto: int = 100) -> Graph:
    graph = Graph()
    graph.count = Count
    graph.count.upto < upto
    graph.node = node
    graph.count >> graph.node
    keep(graph, graph.node.out, notes)
    return graph


@pytest.mark.parametrize("node", [FailsAtOdd, FailsAtOddPlainly])
def test_items_that_fail_are_skipped_counted_and_logged(
    engine: Options, notes: Notes, caplog: pytest.LogCaptureFixture, node: Any
) -> None:
    caplog.set_level(logging.ERROR, logger="cascata")
    report = failing(node, notes).run(**engine, on_error="skip")
    assert notes.read() == [*range(0, 100, 2)]
    assert (report.nodes["node"].received, report.nodes["node"].sent, report.nodes["node"].failed) == (100, 50, 50)
    edge = edges_of(report)["count.number", "node.number"]
    assert (edge.sent, edge.delivered, edge.failed) == (100, 50, 50)
    assert edge.balanced
    logged = [record for record in caplog.records if "is odd" in record.getMessage()]
    assert len(logged) == 50
    assert {record.__dict__["node"] for record in logged} == {"node"}
    assert "number=1" in logged[0].getMessage()
    assert "Traceback" in caplog.text


def test_what_a_failing_item_sent_before_is_sent(engine: Options, notes: Notes) -> None:
    report = failing(FailsAfterSending, notes).run(**engine, on_error="skip")
    assert notes.read() == [*range(100)]
    assert report.nodes["node"].failed == 50


def test_a_zip_that_fails_fails_all_of_its_items(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.left = Count
    graph.left.upto < 10
    graph.right = Each
    graph.right.items < [*"abcdefghij"]
    graph.node = FailsAtPairs
    graph.left.number >> graph.node.left
    graph.right.item >> graph.node.right
    report = graph.run(**engine, on_error="skip")
    for edge in report.edges:
        assert (edge.sent, edge.delivered, edge.failed) == (10, 7, 3)


@component
async def FailsAtPairs(left: In[int], right: In[str]) -> None:
    if right in {"a", "e", "j"}:
        raise ValueError(f"{left} {right}")


def test_without_skip_the_first_failing_item_ends_the_run(engine: Options, notes: Notes) -> None:
    with pytest.raises(ComponentError, match="1 is odd"):
        failing(FailsAtOdd, notes).run(**engine)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_is_no_exception_is_not_skipped(engine: Options, notes: Notes, error: type[BaseException]) -> None:
    @component
    async def Ends(number: In[int], out: Out[int]) -> None:
        raise error

    with pytest.raises(ComponentError):
        failing(Ends, notes).run(**engine, on_error="skip")


# --- times ------------------------------------------------------------------------------------------


@component
async def Slow(number: In[int], out: Out[int]) -> None:
    end = time.perf_counter() + 0.004
    while time.perf_counter() < end:
        pass
    await out.send(number)


@component
async def Takes(number: In[int]) -> None:
    pass


def test_times_tell_who_was_busy_who_starved_and_who_was_blocked(engine: Options) -> None:
    graph = Graph()
    graph.fast = Count
    graph.fast.upto < 150
    graph.slow = Slow
    graph.takes = Takes
    graph.fast >> graph.slow >> graph.takes
    report = graph.run(**engine)
    fast, slow, takes = (report.nodes[name] for name in ("fast", "slow", "takes"))
    assert 0.5 < slow.busy_s < report.wall_s
    assert fast.blocked_s > 0.05
    assert fast.busy_s < 0.1
    assert takes.starved_s > 0.2  # in one loop it waits its turn as well
    assert report.bottleneck == "slow"
    for node in report.nodes.values():
        assert node.busy_s + node.starved_s + node.blocked_s <= report.wall_s * 1.05


@component
@inport("number", capacity=1)
async def Computes(number: In[int], out: Out[int]) -> None:
    until = time.thread_time() + 0.002
    while time.thread_time() < until:
        pass
    await out.send(number)


def test_who_runs_within_a_send_is_busy_and_the_sender_is_blocked(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 100
    graph.computes = Computes
    graph.count >> graph.computes
    keep(graph, graph.computes.out, notes)
    report = graph.run(**engine)
    assert report.nodes["computes"].busy_s > 0.2
    assert report.nodes["count"].busy_s < 0.1
    assert report.nodes["count"].blocked_s > 0.1


@pytest.mark.parametrize("seed", range(6))
def test_any_graph_balances(engine: Options, seed: int) -> None:
    """Random layered graphs with fan-outs, merges, groups and unequal sources."""
    choose = random.Random(seed)
    graph = Graph()
    outs: list[Any] = []
    for number in range(choose.randint(1, 3)):
        source = graph.add(Count, f"source_{number}")
        source.upto < choose.randint(0, 600)
        outs.append(source.number)
    for number in range(choose.randint(1, 4)):
        size = choose.choice([1, 1, 2, 3])
        node = graph.add(Jitters * size if size > 1 else Jitters, f"node_{number}")
        for out in choose.sample(outs, choose.randint(1, min(2, len(outs)))):
            out >> node.item
        outs.append(node.same)
    report = graph.run(**engine)
    for edge in report.edges:
        assert edge.balanced
        assert edge.delivered == edge.sent
    for name, counts in report.nodes.items():
        assert counts.dropped == counts.failed == 0
        if name.startswith("node_"):
            assert counts.sent == counts.received


@component
async def Jitters(item: In[int], same: Out[int]) -> None:
    if item % 7 == 0:
        await asyncio.sleep(0)
    await same.send(item)
