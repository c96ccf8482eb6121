"""The engines that the ready-made nodes are shown on."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.engine.conftest import served

__all__ = ["engine", "served"]

ENGINES: Final[dict[str, dict[str, Any]]] = {"inline": {"engine": "inline"}, "2 workers": {"num_workers": 2}}


@pytest.fixture(params=list(ENGINES.values()), ids=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Options of a run."""
    options: dict[str, Any] = request.param
    return options
