"""Cells of tests with several dimensions: which are always run, and which at night only (README.md)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

__all__ = ["matrix", "other"]


def matrix(*values: Any, id: str | None = None) -> Any:
    """A cell that is marked: it differs in one thing only from one that is always run."""
    return pytest.param(*values, id=id, marks=pytest.mark.matrix)


def other(first: Iterable[Any], *others: Any) -> list[Any]:
    """Values of one dimension: those that are always run, and others that are marked."""
    return [*first, *map(matrix, others)]
