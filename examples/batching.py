"""How the vocabulary of a text grows: its words in batches, and all at once.

    read ── lines ──> split ──┬── words, 100 at a time ──> growth
                              └── words, all at once ────> summary

An edge can put items together: `out >> 100 >= inp` delivers lists of 100 and the rest at the end, `out >>= inp`
everything in one list. The node itself is not changed, and does not know.

    python examples/batching.py
    python examples/batching.py --file some/text.txt --size 500
"""

import argparse
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cascata import Graph, In, Out, Stream, component
from cascata.components import ReadLines

TEXT = Path(__file__).parents[1] / "README.md"
WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")


@component
def Split(line: In[str], word: Out[str]) -> Iterator[str]:
    """Sends the words of a line, in small letters."""
    yield from WORD.findall(line.lower())


@component
async def Growth(words: Stream[list[str]], lines: Out[str]) -> None:
    """Sends a line for each batch: how many of its words are new."""
    known: set[str] = set()
    read = 0
    async for batch in words:
        new = len(set(batch) - known)
        known.update(batch)
        bar = "#" * round(50 * new / len(batch))
        await lines.send(f"  {read + 1:7,} to {read + len(batch):7,}  {new:5}  {bar}".rstrip())
        read += len(batch)


@component
async def Summary(words: In[list[str]], lines: Out[str]) -> None:
    """Sends what can be said only of the whole text."""
    counts = Counter(words)
    once = sum(count == 1 for count in counts.values())
    by_length = sorted(words, key=len)
    longest = sorted(counts, key=lambda word: (-len(word), word))[:5]
    common = sorted(counts, key=lambda word: (-counts[word], word))[:10]
    await lines.send(f"{len(words):,} words, {len(counts):,} different ones, {once:,} of them used once")
    await lines.send(f"median length: {len(by_length[len(by_length) // 2])} letters; longest: {', '.join(longest)}")
    await lines.send(f"most common: {', '.join(f'{word} ({counts[word]})' for word in common)}")


@component
async def Show(growth: In[list[str]], summary: In[list[str]]) -> None:
    """Prints both, each of them complete."""
    print("\n".join(summary))
    print("\n             words    new\n" + "\n".join(growth), flush=True)


def main() -> None:
    """Reads the command line, runs the graph, prints its report."""
    parser = argparse.ArgumentParser(description="How the vocabulary of a text grows.")
    parser.add_argument("--file", default=str(TEXT), help="a text in UTF-8 (default: %(default)s)")
    parser.add_argument("--size", type=int, default=100, help="words in a batch (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--engine", default="processes", choices=("processes", "inline"))
    options = parser.parse_args()
    if not Path(options.file).is_file():
        parser.error(f"--file: {options.file} is no file")

    graph = Graph()
    graph.read = ReadLines
    graph.split = Split
    graph.growth = Growth
    graph.summary = Summary
    graph.show = Show

    graph.read.path < options.file
    graph.read.undecodable < "replace"
    graph.read.out >> graph.split.line
    graph.split.word.connect(graph.growth.words, batch=options.size)  # `graph.split.word >> 100 >= graph.growth.words`
    graph.split.word >>= graph.summary.words
    graph.growth.lines >>= graph.show.growth
    graph.summary.lines >>= graph.show.summary

    report = graph.run(num_workers=options.workers, engine=options.engine)
    print(f"\n{report}")


main()
