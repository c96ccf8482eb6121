"""`Task.map`: one task over all data, results in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from cascata.errors import ComponentError, DefinitionError
from cascata.workflow import ResultsCollector, Task
from cascata.workflow.sizing import TARGET_S, BatchSize
from tests.workflow.tasks import Ask, Prefactor, Square, Wait

RUNS: dict[str, dict[str, Any]] = {
    "inline": {"in_parallel": False},
    "1 worker": {"num_workers": 1},
    "3 workers": {"num_workers": 3},
    "as many as there are cores": {},
}


@pytest.fixture(params=RUNS.values(), ids=[*RUNS])
def run(request: pytest.FixtureRequest) -> dict[str, Any]:
    options: dict[str, Any] = request.param
    return options


def test_results_come_in_order_one_for_each_batch(run: dict[str, Any]) -> None:
    assert list(Wait().map(range(10), 3, **run)) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert list(Wait().map(iter([[5], (7,)]), prebatched=True, **run)) == [[5], (7,)]
    assert list(Prefactor().map([1, 2], 2, task_kwargs={"factor": 5}, **run)) == [[5, 10]]


def test_batches_are_cut_by_themselves(run: dict[str, Any]) -> None:
    for data in (range(3_000), iter(range(3_000))):
        results = list(Square().map(data, **run))
        assert [x for batch in results for x in batch] == [x**2 for x in range(3_000)]
        assert len(results[0]) == 1
        assert 5 < len(results) < 1_000


def test_no_data_give_no_results_and_start_no_worker(run: dict[str, Any]) -> None:
    assert list(Square().map([], **run)) == []
    assert list(Square().map(iter(()), **run)) == []


def test_data_are_read_a_few_batches_ahead(run: dict[str, Any]) -> None:
    read = 0

    def numbers() -> Iterator[int]:
        nonlocal read
        for number in count(1):
            read = number
            yield number

    results = Square().map(numbers(), 2, **run)
    assert read == 0
    for number in range(1, 20):
        next(results)
        assert number * 2 <= read <= (number + 2 * 8 + 1) * 2
    results.close()  # type: ignore[attr-defined]  # it is a generator


def test_a_task_that_raises_ends_the_map(run: dict[str, Any]) -> None:
    with pytest.raises(ComponentError, match="7 is bad"):
        list(Ask(7).map(range(20), 1, **run))


def test_results_go_into_handlers(run: dict[str, Any]) -> None:
    handler = ResultsCollector()
    for result in Square().map(range(5), 2, **run):
        handler.add(result)
    assert handler.get() == [[0, 1], [4, 9], [16]]


def test_a_task_maps_where_a_loop_runs_already() -> None:
    async def cell() -> list[Any]:
        return list(Square().map([1, 2], 1, num_workers=1))

    assert asyncio.run(cell()) == [[1], [4]]


class Nap(Task):
    """Takes 2 ms for each item."""

    def do(self, batch: list[int]) -> int:
        time.sleep(0.002 * len(batch))
        return len(batch)


def test_batches_grow_to_about_75_ms_of_work() -> None:
    sizes = list(Nap().map(iter(range(400)), num_workers=2))
    assert sizes[0] == 1
    assert max(sizes) <= TARGET_S / 0.002
    assert max(sizes) >= 8


# --- the size of a batch ----------------------------------------------------------------------------


def sizes(each_s: float, items: int | None, workers: int, most: int = 1_000) -> list[int]:
    """The sizes that follow one another when every item takes so long."""
    chosen = BatchSize(workers, items)
    made: list[int] = []
    while (items is None and len(made) < 30) or (items is not None and sum(made) < items):
        made.append(chosen.next() if items is None else min(chosen.next(), items - sum(made)))
        chosen.taken(made[-1])
        chosen.measured(made[-1], made[-1] * each_s)
        assert len(made) < most
    return made


def test_sizes_begin_with_one_and_reach_the_time_that_is_aimed_at() -> None:
    assert sizes(0.001, None, 2)[:4] == [1, 8, 64, 75]
    assert sizes(0.001, None, 2)[-1] == 75
    assert sizes(10.0, None, 2) == [1] * 30


def test_the_last_batches_are_shared_among_the_workers() -> None:
    made = sizes(0.0, 10_000, 4)
    assert sum(made) == 10_000
    assert max(made) <= 10_000 / 8
    assert made[-1] == 1


@pytest.mark.parametrize(
    ("says", "arguments"),
    [
        ("batch_size must be", {"batch_size": 0}),
        ("num_workers must be", {"num_workers": 0}),
        ("engine", {"engine": "procesess"}),
        ("unknown option 'workers'", {"workers": 2}),
        ("leave batch_size away", {"batch_size": 2, "prebatched": True}),
        ("cannot be iterated over", {"data": 5}),
    ],
)
def test_what_cannot_be_is_refused_at_once(says: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match=says):
        Square().map(**({"data": [1]} | arguments))
