"""The engines that the caller's side of a run is shown on."""

from __future__ import annotations

from tests.engine.conftest import engine, served, workers

__all__ = ["engine", "served", "workers"]
