"""The part of a cycle that runs on one worker: when it rests, and how it ends.

    a loop of a node rests ──> look_later ──> look ── no node can move before an item comes ──> rests ──> supervisor
    end (nothing moves in the whole cycle), stop (nobody reads what leaves it) <──────────────────────────┘

A cycle cannot end from its beginning, since it has none. So its parts tell when they rest, with what they sent and
received on the cycle's crossing edges: when all rest and the counts agree, nothing is on its way (message counting,
after Mattern 1987).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ..channel.waiting_line import BEGINNING_TURNS
from ..model import MISSING, CycleSpec
from .idle import Rest
from .node import Node
from .wiring import Wiring

__all__ = ["CyclePart"]


class CyclePart:
    """The nodes of a cycle that run here.

    Args:
        cycle: the whole cycle.
        nodes: those of its nodes that run here.
        wiring: of the worker.
        fed: whether other nodes send into the cycle.
        somebody_may_send: whether a task here that is no node's may send.
        rests: called when no node can move before an item comes from another part.
        unread: called when all readers of what the nodes send out of the cycle have ended; there were some.

    Attributes:
        nodes: the same.
        fed: the same.
    """

    def __init__(
        self,
        cycle: CycleSpec,
        nodes: Sequence[Node],
        wiring: Wiring,
        *,
        fed: bool,
        somebody_may_send: Callable[[], bool],
        rests: Callable[[Rest], None],
        unread: Callable[[], None],
    ) -> None:
        self.nodes = nodes
        self.fed = fed
        self._cycle = cycle
        self._wiring = wiring
        self._outward = [wiring.writers[edge] for edge in sorted(cycle.outward & wiring.writers.keys())]
        self._somebody_may_send = somebody_may_send
        self._rests = rests
        self._unread = unread
        self._looking = False  # whether `_look` is about to be called
        self._turns = 0  # of the loop that tasks had to begin with a `send` that was made for them
        self._ended = False
        self._told_unread = False
        for node in nodes:
            node.state.rested = self.look_later

    def look_later(self) -> None:
        """Looks whether the part rests, when those have run that were woken just now."""
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_soon(self._look)

    def look(self) -> None:
        """Looks again, now and then: a task may have ended that could have sent, and a reader that was the last."""
        if self.nodes:
            self._look()
        if self._outward and not self._told_unread and all(writer.closed for writer in self._outward):
            self._told_unread = True
            self._unread()

    def _look(self) -> None:
        self._looking = False
        if self._ended or not all(node.rests for node in self.nodes):
            self._turns = 0
            return
        if self._turns < BEGINNING_TURNS and any(node.state.may_begin_to_send for node in self.nodes):
            self._turns += 1
            self.look_later()
            return
        self._turns = 0
        if self._somebody_may_send():
            return
        rest = self._rest()
        if rest is not None:
            self._rests(rest)

    def _rest(self) -> Rest | None:
        """The counts of the part; None when something can still enter, so that it does not only wait for itself."""
        wiring = self._wiring
        channels = self._cycle.channels
        sent: dict[int, int] = {}
        received: dict[int, int] = {}
        awaited: set[int] = set()
        turned = fed_still = False
        for node in self.nodes:
            awaits = node.state.awaits
            if any(channel not in channels and not wiring.readers[channel].ended for channel in awaits):
                return None
            awaited |= wiring.crossing_edges(awaits & channels)
            for given in node.state.spec.inputs.values():
                turned = turned or given.seed is not MISSING
                for channel in given.channels:
                    if channel in channels:
                        if channel in wiring.crossing:
                            received.update(wiring.readers[channel].received())
                    elif not node.has_ended and not wiring.readers[channel].ended:
                        fed_still = True
            for output in node.state.spec.outputs.values():
                for edge in output.edges:
                    if wiring.channel_of(edge) in channels:
                        turned = turned or wiring.writers[edge].sent > 0
                        if wiring.crosses(edge):
                            sent[edge] = wiring.writers[edge].sent
        return Rest(sent, received, frozenset(awaited), turned, fed_still)

    def end(self) -> None:
        """Nothing can move in the cycle any more: ends its channels. Those that cross are ended elsewhere."""
        self._ended = True
        self._wiring.finish(self._cycle.channels - self._wiring.crossing)

    def stop(self) -> None:
        """Stops the nodes: all readers of what leaves the cycle have ended."""
        for node in self.nodes:
            node.stop.stop()
