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
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from ... import log
from ...errors import CascataError, SerializationError
from ...model import GraphSpec, Plan
from ...observe.board import Board
from ...observe.log import install_forwarding
from ...records import dataclass
from ...runtime.worker import SWITCH_S, Worker
from ...transport.tcp.ends import BrokeredEnds
from ...transport.tcp.station import Address, Station
from .. import run_at_import
from ..protocol.messages import (
    CancelWorker,
    Counted,
    LeftUnread,
    Listens,
    Lost,
    Reporter,
    Terminated,
    Unreached,
)
from . import definitions
from .exit import begin_after_fork, finish
from .life import (
    by_connection,
    cannot_listen,
    flush_streams,
    heed_signals,
    load_failure,
    make_worker,
    obey,
    take_over,
    tell_end,
)
from .sigterm import ParentsWord
from .stationed import StationedSetup, station_handlers
from .surroundings import join_trackers

__all__ = ["BoardTeller", "PortableSetup", "main"]

TELL_S: Final = 0.2
"""Seconds between two messages of what was counted."""


@dataclass(slots=True)
class PortableSetup(StationedSetup):
    """What a worker is told first."""

    plan: Plan
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent cancels in order
    word = ParentsWord()
    heed_signals()
    sys.setswitchinterval(SWITCH_S)
    if _is_forked():
        begin_after_fork()
    try:
        setup: PortableSetup = pickle.loads(connection.recv_bytes())
        payload = connection.recv_bytes()
    except (EOFError, OSError):
        os._exit(1)  # the parent is gone before it had begun
    reporter = Reporter(setup.index, by_connection(connection))
    word.ask = partial(reporter.send, Terminated(setup.index))
    take_over(setup)
    if setup.trackers:
        join_trackers(setup.trackers)
    install_forwarding(reporter.log, setup.log_level)
    try:
        station = _station(setup, reporter) if setup.crossing else None
    except (CascataError, OSError) as problem:
        reporter.failed(cannot_listen(setup.index, setup.nodes, problem))
        reporter.finished()
        return
    try:
        with run_at_import.loading(setup.modules, setup.begun_by):
            spec = definitions.load(payload)
    except BaseException as error:  # whatever a user's module raises when it is imported
        reporter.failed(load_failure(setup, error))
        reporter.finished()
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
    asyncio.run(_run(setup, spec, connection, reporter, teller, station, addresses, word))
    del spec
    finish(("__main__", *setup.modules))
    flush_streams()


def _station(setup: PortableSetup, reporter: Reporter) -> Station:
    return Station(
        setup.index,
        setup.secret,
        setup.host,
        ports=setup.ports,
        lost=lambda peer, why: reporter.send(Lost(setup.index, peer, why)),
        unreached=lambda peer, why: reporter.send(Unreached(setup.index, peer, why)),
        refused=log.warning,
    )


def _is_forked() -> bool:
    from multiprocess.process import current_process

    return getattr(current_process(), "_start_method", None) == "fork"


async def _run(
    setup: PortableSetup,
    spec: GraphSpec,
    connection: Any,
    reporter: Reporter,
    teller: BoardTeller,
    station: Station | None,
    addresses: Mapping[int, Address],
    word: ParentsWord,
) -> None:
    loop = asyncio.get_running_loop()
    board = teller.board
    links: BrokeredEnds | None = None

    def refused(error: SerializationError, owners: Sequence[str], item: Any) -> None:
        worker.refused(error, owners, item)

    if station is not None:
        links = BrokeredEnds(station, spec, setup.plan, board, refused, setup.alone, again=setup.again)
    worker = make_worker(setup, spec, board, reporter, links, setup.life)
    if station is not None:
        station.open(addresses)
    serving: asyncio.Future[None] = loop.create_future()

    def cancel() -> None:
        worker.cancel()
        serving.cancel()

    others: dict[type, Callable[[Any], object]] = {CancelWorker: lambda _: loop.call_soon_threadsafe(cancel)}
    if station is not None:
        others |= station_handlers(station)

    def obey_to_the_end() -> None:
        obey(connection, loop, worker, reporter, others, word)
        os._exit(1)  # the parent is gone, also when the nodes have ended and what they leave is being saved

    threading.Thread(target=obey_to_the_end, name="cascata-control", daemon=True).start()
    word.listens()
    telling = asyncio.ensure_future(teller.keep_telling())
    await worker.run()
    telling.cancel()
    teller.tell()
    tell_end(reporter)
    if station is not None:
        await _leave(worker, station, serving, reporter)


async def _leave(worker: Worker, station: Station, serving: asyncio.Future[None], reporter: Reporter) -> None:
    """Ends when no other worker needs the channels that are kept here."""
    if not worker.cancelling and not serving.cancelled():
        served = asyncio.ensure_future(station.served())
        await asyncio.wait([served, serving], return_when=asyncio.FIRST_COMPLETED)
        served.cancel()
    reporter.send(LeftUnread(station.unread()))
    await asyncio.to_thread(station.close)
