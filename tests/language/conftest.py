"""The engines of `tests/engine`, for the language."""

from __future__ import annotations

from tests.engine.conftest import engine, served

__all__ = ["engine", "served"]
