"""Tests of other rooms, to be run on Ray as well. Each of them takes the options of its runs from a fixture."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

import pytest

__all__ = ["ALL", "ON_RAY", "borrowed"]

ALL: Final = os.environ.get("CASCATA_RAY") == "all"
"""Whether every test that can be is run on Ray: that takes minutes. Else a choice that takes seconds."""

ON_RAY: Final = [
    pytest.mark.xdist_group("ray"),  # one cluster serves all of these tests
    pytest.mark.skipif(find_spec("ray") is None, reason='Ray is not installed: pip install "cascata[ray]"'),
]
"""Marks of the modules here."""

_FIXTURES: Final = frozenset({"engine", "workers"})


def borrowed(module: ModuleType, *chosen: str, but: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """The tests of a module that run on an engine given by a fixture.

    Args:
        module: of the tests.
        chosen: beginnings of the names of those that are always run; the others are when `ALL` are.
        but: beginnings of the names of those that are not for Ray.
    """
    found = {
        name: test
        for name, test in vars(module).items()
        if name.startswith("test_") and _FIXTURES & inspect.signature(test).parameters.keys()
    }
    for name in (*chosen, *but):
        assert any(each.startswith(f"test_{name}") for each in found), f"{module.__name__} has no test_{name}"
    for name, test in found.items():
        if any(name.startswith(f"test_{each}") for each in but):
            continue
        if ALL or any(name.startswith(f"test_{each}") for each in chosen):
            yield name, test
