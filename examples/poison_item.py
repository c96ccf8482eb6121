"""Compiles the modules of the standard library on a worker that one of them kills.

    modules ──> compiled (starts again) ──> total
                    └── errors ──> dead letters

What brings down a process cannot be caught. `on_worker_death="restart"` starts the node again on a new worker; the item
that it had in hand comes out of `errors`, next to those that raised, and all others arrive.

    python examples/poison_item.py [--limit 100]
"""

from __future__ import annotations

import argparse
import os
import signal
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from cascata import Failure, Graph, In, Out, component


@component
def Modules(limit: In[int], source: Out[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The modules of the standard library, one that cannot be compiled, and one that kills who tries."""
    paths = sorted(Path(sysconfig.get_path("stdlib")).glob("[a-z]*.py"))[:limit]
    for number, path in enumerate(paths):
        yield path.name, path.read_text("utf-8", "replace")
        if number == len(paths) // 2:
            yield "broken.py", "def half("
            yield "poison.py", "poison"


@component(on_worker_death="restart")
async def Compiled(source: In[tuple[str, str]], size: Out[int]) -> None:
    """The size of a module's code."""
    name, text = source
    if text == "poison":
        os.kill(os.getpid(), signal.SIGKILL)  # as the system does when memory is short
    await size.send(len(compile(text, name, "exec").co_code))


@component
async def Total(sizes: In[list[int]]) -> None:
    print(f"{len(sizes)} modules compiled, {sum(sizes):,} bytes of code at their top level")


@component
async def DeadLetters(failures: In[list[Failure]]) -> None:
    for failure in failures:
        print(f"{failure.item[0]}: {type(failure.error).__name__}: {str(failure.error).partition('. ')[0]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=100, help="modules to compile")
    arguments = parser.parse_args()
    graph = Graph()
    graph.modules = Modules
    graph.compiled = Compiled
    graph.total = Total
    graph.dead = DeadLetters
    graph.modules.limit < arguments.limit
    graph.modules >> graph.compiled
    graph.compiled.size >>= graph.total.sizes
    graph.compiled.errors >>= graph.dead.failures
    print(graph.run(num_workers=2))


if __name__ == "__main__":
    main()
