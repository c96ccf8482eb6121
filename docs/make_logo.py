"""Draws logo.png: water that falls from node to node, splits, and comes together in a pool.

    python docs/make_logo.py [FILE] [SIZE]

Needs the standard library only: shapes are polygons, filled line by line with the exact share of each
pixel across and eight samples down, so that edges are smooth on any background.
"""

from __future__ import annotations

import math
import struct
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

UNIT: Final = 512
"""The picture is laid out on a square of this side, and drawn at any size."""

SAMPLES: Final = 8
"""Lines looked at within one line of pixels."""

STEPS: Final = 96
"""Points along one curve."""

Polygon = Sequence[tuple[float, float]]


class Colour(NamedTuple):
    """Red, green and blue, from 0 to 255."""

    red: float
    green: float
    blue: float

    def mix(self, other: Colour, share: float) -> Colour:
        return Colour(*(mine + (yours - mine) * share for mine, yours in zip(self, other, strict=True)))


class Node(NamedTuple):
    """A disc."""

    x: float
    y: float
    radius: float

    def outline(self, grow: float = 0.0) -> Polygon:
        turns = [math.tau * step / STEPS for step in range(STEPS)]
        return [
            (self.x + (self.radius + grow) * math.cos(a), self.y + (self.radius + grow) * math.sin(a)) for a in turns
        ]


class Stream(NamedTuple):
    """Water that leaves one node sideways, falls in a quarter of an ellipse, and lands in another from above."""

    source: Node
    target: Node
    land: float = 0.0
    """Where it lands, right of the target's middle."""

    def outline(self, half: float, aside: float = 0.0, start: float = 0.0, stop: float = 1.0) -> Polygon:
        """A band along its way, with round ends: half its width, how far aside, from and to which share of the way."""
        edge = []
        down, up = (start, stop, 0.5, -1), (stop, start, -0.5, 1)
        for first, last, side, around in (down, up):
            for step in range(STEPS + 1):
                x, y, heading = self.at(first + (last - first) * step / STEPS)
                x, y = x - aside * math.sin(heading), y + aside * math.cos(heading)
                turns = [heading + side * math.pi]
                if step == STEPS:
                    turns = [heading + side * (1 + around * part / 4) * math.pi for part in range(9)]
                edge += [(x + half * math.cos(turn), y + half * math.sin(turn)) for turn in turns]
        return edge

    def at(self, share: float) -> tuple[float, float, float]:
        """The point at a share of the way, and where the water is heading there, as an angle."""
        width = self.target.x + self.land - self.source.x
        height = self.target.y - self.source.y
        turn = share * math.pi / 2
        heading = math.atan2(height * math.sin(turn), width * math.cos(turn)) if width else math.pi / 2
        return self.source.x + width * math.sin(turn), self.source.y + height * (1 - math.cos(turn)), heading


WHITE: Final = Colour(255, 255, 255)
TOP: Final = Colour(34, 220, 186)
MIDDLE: Final = Colour(26, 168, 236)
BOTTOM: Final = Colour(70, 90, 246)

SPRING: Final = Node(256, 64, 46)
LEFT: Final = Node(82, 216, 40)
CENTRE: Final = Node(256, 236, 38)
RIGHT: Final = Node(430, 216, 40)
POOL: Final = Node(256, 434, 62)
NODES: Final = (SPRING, LEFT, CENTRE, RIGHT, POOL)
STREAMS: Final = (
    Stream(SPRING, LEFT),
    Stream(SPRING, RIGHT),
    Stream(LEFT, POOL, -34),
    Stream(RIGHT, POOL, 34),
    Stream(SPRING, CENTRE),
    Stream(CENTRE, POOL),
)


def water(y: float) -> Colour:
    """The colour at a height: teal at the top, blue in the pool."""
    fallen = min(1.0, max(0.0, y / UNIT))
    return TOP.mix(MIDDLE, fallen * 2) if fallen < 0.5 else MIDDLE.mix(BOTTOM, fallen * 2 - 1)


class Picture:
    """Rows of pixels: colour and opacity."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.pixels = [[(WHITE, 0.0)] * size for _ in range(size)]

    def paint(self, shape: Polygon, opacity: float = 1.0, tint: float = 0.0, at: float | None = None) -> None:
        """Fills a shape with the water's colour, mixed with white; `at`: with the colour of one height."""
        for row, shares in self.cover(shape):
            y = (row + 0.5) * UNIT / self.size if at is None else at
            colour = water(y).mix(WHITE, tint)
            line = self.pixels[row]
            for column, share in shares.items():
                below, alpha = line[column]
                over = share * opacity
                total = over + alpha * (1 - over)
                line[column] = below.mix(colour, over / total), total

    def cut(self, shape: Polygon) -> None:
        """Makes a shape transparent."""
        for row, shares in self.cover(shape):
            line = self.pixels[row]
            for column, share in shares.items():
                colour, alpha = line[column]
                line[column] = colour, alpha * (1 - share)

    def cover(self, shape: Polygon) -> list[tuple[int, dict[int, float]]]:
        """For each row that a shape touches: which share of which pixel lies within."""
        scale = self.size / UNIT
        corners = [(x * scale, y * scale) for x, y in shape]
        sides = list(zip(corners, [*corners[1:], corners[0]], strict=True))
        first = max(0, int(min(y for _, y in corners)))
        last = min(self.size - 1, int(max(y for _, y in corners)))
        found = []
        for row in range(first, last + 1):
            shares: dict[int, float] = {}
            near = [
                side for side in sides if min(side[0][1], side[1][1]) <= row + 1 and max(side[0][1], side[1][1]) >= row
            ]
            for sample in range(SAMPLES):
                for left, right in spans(near, row + (sample + 0.5) / SAMPLES):
                    for column in range(max(0, int(left)), min(self.size - 1, int(right)) + 1):
                        part = min(right, column + 1) - max(left, column)
                        if part > 0:
                            shares[column] = min(1.0, shares.get(column, 0.0) + part / SAMPLES)
            found.append((row, shares))
        return found

    def png(self) -> bytes:
        """The bytes of a PNG file."""

        def chunk(kind: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        header = struct.pack(">IIBBBBB", self.size, self.size, 8, 6, 0, 0, 0)  # 8 bits each: red, green, blue, opacity
        lines = b"".join(
            b"\0" + bytes(round(part) for colour, alpha in line for part in (*colour, alpha * 255))
            for line in self.pixels
        )
        body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + body


def spans(sides: list[tuple[tuple[float, float], tuple[float, float]]], y: float) -> list[tuple[float, float]]:
    """From where to where a shape's sides enclose a level line (by winding, so that a shape may overlap itself)."""
    crossings = []
    for (x0, y0), (x1, y1) in sides:
        if (y0 <= y) != (y1 <= y):
            crossings.append((x0 + (x1 - x0) * (y - y0) / (y1 - y0), 1 if y1 > y0 else -1))
    crossings.sort()
    found, winding, start = [], 0, 0.0
    for x, turn in crossings:
        if winding == 0:
            start = x
        winding += turn
        if winding == 0:
            found.append((start, x))
    return found


def draw(size: int) -> Picture:
    """Streams, the light on them, and the nodes, each with a gap around it."""
    picture = Picture(size)
    for stream in STREAMS:
        picture.paint(stream.outline(26), tint=0.16)
    for stream in STREAMS:
        outward = 1 if stream.source.x + stream.target.x + stream.land > UNIT else -1
        for aside, half, start, stop, opacity in ((-10, 2.8, 0.28, 0.86, 0.65), (8, 2.2, 0.44, 0.74, 0.5)):
            picture.paint(stream.outline(half, aside * outward, start, stop), opacity, tint=1.0)
    for node in NODES:
        picture.cut(node.outline(10))
        picture.paint(node.outline(), at=node.y)
    for radius in (44, 25):
        ripple = POOL._replace(radius=radius)
        picture.paint(ripple.outline(3), 0.33, tint=1.0)
        picture.paint(ripple.outline(-3), at=POOL.y)
    return picture


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "logo.png"
    target.write_bytes(draw(int(sys.argv[2]) if len(sys.argv) > 2 else UNIT).png())
