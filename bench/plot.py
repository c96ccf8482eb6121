"""What was measured, as a picture: throughput by capacity, by the shape of the graph, and arrays by size.

python bench/plot.py FIGURES.json PICTURE.png
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

__all__ = ["draw"]

LINES: Final = (
    ("One crossing edge, ints", (("edge", "cascata"), ("edge", "multiprocessing.Queue"))),
    (
        "Source, map and sink, ints",
        (
            ("graph", "2 workers"),
            ("graph", "1 worker"),
            ("graph", "asyncio.Queue"),
            ("peers", "cascata 0.1.8"),
        ),
    ),
)
"""Titles of the panels of throughput by capacity, and (suite, what) of their lines."""


def draw(figures: Mapping[str, Any], path: Path) -> None:
    """Draws figures in the form of `run.py --json` to a PNG file.

    Raises:
        SystemExit: matplotlib is missing; says how to get it.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SystemExit('a picture needs matplotlib: pip install -e ".[bench]"') from None

    panels = [*LINES, ("Shapes of graphs, ints, capacity 100", ()), ("Arrays", ())]
    figure = Figure(figsize=(12, 8), layout="constrained")
    axes = figure.subplots(2, 2).flat
    for (title, lines), axis in zip(panels, axes, strict=True):
        axis.set_title(title)
        if lines:
            _lines(axis, figures["cases"], lines)
        elif title == "Arrays":
            _arrays(axis, figures["cases"])
        else:
            _bars(axis, figures["cases"])
    machine = figures["machine"]
    figure.suptitle(f"cascata {machine['cascata']}, {machine['python']}, {machine['cores']} cores: {machine['cpu']}")
    figure.savefig(path, dpi=110)


def _found(cases: Sequence[Mapping[str, Any]], suite: str, what: str, kind: str) -> list[Mapping[str, Any]]:
    return [case for case in cases if (case["suite"], case["what"], case["kind"]) == (suite, what, kind)]


def _lines(axis: Any, cases: Sequence[Mapping[str, Any]], lines: Sequence[tuple[str, str]]) -> None:
    for suite, what in lines:
        found = sorted(_found(cases, suite, what, "ints"), key=lambda case: case["capacity"])
        if found:
            rates = [case["metrics"]["rate"] for case in found]
            middle = [rate["median"] for rate in rates]
            errors = [
                [rate["median"] - rate["low"] for rate in rates],
                [rate["high"] - rate["median"] for rate in rates],
            ]
            axis.errorbar([case["capacity"] for case in found], middle, errors, label=what, marker="o", capsize=3)
    axis.set(xscale="log", yscale="log", xlabel="capacity", ylabel="items a second")
    axis.grid(alpha=0.3)
    if axis.get_legend_handles_labels()[0]:
        axis.legend()


def _bars(axis: Any, cases: Sequence[Mapping[str, Any]]) -> None:
    found = [case for case in cases if case["suite"] == "topology"][::-1]
    theirs = ["multiprocessing" in case["what"] or "aioprocessing" in case["what"] for case in found]
    axis.barh(
        [case["what"] for case in found],
        [case["metrics"]["rate"]["median"] for case in found],
        color=["tab:orange" if other else "tab:blue" for other in theirs],
    )
    axis.set(xscale="log", xlabel="items a second")


def _arrays(axis: Any, cases: Sequence[Mapping[str, Any]]) -> None:
    """One line for each way of moving arrays. Their sizes are the kinds of the cases, in the order of measuring."""
    for name in dict.fromkeys(case["what"] for case in cases if case["suite"] == "arrays"):
        found = [case for case in cases if case["suite"] == "arrays" and case["what"] == name]
        speeds = [case["metrics"]["speed"]["median"] / 1e9 for case in found]
        axis.plot([case["kind"] for case in found], speeds, label=name, marker="o")
    axis.set(yscale="log", xlabel="an array", ylabel="GB a second")
    axis.grid(alpha=0.3)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
