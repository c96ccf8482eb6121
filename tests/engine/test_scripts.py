"""Programs without a `__main__` guard: workers never run them again, whatever the start method."""

from __future__ import annotations

import textwrap
from typing import Final

import pytest

from tests.cells import matrix, other
from tests.programs import Script

EVERYWHERE: Final = [
    "num_workers=3, start_method='fork'",
    "num_workers=3, start_method='forkserver'",
    "num_workers=3, start_method='spawn'",
    "engine='inline'",
]

on_every_engine = pytest.mark.parametrize("options", EVERYWHERE)
on_some_engines = pytest.mark.parametrize("options", other(EVERYWHERE[1::2], *EVERYWHERE[::2]))

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


@on_some_engines
def test_a_guard_does_no_harm(script: Script, options: str) -> None:
    guarded = QUICK_START + f"if __name__ == '__main__':\n    graph.run({options})\n"
    assert script.prints(guarded) == ["top level", *map(str, range(5, 15))]


@on_some_engines
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


@on_some_engines
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


@on_some_engines
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


@on_some_engines
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


@pytest.mark.parametrize("start_method", other(["spawn"], "fork", "forkserver"))
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


METHODS: Final = ["forkserver", "spawn", "fork"]


@pytest.mark.parametrize(
    ("how", "start_method"),
    [
        (how, method) if METHODS.index(method) == number % 3 else matrix(how, method)
        for number, how in enumerate(["stdin", "dash c", "interactive", "console"])
        for method in METHODS
    ],
)
def test_a_graph_that_was_typed_runs(script: Script, how: str, start_method: str) -> None:
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
