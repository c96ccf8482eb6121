"""Anonymous memory files: laid out, written, mapped without keeping them open, and given back in part."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

__all__ = ["Contents", "Layout", "lay_out", "map_file", "map_range", "punch", "read_file", "read_range", "view_of"]

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)

_FAILED: Final = ctypes.c_void_p(-1).value
_READ_WRITE: Final = mmap.PROT_READ | mmap.PROT_WRITE
_FLAGS: Final = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)  # one call instead of a fault for every page

_KEEP_SIZE_AND_PUNCH: Final = 3
_ALIGN: Final = 64

_owners: Final[dict[int, Any]] = {}
"""Types of arrays by their size: powers of two, so that there are few."""


class Layout(NamedTuple):
    """Where the parts of a frame lie in its memory.

    Attributes:
        bounds: start and end of each part.
        table: where the bounds themselves are written.
        size: bytes in all.
    """

    bounds: list[int]
    table: int
    size: int

    def packed_bounds(self) -> bytes:
        return struct.pack(f"<{len(self.bounds)}Q", *self.bounds)


def lay_out(parts: Sequence[memoryview]) -> Layout:
    """The parts one after another, aligned, and a table of their bounds behind them."""
    bounds: list[int] = []
    at = 0
    for part in parts:
        at = -(-at // _ALIGN) * _ALIGN
        bounds += at, at + part.nbytes
        at += part.nbytes
    table = -(-at // _ALIGN) * _ALIGN
    return Layout(bounds, table, table + 8 * len(bounds))


class Contents(NamedTuple):
    """What a receiver finds in the memory of a frame.

    Attributes:
        memory: all of it.
        parts: how many parts there are: the body, buffers that items keep views of, blobs that are copied.
        buffers: how many of them are buffers.
        table: where the bounds are written.
        shared: whether others see the same memory, so that it must not be changed.
    """

    memory: memoryview
    parts: int
    buffers: int
    table: int
    shared: bool

    def split(self) -> tuple[memoryview, list[memoryview], list[memoryview]]:
        """The body, the buffers, the blobs."""
        bounds = struct.unpack_from(f"<{2 * self.parts}Q", self.memory, self.table)
        body, *rest = (self.memory[start:end] for start, end in zip(bounds[::2], bounds[1::2], strict=True))
        buffers = rest[: self.buffers]
        return body, [view.toreadonly() for view in buffers] if self.shared else buffers, rest[self.buffers :]


def view_of(address: int, size: int, gone: Callable[[], object]) -> memoryview:
    """A view of memory at an address.

    Args:
        address: where it begins.
        size: bytes.
        gone: called in this process, not in one forked from it, when nothing looks at the memory any more: not this
            view, nor any that was made from it, as those of arrays are.
    """
    bits = size.bit_length()
    owner_type: Any = _owners.get(bits)
    if owner_type is None:
        # Arrays and memoryviews in between may go while others still look at the memory; this object stays until the
        # last. A finalizer of `weakref` would do, and take four times as long.
        owner_type = _owners[bits] = type("Owner", (ctypes.c_ubyte * (1 << bits),), {"__del__": _has_gone})
    owner = owner_type.from_address(address)
    owner.gone = gone
    owner.pid = os.getpid()
    return memoryview(owner).cast("B")[:size]


def _has_gone(owner: Any, getpid: Callable[[], int] = os.getpid) -> None:
    if owner.pid == getpid():
        owner.gone()


def map_range(fd: int, at: int, size: int) -> tuple[int, memoryview]:
    """Maps a part of a memory file, writable. The mapping lives as long as any view of it; no fd does.

    `mmap.mmap` keeps a duplicate of the fd, and a consumer that keeps many arrays would run out of fds.

    Returns:
        Its address, and a view of it.

    Raises:
        OSError: it cannot be mapped.
    """
    address = _libc.mmap(None, size, _READ_WRITE, _FLAGS, fd, at)
    if address == _FAILED:
        error = ctypes.get_errno()
        raise OSError(error, f"{size} bytes of shared memory could not be mapped: {os.strerror(error)}")
    return address, view_of(address, size, partial(_libc.munmap, address, size))


def map_file(fd: int) -> memoryview:
    """Maps a whole memory file, as `map_range` does."""
    return map_range(fd, 0, os.fstat(fd).st_size)[1]


def read_range(fd: int, at: int, size: int) -> memoryview:
    """A copy of a part of a memory file."""
    memory = memoryview(bytearray(size))
    got = 0
    while got < size:
        got += os.preadv(fd, [memory[got:]], at + got)
    return memory


def read_file(fd: int) -> memoryview:
    """A copy of a whole memory file."""
    return read_range(fd, 0, os.fstat(fd).st_size)


def punch(fd: int, at: int, size: int) -> None:
    """Gives the memory of a range back to the system. Where that cannot be had, it is given back at the end."""
    _libc.fallocate(fd, _KEEP_SIZE_AND_PUNCH, ctypes.c_longlong(at), ctypes.c_longlong(size))
