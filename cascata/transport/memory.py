"""Anonymous memory files, mapped without keeping them open."""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from typing import Any, Final

__all__ = ["map_file"]

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)

_FAILED: Final = ctypes.c_void_p(-1).value

_owners: Final[dict[int, Any]] = {}
"""Types of arrays by their size: powers of two, so that there are few."""


def map_file(fd: int) -> memoryview:
    """Maps a memory file, writable. The mapping lives as long as any view of it; no fd does.

    `mmap.mmap` keeps a duplicate of the fd, and a consumer that keeps many arrays would run out of fds.

    Raises:
        OSError: the file cannot be mapped.
    """
    size = os.fstat(fd).st_size
    address = _libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)
    if address == _FAILED:
        error = ctypes.get_errno()
        raise OSError(error, f"a frame of {size} bytes could not be mapped: {os.strerror(error)}")
    owner_type = _owners.get(size.bit_length())
    if owner_type is None:
        owner_type = _owners[size.bit_length()] = ctypes.c_ubyte * (1 << size.bit_length())
    # All views refer to this object, and it goes with the last one; a memoryview or array in between may go earlier.
    owner = owner_type.from_address(address)
    weakref.finalize(owner, _libc.munmap, address, size).atexit = False
    return memoryview(owner).cast("B")[:size]
