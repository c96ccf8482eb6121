"""Items to a pickle with its buffers apart, and back: for frames of any kind.

One bad item fails alone. When the list cannot be pickled, it is halved again and again; a single item that pickle
cannot take goes to dill (lambdas and closures), and only what neither can take is reported. When a list cannot be
unpickled, the other items are salvaged.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from ..channel.given import bare
from . import dilled

__all__ = ["OUT_OF_BAND", "Packed", "pack", "unpack"]

OUT_OF_BAND: Final = 64 * 1024
"""Bytes of a buffer from which on it is kept out of the pickle."""


class Packed(NamedTuple):
    """A pickled list of items."""

    total: int
    """Items sent up to and with these."""
    amount: int
    body: bytes
    buffers: Sequence[memoryview] = ()


def pack(
    total: int, items: list[Any], bad: Callable[[Any, BaseException], None], most_buffers: int
) -> Iterable[Packed]:
    """Pickles items.

    Args:
        total: items sent, these included.
        items: at least one.
        bad: called with each item that cannot be serialised, and why; it is left out (and the total of later ones still
            counts it, since it was sent).
        most_buffers: that are kept apart.

    Returns:
        One pickle, unless some items had to be treated apart; none when all were bad.
    """
    try:
        return (_pack(total, items, most_buffers),)
    except BaseException as problem:  # of an item's own code, which may raise anything
        return _apart(total, items, bad, most_buffers, problem)


def _apart(
    total: int, items: list[Any], bad: Callable[[Any, BaseException], None], most_buffers: int, problem: BaseException
) -> Iterator[Packed]:
    if len(items) > 1:
        half = len(items) // 2
        yield from pack(total - len(items) + half, items[:half], bad, most_buffers)
        yield from pack(total, items[half:], bad, most_buffers)
        return
    try:
        body = dilled.dumps(items)
    except BaseException:
        bad(bare(items[0]), problem)
    else:
        yield Packed(total, 1, body)


def _pack(total: int, items: list[Any], most_buffers: int) -> Packed:
    buffers: list[memoryview] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < OUT_OF_BAND or len(buffers) == most_buffers:
            return True
        buffers.append(raw)
        return False

    return Packed(total, len(items), pickle.dumps(items, 5, buffer_callback=keep), buffers)


def unpack(
    count: int,
    body: bytes | bytearray | memoryview,
    buffers: Sequence[memoryview],
    bad: Callable[[BaseException], None],
) -> list[Any]:
    """The items of a pickle.

    Args:
        count: how many there are.
        body: as `pack` made it.
        buffers: likewise.
        bad: called with the error of each item that cannot be unpickled; the others are returned.

    Raises:
        Exception: nothing of it could be read.
    """
    try:
        items: list[Any] = pickle.loads(body, buffers=buffers)
    except BaseException as problem:  # of an item's own code, which may raise anything
        if count == 1:
            bad(problem)
            return []
        from .salvage import salvage

        items, problems = salvage(bytes(body), buffers)
        for each in problems:
            bad(each)
    return items
