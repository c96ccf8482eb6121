"""Results as tables of text, which are Markdown as well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from bench.measure import UNITS, Key, Results, Spread
from bench.suites import CAPACITIES, TARGETS, Target

__all__ = ["outcome", "show"]

NOISY: Final = 0.05
"""Share of the measurements that may begin on a busy machine before all are called noisy."""


def show(results: Results) -> str:
    """Everything that was measured."""
    parts = ["\n".join(_head(results))]
    for title, metric in (
        ("Thousand items a second while items move", "rate"),
        ("Thousand items a second over the whole of `graph.run`, its start and end included", "whole"),
    ):
        rows = list(_rates(results, metric))
        if rows:
            parts.append(f"{title}\n\n" + _table(["", "", *(f"capacity {each}" for each in CAPACITIES)], rows))
    times = list(_times(results))
    if times:
        parts.append("Times and memory\n\n" + _table(["", "", "", "median of rounds", ""], times))
    targets = list(_targets(results))
    if targets:
        parts.append("Ratios and targets\n\n" + _table(["", "measured", "target", ""], targets))
    return "\n\n".join(parts) + "\n"


def _head(results: Results) -> Iterator[str]:
    machine = results.machine
    yield (
        f"cascata {machine['cascata']}, {machine['python']}, {machine['system']}, {machine['cpu']}, "
        f"{machine['cores']} cores, {machine['memory_gib']} GiB"
    )
    yield f"Median of {results.settings.rounds} interleaved rounds (lowest to highest)."
    noise = f"others kept the machine busy at the beginning of {results.noisy:.0%} of the measurements"
    if results.noisy > NOISY:
        noise += ": measure again, or wait for a quiet machine with --patience"
    yield f"Load before: {results.load_before[0]:.2f}; {noise}."


def _rates(results: Results, metric: str) -> Iterator[list[str]]:
    """A row for each thing and kind of items, a column for each capacity."""
    seen: set[tuple[str, str, str]] = set()
    for key, samples in results.samples.items():
        row = (key.suite, key.what, key.kind)
        if row in seen or not samples or metric not in samples[0]:
            continue
        seen.add(row)
        if key.capacity:
            found = [results.spread(Key(*row, capacity), metric) for capacity in CAPACITIES]
        else:
            found = [results.spread(key, metric)]
        cells = ["" if each is None else _thousands(each) for each in found]
        yield [f"{key.suite}, {key.what}", key.kind, *cells, *([""] * (len(CAPACITIES) - len(cells)))]


def _times(results: Results) -> Iterator[list[str]]:
    for key, samples in results.samples.items():
        for metric in samples[0] if samples and "rate" not in samples[0] else ():
            found = results.spread(key, metric)
            if found is not None:
                unit, factor = _unit(UNITS[metric], found.median)
                yield [key.suite, ", ".join(filter(None, (key.what, key.kind))), metric, _spread(found, factor), unit]


def _unit(base: str, median: float) -> tuple[str, float]:
    """The unit in which a value of this size is easy to read, and what to multiply it by."""
    if base.startswith("B"):
        return ("MiB", 2**-20) if base == "B" else ("GB/s", 1e-9)
    if base == "items/s":
        return "thousand items/s", 1e-3
    return next(((unit, factor) for unit, factor in (("s", 1.0), ("ms", 1e3)) if median * factor >= 1), ("µs", 1e6))


def _targets(results: Results) -> Iterator[list[str]]:
    for target in TARGETS:
        found = outcome(results, target)
        if found is None:
            continue
        asked, judged = "", ""
        for sign, bound, reached in (
            (">=", target.least, target.least is None or found.median >= target.least),
            ("<=", target.most, target.most is None or found.median <= target.most),
        ):
            if bound is not None:
                asked, judged = f"{sign} {bound:g}", "reached" if reached else "missed"
        yield [target.text, _spread(found), asked, judged]


def outcome(results: Results, target: Target) -> Spread | None:
    """What was measured of a target: a ratio, or a value; None when it was not measured."""
    if target.other is None:
        return results.spread(target.key, target.metric)
    return results.ratio(target.key, target.other, target.metric)


def _thousands(found: Spread) -> str:
    return f"{found.median / 1e3:,.0f} ({found.low / 1e3:,.0f} to {found.high / 1e3:,.0f})"


def _spread(found: Spread, factor: float = 1) -> str:
    """With three digits of the median."""
    digits = next((digits for digits, least in ((0, 100), (1, 10), (2, 1)) if found.median * factor >= least), 3)
    median, low, high = (f"{each * factor:.{digits}f}" for each in (found.median, found.low, found.high))
    return f"{median} ({low} to {high})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they must be; the first ones to the left, and figures to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    is_figure = [any(row[column][:1].isdigit() for row in rows) for column in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = (
            cell.rjust(width) if figure else cell.ljust(width)
            for cell, width, figure in zip(row, widths, is_figure, strict=True)
        )
        return f"| {' | '.join(cells)} |"

    rule = ("-" * (width - 1) + (":" if figure else "-") for width, figure in zip(widths, is_figure, strict=True))
    return "\n".join([line(head), f"| {' | '.join(rule)} |", *map(line, rows)])
