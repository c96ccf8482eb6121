"""The engine that runs a graph on worker processes of this machine.

Run (a thread of its own, with an event loop)
  ├─ makes: stats board, crossing channels, definitions
  ├─ starts a process per worker, hands each its fds over a control socket
  └─ events ──> Supervisor ──> instructions, carried out here, until all processes are gone
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import sys
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext, suppress
from functools import partial
from typing import Any, Final

from ..errors import CascataError, in_words
from ..model import GraphSpec, Plan
from ..observe.board import Board, BoardShape
from ..observe.log import worker_level
from ..observe.report import RunReport
from ..options import RunOptions
from ..runtime.worker import Links, Refused
from ..transport import forked
from ..transport.blocks import keep_only, release_all
from ..transport.hub import Hub
from ..transport.links import AnyPair, LinkedEnds, ends_for, make_arenas, make_pairs
from . import definitions, inherited, restart, server, supervisor, wire, worker_main
from .boot import start_method_of
from .caller import Caller, own_ends
from .handle import WorkerHandle
from .open_files import make_room_for_fds
from .supervised import SupervisedRun
from .watch import WorkerWatch
from .worker_life import modules_of

__all__ = ["ProcessRun"]

AT_ONCE: Final = 1 << 16
"""Bytes that a connection takes though nobody reads yet."""

HEARD_S: Final = 1.0
"""Seconds that the last words of a worker whose process is gone may take to arrive."""


class _Handle(WorkerHandle):
    """With the fds that only Linux has."""

    def __init__(self, index: int) -> None:
        super().__init__(index, *wire.pair())
        self.ear: wire.Ear | None = None
        self.alive_r, self.alive_w = os.pipe2(os.O_CLOEXEC)
        forked.private(self.alive_w)
        self.pidfd = -1

    def set_up(self, setup: bytes, fds: list[int], payload: bytes) -> None:
        """Sends what a worker is told first. Blocks until it reads, where that is more than `AT_ONCE` or many fds."""
        at_once = worker_main.FDS_AT_ONCE
        with suppress(OSError):  # a worker that is gone is reported by its exit
            self.connection.send_bytes(setup)
            with socket.socket(fileno=os.dup(self.connection.fileno())) as sock:
                for start in range(0, len(fds), at_once):
                    socket.send_fds(sock, [b"f"], fds[start : start + at_once])
            self.connection.send_bytes(payload)
        alive_r, self.alive_r = self.alive_r, -1
        os.close(alive_r)
        self.is_set_up()

    def hush(self) -> None:
        super().hush()
        if self.ear is not None:
            self.ear.stop()

    def close(self) -> None:
        forked.unprivate(self.alive_w)
        super().close()
        for fd in (self.alive_r, self.alive_w, self.pidfd):
            if fd >= 0:
                os.close(fd)


class ProcessRun(SupervisedRun):
    """One run on worker processes. See `SupervisedRun`.

    Args:
        alone: the nodes that start again when their worker dies; each has a worker of its own.
    """

    def __init__(
        self,
        spec: GraphSpec,
        plan: Plan,
        options: RunOptions,
        caller: Caller | None = None,
        alone: AbstractSet[str] = frozenset(),
    ) -> None:
        self._alone = alone
        self._journals = dict.fromkeys(
            (worker for worker, nodes in enumerate(plan.workers) if not alone.isdisjoint(nodes)), -1
        )  # worker -> fd
        super().__init__(spec, plan, options, caller, frozenset(self._journals))
        self._start: Callable[[int, CascataError | None], None]
        self._board: Board | None = None
        self._method = start_method_of(options)
        self._handles: dict[int, _Handle] = {}
        self._pairs: dict[int, AnyPair] = {}
        self._arenas: dict[int, int] = {}

    # -- its life

    async def main(self) -> RunReport:
        self._begin()
        began = time.perf_counter()
        plan, spec = self._plan, self._spec
        count = len(plan.workers)
        shape = BoardShape(len(spec.nodes), len(spec.edges), len(spec.channels), len(plan.parts))
        # The payload first: what cannot be sent should fail before anything is started.
        payload = b"" if self._method == "fork" else definitions.dump(spec)
        crossing = len(plan.crossing)
        # Of each there are four here, and as many again where sources and sinks are held; a worker has three, and three
        # more while it makes its ends.
        make_room_for_fds(crossing * 8 + count * 9, f"a run on {count} worker(s) with {crossing} crossing channel(s)")
        board: Board | None = None
        executor = ThreadPoolExecutor(2 * count or 1, thread_name_prefix="cascata-control")
        with self._beginning():
            board_fd = os.memfd_create("cascata-board", os.MFD_CLOEXEC)
        try:
            with self._beginning():
                os.ftruncate(board_fd, shape.size)
                board = self._board = Board(shape, board_fd)
                self._watch = self._watch_over(board)
                self._pairs = make_pairs(spec, plan, self._alone)
                for worker in self._journals:
                    self._journals[worker] = restart.make_journal(spec, plan.workers[worker])
                self._arenas = make_arenas(spec, plan)
            self._limit_time()
            with server.needed() if self._method == "forkserver" else nullcontext():
                try:
                    with self._beginning():
                        self._seat_caller(shape, board_fd)
                        self._start = partial(self._start_worker, payload, shape, board_fd, executor)
                        for worker in range(count):
                            self._start(worker, None)
                        for worker in range(count):
                            self._meet(worker)
                    watching = self._spawn(self._watch.watch(lambda: self._supervisor.at_work - {count}))
                    await self._supervise(board)
                    watching.cancel()
                finally:
                    await self._clean_up(executor)
            wall_s = time.perf_counter() - began
            for pair in self._pairs.values():
                self._unread.update(pair.count_unread())
            return self._outcome(board, wall_s, "processes", self._method)
        finally:
            executor.shutdown()
            for pair in self._pairs.values():
                pair.close()
            if self._watch is not None:
                self._watch.close()
            for arena in self._arenas.values():
                if plan.caller:
                    keep_only(arena, count)  # what the caller received may be kept for long
                os.close(arena)
            os.close(board_fd)
            for journal in self._journals.values():
                if journal >= 0:
                    os.close(journal)
            if board is not None:
                board.close()  # a traceback that somebody keeps would keep its memory

    def _watch_over(self, board: Board) -> WorkerWatch:
        return WorkerWatch(
            self._spec,
            self._plan,
            self._options.slow_after,
            board,
            ask=lambda worker: self._tell(worker, b"where"),
            signal_to=self._signal,
            pid_of=lambda worker: int(self._handles[worker].process.pid),
        )

    def _seat_caller(self, shape: BoardShape, board_fd: int) -> None:
        if not self._plan.caller:
            return
        index = len(self._plan.workers)
        ends = own_ends(ends_for(index, self._spec, self._plan, self._pairs, self._arenas, self._alone))
        own_fd = os.dup(board_fd)

        def equip(stack: ExitStack, refused: Refused) -> tuple[Board, Links]:
            hub = Hub()
            stack.callback(hub.close)
            board = Board(shape, own_fd)
            stack.callback(board.close)
            links = LinkedEnds(hub, ends, self._spec, board, index, refused)
            stack.callback(links.close)
            return board, links

        def close() -> None:
            for fd in (own_fd, *ends.fds()):
                os.close(fd)

        self._seat(equip, close)

    def _start_worker(
        self,
        payload: bytes,
        shape: BoardShape,
        board_fd: int,
        executor: ThreadPoolExecutor,
        index: int,
        death: CascataError | None,
    ) -> None:
        handle = self._handles[index] = _Handle(index)
        handle.process = self._process(index, handle.far.fileno())
        try:
            handle.process.start()
        except BaseException as problem:
            handle.process = None
            raise self._unstartable(index, problem) from problem
        handle.far.close()
        handle.ear = wire.Ear(handle.connection, lambda data: self._hear(index, pickle.loads(data)))
        handle.heard = handle.ear.ended
        setup, fds = self._setup(handle, shape, board_fd, death)
        told = pickle.dumps(setup)
        if len(told) + len(payload) <= AT_ONCE and len(fds) <= worker_main.FDS_AT_ONCE:
            handle.set_up(told, fds, payload)
            return
        # In a thread: a worker that is slow to boot reads slowly.
        sent = asyncio.get_running_loop().run_in_executor(executor, handle.set_up, told, fds, payload)
        self._tasks.add(sent)
        sent.add_done_callback(self._tasks.discard)

    def _process(self, index: int, far: int) -> Any:
        if self._method == "forkserver":
            return server.ServedWorker(far)
        from . import launch  # imports multiprocess

        if self._method == "fork":
            return launch.worker_process(self._method, index, worker_main.main, (far, self._spec))
        return launch.worker_process(self._method, index, worker_main.main, (launch.ControlEnd(far), None))

    def _unstartable(self, index: int, problem: BaseException) -> CascataError:
        return CascataError(
            f"worker {index} could not be started ({self._method}): {in_words(problem)}. The system may be "
            f"short of memory, processes or fds; fewer workers (num_workers=) need less"
        )

    def _meet(self, index: int) -> None:
        """Takes hold of a worker that was started. All are asked for first: the fork server may be booting."""
        loop = asyncio.get_running_loop()
        handle = self._handles[index]
        try:
            pid = handle.process.pid
        except EOFError as problem:
            raise self._unstartable(index, problem) from problem
        try:
            handle.pidfd = os.pidfd_open(pid)
        except ProcessLookupError:  # it was killed at once, and the fork server has reaped it
            self._spawn(self._bury(handle))
            return
        loop.add_reader(handle.pidfd, self._gone, handle)

    def _setup(
        self, handle: _Handle, shape: BoardShape, board_fd: int, death: CascataError | None
    ) -> tuple[Any, list[int]]:
        assert self._watch is not None  # made before any worker
        index = handle.index
        positions: dict[int, int] = {}

        def position(fd: int) -> int:
            return positions.setdefault(fd, len(positions))

        ends = ends_for(index, self._spec, self._plan, self._pairs, self._arenas, self._alone)
        streams = {}
        for number, stream in ((1, sys.__stdout__), (2, sys.__stderr__)):
            if stream is not None:  # else the number may be in use for something else
                with suppress(OSError):
                    os.fstat(number)
                    streams[number] = position(number)
        cores = len(os.sched_getaffinity(0))
        setup = worker_main.FdSetup(
            index=index,
            nodes=self._plan.workers[index],
            crossing=self._plan.crossing,
            ends=ends.numbered(position),
            shape=shape,
            skip_errors=self._options.on_error == "skip",
            grace=self._options.grace,
            debug=self._options.debug,
            calls=self._caller is not None and self._caller.calls,
            log_level=worker_level(),
            authkeys=inherited.authkeys(),
            environment=dict(os.environ),
            tracked=inherited.has_tracker(),
            thread_cap=max(1, cores // len(self._plan.workers)),
            parent_fd=position(handle.alive_r),
            board_fd=position(board_fd),
            surroundings=(inherited.surroundings(f"cascata-worker-{index}") if self._method == "forkserver" else None),
            stacks_fd=position(self._watch.stacks_w),
            modules=modules_of(self._spec),
            begun_by=self._begun_by,
            death=None if death is None else pickle.dumps(death),
            journal_fd=position(self._journals[index]) if index in self._journals else None,
            streams=streams,
            fds=0,
        )
        setup.fds = len(positions)
        return setup, list(positions)

    # -- what the supervisor instructs

    def _send(self, worker: int, command: bytes) -> None:
        if worker in self._handles:
            self._handles[worker].send(command)

    def _restart(self, worker: int, death: CascataError) -> None:
        self._handles[worker].close()
        assert self._board is not None  # made before any worker
        self._board.reset_beat(worker)
        self._start(worker, death)
        self._meet(worker)

    def _kill(self, worker: int) -> None:
        self._signal(worker, signal.SIGKILL)

    def _end_writing(self, channel: int) -> None:
        self._pairs[channel].end_writing()

    def _end_reading(self, channel: int) -> None:
        self._pairs[channel].end_reading()

    def _grow(self, channel: int, capacity: int, extra: int) -> None:
        self._pairs[channel].grow(capacity, extra)

    def _signal(self, worker: int, number: int) -> None:
        pidfd = self._handles[worker].pidfd
        if pidfd < 0:
            return  # it was gone before it could be held
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, number)

    # -- what workers say

    def _gone(self, handle: _Handle) -> None:
        asyncio.get_running_loop().remove_reader(handle.pidfd)
        self._spawn(self._bury(handle))

    async def _bury(self, handle: _Handle) -> None:
        """Waits for the last words and the exit code of a process that is gone."""
        if handle.heard is not None:
            await asyncio.wait([handle.heard], timeout=HEARD_S)  # a child of its own may keep the socket open
            handle.hush()
        if isinstance(handle.process, server.ServedWorker):
            await wire.readable(handle.process.fileno(), HEARD_S)
        else:
            await asyncio.get_running_loop().run_in_executor(None, handle.process.join, HEARD_S)
        for arena in self._arenas.values():
            release_all(arena, handle.index)
        self._events.put_nowait(supervisor.Exited(handle.index, handle.process.exitcode, time.monotonic()))

    # -- its end

    async def _clean_up(self, executor: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        for handle in self._handles.values():
            process = handle.process
            if handle.pidfd >= 0:
                loop.remove_reader(handle.pidfd)
            if process is not None and process.is_alive():  # only after a start that failed half-way
                process.kill()
                process.join()
            handle.hush()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=HEARD_S)
        if self._timer is not None:
            self._timer.cancel()
        executor.shutdown()
        for handle in self._handles.values():
            handle.close()
