"""Where everything of a sketch stands: each frame is laid out by itself, and is then one box in what surrounds it.

Links that cross the border of a frame do so at a *gate*, one for each port that they lead to or come from: inside, a
gate is a box on the left or right border; outside, it is a pin of the frame.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from typing import Final

from ..model import Endpoint
from ..records import dataclass
from .layout import Box, Curve, Wire, lay_out, moved
from .metrics import MARK_SIZE, PIN_SIZE, text_width
from .shapes import Shape, mark_width, shape_of
from .sketch import Sketch, Unit

__all__ = ["FRAME_TITLE", "Gate", "Place", "Scene", "set_scene"]

FRAME_TITLE: Final = 28.0
"""Height of the name of a frame."""

_PADDING: Final = 16.0
_APART: Final = 36.0
"""Between parts of a graph that nothing links."""

_SHELF: Final = 900.0
"""Parts stand side by side up to this width."""


@dataclass(frozen=True, slots=True)
class Place:
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float

    def moved(self, dx: float, dy: float) -> Place:
        return Place(self.x + dx, self.y + dy, self.width, self.height)


@dataclass(frozen=True, slots=True)
class Gate:
    """Where links cross the border of a frame. `text` is what the frame calls the port, if it exports it."""

    x: float
    y: float
    text: str
    side: str

    def moved(self, dx: float, dy: float) -> Gate:
        return Gate(self.x + dx, self.y + dy, self.text, self.side)


@dataclass(slots=True)
class Scene:
    """Everything with its place. `curves` are those of each link, in its direction of flow."""

    width: float = 0.0
    height: float = 0.0
    shapes: dict[str, Shape] = field(default_factory=dict)
    units: dict[str, Place] = field(default_factory=dict)
    frames: dict[str, Place] = field(default_factory=dict)
    gates: list[Gate] = field(default_factory=list)
    curves: dict[int, tuple[Curve, ...]] = field(default_factory=dict)


@dataclass(slots=True)
class _Block(Scene):
    """A frame from outside: where its gates are."""

    ins: dict[Endpoint, float] = field(default_factory=dict)
    outs: dict[Endpoint, float] = field(default_factory=dict)


def set_scene(sketch: Sketch) -> Scene:
    """Gives everything of a sketch its place. The same sketch gives the same scene."""
    return _Stage(sketch).block(None)


@dataclass(slots=True)
class _Level:
    """What stands in one frame: boxes with what they are, and wires with the links that go along them."""

    boxes: list[Box] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
    links: list[list[int]] = field(default_factory=list)
    number: dict[str, int] = field(default_factory=dict)  # of a unit's or a frame's box
    entries: dict[Endpoint, int] = field(default_factory=dict)
    exits: dict[Endpoint, int] = field(default_factory=dict)


class _Stage:
    """Lays out the frames of a sketch, the innermost first."""

    def __init__(self, sketch: Sketch) -> None:
        self.sketch = sketch
        self.shapes = {name: shape_of(unit, sketch) for name, unit in sketch.units.items()}
        self.around = {name: self._around(unit) for name, unit in sketch.units.items()}

    def _around(self, unit: Unit) -> tuple[str, ...]:
        """The frames that a unit is in, the outermost first."""
        found: list[str] = []
        frame = unit.frame
        while frame is not None:
            found.append(frame)
            frame = self.sketch.frames[frame].parent
        return tuple(reversed(found))

    def block(self, frame: str | None) -> _Block:
        """Everything in a frame, with the frame's border; in no frame: everything."""
        inner: dict[str, _Block] = {}
        level = self._level(frame, inner)
        curves, width, height = self._draw(level)
        padding, top = (_PADDING, FRAME_TITLE) if frame is not None else (0.0, 0.0)
        title = text_width(frame or "", PIN_SIZE, bold=True) + 2 * _PADDING
        block = _Block(max(width + 2 * padding, title), height + top + padding, self.shapes)
        for name, number in level.number.items():
            box = level.boxes[number]
            if name in inner:
                self._put(block, inner[name], box.x + padding, box.y + top)
                block.frames[name] = Place(box.x + padding, box.y + top, box.width, box.height)
            else:
                block.units[name] = Place(box.x + padding, box.y + top, box.width, box.height)
        drawn = {
            link: moved(way, padding, top) for links, way in zip(level.links, curves, strict=True) for link in links
        }
        for link, way in drawn.items():
            block.curves[link] = self._joined(link, way, level, inner, padding, top)
        for gates, side in ((level.entries, "entry"), (level.exits, "exit")):
            for port, number in gates.items():
                self._open(block, frame, port, level.boxes[number], side, padding, top)
        return block

    def _put(self, block: _Block, other: _Block, dx: float, dy: float) -> None:
        """Puts what is in an inner frame where the frame is. Its links that cross the border come with theirs."""
        block.units.update((name, each.moved(dx, dy)) for name, each in other.units.items())
        block.frames.update((name, each.moved(dx, dy)) for name, each in other.frames.items())
        block.gates += [each.moved(dx, dy) for each in other.gates]
        block.curves.update((link, moved(way, dx, dy)) for link, way in other.curves.items())

    def _joined(
        self, link: int, way: tuple[Curve, ...], level: _Level, inner: dict[str, _Block], padding: float, top: float
    ) -> tuple[Curve, ...]:
        """The way of a link here, with its ways in the frames that it comes from and leads to."""
        parts = [way]
        for name, block in inner.items():
            if link in block.curves:
                box = level.boxes[level.number[name]]
                within = moved(block.curves[link], box.x + padding, box.y + top)
                comes_from_it = name in self.around[self.sketch.links[link].source.node]
                parts.insert(0 if comes_from_it else len(parts), within)
        return tuple(curve for part in parts for curve in part)

    def _open(
        self, block: _Block, frame: str | None, port: Endpoint, box: Box, side: str, padding: float, top: float
    ) -> None:
        """Leads a gate through the padding to the border."""
        assert frame is not None  # for the type checker: what is in no frame has no gates
        y = box.y + top + _gate_offset(box)
        inside = box.x + padding + (box.width if side == "entry" else 0.0)
        border = 0.0 if side == "entry" else block.width
        ends = (border, inside) if side == "entry" else (inside, border)
        piece = Curve(ends[0], y, ends[0], y, ends[1], y, ends[1], y)
        for link, each in enumerate(self.sketch.links):
            if link in block.curves and (each.target if side == "entry" else each.source) == port:
                other = each.source if side == "entry" else each.target
                if frame in self.around[other.node]:
                    continue
                way = block.curves[link]
                block.curves[link] = (piece, *way) if side == "entry" else (*way, piece)
        (block.ins if side == "entry" else block.outs)[port] = y
        names = self.sketch.frames[frame].exports.get(port, ())
        block.gates.append(Gate(border, y, ", ".join(names), side))

    # ---- one level

    def _level(self, frame: str | None, inner: dict[str, _Block]) -> _Level:
        level = _Level()
        depth = 0 if frame is None else len(self._path(frame))
        for name, unit in self.sketch.units.items():
            around = self.around[name]
            if frame is not None and frame not in around:
                continue
            child = name if unit.frame == frame else around[depth]
            if child in level.number:
                continue
            level.number[child] = len(level.boxes)
            if child == name:
                shape = self.shapes[name]
                level.boxes.append(Box(shape.width, shape.height))
            else:
                inner[child] = self.block(child)
                level.boxes.append(Box(inner[child].width, inner[child].height, stretches=False))
        wired: dict[tuple[int, float, int, float], int] = {}
        for number, link in enumerate(self.sketch.links):
            ends = [
                None if frame is not None and frame not in self.around[end.node] else self._child(end, frame, depth)
                for end in (link.source, link.target)
            ]
            if ends == [None, None] or (ends[0] == ends[1] and ends[0] in inner):
                continue
            source, out = self._end(level, inner, frame, link.source, ends[0], link.target, is_source=True)
            target, inp = self._end(level, inner, frame, link.target, ends[1], link.source, is_source=False)
            room = mark_width(" ".join(link.marks)) if link.marks and None not in ends else 0.0
            key = (source, out, target, inp)
            if key in wired and not room:
                level.links[wired[key]].append(number)
                continue
            wired[key] = len(level.wires)
            level.wires.append(Wire(source, out, target, inp, room, link.seeded))
            level.links.append([number])
        return level

    def _path(self, frame: str) -> tuple[str, ...]:
        parent = self.sketch.frames[frame].parent
        return (frame,) if parent is None else (*self._path(parent), frame)

    def _child(self, end: Endpoint, frame: str | None, depth: int) -> str:
        return end.node if self.sketch.units[end.node].frame == frame else self.around[end.node][depth]

    def _end(
        self,
        level: _Level,
        inner: dict[str, _Block],
        frame: str | None,
        port: Endpoint,
        child: str | None,
        other: Endpoint,
        *,
        is_source: bool,
    ) -> tuple[int, float]:
        """The box at one end of a link, and the height of the link on it."""
        if child is None:
            # the link goes on outside: at the gate of the port that it has in here
            gates = level.entries if is_source else level.exits
            if other not in gates:
                assert frame is not None  # for the type checker: nothing is outside of no frame
                names = ", ".join(self.sketch.frames[frame].exports.get(other, ()))
                width = text_width(names, MARK_SIZE) + 8 if names else 0.0
                gates[other] = len(level.boxes)
                height = 18.0 if names else 4.0
                level.boxes.append(Box(width, height, stretches=False, side="entry" if is_source else "exit"))
            box = level.boxes[gates[other]]
            return gates[other], _gate_offset(box)
        number = level.number[child]
        if child in inner:
            block = inner[child]
            return number, (block.outs if is_source else block.ins)[port]
        shape = self.shapes[child]
        return number, (shape.outs if is_source else shape.ins)[port.port]

    def _draw(self, level: _Level) -> tuple[list[tuple[Curve, ...]], float, float]:
        """Lays out a level: in one go when it has gates; else each part that nothing links to the others by itself."""
        if level.entries or level.exits:
            layout = lay_out(level.boxes, level.wires)
            return list(layout.curves), layout.width, layout.height
        curves: list[tuple[Curve, ...]] = [()] * len(level.wires)
        shelf = _Shelf(max((box.width for box in level.boxes), default=0.0))
        for members in _parts(len(level.boxes), level.wires):
            place = {box: index for index, box in enumerate(members)}
            numbers = [number for number, wire in enumerate(level.wires) if wire.source in place]
            wires = [
                Wire(place[each.source], each.out, place[each.target], each.inp, each.room, each.weak)
                for each in map(level.wires.__getitem__, numbers)
            ]
            boxes = [level.boxes[each] for each in members]
            layout = lay_out(boxes, wires)
            dx, dy = shelf.put(layout.width, layout.height)
            for box in boxes:
                box.x += dx
                box.y += dy
            for number, way in zip(numbers, layout.curves, strict=True):
                curves[number] = moved(way, dx, dy)
        return curves, shelf.width, shelf.height


def _gate_offset(box: Box) -> float:
    return box.height - 2.0


def _parts(count: int, wires: Iterable[Wire]) -> list[list[int]]:
    """The boxes of each connected part, in the order of definition."""
    part = list(range(count))

    def root(box: int) -> int:
        while part[box] != box:
            part[box] = part[part[box]]
            box = part[box]
        return box

    for wire in wires:
        one, other = sorted((root(wire.source), root(wire.target)))
        part[other] = one
    found: dict[int, list[int]] = {}
    for box in range(count):
        found.setdefault(root(box), []).append(box)
    return list(found.values())


class _Shelf:
    """Puts rectangles side by side, in rows."""

    def __init__(self, widest: float) -> None:
        self._limit = max(_SHELF, widest)
        self._x = self._y = self._next = 0.0
        self.width = 0.0

    @property
    def height(self) -> float:
        return self._next

    def put(self, width: float, height: float) -> tuple[float, float]:
        """Where the next one goes."""
        if self._x and self._x + _APART + width > self._limit:
            self._x, self._y = 0.0, self._next + _APART
        elif self._x:
            self._x += _APART
        where = (self._x, self._y)
        self._x += width
        self.width = max(self.width, self._x)
        self._next = max(self._next, self._y + height)
        return where
