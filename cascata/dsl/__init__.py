"""What users write: components, ports, graphs. Resolves into a `GraphSpec`, which everything behind reads."""

from .annotations import BlockingOut as BlockingOut
from .annotations import In as In
from .annotations import Out as Out
from .annotations import State as State
from .annotations import Stopping as Stopping
from .annotations import Stream as Stream
from .component import Component as Component
from .declare import component as component
from .declare import inport as inport
from .declare import outport as outport
from .declare import persist as persist
from .graph import Graph as Graph
from .graph_base import Edge as Edge
from .group import Group as Group
from .registry import registry as registry

__all__ = [
    "BlockingOut",
    "Component",
    "Edge",
    "Graph",
    "Group",
    "In",
    "Out",
    "State",
    "Stopping",
    "Stream",
    "component",
    "inport",
    "outport",
    "persist",
    "registry",
]
