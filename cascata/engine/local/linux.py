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
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, suppress
from typing import Any, Final

from ...errors import CascataError
from ...model import GraphSpec, Plan
from ...observe.board import Board
from ...options import RunOptions
from ...runtime.worker import Links, Refused
from ...transport.linux.blocks import keep_only, release_all
from ...transport.linux.ends import LinkedEnds
from ...transport.linux.fd_hub import Hub
from ...transport.linux.fds import AnyPair, ends_for, make_arenas, make_pairs
from ...transport.shared import after_fork
from ..caller_part import Caller, own_ends
from ..protocol import control_socket
from ..protocol.messages import ToWorker, read, write
from ..protocol.worker_handle import WorkerHandle
from ..rewrite import restartable
from ..supervision.events import Exited
from ..supervision.watchdog import gives_stacks, state_of
from ..worker import definitions, linux, surroundings
from ..worker.sigterm import held_back
from . import forkserver
from .open_files import make_room_for_fds
from .run import LocalRun

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


class ProcessRun(LocalRun):
    """One run on worker processes. See `LocalRun`."""

    def __init__(
        self,
        spec: GraphSpec,
        plan: Plan,
        options: RunOptions,
        caller: Caller | None = None,
        alone: AbstractSet[str] = frozenset(),
    ) -> None:
        super().__init__(spec, plan, options, caller, alone)
        self._board_fd = -1
        self._journals: dict[int, int] = {}  # worker that may start again -> fd
        self._handles: dict[int, _Handle] = {}
        self._pairs: dict[int, AnyPair] = {}
        self._arenas: dict[int, int] = {}

    # -- its life

    def _made(self, held: ExitStack) -> Board:
        spec, plan = self._spec, self._plan
        count, crossing = len(plan.workers), len(plan.crossing)
        # Of each there are four here, and as many again where sources and sinks are held; a worker has three, and three
        # more while it makes its ends.
        make_room_for_fds(crossing * 8 + count * 9, f"a run on {count} worker(s) with {crossing} crossing channel(s)")
        with self._beginning():
            self._board_fd = os.memfd_create("cascata-board", os.MFD_CLOEXEC)
            held.callback(os.close, self._board_fd)
            held.callback(self._give_back)
            os.ftruncate(self._board_fd, self._shape.size)
            board = self._board = Board(self._shape, self._board_fd)
            held.callback(board.close)  # a traceback that somebody keeps would keep its memory
            self._watch = self._watch_over(board)
            held.callback(self._watch.close)
            self._pairs = make_pairs(spec, plan, self._alone)
            for worker in sorted(self._returning):
                self._journals[worker] = restartable.make_journal(spec, plan.workers[worker])
            self._arenas = make_arenas(spec, plan)
        return board

    def _give_back(self) -> None:
        for pair in self._pairs.values():
            pair.close()
        for arena in self._arenas.values():
            if self._plan.caller:
                keep_only(arena, len(self._plan.workers))  # what the caller received may be kept for long
            os.close(arena)
        for journal in self._journals.values():
            os.close(journal)

    def _definitions(self) -> bytes:
        if self._method != "fork":
            return definitions.dump(self._spec)
        definitions.refuse_inherited(self._spec)  # it need not be sent, but not all that is inherited can be used
        return b""

    def _begin_caller(self) -> None:
        if not self._plan.caller:
            return
        index = len(self._plan.workers)
        own_fd = os.dup(self._board_fd)
        try:
            ends = own_ends(ends_for(index, self._spec, self._plan, self._pairs, self._arenas, self._alone))
        except BaseException:
            os.close(own_fd)
            raise

        def equip(stack: ExitStack, refused: Refused) -> tuple[Board, Links]:
            hub = Hub()
            stack.callback(hub.close)
            board = Board(self._shape, own_fd)
            stack.callback(board.close)
            links = LinkedEnds(hub, ends, self._spec, board, index, refused)
            stack.callback(links.close)
            return board, links

        def close() -> None:
            for fd in (own_fd, *ends.fds()):
                os.close(fd)

        self._seat(equip, close)

    def _start(self, worker: int, death: CascataError | None) -> bool:
        try:
            handle = self._handles[worker] = _Handle(worker)
            handle.ear = control_socket.Ear(handle.connection, lambda data: self._hear(read(data)))
            handle.heard = handle.ear.ended
            setup, fds = self._setup(handle, death)
            handle.set_up(pickle.dumps(setup), fds, self._payload)
        except BaseException as problem:  # whatever it is: nobody else would tell
            self._cannot_start(worker, problem)
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
            self._signal_to(handle.index, signal.SIGKILL)

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

    def _setup(self, handle: _Handle, death: CascataError | None) -> tuple[Any, list[int]]:
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
        setup = linux.FdSetup(
            **self._setup_of(index, death),
            ends=ends.numbered(position),
            trackers={}
            if self._method == "fork"
            else {name: position(fd) for name, fd in surroundings.trackers().items()},
            parent_fd=position(handle.alive_r),
            board_fd=position(self._board_fd),
            surroundings=(
                surroundings.surroundings(f"cascata-worker-{index}") if self._method == "forkserver" else None
            ),
            stacks_fd=position(self._watch.stacks_w),
            journal_fd=position(self._journals[index]) if index in self._journals else None,
            streams=streams,
            fds=0,
        )
        setup.fds = len(positions)
        return setup, list(positions)

    # -- what the supervisor instructs

    def _restart(self, worker: int, death: CascataError) -> None:
        self._let_go(self._handles.pop(worker))
        super()._restart(worker, death)
        self._start(worker, death)

    def _kill(self, worker: int) -> None:
        handle = self._handles.get(worker)
        if handle is None:  # it could not even be asked for
            self._events.put_nowait(Exited(worker, None, time.monotonic()))
        elif handle.process is None:
            self._never_was(handle)
        elif handle.pidfd >= 0:
            self._signal_to(worker, signal.SIGKILL)
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

    def _signal_to(self, worker: int, number: int) -> None:
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
            self._signal_to(handle.index, signal.SIGKILL)
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
        for pair in self._pairs.values():
            self._unread.update(pair.count_unread())

    def _let_go(self, handle: _Handle) -> None:
        """Closes what this process has of a worker that is gone."""
        loop = asyncio.get_running_loop()
        if handle.pidfd >= 0:
            loop.remove_reader(handle.pidfd)
        if isinstance(handle.process, forkserver.ServedWorker):
            loop.remove_reader(handle.process.fileno())
        handle.close()
