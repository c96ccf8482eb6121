"""The table of an arena, which all who use the arena agree on; and the parent's side: it makes arenas, and cleans up.

    [ how many blocks | eight state bytes for each block | their places | their sizes ]  blocks …

See `arena` for what the states mean. No ctypes here: a parent needs none of it.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import Final

__all__ = [
    "BLOCKS",
    "DATA_AT",
    "MOST_WORKERS",
    "ON_ITS_WAY",
    "PLACES_AT",
    "SHARERS",
    "SIZES_AT",
    "SMALLEST",
    "STATES_AT",
    "block_size",
    "keep_only",
    "make_arena",
    "owner_byte",
    "release_all",
]

BLOCKS: Final = 4096
SHARERS: Final = 8
"""State bytes of a block: receivers that can share it."""

STATES_AT: Final = 64
PLACES_AT: Final = STATES_AT + SHARERS * BLOCKS
SIZES_AT: Final = PLACES_AT + 8 * BLOCKS
DATA_AT: Final = 1 << 17

ON_ITS_WAY: Final = 255
MOST_WORKERS: Final = ON_ITS_WAY - 1
"""Workers of a run whose numbers fit into a state byte; a run with more has no arenas."""

SMALLEST: Final = 1 << 16
"""Bytes of a block, at least."""


def block_size(need: int) -> int:
    """Bytes of the block for so many: pages, in eight steps from one power of two to the next."""
    need = max(need, SMALLEST)
    step = 1 << max(12, (need - 1).bit_length() - 4)
    return -(-need // step) * step


def owner_byte(worker: int) -> int:
    """What a state byte says when a worker holds the block."""
    return worker + 1


def make_arena() -> int:
    """A new arena's memory file.

    Raises:
        OSError: the system is short of fds or of memory.
    """
    fd = os.memfd_create("cascata-arena", os.MFD_CLOEXEC)
    try:
        os.posix_fallocate(fd, 0, DATA_AT)
    except BaseException:
        os.close(fd)
        raise
    return fd


def release_all(fd: int, worker: int) -> int:
    """Frees what a worker that has died held of an arena; returns how many holds there were.

    What is on its way to it stays: whoever takes its place reads on.
    """
    own = owner_byte(worker)
    found = 0
    with mmap.mmap(fd, DATA_AT) as table:
        at = table.find(bytes([own]), STATES_AT, PLACES_AT)
        while at >= 0:
            table[at] = 0
            found += 1
            at = table.find(bytes([own]), at + 1, PLACES_AT)
    return found


def keep_only(fd: int, worker: int) -> None:
    """Gives all memory of an arena back but for the blocks that one part of the run holds; the others have ended.

    As long as one view of one block is kept, the whole file would be.
    """
    with mmap.mmap(fd, DATA_AT) as table:
        (count,) = struct.unpack_from("<Q", table)
        if not count:
            return
        from .memory_file import punch

        places = struct.unpack_from(f"<{count}Q", table, PLACES_AT)
        sizes = struct.unpack_from(f"<{count}Q", table, SIZES_AT)
        own = bytes([owner_byte(worker)])
        for index, (at, size) in enumerate(zip(places, sizes, strict=True)):
            states = STATES_AT + SHARERS * index
            if own not in table[states : states + SHARERS]:
                punch(fd, at, size)
