"""Makes the pictures of the pages: runs each block of code that draws one, and keeps what it drew.

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


def drawing_blocks() -> list[str]:
    """The Python blocks of all pages that draw into a file."""
    pages = [DOCS.parent / "README.md", *sorted(DOCS.glob("*.md"))]
    blocks = [
        block
        for page in pages
        for block in re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    ]
    return [block for block in blocks if re.search(r'\.draw\("[^"]+\.svg"', block)]


def make(folder: Path) -> list[Path]:
    """Runs the blocks, and puts their pictures into a folder."""
    # the tree that the pages are of, whatever is installed
    paths = os.pathsep.join(filter(None, [str(DOCS.parent), os.environ.get("PYTHONPATH")]))
    made = []
    for block in drawing_blocks():
        with tempfile.TemporaryDirectory() as scratch:
            script = Path(scratch, "example.py")
            script.write_text(block, "utf-8")
            subprocess.run(
                [sys.executable, script.name],
                cwd=scratch,
                env=os.environ | {"PYTHONPATH": paths},
                check=True,
                stdout=subprocess.DEVNULL,
            )
            made += [Path(shutil.copy(each, folder)) for each in sorted(Path(scratch).glob("*.svg"))]
    return made


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "img"
    target.mkdir(parents=True, exist_ok=True)
    for each in make(target):
        print(each)
