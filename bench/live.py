"""Questions of a program to a graph in its event loop: caller ──> source ──> node, on a worker ──> sink ──> caller."""

from __future__ import annotations

import asyncio
from time import perf_counter

from bench.items import delays
from cascata import Graph, In, Out, Sink, Source, component

__all__ = ["call", "send_and_read"]


@component
async def Answer(question: In[int], answer: Out[int]) -> None:
    """Sends what it gets."""
    await answer.send(question)


def _graph() -> Graph:
    graph = Graph()
    graph.questions, graph.answer, graph.answers = Source(), Answer, Sink()
    graph.questions.out >> graph.answer.question
    graph.answer.answer >> graph.answers.inp
    return graph


def call(count: int) -> dict[str, float]:
    """`live.call`, each question after the answer to the one before. Returns "median" and "p99", in seconds."""

    async def ask() -> list[float]:
        async with _graph().open(num_workers=1) as live:
            await live.call(0)
            times = []
            for number in range(count):
                began = perf_counter()
                await live.call(number)
                times.append(perf_counter() - began)
            return times

    return delays(asyncio.run(ask()))


def send_and_read(count: int) -> dict[str, float]:
    """The same with a `send`, and the next value of the sink. Returns "median" and "p99", in seconds."""

    async def ask() -> list[float]:
        async with _graph().open(num_workers=1) as live:
            answers = aiter(live.answers)
            times = []
            for number in range(-1, count):
                began = perf_counter()
                await live.questions.send(number)
                await anext(answers)
                times.append(perf_counter() - began)
            return times[1:]  # the first has waited for the worker

    return delays(asyncio.run(ask()))
