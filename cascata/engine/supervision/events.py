"""What happens to a run, and what is to be done about it: the two languages of the supervisor.

Events go in, instructions come out; both are plain data, so that every order of them can be a test.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import CascataError
from ...records import dataclass
from ...runtime.idle import IdleReport, Rest

__all__ = [
    "CancelAsked",
    "CancelWorker",
    "ConfirmIdle",
    "CycleRests",
    "CycleUnread",
    "DescribeWorkers",
    "DrainWorker",
    "EndCycle",
    "EndReading",
    "EndSources",
    "EndWriting",
    "Event",
    "Exited",
    "Failed",
    "Finish",
    "Finished",
    "GraceOver",
    "Grow",
    "Idle",
    "IdleConfirmed",
    "Instruction",
    "KillAsked",
    "KillWorker",
    "Overdue",
    "ReaderDone",
    "Ready",
    "RestartWorker",
    "SetTimer",
    "SourcesEnded",
    "StopAsked",
    "StopCycle",
    "TimedOut",
    "TimeoutReported",
    "WritersDone",
]

# -- events


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has booted: from now on it does what it is told."""

    worker: int


@dataclass(frozen=True, slots=True)
class WritersDone:
    """Nothing more will be sent on these edges."""

    edges: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReaderDone:
    """A worker no longer reads a channel."""

    channel: int
    worker: int


@dataclass(frozen=True, slots=True)
class CycleRests:
    """A worker's part of a cycle cannot move before an item comes from another part."""

    worker: int
    cycle: int
    rest: Rest


@dataclass(frozen=True, slots=True)
class CycleUnread:
    """Nobody reads any more what a worker's part of a cycle sends to other nodes."""

    worker: int
    cycle: int


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing on a worker has moved for a while, nor can before an item or room comes from elsewhere."""

    worker: int
    report: IdleReport


@dataclass(frozen=True, slots=True)
class IdleConfirmed:
    """The answer to `ConfirmIdle`: the worker's state, or None when it is not idle."""

    worker: int
    attempt: int
    report: IdleReport | None


@dataclass(frozen=True, slots=True)
class Failed:
    """Something on a worker failed (or, with no worker, in the process that runs the graph)."""

    worker: int | None
    error: BaseException


@dataclass(frozen=True, slots=True)
class Overdue:
    """A call on a worker goes on although its time is over, and cannot be stopped."""

    worker: int
    error: CascataError


@dataclass(frozen=True, slots=True)
class Finished:
    """All nodes of a worker have ended, or were cancelled; it exits by itself."""

    worker: int


@dataclass(frozen=True, slots=True)
class Exited:
    """The process of a worker is gone, and all that it said has been handed in.

    `at`: seconds, on a clock that does not go back.
    """

    worker: int
    exitcode: int | None
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class StopAsked:
    """The user wants the run to drain; what is left after `within` seconds (None: the run's `grace`) is cancelled.

    `unhurried`: that is for the sources alone. What they have sent has as long as it takes.
    """

    within: float | None = None
    unhurried: bool = False


@dataclass(frozen=True, slots=True)
class SourcesEnded:
    """The run drains, and nothing on a worker is left that would send of itself."""

    worker: int


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """The run is to end now, without an error of its own (Ctrl-C, a cancelled task)."""


@dataclass(frozen=True, slots=True)
class KillAsked:
    """The run is to end at once, whatever its workers do."""


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The run's `timeout` passed."""

    seconds: float


@dataclass(frozen=True, slots=True)
class TimeoutReported:
    """What the workers that answered said of what they are doing."""

    doing: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class GraceOver:
    """The time is over that workers had to end by themselves."""


Event = (
    Ready
    | WritersDone
    | ReaderDone
    | CycleRests
    | CycleUnread
    | Idle
    | IdleConfirmed
    | Failed
    | Overdue
    | Finished
    | Exited
    | StopAsked
    | SourcesEnded
    | CancelAsked
    | KillAsked
    | TimedOut
    | TimeoutReported
    | GraceOver
)


# -- instructions


@dataclass(frozen=True, slots=True)
class DrainWorker:
    """Tell a worker that its sources end at their next send."""

    worker: int


@dataclass(frozen=True, slots=True)
class EndSources:
    """Tell a worker to cancel its sources where they wait: they have not come to a send."""

    worker: int


@dataclass(frozen=True, slots=True)
class CancelWorker:
    """Tell a worker to cancel its nodes and to exit."""

    worker: int


@dataclass(frozen=True, slots=True)
class RestartWorker:
    """Start the nodes of a worker that has died again, on a new process.

    `death` is why what it had in hand has failed; `times` it was started again lately, with this one.
    """

    worker: int
    death: CascataError
    times: int


@dataclass(frozen=True, slots=True)
class KillWorker:
    """Kill a worker's process."""

    worker: int


@dataclass(frozen=True, slots=True)
class EndWriting:
    """No writer of a channel is left: its readers get what is queued, then its end."""

    channel: int


@dataclass(frozen=True, slots=True)
class EndReading:
    """No reader of a channel is left: its writers are refused."""

    channel: int


@dataclass(frozen=True, slots=True)
class EndCycle:
    """Nothing can move in a cycle any more: tell a worker to end its local channels."""

    worker: int
    cycle: int


@dataclass(frozen=True, slots=True)
class StopCycle:
    """Nobody reads any more what leaves a cycle: tell a worker to stop its nodes."""

    worker: int
    cycle: int


@dataclass(frozen=True, slots=True)
class ConfirmIdle:
    """Ask a worker whether it is idle still; hand in `IdleConfirmed`."""

    worker: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Grow:
    """Nothing could move for want of room: give a channel more of it, and say so in the log.

    `worker` owns the channel if it is a local one; None for one that crosses. `waits` says who waits for whom.
    """

    channel: int
    capacity: int
    extra: int
    worker: int | None
    waits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Hand in `GraceOver` after some seconds; a new timer replaces the one before."""

    seconds: float


@dataclass(frozen=True, slots=True)
class DescribeWorkers:
    """Ask the workers what they are doing; hand in `TimeoutReported` within some seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Finish:
    """The run is over; `Supervisor.errors` says how."""


Instruction = (
    DrainWorker
    | EndSources
    | CancelWorker
    | KillWorker
    | RestartWorker
    | EndWriting
    | EndReading
    | EndCycle
    | StopCycle
    | ConfirmIdle
    | Grow
    | SetTimer
    | DescribeWorkers
    | Finish
)
