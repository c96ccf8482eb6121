"""What makes a runner run, on every engine: zips, `clk`, `sync`, and ports that are sampled."""

from __future__ import annotations

from typing import Any

import pytest

from cascata import CascataError, Graph, In, Out, component
from tests.engine.parts import Count, Each, Flag, KeepPair, Notes, Pass, keep

Options = dict[str, Any]


@component
async def KeepThree(first: In[Any], second: In[Any], third: In[Any], notes: In[Notes]) -> None:
    notes.add((first, second, third))


def each(graph: Graph, name: str, items: list[Any]) -> Any:
    """Adds a node that sends the items; returns its out-port."""
    node = graph.add(Each, name)
    node.items < items
    return node.item


def test_all_streams_of_a_node_are_zipped_when_nothing_else_is_said(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.three = KeepThree
    graph.three.notes < notes
    each(graph, "a", [*"abc"]) >> graph.three.first
    each(graph, "b", [*"def"]) >> graph.three.second
    each(graph, "c", [*"ghi"]) >> graph.three.third
    graph.run(**engine)
    assert notes.read() == [("a", "d", "g"), ("b", "e", "h"), ("c", "f", "i")]


def test_each_port_of_clk_triggers_on_its_own(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.pair = KeepPair
    graph.pair.notes < notes
    each(graph, "letters", [*"abc"]) >> graph.pair.left
    each(graph, "numbers", [1, 2, 3, 4]) >> graph.pair.right
    graph.pair.clk(graph.pair.left, graph.pair.right)
    report = graph.run(**engine)
    kept = notes.read()
    assert len(kept) == 7
    # Each call sees one new item, and of the other port what came last, or None.
    before: tuple[str | None, int | None] = (None, None)
    letters, numbers = iter("abc"), iter([1, 2, 3, 4])
    for left, right in kept:
        changed = [left != before[0], right != before[1]]
        assert sorted(changed) == [False, True]
        assert (left == next(letters)) if changed[0] else (right == next(numbers))
        before = left, right
    assert before == ("c", 4)
    assert report.nodes["pair"].received == 7


def test_clk_ends_when_the_last_of_its_ports_has_ended(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.pair = KeepPair
    graph.pair.notes < notes
    each(graph, "none", []) >> graph.pair.left
    each(graph, "numbers", [1, 2]) >> graph.pair.right
    graph.pair.clk(graph.pair.left, graph.pair.right)
    graph.run(**engine)
    assert notes.read() == [(None, 1), (None, 2)]


def test_several_groups_of_sync_trigger_on_their_own(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.three = KeepThree
    graph.three.notes < notes
    each(graph, "a", [1, 2]) >> graph.three.first
    each(graph, "b", [3, 4, 5]) >> graph.three.second
    each(graph, "c", [*"xyz"]) >> graph.three.third
    graph.three.sync(graph.three.first, graph.three.second)
    graph.three.clk(graph.three.third)
    graph.run(**engine)
    kept = notes.read()
    assert len(kept) == 5
    pairs = [pair for pair in dict.fromkeys((first, second) for first, second, _ in kept) if pair != (None, None)]
    assert pairs == [(1, 3), (2, 4)]
    assert [letter for letter in dict.fromkeys(third for *_, third in kept) if letter is not None] == [*"xyz"]


@component
async def SamplesThenTriggers(upto: In[int], seen: In[Flag], sample: Out[int], trigger: Out[int]) -> None:
    """Sends samples, then triggers until the last sample was seen."""
    for number in range(1, upto + 1):
        await sample.send(number)
    triggers = 0
    while not seen.is_set():
        await trigger.send(triggers)
        triggers += 1


@component
async def See(trigger: In[int], sample: In[int], wanted: In[int], seen: In[Flag], notes: In[Notes]) -> None:
    notes.add((trigger, sample))
    if sample == wanted:
        seen.set()


def sampling(notes: Notes, seen: Flag, upto: int) -> Graph:
    graph = Graph()
    graph.sender = SamplesThenTriggers
    graph.sender.upto < upto
    graph.sender.seen < seen
    graph.see = See
    graph.see.wanted < upto
    graph.see.seen < seen
    graph.see.notes < notes
    graph.sender.sample >> graph.see.sample
    graph.sender.trigger >> graph.see.trigger
    graph.see.clk(graph.see.trigger)
    return graph


def test_a_sampled_port_shows_its_latest_value(engine: Options, notes: Notes, flags: list[Flag]) -> None:
    # More samples than the port has room for: they are drawn although nothing triggers yet.
    sampling(notes, flags[0], 1000).run(**engine)
    triggers, samples = zip(*notes.read(), strict=True)
    assert triggers == tuple(range(len(triggers)))
    assert samples[-1] == 1000
    assert list(samples) == sorted(samples)


@component
async def TriggersThenSample(trigger: Out[int], sample: Out[str]) -> None:
    for number in range(50):
        await trigger.send(number)
    await sample.send("sample")


def test_nothing_runs_before_every_sampled_port_has_had_a_value(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.sender = TriggersThenSample
    graph.pair = KeepPair
    graph.pair.notes < notes
    graph.sender.trigger >> graph.pair.left
    graph.sender.sample >> graph.pair.right
    graph.pair.clk(graph.pair.left)
    graph.run(**engine)
    assert notes.read() == [(number, "sample") for number in range(50)]


def test_a_sampled_port_keeps_its_last_value_after_its_end(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.pair = KeepPair
    graph.pair.notes < notes
    each(graph, "sample", ["only"]) >> graph.pair.right
    graph.count = Count
    graph.count.upto < 500
    graph.count.number >> graph.pair.left
    graph.pair.clk(graph.pair.left)
    graph.run(**engine)
    assert notes.read() == [(number, "only") for number in range(500)]


def test_a_sampled_port_that_ends_before_its_first_value_is_named(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.pair = KeepPair
    graph.pair.notes < notes
    each(graph, "none", []) >> graph.pair.right
    each(graph, "some", [1, 2]) >> graph.pair.left
    graph.pair.clk(graph.pair.left)
    with pytest.raises(CascataError, match=r"pair\.right.*before its first value"):
        graph.run(**engine)
    assert notes.read() == []


def test_a_sampled_port_may_have_a_first_value_of_its_own(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.pair = KeepPair
    graph.pair.notes < notes
    graph.pair.right < "seed"
    each(graph, "none", []) >> graph.pair.right
    each(graph, "some", [1, 2]) >> graph.pair.left
    graph.pair.clk(graph.pair.left)
    graph.run(**engine)
    assert notes.read() == [(1, "seed"), (2, "seed")]


def test_an_endless_sampled_stream_is_stopped_when_the_triggers_have_ended(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.forever = Forever
    graph.forever.notes < notes
    graph.last = Last
    graph.forever.number >> graph.last.sample
    each(graph, "some", [1, 2]) >> graph.last.trigger
    graph.last.clk(graph.last.trigger)
    report = graph.run(**engine)
    assert notes.read() == ["stopped"]
    assert report.nodes["forever"].failed == 0


@component
async def Forever(notes: In[Notes], number: Out[int]) -> None:
    try:
        while True:
            await number.send(1)
    finally:
        notes.add("stopped")


@component
async def Last(trigger: In[int], sample: In[int]) -> None:
    assert sample == 1


def test_a_zip_of_unequal_streams_ends_with_the_shortest(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.pair = KeepPair
    graph.pair.notes < notes
    each(graph, "short", [1, 2]) >> graph.pair.left
    each(graph, "long", [*"abcde"]) >> graph.pair.right
    report = graph.run(**engine)
    assert notes.read() == [(1, "a"), (2, "b")]
    assert report.nodes["pair"].received == 4
    edges = {edge.source: edge for edge in report.edges}
    long = edges["long.item"]
    assert (long.delivered, long.delivered + long.dropped) == (2, long.sent)  # it may have been stopped before its end
    assert all(edge.balanced for edge in report.edges)
    assert report.nodes["pair"].dropped == long.dropped


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_member_of_a_zip_that_is_a_chain_away_is_in_step(engine: Options, notes: Notes, count: int) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 500
    graph.pair = KeepPair
    graph.pair.notes < notes
    graph.count.number >> graph.pair.left
    out = graph.count.number
    for number in range(count):
        step = graph.add(Pass, f"step_{number}")
        out >> step.item
        out = step.same
    out >> graph.pair.right
    graph.run(**engine)
    assert notes.read() == [(number, number) for number in range(500)]


def test_a_constant_in_a_group_is_always_there(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.pair = KeepPair
    graph.pair.notes < notes
    graph.pair.right < "constant"
    each(graph, "some", [1, 2]) >> graph.pair.left
    graph.pair.sync(graph.pair.left, graph.pair.right)
    graph.run(**engine)
    assert notes.read() == [(1, "constant"), (2, "constant")]


def test_a_node_with_triggers_and_a_runner_that_sends_keeps_one_call_at_a_time(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.one = OneAtATime
    graph.one.notes < notes
    each(graph, "letters", [*"abcdefgh"]) >> graph.one.left
    each(graph, "numbers", [*range(8)]) >> graph.one.right
    graph.one.clk(graph.one.left, graph.one.right)
    keep(graph, graph.one.out, notes)
    graph.run(**engine)
    kept = [note for note in notes.read() if note in {"begin", "end"}]
    assert kept == ["begin", "end"] * 16


@component
async def OneAtATime(left: In[Any], right: In[Any], notes: In[Notes], out: Out[str]) -> None:
    notes.add("begin")
    for _ in range(3):
        await out.send("between")
    notes.add("end")
