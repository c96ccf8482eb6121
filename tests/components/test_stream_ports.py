"""In-ports that a runner reads itself, `Stream[T]`: on every engine, in the loop and in threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cascata import Graph, In, Out, State, Stream, component, inport
from cascata.errors import ComponentError
from tests.components.helpers import InPairs, InPairsByThread, InPairsDecorated
from tests.engine.parts import Count, Each, Endless, Flag, Keep, KeepPair, Notes, Pass, keep, noting

Options = dict[str, Any]


PAIRING = pytest.mark.parametrize("pairing", [InPairs, InPairsByThread, InPairsDecorated], ids=lambda c: c.spec.name)


@component
async def Head(items: Stream[Any], first: Out[Any], n: In[int] = 3) -> None:
    """Sends the first items, then ends."""
    for _ in range(n):
        await first.send(await anext(items))


@component(thread=True)
def HeadByThread(items: Stream[Any], first: Out[Any], n: In[int] = 3) -> Iterator[Any]:
    """The same, in a thread."""
    reading = iter(items)
    for _ in range(n):
        yield next(reading)


@component
async def Rest(items: Stream[Any], sent: Out[Any]) -> None:
    """Passes items on."""
    async for item in items:
        await sent.send(item)


@component(thread=True)
def RestByThread(items: Stream[Any], sent: Out[Any]) -> Iterator[Any]:
    """Passes items on, in a thread."""
    yield from items


def pairs(pairing: Any, upto: int, notes: Notes) -> Graph:
    graph = Graph()
    graph.count = Count
    graph.pairs = pairing
    graph.count.upto < upto
    graph.count.number >> graph.pairs.items
    keep(graph, graph.pairs.pair, notes)
    return graph


# --- what is read -----------------------------------------------------------------------------------


@PAIRING
@pytest.mark.parametrize("upto", [0, 1, 2, 1001])
def test_a_runner_reads_every_item_in_order_and_sends_what_is_left_at_the_end(
    engine: Options, notes: Notes, pairing: Any, upto: int
) -> None:
    report = pairs(pairing, upto, notes).run(**engine)
    assert notes.read() == [[*range(upto)][at : at + 2] for at in range(0, upto, 2)]
    assert (report.nodes["pairs"].received, report.nodes["pairs"].dropped) == (upto, 0)


@pytest.mark.parametrize("head", [Head, HeadByThread], ids=["loop", "thread"])
def test_a_runner_that_returns_early_stops_its_sender_and_the_rest_is_dropped(
    engine: Options, notes: Notes, head: Any
) -> None:
    graph = Graph()
    graph.endless = Endless
    graph.endless.notes < notes
    graph.head = head
    graph.endless.number >> graph.head.items
    keep(graph, graph.head.first, notes)
    report = graph.run(**engine)
    assert [note for note in notes.read() if isinstance(note, int)] == [0, 1, 2]
    assert report.nodes["head"].received == 3
    (edge,) = [edge for edge in report.edges if "head" in str(edge.target)]
    assert edge.delivered == 3
    assert edge.sent == edge.delivered + edge.dropped + edge.undelivered


def test_what_a_thread_has_in_hand_and_does_not_take_is_dropped(notes: Notes) -> None:
    """It is given a good many items at once when it takes them quickly."""

    @component(thread=True)
    def Few(items: Stream[int], out: Out[int]) -> Iterator[int]:
        for item in items:
            if item == 500:
                return
            yield item

    graph = Graph()
    graph.count = Count
    graph.count.upto < 1000
    graph.few = Few
    graph.count.number >> graph.few.items
    keep(graph, graph.few.out, notes)
    report = graph.run(engine="inline")
    assert notes.read() == [*range(500)]
    assert report.nodes["few"].received == 501
    (edge,) = [edge for edge in report.edges if "few" in str(edge.target)]
    assert edge.delivered == 501


def test_a_constant_is_the_only_item_and_comes_first_on_a_connected_port(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.alone = InPairs
    graph.alone.items < 7
    graph.fed = InPairs
    graph.fed.items < 8
    graph.count = Count
    graph.count.upto < 2
    graph.count.number >> graph.fed.items
    keep(graph, graph.alone.pair, notes, "keep_alone")
    keep(graph, graph.fed.pair, notes, "keep_fed")
    graph.run(**engine)
    assert sorted(notes.read()) == [[1], [7], [8, 0]]


def test_several_senders_are_merged_and_a_batching_edge_gives_lists(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count * 2
    graph.count.upto < 5
    graph.rest = Rest
    graph.count.number >> 3 >= graph.rest.items
    keep(graph, graph.rest.sent, notes)
    graph.run(**engine)
    lists = notes.read()
    assert [len(each) for each in lists] == [3, 3, 3, 1]
    assert sorted(item for each in lists for item in each) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_the_members_of_a_group_share_a_stream(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 1000
    graph.rest = Rest * 3
    graph.by_thread = RestByThread * 2
    graph.count.number >> graph.rest.items
    graph.rest.sent >> graph.by_thread.items
    keep(graph, graph.by_thread.sent, notes)
    graph.run(**engine)
    assert sorted(notes.read()) == [*range(1000)]


def test_ports_that_receive_one_item_trigger_calls_which_read_on_where_the_last_one_stopped(
    engine: Options, notes: Notes
) -> None:
    @component
    async def Portion(size: In[int], items: Stream[int], out: Out[list[int]]) -> None:
        await out.send([await anext(items) for _ in range(size)])

    graph = Graph()
    graph.sizes = Each
    graph.sizes.items < [3, 1, 2]
    graph.count = Count
    graph.count.upto < 1000
    graph.portion = Portion
    graph.sizes.item >> graph.portion.size
    graph.count.number >> graph.portion.items
    keep(graph, graph.portion.out, notes)
    graph.run(**engine)
    assert notes.read() == [[0, 1, 2], [3], [4, 5]]


def test_two_streams_can_be_read_in_any_order_and_at_the_same_time(engine: Options, notes: Notes) -> None:
    @component
    async def Both(left: Stream[int], right: Stream[int], pair: Out[list[int]], more: Out[int]) -> None:
        for _ in range(3):
            await pair.send(list(await asyncio.gather(anext(left), anext(right))))
        async for item in left:
            await more.send(item)
        async for item in right:
            await more.send(-item)

    graph = Graph()
    graph.left, graph.right = Count, Count
    graph.left.upto < 5
    graph.right.upto < 300
    graph.both = Both
    graph.left.number >> graph.both.left
    graph.right.number >> graph.both.right
    keep(graph, graph.both.pair, notes, "keep_pairs")
    graph.run(**engine)
    assert notes.read() == [[0, 0], [1, 1], [2, 2]]


def test_more_is_not_sent_than_the_capacity_while_a_runner_does_not_read(engine: Options, notes: Notes) -> None:
    @component
    @inport("items", capacity=2)
    async def Slow(items: Stream[int], notes: In[Notes], go: In[Flag]) -> None:
        await anext(items)
        await go.wait()
        notes.add("reads on")
        async for _ in items:
            pass

    @component
    async def Telling(number: Out[int], notes: In[Notes], go: In[Flag]) -> None:
        for each in range(3):
            await number.send(each)
        sending = asyncio.ensure_future(number.send(3))
        await asyncio.sleep(0)
        notes.add(("the fourth has room", sending.done()))
        go.set()
        await sending

    graph = Graph()
    graph.telling = Telling
    graph.slow = Slow
    for node in (graph.telling, graph.slow):
        node.notes < notes
        node.go < Flag(notes.path + "_go")
    graph.telling.number >> graph.slow.items
    graph.run(**engine)
    assert notes.read() == [("the fourth has room", False), "reads on"]


def test_a_wait_that_is_bounded_takes_nothing_when_the_time_has_passed(
    engine: Options, notes: Notes, flags: list[Flag]
) -> None:
    @component
    async def Impatient(items: Stream[int], notes: In[Notes], asked: In[Flag]) -> None:
        notes.add(await items.next(20))
        with pytest.raises(TimeoutError):
            await items.next(0.01)
        asked.set()
        notes.add(await items.next(20))
        notes.add(await items.next())
        with pytest.raises(StopAsyncIteration):
            await items.next(20)
        with pytest.raises(StopAsyncIteration):
            await anext(items)

    @component
    async def Late(number: Out[int], asked: In[Flag]) -> None:
        await number.send(1)
        await asked.wait()
        await number.send(2)
        await number.send(3)

    graph = Graph()
    graph.late = Late
    graph.impatient = Impatient
    graph.impatient.notes < notes
    graph.late.asked < flags[0]
    graph.impatient.asked < flags[0]
    graph.late.number >> graph.impatient.items
    graph.run(**engine)
    assert notes.read() == [1, 2, 3]


# --- how it ends ------------------------------------------------------------------------------------


@pytest.mark.parametrize("skip", [False, True], ids=["raise", "skip"])
@pytest.mark.parametrize("thread", [False, True], ids=["loop", "thread"])
def test_a_failure_names_the_last_item_and_is_never_skipped(engine: Options, skip: bool, thread: bool) -> None:
    """Skipping would end the node in the middle of its stream, and a report would call that a success."""

    @component
    async def Inverting(items: Stream[int], out: Out[float]) -> None:
        async for item in items:
            await out.send(1 / (3 - item))

    @component(thread=True)
    def InvertingByThread(items: Stream[int], out: Out[float]) -> Iterator[float]:
        for item in items:
            yield 1 / (3 - item)

    graph = Graph()
    graph.count = Count
    graph.count.upto < 10
    graph.inverting = InvertingByThread if thread else Inverting
    graph.count.number >> graph.inverting.items
    with pytest.raises(ComponentError, match=r"'inverting'.* on items=3: ZeroDivisionError") as raised:
        graph.run(**engine, on_error="skip" if skip else "raise")
    assert raised.value.item == "3"
    assert "skip" not in str(raised.value)


@pytest.mark.parametrize("rest", [Rest, RestByThread], ids=["loop", "thread"])
def test_the_failure_of_another_node_ends_a_runner_that_waits(engine: Options, notes: Notes, rest: Any) -> None:
    @component
    async def FailsAfterOne(number: Out[int], go: In[Flag]) -> None:
        await number.send(1)
        await go.wait()
        raise OSError("broken")

    @component
    async def Marks(item: In[int], go: In[Flag]) -> None:
        go.set()

    graph = Graph()
    graph.fails = FailsAfterOne
    graph.rest = rest
    graph.marks = Marks
    graph.fails.go < Flag(notes.path + "_go")
    graph.marks.go < Flag(notes.path + "_go")
    graph.fails.number >> graph.rest.items
    graph.rest.sent >> graph.marks.item
    before = threading.active_count()
    with pytest.raises(ComponentError, match="broken"):
        graph.run(**engine)
    assert threading.active_count() == before


def until_set(flag: Flag) -> Iterator[None]:
    """State that is not torn down before a flag is set."""
    yield
    flag.wait_blocking()


def test_a_thread_that_waits_for_an_item_ends_although_its_sender_has_not(notes: Notes) -> None:
    @component
    async def Lingers(number: Out[int], state: State[None] = State(until_set)) -> None:
        await number.send(1)
        await asyncio.Event().wait()

    @component(thread=True)
    def Waits(items: Stream[int], has_one: In[Flag], has_ended: In[Flag]) -> None:
        try:
            for _ in items:
                has_one.set()
        finally:
            has_ended.set()

    @component
    async def Fails(has_one: In[Flag]) -> None:
        await has_one.wait()
        raise OSError("broken")

    has_one, has_ended = Flag(notes.path + "_one"), Flag(notes.path + "_end")
    graph = Graph()
    graph.lingers = Lingers
    graph.lingers.state < has_ended
    graph.waits = Waits
    graph.waits.has_one < has_one
    graph.waits.has_ended < has_ended
    graph.fails = Fails
    graph.fails.has_one < has_one
    graph.lingers.number >> graph.waits.items
    graph.pin("lingers", 0)  # whose loop its state blocks
    graph.pin("waits", 1)
    began = time.monotonic()
    with pytest.raises(ComponentError, match="broken"):
        graph.run(num_workers=2, grace=15)
    assert time.monotonic() - began < 10


def test_state_is_torn_down_when_a_runner_ends_early(engine: Options, notes: Notes) -> None:
    @component
    async def One(items: Stream[int], state: State[str] = State(noting)) -> None:
        await anext(items)

    graph = Graph()
    graph.endless = Endless
    graph.one = One
    graph.one.state < notes
    graph.endless.number >> graph.one.items
    graph.run(**engine)
    assert notes.read() == [("state", "made"), ("state", "torn down")]


@PAIRING
def test_a_run_that_is_stopped_gets_the_rest_of_what_was_read(engine: Options, notes: Notes, pairing: Any) -> None:
    @component
    async def ThreeThenMore(number: Out[int], ready: In[Flag]) -> None:
        for each in range(3):
            await number.send(each)
        ready.set()
        while True:
            await asyncio.sleep(0.001)
            await number.send(3)

    graph = Graph()
    graph.source = ThreeThenMore
    graph.source.ready < Flag(notes.path + "_ready")
    graph.pairs = pairing
    graph.source.number >> graph.pairs.items
    keep(graph, graph.pairs.pair, notes)
    graph.start(**engine)
    Flag(notes.path + "_ready").wait_blocking()
    graph.stop()
    graph.join()
    got = [item for pair in notes.read() for item in pair]
    assert got == [0, 1, 2] + [3] * (len(got) - 3)


# --- when nothing moves -----------------------------------------------------------------------------


@component
async def InEights(items: Stream[int], same: Out[int]) -> None:
    """Sends items on when eight have come."""
    kept: list[int] = []
    async for item in items:
        kept.append(item)
        if len(kept) == 8:
            for each in kept:
                await same.send(each)
            kept = []


@component(thread=True)
def InEightsByThread(items: Stream[int], same: Out[int]) -> Iterator[int]:
    """The same, in a thread."""
    kept: list[int] = []
    for item in items:
        kept.append(item)
        if len(kept) == 8:
            yield from kept
            kept = []


@component
@inport("left", capacity=1)
@inport("right", capacity=1)
async def Narrow(left: In[int], right: In[int], notes: In[Notes]) -> None:
    """Notes pairs, and keeps nobody's items for long."""
    notes.add((left, right))


@pytest.mark.parametrize("eights", [InEights, InEightsByThread], ids=["loop", "thread"])
def test_a_stream_that_waits_for_items_which_have_no_room_elsewhere_gets_them(
    engine: Options, notes: Notes, eights: Any
) -> None:
    """Its sender is blocked by the other way to the same node: that one must get more room."""
    graph = Graph()
    graph.count = Count
    graph.count.upto < 32
    graph.eights = eights
    graph.narrow = Narrow
    graph.narrow.notes < notes
    graph.count.number >> graph.eights.items
    graph.count.number >> graph.narrow.right
    graph.eights.same >> graph.narrow.left
    graph.run(**engine, timeout=30)
    assert notes.read() == [(each, each) for each in range(32)]


# --- cycles -----------------------------------------------------------------------------------------


@component
async def Countdown(numbers: Stream[int], again: Out[int], seen: Out[int]) -> None:
    """Sends each number back, less one."""
    async for number in numbers:
        await seen.send(number)
        if number:
            await again.send(number - 1)


@component(thread=True)
def CountdownByThread(numbers: Stream[int], again: Out[int], seen: Out[int]) -> None:
    """The same, in a thread."""
    for number in numbers:
        seen.send(number)  # type: ignore[unused-coroutine]  # in a thread it is a blocking call
        if number:
            again.send(number - 1)  # type: ignore[unused-coroutine]  # ...


@component
async def CountdownLater(numbers: Stream[int], again: Out[int], seen: Out[int]) -> None:
    """Holds each number back for a while: nothing is in flight then, and the cycle must go on all the same."""
    held: int | None = None
    while True:
        try:
            number = await numbers.next(None if held is None else 0.02)
        except TimeoutError:
            assert held is not None
            await again.send(held)
            held = None
        except StopAsyncIteration:
            return
        else:
            await seen.send(number)
            held = number - 1 if number else None


@pytest.mark.parametrize("countdown", [Countdown, CountdownByThread, CountdownLater], ids=lambda c: c.spec.name)
@pytest.mark.parametrize("apart", [False, True], ids=["together", "apart"])
def test_a_cycle_through_a_stream_ends_when_nothing_is_left_in_it(
    engine: Options, notes: Notes, countdown: Any, apart: bool
) -> None:
    graph = Graph()
    graph.countdown = countdown
    graph.back = Pass
    graph.countdown.numbers < 5
    graph.countdown.again >> graph.back.item
    graph.back.same >> graph.countdown.numbers
    keep(graph, graph.countdown.seen, notes)
    if apart:
        graph.pin("countdown", 0)
        graph.pin("back", 1)
    graph.run(**engine)
    assert notes.read() == [5, 4, 3, 2, 1, 0]


def test_what_a_thread_yields_in_a_cycle_is_sent_before_it_is_found_to_rest(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.more = CountdownYielding
    graph.both = Pass
    graph.more.numbers < 60
    graph.more.again >> graph.both.item
    graph.both.same >> graph.more.numbers
    keep(graph, graph.both.same, notes)
    graph.run(**engine)
    assert notes.read() == [*range(59, -1, -1)]


@component(thread=True)
def CountdownYielding(numbers: Stream[int], again: Out[int]) -> Iterator[int]:
    """Yields each number, less one."""
    for number in numbers:
        if number:
            yield number - 1


# --- together ---------------------------------------------------------------------------------------


def test_streams_and_single_items_do_not_mix_up_in_pairs(engine: Options, notes: Notes) -> None:
    """A zip of two ports that receive items, beside a node that reads the same streams itself."""
    graph = Graph()
    graph.count = Count
    graph.count.upto < 100
    graph.rest = Rest
    graph.pair = KeepPair
    graph.pair.notes < notes
    graph.count.number >> graph.rest.items
    graph.count.number >> graph.pair.left
    graph.rest.sent >> graph.pair.right
    graph.run(**engine)
    assert notes.read() == [(each, each) for each in range(100)]


def test_a_stream_is_reported_as_starved_and_not_as_busy_while_it_waits(notes: Notes, flags: list[Flag]) -> None:
    @component
    async def Slow(number: Out[int]) -> None:
        await asyncio.sleep(0.2)
        await number.send(1)

    graph = Graph()
    graph.slow = Slow
    graph.rest = Rest
    graph.keep = Keep
    graph.keep.notes < notes
    graph.slow.number >> graph.rest.items
    graph.rest.sent >> graph.keep.item
    node = graph.run(engine="inline").nodes["rest"]
    assert node.starved_s >= 0.19
    assert node.busy_s < node.starved_s / 2
