"""The kinds of savers, and the threads that their packages keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import engines, served
from tests.workflow.saving import KINDS, Kind
from tests.workflow.tasks import ENGINES

__all__ = ["served"]


@pytest.fixture(scope="session", autouse=True)
def threads_of_zarr(tmp_path_factory: pytest.TempPathFactory) -> None:
    """zarr keeps its threads to the end of the program, once it has started them: here, and not within a test."""
    try:
        import zarr
    except ImportError:
        return
    array = zarr.create_array(store=tmp_path_factory.mktemp("zarr") / "a", shape=(64,), chunks=(1,), dtype="f8")
    array[:] = 1.0


@pytest.fixture(params=[*KINDS])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind of saver."""
    made = KINDS[request.param]
    made.need()
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where results are saved."""
    return tmp_path / "results"


@pytest.fixture(params=engines([*ENGINES], ENGINES))
def engine(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Options of a start: each engine, and with processes several numbers of workers."""
    options: dict[str, Any] = request.param
    return options
