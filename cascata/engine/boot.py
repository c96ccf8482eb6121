"""The fork server is started first of all: it boots while this process imports the engine and prepares the run.

graph.run ──> server boots ──────────────────────────────────> forks workers
      └──> import of the engine, plan, definitions, channels ──┘
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ..model import GraphSpec
from ..options import RunOptions

if TYPE_CHECKING:
    from ..observe.report import RunReport

__all__ = ["default_start_method", "run", "run_async"]


def default_start_method() -> str:
    """forkserver where there is one, else spawn."""
    return "forkserver" if sys.platform != "win32" else "spawn"


def run(spec: GraphSpec, options: RunOptions) -> RunReport:
    """See `engine.run.run`."""
    with _server_ahead(options):
        from .run import run

        return run(spec, options)


async def run_async(spec: GraphSpec, options: RunOptions) -> RunReport:
    """See `engine.run.run_async`."""
    with _server_ahead(options):
        from .run import run_async

        return await run_async(spec, options)


@contextmanager
def _server_ahead(options: RunOptions) -> Iterator[None]:
    """The server boots, or runs already, for a run that will need it."""
    if options.engine != "processes" or (options.start_method or default_start_method()) != "forkserver":
        yield
        return
    from . import server

    with server.needed():
        with suppress(OSError):  # the run will meet it again, and tell
            server.boot()
        yield
