"""How large a unit is, and where on it everything stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..records import dataclass
from .metrics import MARK_SIZE, NAME_SIZE, PIN_SIZE, text_width
from .sketch import InPin, Sketch, Unit

__all__ = [
    "CHIP",
    "HEADER",
    "STACK",
    "Shape",
    "chips",
    "component_text",
    "mark_width",
    "pin_indent",
    "pin_note",
    "shape_of",
]

HEADER: Final = 42.0
"""Height of a unit's name and component."""

STACK: Final = 10.0
"""By how much the cards behind a group stand out above it."""

CHIP: Final = 15.0
"""Side of the mark of a worker."""

_ROW: Final = 20.0
_SIDE: Final = 12.0
_BETWEEN: Final = 26.0
_MOST_CHIPS: Final = 16


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a unit and the heights of its pins, from its top. `front` is the top of the front card."""

    width: float
    height: float
    ins: Mapping[str, float]
    outs: Mapping[str, float]
    front: float = 0.0


def pin_indent(pin: InPin) -> float:
    """From the border to the name of an in-pin: signs for what triggers stand in between."""
    return 17.0 if pin.fires in ("alone", "together") else 10.0


def pin_note(pin: InPin) -> str:
    """What stands behind the name of an in-pin."""
    notes = [pin.value] if pin.value else []
    if pin.fires in ("sampled", "read"):
        notes.append("sampled" if pin.fires == "sampled" else "stream")
    if pin.feed == "nothing":
        notes.append("not fed")
    return ", ".join(notes)


def chips(unit: Unit) -> list[tuple[str, int | None]]:
    """The marks of the workers of a unit: a text and the worker of each."""
    if not unit.is_group:
        return [(str(each), each) for each in unit.workers]
    shown: list[tuple[str, int | None]] = [(str(each), each) for each in unit.workers[:_MOST_CHIPS]]
    if len(unit.workers) > _MOST_CHIPS:
        shown.append(("…", None))
    return shown


def mark_width(text: str) -> float:
    """The width of the label of a link."""
    return text_width(text, MARK_SIZE) + 10


def shape_of(unit: Unit, sketch: Sketch) -> Shape:
    """The shape of a unit."""
    title = text_width(unit.name, NAME_SIZE, bold=True)
    subtitle = text_width(component_text(unit), PIN_SIZE)
    marks = (len(chips(unit)) * (CHIP + 3)) if unit.workers else 0.0
    if unit.is_group:
        title += 10 + text_width(f"×{len(unit.members)}", NAME_SIZE, bold=True)
        subtitle = max(subtitle, marks)
    elif marks:
        title += 8 + marks
    rows = []
    for index in range(max(len(unit.ins), len(unit.outs))):
        left = right = 0.0
        if index < len(unit.ins):
            pin = unit.ins[index]
            note = pin_note(pin)
            left = pin_indent(pin) + text_width(pin.name, PIN_SIZE)
            left += text_width(f" {note}", PIN_SIZE) + 2 if note else 0.0
        if index < len(unit.outs):
            right = 10 + text_width(unit.outs[index].name, PIN_SIZE)
        rows.append(left + right + (_BETWEEN if left and right else _SIDE))
    front = STACK if unit.is_group else 0.0
    header = HEADER + (CHIP + 4 if unit.is_group and sketch.workers else 0.0)
    first = front + header + 4 + _ROW / 2
    return Shape(
        width=max(title + 2 * _SIDE, subtitle + 2 * _SIDE, *rows, 96.0),
        height=front + header + (len(rows) * _ROW + 8 if rows else 0.0),
        ins={pin.name: first + index * _ROW for index, pin in enumerate(unit.ins)},
        outs={pin.name: first + index * _ROW for index, pin in enumerate(unit.outs)},
        front=front,
    )


def component_text(unit: Unit) -> str:
    """The line under the name of a unit."""
    return f"{unit.component}, ordered" if unit.ordered else unit.component
