"""`debug=True`: who changes an item after sending it is told, on every engine; who does not is left alone."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from cascata import BlockingOut, CascataError, Graph, In, Out, component
from cascata.errors import ComponentError
from tests.engine.parts import Notes


@component
async def Reuses(row: Out[list[int]]) -> None:
    items: list[int] = []
    for each in range(3):
        items.append(each)
        await row.send(items)


@component
async def ChangesTheLast(row: Out[dict[str, list[int]]]) -> None:
    item: dict[str, list[int]] = {"deep": []}
    await row.send(item)
    item["deep"].append(1)


@component
async def ChangesSomeTimeAgo(row: Out[list[int]]) -> None:
    first = [0]
    await row.send(first)
    await row.send([1])
    first[0] = 7
    await row.send([2])


@component(thread=True)
def ChangesInAThread(row: BlockingOut[list[int]]) -> None:
    items = [0]
    for _ in range(3):
        row.send(items)
        items[0] += 1


@component(retries=1)
async def ChangesBeforeItLeaves(number: In[int], row: Out[list[int]]) -> None:
    items = [number]
    await row.send(items)
    items.clear()


@component
async def MakesNew(row: Out[list[int]], upto: In[int] = 20) -> None:
    for each in range(upto):
        await row.send([each])


@component
async def Take(row: In[Any]) -> None: ...


@component
async def Append(row: In[list[int]], longer: Out[list[int]]) -> None:
    row.append(-1)  # it is this node's now
    await longer.send(row)


@component
async def Keep(row: In[list[Any]], notes: In[Notes]) -> None:
    notes.add(row)


def between_two(sender: Any, *, reader: Any = Take) -> Graph:
    graph = Graph()
    graph.sender = sender
    graph.reader = reader
    graph.sender.row >> graph.reader.row
    return graph


CHANGING = [Reuses, ChangesTheLast, ChangesSomeTimeAgo, ChangesBeforeItLeaves]


@pytest.mark.parametrize("sender", CHANGING, ids=[each.__name__ for each in CHANGING])
def test_an_item_that_is_changed_after_it_was_sent_is_told_with_node_and_port(
    sender: Any, engine: dict[str, Any]
) -> None:
    graph = between_two(sender)
    if sender is ChangesBeforeItLeaves:
        graph.sender.number < 3
    with pytest.raises(ComponentError, match=r"sent on sender\.row was changed before it was delivered") as caught:
        graph.run(**engine, debug=True)
    assert caught.value.node == "sender"
    graph.run(**engine)  # without, nobody looks


def test_a_runner_in_a_thread_is_watched_as_well() -> None:
    """What it sends blocks until it was taken over; so only what crosses can be changed later."""
    graph = between_two(ChangesInAThread)
    graph.pin(graph.sender, 0)
    graph.pin(graph.reader, 1)
    with pytest.raises(ComponentError, match=r"sent on sender\.row was changed"):
        graph.run(num_workers=2, debug=True)


def test_the_members_of_an_ordered_group_are_watched_under_their_own_names(engine: dict[str, Any]) -> None:
    graph = Graph()
    graph.numbers = NumbersUpto
    graph.sender = ChangesInOrder * 2
    graph.reader = Take
    graph.sender.ordered()
    graph.numbers.number >> graph.sender.number
    graph.sender.row >> graph.reader.row
    with pytest.raises(ComponentError, match=r"sent on sender_[01]\.row was changed"):
        graph.run(**engine, debug=True)


@component
async def NumbersUpto(number: Out[int], upto: In[int] = 4) -> None:
    for each in range(upto):
        await number.send(each)


@component
async def ChangesInOrder(number: In[int], row: Out[list[int]]) -> None:
    items = [number]
    await row.send(items)
    items.clear()


def test_who_keeps_the_rule_is_left_alone(engine: dict[str, Any], notes: Notes) -> None:
    """New items for each send, changed by who got them: results and counts are those of any other run."""
    graph = Graph()
    graph.sender = MakesNew
    graph.append = Append * 2
    graph.keep = Keep
    graph.keep.notes < notes
    graph.sender.row >> graph.append.row
    graph.append.longer >> graph.keep.row
    report = graph.run(**engine, debug=True)
    assert sorted(notes.read()) == [[each, -1] for each in range(20)]
    assert report.nodes["sender"].sent == report.nodes["keep"].received == 20
    assert all(edge.balanced for edge in report.edges)


def test_batches_seeds_and_sampled_ports_see_the_bare_items(engine: dict[str, Any], notes: Notes) -> None:
    graph = Graph()
    graph.sender = MakesNew
    graph.sender.upto < 5
    graph.latest = MakesNew
    graph.both = Both
    graph.both.clk("rows")
    graph.keep = Keep
    graph.keep.notes < notes
    graph.keep.row < ["first"]
    graph.sender.row >> 2 >= graph.both.rows
    graph.latest.row >> graph.both.sampled
    graph.both.out >> graph.keep.row
    graph.run(**engine, debug=True)
    assert notes.read() == [["first"], [[0], [1]], [[2], [3]], [[4]]]


@component
async def Both(rows: In[list[list[int]]], sampled: In[list[int]], out: Out[list[list[int]]]) -> None:
    assert type(sampled) is list
    await out.send(rows)


class NotTwiceTheSame:
    """Its pickle differs each time: nobody can say whether it was changed."""

    count = 0

    def __reduce__(self) -> tuple[Any, ...]:
        NotTwiceTheSame.count += 1
        return str, (NotTwiceTheSame.count,)


@component
async def SendsWhatCannotBeWatched(row: Out[Any]) -> None:
    await row.send(NotTwiceTheSame())
    await row.send(threading.Lock)
    items: list[Any] = [lambda: 1]
    await row.send(items)
    items.append(1)


def test_what_pickle_cannot_take_and_what_never_looks_the_same_is_not_watched(engine: dict[str, Any]) -> None:
    between_two(SendsWhatCannotBeWatched).run(**engine, debug=True)


@component
async def SendsAGenerator(row: Out[Any]) -> None:
    await row.send(each for each in range(3))


def test_an_item_that_cannot_cross_is_still_told_by_its_own_type() -> None:
    graph = between_two(SendsAGenerator)
    with pytest.raises(CascataError, match="an item of type generator"):
        graph.run(num_workers=2, debug=True)


@component
async def GivesUpAndTriesAgain(row: Out[list[int]]) -> None:
    """A put that is cancelled has given nothing away."""
    for each in range(3):
        item = [each]
        while True:
            try:
                await asyncio.wait_for(row.send(item), 0.01)
                break
            except TimeoutError:
                item.append(0)


def test_an_item_whose_send_was_cancelled_is_the_senders_again(engine: dict[str, Any]) -> None:
    between_two(GivesUpAndTriesAgain, reader=SlowOne).run(**engine, debug=True)


@component
async def SlowOne(row: In[list[int]]) -> None:
    await asyncio.sleep(0.02)
