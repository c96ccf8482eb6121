"""The engines of `tests/engine`, for what goes wrong on them."""

from __future__ import annotations

from tests.engine.conftest import engine, served

__all__ = ["engine", "served"]
