"""The engines that the caller's side of a run is shown on."""

from tests.engine.conftest import engine, flags, notes, script, the_fork_server_stays, workers

__all__ = ["engine", "flags", "notes", "script", "the_fork_server_stays", "workers"]
