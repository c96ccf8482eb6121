"""About how many bytes an item holds: by a few looks only, whatever it is."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from cascata.runtime.order.item_bytes import item_bytes


class Counted:
    """Counts how often it is asked for its size."""

    asked = 0

    def __init__(self) -> None:
        self.array = np.zeros(1000)

    @property
    def nbytes(self) -> int:
        Counted.asked += 1
        return 1000


@pytest.mark.parametrize(
    "item",
    [
        [[Counted() for _ in range(64)] for _ in range(64)],
        {row: {column: Counted() for column in range(64)} for row in range(64)},
        [Counted()] * 100_000,
    ],
    ids=["lists", "dicts", "a long list"],
)
def test_of_a_large_container_only_some_values_are_looked_at(item: Any) -> None:
    Counted.asked = 0
    leaves = 64 * 64 if len(item) == 64 else len(item)
    assert 1000 * leaves <= item_bytes(item) <= 1300 * leaves
    assert 0 < Counted.asked <= 64


class Frame:
    """As a data frame of pandas: its `__sizeof__` looks at all that it holds."""

    def __init__(self) -> None:
        self.array = np.zeros(1000)

    def __sizeof__(self) -> int:
        raise AssertionError("it is not asked")


class PandasFrame(Frame):
    def memory_usage(self) -> Any:
        return np.array([3000, 5000])


def test_a_size_that_a_class_computes_itself_is_not_asked_for() -> None:
    assert item_bytes(Frame()) >= 8000
    assert 8000 <= item_bytes(PandasFrame()) <= 8100


def test_what_tells_its_bytes_weighs_so_much() -> None:
    array = np.zeros((100, 100))
    assert array.nbytes <= item_bytes(array) <= array.nbytes + 200
    assert item_bytes(memoryview(bytes(1000))) >= 1000
    assert item_bytes("word" * 100) == sys.getsizeof("word" * 100)


class Hostile:
    @property
    def nbytes(self) -> int:
        raise KeyError("no")


def test_nothing_raises() -> None:
    assert item_bytes(Hostile()) == 0
    assert item_bytes([Hostile()]) > 0
