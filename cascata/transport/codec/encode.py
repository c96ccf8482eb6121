"""Items to frames, whatever carries them.

    items ──pickle 5──> body ─────────┬─ small: `encode` returns it, and the carrier sends it as it is
            buffers, blobs ──> Packed ┴─ else: `Framing.large` makes a frame, by the carrier's own means

A frame is the pickle of a list of items. Buffers of 64 KB and more, and large bytes, stay out of it: see `out_of_band`.
What becomes of those is up to the carrier: a block of shared memory, or pieces of their own in a stream.

One bad item fails alone. When the list cannot be pickled, it is halved again and again; a single item that pickle
cannot take goes to dill (lambdas and closures), and only what neither can take is reported.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Generic, Protocol, TypeVar

from ...channel.change_detector import bare
from ..ends.item_errors import is_shortage
from . import by_dill, out_of_band
from .out_of_band import Packed, holds_blobs, keeping, pack_blobs
from .process_bound import Bound, watch_plain_pickle

__all__ = ["Charge", "Encoder", "Framing"]

CALM: Final = 64
"""Frames without large items after which an edge no longer expects them."""

F = TypeVar("F")
F_co = TypeVar("F_co", covariant=True)

Charge = Callable[[int, int], int]
"""Takes the credits that so many bytes in so many items cost beyond one credit each; returns how many they were."""


class Framing(Protocol[F_co]):
    """How one carrier makes the frames of one edge.

    Attributes:
        plain: bytes of a pickle that goes as `small`, at most.
        most_parts: buffers and blobs of one frame, at most.
        singly: whether each large item goes in a frame of its own, so that none is lost with another one.
    """

    plain: int
    most_parts: int
    singly: bool

    def small(self, total: int, count: int, body: bytes) -> F_co:
        """The frame around the pickle of so many items, the last of which is item number `total` of the edge."""

    def large(self, total: int, items: list[Any], packed: Packed, charge: Charge) -> F_co:
        """A frame of what may be large.

        Args:
            total: as for `small`.
            items: what was packed.
            packed: what they were made into.
            charge: to be called once it is certain that there will be a frame.

        Raises:
            OSError, MemoryError: the system is short of memory or of fds.
        """

    def again(self, total: int, item: Any, charge: Charge) -> F_co | None:
        """A frame of what another edge has made of the item in this very `send`; None: that is of no use here."""


class _TooLarge(Exception):
    """A frame that would hold several items and be large."""


def free(nbytes: int, count: int) -> int:  # noqa: ARG001
    """The charge where nothing is counted."""
    return 0


class Encoder(Generic[F]):
    """Makes the frames of one edge.

    Args:
        framing: of its carrier.
        portion: bytes that the credit of an item stands for: what is more is charged.
        charge: takes the credits that heavy items cost.

    Attributes:
        eager: whether large items are to be expected: then each is to be sent by itself at once, so that it is copied
            within `send`, and nothing is kept waiting for it.
    """

    __slots__ = ("_calm", "_charge", "_framing", "_small", "_spare", "eager")

    def __init__(self, framing: Framing[F], *, portion: int = out_of_band.OUT_OF_BAND, charge: Charge = free) -> None:
        self._framing = framing
        self._charge = charge
        self._small = min(framing.plain, out_of_band.OUT_OF_BAND - 1, portion)
        self.eager = True  # the first item tells
        self._calm = 1
        self._spare: tuple[list[memoryview], Callable[[pickle.PickleBuffer], bool]] | None = None

    def encode(self, total: int, items: list[Any], bad: Callable[[Any, BaseException], None]) -> bytes | Iterable[F]:
        """Makes frames of items.

        Args:
            total: items sent on the edge, these included.
            items: what to send, at least one.
            bad: called with each item that cannot be serialised, and why; it is left out (and the total of
                later frames still counts it, since it was sent).

        Returns:
            The body of a small frame of all of them, mostly. Else one frame, or several when some items had to be
            treated apart, or none when all were bad.
        """
        try:
            return self._frame(total, items)
        except BaseException as problem:  # of an item's own code, which may raise anything
            return self._apart(total, items, bad, problem)

    def _frame(self, total: int, items: list[Any]) -> bytes | Iterable[F]:
        if self._calm > 1 and len(items) == 1:  # large items have come here lately
            frame = self._framing.again(total, items[0], self._charge)
            if frame is not None:
                self._calm = CALM
                return (frame,)
            if holds_blobs(bare(items[0])):
                return (self._large(total, items, pack_blobs(items)),)
        spare = self._spare
        if spare is None:
            kept: list[memoryview] = []
            spare = kept, keeping(kept)
        self._spare = None  # an item's own code may come here again
        kept, keep = spare
        try:
            body = pickle.dumps(items, 5, buffer_callback=keep)
            if kept or len(body) > self._small:
                if self._framing.singly and len(items) > 1:
                    raise _TooLarge  # it is halved
                return (self._large(total, items, Packed(body, kept)),)
        finally:
            if kept:
                kept = []
                spare = kept, keeping(kept)
            self._spare = spare
        if self._calm:
            self._calm -= 1
            self.eager = self._calm > 0
        return body

    def _apart(
        self, total: int, items: list[Any], bad: Callable[[Any, BaseException], None], problem: BaseException
    ) -> Iterator[F]:
        """Some item cannot be pickled: which one is found by halving."""
        if len(items) > 1:
            half = len(items) // 2
            for end, some in ((total - len(items) + half, items[:half]), (total, items[half:])):
                made = self.encode(end, some, bad)
                yield from (self._framing.small(end, len(some), made),) if isinstance(made, bytes) else made
            return
        if not is_shortage(problem):
            try:
                if holds_blobs(bare(items[0])):
                    frame = self._large(total, items, pack_blobs(items))  # takes memoryviews
                else:
                    frame = self._large(total, items, Packed(by_dill.dumps(items), ()), by_pickle=False)
            except BaseException as another:
                if is_shortage(another) or isinstance(another, Bound):
                    problem = another
            else:
                yield frame
                return
        bad(bare(items[0]), problem)

    def _large(self, total: int, items: list[Any], packed: Packed, *, by_pickle: bool = True) -> F:
        large = out_of_band.OUT_OF_BAND * len(items)
        if (
            by_pickle
            and not packed.blobs
            and len(packed.body) >= large
            and any(holds_blobs(bare(item)) for item in items)
        ):
            packed = pack_blobs(items)
        if len(packed.buffers) + len(packed.blobs) > self._framing.most_parts:
            packed = Packed(pickle.dumps(items, 5), ())
        if packed.buffers or packed.blobs or len(packed.body) >= large:
            self.eager = True
            self._calm = CALM
        return self._framing.large(total, items, packed, self._charge)


watch_plain_pickle(Encoder._frame.__code__)
