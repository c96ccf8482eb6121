"""The nodes of one worker in one event loop: wires them, runs them, and tells what happens.

GraphSpec + node names ──> local channels here, crossing ones from the transport ──> a task per node
"""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any, Final, Protocol

from .. import log
from ..channel.base import Reader, Writer
from ..channel.batch import BatchReader
from ..channel.given import CheckedItems, Guard, bare
from ..channel.line import BEGINNING_TURNS
from ..channel.local import LocalChannel
from ..channel.merge import MergedReader
from ..channel.unawaited import Forgotten, Unawaited
from ..errors import ComponentError, SerializationError, bounded_repr
from ..model import MISSING, ChannelSpec, CycleSpec, EdgeSpec, GraphSpec, NodeSpec
from ..observe.board import Board
from ..records import dataclass
from .deadlines import Deadlines
from .idle import IdleReport, IdleWatch, Rest
from .live_calls.lineage import Lineage
from .node import Node
from .ports.sources import beginnings, is_fed
from .restart import Life, NodeJournal

__all__ = ["SWITCH_S", "Events", "Links", "Refused", "Worker"]

SWITCH_S: Final = 0.0005
"""Seconds after which a thread that waits for the interpreter asks for it. A busy loop lets it go every millisecond,
for a moment: threads that ask less often than that may lose every race for it, for seconds."""

_RECANCEL_S: Final = 0.25


Refused = Callable[[SerializationError, Sequence[str], Any], None]
"""Is told of an item that cannot cross: the error, the nodes whose failure it is, and the item."""


class Links(Protocol):
    """Makes the ends of channels that cross a process border."""

    def reader(self, channel: ChannelSpec, users: int) -> Reader:
        """The receiving end for this worker, taken from by `users` nodes."""

    def writer(self, edge: EdgeSpec, forgotten: Forgotten) -> Writer:
        """The sending end of an edge."""


class Events(Protocol):
    """Who is told what happens on a worker, in the loop that runs it."""

    def failed(self, error: BaseException) -> None:
        """A node failed; called once for each."""

    def overdue(self, error: ComponentError) -> None:
        """A call went on although its time was over, and cannot be stopped. Called in a thread of its own."""

    def writers_done(self, edges: Sequence[int]) -> None:
        """Nothing more is sent on these crossing edges, and all that was has left."""

    def reader_done(self, channel: int) -> None:
        """Nobody here reads this crossing channel any more."""

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
        """Nobody reads any more what the part of a cycle that runs here sends to other nodes; it sent to some."""


@dataclass(slots=True)
class _Part:
    """The nodes of a cycle that run here."""

    number: int
    spec: CycleSpec
    nodes: list[Node]
    outward: list[Writer]
    """By which they send to other nodes."""
    fed: bool
    """Whether other nodes send to it."""
    looking: bool = False
    turns: int = 0
    """Of the loop that tasks had to begin with a `send` that was made for them."""
    ended: bool = False
    unread: bool = False


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
        at_caller: whether this is the caller's part of the run, in the caller's own loop: its tasks are no components'.
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
        self._debug = debug
        self.watch: IdleWatch | None = None
        self.raised: Counter[int] = Counter()
        self._spec = spec
        self._crossing = crossing
        self._links = links
        self._events = events
        self._again: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._over = False
        self._tasks: dict[asyncio.Task[None], Node] = {}
        here = frozenset(names)
        self._readers: dict[int, Reader] = {}
        self._open: Counter[int] = Counter()  # channel -> nodes here that still read it
        for channel in spec.channels:
            users = sum(reader.node in here for reader in channel.readers)
            if users:
                self._open[channel.id] = users
                self._readers[channel.id] = self._reader(channel, users)
        rows = {name: row for row, name in enumerate(spec.nodes)}
        self.writers: dict[int, Writer] = {}
        self.nodes = [self._node(spec.nodes[name], rows[name]) for name in names]
        self._beginnings = [node for node in self.nodes if node.name in beginnings(spec)]
        self._draining = False
        self._cycles = [
            _Part(
                number,
                cycle,
                [node for node in self.nodes if node.name in cycle.nodes],
                [self.writers[edge] for edge in sorted(cycle.outward & self.writers.keys())],
                is_fed(spec, cycle),
            )
            for number, cycle in enumerate(spec.cycles)
        ]
        for part in self._cycles:
            for node in part.nodes:
                node.rested = functools.partial(self._look_later, part)
        if life is not None:
            for node in self.nodes:
                node.journal = self._journal(node, life)
                node.silent = life.death is not None

    # -- wiring

    def _reader(self, channel: ChannelSpec, users: int) -> Reader:
        if channel.id in self._crossing:
            assert self._links is not None  # a plan with crossing channels comes with links
            return self._links.reader(channel, users)
        local = LocalChannel(channel.capacity, users)
        if self._debug:
            local.items = CheckedItems()
        return local

    def _end(self, channel: int) -> Reader:
        reader = self._readers[channel]
        batch = self._spec.edges[self._spec.channels[channel].edges[0]].batch  # one for all edges of a channel
        return reader if batch is None else BatchReader(reader, None if batch == "all" else batch)

    def batches(self, channel: int) -> bool:
        return self._spec.edges[self._spec.channels[channel].edges[0]].batch is not None

    def _writer(self, edge: EdgeSpec) -> Writer:
        def forgotten(those: Unawaited | None = None) -> None:  # the writers of a node are made before it is
            for node in self.nodes:
                if node.name == edge.source.node:
                    node.losses.forget(edge.source.port, those)

        writer: Writer
        if edge.channel in self._crossing:
            assert self._links is not None
            writer = self._links.writer(edge, forgotten)
        else:
            channel = self._readers[edge.channel]
            assert isinstance(channel, LocalChannel)
            writer = channel.writer(edge.id, forgotten)
        self.writers[edge.id] = writer
        return writer

    def _node(self, spec: NodeSpec, row: int) -> Node:
        readers: dict[str, Reader] = {}
        node: Node | None = None

        def rested() -> None:
            if node is not None:
                node.rested()

        for port, given in spec.inputs.items():
            if given.channels:
                behind = [self._end(channel) for channel in given.channels]
                seed = [] if given.seed is MISSING else [given.seed]
                readers[port] = behind[0] if len(behind) == 1 and not seed else MergedReader(behind, seed, rested)
        writers = {
            port: [self._writer(self._spec.edges[edge]) for edge in output.edges]
            for port, output in spec.outputs.items()
        }
        channels = (self._spec.channels[each] for given in spec.inputs.values() for each in given.channels)
        with_others = any(self._open[each.id] > 1 and len(each.edges) > 1 for each in channels)
        node = Node(spec, row, readers, writers, self, takes_with_others=with_others)
        return node

    def _journal(self, node: Node, life: Life) -> NodeJournal:
        given = {port: each.channels for port, each in node.spec.inputs.items() if each.channels}
        edges = {port: self._spec.edges[self._spec.channels[each[0]].edges[0]] for port, each in given.items()}
        # The links of such a worker make such readers and writers.
        readers: Any = {port: [self._readers[each] for each in channels] for port, channels in given.items()}
        writers: Any = [*self.writers.values()]
        batched = frozenset(port for port, edge in edges.items() if edge.batch is not None)
        return NodeJournal(node, readers, writers, batched, life.death)

    # -- running

    async def run(self) -> None:
        """Runs the nodes to their end. Failures go to `Events.failed`, and cancel the rest.

        Cancelled: cancels the nodes and waits for them.
        """
        watch = self.watch = IdleWatch(self, self._events.idle)
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
        except GeneratorExit:  # left behind by a run in this process, and its loop is gone
            raise
        except BaseException as error:  # told to whoever watches over the run
            self._events.failed(error)
            self.cancel()
            return
        self._ended(node)

    def _ended(self, node: Node) -> None:
        crossing = self._crossing
        done = [
            edge
            for output in node.spec.outputs.values()
            for edge in output.edges
            if self._spec.edges[edge].channel in crossing
        ]
        if done:
            self._events.writers_done(done)
        for given in node.spec.inputs.values():
            for channel in given.channels:
                self._open[channel] -= 1
                if not self._open[channel] and channel in crossing:
                    self._events.reader_done(channel)
        if self._draining and node in self._beginnings:
            self._look_at_sources()

    def _look_at_sources(self) -> None:
        if all(node.has_ended for node in self._beginnings):
            self._events.sources_ended()

    # -- cycles

    def _look_later(self, part: _Part) -> None:
        """Looks whether a part of a cycle rests, when those have run that were woken just now."""
        if not part.looking:
            part.looking = True
            asyncio.get_running_loop().call_soon(self._look, part)

    def look_at_cycles(self) -> None:
        """Looks again at cycles: a task may have ended that could have sent, and a reader that was the last."""
        for part in self._cycles:
            if part.nodes:
                self._look(part)
            if part.outward and not part.unread and all(writer.closed for writer in part.outward):
                part.unread = True
                self._events.cycle_unread(part.number)

    def _look(self, part: _Part) -> None:
        part.looking = False
        if part.ended or not all(node.rests for node in part.nodes):
            part.turns = 0
            return
        if part.turns < BEGINNING_TURNS and any(node.may_begin_to_send for node in part.nodes):
            part.turns += 1
            self._look_later(part)
            return
        part.turns = 0
        if self.watch is not None and self.watch.somebody_may_send():
            return
        sent: dict[int, int] = {}
        received: dict[int, int] = {}
        awaited: set[int] = set()
        turned = fed_still = False
        for node in part.nodes:
            for channel in node.awaits:
                if channel not in part.spec.channels and not self._readers[channel].ended:
                    return  # something can still enter
            awaited |= self.crossing_edges(node.awaits & part.spec.channels)
            for fed in node.spec.inputs.values():
                turned = turned or fed.seed is not MISSING
                for channel in fed.channels:
                    outside = channel not in part.spec.channels and not node.has_ended
                    fed_still = fed_still or (outside and not self._readers[channel].ended)
                for channel in self._crossing.intersection(fed.channels) & part.spec.channels:
                    received.update(self._readers[channel].received())
            for output in node.spec.outputs.values():
                for edge in output.edges:
                    channel = self._spec.edges[edge].channel
                    if channel in part.spec.channels:
                        turned = turned or self.writers[edge].sent > 0
                        if channel in self._crossing:
                            sent[edge] = self.writers[edge].sent
        self._events.cycle_rests(part.number, Rest(sent, received, frozenset(awaited), turned, fed_still))

    def end_cycle(self, cycle: int) -> None:
        """Ends the channels of a cycle in which nothing can move any more; those that cross are ended elsewhere."""
        part = self._cycles[cycle]
        part.ended = True
        for channel in part.spec.channels - self._crossing:
            reader = self._readers.get(channel)
            if isinstance(reader, LocalChannel):
                reader.finish()

    def stop_cycle(self, cycle: int) -> None:
        """Stops the nodes of a cycle: nobody reads any more what leaves it."""
        for node in self._cycles[cycle].nodes:
            node.stop()

    # -- items that are changed after they were sent

    def guard(self, node: str, port: str) -> Guard | None:
        if not self._debug:
            return None
        given = self._spec.nodes[node].outputs.get(port)
        edges = [] if given is None else [self._spec.edges[edge] for edge in given.edges]
        return Guard(
            functools.partial(self._changed, node, port),
            keeps=bool(edges) and all(edge.channel in self._crossing for edge in edges),
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

    # -- for the idle watch

    def look_at_sends(self) -> None:
        """Ends sends that wait for something else than room, of nodes whose readers have ended."""
        for node in self.nodes:
            if not node.has_ended:
                node.look()

    def channel_of(self, edge: int) -> int:
        return self._spec.edges[edge].channel

    def crosses(self, edge: int) -> bool:
        return self._spec.edges[edge].channel in self._crossing

    def crossing_edges(self, channels: Iterable[int]) -> set[int]:
        """The edges of those of the channels that cross."""
        return {edge for each in self._crossing.intersection(channels) for edge in self._spec.channels[each].edges}

    def crossing_readers(self) -> list[Reader]:
        return [reader for channel, reader in self._readers.items() if channel in self._crossing]

    def publish_ends(self) -> None:
        """Writes the counts of sources and sinks on the board: they have no loop of their own that would."""
        for node in self.nodes:
            if node.end is not None and not node.has_ended:
                node.publish()

    def grow(self, channel: int, extra: int) -> None:
        """Gives a local channel room for more items."""
        reader = self._readers.get(channel)
        if isinstance(reader, LocalChannel):
            reader.grow(extra)

    # -- from outside

    def drain(self) -> None:
        """Sources end at their next send; what they sent runs on to its end. Who awaits the stop is told."""
        self._draining = True
        for node in self.nodes:
            if node.is_source or node.stopping is not None:
                node.drain()
        self._look_at_sources()

    def end_sources(self) -> None:
        """Cancels the sources that have not come to a send, where they wait.

        In a cycle that nothing feeds each node ends at its next send.
        """
        if not all(node.has_begun for node in self._tasks.values()):
            asyncio.get_running_loop().call_soon(self.end_sources)  # one that has not begun could not tell of its end
            return
        for task, node in self._tasks.items():
            if node.is_source and not task.done() and node.interrupt():
                task.cancel()
        for part in self._cycles:
            for node in part.nodes if not part.fed else ():
                node.drain()

    def cancel(self) -> None:
        """Cancels every node that is not undoing its state, and again after a while those that resisted."""
        self.cancelling = True
        running = [task for task in self._tasks if not task.done()]
        for node in self.nodes:
            if node.stopping is not None:
                node.stopping.set()  # a thread that looks at it now and then cannot be told otherwise
        for task in running:
            if not self._tasks[task].undoing:
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
            owners: the nodes whose failure it is: its sender, or whoever reads where it could not be unpickled.
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

    def publish(self) -> None:
        """Writes the counts of nodes that wait, and waited too often to write them each time."""
        for node in self.nodes:
            if not node.has_ended:
                node.publish()

    # -- what a component loses by a fault of its own code

    def lost(self, node: Node) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is there any more who could be told
            self._loop.call_soon_threadsafe(self._fail_for_losses, node)

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
        return "; ".join(f"{node.name}: {self._doing(node)}" for node in self.nodes) or "nothing"

    @staticmethod
    def _doing(node: Node) -> str:
        waits = node.waits_for_turns
        if not waits:
            return node.doing
        calls = "a call waits for its turn" if waits == 1 else f"{waits} calls wait for their turn"
        return f"{node.doing} ({calls} to send: those before have not ended)"
