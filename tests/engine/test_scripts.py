"""Programs without a `__main__` guard: workers never run them again, whatever the start method."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Final

import pytest

from tests.engine.conftest import Script

EVERYWHERE: Final = [
    "num_workers=3, start_method='fork'",
    "num_workers=3, start_method='forkserver'",
    "num_workers=3, start_method='spawn'",
    "engine='inline'",
]

on_every_engine = pytest.mark.parametrize("options", EVERYWHERE)

NODES: Final = """
from cascata import *

@component
async def Numbers(upto: In[int], number: Out[int]) -> None:
    for each in range(upto):
        await number.send(each)

@component
async def Prints(item: In[object]) -> None:
    print(item)
"""

QUICK_START: Final = """
print("top level")
from cascata import *

@component
@inport("range_in")
@outport("data_out")
async def RangeGenerator(range_in, data_out):
    for number in range(range_in):
        await data_out.send(number)

@component
@inport("data_in", capacity=10)
@inport("constant_in", default=1)
@outport("data_out")
async def NumberIncrementer(data_in, constant_in, data_out):
    await data_out.send(data_in + constant_in)

@component
@inport("data_in")
async def DataPrinter(data_in):
    print(data_in)

graph = Graph()
graph.arange = RangeGenerator
graph.add_numbers = NumberIncrementer
graph.print_results = DataPrinter
arange.range_in < 10
add_numbers.constant_in < 5
arange.data_out >> add_numbers.data_in
add_numbers.data_out >> print_results.data_in
"""


@on_every_engine
def test_the_quick_start_prints_5_to_14_and_its_top_level_runs_once(script: Script, options: str) -> None:
    assert script.prints(QUICK_START + f"graph.run({options})\n") == ["top level", *map(str, range(5, 15))]


@on_every_engine
def test_a_guard_does_no_harm(script: Script, options: str) -> None:
    guarded = QUICK_START + f"if __name__ == '__main__':\n    graph.run({options})\n"
    assert script.prints(guarded) == ["top level", *map(str, range(5, 15))]


@on_every_engine
def test_what_workers_print_arrives_at_the_streams_of_the_program(script: Script, options: str) -> None:
    done = script(
        f"""
        import sys, os
        from cascata import *

        @component
        async def Prints():
            print("to stdout")
            print("to stderr", file=sys.stderr)
            os.write(1, b"written\\n")
            print("without an end", end="")

        graph = Graph()
        graph.one = Prints
        graph.run({options})
        """
    )
    assert done.returncode == 0
    assert sorted(done.stdout.splitlines()) == ["to stdout", "without an end", "written"]
    assert done.stderr == "to stderr\n"


@pytest.mark.parametrize("start_method", ["fork", "forkserver", "spawn"])
def test_a_program_without_stdin_and_stdout_runs(script: Script, start_method: str) -> None:
    script.write(
        "main.py",
        NODES
        + textwrap.dedent(f"""
        import os, sys
        assert sys.stdout is sys.stdin is None
        graph = Graph()
        graph.numbers = Numbers
        graph.prints = Prints
        graph.numbers.upto < 3
        graph.numbers >> graph.prints
        report = graph.run(num_workers=2, start_method={start_method!r})
        os.write(2, str(report.nodes["prints"].received).encode())
        """),
    )
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} main.py >&- <&-"],
        cwd=script.folder,
        stderr=subprocess.PIPE,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"3")


@on_every_engine
def test_workers_see_the_environment_the_folder_and_the_path_as_they_are_when_run_is_called(
    script: Script, options: str
) -> None:
    script.write("elsewhere/beside.py", "VALUE = 7\n")
    lines = script.prints(
        f"""
        import os, sys
        from cascata import *

        @component
        async def Looks(value: Out[object]):
            import beside
            here = os.environ["SET_BEFORE"], "NOT_SET" in os.environ, os.getcwd()
            await value.send((here, sys.path, beside.VALUE, sys.argv))

        @component
        async def Compares(value: In[object]):
            (set_before, not_set, cwd), path, beside, argv = value
            same_path = [p for p in path if p] == [p for p in sys.path if p]
            print(set_before, not_set, cwd == os.getcwd(), same_path, beside, argv[1:])

        graph = Graph()
        graph.looks = Looks
        graph.compares = Compares
        looks >> compares
        os.environ["SET_BEFORE"] = "before"
        os.environ.pop("NOT_SET", None)
        os.chdir("elsewhere")
        sys.path.insert(0, os.getcwd())
        graph.run({options})
        """,
        "argument",
        environment={"NOT_SET": "1"},
    )
    assert lines == ["before False True True 7 ['argument']"]


def test_a_second_run_sees_what_changed_since_the_first(script: Script) -> None:
    lines = script.prints(
        """
        import os
        from cascata import *

        FACTOR = 1

        @component
        async def Looks():
            print(FACTOR, os.environ.get("SET_BETWEEN"))

        graph = Graph()
        graph.looks = Looks
        graph.run()
        FACTOR = 2
        os.environ["SET_BETWEEN"] = "yes"
        graph.run()
        """
    )
    assert lines == ["1 None", "2 yes"]


@on_every_engine
def test_functions_globals_and_module_aliases_are_used_by_name(script: Script, options: str) -> None:
    lines = script.prints(
        NODES
        + textwrap.dedent(f"""
        import functools
        import numpy as np
        import os.path as paths
        from collections import Counter as Counts
        from math import *

        BASE = 100
        TABLE = {{"a": [1, 2]}}
        cached = functools.lru_cache(maxsize=None)(lambda x: x + BASE)
        added = functools.partial(max, 5)

        def outer(x):
            def inner(y):
                return helper(y) + BASE
            return inner(x)

        def helper(x):
            return x * FACTOR

        FACTOR = 3

        @functools.lru_cache
        def remembered(x):
            return outer(x)

        @component
        async def Uses(number: In[int], out: Out[object]) -> None:
            values = [helper(i) for i in range(2)]
            await out.send((
                outer(number), cached(number), remembered(number), added(number), int(np.arange(3).sum()),
                paths.join("a", "b"), Counts("aab")["a"], TABLE["a"], floor(pi), values, (lambda: BASE)(),
            ))

        graph = Graph()
        graph.numbers = Numbers
        graph.uses = Uses
        graph.prints = Prints
        numbers.upto < 1
        graph.numbers >> graph.uses >> graph.prints
        graph.run({options})
        """)
    )
    assert lines == ["(100, 100, 100, 5, 3, 'a/b', 2, [1, 2], 3, [0, 3], 100)"]


@on_every_engine
def test_names_that_are_defined_after_a_component_are_found_when_the_graph_is_run(script: Script, options: str) -> None:
    lines = script.prints(
        f"""
        from cascata import *

        @component
        async def Uses():
            print(later(), Later().value)

        graph = Graph()
        graph.uses = Uses

        def later():
            return "later"

        class Later:
            value = 5

        graph.run({options})
        """
    )
    assert lines == ["later 5"]


@on_every_engine
def test_a_local_component_runs_with_its_closure(script: Script, options: str) -> None:
    lines = script.prints(
        f"""
        from cascata import *

        class Thing:
            def __init__(self, name):
                self.name = name

        def main():
            offset = 100
            thing = Thing("inner")
            helper = lambda x: x + offset

            def fact(n):
                return n * fact(n - 1) if n else 1

            class Local:
                value = 3

            @component
            async def Shift(number: In[int], out: Out[object]):
                await out.send((helper(number), thing.name, isinstance(thing, Thing), fact(4), Local().value))

            @component
            async def Prints(item: In[object]):
                print(item)

            graph = Graph()
            graph.shift = Shift
            graph.prints = Prints
            graph.shift.number < 5
            graph.shift >> graph.prints
            graph.run({options})

        main()
        """
    )
    assert lines == ["(105, 'inner', True, 24, 3)"]


@on_every_engine
def test_a_component_of_a_module_beside_the_script_runs(script: Script, options: str) -> None:
    script.write(
        "nodes.py",
        """
        from cascata import *

        print("imported")

        class Item:
            def __init__(self, value):
                self.value = value

        @component
        async def Makes(out: Out[Item]):
            await out.send(Item(5))
        """,
    )
    lines = script.prints(
        f"""
        import nodes
        from nodes import Makes
        from cascata import *

        @component
        async def Checks(item: In[nodes.Item]):
            print(isinstance(item, nodes.Item), item.value)

        graph = Graph()
        graph.makes = Makes
        graph.checks = Checks
        makes >> checks
        graph.run({options})
        """
    )
    assert lines[-1] == "True 5"
    assert set(lines[:-1]) == {"imported"}


@pytest.mark.parametrize("start_method", ["fork", "forkserver", "spawn"])
def test_a_module_of_a_package_runs_with_dash_m(script: Script, start_method: str) -> None:
    script.write("package/__init__.py", "")
    script.write(
        "package/beside.py",
        """
        class Base:
            pass

        def helper(x):
            return x + 1
        """,
    )
    script.write(
        "package/job.py",
        f"""
        from cascata import *
        from .beside import Base, helper

        print("top level", __name__, __package__)

        class Item(Base):
            def __init__(self, value):
                self.value = helper(value)

        @component
        async def Makes(out: Out[Item]):
            await out.send(Item(1))

        @component
        async def Checks(item: In[Item]):
            from . import beside
            print(isinstance(item, Item), isinstance(item, beside.Base), item.value)

        graph = Graph()
        graph.makes = Makes
        graph.checks = Checks
        makes >> checks
        graph.run(num_workers=2, start_method={start_method!r})
        """,
    )
    done = script(None, "-m", "package.job")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["top level __main__ package", "True True 2"]


@pytest.mark.parametrize("start_method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("how", ["stdin", "dash c", "interactive", "console"])
def test_a_graph_that_was_typed_runs(script: Script, start_method: str, how: str) -> None:
    typed = textwrap.dedent(f"""\
        from cascata import *

        class Item:
            value = 5

        @component
        async def Makes(out: Out[Item]):
            await out.send(Item())

        @component
        async def Checks(item: In[Item]):
            print("checked", isinstance(item, Item), item.value)

        graph = Graph()
        graph.makes = Makes
        graph.checks = Checks
        makes.out >> checks.item
        _ = graph.run(num_workers=2, start_method={start_method!r})
        """)
    if how == "stdin":
        done = script(None, "-", stdin=typed)
    elif how == "dash c":
        done = script(None, "-c", typed)
    elif how == "interactive":
        done = script(None, "-i", "-q", stdin=typed + "\nexit()\n")
    else:
        script.write("console.py", "import code\ncode.interact(banner='', exitmsg='', local=globals())\n")
        done = script(None, "console.py", stdin=typed + "\n")
    assert done.returncode == 0, done.stderr
    assert "checked True 5" in done.stdout, done.stderr
    assert "Traceback" not in done.stderr


def test_a_script_that_is_executed_by_another_one_runs(script: Script) -> None:
    script.write("job.py", NODES + "graph = Graph()\ngraph.prints = Prints\nprints.item < 'done'\ngraph.run()\n")
    assert script.prints("import runpy\nrunpy.run_path('job.py', run_name='__main__')\n") == ["done"]
    assert script.prints("exec(open('job.py').read())\n") == ["done"]


def test_the_warnings_and_flags_of_the_interpreter_are_those_of_the_workers(script: Script) -> None:
    script.write(
        "flags.py",
        """
        import sys
        from cascata import *

        @component
        async def Looks():
            print(sys.flags.optimize, sys.flags.utf8_mode, sys.flags.dont_write_bytecode, __debug__)

        graph = Graph()
        graph.looks = Looks
        for start_method in ("fork", "forkserver", "spawn"):
            graph.run(start_method=start_method)
        """,
    )
    done = script(None, "-O", "-B", "-X", "utf8", "flags.py")
    assert done.stdout.splitlines() == ["1 1 1 False"] * 3


def test_a_failure_in_a_script_shows_the_remote_traceback_and_leaves_with_1(script: Script) -> None:
    done = script(
        """
        from cascata import *

        @component
        async def Fails(number: In[int]):
            print(1 / number)

        graph = Graph()
        graph.fails = Fails
        fails.number < 0
        graph.run()
        """
    )
    assert done.returncode == 1
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "print(1 / number)" in done.stderr
    assert "cascata.errors.ComponentError: node 'fails'" in done.stderr


def test_a_run_that_nobody_joins_ends_with_the_program(script: Script) -> None:
    lines = script.prints(
        NODES
        + textwrap.dedent("""
        def state():
            yield 1
            print("torn down")

        @component
        async def Endless(out: Out[int], seen: State[int] = State(state)):
            print("running")
            while True:
                await out.send(1)

        import os, time
        graph = Graph()
        graph.endless = Endless
        graph.start(num_workers=1)
        time.sleep(0.5)
        """)
    )
    assert lines in (["running"], ["running", "torn down"])


def test_a_manager_of_multiprocessing_is_at_hand_in_workers(script: Script) -> None:
    for package in ("multiprocessing", "multiprocess"):
        lines = script.prints(
            f"""
            import {package} as mp
            from cascata import *

            @component
            async def Puts(number: In[int], results: In[object]):
                results.append(number + 1)

            if __name__ == "__main__":
                with mp.Manager() as manager:
                    results = manager.list()
                    graph = Graph()
                    graph.puts = Puts
                    puts.results < results
                    puts.number < 4
                    graph.run()
                    print(list(results))
            """
        )
        assert lines == ["[5]"]


def test_a_forked_program_can_run_graphs_of_its_own(script: Script) -> None:
    lines = script.prints(
        NODES
        + textwrap.dedent("""
        import os, sys
        graph = Graph()
        graph.prints = Prints
        prints.item < "run"
        graph.run()
        pid = os.fork()
        graph.run()
        if pid:
            os.waitpid(pid, 0)
            graph.run()
        """)
    )
    assert lines == ["run"] * 4


def test_a_daemon_of_multiprocessing_can_run_graphs(script: Script) -> None:
    lines = script.prints(
        NODES
        + textwrap.dedent("""
        import multiprocessing

        def job():
            graph = Graph()
            graph.prints = Prints
            graph.prints.item < "run"
            graph.run(num_workers=1)

        process = multiprocessing.get_context("fork").Process(target=job, daemon=True)
        process.start()
        process.join()
        print(process.exitcode)
        """)
    )
    assert lines == ["run", "0"]


def test_numeric_libraries_use_as_many_threads_as_there_are_cores_in_all(script: Script) -> None:
    text = """
        import os
        from cascata import *

        @component
        async def Looks():
            print(os.environ["OMP_NUM_THREADS"])

        graph = Graph()
        graph.looks = Looks
        graph.again = Looks
        graph.run(num_workers=2)
        """
    plain = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    assert "OMP_NUM_THREADS" not in plain
    share = str(max(1, len(os.sched_getaffinity(0)) // 2))
    os.environ.pop("OMP_NUM_THREADS", None)
    assert script.prints(text) == [share, share]
    assert script.prints(text, environment={"OMP_NUM_THREADS": "17"}) == ["17", "17"]


def test_scripts_run_where_the_folder_of_the_program_cannot_be_imported_from(script: Script, tmp_path: Path) -> None:
    """`-I` and `-P` keep the folder of the script off the path."""
    path = script.write("main.py", NODES + "graph = Graph()\ngraph.prints = Prints\nprints.item < 1\ngraph.run()\n")
    for flag in ("-P", "-s"):
        done = script(None, flag, str(path))
        assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert sys.version_info >= (3, 11)


@pytest.mark.parametrize("start_method", ["fork", "forkserver", "spawn"])
def test_a_component_may_run_a_graph_of_its_own(script: Script, start_method: str) -> None:
    lines = script.prints(
        NODES
        + textwrap.dedent(f"""
        @component
        async def Nests(upto: In[int], received: Out[int]) -> None:
            inner = Graph()
            inner.numbers = Numbers
            inner.numbers.upto < upto
            inner.drops = Drops
            inner.numbers >> inner.drops
            report = await inner.run_async(num_workers=2)
            await received.send(report.nodes["drops"].received)
            await received.send(len(Numbers.test(upto=upto)["number"]))

        @component
        async def Drops(number: In[int]) -> None:
            pass

        graph = Graph()
        graph.nests = Nests
        graph.nests.upto < 10
        graph.prints = Prints
        graph.nests >> graph.prints
        graph.run(num_workers=2, start_method={start_method!r})
        """)
    )
    assert lines == ["10", "10"]


REAPERS: Final = {
    "ignored": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "thread": """
def reap():
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.001)

threading.Thread(target=reap, daemon=True).start()
""",
}


@pytest.mark.parametrize("start_method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("reaper", [*REAPERS])
def test_a_program_in_which_others_reap_its_children_runs(script: Script, start_method: str, reaper: str) -> None:
    lines = script.prints(
        NODES
        + "import os, signal, threading, time\nfrom cascata.errors import WorkerDied\n"
        + REAPERS[reaper]
        + textwrap.dedent(f"""
        @component
        async def Dies(item: In[object]) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        graph = Graph()
        graph.prints = Prints
        prints.item < "run"
        for _ in range(2):
            graph.run(num_workers=1, start_method={start_method!r})
        graph = Graph()
        graph.dies = Dies
        dies.item < 1
        try:
            graph.run(num_workers=1, start_method={start_method!r})
        except WorkerDied as error:
            print("died", error.nodes)
        """)
    )
    assert lines == ["run", "run", "died ('dies',)"]
