"""The engines that the ready-made nodes are shown on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from cascata import Graph
from cascata.engine.local import forkserver
from tests.engine.parts import Count, Flag, Notes

ENGINES: Final[dict[str, dict[str, Any]]] = {"inline": {"engine": "inline"}, "2 workers": {"num_workers": 2}}


@pytest.fixture(scope="session", autouse=True)
def the_fork_server_stays() -> Iterator[None]:
    """The fork server ends with the last run that uses it; held here, it need not start for each of these tests."""
    with forkserver.needed():
        graph = Graph()
        graph.count = Count
        graph.count.upto < 0
        graph.run(num_workers=1)
        yield


@pytest.fixture(params=list(ENGINES.values()), ids=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Options of a run."""
    options: dict[str, Any] = request.param
    return options


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    """What the components of a test tell it."""
    return Notes(str(tmp_path / "notes"))


@pytest.fixture
def flags(tmp_path: Path) -> list[Flag]:
    """Events that all processes see; none is set."""
    return [Flag(str(tmp_path / f"flag_{number}")) for number in range(4)]
