"""A worker that dies and is to start again: the item in hand fails, everything else arrives, once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import pytest

from cascata import Failure, Graph, In, Out, Sink, Source, State, Stream, component
from cascata.engine.local import run as local_run
from cascata.engine.protocol.messages import Reporter
from cascata.engine.worker import portable as portable_worker
from cascata.errors import ComponentError, DefinitionError, WorkerDied
from cascata.options import OnError, StartMethod
from tests.cells import other
from tests.engine.parts import Count, Notes
from tests.speed import in_time

ON_BOTH: Final = pytest.mark.parametrize("transport", ["linux", "portable"], indirect=True)

ITEMS: Final = 300
POISON: Final = 101

KILLS: Final = 12
"""Deaths after each of which a worker starts, which on a busy machine takes its time."""

SOON_S: Final = 2.0
"""Seconds that a restart may keep the others waiting."""


@pytest.fixture(params=other(["linux"], "portable"), autouse=True)
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Linux's; where a test asks for it, the portable one, too, whose workers here come from the fork server."""
    name: str = request.param
    if name == "portable":
        monkeypatch.setenv("CASCATA_TRANSPORT", name)
        monkeypatch.setattr(local_run, "start_method_of", lambda _: "forkserver")
    return name


def die(number: int) -> int:
    if number == POISON:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@component(on_worker_death="restart")
async def Plain(number: In[int], out: Out[int]) -> None:
    await out.send(die(number))


@component(on_worker_death="restart")
def Generates(number: In[int], out: Out[int]) -> Iterator[int]:
    yield die(number)


@component(on_worker_death="restart", thread=True)
def Threaded(number: In[int], out: Out[int]) -> int:
    return die(number)


@component(on_worker_death="restart", retries=1, timeout=5)
async def Limited(number: In[int], out: Out[int]) -> None:
    await out.send(die(number))


@component(on_worker_death="restart", concurrency=4)
async def Concurrent(number: In[int], out: Out[int]) -> None:
    await asyncio.sleep(0)
    await out.send(die(number))


@component
async def Gather(items: Stream[int], notes: In[Notes]) -> None:
    """Notes all items, and the longest time between two of them."""
    found: list[int] = []
    longest, before = 0.0, 0.0
    async for item in items:
        now = time.monotonic()
        longest, before = max(longest, now - (before or now)), now
        found.append(item)
    notes.add((found, longest))


@component
async def KeepFailure(failure: In[Failure], notes: In[Notes]) -> None:
    notes.add((failure.node, failure.item, failure.error))


def poisoned(node: Any, upto: int, tmp_path: Any) -> tuple[Graph, Notes, Notes]:
    letters, results = Notes(str(tmp_path / "letters")), Notes(str(tmp_path / "results"))
    graph = Graph()
    graph.count = Count
    graph.count.upto < upto
    graph.node = node
    graph.count.number >> graph.node.number
    graph.gather = Gather
    graph.gather.notes < results
    graph.node.out >> graph.gather.items
    graph.dead = KeepFailure
    graph.dead.notes < letters
    graph.node.errors >> graph.dead.failure
    return graph, letters, results


def is_balanced(report: Any) -> bool:
    return all(each.balanced and each.delivered >= 0 and not each.undelivered for each in report.edges)


@ON_BOTH
def test_a_poison_item_in_thousands_costs_itself_and_a_moment(transport: str, tmp_path: Any) -> None:
    count = 10_000 if transport == "linux" else 2_000  # where an item takes a question to its home and the answer
    graph, letters, results = poisoned(Plain, count, tmp_path)
    report = graph.run(num_workers=2)
    ((found, longest),) = results.read()
    assert found == [number for number in range(count) if number != POISON]
    assert in_time(SOON_S, since=0.0, until=longest)
    ((node, item, error),) = letters.read()
    assert (node, item) == ("node", POISON)
    assert isinstance(error, WorkerDied)
    assert (error.signal, error.nodes) == ("SIGKILL", ("node",))
    into = report.edges[0]
    assert (into.sent, into.delivered, into.failed) == (count, count - 1, 1)
    done = report.nodes["node"]
    assert (done.received, done.sent, done.failed) == (count, count - 1, 1)
    assert is_balanced(report)


@pytest.mark.parametrize("node", [Generates, Threaded, Limited, Concurrent])
def test_every_form_of_runner_starts_again(node: Any, tmp_path: Any) -> None:
    graph, letters, results = poisoned(node, ITEMS, tmp_path)
    report = graph.run(num_workers=2)
    ((found, _),) = results.read()
    failed = [item for _, item, _ in letters.read()]
    assert POISON in failed
    assert len(failed) <= (4 if node is Concurrent else 1)  # what was in hand
    assert found == [number for number in range(ITEMS) if number not in failed]
    assert is_balanced(report)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_every_start_method_starts_again(method: StartMethod, tmp_path: Any) -> None:
    graph, letters, results = poisoned(Plain, ITEMS, tmp_path)
    assert is_balanced(graph.run(num_workers=2, start_method=method))
    assert len(results.read()[0][0]) == ITEMS - 1
    assert len(letters.read()) == 1


@component(on_worker_death="restart")
async def Zips(left: In[int], right: In[list[int]], out: Out[int]) -> None:
    await out.send(die(left))


@ON_BOTH
def test_the_parts_of_a_zip_stay_together_and_a_batch_fails_as_one(tmp_path: Any) -> None:
    graph, letters, results = poisoned(Plain, ITEMS, tmp_path)
    graph = Graph()
    graph.left = Count
    graph.left.upto < ITEMS
    graph.right = Count
    graph.right.upto < 3 * ITEMS
    graph.node = Zips
    graph.left.number >> graph.node.left
    graph.right.number >> 3 >= graph.node.right
    graph.gather = Gather
    graph.gather.notes < results
    graph.node.out >> graph.gather.items
    graph.dead = KeepFailure
    graph.dead.notes < letters
    graph.node.errors >> graph.dead.failure
    report = graph.run(num_workers=3)
    assert results.read()[0][0] == [number for number in range(ITEMS) if number != POISON]
    ((_, item, _),) = letters.read()
    assert item == {"left": POISON, "right": [3 * POISON, 3 * POISON + 1, 3 * POISON + 2]}
    assert is_balanced(report)


@ON_BOTH
@pytest.mark.parametrize("ordered", [True, False])
def test_members_of_a_group_start_again(ordered: bool, tmp_path: Any) -> None:
    graph, letters, results = poisoned(Plain * 2, ITEMS, tmp_path)
    if ordered:
        graph.node.ordered()
    report = graph.run(num_workers=3)
    ((found, _),) = results.read()
    assert (found if ordered else sorted(found)) == [number for number in range(ITEMS) if number != POISON]
    ((_, item, error),) = letters.read()
    assert item == POISON
    assert isinstance(error, WorkerDied)
    assert is_balanced(report)


@component
async def Bare(number: In[int], out: Out[int]) -> None:
    await out.send(die(number))


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_run_may_ask_for_it_and_failures_are_logged_where_nobody_reads_them(
    on_error: OnError, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < ITEMS
    graph.node = Bare
    graph.gather = Gather
    graph.gather.notes < Notes(str(tmp_path / "results"))
    graph.count.number >> graph.node.number
    graph.node.out >> graph.gather.items
    report = graph.run(on_worker_death="restart", on_error=on_error)
    assert (report.nodes["node"].failed, report.nodes["node"].sent) == (1, ITEMS - 1)
    assert f"number={POISON}" in caplog.text
    assert "Started again: node (1 of at most 3 times in 60 s)" in caplog.text
    assert is_balanced(report)


@component(on_worker_death="restart")
async def AlwaysDies(number: In[int], out: Out[int]) -> None:
    os._exit(3)


def test_who_dies_too_often_ends_the_run_with_its_history(tmp_path: Any) -> None:
    graph, letters, _ = poisoned(AlwaysDies, ITEMS, tmp_path)
    with pytest.raises(WorkerDied, match=r"started again 3 times within 60 s") as caught:
        graph.run(num_workers=2)
    assert (caught.value.exitcode, len(caught.value.history)) == (3, 4)
    assert [item for _, item, _ in letters.read()] == [0, 1, 2]


def counting(notes: Notes) -> Iterator[list[int]]:
    notes.add("made")
    yield []
    notes.add("torn down")


@component(on_worker_death="restart")
async def Counting(number: In[int], out: Out[int], notes: In[Notes], state: State[list[int]] = State(counting)) -> None:
    state.value.append(number)
    if number == POISON:
        os.kill(os.getpid(), signal.SIGSEGV)
    await out.send(len(state.value))


def test_state_is_made_anew(tmp_path: Any, notes: Notes) -> None:
    graph, _, results = poisoned(Counting, ITEMS, tmp_path)
    graph.node.notes < notes
    graph.node.state < (notes,)
    graph.run(num_workers=2)
    ((found, _),) = results.read()
    assert found == [*range(1, POISON + 1), *range(1, ITEMS - POISON)]
    assert notes.read() == ["made", "made", "torn down"]


@component(on_worker_death="restart", timeout=0.1)
async def Blocks(number: In[int], out: Out[int]) -> None:
    if number == POISON:
        time.sleep(60)  # noqa: ASYNC251  # it is what a user should not do
    await out.send(number)


@ON_BOTH
def test_the_worker_of_a_call_that_cannot_be_stopped_is_replaced(tmp_path: Any) -> None:
    graph, letters, results = poisoned(Blocks, ITEMS, tmp_path)
    graph.run(num_workers=2, grace=0.2)
    assert results.read()[0][0] == [number for number in range(ITEMS) if number != POISON]
    ((_, item, error),) = letters.read()
    assert (item, type(error)) == (POISON, TimeoutError)


@component(on_worker_death="restart")
async def Tells(number: In[int], out: Out[int], pids: In[Notes], slow_s: In[float]) -> None:
    if number % 16 == 0:
        pids.add(os.getpid())
        await asyncio.sleep(slow_s)
    await out.send(number)


@ON_BOTH
@pytest.mark.parametrize("seed", other([0], 1))
def test_kills_at_any_moment_lose_and_double_nothing_but_what_was_in_hand(
    seed: int, transport: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cascata.engine.supervision.supervisor.RESTARTS", 1000)
    count = 20_000 if transport == "linux" else 2_000
    graph, letters, results = poisoned(Tells, count, tmp_path)
    pids = Notes(str(tmp_path / "pids"))
    graph.node.pids < pids
    graph.node.slow_s < 0.0
    over = threading.Event()
    generator = random.Random(seed)
    killed: set[int] = set()

    def kill() -> None:
        while len(killed) < KILLS and not over.wait(generator.uniform(0.0, 0.2)):
            alive = [pid for pid in pids.read()[-1:] if pid not in killed]
            for pid in alive:
                killed.add(pid)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        report = graph.run(num_workers=2, timeout=60)
    finally:
        over.set()
        killer.join()
    ((found, _),) = results.read()
    failed = Counter(item for _, item, _ in letters.read())
    assert len(failed) <= len(killed)
    assert set(found) | set(failed) == set(range(count))
    assert len(found) == len(set(found))
    assert found == sorted(found)
    assert is_balanced(report)


@ON_BOTH
def test_a_worker_that_dies_as_soon_as_it_has_said_its_end_has_told_what_it_counted(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell_end = Reporter.reader_done

    def tell_end_and_die(self: Reporter, channel: int) -> None:
        tell_end(self, channel)
        if channel == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(Reporter, "reader_done", tell_end_and_die)
    monkeypatch.setattr(portable_worker, "TELL_S", 60.0)
    graph, letters, results = poisoned(Plain, POISON, tmp_path)
    report = graph.run(num_workers=2, start_method="fork")  # whose workers have these patches
    assert results.read()[0][0] == list(range(POISON))
    assert letters.read() == []
    assert report.nodes["node"].received == POISON
    assert is_balanced(report)


@component(on_worker_death="restart")
async def One(out: Out[int]) -> None:
    await out.send(1)


@component(on_worker_death="restart")
async def Same(item: In[int], out: Out[int]) -> None:
    await out.send(item)


def test_what_cannot_start_again_says_so() -> None:
    graph = Graph()
    graph.node = One
    with pytest.raises(DefinitionError, match="its runner is called once"):
        graph.run(num_workers=1)
    graph = Graph()
    graph.count = Count
    graph.node = Same
    graph.count.upto < 3
    graph.count.number >> graph.node.item
    graph.node.item < 0
    with pytest.raises(DefinitionError, match="begins with a value, which would come again"):
        graph.run(num_workers=2)


class KillsWhenRead:
    """Its worker dies of unpickling it."""

    def __reduce__(self) -> Any:
        return _kill, (os.getpid(),)


def _kill(sender: int) -> None:
    if os.getpid() != sender:
        os.kill(os.getpid(), signal.SIGKILL)


@component
async def Some(out: Out[Any], large: In[bool] = False, apart_s: In[float] = 0.0) -> None:
    for number in range(10):
        item = KillsWhenRead() if number == 4 and not large else number
        await out.send((item, bytes(20_000 if number % 2 else 200_000) if large else b""))
        if apart_s:
            await asyncio.sleep(apart_s)  # so that a frame holds one item


@component(on_worker_death="restart")
async def TakesPairs(pair: In[tuple[Any, bytes]], out: Out[int], fatal: In[int] = -1) -> None:
    if pair[0] == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    await out.send(pair[0])


@ON_BOTH
@pytest.mark.parametrize("large", [False, True])
def test_what_cannot_be_had_again_is_counted_as_failed(large: bool, transport: str, tmp_path: Any) -> None:
    graph, letters, results = poisoned(Plain, 1, tmp_path)
    graph = Graph()
    graph.some = Some
    graph.some.large < large
    graph.some.apart_s < (0.0 if large else 0.01)
    graph.node = TakesPairs
    graph.some.out >> graph.node.pair
    if large:
        graph.node.fatal < 4  # and on Linux its frame, too large for the journal, dies with the worker
    graph.gather = Gather
    graph.gather.notes < results
    graph.node.out >> graph.gather.items
    graph.dead = KeepFailure
    graph.dead.notes < letters
    graph.node.errors >> graph.dead.failure
    report = graph.run(num_workers=2)
    assert results.read()[0][0] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    ((_, item, error),) = letters.read()
    if large and transport == "portable":
        assert item == (4, bytes(200_000))  # which its home has kept
    else:
        assert item == "<an item that was lost with its worker>"
    assert isinstance(error, WorkerDied)
    assert is_balanced(report)


@ON_BOTH
def test_a_call_whose_item_kills_its_worker_gets_that_error_and_the_others_their_answers() -> None:
    graph = Graph()
    graph.asked = Source()
    graph.node = Plain
    graph.answered = Sink()
    graph.asked.out >> graph.node.number
    graph.node.out >> graph.answered.inp

    async def ask() -> list[Any]:
        async with graph.open(num_workers=1) as live:
            asked = (live.call(number, timeout=20) for number in (POISON - 1, POISON, POISON + 1))
            return await asyncio.gather(*asked, return_exceptions=True)

    answers = asyncio.run(ask())
    assert (answers[0], answers[2]) == (POISON - 1, POISON + 1)
    assert isinstance(answers[1], ComponentError)
    assert isinstance(answers[1].__cause__, WorkerDied)
