"""The items of a frame, whatever has carried it.

body, buffers, blobs ── unpack ──┬─> items
                        fails ───┴─ salvage ──> those that can be had; the others are reported, each by itself
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .out_of_band import unpack

__all__ = ["decode"]


def decode(
    edge: int,
    count: int,
    bad: Callable[[int, int, BaseException], None],
    body: bytes | bytearray | memoryview,
    buffers: Sequence[memoryview] = (),
    blobs: Sequence[memoryview] = (),
) -> list[Any]:
    """The items of a frame.

    Args:
        edge: that it came on.
        count: of its items.
        bad: called with the edge, 1, and the error of each item that cannot be unpickled; the others are returned.
        body: the pickle of their list.
        buffers: what it keeps out of band; see `out_of_band.unpack`.
        blobs: the large bytes that it names.

    Raises:
        BaseException: nothing of it could be read.
    """
    try:
        return unpack(body, buffers, blobs)
    except BaseException as problem:  # of an item's own code, which may raise anything
        if count == 1:
            bad(edge, 1, problem)
            return []
        from .salvage import salvage

        items, problems = salvage(body, buffers, blobs)
        for each in problems:
            bad(edge, 1, each)
        return items
