"""Batching edges on every engine: `out >>= inp`, `out >> n >= inp`."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from cascata import Graph, In, Out, component, inport
from tests.engine.parts import Count, Each, Endless, Keep, KeepPair, Notes, Pass, keep

Options = dict[str, Any]


@component
@inport("items", capacity=2)
async def KeepNarrow(items: In[list[Any]], notes: In[Notes]) -> None:
    """Keeps lists, with little room for what they are made of."""
    notes.add(items)


@component
async def KeepSigned(items: In[list[Any]], sign: In[str], notes: In[Notes]) -> None:
    notes.add((sign, items))


@component
async def Flat(items: In[list[Any]], item: Out[Any]) -> None:
    """Sends what a list holds."""
    for each in items:
        await item.send(each)


def counting(upto: int, component: Any, notes: Notes) -> Graph:
    """A source, and a keeper that is not connected yet."""
    graph = Graph()
    graph.count = Count
    graph.count.upto < upto
    graph.keep = component
    graph.keep.notes < notes
    return graph


def flat(lists: list[list[Any]]) -> list[Any]:
    return [item for each in lists for item in each]


def chunks(upto: int, size: int) -> list[list[int]]:
    numbers = [*range(upto)]
    return [numbers[start : start + size] for start in range(0, upto, size)]


@pytest.mark.parametrize("upto", [1, 7, 250])
def test_everything_comes_as_one_list_at_the_end(engine: Options, notes: Notes, upto: int) -> None:
    graph = counting(upto, Keep, notes)
    graph.count.number >>= graph.keep.item
    graph.run(**engine)
    assert notes.read() == [[*range(upto)]]


@pytest.mark.parametrize("upto", [0, 1, 299, 300, 301])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_lists_have_so_many_items_and_the_rest_comes_at_the_end(
    engine: Options, notes: Notes, size: int, upto: int
) -> None:
    graph = counting(upto, Keep, notes)
    graph.count.number >> size >= graph.keep.item
    graph.run(**engine)
    assert notes.read() == chunks(upto, size)


def test_connect_with_batch_says_the_same(engine: Options, notes: Notes) -> None:
    graph = counting(10, Keep, notes)
    graph.keep_all = Keep
    graph.keep_all.notes < notes
    graph.count.number.connect(graph.keep.item, batch=4)
    graph.count.number.connect(graph.keep_all.item, batch="all")
    graph.run(**engine)
    assert sorted(notes.read()) == sorted([*chunks(10, 4), [*range(10)]])


@pytest.mark.parametrize("size", [3, 50, 1000])
def test_a_list_may_be_longer_than_the_ports_capacity(engine: Options, notes: Notes, size: int) -> None:
    graph = counting(300, KeepNarrow, notes)
    graph.count.number >> size >= graph.keep.items
    graph.run(**engine, timeout=10)
    assert notes.read() == chunks(300, size)


def test_everything_may_be_longer_than_the_ports_capacity(
    engine: Options, notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    graph = counting(2000, KeepNarrow, notes)
    graph.count.number >>= graph.keep.items
    graph.run(**engine, timeout=10)
    assert notes.read() == [[*range(2000)]]
    assert caplog.messages == []  # nobody had to make room for it


def test_items_of_a_batching_edge_are_counted_each(engine: Options, notes: Notes) -> None:
    graph = counting(10, Keep, notes)
    graph.count.number >> 4 >= graph.keep.item
    report = graph.run(**engine)
    (edge,) = report.edges
    assert (edge.sent, edge.delivered, edge.balanced) == (10, 10, True)
    assert report.nodes["count"].sent == 10


def test_each_connection_of_a_fan_out_has_a_batch_of_its_own(engine: Options, notes: Notes) -> None:
    graph = counting(10, KeepSigned, notes)
    graph.keep.sign < "threes"
    graph.all_of_them = KeepSigned
    graph.all_of_them.sign < "all"
    graph.all_of_them.notes < notes
    graph.count.number >> 3 >= graph.keep.items
    graph.count.number >>= graph.all_of_them.items
    keep(graph, graph.count.number, notes, "one_by_one")
    graph.run(**engine)
    kept = notes.read()
    assert [each for each in kept if isinstance(each, int)] == [*range(10)]
    assert [each[1] for each in kept if not isinstance(each, int) and each[0] == "threes"] == chunks(10, 3)
    assert [each[1] for each in kept if not isinstance(each, int) and each[0] == "all"] == [[*range(10)]]


def test_a_port_may_take_batches_of_one_sender_and_items_of_another(engine: Options, notes: Notes) -> None:
    graph = counting(10, Keep, notes)
    graph.letters = Each
    graph.letters.items < [*"abcde"]
    graph.more = Count
    graph.more.upto < 5
    graph.count.number >> 4 >= graph.keep.item
    graph.letters.item >> graph.keep.item
    graph.more.number >>= graph.keep.item
    graph.run(**engine)
    kept = notes.read()
    assert [each for each in kept if isinstance(each, str)] == [*"abcde"]
    lists = [each for each in kept if isinstance(each, list)]
    lists.remove([*range(5)])  # `more`, and not `count`, whose lists have four
    assert lists == chunks(10, 4)


@pytest.mark.parametrize("size", [4, 7, "all"])
def test_members_of_a_group_fill_one_batch_together(engine: Options, notes: Notes, size: int | str) -> None:
    graph = counting(100, Keep, notes)
    graph.members = Pass * 3
    graph.count >> graph.members
    graph.members.same.connect(graph.keep.item, batch=size)
    graph.run(**engine)
    lists = notes.read()
    *full, rest = map(len, lists)
    whole = 100 if size == "all" else size
    assert full == [whole] * len(full)
    assert rest == (100 - sum(full))
    assert sorted(flat(lists)) == [*range(100)]


@pytest.mark.parametrize("size", [1, 5])
def test_members_of_a_group_take_whole_lists(engine: Options, notes: Notes, size: int) -> None:
    """Each item is in one list, and no list is short but those at the end: one at most for each member."""
    graph = counting(203, Keep * 3, notes)
    graph.count.number >> size >= graph.keep.item
    graph.run(**engine)
    lists = notes.read()
    assert sorted(flat(lists)) == [*range(203)]
    assert all(each == sorted(each) for each in lists)
    assert all(0 < len(each) <= size for each in lists)


def test_a_shared_stream_has_one_rest(engine: Options, notes: Notes) -> None:
    """`out >> 5 >= group.port` cuts the stream into lists, and each list goes to whichever member is free."""
    graph = counting(2003, Keep * 3, notes)
    graph.count.number >> 5 >= graph.keep.item
    graph.run(**engine)
    assert Counter(map(len, notes.read())) == {5: 400, 3: 1}


def test_everything_goes_to_one_member_of_a_group(engine: Options, notes: Notes) -> None:
    graph = counting(5000, Keep * 3, notes)
    graph.count.number >>= graph.keep.item
    graph.run(**engine)
    assert notes.read() == [[*range(5000)]]


def test_groups_of_the_same_size_batch_member_to_member(engine: Options, notes: Notes) -> None:
    graph = counting(0, KeepSigned * 2, notes)
    graph.sources = Count * 2
    for member, upto in enumerate([5, 8]):
        graph.nodes[f"sources_{member}"].upto < upto
        graph.nodes[f"keep_{member}"].sign < str(member)
    graph.sources.number >> 3 >= graph.keep.items
    graph.run(**engine)
    kept = notes.read()
    assert [items for sign, items in kept if sign == "0"] == chunks(5, 3)
    assert [items for sign, items in kept if sign == "1"] == chunks(8, 3)


def test_lists_are_zipped_with_items(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 8
    graph.letters = Each
    graph.letters.items < [*"abc"]
    graph.pair = KeepPair
    graph.pair.notes < notes
    graph.count.number >> 3 >= graph.pair.left
    graph.letters.item >> graph.pair.right
    graph.run(**engine)
    assert notes.read() == [([0, 1, 2], "a"), ([3, 4, 5], "b"), ([6, 7], "c")]


def test_lists_of_two_sizes_are_zipped_by_sync(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 20
    graph.pair = KeepPair
    graph.pair.notes < notes
    graph.count.number >> 3 >= graph.pair.left
    graph.count.number >> 5 >= graph.pair.right
    graph.pair.sync(graph.pair.left, graph.pair.right)
    report = graph.run(**engine)
    assert notes.read() == [*zip(chunks(20, 3), chunks(20, 5), strict=False)]
    assert all(edge.balanced for edge in report.edges)


def test_an_endless_stream_in_batches_is_stopped_by_the_shorter_one(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.endless = Endless
    graph.letters = Each
    graph.letters.items < [*"ab"]
    graph.pair = KeepPair
    graph.pair.notes < notes
    graph.endless.number >> 3 >= graph.pair.left
    graph.letters.item >> graph.pair.right
    report = graph.run(**engine)
    assert notes.read() == [([0, 1, 2], "a"), ([3, 4, 5], "b")]
    assert all(edge.balanced for edge in report.edges)


def test_lists_trigger_on_their_own_by_clk(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 7
    graph.letters = Each
    graph.letters.items < [*"abc"]
    graph.pair = KeepPair
    graph.pair.notes < notes
    graph.count.number >> 3 >= graph.pair.left
    graph.letters.item >>= graph.pair.right
    graph.pair.clk(graph.pair.left, graph.pair.right)
    graph.run(**engine)
    kept = notes.read()
    assert len(kept) == 4
    assert [left for left in dict.fromkeys(str(left) for left, _ in kept) if left != "None"] == [
        str(each) for each in chunks(7, 3)
    ]
    assert kept[-1] == ([6], [*"abc"])


def test_a_sampled_port_shows_the_latest_list(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 7
    graph.letters = Each
    graph.letters.items < [*"abc"]
    graph.pair = KeepPair
    graph.pair.notes < notes
    graph.count.number >>= graph.pair.right  # there is one list only, so that what is seen is no matter of time
    graph.letters.item >> graph.pair.left
    graph.pair.clk(graph.pair.left)
    graph.run(**engine)
    assert notes.read() == [(letter, [*range(7)]) for letter in "abc"]


def test_batches_follow_one_another_along_a_chain(engine: Options, notes: Notes) -> None:
    graph = counting(50, Keep, notes)
    graph.flat = Flat
    graph.again = Flat
    graph.count.number >> 7 >= graph.flat.items
    graph.flat.item >> 4 >= graph.again.items
    graph.again.item >>= graph.keep.item
    graph.run(**engine)
    assert notes.read() == [[*range(50)]]


def test_a_first_value_comes_before_the_lists(engine: Options, notes: Notes) -> None:
    graph = counting(5, Keep, notes)
    graph.keep.item < ["first"]
    graph.count.number >> 3 >= graph.keep.item
    graph.run(**engine)
    assert notes.read() == [["first"], [0, 1, 2], [3, 4]]


@component
async def FailsAtThree(items: In[list[int]], same: Out[list[int]]) -> None:
    if 3 in items:
        raise ValueError(items)
    await same.send(items)


def test_a_list_that_fails_is_skipped_with_all_of_its_items(engine: Options, notes: Notes) -> None:
    graph = counting(8, Keep, notes)
    graph.fails = FailsAtThree
    graph.count.number >> 2 >= graph.fails.items
    graph.fails.same >> graph.keep.item
    report = graph.run(**engine, on_error="skip")
    assert notes.read() == [[0, 1], [4, 5], [6, 7]]
    (edge,) = (edge for edge in report.edges if edge.source == "count.number")
    assert edge.balanced
    assert (edge.delivered, edge.failed) == (6, 2)
