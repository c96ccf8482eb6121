"""Heights: where in its layer each item stands, so that wires are straight and nothing overlaps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from ..records import dataclass
from .order import Item, Joint

__all__ = ["place"]

BETWEEN_BOXES: Final = 24.0
BETWEEN_BOX_AND_WIRE: Final = 16.0
BETWEEN_WIRES: Final = 12.0

_ROUNDS: Final = 12
_PATIENCE: Final = 24_000
"""Joints times rounds: a large picture gets fewer of them."""

_CLOSE: Final = 32.0

_Pull = tuple[float, float, bool]
"""Where an item is drawn to, how strongly, and whether from the side that the sweep comes from."""


def place(layers: Sequence[Sequence[Item]]) -> float:
    """Sets `top` of every item; the topmost is at 0.

    Returns:
        The height of it all.
    """
    joints = sum(len(item.right) for layer in layers for item in layer)
    rounds = max(3, min(_ROUNDS, _PATIENCE // (joints or 1)))
    for layer in layers:
        below = 0.0
        for one, item in zip([None, *layer[:-1]], layer, strict=True):
            item.top = below + (0.0 if one is None else _between(one, item))
            below = item.top + item.height
    for _ in range(rounds):  # ever closer to the neighbours on one side, then on the other
        for layer in layers[1:]:
            _settle(layer, [(item.left, []) for item in layer], exact=False)
        for layer in layers[-2::-1]:
            _settle(layer, [(item.right, []) for item in layer], exact=False)
    for exact in (False, True):  # then between both; at the end, wires that can be straight are
        for _ in range(rounds):
            for layer in layers[-2::-1]:
                _settle(layer, [(item.right, item.left) for item in layer], exact=exact)
            for layer in layers:
                _settle(layer, [(item.left, item.right) for item in layer], exact=exact)
    top = min((item.top for layer in layers for item in layer), default=0.0)
    for layer in layers:
        for item in layer:
            item.top -= top
    return max((item.top + item.height for layer in layers for item in layer), default=0.0)


def _between(one: Item, two: Item) -> float:
    wires = (one.box is None) + (two.box is None)
    return (BETWEEN_BOXES, BETWEEN_BOX_AND_WIRE, BETWEEN_WIRES)[wires]


def _settle(layer: Sequence[Item], joints: Sequence[tuple[list[Joint], list[Joint]]], *, exact: bool) -> None:
    """Moves the items of a layer to where their joints draw them, as far as there is room.

    The joints of each item come in two lists: those to where the sweep comes from, then the others.
    Items that would overlap are joined in a block, which goes where all of its joints draw it: isotonic regression by
    pooling adjacent violators. With `exact`, a block goes to the median, so that most of the wires that could be
    straight are; otherwise to the mean.
    """
    blocks: list[_Block] = []
    taken = 0.0  # by the items above, if all stood as close as they can
    shifts = []
    for index, item in enumerate(layer):
        if index:
            taken += layer[index - 1].height + _between(layer[index - 1], item)
        shifts.append(taken)
        pulls = [
            (each.other.top + each.other_offset - each.offset - taken, _strength(item, each), behind)
            for behind, several in zip((True, False), joints[index], strict=True)
            for each in several
        ]
        block = _Block.of(pulls or [(item.top - taken, 0.01, False)], exact=exact)
        while blocks and blocks[-1].where > block.where:
            block = blocks.pop().joined(block, exact=exact)
        blocks.append(block)
    index = 0
    for block in blocks:
        for item, shift in zip(layer[index : index + block.items], shifts[index : index + block.items], strict=True):
            item.top = block.where + shift
        index += block.items


def _strength(item: Item, joint: Joint) -> float:
    return item.straightness * joint.other.straightness * (1.0 if joint.leads_back else 2.0)


@dataclass(frozen=True, slots=True)
class _Block:
    """Items that stand as close as they can. `pulls` are in order; `moment` is the sum of places times strengths."""

    where: float
    items: int
    pulls: list[_Pull]
    strength: float
    moment: float

    @classmethod
    def of(cls, pulls: list[_Pull], *, exact: bool) -> _Block:
        strength = sum(each for _, each, _ in pulls)
        moment = sum(where * each for where, each, _ in pulls)
        in_order = sorted(pulls) if exact else []
        return cls(_median(in_order, strength) if exact else moment / strength, 1, in_order, strength, moment)

    def joined(self, below: _Block, *, exact: bool) -> _Block:
        strength, moment = self.strength + below.strength, self.moment + below.moment
        pulls = sorted(self.pulls + below.pulls)  # two runs in order: linear
        where = _median(pulls, strength) if exact else moment / strength
        return _Block(where, self.items + below.items, pulls, strength, moment)


def _median(pulls: Sequence[_Pull], total: float) -> float:
    passed = 0.0
    for (where, strength, behind), (following, _, _) in pairwise([*pulls, pulls[-1]]):
        passed += strength
        if passed == total / 2:
            # Between two that are far apart the middle looks best; between two that are close, it makes two wires
            # that are almost straight. Then the side that the sweep comes from wins, so that what is straight grows.
            if following - where > _CLOSE:
                return (where + following) / 2
            return where if behind else following
        if passed > total / 2:
            return where
    return pulls[-1][0]
