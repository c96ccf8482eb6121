"""A Zarr array that grows: a folder of chunks, each of them replaced as a whole.

write chunks ──> replace the metadata: the shape ──> and once more: how far it came
"""

from __future__ import annotations

import shutil
from os import PathLike
from pathlib import Path
from typing import Any, Final

from ...errors import CascataError
from ...faces import public
from .base import NOTE, Approach, Progress, Saver, needs

__all__ = ["ZarrSaver"]

_CHUNK_BYTES: Final = 1 << 20


@public
class ZarrSaver(Saver):
    """Saves to a Zarr array in a folder, and how far it came to the array's attributes.

    Args:
        path: of the folder.
        approach: see `Saver`.
        dtype: see `Saver`.
        chunk_rows: rows of one chunk, for a new array; None: about a megabyte.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        approach: Approach = "append",
        dtype: Any = None,
        chunk_rows: int | None = None,
    ) -> None:
        self._zarr = needs("zarr", "zarr", type(self).__name__)
        super().__init__(path, approach, dtype)
        self._chunk_rows = chunk_rows

    @property
    def progress(self) -> Progress:
        array = self._open("r")
        if array is None:
            return Progress()
        noted = array.attrs.get(NOTE)
        return Progress(array.shape[0]) if noted is None else Progress.of(noted)

    def load(self) -> Any:
        rows, array = self.progress.rows, self._open("r")
        if array is None:
            raise self._nothing()
        return array[:rows]

    @property
    def _fresh(self) -> Path:
        return self.path.with_name(self.path.name + ".new")

    @property
    def _old(self) -> Path:
        return self.path.with_name(self.path.name + ".old")

    def _open(self, mode: str) -> Any:
        """The array, or None. Completes a replacement that a killed program had begun."""
        if not self.path.exists() and self._old.exists() and self._fresh.exists():
            self._fresh.replace(self.path)  # whole: the old one is moved away only then
        if not self.path.exists():
            return None
        try:
            return self._zarr.open_array(self.path, mode=mode)
        except (OSError, ValueError) as error:
            raise CascataError(f"{self}: it is no Zarr array: {error}") from error

    def _append(self, array: Any, before: Progress, after: Progress) -> None:
        target = self._open("r+")
        if target is None:
            self._overwrite(array, after)
            return
        self._check_fits(array, target.shape, target.dtype)
        shape = (after.rows, *target.shape[1:])
        # The chunks come before the shape that counts their rows: until then nobody looks at these.
        grown = self._zarr.AsyncArray(metadata=target.metadata.update_shape(shape), store_path=target.store_path)
        self._zarr.Array(grown)[before.rows :] = array
        target.resize(shape)
        target.update_attributes({NOTE: after.as_dict()})

    def _overwrite(self, array: Any, after: Progress) -> None:
        shutil.rmtree(self._fresh, ignore_errors=True)
        row = max(1, array.dtype.itemsize * int(self._np.prod(array.shape[1:], dtype=int)))
        chunks = (self._chunk_rows or max(1, _CHUNK_BYTES // row), *(max(1, side) for side in array.shape[1:]))
        fresh = self._zarr.create_array(
            store=self._fresh, shape=array.shape, chunks=chunks, dtype=array.dtype, attributes={NOTE: after.as_dict()}
        )
        fresh[...] = array
        shutil.rmtree(self._old, ignore_errors=True)
        if self.path.exists():
            self.path.replace(self._old)
        self._fresh.replace(self.path)
        shutil.rmtree(self._old, ignore_errors=True)

    def _update(self, array: Any, indices: Any, after: Progress) -> None:
        target = self._open("r+")
        if target is None:
            raise self._nothing()
        self._checked_update(array, indices, target)
        target.update_attributes({NOTE: after.as_dict()})
