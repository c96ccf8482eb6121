"""Compresses the modules of the standard library on all cores, and writes them in the order in which they were read.

    files ──> compress (a group, in order) ──> archive

Members of a group work side by side, so that their results interleave. `group.ordered()` lets them leave in the order
of their inputs, whoever compressed what. The archive is read again at the end, and compared with the files.

    python examples/ordered_group.py [--workers 2] [--limit 200]
"""

from __future__ import annotations

import argparse
import lzma
import os
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cascata import Graph, In, Out, State, component


class Archive:
    """Compressed files, one after the other, and where each of them begins."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb")
        self.index: list[tuple[str, int, int]] = []

    def add(self, name: str, data: bytes) -> None:
        self.index.append((name, self.file.tell(), len(data)))
        self.file.write(data)


def archive(path: str) -> Iterator[Archive]:
    """The state of the last node: written as items come, checked when they have all come."""
    made = Archive(Path(path))
    yield made
    made.file.close()
    names = [name for name, _, _ in made.index]
    whole = Path(path).read_bytes()
    size = 0
    for name, start, length in made.index:
        text = lzma.decompress(whole[start : start + length])
        size += len(text)
        if text != read(name):
            print("differs:", name)
    print(f"{len(names)} files, {size:,} bytes in, {len(whole):,} bytes out")
    print("in the order in which they were read:", names == sorted(names))


def modules() -> list[str]:
    return sorted(each.name for each in Path(sysconfig.get_path("stdlib")).glob("[a-z]*.py"))


def read(name: str) -> bytes:
    return (Path(sysconfig.get_path("stdlib")) / name).read_bytes()


@component
async def Files(limit: In[int], name: Out[str]) -> None:
    for each in modules()[:limit]:
        await name.send(each)


@component
async def Compress(name: In[str], result: Out[tuple[str, bytes]]) -> None:
    text = read(name)
    await result.send((name, lzma.compress(text)))


@component
async def Write(result: In[tuple[str, bytes]], into: State[Archive] = State(archive)) -> None:
    into.value.add(*result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--limit", type=int, default=200, help="files, at most")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        graph = Graph()
        graph.files = Files
        graph.compress = Compress * given.workers
        graph.compress.ordered()
        graph.write = Write
        graph.files.limit.set(given.limit)
        graph.write.into.set(str(Path(folder) / "archive"))
        graph.files.name >> graph.compress.name
        graph.compress.result >> graph.write.result
        print(graph.run(num_workers=given.workers))


main()
