"""Tests here may be coroutines; and what several of them ask for."""

from __future__ import annotations

import pytest

from cascata.transport.linux import ring
from tests.coroutines import pytest_pyfunc_call
from tests.transport.ends import Crossing

__all__ = ["pytest_pyfunc_call"]


@pytest.fixture
def no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent just because this machine is slow."""
    monkeypatch.setattr("cascata.transport.ends.writer.FLUSH_S", 1_000.0)


@pytest.fixture(params=["sockets", "ring"])
def carrier(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """For a channel of one writer and one reader, which has a carrier of its own on machines that allow it."""
    if request.param == "ring" and not ring.AVAILABLE:
        pytest.skip("needs total store order")
    monkeypatch.setattr(Crossing, "over_a_ring", request.param == "ring")
    chosen: str = request.param
    return chosen


@pytest.fixture
def small_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets that hold as little as the system allows: a few frames."""
    monkeypatch.setattr("cascata.transport.linux.sockets.SOCKET_BYTES", 1)
