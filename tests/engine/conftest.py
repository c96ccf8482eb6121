"""The engines that behaviour is shown on."""

from __future__ import annotations

from typing import Any, Final

import pytest

ENGINES: Final[dict[str, dict[str, Any]]] = {
    "inline": {"engine": "inline"},
    "1 worker": {"num_workers": 1},
    "2 workers": {"num_workers": 2},
    "3 workers": {"num_workers": 3},
}

EACH: Final = {name: options for name, options in ENGINES.items() if name != "1 worker"}
"""One worker alone is a loop like inline, with the ends of a process like two: the three of them show little more."""

ON_PROCESSES: Final = {name: options for name, options in ENGINES.items() if name != "inline"}


@pytest.fixture(scope="session", autouse=True)
def served(the_fork_server_stays: None) -> None:
    """Workers of these tests come from a fork server that stays."""


@pytest.fixture(params=EACH.values(), ids=[*EACH])
def engine(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Options of a run: each engine, and with processes several numbers of workers."""
    options: dict[str, Any] = request.param
    return options


@pytest.fixture(params=ON_PROCESSES.values(), ids=[*ON_PROCESSES])
def workers(request: pytest.FixtureRequest) -> dict[str, Any]:
    """As `engine`, for what only processes do."""
    options: dict[str, Any] = request.param
    return options
