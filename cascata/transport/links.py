"""The crossing channels of a run: made by the parent, and the ends that each worker gets of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import SerializationError
from ..model import ChannelSpec, EdgeSpec, GraphSpec, Plan
from ..observe.board import Board
from .crossing import CrossingReader, CrossingWriter, Pair, make_pair
from .hub import Hub
from .misfits import unreadable, unsendable

__all__ = ["ChannelEnds", "Ends", "LinkedEnds", "ends_for", "make_pairs"]


@dataclass(slots=True)
class ChannelEnds:
    """The fds of one crossing channel that a worker holds; None for those that it has no use for."""

    capacity: int
    receive: int | None = None
    send: int | None = None
    take: int | None = None
    give: int | None = None

    def fds(self) -> dict[str, int]:
        found = {name: getattr(self, name) for name in ("receive", "send", "take", "give")}
        return {name: fd for name, fd in found.items() if fd is not None}


@dataclass(slots=True)
class Ends:
    """What a worker needs to know of the channels that cross its border."""

    channels: dict[int, ChannelEnds] = field(default_factory=dict)
    divided: frozenset[int] = frozenset()
    """Channels that several workers read."""


def make_pairs(spec: GraphSpec, plan: Plan) -> dict[int, Pair]:
    """The kernel's side of each crossing channel.

    Raises:
        OSError: the system is short of fds or of memory; nothing is left open then.
    """
    pairs: dict[int, Pair] = {}
    try:
        for channel in sorted(plan.crossing):
            pairs[channel] = make_pair(spec.channels[channel].capacity)
    except BaseException:
        for pair in pairs.values():
            pair.close()
        raise
    return pairs


def ends_for(worker: int, spec: GraphSpec, plan: Plan, pairs: Mapping[int, Pair]) -> Ends:
    """The fds that a worker gets, as the parent's numbers."""
    placed = {node: index for index, nodes in enumerate(plan.parts) for node in nodes}
    ends = Ends()
    divided = set()
    for channel, pair in pairs.items():
        specified = spec.channels[channel]
        readers = {placed[reader.node] for reader in specified.readers}
        if len(readers) > 1:
            divided.add(channel)
        held = ChannelEnds(pair.capacity)
        if worker in readers:
            held.receive, held.give = pair.receive, pair.give
        if any(placed[spec.edges[edge].source.node] == worker for edge in specified.edges):
            held.send, held.take = pair.send, pair.take
            if len(specified.edges) > 1:
                held.give = pair.give
        if held.fds():
            ends.channels[channel] = held
    ends.divided = frozenset(divided)
    return ends


class LinkedEnds:
    """Makes readers and writers of the ends that this worker holds. Implements `runtime.worker.Links`.

    Args:
        hub: of the running loop.
        ends: with this process's fds.
        spec: the graph.
        board: the stats board.
        worker: index of this worker.
        refused: told of an item that cannot cross: the error, the nodes whose failure it is, and the item.
    """

    def __init__(
        self,
        hub: Hub,
        ends: Ends,
        spec: GraphSpec,
        board: Board,
        worker: int,
        refused: Callable[[SerializationError, Sequence[str], Any], None],
    ) -> None:
        self._hub = hub
        self._ends = ends
        self._spec = spec
        self._board = board
        self._worker = worker
        self._refused = refused

    def reader(self, channel: ChannelSpec, users: int) -> CrossingReader:
        held = self._ends.channels[channel.id]
        assert held.receive is not None  # `ends_for` gave it
        assert held.give is not None
        measured: Callable[[float], None] | None = None
        if channel.id in self._ends.divided:
            board, worker = self._board, self._worker

            def measured(seconds: float) -> None:
                board.set_work(channel.id, worker, seconds)

        def seen(edge: int, total: int) -> None:
            self._board.set_seen(edge, self._worker, total)

        def bad(edge: int, count: int, problem: Exception) -> None:
            self._board.add_failed(edge, self._worker, count)
            source = self._spec.edges[edge].source
            error = unreadable(self._spec.edges[edge], channel, self._worker, count, problem)
            readers = [reader.node for reader in channel.readers]
            for _ in range(count):
                self._refused(error, readers, f"<an item of {source} that could not be unpickled>")

        return CrossingReader(self._hub, held.receive, held.give, users=users, bad=bad, seen=seen, measured=measured)

    def writer(self, edge: EdgeSpec, forgotten: Callable[[], None]) -> CrossingWriter:
        channel = self._spec.channels[edge.channel]
        held = self._ends.channels[channel.id]
        assert held.send is not None  # `ends_for` gave it
        assert held.take is not None
        work: Callable[[], float] | None = None
        if channel.id in self._ends.divided:
            board = self._board

            def work() -> float:
                return board.work(channel.id)

        def bad(item: Any, problem: Exception) -> None:
            self._board.add_failed(edge.id, self._worker, 1)
            error = unsendable(edge, channel, item, problem)
            self._refused(error, [edge.source.node], item)

        share = len(channel.edges)
        return CrossingWriter(
            self._hub,
            edge.id,
            held.send,
            held.take,
            held.capacity,
            give_credits=held.give if share > 1 else None,
            share=share,
            work=work,
            bad=bad,
            forgotten=forgotten,
        )

    def release(self) -> None:
        """Closes the fds that came with the worker's set-up: readers and writers have their own."""
        for held in self._ends.channels.values():
            for fd in held.fds().values():
                os.close(fd)
