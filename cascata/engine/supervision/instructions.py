"""What is to be done about an event: what the supervisor answers.

Plain data, as the events. What a worker is to do is the message to it, as it goes: see `protocol.messages`. The
instructions here are carried out by the engine.
"""

from __future__ import annotations

from ...errors import CascataError
from ..protocol.messages import CancelWorker, ConfirmIdle, DrainWorker, EndCycle, EndSources, Message, StopCycle

__all__ = [
    "DescribeWorkers",
    "EndReading",
    "EndWriting",
    "Finish",
    "Grow",
    "Instruction",
    "KillWorker",
    "RestartWorker",
    "SetTimer",
]


class KillWorker(Message):
    """Kill a worker's process."""

    worker: int


class RestartWorker(Message):
    """Start the nodes of a worker that has died again, on a new process.

    `death` is why what it had in hand has failed; `times` it was started again lately, with this one.
    """

    worker: int
    death: CascataError
    times: int


class EndWriting(Message):
    """No writer of a channel is left: its readers get what is queued, then its end."""

    channel: int


class EndReading(Message):
    """No reader of a channel is left: its writers are refused."""

    channel: int


class Grow(Message):
    """Nothing could move for want of room: give a channel more of it, and say so in the log.

    `worker` owns the channel if it is a local one; None for one that crosses. `waits` says who waits for whom.
    """

    channel: int
    capacity: int
    extra: int
    worker: int | None
    waits: tuple[str, ...]


class SetTimer(Message):
    """Hand in `GraceOver` after some seconds; a new timer replaces the one before."""

    seconds: float


class DescribeWorkers(Message):
    """Ask the workers what they are doing; hand in `TimeoutReported` within some seconds."""

    seconds: float


class Finish(Message):
    """The run is over; `Supervisor.errors` says how."""


Instruction = (
    DrainWorker
    | EndSources
    | CancelWorker
    | EndCycle
    | StopCycle
    | ConfirmIdle
    | KillWorker
    | RestartWorker
    | EndWriting
    | EndReading
    | Grow
    | SetTimer
    | DescribeWorkers
    | Finish
)
