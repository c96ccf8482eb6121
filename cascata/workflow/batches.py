"""Batches, and how data streams are cut into them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import count, islice
from typing import Any, Final, NamedTuple

from ..dsl.operators import is_whole
from ..errors import DefinitionError, StreamLengthError
from ..faces import public
from ..records import dataclass

__all__ = ["Batch", "BatchMessage", "batch_generator", "cut"]

_END: Final = object()


@public
@dataclass(frozen=True, slots=True)
class BatchMessage:
    """A batch that left a DAG.

    Attributes:
        index: of the batch in its stream; they count from 0.
        payload: what the last task made of it.
    """

    index: int
    payload: Any


class Batch(NamedTuple):
    """A batch inside a DAG. `origin` is the node that sent it; `stream` tells the streams through one DAG apart."""

    number: int
    payload: Any
    origin: str
    stream: int = 0

    def __repr__(self) -> str:  # it stands in error texts, and a user gave nothing but a batch
        return f"BatchMessage(index={self.number}, payload={self.payload!r})"


@public
def batch_generator(
    *iterables: Iterable[Any],
    batch_size: int = 1,
    prebatched: bool = False,
    strict: bool = True,
    first_index: int = 0,
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Cuts data streams side by side into batches.

    The streams are read lazily, one batch of each at a time.

    Args:
        *iterables: the data streams, at least one.
        batch_size: items in a batch; the last one may be shorter.
        prebatched: whether the items are batches already; they are passed on as they are.
        strict: whether the streams must be equally long; otherwise the shortest ends all.
        first_index: of the first batch.

    Yields:
        The index of the batch, and a list of items for each stream.

    Raises:
        DefinitionError: (at once) there is no stream, or the size is not a whole number of at least 1.
        StreamLengthError: one stream is shorter than another: at once when all of them have a length, and otherwise
            where the shortest ends.
    """
    return cut(iterables, batch_size, "batch_generator", prebatched=prebatched, strict=strict, first_index=first_index)


def cut(
    streams: Sequence[Iterable[Any]],
    batch_size: int,
    where: str,
    *,
    prebatched: bool,
    strict: bool,
    first_index: int,
    names: Sequence[str] = (),
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """As `batch_generator`, for the call `where`. `names`: what each stream goes to, for error texts."""
    if not streams:
        raise DefinitionError(f"{where}: there is no data stream. Give it one iterable for each source.")
    for what, value, least in (("batch_size", batch_size, 1), ("first_index", first_index, 0)):
        if not is_whole(value, least):
            raise DefinitionError(f"{where}: {what} must be a whole number of at least {least}, not {value!r}.")
    labels = [f"data stream {n}{f' (for {name})' if name else ''}" for n, name in _numbered(streams, names)]
    for label, each in zip(labels, streams, strict=True):
        if not isinstance(each, Iterable):
            raise DefinitionError(
                f"{where}: {label} is {each!r}, of type {type(each).__name__}: it must be an iterable."
            )
    if strict:
        _compare_lengths(streams, labels, where, "batches" if prebatched else "items")
    if prebatched:
        return _pass_on(streams, labels, where, strict=strict, first_index=first_index)
    return _cut(streams, batch_size, labels, where, strict=strict, first_index=first_index)


def _numbered(streams: Sequence[object], names: Sequence[str]) -> Iterator[tuple[int, str]]:
    for position in range(len(streams)):
        yield position + 1, names[position] if position < len(names) else ""


def _cut(
    streams: Sequence[Iterable[Any]], size: int, labels: Sequence[str], where: str, *, strict: bool, first_index: int
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    sources = [iter(each) for each in streams]
    taken = 0
    for index in count(first_index):
        parts = [list(islice(each, size)) for each in sources]
        shortest = min(map(len, parts))
        if any(len(part) > shortest for part in parts):
            if strict:
                raise _uneven([taken + len(part) for part in parts], parts, size, labels, where, "items")
            parts = [part[:shortest] for part in parts]
        if shortest:
            yield index, tuple(parts)
        if shortest < size:
            return
        taken += shortest


def _pass_on(
    streams: Sequence[Iterable[Any]], labels: Sequence[str], where: str, *, strict: bool, first_index: int
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    sources = [iter(each) for each in streams]
    for taken in count():
        batches: list[Any] = []
        for each in sources:
            batch = next(each, _END)
            if batch is _END and not strict:
                return
            batches.append(batch)
        ended = [batch is _END for batch in batches]
        if all(ended):
            return
        if any(ended):
            parts = [[] if over else [batch] for over, batch in zip(ended, batches, strict=True)]
            raise _uneven([taken + len(part) for part in parts], parts, 1, labels, where, "batches")
        yield first_index + taken, tuple(batches)


def _compare_lengths(streams: Sequence[Iterable[Any]], labels: Sequence[str], where: str, unit: str) -> None:
    lengths: list[int] = []
    for each in streams:
        with suppress(TypeError):  # it has none
            lengths.append(len(each))  # type: ignore[arg-type]  # that is the question
    if len(lengths) == len(streams) and len(set(lengths)) > 1:
        raise _length_error(lengths, [True] * len(lengths), labels, where, unit)


def _uneven(
    counts: Sequence[int],
    parts: Sequence[Sequence[Any]],
    size: int,
    labels: Sequence[str],
    where: str,
    unit: str,
) -> StreamLengthError:
    return _length_error(counts, [len(part) < size for part in parts], labels, where, unit)


def _length_error(
    counts: Sequence[int], ended: Sequence[bool], labels: Sequence[str], where: str, unit: str
) -> StreamLengthError:
    shortest = min(counts)
    short = [label for label, number in zip(labels, counts, strict=True) if number == shortest]
    rest = [
        f"{label} gave {'' if over else 'at least '}{number}"
        for label, number, over in zip(labels, counts, ended, strict=True)
        if number != shortest
    ]
    return StreamLengthError(
        f"{where}: the data streams are not equally long: {' and '.join(short)} gave {shortest} {unit}, and "
        f"{', '.join(rest)}. Give streams of the same length, or strict=False to stop at the shortest."
    )
