"""Batch tasks in a DAG, on top of `Graph`.

class SquareTask(Task):
    def do(self, batch):
        return [x**2 for x in batch]

for result in SquareTask().map(range(1_000)): ...
"""

from .batches import BatchMessage as BatchMessage
from .batches import batch_generator as batch_generator
from .dag import DAG as DAG
from .dag import NodeHandle as NodeHandle
from .dag import SinkQueue as SinkQueue
from .dag import SourceQueue as SourceQueue
from .handlers import MeanResult as MeanResult
from .handlers import OnlineMean as OnlineMean
from .handlers import OnlineSum as OnlineSum
from .handlers import ResultsCollector as ResultsCollector
from .handlers import ResultsHandler as ResultsHandler
from .savers import HDF5Saver as HDF5Saver
from .savers import NumpySaver as NumpySaver
from .savers import Progress as Progress
from .savers import Saver as Saver
from .savers import ZarrSaver as ZarrSaver
from .task import Task as Task

__all__ = [
    "DAG",
    "BatchMessage",
    "HDF5Saver",
    "MeanResult",
    "NodeHandle",
    "NumpySaver",
    "OnlineMean",
    "OnlineSum",
    "Progress",
    "ResultsCollector",
    "ResultsHandler",
    "Saver",
    "SinkQueue",
    "SourceQueue",
    "Task",
    "ZarrSaver",
    "batch_generator",
]
