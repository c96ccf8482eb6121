"""What a run does while it does it, for `progress=True`: a line for each component, on the terminal or in a notebook.

    stats board ── eight looks a second, in rich's own thread ──> Meter ── lines ──> a live table on stderr

The counters are in shared memory, so that looking costs the workers nothing. rich is loaded only where something is
shown: not when stderr is a file, a pipe or a log.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from ..model import GraphSpec
from ..records import dataclass
from .board import Board

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Line", "Meter", "progress_of", "table"]

WINDOW_S: Final = 2.0
"""Seconds of which the rates are told."""

LOOKS_A_SECOND: Final = 8


@dataclass(frozen=True, slots=True)
class Line:
    """What is shown of a node, or of a group.

    Attributes:
        name: of it.
        members: how many nodes it is.
        items: those that it has received; of a node without in-ports, sent.
        rate: items a second.
        waiting: items on their way to it.
        capacity: how many of these there may be; 0 for a node without in-ports.
        busy: the share of the time that its runners worked, of each member.
        bottleneck: whether it is the busiest.
        total: how many items there will be, when that is known.
    """

    name: str
    members: int
    items: int
    rate: float
    waiting: int
    capacity: int
    busy: float
    bottleneck: bool = False
    total: int | None = None

    @property
    def left_s(self) -> float | None:
        """Seconds to the last item at this rate, when that is known."""
        if self.total is None or self.rate <= 0:
            return None
        return max(0, self.total - self.items) / self.rate


class Meter:
    """Reads a run's stats board. Reads no clock.

    Args:
        spec: the graph.
        board: of the run.
        totals: source -> how many items it will send, where that is known.
    """

    def __init__(self, spec: GraphSpec, board: Board, totals: Mapping[str, int] | None = None) -> None:
        self._spec = spec
        self._board = board
        self._totals = totals or {}
        self._rows: dict[str, list[int]] = {}
        for row, (name, node) in enumerate(spec.nodes.items()):
            if name.isidentifier():  # others were made for the run: those around an ordered group
                self._rows.setdefault(node.group or name, []).append(row)
        self._nodes = tuple(spec.nodes.values())
        self._seen: deque[tuple[float, dict[str, tuple[int, float]]]] = deque()

    def look(self, now: float) -> list[Line]:
        """The lines, in the order of definition.

        Args:
            now: seconds on a clock that does not go back.
        """
        counts = {name: self._count(rows) for name, rows in self._rows.items()}
        seen = self._seen
        seen.append((now, counts))
        while len(seen) > 2 and now - seen[1][0] >= WINDOW_S:
            seen.popleft()
        since, before = seen[0]
        passed = now - since
        lines = []
        for name, rows in self._rows.items():
            items, busy_s = counts[name]
            items_before, busy_before = before[name]
            waiting, capacity = self._fill(rows)
            lines.append(
                Line(
                    name,
                    len(rows),
                    items,
                    (items - items_before) / passed if passed > 0 else 0.0,
                    waiting,
                    capacity,
                    min(1.0, (busy_s - busy_before) / passed / len(rows)) if passed > 0 else 0.0,
                    total=self._totals.get(name),
                )
            )
        busiest = max(lines, key=lambda line: line.busy, default=None)
        if busiest is not None and busiest.busy > 0:
            lines[lines.index(busiest)] = replace(busiest, bottleneck=True)
        return lines

    def _count(self, rows: list[int]) -> tuple[int, float]:
        items, busy_s = 0, 0.0
        for row in rows:
            received, sent, _, _, busy, _, _ = self._board.node(row)
            items += received if self._nodes[row].inputs and any(self._channels(row)) else sent
            busy_s += busy
        return items, busy_s

    def _channels(self, row: int) -> Iterator[bool]:
        return (bool(given.channels) for given in self._nodes[row].inputs.values())

    def _fill(self, rows: list[int]) -> tuple[int, int]:
        """What waits, and may wait, in the fullest of the channels that the nodes read."""
        fullest = (0, 0)
        for channel in {each for row in rows for given in self._nodes[row].inputs.values() for each in given.channels}:
            spec = self._spec.channels[channel]
            waiting = 0
            for edge in spec.edges:
                sent, delivered, failed, dropped = self._board.edge(edge)
                waiting += max(0, sent - delivered - failed - dropped)
            fill = (min(waiting, spec.capacity), spec.capacity)
            if not fullest[1] or fill[0] * fullest[1] > fullest[0] * fill[1]:
                fullest = fill
        return fullest


def table(lines: list[Line]) -> Table:
    """The lines as a table of rich's."""
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, header_style="dim")
    shown.add_column("")
    shown.add_column("component")
    for title in ("items", "items/s", "queue", "busy"):
        shown.add_column(title, justify="right")
    shown.add_column("left")
    for line in lines:
        fill = line.waiting / line.capacity if line.capacity else 0.0
        shown.add_row(
            "▶" if line.bottleneck else "",
            f"{line.name} ×{line.members}" if line.members > 1 else line.name,
            f"{line.items:,}" if line.total is None else f"{line.items:,} of {line.total:,}",
            f"{line.rate:,.0f}",
            f"{line.waiting}/{line.capacity} {_bar(fill)}" if line.capacity else "",
            f"{line.busy:.0%}",
            "" if line.left_s is None else _clock(line.left_s),
            style="bold" if line.bottleneck else None,
        )
    return shown


def _bar(share: float, width: int = 8) -> str:
    filled = round(share * width)
    return "█" * filled + "░" * (width - filled)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def progress_of(
    spec: GraphSpec, board: Board, totals: Mapping[str, int] | None = None, *, wanted: bool
) -> Iterator[None]:
    """Shows what the run does as long as the block lasts; its last state stays. Shows nothing where nobody looks.

    Args:
        spec: the graph.
        board: of the run, open as long as the block lasts.
        totals: source -> how many items it will send, where that is known.
        wanted: whether anything is to be shown at all.
    """
    if not wanted or not _somebody_looks():
        yield
        return
    from rich.console import Console
    from rich.live import Live

    meter = Meter(spec, board, totals)

    def look() -> Any:
        return table(meter.look(time.monotonic()))

    with Live(
        get_renderable=look,
        console=Console(stderr=True),
        refresh_per_second=LOOKS_A_SECOND,
        redirect_stdout=False,
        redirect_stderr=False,
    ):
        yield


def _somebody_looks() -> bool:
    """Whether stderr is a terminal, or this is a notebook."""
    if "ipykernel" in sys.modules:
        return True
    return sys.stderr is not None and sys.stderr.isatty()
