"""Ctrl-C, SIGTERM and other signals to a program that runs a graph."""

from __future__ import annotations

import random
import signal
import textwrap
import time
from typing import Any, Final

import pytest

from tests.cells import matrix, other
from tests.programs import SOON_S, Program

EVERYWHERE: Final = [
    "num_workers=2, start_method='fork'",
    "num_workers=2, start_method='forkserver'",
    "num_workers=2, start_method='spawn'",
    "engine='inline'",
]

on_every_engine = pytest.mark.parametrize("options", EVERYWHERE)
on_some_engines = pytest.mark.parametrize(
    "options", other([EVERYWHERE[1], EVERYWHERE[3]], EVERYWHERE[0], EVERYWHERE[2])
)

ENDLESS: Final = """
import asyncio, os, signal, sys, time
from cascata import *

def held(name):
    print(name, "made")
    try:
        yield name
    finally:
        print(name, "torn down")

@component
async def Endless(out: Out[int], state: State[str] = State(held)):
    number = 0
    while True:
        await out.send(number)
        number += 1

@component
async def Counts(item: In[int], state: State[str] = State(held), count: State[int] = State(int)):
    count.value += 1
    if count.value == 1000:
        print("running")

graph = Graph()
graph.endless = Endless
graph.counts = Counts
endless.state < "source"
counts.state < "sink"
endless >> counts
"""


@on_every_engine
def test_ctrl_c_tears_down_and_raises_keyboard_interrupt(program: Any, options: str) -> None:
    running: Program = program(ENDLESS + f"graph.run({options})\n")
    running.lines_until("running")
    running.signal_group(signal.SIGINT)
    code, rest = running.end()
    assert code == -signal.SIGINT
    assert sorted(rest.splitlines()) == ["sink torn down", "source torn down"]
    assert running.errors().rstrip().endswith("KeyboardInterrupt")


@on_some_engines
def test_a_program_can_go_on_after_ctrl_c(program: Any, options: str) -> None:
    running: Program = program(
        ENDLESS
        + f"""
for _ in range(2):
    try:
        graph.run({options})
    except KeyboardInterrupt:
        print("caught", flush=True)
print("the end")
"""
    )
    for _ in range(2):
        running.lines_until("running")
        running.signal_group(signal.SIGINT)
        lines = running.lines_until("caught")
        assert sorted(lines) == ["caught", "sink torn down", "source torn down"]
    code, rest = running.end()
    assert (code, rest, running.errors()) == (0, "the end\n", "")


def test_ctrl_c_ends_a_run_that_was_started_and_is_joined(program: Any) -> None:
    running: Program = program(ENDLESS + "graph.start(num_workers=2)\ngraph.join()\n")
    running.lines_until("running")
    running.signal_group(signal.SIGINT)
    code, rest = running.end()
    assert code == -signal.SIGINT
    assert sorted(rest.splitlines()) == ["sink torn down", "source torn down"]


@pytest.mark.parametrize("options", ["num_workers=2", "engine='inline'"])
def test_ctrl_c_ends_run_async(program: Any, options: str) -> None:
    running: Program = program(ENDLESS + f"asyncio.run(graph.run_async({options}))\n")
    running.lines_until("running")
    running.signal_group(signal.SIGINT)
    code, rest = running.end()
    assert code == -signal.SIGINT
    assert sorted(rest.splitlines()) == ["sink torn down", "source torn down"]


@pytest.mark.parametrize(
    ("options", "loop"),
    [
        ("num_workers=2", "asyncio.run(cell())"),
        matrix("num_workers=2", "asyncio.new_event_loop().run_until_complete(cell())"),
        matrix("engine='inline'", "asyncio.run(cell())"),
        ("engine='inline'", "asyncio.new_event_loop().run_until_complete(cell())"),
    ],
)
def test_ctrl_c_ends_a_run_inside_a_running_loop(program: Any, options: str, loop: str) -> None:
    """As in a notebook's cell."""
    running: Program = program(
        ENDLESS
        + f"""
async def cell():
    graph.run({options})

{loop}
"""
    )
    running.lines_until("running")
    running.signal_group(signal.SIGINT)
    code, rest = running.end()
    assert code == -signal.SIGINT
    assert sorted(rest.splitlines()) == ["sink torn down", "source torn down"]


RESISTS: Final = """
import asyncio, os, sys, time
from cascata import *

@component
async def Resists():
    print("running")
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            print("resists")

@component
async def Blocks():
    print("running")
    time.sleep(60)

graph = Graph()
"""


INLINE_IN_A_LOOP: Final = """
async def cell():
    graph.run(engine='inline', grace=60)

asyncio.run(cell())
"""


@pytest.mark.parametrize("start_method", other(["forkserver"], "fork", "spawn"))
def test_a_second_ctrl_c_kills_what_resists_the_first(program: Any, start_method: str) -> None:
    running: Program = program(
        RESISTS
        + "graph.one = Resists\ngraph.two = Blocks\n"
        + f"graph.run(num_workers=2, start_method={start_method!r}, grace=60)\n"
    )
    running.lines_until("running", 2)
    running.signal_group(signal.SIGINT)
    running.lines_until("resists")
    running.signal_group(signal.SIGINT)
    code, _ = running.end()
    assert code == -signal.SIGINT


@pytest.mark.parametrize("run", ["graph.run(engine='inline', grace=60)", INLINE_IN_A_LOOP])
def test_inline_a_second_ctrl_c_leaves_what_resists_the_first(program: Any, run: str) -> None:
    running: Program = program(RESISTS + "graph.one = Resists\n" + run)
    running.lines_until("running")
    running.signal_group(signal.SIGINT)
    running.lines_until("resists")
    running.signal_group(signal.SIGINT)
    code, _ = running.end()
    assert code == -signal.SIGINT
    assert running.errors().rstrip().endswith("KeyboardInterrupt")


def test_inline_a_second_ctrl_c_interrupts_code_that_blocks(program: Any) -> None:
    """The first one only asks, which a loop that is blocked does not hear."""
    running: Program = program(RESISTS + "graph.one = Blocks\ngraph.run(engine='inline', grace=60)\n")
    running.lines_until("running")
    running.signal_group(signal.SIGINT)
    time.sleep(0.1)  # two that come at once are one
    running.signal_group(signal.SIGINT)
    code, _ = running.end()
    assert code == -signal.SIGINT
    assert running.errors().rstrip().endswith("KeyboardInterrupt")


@pytest.mark.parametrize(
    ("nodes", "options"),
    [("graph.one = Resists\ngraph.two = Blocks\n", "num_workers=2"), ("graph.one = Resists\n", "engine='inline'")],
)
def test_ctrl_c_ends_within_grace_what_resists_it(program: Any, nodes: str, options: str) -> None:
    running: Program = program(RESISTS + nodes + f"graph.run({options}, grace=0.5)\n")
    running.lines_until("running", nodes.count("graph"))
    running.signal_group(signal.SIGINT)
    code, _ = running.end(0.5 + SOON_S)
    assert code == -signal.SIGINT


@pytest.mark.parametrize("options", EVERYWHERE)
def test_ctrl_c_while_workers_start(program: Any, options: str) -> None:
    """Whenever it comes: the program ends, and soon, and nothing is left."""
    choose = random.Random(options)
    for _ in range(2):
        running: Program = program(ENDLESS + f"print('begins', flush=True)\ngraph.run({options})\n")
        running.lines_until("begins")
        time.sleep(choose.uniform(0, 0.3))
        running.signal_group(signal.SIGINT)
        code, _ = running.end()
        assert code == -signal.SIGINT, running.errors()
        assert running.errors().rstrip().endswith("KeyboardInterrupt")
        assert "inline" in options or "During handling" not in running.errors()


@on_some_engines
def test_ctrl_c_is_heard_within_what_swallows_its_exception(program: Any, options: str) -> None:
    """As at the end of an import, a callback of a weak reference: Python prints what is raised there, and goes on."""
    swallows = """
    class Swallows:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)

    class Finds:
        def find_spec(self, name, path, target=None):
            if name == "cascata.engine.run":
                Swallows()

    sys.meta_path.insert(0, Finds())
    """
    running: Program = program(ENDLESS + textwrap.dedent(swallows) + f"graph.run({options})\n")
    code, _ = running.end(4.0)
    assert code == -signal.SIGINT, running.errors()
    assert "ignored" not in running.errors()


WAITS: Final = {
    "run": "graph.run(num_workers=2)",
    "join": "graph.start(num_workers=2); graph.join()",
    "stream": "for _ in fed.stream(slow(), num_workers=2): print('running', flush=True)",
    "dag": "dag.start(grace=0.2); list(dag.stream(iter([1]), batch_size=1))",
    "stop": "dag.start(grace=0.2); next(dag.stream(iter([0, 1]), batch_size=1)); dag.stop()",
}


AROUND: Final = """
import _thread, threading
from cascata.workflow import DAG, Task

class Slow(Task):
    def do(self, batch):
        if batch[0]:
            print("running", flush=True)
            threading.Event().wait(60)
        return batch

def slow():
    yield 1
    threading.Event().wait(60)

@component
async def Same(item: In[int], out: Out[int]):
    await out.send(item)

fed = Graph()
fed.source = Source()
fed.same = Same
fed.sink = Sink()
fed.source.out >> fed.same.item
fed.same.out >> fed.sink.inp
dag = DAG()
entry, _ = dag.add_source()
dag.add_sink(dag.add(Slow(), inputs=entry))

def interrupts():
    while not os.path.exists("now"):
        time.sleep(0.01)
    _thread.interrupt_main()

threading.Thread(target=interrupts, daemon=True).start()
"""


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_is_heard_that_comes_just_before_the_main_thread_sleeps(program: Any, wait: str) -> None:
    """`interrupt_main` leaves what such a signal does: a note for the main thread, which goes on to sleep."""
    running: Program = program(ENDLESS + AROUND + WAITS[wait] + "\n")
    running.lines_until("running")
    (running.path.parent / "now").touch()
    code, _ = running.end(4.0)
    assert code == -signal.SIGINT, running.errors()


# --- SIGTERM ----------------------------------------------------------------------------------------

COUNTED: Final = """
import asyncio, os, signal, sys, threading, time
from cascata import *

def total(name):
    seen = [0]
    try:
        yield seen
    finally:
        print(name, seen[0])

@component
async def Endless(out: Out[int], sent: State[list] = State(total)):
    while True:
        await out.send(sent.value[0])
        sent.value[0] += 1

@component
async def Counts(item: In[int], received: State[list] = State(total)):
    received.value[0] += 1
    if received.value[0] == 1000:
        print("running")

graph = Graph()
graph.endless = Endless
graph.counts = Counts
endless.sent < "sent"
counts.received < "received"
endless >> counts
"""


@pytest.mark.parametrize("options", EVERYWHERE[:3])
def test_sigterm_drains_and_leaves_with_143(program: Any, options: str) -> None:
    running: Program = program(COUNTED + f"graph.run({options})\nprint('not reached')\n")
    running.lines_until("running")
    running.signal(signal.SIGTERM)
    code, rest = running.end()
    assert code == 143
    counts = dict(line.split() for line in rest.splitlines())
    assert set(counts) == {"sent", "received"}
    assert counts["sent"] == counts["received"]
    assert running.errors() == ""


def test_sigterm_ends_within_grace_what_does_not_drain(program: Any) -> None:
    running: Program = program(
        RESISTS + "graph.one = Resists\ngraph.two = Blocks\ngraph.run(num_workers=2, grace=0.5)\n"
    )
    running.lines_until("running", 2)
    running.signal(signal.SIGTERM)
    code, _ = running.end(0.5 + SOON_S)
    assert code == 143


def test_a_handler_of_the_program_is_left_alone(program: Any) -> None:
    running: Program = program(
        COUNTED
        + """
def handler(number, frame):
    print("mine")
    graph.stop()

signal.signal(signal.SIGTERM, handler)
graph.start(num_workers=2)
graph.join()
print(signal.getsignal(signal.SIGTERM) is handler)
"""
    )
    running.lines_until("running")
    running.signal(signal.SIGTERM)
    code, rest = running.end()
    assert code == 0
    assert rest.splitlines()[0] == "mine"
    assert rest.splitlines()[-1] == "True"


def test_after_a_run_sigterm_does_what_it_did_before(program: Any) -> None:
    running: Program = program(
        """
        import os, signal
        from cascata import *

        @component
        async def Once():
            pass

        graph = Graph()
        graph.once = Once
        graph.run(num_workers=1)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        os.kill(os.getpid(), signal.SIGTERM)
        """
    )
    code, _ = running.end()
    assert code == -signal.SIGTERM


def test_sigterm_ends_a_program_whose_run_was_started_elsewhere_and_the_workers_with_it(program: Any) -> None:
    running: Program = program(
        COUNTED
        + """
thread = threading.Thread(target=graph.run, kwargs={"num_workers": 2})
thread.start()
thread.join()
"""
    )
    running.lines_until("running")
    running.signal(signal.SIGTERM)
    code, _ = running.end()
    assert code == -signal.SIGTERM


# --- handlers that raise ----------------------------------------------------------------------------


def test_an_exception_of_a_signal_handler_ends_the_run(program: Any) -> None:
    running: Program = program(
        ENDLESS
        + """
class Alarm(Exception):
    pass

def handler(number, frame):
    raise Alarm

signal.signal(signal.SIGUSR1, handler)
try:
    graph.run(num_workers=2)
except Alarm:
    print("alarm")
"""
    )
    running.lines_until("running")
    running.signal(signal.SIGUSR1)
    code, rest = running.end()
    assert code == 0
    assert sorted(rest.splitlines()) == ["alarm", "sink torn down", "source torn down"]


def test_a_handler_that_does_not_raise_changes_nothing(program: Any) -> None:
    running: Program = program(
        COUNTED
        + """
signal.signal(signal.SIGUSR1, lambda number, frame: os.write(1, b"handled\\n"))
graph.run(num_workers=2)
"""
    )
    running.lines_until("running")
    for _ in range(3):
        running.signal(signal.SIGUSR1)
        running.lines_until("handled")
    running.signal(signal.SIGTERM)
    assert running.end()[0] == 143
