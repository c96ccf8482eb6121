"""Items to a pickle with its large buffers beside it, and back; whatever carries them.

    items ──pickle 5──┬─> body: all that is small
                      ├─> buffers: what types offer out of band (arrays), of 64 KB and more
                      └─> blobs: large bytes and bytearrays, wherever in the items they are

Arrays and data frames offer their memory to pickle, and it is never copied here: `buffers` are views of the sender's
objects, and what arrives are views of whatever memory the buffers came in. Bytes and bytearrays are not offered
(their pickles hold them). They are taken out by `persistent_id`, which the pickler asks about every object in an
item: so only for items in which a look finds some. What arrives are new objects, copied once out of what carried them.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from .process_bound import refusal

__all__ = ["OUT_OF_BAND", "Blobs", "Packed", "holds_blobs", "keeping", "pack_blobs", "unpack"]

OUT_OF_BAND: Final = 64 * 1024
"""Bytes of a buffer from which on it is kept out of the pickle."""

_DEPTH: Final = 3
_WIDTH: Final = 64
_HOLDERS: Final = (dict, list, tuple)
_PLAIN: Final = frozenset({int, float, str, bool, type(None)})


class Packed(NamedTuple):
    """What items are made into.

    Attributes:
        body: the pickle.
        buffers: what it keeps out of band, in the order in which `pickle.loads` wants it.
        blobs: bytes and bytearrays that it names by their number.
    """

    body: bytes
    buffers: Sequence[memoryview]
    blobs: Sequence[memoryview] = ()


def pack_blobs(items: list[Any]) -> Packed:
    """Pickles a list of items, with large bytes and bytearrays beside the pickle. Takes memoryviews; pickle does not.

    Raises:
        Exception: whatever the pickling of one of them raises.
    """
    buffers: list[memoryview] = []
    file = io.BytesIO()
    pickler = _Pickler(file, buffers)
    pickler.dump(items)
    return Packed(file.getvalue(), buffers, pickler.blobs)


def unpack(body: bytes | bytearray | memoryview, buffers: Iterable[Any], blobs: Sequence[memoryview] = ()) -> list[Any]:
    """The items of what was packed.

    Args:
        body: the pickle.
        buffers: as packed. Objects keep views of them; of read-only ones, they are read-only.
        blobs: as packed. They are copied.

    Raises:
        Exception: whatever the unpickling of an item raises.
    """
    items: list[Any] = _Unpickler(body, buffers, blobs).load() if blobs else pickle.loads(body, buffers=buffers)
    return items


def holds_blobs(item: Any, depth: int = _DEPTH) -> bool:
    """Whether an item is, or holds not too deep in it, large bytes or the like. A look, not a search: it is cheap."""
    kind = type(item)
    if kind in _PLAIN:
        return False
    if kind is bytes or kind is bytearray:
        return len(item) >= OUT_OF_BAND
    if kind is memoryview:
        return True
    if not depth or not (kind.__dictoffset__ or issubclass(kind, _HOLDERS)):
        return False
    held: Iterable[Any]
    if kind is dict:
        held = item.values()
    elif kind is list:
        held = item
    elif issubclass(kind, tuple):
        held = tuple.__iter__(item)
    else:
        try:
            held = object.__getattribute__(item, "__dict__").values()
        except AttributeError:
            return False
    return any(type(each) not in _PLAIN and holds_blobs(each, depth - 1) for each in islice(held, _WIDTH))


def keeping(buffers: list[memoryview]) -> Callable[[pickle.PickleBuffer], bool]:
    """What `pickle` asks whether a buffer goes into the pickle."""

    def keep(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < OUT_OF_BAND:
            return True
        buffers.append(raw)
        return False

    return keep


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, buffers: list[memoryview]) -> None:
        super().__init__(file, 5, buffer_callback=keeping(buffers))
        self.blobs: list[memoryview] = []
        self._numbers: dict[int, int] = {}  # of an object that is held by a view of it

    def persistent_id(self, thing: Any) -> int | None:
        """The number of a blob; that of a bytearray is negative, as by `~`."""
        kind = type(thing)
        if (kind is bytes or kind is bytearray) and len(thing) >= OUT_OF_BAND:
            number = self._numbers.get(id(thing))
            if number is None:
                number = len(self.blobs) if kind is bytes else ~len(self.blobs)
                self._numbers[id(thing)] = number
                self.blobs.append(memoryview(thing))
            return number
        return None

    def reducer_override(self, thing: Any) -> Any:
        if type(thing) is not memoryview:
            return refusal(thing)
        plain = thing.format.lstrip("@")
        if len(plain) != 1:
            raise pickle.PicklingError(f"a memoryview of format {thing.format!r} cannot be sent: its bytes can")
        if thing.c_contiguous:
            return _view, (pickle.PickleBuffer(thing), plain, thing.shape)
        return _view, (thing.tobytes() if thing.readonly else bytearray(thing.tobytes()), plain, thing.shape)


def _view(memory: Any, form: str, shape: tuple[int, ...]) -> memoryview:
    """A memoryview as it was before it was pickled."""
    view: memoryview = memoryview(memory).cast("B").cast(form, shape)  # type: ignore[call-overload]  # any format
    return view


class Blobs:
    """Gives an unpickler its blobs: one object each, however often an item names it."""

    def __init__(self, blobs: Sequence[memoryview]) -> None:
        self._blobs = blobs
        self._made: dict[int, bytes | bytearray] = {}

    def __call__(self, number: int) -> bytes | bytearray:
        made = self._made.get(number)
        if made is None:
            made = bytes(self._blobs[number]) if number >= 0 else bytearray(self._blobs[~number])
            self._made[number] = made
        return made


class _Unpickler(pickle.Unpickler):
    def __init__(
        self, body: bytes | bytearray | memoryview, buffers: Iterable[Any], blobs: Sequence[memoryview]
    ) -> None:
        super().__init__(io.BytesIO(body), buffers=buffers)
        self._blobs_by_number = Blobs(blobs)

    def persistent_load(self, number: int) -> Any:
        return self._blobs_by_number(number)
