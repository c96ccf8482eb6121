"""The engines that behaviour is shown on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest

ENGINES: Final[dict[str, dict[str, Any]]] = {
    "inline": {"engine": "inline"},
    "1 worker": {"num_workers": 1},
    "2 workers": {"num_workers": 2},
    "3 workers": {"num_workers": 3},
}

EACH: Final = ("inline", "2 workers", "3 workers")
"""One worker alone is a loop like inline, with the ends of a process like two: the three of them show little more."""

ON_PROCESSES: Final = ("1 worker", "2 workers", "3 workers")


def engines(names: Sequence[str], options: Mapping[str, dict[str, Any]] = ENGINES) -> list[Any]:
    """Parameters of a fixture, one for each engine. What two workers show, a third one seldom shows otherwise."""
    return [
        pytest.param(options[name], id=name, marks=[pytest.mark.matrix] if name == "3 workers" else [])
        for name in names
    ]


@pytest.fixture(scope="session", autouse=True)
def served(the_fork_server_stays: None) -> None:
    """Workers of these tests come from a fork server that stays."""


@pytest.fixture(params=engines(EACH))
def engine(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Options of a run: each engine, and with processes several numbers of workers."""
    options: dict[str, Any] = request.param
    return options


@pytest.fixture(params=engines(ON_PROCESSES))
def workers(request: pytest.FixtureRequest) -> dict[str, Any]:
    """As `engine`, for what only processes do."""
    options: dict[str, Any] = request.param
    return options
