"""Groups on every engine: one shared stream, member to member, and many members into one port."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from cascata import Graph, In, Out, State, component
from tests.engine.parts import Count, Flag, Keep, Notes, Pass, keep

Options = dict[str, Any]


@component
async def Signed(item: In[int], signed: Out[tuple[str, int]], sign: In[str] = "?") -> None:
    await signed.send((sign, item))


def signing(graph: Graph, name: str, size: int) -> Any:
    """Adds a group whose members sign what they pass on with their index."""
    group = graph.add(Signed * size, name)
    for member in range(size):
        getattr(graph, f"{name}_{member}").sign < str(member)
    return group


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_members_share_a_stream_and_each_item_is_taken_once(engine: Options, notes: Notes, size: int) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 1000
    graph.members = Pass * size
    graph.count >> graph.members
    keep(graph, graph.members.same, notes)
    report = graph.run(**engine)
    assert sorted(notes.read()) == [*range(1000)]
    assert sum(report.nodes[f"members_{member}"].received for member in range(size)) == 1000
    assert all(edge.balanced for edge in report.edges)
    assert sum(edge.delivered for edge in report.edges) == 2000


def test_groups_of_the_same_size_are_connected_member_to_member(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 300
    signing(graph, "first", 3)
    graph.second = CounterSigned * 3
    for member in range(3):
        graph.nodes[f"second_{member}"].sign < str(member)
    graph.count >> graph.first
    graph.first.signed >> graph.second.item
    keep(graph, graph.second.signed, notes)
    graph.run(**engine)
    kept = notes.read()
    assert sorted(item for _, _, item in kept) == [*range(300)]
    assert {(first, second) for first, second, _ in kept} <= {("0", "0"), ("1", "1"), ("2", "2")}


@component
async def CounterSigned(item: In[tuple[str, int]], signed: Out[tuple[str, str, int]], sign: In[str] = "?") -> None:
    await signed.send((item[0], sign, item[1]))


def test_groups_of_different_sizes_share_one_stream(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 300
    graph.first = Pass * 2
    graph.second = Pass * 3
    graph.count >> graph.first >> graph.second
    keep(graph, graph.second.same, notes)
    graph.run(**engine)
    assert sorted(notes.read()) == [*range(300)]


def test_a_constant_of_a_group_is_every_members(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.members = Keep * 3
    graph.members.notes < notes
    graph.members.item < "constant"
    graph.run(**engine)
    assert notes.read() == ["constant"] * 3


def test_a_member_can_be_fed_on_its_own_next_to_the_shared_stream(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.shared = Count
    graph.shared.upto < 100
    graph.own = Count
    graph.own.upto < 50
    signing(graph, "members", 2)
    graph.shared.number >> graph.members.item
    graph.own.number >> graph.members_1.item
    keep(graph, graph.members.signed, notes)
    graph.run(**engine)
    kept = Counter(notes.read())
    assert sum(kept.values()) == 150
    assert Counter(item for _, item in kept.elements()) == Counter(range(100)) + Counter(range(50))
    assert all(kept["1", item] >= 1 for item in range(50))


def test_a_member_that_is_busy_holds_up_nobody(engine: Options, notes: Notes, flags: list[Flag]) -> None:
    """Whoever gets item 0 keeps it until all others are done, which the other members must do."""
    graph = Graph()
    graph.count = Count
    graph.count.upto < 500
    graph.members = HoldsFirst * 3
    graph.members.done < flags[0]
    graph.count >> graph.members
    graph.check_all = AllButOne
    graph.check_all.done < flags[0]
    graph.check_all.wanted < 499
    graph.members.same >> graph.check_all.item
    graph.run(**engine)
    assert flags[0].is_set()


@component
async def HoldsFirst(item: In[int], same: Out[int], done: In[Flag]) -> None:
    if item == 0:
        await done.wait()
    await same.send(item)


def counting() -> Iterator[list[int]]:
    yield [0]


@component
async def AllButOne(item: In[int], wanted: In[int], done: In[Flag], count: State[list[int]] = State(counting)) -> None:
    count.value[0] += 1
    if count.value[0] == wanted:
        assert item != 0
        done.set()


def test_slow_items_are_shared_by_members_on_all_workers(notes: Notes, flags: list[Flag]) -> None:
    """Two items that can only be finished side by side: each of two members has one of them."""
    graph = Graph()
    graph.count = Count
    graph.count.upto < 2
    graph.members = NeedsTheOther * 2
    graph.members.first < flags[0]
    graph.members.second < flags[1]
    graph.count >> graph.members
    report = graph.run(num_workers=3)
    assert report.nodes["members_0"].worker != report.nodes["members_1"].worker
    assert report.nodes["members_0"].received == report.nodes["members_1"].received == 1


@component
async def NeedsTheOther(item: In[int], first: In[Flag], second: In[Flag]) -> None:
    mine, others = (first, second) if item == 0 else (second, first)
    mine.set()
    others.wait_blocking()


def test_each_member_has_state_of_its_own(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 90
    graph.members = Tally * 3
    graph.members.seen < notes
    graph.count >> graph.members
    report = graph.run(**engine)
    received = sorted(report.nodes[f"members_{member}"].received for member in range(3))
    assert sorted(notes.read()) == received
    assert sum(received) == 90


def tallying(notes: Notes) -> Iterator[list[int]]:
    seen: list[int] = []
    yield seen
    notes.add(len(seen))


@component
async def Tally(item: In[int], seen: State[list[int]] = State(tallying)) -> None:
    seen.value.append(item)


def test_a_group_of_sources_is_merged(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.sources = Count * 3
    graph.sources.upto < 100
    keep(graph, graph.sources.number, notes)
    graph.run(**engine)
    assert Counter(notes.read()) == Counter([*range(100)] * 3)


def test_a_fan_out_gives_every_item_to_a_group_and_to_a_node(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 200
    graph.members = Pass * 2
    graph.count.number >> graph.members.item
    keep(graph, graph.count.number, notes, "node")
    keep(graph, graph.members.same, notes, "group")
    graph.run(**engine)
    assert Counter(notes.read()) == Counter([*range(200)] * 2)


@component
async def TakesItsTime(item: In[int], pause: In[float] = 0.002) -> None:
    await asyncio.sleep(pause)


def test_a_slow_member_gets_few_of_the_items(engine: Options) -> None:
    """One that is ten times slower than both others would get a 21st of the items, dealt out in turn a third.

    A busy machine makes all of them slower by the same time, so that it may get more than a 21st.
    """
    graph = Graph()
    graph.count = Count
    graph.count.upto < 210
    graph.members = TakesItsTime * 3
    graph.members_2.pause < 0.02
    graph.count >> graph.members
    report = graph.run(**engine)
    shares = [report.nodes[f"members_{member}"].received for member in range(3)]
    assert sum(shares) == 210
    assert 1 <= shares[2] <= 42, shares
