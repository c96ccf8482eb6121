"""cascata runs a graph of coroutines on every core of a machine.

from cascata import *

graph = Graph()
graph.numbers = Numbers
graph.double = Double * 4
graph.numbers.out >> graph.double.x
report = graph.run()
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

from ._version import __version__ as __version__

if _TYPE_CHECKING:
    from . import log as log
    from .channels import Channel as Channel
    from .dsl import Graph as Graph
    from .dsl import component as component
    from .dsl import inport as inport
    from .dsl import outport as outport
    from .dsl import persist as persist
    from .dsl import registry as registry
    from .errors import CascataError as CascataError
    from .errors import CascataWarning as CascataWarning
    from .errors import Failure as Failure
    from .live import Sink as Sink
    from .live import Source as Source
    from .marks import BlockingOut as BlockingOut
    from .marks import In as In
    from .marks import Out as Out
    from .marks import State as State
    from .marks import Stopping as Stopping
    from .marks import Stream as Stream

__all__ = [
    "BlockingOut",
    "CascataError",
    "CascataWarning",
    "Channel",
    "Failure",
    "Graph",
    "In",
    "Out",
    "Sink",
    "Source",
    "State",
    "Stopping",
    "Stream",
    "component",
    "inport",
    "log",
    "outport",
    "persist",
    "registry",
]

_HOMES = {
    "BlockingOut": ".marks",
    "CascataError": ".errors",
    "CascataWarning": ".errors",
    "Channel": ".channels",
    "Failure": ".errors",
    "Graph": ".dsl",
    "In": ".marks",
    "Out": ".marks",
    "Sink": ".live",
    "Source": ".live",
    "State": ".marks",
    "Stopping": ".marks",
    "Stream": ".marks",
    "component": ".dsl",
    "inport": ".dsl",
    "outport": ".dsl",
    "persist": ".dsl",
    "registry": ".dsl",
}
"""Where each name comes from: it is imported when it is first used, so that a program, a fork server and a worker
load only what they need."""


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is not None:
        value: object = getattr(_import_module(home, __name__), name)
    elif name in ("errors", "log"):
        value = _import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "errors"})
