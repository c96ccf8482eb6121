"""What the workers do alike whose crossing channels are kept by a station: those of the portable engine and of Ray."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...model import GraphSpec, Plan
from ...observe.board import Board
from ...records import dataclass
from ...runtime.restart import Life
from ...runtime.worker import Links, Refused, Worker
from ...transport.tcp.ends import BrokeredEnds
from ...transport.tcp.station import Address, Station
from ..protocol.messages import (
    EndCrossingReading,
    EndCrossingWriting,
    FromWorker,
    GrowCrossing,
    Lost,
    Reporter,
    StrangerRefused,
    Unreached,
)
from ..rewrite.restartable import cause
from .life import WorkerLife
from .obeying import Handlers, Wire
from .setup import Setup
from .sigterm import ParentsWord

__all__ = ["StationedLife", "StationedSetup", "new_station", "station_handlers"]


@dataclass(slots=True)
class StationedSetup(Setup):
    """The same for a worker that has a station."""

    plan: Plan
    alone: frozenset[str]
    """The nodes that start again when their worker dies."""
    counted: bytes
    """What it had counted in the life before."""

    @property
    def life(self) -> Life | None:
        """The life of its node, if that starts again."""
        return None if self.alone.isdisjoint(self.nodes) else Life(cause(self.death))


def new_station(index: int, secret: bytes, host: str, ports: range, tell: Callable[[FromWorker], None]) -> Station:
    """The station of a part of a run, which listens from now on.

    Args:
        index: of the part.
        secret: of the run.
        host: the address that it listens at.
        ports: of which it takes a free one.
        tell: takes what it has to say to the supervisor's process, in any thread.

    Raises:
        CascataError: no port of these is free.
        OSError: it cannot listen at the address.
    """
    return Station(
        index,
        secret,
        host,
        ports=ports,
        lost=lambda peer, why: tell(Lost(index, peer, why)),
        unreached=lambda peer, why: tell(Unreached(index, peer, why)),
        refused=lambda text: tell(StrangerRefused(text)),
    )


def station_handlers(station: Station) -> Handlers:
    """What a station does about the messages for the channels that it keeps (see `obeying.handlers`)."""
    return {
        EndCrossingWriting: lambda message: station.end_writing(message.channel),
        EndCrossingReading: lambda message: station.end_reading(message.channel),
        GrowCrossing: lambda message: station.grow(message.channel, message.extra),
    }


class StationedLife(WorkerLife):
    """See `WorkerLife`.

    Args:
        station: of the worker; None: no channel crosses.
        addresses: where the other parts' stations listen.
    """

    setup: StationedSetup

    def __init__(
        self,
        setup: StationedSetup,
        spec: GraphSpec,
        board: Board,
        connection: Wire,
        reporter: Reporter,
        word: ParentsWord | None,
        station: Station | None,
        addresses: Mapping[int, Address],
    ) -> None:
        super().__init__(setup, spec, board, connection, reporter, word)
        self.station = station
        self._addresses = addresses

    def links(self, refused: Refused) -> Links | None:
        setup = self.setup
        if self.station is None:
            return None
        again = setup.death is not None
        return BrokeredEnds(self.station, self.spec, setup.plan, self.board, refused, setup.alone, again=again)

    def begun(self, worker: Worker) -> Handlers:
        if self.station is None:
            return {}
        self.station.open(self._addresses)
        return station_handlers(self.station)
