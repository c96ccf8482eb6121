"""No call gets what is another's: a graph that would mix calls is refused, or the node that does is found out."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import pytest

from cascata import CascataError, Failure, Graph, In, Out, Sink, Source, State, Stream, component
from cascata import components as ready
from cascata.errors import ComponentError, NoAnswer
from tests.engine.parts import Flag
from tests.live.parts import Gate, through

Options = dict[str, Any]
INLINE: Options = {"engine": "inline"}


@component
async def Echo(x: In[Any], y: Out[Any]) -> None:
    await y.send(x)


@component
async def Upper(x: In[list[str]], y: Out[list[str]]) -> None:
    await y.send([each.upper() for each in x])


@component
async def Reads(x: Stream[str], y: Out[str]) -> None:
    async for each in x:
        await y.send(each)


@component
async def Latest(x: In[str], other: In[str], y: Out[str]) -> None:
    await y.send(f"{x}{other}")


@component
async def Total(x: In[int], before: In[int], y: Out[int]) -> None:
    await y.send(x + before)


@component(on_worker_death="restart")
async def ZipsAgain(x: In[str], other: In[str], y: Out[str]) -> None:
    await y.send(f"{x}{other}")


# -- refused before the first call


def refused_by(graph: Graph, options: Options) -> str:
    """The text of the refusal of calls, which must come before anything is sent; `send` is not refused."""

    async def main() -> str:
        async with graph.open(**options) as live:
            with pytest.raises(CascataError) as caught:
                await live.call("a")
            assert type(caught.value) is CascataError
            assert live.source._end.sent == 0
        return str(caught.value)

    return asyncio.run(main())


def between(**nodes: Any) -> Graph:
    """A source, nodes in a row, and a sink."""
    graph = Graph()
    graph.source = Source()
    before = graph.source.out
    for name, each in nodes.items():
        node = graph.add(each, name)
        before >> (node.x if hasattr(node, "x") else node.inp)
        before = node.y if hasattr(node, "y") else node.out
    graph.sink = Sink()
    before >> graph.sink.inp
    return graph


CONSTANTS: dict[str, dict[str, Any]] = {
    "Batch": {"size": 8, "seconds": 0.05},
    "Window": {"size": 2},
    "TimeWindow": {"seconds": 0.05},
    "CollectToList": {},
    "Delay": {"seconds": 0.01},
    "WriteJsonLines": {},
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_ready_made_node_that_keeps_items_refuses_calls_by_name(name: str, tmp_path: Any) -> None:
    graph = between(keeper=getattr(ready, name))
    for port, value in CONSTANTS[name].items():
        getattr(graph.keeper, port) < value
    if name == "WriteJsonLines":
        graph.keeper.path < tmp_path / "lines"
    text = refused_by(graph, INLINE)
    assert f"node 'keeper' ({name}) keeps items" in text
    assert "Answer each item while it is in hand" in text


@pytest.mark.parametrize("batch", [8, "all"])
@pytest.mark.parametrize("at", ["node", "sink"])
def test_an_edge_that_puts_items_together_refuses_calls_by_name(batch: Any, at: str) -> None:
    graph = Graph()
    graph.source, graph.node, graph.sink = Source(), Echo, Sink()
    graph.source.out.connect(graph.node.x, **({"batch": batch} if at == "node" else {}))
    graph.node.y.connect(graph.sink.inp, **({"batch": batch} if at == "sink" else {}))
    where = "source.out to node.x" if at == "node" else "node.y to sink.inp"
    assert f"the edge from {where} puts items of several calls together" in refused_by(graph, INLINE)


def test_every_place_is_named(engine: Options) -> None:
    graph = between(batch=ready.Batch, model=Upper, flat=ready.FlatMap, late=ready.Delay)
    graph.batch.size < 3
    graph.late.seconds < 0.01
    text = refused_by(graph, engine)
    assert "'batch' (Batch)" in text
    assert "'late' (Delay)" in text
    assert "'model'" not in text


def test_a_runner_that_reads_its_stream_itself_refuses_calls_unless_it_says_that_it_keeps_nothing() -> None:
    text = refused_by(between(node=Reads), INLINE)
    assert "node 'node' (Reads) reads the stream 'x' itself" in text
    assert "@component(keeps=False)" in text


def test_a_sampled_port_that_the_source_feeds_refuses_calls() -> None:
    graph = Graph()
    graph.source, graph.node, graph.sink = Source(), Latest, Sink()
    graph.source.out >> graph.node.x
    graph.source.out >> graph.node.other
    graph.node.y >> graph.sink.inp
    graph.node.clk(graph.node.x, graph.node.other)
    text = refused_by(graph, INLINE)
    assert "node 'node' (Latest) is called for items of 'x' and sees the latest item of 'other'" in text


def test_a_port_that_a_cycle_feeds_and_that_is_zipped_with_what_comes_next_refuses_calls() -> None:
    graph = Graph()
    graph.source, graph.total, graph.sink = Source(), Total, Sink()
    graph.source.out >> graph.total.x
    graph.total.y >> graph.total.before
    graph.total.before < 0
    graph.total.y >> graph.sink.inp
    assert "node 'total' (Total) zips 'before', which it feeds itself" in refused_by(graph, INLINE)


def test_a_zip_that_starts_again_refuses_calls() -> None:
    graph = Graph()
    graph.source, graph.node, graph.sink = Source(), ZipsAgain, Sink()
    graph.source.out >> graph.node.x
    graph.source.out >> graph.node.other
    graph.node.y >> graph.sink.inp
    assert "starts again when its worker dies" in refused_by(graph, INLINE)


def test_what_does_not_lead_to_the_sink_may_keep_what_it_likes(engine: Options) -> None:
    graph = between(echo=Echo)
    graph.log, graph.lines = ready.Batch, Upper
    graph.log.size < 3
    graph.echo.y >> graph.log.inp
    graph.echo.y.connect(graph.lines.x, batch="all")

    async def main() -> None:
        async with graph.open(**engine) as live:
            assert await asyncio.gather(*map(live.call, "abcd")) == list("abcd")

    asyncio.run(main())


# -- found out while it runs


class Kept:
    """Where a component of a user's may keep items."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.last: Any = None
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.task: asyncio.Task[None] | None = None


@component
async def InPairs(x: In[str], y: Out[str], kept: State[list[str]] = State(list)) -> None:
    kept.value.append(x)
    if len(kept.value) == 2:
        together, kept.value = kept.value, []
        for each in together:
            await y.send(each.upper())


@component
async def Before(x: In[str], y: Out[str], last: State[str | None] = State(lambda: None)) -> None:
    if last.value is not None:
        await y.send(last.value.upper())
    last.value = x


@component
async def AlwaysBefore(x: In[str], y: Out[str], kept: State[Kept] = State(Kept)) -> None:
    await y.send("nothing yet" if kept.value.last is None else kept.value.last)
    kept.value.last = x


@component
async def WhatBecameOfThem(x: In[str], y: Out[str], kept: State[list[str]] = State(list)) -> None:
    kept.value.append(x.upper())
    if len(kept.value) > 1:
        await y.send(kept.value.pop(0))


def two() -> deque[str]:
    return deque(maxlen=2)


@component
async def LastTwo(x: In[str], y: Out[str], last: State[deque[str]] = State(two)) -> None:
    last.value.append(x)
    await y.send("".join(last.value))


@component
async def InADict(x: In[str], y: Out[str], kept: State[dict[str, str]] = State(dict)) -> None:
    if "last" in kept.value:
        await y.send(kept.value["last"])
    kept.value["last"] = x


everywhere: list[str] = []


@component
async def InAGlobal(x: In[str], y: Out[str]) -> None:
    everywhere.append(x)
    if len(everywhere) > 1:
        await y.send(everywhere.pop(0))


@component
async def ByATask(x: In[str], y: Out[str], kept: State[Kept] = State(Kept)) -> None:
    async def work() -> None:
        while True:
            await y.send((await kept.value.queue.get()).upper())

    kept.value.queue.put_nowait(x)
    if kept.value.task is None:
        kept.value.task = asyncio.create_task(work())


@component
async def Later(x: In[str], y: Out[str], kept: State[Kept] = State(Kept)) -> None:
    async def later() -> None:
        await asyncio.sleep(0.001)
        await y.send(x.upper())

    kept.value.task = asyncio.create_task(later())


KEEPERS = (InPairs, Before, AlwaysBefore, WhatBecameOfThem, LastTwo, InADict, InAGlobal, ByATask, Later)


@pytest.mark.parametrize(
    ("keeper", "options"),
    [(each, INLINE) for each in KEEPERS] + [(each, {"num_workers": 1}) for each in (InPairs, AlwaysBefore, ByATask)],
    ids=lambda each: getattr(each, "__name__", None) or "-".join(map(str, each.values())),
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the error of the stray task itself
def test_a_component_that_keeps_the_item_of_a_call_fails_the_next_ones_by_name(keeper: Any, options: Options) -> None:
    everywhere.clear()

    async def main() -> None:
        async with through(keeper).open(**options) as live:
            first = (await asyncio.gather(live.call("first"), return_exceptions=True))[0]
            got: list[Any] = []
            while not got or (isinstance(got[-1], NoAnswer) and len(got) < 100):  # a stray task sends when it may
                got += await asyncio.gather(*(live.call(f"t{n}") for n in range(5)), return_exceptions=True)
        assert first in ("nothing yet", "first") or isinstance(first, CascataError)
        for each in got:
            assert isinstance(each, CascataError), each
        assert "node 'node'" in str(got[-1])
        assert "keeps=False" in str(got[-1]) or "Wait in each call for what it begins" in str(got[-1])

    asyncio.run(main())


@component(keeps=False)
async def Remembers(x: In[str], y: Out[str], seen: State[list[str]] = State(list)) -> None:
    seen.value.append(x)
    await y.send(f"{x}{len(seen.value)}")


@component
async def Caches(x: In[int], y: Out[int], known: State[dict[int, int]] = State(dict)) -> None:
    await y.send(known.value.setdefault(x, x * x))


@component
async def DropsSome(
    x: In[int], y: Out[int], count: State[int] = State(int), counts: State[dict[str, int]] = State(dict)
) -> None:
    if x % 2:
        await y.send(x)
    else:
        count.value += 1
        counts.value["dropped"] = counts.value.get("dropped", 0) + 1


def test_who_says_that_it_keeps_nothing_is_believed_and_a_cache_or_a_counter_is_not_suspected(engine: Options) -> None:
    async def main() -> None:
        async with through(Remembers).open(**engine) as live:
            assert [await live.call(each) for each in "abc"] == ["a1", "b2", "c3"]
        async with through(Caches).open(**engine) as live:
            assert [await live.call(each) for each in (2, 3, 2, 1)] == [4, 9, 4, 1]
        async with through(DropsSome).open(**engine) as live:
            got = await asyncio.gather(*map(live.call, range(9)), return_exceptions=True)
            assert got[1::2] == [1, 3, 5, 7]
            assert all(isinstance(each, NoAnswer) for each in got[::2])

    asyncio.run(main())


# -- batches of calls, as docs/embedding.md shows them


class Batcher:
    """Calls a function with what several calls ask for at once."""

    def __init__(self) -> None:
        self.waiting: list[tuple[str, asyncio.Future[str]]] = []
        self.sizes: list[int] = []

    async def ask(self, text: str) -> str:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.waiting.append((text, answer))
        if len(self.waiting) == 1:
            asyncio.get_running_loop().call_later(0.005, self.answer)
        return await answer

    def answer(self) -> None:
        waiting, self.waiting = self.waiting, []
        self.sizes.append(len(waiting))
        for text, answer in waiting:
            if not answer.done():
                answer.set_result(f"{text.upper()} of {len(waiting)}")


@component(concurrency=8, ordered=False)
async def Model(x: In[str], y: Out[str], batcher: State[Batcher] = State(Batcher)) -> None:
    await y.send(await batcher.value.ask(x))


def test_items_that_are_put_together_inside_a_component_answer_each_their_own_call(engine: Options) -> None:
    async def main() -> None:
        async with through(Model).open(**engine) as live:
            got = await asyncio.gather(*(live.call(f"t{n}") for n in range(40)))
        assert [each.split(" of ")[0] for each in got] == [f"T{n}" for n in range(40)]
        assert any(not each.endswith(" of 1") for each in got)

    asyncio.run(main())


# -- zips


@component
async def DropsOrFails(x: In[int], y: Out[int]) -> None:
    if x % 5 == 0:
        raise ValueError(f"not {x}")
    if x % 5 > 1:
        await asyncio.sleep(0 if x % 2 else 0.001)
        await y.send(x)


@component
async def Both(left: In[int], right: In[int], y: Out[tuple[int, int]]) -> None:
    await y.send((left, right))


def zipping(left: Any) -> Graph:
    graph = Graph()
    graph.source, graph.left, graph.right, graph.both, graph.sink = Source(), left, Echo, Both, Sink()
    graph.source.out >> graph.left.x
    graph.source.out >> graph.right.x
    graph.left.y >> graph.both.left
    graph.right.y >> graph.both.right
    graph.both.y >> graph.sink.inp
    return graph


@component
async def OnlyEven(x: In[int], y: Out[int]) -> None:
    if x % 2 == 0:
        await y.send(x)


@component
async def OnlyOdd(x: In[int], y: Out[int]) -> None:
    if x % 2:
        await y.send(x)


@component
async def AfterAll(x: In[int], y: Out[int]) -> None:
    """Gives the other port of the zip time to have all of its items."""
    await asyncio.sleep(0.05)
    await y.send(x)


async def fails_for_even(left: In[int], right: In[int], y: Out[int]) -> None:
    if left % 2 == 0:
        raise ValueError(left)
    await y.send(left)


@pytest.mark.parametrize("options", [{}, {"concurrency": 3}, {"concurrency": 3, "ordered": False}, {"retries": 1}])
def test_a_failed_zip_is_counted_on_the_edges_of_its_own_items(options: Any) -> None:
    graph = Graph()
    graph.source, graph.even, graph.odd, graph.after, graph.sink = Source(), OnlyEven, OnlyOdd, AfterAll, Sink()
    graph.fails = component(backoff=0.0, **options)(fails_for_even)
    for name in ("even", "odd", "after"):
        graph.source.out >> getattr(graph, name).x
    graph.even.y >> graph.fails.left
    graph.odd.y >> graph.fails.left
    graph.after.y >> graph.fails.right
    graph.fails.y >> graph.sink.inp

    async def main() -> Any:
        async with graph.open(**INLINE) as live:
            answers = await asyncio.gather(*map(live.call, range(8)), return_exceptions=True)
            assert [type(each) for each in answers] == [ComponentError, int] * 4
        return live.report

    failed = {edge.source: edge.failed for edge in asyncio.run(main()).edges if edge.target.startswith("fails.")}
    assert failed == {"even.y": 4, "odd.y": 0, "after.y": 4}


def test_a_zip_joins_items_of_one_call_whatever_was_dropped_failed_or_overtaken_before(engine: Options) -> None:
    async def main() -> None:
        async with zipping(DropsOrFails * 3).open(**engine) as live:
            for _ in range(3):  # what waits in vain from one round is in nobody's way in the next
                got = await asyncio.gather(*map(live.call, range(100)), return_exceptions=True)
                for number, each in enumerate(got):
                    if number % 5 > 1:
                        assert each == (number, number)
                    else:
                        assert isinstance(each, NoAnswer if number % 5 else ComponentError)
        assert [edge for edge in live.report.edges if not edge.balanced] == []

    asyncio.run(main())


def test_a_zip_of_what_belongs_to_no_call_is_bounded_and_pairs_in_order(engine: Options, flags: list[Flag]) -> None:
    graph = zipping(Gate)
    graph.left.flag < flags[0]

    async def main() -> None:
        async with graph.open(**engine) as live:

            async def feed() -> None:
                for number in range(1000):
                    await live.source.send(number)
                live.source.close()

            feeding = asyncio.ensure_future(feed())
            await asyncio.wait([feeding], timeout=0.3)
            assert live.source._end.sent < 600  # nobody takes more than there is room for
            flags[0].set()
            assert [pair async for pair in live.sink] == [(number, number) for number in range(1000)]

    asyncio.run(main())


# -- what else could go astray


def test_a_call_of_which_nothing_is_left_is_told_where_the_source_feeds_several_nodes(engine: Options) -> None:
    """One of them drops it at once; the other one's answer must still come."""
    graph = Graph()
    graph.source, graph.drops, graph.slow, graph.sink = Source(), ready.Filter, SlowEcho, Sink()
    graph.drops.fn < (lambda _: False)
    graph.source.out >> graph.drops.inp
    graph.source.out >> graph.slow.x
    graph.drops.out >> graph.sink.inp
    graph.slow.y >> graph.sink.inp

    async def main() -> None:
        async with graph.open(**engine) as live:
            got = await asyncio.gather(*map(live.call, [1, -2, 3]), return_exceptions=True)
        assert (got[0], got[2]) == (1, 3)
        assert isinstance(got[1], NoAnswer)

    asyncio.run(main())


@component
async def SlowEcho(x: In[int], y: Out[int]) -> None:
    await asyncio.sleep(0.05)
    if x > 0:
        await y.send(x)


@component
async def Unpicklable(x: In[int], y: Out[Any]) -> None:
    await y.send(asyncio.get_running_loop() if x % 3 == 0 else x)


@component
async def Repair(x: In[Failure], y: Out[str]) -> None:
    await y.send(f"failed: {x.error}"[:40])


def test_the_routed_failure_of_an_item_that_cannot_cross_answers_no_other_call(workers: Options) -> None:
    """The writer finds it out later, while it sends what belongs to the next call."""
    graph = through(Unpicklable)
    graph.repair = Repair
    graph.node.errors >> graph.repair.x
    graph.repair.y >> graph.results.inp

    async def main() -> None:
        async with graph.open(**workers) as live:
            got = await asyncio.gather(*map(live.call, range(60)))
        for number, each in enumerate(got):
            assert each == number if number % 3 else each.startswith("failed: an item of type")

    asyncio.run(main())


def test_the_late_answer_of_a_call_that_was_given_up_answers_no_other_one(engine: Options) -> None:
    async def main() -> None:
        async with through(SlowEcho).open(**engine) as live:
            for number in range(1, 6):
                with pytest.raises(TimeoutError):
                    await live.call(number, timeout=0.001)
                cancelled = asyncio.ensure_future(live.call(number + 100))
                await asyncio.sleep(0)
                cancelled.cancel()
            assert await asyncio.gather(*map(live.call, range(10, 15))) == list(range(10, 15))

    asyncio.run(main())


@component
async def Odd(x: In[int], y: Out[int]) -> None:
    if x % 2:
        await y.send(x)


@component
async def OddAndEven(x: In[int], other: In[int], y: Out[int]) -> None:
    await y.send(x + other)


def test_a_zip_at_which_calls_wait_in_vain_on_every_side_ends_with_its_streams(engine: Options) -> None:
    graph = zipping(Odd)
    graph.even = ready.Filter
    graph.even.fn < (lambda number: number % 2 == 0)
    graph.right.y >> graph.even.inp
    graph.third = OddAndEven
    graph.left.y >> graph.third.x
    graph.even.out >> graph.third.other
    graph.third.y >> graph.sink.inp

    async def main() -> None:
        async with graph.open(**engine) as live:
            got = await asyncio.gather(*map(live.call, range(10)), return_exceptions=True)
        assert got[1::2] == [(number, number) for number in range(1, 10, 2)]
        assert all(isinstance(each, NoAnswer) for each in got[::2])

    asyncio.run(main())
