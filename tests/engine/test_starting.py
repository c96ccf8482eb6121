"""What a run needs for its start, and what its workers take over of the program."""

from __future__ import annotations

import os
import textwrap
from typing import Final

import pytest

from cascata.engine.choice import is_portable
from tests.programs import Script

pytestmark = pytest.mark.skipif(is_portable(), reason="speaks of the fork server")

HEAVY: Final = ("aioprocessing", "cascata.dsl", "dill", "multiprocess", "multiprocessing", "networkx", "rich")

TWO_NODES: Final = """
import functools, sys
from cascata import *

def twice(number, times=2, *, more=0):
    "Doubles."
    return number * times + more

twice.note = [1]

@component
async def Numbers(number: Out[int]) -> None:
    await number.send(twice(4))

@component
async def Take(number: In[int], seen: State[list] = State(list)) -> None:
    seen.get().append(number)
    print(number, twice.__doc__, twice.__defaults__, twice.__kwdefaults__, twice.note, twice.__name__)
    LAST

graph = Graph()
graph.numbers = Numbers
graph.take = Take
graph.numbers.number >> graph.take.number
graph.run(num_workers=2)
"""


def test_a_run_whose_definitions_pickle_can_take_loads_nothing_heavy_on_either_side(script: Script) -> None:
    shows = f"print([name for name in {HEAVY} if name in sys.modules])"
    lines = script.prints(f"{TWO_NODES.replace('LAST', shows)}\n{shows}")
    assert lines == ["8 Doubles. (2,) {'more': 0} [1] twice", "[]", "['cascata.dsl']"]


@pytest.mark.parametrize(
    "defined",
    [
        "class Kind:\n    size = 3\n\ndef made():\n    return Kind().size",
        "def outer(number):\n    def inner():\n        return number\n    return inner\n\nmade = outer(3)",
        "made = lambda: 3",
        "def ends(number):\n    return 3 if number < 0 else ends(number - 1)\n\ndef made():\n    return ends(2)",
        "def made():\n    return made.value\n\nmade.value = 3\nmade.itself = made",
        (
            "import functools\n\ndef decorated(function):\n    @functools.wraps(function)\n    def calls():\n        "
            "return function()\n    return calls\n\n@decorated\ndef made():\n    return 3"
        ),
    ],
    ids=["class", "closure", "lambda", "recursion", "attributes", "decorated"],
)
def test_functions_of_the_script_arrive_whatever_they_are(script: Script, defined: str) -> None:
    program = f"{defined}\n{TWO_NODES.replace('LAST', 'print(made())')}"
    assert script.prints(program)[1:] == ["3"]


def test_a_worker_stands_where_the_program_stands(script: Script) -> None:
    program = """
    import os, sys, tempfile
    from cascata import *

    @component
    async def Tells():
        print(sys.argv[1:], sys.path == expected, os.getcwd(), sys.stdin.read() == "")

    graph = Graph()
    graph.tells = Tells
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.path.append(folder)
        expected = list(sys.path)
        graph.run()
        print(sys.argv[1:], True, os.getcwd(), True)
        os.chdir("/")
    """
    first, second = script.prints(program, "a", "b")
    assert first == second


def test_children_that_a_component_leaves_to_multiprocess_end_with_the_worker(script: Script) -> None:
    program = """
    import time
    from cascata import *

    @component
    async def Starts():
        import multiprocess
        child = multiprocess.Process(target=time.sleep, args=(600,), daemon=True)
        child.start()
        print(child.pid)

    graph = Graph()
    graph.starts = Starts
    graph.run()
    """
    (pid,) = script.prints(program)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_the_program_and_its_workers_agree_on_multiprocess_when_the_program_uses_it(script: Script) -> None:
    program = """
    import multiprocess
    from cascata import *

    multiprocess.set_start_method("spawn")

    @component
    async def Tells():
        print(multiprocess.current_process().name, multiprocess.get_start_method())

    graph = Graph()
    graph.tells = Tells
    graph.run()
    """
    assert script.prints(textwrap.dedent(program)) == ["cascata-worker-0 spawn"]
