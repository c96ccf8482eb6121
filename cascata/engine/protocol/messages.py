"""Every message between the supervisor's process and a part of its run, both ways, in one table.

    supervisor ── ToWorker ───> write ── bytes ──> read ──> `worker.obeying.handlers`, chosen by the message's type
               <── read <── bytes ── write <── FromWorker ── `Reporter`, which the nodes of a worker tell

A part is a worker, or the caller's part of the run; that one is in this process, and takes the messages as they are.
The bytes go over a stream socket, a pipe or calls of Ray (`control_socket`, `multiprocess`, `ray.actor`).

The supervisor's events and instructions that concern a worker are these same objects (see `supervision.events` and
`supervision.instructions`). So a new message is a class here, in one of the two unions at the end, and a handler where
it is received: in `worker.obeying`, in `Supervisor.handle`, or among the `_handlers` of an engine.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn, dataclass_transform

from ...errors import CascataError, ComponentError
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
    "Message",
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


@dataclass_transform(frozen_default=True)
class Message:
    """What is told: its fields are the annotated names of its class.

    To its users it is a frozen dataclass. Its class is made in a quarter of the time that those of `records` take: each
    process of a run begins by making fifty of these.
    """

    __match_args__: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        setattr(cls, "__match_args__", tuple(cls.__annotations__))  # noqa: B010  # to mypy, of a frozen class

    def __init__(self, *given: Any, **named: Any) -> None:
        vars(self).update(zip(self.__match_args__, given, strict=False), **named)  # what is left out has a default

    def values(self) -> list[Any]:
        """Its fields, in their order."""
        return [getattr(self, name) for name in self.__match_args__]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and type(self) is type(other) and self.values() == other.values()

    def __hash__(self) -> int:
        return hash((type(self), *self.values()))

    def __repr__(self) -> str:
        shown = (f"{name}={getattr(self, name)!r}" for name in self.__match_args__)
        return f"{type(self).__name__}({', '.join(shown)})"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a message stays as it is: {name} cannot be set")


# -- to a worker


class DrainWorker(Message):
    """Its sources end at their next send."""

    worker: int


class EndSources(Message):
    """Its sources are cancelled where they wait: they have not come to a send."""

    worker: int


class CancelWorker(Message):
    """Its nodes are cancelled, and it exits."""

    worker: int


class EndCycle(Message):
    """Nothing can move in a cycle any more: the cycle's channels inside this worker end."""

    worker: int
    cycle: int


class StopCycle(Message):
    """No node reads any more what leaves a cycle: the cycle's nodes on this worker stop."""

    worker: int
    cycle: int


class ConfirmIdle(Message):
    """The worker says by `IdleConfirmed` whether it is idle still."""

    worker: int
    attempt: int


class GrowChannel(Message):
    """A channel inside this worker gets room for `extra` items more."""

    worker: int
    channel: int
    extra: int


class GrowCrossing(Message):
    """A crossing channel that this worker keeps gets room for `extra` items more."""

    worker: int
    channel: int
    extra: int


class EndCrossingWriting(Message):
    """No writer is left of a crossing channel that this worker keeps: its readers get what is queued, then its end."""

    worker: int
    channel: int


class EndCrossingReading(Message):
    """No reader is left of a crossing channel that this worker keeps: its writers are refused."""

    worker: int
    channel: int


class Describe(Message):
    """The worker says by `Doing` what its nodes are doing."""

    worker: int


class Locate(Message):
    """The worker's control thread says by `Located` at which line its event loop is."""

    worker: int


class Stay(Message):
    """A worker that got SIGTERM does not end of it: the program has a handler of its own for the signal."""

    worker: int


# -- from a worker: what the supervisor decides about


class WritersDone(Message):
    """Nothing more will be sent on these edges."""

    edges: tuple[int, ...]


class ReaderDone(Message):
    """A worker no longer reads a channel."""

    channel: int
    worker: int


class CycleRests(Message):
    """A worker's part of a cycle cannot move before an item comes from another part."""

    worker: int
    cycle: int
    rest: Rest


class CycleUnread(Message):
    """No node reads any more what a worker's part of a cycle sends to other nodes."""

    worker: int
    cycle: int


class SourcesEnded(Message):
    """The run drains, and nothing on a worker is left that would send of itself."""

    worker: int


class Idle(Message):
    """Nothing on a worker has moved for a while, nor can before an item or room comes from elsewhere."""

    worker: int
    report: IdleReport


class IdleConfirmed(Message):
    """The answer to `ConfirmIdle`: the worker's state, or None when it is not idle."""

    worker: int
    attempt: int
    report: IdleReport | None


class Failed(Message):
    """Something on a worker failed (or, with no worker, in the process that runs the graph)."""

    worker: int | None
    error: BaseException


class Overdue(Message):
    """A call on a worker goes on although its time is over, and cannot be stopped."""

    worker: int
    error: CascataError


class Finished(Message):
    """All nodes of a worker have ended, or were cancelled; it exits by itself."""

    worker: int


# -- from a worker: what the engine sees to


class Log(Message):
    """Something was logged; the record as plain values (see `observe.log`)."""

    record: dict[str, Any]


class Printed(Message):
    """Something was printed to stdout (`stream` 1) or stderr (2) of a worker that does not share the program's."""

    stream: int
    text: str


class Doing(Message):
    """The answer to `Describe`: what each node of a worker is doing, in words."""

    worker: int
    what: str


class Located(Message):
    """The answer to `Locate`: the node whose code the worker's event loop runs, if it is known, and the lines it is at.

    `debugged`: whether a debugger waits there.
    """

    worker: int
    node: str | None
    stack: str
    debugged: bool


class Returned(Message):
    """Tag of a `live.call` -> the ids of its items that nodes have taken and sent since the last time, by exclusive or.

    When that of all workers comes to zero, no item of the call is left.
    """

    balance: Mapping[int, int]


class CallFailed(Message):
    """An item that belongs to these `live.call`s has failed."""

    tags: Sequence[int]
    error: BaseException


class Terminated(Message):
    """A worker got SIGTERM, and waits for the program's word whether to end of it."""

    worker: int


class Counted(Message):
    """What a worker without shared memory has counted so far: a snapshot of its stats board."""

    worker: int
    counts: bytes


class Listens(Message):
    """A worker has loaded its nodes, and its station listens at an address; None: it needs no station."""

    worker: int
    address: tuple[str, int] | None


class Lost(Message):
    """The connection from a worker's station to that of another part broke."""

    worker: int
    peer: int
    why: str


class Unreached(Message):
    """A worker's station could not connect to that of another part."""

    worker: int
    peer: int
    why: str


class StrangerRefused(Message):
    """A station has refused a stranger's connection; in words."""

    text: str


class LeftUnread(Message):
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
    """A message as bytes: its name and its fields, pickled as one list, which is cheaper than the object.

    Raises:
        Exception: what pickling an error or a log record raises.
    """
    return pickle.dumps([type(message).__name__, *message.values()])


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
