"""What it costs to begin: whole processes, from the start of the interpreter to its exit."""

from __future__ import annotations

import statistics
import subprocess
import sys
from time import perf_counter
from typing import Final

__all__ = ["bare_processes", "importing", "two_nodes"]

PAIRS: Final = 5
"""Interpreters with and without the import in one measurement of `importing`."""

# Says how long `graph.run` took.
TWO_NODES: Final = """\
from time import perf_counter
from cascata import Graph, In, Out, component

@component
async def Numbers(number: Out[int]) -> None:
    for each in range(3):
        await number.send(each)

@component
async def Take(number: In[int]) -> None:
    pass

graph = Graph()
graph.numbers = Numbers
graph.take = Take
graph.numbers.number >> graph.take.number
began = perf_counter()
graph.run(num_workers=2)
print(perf_counter() - began)
"""

# The same with nothing in it; says how long the two took.
TWO_PROCESSES: Final = """\
from time import perf_counter
import multiprocessing, os
began = perf_counter()
context = multiprocessing.get_context("forkserver")
both = [context.Process(target=os.getpid) for _ in range(2)]
for each in both:
    each.start()
for each in both:
    each.join()
print(perf_counter() - began)
"""


def _interpreter(program: str) -> tuple[float, str]:
    """Runs a program in a new interpreter. Returns the seconds that it took, and what it printed."""
    began = perf_counter()
    done = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True)
    return perf_counter() - began, done.stdout


def importing(_: int) -> dict[str, float]:
    """Interpreters that import cascata, and bare ones, in turn.

    Returns:
        "bare" and "process": seconds of an interpreter without and with the import; "added": the difference.
    """
    bare, process = [], []
    for _ in range(PAIRS):
        bare.append(_interpreter("pass")[0])
        process.append(_interpreter("import cascata")[0])
    added = statistics.median(process) - statistics.median(bare)
    return {"bare": statistics.median(bare), "process": statistics.median(process), "added": added}


def two_nodes(_: int) -> dict[str, float]:
    """A script that runs a graph of two nodes on two workers.

    Returns:
        "run": seconds of `graph.run`; "process": of the whole script, the interpreter's start included.
    """
    return _timed(TWO_NODES)


def bare_processes(_: int) -> dict[str, float]:
    """A script that starts two processes of `multiprocessing` that do nothing, and joins them. As `two_nodes`."""
    return _timed(TWO_PROCESSES)


def _timed(program: str) -> dict[str, float]:
    process, printed = _interpreter(program)
    return {"run": float(printed), "process": process}
