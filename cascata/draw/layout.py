"""Boxes and wires in, places and curves out: a layered drawing from left to right.

    boxes, wires ── layers ──> columns ── order ──> few crossings ── place ──> heights ──> curves

A wire that leads back (a cycle) is laid out as its own reverse: it leaves on the right, turns round into a lane above
or below its box, passes the columns in between like any long wire, and turns round again in front of the box that it
feeds. Long wires out of one pin share their way until they part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import field
from itertools import pairwise
from typing import Final, Literal, NamedTuple

from ..records import dataclass
from .layers import Arc, backward, layers
from .order import Item, join, put_in_order
from .place import place

__all__ = ["Box", "Curve", "Layout", "Wire", "lay_out", "moved"]

LANE: Final = 14.0
"""Between a box and the lane of a wire that leads back, and between lanes."""

BEND: Final = 4.0
"""Height of a wire that passes a column."""

NARROWEST: Final = 44.0
WIDEST: Final = 150.0
BESIDE_GATES: Final = 22.0
"""Room between two columns, for wires; labels and turns may ask for more."""

STRETCH: Final = 1.6
"""Boxes of a column are made equally wide, unless that makes one so many times as wide as it has to be."""


@dataclass(slots=True, eq=False)
class Box:
    """Something with a place. `stretches`: it may be made wider, so that the boxes of a column are alike.

    `side` is "entry" or "exit" for what stands for a place on the left or right border. `x`, `y` and the final width
    are set by the layout.
    """

    width: float
    height: float
    stretches: bool = True
    side: Literal["entry", "exit"] | None = None
    x: float = 0.0
    y: float = 0.0


@dataclass(frozen=True, slots=True)
class Wire:
    """A wire from a place on the right border of a box to one on the left border of a box.

    Attributes:
        source: number of a box.
        out: height on that box.
        target: number of a box.
        inp: height on that box.
        room: width of what is written on it.
        weak: the first to be taken for the one that closes a cycle.
    """

    source: int
    out: float
    target: int
    inp: float
    room: float = 0.0
    weak: bool = False


class Curve(NamedTuple):
    """A cubic Bézier curve. One between points of the same height is straight."""

    x0: float
    y0: float
    x1: float
    y1: float
    x2: float
    y2: float
    x3: float
    y3: float

    def at(self, t: float) -> tuple[float, float]:
        """The point at `t`, from 0 to 1."""
        s = 1 - t
        a, b, c, d = s * s * s, 3 * s * s * t, 3 * s * t * t, t * t * t
        return (
            a * self.x0 + b * self.x1 + c * self.x2 + d * self.x3,
            a * self.y0 + b * self.y1 + c * self.y2 + d * self.y3,
        )


@dataclass(frozen=True, slots=True)
class Layout:
    """The size of a drawing, and the curves of each wire, in the order of the wires."""

    width: float
    height: float
    curves: tuple[tuple[Curve, ...], ...]


def moved(curves: Iterable[Curve], dx: float, dy: float) -> tuple[Curve, ...]:
    """The same curves somewhere else."""
    return tuple(
        Curve(a + dx, b + dy, c + dx, d + dy, e + dx, f + dy, g + dx, h + dy) for a, b, c, d, e, f, g, h in curves
    )


def lay_out(boxes: Sequence[Box], wires: Sequence[Wire]) -> Layout:
    """Places the boxes (in place) and draws the wires. The same arguments give the same drawing."""
    return _Drawing(boxes, wires).draw()


@dataclass(frozen=True, slots=True)
class _Lane:
    """Where a wire that leads back passes a box: `offset` on its item, `turn` is how far its turn reaches out."""

    offset: float
    turn: float


@dataclass(slots=True)
class _Lanes:
    """The lanes at a box, above and below it."""

    above: int = 0
    below: int = 0


@dataclass(slots=True)
class _Column:
    """A layer, and its place from left to right. Turns need the room `before` in front of it, and `behind` after it."""

    items: list[Item] = field(default_factory=list)
    left: float = 0.0
    width: float = 0.0
    before: float = 0.0
    behind: float = 0.0

    narrowest: float = NARROWEST

    @property
    def right(self) -> float:
        return self.left + self.width


class _Drawing:
    """One layout on its way."""

    def __init__(self, boxes: Sequence[Box], wires: Sequence[Wire]) -> None:
        self.boxes = boxes
        self.wires = wires
        arcs = [Arc(each.source, each.target, each.weak) for each in wires]
        self.back = backward(len(boxes), arcs)
        self.layer = layers(
            len(boxes),
            [arc for number, arc in enumerate(arcs) if number not in self.back],
            [number for number, box in enumerate(boxes) if box.side == "entry"],
            [number for number, box in enumerate(boxes) if box.side == "exit"],
        )
        self.columns = [_Column() for _ in range(max(self.layer, default=-1) + 1)]
        self.lanes: dict[int, tuple[_Lane, _Lane]] = {}  # of a wire: at its source and at its target
        self.items: list[Item] = []
        self.above: list[float] = []  # on each item, what the lanes above its box take
        self.ways: dict[int, list[Item]] = {}  # of a wire: what it passes, from left to right

    def draw(self) -> Layout:
        self._make_items()
        self._thread()
        ordered = [column.items for column in self.columns]
        put_in_order(ordered)
        for column, items in zip(self.columns, ordered, strict=True):
            column.items = items
        height = place(ordered)
        width = self._make_columns()
        widths = [self._stretched(number) for number in range(len(self.boxes))]
        for number, (box, item) in enumerate(zip(self.boxes, self.items, strict=True)):
            column = self.columns[self.layer[number]]
            if box.stretches:
                box.width = widths[number]
            room = column.width - box.width
            box.x = column.left + {"entry": 0.0, "exit": room}.get(box.side or "", room / 2)
            box.y = item.top + self.above[number]
        return Layout(width, height, tuple(map(self._curves, range(len(self.wires)))))

    # ---- what stands in the columns

    def _make_items(self) -> None:
        lanes = [_Lanes() for _ in self.boxes]
        chosen: dict[int, tuple[bool, int, int]] = {}
        for number in sorted(self.back, key=lambda each: self._span(self.wires[each])):
            wire = self.wires[number]
            at_source, at_target = lanes[wire.source], lanes[wire.target]
            # A lane is reached past the pins between: above the box from its upper pins, below it from its lower ones.
            up = self._depth(wire.source, wire.out) + self._depth(wire.target, wire.inp) < 1.0
            for each in {id(at_source): at_source, id(at_target): at_target}.values():
                each.above += up
                each.below += not up
            chosen[number] = (
                up,
                at_source.above if up else at_source.below,
                at_target.above if up else at_target.below,
            )
        self.above = [each.above * LANE for each in lanes]
        for number, (box, each) in enumerate(zip(self.boxes, lanes, strict=True)):
            self.items.append(Item(self.above[number] + box.height + each.below * LANE, number))
            self.columns[self.layer[number]].items.append(self.items[-1])
        for number, (up, first, second) in chosen.items():
            wire = self.wires[number]
            self.lanes[number] = (self._lane(wire.source, first, up=up), self._lane(wire.target, second, up=up))
            behind, before = self.columns[self.layer[wire.source]], self.columns[self.layer[wire.target]]
            behind.behind = max(behind.behind, self.lanes[number][0].turn)
            before.before = max(before.before, self.lanes[number][1].turn)

    def _span(self, wire: Wire) -> int:
        return self.layer[wire.source] - self.layer[wire.target]

    def _depth(self, box: int, offset: float) -> float:
        return offset / self.boxes[box].height

    def _lane(self, box: int, number: int, *, up: bool) -> _Lane:
        turn = 10.0 + 8.0 * number
        if up:
            return _Lane(self.above[box] - number * LANE, turn)
        return _Lane(self.above[box] + self.boxes[box].height + number * LANE, turn)

    def _thread(self) -> None:
        """Leads each wire through the columns between its ends."""
        shared: dict[tuple[int, float, int], Item] = {}
        joined: set[tuple[int, float, int, float]] = set()
        for number, wire in enumerate(self.wires):
            if number in self.back:
                # as its own reverse: from the lane at its target to the lane at its source
                at_source, at_target = self.lanes[number]
                start, end, out, inp = wire.target, wire.source, at_target.offset, at_source.offset
                if start == end:
                    self.ways[number] = []
                    continue
                trunk: tuple[int, float, int] | None = None
            else:
                start, end = wire.source, wire.target
                out, inp = self.above[start] + wire.out, self.above[end] + wire.inp
                trunk = (start, wire.out, 0)
            way: list[Item] = []
            for layer in range(self.layer[start] + 1, self.layer[end]):
                key = None if trunk is None else (*trunk[:2], layer)
                bend = shared.get(key) if key is not None else None
                if bend is None:
                    bend = Item(BEND)
                    self.columns[layer].items.append(bend)
                    if key is not None:
                        shared[key] = bend
                way.append(bend)
            self.ways[number] = way
            stops = [(self.items[start], out), *((bend, BEND / 2) for bend in way), (self.items[end], inp)]
            for (one, leaving), (other, entering) in pairwise(stops):
                piece = (id(one), leaving, id(other), entering)
                if piece not in joined:
                    joined.add(piece)
                    join(one, leaving, other, entering, leads_back=number in self.back)

    # ---- from left to right

    def _stretched(self, number: int) -> float:
        """The width of the widest box in the column that is not out of all proportion to this one."""
        mine = self.boxes[number].width
        others = [self.boxes[item.box] for item in self.columns[self.layer[number]].items if item.box is not None]
        return max((each.width for each in others if each.stretches and each.width <= STRETCH * mine), default=mine)

    def _make_columns(self) -> float:
        rooms = [0.0] * len(self.columns)  # for what is written on wires, which stands in front of what they feed
        for number, wire in enumerate(self.wires):
            layer = self.layer[wire.target]
            if number not in self.back and wire.room:
                rooms[layer] = max(rooms[layer], wire.room + 60)
            elif wire.room:
                rooms[self.layer[wire.source]] = max(rooms[self.layer[wire.source]], wire.room + 36)
        x = 0.0
        for index, column in enumerate(self.columns):
            column.width = max((self.boxes[item.box].width for item in column.items if item.box is not None), default=0)
            if all(item.box is None or self.boxes[item.box].side is not None for item in column.items):
                column.narrowest = BESIDE_GATES
            if index:
                x += self._gap(self.columns[index - 1], column, rooms[index])
            else:
                x += column.before
            column.left = x
            x = column.right
        return x + (self.columns[-1].behind if self.columns else 0.0)

    def _gap(self, one: _Column, two: _Column, room: float) -> float:
        steepest = max(
            (
                abs(item.top + joint.offset - joint.other.top - joint.other_offset)
                for item in one.items
                for joint in item.right
            ),
            default=0.0,
        )
        narrowest = min((NARROWEST, *(each.narrowest for each in (one, two))))
        gap = min(narrowest + 0.22 * steepest, WIDEST)
        return max(gap, room) + one.behind + two.before

    # ---- curves

    def _curves(self, number: int) -> tuple[Curve, ...]:
        wire = self.wires[number]
        source, target = self.boxes[wire.source], self.boxes[wire.target]
        leaves, enters = self.columns[self.layer[wire.source]], self.columns[self.layer[wire.target]]
        start, end = source.y + wire.out, target.y + wire.inp
        if number not in self.back:
            curves = [_line(source.x + source.width, leaves.right, start)]
            x, y = leaves.right, start
            for layer, bend in enumerate(self.ways[number], self.layer[wire.source] + 1):
                column = self.columns[layer]
                curves += [_slope(x, y, column.left, bend.top + BEND / 2)]
                x, y = column.right, bend.top + BEND / 2
                curves += [_line(column.left, x, y)]
            return _tidy([*curves, _slope(x, y, enters.left, end), _line(enters.left, target.x, end)])
        at_source, at_target = self.lanes[number]
        lane = self.items[wire.source].top + at_source.offset
        curves = [
            _line(source.x + source.width, leaves.right, start),
            _turn(leaves.right, start, lane, at_source.turn),
            _line(leaves.right, leaves.left, lane),
        ]
        x, y = leaves.left, lane
        for layer, bend in zip(
            range(self.layer[wire.source] - 1, self.layer[wire.target], -1), reversed(self.ways[number]), strict=True
        ):
            column = self.columns[layer]
            curves += [_slope(x, y, column.right, bend.top + BEND / 2)]
            x, y = column.left, bend.top + BEND / 2
            curves += [_line(column.right, x, y)]
        if wire.source != wire.target:
            lane = self.items[wire.target].top + at_target.offset
            curves += [_slope(x, y, enters.right, lane), _line(enters.right, enters.left, lane)]
        return _tidy([*curves, _turn(enters.left, lane, end, -at_target.turn), _line(enters.left, target.x, end)])


def _line(x0: float, x1: float, y: float) -> Curve:
    return Curve(x0, y, x0, y, x1, y, x1, y)


def _slope(x0: float, y0: float, x1: float, y1: float) -> Curve:
    middle = (x0 + x1) / 2
    return Curve(x0, y0, middle, y0, middle, y1, x1, y1)


def _turn(x: float, y0: float, y1: float, reach: float) -> Curve:
    """Out to one side and back: a cubic reaches three quarters of where its handles are."""
    handle = x + reach / 0.75
    return Curve(x, y0, handle, y0, handle, y1, x, y1)


def _tidy(curves: list[Curve]) -> tuple[Curve, ...]:
    """Straight pieces in a row are one; pieces of no length are none."""
    tidy: list[Curve] = []
    for each in curves:
        straight = each.y0 == each.y1 == each.y2 == each.y3
        if straight and each.x0 == each.x3 and each.x1 == each.x0:
            continue
        last = tidy[-1] if tidy else None
        if straight and last is not None and last.y0 == last.y1 == last.y2 == last.y3 == each.y0:
            tidy[-1] = _line(last.x0, each.x3, each.y0)
        else:
            tidy.append(each)
    return tuple(tidy)
