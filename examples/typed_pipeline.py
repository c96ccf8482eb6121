"""What the characters of Unicode are called: a pipeline whose items are dataclasses, and whose wires are type-checked.

    spans ── Span ──> name_0, name_1, ... ── Character ──> tally ── Summary ──> show
                      (whichever is free)

Every port says what it carries. To a type checker `In[Span]` is a Span, an `Out[Character]` has a `send` that takes
one, and a `Stream[Character]` is iterated over; so this file passes `mypy --strict`. When ports are connected, their
types are compared: a wire that does not fit is an error where it is drawn, before anything runs. One is drawn here, to
show it.

    python examples/typed_pipeline.py
    python examples/typed_pipeline.py --first 0x1F300 --last 0x1FAFF
"""

import argparse
import os
import sys
import unicodedata
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum

from cascata import Graph, In, Out, Stream, component


class Kind(StrEnum):
    """The first letter of Unicode's general categories."""

    LETTER = "L"
    MARK = "M"
    NUMBER = "N"
    PUNCTUATION = "P"
    SYMBOL = "S"
    SEPARATOR = "Z"
    OTHER = "C"


@dataclass(frozen=True, slots=True)
class Span:
    """Code points from one to another, which is included."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Character:
    """A character that has a name."""

    code: int
    kind: Kind
    name: str


@dataclass(slots=True)
class Summary:
    """What there is to tell of many characters."""

    unicode: str = unicodedata.unidata_version
    kinds: Counter[Kind] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    longest: Character | None = None

    def add(self, character: Character) -> None:
        """Counts one more."""
        self.kinds[character.kind] += 1
        self.words.update(word for word in character.name.replace("-", " ").split() if word.isalpha() and len(word) > 1)
        longest = self.longest
        if longest is None or (-len(character.name), character.code) < (-len(longest.name), longest.code):
            self.longest = character


@component
async def Spans(first: In[int], last: In[int], span: Out[Span], size: In[int] = 2048) -> None:
    """Sends the code points in spans: work enough to be worth a way to another process, little enough to share."""
    for start in range(first, last + 1, size):
        await span.send(Span(start, min(start + size - 1, last)))


@component
async def Name(span: In[Span], character: Out[Character]) -> None:
    """Sends the characters of a span that have a name."""
    for code in range(span.first, span.last + 1):
        name = unicodedata.name(chr(code), None)
        if name is not None:
            await character.send(Character(code, Kind(unicodedata.category(chr(code))[0]), name))


@component
async def Tally(character: Stream[Character], summary: Out[Summary]) -> AsyncIterator[Summary]:
    """Sends a summary when the last character has come."""
    total = Summary()
    async for each in character:
        total.add(each)
    yield total


@component
async def Show(summary: In[Summary], top: In[int] = 10) -> None:
    """Prints a summary."""
    print(f"Unicode {summary.unicode}: {summary.kinds.total():,} characters with names")
    for kind, count in sorted(summary.kinds.items(), key=lambda pair: (-pair[1], pair[0])):
        print(f"  {kind.name.lower():12} {count:8,}  {count / summary.kinds.total():6.1%}")
    common = sorted(summary.words, key=lambda word: (-summary.words[word], word))[:top]
    print(f"most common words: {', '.join(f'{word} ({summary.words[word]:,})' for word in common)}")
    if summary.longest is not None:
        print(f"longest name: U+{summary.longest.code:04X} {summary.longest.name}")


def main() -> None:
    """Reads the command line, runs the graph, prints its report."""
    parser = argparse.ArgumentParser(description="What the characters of Unicode are called.")
    parser.add_argument("--first", type=lambda text: int(text, 0), default=0, help="code point (default: 0)")
    parser.add_argument("--last", type=lambda text: int(text, 0), default=sys.maxunicode, help="(default: 0x10FFFF)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)")
    parser.add_argument("--engine", default="processes", choices=("processes", "inline"))
    options = parser.parse_args()
    if not 0 <= options.first <= options.last <= sys.maxunicode:
        parser.error("--first and --last: from 0 to 0x10FFFF, in this order")

    graph = Graph()
    graph.spans = Spans
    graph.name = Name * options.workers
    graph.tally = Tally
    graph.show = Show

    graph.spans.first.set(options.first)  # `set` is `<` in a form that linters know
    graph.spans.last.set(options.last)
    try:
        graph.spans.span >> graph.tally.character
    except TypeError as error:
        print(f"a wire that does not fit: {error}\n", flush=True)
    graph.spans.span >> graph.name.span
    graph.name.character >> graph.tally.character
    graph.tally.summary >> graph.show.summary

    report = graph.run(num_workers=options.workers, engine=options.engine)
    print(f"\n{report}")


main()
