"""Random acyclic graphs give exactly what a simple model of them says, inline and on one, two and three workers.

Here a few dozen examples are tried, always the same ones. To look for more, give it seconds:

    CASCATA_GRAPHS_S=180 python -m pytest tests/language/test_random_graphs.py -s --timeout=0 -o faulthandler_timeout=0

Each of the two tests then goes on with new examples for so long, and tells how many it has tried. A failing
example is made as small as can be, and printed. `CASCATA_GRAPHS_SEED` repeats a search.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, seed, settings
from hypothesis import strategies as st

from tests.engine.parts import Notes
from tests.language.shapes import GROUPED, PORTS, Batch, Edge, Kind, Shape, Step, build, problems

SEARCH_S = float(os.environ.get("CASCATA_GRAPHS_S", "0"))
TIMEOUT_S = 15
"""Seconds for one run, which takes a tenth of one: what passes them hangs."""

KINDS: list[Kind] = [*PORTS]
ALL: Batch = "all"


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Graphs of 2 to 12 steps."""
    steps: list[Step] = []
    count = draw(st.integers(2, 12))
    while len(steps) < count:
        kind: Kind = draw(st.sampled_from(KINDS)) if steps else "source"
        steps.append(draw(step_after(tuple(steps), kind)))
    return Shape(tuple(steps), draw(st.booleans()), draw(st.integers(1, 3)))


@st.composite
def step_after(draw: st.DrawFn, steps: tuple[Step, ...], kind: Kind) -> Step:
    """A step that is fed by those before it."""
    number = draw(st.integers(0, 30) if kind == "source" else st.integers(1, 4))
    size = draw(st.none() | st.integers(1, 3)) if kind in GROUPED else None
    feeds = {port: draw(feeds_of(steps, kind, size)) for port in PORTS[kind][0]}
    ordered = size is not None and draw(st.booleans()) and may_be_ordered(steps, size, feeds["inp"])
    return Step(kind, number, draw(st.integers(1, 8)), size, ordered, feeds, draw(st.none() | st.integers(0, 2)))


def may_be_ordered(steps: tuple[Step, ...], size: int, edges: tuple[Edge, ...]) -> bool:
    """One stream for all members, and not wired to them one by one."""
    return not any(edge.broadcast or (steps[edge.step].size or 1) == size for edge in edges)


@st.composite
def feeds_of(draw: st.DrawFn, steps: tuple[Step, ...], kind: Kind, size: int | None) -> tuple[Edge, ...]:
    """One or two edges into an in-port."""
    outs = [
        (index, port)
        for index, step in enumerate(steps)
        for port in PORTS[step.kind][1]
        if not (step.ordered and size is not None and step.size == size)  # would be wired member to member
        and not (step.ordered and step.size == 1 and size is None)
    ]
    chosen = draw(st.lists(st.sampled_from(outs), min_size=1, max_size=2, unique=True))
    edges = []
    for step, port in chosen:
        batch: Batch = draw(st.none() | st.integers(1, 20) | st.sampled_from([ALL])) if kind in GROUPED else None
        broadcast = size is not None and batch is None and draw(st.integers(0, 3)) == 0
        if broadcast and steps[step].ordered:
            broadcast = False
        edges.append(Edge(step, port, batch, broadcast))
    return tuple(edges)


def run(shape: Shape, options: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        notes = Notes(str(Path(folder) / "notes"))
        on_workers: dict[str, Any] = {} if options else {"num_workers": shape.workers}
        graph = build(shape, notes, pins=bool(on_workers))
        report = graph.run(**options, **on_workers, timeout=TIMEOUT_S)
        assert problems(shape, notes.read()) == []
        assert [edge for edge in report.edges if not edge.balanced] == []


def tried(examples: int, options: dict[str, Any], seed_: int) -> int:
    """Tries so many examples: those of a seed, or without one (0) always the same. Returns how many it were."""
    count = 0

    @seed(seed_)
    @settings(
        max_examples=examples,
        derandomize=not seed_,
        database=None,
        deadline=None,
        suppress_health_check=[*HealthCheck],
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )
    @given(shapes())
    @example(RECONVERGENT)
    def any_graph(shape: Shape) -> None:
        nonlocal count
        count += 1
        run(shape, options)

    any_graph()
    return count


RECONVERGENT = Shape(
    (
        Step("source", 30),
        Step("filter", 4, 1, None, False, {"inp": (Edge(0, "out"),)}),
        Step("zip", 1, 1, None, False, {"inp": (Edge(1, "out"),), "other": (Edge(0, "out"),)}),
    )
)
"""Needs more room than it has."""


@pytest.mark.parametrize(
    ("options", "examples"),
    [({"engine": "inline"}, 70), ({}, 25)],
    ids=["inline", "1 to 3 workers"],
)
def test_any_graph_gives_what_its_model_says(options: dict[str, Any], examples: int) -> None:
    if not SEARCH_S:
        tried(examples, options, 0)
        return
    until = time.monotonic() + SEARCH_S
    given_seed = os.environ.get("CASCATA_GRAPHS_SEED")
    count = 0
    while time.monotonic() < until:
        seed_ = int(given_seed or random.randrange(1, 2**32))
        print(f"{count} graphs tried; CASCATA_GRAPHS_SEED={seed_} comes next", flush=True)
        count += tried(50, options, seed_)
