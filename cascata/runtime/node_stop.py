"""How a node is told to stop, and what its sends do from then on.

    nobody reads its results any more ──┐
    stop: the run ends, or its cycle ───┴──> the next `send` raises what `refusal` makes, and the runner unwinds
    drain: the run is to end in order ─────> the same; what the runner sends while it unwinds is sent (`unwinds`)
    interrupt: it comes to no `send` ──────> as drain, by a cancellation of the node's task

A component that declares `stopping: Stopping` is not stopped by a drain: its event is set, and it ends by itself.
"""

from __future__ import annotations

import asyncio

from .node_state import NodeState, Phase
from .order.buffered_sends import SendBuffers
from .ports.outport import Stopped
from .ports.source_sink import End
from .ports.stop_event import StopEvent

__all__ = ["NodeStop"]


class NodeStop:
    """Whether one node is to stop, and whether its runner knows.

    Args:
        state: of the node.

    Attributes:
        refusing: whether every `send` is refused.
        stopped: whether the runner was told, by a refused `send` or a cancellation: then its end is no failure.
        draining: whether it is stopped since the run drains, and not since nobody reads.
        unwinding: whether a runner that drains was told: what it sends on its way to its end is sent.
        interrupted: whether it was told by a cancellation of the node's task.
        event: what the runner awaits, if its component declares that.
        end: what the caller holds of a source or a sink.
        buffers: what calls of the runner have sent that may not leave yet.
    """

    def __init__(self, state: NodeState) -> None:
        component = state.spec.component
        self.name = state.name
        self.refusing = False
        self.stopped = False
        self.draining = False
        self.unwinding = False
        self.interrupted = False
        self.event = StopEvent() if component.stopping else None
        self.end: End | None = None
        self.buffers = SendBuffers(self, component.options.get("concurrency", 1), state.lost_sends)
        self._state = state

    # -- what happens to the node

    def stop(self) -> None:
        """Makes the next `send` of the node raise; a waiting one raises at once."""
        self.refusing = True
        if self.end is not None:
            self.end.stop()
        for port in self._state.outports.values():
            port.stop()
        self.look()

    def drain(self) -> None:
        """As `stop`, since the run is to end in order: what the runner sends when it knows of that is sent."""
        if self.event is not None:
            self.event.set()  # it decides by itself
        else:
            self.draining = True
            self.stop()

    def interrupt(self) -> bool:
        """Whether the node's task is to be cancelled, since the node was stopped and has come to no `send`."""
        state = self._state
        ends = self.unwinding or state.phase >= Phase.UNDOING or self.end is not None
        if ends or self.event is not None or state.in_threads:
            return False
        self.stopped = self.interrupted = self.draining = True
        self.unwinds()
        return True

    def look(self) -> None:
        """Ends the sends that wait for something else than room, if the node is to stop. Called now and then."""
        self._state.lost_sends.look()
        self.buffers.look()

    # -- what its sends do

    @property
    def unread(self) -> bool:
        """Whether what it sends is refused: nobody reads its results any more, or it is to stop."""
        results = self._state.results
        return self.refusing or (bool(results) and all(writer.closed for writer in results))

    def refusal(self) -> BaseException | None:
        """What a send to an edge without readers raises: nothing, as long as another edge of the node is read."""
        state = self._state
        if not self.refusing and any(not writer.closed for writer in state.results):
            return None
        self.stopped = True
        if self.end is not None:
            return self.end.refusal()
        task = asyncio.current_task()
        if task in state.tasks or task in state.calls:
            self.unwinds()
        return Stopped(f"{self.name}: nobody reads what it sends any more, or the run is stopping")

    def outlived(self, port: str, edge: int) -> BaseException | None:
        """What a send raises when the node has ended, although a reader had not."""
        state = self._state
        if not state.came_to_its_end or self.stopped or state.host.cancelling:
            return self.refusal()
        state.lost_sends.miss(port, edge)
        return Stopped(f"{self.name} has ended: what its tasks send now is lost")

    def unwinds(self) -> bool:
        """Its runner has been told that it was stopped. Whether since the run drains: what it sends then is sent."""
        if self.draining and not self.unwinding:
            self.unwinding = True
            self.refusing = False
            for port in self._state.outports.values():
                port.resume()
        return self.unwinding

    # -- what its errors mean

    def stopped_by(self, error: BaseException) -> bool:
        """Whether an error is that of a node which was stopped: it has ended, and leaves its state as at any end."""
        return isinstance(error, asyncio.CancelledError) and self.stopped and not self._state.host.cancelling

    def drained_by(self, error: BaseException) -> bool:
        """Whether an error is that of a node which the drain of the run has ended: what it has sent still leaves."""
        return self.draining and self.stopped_by(error)
