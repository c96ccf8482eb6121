"""Fifty log files, followed at once while they grow: many slow sources in one worker.

    write_0, write_1, ...  ── the files ──>  follow_0, follow_1, ...  ── lines ──>  count
    (append, sleep)                          (read, sleep)                          (prints when the stream ends)

Each of these nodes waits nearly all of the time, and waiting costs nothing: one process holds a hundred of them in
its event loop. The end of the output compares what the followers waited in sum with what that took.

    python examples/tail_and_count.py
    python examples/tail_and_count.py --files 200 --lines 20 --pause 0.1
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from cascata import Graph, In, Out, State, component

LEVELS = ("DEBUG", "INFO", "INFO", "INFO", "WARNING", "ERROR")
END = "END OF LOG\n"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a log file, and the seconds that its follower waited for it."""

    text: str
    waited_s: float


@dataclass(slots=True)
class Totals:
    """What the lines of all files add up to."""

    levels: Counter[str] = field(default_factory=Counter)
    waited_s: float = 0.0

    def add(self, line: Line) -> None:
        """Counts one line."""
        self.levels[line.text.split(maxsplit=1)[0]] += 1
        self.waited_s += line.waited_s


def opened(path: Path, mode: str) -> Iterator[IO[str]]:
    """A file for as long as a node lives: opened before its first item, closed at its end, whatever ended it."""
    with path.open(mode, encoding="utf-8") as file:
        yield file


def printed_totals() -> Iterator[Totals]:
    """Totals of an instance; what follows the `yield` runs when its stream has ended."""
    totals, begun = Totals(), time.perf_counter()
    yield totals
    took_s = time.perf_counter() - begun
    print(f"{totals.levels.total():,} lines")
    for level, count in totals.levels.most_common():
        print(f"  {level:8} {count:7,}")
    print(f"The followers waited {totals.waited_s:.2f} s in sum, which took {took_s:.2f} s.", flush=True)


@component
async def WriteLog(lines: In[int], pause: In[float], log: State[IO[str]] = State(opened)) -> None:
    """Appends lines about `pause` seconds apart, each in two parts as busy programs do, and a mark at the end."""
    for number in range(lines):
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))
        print(random.choice(LEVELS), "request", end=" ", file=log.value, flush=True)
        await asyncio.sleep(0)
        print(number, "took", random.randrange(500), "ms", file=log.value, flush=True)
    print(END, end="", file=log.value)


@component
async def FollowLog(pause: In[float], line: Out[Line], log: State[IO[str]] = State(opened)) -> None:
    """Sends each line of a growing file once it is whole, looking every `pause` seconds, until it finds the mark."""
    text, waited_s = "", 0.0
    while text != END:
        text += log.value.readline()
        if not text.endswith("\n"):  # nothing new, or the first part of a line
            begun = time.perf_counter()
            await asyncio.sleep(pause)
            waited_s += time.perf_counter() - begun
        elif text != END:
            await line.send(Line(text, waited_s))
            text, waited_s = "", 0.0


@component
async def CountLines(line: In[Line], totals: State[Totals] = State(printed_totals)) -> None:
    """Counts what arrives, from whichever file."""
    totals.value.add(line)


def main() -> None:
    """Reads the command line, makes the files, runs the graph."""
    parser = argparse.ArgumentParser(description="Follow many growing log files at once, in one worker.")
    parser.add_argument("--files", type=int, default=50, help="log files (default: %(default)s)")
    parser.add_argument("--lines", type=int, default=40, help="lines of each file (default: %(default)s)")
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between lines (default: %(default)s)")
    parser.add_argument("--engine", default="processes", choices=("processes", "inline"))
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        graph = Graph()
        graph.count = CountLines
        for number in range(options.files):
            path = Path(folder, f"service_{number}.log")
            path.touch()  # a follower may be there before the writer

            write = graph.add(WriteLog, f"write_{number}")
            write.log < (path, "a")
            write.lines < options.lines
            write.pause < options.pause

            follow = graph.add(FollowLog, f"follow_{number}")
            follow.log < (path, "r")
            follow.pause < options.pause
            follow.line >> graph.count.line

        report = graph.run(num_workers=1, engine=options.engine)

    print(f"{len(report.nodes)} nodes on {report.num_workers} worker: {report.wall_s:.2f} s from start to end.")


main()
