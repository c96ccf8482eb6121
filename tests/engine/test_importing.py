"""Modules that run a graph when they are imported: refused with one clear error, or run once. Never without end."""

from __future__ import annotations

import re
import sys
import textwrap
from typing import Final

import pytest

from tests.cells import other
from tests.programs import Script

JOB: Final = """
print("top", __name__, flush=True)
import asyncio
from cascata import *
from cascata.workflow import DAG, Task

class Item:
    pass

@component
async def Makes(out: Out[Item]):
    for _ in range(3):
        await out.send(Item())

@component
async def Takes(x: In[Item]):
    print("took", type(x).__name__, flush=True)

@component
async def Passes(x: In[Item], y: Out[Item]):
    await y.send(x)

class Same(Task):
    def do(self, batch):
        return batch

graph = Graph()
graph.makes, graph.takes = Makes, Takes
graph.makes >> graph.takes
flow = Graph()
flow.s, flow.p, flow.r = Source(), Passes, Sink()
flow.s.out >> flow.p.x
flow.p.y >> flow.r.inp
"""

LIB: Final = """
from cascata import *

@component
async def Makes(out: Out[int]):
    await out.send(1)

@component
async def Takes(x: In[object]):
    print("took", type(x).__name__, flush=True)

@component
async def Passes(x: In[object], y: Out[object]):
    await y.send(x)
"""

WIRED: Final = """
from cascata import *
from lib import *
graph = Graph()
graph.makes, graph.takes = Makes, Takes
graph.makes >> graph.takes
"""

RUN: Final = "graph.run(num_workers=2, timeout=15)\n"

ENTRIES: Final = {
    "run": "graph.run(num_workers=2, timeout=15, **options)",
    "run_async": "asyncio.run(graph.run_async(num_workers=2, timeout=15, **options))",
    "start": "graph.start(num_workers=2, timeout=15, **options); graph.join()",
    "stream": "print(len([*flow.stream([Item()] * 3, timeout=15, **options)]))",
    "astream": """
        async def main():
            print(len([x async for x in flow.astream([Item()] * 3, timeout=15, **options)]))
        asyncio.run(main())
        """,
    "open": """
        async def main():
            async with flow.open(timeout=15, **options) as live:
                await live.s.send(Item())
        asyncio.run(main())
        """,
    "Task.map": "print(len([*Same().map([Item()] * 3, num_workers=1, batch_size=1, **options)]))",
    "DAG": """
        dag = DAG()
        handle, data = dag.add_source()
        results = dag.add_sink(dag.add(Same(), inputs=handle))
        with dag:
            dag.start(**options)
        """,
}

IN_A_THREAD: Final = """
import threading
thread = threading.Thread(target=lambda: {})
thread.start()
thread.join()
"""

ADVICE: Final = 'Put the call under `if __name__ == "__main__":`'


def the_error(stderr: str) -> str:
    """The last line of the only traceback."""
    assert stderr.count("\ncascata.errors.RunAtImport: ") == 1, stderr
    last = stderr.strip().splitlines()[-1]
    assert last.startswith("cascata.errors.RunAtImport: "), stderr
    return last


def test_a_module_that_runs_its_graph_when_it_is_imported_is_refused_before_anything_starts(script: Script) -> None:
    """By whatever way it begins: a module for each."""
    jobs = {}
    for entry, text in ENTRIES.items():
        name = f"job_{entry.replace('.', '_')}"
        jobs[name] = script.write(f"{name}.py", JOB + "options = {}\n" + textwrap.dedent(text))
    done = script(
        f"""
        import importlib
        from cascata.errors import RunAtImport

        for name in {[*jobs]}:
            try:
                importlib.import_module(name)
            except RunAtImport as error:
                print(error)
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    printed = done.stdout.splitlines()
    assert printed[::2] == [f"top {name}" for name in jobs]
    for (name, path), error in zip(jobs.items(), printed[1::2], strict=True):
        assert ADVICE in error
        found = re.search(rf"module '{name}' runs a graph when it is imported \(line (\d+) of (.*?)\)", error)
        assert found is not None, error
        assert found[2] == str(path)
        assert int(found[1]) > JOB.count("\n")


@pytest.mark.parametrize(("method", "transport"), [("spawn", ""), ("forkserver", ""), ("spawn", "portable")])
def test_it_is_refused_whatever_starts_its_workers(script: Script, method: str, transport: str) -> None:
    script.write("job.py", f"{JOB}graph.run(num_workers=2, start_method={method!r})\n")
    done = script(None, "-c", "import job", environment={"CASCATA_TRANSPORT": transport})
    assert (done.returncode, done.stdout) == (1, "top job\n")
    assert "line" in the_error(done.stderr)


@pytest.mark.parametrize("entry", ["run", "stream"])
@pytest.mark.parametrize("options", [{"start_method": "fork"}, {"engine": "inline"}], ids=["fork", "inline"])
def test_it_runs_once_where_workers_import_nothing(script: Script, entry: str, options: dict[str, str]) -> None:
    """Also with items of its own, which threads of the run pickle while the module is still being imported."""
    script.write("job.py", f"{JOB}options = {options}\n{ENTRIES[entry]}\n")
    done = script(None, "-c", "import job")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.splitlines() == ["top job", *(["3"] if entry == "stream" else ["took Item"] * 3)]


@pytest.mark.parametrize(
    ("files", "program"),
    [
        ({"job.py": JOB + RUN}, IN_A_THREAD.format("__import__('job')")),
        ({"job.py": JOB + IN_A_THREAD.format("graph.run()")}, "import job"),
        ({"job/__init__.py": JOB + RUN}, "import job"),
        (
            {
                "job/__init__.py": "from . import app",
                "job/nodes.py": LIB,
                "job/app.py": WIRED.replace("lib", ".nodes") + RUN,
            },
            "import job",
        ),
        ({"job.py": f"{JOB}try: graph.run()\nexcept Exception as error: raise SystemExit(repr(error))"}, "import job"),
    ],
    ids=["imported in a thread", "run in a thread", "package", "module of its package", "caught"],
)
def test_however_it_is_imported_one_error_says_so(script: Script, files: dict[str, str], program: str) -> None:
    for name, text in files.items():
        script.write(name, text)
    done = script(None, "-c", program)
    assert done.stderr.count("RunAtImport") == 1, done.stderr
    assert "runs a graph when it is imported" in done.stderr
    assert done.stdout.count("top") <= 1


def test_a_module_that_needs_no_worker_to_import_it_runs_its_graph_once(script: Script) -> None:
    script.write("lib.py", LIB)
    script.write("job.py", f'print("top", flush=True)\n{WIRED}{RUN}')
    done = script(None, "-c", "import job")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "top\ntook int\n")


@pytest.mark.parametrize("method", other(["forkserver"], "spawn"))
def test_what_a_worker_finds_out_when_it_imports_is_the_error_of_the_run(script: Script, method: str) -> None:
    """Here the module was imported before, and ran its graph of other components then."""
    script.write("lib.py", LIB)
    tables = script.write(
        "tables.py", f'print("top", flush=True)\n{WIRED}{RUN}@component\nasync def Ends(x: In[int]): pass\n'
    )
    done = script(
        f"""
        import lib, tables
        from cascata import *
        from cascata.errors import RunAtImport

        graph = Graph()
        graph.makes, graph.ends = lib.Makes, tables.Ends
        graph.makes >> graph.ends
        try:
            graph.run(num_workers=2, timeout=15, start_method={method!r})
        except RunAtImport as error:
            print(error.module, error.where)
        """
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    line = tables.read_text("utf-8").splitlines().index(RUN.strip()) + 1
    assert printed[:2] == ["top", "took int"]
    assert printed[-1] == f"tables line {line} of {tables}"
    assert printed.count("took int") == 1


def test_a_worker_that_imports_for_an_item_what_began_its_run_does_not_begin_it_again(script: Script) -> None:
    script.write("lib.py", LIB)
    script.write(
        "job.py",
        """
        print("top", flush=True)
        from cascata import *
        from lib import Passes

        class Item:
            pass

        flow = Graph()
        flow.s, flow.p, flow.r = Source(), Passes, Sink()
        flow.s.out >> flow.p.x
        flow.p.y >> flow.r.inp
        print(len([*flow.stream([Item()], num_workers=1, timeout=15)]))
        """,
    )
    done = script(None, "-c", "import job")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("cascata.errors.SerializationError: ")
    assert "module 'job' runs a graph when it is imported" in last
    assert done.stdout == "top\ntop\n"


def test_runners_may_run_graphs_and_import_modules_that_do(script: Script) -> None:
    script.write("lib.py", LIB)
    script.write("job.py", WIRED + RUN)
    script.write(
        "nodes.py",
        """
        import lib
        from cascata import *

        def wired():
            graph = Graph()
            graph.makes, graph.takes = lib.Makes, lib.Takes
            graph.makes >> graph.takes
            return graph

        @component
        async def Awaits():
            await wired().run_async(num_workers=1)

        @component(thread=True)
        def Blocks():
            wired().run(num_workers=1)

        @component
        async def Imports():
            import job
        """,
    )
    lines = script.prints(
        """
        import nodes
        from cascata import *

        graph = Graph()
        graph.awaits, graph.blocks, graph.imports = nodes.Awaits, nodes.Blocks, nodes.Imports
        graph.run(num_workers=1, timeout=25)
        """
    )
    assert lines == ["took int"] * 3


def test_a_child_of_multiprocessing_that_imports_the_main_module_begins_no_run(script: Script) -> None:
    done = script(
        f"""
        {textwrap.indent(JOB, " " * 8).strip()}
        import multiprocessing
        graph.run(num_workers=1)
        if __name__ == "__main__":
            child = multiprocessing.get_context("spawn").Process(target=print, args=("never",))
            child.start()
            child.join()
            print(child.exitcode)
        """
    )
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["top __main__", *["took Item"] * 3, "top __mp_main__", "1"]
    assert "a child of multiprocessing that is being set up" in the_error(done.stderr)


@pytest.mark.parametrize("how", ["a thread", "sitecustomize", "a thread of sitecustomize", "atexit"])
def test_what_an_interpreter_does_by_itself_begins_no_runs_without_end(script: Script, how: str) -> None:
    script.write("lib.py", LIB)
    begin = (
        "import threading\nevent = threading.Event()\n"
        f"thread = threading.Thread(target=lambda: (event.wait(20), {RUN.strip()}))\nthread.start()\n"
    )
    if how == "a thread":
        script.write("job.py", f"{JOB}{begin}")
        program = "import job; job.event.set(); job.thread.join()"
    elif how == "sitecustomize":
        script.write("site/sitecustomize.py", WIRED + RUN)
        program = 'print("program")'
    elif how == "a thread of sitecustomize":
        script.write("site/sitecustomize.py", WIRED + begin.replace("20", "0.01"))
        program = "import sitecustomize; sitecustomize.thread.join()"
    else:
        script.write("job.py", f"{JOB}import atexit\natexit.register(graph.run, start_method='spawn')\n")
        program = "import job; job.graph.run(start_method='spawn', num_workers=2)"
    path = f"{script.folder / 'site'}:{script.folder}:{':'.join(sys.path)}"
    done = script(None, "-c", program, environment={"PYTHONPATH": path})
    # Once by the program itself, and a thread is there before it is refused in the two workers.
    assert done.stdout.count("took") <= 3
    assert done.stdout.count("top") <= 3
    if how == "sitecustomize":
        assert "every interpreter does so" in done.stderr
    if how == "atexit":
        assert "cannot begin any more when the interpreter is ending" in done.stderr


FROZEN: Final = """
import os, sys
sys.frozen = True
sys.executable = os.path.abspath("program")
"""


@pytest.fixture
def program(script: Script) -> Script:
    """What stands for an interpreter in a frozen program: it begins the program again."""
    text = f'#!/bin/sh\nexec {sys.executable} main.py "$@"\n'
    script.write("program", text).chmod(0o755)
    return script


@pytest.mark.parametrize("transport", ["", "portable"])
def test_a_frozen_program_runs_its_graphs(program: Script, transport: str) -> None:
    done = program(f"{FROZEN}{JOB}{RUN}", environment={"CASCATA_TRANSPORT": transport})
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.splitlines() == ["top __main__", *["took Item"] * 3]


def test_a_frozen_program_that_asks_for_a_fork_server_is_told(program: Script) -> None:
    done = program(f"{FROZEN}{JOB}graph.run(start_method='forkserver')")
    assert (done.returncode, done.stdout) == (1, "top __main__\n")
    assert "this program is frozen" in done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("freeze_support", [False, True])
def test_a_frozen_program_can_spawn_as_with_multiprocessing(program: Script, freeze_support: bool) -> None:
    support = "from multiprocess.spawn import freeze_support; freeze_support()\n" if freeze_support else ""
    done = program(f"{FROZEN}{support}{JOB}graph.run(num_workers=2, start_method='spawn', timeout=15)")
    if freeze_support:
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert done.stdout.splitlines() == ["top __main__", *["took Item"] * 3]
    else:
        assert done.returncode == 1
        assert "started to become a worker" in done.stderr
        assert done.stdout.splitlines() == ["top __main__"] * 3  # the workers that were asked for, and no more


def test_an_executable_that_begins_the_program_again_does_so_once(program: Script) -> None:
    """As an embedded interpreter may have it, which does not say that it is frozen."""
    done = program(f"{FROZEN.replace('sys.frozen = True', '')}{JOB}{RUN}")
    assert done.returncode == 1
    assert "started to become a worker" in done.stderr
    assert done.stdout.splitlines() == ["top __main__"] * 2
