"""What ends a call that may send no more before its turn, and what becomes of what it has sent; on every engine."""

from __future__ import annotations

import _thread
import asyncio
import gc
import itertools
import threading
import time
from collections.abc import Awaitable
from typing import Any

import pytest

from cascata import BlockingOut, Graph, In, Out, Sink, Source, State, Stream, component, inport
from cascata.components import Take
from cascata.errors import RunTimeout
from cascata.runtime.order import buffered_sends, ordered
from tests.engine.bounded import ENOUGH, LIMIT_S, Made
from tests.engine.parts import Count, Flag, Keep, Notes, keep

Options = dict[str, Any]


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
    kinds = (buffered_sends.BufferedSends, buffered_sends.Turn)
    gc.collect()
    before = [each for each in gc.get_objects() if isinstance(each, kinds)]  # what a failure of another test holds
    gc.disable()
    try:
        graph.run(engine="inline", timeout=LIMIT_S)
        left = [each for each in gc.get_objects() if isinstance(each, kinds) and each not in before]
    finally:
        gc.enable()
    assert len(notes.read()) == 30
    assert left == []
