"""The nodes of one worker in one event loop: makes them, runs them, and tells what happens.

Worker ── Wiring ──> ends of channels ──> Node, a task for each ── Events ──> supervisor
  ├────── IdleWatch ── nothing moves here ────────────────────────^
  └────── CyclePart ── a cycle rests here ────────────────────────^
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, Final, Protocol

from .. import log
from ..channel.change_detector import ChangeDetector, bare
from ..channel.unawaited import Unawaited
from ..errors import ComponentError, SerializationError, bounded_repr
from ..model import GraphSpec
from ..observe.board import Board
from .deadlines import Deadlines
from .idle import IdleReport, Rest
from .idle_watch import IdleWatch, UserTasks, idle_report
from .live_calls.lineage import Lineage
from .node import Node
from .node_state import NodeState, Phase
from .restart import Life, NodeJournal
from .unfed_nodes import is_fed, unfed_nodes
from .wiring import Links, Wiring
from .worker_cycles import CyclePart

__all__ = ["SWITCH_S", "Events", "Links", "Refused", "Worker"]

SWITCH_S: Final = 0.0005
"""Seconds after which a thread that waits for the interpreter asks for it. A busy loop lets it go every millisecond,
for a moment: threads that ask less often than that may lose every race for it, for seconds."""

_RECANCEL_S: Final = 0.25


Refused = Callable[[SerializationError, Sequence[str], Any], None]
"""Called for an item that cannot cross: with the error, the nodes whose failure it is, and the item."""


class Events(Protocol):
    """Told what happens on a worker, in the event loop that runs it: by this the supervisor knows."""

    def failed(self, error: BaseException) -> None:
        """A node failed; called once for each."""

    def overdue(self, error: ComponentError) -> None:
        """A call went on although its time was over, and cannot be stopped. Called in a thread of its own."""

    def writers_done(self, edges: Sequence[int]) -> None:
        """Nothing more is sent on these crossing edges, and all that was has left."""

    def reader_done(self, channel: int) -> None:
        """All nodes here that read this crossing channel have ended."""

    def returned(self, balance: Mapping[int, int]) -> None:
        """Of the items of calls, by their tags: what was taken and sent (see `lineage`)."""

    def call_failed(self, tags: Sequence[int], error: BaseException) -> None:
        """An item that belongs to these calls has failed."""

    def sources_ended(self) -> None:
        """The run drains, and nothing is left here that would send of itself."""

    def idle(self, report: IdleReport) -> None:
        """Nothing here has moved for a while, and nothing can before an item or room comes from elsewhere."""

    def cycle_rests(self, cycle: int, rest: Rest) -> None:
        """The part of a cycle that runs here cannot move before an item comes from another part."""

    def cycle_unread(self, cycle: int) -> None:
        """All readers outside the cycle of what its part here sends have ended; there were some."""


class Worker:
    """Some nodes of a graph in the running event loop.

    Args:
        index: of the worker.
        spec: the whole graph.
        names: the nodes that run here.
        crossing: ids of the channels that cross a process border.
        links: makes the ends of those.
        board: the stats board.
        events: told what happens.
        skip_errors: whether a run goes on without items that fail.
        grace: seconds that a call has to stop when its time is over.
        debug: whether items are watched that are changed after they were sent.
        at_caller: whether this is the caller's part of the run, in the caller's loop: no task in it is a component's.
        calls: whether the run is opened for calls: items that belong to them are told from others.
        life: of a worker that may be started again; then it has one node, and all its channels cross.
    """

    def __init__(
        self,
        index: int,
        spec: GraphSpec,
        names: Sequence[str],
        crossing: frozenset[int],
        links: Links | None,
        board: Board,
        events: Events,
        *,
        skip_errors: bool,
        grace: float,
        debug: bool = False,
        at_caller: bool = False,
        calls: bool = False,
        life: Life | None = None,
    ) -> None:
        self.index = index
        self.at_caller = at_caller
        self.board = board
        self.skip_errors = skip_errors
        self.deadlines = Deadlines(grace, events.overdue)
        self.cancelling = False
        self.lineage = Lineage(events.returned, events.call_failed, spec) if calls else None
        self.watch: IdleWatch | None = None
        self.raised: Counter[int] = Counter()
        self._spec = spec
        self._events = events
        self._debug = debug
        self._again: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._over = False
        self._draining = False
        self._user_tasks: UserTasks | None = None
        self._tasks: dict[asyncio.Task[None], Node] = {}
        self._nodes: dict[str, Node] = {}
        self._wiring = Wiring(spec, names, crossing, links, self._forgotten, debug=debug)
        rows = {name: row for row, name in enumerate(spec.nodes)}
        for name in names:
            node = spec.nodes[name]
            ends = self._wiring.ends_of(node, partial(self._rested, name))
            self._nodes[name] = Node(NodeState(node, rows[name], ends, self))
        self.nodes = list(self._nodes.values())
        self._unfed = [self._nodes[name] for name in unfed_nodes(spec) if name in self._nodes]
        self._cycles = [
            CyclePart(
                cycle,
                [node for node in self.nodes if node.name in cycle.nodes],
                self._wiring,
                fed=is_fed(spec, cycle),
                somebody_may_send=self._somebody_may_send,
                rests=partial(events.cycle_rests, number),
                unread=partial(events.cycle_unread, number),
            )
            for number, cycle in enumerate(spec.cycles)
        ]
        if life is not None:
            for each in self.nodes:
                each.journal = self._journal(each, life)

    def _rested(self, name: str) -> None:
        self._nodes[name].state.rested()

    def _journal(self, node: Node, life: Life) -> NodeJournal:
        given = {port: each.channels for port, each in node.state.spec.inputs.items() if each.channels}
        wiring = self._wiring
        # The links of such a worker make such readers and writers.
        readers: Any = {port: [wiring.readers[each] for each in channels] for port, channels in given.items()}
        writers: Any = [*wiring.writers.values()]
        batched = frozenset(port for port, channels in given.items() if wiring.batches(channels[0]))
        return NodeJournal(node.state, node.failures, readers, writers, batched, life.death)

    # -- what nodes ask

    def batches(self, channel: int) -> bool:
        return self._wiring.batches(channel)

    # -- running

    async def run(self) -> None:
        """Runs the nodes to their end. Failures go to `Events.failed`, and cancel the rest.

        Cancelled: cancels the nodes and waits for them.
        """
        self._user_tasks = UserTasks(self.node_of)
        report = partial(idle_report, self.nodes, self._wiring, self._somebody_may_send)
        self.board.set_beat(self.index)
        watch = self.watch = IdleWatch(self._look, report, self._events.idle)
        for node in self.nodes:
            self._tasks[asyncio.ensure_future(self._run_node(node))] = node
        try:
            await asyncio.wait(self._tasks)
        except asyncio.CancelledError:
            self.cancel()
            await asyncio.wait(self._tasks)
            raise
        finally:
            self._over = True
            watch.stop()
            if self._again is not None:
                self._again.cancel()
            self.deadlines.close()
            with ExitStack() as ends:  # each of them, whatever another one raises
                if self.lineage is not None:
                    ends.callback(self.lineage.tell)
                for node in reversed(self.nodes):
                    ends.callback(node.discard)

    async def _run_node(self, node: Node) -> None:
        try:
            await node.run()
        except asyncio.CancelledError:
            return  # the worker is cancelling: `Node.run` lets no other cancellation pass
        except GeneratorExit:  # a run in this process has left the task behind, and its loop is gone
            raise
        except BaseException as error:
            self._events.failed(error)
            self.cancel()
            return
        self._ended(node)

    def _ended(self, node: Node) -> None:
        edges, channels = self._wiring.ended(node.state.spec)
        if edges:
            self._events.writers_done(edges)
        for channel in channels:
            self._events.reader_done(channel)
        if self._draining and node in self._unfed:
            self._look_at_sources()

    def _look_at_sources(self) -> None:
        if all(node.has_ended for node in self._unfed):
            self._events.sources_ended()

    # -- now and then

    def _look(self) -> None:
        """Looks at all that comes about without a call of this object."""
        self.board.set_beat(self.index)
        for node in self.nodes:
            if not node.has_ended:
                node.state.publish()  # it waits, and waited too often to write its counts each time
        for part in self._cycles:
            part.look()
        for node in self.nodes:
            if not node.has_ended:
                node.stop.look()

    def _somebody_may_send(self) -> bool:
        """Whether a task that is no node's may send."""
        return not self.at_caller and self._user_tasks is not None and self._user_tasks.may_send()

    # -- items that are changed after they were sent

    def detector(self, node: str, port: str) -> ChangeDetector | None:
        if not self._debug:
            return None
        given = self._spec.nodes[node].outputs.get(port)
        edges = () if given is None else given.edges
        return ChangeDetector(
            partial(self._changed, node, port),
            keeps=bool(edges) and all(self._wiring.crosses(edge) for edge in edges),
        )

    def _changed(self, node: str, port: str, item: Any) -> None:
        if self.cancelling:
            return
        shown = bounded_repr(item)
        self._events.failed(
            ComponentError(
                f"an item that node {node!r} sent on {node}.{port} was changed before it was delivered; now it is "
                f"{shown}. `send` gives an item away: send a copy, or make a new item for each send. (If it was not "
                f"the sender: another node that got the same item has changed it.) Found since the run has debug=True",
                node=node,
                worker=self.index,
                item=shown,
            )
        )
        self.cancel()

    # -- from outside

    def grow(self, channel: int, extra: int) -> None:
        """Gives a local channel room for more items."""
        self._wiring.grow(channel, extra)

    def end_cycle(self, cycle: int) -> None:
        """Ends the channels of a cycle in which nothing can move any more; those that cross are ended elsewhere."""
        self._cycles[cycle].end()

    def stop_cycle(self, cycle: int) -> None:
        """Stops the nodes of a cycle: nobody reads any more what leaves it."""
        self._cycles[cycle].stop()

    def drain(self) -> None:
        """Sources end at their next send; what they sent runs on to its end. The events of `Stopping` are set."""
        self._draining = True
        for node in self.nodes:
            if node.is_source or node.stop.event is not None:
                node.stop.drain()
        self._look_at_sources()

    def end_sources(self) -> None:
        """Cancels the sources that have not come to a send, where they wait.

        In a cycle that nothing feeds each node ends at its next send.
        """
        if any(node.state.phase is Phase.NOT_BEGUN for node in self._tasks.values()):
            asyncio.get_running_loop().call_soon(self.end_sources)  # cancelled before its first line, no node could end
            return
        for task, node in self._tasks.items():
            if node.is_source and not task.done() and node.stop.interrupt():
                task.cancel()
        for part in self._cycles:
            for node in part.nodes if not part.fed else ():
                node.stop.drain()

    def cancel(self) -> None:
        """Cancels every node that is not undoing its state, and again after a while those that resisted."""
        self.cancelling = True
        running = [task for task in self._tasks if not task.done()]
        for node in self.nodes:
            if node.stop.event is not None:
                node.stop.event.set()  # a thread that looks at it now and then cannot be told otherwise
        for task in running:
            if self._tasks[task].state.phase is not Phase.UNDOING:
                task.cancel()
        if self._again is not None:
            self._again.cancel()
        if running:
            self._again = asyncio.get_running_loop().call_later(_RECANCEL_S, self.cancel)

    def left(self) -> list[asyncio.Task[None]]:
        """The tasks of nodes that have not ended."""
        return [task for task in self._tasks if not task.done()]

    def refused(self, error: SerializationError, owners: Sequence[str], item: Any) -> None:
        """An item could not cross a process border; its edge has counted it.

        Args:
            error: says which and why.
            owners: the nodes whose failure it is: its sender, or the readers of where it could not be unpickled.
            item: the item, or words for it.
        """
        if self.lineage is None:
            self._refused(error, owners, item)
            return
        taken = self.lineage.taken(item)
        # A writer finds it out while another call sends: the failure must not be taken for a result of that one.
        with self.lineage.within(taken):
            if taken is None:
                self._refused(error, owners, item)
                return
            routed = [each.name for each in self.nodes if each.name in owners and each.failures.routed]
            if routed:
                self._refused(error, routed, bare(item.item))
            else:
                taken.fail(error)
            taken.give_back()

    def _refused(self, error: SerializationError, owners: Sequence[str], item: Any) -> None:
        for node in sorted((each for each in self.nodes if each.name in owners), key=lambda each: each.has_ended):
            if node.failures.take_item(error, item):
                return
        self._events.failed(error)
        self.cancel()

    # -- what a component loses by a fault of its own code

    def _forgotten(self, node: str, port: str, those: Unawaited | None) -> None:
        if node in self._nodes:  # its writers are made before it is
            self._nodes[node].state.lost_sends.forget(port, those)

    def lost(self, node: str) -> None:
        with suppress(RuntimeError):  # the loop is closed: the run has ended, and can fail no more
            self._loop.call_soon_threadsafe(self._fail_for_losses, self._nodes[node])

    def _fail_for_losses(self, node: Node) -> None:
        error = node.loss()
        if error is None:
            return
        if self._over:  # a task has outlived even the run
            log.warning("%s", error)
            return
        self._events.failed(error)
        self.cancel()

    def node_of(self, task: asyncio.Task[Any] | None) -> str | None:
        """The node whose code a task runs, if it is known. May be asked from another thread."""
        node = self._tasks.get(task)  # type: ignore[arg-type]  # None is no node's task
        if node is not None:
            return node.name
        context = getattr(task, "get_context", None)  # of a call beside the node's own task; since Python 3.12
        where = None if context is None else context().get(log.current)
        return None if where is None else where.node

    def doing(self) -> str:
        """What each node is doing, in words."""
        return "; ".join(f"{node.name}: {node.doing}" for node in self.nodes) or "nothing"
