"""Engines: what runs the workers of a plan, and watches over them."""

from .run import OpenRun as OpenRun
from .run import Run as Run
from .run import run as run
from .run import run_async as run_async
from .run import start as start
