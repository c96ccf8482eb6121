"""Others who move items between processes. Each is measured when it is there, by its documented means.

    cascata 0.1.8    PyPI's package of this name, an earlier implementation of the same idea by others (with a queue in
                     C++): source ──> map ──> sink on two workers, in a virtual environment of its own, made here once
    pypeln           source ──> process.map on two workers ──> this process
    mpire            source ──> WorkerPool(2).imap ──> this process
    ray.util.queue   an item each: a task puts, this process gets

`pip install -e ".[bench,ray]"` brings the last three.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from bench.items import items, marks, rate

__all__ = ["EARLIER", "PEERS", "earlier", "installed", "mpire_imap", "pypeln_map", "ray_queue"]

EARLIER: Final = "0.1.8"

HOME: Final = Path(__file__).resolve().parent.parent / "build" / "bench"
"""Where the environment of the earlier package is kept."""

PATIENCE_S: Final = 120.0

PROGRAM: Final = """\
import json, sys, time
from cascata import *

capacity, count, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
awaited = (int(sys.argv[4]), int(sys.argv[5]))

@component
@inport("count")
@outport("out")
async def Source(count, out):
    for number in range(count):
        await out.send(number)

@component
@inport("item", capacity=capacity)
@outport("out")
async def Map(item, out):
    await out.send(item)

@component
@inport("item", capacity=capacity)
@persist("times", lambda: [])
async def Sink(item, times):
    if item in awaited:
        times.get().append(time.perf_counter())
        if item == awaited[1]:
            with open(path, "w") as file:
                json.dump(times.get(), file)

graph = Graph()
graph.source = Source
graph.map = Map
graph.sink = Sink
graph.source.count < count
graph.source.out >> graph.map.item
graph.map.out >> graph.sink.item
graph.run(num_workers=2)
"""


def _environment() -> Path:
    """The interpreter of the environment that has the earlier package; it is made when it is not there.

    Raises:
        RuntimeError: it cannot be installed: no network, no wheel for this Python.
    """
    home = HOME / f"cascata-{EARLIER}"
    python = home / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    done = home / "done"
    if not done.exists():
        venv.create(home, clear=True, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet", f"cascata=={EARLIER}"]
        tried = subprocess.run(install, capture_output=True, text=True, check=False)
        if tried.returncode:
            raise RuntimeError(f"cascata=={EARLIER} cannot be installed:\n{tried.stderr}")
        done.touch()
    return python


def earlier(capacity: int, count: int) -> dict[str, float]:
    """Ints through source, map and sink of the earlier package, on two workers.

    Returns:
        "rate": items a second between the two marks.
    """
    first, last = marks(count)
    with tempfile.TemporaryDirectory() as folder:
        program, path = Path(folder) / "program.py", Path(folder) / "times.json"
        program.write_text(PROGRAM, encoding="utf-8")
        command = [*map(str, (_environment(), program, capacity, count, path, first, last))]
        subprocess.run(command, check=True, timeout=PATIENCE_S, cwd=folder, env={})
        return {"rate": rate(count, json.loads(path.read_text(encoding="utf-8")))}


def _same(item: Any) -> Any:
    return item


def _rate_of(results: Iterator[Any], count: int) -> dict[str, float]:
    """Items a second between a tenth of them and the last, in whatever order they come."""
    first, last = marks(count)
    times = []
    for number, _ in enumerate(results):
        if number in (first, last):
            times.append(perf_counter())
    return {"rate": rate(count, times)}


def pypeln_map(capacity: int, count: int) -> dict[str, float]:
    """Ints through `pypeln.process.map` with two workers. Returns as `earlier` does."""
    import pypeln

    return _rate_of(iter(pypeln.process.map(_same, items("ints", count), workers=2, maxsize=capacity)), count)


def mpire_imap(count: int) -> dict[str, float]:
    """Ints through `mpire.WorkerPool.imap` with two workers, one item a task. Returns as `earlier` does."""
    from mpire.pool import WorkerPool

    with WorkerPool(2) as pool:
        return _rate_of(pool.imap(_same, items("ints", count), iterable_len=count, chunk_size=1), count)


def ray_queue(capacity: int, count: int) -> dict[str, float]:
    """Ints through a `ray.util.queue.Queue`, from a task to this process. Returns as `earlier` does."""
    import ray

    from bench import on_ray

    try:
        return on_ray.queue(capacity, count)
    finally:
        ray.shutdown()  # its processes would take part in what is measured next


PEERS: Final[Mapping[str, Callable[..., dict[str, float]]]] = {
    "pypeln": pypeln_map,
    "mpire": mpire_imap,
    "ray.util.queue": ray_queue,
}


def installed(name: str) -> bool:
    """Whether a peer's package is there."""
    return importlib.util.find_spec(name.partition(".")[0]) is not None
