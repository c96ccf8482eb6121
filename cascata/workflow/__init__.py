"""Batches, and what becomes of their results."""

from .batches import BatchMessage as BatchMessage
from .batches import batch_generator as batch_generator
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

__all__ = [
    "BatchMessage",
    "HDF5Saver",
    "MeanResult",
    "NumpySaver",
    "OnlineMean",
    "OnlineSum",
    "Progress",
    "ResultsCollector",
    "ResultsHandler",
    "Saver",
    "ZarrSaver",
    "batch_generator",
]
