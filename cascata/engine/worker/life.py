"""A worker's life, whatever it runs on: `begin`, `take_over`, `loaded`, `WorkerLife.run`, `end`.

    begin ──> its set-up is read ──> take_over ──> loaded: the definitions ──> WorkerLife.run: its nodes ──> end

There are three ways to begin: `linux.main` and `portable.main` in a process of this machine, `ray.actor` in an actor.
They differ in how the set-up comes, and in what makes the ends of the channels that cross.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from functools import partial
from typing import Any

from ...errors import CascataError, ComponentError, RunAtImport, SerializationError, in_words
from ...model import GraphSpec, load_component
from ...observe.board import Board
from ...observe.log import install_forwarding
from ...runtime.worker import SWITCH_S, Links, Refused, Worker
from .. import run_at_import
from ..protocol.messages import Reporter, Terminated
from . import definitions
from .exit import finish, save_files
from .obeying import Handlers, Wire, by_connection, obey
from .setup import Setup
from .sigterm import ParentsWord
from .surroundings import take_authkeys

__all__ = ["WorkerLife", "begin", "cannot_listen", "end", "flush_streams", "loaded", "take_over", "tell_end"]


def begin() -> ParentsWord:
    """First in a worker's process: from now on it takes signals as a worker does.

    Returns:
        What waits for a word of the parent when SIGTERM comes.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent cancels in order
    word = ParentsWord()
    _heed_signals()
    sys.setswitchinterval(SWITCH_S)
    return word


def _heed_signals() -> None:
    """Makes this process hear signals, whatever the program does with them.

    A program may block signals, for a thread that takes them with `sigwait`, or have been started like that; and it may
    ignore SIGCHLD. A worker has no such thread, and needs the exit codes of what its components start.
    """
    if sys.platform != "win32":
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())


def take_over(setup: Setup, connection: Wire, word: ParentsWord) -> Reporter:
    """Makes this process look like the parent does now, and its loggers send what they are given.

    Returns:
        What tells the parent, by the connection.
    """
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
    reporter = Reporter(setup.index, by_connection(connection))
    word.ask = partial(reporter.send, Terminated(setup.index))
    install_forwarding(reporter.log, setup.log_level)
    return reporter


def loaded(setup: Setup, payload: bytes, reporter: Reporter, inherited: GraphSpec | None = None) -> GraphSpec | None:
    """Loads the definitions.

    Args:
        setup: of the worker.
        payload: the definitions.
        reporter: tells when they cannot be loaded.
        inherited: the graph, where this process was forked and has it already.

    Returns:
        The graph; None when it cannot be loaded: that has been told, and the worker is to end.
    """
    try:
        with run_at_import.loading(setup.modules, setup.begun_by):
            return definitions.load(payload) if inherited is None else inherited
    except BaseException as error:  # whatever a user's module raises when it is imported
        reporter.failed(_load_failure(setup, error))
        reporter.finished()
        return None


def _load_failure(setup: Setup, error: BaseException) -> CascataError:
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


class WorkerLife:
    """Has the nodes of a worker run, from their wiring to their end.

    Args:
        setup: what the worker was told first.
        spec: the graph.
        board: the stats board.
        connection: to the parent.
        reporter: tells the parent.
        word: waits for a word of the parent when SIGTERM has come; None: nothing here does.
    """

    def __init__(
        self,
        setup: Setup,
        spec: GraphSpec,
        board: Board,
        connection: Wire,
        reporter: Reporter,
        word: ParentsWord | None = None,
    ) -> None:
        self.setup = setup
        self.spec = spec
        self.board = board
        self.connection = connection
        self.reporter = reporter
        self.word = word

    def links(self, refused: Refused) -> Links | None:
        """Makes the ends of the channels that cross; `refused` is told of items that cannot cross."""
        raise NotImplementedError

    def begun(self, worker: Worker) -> Handlers:
        """The nodes are wired: items may come. Returns what is to be done about messages, beside `obeying.handlers`."""
        raise NotImplementedError

    def abandoned(self) -> None:
        """The parent has closed the connection. Called in the thread that reads it."""

    async def ended(self, worker: Worker) -> None:
        """The nodes have ended: tells so."""
        raise NotImplementedError

    async def run(self) -> None:
        """Runs the nodes to their end, in the running loop."""
        setup, loop, thread = self.setup, asyncio.get_running_loop(), threading.get_ident()

        def refused(error: SerializationError, owners: Sequence[str], item: Any) -> None:
            worker.refused(error, owners, item)

        worker = Worker(
            setup.index,
            self.spec,
            setup.nodes,
            setup.crossing,
            self.links(refused),
            self.board,
            self.reporter,
            skip_errors=setup.skip_errors,
            grace=setup.grace,
            debug=setup.debug,
            calls=setup.calls,
            life=setup.life,
        )
        others = self.begun(worker)

        def control() -> None:
            obey(self.connection, loop, worker, self.reporter, others, self.word, thread)
            self.abandoned()

        threading.Thread(target=control, name="cascata-control", daemon=True).start()
        if self.word is not None:
            self.word.listens()
        await worker.run()
        await self.ended(worker)


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


def end(setup: Setup) -> None:
    """Last in a worker's process: what a program would save at its own end is saved."""
    finish(("__main__", *setup.modules))
    flush_streams()


def cannot_listen(worker: int, nodes: Sequence[str], problem: Exception) -> CascataError:
    """The error for a worker that the others could not connect to."""
    why = str(problem) if isinstance(problem, CascataError) else in_words(problem)
    error = CascataError(f"worker {worker} ({', '.join(nodes)}) cannot listen for the others: {why}")
    error.__cause__ = problem
    return error
