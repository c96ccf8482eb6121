"""What a graph costs besides time per item: memory of a worker, another component, and what two cores bring."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from bench.topologies import chain_of
from cascata import Graph, In, Out, State, component, inport

__all__ = [
    "bare_census",
    "bare_memory",
    "census",
    "component_per_item",
    "component_start",
    "many_channels",
    "worker_memory",
]

CENSUS: Final = Path(__file__).resolve().parent.parent / "examples" / "stdlib_census.py"

ROLLUP: Final = Path("/proc/self/smaps_rollup")

MAPS: Final = 10
"""Components that are added to a chain to see what one costs."""


def own_memory() -> float:
    """Bytes that only this process holds; what it shares with others is not in it. 0 where the system does not tell."""
    try:
        lines = ROLLUP.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return sum(1024.0 * int(line.split()[1]) for line in lines if line.startswith("Private_"))


def told(folder: str) -> Iterator[None]:
    """Writes the memory of the worker down when its node begins."""
    with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".json", delete=False, encoding="utf-8") as file:
        json.dump(own_memory(), file)
    yield


@component
async def Tell(number: In[int], memory: State[None] = State(told)) -> None:
    """Does nothing with what comes."""


def worker_memory(_: int) -> dict[str, float]:
    """Two nodes on two workers. Returns "memory": bytes that only one of them holds."""
    graph = Graph()
    graph.tell = Tell * 2
    graph.tell.number < 1
    with tempfile.TemporaryDirectory() as folder:
        graph.tell.memory < folder
        graph.run(num_workers=2)
        found = [json.loads(file.read_text(encoding="utf-8")) for file in Path(folder).glob("*.json")]
    return {"memory": sum(found) / len(found)}


def _tell(answer: Connection) -> None:
    answer.send(own_memory())


def bare_memory(_: int) -> dict[str, float]:
    """A process of `multiprocessing` (forkserver) that does nothing. Returns as `worker_memory` does."""
    context = multiprocessing.get_context("forkserver")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_tell, args=(sending,))
    process.start()
    try:
        return {"memory": receiving.recv()}
    finally:
        process.join()
        receiving.close()
        sending.close()


def component_per_item(count: int) -> dict[str, float]:
    """What another component in a chain inside one worker costs. Returns "item": seconds for each item."""
    return {"item": (chain_of(MAPS, 100, count) - chain_of(0, 100, count)) / MAPS}


@component
async def Idle(number: In[int]) -> None:
    """Takes one number."""


def _run_of(nodes: int) -> float:
    graph = Graph()
    for number in range(nodes):
        node: Any = graph.add(Idle, f"idle_{number}")
        node.number < number
    began = perf_counter()
    graph.run(num_workers=2)
    return perf_counter() - began


def component_start(_: int) -> dict[str, float]:
    """What another component adds to a run on two workers that does nothing. Returns "component": seconds."""
    few, many = 2, 202
    return {"component": (_run_of(many) - _run_of(few)) / (many - few)}


@component
async def Numbers(count: In[int], number: Out[int]) -> None:
    """Sends numbers."""
    for each in range(count):
        await number.send(each)


@component
@inport("number", capacity=100)
async def Same(number: In[int], same: Out[int]) -> None:
    """Passes numbers on."""
    await same.send(number)


def many_channels(chains: int, length: int, count: int) -> dict[str, float]:
    """Chains of nodes on two workers, each edge of which crosses.

    Args:
        chains: how many.
        length: edges of each.
        count: items through each.

    Returns:
        "run": seconds of the run when nothing is sent; "channel_items": items a second over all channels, when it is.
    """

    def run(items: int) -> float:
        graph = Graph()
        for chain in range(chains):
            node: Any = graph.add(Numbers, f"numbers_{chain}")
            node.count < items
            graph.pin(node, length % 2)
            out = node.number
            for place in range(length - 1):
                node = graph.add(Same, f"same_{chain}_{place}")
                graph.pin(node, (length - 1 - place) % 2)
                out >> node.number
                out = node.same
            node = graph.add(Idle, f"idle_{chain}")
            graph.pin(node, 0)
            out >> node.number
        began = perf_counter()
        graph.run(num_workers=2)
        return perf_counter() - began

    empty = run(0)
    return {"run": empty, "channel_items": chains * length * count / (run(count) - empty)}


def census(workers: int, files: int) -> dict[str, float]:
    """The census of examples/, a CPU-bound group with as many members as workers.

    Returns:
        "process": seconds of the whole script.
    """
    command = [sys.executable, str(CENSUS), "--workers", str(workers), "--limit", str(files)]
    began = perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {"process": perf_counter() - began}


_SHARE: Final = """
import ast, sys, sysconfig, warnings
from itertools import islice
from pathlib import Path
files, first, each = map(int, sys.argv[1:])
warnings.simplefilter("ignore")
for path in islice(sorted(Path(sysconfig.get_path("stdlib")).glob("*/*.py")), first, files, each):
    try:
        for node in ast.walk(ast.parse(path.read_bytes())):
            pass
    except (OSError, SyntaxError, ValueError, RecursionError):
        pass
"""


def bare_census(processes: int, files: int) -> dict[str, float]:
    """Files of the standard library parsed by bare interpreters, each with its share from the start.

    What two of them save is what the machine allows: its cores may be two threads of one.

    Returns:
        "process": seconds until the last one has ended.
    """
    began = perf_counter()
    running = [
        subprocess.Popen([sys.executable, "-c", _SHARE, str(files), str(first), str(processes)])
        for first in range(processes)
    ]
    exits = [process.wait() for process in running]
    if any(exits):
        raise RuntimeError("a bare census failed: its message stands above")
    return {"process": perf_counter() - began}
