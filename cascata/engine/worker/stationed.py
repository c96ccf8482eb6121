"""What the workers do alike whose crossing channels are kept by a station: those of the portable engine and of Ray."""

from __future__ import annotations

from ...records import dataclass
from ...runtime.restart import Life
from ...transport.tcp.station import Station
from ..protocol.messages import EndCrossingReading, EndCrossingWriting, GrowCrossing
from ..rewrite.restartable import cause
from .life import Handlers, Setup

__all__ = ["StationedSetup", "station_handlers"]


@dataclass(slots=True)
class StationedSetup(Setup):
    """The same for a worker that has a station."""

    alone: frozenset[str]
    """The nodes that start again when their worker dies."""
    death: bytes | None
    """Why this worker was started again, pickled."""
    counted: bytes
    """What it had counted in the life before."""

    @property
    def again(self) -> bool:
        """Whether this is another life of the worker than the first."""
        return self.death is not None

    @property
    def life(self) -> Life | None:
        """The life of its node, if that starts again."""
        return None if self.alone.isdisjoint(self.nodes) else Life(cause(self.death))


def station_handlers(station: Station) -> Handlers:
    """What a station does about the messages for the channels that it keeps (see `life.handlers`)."""
    return {
        EndCrossingWriting: lambda message: station.end_writing(message.channel),
        EndCrossingReading: lambda message: station.end_reading(message.channel),
        GrowCrossing: lambda message: station.grow(message.channel, message.extra),
    }
