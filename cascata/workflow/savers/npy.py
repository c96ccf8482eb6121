"""One `.npy` file that grows.

    write rows behind the last one ──> rewrite the header, in place ──> replace the progress file

The header says how many rows there are, and has a fixed length; rows behind it are not there yet for any reader. A
file that is made anew gets its name when it is whole.
"""

from __future__ import annotations

import io
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import CascataError
from ...faces import public
from .base import Progress, Saver

__all__ = ["NumpySaver"]


class _Header(NamedTuple):
    shape: tuple[int, ...]
    fortran: bool
    dtype: Any
    length: int


@public
class NumpySaver(Saver):
    """Saves to one `.npy` file, which `numpy.load` reads at any time, also while it grows or after a kill.

    How far it came stands beside it, in a file of the same name with `.progress` behind it.

    Args: see `Saver`.
    """

    @property
    def progress(self) -> Progress:
        noted = self._noted()
        if not self.path.exists():
            return Progress()
        rows = self._header().shape[0]
        if noted is None:
            return Progress(rows)
        if rows < noted.rows:
            raise CascataError(
                f"{self}: there are {rows} rows, and {noted.rows} in {self._note.name}: they do not belong together. "
                f"Remove both to begin anew, or only the latter to append."
            )
        return noted

    def load(self) -> Any:
        progress = self.progress
        if not self.path.exists():
            raise self._nothing()
        return self._np.load(self.path)[: progress.rows]

    @property
    def _note(self) -> Path:
        return self.path.with_name(self.path.name + ".progress")

    def _noted(self) -> Progress | None:
        """What the progress file says; completes a replacement that a killed program had begun."""
        data = self._read_note()
        if data is None:
            return None
        if data["waiting"]:
            with suppress(FileNotFoundError):  # it has found its place
                self.path.with_name(data["waiting"]).replace(self.path)
        return Progress.of(data)

    def _read_note(self) -> dict[str, Any] | None:
        try:
            data = json.loads(self._note.read_text("utf-8"))
            Progress.of(data), str(data["waiting"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise CascataError(f"{self}: {self._note.name} is no progress file: {error}") from error
        else:
            return dict(data)

    def _write_note(self, progress: Progress, waiting: str = "") -> None:
        fresh = self._note.with_name(self._note.name + ".new")
        fresh.write_text(json.dumps(progress.as_dict() | {"waiting": waiting}), "utf-8")
        fresh.replace(self._note)

    def _header(self) -> _Header:
        form = self._np.lib.format
        try:
            with self.path.open("rb") as file:
                version = form.read_magic(file)
                read = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
                shape, fortran, dtype = read(file)
                if not shape or dtype.hasobject:
                    raise ValueError(f"an array of shape {shape} and type {dtype} has no rows of numbers")
                return _Header(shape, fortran, dtype, file.tell())
        except ValueError as error:
            raise CascataError(f"{self}: cannot append to what is there: {error}") from error

    def _header_bytes(self, shape: tuple[int, ...], dtype: Any) -> bytes:
        form = self._np.lib.format
        buffer = io.BytesIO()
        descr = form.dtype_to_descr(dtype)
        # NumPy leaves room in it for the first axis to grow, so that its length stays the same.
        form.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
        return buffer.getvalue()

    def _append(self, array: Any, before: Progress, after: Progress) -> None:
        if not self.path.exists():
            self._overwrite(array, after)
            return
        header = self._header()
        self._check_fits(array, header.shape, header.dtype)
        fresh = self._header_bytes((after.rows, *header.shape[1:]), header.dtype)
        if header.fortran or len(fresh) != header.length:  # not written here: it is written anew, once
            rows = self._np.load(self.path)[: before.rows]
            self._overwrite(self._np.concatenate([rows, array.astype(header.dtype)]), after)
            return
        data = self._np.ascontiguousarray(array, header.dtype)
        row = header.dtype.itemsize * int(self._np.prod(header.shape[1:], dtype=int))
        with self.path.open("r+b") as file:
            file.seek(header.length + before.rows * row)
            file.write(data.tobytes())
            file.flush()
            os.pwrite(file.fileno(), fresh, 0)
            file.truncate(header.length + after.rows * row)
        self._write_note(after)

    def _overwrite(self, array: Any, after: Progress) -> None:
        whole = self._np.ascontiguousarray(array)
        # Not the name that the progress file holds: under that one a whole file waits for its place, or has found it.
        name = f"{self.path.name}.a.new"
        if (noted := self._read_note()) is not None and noted["waiting"] == name:
            name = f"{self.path.name}.b.new"
        waiting = self.path.with_name(name)
        with waiting.open("wb") as file:
            file.write(self._header_bytes(whole.shape, whole.dtype))
            file.write(whole.tobytes())
        self._write_note(after, name)
        waiting.replace(self.path)

    def _update(self, array: Any, indices: Any, after: Progress) -> None:
        if not self.path.exists():
            raise self._nothing()
        target = self._np.load(self.path, mmap_mode="r+")
        self._checked_update(array, indices, target[: after.rows])
        target.flush()
        self._write_note(after)
