"""Graphs inside graphs, on every engine: copies under a prefix, nested, twice, with what they export."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from cascata import Graph, In, Out, component
from cascata.errors import DeadlockError, DefinitionError
from tests.engine.parts import Add, Count, Each, Keep, KeepPair, Notes, Pass, keep
from tests.language.test_cycles import Walk

Options = dict[str, Any]


@component
async def Join(left: In[Any], right: In[Any], both: Out[tuple[Any, Any]]) -> None:
    await both.send((left, right))


@component
async def Sum(numbers: In[list[int]], total: Out[int]) -> None:
    await total.send(sum(numbers))


def adding(*constants: int) -> Graph:
    """A chain of additions with `value` and `result` exported."""
    graph = Graph()
    nodes = [graph.add(Add, f"add_{number}") for number in range(len(constants))]
    for node, constant in zip(nodes, constants, strict=True):
        node.constant < constant
    for node, following in pairwise(nodes):
        node.total >> following.number
    graph.export(nodes[0].number, "value")
    graph.export(nodes[-1].total, "result")
    return graph


def counting(upto: int) -> Graph:
    graph = Graph()
    graph.count = Count
    graph.count.upto < upto
    return graph


def test_a_copy_runs_under_a_prefix_and_keeps_its_constants(engine: Options, notes: Notes) -> None:
    graph = counting(50)
    graph.sub = adding(1, 10)
    graph.count.number >> graph.sub.value
    keep(graph, graph.sub.result, notes)
    report = graph.run(**engine)
    assert notes.read() == [*range(11, 61)]
    assert [*report.nodes] == ["count", "sub_add_0", "sub_add_1", "keep"]


def test_one_graph_can_be_used_twice_and_stands_in_rows(engine: Options, notes: Notes) -> None:
    inner = adding(1)
    graph = counting(20)
    graph.first = inner
    graph.second = inner
    graph.count >> graph.first >> graph.second
    keep(graph, graph.second.result, notes)
    graph.run(**engine)
    assert notes.read() == [*range(2, 22)]


def test_copies_have_values_of_their_own(engine: Options, notes: Notes) -> None:
    inner = adding(1)
    graph = counting(10)
    graph.first = inner
    graph.second = inner
    graph.first_add_0.constant < 100
    graph.pair = KeepPair
    graph.pair.notes < notes
    graph.count.number >> graph.first.value
    graph.count.number >> graph.second.value
    graph.first.result >> graph.pair.left
    graph.second.result >> graph.pair.right
    graph.run(**engine)
    assert notes.read() == [(number + 100, number + 1) for number in range(10)]


def test_graphs_nest(engine: Options, notes: Notes) -> None:
    middle = Graph()
    middle.one = adding(1)
    middle.ten = adding(10)
    middle.one.result >> middle.ten.value
    middle.export(middle.one.value, "value")
    middle.export(middle.ten.result, "result")
    outer = Graph()
    outer.left = middle
    outer.right = middle
    outer.left.result >> outer.right.value
    outer.export(outer.left.value, "value")
    outer.export(outer.right.result, "result")
    graph = counting(30)
    graph.deep = outer
    graph.count.number >> graph.deep.value
    keep(graph, graph.deep.result, notes)
    report = graph.run(**engine)
    assert notes.read() == [*range(22, 52)]
    assert "deep_left_one_add_0" in report.nodes


def test_ports_of_groups_are_exported(engine: Options, notes: Notes) -> None:
    inner = Graph()
    inner.members = Add * 3
    inner.members.constant < 5
    inner.export(inner.members.number, "value")
    inner.export(inner.members.total, "result")
    graph = counting(200)
    graph.sub = inner
    graph.count.number >> graph.sub.value
    keep(graph, graph.sub.result, notes)
    report = graph.run(**engine)
    assert sorted(notes.read()) == [*range(5, 205)]
    assert sum(report.nodes[f"sub_members_{member}"].received for member in range(3)) == 200


def test_a_broadcast_reaches_every_member_of_an_exported_group(engine: Options, notes: Notes) -> None:
    inner = Graph()
    inner.members = Add * 2
    inner.export(inner.members.number, "value")
    inner.export(inner.members.total, "result")
    graph = counting(20)
    graph.sub = inner
    graph.count.number.broadcast() >> graph.sub.value
    keep(graph, graph.sub.result, notes)
    graph.run(**engine)
    assert sorted(notes.read()) == sorted([*range(1, 21)] * 2)


def test_a_group_in_a_subgraph_stays_ordered(engine: Options, notes: Notes) -> None:
    inner = Graph()
    inner.members = Pass * 3
    inner.members.ordered()
    inner.export(inner.members.item, "value")
    inner.export(inner.members.same, "result")
    graph = counting(300)
    graph.sub = inner
    graph.count.number >> graph.sub.value
    keep(graph, graph.sub.result, notes)
    graph.run(**engine)
    assert notes.read() == [*range(300)]


def test_batches_survive_the_copy_and_are_made_at_its_border(engine: Options, notes: Notes) -> None:
    inner = Graph()
    inner.same = Pass
    inner.sum = Sum
    inner.same.same >> 3 >= inner.sum.numbers
    inner.export(inner.same.item, "value")
    inner.export(inner.sum.total, "result")
    graph = counting(10)
    graph.sub = inner
    graph.count.number >> graph.sub.value
    graph.keep = Keep
    graph.keep.notes < notes
    graph.sub.result >>= graph.keep.item
    graph.run(**engine)
    assert notes.read() == [[0 + 1 + 2, 3 + 4 + 5, 6 + 7 + 8, 9]]


def test_triggers_survive_the_copy(engine: Options, notes: Notes) -> None:
    inner = Graph()
    inner.pair = Join
    inner.pair.clk(inner.pair.left)
    inner.pair.right < "seed"
    inner.export(inner.pair.left, "left")
    inner.export(inner.pair.right, "right")
    inner.export(inner.pair.both, "both")
    graph = counting(5)
    graph.nothing = Each
    graph.nothing.items < []
    graph.sub = inner
    graph.count.number >> graph.sub.left
    graph.nothing.item >> graph.sub.right
    keep(graph, graph.sub.both, notes)
    graph.run(**engine)
    assert notes.read() == [(number, "seed") for number in range(5)]


def test_a_cycle_with_its_seed_survives_the_copy(engine: Options, notes: Notes) -> None:
    inner = Graph()
    inner.walk = Walk
    inner.walk.below < 40
    inner.walk.again >> inner.walk.item
    inner.walk.item < 0
    inner.export(inner.walk.found, "found")
    graph = Graph()
    graph.first = inner
    graph.second = inner
    keep(graph, graph.first.found, notes, "keep_first")
    keep(graph, graph.second.found, notes, "keep_second")
    graph.run(**engine, timeout=10)
    assert sorted(notes.read()) == sorted([*range(40)] * 2)


def test_a_pin_survives_the_copy(notes: Notes) -> None:
    inner = adding(1, 10)
    inner.pin(inner.add_0, 1)
    inner.pin(inner.add_1, 0)
    graph = counting(5)
    graph.sub = inner
    graph.count.number >> graph.sub.value
    keep(graph, graph.sub.result, notes)
    report = graph.run(num_workers=2)
    assert (report.nodes["sub_add_0"].worker, report.nodes["sub_add_1"].worker) == (1, 0)
    assert notes.read() == [*range(11, 16)]


def test_later_changes_of_the_original_change_nothing(engine: Options, notes: Notes) -> None:
    inner = adding(1)
    inner.spare = Pass
    graph = counting(10)
    graph.sub = inner
    inner.add_0.constant < 1000
    inner.add_0.clk(inner.add_0.number)
    inner.more = Pass * 2
    inner.add_0.total >> inner.more.item
    inner.pin(inner.add_0, 7)
    inner.export(inner.spare.same, "late")
    graph.sub_spare.item < "spare"
    graph.count.number >> graph.sub.value
    keep(graph, graph.sub.result, notes)
    report = graph.run(**engine)
    assert notes.read() == [*range(1, 11)]
    assert [*report.nodes] == ["count", "sub_add_0", "sub_spare", "keep"]
    with pytest.raises(AttributeError, match="late"):
        graph.sub.late  # noqa: B018  # it is not there


def test_later_changes_of_the_copy_do_not_change_the_original(engine: Options, notes: Notes) -> None:
    inner = Graph()
    inner.count = Count
    inner.count.upto < 3
    keep(inner, inner.count.number, notes)
    graph = Graph()
    graph.sub = inner
    graph.sub_count.upto < 1000
    graph.more = Pass
    graph.sub_count.number >> graph.more.item
    inner.run(**engine)
    assert notes.read() == [0, 1, 2]


def test_nodes_of_a_copy_can_be_wired_without_an_export(engine: Options, notes: Notes) -> None:
    graph = counting(10)
    graph.sub = adding(1, 10)
    graph.count.number >> graph.sub.value
    keep(graph, graph.sub_add_0.total, notes)
    graph.run(**engine)
    assert notes.read() == [*range(1, 11)]


def test_an_exported_in_port_that_nobody_wired_is_named_with_its_prefix() -> None:
    graph = Graph()
    graph.sub = adding(1)
    with pytest.raises(DeadlockError, match=r"sub_add_0\.number"):
        graph.run()


def test_a_port_that_is_not_exported_is_unknown_outside() -> None:
    graph = Graph()
    graph.sub = adding(1)
    with pytest.raises(AttributeError, match=r"(?s)reslut.*result"):
        graph.sub.reslut  # noqa: B018  # it is not there


def test_a_node_of_the_original_cannot_be_wired_to_the_copy() -> None:
    inner = adding(1)
    graph = counting(1)
    graph.sub = inner
    with pytest.raises(DefinitionError, match="two graphs"):
        graph.count.number >> inner.add_0.number


def everything(notes: Notes) -> Graph:
    """A graph with a bit of all that the language has."""
    graph = counting(60)
    graph.sub = adding(1, 10)
    graph.members = Pass * 3
    graph.members.ordered()
    graph.sum = Sum
    graph.walk = Walk
    graph.walk.below < 20
    graph.walk.item < 0
    graph.walk.again >> graph.walk.item
    graph.count.number >> graph.sub.value
    graph.sub.result >> graph.members.item
    graph.members.same >> 4 >= graph.sum.numbers
    keep(graph, graph.sum.total, notes, "keep_sums")
    graph.pair = KeepPair
    graph.pair.notes < notes
    graph.count.number >> graph.pair.left
    graph.pair.right < "latest"
    graph.walk.found >>= graph.pair.right
    graph.pair.sync(graph.pair.left, graph.pair.right)
    return graph


def test_a_copy_of_a_graph_runs_the_same(engine: Options, notes: Notes) -> None:
    graph = everything(notes)
    twin = graph.copy()
    graph.count.upto < 0  # the copy does not see it
    report = twin.run(**engine, timeout=10)
    assert {*graph.nodes} <= {*report.nodes}
    kept = notes.read()
    sums = [sum(range(start + 11, start + 15)) for start in range(0, 60, 4)]
    assert [each for each in kept if isinstance(each, int)] == sums
    pairs = [each for each in kept if not isinstance(each, int)]
    assert [left for left, _ in pairs] == [0, 1]
    assert pairs[0][1] == "latest"
    assert sorted(pairs[1][1]) == [*range(20)]


def test_a_copy_of_a_copy_in_a_graph_runs_the_same(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.inner = everything(notes).copy().copy()
    graph.copy().run(**engine, timeout=10)
    kept = notes.read()
    assert sum(each for each in kept if isinstance(each, int)) == sum(range(11, 71))
