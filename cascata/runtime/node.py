"""One node at work: makes its state, runs its trigger loops, ends, and tells what it did.

    make state ──> loops: take items, call the runner ──> undo state ──> close readers, flush and close writers

A node ends when its trigger groups have ended; it is stopped when nobody reads what it sends, or
when the run drains; it fails when its code raises, and is cancelled when another node failed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from .. import log
from ..channel.base import Reader, Writer
from ..channel.given import Guard
from ..channel.local import LocalWriter
from ..channel.merge import MergedReader
from ..channel.unawaited import Attempt, attempt
from ..errors import ComponentError, bounded_repr, in_words
from ..model import ERRORS, MISSING, NodeSpec, StateArgs
from ..observe.board import DELIVERED, DROPPED_ITEMS, FAILED_ITEMS, Board
from .deadlines import Deadlines
from .failures import Failures
from .live_calls.lineage import Lineage
from .order.ordered import run_reordering
from .persist import StateCell, make_state
from .ports.losses import Losses, place_of
from .ports.outport import OutPort, Stopped
from .ports.source_sink import End, make_end
from .ports.stopping import StoppingEvent
from .ports.stream import Stream, TaggedStream
from .runner_calls import Calls
from .triggers import run_once, run_triggers

if TYPE_CHECKING:
    from .restart import NodeJournal

__all__ = ["Host", "Node"]


class Host(Protocol):
    """What a node needs of the worker that it runs on."""

    index: int
    board: Board
    skip_errors: bool
    raised: Counter[int]
    """edge -> items taken from it whose runner raised, and which were skipped."""
    cancelling: bool
    deadlines: Deadlines
    lineage: Lineage | None
    """Of a run that is opened for calls: to which of them items belong."""

    def batches(self, channel: int) -> bool:
        """Whether what comes on a channel is put into lists."""

    def lost(self, node: Node) -> None:
        """The node has lost something by a fault of its own code. Called in any thread, perhaps by `__del__`."""

    def guard(self, node: str, port: str) -> Guard | None:
        """What watches the items that are sent on an out-port, when the run has `debug=True`."""


class Node:
    """An instance of a component at work on a worker.

    Args:
        spec: what it is.
        row: its row on the stats board.
        readers: in-port -> where its items come from, for the ports with channels.
        writers: out-port -> the writers of its edges.
        host: the worker.
        takes_with_others: whether other nodes here take from a channel of its, too, that several edges write to.
    """

    def __init__(
        self,
        spec: NodeSpec,
        row: int,
        readers: Mapping[str, Reader],
        writers: Mapping[str, list[Writer]],
        host: Host,
        *,
        takes_with_others: bool = False,
    ) -> None:
        self.spec = spec
        self.row = row
        self.host = host
        self.readers = readers
        self.takes_with_others = takes_with_others
        self.where = log.Where(spec.name, spec.component.name, host.index)
        """What its tasks and those that they make carry."""
        self.is_source = not readers
        self.stopping = StoppingEvent() if spec.component.stopping else None
        """What its runner awaits, if it declares that."""
        self.stopped = False
        self._stopping = False
        self._draining = False  # whether it is stopped since the run is, and not since nobody reads
        self.unwinding = False
        """Whether its runner has been told so, and runs to its end."""
        self._interrupted = False  # whether it was told by a cancellation
        self._has_worked = False
        self.has_begun = False
        self.has_ended = False
        self._over = False
        """Whether it has come to its end by itself: it sends what is left, or has ended."""
        self._calls: Calls | None = None
        self.undoing = False
        """Whether it is undoing its state, which no cancellation may cut short (the worker's death does)."""
        self.doing = "starting"
        self.received = 0
        self.failed = 0
        self.dropped = 0
        self.loops = 0
        """Trigger loops that go on."""
        self.tasks: set[asyncio.Task[Any] | None] = set()
        """The tasks in which they do."""
        self.states: dict[str, StateCell[Any]] = {}
        """Its state, by names."""
        self.streams: dict[str, Stream] = {}
        """The in-ports that the runner reads itself."""
        self.waits: list[str] = []
        """The in-ports on which those of them wait that wait for items."""
        self.parked: set[int] = set()
        """What loops wait for that wait for another loop of the same node."""
        self.rested: Callable[[], None] = lambda: None
        """Called when a loop begins to wait, or what feeds the node has ended in part."""
        self.ignored: Counter[int] = Counter()
        """edge -> items of it that were taken only to be dropped."""
        self.in_hand: Mapping[str, Any] | None = None
        """The items that the failed call had, by port; None before a failure."""
        self.remark = ""
        """What else is to be said of the failed call."""
        self.in_hand_s = 0.0
        self.starved_s = 0.0
        self._sent_before = 0
        self.journal: NodeJournal | None = None
        """Of a node that may start again."""
        self.silent = False
        """Whether it does not know yet what it counted in an earlier life."""
        self._writers = [writer for each in writers.values() for writer in each]
        self.flushes = [writer.flush for writer in self._writers if not isinstance(writer, LocalWriter)]
        """Send what was put and has not left yet."""
        self.starving = {port: f"waiting for items on {port!r}" for port in spec.inputs}
        self.published = 0.0
        """When the counts were written last."""
        self._results = [writer for port, each in writers.items() if port != ERRORS for writer in each]

        self.losses = Losses(spec.component, lambda: host.lost(self))

        def outport(port: str, refusal: Callable[[], BaseException | None], guard: Guard | None = None) -> OutPort:
            stamping = None if host.lineage is None else partial(host.lineage.stamping, spec.name, port)
            outlived = None if port == ERRORS or spec.component.at_caller else partial(self._outlived, port)
            forgotten = partial(self.losses.forget, port)
            goes_on = self.losses.goes_on
            return OutPort(port, spec.name, writers[port], refusal, forgotten, guard, stamping, outlived, goes_on)

        self.outports = {
            port: outport(port, self.refusal, host.guard(spec.name, port)) for port in writers if port != ERRORS
        }
        # Who reads failures no more does not stop the node: what it sends there is discarded.
        self.failures = Failures(self, outport(ERRORS, lambda: None) if ERRORS in writers else None)
        self.end: End | None = make_end(self) if spec.component.at_caller else None
        """What the caller holds of it."""

    @property
    def name(self) -> str:
        return self.spec.name

    def count_on(self) -> None:
        """It has started again: what an earlier life of it had counted goes on."""
        self.silent = False
        _, self._sent_before, self.failed, self.dropped, self.in_hand_s, self.starved_s, _ = self.host.board.node(
            self.row
        )
        self.received = sum(sum(reader.taken().values()) for reader in self.readers.values())
        for given in self.readers.values():
            for edge in given.taken():
                self.host.raised[edge] = self.host.board.outcome(edge, self.host.index, FAILED_ITEMS)

    # -- the way through

    async def run(self) -> None:
        """Runs the node to its end.

        Raises:
            ComponentError: its code raised.
            CancelledError: the worker is cancelling.
        """
        self.has_begun = True
        log.current.set(self.where)
        attempt.set(Attempt())
        ended = False
        try:
            await self._work()
            ended = True
        finally:
            self._close_readers()
            lost: ComponentError | None = None
            if ended:
                self.doing = "sending what is left"
                self._over = True
                await asyncio.sleep(0)  # tasks that its last call has made begin: they may be about to send
                for writer in self._results:
                    await writer.aclose()
                await self.failures.settle()  # also of what could not be sent just now
                for writer in self._writers:
                    await writer.aclose()
                for port in self.outports.values():
                    if port.guard is not None:
                        port.guard.look()
                lost = self.loss(ended=True)
            self.doing = "ended" if ended and lost is None else "failed"
            self._close_writers()
            self.rested()
            if lost is not None:
                raise lost

    def discard(self) -> None:
        """Counts what was meant for it, when it was cancelled before it had begun: then nothing of `run` has run."""
        if not self.has_ended:
            try:
                self._close_readers()
            finally:  # a send that waits on one of them would wait for ever
                self._close_writers()

    def _close_writers(self) -> None:
        self.failures.abandon()
        for writer in self._writers:
            writer.close()
        self.has_ended = True
        self.publish()

    async def _work(self) -> None:
        """Makes the state, consumes, undoes the state: which sees the error that ends the node, if one does."""
        raised: BaseException | None = None
        try:
            async with AsyncExitStack() as stack:
                if self.journal is not None:
                    await self.journal.recover()
                fixed = await self._fixed(stack)
                self.doing = "working"
                try:
                    await self._consume(Calls(self, fixed, stack))
                except BaseException as error:
                    if not self._stopped_by(error):
                        raised = error
                        raise
                finally:
                    self.doing = "undoing its state"
                    self.undoing = self._has_worked = True
        except BaseException as error:  # SystemExit and KeyboardInterrupt of a user's code end the node, not the worker
            if raised is None and not self._stopped_by(error):
                raised = error
            elif raised is not None and raised is not error:
                raised.add_note(f"undoing the state of {self.name!r} then raised {in_words(error)}")
        finally:
            self.undoing = False
            self._has_worked = True
            task = asyncio.current_task()
            if self._interrupted and task is not None:
                task.uncancel()  # what follows is the end of a node that was stopped, not of one that is cancelled
        # Looked at here and not in the `except`: a state that suppresses errors does not make a failure a success.
        if self.host.cancelling and isinstance(raised, GeneratorExit | asyncio.CancelledError):
            raise raised
        if raised is not None:
            raise self.failure(raised, self.in_hand)

    def _stopped_by(self, error: BaseException) -> bool:
        """Whether an error is that of a node which was stopped: it has ended, and leaves its state as at any end."""
        return isinstance(error, asyncio.CancelledError) and self.stopped and not self.host.cancelling

    def drained_by(self, error: BaseException) -> bool:
        """Whether an error is that of a node which the stop of the run has ended: what it has sent still leaves."""
        return self._draining and self._stopped_by(error)

    async def _fixed(self, stack: AsyncExitStack) -> dict[str, Any]:
        """Makes the parameters that are the same for every call, out-ports left aside."""
        fixed: dict[str, Any] = {}
        component = self.spec.component
        for state in component.states:
            self.doing = f"making its state {state.name!r}"
            fixed[state.name] = self.states[state.name] = await make_state(
                state, self.spec.state_args.get(state.name, StateArgs()), stack
            )
        for port, given in self.spec.inputs.items():
            if given.port.stream:
                reader = self.readers.get(port) or MergedReader((), [given.constant])
                kind = Stream if self.host.lineage is None else TaggedStream
                fixed[port] = self.streams[port] = kind(self, port, reader)
            elif not given.channels:
                fixed[port] = given.constant
        return {**fixed, **dict.fromkeys(component.stopping, self.stopping)}

    @property
    def calls_running(self) -> bool:
        """Whether calls of the runner are under way beside its loops."""
        return self._calls is not None and self._calls.running

    @property
    def waits_for_turns(self) -> int:
        """Calls of the runner that have sent all that they may before their turn."""
        return 0 if self._calls is None else len(self._calls.holding.waiting)

    async def _consume(self, calls: Calls) -> None:
        self._calls = calls
        try:
            if self.end is not None:
                await self.end.held()
            elif self.spec.role == "reorders":
                await run_reordering(self, calls.holding.when_over)
            elif self.spec.triggers:
                await run_triggers(self, calls)
            else:
                await run_once(self, calls)
            await calls.join()
        finally:
            await calls.abandon()
            for stream in self.streams.values():
                stream.close()

    def last_read(self) -> Mapping[str, Any]:
        """The item that was taken last of each stream that the runner reads itself."""
        return {port: stream.last for port, stream in self.streams.items() if stream.last is not MISSING}

    # -- what happens to it

    @property
    def unread(self) -> bool:
        """Whether what it sends is refused: nobody reads its results any more, or it is to stop."""
        return self._stopping or (bool(self._results) and all(writer.closed for writer in self._results))

    def refusal(self) -> BaseException | None:
        """What a send to an edge without readers raises: nothing, as long as another edge of this node is read."""
        if not self._stopping and any(not writer.closed for writer in self._results):
            return None
        self.stopped = True
        if self.end is not None:
            return self.end.refusal()
        task = asyncio.current_task()
        if task in self.tasks or (self._calls is not None and self._calls.run_in(task)):
            self.unwinds()
        return Stopped(f"{self.name}: nobody reads what it sends any more, or the run is stopping")

    def _outlived(self, port: str, edge: int) -> BaseException | None:
        """What a send raises when the node has ended, although somebody still read."""
        if not self._over or self.stopped or self.host.cancelling:
            return self.refusal()
        self.losses.miss(port, edge)
        return Stopped(f"{self.name} has ended: what its tasks send now is lost")

    def excuse(self) -> None:
        """The running call of its runner has failed: what it dropped by that it has not forgotten."""
        failed = attempt.get()
        if failed is not None:
            self.losses.excuse(failed)
            failed.excuse()

    def loss(self, *, ended: bool = False) -> ComponentError | None:
        """The error for what it has lost by a fault of its own code, if it has.

        Stopped by the end of its readers, it may drop what nobody would have read.

        Args:
            ended: whether it awaits nothing any more: what it keeps is lost as well.
        """
        if self.stopped or self.host.cancelling:
            return None
        held = Counter({name: port.unawaited for name, port in self.outports.items()} if ended else {})
        if ended and self._calls is not None:
            held += self._calls.holding.unawaited
        words = self.losses.in_words(self.name, held)
        if words is None:
            return None
        place = place_of(self.spec.component)
        return ComponentError(
            f"node {self.name!r} ({self.spec.component.name}{place and ', ' + place}) failed on worker "
            f"{self.host.index}: {words}",
            node=self.name,
            worker=self.host.index,
        )

    @property
    def rests(self) -> bool:
        """Whether it cannot move before an item comes, or has ended."""
        return self.has_ended or (
            0 < self.loops == len(self.waits) + len(self.parked)
            and not any(self.readers[port].ready for port in self.waits)
            and not self.calls_running
            and not any(writer.waiting for writer in self._writers)
        )

    @property
    def may_begin_to_send(self) -> bool:
        """Whether tasks may have been made just now for a `send` that nobody has awaited yet."""
        return any(writer.unawaited for writer in self._writers)

    @property
    def awaits(self) -> set[int]:
        """The channels from which an item would make it move."""
        return {channel for port in self.waits for channel in self.spec.inputs[port].channels}

    @property
    def blocked_on(self) -> list[int]:
        """The edges on which a send waits for room."""
        return [writer.edge for writer in self._writers if writer.waiting]

    def stop(self) -> None:
        """Makes the next `send` of this node raise; a waiting one raises at once."""
        self._stopping = True
        if self.end is not None:
            self.end.stop()
        for port in self.outports.values():
            port.stop()
        self.look()

    def look(self) -> None:
        """Ends the sends that wait for something else than room, if the node is to stop. Called now and then."""
        self.losses.look()
        if self._calls is not None:
            self._calls.holding.look()

    def drain(self) -> None:
        """As `stop`, since the run is stopped: what its runner sends when it knows of that is sent."""
        if self.stopping is not None:
            self.stopping.set()  # it decides by itself
        else:
            self._draining = True
            self.stop()

    def unwinds(self) -> bool:
        """Its runner has been told that it was stopped. Whether since the run is: what it sends then is sent."""
        if self._draining and not self.unwinding:
            self.unwinding = True
            self._stopping = False
            for port in self.outports.values():
                port.resume()
        return self.unwinding

    def interrupt(self) -> bool:
        """Whether its task is to be cancelled, since it was stopped and has come to no `send`."""
        ends = self.unwinding or self._has_worked or self.end is not None
        if ends or self.stopping is not None or (self._calls is not None and self._calls.in_threads):
            return False
        self.stopped = self._interrupted = self._draining = True
        self.unwinds()
        return True

    def failure(self, error: BaseException, items: Mapping[str, Any] | None) -> ComponentError:
        """The error of this node for an error that its code raised, with the items in hand."""
        shown: str | dict[str, str] | None = None
        if items is not None:
            told = {port: bounded_repr(item) for port, item in items.items()}
            shown = next(iter(told.values())) if len(told) == 1 else told
        if items:
            where = " on " + ", ".join(f"{port}={bounded_repr(item)}" for port, item in items.items())
        else:
            where = f" while {self.doing}" if items is None else ""
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
            item=shown,
        )
        result.__cause__ = error
        return result

    # -- accounts

    def _close_readers(self) -> None:
        board, worker = self.host.board, self.host.index
        left = Counter(self.ignored)
        for reader in self.readers.values():
            self._publish_taken(reader)
            if self.host.lineage is not None:
                self.host.lineage.drop(reader.items)
            left.update(reader.close())
        for edge, items in left.items():
            board.set_outcome(edge, worker, DROPPED_ITEMS, items)
            self.dropped += items

    def publish(self) -> None:
        """Writes the node's counts and those of its edges on the stats board."""
        if self.silent:
            return
        self.published = perf_counter()
        board = self.host.board
        sent = self._sent_before
        blocked = paused = 0.0
        for port in self.outports.values():
            sent += port.sent
            blocked += port.blocked_s
            paused += port.paused_s
        board.publish_node(
            self.row,
            self.received,
            sent,
            self.failed,
            self.dropped,
            max(0.0, self.in_hand_s - blocked - paused),
            self.starved_s,
            blocked,
        )
        for writer in self._writers:
            board.set_sent(writer.edge, writer.sent, writer.lost)
        for reader in self.readers.values():
            self._publish_taken(reader)

    def _publish_taken(self, reader: Reader) -> None:
        board, worker, raised = self.host.board, self.host.index, self.host.raised
        for edge, items in reader.taken().items():
            board.set_outcome(edge, worker, DELIVERED, items - raised[edge] - self.ignored[edge])
