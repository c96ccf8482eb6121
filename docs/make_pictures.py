"""Makes the pictures of the pages: runs each block of code that draws one, and keeps what it drew.

An example is run up to the point where it would run its graph, which is drawn instead.

    python docs/make_pictures.py [FOLDER]

FOLDER is docs/img unless it is given.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

DOCS: Final = Path(__file__).resolve().parent


EXAMPLES: Final = {
    "batching": ["--file", "README.md"],
    "feedback_walk": ["--root", "docs"],
    "fibonacci": [],
    "ordered_group": ["--workers", "4"],
    "subgraph": ["--left", "cascata", "--right", "tests"],
    "typed_pipeline": ["--workers", "4"],
}
"""Which examples are drawn, with arguments that make the same picture everywhere."""

DRAW: Final = """
import runpy, sys
from cascata import Graph

name, target, *sys.argv[1:] = sys.argv[1:]

def draw(graph, *_, **__):
    graph.draw(target)
    sys.exit()

Graph.run = draw
runpy.run_path(f"examples/{name}.py", run_name="__main__")
"""


def drawing_blocks() -> list[str]:
    """The Python blocks of all pages that draw into a file."""
    pages = [DOCS.parent / "README.md", *sorted(DOCS.glob("*.md"))]
    blocks = [
        block
        for page in pages
        for block in re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    ]
    return [block for block in blocks if re.search(r'\.draw\("[^"]+\.svg"', block)]


def python(arguments: list[str], folder: str | Path) -> None:
    """Runs an interpreter that finds the tree that the pages are of, whatever is installed."""
    paths = os.pathsep.join(filter(None, [str(DOCS.parent), os.environ.get("PYTHONPATH")]))
    subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths},
        check=True,
        stdout=subprocess.DEVNULL,
    )


def make(folder: Path) -> list[Path]:
    """Runs the blocks and the examples, and puts their pictures into a folder."""
    made = []
    for block in drawing_blocks():
        with tempfile.TemporaryDirectory() as scratch:
            script = Path(scratch, "example.py")
            script.write_text(block, "utf-8")
            python([script.name], scratch)
            made += [Path(shutil.copy(each, folder)) for each in sorted(Path(scratch).glob("*.svg"))]
    for name, arguments in EXAMPLES.items():
        made.append(folder / f"example_{name}.svg")
        python(["-c", DRAW, name, str(made[-1].resolve()), *arguments], DOCS.parent)
    return made


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "img"
    target.mkdir(parents=True, exist_ok=True)
    for each in make(target):
        print(each)
