"""What cannot cross a process border is named with its node, port and type."""

from __future__ import annotations

import importlib
import logging
import pickle
import re
import time
from collections.abc import Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from cascata import CascataError, Graph, In, Out, State, component
from cascata.errors import ComponentError, SerializationError
from cascata.options import StartMethod
from tests.engine.parts import Count, Each, Keep, Notes, Pass, keep
from tests.speed import in_time

Options = dict[str, Any]

SOON_S = 2.0


def generator() -> Iterator[int]:
    """What neither pickle nor dill can take."""
    return (number for number in range(3))


@component
async def SendsGenerators(count: In[int], every: In[int], out: Out[Any]) -> None:
    for number in range(count):
        await out.send(generator() if number % every == every - 1 else number)


@component
async def Takes(item: In[Any]) -> None:
    pass


def apart(source: Any, target: Any = Takes) -> Graph:
    """Source and target on two workers."""
    graph = Graph()
    graph.source = source
    graph.target = target
    graph.pin(graph.source, 0)
    graph.pin(graph.target, 1)
    graph.source.out >> graph.target.item
    return graph


def test_an_item_that_cannot_be_pickled_is_named() -> None:
    graph = apart(SendsGenerators)
    graph.source.count < 1000
    graph.source.every < 500
    began = time.monotonic()
    with pytest.raises(SerializationError) as caught:
        graph.run(num_workers=2)
    assert in_time(SOON_S, since=began)
    error = caught.value
    assert (error.node, error.port, error.type) == ("source", "out", "generator")
    for part in ("source.out", "target.item", "generator", "graph.pin"):
        assert part in str(error)
    assert isinstance(error.__cause__, TypeError)
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.node, copy.port, copy.type) == ("source", "out", "generator")


def test_only_the_bad_items_of_a_frame_fail(notes: Notes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="cascata")
    graph = Graph()
    graph.source = SendsGenerators
    graph.source.count < 100
    graph.source.every < 10
    graph.keep = Keep
    graph.keep.notes < notes
    graph.source.out >> graph.keep.item
    report = graph.run(num_workers=2, on_error="skip")
    assert notes.read() == [number for number in range(100) if number % 10 != 9]
    (edge,) = report.edges
    assert (edge.sent, edge.delivered, edge.failed) == (100, 90, 10)
    assert edge.balanced
    logged = [record for record in caplog.records if "of type generator" in record.getMessage()]
    assert len(logged) == 10
    assert {record.__dict__["node"] for record in logged} == {"source"}


def test_an_item_that_cannot_be_pickled_may_stay_in_its_process(notes: Notes) -> None:
    for options in ({"engine": "inline"}, {"num_workers": 1}):
        graph = Graph()
        graph.source = SendsGenerators
        graph.source.count < 10
        graph.source.every < 1
        graph.target = Takes
        graph.source.out >> graph.target.item
        report = graph.run(**options)
        assert report.nodes["target"].received == 10


class FailsToUnpickle:
    def __reduce__(self) -> Any:
        return _refuse, ("unpickled",)


def _refuse(text: str) -> Any:
    raise LookupError(f"cannot be {text}")


@component
async def SendsBad(out: Out[Any]) -> None:
    for number in range(10):
        await out.send(number)
    await out.send(FailsToUnpickle())


def test_an_item_that_fails_to_unpickle_is_named() -> None:
    graph = apart(SendsBad)
    began = time.monotonic()
    with pytest.raises(SerializationError, match="cannot be unpickled") as caught:
        graph.run(num_workers=2)
    assert in_time(SOON_S, since=began)
    assert (caught.value.node, caught.value.port) == ("source", "out")
    for part in ("source.out", "target.item", "LookupError", "worker 1"):
        assert part in str(caught.value)


def test_only_the_bad_items_of_a_frame_fail_to_be_unpickled(notes: Notes) -> None:
    graph = Graph()
    graph.source = SendsSomeBad
    graph.keep = Keep
    graph.keep.notes < notes
    graph.source.out >> graph.keep.item
    report = graph.run(num_workers=2, on_error="skip")
    assert notes.read() == [0, 1, 2, 4, 5]
    (edge,) = report.edges
    assert (edge.sent, edge.delivered, edge.failed) == (6, 5, 1)


@component
async def SendsSomeBad(out: Out[Any]) -> None:
    for number in range(6):
        await out.send(FailsToUnpickle() if number == 3 else number)


class GrowsWhenPickled:
    """What pickling raises need not be a PicklingError."""

    def __reduce__(self) -> Any:
        raise RuntimeError("not while I live")


@component
async def SendsRaising(out: Out[Any]) -> None:
    await out.send(GrowsWhenPickled())


def test_whatever_pickling_raises_is_the_cause() -> None:
    with pytest.raises(SerializationError, match="not while I live") as caught:
        apart(SendsRaising).run(num_workers=2)
    assert caught.value.type == "GrowsWhenPickled"


class ExitsWhenPickled:
    def __reduce__(self) -> Any:
        raise SystemExit(3)


class ExitsWhenUnpickled:
    def __reduce__(self) -> Any:
        return exit_now, ()


def exit_now() -> Any:
    raise SystemExit(3)


@component
async def SendsOne(kind: In[str], out: Out[Any]) -> None:
    await out.send(ExitsWhenPickled() if kind == "pickled" else ExitsWhenUnpickled())


@pytest.mark.parametrize("kind", ["pickled", "unpickled"])
def test_an_item_that_exits_ends_the_run_with_an_error(kind: str) -> None:
    graph = apart(SendsOne)
    graph.source.kind < kind
    began = time.monotonic()
    with pytest.raises(CascataError, match=r"SystemExit|exited with code 3"):
        graph.run(num_workers=2)
    assert in_time(SOON_S, since=began)


@component
async def Nested(out: Out[Any]) -> None:
    item: list[Any] = []
    for _ in range(100_000):
        item = [item]
    await out.send(item)


def test_an_item_that_is_nested_too_deep_is_named() -> None:
    with pytest.raises(SerializationError, match=r"source\.out.*RecursionError"):
        apart(Nested).run(num_workers=2)


# --- initial values ---------------------------------------------------------------------------------


def test_a_constant_that_cannot_be_sent_is_named(notes: Notes) -> None:
    graph = Graph()
    graph.takes = Takes
    graph.takes.item < generator()
    with pytest.raises(SerializationError) as caught:
        graph.run(num_workers=1)
    assert (caught.value.node, caught.value.port, caught.value.type) == ("takes", "item", "generator")
    for part in ("takes.item", "generator", "persist", "inline"):
        assert part in str(caught.value)


def test_a_constant_that_cannot_be_sent_is_fine_inline() -> None:
    graph = Graph()
    graph.takes = Takes
    graph.takes.item < generator()
    graph.run(engine="inline")


def test_a_seed_that_cannot_be_sent_is_named() -> None:
    graph = Graph()
    graph.source = Count
    graph.source.upto < 1
    graph.takes = Takes
    graph.takes.item < generator()
    graph.source.number >> graph.takes.item
    with pytest.raises(SerializationError, match=r"takes\.item"):
        graph.run(num_workers=1)


def same(value: Any) -> Any:
    return value


@component
async def HasState(state: State[Any] = State(same)) -> None:
    pass


def test_an_argument_of_a_state_that_cannot_be_sent_is_named() -> None:
    graph = Graph()
    graph.node = HasState
    graph.node.state < generator()
    with pytest.raises(SerializationError, match=r"node\.state") as caught:
        graph.run(num_workers=1)
    assert (caught.value.node, caught.value.type) == ("node", "generator")


def test_a_default_that_cannot_be_sent_is_named() -> None:
    numbers = generator()

    @component
    async def HasDefault(item: In[Any] = numbers) -> None:
        pass

    graph = Graph()
    graph.node = HasDefault
    with pytest.raises(SerializationError, match="node") as caught:
        graph.run(num_workers=1)
    assert caught.value.node == "node"


def test_a_closure_that_cannot_be_sent_is_named() -> None:
    numbers = generator()

    @component
    async def Closes(item: In[Any]) -> None:
        next(numbers)

    graph = Graph()
    graph.node = Closes
    graph.node.item < 1
    with pytest.raises(SerializationError, match="component Closes of node 'node'"):
        graph.run(num_workers=1)


def test_a_constant_that_fails_to_unpickle_is_told_by_the_worker() -> None:
    graph = Graph()
    graph.takes = Takes
    graph.takes.item < FailsToUnpickle()
    began = time.monotonic()
    with pytest.raises((ComponentError, SerializationError), match="LookupError: cannot be unpickled") as caught:
        graph.run(num_workers=1)
    assert in_time(SOON_S, since=began)
    assert "takes" in str(caught.value)


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_other_start_methods_name_it_alike(start_method: StartMethod) -> None:
    graph = apart(SendsGenerators)
    graph.source.count < 10
    graph.source.every < 5
    with pytest.raises(SerializationError, match=r"source\.out"):
        graph.run(num_workers=2, start_method=start_method)


# --- what travels all the same ----------------------------------------------------------------------


@component
async def SendsFunctions(count: In[int], out: Out[Any]) -> None:
    for number in range(count):
        await out.send(lambda x, number=number: x + number)


@component
async def Calls(item: In[Any], out: Out[int]) -> None:
    await out.send(item(1))


def test_lambdas_and_closures_are_items(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.source = SendsFunctions
    graph.source.count < 200
    graph.calls = Calls
    graph.source.out >> graph.calls.item
    keep(graph, graph.calls.out, notes)
    graph.run(**engine)
    assert notes.read() == [*range(1, 201)]


def test_functions_are_constants(engine: Options, notes: Notes) -> None:
    base = 10
    graph = Graph()
    graph.calls = Calls
    graph.calls.item < (lambda x: x + base)
    keep(graph, graph.calls.out, notes)
    graph.run(**engine)
    assert notes.read() == [11]


def counter() -> Iterator[int]:
    yield from range(3)


def test_classes_functions_and_paths_are_items(engine: Options, notes: Notes) -> None:
    items = [Path("x"), re.compile("a+"), FailsToUnpickle, counter, range(3), frozenset({1}), 1j, ..., NotImplemented]
    graph = Graph()
    graph.each = Each
    graph.each.items < items
    graph.passes = Pass
    graph.each >> graph.passes
    keep(graph, graph.passes.same, notes)
    graph.run(**engine)
    assert notes.read() == items


# --- modules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ImportError, FileNotFoundError])
def test_a_module_that_cannot_be_imported_in_a_worker_is_told(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / f"only_here_{error.__name__}.py"
    module.write_text(
        "import os\n"
        "from cascata import component\n"
        f"if os.getpid() != {__import__('os').getpid()}: raise {error.__name__}('only in the parent')\n"
        "@component\n"
        "async def Node() -> None:\n"
        "    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    graph = Graph()
    graph.node = importlib.import_module(module.stem).Node
    began = time.monotonic()
    with pytest.raises(ComponentError, match=r"could not load its nodes \(node\).*only in the parent") as caught:
        graph.run(num_workers=1)
    assert in_time(SOON_S, since=began)
    assert isinstance(caught.value.__cause__, error)
    assert caught.value.others == ()


def lent(runner: Any) -> Any:
    """A decorator that keeps something which cannot be sent."""
    held = (number for number in range(3))

    @wraps(runner)
    async def run(item: In[int]) -> None:
        next(held, None)
        await runner(item)

    return run


def test_a_decorated_component_that_cannot_be_sent_is_not_taken_for_one_of_no_module() -> None:
    @component
    @lent
    async def Wrapped(item: In[int]) -> None:
        pass

    graph = Graph()
    graph.wrapped = Wrapped
    graph.wrapped.item < 1
    with pytest.raises(SerializationError, match=r"component Wrapped of node 'wrapped'") as caught:
        graph.run(num_workers=2)
    assert "no module" not in str(caught.value)


def test_a_component_of_a_namespace_that_is_no_module_says_so() -> None:
    names: dict[str, Any] = {"__name__": "__console__"}
    exec(  # noqa: S102  # as consoles do
        "from cascata import *\n"
        "graph = Graph()\n"
        "@component\n"
        "async def Odd(item: In[int]):\n"
        "    graph\n"
        "graph.odd = Odd\n"
        "graph.odd.item < 1\n",
        names,
    )
    graph: Graph = names["graph"]
    with pytest.raises(SerializationError, match=r"component Odd of node 'odd' .*'__console__'.*Define it in a module"):
        graph.run(num_workers=2)
    assert graph.run(engine="inline").nodes["odd"].received == 0
