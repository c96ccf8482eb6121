"""What a call sends before it may leave is bounded, on every engine: with `concurrency`, `ordered()` and `retries`.

The call whose turn it is sends straight through; the others, and attempts, hold so much and then wait, let the loop
turn, and are ended by whatever ends a `send` that waits for room.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import pytest

from cascata import BlockingOut, Graph, In, Out, Sink, Source, State, component, inport
from cascata.components import Take
from cascata.errors import ComponentError
from cascata.runtime.order import buffered_sends, ordered
from tests.engine.bounded import ENOUGH, LIMIT_S, Made
from tests.engine.parts import Count, Flag, Notes, keep

Options = dict[str, Any]

# -- calls that send without end, in every form


async def async_form(number: In[int], out: Out[int]) -> None:
    for each in itertools.count():
        await out.send(each)


async def async_generator(number: In[int], out: Out[int]) -> AsyncIterator[int]:
    for each in itertools.count():
        yield each


def generator(number: In[int], out: Out[int]) -> Iterator[int]:
    yield from itertools.count()


def in_thread(number: In[int], out: BlockingOut[int]) -> None:
    for each in itertools.count():
        out.send(each)


def generator_in_thread(number: In[int], out: Out[int]) -> Iterator[int]:
    yield from itertools.count()


FORMS: Final[list[tuple[Callable[..., Any], Options]]] = [
    (async_form, {}),
    (async_generator, {}),
    (generator, {}),
    (in_thread, {"thread": True}),
    (generator_in_thread, {"thread": True}),
]

WAYS: Final[dict[str, Options]] = {
    "concurrency": {"concurrency": 2},
    "retries": {"retries": 1},
    "both": {"concurrency": 2, "retries": 1},
    "both, unordered": {"concurrency": 2, "retries": 1, "ordered": False},
    "with a time limit": {"concurrency": 2, "retries": 1, "timeout": 60.0},
    "group": {},
    "group with retries": {"retries": 1},
}

ENDLESS: Final = {
    (form.__name__, way): component(**options, **more)(form) for form, options in FORMS for way, more in WAYS.items()
}


def until_enough(endless: Any, *, group: bool = False) -> Graph:
    graph = Graph()
    graph.source = Source()
    graph.endless = endless * 2 if group else endless
    graph.take = Take
    graph.sink = Sink()
    if group:
        graph.endless.ordered()
    graph.take.n < ENOUGH
    graph.source.out >> graph.endless.number
    graph.endless.out >> graph.take.inp
    graph.take.out >> graph.sink.inp
    return graph


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("form", [form.__name__ for form, _ in FORMS])
def test_a_call_that_sends_without_end_is_stopped_when_its_reader_has_enough(
    form: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffered_sends, "ATTEMPT_ITEMS", 100)  # a `send` in a thread takes its time
    graph = until_enough(ENDLESS[form, way], group="group" in way)
    came = list(graph.stream([0, 1, 2], engine="inline", timeout=LIMIT_S))
    if "unordered" in way:
        assert len(came) == 3  # of whichever call was faster
    else:
        assert came == [0, 1, 2]


@pytest.mark.parametrize("way", ["concurrency", "both", "group"])
def test_it_is_on_every_engine(engine: Options, way: str) -> None:
    graph = until_enough(ENDLESS["async_form", way], group="group" in way)
    assert list(graph.stream([0, 1, 2], **engine, timeout=LIMIT_S)) == [0, 1, 2]


def test_a_thread_is_on_every_engine(engine: Options) -> None:
    graph = until_enough(ENDLESS["in_thread", "concurrency"])
    assert list(graph.stream([0, 1, 2], **engine, timeout=LIMIT_S)) == [0, 1, 2]


# -- straight through


@component(concurrency=2)
async def SendsAndWaits(number: In[int], out: Out[int], seen: In[Flag]) -> None:
    """Goes on only when what it sent has been read."""
    await out.send(number)
    if number == 0:
        await seen.wait()
    await out.send(10 + number)


@component
async def SendsAndWaitsAlone(number: In[int], out: Out[int], seen: In[Flag]) -> None:
    await out.send(number)
    if number == 0:
        await seen.wait()
    await out.send(10 + number)


@component(thread=True, concurrency=2)
def SendsAndWaitsInThread(number: In[int], out: BlockingOut[int], seen: In[Flag]) -> None:
    out.send(number)
    if number == 0:
        seen.wait_blocking()
    out.send(10 + number)


@component
async def Sees(item: In[int], seen: In[Flag], notes: In[Notes]) -> None:
    notes.add(item)
    seen.set()


@pytest.mark.parametrize("calls", [SendsAndWaits, SendsAndWaitsInThread, SendsAndWaitsAlone * 2])
def test_what_the_first_call_sends_arrives_while_it_runs(
    engine: Options, notes: Notes, flags: list[Flag], calls: Any
) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 3
    graph.calls = calls
    graph.calls.seen < flags[0]
    graph.sees = Sees
    graph.sees.seen < flags[0]
    graph.sees.notes < notes
    graph.count.number >> graph.calls.number
    graph.calls.out >> graph.sees.item
    if not isinstance(calls, type):
        graph.calls.ordered()
    report = graph.run(**engine, timeout=LIMIT_S)
    assert notes.read() == [0, 10, 1, 11, 2, 12]
    assert all(edge.balanced for edge in report.edges)


# -- so much and no more


class Heavy:
    """An item of a megabyte that takes none."""

    nbytes = 1 << 20


TURNS: Final = 3 * buffered_sends.AHEAD_ITEMS
"""Items that a call sends which would be far ahead of its turn."""


@component(concurrency=2)
async def SecondIsAhead(
    number: In[int], out: Out[Any], notes: In[Notes], heavy: In[bool], made: State[Made] = State(Made)
) -> None:
    """The first call waits until the second one makes no more."""
    if number == 0:
        notes.add(("ahead", await made.value.stands_still()))
        notes.add(("ticked", made.value.ticks > 10))
        await out.send((0, 0))
        return
    for each in range(100 if heavy else TURNS):
        await out.send(Heavy() if heavy else (1, each))
        made.value.items += 1


@component
async def CountItems(items: In[list[Any]], notes: In[Notes]) -> None:
    in_order = items == sorted(items, key=lambda each: each if isinstance(each, tuple) else (2, 0))
    notes.add(("arrived", len(items), in_order))


def ahead(notes: Notes, *, heavy: bool) -> Graph:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 2
    graph.calls = SecondIsAhead
    graph.calls.notes < notes
    graph.calls.heavy < heavy
    graph.counts = CountItems
    graph.counts.notes < notes
    graph.count.number >> graph.calls.number
    graph.calls.out.connect(graph.counts.items, batch="all")
    return graph


def test_a_call_holds_so_many_items_before_its_turn_and_a_timer_ticks_beside(engine: Options, notes: Notes) -> None:
    report = ahead(notes, heavy=False).run(**engine, timeout=LIMIT_S)
    told = notes.read()
    assert told[:2] == [("ahead", buffered_sends.AHEAD_ITEMS), ("ticked", True)]
    assert told[2:] == [("arrived", TURNS + 1, True)]
    assert report.nodes["calls"].sent == TURNS + 1
    assert all(edge.balanced for edge in report.edges)


def test_a_call_holds_so_many_bytes_before_its_turn(notes: Notes) -> None:
    ahead(notes, heavy=True).run(engine="inline", timeout=LIMIT_S)
    assert notes.read()[0] == ("ahead", buffered_sends.AHEAD_BYTES // 2 // Heavy.nbytes)


@component
@inport("number", capacity=2)
async def SendsMany(number: In[int], out: Out[Any], notes: In[Notes]) -> None:
    """The member that has the first item waits until others make no more."""
    if number == 0:
        before = -1
        while (made := len(notes.read())) != before or not made:
            before = made
            await asyncio.sleep(0.1)
        notes.add(("ahead", made))
        return
    for each in range(1000):
        await out.send((number, each))
        notes.add(1)


@component
async def InOrder(items: In[list[Any]], kept: In[Notes]) -> None:
    kept.add((len(items), items == sorted(items)))


def test_a_member_of_an_ordered_group_holds_what_its_in_port_has_room_for(
    engine: Options, notes: Notes, tmp_path: Any
) -> None:
    kept = Notes(str(tmp_path / "kept"))
    graph = Graph()
    graph.count = Count
    graph.count.upto < 3
    graph.members = SendsMany * 2
    graph.members.ordered()
    graph.members.notes < notes
    graph.order = InOrder
    graph.order.kept < kept
    graph.count.number >> graph.members.number
    graph.members.out.connect(graph.order.items, batch="all")
    graph.run(**engine, timeout=LIMIT_S)
    ((_, made),) = (each for each in notes.read() if each != 1)
    # Messages in the channel, one that waits for its turn and one for room, and what is kept for the next.
    assert 0 < made <= (2 + 2 + 1) * ordered.MESSAGE_ITEMS
    assert kept.read() == [(2000, True)]


# -- attempts


@component(retries=3, backoff=0.0)
async def FailsOnce(upto: In[int], out: Out[int], notes: In[Notes], tries: State[list[int]] = State(list)) -> None:
    tries.value.append(1)
    notes.add("attempt")
    for each in range(upto):
        await out.send(each)
    if len(tries.value) == 1:
        raise ConnectionError("once")


def attempt_of(upto: int, notes: Notes, kept: Notes) -> Graph:
    graph = Graph()
    graph.fails = FailsOnce
    graph.fails.upto < upto
    graph.fails.notes < notes
    graph.counts = CountItems
    graph.counts.notes < kept
    graph.fails.out.connect(graph.counts.items, batch="all")
    return graph


@pytest.fixture
def kept(tmp_path: Any) -> Notes:
    return Notes(str(tmp_path / "kept"))


def test_an_attempt_that_fails_below_the_bound_leaves_nothing(engine: Options, notes: Notes, kept: Notes) -> None:
    report = attempt_of(buffered_sends.ATTEMPT_ITEMS, notes, kept).run(**engine, timeout=LIMIT_S)
    assert notes.read() == ["attempt", "attempt"]
    assert kept.read() == [("arrived", buffered_sends.ATTEMPT_ITEMS, True)]
    assert report.nodes["fails"].sent == buffered_sends.ATTEMPT_ITEMS


def test_an_attempt_beyond_the_bound_is_the_last_and_its_error_says_so(
    engine: Options, notes: Notes, kept: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(
        ComponentError, match=r"not tried again: it had sent 10000 items or 64 MB.*as one item"
    ) as caught:
        attempt_of(buffered_sends.ATTEMPT_ITEMS + 1, notes, kept).run(**engine, timeout=LIMIT_S)
    assert notes.read() == ["attempt"]
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert [record.levelname for record in caplog.records if "as much as an attempt" in record.message] == ["WARNING"]


def test_an_attempt_beyond_the_bound_that_succeeds_has_sent_all(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = ManyOnce
    graph.count.upto < 25_000
    graph.counts = CountItems
    graph.counts.notes < notes
    graph.count.out.connect(graph.counts.items, batch="all")
    graph.run(**engine, timeout=LIMIT_S)
    assert notes.read() == [("arrived", 25_000, True)]


@component(retries=1)
async def ManyOnce(upto: In[int], out: Out[int]) -> None:
    for each in range(upto):
        await out.send(each)


@component(concurrency=4, retries=2, backoff=0.0)
async def FailsAtFirst(number: In[int], out: Out[Any], tries: State[list[int]] = State(list)) -> None:
    """Sends thrice; the first attempts at every second item fail in between."""
    tries.value.append(number)
    attempt = tries.value.count(number)
    for each in range(3):
        await out.send((number, attempt, each))
        await asyncio.sleep(0)
        if number % 2 and attempt < 3 and each == 1:
            raise ConnectionError("again")


def test_with_both_only_what_succeeded_leaves_and_in_order(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 20
    graph.fails = FailsAtFirst
    graph.count.number >> graph.fails.number
    keep(graph, graph.fails.out, notes)
    graph.run(**engine, timeout=LIMIT_S)
    expected = [(number, 3 if number % 2 else 1, each) for number in range(20) for each in range(3)]
    assert notes.read() == expected


def test_what_nobody_reads_needs_no_room(notes: Notes) -> None:
    graph = Graph()
    graph.fails = FailsOnce
    graph.fails.upto < 3 * buffered_sends.ATTEMPT_ITEMS
    graph.fails.notes < notes
    report = graph.run(engine="inline", timeout=LIMIT_S)
    assert notes.read() == ["attempt", "attempt"]
    assert report.nodes["fails"].sent == 3 * buffered_sends.ATTEMPT_ITEMS


@component(concurrency=2)
async def SendsAndRaises(number: In[int], out: Out[int]) -> None:
    await asyncio.sleep(0.002 * (3 - number % 4))
    await out.send(number)
    if number % 3 == 0:
        raise ValueError(number)


@component
async def SendsAndRaisesAlone(number: In[int], out: Out[int]) -> None:
    await out.send(number)
    if number % 3 == 0:
        raise ValueError(number)


@pytest.mark.parametrize("calls", [SendsAndRaises, SendsAndRaisesAlone, SendsAndRaisesAlone * 2])
def test_without_retries_what_a_call_sent_before_it_failed_arrives(engine: Options, notes: Notes, calls: Any) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 12
    graph.calls = calls
    graph.count.number >> graph.calls.number
    keep(graph, graph.calls.out, notes)
    if not isinstance(calls, type):
        graph.calls.ordered()
    report = graph.run(**engine, timeout=LIMIT_S, on_error="skip")
    assert notes.read() == [*range(12)]
    assert all(edge.balanced for edge in report.edges)
