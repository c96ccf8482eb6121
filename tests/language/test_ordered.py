"""`group.ordered()` on every engine: results leave in the order in which their inputs entered."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from cascata import Graph, In, Out, State, Stream, component, inport
from cascata.errors import DefinitionError
from tests.engine.parts import Count, Each, Keep, KeepPair, Notes, Pass, keep

Options = dict[str, Any]

ROOM = 4
"""The capacity of the ports below."""


def dice(seed: int) -> random.Random:
    return random.Random(seed)


@component
async def Dawdle(item: In[int], same: Out[int], longest: In[float] = 0.002) -> None:
    """Sends what it gets after a while of its own."""
    await asyncio.sleep(dice(item).random() * longest)
    await same.send(item)


@component
async def Compute(item: In[int], same: Out[int]) -> None:
    """Sends what it gets after work of its own."""
    until = time.perf_counter() + dice(item).random() * 0.002
    while time.perf_counter() < until:
        pass
    await same.send(item)


@component
@inport("item", capacity=ROOM)
async def Narrow(item: In[int], same: Out[int]) -> None:
    await asyncio.sleep(dice(item).random() * 0.001)
    await same.send(item)


@component(thread=True)
def InThread(item: In[int], same: Out[int]) -> None:
    time.sleep(dice(item).random() * 0.001)
    same.send(item)  # type: ignore[unused-coroutine]  # it blocks, in a thread


@component
async def Generates(item: In[int], same: Out[int]) -> AsyncIterator[int]:
    await asyncio.sleep(dice(item).random() * 0.001)
    yield item


@component
def GeneratesPlainly(item: In[int], same: Out[int]) -> Iterator[int]:
    yield item


@component
async def Returns(item: In[int], same: Out[int]) -> int:
    await asyncio.sleep(dice(item).random() * 0.001)
    return item


@component(retries=5, backoff=0.0)
async def Retries(item: In[int], same: Out[int], failures: State[dict[int, int]] = State(dict)) -> None:
    """Every third item fails twice, after it has sent."""
    await same.send(item)
    seen = failures.value[item] = failures.value.get(item, 0) + 1
    if item % 3 == 0 and seen < 3:
        raise ValueError(item)


def ordering(group: Any, upto: int, notes: Notes) -> Graph:
    """Numbers go through an ordered group named `members`, and are kept."""
    graph = Graph()
    graph.count = Count
    graph.count.upto < upto
    graph.members = group
    graph.members.ordered()
    graph.count.number >> graph.members.item
    keep(graph, graph.members.same, notes)
    return graph


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_order_is_kept_whatever_each_item_takes(engine: Options, notes: Notes, size: int) -> None:
    graph = ordering(Dawdle * size, 150, notes)
    report = graph.run(**engine)
    assert notes.read() == [*range(150)]
    assert sum(report.nodes[f"members_{member}"].received for member in range(size)) == 150
    assert all(edge.balanced for edge in report.edges)


def test_order_is_kept_when_items_cost_work(engine: Options, notes: Notes) -> None:
    ordering(Compute * 3, 150, notes).run(**engine)
    assert notes.read() == [*range(150)]


@pytest.mark.parametrize("form", [Narrow, InThread, Generates, GeneratesPlainly, Returns, Retries])
def test_order_is_kept_by_every_form_of_a_runner(engine: Options, notes: Notes, form: Any) -> None:
    ordering(form * 3, 100, notes).run(**engine)
    assert notes.read() == [*range(100)]


def test_without_it_order_is_not_kept(notes: Notes) -> None:
    """What the tests above show is not there by itself."""
    graph = Graph()
    graph.count = Count
    graph.count.upto < 150
    graph.members = Dawdle * 3
    graph.members.longest < 0.01
    graph.count.number >> graph.members.item
    keep(graph, graph.members.same, notes)
    graph.run(engine="inline")
    kept = notes.read()
    assert sorted(kept) == [*range(150)]
    assert kept != [*range(150)]


@component
async def SomeNoneOrMany(item: In[int], even: Out[tuple[int, int]], other: Out[int]) -> None:
    """Sends item % 4 times on one port, and on the other when the item is odd."""
    await asyncio.sleep(dice(item).random() * 0.002)
    for time_ in range(item % 4):
        await even.send((item, time_))
    if item % 2:
        await other.send(item)


def test_calls_may_send_nothing_or_many_times_on_several_ports(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 120
    graph.members = SomeNoneOrMany * 3
    graph.members.ordered()
    graph.count >> graph.members
    keep(graph, graph.members.even, notes)
    keep(graph, graph.members.other, notes, "keep_other")
    graph.run(**engine)
    kept = notes.read()
    assert [each for each in kept if isinstance(each, int)] == [*range(1, 120, 2)]
    assert [each for each in kept if not isinstance(each, int)] == [
        (item, time_) for item in range(120) for time_ in range(item % 4)
    ]


def test_every_reader_of_a_fan_out_gets_the_order(engine: Options, notes: Notes) -> None:
    graph = ordering(Dawdle * 2, 60, notes)
    graph.pair = KeepPair
    graph.pair.notes < notes
    graph.members.same >> graph.pair.left
    graph.members.same >> graph.pair.right
    graph.run(**engine)
    kept = notes.read()
    assert [each for each in kept if isinstance(each, int)] == [*range(60)]
    assert [each for each in kept if not isinstance(each, int)] == [(item, item) for item in range(60)]


def test_ordered_groups_follow_one_another(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 100
    graph.first = Dawdle * 2
    graph.second = Dawdle * 3
    graph.third = Narrow * 2
    graph.count >> graph.first >> graph.second >> graph.third
    for group in (graph.first, graph.second, graph.third):
        group.ordered()
    keep(graph, graph.third.same, notes)
    graph.run(**engine)
    assert notes.read() == [*range(100)]


def test_an_ordered_group_that_another_one_of_its_size_shares_the_results_of(engine: Options, notes: Notes) -> None:
    """Through a node between them: groups of the same size are wired member to member."""
    graph = Graph()
    graph.count = Count
    graph.count.upto < 100
    graph.first = Dawdle * 2
    graph.between = Pass
    graph.second = Dawdle * 2
    graph.count >> graph.first >> graph.between >> graph.second
    graph.first.ordered()
    graph.second.ordered()
    keep(graph, graph.second.same, notes)
    graph.run(**engine)
    assert notes.read() == [*range(100)]


def test_order_of_each_sender_is_kept_when_several_feed_the_group(engine: Options, notes: Notes) -> None:
    graph = ordering(Dawdle * 3, 50, notes)
    graph.other = Each
    graph.other.items < [*range(1000, 1050)]
    graph.other.item >> graph.members.item
    graph.run(**engine)
    kept = notes.read()
    assert [item for item in kept if item < 1000] == [*range(50)]
    assert [item for item in kept if item >= 1000] == [*range(1000, 1050)]


@component
async def Total(items: In[list[int]], same: Out[list[int]]) -> None:
    await asyncio.sleep(dice(items[0]).random() * 0.002)
    await same.send(items)


def test_batches_come_into_an_ordered_group_and_out_of_it(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 103
    graph.members = Total * 3
    graph.members.ordered()
    graph.count.number >> 5 >= graph.members.items
    graph.members.same >> 4 >= keeping(graph, notes).item
    graph.run(**engine)
    lists = [[*range(start, min(start + 5, 103))] for start in range(0, 103, 5)]
    assert notes.read() == [lists[start : start + 4] for start in range(0, len(lists), 4)]


def keeping(graph: Graph, notes: Notes) -> Any:
    graph.keep = Keep
    graph.keep.notes < notes
    return graph.keep


def tallying(notes: Notes) -> Iterator[list[int]]:
    seen: list[int] = []
    yield seen
    notes.add(("seen", len(seen)))


@component
async def Tally(item: In[int], same: Out[int], add: In[int] = 0, seen: State[list[int]] = State(tallying)) -> None:
    await asyncio.sleep(0)
    seen.value.append(item)
    await same.send(item + add)


def test_members_have_constants_and_state_of_their_own(engine: Options, notes: Notes) -> None:
    graph = ordering(Tally * 3, 90, notes)
    graph.members.seen < notes
    graph.members.add < 1000
    graph.run(**engine)
    kept = notes.read()
    assert [each for each in kept if isinstance(each, int)] == [*range(1000, 1090)]
    seen = [each[1] for each in kept if not isinstance(each, int)]
    assert (len(seen), sum(seen)) == (3, 90)


@component
async def FailsAtSevens(item: In[int], same: Out[int]) -> None:
    await asyncio.sleep(dice(item).random() * 0.002)
    if item % 7 == 0:
        raise ValueError(item)
    await same.send(item)


def test_what_is_skipped_leaves_a_gap_and_nobody_waits_for_it(engine: Options, notes: Notes) -> None:
    graph = ordering(FailsAtSevens * 3, 100, notes)
    report = graph.run(**engine, on_error="skip", timeout=10)
    assert notes.read() == [item for item in range(100) if item % 7]
    assert sum(report.nodes[f"members_{member}"].failed for member in range(3)) == 15
    assert all(edge.balanced for edge in report.edges)


@component
async def AlwaysFails(item: In[int], same: Out[int]) -> None:
    raise ValueError(item)


def test_a_group_all_of_whose_items_are_skipped_ends(engine: Options, notes: Notes) -> None:
    ordering(AlwaysFails * 2, 300, notes).run(**engine, on_error="skip", timeout=10)
    assert notes.read() == []


def test_nothing_in_nothing_out(engine: Options, notes: Notes) -> None:
    ordering(Dawdle * 3, 0, notes).run(**engine, timeout=10)
    assert notes.read() == []


# -- bounded memory


@component
async def CountNoting(upto: In[int], number: Out[int], notes: In[Notes]) -> None:
    for each in range(upto):
        await number.send(each)
        notes.add(1)


@component
@inport("item", capacity=ROOM)
async def SlowAtFirst(item: In[int], same: Out[int]) -> None:
    """Takes long for one item. A source that is not held back sends thousands meanwhile."""
    if item == 0:
        await asyncio.sleep(0.3)
    await same.send(item)


@component
@inport("item", capacity=ROOM)
async def NoteLeaving(item: In[int], notes: In[Notes]) -> None:
    notes.add(-1)


def test_a_slow_member_makes_the_others_wait(engine: Options, notes: Notes) -> None:
    """Items that entered and have not left: never more than the channels on the way have room for."""
    members = 3
    graph = Graph()
    graph.count = CountNoting
    graph.count.upto < 1000
    graph.count.notes < notes
    graph.members = SlowAtFirst * members
    graph.members.ordered()
    graph.leave = NoteLeaving
    graph.leave.notes < notes
    graph.count.number >> graph.members.item
    graph.members.same >> graph.leave.item
    graph.run(**engine, timeout=10)
    steps = notes.read()
    assert len(steps) == 2000
    inside, most = 0, 0
    for step in steps:
        inside += step
        most = max(most, inside)
    # In a channel there are at most ROOM items, and at each node one in hand: to and from the numbering node,
    # from each member, and to the last node.
    channels, nodes = 2 + members + 1, 1 + members + members + 1
    assert most <= channels * ROOM + nodes
    assert most > ROOM  # the members did work side by side


def test_a_slow_member_makes_no_room_grow(engine: Options, notes: Notes, caplog: pytest.LogCaptureFixture) -> None:
    graph = ordering(SlowAtFirst * 3, 300, notes)
    graph.run(**engine, timeout=10)
    assert notes.read() == [*range(300)]
    assert caplog.messages == []


@component
@inport("item", capacity=1)
async def Narrowest(item: In[int], same: Out[int]) -> None:
    await asyncio.sleep(dice(item).random() * 0.001)
    await same.send(item)


def test_room_for_one_is_enough(engine: Options, notes: Notes, caplog: pytest.LogCaptureFixture) -> None:
    ordering(Narrowest * 3, 100, notes).run(**engine, timeout=10)
    assert notes.read() == [*range(100)]
    assert caplog.messages == []


# -- ends


def test_a_reader_that_has_ended_stops_the_group_and_its_source(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 10**9
    graph.members = Dawdle * 3
    graph.members.ordered()
    graph.count >> graph.members
    graph.short = Count
    graph.short.upto < 10
    graph.pair = KeepPair
    graph.pair.notes < notes
    graph.members.same >> graph.pair.left
    graph.short.number >> graph.pair.right
    report = graph.run(**engine, timeout=10)
    assert notes.read() == [(item, item) for item in range(10)]
    assert all(edge.balanced for edge in report.edges)


def test_a_member_that_fails_is_named(engine: Options, notes: Notes) -> None:
    graph = ordering(AlwaysFails * 2, 10, notes)
    with pytest.raises(Exception, match="ValueError") as caught:
        graph.run(**engine, timeout=10)
    assert getattr(caught.value, "node", None) in ("members_0", "members_1")


# -- wirings that have no order


@component(concurrency=2)
async def Concurrent(item: In[int], same: Out[int]) -> None:
    await same.send(item)


@component
async def TwoPorts(left: In[int], right: In[int], same: Out[int]) -> None:
    await same.send(left + right)


def two_zipped(graph: Graph) -> None:
    graph.members = TwoPorts * 2
    graph.count.number >> graph.members.left
    graph.count.number >> graph.members.right


def two_on_their_own(graph: Graph) -> None:
    two_zipped(graph)
    graph.members.clk(graph.members.left, graph.members.right)


def one_sampled(graph: Graph) -> None:
    two_zipped(graph)
    graph.members.clk(graph.members.left)


def member_to_member(graph: Graph) -> None:
    graph.sources = Pass * 2
    graph.members = Pass * 2
    graph.count >> graph.sources >> graph.members


def broadcast(graph: Graph) -> None:
    graph.members = Pass * 2
    graph.count.number.broadcast() >> graph.members.item


def fed_alone(graph: Graph) -> None:
    graph.members = Pass * 2
    graph.count.number >> graph.members.item
    graph.count.number >> graph.members_1.item


def wired_on_one_by_one(graph: Graph) -> None:
    graph.members = Pass * 2
    graph.after = Pass * 2
    graph.count >> graph.members >> graph.after


def one_member_wired_on(graph: Graph) -> None:
    graph.members = Pass * 2
    graph.after = Pass
    graph.count >> graph.members
    graph.members_0.same >> graph.after.item


def concurrent(graph: Graph) -> None:
    graph.members = Concurrent * 2
    graph.count >> graph.members


def no_stream(graph: Graph) -> None:
    graph.members = Pass * 2
    graph.members.item < 1


@component
async def Reads(item: Stream[int], same: Out[int]) -> None:
    async for each in item:
        await same.send(each)


def a_stream_that_they_read_themselves(graph: Graph) -> None:
    graph.members = Reads * 2
    graph.count >> graph.members


@pytest.mark.parametrize(
    "wire",
    [
        a_stream_that_they_read_themselves,
        two_on_their_own,
        one_sampled,
        member_to_member,
        broadcast,
        fed_alone,
        wired_on_one_by_one,
        one_member_wired_on,
        concurrent,
        no_stream,
    ],
)
def test_what_has_no_order_to_keep_is_refused(engine: Options, wire: Any) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 10
    wire(graph)
    graph.members.ordered()
    with pytest.raises(DefinitionError, match=r"members\.ordered\(\): "):
        graph.run(**engine, timeout=10)
