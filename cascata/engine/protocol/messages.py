"""Every message between the supervisor's process and a part of its run, both ways, in one table.

    supervisor ── ToWorker ───> write ── bytes ──> read ──> `worker.life.handlers`, chosen by the message's type
               <── read <── bytes ── write <── FromWorker ── `Reporter`, which the nodes of a worker tell

A part is a worker, or the caller's part of the run; that one is in this process, and takes the messages as they are.
The bytes go over a stream socket, a pipe or calls of Ray (`control_socket`, `multiprocess`, `ray.actor`).

The supervisor's events and instructions that concern a worker are these same objects (see `supervision.events` and
`supervision.instructions`). So a new message is a class here, in one of the two unions at the end, and a handler where
it is received: in `worker.life`, in `Supervisor.handle`, or among the `_handlers` of an engine.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ...errors import CascataError, ComponentError
from ...records import dataclass
from ...runtime.idle import IdleReport, Rest

if TYPE_CHECKING:  # no worker on Linux needs it
    from ...transport.ends.unread import Unread

__all__ = [
    "CallFailed",
    "CancelWorker",
    "ConfirmIdle",
    "Counted",
    "CycleRests",
    "CycleUnread",
    "Describe",
    "Doing",
    "DrainWorker",
    "EndCrossingReading",
    "EndCrossingWriting",
    "EndCycle",
    "EndSources",
    "Failed",
    "Finished",
    "FromWorker",
    "GrowChannel",
    "GrowCrossing",
    "Idle",
    "IdleConfirmed",
    "LeftUnread",
    "Listens",
    "Locate",
    "Located",
    "Log",
    "Lost",
    "Overdue",
    "Printed",
    "ReaderDone",
    "Reporter",
    "Returned",
    "SourcesEnded",
    "Stay",
    "StopCycle",
    "StrangerRefused",
    "Terminated",
    "ToWorker",
    "Unreached",
    "WritersDone",
    "read",
    "write",
]


# -- to a worker


@dataclass(frozen=True, slots=True)
class DrainWorker:
    """Its sources end at their next send."""

    worker: int


@dataclass(frozen=True, slots=True)
class EndSources:
    """Its sources are cancelled where they wait: they have not come to a send."""

    worker: int


@dataclass(frozen=True, slots=True)
class CancelWorker:
    """Its nodes are cancelled, and it exits."""

    worker: int


@dataclass(frozen=True, slots=True)
class EndCycle:
    """Nothing can move in a cycle any more: the cycle's channels inside this worker end."""

    worker: int
    cycle: int


@dataclass(frozen=True, slots=True)
class StopCycle:
    """No node reads any more what leaves a cycle: the cycle's nodes on this worker stop."""

    worker: int
    cycle: int


@dataclass(frozen=True, slots=True)
class ConfirmIdle:
    """The worker says by `IdleConfirmed` whether it is idle still."""

    worker: int
    attempt: int


@dataclass(frozen=True, slots=True)
class GrowChannel:
    """A channel inside this worker gets room for `extra` items more."""

    worker: int
    channel: int
    extra: int


@dataclass(frozen=True, slots=True)
class GrowCrossing:
    """A crossing channel that this worker keeps gets room for `extra` items more."""

    worker: int
    channel: int
    extra: int


@dataclass(frozen=True, slots=True)
class EndCrossingWriting:
    """No writer is left of a crossing channel that this worker keeps: its readers get what is queued, then its end."""

    worker: int
    channel: int


@dataclass(frozen=True, slots=True)
class EndCrossingReading:
    """No reader is left of a crossing channel that this worker keeps: its writers are refused."""

    worker: int
    channel: int


@dataclass(frozen=True, slots=True)
class Describe:
    """The worker says by `Doing` what its nodes are doing."""

    worker: int


@dataclass(frozen=True, slots=True)
class Locate:
    """The worker's control thread says by `Located` at which line its event loop is."""

    worker: int


@dataclass(frozen=True, slots=True)
class Stay:
    """A worker that got SIGTERM does not end of it: the program has a handler of its own for the signal."""

    worker: int


# -- from a worker: what the supervisor decides about


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
    """No node reads any more what a worker's part of a cycle sends to other nodes."""

    worker: int
    cycle: int


@dataclass(frozen=True, slots=True)
class SourcesEnded:
    """The run drains, and nothing on a worker is left that would send of itself."""

    worker: int


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


# -- from a worker: what the engine sees to


@dataclass(frozen=True, slots=True)
class Log:
    """Something was logged; the record as plain values (see `observe.log`)."""

    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Printed:
    """Something was printed to stdout (`stream` 1) or stderr (2) of a worker that does not share the program's."""

    stream: int
    text: str


@dataclass(frozen=True, slots=True)
class Doing:
    """The answer to `Describe`: what each node of a worker is doing, in words."""

    worker: int
    what: str


@dataclass(frozen=True, slots=True)
class Located:
    """The answer to `Locate`: the node whose code the worker's event loop runs, if it is known, and the lines it is at.

    `debugged`: whether a debugger waits there.
    """

    worker: int
    node: str | None
    stack: str
    debugged: bool


@dataclass(frozen=True, slots=True)
class Returned:
    """Tag of a `live.call` -> the ids of its items that nodes have taken and sent since the last time, by exclusive or.

    When that of all workers comes to zero, no item of the call is left.
    """

    balance: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class CallFailed:
    """An item that belongs to these `live.call`s has failed."""

    tags: Sequence[int]
    error: BaseException


@dataclass(frozen=True, slots=True)
class Terminated:
    """A worker got SIGTERM, and waits for the program's word whether to end of it."""

    worker: int


@dataclass(frozen=True, slots=True)
class Counted:
    """What a worker without shared memory has counted so far: a snapshot of its stats board."""

    worker: int
    counts: bytes


@dataclass(frozen=True, slots=True)
class Listens:
    """A worker has loaded its nodes, and its station listens at an address; None: it needs no station."""

    worker: int
    address: tuple[str, int] | None


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection from a worker's station to that of another part broke."""

    worker: int
    peer: int
    why: str


@dataclass(frozen=True, slots=True)
class Unreached:
    """A worker's station could not connect to that of another part."""

    worker: int
    peer: int
    why: str


@dataclass(frozen=True, slots=True)
class StrangerRefused:
    """A station has refused a stranger's connection; in words."""

    text: str


@dataclass(frozen=True, slots=True)
class LeftUnread:
    """Edge -> what was left, when the worker ended, in the channels that it kept."""

    counts: Mapping[int, Unread]


# -- the table

ToWorker = (
    DrainWorker
    | EndSources
    | CancelWorker
    | EndCycle
    | StopCycle
    | ConfirmIdle
    | GrowChannel
    | GrowCrossing
    | EndCrossingWriting
    | EndCrossingReading
    | Describe
    | Locate
    | Stay
)

FromWorker = (
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
    | Log
    | Printed
    | Doing
    | Located
    | Returned
    | CallFailed
    | Terminated
    | Counted
    | Listens
    | Lost
    | Unreached
    | StrangerRefused
    | LeftUnread
)

_KINDS: Final[dict[str, Any]] = {kind.__name__: kind for kind in (ToWorker | FromWorker).__args__}
"""Name -> type of every message."""


def write(message: ToWorker | FromWorker) -> bytes:
    """A message as bytes: its name and its fields, pickled as one tuple, which costs a fifth of pickling the object.

    Raises:
        Exception: what pickling an error or a log record raises.
    """
    kind = type(message)
    return pickle.dumps((kind.__name__, *[getattr(message, name) for name in kind.__match_args__]))


def read(data: bytes) -> Any:
    """The message that `write` wrote.

    Raises:
        Exception: what unpickling an error raises.
    """
    name, *fields = pickle.loads(data)
    return _KINDS[name](*fields)


# -- the worker's side of it


class Reporter:
    """Tells the supervisor's process what happens on a worker, or in the caller's part. As `runtime.worker.Events`.

    Args:
        worker: index of the part.
        send: takes a message, in any thread.

    Attributes:
        count: tells what was counted so far, where that is in no memory that the supervisor's process shares.
    """

    def __init__(self, worker: int, send: Callable[[FromWorker], None]) -> None:
        self.worker = worker
        self.send = send
        self.count: Callable[[], None] = lambda: None

    def failed(self, error: BaseException) -> None:
        self.send(Failed(self.worker, error))

    def overdue(self, error: ComponentError) -> None:
        self.send(Overdue(self.worker, error))

    def writers_done(self, edges: Sequence[int]) -> None:
        self.count()  # a worker that has said that it has ended may die without another word
        self.send(WritersDone(tuple(edges)))

    def reader_done(self, channel: int) -> None:
        self.count()
        self.send(ReaderDone(channel, self.worker))

    def cycle_rests(self, cycle: int, rest: Rest) -> None:
        self.send(CycleRests(self.worker, cycle, rest))

    def cycle_unread(self, cycle: int) -> None:
        self.send(CycleUnread(self.worker, cycle))

    def returned(self, balance: Mapping[int, int]) -> None:
        self.send(Returned(balance))

    def call_failed(self, tags: Sequence[int], error: BaseException) -> None:
        self.send(CallFailed(tags, error))

    def sources_ended(self) -> None:
        self.send(SourcesEnded(self.worker))

    def idle(self, report: IdleReport) -> None:
        self.send(Idle(self.worker, report))

    def log(self, record: dict[str, Any]) -> None:
        self.send(Log(record))

    def finished(self) -> None:
        self.send(Finished(self.worker))
