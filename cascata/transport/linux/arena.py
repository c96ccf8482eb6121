"""The memory that a worker sends large items through: copied in once, seen by the receivers where it lies.

    sender                                                  receiver
    put(parts) ─ copies ─> [ block ] <─────── views ─────── arrays
       │ state: 1 = on its way ──── told, in a frame ────> state: its own number
       ▲                                                     │
       └──────────── state: 0, a single store <── the last view is gone

One arena for each sending worker: a memory file, made by the parent, that the receivers map too. It is a table of
blocks and, behind it, the blocks, which the sender alone hands out. Each block has eight state bytes, one for each
frame that tells of it (several when an item fans out); it is free when all are 0. A byte is written by one party
at a time, with a single store: there is no lock that a killed process could hold. The parent clears the bytes of
a worker that has died.

Nobody ever waits for a block: a receiver may keep all that it got. When there is none, `put` says so, and the frame
travels in a memory file of its own.

Blocks come in eight sizes for each power of two, and those that were used last are used first: their memory is
warm. Memory is reserved before it is written: its shortage is an error to be handled here rather than a SIGBUS.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from ...records import dataclass
from .blocks import BLOCKS, DATA_AT, ON_ITS_WAY, PLACES_AT, SHARERS, SIZES_AT, STATES_AT, block_size, owner_byte
from .memory_file import Contents, Layout, lay_out, map_range, punch, read_range, view_of

__all__ = ["ARENA_BYTES", "LARGEST", "Arena", "Arenas", "Lease"]

ARENA_BYTES: Final = 512 << 20
"""Memory of an arena, at most. It has as much as was on its way or kept by receivers at one time."""

FEW: Final = 16
"""Blocks at which a look for a free one costs less than to write to memory that has left the caches."""

LARGEST: Final = ARENA_BYTES // 4
"""Bytes of a block, at most: larger items have a memory file of their own."""

_TOLD: Final = struct.Struct("<HBBIQQIIQ")
"""The sender, the frame's byte among the block's, whether receivers share it; the block, its place, its bytes; its
parts, those of them that are buffers, where the table of their bounds is."""


@dataclass(slots=True, eq=False)
class _Block:
    index: int
    at: int
    size: int
    memory: memoryview | None = None
    uses: int = 0


class Lease:
    """A frame's hold on a block, from when it is made until a receiver takes it over.

    Attributes:
        told: what the receiver is told.
    """

    __slots__ = ("_arena", "_block", "_slot", "_uses", "told")

    def __init__(self, arena: Arena, block: _Block, slot: int, told: bytes) -> None:
        self._arena = arena
        self._block = block
        self._slot = slot
        self._uses = block.uses
        self.told = told
        arena.states[SHARERS * block.index + slot] = ON_ITS_WAY

    def drop(self) -> None:
        """The frame will not be sent."""
        self._arena.states[SHARERS * self._block.index + self._slot] = 0

    def another(self) -> Lease | None:
        """The same for one more frame; None when there is no byte left for it, or nobody holds the block any more."""
        block = self._block
        if self._slot + 1 == SHARERS or block.uses != self._uses or not self._arena.in_use[block.index]:
            return None
        worker, slot, *rest = _TOLD.unpack(self.told)
        return Lease(self._arena, self._block, slot + 1, _TOLD.pack(worker, slot + 1, *rest))


class Arena:
    """The sender's side.

    Args:
        fd: of the memory file; it stays open as long as this object is in use.
        worker: number of this worker.
        limit: bytes that it may take; None: `ARENA_BYTES`.

    Raises:
        OSError: the system is short of fds or of memory.
    """

    def __init__(self, fd: int, worker: int, limit: int | None = None) -> None:
        self._fd = fd
        self._worker = worker
        self._limit = ARENA_BYTES if limit is None else limit
        self._warm = 0
        _, table = map_range(fd, 0, DATA_AT)
        self.states = table[STATES_AT:PLACES_AT]
        self.in_use = self.states.cast("Q")
        self._head = table[:16].cast("Q")
        self._places = table[PLACES_AT:SIZES_AT].cast("Q")
        self._sizes = table[SIZES_AT : SIZES_AT + 8 * BLOCKS].cast("Q")
        if not self._head[0]:
            self._head[1] = DATA_AT
        self._free: dict[int, list[_Block]] = {}
        self._used: dict[int, list[_Block]] = {}
        self._cold: dict[int, list[_Block]] = {}
        self._blind: dict[int, int] = {}  # size -> puts that need not look again, since nearly all is kept
        for index in range(self._head[0]):  # of a worker before this one, which died
            block = _Block(index, self._places[index], self._sizes[index])
            self._used.setdefault(block.size, []).append(block)
            self._warm += block.size

    def put(self, parts: Sequence[memoryview], buffers: int, *, shared: bool) -> Lease | None:
        """Copies the parts of a frame into a block.

        Args:
            parts: what to copy.
            buffers: how many of them, after the first, items will be views of.
            shared: whether several receivers may be told of it, which then must not write.

        Returns:
            What to tell a receiver; None when there is no block now.
        """
        layout = lay_out(parts)
        block = self._take(layout.size) if layout.size <= LARGEST else None
        if block is None:
            return None
        memory = block.memory
        assert memory is not None  # a block that is taken is mapped
        _copy(parts, layout, memory)
        block.uses += 1
        self._used.setdefault(block.size, []).append(block)
        told = _TOLD.pack(
            self._worker, 0, shared, block.index, block.at, layout.size, len(parts), buffers, layout.table
        )
        return Lease(self, block, 0, told)

    # -- blocks

    def _take(self, need: int) -> _Block | None:
        size = block_size(need)
        block = self._found(size) or self._new(size)
        if block is None:
            self._trim(size)
            block = self._new(size)
        if block is None or block.memory is not None or self._warm_up(block):
            return block
        self._cool(block)
        self._trim(self._limit)  # the system is short: nothing that is free is worth its memory now
        block = self._new(size)
        if block is None or self._warm_up(block):
            return block
        self._cool(block)
        return None

    def _found(self, size: int) -> _Block | None:
        """A free block that has its memory: of few, the one that was let go of last, which is still in the caches."""
        free = self._free.setdefault(size, [])
        if not free and self._blind.get(size, 0):
            self._blind[size] -= 1
            return None
        if not free or len(self._used.get(size, ())) <= FEW:
            self._collect(size)
        return free.pop() if free else None

    def _collect(self, size: int) -> None:
        """Looks which blocks the receivers have let go of."""
        in_use = self.in_use
        free = self._free.setdefault(size, [])
        kept: list[_Block] = []
        used = self._used.get(size, ())
        for block in used:
            (kept if in_use[block.index] else free).append(block)
        if len(kept) == len(used):
            self._blind[size] = len(kept) // 8
        self._used[size] = kept

    def _new(self, size: int) -> _Block | None:
        if self._warm + size > self._limit:
            return None
        cold = self._cold.get(size)
        if cold:
            block = cold.pop()
        else:
            index, at = self._head
            if index == BLOCKS:
                return None
            self._places[index] = at
            self._sizes[index] = size
            self._head[1] = at + size
            self._head[0] = index + 1
            block = _Block(index, at, size)
        self._warm += size
        return block

    def _warm_up(self, block: _Block) -> bool:
        """Reserves its memory, and maps it; whether there was enough."""
        with suppress(OSError):
            os.posix_fallocate(self._fd, block.at, block.size)
            _, block.memory = map_range(self._fd, block.at, block.size)
        return block.memory is not None

    def _cool(self, block: _Block) -> None:
        """Gives the memory of a free block back."""
        block.memory = None
        punch(self._fd, block.at, block.size)
        self._warm -= block.size
        self._cold.setdefault(block.size, []).append(block)

    def _trim(self, room: int) -> None:
        """Gives memory of free blocks back until there is so much room."""
        for size in list(self._used):
            self._collect(size)
        for free in self._free.values():
            while free and self._warm + room > self._limit:
                self._cool(free.pop(0))


def _copy(parts: Sequence[memoryview], layout: Layout, memory: memoryview) -> None:
    bounds = layout.bounds
    for number, part in enumerate(parts):
        memory[bounds[2 * number] : bounds[2 * number + 1]] = part
    memory[layout.table : layout.size] = layout.packed_bounds()


class Arenas:
    """The receiver's side of all arenas that a worker is told of.

    Args:
        fds: number of the sending worker -> its arena's memory file; they stay open as long as this object is in use.
        worker: number of this worker.
    """

    def __init__(self, fds: Mapping[int, int], worker: int) -> None:
        self._fds = dict(fds)
        self._own = owner_byte(worker)
        self._states: dict[int, memoryview] = {}
        self._mapped: dict[tuple[int, int], tuple[int, memoryview]] = {}

    def show(self, told: memoryview) -> Contents:
        """Takes a block over. It is free again when the last view of its memory is gone.

        Raises:
            OSError: it cannot be mapped.
        """
        sender, slot, shared, index, at, size, parts, buffers, table = _TOLD.unpack_from(told)
        states = self._states.get(sender)
        if states is None:
            states = self._states[sender] = map_range(self._fds[sender], 0, DATA_AT)[1][STATES_AT:PLACES_AT]
        states[SHARERS * index + slot] = self._own
        mapping = self._mapped.get((sender, index))
        if mapping is None:
            try:
                mapping = map_range(self._fds[sender], at, block_size(size))
            except OSError:  # too many are mapped
                copy = read_range(self._fds[sender], at, size)
                states[SHARERS * index + slot] = 0
                return Contents(copy, parts, buffers, table, bool(shared))
            self._mapped[sender, index] = mapping
        address, whole = mapping
        state = SHARERS * index + slot

        def let_go(mapping: memoryview = whole) -> None:  # noqa: ARG001  # held until now
            states[state] = 0

        return Contents(view_of(address, size, let_go), parts, buffers, table, bool(shared))
