"""Memory that large parts of frames are received into, used again when nothing looks at it any more.

Memory that is new costs a page fault for every 4 KiB of it: more than a socket needs to fill it. So some of what was
handed out is remembered here, and handed out again once all views of it are gone: those of arrays too, which may be
kept for as long as anybody likes. Nobody tells when that is. A bytearray that is looked at refuses to change its size,
and so says it when it is asked.
"""

from __future__ import annotations

import mmap
from collections import deque
from typing import Final

from ..linux.blocks import SMALLEST, block_size

__all__ = ["KEPT", "BufferPool"]

KEPT: Final = 64 << 20
"""Bytes that are remembered, at most: so much stays with a worker when all that it received is gone."""

LOOKS: Final = 8
"""Buffers that are asked whether they are free, at most, before another one is made."""


class BufferPool:
    """Hands out memory. Of one thread; views of what it hands out may go away in any."""

    def __init__(self) -> None:
        # Size -> those remembered, those used last at the end; so are the sizes.
        self._buffers: dict[int, deque[bytearray]] = {}
        self._kept = 0

    def take(self, size: int) -> memoryview:
        """Memory of so many bytes, with anything in it, that nobody else looks at."""
        if size < SMALLEST:
            return memoryview(bytearray(size))  # which costs nothing
        whole = block_size(size)
        if whole > KEPT // 2 or not _TELLS:
            return memoryview(mmap.mmap(-1, size))  # which need not be cleared before it is filled
        buffers = self._buffers[whole] = self._buffers.pop(whole, deque())
        for _ in range(min(LOOKS, len(buffers))):
            buffers.rotate(-1)
            if _is_free(buffers[-1]):
                return memoryview(buffers[-1])[:size]
        self._make_room(whole)
        buffer = bytearray(whole)
        self._kept += whole
        buffers.append(buffer)
        return memoryview(buffer)[:size]

    def _make_room(self, size: int) -> None:
        """Forgets buffers until so many bytes more may be remembered."""
        for whole, buffers in self._buffers.items():
            while buffers and self._kept + size > KEPT:
                buffers.popleft()
                self._kept -= whole


def _is_free(buffer: bytearray) -> bool:
    try:
        buffer.append(buffer.pop())
    except BufferError:
        return False
    return True


_probe = bytearray(1)
with memoryview(_probe):
    _TELLS: Final = not _is_free(_probe)
    """Whether bytearrays of this interpreter say that they are looked at."""
