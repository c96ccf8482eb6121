"""One stream through a running DAG, in its caller's thread."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..engine import sigterm
from ..errors import CascataError
from ..interrupts import take
from ..records import dataclass
from .batches import Batch, BatchMessage, cut
from .session import Session

__all__ = ["Way", "stream_through"]


@dataclass(frozen=True, slots=True)
class Way:
    """Where a stream goes in, and the sinks where it comes out, each with its index for the caller or None."""

    sources: Sequence[str]
    reached: Mapping[str, int | None]


def stream_through(
    session: Session,
    way: Way,
    data: Sequence[Iterable[Any]],
    *,
    batch_size: int,
    prebatched: bool,
    max_inflight: int,
    ordered: bool,
    strict: bool,
    first_index: int,
) -> Generator[tuple[int, BatchMessage], None, None]:
    """As `DAG.stream`, whose arguments have been checked."""
    batches = cut(
        data,
        batch_size,
        "dag.stream",
        prebatched=prebatched,
        strict=strict,
        first_index=first_index,
        names=way.sources,
    )
    return _stream(session, way, batches, max_inflight, first_index if ordered else None)


def _stream(
    session: Session,
    way: Way,
    batches: Iterator[tuple[int, tuple[Any, ...]]],
    max_inflight: int,
    first: int | None,
) -> Generator[tuple[int, BatchMessage], None, None]:
    stream = session.open_stream(way.reached)
    held = None if first is None else InOrder(first)
    inside, more = 0, True
    try:
        while True:
            while more and inside < max_inflight and not session.stopping:
                try:
                    number, payloads = next(batches)
                except StopIteration:
                    more = False
                    break
                inside += 1
                session.enter(stream, number, dict(zip(way.sources, payloads, strict=True)))
                if not stream.inbox.empty():
                    break  # what is ready goes out before more is read
            if not inside:
                if more:
                    _tell_why_ended(session)
                return
            arrival = take(stream.inbox)
            if arrival.batch is None:
                _tell_why_ended(session)
            elif held is not None:
                for finished in held.add(arrival.queue, arrival.batch, complete=arrival.complete):
                    yield from finished
                    inside -= 1
            else:
                if arrival.queue is not None:
                    yield arrival.queue, BatchMessage(arrival.batch.number, arrival.batch.payload)
                inside -= arrival.complete
    finally:
        session.close_stream(stream)


def _tell_why_ended(session: Session) -> None:
    sigterm.leave()
    session.raise_error()
    raise CascataError("dag.stream: the DAG was stopped, or has failed, while this stream went on") from session.error


class InOrder:
    """Holds batches back until those before them are complete."""

    def __init__(self, first: int) -> None:
        self._next = first
        self._messages: dict[int, list[tuple[int, BatchMessage]]] = {}
        self._complete: set[int] = set()

    def add(self, queue: int | None, batch: Batch, *, complete: bool) -> Iterator[list[tuple[int, BatchMessage]]]:
        """Takes an arrival, and gives the messages of every batch whose turn has come."""
        messages = self._messages.setdefault(batch.number, [])
        if queue is not None:
            messages.append((queue, BatchMessage(batch.number, batch.payload)))
        if complete:
            self._complete.add(batch.number)
        while self._next in self._complete:
            self._complete.remove(self._next)
            yield sorted(self._messages.pop(self._next), key=lambda message: message[0])
            self._next += 1
