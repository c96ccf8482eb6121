"""What all savers have in common: three ways to save, and a note of how far they came.

    results ──> array ──> rows in the file ──> progress: the last batch that is in it

The progress is written after the rows, or with them at once. What a killed program had begun to write behind it is
cut off when the next one opens the file, so that rows and progress always belong together.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, field
from os import PathLike
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

from ...errors import CascataError, DefinitionError
from ...faces import public
from ...options import suggestion
from ...records import dataclass

__all__ = ["NOTE", "Approach", "Progress", "Saver", "needs"]

Approach: TypeAlias = Literal["append", "overwrite", "update"]

NOTE: Final = "cascata_progress"
"""The name of the attribute in which a file says how far it came."""

_APPROACHES: Final = get_args(Approach)


@public
@dataclass(frozen=True, slots=True)
class Progress:
    """How far a saved file came.

    Attributes:
        rows: that the file holds, along its first axis.
        last_index: of the last batch in it; None: none, or nobody said.
        state: what a handler needs besides the rows to go on: numbers and texts by name.
    """

    rows: int = 0
    last_index: int | None = None
    state: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Progress:
        """From `as_dict`."""
        return cls(int(data["rows"]), data["last_index"], dict(data["state"]))


def needs(package: str, extra: str, who: str) -> Any:
    """Imports an optional package.

    Raises:
        CascataError: it is missing; the text says what to install.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise CascataError(
            f"{who} needs the package {package!r}, which is not installed: pip install 'cascata[{extra}]'"
        ) from error


@public
class Saver(ABC):
    """Base of savers. One saver writes to a file at a time.

    Args:
        path: of the file.
        approach: "append": behind the rows that are there; "overwrite": each save replaces everything; "update": rows
            that are there are replaced.
        dtype: of what is saved; None: that of the first results.

    Raises:
        DefinitionError: the approach is unknown.
        CascataError: a package is not installed.
    """

    def __init__(self, path: str | PathLike[str], approach: Approach = "append", dtype: Any = None) -> None:
        if approach not in _APPROACHES:
            raise DefinitionError(
                f"{type(self).__name__}: approach {approach!r} is none of "
                f"{', '.join(map(repr, _APPROACHES))}.{suggestion(str(approach), _APPROACHES)}"
            )
        self.path: Path = Path(path)
        self.approach: Approach = approach
        self.dtype = dtype
        self._np = needs("numpy", "npy", type(self).__name__)

    def save(
        self,
        data: Any,
        indices: Any = None,
        *,
        last_index: int | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        """Saves results by the saver's approach. They are in the file when this returns.

        Args:
            data: an array, or what makes one: rows along its first axis.
            indices: for "update": which rows, as NumPy takes them: a slice, or a list of numbers.
            last_index: of the last batch in them, for a resumption; None: as it was.
            state: what else a resumption needs; None: as it was.

        Raises:
            DefinitionError: indices are given and the approach is not "update", or the other way round.
            CascataError: the results do not fit what is in the file, or it cannot be read.
            OSError: the file cannot be written. What was saved before is still there.
        """
        if (indices is None) is (self.approach == "update"):
            raise DefinitionError(
                f"{type(self).__name__}.save: " + "approach='update' replaces rows: say which, with indices=."
                if self.approach == "update"
                else f"{type(self).__name__}.save: indices= is for approach='update', not {self.approach!r}."
            )
        array = self._array(data)
        if array.ndim == 0:
            array = array.reshape(1)
        before = self.progress
        rows = {"append": before.rows + len(array), "overwrite": len(array), "update": before.rows}[self.approach]
        after = Progress(
            rows, before.last_index if last_index is None else last_index, before.state if state is None else state
        )
        if self.approach == "append":
            self._append(array, before, after)
        elif self.approach == "overwrite":
            self._overwrite(array, after)
        else:
            self._update(array, indices, after)

    def _array(self, data: Any) -> Any:
        problem: Exception | None = None
        try:
            array = self._np.asarray(data, dtype=self.dtype)
            if array.dtype != object:
                return array
        except ValueError as error:
            problem = error
        raise CascataError(
            f"{self}: the results make no array of numbers{'' if problem is None else f': {problem}'}. Save results of "
            f"equal shape, or collect them without a saver."
        ) from problem

    @property
    @abstractmethod
    def progress(self) -> Progress:
        """How far the file came; `Progress()` when there is none.

        Raises:
            CascataError: it cannot be read.
        """

    @abstractmethod
    def load(self) -> Any:
        """What is saved, as an array.

        Raises:
            CascataError: nothing is saved, or it cannot be read.
        """

    @abstractmethod
    def _append(self, array: Any, before: Progress, after: Progress) -> None: ...

    @abstractmethod
    def _overwrite(self, array: Any, after: Progress) -> None: ...

    @abstractmethod
    def _update(self, array: Any, indices: Any, after: Progress) -> None: ...

    def _check_fits(self, array: Any, shape: tuple[int, ...], dtype: Any) -> None:
        """Raises `CascataError` when rows do not fit those that are there."""
        if tuple(array.shape[1:]) != tuple(shape[1:]):
            raise CascataError(
                f"{self}: rows of shape {tuple(array.shape[1:])} do not fit the rows of shape {tuple(shape[1:])} that "
                f"are there. Save to another path, or use approach='overwrite'."
            )
        if not self._np.can_cast(array.dtype, dtype, "same_kind"):
            raise CascataError(
                f"{self}: results of type {array.dtype} do not fit the {dtype} that is there. Save to another path, "
                f"give dtype=, or use approach='overwrite'."
            )

    def _checked_update(self, array: Any, indices: Any, target: Any) -> None:
        """`target[indices] = array`, with an error that says what does not fit."""
        self._check_fits(array, target.shape, target.dtype)
        try:
            target[indices] = array
        except (IndexError, ValueError, TypeError, OSError) as error:  # h5py has the last one for an index too large
            raise CascataError(
                f"{self}: {len(array)} rows do not fit indices {indices!r} of the {target.shape[0]} rows that are "
                f"there: {error}"
            ) from error

    def _nothing(self) -> CascataError:
        return CascataError(f"{self}: there is nothing at {str(self.path)!r} yet")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, approach={self.approach!r})"
