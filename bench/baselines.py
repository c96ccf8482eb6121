"""What cascata is measured against: the same work with the standard library's own means.

    processes   producer ──> multiprocessing.Queue ──> consumer
    one loop    source ──> asyncio.Queue ──> map ──> asyncio.Queue ──> sink
    the floor   async for item in source(): await sink(item)

Imports nothing of cascata: the processes that are started here are as light as they can be.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import AsyncIterator, Callable
from multiprocessing.connection import Connection
from time import perf_counter
from typing import Any, Final

from bench.items import delays, items, marks, rate

__all__ = ["asyncio_queue", "floor", "process_delay", "process_queue", "process_round_trip"]

PATIENCE_S: Final = 120.0
"""A pair of processes that says nothing for so long has failed."""


def _context() -> Any:
    # cascata's own default. The server is started once, and its children begin with these modules loaded.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.baselines"])
    return context


def _in_two_processes(
    first: Callable[..., None], second: Callable[..., None], queues: int, capacity: int, *arguments: Any
) -> Any:
    """Runs two functions in a process each, and returns what the second one sends back.

    Both get the queues and the arguments; the second also a connection, as its first.
    """
    context = _context()
    shared = [context.Queue(capacity) for _ in range(queues)]
    receiving, sending = context.Pipe(duplex=False)
    started = [
        context.Process(target=second, args=(sending, *shared, *arguments)),
        context.Process(target=first, args=(*shared, *arguments)),
    ]
    try:
        for process in started:
            process.start()
        sending.close()
        if not receiving.poll(PATIENCE_S):
            raise RuntimeError(f"{second.__name__} did not end within {PATIENCE_S:g} s")
        answer = receiving.recv()
        for process in started:
            process.join()
        return answer
    finally:
        for process in started:
            if process.pid is not None:
                process.kill()
                process.join()
            process.close()
        receiving.close()
        for queue in shared:
            queue.close()


# -- throughput between two processes


def _produce(queue: Any, kind: str, count: int) -> None:
    put = queue.put
    for item in items(kind, count):
        put(item)


def _consume(answer: Connection, queue: Any, kind: str, count: int) -> None:
    get = queue.get
    awaited = marks(count)
    dicts = kind == "dicts"
    times: list[float] = []
    while len(times) < len(awaited):
        item = get()
        number = item["id"] if dicts else item
        if number in awaited:
            times.append(perf_counter())
    answer.send(times)


def process_queue(kind: str, capacity: int, count: int) -> dict[str, float]:
    """Items through one `multiprocessing.Queue` from a process to another one.

    Returns:
        "rate": items a second between the two marks.
    """
    return {"rate": rate(count, _in_two_processes(_produce, _consume, 1, capacity, kind, count))}


# -- delay between two processes


def _produce_slowly(queue: Any, count: int, pause: float) -> None:
    for _ in range(count):
        time.sleep(pause)
        queue.put(perf_counter())


def _consume_times(answer: Connection, queue: Any, count: int, _: float) -> None:
    times = []
    for _ in range(count):
        sent = queue.get()
        times.append(perf_counter() - sent)
    answer.send(times)


def process_delay(capacity: int, count: int, pause: float) -> dict[str, float]:
    """How late items arrive through a `multiprocessing.Queue` on which nothing else is on its way.

    Args:
        capacity: of the queue.
        count: of items.
        pause: seconds between two items.

    Returns:
        "median" and "p99", in seconds.
    """
    return delays(_in_two_processes(_produce_slowly, _consume_times, 1, capacity, count, pause))


def _echo(there: Any, back: Any, count: int) -> None:
    for _ in range(count):
        back.put(there.get())


def _ask(answer: Connection, there: Any, back: Any, count: int) -> None:
    times = []
    for _ in range(count):
        there.put(perf_counter())
        asked = back.get()
        times.append(perf_counter() - asked)
    answer.send(times)


def process_round_trip(capacity: int, count: int) -> dict[str, float]:
    """A question and its answer through two `multiprocessing.Queue`s; the next question follows at once.

    Returns:
        "median" and "p99", in seconds.
    """
    return delays(_in_two_processes(_echo, _ask, 2, capacity, count))


# -- throughput in one loop


def asyncio_queue(kind: str, capacity: int, count: int) -> dict[str, float]:
    """Source, map and sink as tasks of one loop, with an `asyncio.Queue` between each two of them.

    Returns:
        "rate": items a second between the two marks.
    """

    async def source(out: asyncio.Queue[Any]) -> None:
        for item in items(kind, count):
            await out.put(item)

    async def pass_on(inp: asyncio.Queue[Any], out: asyncio.Queue[Any]) -> None:
        for _ in range(count):
            await out.put(await inp.get())

    async def sink(inp: asyncio.Queue[Any]) -> list[float]:
        awaited = marks(count)
        dicts = kind == "dicts"
        times: list[float] = []
        while len(times) < len(awaited):
            item = await inp.get()
            number = item["id"] if dicts else item
            if number in awaited:
                times.append(perf_counter())
        return times

    async def whole() -> list[float]:
        one: asyncio.Queue[Any] = asyncio.Queue(capacity)
        two: asyncio.Queue[Any] = asyncio.Queue(capacity)
        *_, times = await asyncio.gather(source(one), pass_on(one, two), sink(two))
        return times

    return {"rate": rate(count, asyncio.run(whole()))}


def floor(kind: str, count: int) -> dict[str, float]:
    """The least that a loop of coroutines can cost: an async generator, and a call that is awaited for each item.

    Returns:
        "rate": items a second between the two marks.
    """
    awaited = marks(count)
    dicts = kind == "dicts"
    times: list[float] = []

    async def source() -> AsyncIterator[Any]:
        for item in items(kind, count):
            yield item

    async def sink(item: Any) -> None:
        number = item["id"] if dicts else item
        if number in awaited:
            times.append(perf_counter())

    async def whole() -> None:
        async for item in source():
            await sink(item)

    asyncio.run(whole())
    return {"rate": rate(count, times)}
