"""The picture as SVG: text only, no system package, for light and dark pages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from ..model import GraphSpec, Plan
from .labels import Label, labels
from .layout import Curve
from .metrics import PIN_SIZE, text_width
from .scene import Gate, Place, Scene, set_scene
from .shapes import CHIP, HEADER, STACK, Shape, chips, component_text, pin_indent, pin_note
from .sketch import Frame, InPin, Link, OutPin, Sketch, Unit, sketch
from .style import style_sheet, worker_colour

__all__ = ["svg"]

_MARGIN: Final = 20.0
_LEGEND: Final = 28.0
_NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def svg(spec: GraphSpec, plan: Plan | None = None) -> str:
    """Draws a graph.

    Args:
        spec: the resolved graph.
        plan: of this graph; nodes are coloured by worker.

    Returns:
        The text of an SVG picture. The same arguments give the same text.

    Raises:
        DefinitionError: the plan is of another graph.
    """
    drawn = sketch(spec, plan)
    return "\n".join(_picture(drawn, set_scene(drawn)))


def _picture(sketch: Sketch, scene: Scene) -> Iterable[str]:
    empty = not sketch.units
    legend, legend_width, legend_height = _legend(sketch, max(scene.width, 480.0))
    inner = max(scene.width, 100.0 if empty else 0.0, legend_width)
    width = _number(inner + 2 * _MARGIN)
    height = _number(scene.height + 2 * _MARGIN + legend_height)
    title = f"A graph of {len(sketch.units)} nodes and groups, and {len(sketch.links)} connections"
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="cascata" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label={_attribute(title)}>'
    )
    yield f"<style>{style_sheet()}</style>"
    yield f'<rect class="cascata-page" width="{width}" height="{height}" rx="10"/>'
    if empty:
        yield _text(_MARGIN, _MARGIN + 4, "an empty graph", "cascata-small cascata-soft")
        yield "</svg>"
        return
    yield f'<g transform="translate({_number(_MARGIN + (inner - scene.width) / 2)} {_number(_MARGIN)})">'
    for name in sketch.frames:
        yield from _frame(sketch.frames[name], scene.frames[name])
    for number, link in enumerate(sketch.links):
        yield from _link(link, scene.curves[number])
    for gate in scene.gates:
        yield from _gate(gate)
    for name, unit in sketch.units.items():
        yield from _unit(unit, scene.shapes[name], scene.units[name])
    for label in labels(sketch, scene):
        yield from _label(label)
    yield "</g>"
    if legend:
        yield f'<g transform="translate({_number(_MARGIN)} {_number(scene.height + _MARGIN + 16)})">{legend}</g>'
    yield "</svg>"


# ── text ──────────────────────────────────────────────────────────────────────────────────────────────────


def _number(value: float) -> str:
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def _clean(text: str) -> str:
    """Without the characters that no XML can hold."""
    return _NOT_XML.sub("\ufffd", text)


def _attribute(text: str) -> str:
    return quoteattr(_clean(text))


def _text(x: float, y: float, text: str, classes: str, anchor: str = "start") -> str:
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{_number(x)}" y="{_number(y)}" class="{classes}"{where}>{escape(_clean(text))}</text>'


def _title(text: str) -> str:
    return f"<title>{escape(_clean(text))}</title>" if text else ""


# ── frames ────────────────────────────────────────────────────────────────────────────────────────────────


def _frame(frame: Frame, at: Place) -> Iterable[str]:
    yield (
        f'<rect class="cascata-frame" x="{_number(at.x)}" y="{_number(at.y)}" width="{_number(at.width)}" '
        f'height="{_number(at.height)}" rx="10" stroke-dasharray="2 3">{_title(f"{frame.name}: a subgraph")}</rect>'
    )
    yield _text(at.x + 12, at.y + 18, frame.name, "cascata-small cascata-strong cascata-soft")


def _gate(gate: Gate) -> Iterable[str]:
    yield f'<circle class="cascata-tip" cx="{_number(gate.x)}" cy="{_number(gate.y)}" r="2.5"/>'
    if gate.text:
        x, anchor = (gate.x + 8, "start") if gate.side == "entry" else (gate.x - 8, "end")
        yield _text(x, gate.y - 4, gate.text, "cascata-mark cascata-soft", anchor)


# ── links ─────────────────────────────────────────────────────────────────────────────────────────────────


def _way(curves: Sequence[Curve]) -> str:
    start = curves[0]
    parts = [f"M{_number(start.x0)} {_number(start.y0)}"]
    for each in curves:
        if each.y0 == each.y1 == each.y2 == each.y3:
            parts.append(f"H{_number(each.x3)}")
        else:
            parts.append(f"C{' '.join(map(_number, each[2:]))}")
    return "".join(parts)


def _link(link: Link, curves: Sequence[Curve]) -> Iterable[str]:
    way = _way(curves)
    x, y = curves[-1].x3, curves[-1].y3
    tip = f"M{_number(x - 11)} {_number(y - 4)}L{_number(x - 3)} {_number(y)}L{_number(x - 11)} {_number(y + 4)}z"
    colour = "" if link.worker is None else f' style="stroke:{worker_colour(link.worker)}"'
    fill = colour.replace("stroke", "fill")
    sampled = " cascata-sampled" if link.sampled else ""
    yield (
        f'<g class="cascata-link">{_title(link.hint)}<path class="cascata-near" d="{way}"/>'
        f'<path class="cascata-wire{sampled}" d="{way}"{colour}/><path class="cascata-tip" d="{tip}"{fill}/></g>'
    )


def _label(label: Label) -> Iterable[str]:
    x, y = label.x - label.width / 2, label.y - 8
    size = f'width="{_number(label.width)}" height="16"'
    yield f'<rect class="cascata-label" x="{_number(x)}" y="{_number(y)}" {size} rx="8"/>'
    yield _text(label.x, label.y + 3.5, label.text, "cascata-mark cascata-text", "middle")


# ── units ─────────────────────────────────────────────────────────────────────────────────────────────────


def _unit(unit: Unit, shape: Shape, at: Place) -> Iterable[str]:
    colour = "" if unit.worker is None else worker_colour(unit.worker)
    stroke = f' style="stroke:{colour}"' if colour else ""
    top = at.y + shape.front
    height = at.height - shape.front
    yield f"<g>{_title(unit.hint)}"
    if unit.is_group:
        for step in (2, 1):
            inset = 5.0 * step
            yield (
                f'<rect class="cascata-card" x="{_number(at.x + inset)}" y="{_number(top - step * STACK / 2)}" '
                f'width="{_number(at.width - 2 * inset)}" height="30" rx="6"{stroke}/>'
            )
    size = f'x="{_number(at.x)}" y="{_number(top)}" width="{_number(at.width)}"'
    yield f'<rect class="cascata-card" {size} height="{_number(height)}" rx="6"{stroke}/>'
    if colour:
        yield f'<rect {size} height="{_number(height)}" rx="6" fill="{colour}" fill-opacity="0.14"/>'
    yield _text(at.x + 12, top + 18, unit.name, "cascata-name cascata-text")
    yield _text(at.x + 12, top + 34, component_text(unit), "cascata-small cascata-soft")
    header = HEADER
    if unit.is_group:
        count = f"×{len(unit.members)}"
        yield _text(at.x + at.width - 12, top + 18, count, "cascata-name cascata-count", "end")
    if unit.workers:
        marks = chips(unit)
        x = at.x + 12 if unit.is_group else at.x + at.width - 8 - CHIP
        yield from _chips(marks, x, top + (HEADER if unit.is_group else 7))
        header += CHIP + 4 if unit.is_group else 0
    if unit.ins or unit.outs:
        rule = f'x1="{_number(at.x)}" x2="{_number(at.x + at.width)}" y1="{_number(top + header)}"'
        yield f'<line class="cascata-rule" {rule} y2="{_number(top + header)}"/>'
    yield "</g>"
    yield from _brackets(unit, shape, at)
    for pin in unit.ins:
        yield from _inpin(pin, at.x, at.y + shape.ins[pin.name])
    for out in unit.outs:
        yield from _outpin(out, at.x + at.width, at.y + shape.outs[out.name])


def _chips(marks: Sequence[tuple[str, int | None]], x: float, y: float) -> Iterable[str]:
    for text, worker in marks:
        fill = worker_colour(worker) if worker is not None else "none"
        hint = _title(f"worker {worker}") if worker is not None else ""
        size = f'width="{CHIP:g}" height="{CHIP:g}"'
        yield f'<rect x="{_number(x)}" y="{_number(y)}" {size} rx="4" fill="{fill}">{hint}</rect>'
        paint = ' fill="#ffffff"' if worker is not None else ' class="cascata-soft"'
        yield (
            f'<text x="{_number(x + CHIP / 2)}" y="{_number(y + 11.2)}" font-size="10" font-weight="600" '
            f'text-anchor="middle"{paint}>{text}</text>'
        )
        x += CHIP + 3


def _brackets(unit: Unit, shape: Shape, at: Place) -> Iterable[str]:
    """A line along the pins that trigger together, when there are several such groups or sampled pins."""
    together: dict[int, list[float]] = {}
    for pin in unit.ins:
        if pin.fires == "together":
            together.setdefault(pin.zip, []).append(at.y + shape.ins[pin.name])
    for index, heights in enumerate(together.values()):
        x = at.x + 8 + 3 * index
        ticks = "".join(f"M{_number(at.x + 4)} {_number(y)}H{_number(x)}" for y in heights)
        yield f'<path class="cascata-sign" d="M{_number(x)} {_number(heights[0])}V{_number(heights[-1])}{ticks}"/>'


def _inpin(pin: InPin, x: float, y: float) -> Iterable[str]:
    looks = {"value": "idle", "nothing": "unfed"}.get(pin.feed, "ring" if pin.fires == "sampled" else "pin")
    yield f"<g>{_title(pin.hint)}"
    yield _dot(x, y, looks)
    if pin.fires == "alone":
        yield f'<path class="cascata-sign" d="M{_number(x + 6)} {_number(y - 4.5)}l7 4.5l-7 4.5"/>'
    name = x + pin_indent(pin)
    yield _text(name, y + 4, pin.name, "cascata-small cascata-text")
    note = pin_note(pin)
    if note:
        warning = "cascata-warning" if pin.feed == "nothing" else "cascata-soft"
        yield _text(name + text_width(f"{pin.name} ", PIN_SIZE) + 2, y + 4, note, f"cascata-small {warning}")
    yield "</g>"


def _outpin(pin: OutPin, x: float, y: float) -> Iterable[str]:
    hint = pin.hint if pin.connected else f"{pin.hint}: not connected, what is sent to it is discarded"
    yield f"<g>{_title(hint)}"
    yield _dot(x, y, "pin" if pin.connected else "idle")
    yield _text(x - 10, y + 4, pin.name, f"cascata-small {'cascata-text' if pin.connected else 'cascata-soft'}", "end")
    yield "</g>"


def _dot(x: float, y: float, looks: str) -> str:
    return f'<circle class="cascata-{looks}" cx="{_number(x)}" cy="{_number(y)}" r="4" stroke-width="1.5"/>'


def _legend(sketch: Sketch, widest: float) -> tuple[str, float, float]:
    """The colours of the workers, in lines; its width and height."""
    parts = []
    x = y = width = 0.0
    for worker in range(sketch.workers):
        text = f"worker {worker}"
        room = 16 + text_width(text, PIN_SIZE)
        if x and x + room > widest:
            x, y = 0.0, y + 18
        colour = f'rx="3" fill="{worker_colour(worker)}"'
        parts.append(f'<rect x="{_number(x)}" y="{_number(y + 2)}" width="11" height="11" {colour}/>')
        parts.append(_text(x + 16, y + 11, text, "cascata-small cascata-soft"))
        width = max(width, x + room)
        x += room + 18
    return "".join(parts), width, y + _LEGEND if parts else 0.0
