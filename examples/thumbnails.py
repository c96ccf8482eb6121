"""Thumbnails of all images of a folder, on all cores: a group of tasks, each of which takes the next few files.

    python examples/thumbnails.py FOLDER INTO [--size 128] [--workers 2]

Needs Pillow: pip install pillow
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from cascata.workflow import DAG, Task

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


class ThumbnailTask(Task):
    """Writes a small picture for each file, and tells its size, or what is wrong with the file."""

    def __init__(self, into: Path, size: int) -> None:
        self.into = into
        self.size = size

    def do(self, batch: list[Path]) -> list[tuple[str, str]]:
        return [(path.name, self.shrink(path)) for path in batch]

    def shrink(self, path: Path) -> str:
        try:
            with Image.open(path) as image:
                image.thumbnail((self.size, self.size))
                image.convert("RGB").save(self.into / f"{path.stem}.jpg")
                return f"{image.width} x {image.height}"
        except (UnidentifiedImageError, OSError) as error:  # one bad file among many is no reason to end
            return f"no picture: {type(error).__name__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("into", type=Path)
    parser.add_argument("--size", type=int, default=128, help="pixels of the longer side")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    given.into.mkdir(parents=True, exist_ok=True)

    dag = DAG()
    files, source = dag.add_source("files")
    task = ThumbnailTask(given.into.resolve(), given.size)
    done = dag.add_sink(dag.add(task, inputs=files, n_workers=given.workers, name="thumbnail"))
    found = sorted(path.resolve() for path in given.folder.iterdir() if path.suffix.lower() in SUFFIXES)
    made = 0
    with dag:
        dag.start(num_workers=given.workers)
        for _, batch in dag.stream(found, source_queues=source, sink_queues=done, batch_size=4, ordered=True):
            for name, told in batch.payload:
                made += "x" in told
                print(f"{name:24} {told}")
        print(dag.stop())
    print(f"{made} thumbnails of {len(found)} files")


main()
