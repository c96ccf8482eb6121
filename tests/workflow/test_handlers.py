"""Result handlers: order, sums that hold, and going on where another run stopped."""

from __future__ import annotations

import functools
import math
import operator
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from cascata.errors import DefinitionError
from cascata.workflow import BatchMessage, MeanResult, OnlineMean, OnlineSum, ResultsCollector
from tests.workflow.saving import Kind


def shuffled(results: list[Any]) -> list[BatchMessage]:
    messages = [BatchMessage(index, each) for index, each in enumerate(results)]
    random.Random(7).shuffle(messages)
    return messages


def test_results_are_collected_in_the_order_of_their_batches() -> None:
    handler = ResultsCollector()
    for message in shuffled([[n, n] for n in range(50)]):
        handler.add(message)
    assert handler.get() == [[n, n] for n in range(50)]


def test_results_without_an_index_count_from_the_next_one() -> None:
    handler = ResultsCollector()
    for value in "abc":
        handler.add(value)
    assert (handler.get(), handler.next_index) == (["a", "b", "c"], 3)


def test_a_batch_that_is_in_already_is_refused() -> None:
    handler = ResultsCollector()
    handler.add(BatchMessage(0, 1))
    handler.add(BatchMessage(2, 1))
    for index in (0, 2):
        with pytest.raises(DefinitionError, match=f"batch {index} is in already"):
            handler.add(BatchMessage(index, 1))


def wild_numbers(count: int) -> list[float]:
    """Numbers whose naive sum is off in most of its digits."""
    numbers = random.Random(3)
    large = [numbers.uniform(-1, 1) * 10.0 ** numbers.randint(-10, 16) for _ in range(count // 2)]
    return [*large, *(-each for each in reversed(large))][:-1]


@pytest.mark.parametrize("per_item", [True, False], ids=["batches", "single numbers"])
def test_the_sum_and_mean_of_numbers_are_exact_to_the_last_bit_in_any_order(*, per_item: bool) -> None:
    numbers = wild_numbers(2_000)
    exact = sum(map(Fraction, numbers))
    results: list[Any] = [numbers[n : n + 7] for n in range(0, len(numbers), 7)] if per_item else list(numbers)
    added, mean = OnlineSum(per_item=per_item), OnlineMean(per_item=per_item)
    for message in shuffled(results):
        added.add(message)
        mean.add(message)
    naive = functools.reduce(operator.add, numbers)  # since Python 3.12, `sum` is less so
    assert abs(naive - exact) > abs(added.get() - exact) * 1000
    assert added.get() == pytest.approx(float(exact), rel=1e-12)
    assert mean.get() == pytest.approx(float(exact / len(numbers)), rel=1e-12)
    assert added.count == mean.count == len(numbers)


def test_whole_numbers_stay_whole_and_infinities_stay_infinite() -> None:
    added = OnlineSum()
    added.add([10**30, 1])
    added.add(-(10**30))
    assert (added.get(), type(added.get())) == (1, int)
    added.add([math.inf, 1e308])
    added.add([1e308, 1e308])
    assert added.get() == math.inf


def test_arrays_are_summed_item_by_item() -> None:
    np = pytest.importorskip("numpy", reason="numpy is not installed")
    added, mean, whole = OnlineSum(), OnlineMean(), OnlineSum(per_item=False)
    for message in shuffled([np.array([[1e16, 1.0], [1.0, 2.0], [-1e16, 3.0]])] * 100):
        added.add(message)
        mean.add(message)
        whole.add(message)
    assert added.get().tolist() == [100, 600]
    assert mean.get().tolist() == [pytest.approx(1 / 3), 2]
    assert added.count == 300
    assert whole.get()[1].tolist() == [100, 200]
    assert whole.count == 100


def test_a_task_may_give_the_mean_of_its_batch() -> None:
    mean = OnlineMean()
    mean.add(MeanResult(2.0, 3))
    mean.add(MeanResult(4.0, 1))
    assert (mean.get(), mean.count) == (2.5, 4)


def test_what_cannot_be_added_is_refused() -> None:
    with pytest.raises(DefinitionError, match="batch 0 has an item of type list"):
        OnlineSum().add([[1, 2]])
    with pytest.raises(DefinitionError, match="mean of nothing"):
        OnlineMean().get()


def test_results_are_saved_after_every_so_many_and_the_rest_at_the_end(kind: Kind, path: Path) -> None:
    saver = kind.make(path)
    with ResultsCollector(saver, 4) as handler:
        for n in range(10):
            handler.add([n, n])
            assert saver.progress.rows == (n + 1) // 4 * 8
    assert kind.read(path).tolist() == [n // 2 for n in range(20)]
    assert saver.progress.last_index == 9


def test_what_is_not_in_order_yet_is_not_saved(kind: Kind, path: Path) -> None:
    with ResultsCollector(kind.make(path)) as handler:
        handler.add(BatchMessage(0, 5.0))
        handler.add(BatchMessage(2, 7.0))
    assert kind.read(path).tolist() == [5]
    assert ResultsCollector(kind.make(path), resume=True).next_index == 1


@pytest.mark.parametrize("approach", ["append", "overwrite", "update"])
def test_a_collector_goes_on_where_another_stopped(kind: Kind, path: Path, approach: str) -> None:
    if approach == "update":
        kind.make(path).save([0.0] * 12)
    for _ in range(3):
        with ResultsCollector(kind.make(path, approach=approach), 2, resume=True) as handler:
            first = handler.next_index
            for index in range(first, first + 2):
                handler.add([index, index], index)
    assert kind.read(path).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


@pytest.mark.parametrize("approach", ["append", "overwrite"])
@pytest.mark.parametrize("arrays", [False, True], ids=["numbers", "arrays"])
def test_a_mean_goes_on_where_another_stopped(kind: Kind, path: Path, approach: str, *, arrays: bool) -> None:
    np = pytest.importorskip("numpy", reason="numpy is not installed")
    numbers = [each for each in wild_numbers(60) if abs(each) < 1e6]
    batches: list[Any] = [numbers[n : n + 5] for n in range(0, len(numbers), 5)]
    if arrays:
        batches = [np.array(batch).reshape(-1, 1) * np.ones((1, 3)) for batch in batches]
    for part in range(3):
        with OnlineMean(kind.make(path, approach=approach), resume=True) as handler:
            assert handler.next_index == (0, 2, 5)[part]
            for index in range(handler.next_index, (2, 5, len(batches))[part]):
                handler.add(batches[index], index)
    expected = math.fsum(numbers) / len(numbers)
    assert np.ravel(handler.get()).tolist() == pytest.approx([expected] * (3 if arrays else 1))
    assert np.ravel(kind.read(path))[-1] == pytest.approx(expected)
    assert handler.count == len(numbers)
