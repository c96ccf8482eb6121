"""A worker process where there is nothing but pipes, sockets and threads: see `portable`.

    parent ── set-up, definitions, addresses, commands ──> a pipe ──> this process
           <── its address, events, log records, counts ─────┘

The parent's death closes the pipe; a thread waits for that, and ends the process. While C code holds the interpreter,
that thread cannot run: such a worker ends when that code comes back.
"""

from __future__ import annotations

import asyncio
import os
import pickle
from collections.abc import Mapping
from typing import Any, Final

from ...errors import CascataError
from ...model import GraphSpec
from ...observe.board import Board
from ...records import dataclass
from ...runtime.worker import Worker
from ...transport.tcp.station import Address, Station
from ..protocol.messages import CancelWorker, Counted, LeftUnread, Listens, Reporter
from .exit import begin_after_fork
from .life import begin, cannot_listen, end, loaded, take_over, tell_end
from .obeying import Handlers
from .sigterm import ParentsWord
from .stationed import StationedLife, StationedSetup, new_station
from .surroundings import join_trackers

__all__ = ["BoardTeller", "PortableSetup", "main"]

TELL_S: Final = 0.2
"""Seconds between two messages of what was counted."""


@dataclass(slots=True)
class PortableSetup(StationedSetup):
    """What a worker is told first."""

    secret: bytes
    host: str
    ports: range
    """At which its station may listen."""
    trackers: dict[str, int]
    """Package -> fd of its resource tracker, of a worker that spawn starts; to others it comes another way."""


class BoardTeller:
    """Sends what is written to a board of this process alone to whoever has the run's.

    Args:
        board: of this process.
        reporter: by which it is sent.
    """

    def __init__(self, board: Board, reporter: Reporter) -> None:
        self.board = board
        self._reporter = reporter
        self._told = b""

    def tell(self) -> None:
        """Sends what is new."""
        counts = self.board.snapshot()
        if counts != self._told:
            self._told = counts
            self._reporter.send(Counted(self._reporter.worker, counts))

    async def keep_telling(self) -> None:
        """Sends what is new again and again, until it is cancelled."""
        while True:
            self.tell()
            await asyncio.sleep(TELL_S)


def main(connection: Any) -> None:
    """Runs a worker. `connection` is the far end of the parent's pipe."""
    word = begin()
    if _is_forked():
        begin_after_fork()
    try:
        setup: PortableSetup = pickle.loads(connection.recv_bytes())
        payload = connection.recv_bytes()
    except (EOFError, OSError):
        os._exit(1)  # the parent is gone before it had begun
    reporter = take_over(setup, connection, word)
    if setup.trackers:
        join_trackers(setup.trackers)
    station: Station | None = None
    try:
        if setup.crossing:
            station = new_station(setup.index, setup.secret, setup.host, setup.ports, reporter.send)
    except (CascataError, OSError) as problem:
        reporter.failed(cannot_listen(setup.index, setup.nodes, problem))
        reporter.finished()
        return
    spec = loaded(setup, payload, reporter)
    if spec is None:
        if station is not None:
            station.close()
        return
    # It counts as begun when the parent has heard this: whatever it does comes later, since it waits for the answer.
    teller = BoardTeller(Board(setup.shape), reporter)
    reporter.count = teller.tell
    teller.board.catch_up(setup.counted)
    teller.board.set_beat(setup.index)
    teller.tell()
    reporter.send(Listens(setup.index, None if station is None else station.address))
    try:
        addresses: Mapping[int, Address] = pickle.loads(connection.recv_bytes())
    except (EOFError, OSError):
        os._exit(1)
    asyncio.run(_PortableLife(setup, spec, connection, reporter, word, station, addresses, teller).run())
    del spec
    end(setup)


def _is_forked() -> bool:
    from multiprocess.process import current_process

    return getattr(current_process(), "_start_method", None) == "fork"


class _PortableLife(StationedLife):
    """See `WorkerLife`. What is counted is told by messages, and the end of the pipe is the parent's."""

    def __init__(
        self,
        setup: PortableSetup,
        spec: GraphSpec,
        connection: Any,
        reporter: Reporter,
        word: ParentsWord,
        station: Station | None,
        addresses: Mapping[int, Address],
        teller: BoardTeller,
    ) -> None:
        super().__init__(setup, spec, teller.board, connection, reporter, word, station, addresses)
        self._teller = teller
        self._telling: asyncio.Future[None]
        self._serving: asyncio.Future[None]

    def begun(self, worker: Worker) -> Handlers:
        loop = asyncio.get_running_loop()
        self._serving = loop.create_future()
        self._telling = asyncio.ensure_future(self._teller.keep_telling())

        def cancel() -> None:
            worker.cancel()
            self._serving.cancel()

        return {**super().begun(worker), CancelWorker: lambda _: loop.call_soon_threadsafe(cancel)}

    def abandoned(self) -> None:
        os._exit(1)  # the parent is gone, also when the nodes have ended and what they leave is being saved

    async def ended(self, worker: Worker) -> None:
        """Ends when no other worker needs the channels that are kept here."""
        self._telling.cancel()
        self._teller.tell()
        tell_end(self.reporter)
        station, serving = self.station, self._serving
        if station is None:
            return
        if not worker.cancelling and not serving.cancelled():
            served = asyncio.ensure_future(station.served())
            await asyncio.wait([served, serving], return_when=asyncio.FIRST_COMPLETED)
            served.cancel()
        self.reporter.send(LeftUnread(station.unread()))
        await asyncio.to_thread(station.close)
