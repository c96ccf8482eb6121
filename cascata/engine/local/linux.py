"""The engine that runs a graph on worker processes of this machine.

Run (a thread of its own, with an event loop)
  ├─ makes: definitions (in another thread, since they are the user's), stats board, crossing channels
  ├─ starts a process per worker, hands each its fds over a control socket
  └─ events ──> Supervisor ──> instructions, carried out here, until all processes are gone

Nothing in this loop waits for a process: what a worker has not read yet waits in an `Outbox`, and what the fork server
has not told yet arrives as an event. So a `timeout` and Ctrl-C are heard whatever a process does or does not do. A
start that fails ends the run as any failure does: the other workers and the caller's part are ended in order.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, nullcontext, suppress
from functools import partial
from typing import Any, Final

from ...errors import CascataError
from ...model import GraphSpec, Plan
from ...observe.board import Board, BoardShape
from ...observe.log import worker_level
from ...observe.report import RunReport
from ...options import RunOptions
from ...runtime.worker import Links, Refused
from ...transport.linux.blocks import keep_only, release_all
from ...transport.linux.ends import LinkedEnds
from ...transport.linux.fd_hub import Hub
from ...transport.linux.fds import AnyPair, ends_for, make_arenas, make_pairs
from ...transport.shared import after_fork
from ..caller_part import Caller, own_ends
from ..choice import start_method_of
from ..protocol import control_socket
from ..protocol.messages import Failed, Locate, ToWorker, read, write
from ..protocol.worker_handle import WorkerHandle
from ..rewrite import restartable
from ..supervision.events import Exited
from ..supervision.supervised import SupervisedRun, cannot_start
from ..supervision.watchdog import WorkerWatch, gives_stacks, state_of
from ..worker import definitions, linux, surroundings
from ..worker.life import modules_of
from ..worker.sigterm import held_back
from . import forkserver
from .open_files import make_room_for_fds

__all__ = ["ProcessRun"]

AGAIN_S: Final = 0.02
"""Seconds until the fork server is asked again that did not take a request."""

UNTOLD_S: Final = 0.5
"""Seconds that the fork server has to tell the pid of a worker that is to be killed."""

HEARD_S: Final = 1.0
"""Seconds that the last words of a worker whose process is gone may take to arrive."""


class _Handle(WorkerHandle):
    """With the fds that only Linux has.

    Attributes:
        pidfd: of the process, when it is known.
        doomed: whether the process is to be killed as soon as it is known.
        over: whether its end has been told, or there never was a process.
    """

    def __init__(self, index: int) -> None:
        near, far = control_socket.pair()
        try:
            self.alive_r, self.alive_w = os.pipe2(os.O_CLOEXEC)
        except BaseException:
            near.close()
            far.close()
            raise
        super().__init__(index, near, far)
        after_fork.private(self.alive_w)
        self.ear: control_socket.Ear | None = None
        self.outbox = control_socket.Outbox(near)
        self.pidfd = -1
        self.doomed = False
        self.over = False

    def set_up(self, setup: bytes, fds: list[int], payload: bytes) -> None:
        """Sends what a worker is told first."""
        self.outbox.send(setup)
        self.outbox.send_fds(fds)
        self.outbox.send(payload)

    def send(self, message: ToWorker) -> None:
        """Sends a message, after the set-up; a worker that is gone needs none."""
        self.outbox.send(write(message))

    @property
    def pid(self) -> int:
        """Of the process; 0 while it is not known."""
        return int(self.process.pid or 0) if self.process is not None else 0

    def hush(self) -> None:
        self.outbox.close()
        super().hush()
        if self.ear is not None:
            self.ear.stop()

    def close(self) -> None:
        self.outbox.close()
        after_fork.unprivate(self.alive_w)
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
        self._start: Callable[[int, CascataError | None], bool]
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
        self._limit_time()
        # The payload first: what cannot be sent should fail before anything is started.
        payload = await self._apart("packing what its workers need", self._definitions)
        crossing = len(plan.crossing)
        # Of each there are four here, and as many again where sources and sinks are held; a worker has three, and three
        # more while it makes its ends.
        make_room_for_fds(crossing * 8 + count * 9, f"a run on {count} worker(s) with {crossing} crossing channel(s)")
        board: Board | None = None
        with self._beginning():
            board_fd = os.memfd_create("cascata-board", os.MFD_CLOEXEC)
        try:
            with self._beginning():
                os.ftruncate(board_fd, shape.size)
                board = self._board = Board(shape, board_fd)
                self._watch = self._watch_over(board)
                self._pairs = make_pairs(spec, plan, self._alone)
                for worker in self._journals:
                    self._journals[worker] = restartable.make_journal(spec, plan.workers[worker])
                self._arenas = make_arenas(spec, plan)
            with forkserver.needed() if self._method == "forkserver" else nullcontext():
                try:
                    with self._beginning():
                        self._seat_caller(shape, board_fd)
                    self._start = partial(self._start_worker, payload, shape, board_fd)
                    # All are asked for at once: the fork server may be booting.
                    all(self._start(worker, None) for worker in range(count))
                    watching = self._spawn(self._watch.watch(lambda: self._supervisor.at_work - {count}))
                    await self._supervise(board)
                    watching.cancel()
                finally:
                    await self._clean_up()
            wall_s = time.perf_counter() - began
            for pair in self._pairs.values():
                self._unread.update(pair.count_unread())
            return self._outcome(board, wall_s, "processes", self._method)
        finally:
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

    def _definitions(self) -> bytes:
        if self._method != "fork":
            return definitions.dump(self._spec)
        definitions.refuse_inherited(self._spec)  # it need not be sent, but not all that is inherited can be used
        return b""

    def _watch_over(self, board: Board) -> WorkerWatch:
        return WorkerWatch(
            self._spec,
            self._plan,
            self._options.slow_after,
            board,
            ask=lambda worker: self._tell(Locate(worker)),
            signal_to=self._signal,
            pid_of=lambda worker: self._handles[worker].pid,
            begins=self._how_it_begins,
        )

    def _seat_caller(self, shape: BoardShape, board_fd: int) -> None:
        if not self._plan.caller:
            return
        index = len(self._plan.workers)
        own_fd = os.dup(board_fd)
        try:
            ends = own_ends(ends_for(index, self._spec, self._plan, self._pairs, self._arenas, self._alone))
        except BaseException:
            os.close(own_fd)
            raise

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
        self, payload: bytes, shape: BoardShape, board_fd: int, index: int, death: CascataError | None
    ) -> bool:
        """Asks for a worker, and has it told what it is. What hinders that ends the run.

        Returns:
            Whether nothing did.
        """
        try:
            handle = self._handles[index] = _Handle(index)
            handle.ear = control_socket.Ear(handle.connection, lambda data: self._hear(read(data)))
            handle.heard = handle.ear.ended
            setup, fds = self._setup(handle, shape, board_fd, death)
            handle.set_up(pickle.dumps(setup), fds, payload)
        except BaseException as problem:  # whatever it is: nobody else would tell
            self._cannot_start(index, problem)
            return False
        return self._ask_for(handle)

    def _ask_for(self, handle: _Handle) -> bool:
        """Starts the process of a worker, and has the loop tell its pid."""
        if handle.over:
            return False  # it was killed meanwhile
        process = self._process(handle.index, handle.far.fileno())
        try:
            with held_back():
                process.start()
        except BaseException as problem:  # whatever it is: nobody else would tell
            if isinstance(problem, forkserver.ServerBusy):
                asyncio.get_running_loop().call_later(AGAIN_S, self._ask_for, handle)
                return True
            self._cannot_start(handle.index, problem)
            return False
        handle.process = process
        handle.far.close()
        if isinstance(process, forkserver.ServedWorker):
            asyncio.get_running_loop().add_reader(process.fileno(), self._look, handle)
        else:
            self._hold(handle)
        return True

    def _process(self, index: int, far: int) -> Any:
        if self._method == "forkserver":
            return forkserver.ServedWorker(far)
        from . import launch  # imports multiprocess

        if self._method == "fork":
            return launch.worker_process(self._method, index, linux.main, (far, self._spec))
        return launch.worker_process(self._method, index, linux.main, (launch.ControlEnd(far), None))

    def _cannot_start(self, index: int, problem: BaseException) -> None:
        """Ends the run since a worker could not be started. Where there is a process, `_kill` ends it."""
        self._events.put_nowait(Failed(None, cannot_start(index, self._method, problem)))

    def _look(self, handle: _Handle) -> None:
        """The fork server has told something of a worker whose pid is not known."""
        process: forkserver.ServedWorker = handle.process
        loop = asyncio.get_running_loop()
        try:
            process.look()
        except (OSError, CascataError) as problem:
            loop.remove_reader(process.fileno())
            if not handle.doomed:
                self._cannot_start(handle.index, problem)
            self._never_was(handle)
            return
        if process.pid is not None:
            loop.remove_reader(process.fileno())
            self._hold(handle)

    def _never_was(self, handle: _Handle) -> None:
        """There is no process, or none that anybody knows of: it finds its connection closed, and ends."""
        if not handle.over:
            handle.over = True
            handle.hush()
            self._events.put_nowait(Exited(handle.index, None, time.monotonic()))

    def _hold(self, handle: _Handle) -> None:
        """Takes hold of a process whose pid is known, to see its end and to send it signals."""
        try:
            handle.pidfd = os.pidfd_open(handle.pid)
        except ProcessLookupError:  # it was killed at once, and the fork server has reaped it
            self._spawn(self._bury(handle))
            return
        except OSError as problem:
            self._cannot_start(handle.index, problem)
            with suppress(OSError):
                os.kill(handle.pid, signal.SIGKILL)  # nobody has reaped it: it has just been started
            self._spawn(self._bury(handle))
            return
        asyncio.get_running_loop().add_reader(handle.pidfd, self._gone, handle)
        if handle.doomed:
            self._signal(handle.index, signal.SIGKILL)

    def _how_it_begins(self, worker: int) -> str:
        handle = self._handles.get(worker)
        if handle is None or handle.process is None:
            return "its process has not been started"
        if not handle.pid:
            process: forkserver.ServedWorker = handle.process
            state = state_of(process.servers_pid)
            return f"{process.server}" + ("" if state is None else f": its process {state}")
        if not gives_stacks(handle.pid):
            return f"its process ({handle.pid}) has not read what it was told: its interpreter starts, or hangs"
        return f"its process ({handle.pid}) imports the modules of its nodes"

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
        setup = linux.FdSetup(
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
            authkeys=surroundings.authkeys(),
            environment=dict(os.environ),
            trackers={}
            if self._method == "fork"
            else {name: position(fd) for name, fd in surroundings.trackers().items()},
            thread_cap=max(1, cores // len(self._plan.workers)),
            parent_fd=position(handle.alive_r),
            board_fd=position(board_fd),
            surroundings=(
                surroundings.surroundings(f"cascata-worker-{index}") if self._method == "forkserver" else None
            ),
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

    def _send(self, message: ToWorker) -> None:
        if message.worker in self._handles:
            self._handles[message.worker].send(message)

    def _restart(self, worker: int, death: CascataError) -> None:
        self._let_go(self._handles.pop(worker))
        assert self._board is not None  # made before any worker
        self._board.reset_beat(worker)
        self._start(worker, death)

    def _kill(self, worker: int) -> None:
        handle = self._handles.get(worker)
        if handle is None:  # it could not even be asked for
            self._events.put_nowait(Exited(worker, None, time.monotonic()))
        elif handle.process is None:
            self._never_was(handle)
        elif handle.pidfd >= 0:
            self._signal(worker, signal.SIGKILL)
        elif not handle.pid and not handle.doomed:
            handle.doomed = True
            handle.hush()  # if it is forked later than anybody waits, it ends by itself
            asyncio.get_running_loop().call_later(UNTOLD_S, self._give_up, handle)

    def _give_up(self, handle: _Handle) -> None:
        if not handle.pid:
            self._never_was(handle)

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
        process = handle.process
        if isinstance(process, forkserver.ServedWorker):
            await control_socket.readable(process.fileno(), HEARD_S)
            with suppress(OSError, CascataError):
                process.look()
        else:
            for _ in range(100):
                # What was held until its end tells its exit code at once, or never: the program may ignore SIGCHLD.
                if process.exitcode is not None or handle.pidfd >= 0:
                    break
                await asyncio.sleep(HEARD_S / 100)
        for arena in self._arenas.values():
            release_all(arena, handle.index)
        handle.over = True
        self._events.put_nowait(Exited(handle.index, process.exitcode, time.monotonic()))

    # -- its end

    async def _clean_up(self) -> None:
        self._end_caller()
        held = [handle for handle in self._handles.values() if handle.pidfd >= 0 and not handle.over]
        for handle in held:  # only when the run has ended by a fault of its own
            self._signal(handle.index, signal.SIGKILL)
        if held:
            await asyncio.wait([asyncio.ensure_future(control_socket.readable(each.pidfd, HEARD_S)) for each in held])
        for handle in self._handles.values():
            handle.hush()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=HEARD_S)
        if self._timer is not None:
            self._timer.cancel()
        for handle in self._handles.values():
            self._let_go(handle)

    def _let_go(self, handle: _Handle) -> None:
        """Closes what this process has of a worker that is gone."""
        loop = asyncio.get_running_loop()
        if handle.pidfd >= 0:
            loop.remove_reader(handle.pidfd)
        if isinstance(handle.process, forkserver.ServedWorker):
            loop.remove_reader(handle.process.fileno())
        handle.close()
