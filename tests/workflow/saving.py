"""The savers of the tests, and how others read what they wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from cascata.workflow import HDF5Saver, NumpySaver, Saver, ZarrSaver

__all__ = ["KINDS", "Kind"]


class Kind(NamedTuple):
    """A saver, the packages that it needs, and what its own package reads in the file."""

    make: Callable[..., Saver]
    packages: tuple[str, ...]
    read: Callable[[Path], Any]

    def need(self) -> None:
        """Skips the test where a package is missing."""
        for package in self.packages:
            pytest.importorskip(package, reason=f"{package} is not installed")


def _read_npy(path: Path) -> Any:
    import numpy as np

    return np.load(path)


def _read_hdf5(path: Path) -> Any:
    import h5py

    with h5py.File(path, "r") as file:
        return file["data"][:]


def _read_zarr(path: Path) -> Any:
    import zarr

    return zarr.open_array(path, mode="r")[:]


KINDS: Final = {
    "npy": Kind(NumpySaver, ("numpy",), _read_npy),
    "hdf5": Kind(HDF5Saver, ("numpy", "h5py"), _read_hdf5),
    "zarr": Kind(ZarrSaver, ("numpy", "zarr"), _read_zarr),
}
