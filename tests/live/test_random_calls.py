"""Random graphs, calls at once: each caller gets its own answer, its own error, or the refusal before the first call.

Here a few dozen graphs are tried, always the same ones. To look for more, say how many calls:

    CASCATA_CALLS=10000 python -m pytest tests/live/test_random_calls.py -s --timeout=0 -o faulthandler_timeout=0

`CASCATA_CALLS_SEED` tries others. A failure names the graph's seed and the graph.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest

from cascata import CascataError
from cascata.errors import ComponentError, NoAnswer
from tests.live.passing import Passing, build, outcomes, passing

CALLS = int(os.environ.get("CASCATA_CALLS", "0"))
SEED = int(os.environ.get("CASCATA_CALLS_SEED", "0"))
IN_FLIGHT = 64
PER_GRAPH = 128


async def one(live: Any, shape: Passing, number: int, rng: random.Random, got: Counter[str]) -> str | None:
    """Makes a call. Returns what is wrong with what it got."""
    answers, fails, may_be_none = outcomes(shape, number)
    patience = rng.random() * 0.01 if rng.random() < 0.1 else None
    give_up = patience is not None and rng.random() < 0.5
    call = asyncio.ensure_future(live.call((number, str(number)), timeout=None if give_up else patience or 20))
    if give_up:
        await asyncio.wait([call], timeout=patience)
        if call.cancel():
            got["cancelled"] += 1
            await asyncio.wait([call])
            return None
    try:
        answer = await call
    except TimeoutError:
        got["late"] += 1
        return None if patience is not None else f"{number}: no answer; it may be {answers}"
    except ComponentError as error:
        got["failed"] += 1
        if fails and str(error.item).startswith(f"({number},"):
            return None
        return f"{number}: failed with {error!r}; may it fail? {fails}"
    except NoAnswer:
        got["none"] += 1
        return None if may_be_none else f"{number}: no answer, and it may be {answers}, or an error: {fails}"
    except CascataError as error:
        return f"{number}: {error!r}"
    got["answered"] += 1
    return None if answer in answers else f"{number}: {answer}, and it may be {answers}"


async def calls(
    shape: Passing, count: int, rng: random.Random, options: dict[str, Any], got: Counter[str]
) -> list[str]:
    """Makes so many calls through one graph. Returns what went wrong."""
    wrong: list[str] = []
    flight = asyncio.Semaphore(IN_FLIGHT)
    if shape.refused:
        got["refused"] += count
        return await refusal(shape, options)

    async def each(number: int) -> None:
        async with flight:
            problem = await one(live, shape, number, rng, got)
        if problem is not None:
            wrong.append(problem)

    async with build(shape).open(**options) as live:
        await asyncio.gather(*map(each, range(count)))
    return wrong + [f"the ledger: {edge}" for edge in live.report.edges if not edge.balanced]


async def refusal(shape: Passing, options: dict[str, Any]) -> list[str]:
    """Makes a call through a graph with a node that may mix them. Returns what went wrong."""
    wrong: list[str] = []
    with suppress(ComponentError):  # some of those nodes fail when nothing ever comes
        async with build(shape).open(**options) as live:
            with pytest.raises(CascataError) as caught:
                await live.call((0, "0"))
            wrong += [f"{each} is not named: {caught.value}" for each in shape.refused if each not in str(caught.value)]
            if live.source._end.sent:
                wrong.append("something was sent before the refusal")
    return wrong


@pytest.mark.parametrize(
    ("options", "graphs", "count"),
    [({"engine": "inline"}, 32, 48), ({"num_workers": 2}, 4, 64)],
    ids=["inline", "2 workers"],
)
def test_each_caller_gets_what_is_its_own(options: dict[str, Any], graphs: int, count: int) -> None:
    if CALLS:
        graphs, count = -(-CALLS // PER_GRAPH), PER_GRAPH
    got: Counter[str] = Counter()
    for seed in range(SEED, SEED + graphs):
        rng = random.Random(seed)
        shape = passing(rng)
        wrong = asyncio.run(calls(shape, count, rng, options, got))
        assert wrong == [], f"graph {seed}: {shape}"
    if CALLS:
        print(f"\n{options}: {graphs} graphs, {graphs * count} calls: {dict(got)}")
    assert got["answered"] > got["late"] + got["cancelled"]
    if "engine" in options:  # among so many graphs there is something of everything
        assert all(got[each] for each in ("refused", "failed", "none", "cancelled", "late")), got
