"""Where results are kept: NumPy, HDF5 and Zarr files that grow, and that a killed program leaves readable."""

from .base import Progress as Progress
from .base import Saver as Saver
from .hdf5 import HDF5Saver as HDF5Saver
from .npy import NumpySaver as NumpySaver
from .zarr import ZarrSaver as ZarrSaver

__all__ = ["HDF5Saver", "NumpySaver", "Progress", "Saver", "ZarrSaver"]
