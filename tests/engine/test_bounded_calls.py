"""What a call sends before it may leave is bounded, on every engine: with `concurrency`, `ordered()` and `retries`.

The call whose turn it is sends straight through; the others, and attempts, hold so much and then wait, let the loop
turn, and are ended by whatever ends a `send` that waits for room.
"""

from __future__ import annotations

import _thread
import asyncio
import gc
import itertools
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Final

import pytest

from cascata import BlockingOut, Graph, In, Out, Sink, Source, State, Stream, component, inport
from cascata.components import Take
from cascata.errors import ComponentError, RunTimeout
from cascata.runtime.order import buffered_sends, ordered
from tests.engine.parts import Count, Flag, Keep, Notes, keep

Options = dict[str, Any]

ENOUGH: Final = 3
"""Items after which the reader ends."""

LIMIT_S: Final = 20
"""A run that takes longer than this hangs."""


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


class Made:
    """What the calls of a node have made and how often a timer has ticked, for the calls beside."""

    def __init__(self) -> None:
        self.items = 0
        self.ticks = 0

    async def tick(self) -> None:
        while True:
            self.ticks += 1
            await asyncio.sleep(0)

    async def stands_still(self) -> int:
        """How many items there are when no more are made."""
        ticking = asyncio.ensure_future(self.tick())
        before = -1
        while self.items != before or self.items < 1:
            before = self.items
            await asyncio.sleep(0.05)
        ticking.cancel()
        return self.items


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


# -- what ends a send that waits for its turn


@component(concurrency=2)
async def SecondWaits(
    number: In[int], out: Out[int], notes: In[Notes], waits: In[Flag], made: State[Made] = State(Made)
) -> None:
    """The first call never ends by itself; the second one sends without end."""
    try:
        if number == 0:
            await made.value.stands_still()
            waits.set()
            await asyncio.Event().wait()
        for each in itertools.count():
            await out.send(each)
            made.value.items += 1
    finally:
        notes.add(("ended", number))


@component(concurrency=2, thread=True)
def SecondWaitsInThread(
    number: In[int], out: BlockingOut[int], notes: In[Notes], waits: In[Flag], over: In[Flag]
) -> None:
    """The first call ends when the second one has; that one sends without end."""
    try:
        if number == 0:
            over.wait_blocking()
            return
        for each in itertools.count():
            if each == buffered_sends.AHEAD_ITEMS:
                waits.set()
            out.send(each)
    finally:
        notes.add(("ended", number))
        over.set()


@component
async def SendsAfter(number: Out[int], flag: In[Flag]) -> None:
    await flag.wait()
    for each in range(ENOUGH):
        await number.send(each)


def waiting_for_its_turn(calls: Any, notes: Notes, flags: list[Flag]) -> Graph:
    """The reader has enough when another node has sent to it, which it does when a call waits for its turn."""
    graph = Graph()
    graph.count = Count
    graph.count.upto < 2
    graph.calls = calls
    graph.calls.notes < notes
    graph.calls.waits < flags[0]
    graph.count.number >> graph.calls.number
    graph.other = SendsAfter
    graph.other.flag < flags[0]
    graph.take = Take
    graph.take.n < ENOUGH
    graph.calls.out >> graph.take.inp
    graph.other.number >> graph.take.inp
    return graph


def test_a_call_that_waits_for_its_turn_is_stopped_when_its_readers_have_ended(
    engine: Options, notes: Notes, flags: list[Flag]
) -> None:
    report = waiting_for_its_turn(SecondWaits, notes, flags).run(**engine, timeout=LIMIT_S)
    assert sorted(notes.read()) == [("ended", 0), ("ended", 1)]
    assert (report.nodes["calls"].failed, report.nodes["calls"].sent) == (0, 0)


def test_so_is_one_in_a_thread(engine: Options, notes: Notes, flags: list[Flag]) -> None:
    graph = waiting_for_its_turn(SecondWaitsInThread, notes, flags)
    graph.calls.over < flags[1]
    graph.run(**engine, timeout=LIMIT_S)
    assert notes.read()[0] == ("ended", 1)


@component
@inport("number", capacity=2)
async def SecondMemberWaits(number: In[int], out: Out[int], notes: In[Notes], waits: In[Flag], over: In[Flag]) -> None:
    """The member that has the first item ends when the other one has, which sends without end."""
    try:
        if number == 0:
            await over.wait()
            return
        for each in itertools.count():
            if each == ordered.MESSAGE_ITEMS:
                waits.set()
            await out.send(each)
    finally:
        notes.add(("ended", number))
        over.set()


def test_so_is_a_member_of_an_ordered_group(engine: Options, notes: Notes, flags: list[Flag]) -> None:
    graph = waiting_for_its_turn(SecondMemberWaits * 2, notes, flags)
    graph.calls.over < flags[1]
    graph.calls.ordered()
    graph.run(**engine, timeout=LIMIT_S)
    assert notes.read() == [("ended", 1), ("ended", 0)]


def never_its_turn(calls: Any, notes: Notes, flags: list[Flag]) -> Graph:
    graph = waiting_for_its_turn(calls, notes, flags)
    graph.other.flag < flags[3]  # which nobody sets
    return graph


def test_the_time_limit_of_a_run_is_heard_and_its_error_says_what_waits(notes: Notes, flags: list[Flag]) -> None:
    with pytest.raises(RunTimeout, match="a call waits for its turn to send: those before have not ended"):
        never_its_turn(SecondWaits, notes, flags).run(engine="inline", timeout=1.0)
    assert sorted(notes.read()) == [("ended", 0), ("ended", 1)]


@component
async def NotesAndTells(item: In[int], notes: In[Notes], flag: In[Flag]) -> None:
    notes.add(item)
    if item == ENOUGH - 1:
        flag.set()


def test_neighbours_go_on_beside_it_and_cancellation_is_heard(engine: Options, notes: Notes, flags: list[Flag]) -> None:
    async def main() -> None:
        running = asyncio.create_task(graph.run_async(**engine, timeout=LIMIT_S))
        await flags[2].wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    graph = never_its_turn(SecondWaits, notes, flags)
    graph.neighbour = SendsAfter
    graph.neighbour.flag < flags[0]  # set when a call waits for its turn
    graph.tells = NotesAndTells
    graph.tells.notes < notes
    graph.tells.flag < flags[2]
    graph.neighbour.number >> graph.tells.item
    asyncio.run(main())
    told = notes.read()
    assert told[:ENOUGH] == [*range(ENOUGH)]
    assert sorted(told[ENOUGH:]) == [("ended", 0), ("ended", 1)]


def test_ctrl_c_is_heard(notes: Notes, flags: list[Flag]) -> None:
    def interrupt() -> None:
        flags[0].wait_blocking()
        _thread.interrupt_main()

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        never_its_turn(SecondWaits, notes, flags).run(engine="inline", timeout=LIMIT_S)
    interrupting.join()
    assert sorted(notes.read()) == [("ended", 0), ("ended", 1)]


@component(concurrency=2, timeout=0.3, thread=True)
def TimedInThread(number: In[int], out: BlockingOut[int]) -> None:
    """The first call is quick to take its time, and the second one sends without end before its turn."""
    for each in itertools.count():
        out.send(each)


@component(concurrency=2, timeout=0.3)
async def Timed(number: In[int], out: Out[int]) -> None:
    for each in itertools.count():
        await out.send(each)


@component
async def TakesNone(items: In[int], flag: In[Flag]) -> None:
    await flag.wait()


@pytest.mark.parametrize("calls", [Timed, TimedInThread])
def test_the_time_limit_of_a_call_is_heard(notes: Notes, flags: list[Flag], calls: Any) -> None:
    """Of the first, which waits for room, and of the second, which waits for its turn."""
    graph = Graph()
    graph.count = Count
    graph.count.upto < 2
    graph.calls = calls
    graph.errors = Errors
    graph.errors.notes < notes
    graph.errors.flag < flags[0]
    graph.take = TakesNone
    graph.take.flag < flags[0]
    graph.count.number >> graph.calls.number
    graph.calls.out >> graph.take.items
    graph.calls.errors >> graph.errors.failure
    graph.run(engine="inline", timeout=LIMIT_S)
    assert sorted(notes.read()) == [(0, "TimeoutError"), (1, "TimeoutError")]


@component
async def Errors(failure: In[Any], notes: In[Notes], flag: In[Flag], count: State[list[int]] = State(list)) -> None:
    notes.add((failure.item, type(failure.error).__name__))
    count.value.append(1)
    if len(count.value) == 2:
        flag.set()


@component(retries=1)
async def EndlessAttempt(number: Out[int], flag: In[Flag], notes: In[Notes]) -> None:
    """Sends slowly, and without end, from a source."""
    try:
        for each in itertools.count():
            await number.send(each)
            await asyncio.sleep(0.001)
            if each == 5:
                flag.set()
    finally:
        notes.add("ended")
        await number.send(-1)


@component(retries=1)
async def AttemptThatWaits(number: Out[int], flag: In[Flag], notes: In[Notes]) -> None:
    """Waits for ever, and for something else than a send."""
    try:
        for each in range(6):
            await number.send(each)
        flag.set()
        await asyncio.Event().wait()
    finally:
        notes.add("ended")
        await number.send(-1)


@component(retries=1, thread=True)
def EndlessAttemptInThread(number: BlockingOut[int], flag: In[Flag], notes: In[Notes]) -> None:
    try:
        for each in itertools.count():
            number.send(each)
            time.sleep(0.001)
            if each == 5:
                flag.set()
    finally:
        notes.add("ended")
        number.send(-1)


@pytest.mark.parametrize("source", [EndlessAttempt, AttemptThatWaits, EndlessAttemptInThread])
def test_what_an_attempt_of_a_source_has_sent_when_it_is_stopped_arrives(
    engine: Options, notes: Notes, flags: list[Flag], source: Any
) -> None:
    graph = Graph()
    graph.source = source
    graph.source.flag < flags[0]
    graph.source.notes < notes
    graph.keep = Keep
    graph.keep.notes < notes
    graph.source.number >> graph.keep.item
    graph.start(**engine, timeout=LIMIT_S)
    flags[0].wait_blocking()
    graph.stop(within=1.0 if source is AttemptThatWaits else 5.0)
    report = graph.join()
    ended, *arrived = notes.read()
    assert ended == "ended"
    assert arrived == [*range(len(arrived) - 1), -1]
    assert len(arrived) == report.nodes["source"].sent > 5


@component
async def TakesWhen(items: Stream[Any], flag: In[Flag], notes: In[Notes]) -> None:
    await flag.wait()
    taken = [item async for item in items]
    notes.add((len(taken), taken[-1], taken[:-1] == [*range(len(taken) - 1)]))


@component(retries=1)
async def BeyondTheBound(number: Out[Any], flag: In[Flag], go_on: In[Flag]) -> None:
    """What it has sent is leaving while it sends on, when it is stopped."""
    try:
        for each in itertools.count():
            if each == buffered_sends.ATTEMPT_ITEMS:
                flag.set()
            await number.send(each)
    finally:
        go_on.set()
        await number.send("bye")


@component(retries=1)
async def EndsAndLeaves(number: Out[Any], flag: In[Flag], go_on: In[Flag]) -> None:
    """What it has sent is leaving when it is stopped, and it has ended."""
    for each in range(1000):
        await number.send(each)
    await number.send("bye")
    flag.set()


@pytest.mark.parametrize("source", [BeyondTheBound, EndsAndLeaves])
def test_what_is_leaving_when_a_source_is_stopped_arrives_and_so_does_what_it_sends_then(
    engine: Options, notes: Notes, flags: list[Flag], source: Any
) -> None:
    graph = Graph()
    graph.source = source
    graph.source.flag < flags[0]
    graph.source.go_on < flags[1]
    graph.takes = TakesWhen
    graph.takes.flag < flags[1]
    graph.takes.notes < notes
    graph.source.number >> graph.takes.items
    graph.start(**engine, timeout=LIMIT_S)
    flags[0].wait_blocking()
    graph.stop(within=5.0)
    if source is EndsAndLeaves:
        flags[1].set()
    report = graph.join()
    ((count, last, in_order),) = notes.read()
    assert (last, in_order) == ("bye", True)
    assert count == report.nodes["source"].sent > 1000


@component(retries=1)
async def LeavesATaskBehind(
    number: In[int], out: Out[int], unread: Out[int], tasks: State[list[asyncio.Task[None]]] = State(list)
) -> None:
    """The task sends while what nobody reads is counted."""

    async def send() -> None:
        for each in range(20):
            await out.send(each)
            await asyncio.sleep(0)

    if number == 0:
        for each in range(9_000):
            await unread.send(each)
        tasks.value.append(asyncio.create_task(send()))
    else:
        await tasks.value[0]


def test_what_a_task_sends_that_a_call_has_left_behind_leaves_though_much_else_is_discarded(notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 2
    graph.leaves = LeavesATaskBehind
    graph.count.number >> graph.leaves.number
    keep(graph, graph.leaves.out, notes)
    graph.run(engine="inline", timeout=LIMIT_S)
    assert notes.read() == [*range(20)]


# -- calls that wait for one another


@component(concurrency=2)
async def BothWays(number: In[int], left: Out[int], right: Out[int]) -> None:
    for each in range(150):
        await left.send(each)
    await right.send(number)


@component
@inport("left", capacity=50)
async def Joins(left: In[int], right: In[int], notes: In[Notes]) -> None:
    notes.add((left, right))


def test_a_call_that_waits_for_room_while_another_waits_for_its_turn_gets_more_room(
    engine: Options, notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 2
    graph.both = BothWays
    graph.joins = Joins
    graph.joins.notes < notes
    graph.count.number >> graph.both.number
    graph.both.left >> graph.joins.left
    graph.both.right >> graph.joins.right
    graph.run(**engine, timeout=LIMIT_S)
    assert notes.read() == [(0, 0), (1, 1)]
    assert any("joins.left" in message for message in caplog.messages)


# -- calls of the caller


@component(concurrency=3)
async def Answers(question: In[int], answer: Out[int]) -> None:
    await asyncio.sleep(0.001 * (question % 3))
    await answer.send(10 * question)
    await asyncio.sleep(0.001 * (question % 3))


@component
async def AnswersAlone(question: In[int], answer: Out[int]) -> None:
    await asyncio.sleep(0.001 * (question % 3))
    await answer.send(10 * question)
    await asyncio.sleep(0.001 * (question % 3))


@component(retries=1, concurrency=3)
async def AnswersInAttempts(question: In[int], answer: Out[int]) -> None:
    await answer.send(10 * question)
    await asyncio.sleep(0.001 * (question % 3))


@pytest.mark.parametrize("answers", [Answers, AnswersInAttempts, AnswersAlone * 3])
def test_each_caller_gets_its_answer(engine: Options, answers: Any) -> None:
    async def ask(live: Any, question: int) -> None:
        assert await live.call(question) == 10 * question

    async def main() -> None:
        async with graph.open(**engine, timeout=LIMIT_S) as live:
            asking: list[Awaitable[None]] = [ask(live, question) for question in range(60)]
            await asyncio.gather(*asking)

    graph = Graph()
    graph.source = Source()
    graph.answers = answers
    graph.sink = Sink()
    if not isinstance(answers, type):
        graph.answers.ordered()
    graph.source.out >> graph.answers.question
    graph.answers.answer >> graph.sink.inp
    asyncio.run(main())


# -- what stays in the memory


@component(concurrency=3)
async def SecondIsQuick(number: In[int], out: Out[int]) -> None:
    await asyncio.sleep(0.001 * (number % 3))
    await out.send(number)


@component(retries=1)
async def Attempts(number: In[int], out: Out[int]) -> None:
    await out.send(number)


@pytest.mark.parametrize("calls", [SecondIsQuick, Attempts, AnswersAlone * 2])
def test_nothing_of_what_a_call_kept_waits_for_the_garbage_collector(notes: Notes, calls: Any) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 30
    graph.calls = calls
    if isinstance(calls, type):
        graph.count.number >> graph.calls.number
        keep(graph, graph.calls.out, notes)
    else:
        graph.count.number >> graph.calls.question
        graph.calls.ordered()
        keep(graph, graph.calls.answer, notes)
    gc.collect()
    gc.disable()
    try:
        graph.run(engine="inline", timeout=LIMIT_S)
        left = [
            each for each in gc.get_objects() if isinstance(each, buffered_sends.BufferedSends | buffered_sends.Turn)
        ]
    finally:
        gc.enable()
    assert len(notes.read()) == 30
    assert left == []
