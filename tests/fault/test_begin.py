"""A run that cannot begin says why, soon, and leaves nothing: each fault at some entry points (see begin.py)."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from typing import Any, Final

import pytest

from cascata import Graph
from cascata.engine import sigterm
from cascata.engine.choice import is_portable
from cascata.engine.local import forkserver
from cascata.errors import CascataError
from tests.engine.parts import Count
from tests.fault.begin import ENTRIES, FAULTS, PLACES, Cell, cells
from tests.programs import Program, environment_with

pytestmark = pytest.mark.skipif(is_portable(), reason="has the portable transport among its places")


def covering() -> list[Cell]:
    """Few of the cells: every fault at every place, and each entry point with a fault of each kind of end."""
    entries = [*ENTRIES]
    chosen: list[Cell] = []
    for fault in FAULTS.values():
        if fault.name == "no fault":
            continue
        for place in fault.places:
            if place.startswith("portable") and fault.name.startswith("interpreter") and "fails" not in fault.name:
                continue
            chosen.append(Cell(fault.name, entries[len(chosen) % len(entries)], place))
    return chosen


CHOSEN: Final = cells() if os.environ.get("CASCATA_BEGIN_ALL") else covering()


@pytest.fixture(scope="module")
def table() -> dict[str, list[str]]:
    """What was not as expected, by cell: all of them run in one program, which has no fork server that others hold."""
    code = f"""
    import json
    from tests import leaks
    from tests.fault.begin import Cell, check
    leaks.adopt_orphans()
    for cell in {[(cell.fault, cell.entry, cell.place) for cell in CHOSEN]!r}:
        print("CELL", json.dumps([str(Cell(*cell)), check(Cell(*cell))]), flush=True)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment_with({}),
        capture_output=True,
        text=True,
        timeout=150 if len(CHOSEN) < 100 else None,
        check=False,
    )
    lines = [line.removeprefix("CELL ") for line in done.stdout.splitlines() if line.startswith("CELL ")]
    assert len(lines) == len(CHOSEN), done.stderr[-5000:]
    return dict(json.loads(line) for line in lines)


@pytest.mark.timeout(200 if len(CHOSEN) < 100 else 0)
@pytest.mark.xdist_group("begin")
@pytest.mark.parametrize("cell", CHOSEN, ids=str)
def test_a_run_that_cannot_begin_says_why_soon_and_leaves_nothing(cell: Cell, table: dict[str, list[str]]) -> None:
    assert table[str(cell)] == []


def test_the_cells_that_are_run_have_every_entry_point_and_every_start_method() -> None:
    assert {cell.entry for cell in covering()} == {*ENTRIES}
    assert {cell.place for cell in covering()} == {*PLACES} - {"inline"}


SLOW: Final = """
import time, threading
from cascata import *

class Blocks:
    def __reduce__(self):
        print("packing")
        threading.Event().wait()

@component
async def A(x: In[object]): pass

g = Graph()
g.a = A
g.a.x < Blocks()
"""


@pytest.mark.parametrize("start", ["g.run(num_workers=1)", "g.start(num_workers=1)\ng.join()"])
def test_ctrl_c_is_heard_while_a_constant_is_pickled_that_blocks(program: Any, start: str) -> None:
    running: Program = program(SLOW + start)
    running.lines_until("packing")
    running.signal(2)
    code, _ = running.end()
    assert code == -2
    assert running.errors().rstrip().endswith("KeyboardInterrupt")


def test_sigterm_ends_a_program_whose_run_has_not_begun_when_its_time_is_over(program: Any) -> None:
    running: Program = program(SLOW + "import cascata.log; cascata.log.show(); g.run(num_workers=1, grace=0.3)")
    running.lines_until("packing")
    running.signal(signal.SIGTERM)
    code, _ = running.end()
    assert code == 143
    assert "was still packing what its workers need" in running.errors()


def test_a_run_whose_thread_cannot_start_is_none_that_sigterm_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    graph = Graph()
    graph.count = Count
    graph.count.upto < 1
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refused)
        with pytest.raises(CascataError, match="could not begin"):
            graph.start(engine="inline")
    assert not sigterm._sigterm.runs


def test_a_worker_that_does_not_begin_is_named_in_the_log(script: Any) -> None:
    script.write(
        "slow.py",
        """
        import os, time
        from cascata import *

        if "cascata.engine.worker.linux" in __import__("sys").modules and os.environ.get("ONLY") != str(os.getpid()):
            time.sleep(60)

        @component
        async def Slow(): pass
        """,
    )
    lines = script.prints(
        """
        import os
        os.environ["ONLY"] = str(os.getpid())
        from cascata import *
        from cascata.errors import RunTimeout
        from slow import Slow
        import logging, sys
        logging.basicConfig(stream=sys.stdout, level=logging.WARNING)
        g = Graph()
        g.slow = Slow
        try:
            g.run(num_workers=1, timeout=7)
        except RunTimeout as error:
            print(error.doing[0])
        """
    )
    assert "worker 0 has not begun after 5" in lines[0]
    assert "imports the modules of its nodes. Its threads are at" in lines[0]
    assert any("slow.py" in line for line in lines)
    assert "imports the modules of its nodes" in lines[-1]


HALF_IMPORTED: Final = ["process", "context", "util", "resource_tracker", "spawn"]


@pytest.mark.parametrize("package", ["multiprocess", "multiprocessing"])
def test_a_module_that_another_thread_is_just_importing_does_not_hinder_a_run(script: Any, package: str) -> None:
    lines = script.prints(
        f"""
        import importlib.machinery, os, sys, types
        from cascata import *

        @component
        async def Prints():
            print("ran")

        g = Graph()
        g.prints = Prints
        for module in {HALF_IMPORTED}:
            if pid := os.fork():  # each in a process that has run nothing
                os.waitpid(pid, 0)
                continue
            half = types.ModuleType("{package}." + module)
            half.__spec__ = importlib.machinery.ModuleSpec(half.__name__, None)
            half.__spec__._initializing = True
            for start in ("first", "second"):
                sys.modules[half.__name__] = half
                g.run(num_workers=1)
            break
        """
    )
    assert lines == ["ran", "ran"] * len(HALF_IMPORTED)


def test_a_worker_has_no_signal_blocked_and_hears_of_its_children(script: Any) -> None:
    program = """
    import signal, subprocess, sys
    from cascata import *

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1})

    @component
    async def Tells():
        print(signal.pthread_sigmask(signal.SIG_BLOCK, ()), subprocess.call([sys.executable, "-c", "exit(3)"]))

    g = Graph()
    g.tells = Tells
    for method in ("forkserver", "spawn", "fork"):
        g.run(num_workers=1, start_method=method, timeout=20)
    """
    assert script.prints(program) == ["set() 3"] * 3


def test_a_server_that_the_system_cannot_fork_is_not_asked_for_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise BlockingIOError(errno.EAGAIN, "no more processes")  # as at `ulimit -u`

    monkeypatch.setattr(forkserver, "_server", forkserver._Server())
    monkeypatch.setattr(subprocess, "Popen", refused)
    control, far = socket.socketpair()
    with control, far, forkserver.needed():
        with pytest.raises(BlockingIOError):
            forkserver.ServedWorker(far.fileno()).start()
        with pytest.raises(BlockingIOError):
            forkserver.request([])
