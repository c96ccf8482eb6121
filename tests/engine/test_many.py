"""Graphs with very many nodes and channels: nothing runs out, and what would is named before anything is started."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Final

import pytest

from cascata.engine.choice import is_portable

CHAINS: Final = textwrap.dedent("""
    import resource, sys
    from cascata import *

    soft, hard, chains, length = map(int, sys.argv[1:])
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, min(hard, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))

    @component
    async def Numbers(count: In[int], number: Out[int]) -> None:
        for each in range(count):
            await number.send(each)

    @component
    @inport("number", capacity=2)
    async def Pass(number: In[int], same: Out[int]) -> None:
        await same.send(number)

    @component
    async def Take(number: In[int]) -> None:
        pass

    graph = Graph()
    for chain in range(chains):
        first = graph.add(Numbers, f"numbers_{chain}")
        first.count < 5
        out = first.number
        for place in range(length):
            node = graph.add(Pass, f"pass_{chain}_{place}")
            graph.pin(node, place % 2)  # every edge crosses
            out >> node.number
            out = node.same
        out >> graph.add(Take, f"take_{chain}").number
    try:
        report = graph.run(num_workers=2)
    except CascataError as error:
        print(type(error).__name__, error)
    else:
        print(len(graph.nodes), len(graph.edges), {edge.delivered for edge in report.edges})
""")


def told(soft: int, hard: int, chains: int, length: int) -> str:
    arguments = [str(each) for each in (soft, hard, chains, length)]
    done = subprocess.run([sys.executable, "-c", CHAINS, *arguments], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.strip()


def test_a_thousand_channels_cross_though_the_system_allows_few_open_files_at_first() -> None:
    """The soft limit is raised here and in the workers; 1,020 nodes on two workers."""
    assert told(256, 1 << 20, 60, 15) == "1020 960 {5}"


@pytest.mark.skipif(is_portable(), reason="it needs an fd for each worker, and none for an edge")
def test_where_the_system_allows_too_few_open_files_the_error_says_so_before_anything_starts() -> None:
    shown = told(256, 400, 10, 10)
    assert shown.startswith("CascataError a run on 2 worker(s) with ")
    assert "this system allows a process 400" in shown
    assert "ulimit -Hn" in shown
