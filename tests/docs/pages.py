"""Reads the Markdown pages: code blocks, the outputs that follow them, commands, links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

__all__ = ["PAGES", "ROOT", "Block", "Example", "blocks", "commands", "examples", "headings", "links"]

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, its text, the line of its fence."""

    language: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Example:
    """A Python block, and the output that the page shows under it, if it shows one."""

    page: Path
    line: int
    code: str
    output: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    fence = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    text = page.read_text("utf-8")
    for found in fence.finditer(text):
        yield Block(found[1], found[2], text.count("\n", 0, found.start()) + 1)


def examples(page: Path) -> Iterator[Example]:
    """The Python blocks of a page; a `text` block right behind one is its output."""
    found = [*blocks(page), Block("", "", 0)]
    for block, behind in pairwise(found):
        if block.language == "python":
            yield Example(page, block.line, block.text, behind.text if behind.language == "text" else None)


def commands(page: Path) -> list[str]:
    """The lines of the `sh` blocks of a page."""
    return [line for block in blocks(page) if block.language == "sh" for line in block.text.splitlines()]


def _prose(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as hosts of Markdown make them."""
    titles = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(page: Path) -> list[str]:
    """Where the links and pictures of a page point to."""
    found = re.findall(r'\]\(([^)\s]+)\)|(?:src|href)="([^"]+)"', _prose(page))
    return [first or second for first, second in found]
