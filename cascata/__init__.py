"""cascata runs a graph of coroutines on every core of a machine.

from cascata import *

graph = Graph()
graph.numbers = Numbers
graph.double = Double * 4
graph.numbers.out >> graph.double.x
report = graph.run()
"""

from . import log as log
from ._version import __version__ as __version__
from .dsl import BlockingOut as BlockingOut
from .dsl import Graph as Graph
from .dsl import In as In
from .dsl import Out as Out
from .dsl import State as State
from .dsl import Stream as Stream
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
from .transport.public import Channel as Channel

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
    "Stream",
    "component",
    "inport",
    "log",
    "outport",
    "persist",
    "registry",
]
