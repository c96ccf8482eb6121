"""The order of what stands in a layer, so that few wires cross: sweeps by barycentre, then exchanges of neighbours."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import field
from typing import Final

from ..records import dataclass

__all__ = ["Item", "Joint", "join", "put_in_order"]

_STARTS: Final = 12
_SWEEPS: Final = 16
_FEW_SWEEPS: Final = 6
_PATIENCE: Final = 3000
"""Joints times starts: a large picture gets fewer of them, and then fewer sweeps."""

_EXCHANGES: Final = 8


@dataclass(slots=True, eq=False)
class Item:
    """What stands in a layer: a box (by number), or the place where a long wire passes through (None).

    Attributes:
        height: what it takes up, in pixels.
        rank: where it stands in its layer, from above.
        top: where it begins, in pixels.
        left: its joints with the layer before, as they leave it on that side.
        right: its joints with the layer after.
    """

    height: float
    box: int | None = None
    rank: int = 0
    top: float = 0.0
    left: list[Joint] = field(default_factory=list)
    right: list[Joint] = field(default_factory=list)

    @property
    def straightness(self) -> int:
        """How much a wire's being straight here matters: a bend in the middle of nowhere looks worst."""
        return 1 if self.box is not None else 3


@dataclass(frozen=True, slots=True, eq=False)
class Joint:
    """A piece of wire between two layers, seen from one end: from where on this item to where on the other one."""

    offset: float
    other: Item
    other_offset: float
    leads_back: bool = False


def join(one: Item, offset: float, other: Item, other_offset: float, *, leads_back: bool = False) -> None:
    """Joins an item with one of the next layer."""
    one.right.append(Joint(offset, other, other_offset, leads_back))
    other.left.append(Joint(other_offset, one, offset, leads_back))


def put_in_order(layers: list[list[Item]]) -> None:
    """Orders each layer in place, and sets the ranks. The same items in the same order give the same result."""
    _walk_in(layers)
    best, fewest = _copy(layers), _crossings(layers)
    dice = random.Random(0)  # always the same: a picture changes only when its graph does
    joints = sum(len(item.right) for layer in layers for item in layer)
    for start in range(min(_STARTS, max(1, _PATIENCE // (joints or 1)))):
        if start:
            for layer in layers:
                dice.shuffle(layer)
            _rank(layers)
        for sweep in range(_SWEEPS if joints < _PATIENCE else _FEW_SWEEPS):
            if not fewest:
                break
            for index in range(1, len(layers)) if sweep % 2 == 0 else range(len(layers) - 2, -1, -1):
                _by_barycentre(layers[index], leftward=sweep % 2 == 0)
            _exchange(layers)
            crossings = _crossings(layers)
            if crossings < fewest:
                best, fewest = _copy(layers), crossings
    layers[:] = best
    _rank(layers)


def _copy(layers: list[list[Item]]) -> list[list[Item]]:
    return [list(layer) for layer in layers]


def _rank(layers: Iterable[Sequence[Item]]) -> None:
    for layer in layers:
        for rank, item in enumerate(layer):
            item.rank = rank


def _walk_in(layers: list[list[Item]]) -> None:
    """An order to begin with: as a walk along the wires, from above, comes to the items."""
    number = {item: index for index, layer in enumerate(layers) for item in layer}
    found: list[list[Item]] = [[] for _ in layers]
    seen: set[Item] = set()
    for start in [item for layer in layers for item in layer]:
        ready = [start]
        while ready:
            item = ready.pop()
            if item in seen:
                continue
            seen.add(item)
            found[number[item]].append(item)
            joints = sorted(item.right, key=lambda each: each.offset) + sorted(item.left, key=lambda each: each.offset)
            ready += [each.other for each in reversed(joints)]
    layers[:] = found
    _rank(layers)


def _by_barycentre(layer: list[Item], *, leftward: bool) -> None:
    """Orders a layer by the means of where its wires come from; what has none keeps its place."""
    side = {item: item.left if leftward else item.right for item in layer}
    ends = sorted({(joint.other.rank, joint.other_offset) for joints in side.values() for joint in joints})
    means = {
        item: sum(bisect_left(ends, (each.other.rank, each.other_offset)) for each in joints) / len(joints)
        for item, joints in side.items()
        if joints
    }
    sorted_items = iter(sorted(means, key=means.__getitem__))  # stable: equal means keep their order
    layer[:] = [next(sorted_items) if item in means else item for item in layer]
    _rank([layer])


def _exchange(layers: list[list[Item]]) -> None:
    """Exchanges neighbours while that makes fewer crossings."""
    for _ in range(_EXCHANGES):
        changed = False
        for layer in layers:
            for index in range(len(layer) - 1):
                one, two = layer[index], layer[index + 1]
                as_it_is = _crossings_of(one.left, two.left) + _crossings_of(one.right, two.right)
                exchanged = _crossings_of(two.left, one.left) + _crossings_of(two.right, one.right)
                if exchanged < as_it_is:
                    layer[index : index + 2] = [two, one]
                    one.rank, two.rank = two.rank, one.rank
                    changed = True
        if not changed:
            return


def _crossings_of(above: Sequence[Joint], below: Sequence[Joint]) -> int:
    """Crossings of the wires of two items, the first of which stands above the second."""
    return sum(
        (one.other.rank, one.other_offset) > (two.other.rank, two.other_offset) for one in above for two in below
    )


def _crossings(layers: Sequence[Sequence[Item]]) -> int:
    """All crossings, by inversions: of wires in the order of their left ends, in the order of their right ends."""
    count = 0
    for layer in layers:
        ends = sorted(
            (item.rank, joint.offset, joint.other.rank, joint.other_offset) for item in layer for joint in item.right
        )
        seen: list[tuple[float, float]] = []
        for _, _, rank, offset in ends:
            place = bisect_left(seen, (rank, offset))
            while place < len(seen) and seen[place] == (rank, offset):
                place += 1
            count += len(seen) - place
            seen.insert(place, (rank, offset))
    return count
