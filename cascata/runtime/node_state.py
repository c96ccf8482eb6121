"""What the parts of a node share: what it is, its ends, its counters, and what its loops wait for.

    worker ── Host ──> NodeState <── trigger loops, calls, streams, failures, journal, ends of sources and sinks
                           │
                           └── publish ──> stats board

The parts import this module; it imports none of them. Only the event loop of the node changes what is here.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from functools import partial
from time import perf_counter
from typing import Any, Final, Protocol

from .. import log
from ..channel.base import Reader
from ..channel.change_detector import ChangeDetector
from ..channel.local import LocalWriter
from ..channel.turns import turns
from ..errors import ComponentError, bounded_repr, in_words
from ..model import ERRORS, NodeSpec
from ..observe.board import DELIVERED, FAILED_ITEMS, Board
from .deadlines import Deadlines
from .live_calls.lineage import Lineage
from .persist import StateCell
from .ports.lost_sends import LostSends
from .ports.outport import OutPort
from .wiring import Ends

__all__ = ["BATCH_S", "Host", "NodeState", "Phase", "batch_size"]

PUBLISH_S: Final = 0.001
"""A node that waits often publishes its counts no more often than this. The worker publishes them now and then, too."""

BATCH_S: Final = 0.0001
"""A batch is cut to about this many seconds of work: only after it are the writers told of what it took."""


def batch_size(each: float, most: int, seconds: float = BATCH_S) -> int:
    """How many items to take at once.

    Args:
        each: seconds of work that one of the last batch took.
        most: items that may be taken at once.
        seconds: of work that a batch may hold.
    """
    return most if each * most < seconds else int(seconds / each) or 1


class Host(Protocol):
    """What a node needs of the worker that it runs on."""

    index: int
    board: Board
    skip_errors: bool
    raised: Counter[int]
    """edge -> items taken from it whose runner raised, and which were skipped."""
    cancelling: bool
    """Whether every node here is being cancelled: the run has failed, or was cancelled."""
    deadlines: Deadlines
    lineage: Lineage | None
    """Of a run that is opened for calls: to which of them items belong."""

    def batches(self, channel: int) -> bool:
        """Whether what comes on a channel is put into lists."""

    def lost(self, node: str) -> None:
        """The node has lost something by a fault of its own code. Called in any thread, perhaps by `__del__`."""

    def detector(self, node: str, port: str) -> ChangeDetector | None:
        """What watches the items that are sent on an out-port, when the run has `debug=True`."""


class Phase(IntEnum):
    """How far a node has come. It only ever goes forward."""

    NOT_BEGUN = 0
    WORKING = 1
    """It makes its state, then its runner works."""
    UNDOING = 2
    """It undoes its state, which no cancellation may cut short (the worker's death does)."""
    UNDONE = 3
    """It sends what is left."""
    ENDED = 4


class NodeState:
    """What one node is, has and counts, for all of its parts.

    Args:
        spec: what it is.
        row: its row on the stats board.
        ends: its ends of channels.
        host: the worker.
    """

    def __init__(self, spec: NodeSpec, row: int, ends: Ends, host: Host) -> None:
        self.spec = spec
        self.name = spec.name
        self.host = host
        self.where = log.Where(spec.name, spec.component.name, host.index)
        """What its tasks and those that they make carry."""
        self._row = row

        # Its ends.
        self.ends = ends
        self.readers = ends.readers
        self.writers = [writer for each in ends.writers.values() for writer in each]
        """Those of all out-ports."""
        self.results = [writer for port, each in ends.writers.items() if port != ERRORS for writer in each]
        """The writers that are not for its failures."""
        self.flushes = [writer.flush for writer in self.writers if not isinstance(writer, LocalWriter)]
        """Send what was put and has not left yet."""
        self.outports: dict[str, OutPort] = {}
        self.lost_sends = LostSends(spec.component, partial(host.lost, spec.name))
        """What it has lost by a fault of its own code."""
        self.cells: dict[str, StateCell[Any]] = {}
        """The state of its component, by names."""

        # How far it is.
        self.phase = Phase.NOT_BEGUN
        self.came_to_its_end = False
        """Whether its runner has: it neither failed nor was cancelled."""
        self.doing = "starting"
        """What it does now, for people."""
        self.at_work = "working"
        """The same, whenever it does not wait for items."""
        self.starving = {port: f"waiting for items on {port!r}" for port in spec.inputs}
        """In-port -> the same, while it waits there."""

        # Its counters.
        self.received = 0
        self.failed = 0
        self.dropped = 0
        self.ignored: Counter[int] = Counter()
        """Edge -> items of it that were taken only to be dropped."""
        self.in_hand_s = 0.0
        """Seconds for which it had items in hand, waits for room included."""
        self.starved_s = 0.0
        """Seconds for which it waited for items."""
        self.silent = False
        """Whether it does not know yet what it counted in an earlier life: then it publishes nothing."""
        self.may_start_again = False
        """Whether it may die at any item, and go on in another worker: then it publishes each failure at once."""
        self._sent_before = 0  # in earlier lives
        self._published = 0.0  # when the counts were, last

        # Its loops, and what they wait for.
        self.loops = 0
        """Loops that take items, and go on."""
        self.tasks: set[asyncio.Task[Any] | None] = set()
        """The tasks in which they do."""
        self.calls: deque[asyncio.Task[None]] = deque()
        """The tasks of calls that run beside them (`concurrency`)."""
        self.in_threads = False
        """Whether its runner is called in threads, which no cancellation ends."""
        self.waits: list[str] = []
        """The in-ports on which loops wait for items."""
        self.parked: set[int] = set()
        """What loops wait for that wait for another loop of the same node."""
        self.rested: Callable[[], None] = lambda: None
        """Called when a loop begins to wait, or what feeds the node has ended in part."""
        self._turns = turns()

        # The call that has failed, and ends it.
        self.in_hand: Mapping[str, Any] | None = None
        """The items that it had, by port; None before a failure."""
        self.remark = ""
        """What else is to be said of it."""

    @property
    def has_ended(self) -> bool:
        return self.phase is Phase.ENDED

    @property
    def may_begin_to_send(self) -> bool:
        """Whether tasks may have been made just now for a `send` that was not awaited yet."""
        return any(writer.unawaited for writer in self.writers)

    @property
    def awaits(self) -> set[int]:
        """The channels from which an item would make it move."""
        return {channel for port in self.waits for channel in self.spec.inputs[port].channels}

    @property
    def blocked_on(self) -> list[int]:
        """The edges on which a send waits for room."""
        return [writer.edge for writer in self.writers if writer.waiting]

    def batched(self, ports: Iterable[str]) -> bool:
        """Whether what comes to one of the in-ports is put into lists."""
        return any(self.host.batches(channel) for port in ports for channel in self.spec.inputs[port].channels)

    # -- loops

    @contextmanager
    def looping(self) -> Iterator[None]:
        """The running task is one in which the node takes items."""
        task = asyncio.current_task()
        self.loops += 1
        self.tasks.add(task)
        try:
            yield
        finally:
            self.loops -= 1
            self.tasks.discard(task)

    async def starve(self, reader: Reader, port: str, *, rests: bool = True, share: float = 1.0) -> bool:
        """Waits for items, on the account of the node's idle time; False when the stream has ended.

        Args:
            reader: what the running loop waits for.
            port: its in-port.
            rests: whether only an item can end this wait.
            share: of the time, when several loops wait side by side.
        """
        for flush in self.flushes:
            flush()  # what was sent shall not wait for the turn of the loop in which this node will wait
        if self.lost_sends.forgot:
            self.lost_sends.goes_on()
        began = perf_counter()
        if began - self._published > PUBLISH_S:
            self.publish()
        self.doing = self.starving[port]
        if rests:
            self.waits.append(port)
            self.rested()
        try:
            return await reader.wait()
        finally:
            if rests:
                self.waits.remove(port)
            self.starved_s += (perf_counter() - began) * share
            self.doing = self.at_work

    @contextmanager
    def waiting_for_a_loop(self, what: int) -> Iterator[None]:
        """In this block the running loop waits until another loop of the node has come so far.

        Args:
            what: a number of what it waits for. The other loop may take it out of `parked` itself: the node can move
                from then on, and not only when the waiting task wakes.
        """
        self.parked.add(what)
        self.rested()
        try:
            yield
        finally:
            self.parked.discard(what)

    async def turn(self) -> None:
        """Publishes the counts, and lets the event loop turn."""
        self.publish()
        await asyncio.sleep(0)
        self._turns.turned = perf_counter()

    # -- accounts

    def publish(self) -> None:
        """Writes the node's counts and those of its edges on the stats board."""
        if self.silent:
            return
        self._published = perf_counter()
        board = self.host.board
        sent = self._sent_before
        blocked = paused = 0.0
        for port in self.outports.values():
            sent += port.sent
            blocked += port.blocked_s
            paused += port.paused_s
        board.publish_node(
            self._row,
            self.received,
            sent,
            self.failed,
            self.dropped,
            max(0.0, self.in_hand_s - blocked - paused),
            self.starved_s,
            blocked,
        )
        for writer in self.writers:
            board.set_sent(writer.edge, writer.sent, writer.lost)
        for reader in self.readers.values():
            self.publish_taken(reader)

    def publish_taken(self, reader: Reader) -> None:
        """Writes what was taken of each edge that comes by one reader."""
        board, worker, raised = self.host.board, self.host.index, self.host.raised
        for edge, items in reader.taken().items():
            board.set_outcome(edge, worker, DELIVERED, items - raised[edge] - self.ignored[edge])

    def count_on(self) -> None:
        """The node has started again: what an earlier life of it had counted goes on."""
        self.silent = False
        board = self.host.board
        _, self._sent_before, self.failed, self.dropped, self.in_hand_s, self.starved_s, _ = board.node(self._row)
        self.received = sum(sum(reader.taken().values()) for reader in self.readers.values())
        for reader in self.readers.values():
            for edge in reader.taken():
                self.host.raised[edge] = board.outcome(edge, self.host.index, FAILED_ITEMS)

    # -- its error

    def failure(self, error: BaseException, items: Mapping[str, Any] | None) -> ComponentError:
        """The error of this node for one that its code raised.

        Args:
            error: that one; it becomes the cause.
            items: those in hand, by port; None: it was not in a call of its runner.
        """
        told = None if items is None else {port: bounded_repr(item) for port, item in items.items()}
        if told:
            where = " on " + ", ".join(f"{port}={item}" for port, item in told.items())
        else:
            where = f" while {self.doing}" if told is None else ""
        remark = f" ({self.remark})" if self.remark else ""
        skipping = ""
        if self.spec.triggers:
            skipping = f', `{self.name}.errors >> port` routes what fails, and `on_error="skip"` goes on without it'
        result = ComponentError(
            f"node {self.name!r} ({self.spec.component.name}) failed on worker {self.host.index}{where}: "
            f"{in_words(error)}{remark}. The original error is the cause of this one; "
            f'`graph.run(engine="inline")` runs the graph in this process, where a debugger works{skipping}',
            node=self.name,
            worker=self.host.index,
            item=next(iter(told.values())) if told is not None and len(told) == 1 else told,
        )
        result.__cause__ = error
        return result
