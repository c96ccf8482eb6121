"""State of an instance on every engine: made before the first item, torn down whatever ended the instance."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, closing, contextmanager, nullcontext
from typing import Any

import pytest

from cascata import Graph, In, Out, State, component, inport, outport, persist
from cascata.errors import ComponentError, RunTimeout
from tests.engine.parts import PATIENCE_S, Count, Endless, Flag, KeepPair, Notes, noting, noting_async

Options = dict[str, Any]


@component
@inport("number")
@outport("total")
@persist("total_so_far", int)
async def RunningTotal(number: Any, total: Any, total_so_far: Any) -> None:
    total_so_far.set(total_so_far.get() + number)
    assert total_so_far.value == total_so_far.get()
    await total.send(total_so_far.value)


@component
async def TypedTotal(number: In[int], total: Out[int], so_far: State[int] = State(int)) -> None:
    so_far.value += number
    await total.send(so_far.value)


@component
async def Keeps(item: In[Any], notes: In[Notes]) -> None:
    notes.add(item)


@pytest.mark.parametrize("node", [RunningTotal, TypedTotal])
def test_state_lasts_from_item_to_item(engine: Options, notes: Notes, node: Any) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 5
    graph.total = node
    graph.keep = Keeps
    graph.keep.notes < notes
    graph.count >> graph.total
    graph.total.total >> graph.keep.item
    graph.run(**engine)
    assert notes.read() == [0, 1, 3, 6, 10]


def test_state_is_new_in_every_run(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 3
    graph.total = TypedTotal
    graph.keep = Keeps
    graph.keep.notes < notes
    graph.count >> graph.total
    graph.total.total >> graph.keep.item
    graph.run(**engine)
    graph.run(**engine)
    assert notes.read() == [0, 1, 3, 0, 1, 3]


def arguments(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    return args, kwargs


@component
async def Shows(notes: In[Notes], given: State[Any] = State(arguments)) -> None:
    notes.add(given.value)


@pytest.mark.parametrize(
    ("args", "seen"),
    [
        (5, ((5,), {})),
        ((1, 2), ((1, 2), {})),
        ({"a": 1}, ((), {"a": 1})),
        ([1, 2], (([1, 2],), {})),
        ((), ((), {})),
        (((1, 2),), (((1, 2),), {})),
    ],
    ids=repr,
)
def test_arguments_of_an_initializer_are_a_value_a_tuple_or_a_dict(
    engine: Options, notes: Notes, args: object, seen: object
) -> None:
    graph = Graph()
    graph.shows = Shows
    graph.shows.notes < notes
    graph.shows.given < args
    graph.run(**engine)
    assert notes.read() == [seen]


class Session:
    """What a manager made by `contextlib` gives."""


@contextmanager
def by_contextmanager(notes: Notes) -> Iterator[str]:
    notes.add("made")
    yield "value"
    notes.add("torn down")


@asynccontextmanager
async def by_asynccontextmanager(notes: Notes) -> AsyncIterator[str]:
    notes.add("made")
    await asyncio.sleep(0)
    yield "value"
    notes.add("torn down")


def by_generator(notes: Notes) -> Iterator[str]:
    notes.add("made")
    yield "value"
    notes.add("torn down")


async def by_async_generator(notes: Notes) -> AsyncIterator[str]:
    notes.add("made")
    yield "value"
    await asyncio.sleep(0)
    notes.add("torn down")


class Closes:
    def __init__(self, notes: Notes) -> None:
        self.notes = notes
        notes.add("made")

    def close(self) -> None:
        self.notes.add("torn down")

    def __eq__(self, other: object) -> bool:
        return other == "value"

    def __hash__(self) -> int:
        return 0


def by_closing(notes: Notes) -> AbstractContextManager[Closes]:
    return closing(Closes(notes))


def by_exit_stack(notes: Notes) -> AbstractContextManager[ExitStack]:
    stack = ExitStack()
    notes.add("made")
    stack.callback(notes.add, "torn down")
    return stack


async def by_coroutine(notes: Notes) -> AbstractContextManager[str]:
    await asyncio.sleep(0)
    return by_contextmanager(notes)


@component
async def Watches(item: In[int], notes: In[Notes], state: State[Any] = State(nullcontext)) -> None:
    notes.add(item)


def watched(initializer: Callable[..., Any]) -> Any:
    """A component whose state is made by the given initializer."""

    @component
    async def Watched(item: In[int], notes: In[Notes], state: State[Any] = State(initializer)) -> None:
        assert state.value == "value" or isinstance(state.value, ExitStack)
        notes.add(item)

    return Watched


@pytest.mark.parametrize(
    "initializer",
    [
        by_contextmanager,
        by_asynccontextmanager,
        by_generator,
        by_async_generator,
        by_closing,
        by_exit_stack,
        by_coroutine,
    ],
)
def test_what_contextlib_or_a_generator_makes_is_entered_and_exited(
    engine: Options, notes: Notes, initializer: Callable[..., Any]
) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 2
    graph.watched = watched(initializer)
    graph.watched.notes < notes
    graph.watched.state < notes
    graph.count.number >> graph.watched.item
    graph.run(**engine)
    assert notes.read() == ["made", 0, 1, "torn down"]


def opened(path: str) -> io.TextIOWrapper:
    return open(path, "w")  # noqa: PTH123  # a value that could be entered, and is not


@component
async def NotEntered(
    notes: In[Notes], file: State[Any] = State(opened), lock: State[Any] = State(threading.Lock)
) -> None:
    file.value.close()
    notes.add((file.value.closed, lock.value.locked()))


def test_other_objects_are_not_entered(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.node = NotEntered
    graph.node.notes < notes
    graph.node.file < os.devnull
    graph.run(**engine)
    assert notes.read() == [(True, False)]


def test_states_are_torn_down_in_reverse(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.node = TwoStates
    graph.node.first < (notes, "first")
    graph.node.second < (notes, "second")
    graph.run(**engine)
    assert notes.read() == [("first", "made"), ("second", "made"), ("second", "torn down"), ("first", "torn down")]


@component
async def TwoStates(first: State[str] = State(noting), second: State[str] = State(noting_async)) -> None:
    assert (first.value, second.value) == ("first", "second")


# --- whatever ends the instance ---------------------------------------------------------------------


@component
async def Held(
    number: In[int],
    same: Out[int],
    plain: State[str] = State(noting),
    other: State[str] = State(noting_async),
    fails_at: In[int] = -1,
) -> None:
    if number == fails_at:
        raise ValueError("as asked")
    await same.send(number)


def held(notes: Notes, source: Any) -> Graph:
    graph = Graph()
    graph.source = source
    graph.held = Held
    graph.held.plain < (notes, "plain")
    graph.held.other < (notes, "other")
    graph.source.number >> graph.held.number
    return graph


TORN_DOWN = [("plain", "made"), ("other", "made"), ("other", "torn down"), ("plain", "torn down")]


def of_state(notes: Notes) -> list[Any]:
    return [note for note in notes.read() if note[0] in {"plain", "other"}]


def test_state_is_torn_down_when_the_reader_has_ended(engine: Options, notes: Notes) -> None:
    graph = held(notes, Endless)
    graph.few = Count
    graph.few.upto < 3
    graph.pair = KeepPair
    graph.pair.notes < notes
    graph.few.number >> graph.pair.left
    graph.held.same >> graph.pair.right
    graph.run(**engine)
    assert of_state(notes) == TORN_DOWN


def test_state_is_torn_down_when_its_runner_fails(engine: Options, notes: Notes) -> None:
    graph = held(notes, Endless)
    graph.held.fails_at < 100
    with pytest.raises(ComponentError, match="as asked"):
        graph.run(**engine)
    assert of_state(notes) == TORN_DOWN


@component
async def FailsWhen(flag: In[Flag]) -> None:
    await flag.wait()
    raise ValueError("elsewhere")


@component
async def RaisesFlag(number: In[int], at: In[int], flag: In[Flag]) -> None:
    if number == at:
        flag.set()


def test_state_is_torn_down_when_another_node_fails(engine: Options, notes: Notes, flags: list[Flag]) -> None:
    graph = held(notes, Endless)
    graph.fails = FailsWhen
    graph.fails.flag < flags[0]
    graph.raises = RaisesFlag
    graph.raises.flag < flags[0]
    graph.raises.at < 500
    graph.held.same >> graph.raises.number
    with pytest.raises(ComponentError, match="elsewhere"):
        graph.run(**engine)
    assert of_state(notes) == TORN_DOWN


async def slow_to_close(notes: Notes) -> AsyncIterator[str]:
    try:
        yield "connection"
    finally:
        await asyncio.sleep(0.6)
        notes.add("closed")


@component
async def Connected(flag: In[Flag], connection: State[str] = State(slow_to_close)) -> None:
    flag.set()
    await asyncio.sleep(PATIENCE_S)


def test_a_teardown_takes_its_time(engine: Options, notes: Notes, flags: list[Flag]) -> None:
    graph = Graph()
    graph.connected = Connected
    graph.connected.connection < notes
    graph.connected.flag < flags[0]
    graph.fails = FailsWhen
    graph.fails.flag < flags[0]
    with pytest.raises(ComponentError, match="elsewhere"):
        graph.run(**engine)
    assert notes.read() == ["closed"]


def test_state_is_torn_down_when_the_run_is_stopped(engine: Options, notes: Notes, flags: list[Flag]) -> None:
    graph = held(notes, Endless)
    graph.raises = RaisesFlag
    graph.raises.flag < flags[0]
    graph.raises.at < 500
    graph.held.same >> graph.raises.number
    graph.start(**engine)
    flags[0].wait_blocking()
    graph.stop()
    graph.join()
    assert of_state(notes) == TORN_DOWN


def test_state_is_torn_down_when_the_run_is_cancelled(engine: Options, notes: Notes, flags: list[Flag]) -> None:
    graph = held(notes, Endless)
    graph.raises = RaisesFlag
    graph.raises.flag < flags[0]
    graph.raises.at < 500
    graph.held.same >> graph.raises.number

    async def main() -> None:
        running = asyncio.ensure_future(graph.run_async(**engine))
        await flags[0].wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert of_state(notes) == TORN_DOWN


def without_finally(notes: Notes) -> Iterator[str]:
    notes.add("made")
    yield "value"
    notes.add("torn down")


@component
async def EndlessWithState(out: Out[int], state: State[str] = State(without_finally)) -> None:
    while True:
        await out.send(1)


def test_state_of_a_node_that_was_stopped_is_left_as_at_any_end(engine: Options, notes: Notes) -> None:
    """It counts as ended, not as failed: nothing is raised into its initializer."""
    graph = Graph()
    graph.source = EndlessWithState
    graph.source.state < notes
    graph.few = Count
    graph.few.upto < 3
    graph.pair = KeepPair
    graph.pair.notes < Notes(notes.path + "_pairs")
    graph.few.number >> graph.pair.left
    graph.source.out >> graph.pair.right
    graph.run(**engine)
    assert notes.read() == ["made", "torn down"]


@component
async def SendsOneThenWaits(number: Out[int], flag: In[Flag]) -> None:
    await number.send(1)
    await flag.wait()


def test_state_is_torn_down_when_the_run_times_out(engine: Options, notes: Notes, flags: list[Flag]) -> None:
    graph = held(notes, SendsOneThenWaits)
    graph.source.flag < flags[0]
    with pytest.raises(RunTimeout):
        graph.run(**engine, timeout=0.3)
    assert of_state(notes) == TORN_DOWN


@component
async def SeesError(notes: In[Notes], state: State[str] = State(nullcontext)) -> None:
    raise ValueError("for the initializer")


def seeing(notes: Notes) -> Iterator[str]:
    try:
        yield "state"
    except ValueError as error:
        notes.add(f"saw {error}")
        raise


@component
async def Raises(state: State[str] = State(seeing)) -> None:
    raise ValueError("for the initializer")


def test_an_initializer_sees_the_error_that_ends_its_instance(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.raises = Raises
    graph.raises.state < notes
    with pytest.raises(ComponentError, match="for the initializer"):
        graph.run(**engine)
    assert notes.read() == ["saw for the initializer"]


async def awaited() -> str:
    await asyncio.sleep(0)
    return "awaited"


def makes_coroutine() -> Awaitable[str]:
    return awaited()


@component
async def Awaits(
    notes: In[Notes], first: State[str] = State(awaited), second: State[str] = State(makes_coroutine)
) -> None:
    notes.add((first.value, second.value))


def test_an_initializer_may_be_a_coroutine_function(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.awaits = Awaits
    graph.awaits.notes < notes
    graph.run(**engine)
    assert notes.read() == [("awaited", "awaited")]


def test_state_is_made_before_the_first_item_and_only_once_there_is_a_worker(engine: Options, notes: Notes) -> None:
    """Also for an instance that never gets an item."""
    graph = Graph()
    graph.count = Count
    graph.count.upto < 0
    graph.held = Held
    graph.held.plain < (notes, "plain")
    graph.held.other < (notes, "other")
    graph.count.number >> graph.held.number
    graph.run(**engine)
    assert notes.read() == TORN_DOWN


# --- calls that outlive their cancellation ----------------------------------------------------------


@component(thread=True)
def WorksInThread(begun: In[Flag], go_on: In[Flag], notes: In[Notes], state: State[str] = State(noting)) -> None:
    begun.set()
    go_on.wait_blocking()
    notes.add("its call ended")


@component(thread=True)
def YieldsInThread(
    begun: In[Flag], go_on: In[Flag], notes: In[Notes], out: Out[int], state: State[str] = State(noting)
) -> Iterator[int]:
    yield 1
    begun.set()
    go_on.wait_blocking()
    notes.add("its call ended")


@component(concurrency=2)
async def Resists(
    item: In[int], begun: In[Flag], go_on: In[Flag], notes: In[Notes], state: State[str] = State(noting)
) -> None:
    begun.set()
    while not go_on.is_set():
        try:
            await go_on.wait()
        except asyncio.CancelledError:
            pass
    notes.add("its call ended")


@component
async def FailsThenLets(begun: In[Flag], out: Out[int]) -> None:
    await out.send(1)
    await begun.wait()
    raise ValueError("as asked")


@pytest.mark.parametrize("what", [WorksInThread, YieldsInThread, Resists], ids=lambda each: each.__name__)
def test_state_is_never_torn_down_under_a_call_however_often_it_is_cancelled(
    engine: Options, notes: Notes, flags: list[Flag], what: Any
) -> None:
    """A node that still works is cancelled again and again; what it uses stays until its calls have ended."""
    graph = Graph()
    graph.fails = FailsThenLets
    graph.fails.begun < flags[0]
    graph.works = what
    graph.works.state < notes
    graph.works.notes < notes
    graph.works.begun < flags[0]
    graph.works.go_on < flags[1]
    if what is Resists:
        graph.fails.out >> graph.works.item
    later = threading.Timer(0.8, flags[1].set)  # after three cancellations
    later.start()
    with pytest.raises(ComponentError, match="as asked"):
        graph.run(**engine)
    later.join()
    assert notes.read() == [("state", "made"), "its call ended", ("state", "torn down")]
