"""What a runner, an initializer or a teardown raises comes out of `run`, on every engine."""

from __future__ import annotations

import asyncio
import pickle
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from cascata import Graph, In, Out, State, component
from cascata.errors import CascataError, ComponentError, RemoteError
from tests.engine.parts import Count, Endless, Flag, KeepPair, Notes, Pass, keep
from tests.speed import in_time

Options = dict[str, Any]

SOON_S = 2.0
"""Seconds within which a failure ends the run."""


class WithFields(Exception):
    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail

    def __reduce__(self) -> Any:
        return _with_fields, (self.code, self.detail)


def _with_fields(code: int, detail: str) -> WithFields:
    return WithFields(code, detail=detail)


class OddConstructor(Exception):
    """Cannot be unpickled: `args` do not fit its constructor."""

    def __init__(self, left: int, right: int) -> None:
        super().__init__(f"{left} and {right}")


class HoldsLock(Exception):
    """Cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class RaisesInRepr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text to be had")

    __repr__ = __str__


class RaisesWhenUnpickled(Exception):
    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> Any:
    raise RuntimeError("not here")


ERRORS: dict[str, Any] = {
    "plain": lambda: ValueError("as asked"),
    "no arguments": KeyError,
    "several arguments": lambda: OSError(2, "No such file", "name"),
    "fields": lambda: WithFields(7, detail="more"),
    "odd constructor": lambda: OddConstructor(1, 2),
    "unpicklable": lambda: HoldsLock("holds a lock"),
    "raises in str": RaisesInRepr,
    "raises when unpickled": RaisesWhenUnpickled,
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "CancelledError": lambda: asyncio.CancelledError("of its own making"),
    "GeneratorExit": GeneratorExit,
    "StopIteration": lambda: StopIteration(1),
    "StopAsyncIteration": StopAsyncIteration,
    "group": lambda: ExceptionGroup("several", [ValueError("one"), TypeError("two")]),
    "MemoryError": MemoryError,
    "RecursionError": RecursionError,
    "BaseException": lambda: BaseException("base"),
    "unicode": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    "a CascataError": lambda: CascataError("of the user's making"),
}


@component
async def Raises(number: In[int], kind: In[str], out: Out[int]) -> None:
    if number == 5:
        error = ERRORS[kind]()
        raise error
    await out.send(number)


def raising(kind: str, notes: Notes, upto: int = 100) -> Graph:
    graph = Graph()
    graph.count = Count
    graph.count.upto < upto
    graph.raises = Raises
    graph.raises.kind < kind
    graph.count.number >> graph.raises.number
    keep(graph, graph.raises.out, notes)
    return graph


@pytest.mark.parametrize("kind", ERRORS)
def test_whatever_a_runner_raises_is_the_cause_of_a_component_error(engine: Options, notes: Notes, kind: str) -> None:
    began = time.monotonic()
    with pytest.raises(ComponentError) as caught:
        raising(kind, notes).run(**engine)
    assert in_time(SOON_S, since=began)
    error = caught.value
    assert error.node == "raises"
    assert error.item == "5"
    assert "'raises' (Raises)" in str(error)
    assert f"worker {error.worker}" in str(error)
    assert "number=5" in str(error)
    assert error.others == ()
    assert isinstance(error.__cause__, BaseException)
    text = "".join(traceback.format_exception(error))
    assert "test_component_errors.py" in text
    assert "raise error" in text
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.node, copy.item, str(copy)) == (error.node, error.item, str(error))
    assert isinstance(copy.__cause__, BaseException)


@pytest.mark.parametrize(
    "kind",
    [
        "plain",
        "several arguments",
        "fields",
        "SystemExit",
        "KeyboardInterrupt",
        "CancelledError",
        "group",
        "BaseException",
    ],
)
def test_the_cause_is_the_original_with_its_type_and_arguments(engine: Options, notes: Notes, kind: str) -> None:
    with pytest.raises(ComponentError) as caught:
        raising(kind, notes).run(**engine)
    original, cause = ERRORS[kind](), caught.value.__cause__
    assert type(cause) is type(original)
    assert str(cause) == str(original)
    if isinstance(cause, WithFields):
        assert (cause.code, cause.detail) == (7, "more")
    if isinstance(cause, SystemExit):
        assert cause.code == 3


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("odd constructor", "OddConstructor: 1 and 2"),
        ("unpicklable", "HoldsLock: holds a lock"),
        ("raises when unpickled", "RaisesWhenUnpickled"),
    ],
)
def test_an_error_that_cannot_travel_arrives_in_words(workers: Options, notes: Notes, kind: str, words: str) -> None:
    with pytest.raises(ComponentError, match=words) as caught:
        raising(kind, notes).run(**workers)
    assert isinstance(caught.value.__cause__, RemoteError)
    assert words in str(caught.value.__cause__)
    assert "raise error" in "".join(traceback.format_exception(caught.value))


def test_the_remote_traceback_names_file_and_line(workers: Options, notes: Notes) -> None:
    with pytest.raises(ComponentError) as caught:
        raising("plain", notes).run(**workers)
    cause = caught.value.__cause__
    assert cause is not None
    assert isinstance(cause.__cause__, RemoteError)
    remote = str(cause.__cause__)
    assert remote.startswith("Traceback (most recent call last)")
    assert f'File "{__file__}", line' in remote
    assert remote.rstrip().endswith("ValueError: as asked")


def test_a_cause_of_the_original_is_not_lost(engine: Options) -> None:
    graph = Graph()
    graph.chained = Chained
    with pytest.raises(ComponentError) as caught:
        graph.run(**engine)
    text = "".join(traceback.format_exception(caught.value))
    assert "LookupError: the first" in text
    assert "RuntimeError: the second" in text


@component
async def Chained() -> None:
    try:
        raise LookupError("the first")
    except LookupError as error:
        raise RuntimeError("the second") from error


@component
async def RaisesAtOnce() -> None:
    raise ValueError("as asked")


@component
def RaisesPlainly() -> None:
    raise ValueError("as asked")


@component
async def RaisesYielding(out: Out[int]) -> AsyncIterator[int]:
    yield 1
    raise ValueError("as asked")


@component
def RaisesYieldingPlainly(out: Out[int]) -> Iterator[int]:
    yield 1
    raise ValueError("as asked")


@component
async def RaisesLater(out: Out[int]) -> None:
    await out.send(1)
    await asyncio.sleep(0.01)
    raise ValueError("as asked")


@pytest.mark.parametrize(
    "node",
    [RaisesAtOnce, RaisesPlainly, RaisesYielding, RaisesYieldingPlainly, RaisesLater],
    ids=lambda each: each.__name__,
)
def test_every_form_of_a_source_may_fail(engine: Options, notes: Notes, node: Any) -> None:
    graph = Graph()
    graph.source = node
    if node.spec.outports:
        keep(graph, graph.source.out, notes)
    with pytest.raises(ComponentError, match="as asked") as caught:
        graph.run(**engine)
    assert caught.value.node == "source"
    assert isinstance(caught.value.__cause__, ValueError)


def test_items_of_several_ports_are_told_by_port(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.left = Count
    graph.right = Count
    graph.pair = FailsAtThree
    for name in ("left", "right"):
        getattr(graph, name).upto < 10
        getattr(graph, name).number >> getattr(graph.pair, name)
    with pytest.raises(ComponentError) as caught:
        graph.run(**engine)
    assert caught.value.item == {"left": "3", "right": "3"}


@component
async def FailsAtThree(left: In[int], right: In[int]) -> None:
    if left == 3:
        raise ValueError("as asked")


class RaisingRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no repr to be had")


@component
async def SendsOdd(out: Out[Any]) -> None:
    await out.send(RaisingRepr())


@component
async def SendsLong(out: Out[Any]) -> None:
    await out.send("x" * 1_000_000)


@component
async def Refuses(item: In[Any]) -> None:
    raise ValueError("as asked")


@pytest.mark.parametrize("source", [SendsOdd, SendsLong])
def test_an_item_is_told_by_a_bounded_repr(engine: Options, source: Any) -> None:
    graph = Graph()
    graph.source = source
    graph.refuses = Refuses
    graph.source >> graph.refuses
    with pytest.raises(ComponentError, match="as asked") as caught:
        graph.run(**engine)
    assert isinstance(caught.value.item, str)
    assert len(caught.value.item) < 1000
    assert len(str(caught.value)) < 3000


# --- state ------------------------------------------------------------------------------------------


def fails_to_make() -> int:
    raise ValueError("cannot be made")


def fails_to_close() -> Iterator[int]:
    yield 1
    raise ValueError("cannot be closed")


async def fails_to_close_async() -> AsyncIterator[int]:
    yield 1
    raise ValueError("cannot be closed")


def exits() -> int:
    sys.exit(5)


def never_yields() -> Iterator[int]:
    if time.time() < 0:
        yield 1


def stateful(initializer: Any) -> Any:
    @component
    async def Stateful(item: In[int], out: Out[int], state: State[int] = State(initializer)) -> None:
        await out.send(item)

    return Stateful


@pytest.mark.parametrize(
    ("initializer", "text"),
    [
        (fails_to_make, "making its state 'state'.*cannot be made"),
        (fails_to_close, "undoing its state.*cannot be closed"),
        (fails_to_close_async, "undoing its state.*cannot be closed"),
        (exits, "making its state 'state'.*SystemExit"),
        (never_yields, "making its state 'state'"),
    ],
)
def test_an_initializer_that_fails_is_a_component_error(
    engine: Options, notes: Notes, initializer: Any, text: str
) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 3
    graph.node = stateful(initializer)
    graph.count >> graph.node
    keep(graph, graph.node.out, notes)
    with pytest.raises(ComponentError, match=text) as caught:
        graph.run(**engine)
    assert caught.value.node == "node"
    assert caught.value.item is None


def test_a_finally_that_fails_when_a_node_is_stopped_is_an_error(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.source = FailsWhenStopped
    graph.few = Count
    graph.few.upto < 3
    graph.pair = KeepPair
    graph.pair.notes < notes
    graph.few.number >> graph.pair.left
    graph.source.out >> graph.pair.right
    with pytest.raises(ComponentError, match="while cleaning up") as caught:
        graph.run(**engine)
    assert caught.value.node == "source"


@component
async def FailsWhenStopped(out: Out[int]) -> None:
    try:
        while True:
            await out.send(1)
    finally:
        raise ValueError("while cleaning up")


# --- several failures -------------------------------------------------------------------------------


@component
async def FailsWith(text: In[str], ready: In[Flag], go_on: In[Flag]) -> None:
    ready.set()
    go_on.wait_blocking()  # so that nobody is cancelled before it fails
    raise ValueError(text)


def test_further_failures_are_in_others(flags: list[Flag]) -> None:
    graph = Graph()
    for number in range(2):
        node = graph.add(FailsWith, f"fails_{number}")
        node.text < f"failure {number}"
        node.ready < flags[number]
        node.go_on < flags[1 - number]
        graph.pin(node, number)
    with pytest.raises(ComponentError) as caught:
        graph.run(num_workers=2)
    texts = [str(error.__cause__) for error in (caught.value, *caught.value.others)]
    assert sorted(texts) == ["failure 0", "failure 1"]
    copy = pickle.loads(pickle.dumps(caught.value))
    assert [str(each) for each in copy.others] == [str(each) for each in caught.value.others]


@component
async def FailsWhileCancelled(flag: In[Flag]) -> None:
    try:
        flag.set()
        await asyncio.sleep(20)
    finally:
        raise ValueError("second")


@component
async def FailsAfter(flag: In[Flag]) -> None:
    await flag.wait()
    raise ValueError("first")


def test_what_fails_while_it_is_cancelled_comes_after_what_failed_first(engine: Options, flags: list[Flag]) -> None:
    graph = Graph()
    graph.second = FailsWhileCancelled
    graph.first = FailsAfter
    graph.second.flag < flags[0]
    graph.first.flag < flags[0]
    with pytest.raises(ComponentError, match="first") as caught:
        graph.run(**engine)
    (other,) = caught.value.others
    assert isinstance(other, ComponentError)
    assert (other.node, str(other.__cause__)) == ("second", "second")


def test_a_failure_ends_everything_else_soon(engine: Options, notes: Notes, flags: list[Flag]) -> None:
    """Endless sources, full ports and starving nodes alike."""
    graph = Graph()
    graph.endless = Endless
    graph.endless.notes < notes
    graph.first = Pass
    graph.second = Pass * 2
    graph.stuck = Stuck
    graph.stuck.flag < flags[0]
    graph.endless >> graph.first >> graph.second
    graph.second.same >> graph.stuck.item
    graph.fails = FailsAfter
    graph.fails.flag < flags[0]
    began = time.monotonic()
    with pytest.raises(ComponentError, match="first") as caught:
        graph.run(**engine)
    assert in_time(SOON_S, since=began)
    assert caught.value.others == ()


@component
async def Stuck(item: In[int], flag: In[Flag]) -> None:
    flag.set()
    await asyncio.sleep(20)


@component
async def SwallowsOnce(flag: In[Flag]) -> None:
    flag.set()
    try:
        await asyncio.sleep(20)
    except asyncio.CancelledError:
        await asyncio.sleep(20)


def test_code_that_swallows_a_cancellation_is_cancelled_again(engine: Options, flags: list[Flag]) -> None:
    graph = Graph()
    graph.swallows = SwallowsOnce
    graph.swallows.flag < flags[0]
    graph.fails = FailsAfter
    graph.fails.flag < flags[0]
    began = time.monotonic()
    with pytest.raises(ComponentError, match="first"):
        graph.run(**engine)
    assert in_time(SOON_S, since=began)
