"""The benchmark runs to its end and says everything that it promises. How fast anything was is not looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"
CAPACITIES = {1, 10, 100, 1000}


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What the quick form prints and writes, with hardly any items."""
    file = tmp_path_factory.mktemp("bench") / "figures.json"
    done = subprocess.run(
        [sys.executable, BENCH / "run.py", "--quick", "--items", "50", "--rounds", "2", "--json", file],
        capture_output=True,
        text=True,
        cwd=file.parent,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return done.stdout, figures


def measured(figures: dict[str, Any], suite: str, what: str, kind: str = "") -> dict[int, dict[str, Any]]:
    """capacity -> metrics"""
    found = {}
    for case in figures["cases"]:
        if (case["suite"], case["what"], case["kind"]) == (suite, what, kind):
            found[case["capacity"]] = case["metrics"]
    return found


@pytest.mark.parametrize(
    "what", ["inline", "1 worker", "2 workers", "map with sink", "map with source", "asyncio.Queue"]
)
def test_the_whole_graph_and_its_baseline_are_measured_at_every_capacity(
    quick: tuple[str, dict[str, Any]], what: str
) -> None:
    assert set(measured(quick[1], "graph", what, "ints")) == CAPACITIES
    assert 100 in measured(quick[1], "graph", what, "dicts")


@pytest.mark.parametrize("what", ["cascata", "multiprocessing.Queue"])
def test_one_crossing_edge_and_its_baseline_are_measured_at_every_capacity(
    quick: tuple[str, dict[str, Any]], what: str
) -> None:
    assert set(measured(quick[1], "edge", what, "ints")) == CAPACITIES
    assert 100 in measured(quick[1], "edge", what, "dicts")


@pytest.mark.parametrize("suite", ["delay", "round trip"])
def test_delays_are_measured_against_a_process_queue(quick: tuple[str, dict[str, Any]], suite: str) -> None:
    for what in ("cascata", "multiprocessing.Queue"):
        (metrics,) = measured(quick[1], suite, what).values()
        assert 0 < metrics["median"]["median"] <= metrics["p99"]["median"]


def test_start_up_and_import_are_measured_in_whole_processes(quick: tuple[str, dict[str, Any]]) -> None:
    (start,) = measured(quick[1], "start", "two nodes on two workers").values()
    assert 0 < start["run"]["median"] < start["process"]["median"]
    (imported,) = measured(quick[1], "import", "cascata").values()
    assert set(imported) == {"bare", "process", "added"}


def test_every_figure_has_its_unit_and_its_spread_over_the_rounds(quick: tuple[str, dict[str, Any]]) -> None:
    for case in quick[1]["cases"]:
        for values in case["metrics"].values():
            assert values["unit"] in {"items/s", "s"}
            assert len(values["rounds"]) == 2
            assert values["low"] == min(values["rounds"])
            assert values["high"] == max(values["rounds"])
            assert values["low"] <= values["median"] <= values["high"]


def test_the_figures_say_on_what_machine_and_how_quiet_it_was(quick: tuple[str, dict[str, Any]]) -> None:
    _, figures = quick
    assert set(figures["machine"]) == {"system", "cpu", "cores", "memory_gib", "python", "cascata"}
    assert len(figures["load_before"]) == 3
    assert all(len(case["others_busy"]) == 2 for case in figures["cases"])


def test_ratios_stand_beside_their_targets(quick: tuple[str, dict[str, Any]]) -> None:
    text, figures = quick
    asked = {target["text"]: target for target in figures["targets"]}
    assert asked["crossing edge, ints, capacity 100, against multiprocessing.Queue"]["least"] == 8
    assert asked["whole graph, 2 workers, ints, capacity 100, against one multiprocessing.Queue"]["least"] == 4
    assert asked["import over bare Python, in seconds"]["most"] == 0.06
    for target in asked:
        assert f"| {target} " in text


def test_a_number_of_rounds_that_measures_nothing_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, BENCH / "run.py", "--rounds", "0"], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert "--rounds must be at least 1" in done.stderr
