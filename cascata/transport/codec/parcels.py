"""Items to the parts of a frame, and back, where no memory is shared: see `out_of_band` for what the parts are.

One bad item fails alone. When the list cannot be pickled, it is halved again and again; a single item that pickle
cannot take goes to dill (lambdas and closures), and only what neither can take is reported. When a list cannot be
unpickled, the other items are salvaged.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, Final

from ...channel.change_detector import bare
from ..ends.budget import Purse
from ..ends.item_errors import is_shortage
from ..tcp.stream_frames import MOST_BUFFERS, Frame, Kind
from . import by_dill
from .out_of_band import OUT_OF_BAND, Packed, holds_blobs, pack, pack_blobs, unpack
from .process_bound import Bound

__all__ = ["Packer", "open_frame"]

CALM: Final = 64
"""Frames without large items after which an edge no longer expects them."""


class Packer:
    """Makes the frames of one edge.

    Args:
        edge: its id.
        purse: says what heavy items cost.
        pay: takes so many credits for a frame beyond one for each item; returns how many there were.
        shared: whether the same items go out on other edges: then no receiver may write what large ones arrive in.

    Attributes:
        eager: whether large items are to be expected: then each is to be sent by itself at once, so that it has left
            the sender's memory within `send`.
    """

    def __init__(self, edge: int, purse: Purse, pay: Callable[[int], int], *, shared: bool) -> None:
        self._edge = edge
        self._purse = purse
        self._pay = pay
        self._shared = shared
        self.eager = True  # the first item tells
        self._calm = 1

    def pack(self, total: int, items: list[Any], bad: Callable[[Any, BaseException], None]) -> Iterable[Frame]:
        """Makes frames of items.

        Args:
            total: items sent on the edge, these included.
            items: at least one.
            bad: called with each item that cannot be serialised, and why; it is left out (and the total of later ones
                still counts it, since it was sent).

        Returns:
            One frame, unless some items had to be treated apart; none when all were bad.
        """
        try:
            return (self._frame(total, items),)
        except BaseException as problem:  # of an item's own code, which may raise anything
            return self._apart(total, items, bad, problem)

    def _frame(self, total: int, items: list[Any]) -> Frame:
        if self._calm > 1 and len(items) == 1 and holds_blobs(bare(items[0])):
            return self._large(total, items, pack_blobs(items))
        packed = pack(items)
        if packed.buffers or len(packed.body) >= OUT_OF_BAND:
            return self._large(total, items, packed)
        if self._calm:
            self._calm -= 1
            self.eager = self._calm > 0
        return Frame(Kind.DATA, self._edge, len(items), total, packed.body)

    def _apart(
        self, total: int, items: list[Any], bad: Callable[[Any, BaseException], None], problem: BaseException
    ) -> Iterator[Frame]:
        if len(items) > 1:
            half = len(items) // 2
            yield from self.pack(total - len(items) + half, items[:half], bad)
            yield from self.pack(total, items[half:], bad)
            return
        if not is_shortage(problem):
            try:
                if holds_blobs(bare(items[0])):
                    frame = self._large(total, items, pack_blobs(items))  # takes memoryviews
                else:
                    frame = self._large(total, items, Packed(by_dill.dumps(items), ()))
            except BaseException as another:
                if is_shortage(another) or isinstance(another, Bound):
                    problem = another
            else:
                yield frame
                return
        bad(bare(items[0]), problem)

    def _large(self, total: int, items: list[Any], packed: Packed) -> Frame:
        if not packed.blobs and len(packed.body) >= OUT_OF_BAND and any(holds_blobs(bare(item)) for item in items):
            packed = pack_blobs(items)
        if len(packed.buffers) + len(packed.blobs) > MOST_BUFFERS:
            packed = Packed(pickle.dumps(items, 5), ())
        nbytes = len(packed.body) + sum(part.nbytes for part in chain(packed.buffers, packed.blobs))
        if nbytes >= OUT_OF_BAND * len(items):
            self.eager = True
            self._calm = CALM
        surcharge = self._purse.surcharge(nbytes, len(items))
        return Frame(
            Kind.DATA,
            self._edge,
            len(items),
            total,
            packed.body,
            packed.buffers,
            packed.blobs,
            self._pay(surcharge) if surcharge else 0,
            self._shared,
        )


def open_frame(frame: Frame, bad: Callable[[BaseException], None]) -> list[Any]:
    """The items of a frame.

    Args:
        frame: as `Packer` made it.
        bad: called with the error of each item that cannot be unpickled; the others are returned.

    Raises:
        BaseException: nothing of it could be read.
    """
    buffers = [part.toreadonly() for part in frame.buffers] if frame.read_only else frame.buffers
    body = memoryview(frame.body)
    try:
        return unpack(body, buffers, frame.blobs)
    except BaseException as problem:  # of an item's own code, which may raise anything
        if frame.amount == 1:
            bad(problem)
            return []
        from .salvage import salvage

        items, problems = salvage(body, buffers, frame.blobs)
        for each in problems:
            bad(each)
        return items
