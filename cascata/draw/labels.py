"""Where the labels of links stand: on their links, and on nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ..records import dataclass
from .layout import Curve
from .scene import Place, Scene
from .shapes import mark_width
from .sketch import Sketch

__all__ = ["Label", "labels"]

_HEIGHT: Final = 16.0
_SQUARE: Final = 32.0
_TRIED: Final = (0.5, 0.58, 0.42, 0.66, 0.34, 0.74, 0.26, 0.8, 0.2)


@dataclass(frozen=True, slots=True)
class Label:
    """A text in a box of a width, with its centre."""

    text: str
    x: float
    y: float
    width: float


def labels(sketch: Sketch, scene: Scene) -> Iterable[Label]:
    """The labels of all links that have marks."""
    placed: list[Place] = []
    units = list(scene.units.values())
    passing = _Passing(scene)
    for number, link in enumerate(sketch.links):
        if not link.marks:
            continue
        text = " ".join(link.marks)
        width = mark_width(text)
        tried = [_around(point, width) for point in _points(scene.curves[number])]
        at = min(
            tried,
            key=lambda place: (
                100 * sum(_overlap(place, each) for each in placed)
                + 100 * sum(_overlap(place, each) for each in units)
                + passing.count(place, number)
            ),
        )
        placed.append(at)
        yield Label(text, at.x + width / 2, at.y + _HEIGHT / 2, width)


class _Passing:
    """Points along all wires, by the square in which they lie: only those near a label are looked at."""

    def __init__(self, scene: Scene) -> None:
        self._squares: dict[tuple[int, int], list[tuple[int, float, float]]] = {}
        for number, curves in scene.curves.items():
            for curve in curves:
                for step in range(25):
                    x, y = curve.at(step / 24)
                    self._squares.setdefault((int(x // _SQUARE), int(y // _SQUARE)), []).append((number, x, y))

    def count(self, place: Place, own: int) -> int:
        """Points of other wires than its own in the place of a label."""
        right, bottom = place.x + place.width, place.y + place.height
        return sum(
            number != own and place.x <= x <= right and place.y - 1 <= y <= bottom + 1
            for column in range(int(place.x // _SQUARE), int(right // _SQUARE) + 1)
            for row in range(int((place.y - 1) // _SQUARE), int((bottom + 1) // _SQUARE) + 1)
            for number, x, y in self._squares.get((column, row), ())
        )


def _points(curves: Sequence[Curve]) -> Iterable[tuple[float, float]]:
    """Places to try, the best first: the slope in front of what is fed, then the others on the way back."""
    for curve in reversed(curves):
        if abs(curve.x3 - curve.x0) > 20:
            yield from (curve.at(t) for t in _TRIED)
    yield curves[-1].at(0.5)


def _around(point: tuple[float, float], width: float) -> Place:
    return Place(point[0] - width / 2, point[1] - _HEIGHT / 2, width, _HEIGHT)


def _overlap(one: Place, other: Place) -> bool:
    return (
        one.x < other.x + other.width + 3
        and other.x < one.x + one.width + 3
        and one.y < other.y + other.height + 2
        and other.y < one.y + one.height + 2
    )
