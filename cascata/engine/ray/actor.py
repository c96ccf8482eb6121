"""A worker of a run on Ray: an actor, and what it does from its first call to its last.

    driver ── tell(command) ──> inbox ──> a thread obeys        (as in every engine: engine.worker.obeying)
           <── listen() ─────── outbox <── Reporter ────────────┘
    actor  <══ frames, TCP ══>  other actors                    (transport.tcp.station)

A class without a single `async def`, not even a private one: an async actor does not keep the order of calls, runs them
on loops of Ray's own, and takes three times as long for each. `run` starts a thread for the nodes; the other methods
have threads of Ray's. Errors travel as messages, never by being raised: Ray would wrap them, and loses those with odd
constructors.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ...errors import CascataError
from ...model import GraphSpec
from ...observe.board import Board
from ...observe.log import install_forwarding
from ...records import dataclass
from ...runtime.worker import SWITCH_S, Worker
from ...transport.tcp.station import Address, Station
from .. import run_at_import
from ..protocol.messages import LeftUnread, Printed, Reporter
from ..worker.life import cannot_listen, flush_streams, loaded, tell_end
from ..worker.obeying import by_connection
from ..worker.output import PrintedStream
from ..worker.stationed import StationedLife, StationedSetup, new_station

__all__ = ["GROUPS", "HEARD_S", "Place", "WorkerActor"]

GROUPS: Final = {"tell": 1, "listen": 1}
"""Ray's concurrency groups: methods that have threads of their own, and how many."""

HEARD_S: Final = 0.3
"""Seconds that a call of `listen` waits for something to tell."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker runs.

    Attributes:
        address: of its station.
        actor: id of the actor.
        node: id of the Ray node.
        host: address of the node.
        pid: id of the process there.
    """

    address: Address
    actor: str
    node: str
    host: str
    pid: int


class _Wire:
    """The control connection, as far as a worker sees it: two queues."""

    def __init__(self) -> None:
        self.inbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def send_bytes(self, data: bytes) -> None:
        self.outbox.put(data)

    def recv_bytes(self) -> bytes:
        command = self.inbox.get()
        if command is None:
            raise EOFError
        return command


class WorkerActor:
    """One worker. The driver calls `place`, then `run`, and beside it `tell` and `listen`.

    Args:
        index: of the worker.
        nodes: that it is to run.
        secret: of the run.
        ports: at which its station may listen.
    """

    def __init__(self, index: int, nodes: Sequence[str], secret: bytes, ports: range) -> None:
        import ray.util

        sys.setswitchinterval(SWITCH_S)  # the loop of the nodes shares the interpreter with threads for I/O and calls
        self._wire = _Wire()
        self._reporter = Reporter(index, by_connection(self._wire))
        self._board: Board | None = None
        self._host: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call, unused-ignore]
        self._station: Station | None = None
        self._problem: CascataError | None = None
        try:
            self._station = new_station(index, secret, self._host, ports, self._reporter.send)
        except (CascataError, OSError) as problem:
            self._problem = cannot_listen(index, nodes, problem)

    def place(self) -> Place | CascataError:
        """Where this worker runs, and where its station listens; or why it cannot."""
        import ray

        if self._station is None:
            assert self._problem is not None
            return self._problem
        context = ray.get_runtime_context()
        return Place(
            self._station.address, context.get_actor_id() or "", context.get_node_id(), self._host, os.getpid()
        )

    def tell(self, command: bytes) -> None:
        """Hands over a command."""
        self._wire.inbox.put(command)

    def listen(self) -> tuple[list[bytes | None], bytes]:
        """Waits a moment for messages.

        Returns:
            The messages so far, the last one None when there will be no more; and the counts of this worker.
        """
        found: list[bytes | None] = []
        try:
            found.append(self._wire.outbox.get(timeout=HEARD_S))
            while True:
                found.append(self._wire.outbox.get_nowait())
        except queue.Empty:
            pass
        return found, b"" if self._board is None else self._board.snapshot()

    def run(
        self,
        setup: StationedSetup,
        payload: bytes,
        addresses: Mapping[int, Address],
    ) -> None:
        """Has the nodes run to their end, in a thread of their own: Ray's have loops already. Returns at once.

        Args:
            setup: what every worker is told first.
            payload: the definitions.
            addresses: where the other workers' stations listen.
        """
        board = Board(setup.shape)
        board.catch_up(setup.counted)
        self._board = board
        station = self._station
        assert station is not None  # else the driver has been told why there is none

        def life(spec: GraphSpec) -> _ActorLife:
            return _ActorLife(setup, spec, board, self._wire, self._reporter, None, station, addresses)

        nodes = threading.Thread(target=self._run, args=(setup, payload, station, life), name="cascata-nodes")
        nodes.daemon = True  # what is not over is ended by the driver
        nodes.start()

    def _run(
        self, setup: StationedSetup, payload: bytes, station: Station, life: Callable[[GraphSpec], _ActorLife]
    ) -> None:
        install_forwarding(self._reporter.log, setup.log_level)
        sys.stdout = PrintedStream(sys.stdout, self._printed(1))
        sys.stderr = PrintedStream(sys.stderr, self._printed(2))
        spec = loaded(setup, payload, self._reporter)
        if spec is not None:
            try:
                with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:  # Ray's policy may be uvloop's
                    runner.run(life(spec).run())
            except BaseException as error:  # a fault of this house; raised, Ray would keep it to itself
                self._reporter.failed(error)
                self._reporter.finished()
        # Comes before what modules have registered, after the nodes' threads.
        atexit.register(run_at_import.work_is_over)
        station.close()
        flush_streams()
        self._wire.inbox.put(None)
        self._wire.outbox.put(None)

    def _printed(self, stream: int) -> Callable[[str], None]:
        return lambda text: self._reporter.send(Printed(stream, text))


class _ActorLife(StationedLife):
    """See `WorkerLife`. Not the actor itself: one coroutine in its class would make that an async one."""

    async def ended(self, worker: Worker) -> None:
        station = self.station
        assert station is not None  # each actor has one
        if not worker.cancelling:
            await station.served()
        self.reporter.send(LeftUnread(station.unread()))
        tell_end(self.reporter)
