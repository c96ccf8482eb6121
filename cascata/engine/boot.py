"""The fork server is started first of all: it boots while this process imports the engine and prepares the run.

graph.run ──> server boots ──────────────────────────────────> forks workers
      └──> import of the engine, plan, definitions, channels ──┘
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ..errors import CascataError
from ..model import GraphSpec
from ..options import RunOptions
from . import run_at_import

if TYPE_CHECKING:
    from ..interrupts import Interrupts
    from ..observe.report import RunReport

__all__ = ["is_portable", "run", "run_async", "start_method_of"]


def is_portable() -> bool:
    """Whether local runs use the portable transport: off Linux, or when `CASCATA_TRANSPORT=portable` asks for it.

    Raises:
        CascataError: something else is asked for.
    """
    asked = os.environ.get("CASCATA_TRANSPORT", "")
    if asked not in ("", "portable"):
        raise CascataError(
            f"CASCATA_TRANSPORT={asked!r}: what can be asked for is 'portable', for local workers. Unset it to have "
            f"what suits the system"
        )
    return asked == "portable" or sys.platform != "linux"


def start_method_of(options: RunOptions) -> str:
    """How the worker processes of a run start.

    Unless it is said: by the fork server, on Linux; by spawn where nothing but what every system has is used. A frozen
    program can begin nothing but itself: it forks, where that can be had.

    Raises:
        CascataError: a fork server is asked for that cannot be.
    """
    frozen = run_at_import.is_frozen()
    if frozen and options.start_method == "forkserver":
        raise run_at_import.no_server()
    if options.start_method is not None:
        return options.start_method
    if frozen and sys.platform == "linux":
        return "fork"
    return "spawn" if is_portable() else "forkserver"


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
