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
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from ...model import GraphSpec
from ...observe.board import Board
from ...records import dataclass
from ...runtime.restart import Life
from ...runtime.worker import Refused, Worker
from ...transport.linux.ends import LinkedEnds
from ...transport.linux.fd_hub import Hub
from ...transport.linux.fds import Ends
from ...transport.linux.journal_memory import Region
from ..local.open_files import keep_to_this_process, make_room_for_fds
from ..protocol.control_socket import FDS_AT_ONCE, SocketWire
from ..protocol.messages import Reporter
from ..rewrite import restartable
from ..supervision.watchdog import stacks_to
from .exit import begin_after_fork
from .life import WorkerLife, begin, end, loaded, take_over, tell_end
from .obeying import Handlers
from .setup import Setup
from .sigterm import ParentsWord
from .surroundings import join_trackers, settle_in

__all__ = ["FdSetup", "main"]


@dataclass(slots=True)
class FdSetup(Setup):
    """The same, with fds: they stand for positions in the list that follows."""

    ends: Ends
    fds: int
    parent_fd: int
    board_fd: int
    stacks_fd: int
    surroundings: dict[str, Any] | None
    """Where it is to stand; None when `multiprocess` has put it there."""
    trackers: dict[str, int] = field(default_factory=dict)
    """Package -> position of its resource tracker; of a worker that has not inherited them."""
    journal_fd: int | None = None
    """Of a worker that may be started again."""
    streams: dict[int, int] = field(default_factory=dict)
    """1 and 2 -> position of what they are in the parent now."""

    @property
    def life(self) -> Life | None:
        return None if self.journal_fd is None else Life(restartable.cause(self.death))


def main(control: Any, spec: GraphSpec | None) -> None:
    """Runs a worker.

    Args:
        control: the control socket's fd, or what `multiprocess` made of it on its way here.
        spec: the graph, when this process was forked and has it already; else it comes over the control socket.
    """
    word = begin()
    forked = spec is not None
    if forked:
        begin_after_fork()
    fd: int = control if isinstance(control, int) else control.detach()
    if spec is None:
        keep_to_this_process()
    connection = SocketWire(fd)
    try:
        setup: FdSetup = pickle.loads(connection.recv_bytes())
        make_room_for_fds(2 * setup.fds, "the channels of a worker")
        fds = _receive_fds(fd, setup.fds)
    except (EOFError, OSError):
        os._exit(1)  # the parent is gone before it had begun
    _die_with_parent(fds[setup.parent_fd])
    if setup.surroundings is not None:
        settle_in(setup.surroundings)
    for number, position in setup.streams.items():
        os.dup2(fds[position], number)
        os.close(fds[position])
    reporter = take_over(setup, connection, word)
    if not forked:
        join_trackers({package: fds[position] for package, position in setup.trackers.items()})
    setup.ends = setup.ends.numbered(fds.__getitem__)
    board = Board(setup.shape, fds[setup.board_fd])
    os.close(fds[setup.board_fd])
    stacks_to(fds[setup.stacks_fd])
    try:
        payload = connection.recv_bytes()
    except (EOFError, OSError):
        os._exit(1)
    spec = loaded(setup, payload, reporter, spec)
    if spec is None:
        return
    journal = None
    if setup.journal_fd is not None:
        journal = restartable.open_journal(fds[setup.journal_fd], spec, setup.nodes)
        os.close(fds[setup.journal_fd])
    asyncio.run(_FdLife(setup, spec, board, connection, reporter, word, journal).run())
    spec = None
    end(setup)


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


class _FdLife(WorkerLife):
    """See `WorkerLife`. The ends of the channels that cross are made of fds."""

    setup: FdSetup

    def __init__(
        self,
        setup: FdSetup,
        spec: GraphSpec,
        board: Board,
        connection: SocketWire,
        reporter: Reporter,
        word: ParentsWord,
        journal: Mapping[int, Region] | None,
    ) -> None:
        super().__init__(setup, spec, board, connection, reporter, word)
        self._journal = journal
        self._hub: Hub
        self._ends: LinkedEnds

    def links(self, refused: Refused) -> LinkedEnds:
        self._hub = Hub()
        ends = self.setup.ends
        self._ends = LinkedEnds(self._hub, ends, self.spec, self.board, self.setup.index, refused, self._journal)
        return self._ends

    def begun(self, worker: Worker) -> Handlers:
        self._ends.release()
        return {}

    async def ended(self, worker: Worker) -> None:
        self._hub.close()
        tell_end(self.reporter)
