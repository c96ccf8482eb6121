"""The stats board: counters in memory that all processes of a run share.

Each slot is eight bytes with one writer; reading needs no message and no lock, and what a killed
worker had counted stays. Progress, the report and the ledger read it.

    [ a row per node | a row per edge | a row per channel, a slot per worker | a beat per worker ]
"""

from __future__ import annotations

import mmap
from typing import Final, NamedTuple

__all__ = ["DELIVERED", "DROPPED_ITEMS", "FAILED_ITEMS", "Board", "BoardShape"]

# A node's row: how many items it received, and then
SENT: Final = 1
FAILED: Final = 2
DROPPED: Final = 3
BUSY: Final = 4
STARVED: Final = 5
BLOCKED: Final = 6
NODE_ROW: Final = 8

# An edge's row: what its writer sent, what of that it could not hand over any more (its readers were gone),
# then for each worker what it made of the items.
BY_WRITER: Final = 2
DELIVERED: Final = 0
FAILED_ITEMS: Final = 1
DROPPED_ITEMS: Final = 2
OUTCOMES: Final = 3
SEEN: Final = 3
"""Not an outcome: items that have come to the worker. They complete the count of a writer that was killed."""
PER_WORKER: Final = 4


class BoardShape(NamedTuple):
    """How many rows of each kind there are."""

    nodes: int
    edges: int
    channels: int
    workers: int

    @property
    def edge_row(self) -> int:
        """Slots of an edge's row."""
        return BY_WRITER + PER_WORKER * self.workers

    @property
    def size(self) -> int:
        """Bytes that the board needs."""
        slots = self.nodes * NODE_ROW + self.edges * self.edge_row + (self.channels + 1) * self.workers
        return max(slots * 8, 8)


class Board:
    """A view of the board's memory.

    Args:
        shape: the same in all processes.
        fd: of a memory file of at least `shape.size` bytes, mapped here and left open; None for a
            board of this process alone.
    """

    def __init__(self, shape: BoardShape, fd: int | None = None) -> None:
        self.shape = shape
        memory = mmap.mmap(-1 if fd is None else fd, shape.size)
        self._memory = memory
        with memoryview(memory) as view:
            self._counts = view.cast("q")
            self._seconds = view.cast("d")
        self._edges_at = shape.nodes * NODE_ROW
        self._edge_row = shape.edge_row
        self._work_at = self._edges_at + shape.edges * shape.edge_row
        self._beats_at = self._work_at + shape.channels * shape.workers

    def publish_node(
        self,
        node: int,
        received: int,
        sent: int,
        failed: int,
        dropped: int,
        busy: float,
        starved: float,
        blocked: float,
    ) -> None:
        """Writes a node's row; the node's own worker does, nobody else."""
        at = node * NODE_ROW
        counts = self._counts
        counts[at] = received
        counts[at + SENT] = sent
        counts[at + FAILED] = failed
        counts[at + DROPPED] = dropped
        seconds = self._seconds
        seconds[at + BUSY] = busy
        seconds[at + STARVED] = starved
        seconds[at + BLOCKED] = blocked

    def node(self, node: int) -> tuple[int, int, int, int, float, float, float]:
        """received, sent, failed, dropped, busy, starved, blocked of a node."""
        at = node * NODE_ROW
        counts, seconds = self._counts, self._seconds
        return (
            *(counts[at + slot] for slot in range(BUSY)),
            *(seconds[at + slot] for slot in range(BUSY, BLOCKED + 1)),
        )  # type: ignore[return-value]  # four counts and three times

    def set_sent(self, edge: int, items: int, lost: int) -> None:
        """What was sent on an edge, and what of it found no reader any more; its writer's worker tells."""
        at = self._edges_at + edge * self._edge_row
        self._counts[at] = items
        self._counts[at + 1] = lost

    def set_outcome(self, edge: int, worker: int, outcome: int, items: int) -> None:
        """What a worker made of an edge's items: `DELIVERED`, `FAILED_ITEMS` or `DROPPED_ITEMS`."""
        self._counts[self._edges_at + edge * self._edge_row + BY_WRITER + PER_WORKER * worker + outcome] = items

    def outcome(self, edge: int, worker: int, outcome: int) -> int:
        """One count of an edge on a worker."""
        return self._counts[self._edges_at + edge * self._edge_row + BY_WRITER + PER_WORKER * worker + outcome]

    def came(self, edge: int) -> int:
        """Items of an edge that have come to some worker, when it crosses."""
        return sum(self.outcome(edge, worker, SEEN) for worker in range(self.shape.workers))

    def set_seen(self, edge: int, worker: int, items: int) -> None:
        """How many items of an edge have come to a worker so far."""
        self._counts[self._edges_at + edge * self._edge_row + BY_WRITER + PER_WORKER * worker + SEEN] = items

    def add_failed(self, edge: int, worker: int, items: int) -> None:
        """Counts items of an edge that failed on a worker; only that worker does."""
        at = self._edges_at + edge * self._edge_row + BY_WRITER + PER_WORKER * worker + FAILED_ITEMS
        self._counts[at] += items

    def edge(self, edge: int) -> tuple[int, int, int, int]:
        """sent, delivered, failed, dropped of an edge."""
        at = self._edges_at + edge * self._edge_row
        row = self._counts[at : at + self._edge_row]
        delivered, failed, dropped = (sum(row[BY_WRITER + outcome :: PER_WORKER]) for outcome in range(OUTCOMES))
        return row[0], delivered, failed, dropped + row[1]

    def lost(self, edge: int) -> int:
        """What was sent on an edge and found no reader any more; part of its `dropped`."""
        return self._counts[self._edges_at + edge * self._edge_row + 1]

    def set_work(self, channel: int, worker: int, seconds: float) -> None:
        """A reader tells how long its work on one item takes."""
        self._seconds[self._work_at + channel * self.shape.workers + worker] = seconds

    def work(self, channel: int) -> float:
        """Seconds that the slowest reader of a channel works on one item; 0.0 while none has told."""
        at = self._work_at + channel * self.shape.workers
        slowest: float = max(self._seconds[at : at + self.shape.workers])
        return slowest

    def set_beat(self, worker: int) -> None:
        """A worker's loop tells that it turns."""
        self._counts[self._beats_at + worker] += 1

    def reset_beat(self, worker: int) -> None:
        """A worker is started again; it does not run now."""
        self._counts[self._beats_at + worker] = 0

    def beat(self, worker: int) -> int:
        """Grows while the loop of a worker turns; 0 before it does."""
        return self._counts[self._beats_at + worker]

    def snapshot(self) -> bytes:
        """What this process has counted, for the `merge` of a board elsewhere."""
        return bytes(self._memory)

    def merge(self, snapshot: bytes, before: bytes = b"") -> None:
        """Takes over what one worker has counted on a board of its own. No slot has two writers.

        Args:
            snapshot: of that board.
            before: the last one that was taken over of it; empty: there was none.
        """
        counts = self._counts
        known = memoryview(before or bytes(len(snapshot))).cast("q")
        for slot, value in enumerate(memoryview(snapshot).cast("q")):
            if value != known[slot]:
                counts[slot] = value

    def catch_up(self, snapshot: bytes) -> None:
        """Takes over what the worker of this board had counted in an earlier life, as far as it is more."""
        counts = self._counts
        for slot, value in enumerate(memoryview(snapshot).cast("q")):
            counts[slot] = max(counts[slot], value)

    def close(self) -> None:
        """Gives the memory back; the board cannot be used any more."""
        self._counts.release()
        self._seconds.release()
        self._memory.close()
