"""The vocabularies of two packages of the standard library, side by side: one graph, used twice in another.

    vocabulary:   root ──> walk ── paths ──> read ── lines ──> count ──> words

    compare:      left (vocabulary) ───┐
                                       ├──> compare (prints)
                  right (vocabulary) ──┘

`vocabulary` is a graph of its own, made of ready-made nodes and one more. It exports an in-port and an out-port, and
is put into the other graph under two names, each time as a copy.

    python examples/subgraph.py
    python examples/subgraph.py --left json --right sqlite3 --top 5
"""

import argparse
import importlib.util
import keyword
import re
from collections import Counter
from pathlib import Path

from cascata import Graph, In, Out, Stream, component
from cascata.components import ReadLines, WalkDirectory

NAME = re.compile(r"[^\W\d]\w+")


@component
async def CountNames(line: Stream[str], words: Out[Counter[str]]) -> None:
    """Counts the names in all lines of a stream, and sends the counts when it has ended."""
    counts: Counter[str] = Counter()
    async for each in line:
        counts.update(name for name in NAME.findall(each) if not keyword.iskeyword(name))
    await words.send(counts)


@component
async def Compare(left: In[Counter[str]], right: In[Counter[str]], titles: In[tuple[str, str]], top: In[int]) -> None:
    """Prints what two vocabularies have in common, and what is typical of each."""
    for title, counts in zip(titles, (left, right), strict=True):
        print(f"{title}: {counts.total():,} names, {len(counts):,} of them different")
    rates = per_thousand(left), per_thousand(right)
    shared = {name: min(rates[0][name], rates[1][name]) for name in left.keys() & right.keys()}
    print(f"\nin both: {len(shared):,}, most of all")
    print(table(titles, rates, shared, top))
    for title, here, there in zip(titles, rates, reversed(rates), strict=True):
        print(f"\nmost typical of {title}")
        print(table(titles, rates, {name: rate - there.get(name, 0) for name, rate in here.items()}, top), flush=True)


def per_thousand(counts: Counter[str]) -> dict[str, float]:
    """How often each name occurs in a thousand."""
    total = counts.total()
    return {name: 1000 * count / total for name, count in counts.items()}


def table(
    titles: tuple[str, str], rates: tuple[dict[str, float], dict[str, float]], scores: dict[str, float], top: int
) -> str:
    """The `top` names with the highest scores, and how often they occur on each side."""
    names = sorted(scores, key=lambda name: (-scores[name], name))[:top]
    width = max(map(len, [*names, *titles]))
    lines = [f"  {'':{width}}  {titles[0]:>{width}}  {titles[1]:>{width}}"]
    lines += [
        f"  {name:{width}}  {rates[0].get(name, 0):{width}.1f}  {rates[1].get(name, 0):{width}.1f}" for name in names
    ]
    return "\n".join(lines)


def vocabulary() -> Graph:
    """A graph that counts the names in the Python files under a folder."""
    graph = Graph()
    graph.walk = WalkDirectory
    graph.walk.pattern < "*.py"
    graph.read = ReadLines
    graph.read.undecodable < "replace"
    graph.count = CountNames
    graph.walk.out >> graph.read.path
    graph.read.out >> graph.count.line
    graph.export(graph.walk.root, "root")
    graph.export(graph.count.words, "words")
    return graph


def folder_of(package: str) -> str | None:
    """Where the sources of a package are, which may be given as a folder; None when there are none."""
    if Path(package).is_dir():
        return package
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec is not None else None
    return next((folder for folder in folders or () if Path(folder).is_dir()), None)


def main() -> None:
    """Reads the command line, runs the graph, prints its report."""
    parser = argparse.ArgumentParser(description="Compares the vocabularies of two Python packages.")
    parser.add_argument("--left", default="asyncio", help="name of a package, or a folder (default: %(default)s)")
    parser.add_argument("--right", default="multiprocessing", help="another one (default: %(default)s)")
    parser.add_argument("--top", type=int, default=8, help="rows of each table (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--engine", default="processes", choices=("processes", "inline"))
    options = parser.parse_args()

    part = vocabulary()
    graph = Graph()
    graph.left = part  # a copy, whose nodes are named left_walk, left_read and left_count
    graph.right = part  # another one
    graph.compare = Compare
    for subgraph, package in ((graph.left, options.left), (graph.right, options.right)):
        folder = folder_of(package)
        if folder is None:
            parser.error(f"{package} is no package with sources")
        subgraph.root < folder
    graph.left.words >> graph.compare.left
    graph.right.words >> graph.compare.right
    graph.compare.titles < (options.left, options.right)
    graph.compare.top < options.top

    report = graph.run(num_workers=options.workers, engine=options.engine)
    print(f"\n{report}")


main()
