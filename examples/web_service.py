"""A web service that computes on all cores: each request asks a running graph, and gets the answer to its own question.

    python examples/web_service.py                 serves on a free port, and asks itself 1,000 questions, 50 at a time
    python examples/web_service.py --serve 8080    serves; GET http://localhost:8080/factors/1234567

`GET /factors/N` tells the prime factors of N. Two nodes of a group share the work, so that answers come out in another
order than the questions went in; `live.call` brings each to its own request. A number that the graph cannot take fails
alone, with 500, and the service goes on.

Needs aiohttp: pip install "cascata[examples]"
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator

from aiohttp import ClientSession, TCPConnector, web

from cascata import Graph, In, Out, Sink, Source, component
from cascata.errors import ComponentError
from cascata.live import Live

LIVE = web.AppKey("live", Live)


@component
async def Factorise(number: In[int], factors: Out[list[int]]) -> None:
    """Sends the prime factors of a number."""
    if number < 1:
        raise ValueError(f"{number} has no prime factors")
    await factors.send(list(prime_factors(number)))


def prime_factors(number: int) -> Iterator[int]:
    divisor = 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            yield divisor
            number //= divisor
        divisor += 1
    if number > 1:
        yield number


def make_graph(members: int) -> Graph:
    """A source, a group that factorises, and a sink."""
    graph = Graph()
    graph.numbers = Source()
    graph.factorise = Factorise * members
    graph.factors = Sink()
    graph.numbers.out >> graph.factorise.number
    graph.factorise.factors >> graph.factors.inp
    return graph


async def answer(request: web.Request) -> web.Response:
    """`GET /factors/N`."""
    number = int(request.match_info["number"])
    try:
        factors = await request.app[LIVE].call(number, timeout=10)
    except TimeoutError:
        raise web.HTTPServiceUnavailable(text="too much to do") from None
    except ComponentError as error:  # of this very number; the others do not notice
        raise web.HTTPInternalServerError(text=str(error.__cause__)) from None
    return web.json_response({"number": number, "factors": factors})


def make_app(workers: int) -> web.Application:
    """The service: its graph runs as long as it does."""

    async def run_graph(app: web.Application) -> AsyncIterator[None]:
        async with make_graph(workers).open(num_workers=workers) as live:
            app[LIVE] = live
            yield

    app = web.Application()
    app.router.add_get(r"/factors/{number:-?\d+}", answer)
    app.cleanup_ctx.append(run_graph)
    return app


async def ask(url: str, numbers: list[int], at_once: int) -> Counter[str]:
    """Asks for all the numbers, and counts what came back."""
    outcome: Counter[str] = Counter()
    asked = iter(numbers)

    async def ask_on(session: ClientSession) -> None:
        for number in asked:
            async with session.get(f"{url}/factors/{number}") as response:
                if response.status != 200:
                    outcome[f"status {response.status}"] += 1
                    continue
                told = await response.json()
                right = told["number"] == number and told["factors"] == list(prime_factors(number))
                outcome["right" if right else "wrong"] += 1

    async with ClientSession(connector=TCPConnector(limit=at_once)) as session:
        await asyncio.gather(*(ask_on(session) for _ in range(at_once)))
    return outcome


async def demonstrate(workers: int, questions: int, at_once: int) -> None:
    """Serves on a free port of this machine, and asks."""
    runner = web.AppRunner(make_app(workers))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    numbers = [1_000_003 + 7 * each for each in range(questions)]
    numbers[questions // 2] = -1  # one that fails
    began = time.perf_counter()
    outcome = await ask(f"http://127.0.0.1:{port}", numbers, at_once)
    took = time.perf_counter() - began
    await runner.cleanup()
    print(f"{questions:,} requests, {at_once} at a time, on {workers} workers: {questions / took:,.0f} a second")
    for what, count in sorted(outcome.items()):
        print(f"{count:6,}  {what}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--serve", type=int, metavar="PORT", help="serve there, and ask nothing")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=50)
    given = parser.parse_args()
    if given.serve is not None:
        web.run_app(make_app(given.workers), port=given.serve)
    else:
        asyncio.run(demonstrate(given.workers, given.questions, given.at_once))


if __name__ == "__main__":
    main()
