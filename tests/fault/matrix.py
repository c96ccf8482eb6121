"""The crash matrix: what can go wrong, when, where, and the one error that is expected of it.

    FAULTS × MOMENTS × PLACES ──> cells ──┬─> run(cell): the graph, its one error, and what is wrong with that
                                          └─> table(): the page docs/crashes.md

`python -m tests.fault.matrix` runs every cell and prints what is not as expected; words behind it choose the cells that
have them all. tests/fault/test_matrix.py runs a part that has every two things together. Workers import this module: no
pytest here.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cascata import Graph, In, Out, Sink, Source, State, component
from cascata.engine.worker.sigterm import LOADS_S
from cascata.errors import CascataError, ComponentError, RemoteError, SerializationError, WorkerDied
from tests import leaks
from tests.speed import in_time

__all__ = ["FAULTS", "MOMENTS", "PLACES", "Cell", "at_import", "cells", "covering", "run", "table"]

SOON_S: Final = 2.0
"""Seconds within which the run has ended after the fault."""

BAD: Final = 5
"""The item at which it happens."""

# --- what goes wrong --------------------------------------------------------------------------------


class OddConstructor(Exception):
    """Pickles, and cannot be unpickled: `args` do not fit its constructor."""

    def __init__(self, left: int, right: int) -> None:
        super().__init__(f"{left} and {right}")


class HoldsLock(Exception):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()


def _raise(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def _recurse() -> None:
    _recurse()


def _use_up() -> None:
    bytearray(1 << 62)


def _kill(number: int) -> Callable[[], None]:
    def act() -> None:
        os.kill(os.getpid(), number)
        time.sleep(20)

    return act


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong.

    Attributes:
        name: in the table.
        act: does it.
        raises: what it raises; None for what ends the process.
        arrives: the type of the `__cause__`, where an error crosses a process border.
        exitcode: of the process.
    """

    name: str
    act: Callable[[], Any]
    raises: type[BaseException] | None = None
    arrives: type[BaseException] | None = None
    exitcode: int | None = None


def _raising(name: str, error: BaseException, arrives: type[BaseException] | None = None) -> Fault:
    return Fault(name, _raise(error), type(error), arrives or type(error))


FAULTS: Final = {
    fault.name: fault
    for fault in (
        _raising("an exception", ValueError("as asked")),
        _raising("an exception with an odd constructor", OddConstructor(1, 2), RemoteError),
        _raising("an exception that cannot be pickled", HoldsLock(), RemoteError),
        _raising("`SystemExit`", SystemExit(3)),
        _raising("`KeyboardInterrupt`", KeyboardInterrupt()),
        _raising("`CancelledError`", asyncio.CancelledError("of its own making")),
        Fault("`MemoryError`", _use_up, MemoryError, MemoryError),
        Fault("`RecursionError`", _recurse, RecursionError, RecursionError),
        Fault("SIGKILL", _kill(signal.SIGKILL), exitcode=-signal.SIGKILL),
        Fault("SIGSEGV", lambda: ctypes.string_at(0), exitcode=-signal.SIGSEGV),
        Fault("SIGTERM to a worker", _kill(signal.SIGTERM), exitcode=-signal.SIGTERM),
        Fault("`os._exit(0)`", lambda: os._exit(0), exitcode=0),
    )
}


def happen(fault: str, clock: str) -> None:
    """Lets it go wrong, and notes when."""
    now = Path(f"{clock}.{os.getpid()}")
    now.write_text(repr(time.monotonic()), "utf-8")
    now.replace(clock)  # several workers may come here, while the first one's is read
    FAULTS[fault].act()


# --- when it goes wrong -----------------------------------------------------------------------------

_ASKED: Final = "CASCATA_MATRIX"


def at_import() -> None:
    """In the module `victim`: goes wrong if a worker imports it while the matrix asks for that."""
    asked = os.environ.get(_ASKED)
    if asked is not None:
        parent, fault, clock = asked.split("|")
        if int(parent) != os.getpid():
            happen(fault, clock)


class Pickled:
    """Goes wrong when it is pickled."""

    def __init__(self, fault: str, clock: str) -> None:
        self._how = fault, clock

    def __reduce__(self) -> Any:
        happen(*self._how)
        return int, ()


class Unpickled:
    """Goes wrong when it is unpickled."""

    def __init__(self, fault: str, clock: str) -> None:
        self._how = fault, clock

    def __reduce__(self) -> Any:
        return happen, self._how


def made(fault: str, clock: str) -> int:
    happen(fault, clock)
    return 0


def held(fault: str, clock: str) -> Iterator[int]:
    yield 0
    happen(fault, clock)


@component
async def Numbers(out: Out[int]) -> None:
    for number in range(10):
        await out.send(number)


@component
async def Runner(item: In[int], out: Out[int], fault: In[str], clock: In[str]) -> None:
    if item == BAD:
        happen(fault, clock)
    await out.send(item)


@component
async def AsyncGenerator(item: In[int], out: Out[int], fault: In[str], clock: In[str]) -> Any:
    yield item
    if item == BAD:
        happen(fault, clock)


@component
def Generator(item: In[int], out: Out[int], fault: In[str], clock: In[str]) -> Iterator[int]:
    yield item
    if item == BAD:
        happen(fault, clock)


@component(concurrency=3)
async def Concurrent(item: In[int], out: Out[int], fault: In[str], clock: In[str]) -> None:
    await asyncio.sleep(0)
    if item == BAD:
        happen(fault, clock)
    await out.send(item)


@component(thread=True)
def Thread(item: In[int], out: Out[int], fault: In[str], clock: In[str]) -> int:
    if item == BAD:
        happen(fault, clock)
    return item


@component(thread=True)
def ThreadGenerator(item: In[int], out: Out[int], fault: In[str], clock: In[str]) -> Iterator[int]:
    yield item
    if item == BAD:
        happen(fault, clock)


@component
async def Made(item: In[int], out: Out[int], state: State[int] = State(made)) -> None:
    await out.send(item)


@component
async def Held(item: In[int], out: Out[int], state: State[int] = State(held)) -> None:
    await out.send(item)


@component
async def SendsPickled(item: In[int], out: Out[Any], fault: In[str], clock: In[str]) -> None:
    await out.send(Pickled(fault, clock) if item == BAD else item)


@component
async def SendsUnpickled(item: In[int], out: Out[Any], fault: In[str], clock: In[str]) -> None:
    await out.send(Unpickled(fault, clock) if item == BAD else item)


@component
async def Swallow(item: In[Any]) -> None:
    pass


@component
async def Pass(item: In[Any], out: Out[Any]) -> None:
    await out.send(item)


def chain(node: Any, *, state: bool = False) -> Callable[[str, str], Graph]:
    """numbers → faulty → swallow, the faulty node on worker 1 where there is one."""

    def build(fault: str, clock: str) -> Graph:
        graph = Graph()
        graph.numbers = Numbers
        graph.faulty = node
        graph.swallow = Swallow
        graph.numbers.out >> graph.faulty.item
        graph.faulty.out >> graph.swallow.item
        for name, worker in (("numbers", 0), ("faulty", 1), ("swallow", 0)):
            graph.pin(graph.nodes[name], worker)
        if state:
            graph.faulty.state < (fault, clock)
        else:
            graph.faulty.fault < fault
            graph.faulty.clock < clock
        return graph

    return build


def importing(fault: str, clock: str) -> Graph:
    victim = importlib.import_module("tests.fault.victim")
    os.environ[_ASKED] = f"{os.getpid()}|{fault}|{clock}"
    graph = Graph()
    graph.numbers = Numbers
    graph.faulty = victim.Victim
    graph.numbers.out >> graph.faulty.item
    graph.pin(graph.numbers, 0)
    graph.pin(graph.faulty, 1)
    return graph


def through(fault: str, clock: str) -> Graph:
    graph = Graph()
    graph.source = Source()
    graph.passes = Pass
    graph.sink = Sink()
    graph.source.out >> graph.passes.item
    graph.passes.out >> graph.sink.inp
    return graph


def run_graph(graph: Graph, options: dict[str, Any], fault: str, clock: str) -> None:
    graph.run(**options)


def feed_badly(graph: Graph, options: dict[str, Any], fault: str, clock: str) -> None:
    def numbers() -> Iterator[int]:
        yield from range(BAD)
        happen(fault, clock)

    for _ in graph.stream(numbers(), **options):
        pass


def read_badly(graph: Graph, options: dict[str, Any], fault: str, clock: str) -> None:
    results = graph.stream(range(10), **options)
    try:
        for value in results:
            if value == BAD:
                happen(fault, clock)
    finally:
        results.close()


@dataclass(frozen=True, slots=True)
class Moment:
    """When it goes wrong.

    Attributes:
        name: in the table.
        graph: makes the graph.
        raised: the error for what is raised; None for the very exception itself.
        item: what `ComponentError.item` says.
        worker: which worker dies.
        nodes: the nodes of the worker that dies.
        drive: runs the graph.
        places: where it can happen; all places when empty.
        dies: whether a worker can die then.
        everywhere: whether it happens on every worker.
    """

    name: str
    graph: Callable[[str, str], Graph]
    raised: type[CascataError] | None = ComponentError
    item: str | None = str(BAD)
    worker: int = 1
    nodes: tuple[str, ...] = ("faulty",)
    drive: Callable[[Graph, dict[str, Any], str, str], None] = run_graph
    places: tuple[str, ...] = ()
    dies: bool = True
    everywhere: bool = False


_CLEAN: Final = ("forkserver", "spawn")
_PROCESSES: Final = ("forkserver", "fork", "spawn")

MOMENTS: Final = {
    moment.name: moment
    for moment in (
        Moment("import of your module", importing, item=None, places=_CLEAN, everywhere=True),
        Moment("initializer of a state", chain(Made, state=True), item=None),
        Moment("runner", chain(Runner)),
        Moment("runner with `concurrency=`", chain(Concurrent)),
        Moment("runner that yields", chain(Generator)),
        Moment("`async` runner that yields", chain(AsyncGenerator)),
        Moment("runner in a thread", chain(Thread)),
        Moment("runner in a thread that yields", chain(ThreadGenerator)),
        Moment("pickling an item", chain(SendsPickled), SerializationError, places=_PROCESSES),
        Moment(
            "unpickling an item",
            chain(SendsUnpickled),
            SerializationError,
            worker=0,
            nodes=("numbers", "swallow"),
            places=_PROCESSES,
        ),
        Moment("teardown of a state", chain(Held, state=True), item=None),
        Moment("your iterable that feeds a `Source`", through, None, drive=feed_badly, dies=False),
        Moment("your loop that reads a `Sink`", through, None, drive=read_badly, dies=False),
    )
}

PLACES: Final[dict[str, dict[str, Any]]] = {
    "inline": {"engine": "inline"},
    **{method: {"num_workers": 2, "start_method": method} for method in _PROCESSES},
}
"""Engines and start methods."""


_COST: Final = {"inline": 0, "fork": 1, "forkserver": 1, "spawn": 2}


@dataclass(frozen=True, slots=True)
class Cell:
    """One of the matrix: what, when and where."""

    fault: str
    moment: str
    place: str

    def __str__(self) -> str:
        return f"{self.fault} · {self.moment} · {self.place}".replace("`", "")


def cells() -> list[Cell]:
    """All of them. What ends the process ends the program where there is no other one: no cell."""
    return [
        Cell(fault.name, moment.name, place)
        for moment in MOMENTS.values()
        for fault in FAULTS.values()
        for place in moment.places or PLACES
        if fault.raises is not None or (moment.dies and place != "inline")
    ]


def covering() -> list[Cell]:
    """Few of them: every fault at every moment, every moment at every place, every fault at every place."""
    everything = cells()
    wanted = {
        pair
        for cell in everything
        for pair in ((cell.fault, cell.moment), (cell.moment, cell.place), (cell.fault, cell.place))
    }
    chosen: list[Cell] = []
    cost = {"inline": 0, "fork": 1, "forkserver": 1, "spawn": 3}

    def worth(cell: Cell) -> float:
        pairs = {(cell.fault, cell.moment), (cell.moment, cell.place), (cell.fault, cell.place)}
        return len(pairs & wanted) - 0.3 * cost[cell.place]

    while wanted:
        best = max(everything, key=worth)
        chosen.append(best)
        wanted -= {(best.fault, best.moment), (best.moment, best.place), (best.fault, best.place)}
    return sorted(chosen, key=everything.index)


# --- one cell ---------------------------------------------------------------------------------------


def run(cell: Cell, folder: Path) -> list[str]:
    """Runs a cell.

    Args:
        cell: which.
        folder: for a file of its own.

    Returns:
        What is not as expected, a line each.
    """
    fault, moment = FAULTS[cell.fault], MOMENTS[cell.moment]
    clock = folder / "clock"
    error: BaseException | None = None
    try:
        moment.drive(moment.graph(cell.fault, str(clock)), PLACES[cell.place], cell.fault, str(clock))
    except BaseException as raised:
        error = raised
    finally:
        ended = time.monotonic()
        os.environ.pop(_ASKED, None)
    if error is None:
        return ["the run succeeded"]
    wrong = [*_differences(error, fault, moment, cell.place)]
    if not clock.exists():
        wrong.append("it never happened")
    else:
        happened = float(clock.read_text("utf-8"))
        if not in_time(SOON_S + (LOADS_S if "SIGTERM" in fault.name else 0), since=happened, until=ended):
            wrong.append(f"the run ended {ended - happened:.1f} s after it")
    if wrong:
        wrong.append("".join(traceback.format_exception(error)))
    return wrong


def _differences(error: BaseException, fault: Fault, moment: Moment, place: str) -> Iterator[str]:
    inline = place == "inline"
    if fault.raises is not None and moment.raised is None:
        if type(error) is not fault.raises:
            yield f"raised {error!r}, not the very {fault.raises.__name__}"
        return
    expected = moment.raised if fault.raises is not None else WorkerDied
    assert expected is not None  # what ends a process ends a worker
    if type(error) is not expected:
        yield f"raised {type(error).__name__}, not {expected.__name__}"
        return
    assert isinstance(error, CascataError)
    if error.others and not (moment.everywhere and {type(each) for each in error.others} == {expected}):
        yield f"more than one error: {error.others}"
    if hasattr(error, "__notes__"):
        yield f"notes: {error.__notes__}"
    if isinstance(error, WorkerDied):
        told: Any = error.worker, error.exitcode, error.nodes
        expect = [(moment.worker, fault.exitcode, moment.nodes)]
        if moment.everywhere:
            expect.append((0, fault.exitcode, ("numbers",)))
        if told not in expect:
            yield f"worker, exitcode and nodes are {told}"
        return
    if isinstance(error, ComponentError):
        told = error.node, error.worker, error.item
        workers = (0, 1) if moment.everywhere else (0 if inline else moment.worker,)
        if told not in [("faulty", worker, moment.item) for worker in workers]:
            yield f"node, worker and item are {told}"
    if isinstance(error, SerializationError) and (error.node, error.port) != ("faulty", "out"):
        yield f"node and port are {error.node}, {error.port}"
    arrives = fault.raises if inline else fault.arrives
    if type(error.__cause__) is not arrives:
        yield f"the cause is {error.__cause__!r}"
    if ", in happen" not in "".join(traceback.format_exception(error)):
        yield "the original traceback is missing"


# --- the table --------------------------------------------------------------------------------------


def table() -> str:
    """The matrix in Markdown: faults that end alike stand in one column."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for fault in FAULTS.values():
        alike.setdefault(tuple(_told(fault, moment) for moment in MOMENTS.values()), []).append(fault.name)
    rows = [["", *(", ".join(names) for names in alike.values())], ["---"] * (len(alike) + 1)]
    rows += [[name, *column] for name, *column in zip(MOMENTS, *alike, strict=True)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _told(fault: Fault, moment: Moment) -> str:
    """The expected end, in the table's words."""
    if fault.raises is None:
        if not moment.dies:
            return "your program dies, and its workers with it"
        return "`WorkerDied`" + (", perhaps several" if moment.everywhere else "")
    if moment.raised is None:
        return "the very exception"
    return f"`{moment.raised.__name__}`" + (", perhaps several" if moment.everywhere else "")


def main() -> int:
    """Runs every cell; says what is not as expected."""
    leaks.adopt_orphans()
    chosen = [cell for cell in cells() if all(word in str(cell) for word in sys.argv[1:])]
    failures = 0
    for number, cell in enumerate(chosen, 1):
        before = leaks.take()
        with tempfile.TemporaryDirectory() as folder:
            wrong = run(cell, Path(folder))
        wrong += [f"left behind: {what}" for what in leaks.left_since(before)]
        failures += bool(wrong)
        print(
            f"{number}/{len(chosen)} {cell}: {'as expected' if not wrong else chr(10) + chr(10).join(wrong)}",
            flush=True,
        )
    print(f"{len(chosen) - failures} of {len(chosen)} as expected")
    return bool(failures)


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        sys.exit(importlib.import_module("tests.fault.matrix").main())
