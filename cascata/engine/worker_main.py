"""What a worker process does, from its first line to its last.

    parent ── set-up, fds, definitions ──> control socket ──> this process
                                                  │  a thread reads commands: drain, cancel, describe
           <── events, log records, failures ─────┘  and takes the end of the socket for the end of the parent

The parent's death ends a worker at once, whatever it does: the kernel kills it when the parent's end of a
pipe is gone. It must not live on with nobody to watch it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import pickle
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from multiprocess.connection import Connection

from ..errors import CascataError, ComponentError, SerializationError, in_words
from ..model import GraphSpec
from ..observe.board import Board, BoardShape
from ..observe.log import install_forwarding
from ..runtime.worker import SWITCH_S, Worker
from ..transport.hub import Hub
from ..transport.links import Ends, LinkedEnds
from . import definitions
from .commands import carry_out
from .reporter import Reporter
from .watch import stacks_to, where_it_stands

__all__ = ["FDS_AT_ONCE", "Setup", "main"]

FDS_AT_ONCE: Final = 200
"""Fds in one message: the kernel takes 253."""

ANSWER_S: Final = 0.2
"""A loop that does not turn within this many seconds counts as blocked."""


@dataclass(slots=True)
class Setup:
    """What a worker is told first. Fds stand for positions in the list that follows."""

    index: int
    nodes: tuple[str, ...]
    crossing: frozenset[int]
    ends: Ends
    shape: BoardShape
    skip_errors: bool
    grace: float
    debug: bool
    log_level: int
    authkeys: dict[str, bytes]
    environment: dict[str, str]
    thread_cap: int
    tracked: bool
    fds: int
    parent_fd: int
    board_fd: int
    stacks_fd: int
    streams: dict[int, int] = field(default_factory=dict)
    """1 and 2 -> position of what they are in the parent now."""


def _by_pipe(connection: Connection) -> Callable[..., None]:
    """Sends messages to the parent, from any thread."""
    lock = threading.Lock()

    def send(*message: Any) -> None:
        """When the parent is gone there is nobody to tell, and the kernel ends this process."""
        data = pickle.dumps(message)
        try:
            with lock:
                connection.send_bytes(data)
        except OSError:
            pass

    return send


def main(control: Any, spec: GraphSpec | None) -> None:
    """Runs a worker.

    Args:
        control: the control socket's fd, or what `multiprocess` made of it on its way here.
        spec: the graph, when this process was forked and has it already; else it comes over the control socket.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent cancels in order
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.setswitchinterval(SWITCH_S)
    fd: int = control if isinstance(control, int) else control.detach()
    connection = Connection(fd)
    try:
        setup: Setup = pickle.loads(connection.recv_bytes())
        fds = _receive_fds(fd, setup.fds)
    except (EOFError, OSError):
        os._exit(1)  # the parent is gone before it had begun
    _die_with_parent(fds[setup.parent_fd])
    _take_over(setup, fds)
    setup.ends = setup.ends.numbered(fds.__getitem__)
    board = Board(setup.shape, fds[setup.board_fd])
    os.close(fds[setup.board_fd])
    stacks_to(fds[setup.stacks_fd])
    reporter = Reporter(_by_pipe(connection))
    install_forwarding(reporter.log, setup.log_level)
    try:
        payload = connection.recv_bytes()
        if spec is None:
            spec = definitions.load(payload)
    except (EOFError, OSError):
        os._exit(1)
    except BaseException as error:  # whatever a user's module raises when it is imported
        reporter.failed(_load_failure(setup, error))
        reporter.send("finished", {})
        return
    asyncio.run(_run(setup, spec, board, connection, reporter))
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # a program may have been started without
            stream.flush()


def _receive_fds(fd: int, count: int) -> list[int]:
    with socket.socket(fileno=os.dup(fd)) as control:
        fds: list[int] = []
        while len(fds) < count:
            data, received, _, _ = socket.recv_fds(control, 1, FDS_AT_ONCE)
            if not data:
                raise EOFError
            fds.extend(received)
    for each in fds:
        os.set_inheritable(each, False)
    return fds


def _die_with_parent(fd: int) -> None:
    """The kernel kills this process when the other end of the pipe is closed: also while it holds the GIL."""
    fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    watch = select.poll()
    watch.register(fd, select.POLLIN)
    if watch.poll(0):
        os._exit(1)  # it was closed before the kernel was asked to tell


def _take_over(setup: Setup, fds: Sequence[int]) -> None:
    """Makes this process look like the parent does now: its streams, environment and keys."""
    for number, position in setup.streams.items():
        os.dup2(fds[position], number)
        os.close(fds[position])
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)  # what was printed must not die with the process
    os.environ.clear()
    os.environ.update(setup.environment)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(setup.thread_cap))
    import multiprocessing

    import multiprocess
    from multiprocess import resource_tracker

    for package in (multiprocess, multiprocessing):
        package.current_process().authkey = setup.authkeys[package.__name__]
    if not setup.tracked:
        resource_tracker._resource_tracker._fd = None  # there is none yet: who needs one starts it


def _load_failure(setup: Setup, error: BaseException) -> CascataError:
    failure = ComponentError(
        f"worker {setup.index} could not load its nodes ({', '.join(setup.nodes)}): {in_words(error)}. What a "
        f"component uses must be importable in a worker as it is here (same sys.path, same packages)",
        node=", ".join(setup.nodes),
        worker=setup.index,
    )
    failure.__cause__ = error
    return failure


async def _run(setup: Setup, spec: GraphSpec, board: Board, connection: Connection, reporter: Reporter) -> None:
    loop = asyncio.get_running_loop()
    hub = Hub()

    def refused(error: SerializationError, owners: Sequence[str], item: Any) -> None:
        worker.refused(error, owners, item)

    links = LinkedEnds(hub, setup.ends, spec, board, setup.index, refused)
    worker = Worker(
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
    )
    links.release()
    commands = threading.Thread(
        target=_obey, args=(connection, loop, worker, reporter), name="cascata-control", daemon=True
    )
    commands.start()
    await worker.run()
    hub.close()
    reporter.send("finished", dict(worker.unawaited))


def _obey(connection: Connection, loop: asyncio.AbstractEventLoop, worker: Worker, reporter: Reporter) -> None:
    """Reads the parent's commands until it closes the socket, in a thread of its own."""
    main_thread = threading.main_thread().ident
    while True:
        try:
            command = connection.recv_bytes()
        except (EOFError, OSError):
            return
        try:
            if carry_out(command, loop, worker, reporter):
                continue
            if command == b"where":
                reporter.send("where", where_it_stands(worker, loop, main_thread))
            elif command == b"describe":
                turned = threading.Event()
                loop.call_soon_threadsafe(turned.set)
                doing = worker.doing()
                if not turned.wait(ANSWER_S):
                    doing += f"; its event loop is blocked at\n{where_it_stands(worker, loop, main_thread).stack}"
                reporter.send("doing", doing)
        except RuntimeError:
            return  # the loop is closed: the worker has ended
