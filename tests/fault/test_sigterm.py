"""SIGTERM drains every run that was started in the main thread, and ends the program with 143."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing
from typing import Any, Final

import pytest

from cascata import Graph, In, Out, Sink, Source, component
from tests.cells import matrix
from tests.programs import Program

LONG_S: Final = 100.0

IDLE: Final = """
import asyncio, logging, os, signal, sys, threading, time
from cascata import *
from cascata.workflow import DAG, Task
from contextlib import aclosing

def held():
    try:
        yield
    finally:
        print("torn down")

@component
async def Waits(out: Out[str], state: State[None] = State(held)):
    await out.send("running")
    try:
        await asyncio.Event().wait()
    finally:
        await out.send("last")

@component
async def Prints(item: In[str], state: State[None] = State(held)):
    print(item)

@component
async def Same(item: In[str], out: Out[str]):
    await out.send(item)

class Slow(Task):
    def do(self, batch):
        print("running")
        time.sleep(0.3)
        return batch

graph = Graph()
graph.waits = Waits
graph.prints = Prints
graph.waits >> graph.prints

fed = Graph()
fed.source = Source()
fed.same = Same
fed.sink = Sink()
fed.waits = Waits
fed.source.out >> fed.same.item
fed.waits.out >> fed.same.item
fed.same.out >> fed.sink.inp

def blocks():
    yield "fed"
    threading.Event().wait(60)

async def opened(**options):
    async with fed.open(**options) as live:
        async for value in live.sink:
            print(value)
    print("not reached")

async def serving(**options):
    async with fed.open(**options) as live:
        print(await anext(aiter(live.sink)))
        try:
            await asyncio.sleep(60)
        finally:
            print("left")

async def streamed(**options):
    async with aclosing(fed.astream(blocks(), **options)) as values:
        async for value in values:
            print(value)

async def nested(**options):
    async with fed.open(**options) as outer:
        await outer.source.send("kept")
        async with fed.open(**options) as inner:
            async for value in inner.sink:
                print(value)
        async for value in outer.sink:
            print("outer", value)
    print("not reached")

async def both(**options):
    await asyncio.gather(graph.run_async(**options), graph.run_async(**options))

def dag(**options):
    with DAG() as dag:
        source, queue = dag.add_source()
        sink = dag.add_sink(dag.add(Slow(), inputs=source))
        dag.start(**options)
        ways = {"source_queues": queue, "sink_queues": sink}
        for _, message in dag.stream(iter(range(1000)), **ways, batch_size=1, max_inflight=2):
            pass
"""

WAYS: Final = {
    "run": "graph.run(**options)",
    "started, and slept": "graph.start(**options); time.sleep(60)",
    "join": "graph.start(**options); graph.join()",
    "run_async": "asyncio.run(graph.run_async(**options))",
    "two at once": "asyncio.run(both(**options))",
    "open": "asyncio.run(opened(**options))",
    "open, and wait": "asyncio.run(serving(**options))",
    "astream": "asyncio.run(streamed(**options))",
    "stream": "for value in fed.stream(blocks(), **options): print(value)",
    "dag": "dag(**options)",
}

GRACE_S: Final = 2.0

LATE_S: Final = 4.0
"""Seconds that a slow machine may take for the rest."""


def sigterm(running: Program, way: str, *, group: bool) -> list[str]:
    """Sends it to a program that is at work; the lines that it prints then. It ends with 143, and quietly."""
    running.lines_until("running", 2 if way == "two at once" else 1)
    if group:
        running.signal_group(signal.SIGTERM)
    else:
        running.signal(signal.SIGTERM)
    code, rest = running.end(2 * GRACE_S + LATE_S)
    assert (code, running.errors()) == (143, "")
    return rest.splitlines()


ON_WORKERS: Final[list[tuple[str, dict[str, Any]]]] = [(way, {"num_workers": 2}) for way in WAYS]
HERE: Final = [
    *((way, {"engine": "inline"}) for way in ("join", "open")),
    *(matrix(way, {"engine": "inline"}) for way in ("run", "run_async", "stream")),
]


@pytest.mark.parametrize(("way", "options"), [*ON_WORKERS, *HERE])
def test_sigterm_to_the_group_drains_every_way_to_run(program: Any, way: str, options: dict[str, Any]) -> None:
    running = program(IDLE + f"options = {options | {'grace': GRACE_S}}\n{WAYS[way]}\nprint('not reached')\n")
    lines = sigterm(running, way, group=True)
    assert "not reached" not in lines
    if way == "open, and wait":
        assert lines == ["torn down", "left"]
    elif way != "dag":
        assert lines.count("last") == (2 if way == "two at once" else 1)
        states = {"two at once": 4, "open": 1, "stream": 1, "astream": 1}.get(way, 2)
        assert lines.count("torn down") == states


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_sigterm_to_the_group_drains_however_workers_start(program: Any, start_method: str) -> None:
    running = program(IDLE + f"graph.run(num_workers=2, start_method={start_method!r}, grace={GRACE_S})\n")
    assert sorted(sigterm(running, "run", group=True)) == ["last", "torn down", "torn down"]


def test_sigterm_to_the_group_drains_on_the_portable_transport(program: Any) -> None:
    running = program(IDLE + f"graph.run(num_workers=2, grace={GRACE_S})\n", CASCATA_TRANSPORT="portable")
    assert sorted(sigterm(running, "run", group=True)) == ["last", "torn down", "torn down"]


def test_sigterm_logs_the_report(program: Any) -> None:
    running = program(
        IDLE + f"import cascata.log; cascata.log.show('INFO')\ngraph.run(num_workers=2, grace={GRACE_S})\n"
    )
    running.lines_until("running")
    running.signal(signal.SIGTERM)
    assert running.end(2 * GRACE_S + LATE_S)[0] == 143
    assert "1 edge, 2 items sent, all delivered" in running.errors()


def test_two_signals_at_once_are_one_and_a_later_one_cancels(program: Any) -> None:
    """`timeout` sends one to the program and one to its group."""
    running = program(IDLE + "graph.run(num_workers=2, grace=60)\n")
    running.lines_until("running")
    running.descendants()
    for _ in range(2):
        os.killpg(running.process.pid, signal.SIGTERM)
    time.sleep(0.8)
    assert running.process.poll() is None  # it drains: half of its grace has not passed
    running.signal(signal.SIGTERM)
    code, rest = running.end(LATE_S)
    assert (code, sorted(rest.splitlines())) == (143, ["torn down", "torn down"])


def test_ctrl_c_is_heard_while_a_run_drains(program: Any) -> None:
    running = program(IDLE + "graph.run(num_workers=2, grace=60)\n")
    running.lines_until("running")
    running.signal(signal.SIGTERM)
    time.sleep(0.2)
    running.signal_group(signal.SIGINT)
    code, rest = running.end(LATE_S)
    assert code == -signal.SIGINT
    assert rest.splitlines().count("torn down") == 2


def test_workers_wait_for_a_program_that_has_a_handler_of_its_own(program: Any) -> None:
    running = program(
        IDLE
        + f"""
signal.signal(signal.SIGTERM, lambda *_: threading.Timer(1.5, graph.stop).start())
graph.start(num_workers=2, grace={GRACE_S})
report = graph.join()
print("sent", report.nodes["waits"].sent)
"""
    )
    running.lines_until("running")
    running.signal_group(signal.SIGTERM)
    code, rest = running.end(2 * GRACE_S + LATE_S)
    assert (code, rest.splitlines()[-1]) == (0, "sent 2"), running.errors()


def test_a_failure_while_a_run_drains_is_logged(program: Any) -> None:
    running = program(
        IDLE
        + f"""
@component
async def Fails(item: In[str]):
    if item == "last":
        raise ValueError("as asked")
    print(item)

graph.fails = Fails
graph.waits.out >> graph.fails.item
import cascata.log; cascata.log.show()
graph.run(num_workers=2, grace={GRACE_S})
"""
    )
    running.lines_until("running", 2)
    running.signal(signal.SIGTERM)
    assert running.end(2 * GRACE_S + LATE_S)[0] == 143
    assert "as asked" in running.errors()


BEGINS: Final = """
class Slow:
    def __reduce__(self):
        return load, ()

def load():
    import time
    print("loading", flush=True)
    time.sleep(0.3)

@component
async def Given(value: In[Slow | None], out: Out[str]):
    await out.send("given")

graph.given = Given
graph.given.value < Slow()
graph.given.out >> graph.prints.item
import cascata.log; cascata.log.show("INFO")
"""


LOADS: Final = "when a worker loads"
ASKED: Final = "when all have just been asked for"


@pytest.mark.parametrize(
    ("start_method", "moment"),
    [
        ("forkserver", LOADS),
        ("spawn", ASKED),
        ("fork", ASKED),  # what is forked loads nothing
        ("portable", LOADS),
        matrix("forkserver", ASKED),
        matrix("spawn", LOADS),
        matrix("portable", ASKED),
    ],
)
def test_sigterm_to_the_group_drains_a_run_whose_workers_begin(program: Any, start_method: str, moment: str) -> None:
    environment = {"CASCATA_TRANSPORT": "portable"} if start_method == "portable" else {}
    options = {"num_workers": 2, "grace": GRACE_S} | ({} if environment else {"start_method": start_method})
    running = program(
        IDLE + BEGINS + f"graph.start(**{options})\nprint('asked for', flush=True)\ngraph.join()\n", **environment
    )
    running.lines_until("loading" if moment == LOADS else "asked for")
    running.signal_group(signal.SIGTERM)
    code, _ = running.end(2 * GRACE_S + LATE_S)
    assert code == 143
    assert "SIGTERM: the run was stopped\n" in running.errors()  # with its report: nobody died


SAVES: Final = """
@component
async def Saves(out: Out[str]):
    import atexit
    def save():
        import os, time
        os.write(1, b"saving" + bytes([10]))
        time.sleep(1.5)
        os.write(1, b"saved" + bytes([10]))
    atexit.register(save)
    await out.send("sent")

graph.saves = Saves
graph.saves.out >> graph.prints.item
"""


@pytest.mark.parametrize("transport", ["", "portable"])
def test_sigterm_to_the_group_lets_a_worker_save_that_has_finished(program: Any, transport: str) -> None:
    running = program(IDLE + SAVES + f"graph.run(num_workers=3, grace={GRACE_S})\n", CASCATA_TRANSPORT=transport)
    running.lines_until("saving")
    running.signal_group(signal.SIGTERM)
    code, rest = running.end(2 * GRACE_S + LATE_S)
    assert (code, running.errors()) == (143, "")
    assert "saved" in rest.splitlines()


def test_a_child_that_is_forked_when_sigterm_has_come_begins_anew(script: Any) -> None:
    program = """
    import os
    from cascata.engine.sigterm import _sigterm

    _sigterm.came, _sigterm.times, _sigterm.kicked = 1.0, 3, True
    if (pid := os.fork()) == 0:
        print(_sigterm.came, _sigterm.times, _sigterm.kicked, _sigterm.pid == os.getpid(), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    """
    assert script.prints(program) == ["None 0 False True"]


@pytest.mark.parametrize("options", [{"num_workers": 1}, {"engine": "inline"}], ids=["processes", "inline"])
def test_sigterm_does_not_lose_what_the_block_around_another_one_has_to_read(
    program: Any, options: dict[str, Any]
) -> None:
    running = program(IDLE + f"asyncio.run(nested(**{options | {'grace': GRACE_S}}))\n")
    lines = sigterm(running, "nested", group=True)
    assert "not reached" not in lines
    assert "outer kept" in lines


def test_sigterm_ends_a_loop_in_which_one_task_blocks_and_another_has_a_run(program: Any) -> None:
    running = program(
        IDLE
        + f"""
async def held(ready, **options):
    async with fed.open(**options) as live:
        print(await anext(aiter(live.sink)))
        ready.set()
        await asyncio.sleep(60)

async def main():
    options = {{"engine": "inline", "grace": {GRACE_S}}}
    ready = asyncio.Event()
    task = asyncio.create_task(held(ready, **options))
    await ready.wait()
    graph.run(**options)  # in this very loop: the other task cannot go on meanwhile

asyncio.run(main())
"""
    )
    running.lines_until("running", 2)
    running.signal(signal.SIGTERM)
    code, _ = running.end(2 * GRACE_S + LATE_S)
    assert code == 143


def ends_by(pid: int) -> int:
    """The signal that a child dies of."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def forked_and_terminated() -> int:
    """What a child ends by that got SIGTERM; 0 if it handles that."""
    waits_r, waits_w = os.pipe()
    child = os.fork()
    if not child:
        os.write(waits_w, b"." * (signal.getsignal(signal.SIGTERM) is signal.SIG_DFL))
        os.close(waits_w)
        time.sleep(LONG_S)
        os._exit(0)
    os.close(waits_w)
    with os.fdopen(waits_r, "rb") as file:
        has_the_default = file.read() == b"."
    os.kill(child, signal.SIGTERM)
    return ends_by(child) if has_the_default else 0


@component
async def Forks(out: Out[int]) -> None:
    await out.send(forked_and_terminated())


@component
async def Same(number: In[int], out: Out[int]) -> None:
    await out.send(number)


@pytest.mark.parametrize("transport", ["linux", "portable"])
def test_a_process_that_a_component_or_its_program_forks_dies_of_sigterm_at_once(
    transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if transport == "portable":
        monkeypatch.setenv("CASCATA_TRANSPORT", "portable")
    graph = Graph()
    graph.source = Source
    graph.forks = Forks
    graph.same = Same
    graph.results = Sink
    graph.source.out >> graph.same.number
    graph.same.out >> graph.results.inp
    graph.forks.out >> graph.results.inp
    with closing(graph.stream([1], num_workers=1, start_method="forkserver", timeout=60.0)) as results:
        first = next(results)
        assert forked_and_terminated() == -signal.SIGTERM
        assert sorted([first, *results]) == [-signal.SIGTERM, 1]
