"""Which worker gets which fds of the channels that cross: made by the parent, told to each worker.

parent ── make_pairs, make_arenas ──> ends_for(worker) ──> Ends: fds of the parent ── numbered ──> the worker
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import field, replace
from typing import Final

from ...model import ChannelSpec, GraphSpec, Plan
from ...records import dataclass
from . import ring
from .blocks import MOST_WORKERS, make_arena
from .sockets import Pair, RingPair, make_pair, make_ring_pairs

__all__ = ["AnyPair", "ChannelEnds", "Ends", "ends_for", "make_arenas", "make_pairs"]

_FDS: Final = ("receive", "send", "take", "give", "room_bell", "item_bell", "memory")


@dataclass(slots=True)
class ChannelEnds:
    """The fds of one crossing channel that a worker holds; None for those that it has no use for."""

    capacity: int
    receive: int | None = None
    send: int | None = None
    take: int | None = None
    give: int | None = None
    room_bell: int | None = None
    item_bell: int | None = None
    memory: int | None = None
    lane: tuple[int, int] | None = None
    """Of a ring: which lane of the memory, and how many bytes each has."""

    def fds(self) -> dict[str, int]:
        found = {name: getattr(self, name) for name in _FDS}
        return {name: fd for name, fd in found.items() if fd is not None}


@dataclass(slots=True)
class Ends:
    """What a worker needs to know of the channels that cross its border."""

    channels: dict[int, ChannelEnds] = field(default_factory=dict)
    divided: frozenset[int] = frozenset()
    """Channels that several workers read."""
    journaled: frozenset[int] = frozenset()
    """Channels whose readers may start again: what is large is lost with who has received it."""
    arenas: dict[int, int] = field(default_factory=dict)
    """Fds of the arenas that large items come through, by the number of the part that sends."""
    spin: bool = False
    """Whether each part of the run has a core of its own, so that it may look for a moment before it waits."""

    def fds(self) -> set[int]:
        return {fd for held in self.channels.values() for fd in held.fds().values()} | {*self.arenas.values()}

    def numbered(self, number: Callable[[int], int]) -> Ends:
        """The same with other numbers for the fds; `number` is called once for each."""
        numbers = {fd: number(fd) for fd in self.fds()}
        channels = {}
        for channel, held in self.channels.items():
            channels[channel] = other = replace(held)
            for name, fd in held.fds().items():
                setattr(other, name, numbers[fd])
        return replace(self, channels=channels, arenas={part: numbers[fd] for part, fd in self.arenas.items()})


AnyPair = Pair | RingPair


def _placed(plan: Plan) -> dict[str, int]:
    return {node: index for index, nodes in enumerate(plan.parts) for node in nodes}


def _is_ring(channel: ChannelSpec, placed: Mapping[str, int]) -> bool:
    """Whether a channel has one writer and one reading process."""
    readers = {placed[reader.node] for reader in channel.readers}
    return ring.AVAILABLE and len(channel.edges) == 1 and len(readers) == 1


def _nodes(spec: GraphSpec, channel: ChannelSpec) -> set[str]:
    return {*(spec.edges[edge].source.node for edge in channel.edges), *(reader.node for reader in channel.readers)}


def make_pairs(spec: GraphSpec, plan: Plan, alone: AbstractSet[str] = frozenset()) -> dict[int, AnyPair]:
    """The kernel's side of each crossing channel.

    Args:
        spec: the graph.
        plan: which node runs on which worker.
        alone: nodes that may start again. What an end of a ring knows would die with it: theirs are sockets.

    Raises:
        OSError: the system is short of fds or of memory; nothing is left open then.
    """
    placed = _placed(plan)
    crossing = sorted(plan.crossing)
    theirs = {channel.id for channel in spec.channels if not alone.isdisjoint(_nodes(spec, channel))}
    rings = [each for each in crossing if each not in theirs and _is_ring(spec.channels[each], placed)]
    made = make_ring_pairs(spec.channels[channel].capacity for channel in rings)
    pairs: dict[int, AnyPair] = dict(zip(rings, made, strict=True))
    try:
        for channel in crossing:
            if channel not in pairs:
                pairs[channel] = make_pair(spec.channels[channel].capacity)
    except BaseException:
        for pair in pairs.values():
            pair.close()
        raise
    return pairs


def make_arenas(spec: GraphSpec, plan: Plan) -> dict[int, int]:
    """The arena of each part of the run that sends to others.

    Raises:
        OSError: the system is short of fds or of memory; nothing is left open then.
    """
    arenas: dict[int, int] = {}
    if len(plan.parts) > MOST_WORKERS:
        return arenas
    placed = _placed(plan)
    edges = [spec.edges[edge] for channel in plan.crossing for edge in spec.channels[channel].edges]
    try:
        for part in sorted({placed[edge.source.node] for edge in edges}):
            arenas[part] = make_arena()
    except BaseException:
        for fd in arenas.values():
            os.close(fd)
        raise
    return arenas


def ends_for(
    worker: int,
    spec: GraphSpec,
    plan: Plan,
    pairs: Mapping[int, AnyPair],
    arenas: Mapping[int, int],
    alone: AbstractSet[str] = frozenset(),
) -> Ends:
    """The fds that a worker gets, as the parent's numbers. `alone` are the nodes that may start again."""
    placed = _placed(plan)
    journaled = frozenset(
        channel for channel in pairs if any(reader.node in alone for reader in spec.channels[channel].readers)
    )
    ends = Ends(spin=len(plan.parts) <= len(os.sched_getaffinity(0)), journaled=journaled)
    divided = set()
    for channel, pair in pairs.items():
        specified = spec.channels[channel]
        readers = {placed[reader.node] for reader in specified.readers}
        if len(readers) > 1:
            divided.add(channel)
        held = ChannelEnds(pair.capacity)
        reads = worker in readers
        senders = {placed[spec.edges[edge].source.node] for edge in specified.edges}
        writes = worker in senders
        if reads:
            held.receive = pair.receive
            ends.arenas.update((sender, arenas[sender]) for sender in senders if sender in arenas)
        if writes:
            if worker in arenas:
                ends.arenas[worker] = arenas[worker]
            held.send = pair.send
        if isinstance(pair, RingPair):
            if reads or writes:
                held.room_bell, held.item_bell = pair.room_bell, pair.item_bell
                held.memory, held.lane = pair.memory.fd, (pair.index, pair.memory.lane_size)
        else:
            if writes:
                held.take = pair.take
            if reads or writes:
                held.give = pair.give
        if held.fds():
            ends.channels[channel] = held
    ends.divided = frozenset(divided)
    return ends
