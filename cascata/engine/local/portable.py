"""The engine for worker processes where there is nothing but pipes, sockets and threads: on macOS and Windows.

    Run (a thread of its own, with an event loop)
      ├─ starts a process per worker by spawn, with a pipe for control
      ├─ tells every worker the addresses of all, and the run's secret
      ├─ workers ── items, over TCP on this machine (`transport.tcp.station`) ── workers
      └─ events ──> Supervisor ──> instructions; those for a channel go to the worker that keeps it

What it does without: SEQPACKET sockets, memory files, eventfds, pidfds, signals, fds that are passed on. Counters come
as messages instead of standing in shared memory.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

from aioprocessing.connection import AioConnection
from multiprocess.connection import Pipe

from ...errors import CascataError
from ...model import GraphSpec, Plan
from ...observe.board import Board
from ...options import RunOptions
from ...transport.tcp.handshake import new_secret
from ...transport.tcp.station import Address
from ..caller_part import Caller
from ..protocol.messages import CancelWorker, Counted, Failed, Listens, ToWorker, read
from ..protocol.worker_handle import WorkerHandle
from ..supervision.events import Exited
from ..supervision.supervisor import Phase, died
from ..tcp_workers import StationedRun
from ..worker import definitions
from ..worker.sigterm import held_back
from .run import LocalRun

__all__ = ["PortableRun"]

HOST: Final = "127.0.0.1"

HEARD_S: Final = 1.0
"""Seconds that the last words of a worker whose process is gone may take to arrive."""

LOOK_S: Final = 0.1
"""Seconds between two looks whether a process has ended whose children keep its sentinel."""


class _Control(AioConnection):  # type: ignore[misc]  # aioprocessing carries no types
    """A control connection that can be awaited.

    Args:
        connection: this process's end of a worker's pipe.
        pool: the threads of the run, which end with it: aioprocessing's own would end some time later.
    """

    def __init__(self, connection: Any, pool: ThreadPoolExecutor) -> None:
        super().__init__(connection)
        self._pool = pool

    def run_in_executor(self, callback: Callable[..., Any], *args: Any, loop: Any = None) -> asyncio.Future[Any]:
        """What the coroutines of an `AioConnection` wait in. Raises `RuntimeError` when there is no thread for it."""
        return (loop or asyncio.get_running_loop()).run_in_executor(self._pool, callback, *args)


class _Handle(WorkerHandle):
    """The parent's side of one worker process."""

    def __init__(self, index: int, pool: ThreadPoolExecutor) -> None:
        super().__init__(index, *Pipe(duplex=True))
        self.control = _Control(self.connection, pool)
        self.introduced = False
        self.over = False  # whether its end has been told, or there never was a process

    async def set_up(self, setup: Any, payload: bytes) -> None:
        """Sends what a worker is told first. One that is slow to boot reads slowly."""
        with suppress(OSError):  # a worker that is gone is reported by its exit
            await self.control.coro_send_bytes(pickle.dumps(setup))
            await self.control.coro_send_bytes(payload)

    async def introduce(self, addresses: Mapping[int, Address]) -> None:
        """Sends the addresses of all, after `set_up`."""
        with suppress(OSError):
            await self.control.coro_send_bytes(pickle.dumps(addresses))
        self.is_set_up()

    async def gone(self) -> None:
        """Returns when the process has ended."""
        while not _is_gone(self.process):
            try:
                await self.control.run_in_executor(self.process.join, LOOK_S)
            except RuntimeError:  # there is no thread to wait in
                await asyncio.sleep(LOOK_S)


def _is_gone(process: Any) -> bool:
    """Whether a process has ended, also where nobody is told its exit code.

    The program may ignore SIGCHLD, or the fork server, whose child it is, may stand still and not tell.
    """
    if process.exitcode is not None or _is_reaped(process):
        return True
    try:
        with Path(f"/proc/{process.pid}/stat").open("rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except OSError:  # there is no such folder on this system, or it has gone just now
        return False


def _is_reaped(process: Any) -> bool:
    """Whether there is no such process any more, so that its exit code will not be had."""
    if sys.platform != "win32":
        try:
            os.kill(process.pid, 0)
        except ProcessLookupError:
            return True
    return False


def _kill_and_close(process: Any) -> None:
    """Ends a process that nobody waits for any more."""
    with suppress(OSError):
        process.kill()
    process.join(HEARD_S)
    with suppress(ValueError):
        process.close()


class PortableRun(LocalRun, StationedRun):
    """One run on worker processes. See `LocalRun` and `StationedRun`."""

    def __init__(
        self,
        spec: GraphSpec,
        plan: Plan,
        options: RunOptions,
        caller: Caller | None = None,
        alone: AbstractSet[str] = frozenset(),
    ) -> None:
        super().__init__(spec, plan, options, caller, alone)
        self._handlers |= {Counted: self._on_counted, Listens: self._on_listens}
        if self._method != "spawn" and sys.platform != "linux":
            raise CascataError(
                f"start_method={self._method!r}: on this system workers start by spawn only. Leave it out"
            )
        self._secret = new_secret()
        self._handles: dict[int, _Handle] = {}
        self._setting_up: dict[int, asyncio.Task[None]] = {}
        self._addresses: dict[int, Address | None] = {}  # of workers that are ready to begin
        self._introduced = False
        self._telling = threading.Lock()  # held by a thread that tells the loop of a process, while the loop goes on
        self._executor: ThreadPoolExecutor

    # -- its life

    def _definitions(self) -> bytes:
        return definitions.dump(self._spec)

    def _made(self, held: ExitStack) -> Board:
        count = len(self._plan.workers)
        self._executor = ThreadPoolExecutor(3 * count or 1, thread_name_prefix="cascata-control")
        board = self._board = Board(self._shape)
        if not self._plan.caller:  # a caller's part that nobody waited for may count still
            held.callback(board.close)  # a traceback that somebody keeps would keep its memory
        held.callback(self._executor.shutdown)
        self._watch = self._watch_over(board)
        return board

    def _begin_caller(self) -> None:
        assert self._board is not None  # `_made` made it
        self._seat_caller(self._board, HOST, self._secret)

    # -- how it starts

    def _is_seated(self) -> None:
        super()._is_seated()
        self._introduce()

    def _start(self, worker: int, death: CascataError | None) -> bool:
        try:
            handle = self._handles[worker] = _Handle(worker, self._executor)
            far = handle.far
            process = self._process(worker, far)
            setup = self._setup(worker, death)
            loop = asyncio.get_running_loop()

            def start() -> None:
                """In a thread: a fork server may not answer. Meanwhile the run may end, and must leave `far` open."""
                problem: BaseException | None = None
                try:
                    with held_back():
                        process.start()
                except BaseException as error:  # whatever it is: nobody else would tell
                    problem = error
                far.close()
                with self._telling:
                    waits = not handle.over
                    if waits:
                        loop.call_soon_threadsafe(self._has_started, handle, process, problem, setup)
                if not waits and problem is None:
                    _kill_and_close(process)

            threading.Thread(target=start, name="cascata-start", daemon=True).start()
            handle.far = None
        except BaseException as problem:  # whatever it is: nobody else would tell
            self._cannot_start(worker, problem)
            return False
        return True

    def _has_started(self, handle: _Handle, process: Any, problem: BaseException | None, setup: Any) -> None:
        if handle.over:
            if problem is None:
                threading.Thread(target=_kill_and_close, args=(process,), name="cascata-start", daemon=True).start()
            return
        if problem is not None:
            self._cannot_start(handle.index, problem)
            return
        handle.process = process
        handle.heard = self._spawn(self._listen(handle))
        self._spawn(self._bury(handle))
        self._setting_up[handle.index] = self._spawn(self._set_up(handle, setup))
        if self._introduced:  # it starts again: the others know each other, and it waits for nobody
            self._introduce_to(handle)

    async def _set_up(self, handle: _Handle, setup: Any) -> None:
        try:
            await handle.set_up(setup, self._payload)
        except RuntimeError as no_thread:
            self._cannot_start(handle.index, no_thread)

    def _how_it_begins(self, worker: int) -> str:
        pid = self._pid_of(worker)
        if not pid:
            return "its process has not been started"
        if worker in self._addresses:
            return "it waits for other workers"
        return f"its process ({pid}) is not ready: its interpreter starts, or it imports the modules of its nodes"

    def _process(self, index: int, far: Any) -> Any:
        from ..worker.portable import main

        if self._method == "spawn":
            from .spawning import SpawnWorker

            return SpawnWorker(target=main, args=(far,), name=f"cascata-worker-{index}")
        from . import launch

        return launch.worker_process(self._method, index, main, (far,))

    def _setup(self, worker: int, death: CascataError | None) -> Any:
        from ..worker.portable import PortableSetup
        from ..worker.surroundings import trackers

        return PortableSetup(
            **self._setup_of(worker, death),
            trackers=trackers() if self._method == "spawn" else {},
            secret=self._secret,
            host=HOST,
            ports=self._ports,
        )

    def _introduce(self) -> None:
        """When all workers are ready, tells each where the others are: then they begin."""
        if self._introduced or len(self._addresses) < len(self._plan.workers) or not self._seated.is_set():
            return
        self._introduced = True
        for handle in self._handles.values():
            self._introduce_to(handle)
        self._open_station(self._reachable())

    def _introduce_to(self, handle: _Handle) -> None:
        if not handle.introduced and handle.index in self._setting_up:
            handle.introduced = True
            self._spawn(self._send_addresses(handle, self._setting_up[handle.index]))

    async def _send_addresses(self, handle: _Handle, set_up: asyncio.Task[None]) -> None:
        await set_up
        await handle.introduce(self._reachable())

    def _reachable(self) -> Mapping[int, Address]:
        return self._addresses_with({part: each for part, each in self._addresses.items() if each is not None})

    # -- what the supervisor instructs

    def _send(self, message: ToWorker) -> None:
        super()._send(message)
        if isinstance(message, CancelWorker) and message.worker in self._handles:
            self._introduce_to(self._handles[message.worker])  # it may wait for others that will never be ready

    def _kill(self, worker: int) -> None:
        handle = self._handles.get(worker)
        if handle is not None and handle.process is not None:
            with suppress(OSError):  # it has just ended
                handle.process.kill()
        elif handle is None or not handle.over:  # it could not be asked for, or is not there yet: then it ends at once
            if handle is not None:
                handle.over = True
                handle.hush()
            self._events.put_nowait(Exited(worker, None, time.monotonic()))

    def _restart(self, worker: int, death: CascataError) -> None:
        super()._restart(worker, death)
        self._handles.pop(worker).close()
        self._setting_up.pop(worker, None)
        self._start(worker, death)

    # -- what workers say

    async def _listen(self, handle: _Handle) -> None:
        while True:
            try:
                message = read(await handle.control.coro_recv_bytes())
            except (EOFError, OSError):
                return
            self._hear(message)

    def _on_counted(self, message: Counted) -> None:
        self._count(message.worker, message.counts)

    def _on_listens(self, message: Listens) -> None:
        self._addresses[message.worker] = message.address
        self._introduce()

    async def _confirm_loss(self, part: int, peer: int, error: CascataError) -> None:
        await asyncio.sleep(HEARD_S)
        if self._supervisor.phase not in (Phase.RUNNING, Phase.DRAINING):
            return
        process = self._handles[peer].process if peer in self._handles else None
        exitcode = None if process is None else process.exitcode
        if exitcode is not None:
            error = died(peer, exitcode, self._plan.parts[peer])
        self._events.put_nowait(Failed(part, error))

    async def _bury(self, handle: _Handle) -> None:
        """Waits for the end of a process, for its last words and its exit code."""
        process = handle.process
        await handle.gone()
        if handle.heard is not None:
            await asyncio.wait([handle.heard], timeout=HEARD_S)  # a child of its own may keep the pipe open
        handle.hush()
        for _ in range(100):  # its sentinel is closed before it can be waited for
            if process.exitcode is not None or _is_reaped(process):
                break
            await asyncio.sleep(HEARD_S / 100)
        handle.over = True
        self._events.put_nowait(Exited(handle.index, process.exitcode, time.monotonic()))

    # -- its end

    async def _clean_up(self) -> None:
        self._end_caller()
        for doubt in self._doubts:
            doubt.cancel()
        for handle in self._handles.values():
            process = handle.process
            if process is not None and not handle.over:  # only when the run has ended by a fault of its own
                process.kill()
                process.join(HEARD_S)
            with self._telling:  # a process that comes later is ended by the thread that has started it
                handle.over = True
            handle.hush()
        await self._close_station()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=HEARD_S)
        if self._timer is not None:
            self._timer.cancel()
        self._executor.shutdown()
        for handle in self._handles.values():
            handle.close()
