"""What the workers of every engine do alike: they take over the parent's ways, run their nodes, tell, and obey.

parent ── ToWorker ──> a thread reads, and calls the handler ──> Worker, in the main thread's loop
       <── FromWorker ── Reporter ────────────────────────────────┘
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from ...errors import CascataError, ComponentError, RunAtImport, in_words
from ...model import GraphSpec, load_component
from ...observe.board import Board, BoardShape
from ...records import dataclass
from ...runtime.idle import IdleReport
from ...runtime.restart import Life
from ...runtime.worker import Links, Worker
from ..protocol.messages import (
    CancelWorker,
    ConfirmIdle,
    Describe,
    Doing,
    DrainWorker,
    EndCycle,
    EndSources,
    FromWorker,
    GrowChannel,
    IdleConfirmed,
    Locate,
    Located,
    Reporter,
    Stay,
    StopCycle,
    read,
    write,
)
from ..supervision.watchdog import where_it_stands
from .exit import save_files
from .sigterm import ParentsWord
from .surroundings import take_authkeys

__all__ = [
    "Handlers",
    "Setup",
    "Wire",
    "by_connection",
    "cannot_listen",
    "flush_streams",
    "handlers",
    "heed_signals",
    "load_failure",
    "make_worker",
    "modules_of",
    "obey",
    "take_over",
    "tell_end",
]

ANSWER_S: Final = 0.2
"""A loop that does not turn within this many seconds counts as blocked."""


@dataclass(slots=True)
class Setup:
    """What a worker is told first."""

    index: int
    nodes: tuple[str, ...]
    crossing: frozenset[int]
    shape: BoardShape
    skip_errors: bool
    grace: float
    debug: bool
    calls: bool
    log_level: int
    authkeys: dict[str, bytes]
    environment: dict[str, str]
    thread_cap: int
    modules: dict[str, tuple[str, ...]]
    """Module -> the nodes whose components are of it, wherever they run: each worker imports all of them."""
    begun_by: frozenset[str]
    """The modules that were being imported when the run began: see `run_at_import`."""


def modules_of(spec: GraphSpec) -> dict[str, tuple[str, ...]]:
    """Module -> the nodes whose components are of it."""
    modules: dict[str, tuple[str, ...]] = {}
    for node in spec.nodes.values():
        module = node.component.module
        modules[module] = (*modules.get(module, ()), node.name)
    return modules


class Wire(Protocol):
    """What a `Connection` of `multiprocess` is to a worker."""

    def send_bytes(self, data: bytes) -> None:
        """Sends one message."""

    def recv_bytes(self) -> bytes:
        """Waits for one message. Raises `EOFError` or `OSError` at the end."""


def by_connection(connection: Wire) -> Callable[[FromWorker], None]:
    """Sends messages to the parent, from any thread."""
    lock = threading.Lock()

    def send(message: FromWorker) -> None:
        """When the parent is gone there is nobody to tell, and this process ends as well."""
        data = write(message)
        try:
            with lock:
                connection.send_bytes(data)
        except OSError:
            pass

    return send


def heed_signals() -> None:
    """Makes this process hear signals, whatever the program does with them.

    A program may block signals, for a thread that takes them with `sigwait`, or have been started like that; and it may
    ignore SIGCHLD. A worker has no such thread, and needs the exit codes of what its components start.
    """
    if sys.platform != "win32":
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())


def take_over(setup: Setup) -> None:
    """Makes this process look like the parent does now: its environment and keys."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # What was printed must not die with the process; and lines of several processes do not mix, not even
            # where Python writes at once (`-u`).
            stream.reconfigure(line_buffering=True, write_through=False)
    os.environ.clear()
    os.environ.update(setup.environment)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(setup.thread_cap))
    take_authkeys(setup.authkeys)


def tell_end(reporter: Reporter) -> None:
    """Tells that the nodes have ended, when what they wrote to files is there."""
    for error in save_files():
        reporter.failed(error)
    reporter.finished()


def flush_streams() -> None:
    """What was printed must not die with the process."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # a program may have been started without
            stream.flush()


def cannot_listen(worker: int, nodes: Sequence[str], problem: Exception) -> CascataError:
    """The error for a worker that the others could not connect to."""
    why = str(problem) if isinstance(problem, CascataError) else in_words(problem)
    error = CascataError(f"worker {worker} ({', '.join(nodes)}) cannot listen for the others: {why}")
    error.__cause__ = problem
    return error


def load_failure(setup: Setup, error: BaseException) -> CascataError:
    """The error for definitions that could not be loaded here."""
    if isinstance(error, RunAtImport):
        return error
    nodes = setup.nodes
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code is load_component.__code__:
            nodes = setup.modules.get(frame.f_locals["module"], nodes)
    failure = ComponentError(
        f"worker {setup.index} could not load its nodes ({', '.join(nodes)}): {in_words(error)}. What a "
        f"component uses must be importable in a worker as it is here (same sys.path, same packages)",
        node=", ".join(nodes),
        worker=setup.index,
    )
    failure.__cause__ = error
    return failure


def make_worker(
    setup: Setup, spec: GraphSpec, board: Board, reporter: Reporter, links: Links | None, life: Life | None = None
) -> Worker:
    """The worker's nodes in the running loop; `links` makes the ends of the channels that cross."""
    return Worker(
        setup.index,
        spec,
        setup.nodes,
        setup.crossing,
        links,
        board,
        reporter,
        skip_errors=setup.skip_errors,
        grace=setup.grace,
        debug=setup.debug,
        calls=setup.calls,
        life=life,
    )


Handlers = Mapping[type, Callable[[Any], object]]
"""Type of a message to a worker -> what is called with it, in the thread that has received it."""


def handlers(worker: Worker, loop: asyncio.AbstractEventLoop, reporter: Reporter) -> Handlers:
    """What every part of a run does about messages, whatever carries its channels. May be called from any thread.

    Args:
        worker: the part's nodes.
        loop: in which they run. When it is closed, a handler raises `RuntimeError`.
        reporter: by which they answer.
    """
    soon = loop.call_soon_threadsafe

    def confirm_idle(message: ConfirmIdle) -> None:
        def answer(report: IdleReport | None) -> None:
            reporter.send(IdleConfirmed(message.worker, message.attempt, report))

        if worker.watch is not None:
            soon(worker.watch.confirm, answer)

    return {
        DrainWorker: lambda _: soon(worker.drain),
        EndSources: lambda _: soon(worker.end_sources),
        CancelWorker: lambda _: soon(worker.cancel),
        EndCycle: lambda message: soon(worker.end_cycle, message.cycle),
        StopCycle: lambda message: soon(worker.stop_cycle, message.cycle),
        GrowChannel: lambda message: soon(worker.grow, message.channel, message.extra),
        ConfirmIdle: confirm_idle,
    }


def obey(
    connection: Wire,
    loop: asyncio.AbstractEventLoop,
    worker: Worker,
    reporter: Reporter,
    others: Handlers,
    word: ParentsWord | None = None,
    thread: int | None = None,
) -> None:
    """Reads the parent's messages until it closes the connection, in a thread of its own.

    Args:
        connection: to the parent.
        loop: in which the worker runs.
        worker: that obeys.
        reporter: answers.
        others: what is to be done about further messages, or about some in another way.
        word: waits for a message when SIGTERM has come; None: nothing here does.
        thread: that the loop runs in; None: the main thread.
    """
    thread = thread or threading.main_thread().ident

    def locate(_: Locate) -> None:
        at = where_it_stands(worker, loop, thread)
        reporter.send(Located(worker.index, at.node, at.stack, at.debugged))

    def describe(_: Describe) -> None:
        turned = threading.Event()
        loop.call_soon_threadsafe(turned.set)
        doing = worker.doing()
        if not turned.wait(ANSWER_S):
            doing += f"; its event loop is blocked at\n{where_it_stands(worker, loop, thread).stack}"
        reporter.send(Doing(worker.index, doing))

    known: dict[type, Callable[[Any], object]] = {
        **handlers(worker, loop, reporter),
        Locate: locate,
        Describe: describe,
        Stay: lambda _: None,
        **others,
    }
    while True:
        try:
            message = read(connection.recv_bytes())
        except (EOFError, OSError):
            return
        if word is not None and isinstance(message, DrainWorker | CancelWorker | Stay):
            word.heard()
        try:
            known[type(message)](message)
        except RuntimeError:
            pass  # the loop is closed: the nodes have ended, but the parent's word and its death must still be heard
