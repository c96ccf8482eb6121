"""Nobody else can see a run: no port, no name and no file of it can be found or opened by another user."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Final

import pytest

from tests.programs import Program

GRAPH: Final = """
import asyncio
import numpy as np
from cascata import *

@component
async def Sends(out: Out[object]):
    while True:
        await out.send(np.zeros(200_000))

@component
async def Takes(item: In[object], ready: State[list] = State(list)):
    ready.value.append(1)
    if len(ready.value) == 3:
        print("running")
    await asyncio.sleep(0.01)

graph = Graph()
graph.sends = Sends
graph.takes = Takes * 2
graph.sends.out >> graph.takes.item
"""


def sockets_of(pid: int) -> set[str]:
    """The inodes of the sockets that a process holds."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        target = str(entry.readlink())
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found


def rows(path: str) -> list[list[str]]:
    try:
        return [line.split() for line in Path(path).read_text().splitlines()[1:]]
    except OSError:  # no IPv6 here
        return []


@pytest.mark.parametrize("start_method", ["forkserver", "fork", "spawn"])
def test_a_run_listens_nowhere_and_has_no_names(program: Any, start_method: str, tmp_path: Path) -> None:
    """Large items as well, whose memory the workers share; with a folder of its own for temporary files."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    running: Program = program(
        GRAPH + f"graph.run(num_workers=3, start_method={start_method!r})\n", TMPDIR=str(temporary)
    )
    running.lines_until("running", 2)
    pids = [running.process.pid, *running.descendants()]
    assert len(pids) == 4 + (start_method == "forkserver")
    assert list(temporary.iterdir()) == []
    for pid in pids:
        ours = sockets_of(pid)
        for table in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
            assert [row for row in rows(f"/proc/{pid}/net/{table}") if row[9] in ours] == [], table
        # A row of a socket with a name, in a file or abstract, has an eighth column.
        assert [row for row in rows(f"/proc/{pid}/net/unix") if row[6] in ours and len(row) > 7] == []
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            number, target = int(entry.name), str(entry.readlink())
            if number <= 2:
                continue
            flags = int(Path(f"/proc/{pid}/fdinfo/{number}").read_text().split("flags:")[1].split()[0], 8)
            anonymous = target.startswith(("socket:[", "pipe:[", "anon_inode:", "/memfd:", "/dev/null"))
            assert anonymous, target
            assert flags & os.O_CLOEXEC or target == "/dev/null", f"{target} of {pid} outlives exec"
        assert "/dev/shm/" not in Path(f"/proc/{pid}/maps").read_text()
    running.process.terminate()
    assert running.end(10)[0] == 143


def test_memory_that_workers_share_can_be_opened_by_its_owner_only(program: Any) -> None:
    """What /proc shows of a process, others cannot open; memory files do not say otherwise."""
    running: Program = program(GRAPH + "graph.run(num_workers=3)\n")
    running.lines_until("running", 2)
    for pid in [running.process.pid, *running.descendants()]:
        assert stat.S_IMODE(os.stat(f"/proc/{pid}/fd").st_mode) & 0o077 == 0  # noqa: PTH116
    running.process.terminate()
    assert running.end(10)[0] == 143
