"""Ready-made nodes: each is a component like a user's own, and could be written by one.

from cascata.components import Batch, Map, WalkDirectory
"""

from .batches import Batch as Batch
from .batches import CollectToList as CollectToList
from .batches import TimeWindow as TimeWindow
from .batches import Window as Window
from .files import ReadCsv as ReadCsv
from .files import ReadJsonLines as ReadJsonLines
from .files import ReadLines as ReadLines
from .files import WalkDirectory as WalkDirectory
from .files import WriteJsonLines as WriteJsonLines
from .items import Distinct as Distinct
from .items import Filter as Filter
from .items import FlatMap as FlatMap
from .items import Map as Map
from .items import Print as Print
from .items import Take as Take
from .joins import Merge as Merge
from .joins import ZipLatest as ZipLatest
from .timing import Delay as Delay
from .timing import RateLimit as RateLimit

__all__ = [
    "Batch",
    "CollectToList",
    "Delay",
    "Distinct",
    "Filter",
    "FlatMap",
    "Map",
    "Merge",
    "Print",
    "RateLimit",
    "ReadCsv",
    "ReadJsonLines",
    "ReadLines",
    "Take",
    "TimeWindow",
    "WalkDirectory",
    "Window",
    "WriteJsonLines",
    "ZipLatest",
]
