"""What a run did: counts and times of each node, the ledger of each edge, and which node limited it.

Plain frozen data, made by the engine from the stats board when a run has ended. `str(report)` is a table
of plain ASCII text, so that any terminal, log file and encoding can show it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from ..records import dataclass

__all__ = ["EdgeReport", "NodeReport", "RunReport"]


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What one node did.

    Attributes:
        node: its name.
        component: the name of its component class.
        worker: the index of its worker; None for a source or a sink, which is with the caller.
        received: items taken from its in-ports.
        sent: items that it sent, once each, to however many in-ports they went.
        failed: items whose runner raised, after its retries.
        dropped: items that were left unread when it ended.
        busy_s: seconds in which its runner was at work, waiting for room in an out-port excluded.
        starved_s: seconds in which it waited for items.
        blocked_s: seconds in which it waited for room in the in-ports that it sends to.
    """

    node: str
    component: str
    worker: int | None
    received: int = 0
    sent: int = 0
    failed: int = 0
    dropped: int = 0
    busy_s: float = 0.0
    starved_s: float = 0.0
    blocked_s: float = 0.0


@dataclass(frozen=True, slots=True)
class EdgeReport:
    """The ledger of one edge: every item that was sent ended in exactly one of the other counts.

    Attributes:
        source: the out-port, "node.port".
        target: the in-port, "node.port"; for a stream that a group shares, the group's.
        sent: items that were sent into the edge.
        delivered: items that a runner took and finished with.
        failed: items whose runner raised, after its retries.
        dropped: items that were left unread when their reader ended.
        undelivered: items that were still on their way when the run was stopped or failed.
    """

    source: str
    target: str
    sent: int = 0
    delivered: int = 0
    failed: int = 0
    dropped: int = 0
    undelivered: int = 0

    @property
    def balanced(self) -> bool:
        """Whether no item is unaccounted for."""
        return self.sent == self.delivered + self.failed + self.dropped + self.undelivered

    def __str__(self) -> str:
        """`a.out -> b.inp: sent 10 = delivered 8 + dropped 2`; counts of nothing are left out."""
        counts = [("delivered", self.delivered), ("failed", self.failed), ("dropped", self.dropped)]
        counts.append(("undelivered", self.undelivered))
        ends = " + ".join(f"{name} {count:,}" for name, count in counts if count) or "delivered 0"
        sign = "=" if self.balanced else "!="
        return f"{self.source} -> {self.target}: sent {self.sent:,} {sign} {ends}"


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run did. `str(report)` is a table; `to_dict()` is fit for JSON; it can be pickled.

    Attributes:
        nodes: node name to its report, in the order of definition.
        edges: the ledger of each edge, in the order of definition.
        wall_s: seconds from the start of the run to its end, the start of workers included.
        num_workers: how many workers ran.
        engine: "processes", "inline" or "ray".
        start_method: how worker processes were started, or None when there were none.
    """

    nodes: Mapping[str, NodeReport]
    edges: tuple[EdgeReport, ...]
    wall_s: float
    num_workers: int
    engine: str
    start_method: str | None = None

    @property
    def bottleneck(self) -> str | None:
        """The name of the node that limited the run, or None when no node was ever busy.

        It is the node that was busy for the greatest share of the run. The limiting node is never short of items and
        never kept from sending, so it is at work all the time, while those before it are blocked and those behind it
        starve. The share is of the whole run, not of the node's own life: a node that worked hard for a moment limits
        little. (Should a node's times sum up to more than the run, its share is of their sum, and never exceeds 1.)
        Among shares within 5 % of the greatest, which clocks cannot tell apart, the node that waited least is named,
        for items or for room.

        The name is a hint about where to look, not a proof: busy nodes that outnumber the cores share the blame.
        """
        shares = {name: self._busy_share(node) for name, node in self.nodes.items()}
        greatest = max(shares.values(), default=0.0)
        if greatest <= 0.0:
            return None
        close = [name for name, share in shares.items() if share >= 0.95 * greatest]
        return min(close, key=lambda name: (self._waited(name), -shares[name]))

    def to_dict(self) -> dict[str, Any]:
        """The report as dicts, lists, texts and numbers, with each edge's `balanced` and the `bottleneck`."""
        return {
            "engine": self.engine,
            "start_method": self.start_method,
            "num_workers": self.num_workers,
            "wall_s": self.wall_s,
            "bottleneck": self.bottleneck,
            "nodes": {name: asdict(node) for name, node in self.nodes.items()},
            "edges": [{**asdict(edge), "balanced": edge.balanced} for edge in self.edges],
        }

    def __str__(self) -> str:
        """A table of the nodes, then the edges that lost something, then the bottleneck."""
        return "\n".join([self._headline(), "", *self._table(), "", *self._ledger(), *self._verdict()])

    def _busy_share(self, node: NodeReport) -> float:
        span = max(self.wall_s, node.busy_s + node.starved_s + node.blocked_s)
        return node.busy_s / span if span > 0 else 0.0

    def _waited(self, name: str) -> float:
        node = self.nodes[name]
        return node.starved_s + node.blocked_s

    def _headline(self) -> str:
        engine = self.engine if self.start_method is None else f"{self.engine}, {self.start_method}"
        nodes, workers = _count(len(self.nodes), "node"), _count(self.num_workers, "worker")
        return f"{nodes} on {workers} ({engine}) in {_seconds(self.wall_s)}"

    def _table(self) -> list[str]:
        nodes = list(self.nodes.values())
        if not nodes:
            return ["no nodes"]
        bottleneck = self.bottleneck
        columns = [
            _Column("", ["*" if node.node == bottleneck else "" for node in nodes]),
            _Column("node", [node.node for node in nodes], shrinks=True),
            _Column("component", [node.component for node in nodes], shrinks=True),
            _Column("worker", ["caller" if node.worker is None else str(node.worker) for node in nodes], right=True),
            _Column("received", [f"{node.received:,}" for node in nodes], right=True),
            _Column("sent", [f"{node.sent:,}" for node in nodes], right=True),
        ]
        if any(node.failed or node.dropped for node in nodes):  # rare, and a table without them leaves names their room
            columns.append(_Column("failed", [f"{node.failed:,}" for node in nodes], right=True))
            columns.append(_Column("dropped", [f"{node.dropped:,}" for node in nodes], right=True))
        columns += [
            _Column("busy", [_seconds(node.busy_s) for node in nodes], right=True),
            _Column("starved", [_seconds(node.starved_s) for node in nodes], right=True),
            _Column("blocked", [_seconds(node.blocked_s) for node in nodes], right=True),
        ]
        return _render(columns)

    def _ledger(self) -> Iterable[str]:
        sent = sum(edge.sent for edge in self.edges)
        lossy = [edge for edge in self.edges if edge.delivered != edge.sent]
        head = f"{_count(len(self.edges), 'edge')}, {_count(sent, 'item')} sent"
        if not lossy:
            quiet = not any(node.failed or node.dropped for node in self.nodes.values())
            yield f"{head}, all delivered{'; nothing failed, nothing dropped' if quiet else ''}" if self.edges else head
            return
        yield f"{head}; not all delivered:"
        for edge in lossy:
            yield f"  {edge}"

    def _verdict(self) -> Iterable[str]:
        name = self.bottleneck
        if name is not None:
            share = self._busy_share(self.nodes[name])
            yield f"* bottleneck: {name}, busy for {'under 1%' if share < 0.01 else f'{share:.0%}'} of the run"


_WIDTH: Final = 100  # characters a line
_GAP: Final = "  "
_LEAST: Final = 12  # characters that a name keeps, however crowded the table


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    cells: Sequence[str]
    right: bool = False
    shrinks: bool = False

    @property
    def width(self) -> int:
        return max(len(each) for each in (self.title, *self.cells))


def _render(columns: Sequence[_Column]) -> list[str]:
    widths = [column.width for column in columns]
    excess = sum(widths) + len(_GAP) * (len(columns) - 1) - _WIDTH
    shrinking = [index for index, column in enumerate(columns) if column.shrinks]
    while excess > 0 and any(widths[index] > _LEAST for index in shrinking):
        widths[max(shrinking, key=lambda index: widths[index])] -= 1  # the widest gives first
        excess -= 1
    rows = [[column.title for column in columns], ["-" * width for width in widths]]
    rows[1][0] = ""  # over the marks
    rows += [[column.cells[row] for column in columns] for row in range(len(columns[0].cells))]
    lines = []
    for row in rows:
        texts = (_shortened(text, width) for text, width in zip(row, widths, strict=True))
        aligned = (
            text.rjust(width) if column.right else text.ljust(width)
            for column, text, width in zip(columns, texts, widths, strict=True)
        )
        lines.append(_GAP.join(aligned).rstrip())
    return lines


def _shortened(text: str, width: int) -> str:
    """The text, with "..." for its middle when it is too long: members of a group differ at the end."""
    if len(text) <= width:
        return text
    tail = (width - 3) // 2
    return f"{text[: width - 3 - tail]}...{text[-tail:]}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _seconds(seconds: float) -> str:
    """Three digits or so, in the unit that suits: "0 s", "12 us", "3.45 ms", "67.8 s", "2 min 03 s", "1 h 02 min"."""
    if round(seconds * 1e6) <= 0:
        return "0 s"
    if seconds < 0.9995e-3:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 0.9995:
        return f"{_three_digits(seconds * 1e3)} ms"
    if seconds < 99.95:
        return f"{_three_digits(seconds)} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60:02} min"


def _three_digits(value: float) -> str:
    if value < 9.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
