"""Runs that cannot begin: a thing that a start makes, or waits for, fails, dies at once or never answers.

A cell is a fault, an entry point and a start method. In each the call raises one error, soon: within the run's
`timeout` where something does not answer, at once otherwise. Then no process, thread or fd of the run is left.

    python -m tests.fault.begin                 every cell, some minutes
    python -m tests.fault.begin stream spawn    those whose names have these words

Faults come from outside: an interpreter that is none, signals to processes found in /proc, blocked signals. Where the
system would have to be short of something, the n-th call of a public function of the standard library that asks for it
fails, for every n.
"""

from __future__ import annotations

import asyncio
import errno
import importlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import multiprocess.spawn

from cascata import Graph, In, Out, Sink, Source, component
from cascata.errors import CascataError, RunTimeout
from cascata.workflow import DAG, Task
from tests import leaks
from tests.processes import below, children
from tests.speed import in_time

TIMEOUT_S: Final = 1.0
"""The `timeout` of a run in which something does not answer."""

SOON_S: Final = 8.0
"""Seconds that an error may take besides: the machine may be slow."""

HELD: Final = threading.Event()
"""Is never set."""


@component
async def Double(x: In[int], y: Out[int]) -> None:
    await y.send(2 * x)


@component
async def Numbers(out: Out[int]) -> None:
    for number in range(50):
        await out.send(number)


class Doubles(Task):
    """Doubles."""

    def do(self, batch: list[int]) -> list[int]:
        return [2 * each for each in batch]


class Held:
    """Cannot be pickled, and does not say so: it waits."""

    def __reduce__(self) -> Any:
        HELD.wait()
        return int, ()


def fed(value: Any = None) -> Graph:
    graph = Graph()
    graph.source, graph.double, graph.sink = Source(), Double, Sink()
    graph.source.out >> graph.double.x
    graph.double.y >> graph.sink.inp
    if value is not None:
        graph.source.out >> graph.add(Keep, "keep").x
        graph.keep.held < value
    return graph


@component
async def Keep(x: In[int], held: In[Any] = None) -> None:
    pass


def free(value: Any = None) -> Graph:
    graph = Graph()
    graph.numbers, graph.keep = Numbers, Keep
    graph.numbers.out >> graph.keep.x
    if value is not None:
        graph.keep.held < value
    return graph


# --- entry points -----------------------------------------------------------------------------------


def run(options: dict[str, Any], value: Any) -> None:
    free(value).run(**options)


def run_async(options: dict[str, Any], value: Any) -> None:
    asyncio.run(free(value).run_async(**options))


def start(options: dict[str, Any], value: Any) -> None:
    graph = free(value)
    graph.start(**options)
    graph.join()


def stream(options: dict[str, Any], value: Any) -> None:
    assert len(list(fed(value).stream(range(50), **options))) == 50


def astream(options: dict[str, Any], value: Any) -> None:
    async def read() -> int:
        return len([each async for each in fed(value).astream(range(50), **options)])

    assert asyncio.run(read()) == 50


def opened(options: dict[str, Any], value: Any) -> None:
    async def call() -> Any:
        async with fed(value).open(**options) as live:
            return await live.call(21)

    assert asyncio.run(call()) == 42


def mapped(options: dict[str, Any], value: Any) -> None:
    task_kwargs = None if value is None else {"held": value}
    assert len(list(Doubles().map(range(50), batch_size=10, task_kwargs=task_kwargs, **options))) == 5


def dag(options: dict[str, Any], value: Any) -> None:
    with DAG() as made:
        data, queue = made.add_source()
        made.add_sink(made.add(Doubles(), inputs=data, task_kwargs={} if value is None else {"held": value}))
        made.start(**options)
        assert len(list(made.stream(range(50), source_queues=queue, sink_queues=made._sinks[0]))) == 5


ENTRIES: Final[dict[str, Callable[[dict[str, Any], Any], None]]] = {
    "run": run,
    "run_async": run_async,
    "start": start,
    "stream": stream,
    "astream": astream,
    "open": opened,
    "map": mapped,
    "dag": dag,
}

PLACES: Final[dict[str, dict[str, Any]]] = {
    "forkserver": {"num_workers": 2, "start_method": "forkserver"},
    "spawn": {"num_workers": 2, "start_method": "spawn"},
    "fork": {"num_workers": 2, "start_method": "fork"},
    "portable": {"num_workers": 2, "start_method": "spawn"},
    "portable-forkserver": {"num_workers": 2, "start_method": "forkserver"},
    "inline": {"engine": "inline"},
}

BOOTS: Final = ("forkserver", "spawn", "portable", "portable-forkserver")
"""Where an interpreter is started."""

SERVED: Final = ("forkserver", "portable-forkserver")


# --- faults -----------------------------------------------------------------------------------------


@contextmanager
def interpreter(text: str | None, mode: int = 0o755) -> Iterator[None]:
    """What processes are started with is this shell script; None: nothing that exists."""
    before = sys.executable, multiprocess.spawn.get_executable()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "python"
        if text is not None:
            path.write_text(f"#!/bin/sh\n{text}\n", "utf-8")
            path.chmod(mode)
        sys.executable = str(path)
        multiprocess.set_executable(sys.executable)
        try:
            yield
        finally:
            sys.executable = before[0]
            multiprocess.set_executable(before[1])


@contextmanager
def signalled(number: int, depth: int) -> Iterator[None]:
    """Each process that the run starts, so many levels below this one, gets a signal at once."""
    own = Path("/proc/self/cmdline").read_bytes()
    execs = number == signal.SIGSTOP and depth == 1
    mine = set(below(os.getpid()))
    over = threading.Event()

    def look() -> None:
        parents = {os.getpid()}
        while not over.is_set():
            level = parents
            for _ in range(depth):
                level = {pid for parent in level for pid in children(parent)} - mine
            for pid in level:
                with suppress(OSError):
                    # Before its `exec`, a child of `vfork` holds this whole process: stopped there, it would for ever.
                    if execs and Path(f"/proc/{pid}/cmdline").read_bytes() == own:
                        continue
                    os.kill(pid, number)
                    if depth == 1:
                        mine.add(pid)
            over.wait(0.0005)

    watching = threading.Thread(target=look)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


@contextmanager
def blocked(number: int) -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def ignored(number: int) -> Iterator[None]:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


@contextmanager
def nothing() -> Iterator[None]:
    yield


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong.

    Attributes:
        name: in the table.
        happens: the block in which it does.
        error: what is raised; None: nothing, the run works.
        says: words of the error, by place, or for all.
        places: where it can happen.
        value: what a node holds.
        hangs: whether something does not answer, so that `timeout` ends the run.
    """

    name: str
    happens: Callable[[], Any]
    error: type[BaseException] | None
    says: str = ""
    places: tuple[str, ...] = BOOTS
    value: Callable[[], Any] = lambda: None
    hangs: bool = False


FAULTS: Final = {
    fault.name: fault
    for fault in (
        Fault("no fault", nothing, None, places=tuple(PLACES)),
        Fault("interpreter fails", lambda: interpreter("echo cannot >&2; exit 3"), CascataError, "3"),
        Fault("interpreter says why", lambda: interpreter("echo cannot >&2; exit 3"), CascataError, "cannot", SERVED),
        Fault("interpreter does nothing", lambda: interpreter("echo hello; exit 0"), CascataError, "0"),
        Fault("interpreter hangs", lambda: interpreter("exec sleep 600"), RunTimeout, "process", hangs=True),
        Fault("interpreter is missing", lambda: interpreter(None), CascataError, ""),
        Fault("interpreter is no program", lambda: interpreter("", 0o644), CascataError, ""),
        Fault("processes are killed", lambda: signalled(signal.SIGKILL, 1), CascataError, places=(*BOOTS, "fork")),
        Fault(
            "processes are stopped",
            lambda: signalled(signal.SIGSTOP, 1),
            RunTimeout,
            hangs=True,
        ),
        Fault("workers of the server are killed", lambda: signalled(signal.SIGKILL, 2), CascataError, places=SERVED),
        Fault(
            "workers of the server are stopped",
            lambda: signalled(signal.SIGSTOP, 2),
            RunTimeout,
            places=SERVED,
            hangs=True,
        ),
        Fault("a constant blocks in pickle", nothing, RunTimeout, "packing", BOOTS, Held, hangs=True),
        Fault("SIGCHLD blocked", lambda: blocked(signal.SIGCHLD), None, places=(*BOOTS, "fork")),
        Fault("SIGCHLD ignored", lambda: ignored(signal.SIGCHLD), None, places=(*BOOTS, "fork")),
    )
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One of the table."""

    fault: str
    entry: str
    place: str

    def __str__(self) -> str:
        return f"{self.fault} · {self.entry} · {self.place}"


def cells() -> list[Cell]:
    """All of them."""
    return [
        Cell(fault.name, entry, place)
        for fault in FAULTS.values()
        for entry in ENTRIES
        for place in fault.places
        if place in PLACES
    ]


@contextmanager
def transport(place: str) -> Iterator[None]:
    if not place.startswith("portable"):
        yield
        return
    os.environ["CASCATA_TRANSPORT"] = "portable"
    try:
        yield
    finally:
        del os.environ["CASCATA_TRANSPORT"]


def check(cell: Cell) -> list[str]:
    """Runs a cell.

    Returns:
        What is not as expected, a line each.
    """
    fault = FAULTS[cell.fault]
    options: dict[str, Any] = {**PLACES[cell.place], "timeout": TIMEOUT_S if fault.hangs else 40.0, "grace": 1.0}
    if cell.entry in ("map", "dag") and "num_workers" in options:
        options["num_workers"] = 1
    before = leaks.take()
    error: BaseException | None = None
    with transport(cell.place):
        began = time.monotonic()
        try:
            with fault.happens():
                ENTRIES[cell.entry](options, fault.value())
        except BaseException as raised:
            error = raised
        ended = time.monotonic()
    wrong = [*_differences(fault, error)]
    within = SOON_S + (TIMEOUT_S if fault.hangs else 0.0)
    if fault.error is not None and not in_time(within, since=began, until=ended):
        wrong.append(f"it took {ended - began:.1f} s")
    if wrong and error is not None:
        wrong.append("".join(traceback.format_exception(error)))
    if error is not None:
        traceback.clear_frames(error.__traceback__)
    del error
    left = leaks.left_since(before)
    if fault.value is Held:  # a thread that the user's own code holds is left behind: nothing can end it
        left = [each for each in left if "cascata-begin" not in each]
    return wrong + [f"left behind: {each}" for each in left]


def _differences(fault: Fault, error: BaseException | None) -> Iterator[str]:
    if fault.error is None:
        if error is not None:
            yield f"raised {error!r}"
        return
    if not isinstance(error, fault.error):
        yield f"raised {error!r}, not {fault.error.__name__}"
    elif fault.says not in str(error):
        yield f"the error does not say {fault.says!r}"


# --- what the system may not have -------------------------------------------------------------------

SHORT: Final[dict[str, tuple[Any, str, Callable[[], BaseException]]]] = {
    name: (owner, attribute, raises)
    for name, owner, attribute, raises in (
        ("pipe2", os, "pipe2", lambda: OSError(errno.EMFILE, "too many open files")),
        ("memfd_create", os, "memfd_create", lambda: OSError(errno.EMFILE, "too many open files")),
        ("eventfd", os, "eventfd", lambda: OSError(errno.EMFILE, "too many open files")),
        ("socketpair", socket, "socketpair", lambda: OSError(errno.EMFILE, "too many open files")),
        ("dup", os, "dup", lambda: OSError(errno.EMFILE, "too many open files")),
        ("pidfd_open", os, "pidfd_open", lambda: OSError(errno.EMFILE, "too many open files")),
        ("ftruncate", os, "ftruncate", lambda: OSError(errno.ENOMEM, "cannot allocate memory")),
        ("fork", os, "fork", lambda: BlockingIOError(errno.EAGAIN, "resource temporarily unavailable")),
        ("Popen", subprocess.Popen, "__init__", lambda: BlockingIOError(errno.EAGAIN, "no more processes")),
        ("thread", threading.Thread, "start", lambda: RuntimeError("can't start new thread")),
        ("send_fds", socket, "send_fds", lambda: OSError(errno.ENOBUFS, "no buffer space")),
        ("getcwd", os, "getcwd", MemoryError),
    )
}


def fails_at(what: str, number: int, entry: str, place: str) -> tuple[bool, list[str]]:
    """Runs with the `number`-th call of something failing.

    Returns:
        Whether there was such a call, and what is not as expected.
    """
    owner, attribute, raises = SHORT[what]
    original = getattr(owner, attribute)
    calls = 0

    def maybe(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            raise raises()
        return original(*args, **kwargs)

    before = leaks.take()
    error: BaseException | None = None
    with transport(place):
        setattr(owner, attribute, maybe)
        began = time.monotonic()
        try:
            ENTRIES[entry]({**PLACES[place], "timeout": 20.0, "grace": 1.0}, None)
        except BaseException as raised:
            error = raised
        finally:
            setattr(owner, attribute, original)
        ended = time.monotonic()
    wrong = []
    met = calls >= number
    if error is not None and not isinstance(error, CascataError):
        wrong.append(f"raised {error!r}")
    if not in_time(SOON_S, since=began, until=ended):
        wrong.append(f"it took {ended - began:.1f} s")
    if wrong and error is not None:
        wrong.append("".join(traceback.format_exception(error)))
    if error is not None:
        traceback.clear_frames(error.__traceback__)
    del error
    return met, wrong + [f"left behind: {each}" for each in leaks.left_since(before)]


def shortages(words: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Each call of each function fails once, for every entry point and start method."""
    for place in PLACES:
        for entry in ENTRIES:
            for what in SHORT:
                name = f"{what} fails · {entry} · {place}"
                if not all(word in name for word in words):
                    continue
                number, met = 0, True
                while met and number < 40:
                    number += 1
                    met, wrong = fails_at(what, number, entry, place)
                    if met or wrong:
                        yield f"{name} · call {number}", wrong


def main() -> int:
    """Runs the cells that are asked for; says what is not as expected."""
    leaks.adopt_orphans()
    failures = count = 0
    words = sys.argv[1:]
    chosen = [cell for cell in cells() if all(word in str(cell) for word in words)]
    for name, wrong in _all(chosen, words):
        count += 1
        failures += bool(wrong)
        print(f"{name}: {'as expected' if not wrong else chr(10) + chr(10).join(wrong)}", flush=True)
    print(f"{count - failures} of {count} as expected")
    return bool(failures)


def _all(chosen: list[Cell], words: list[str]) -> Iterator[tuple[str, list[str]]]:
    for cell in chosen:
        yield str(cell), check(cell)
    yield from shortages(words)


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        sys.exit(importlib.import_module("tests.fault.begin").main())
