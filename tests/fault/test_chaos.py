"""Random graphs under load, with random faults: each run ends in a result that adds up, or in exactly one honest error.

`CASCATA_CHAOS_S=600 CASCATA_CHAOS_SEED=7 python -m pytest tests/fault/test_chaos.py --timeout 0` goes on for ten
minutes. A failure names the seed and the number of the run, which make the same graph and the same faults again.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

from cascata import Graph, In, Out, State, component
from cascata.errors import CascataError, ComponentError, WorkerDied
from cascata.options import StartMethod
from tests import leaks
from tests.engine.parts import Notes
from tests.fault.test_kills import here
from tests.processes import below
from tests.programs import SOON_S
from tests.speed import in_time

SECONDS: Final = float(os.environ.get("CASCATA_CHAOS_S", "6"))
SEED: Final = int(os.environ.get("CASCATA_CHAOS_SEED", "1"))

GRACE_S: Final = 1.0


@component
async def Makes(upto: In[int], out: Out[Any], notes: State[None] = State(here)) -> None:
    for number in range(upto):
        await out.send(np.full(20_000, number) if number % 97 == 96 else number)


@component
async def Works(
    item: In[Any], out: Out[Any], bad: In[int] = -1, pause: In[float] = 0.0, notes: State[None] = State(here)
) -> None:
    if isinstance(item, int) and item == bad:
        raise ValueError("by chance")
    if pause and isinstance(item, int) and item % 50 == 0:
        await asyncio.sleep(pause)
    await out.send(item)


@component
async def Turns(item: In[Any], again: Out[Any], out: Out[Any], notes: State[None] = State(here)) -> None:
    """Sends some numbers round once more."""
    if isinstance(item, int) and item % 5 == 0 and item < 1_000_000:
        await again.send(item + 1_000_001)
    else:
        await out.send(item)


@component
async def Writes(item: In[Any], notes: State[None] = State(here), slow: In[float] = 0.0) -> None:
    if slow and isinstance(item, int) and item % 100 == 0:
        time.sleep(slow)  # noqa: ASYNC251  # a slow disk blocks


def build(choose: random.Random, notes: Notes) -> Graph:
    """Layers of single nodes, groups and cycles, one behind the other; several sources and sinks."""
    graph = Graph()
    upto = choose.choice([0, 100, 3000, 20_000])
    outs = []
    for number in range(choose.randint(1, 2)):
        source = graph.add(Makes, f"source_{number}")
        source.upto < upto
        outs.append(source.out)
    for layer in range(choose.randint(0, 3)):
        kind = choose.choice(["one", "group", "cycle"])
        name = f"layer_{layer}"
        if kind == "group":
            node: Any = graph.add(Works * choose.randint(2, 4), name)
        else:
            node = graph.add(Works if kind == "one" else Turns, name)
        for out in outs:
            out >> node.item
        if kind == "cycle":
            node.again >> node.item
        elif choose.random() < 0.5:
            node.pause < 0.001
        if kind == "one" and choose.random() < 0.6:
            node.bad < choose.randint(0, upto)
        outs = [node.out]
    for number in range(choose.randint(1, 2)):
        sink = graph.add(Writes, f"sink_{number}")
        if choose.random() < 0.5:
            sink.slow < 0.005
        for out in outs:
            out >> sink.item
    for node in graph.nodes.values():
        node.notes < notes
    return graph


def disturb(choose: random.Random, mine: set[int], over: threading.Event, killed: list[float]) -> None:
    """Kills, or stops for a while, what the run has started, at a random moment."""
    what = choose.choice(["nothing", "kill", "kill", "pause", "pause and kill"])
    if what == "nothing" or over.wait(choose.expovariate(1 / 0.25)):
        return
    workers = [pid for pid in below(os.getpid()) if pid not in mine]
    if not workers:
        return
    victim = choose.choice(sorted(workers))
    with suppress(ProcessLookupError):
        if "pause" in what:
            os.kill(victim, signal.SIGSTOP)
            over.wait(choose.uniform(0, 0.3))
        if "kill" in what:
            killed.append(time.monotonic())
            os.kill(victim, signal.SIGKILL)
        else:
            os.kill(victim, signal.SIGCONT)


def honest(error: CascataError, killed: list[float], graph: Graph) -> Iterator[str]:
    """What is wrong with an error."""
    if isinstance(error, ComponentError):
        if not isinstance(error.__cause__, ValueError) or graph.nodes.get(error.node) is None:
            yield f"an error of nobody's making: {error!r}"
    elif isinstance(error, WorkerDied):
        if not killed or error.signal != "SIGKILL":
            yield f"nobody was killed like this: {error!r}"
    else:
        yield f"not an expected kind of error: {error!r}"
    if any(not isinstance(other, ComponentError | WorkerDied) for other in error.others):
        yield f"others: {error.others}"


def test_whatever_happens_a_run_ends_in_a_result_or_in_an_honest_error(tmp_path: Path) -> None:
    ends = {"results": 0, "errors": 0, "deaths": 0}
    before = leaks.take()
    mine = set(below(os.getpid()))
    deadline = time.monotonic() + SECONDS
    number = 0
    while time.monotonic() < deadline:
        number += 1
        run = f"seed {SEED}, run {number}"
        choose = random.Random(f"{SEED}-{number}")
        graph = build(choose, Notes(str(tmp_path / str(number))))
        workers = choose.randint(1, 3)
        method: StartMethod = choose.choice(["forkserver", "forkserver", "fork"])
        over, killed = threading.Event(), list[float]()
        disturbing = threading.Thread(target=disturb, args=(choose, mine, over, killed))
        disturbing.start()
        error: CascataError | None = None
        try:
            report = graph.run(num_workers=workers, start_method=method, grace=GRACE_S, timeout=50)
        except CascataError as raised:
            error = raised
        ended = time.monotonic()
        over.set()
        disturbing.join()
        if error is None:
            ends["results"] += 1
            for edge in report.edges:
                assert edge.sent == edge.delivered + edge.failed + edge.dropped + edge.undelivered, (run, edge)
                assert (edge.failed, edge.undelivered) == (0, 0), (run, edge)
        else:
            ends["deaths" if isinstance(error, WorkerDied) else "errors"] += 1
            assert list(honest(error, killed, graph)) == [], run
            if killed and isinstance(error, WorkerDied):
                assert in_time(SOON_S + GRACE_S, since=killed[0], until=ended), run
        assert leaks.left_since(before) == [], run
    print(f"{number} runs: {ends}")
    assert number > 1
