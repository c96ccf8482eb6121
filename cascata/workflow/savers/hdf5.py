"""An HDF5 dataset that grows.

    h5py ──> [ Staged: its writes, in memory ] ── behind the end of the file, which no reader looks at
                                              └── in place, noted in a journal first

HDF5 alone leaves a file that cannot be opened when its program is killed between two of its writes. Here all writes of
one save go into the file together, and a journal beside it repeats what a kill interrupted (write-ahead logging).
"""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ...errors import CascataError
from ...faces import public
from .base import NOTE, Approach, Progress, Saver, needs

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["HDF5Saver"]

T = TypeVar("T")

_CHUNK_BYTES: Final = 64 * 1024
_PAGE: Final = 4096


@public
class HDF5Saver(Saver):
    """Saves to a dataset of an HDF5 file, and how far it came to the dataset's attributes.

    `h5py.File` reads the file at any time between two saves, also after a kill.

    Args:
        path: of the file. Other datasets in it stay as they are.
        dataset: name of the dataset.
        approach: see `Saver`.
        dtype: see `Saver`.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        dataset: str = "data",
        approach: Approach = "append",
        dtype: Any = None,
    ) -> None:
        self._h5py = needs("h5py", "hdf5", type(self).__name__)
        super().__init__(path, approach, dtype)
        self.dataset = dataset

    @property
    def progress(self) -> Progress:
        return self._read(_progress_of) or Progress()

    def load(self) -> Any:
        rows = self.progress.rows
        array = self._read(lambda dataset: dataset[:rows])
        if array is None:
            raise self._nothing()
        return array

    def _read(self, look: Callable[[Any], T]) -> T | None:
        """What `look` finds in the dataset; None when there is no dataset."""
        _repeat(self.path)
        if not self.path.exists():
            return None
        try:
            with self._h5py.File(self.path, "r") as file:
                return look(file[self.dataset]) if self.dataset in file else None
        except OSError as error:
            raise CascataError(f"{self}: it cannot be read: {error}") from error

    def _write(self, change: Callable[[Any], None]) -> None:
        """Lets `change` work on the open file; its writes take place together, or not at all."""
        _repeat(self.path)
        with Staged(self.path) as staged:
            try:
                with self._h5py.File(staged, "r+" if staged.size else "w") as file:
                    change(file)
            except OSError as error:
                raise CascataError(f"{self}: it cannot be written: {error}") from error
            staged.commit()

    def _append(self, array: Any, before: Progress, after: Progress) -> None:
        def change(file: Any) -> None:
            if self.dataset not in file:
                self._create(file, array, after)
                return
            dataset = file[self.dataset]
            self._check_fits(array, dataset.shape, dataset.dtype)
            if dataset.maxshape[0] is not None:
                raise CascataError(f"{self}: the dataset {self.dataset!r} was made with a fixed size: it cannot grow")
            dataset.resize(after.rows, axis=0)
            dataset[before.rows :] = array
            _note(dataset, after)

        self._write(change)

    def _overwrite(self, array: Any, after: Progress) -> None:
        def change(file: Any) -> None:
            dataset = file.get(self.dataset)
            if dataset is not None and dataset.shape == array.shape and dataset.dtype == array.dtype:
                dataset[...] = array  # what is deleted leaves a hole in the file
                _note(dataset, after)
                return
            if dataset is not None:
                del file[self.dataset]
            self._create(file, array, after)

        self._write(change)

    def _update(self, array: Any, indices: Any, after: Progress) -> None:
        def change(file: Any) -> None:
            if self.dataset not in file:
                raise self._nothing()
            self._checked_update(array, indices, file[self.dataset])
            _note(file[self.dataset], after)

        self._write(change)

    def _create(self, file: Any, array: Any, after: Progress) -> None:
        row = max(1, array.dtype.itemsize * int(self._np.prod(array.shape[1:], dtype=int)))
        chunks = (max(1, _CHUNK_BYTES // row), *(max(1, side) for side in array.shape[1:]))
        dataset = file.create_dataset(
            self.dataset, data=array, maxshape=(None, *array.shape[1:]), chunks=chunks, dtype=array.dtype
        )
        _note(dataset, after)


def _note(dataset: Any, progress: Progress) -> None:
    text = json.dumps(progress.as_dict())
    # Of a fixed length as long as it fits: attributes that change their size move about in the file.
    dataset.attrs[NOTE] = text.ljust((len(text) // 256 + 1) * 256)


def _progress_of(dataset: Any) -> Progress:
    text = dataset.attrs.get(NOTE)
    return Progress(dataset.shape[0] if dataset.shape else 0) if text is None else Progress.of(json.loads(text))


def _journal_of(path: Path) -> Path:
    return path.with_name(path.name + ".journal")


def _repeat(path: Path) -> None:
    """Repeats what a killed program had begun to write, if there is a journal of it."""
    journal = _journal_of(path)
    if journal.exists():
        with path.open("r+b") as file:
            _apply(file.fileno(), pickle.loads(journal.read_bytes()))
        journal.unlink()


def _apply(file: int, pages: list[tuple[int, bytes]]) -> None:
    for offset, data in pages:
        os.pwrite(file, data, offset)


class Staged(io.RawIOBase):
    """A file whose writes stay in memory until `commit`. Nothing happens to the file when it is closed without."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._file = os.open(path, os.O_RDWR) if path.exists() else None
        self.size: int = 0 if self._file is None else os.fstat(self._file).st_size
        self._before = self.size
        self._position = 0
        self._pages: dict[int, bytearray] = {}

    def _page(self, number: int) -> bytearray:
        page = self._pages.get(number)
        if page is None:
            page = self._pages[number] = bytearray(self._in_file(number * _PAGE, _PAGE))
        return page

    def _in_file(self, offset: int, size: int) -> bytes:
        data = b"" if self._file is None else os.pread(self._file, size, offset)
        return data.ljust(size, b"\0")

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence] + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        done, wanted = 0, max(0, min(len(view), self.size - self._position))
        while done < wanted:
            number, start = divmod(self._position, _PAGE)
            if number in self._pages:
                data: bytes | bytearray = self._pages[number][start : start + wanted - done]
            else:
                data = self._in_file(self._position, min(_PAGE - start, wanted - done))
            view[done : done + len(data)] = data
            done += len(data)
            self._position += len(data)
        return done

    def write(self, data: ReadableBuffer) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            number, start = divmod(self._position, _PAGE)
            part = view[done : done + _PAGE - start]
            self._page(number)[start : start + len(part)] = part
            done += len(part)
            self._position += len(part)
        self.size = max(self.size, self._position)
        return done

    def truncate(self, size: int | None = None) -> int:
        # HDF5 cuts off what it does not need. Here a file only grows: what is behind its end is never read.
        self.size = max(self.size, self._position if size is None else size)
        return self.size

    def commit(self) -> None:
        """Writes everything: behind the old end first, then the journal, then in place."""
        pages = sorted(self._pages.items())
        behind = [(n * _PAGE, bytes(page)) for n, page in pages if n * _PAGE >= self._before]
        inside = [(n * _PAGE, bytes(page)) for n, page in pages if n * _PAGE < self._before]
        if self._file is None or not self._before:
            # A new file gets its name when it is whole.
            fresh = self._path.with_name(self._path.name + ".new")
            with fresh.open("wb") as file:
                file.truncate(self.size)
                _apply(file.fileno(), behind)
            fresh.replace(self._path)
            return
        _apply(self._file, behind)
        os.ftruncate(self._file, max(self.size, os.fstat(self._file).st_size))
        fresh = _journal_of(self._path).with_name(_journal_of(self._path).name + ".new")
        fresh.write_bytes(pickle.dumps(inside))
        fresh.replace(_journal_of(self._path))
        _apply(self._file, inside)
        _journal_of(self._path).unlink()

    def close(self) -> None:
        if not self.closed and self._file is not None:
            os.close(self._file)
        super().close()
