"""Other ways from process to process, for comparison: every producer and every consumer is a process of its own.

    m producers ──> multiprocessing.Queue ──> n consumers
    producer ──> multiprocessing.Pipe ──> consumer            (no capacity: what the kernel's buffer holds)
    producer ──> aioprocessing.AioQueue ──> consumer          (both in an event loop)

Imports nothing of cascata: the processes that are started here are as light as they can be.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from time import perf_counter
from typing import Any, Final

from bench.items import items

__all__ = ["aio_queue", "pipe", "queue_between"]

PATIENCE_S: Final = 120.0
"""Processes that say nothing for so long have failed."""

Arrivals = tuple[int, float, float]
"""How many items came, and when the first and the last one did."""


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.channels"])
    return context


def _rate(
    context: Any, producers: list[tuple[Any, ...]], consumers: list[tuple[Any, ...]], after: Callable[[], None]
) -> float:
    """Runs each function with its arguments in a process. Consumers get a connection first, to send `Arrivals`."""
    answers = [context.Pipe(duplex=False) for _ in consumers]
    feeding = [context.Process(target=target, args=arguments) for target, *arguments in producers]
    reading = [
        context.Process(target=target, args=(sending, *arguments))
        for (target, *arguments), (_, sending) in zip(consumers, answers, strict=True)
    ]
    try:
        for process in reading + feeding:
            process.start()
        for process in feeding:
            process.join(PATIENCE_S)
        after()
        found: list[Arrivals] = []
        for receiving, _ in answers:
            if not receiving.poll(PATIENCE_S):
                raise RuntimeError(f"a consumer did not end within {PATIENCE_S:g} s")
            found.append(receiving.recv())
        for process in reading:
            process.join()
    finally:
        for process in reading + feeding:
            if process.pid is not None:
                process.kill()
                process.join()
            process.close()
        for receiving, sending in answers:
            receiving.close()
            sending.close()
    began = min(first for count, first, _ in found if count)
    return (sum(count for count, _, _ in found) - 1) / (max(last for _, _, last in found) - began)


def _consume(answer: Connection, get: Callable[[], Any]) -> None:
    """Takes items until None comes."""
    count = 0
    first = last = 0.0
    while get() is not None:
        last = perf_counter()
        if not count:
            first = last
        count += 1
    answer.send((count, first, last))


def _feed_queue(queue: Any, kind: str, count: int) -> None:
    for item in items(kind, count):
        queue.put(item)


def _drain_queue(answer: Connection, queue: Any) -> None:
    _consume(answer, queue.get)


def queue_between(producers: int, consumers: int, kind: str, capacity: int, count: int) -> dict[str, float]:
    """Items through one `multiprocessing.Queue`.

    Returns:
        "rate": items a second between the first and the last arrival, at all consumers together.
    """
    context = _context()
    queue = context.Queue(capacity)

    def end() -> None:
        for _ in range(consumers):
            queue.put(None)

    feeding = [(_feed_queue, queue, kind, count // producers)] * producers
    try:
        return {"rate": _rate(context, feeding, [(_drain_queue, queue)] * consumers, end)}
    finally:
        queue.close()


def _feed_pipe(sending: Connection, kind: str, count: int) -> None:
    for item in items(kind, count):
        sending.send(item)
    sending.send(None)


def _drain_pipe(answer: Connection, receiving: Connection) -> None:
    _consume(answer, receiving.recv)


def pipe(kind: str, count: int) -> dict[str, float]:
    """Items through one `multiprocessing.Pipe`. Returns as `queue_between` does."""
    context = _context()
    receiving, sending = context.Pipe(duplex=False)
    try:
        return {"rate": _rate(context, [(_feed_pipe, sending, kind, count)], [(_drain_pipe, receiving)], lambda: None)}
    finally:
        receiving.close()
        sending.close()


def _feed_aio(queue: Any, kind: str, count: int) -> None:
    async def feed() -> None:
        for item in items(kind, count):
            await queue.coro_put(item)
        await queue.coro_put(None)

    asyncio.run(feed())


def _drain_aio(answer: Connection, queue: Any) -> None:
    async def drain() -> None:
        count = 0
        first = last = 0.0
        while await queue.coro_get() is not None:
            last = perf_counter()
            if not count:
                first = last
            count += 1
        answer.send((count, first, last))

    asyncio.run(drain())


def aio_queue(kind: str, capacity: int, count: int) -> dict[str, float]:
    """Items through one `aioprocessing.AioQueue`, awaited at both ends. Returns as `queue_between` does."""
    import aioprocessing

    context = _context()
    queue = aioprocessing.AioQueue(capacity, context=context)
    try:
        return {"rate": _rate(context, [(_feed_aio, queue, kind, count)], [(_drain_aio, queue)], lambda: None)}
    finally:
        queue.close()
