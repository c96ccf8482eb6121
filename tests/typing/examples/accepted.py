# mypy: ignore-errors
"""What a type checker must take without a word. `test_type_checkers.py` says how this file is read."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Unpack, assert_type

from cascata import BlockingOut, Graph, In, Out, State, component, inport, outport, persist
from cascata.options import RunKwargs
from cascata.workflow import DAG, Task


@dataclass(frozen=True, slots=True)
class Word:
    text: str
    seen: int


# -- parameters have the types that were declared


@component
async def scale(value: In[float], result: Out[float], factor: In[float] = 2.0) -> None:
    """Scales."""
    assert_type(value, float)
    assert_type(factor, float)
    assert_type(await result.send(value * factor), None)


@component
async def words(
    line: In[str], word: Out[Word], rest: Out[list[str]], seen: State[dict[str, int]] = State(dict)
) -> None:
    for text in line.split():
        seen.value[text] = seen.get().get(text, 0) + 1
        await word.send(Word(text, seen.value[text]))
    assert_type(seen.get(), dict[str, int])
    assert_type(seen.value, dict[str, int])
    seen.set({})
    seen.value = {}
    await rest.send([])


@component
async def optional(value: In[int | None], result: Out[int | str | None], names: In[list[str] | None] = None) -> None:
    assert_type(value, int | None)
    if value is not None:
        assert_type(value, int)
    await result.send(value)
    await result.send("text")
    for name in names or []:
        assert_type(name, str)


@component
async def anything(value: In[Any], call: In[Callable[[int], str]], result: Out[Any]) -> None:
    assert_type(call(3), str)
    await result.send(value.whatever)


# -- what may be sent is what fits: out-ports are contravariant


@component
async def narrower(value: In[bool], result: Out[float]) -> None:
    await result.send(value)
    await result.send(3)
    port: Out[int] = result  # who can send any float can send an int
    await port.send(3)


# -- every form of a runner, with options and without


@component
def plain(value: In[int], result: Out[int]) -> int:
    return value + 1


@component
async def generator(value: In[int], result: Out[int]) -> AsyncIterator[int]:
    yield value


@component(concurrency=4, ordered=False, timeout=2.0, retries=3, backoff=0.5)
async def careful(value: In[int], result: Out[int]) -> None:
    await result.send(value)


@component(thread=True)
def blocking(value: In[int], result: Out[int]) -> Iterator[int]:
    yield value


@component(thread=True)
def blocking_send(value: In[int], result: BlockingOut[float]) -> None:
    result.send(value)  # a call that has done its work, not one whose `await` was forgotten
    assert_type(result.send(value), None)


@component
async def source(numbers: Out[int], upto: In[int] = 10) -> None:
    for number in range(upto):
        await numbers.send(number)


# -- state of every kind of initializer


@contextmanager
def opened(path: str) -> Iterator[int]:
    yield len(path)


async def counted() -> AsyncIterator[list[int]]:
    yield []


async def fetched(url: str = "") -> bytes:
    return url.encode()


@component
async def stateful(
    value: In[int],
    number: State[int] = State(int),
    handle: State[int] = State(opened),
    seen: State[list[int]] = State(counted),
    body: State[bytes] = State(fetched),
    word: State[Word] = State(lambda: Word("", 0)),
) -> None:
    assert_type(number.value, int)
    assert_type(handle.value, int)
    assert_type(seen.value, list[int])
    assert_type(body.value, bytes)
    assert_type(word.value, Word)
    number.set(number.get() + value)


# -- the style of decorators, alone and on top of annotations


@component
@inport("value", capacity=10)
@inport("factor", default=1)
@outport("result")
@persist("seen", dict)
async def decorated(value: Any, factor: Any, result: Any, seen: Any) -> None:
    await result.send(value * factor)


@component
@inport("value", capacity=32)
async def both_styles(value: In[int], result: Out[int]) -> None:
    assert_type(value, int)
    await result.send(value)


# -- a component keeps its name and its text, and is a class


def shown() -> tuple[str, str | None, str]:
    return scale.__name__, scale.__doc__, scale.__module__


def tested() -> dict[str, list[Any]]:
    return scale.test(value=1.0)


async def tested_in_a_loop() -> dict[str, list[Any]]:
    return await scale.test_async(value=1.0, factor=2)


# -- attributes of nodes and graphs are quiet: ports are found when the program runs


def build() -> Graph:
    graph = Graph()
    graph.numbers = source
    graph.scale = scale
    graph.members = scale * 4
    graph.sub = build_inner()
    added = graph.add(scale, "added")
    graph.numbers.upto.set(5)
    graph.scale.factor < 3
    graph.numbers.numbers >> graph.scale.value
    graph.scale.result >> graph.members.value
    graph.scale >> added
    graph.members.result.broadcast() >> graph.sub.value
    graph.members.result >>= graph.sub.values
    graph.members.result >> 3 >= graph.sub.values
    graph.scale.result.connect(graph.sub.values, batch="all")
    graph.members.ordered()
    graph.scale.clk(graph.scale.value)
    graph.scale.sync(graph.scale.value, graph.scale.factor)
    graph.pin(graph.scale, 1)
    for member in graph.members:
        member.factor.set(2)
    for name, node in graph.nodes.items():
        assert_type(name, str)
        node.value.set(1)
    return graph


def build_inner() -> Graph:
    graph = Graph()
    graph.only = scale
    graph.export(graph.only.value, "value")
    return graph


def run() -> str:
    graph = build()
    graph.check()
    report = graph.run(num_workers=2, timeout=10.0)
    assert_type(report.wall_s, float)
    assert_type(graph.copy(), Graph)
    return str(report)


# -- options, wherever a run begins


def passed_on(**options: Unpack[RunKwargs]) -> list[Any]:
    report = build().run(**options)
    build().run(plan_from=report, engine="inline", on_error="skip", runtime_env={"pip": ["numpy"]})
    return [*build().stream(range(3), **options)]


def several_sources() -> None:
    for name, value in build().stream(numbers=range(3), names=["a"], num_workers=2, timeout=3):
        print(name, value)
    build().stream(num_workers=2)


async def in_a_loop() -> None:
    await build().run_async(debug=True, grace=1)
    async with build().open(num_workers=None, slow_after=0.5) as live:
        await live.numbers.send(1)
    async for value in build().astream(several(), progress=True):
        print(value)


async def several() -> AsyncIterator[int]:
    yield 1


class Square(Task):
    def do(self, batch: list[int]) -> list[int]:
        return [each**2 for each in batch]


def tasks() -> None:
    started = build().start(start_method="spawn", timeout=2.5)
    assert_type(started.join().wall_s, float)
    DAG().start(engine="ray", address="auto", num_workers=4)
    for batch in Square().map(range(10), 2, 2, "inline", timeout=10, prebatched=False):
        print(batch)
