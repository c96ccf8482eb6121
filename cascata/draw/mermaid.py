"""The picture as a Mermaid flowchart, which many hosts of Markdown draw."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from ..model import GraphSpec, Plan
from .shapes import component_text, pin_note
from .sketch import Link, Sketch, Unit, sketch
from .style import worker_colour

__all__ = ["to_mermaid"]

_SPECIAL: Final = re.compile(r"[^\w .,:=+\-*/×→…()']")
"""What could mean something to Mermaid, Markdown or HTML within a quoted label."""


def to_mermaid(spec: GraphSpec, plan: Plan | None = None) -> str:
    """The graph as a Mermaid flowchart.

    Args:
        spec: the resolved graph.
        plan: of this graph; nodes are coloured by worker.

    Raises:
        DefinitionError: the plan is of another graph.
    """
    drawn = sketch(spec, plan)
    # Numbers, since names of nodes may be words of Mermaid's own (`end`), which break the picture.
    number = {name: f"n{index}" for index, name in enumerate(drawn.units)}
    lines = ["flowchart LR", *_inside(drawn, None, number, "  "), *(_link(each, number) for each in drawn.links)]
    for worker in range(drawn.workers):
        colour = worker_colour(worker)
        lines.append(f"  classDef w{worker} stroke:{colour},fill:{colour}33")
        inside = [number[name] for name, unit in drawn.units.items() if unit.worker == worker]
        if inside:
            lines.append(f"  class {','.join(inside)} w{worker}")
    return "\n".join([*lines, ""])


def _text(text: str) -> str:
    """A text within a quoted label: what is special goes by its number."""
    return _SPECIAL.sub(lambda found: f"#{ord(found[0])};", text)


def _inside(sketch: Sketch, frame: str | None, number: Mapping[str, str], indent: str) -> Iterable[str]:
    for name, unit in sketch.units.items():
        if unit.frame == frame:
            left, right = ("[[", "]]") if unit.is_group else ("[", "]")
            yield f'{indent}{number[name]}{left}"{_label(unit)}"{right}'
    for index, (name, each) in enumerate(sketch.frames.items()):
        if each.parent == frame:
            yield f'{indent}subgraph s{index}["{_text(name)}"]'
            yield f"{indent}  direction LR"
            yield from _inside(sketch, name, number, f"{indent}  ")
            yield f"{indent}end"


def _label(unit: Unit) -> str:
    """Name and component, then the ports that no link names."""
    size = f" ×{len(unit.members)}" if unit.is_group else ""
    lines = [f"<b>{_text(unit.name)}</b>{size}", _text(component_text(unit))]
    if unit.workers:
        lines.append(f"worker {', '.join(map(str, dict.fromkeys(unit.workers)))}")
    for pin in unit.ins:
        notes = [pin_note(pin)] if pin_note(pin) else []
        if pin.fires == "alone":
            notes.append("clk")
        elif pin.fires == "together":
            notes.append(f"sync {pin.zip + 1}")
        if notes:
            lines.append(f"{_text(pin.name)} {_text(', '.join(notes))}")
    lines += [f"{_text(pin.name)} → (nothing)" for pin in unit.outs if not pin.connected]
    return "<br/>".join(lines)


def _link(link: Link, number: Mapping[str, str]) -> str:
    text = " ".join((f"{link.source.port} → {link.target.port}", *link.marks))
    arrow = "-.->" if link.sampled else "-->"
    return f'  {number[link.source.node]} {arrow}|"{_text(text)}"| {number[link.target.node]}'
