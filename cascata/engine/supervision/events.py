"""What happens to a run, as far as the supervisor decides about it.

Plain data, so that every order of events can be a test. What a worker tells is an event as it comes: see
`protocol.messages`. The events here come from the process that runs the graph.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..protocol.messages import (
    CycleRests,
    CycleUnread,
    Failed,
    Finished,
    Idle,
    IdleConfirmed,
    Message,
    Overdue,
    ReaderDone,
    SourcesEnded,
    WritersDone,
)

__all__ = [
    "CancelAsked",
    "Event",
    "Exited",
    "GraceOver",
    "KillAsked",
    "Ready",
    "StopAsked",
    "TimedOut",
    "TimeoutReported",
]


class Ready(Message):
    """A worker has booted: from now on it does what it is told."""

    worker: int


class Exited(Message):
    """The process of a worker is gone, and all that it said has been handed in.

    `at`: seconds, on a clock that does not go back.
    """

    worker: int
    exitcode: int | None
    at: float = 0.0


class StopAsked(Message):
    """The user wants the run to drain; what is left after `within` seconds (None: the run's `grace`) is cancelled.

    `unhurried`: that is for the sources alone. What they have sent has as long as it takes.
    """

    within: float | None = None
    unhurried: bool = False


class CancelAsked(Message):
    """The run is to end now, without an error of its own (Ctrl-C, a cancelled task)."""


class KillAsked(Message):
    """The run is to end at once, whatever its workers do."""


class TimedOut(Message):
    """The run's `timeout` passed."""

    seconds: float


class TimeoutReported(Message):
    """What the workers that answered said of what they are doing."""

    doing: Mapping[int, str]


class GraceOver(Message):
    """The time is over that workers had to end by themselves."""


Event = (
    WritersDone
    | ReaderDone
    | CycleRests
    | CycleUnread
    | SourcesEnded
    | Idle
    | IdleConfirmed
    | Failed
    | Overdue
    | Finished
    | Ready
    | Exited
    | StopAsked
    | CancelAsked
    | KillAsked
    | TimedOut
    | TimeoutReported
    | GraceOver
)
