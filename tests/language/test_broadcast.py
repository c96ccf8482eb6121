"""`out.broadcast() >> group.port` on every engine: every member gets every item."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cascata import Graph, In, Out, component
from tests.engine.parts import Count, Flag, Notes, Pass, keep

Options = dict[str, Any]


@component
async def Sign(item: In[Any], signed: Out[tuple[str, Any]], sign: In[str] = "?") -> None:
    await signed.send((sign, item))


def signing(graph: Graph, name: str, size: int) -> Any:
    """Adds a group whose members sign what they pass on with their index."""
    group = graph.add(Sign * size, name)
    for member in range(size):
        graph.nodes[f"{name}_{member}"].sign < str(member)
    return group


def counting(upto: int) -> Graph:
    graph = Graph()
    graph.count = Count
    graph.count.upto < upto
    return graph


def test_every_member_gets_every_item_in_order(engine: Options, notes: Notes) -> None:
    graph = counting(300)
    signing(graph, "members", 3)
    graph.count.number.broadcast() >> graph.members.item
    keep(graph, graph.members.signed, notes)
    report = graph.run(**engine)
    kept = notes.read()
    assert len(kept) == 900
    for member in "012":
        assert [item for sign, item in kept if sign == member] == [*range(300)]
    assert report.nodes["count"].sent == 300
    assert [report.nodes[f"members_{member}"].received for member in range(3)] == [300] * 3
    assert all(edge.balanced for edge in report.edges)


def test_a_broadcast_to_a_group_as_a_node_goes_on_from_there(engine: Options, notes: Notes) -> None:
    graph = counting(20)
    graph.members = Pass * 2
    graph.last = Pass
    graph.count.number.broadcast() >> graph.members >> graph.last
    keep(graph, graph.last.same, notes)
    graph.run(**engine)
    assert Counter(notes.read()) == Counter([*range(20)] * 2)


def test_groups_of_the_same_size_broadcast_to_all_of_each_other(engine: Options, notes: Notes) -> None:
    graph = counting(60)
    graph.first = Pass * 3
    signing(graph, "second", 3)
    graph.count >> graph.first
    graph.first.same.broadcast() >> graph.second.item
    keep(graph, graph.second.signed, notes)
    graph.run(**engine)
    assert Counter(notes.read()) == Counter((sign, item) for sign in "012" for item in range(60))


def test_a_broadcast_and_a_shared_stream_reach_the_same_members(engine: Options, notes: Notes) -> None:
    graph = counting(50)
    graph.shared = Count
    graph.shared.upto < 40
    signing(graph, "members", 2)
    graph.count.number.broadcast() >> graph.members.item
    graph.shared.number >> graph.members.item
    keep(graph, graph.members.signed, notes)
    graph.run(**engine)
    kept = Counter(notes.read())
    assert sum(kept.values()) == 2 * 50 + 40
    assert all(kept[sign, item] >= 1 for sign in "01" for item in range(50))
    assert Counter(item for _, item in kept.elements()) == Counter([*range(50)] * 2) + Counter(range(40))


def test_a_broadcast_to_a_member_beside_other_readers(engine: Options, notes: Notes) -> None:
    graph = counting(30)
    graph.members = Pass * 2
    graph.count.number.broadcast() >> graph.members.item
    keep(graph, graph.count.number, notes, "beside")
    keep(graph, graph.members.same, notes, "behind")
    graph.run(**engine)
    assert Counter(notes.read()) == Counter([*range(30)] * 3)


@component
async def WaitsForTheOthers(item: In[int], last: In[int], mine: In[Flag], others: In[Flag]) -> None:
    """Of the first item, until the others have had what its own channel has room for."""
    if item == 0:
        await others.wait()
    if item == last:
        mine.set()


def test_a_member_that_waits_holds_nobody_up_while_there_is_room(engine: Options, flags: list[Flag]) -> None:
    graph = counting(50)
    graph.members = WaitsForTheOthers * 2
    graph.members.last < 49
    graph.members_0.mine < flags[0]
    graph.members_0.others < flags[1]
    graph.members_1.mine < flags[1]
    graph.members_1.others < flags[2]
    flags[2].set()
    graph.count.number.broadcast() >> graph.members.item
    graph.run(**engine)
    assert flags[0].is_set()


@component
async def TakesOnly(item: In[int], wanted: In[int], notes: In[Notes], gate: In[Any]) -> None:
    """Takes as many items as come on its gate."""
    notes.add((wanted, item))


def test_a_member_that_ended_does_not_stop_the_others(engine: Options, notes: Notes) -> None:
    graph = counting(200)
    graph.members = TakesOnly * 2
    graph.members.notes < notes
    graph.gates = Count * 2
    for member, wanted in enumerate([3, 200]):
        graph.nodes[f"members_{member}"].wanted < wanted
        graph.nodes[f"gates_{member}"].upto < wanted
    graph.count.number.broadcast() >> graph.members.item
    graph.gates.number >> graph.members.gate
    report = graph.run(**engine)
    kept = notes.read()
    assert [item for wanted, item in kept if wanted == 3] == [0, 1, 2]
    assert [item for wanted, item in kept if wanted == 200] == [*range(200)]
    assert all(edge.balanced for edge in report.edges)
