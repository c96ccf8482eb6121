"""What both engines with worker processes on this machine do alike; `linux` and `portable` say what they do with.

    _definitions, in another thread ──> _made: the stats board, and what the channels are made of
      ──> the caller's part, and a process per worker ──> Supervisor ──> _clean_up ──> the report

A start that fails ends the run as any failure does: the other workers and the caller's part are ended in order.
"""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, ClassVar

from ...errors import CascataError
from ...model import GraphSpec, Plan
from ...observe.board import Board
from ...observe.report import RunReport
from ...options import RunOptions
from ...plan import available_cpus
from ..caller_part import Caller
from ..choice import start_method_of
from ..protocol.messages import Failed, Locate, ToWorker
from ..protocol.worker_handle import WorkerHandle
from ..supervision.supervised import SupervisedRun, cannot_start
from ..supervision.watchdog import WorkerWatch
from ..worker.surroundings import authkeys

__all__ = ["LocalRun"]


class LocalRun(SupervisedRun):
    """One run on worker processes of this machine. See `SupervisedRun`."""

    _signal_to: ClassVar[Callable[[Any, int, int], None] | None] = None
    """Sends a worker a signal, where there is a way that cannot hit another process."""

    def __init__(
        self,
        spec: GraphSpec,
        plan: Plan,
        options: RunOptions,
        caller: Caller | None = None,
        alone: AbstractSet[str] = frozenset(),
    ) -> None:
        super().__init__(spec, plan, options, caller, alone)
        self._method = start_method_of(options)
        self._payload = b""
        self._handles: dict[int, Any] = {}  # of `WorkerHandle`s, each engine's own

    async def main(self) -> RunReport:
        self._begin()
        began = time.perf_counter()
        self._limit_time()
        # The payload first: what cannot be sent should fail before anything is started.
        self._payload = await self._apart("packing what its workers need", self._definitions)
        with ExitStack() as held:
            board = self._made(held)
            with self._server():
                try:
                    with self._beginning():
                        self._begin_caller()
                    # All are asked for at once: the fork server may be booting.
                    all(self._start(worker, None) for worker in range(len(self._plan.workers)))
                    await self._supervise(board)
                finally:
                    await self._clean_up()
            return self._outcome(board, time.perf_counter() - began, "processes", self._method)

    # -- what an engine brings

    @abstractmethod
    def _definitions(self) -> bytes:
        """What all workers are to load. Runs code of the user's, in a thread of its own."""

    @abstractmethod
    def _made(self, held: ExitStack) -> Board:
        """Makes what the run needs of the system, and puts on the stack what gives it back. Returns the stats board."""

    @abstractmethod
    def _begin_caller(self) -> None:
        """Has the caller's part begin, if there is one."""

    @abstractmethod
    def _start(self, worker: int, death: CascataError | None) -> bool:
        """Has a worker start; `death`: why it starts again. Returns whether nothing hinders that; it ends the run."""

    @abstractmethod
    async def _clean_up(self) -> None:
        """Ends what is left of workers and tasks."""

    def _how_it_begins(self, worker: int) -> str:
        raise NotImplementedError

    # -- for them

    def _server(self) -> AbstractContextManager[None]:
        """The fork server stays, inside, where one is needed."""
        if self._method != "forkserver":
            return nullcontext()
        from . import forkserver  # Linux has it

        return forkserver.needed()

    def _watch_over(self, board: Board) -> WorkerWatch:
        return WorkerWatch(
            self._spec,
            self._plan,
            self._options.slow_after,
            board,
            ask=lambda worker: self._tell(Locate(worker)),
            signal_to=self._signal_to,
            pid_of=self._pid_of,
            begins=self._how_it_begins,
        )

    def _pid_of(self, worker: int) -> int:
        handle: WorkerHandle | None = self._handles.get(worker)
        return 0 if handle is None else handle.pid

    def _cannot_start(self, worker: int, problem: BaseException) -> None:
        """Ends the run since a worker could not be started. Where there is a process, `_kill` ends it."""
        self._events.put_nowait(Failed(None, cannot_start(worker, self._method, problem)))

    def _setup_of(self, worker: int, death: CascataError | None) -> dict[str, Any]:
        return super()._setup_of(worker, death) | {
            "authkeys": authkeys(),
            "environment": dict(os.environ),
            "thread_cap": max(1, available_cpus() // len(self._plan.workers)),
        }

    def _send(self, message: ToWorker) -> None:
        handle: WorkerHandle | None = self._handles.get(message.worker)
        if handle is not None:
            handle.send(message)
