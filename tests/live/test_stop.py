"""Stopping a graph that is open, and leaving it: whatever its sources wait for, the block ends."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cascata import Graph, In, Out, Sink, Source, component
from cascata.errors import ChannelClosed
from tests.engine.parts import Flag, Keep, Notes


@component
async def Idle(out: Out[Any], ended: In[Flag]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.set()
        await out.send("last")


@component
async def Slow(item: In[Any], out: Out[Any], pause: In[float] = 0.0) -> None:
    await asyncio.sleep(pause)
    await out.send(item)


@component
async def Holds(item: In[Any], out: Out[Any], taken: In[Flag]) -> None:
    taken.set()
    await asyncio.Event().wait()


def fed(flags: list[Flag], notes: Notes | None = None) -> Graph:
    """Source and Idle → Slow → Sink, and where there are notes → Keep."""
    graph = Graph()
    graph.source = Source()
    graph.idle = Idle
    graph.idle.ended < flags[0]
    graph.slow = Slow
    graph.source.out >> graph.slow.item
    graph.idle.out >> graph.slow.item
    graph.sink = Sink()
    graph.slow.out >> graph.sink.inp
    if notes is not None:
        graph.keep = Keep
        graph.keep.notes < notes
        graph.slow.out >> graph.keep.item
    return graph


def test_leaving_ends_a_component_that_waits_and_what_was_sent_has_as_long_as_it_takes(
    engine: dict[str, Any], flags: list[Flag], notes: Notes
) -> None:
    graph = fed(flags, notes)
    graph.slow.pause < 0.2

    async def main() -> None:
        async with graph.open(**engine, grace=0.5) as live:
            for number in range(8):  # more than the grace
                await live.source.send(number)
        assert live.run.state == "ended"
        assert all(edge.balanced for edge in live.report.edges)

    asyncio.run(main())
    assert flags[0].is_set()
    kept = notes.read()
    assert [each for each in kept if each != "last"] == [*range(8)]
    assert "last" in kept


def test_a_stop_inside_the_block_closes_sources_and_ends_sinks(engine: dict[str, Any], flags: list[Flag]) -> None:
    async def main() -> None:
        async with fed(flags).open(**engine) as live:
            for number in range(5):
                await live.source.send(number)
            live.stop(within=3)
            values = [value async for value in live.sink]
            assert sorted(values, key=str) == [0, 1, 2, 3, 4, "last"]
            with pytest.raises(ChannelClosed):
                await live.source.send(5)
        assert live.report.nodes["source"].sent == 5

    asyncio.run(main())


def test_a_send_that_a_stop_refuses_does_not_lose_what_is_in_flight(
    engine: dict[str, Any], flags: list[Flag], notes: Notes
) -> None:
    async def main() -> int:
        sent = 0
        with pytest.raises(ChannelClosed):
            async with fed(flags, notes).open(**engine) as live:
                while True:
                    await live.source.send(sent)
                    sent += 1
                    if sent == 5:
                        live.stop(within=10)
                    await asyncio.sleep(0)
        return sent

    sent = asyncio.run(main())
    assert [each for each in notes.read() if each != "last"] == [*range(sent)]


def test_a_stop_that_does_not_drain_ends_at_its_time_with_a_report(engine: dict[str, Any], flags: list[Flag]) -> None:
    graph = Graph()
    graph.source = Source()
    graph.holds = Holds
    graph.holds.taken < flags[0]
    graph.sink = Sink()
    graph.source.out >> graph.holds.item
    graph.holds.out >> graph.sink.inp

    async def main() -> None:
        async with graph.open(**engine) as live:
            for number in range(3):
                await live.source.send(number)
            await flags[0].wait()
            live.stop(within=0.2)
            assert [value async for value in live.sink] == []
        report = live.report
        assert report.nodes["source"].sent == 3
        assert all(edge.balanced for edge in report.edges)

    asyncio.run(main())


def test_cancel_ends_the_run_and_the_block_goes_on(engine: dict[str, Any], flags: list[Flag]) -> None:
    async def main() -> None:
        async with fed(flags).open(**engine) as live:
            await live.source.send(1)
            live.cancel()
            async for _ in live.sink:
                pass
        assert live.run.state == "cancelled"

    asyncio.run(main())


def test_a_stop_in_another_thread_ends_a_stream_whose_iterable_blocks(
    engine: dict[str, Any], flags: list[Flag]
) -> None:
    """As SIGTERM does. The iterable is left in its thread, which ends with its next item."""
    goes_on = threading.Event()

    def blocks() -> Iterator[int]:
        yield 1
        goes_on.wait(20)

    async def main() -> list[Any]:
        from cascata.live.flow import Flow

        graph = fed(flags)
        spec, options = graph._prepare(engine, "test")
        values: list[Any] = []
        async with Flow(spec, options, {"source": blocks()}) as flow:
            while chunk := await flow.chunk():
                values += chunk
                flow._live.stop(within=2)
        return values

    began = time.monotonic()
    try:
        assert asyncio.run(main()) == [1, "last"]
        assert time.monotonic() - began < 15
    finally:
        goes_on.set()


@pytest.mark.parametrize("transport", ["this system's", "portable"])
@pytest.mark.parametrize("how", ["kill", "cancel, and its grace passes"])
def test_who_holds_the_ends_is_told_of_an_end_that_did_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch, flags: list[Flag], transport: str, how: str
) -> None:
    if transport == "portable":
        monkeypatch.setenv("CASCATA_TRANSPORT", "portable")
    problems: list[dict[str, Any]] = []
    graph = Graph()
    graph.source = Source()
    graph.holds = Holds
    graph.holds.taken < flags[0]
    graph.sink = Sink()
    graph.source.out >> graph.holds.item
    graph.holds.out >> graph.sink.inp

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
        async with graph.open(num_workers=1, grace=0.2) as live:
            await live.source.send(0)
            sending = asyncio.gather(*(live.source.send(number) for number in range(300)), return_exceptions=True)
            await asyncio.sleep(0.05)
            live.run.kill() if how == "kill" else live.run.cancel()
            until = time.monotonic() + 10
            while live.run._run is not None and live.run._run._thread.is_alive():
                assert time.monotonic() < until
                time.sleep(0.01)  # noqa: ASYNC251  # this loop must not turn
            assert any(isinstance(each, ChannelClosed) for each in await asyncio.wait_for(sending, 5))
            assert [value async for value in live.sink] == []
            with pytest.raises(ChannelClosed):
                await live.source.send(1)
            await asyncio.sleep(0.3)  # what looks now and then would have complained

    asyncio.run(main())
    assert problems == []
