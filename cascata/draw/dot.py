"""The picture in the language of Graphviz, for who has it: `dot -Tsvg graph.dot`."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final

from ..model import GraphSpec, Plan
from .shapes import component_text, pin_note
from .sketch import InPin, Sketch, Unit, sketch
from .style import LIGHT, worker_colour

__all__ = ["to_dot"]

_HEAD: Final = (
    "  rankdir=LR; nodesep=0.35; ranksep=0.8;",
    f'  graph [fontname="Helvetica", fontsize=11, color="{LIGHT["edge"]}", fontcolor="{LIGHT["soft"]}"];',
    '  node [shape=plain, fontname="Helvetica", fontsize=11];',
    f'  edge [fontname="Helvetica", fontsize=10, color="{LIGHT["wire"]}", fontcolor="{LIGHT["soft"]}", arrowsize=0.7];',
)


def to_dot(spec: GraphSpec, plan: Plan | None = None) -> str:
    """The graph as text for Graphviz.

    Args:
        spec: the resolved graph.
        plan: of this graph; nodes are coloured by worker.

    Raises:
        DefinitionError: the plan is of another graph.
    """
    drawn = sketch(spec, plan)
    return "\n".join(["digraph cascata {", *_HEAD, *_inside(drawn, None, "  "), *_links(drawn), "}", ""])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _inside(sketch: Sketch, frame: str | None, indent: str) -> Iterable[str]:
    for name, unit in sketch.units.items():
        if unit.frame == frame:
            yield f"{indent}{_quoted(name)} [tooltip={_quoted(unit.hint)}, label=<{_table(unit)}>];"
    for name, each in sketch.frames.items():
        if each.parent == frame:
            yield f"{indent}subgraph {_quoted(f'cluster_{name}')} {{"
            yield f"{indent}  label={_quoted(name)}; style=rounded;"
            yield from _inside(sketch, name, f"{indent}  ")
            yield f"{indent}}}"


def _table(unit: Unit) -> str:
    """A table: the name, then a row for each pair of pins, whose cells are ports of the Graphviz node."""
    title = f"<B>{escape(unit.name)}</B>"
    if unit.is_group:
        title += f' <FONT COLOR="{LIGHT["live"]}"><B>×{len(unit.members)}</B></FONT>'
    below = component_text(unit)
    if unit.workers:
        below += f", worker {', '.join(map(str, dict.fromkeys(unit.workers)))}"
    subtitle = f'<FONT COLOR="{LIGHT["soft"]}">{escape(below)}</FONT>'
    rows = [f'<TR><TD COLSPAN="2" ALIGN="LEFT">{title}<BR ALIGN="LEFT"/>{subtitle}<BR ALIGN="LEFT"/></TD></TR>']
    for index in range(max(len(unit.ins), len(unit.outs))):
        left = _inpin(unit.ins[index]) if index < len(unit.ins) else "<TD></TD>"
        right = "<TD></TD>"
        if index < len(unit.outs):
            pin = unit.outs[index]
            right = f'<TD ALIGN="RIGHT" PORT="out_{escape(pin.name)}">{escape(pin.name)}</TD>'
        rows.append(f"<TR>{left}{right}</TR>")
    colour = LIGHT["edge"] if unit.worker is None else worker_colour(unit.worker)
    table = (
        f'<TABLE BORDER="1" CELLBORDER="0" CELLSPACING="0" CELLPADDING="4" STYLE="ROUNDED" COLOR="{colour}" '
        f'BGCOLOR="{LIGHT["card"]}">{"".join(rows)}</TABLE>'
    )
    if not unit.is_group:
        return table
    return (  # a second border, as Graphviz knows no stack
        f'<TABLE BORDER="1" CELLBORDER="0" CELLSPACING="2" CELLPADDING="0" STYLE="ROUNDED" COLOR="{colour}">'
        f"<TR><TD>{table}</TD></TR></TABLE>"
    )


def _inpin(pin: InPin) -> str:
    note = pin_note(pin)
    if pin.fires == "alone":
        note = f"{note}, clk" if note else "clk"
    elif pin.fires == "together":
        note = f"{note}, sync {pin.zip + 1}" if note else f"sync {pin.zip + 1}"
    text = escape(pin.name)
    if note:
        text += f' <FONT COLOR="{LIGHT["soft"]}">{escape(note)}</FONT>'
    return f'<TD ALIGN="LEFT" PORT="in_{escape(pin.name)}">{text}</TD>'


def _links(sketch: Sketch) -> Iterable[str]:
    for link in sketch.links:
        attributes = [f"tooltip={_quoted(link.hint)}"]
        if link.marks:
            attributes.append(f"label={_quoted(' '.join(link.marks))}")
        if link.sampled:
            attributes.append("style=dashed")
        if link.worker is not None:
            attributes.append(f'color="{worker_colour(link.worker)}"')
        ends = (
            f"{_quoted(link.source.node)}:{_quoted(f'out_{link.source.port}')}:e",
            f"{_quoted(link.target.node)}:{_quoted(f'in_{link.target.port}')}:w",
        )
        yield f"  {' -> '.join(ends)} [{', '.join(attributes)}];"
