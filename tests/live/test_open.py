"""`async with graph.open() as live`: an application feeds a running graph, and reads its results."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from cascata import CascataError, Graph, Sink, Source
from cascata.engine.choice import is_portable
from cascata.errors import ChannelClosed, ComponentError, DefinitionError, SerializationError, WorkerDied
from tests.engine.parts import Flag, Notes
from tests.live.parts import Asked, Double, Gate, Held, Killed, Picky, doubling, through


def test_what_is_sent_comes_out_and_the_report_knows_all_nodes(engine: dict[str, Any]) -> None:
    async def main() -> None:
        async with doubling().open(**engine) as live:
            for number in range(300):
                await live.numbers.send(number)
                if number % 100 == 99:
                    values = aiter(live.results)
                    assert [await anext(values) for _ in range(100)] == [2 * n for n in range(number - 99, number + 1)]
            live.numbers.close()
            assert [value async for value in live.results] == []
        nodes = live.report.nodes
        assert (nodes["numbers"].sent, nodes["node"].received, nodes["results"].received) == (300, 300, 300)
        assert all(edge.sent == edge.delivered == 300 for edge in live.report.edges)
        assert "caller" in str(live.report)

    asyncio.run(main())


def test_back_pressure_reaches_the_caller(engine: dict[str, Any], flags: list[Flag]) -> None:
    graph = through(Gate)
    graph.node.flag < flags[0]

    async def main() -> None:
        async with graph.open(**engine) as live:
            sent = 0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    for number in range(1000):
                        done = live.numbers.send(number)
                        if number == 11:
                            sending = asyncio.ensure_future(done)
                            break
                        await done
                        sent += 1
            assert sent == 11  # the capacity, and the one in the node's hand
            await asyncio.sleep(0.05)
            assert not sending.done()
            flags[0].set()
            await sending
            live.numbers.close()
            assert [value async for value in live.results] == list(range(12))

    asyncio.run(main())


def test_several_tasks_send_and_read_by_name(engine: dict[str, Any]) -> None:
    graph = Graph()
    graph.left, graph.right = Source(), Source()
    graph.double = Double * 2
    graph.odd, graph.all = Sink(), Sink()
    graph.left.out >> graph.double.x
    graph.right.out >> graph.double.x
    graph.double.y >> graph.all.inp
    graph.right.out >> graph.odd.inp

    async def main() -> None:
        async with graph.open(**engine) as live, asyncio.TaskGroup() as tasks:

            async def send(source: Any, numbers: range) -> None:
                for number in numbers:
                    await source.send(number)

            async def read(sink: Any) -> list[int]:
                return [value async for value in sink]

            readers = [tasks.create_task(read(live.all)) for _ in range(3)]
            odd = tasks.create_task(read(live["odd"]))
            async with asyncio.TaskGroup() as sending:
                for part in range(4):
                    sending.create_task(send(live.left, range(part * 100, part * 100 + 100)))
                    sending.create_task(send(live.right, range(1000 + part * 100, 1000 + part * 100 + 100)))
            live.left.close()
            live.right.close()
        got = [value for reader in readers for value in reader.result()]
        assert sorted(got) == sorted(2 * n for n in [*range(400), *range(1000, 1400)])
        assert sorted(odd.result()) == list(range(1000, 1400))

    asyncio.run(main())


def test_leaving_the_block_drains_and_what_nobody_reads_is_counted_as_dropped(
    engine: dict[str, Any], notes: Notes
) -> None:
    graph = doubling()
    graph.asked = Asked
    graph.asked.notes < notes
    graph.node.y >> graph.asked.x

    async def main() -> None:
        async with graph.open(**engine) as live:
            for number in range(100):
                await live.numbers.send(number)
            assert await anext(aiter(live.results)) == 0
        assert notes.read() == [2 * number for number in range(100)]
        sink = live.report.nodes["results"]
        assert (sink.received, sink.dropped) == (1, 99)
        assert [(e.sent, e.delivered, e.dropped) for e in live.report.edges if e.target == "results.inp"] == [
            (100, 1, 99)
        ]

    asyncio.run(main())


def test_a_task_that_reads_when_the_block_is_left_reads_to_the_end(engine: dict[str, Any], flags: list[Flag]) -> None:
    graph = through(Gate)
    graph.node.flag < flags[0]

    async def main() -> None:
        async with graph.open(**engine) as live:

            async def read() -> list[int]:
                return [value async for value in live.results]

            reading = asyncio.ensure_future(read())
            for number in range(5):
                await live.numbers.send(number)
            flags[0].set()
        assert await reading == [0, 1, 2, 3, 4]

    asyncio.run(main())


def test_an_error_of_the_graph_meets_the_sender_and_the_block_ends_with_it(engine: dict[str, Any]) -> None:
    async def main() -> None:
        with pytest.raises(ComponentError, match="not 13") as caught:
            async with through(Picky).open(**engine) as live:
                for number in range(100_000):
                    await live.numbers.send(number)
        assert caught.value.node == "node"
        assert isinstance(caught.value.__cause__, ValueError)
        with pytest.raises(CascataError, match="did not succeed"):
            _ = live.report

    asyncio.run(main())


def test_an_error_of_the_graph_meets_the_reader_after_the_results_before_it(engine: dict[str, Any]) -> None:
    async def main() -> None:
        got = []
        async with through(Picky).open(**engine) as live:
            for number in range(5):
                await live.numbers.send(number)
                got.append(await anext(aiter(live.results)))
            await live.numbers.send(13)
            with pytest.raises(ComponentError, match="not 13"):
                async for value in live.results:
                    got.append(value)  # noqa: PERF401  # what came before the error counts
            with pytest.raises(ComponentError, match="not 13"):  # whoever asks again is told again
                await anext(aiter(live.results))
        assert got == [0, 2, 4, 6, 8]  # and the block ends quietly: the error was told

    asyncio.run(main())


def test_an_error_that_met_nobody_is_raised_at_the_blocks_end(engine: dict[str, Any]) -> None:
    async def main() -> None:
        with pytest.raises(ComponentError, match="not 13"):
            async with through(Picky).open(**engine) as live:
                await live.numbers.send(13)

    asyncio.run(main())


def test_a_killed_worker_is_told(workers: dict[str, Any]) -> None:
    async def main() -> None:
        with pytest.raises(WorkerDied, match="SIGKILL"):
            async with through(Killed).open(**workers) as live:
                await live.numbers.send(13)
                async for _ in live.results:
                    pass

    asyncio.run(main())


def test_an_item_that_cannot_cross_is_named(workers: dict[str, Any]) -> None:
    async def main() -> None:
        with pytest.raises(SerializationError, match=r"numbers\.out"):
            async with doubling().open(**workers) as live:
                await live.numbers.send(asyncio.get_running_loop())
                async for _ in live.results:
                    pass

    asyncio.run(main())


def test_leaving_by_an_exception_cancels_and_state_is_torn_down(
    engine: dict[str, Any], notes: Notes, flags: list[Flag]
) -> None:
    graph = through(Held)
    graph.node.state < (notes, "held")
    graph.gate = Gate
    graph.gate.flag < flags[0]  # never set: nothing can drain
    graph.node.y >> graph.gate.x

    async def main() -> None:
        with pytest.raises(KeyError, match="mine"):
            async with graph.open(**engine) as live:
                for number in range(5):
                    await live.numbers.send(number)
                await anext(aiter(live.results))
                raise KeyError("mine")
        with pytest.raises(ChannelClosed):
            for number in range(200):
                await live.numbers.send(number)

    asyncio.run(main())
    assert notes.read() == [("held", "made"), ("held", "torn down")]


def test_a_cancelled_block_cancels_the_run(engine: dict[str, Any], flags: list[Flag]) -> None:
    graph = through(Gate)
    graph.node.flag < flags[0]

    async def main() -> None:
        entered = asyncio.Event()

        async def block() -> None:
            async with graph.open(**engine) as live:
                entered.set()
                async for _ in live.results:
                    pass

        task = asyncio.ensure_future(block())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_a_closed_source_takes_no_more_and_closing_again_is_no_error(engine: dict[str, Any]) -> None:
    async def main() -> None:
        async with doubling().open(**engine) as live:
            live.numbers.close()
            live.numbers.close()
            assert [value async for value in live.results] == []
            with pytest.raises(ChannelClosed, match=r"numbers.*was closed"):
                await live.numbers.send(1)

    asyncio.run(main())


def test_the_callers_loop_turns_while_sends_and_results_never_wait(engine: dict[str, Any]) -> None:
    count = 20_000 if not is_portable() else 4_000  # where each item is a message

    async def main() -> None:
        beats = 0
        over = asyncio.Event()

        async def heart() -> None:
            nonlocal beats
            while not over.is_set():
                await asyncio.sleep(0)
                beats += 1

        beating = asyncio.ensure_future(heart())
        async with doubling().open(**engine) as live:

            async def send() -> None:
                for number in range(count):
                    await live.numbers.send(number)
                live.numbers.close()

            sending = asyncio.ensure_future(send())
            assert [value async for value in live.results] == list(range(0, 2 * count, 2))
            await sending
        over.set()
        await beating
        assert beats > 20  # one a millisecond, and the items take several times that

    asyncio.run(main())


def test_names_that_could_not_be_told_apart_are_refused() -> None:
    graph = Graph()
    with pytest.raises(DefinitionError, match="'timeout' cannot be the name of a source"):
        graph.timeout = Source()
    graph.timeout = Sink()  # a sink is named nowhere else
    for reserved in ("call", "report"):
        with pytest.raises(DefinitionError, match=f"'{reserved}' cannot be the name of a sink"):
            graph.add(Sink, reserved)


def test_a_graph_with_sources_is_not_run_without_a_caller() -> None:
    for run in (doubling().run, doubling().start):
        with pytest.raises(DefinitionError, match="numbers, results: sources are fed"):
            run(engine="inline")


def test_sources_and_sinks_are_nodes_like_others() -> None:
    graph = doubling()
    graph.check()
    assert Graph.from_json(graph.to_json()).to_json() == graph.to_json()
    assert "Source" in graph.to_mermaid(num_workers=1)
    assert "numbers" in str(graph.draw(num_workers=1))
    plan = graph.shard(2)
    assert (plan.workers, plan.caller) == ((("node",),), ("numbers", "results"))
    assert "caller" in str(plan)
    graph.pin("numbers", 0)
    with pytest.raises(DefinitionError, match="'numbers' is pinned to worker 0, but it is a Source"):
        graph.shard(1)


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    async def main() -> None:
        live = doubling().open(engine="inline")
        with pytest.raises(AttributeError, match="does not run yet"):
            _ = live.numbers
        async with live:
            with pytest.raises(AttributeError, match="Did you mean 'results'"):
                _ = live.result
            with pytest.raises(CascataError, match="before the block"):
                _ = live.report
        with pytest.raises(CascataError, match="for one block"):
            await live.__aenter__()

    asyncio.run(main())
