"""One node at work: makes its state, runs its trigger loops, ends, and tells what it did.

    run ──> _work: make the state ──> _consume: take items, call the runner ──> undo the state
     └────> close the readers, flush and close the writers

A node ends when its trigger groups have ended; it is stopped when nobody reads what it sends, or
when the run drains; it fails when its code raises, and is cancelled when another node failed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from .. import log
from ..channel.change_detector import ChangeDetector
from ..channel.merge import MergedReader
from ..channel.unawaited import Attempt, attempt
from ..errors import ComponentError, in_words
from ..model import ERRORS, StateArgs
from ..observe.board import DROPPED_ITEMS
from .failures import Failures
from .node_state import NodeState, Phase
from .node_stop import NodeStop
from .order.ordered import run_reordering
from .persist import make_state
from .ports.lost_sends import place_of
from .ports.outport import OutPort
from .ports.source_sink import End, SinkEnd, SourceEnd
from .ports.stream import Stream, TaggedStream
from .restart import NodeJournal
from .runner_calls import Calls
from .triggers import run_once, run_triggers

__all__ = ["Node"]


class Node:
    """An instance of a component at work on a worker.

    Args:
        state: what its parts share.

    Attributes:
        state: the same.
        stop: how it is told to stop.
        failures: what becomes of items that fail.
        journal: of a node that may start again.
        end: what the caller holds of a source or a sink.
    """

    def __init__(self, state: NodeState) -> None:
        spec, host, writers = state.spec, state.host, state.ends.writers
        stop = NodeStop(state)
        self.state = state
        self.stop = stop
        self.name = spec.name
        self.where = state.where
        self.is_source = not state.readers
        self.journal: NodeJournal | None = None
        self._streams: dict[str, Stream] = {}
        self._calls: Calls | None = None

        def outport(
            port: str, refusal: Callable[[], BaseException | None], detector: ChangeDetector | None = None
        ) -> OutPort:
            stamping = None if host.lineage is None else partial(host.lineage.stamping, spec.name, port)
            outlived = None if port == ERRORS or spec.component.at_caller else partial(stop.outlived, port)
            forgotten = partial(state.lost_sends.forget, port)
            goes_on = state.lost_sends.goes_on
            return OutPort(port, spec.name, writers[port], refusal, forgotten, detector, stamping, outlived, goes_on)

        state.outports.update(
            (port, outport(port, stop.refusal, host.detector(spec.name, port))) for port in writers if port != ERRORS
        )
        # That nobody reads its failures any more does not stop the node: what it sends there is discarded.
        self.failures = Failures(state, stop, outport(ERRORS, lambda: None) if ERRORS in writers else None)
        if spec.component.at_caller:
            stop.end = _end_of(state)

    @property
    def end(self) -> End | None:
        return self.stop.end

    # -- the way through

    async def run(self) -> None:
        """Runs the node to its end.

        Raises:
            ComponentError: its code raised.
            CancelledError: the worker is cancelling.
        """
        state = self.state
        state.phase = Phase.WORKING
        log.current.set(state.where)
        attempt.set(Attempt())
        try:
            await self._work()
            state.came_to_its_end = True
        finally:
            self._close_readers()
            lost: ComponentError | None = None
            if state.came_to_its_end:
                state.doing = "sending what is left"
                await asyncio.sleep(0)  # tasks that its last call has made begin: they may be about to send
                for writer in state.results:
                    await writer.aclose()
                await self.failures.settle()  # also of what could not be sent just now
                for writer in state.writers:
                    await writer.aclose()
                for port in state.outports.values():
                    if port.detector is not None:
                        port.detector.check_recent()
                lost = self.loss(ended=True)
            state.doing = "ended" if state.came_to_its_end and lost is None else "failed"
            self._close_writers()
            state.rested()
            if lost is not None:
                raise lost

    def discard(self) -> None:
        """Counts what was meant for it, when it was cancelled before it had begun: then nothing of `run` has run."""
        if not self.state.has_ended:
            try:
                self._close_readers()
            finally:  # a send that waits on one of them would wait for ever
                self._close_writers()

    def _close_readers(self) -> None:
        state = self.state
        board, worker, lineage = state.host.board, state.host.index, state.host.lineage
        left = Counter(state.ignored)
        for reader in state.readers.values():
            state.publish_taken(reader)
            if lineage is not None:
                lineage.drop(reader.items)
            left.update(reader.close())
        for edge, items in left.items():
            board.set_outcome(edge, worker, DROPPED_ITEMS, items)
            state.dropped += items

    def _close_writers(self) -> None:
        self.failures.abandon()
        for writer in self.state.writers:
            writer.close()
        self.state.phase = Phase.ENDED
        self.state.publish()

    async def _work(self) -> None:
        """Makes the state, consumes, undoes the state: which sees the error that ends the node, if one does."""
        state, stop = self.state, self.stop
        raised: BaseException | None = None
        try:
            async with AsyncExitStack() as stack:
                if self.journal is not None:
                    await self.journal.recover()
                fixed = await self._fixed(stack)
                state.doing = state.at_work
                try:
                    await self._consume(Calls(state, stop, self.failures, self.journal, fixed, stack))
                except BaseException as error:
                    if not stop.stopped_by(error):
                        raised = error
                        raise
                finally:
                    state.doing = "undoing its state"
                    state.phase = Phase.UNDOING
        except BaseException as error:  # SystemExit and KeyboardInterrupt of a user's code end the node, not the worker
            if raised is None and not stop.stopped_by(error):
                raised = error
            elif raised is not None and raised is not error:
                raised.add_note(f"undoing the state of {self.name!r} then raised {in_words(error)}")
        finally:
            state.phase = Phase.UNDONE
            task = asyncio.current_task()
            if stop.interrupted and task is not None:
                task.uncancel()  # what follows is the end of a node that was stopped, not of one that is cancelled
        # Looked at here and not in the `except`: a state that suppresses errors does not make a failure a success.
        if state.host.cancelling and isinstance(raised, GeneratorExit | asyncio.CancelledError):
            raise raised
        if raised is not None:
            raise state.failure(raised, state.in_hand)

    async def _fixed(self, stack: AsyncExitStack) -> dict[str, Any]:
        """Makes the parameters that are the same for every call, out-ports left aside."""
        state = self.state
        spec = state.spec
        fixed: dict[str, Any] = {}
        for each in spec.component.states:
            state.doing = f"making its state {each.name!r}"
            args = spec.state_args.get(each.name, StateArgs())
            fixed[each.name] = state.cells[each.name] = await make_state(each, args, stack)
        for port, given in spec.inputs.items():
            if given.port.stream:
                reader = state.readers.get(port) or MergedReader((), [given.constant])
                kind = Stream if state.host.lineage is None else TaggedStream
                fixed[port] = self._streams[port] = kind(state, port, reader)
            elif not given.channels:
                fixed[port] = given.constant
        return {**fixed, **dict.fromkeys(spec.component.stopping, self.stop.event)}

    async def _consume(self, calls: Calls) -> None:
        self._calls = calls
        state = self.state
        try:
            if self.end is not None:
                await self.end.until_over()
            elif state.spec.role == "reorders":
                await run_reordering(state, self.stop)
            elif state.spec.triggers:
                await run_triggers(state, calls)
            else:
                await run_once(state, calls, self._streams)
            await calls.join()
        finally:
            await calls.abandon()
            for stream in self._streams.values():
                stream.close()

    # -- what others ask

    def loss(self, *, ended: bool = False) -> ComponentError | None:
        """The error for what it has lost by a fault of its own code, if it has.

        Stopped by the end of its readers, it may drop what no node would have read.

        Args:
            ended: whether it awaits nothing any more: what it keeps is lost as well.
        """
        state = self.state
        if self.stop.stopped or state.host.cancelling:
            return None
        unawaited: Counter[str] = Counter()
        if ended:
            unawaited.update({name: port.unawaited for name, port in state.outports.items()})
            unawaited += self.stop.buffers.unawaited
        words = state.lost_sends.in_words(self.name, unawaited)
        if words is None:
            return None
        component = state.spec.component
        place = place_of(component)
        return ComponentError(
            f"node {self.name!r} ({component.name}{place and ', ' + place}) failed on worker "
            f"{state.host.index}: {words}",
            node=self.name,
            worker=state.host.index,
        )

    @property
    def has_ended(self) -> bool:
        return self.state.has_ended

    @property
    def rests(self) -> bool:
        """Whether it cannot move before an item comes, or has ended."""
        state = self.state
        return state.has_ended or (
            0 < state.loops == len(state.waits) + len(state.parked)
            and not any(state.readers[port].ready for port in state.waits)
            and not (self._calls is not None and self._calls.running)
            and not any(writer.waiting for writer in state.writers)
        )

    @property
    def doing(self) -> str:
        """What it does, in words; with the calls of its runner that have sent all that they may before their turn."""
        waits = len(self.stop.buffers.waiting)
        if not waits:
            return self.state.doing
        calls = "a call waits for its turn" if waits == 1 else f"{waits} calls wait for their turn"
        return f"{self.state.doing} ({calls} to send: those before have not ended)"


def _end_of(state: NodeState) -> End:
    """What the caller holds of a node: a source has an out-port, a sink an in-port."""
    if state.outports:
        return SourceEnd(state)
    if state.host.lineage is None:
        return SinkEnd(state)
    from .live_calls.answers import AnsweringSink  # runs that are not opened for calls need not load it

    return AnsweringSink(state)
