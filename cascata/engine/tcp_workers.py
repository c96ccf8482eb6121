"""What engines on the portable transport do alike: channels have homes, and the caller's part has a station too.

workers: a station each ══ TCP ══ the station of the caller's part, here, if the run has one
EndWriting, EndReading, Grow ──> the part that is the channel's home: a worker, by a command, or that station
RestartWorker ──> a new worker with a new station, which connects to the homes of its channels by itself
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, suppress
from typing import Any, Final

from .. import log
from ..errors import CascataError
from ..model import GraphSpec, Plan
from ..observe.board import Board
from ..options import RunOptions
from ..runtime.worker import Links, Refused
from ..transport.tcp import ports
from ..transport.tcp.ends import BrokeredEnds, home_of
from ..transport.tcp.station import Address, Station
from .caller_part import Caller
from .protocol.messages import (
    EndCrossingReading,
    EndCrossingWriting,
    FromWorker,
    GrowCrossing,
    LeftUnread,
    Lost,
    Overdue,
    StrangerRefused,
    Unreached,
)
from .supervision.supervised import SupervisedRun
from .supervision.supervisor import Phase
from .worker.stationed import new_station, station_handlers

__all__ = ["StationedRun"]

TOLD_S: Final = 1.0
"""Seconds in which the death of a worker is told, most often, after a connection to it broke."""


class StationedRun(SupervisedRun):
    """One run on workers that have stations. See `SupervisedRun`.

    Args:
        alone: the nodes that start again when their worker dies; each has a worker of its own.

    Raises:
        CascataError: the environment asks for ports that cannot be.
    """

    def __init__(
        self,
        spec: GraphSpec,
        plan: Plan,
        options: RunOptions,
        caller: Caller | None = None,
        alone: AbstractSet[str] = frozenset(),
    ) -> None:
        super().__init__(spec, plan, options, caller, alone)
        self._ports = ports.asked_for()
        self._counted: dict[int, bytes] = {}  # what each worker has told last of what it counted
        self._lives: Counter[int] = Counter()  # how often each worker was started again
        self._station: Station | None = None  # of the caller's part
        self._seated = asyncio.Event()
        self._doubts: list[asyncio.Task[None]] = []  # about connections that broke
        self._handlers |= {
            Lost: self._on_lost,
            Unreached: self._on_unreached,
            StrangerRefused: self._on_refused,
            LeftUnread: self._on_left_unread,
        }

    def _decided(self, plan: Plan) -> None:
        super()._decided(plan)
        self._forgetful = frozenset(range(len(plan.parts)))  # what is in a connection then is in nobody's hands

    def _setup_of(self, worker: int, death: CascataError | None) -> dict[str, Any]:
        return super()._setup_of(worker, death) | {
            "plan": self._plan,
            "alone": frozenset(self._alone),
            "counted": b"" if death is None else self._counted.get(worker, b""),
        }

    # -- the caller's part

    def _seat_caller(self, board: Board, host: str, secret: bytes) -> None:
        """Has the caller's part begin, if there is one; `_seated` is set when its ends are made.

        Args:
            board: the stats board of the run.
            host: the address of this machine that the workers reach it at.
            secret: of the run.
        """
        plan = self._plan
        if not plan.caller:
            self._seated.set()
            return
        index = len(plan.workers)
        loop = asyncio.get_running_loop()

        def tell(message: FromWorker) -> None:
            with suppress(RuntimeError):  # the loop is closed: the run is over
                loop.call_soon_threadsafe(self._hear, message)

        station = self._station = new_station(index, secret, host, self._ports, tell)

        def equip(_: ExitStack, refused: Refused) -> tuple[Board, Links]:
            return board, BrokeredEnds(station, self._spec, plan, board, refused, self._alone)

        def ready() -> None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._is_seated)

        self._seat(equip, lambda: None, ready)

    def _is_seated(self) -> None:
        """The caller's part has its ends."""
        self._seated.set()

    def _addresses_with(self, workers: Mapping[int, Address]) -> dict[int, Address]:
        """Where everybody listens, the caller's part included."""
        station = self._station
        return {**workers} if station is None else {**workers, station.me: station.address}

    def _open_station(self, addresses: Mapping[int, Address]) -> None:
        """Lets the caller's part connect: from now on frames come."""
        if self._station is not None:
            self._station.open(addresses)

    async def _close_station(self) -> None:
        """When no worker is left: what was in the channels that the caller's part keeps, and its end."""
        if self._station is not None:
            self._unread.update(self._station.unread())
            await asyncio.get_running_loop().run_in_executor(None, self._station.close)

    # -- what the supervisor instructs

    def _home(self, channel: int) -> int:
        return home_of(self._spec.channels[channel], self._spec, self._plan, self._alone)

    def _end_writing(self, channel: int) -> None:
        self._at_home(EndCrossingWriting(self._home(channel), channel))

    def _end_reading(self, channel: int) -> None:
        self._at_home(EndCrossingReading(self._home(channel), channel))

    def _grow(self, channel: int, capacity: int, extra: int) -> None:
        self._at_home(GrowCrossing(self._home(channel), channel, extra))

    def _at_home(self, message: EndCrossingWriting | EndCrossingReading | GrowCrossing) -> None:
        """Has something done where a channel is kept: on a worker, or by the station of the caller's part."""
        station = self._station
        if station is not None and message.worker == station.me:
            station_handlers(station)[type(message)](message)
        else:
            self._send(message)

    # -- what workers say

    def _on_lost(self, message: Lost) -> None:
        if message.peer in self._returning:  # if it lives, it has lost the connection, too
            self._doubts.append(self._spawn(self._look_for(message.peer)))
        else:
            self._without_connection(
                message,
                f"the connection between {self._in_words(message.worker)} and {self._in_words(message.peer)} broke: "
                f"{message.why}. Both live: look at the network between them",
            )

    def _on_unreached(self, message: Unreached) -> None:
        self._without_connection(
            message,
            f"{self._in_words(message.worker)} could not connect to {self._in_words(message.peer)}: {message.why}. "
            f"Both live, and the network between them keeps this port closed: {ports.ports_to_open(self._ports)}",
        )

    def _on_refused(self, message: StrangerRefused) -> None:
        log.warning("%s", message.text)

    def _on_left_unread(self, message: LeftUnread) -> None:
        self._unread.update(message.counts)

    def _count(self, worker: int, counts: bytes) -> None:
        """A worker has told what it has counted."""
        if self._board is not None:
            self._board.merge(counts, self._counted.get(worker, b""))
            self._counted[worker] = counts

    def _without_connection(self, message: Lost | Unreached, why: str) -> None:
        """Two parts have no connection (any more). If both live, that ends the run, or the worker that may return."""
        error = CascataError(why)
        part = message.worker
        of_no_use = part in self._returning
        doubt = self._replace(part, error) if of_no_use else self._confirm_loss(part, message.peer, error)
        self._doubts.append(self._spawn(doubt))

    def _in_words(self, part: int) -> str:
        """A part of the run, for whoever looks for what is between it and another one."""
        if part == len(self._plan.workers):
            return "this program"
        return f"worker {part} ({', '.join(self._plan.workers[part])})"

    async def _replace(self, worker: int, error: CascataError) -> None:
        """A worker that may start again is cut off from what it needs: it is of no use any more."""
        life = self._lives[worker]
        await asyncio.sleep(TOLD_S)  # if the other one has died, that ends the run
        if life == self._lives[worker] and self._supervisor.phase in (Phase.RUNNING, Phase.DRAINING):
            self._events.put_nowait(Overdue(worker, error))

    def _restart(self, worker: int, death: CascataError) -> None:
        super()._restart(worker, death)
        self._lives[worker] += 1

    async def _look_for(self, worker: int) -> None:
        """The connection to a worker broke that may start again: where its death does not tell itself, looks for it."""

    @abstractmethod
    async def _confirm_loss(self, part: int, peer: int, error: CascataError) -> None:
        """Two parts have no connection (any more). The death of one tells itself; else this error ends the run."""
