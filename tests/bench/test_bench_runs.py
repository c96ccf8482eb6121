"""The benchmark runs to its end and says everything that it promises. How fast anything was is not looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.measure import Case, Key, Settings, Spread, measure

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("bench")]
"""It runs dozens of graphs one after the other: half a minute, and more while others keep the machine busy. Once: all
of these tests look at the same figures."""

BENCH = Path(__file__).parents[2] / "bench"
CAPACITIES = {1, 10, 100, 1000}


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What the quick form prints and writes, with hardly any items."""
    file = tmp_path_factory.mktemp("bench") / "figures.json"
    done = subprocess.run(
        [sys.executable, BENCH / "run.py", "--quick", "--items", "50", "--rounds", "1", "--json", file],
        capture_output=True,
        text=True,
        cwd=file.parent,
        timeout=170,
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


@pytest.mark.parametrize("shape", ["1 to 1", "2 to 1", "1 to 2", "2 to 2", "chain of 5", "fan-out of 4", "group of 2"])
def test_graphs_of_every_shape_are_measured(quick: tuple[str, dict[str, Any]], shape: str) -> None:
    (metrics,) = measured(quick[1], "topology", shape, "ints").values()
    assert metrics["rate"]["median"] > 0


def test_memory_components_shares_and_cores_are_measured(quick: tuple[str, dict[str, Any]]) -> None:
    for suite, what, metric in (
        ("memory", "worker", "memory"),
        ("memory", "bare process", "memory"),
        ("another component", "in a chain of one worker", "item"),
        ("another component", "at the start", "component"),
        ("sharing", "one of three members ten times slower", "span"),
        ("sharing", "ideal", "span"),
        ("census", "one worker", "process"),
        ("census", "two workers", "process"),
        ("census", "two bare processes", "process"),
    ):
        (metrics,) = measured(quick[1], suite, what).values()
        assert set(metrics) == {metric}


@pytest.mark.parametrize("what", ["memcpy", "cascata, array", "cascata, bytes", "multiprocessing.Pipe"])
def test_large_arrays_are_measured_beside_a_copy(quick: tuple[str, dict[str, Any]], what: str) -> None:
    (metrics,) = measured(quick[1], "arrays", what, "1 MiB").values()
    assert metrics["speed"]["median"] > 0


def test_figures_can_be_drawn(quick: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    figures = tmp_path / "figures.json"
    figures.write_text(json.dumps(quick[1]), encoding="utf-8")
    command = [sys.executable, *map(str, (BENCH / "plot.py", figures, tmp_path / "figures.png"))]
    subprocess.run(command, check=True, timeout=50)  # matplotlib keeps its fonts open as long as it lives
    assert (tmp_path / "figures.png").read_bytes().startswith(b"\x89PNG")


def test_every_figure_has_its_unit_and_every_round(quick: tuple[str, dict[str, Any]]) -> None:
    for case in quick[1]["cases"]:
        assert case["items"] == 50
        for values in case["metrics"].values():
            assert values["unit"] in {"items/s", "s", "B", "B/s"}
            assert values["rounds"] == [values["low"]] == [values["median"]] == [values["high"]]


def test_the_figures_say_on_what_machine_and_how_quiet_it_was(quick: tuple[str, dict[str, Any]]) -> None:
    _, figures = quick
    assert set(figures["machine"]) == {"system", "cpu", "cores", "memory_gib", "python", "cascata"}
    assert len(figures["load_before"]) == 3
    assert all(0 <= busy <= 1 for case in figures["cases"] for busy in case["others_busy"])


def test_ratios_stand_beside_their_targets(quick: tuple[str, dict[str, Any]]) -> None:
    text, figures = quick
    asked = {target["text"]: target for target in figures["targets"]}
    assert asked["crossing edge, ints, capacity 100, against multiprocessing.Queue"]["least"] == 10
    assert asked["whole graph, 2 workers, ints, capacity 100, against one multiprocessing.Queue"]["least"] == 4
    assert asked["import over bare Python, in seconds"]["most"] == 0.06
    for target in asked:
        assert f"| {target} " in text


class Script:
    """A case that takes what it is told to, and notes when it is measured."""

    def __init__(self, name: str, rates: list[float], order: list[str]) -> None:
        self.key = Key("suite", name)
        self.rates = [0.0, *rates]  # the first is the warm-up's
        self.order = order
        self.asked: list[int] = []

    def take(self, items: int) -> dict[str, float]:
        self.order.append(self.key.what)
        self.asked.append(items)
        return {"rate": self.rates[len(self.asked) - 1]}


def test_cases_are_measured_in_turn_and_every_second_round_backwards() -> None:
    order: list[str] = []
    cases = [Case(each.key, each.take, 10) for each in (Script(name, [1.0, 1.0, 1.0], order) for name in "abc")]
    measure(cases, Settings(rounds=3, seconds=1.0), lambda _: None)
    assert "".join(order) == "abc" + "abc" + "cba" + "abc"


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    mine, theirs = Script("mine", [10.0, 40.0, 90.0], []), Script("theirs", [10.0, 20.0, 10.0], [])
    cases = [Case(each.key, each.take, 10) for each in (mine, theirs)]
    results = measure(cases, Settings(rounds=3, seconds=1.0), lambda _: None)
    assert results.spread(mine.key, "rate") == Spread(40.0, 10.0, 90.0)
    assert results.ratio(mine.key, theirs.key, "rate") == Spread(2.0, 1.0, 9.0)
    assert results.ratio(mine.key, Key("suite", "not measured"), "rate") is None


def test_the_warm_up_sizes_a_case_by_its_rate() -> None:
    fast, slow = Script("fast", [1.0], []), Script("slow", [1.0], [])
    fast.rates[0], slow.rates[0] = 50_000.0, 3.0
    cases = [Case(each.key, each.take, 1000) for each in (fast, slow)]
    measure(cases, Settings(rounds=1, seconds=0.5), lambda _: None)
    assert fast.asked == [1000, 25_000]
    assert slow.asked == [1000, 1000]


def test_a_number_of_rounds_that_measures_nothing_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, BENCH / "run.py", "--rounds", "0"], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert "--rounds must be at least 1" in done.stderr
