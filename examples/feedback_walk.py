"""Walks through a directory tree by a feedback edge, and compares what it found with `os.walk`.

                ┌──── (path, depth) ──── inside <───┐
                ▼                                   │
    root ──> list (4 folders at a time) ── Folder ──┴──> tally ── Tree ──> show

Each folder that is listed sends the folders in it back to where it came from. Nobody says when the last one has been
listed: the cycle ends by itself when nothing is in flight in it, and nothing can enter it any more.

    python examples/feedback_walk.py
    python examples/feedback_walk.py --root /usr --top 20
"""

import argparse
import os
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from cascata import Graph, In, Out, Stream, component, inport
from cascata.components import FlatMap


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder: how deep it lies under the root, and what is directly in it. `problem` says why it was not listed."""

    path: str
    depth: int
    folders: tuple[str, ...] = ()
    files: int = 0
    size: int = 0
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Tree:
    """A whole tree."""

    folders: tuple[Folder, ...]

    def __str__(self) -> str:
        """One line of totals."""
        files, size = sum(each.files for each in self.folders), sum(each.size for each in self.folders)
        return f"{len(self.folders):,} folders, {files:,} files, {size:,} bytes"

    def tables(self, top: int) -> str:
        """The folders with the most in them, and the levels of the tree."""
        lines = [f"\nLargest folders\n  {'bytes':>13}  {'files':>7}"]
        largest = sorted(self.folders, key=lambda each: (-each.size, each.path))[:top]
        lines += [f"  {each.size:13,}  {each.files:7,}  {each.path}" for each in largest]
        lines.append(f"\nLevels\n  {'depth':>5}  {'folders':>7}  {'files':>7}")
        for depth in sorted({each.depth for each in self.folders}):
            level = [each for each in self.folders if each.depth == depth]
            lines.append(f"  {depth:5}  {len(level):7,}  {sum(each.files for each in level):7,}")
        lines += [f"\nnot listed: {each.path}: {each.problem}" for each in self.folders if each.problem]
        return "\n".join(lines)


# The folders that are known and not listed yet wait in the in-port. With little room there, the nodes of a cycle may
# wait for each other; cascata sees that and makes room, but here it is known beforehand that there can be many.
@component(thread=True, concurrency=4)
@inport("place", capacity=100_000)
def ListFolder(place: In[tuple[str, int]], folder: Out[Folder]) -> Folder:
    """Lists a folder, in a thread: other nodes go on while a slow disk makes this one wait."""
    path, depth = place
    folders, sizes = [], []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    sizes.append(entry.stat(follow_symlinks=False).st_size)
    except OSError as error:
        return Folder(path, depth, problem=str(error))
    return Folder(path, depth, tuple(folders), len(sizes), sum(sizes))


def places_inside(folder: Folder) -> list[tuple[str, int]]:
    """What is to be listed next."""
    return [(path, folder.depth + 1) for path in folder.folders]


@component
async def Tally(folder: Stream[Folder], tree: Out[Tree]) -> None:
    """Sends the tree when the last folder has been found."""
    await tree.send(Tree(tuple([each async for each in folder])))


@component
async def Show(tree: In[Tree], root: In[str], top: In[int]) -> None:
    """Prints the tree, and what `os.walk` says of it."""
    walked = [(folder, len(files) + links(folder, folders)) for folder, folders, files in os.walk(root)]
    same = sorted(walked) == sorted((each.path, each.files) for each in tree.folders if not each.problem)
    print(f"{root}\n{tree}\n{tree.tables(top)}\n")
    print(f"os.walk finds {len(walked):,} folders and {sum(files for _, files in walked):,} files:", end=" ")
    print("the same ones" if same else "NOT the same ones", flush=True)


def links(folder: str, folders: list[str]) -> int:
    """`os.walk` counts links to folders among the folders, and this program among the files."""
    return sum(Path(folder, each).is_symlink() for each in folders)


def main() -> None:
    """Reads the command line, runs the graph, prints its report."""
    parser = argparse.ArgumentParser(description="Walks through a directory tree by a feedback edge.")
    parser.add_argument("--root", default=sysconfig.get_path("stdlib"), help="where to begin (default: %(default)s)")
    parser.add_argument("--top", type=int, default=10, help="rows of the table (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--engine", default="processes", choices=("processes", "inline"))
    options = parser.parse_args()
    if not Path(options.root).is_dir():
        parser.error(f"--root: {options.root} is no folder")

    graph = Graph()
    graph.list = ListFolder
    graph.inside = FlatMap
    graph.tally = Tally
    graph.show = Show
    graph.list.place < (options.root, 0)  # comes first; then what is fed back
    graph.inside.fn < places_inside
    graph.list.folder >> graph.inside.inp >> graph.tally.folder
    graph.inside.out >> graph.list.place
    graph.tally.tree >> graph.show.tree
    graph.show.root < options.root
    graph.show.top < options.top

    report = graph.run(num_workers=options.workers, engine=options.engine)
    print(f"\n{report}")


main()
