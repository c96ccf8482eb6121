"""The fork server is started first of all: it boots while this process imports the engine and prepares the run.

graph.run ──> server boots ──────────────────────────────────> forks workers
      └──> import of the engine, plan, definitions, channels ──┘
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ..model import GraphSpec
from ..options import RunOptions
from . import run_at_import
from .choice import start_method_of

if TYPE_CHECKING:
    from ..interrupts import Interrupts
    from ..observe.report import RunReport

__all__ = ["run", "run_async"]


def run(spec: GraphSpec, options: RunOptions, interrupts: Interrupts) -> RunReport:
    """See `engine.run.run`."""
    with _server_ahead(spec, options):
        with _no_collections():
            from .run import run

        return run(spec, options, interrupts)


async def run_async(spec: GraphSpec, options: RunOptions) -> RunReport:
    """See `engine.run.run_async`."""
    with _server_ahead(spec, options):
        with _no_collections():
            from .run import run_async

        return await run_async(spec, options)


@contextmanager
def _no_collections() -> Iterator[None]:
    """For imports, which make much and leave no garbage: looking for it takes a tenth of their time."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def _server_ahead(spec: GraphSpec, options: RunOptions) -> Iterator[None]:
    """The server boots, or runs already, for a run that will need it."""
    if options.engine != "processes" or start_method_of(options) != "forkserver":
        yield
        return
    run_at_import.check(spec, imports=True)
    from .local import forkserver

    with forkserver.needed():
        with suppress(OSError):  # the run will meet it again, and tell
            forkserver.boot()
        yield
