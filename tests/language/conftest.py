"""The engines of `tests/engine`, and its notes and flags, for the language."""

from __future__ import annotations

from tests.engine.conftest import engine, flags, notes, the_fork_server_stays

__all__ = ["engine", "flags", "notes", "the_fork_server_stays"]
