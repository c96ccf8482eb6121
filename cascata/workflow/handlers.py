"""What becomes of results: collected, summed up, averaged, and saved every so often.

    add(result) ──> [ in order of their index ] ──> take ──> every n results: saver

Results are taken in the order of their batches, whatever the order in which they come: so sums of floats are the same
in every run, and what is saved is always all batches up to one, from which a later run can go on.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

from ..dsl.operators import is_whole
from ..errors import DefinitionError
from ..faces import public
from ..records import dataclass
from .batches import BatchMessage
from .savers.base import Saver, needs

__all__ = ["MeanResult", "OnlineMean", "OnlineSum", "ResultsCollector", "ResultsHandler"]

_NUMBERS: Final = (int, float)


@public
@dataclass(frozen=True, slots=True)
class MeanResult:
    """A mean, and how many items it is the mean of: what a task may return for an `OnlineMean`."""

    value: Any
    count: int


@public
class ResultsHandler(ABC):
    """Base of handlers. In a `with` block, what is not saved yet is saved at its end, whatever ended it.

    Args:
        saver: where results are saved; None: nowhere.
        save_interval: results (batches) after which they are saved.
        resume: go on behind the last batch that the saver has saved; otherwise batches count from 0, whatever is
            there. What to stream then begins with batch `next_index`.

    Attributes:
        next_index: of the batch that is to be taken next: all before it have been.

    Raises:
        DefinitionError: an argument is not allowed.
        CascataError: what is saved cannot be read.
    """

    def __init__(self, saver: Saver | None = None, save_interval: int = 1, *, resume: bool = False) -> None:
        if not is_whole(save_interval, 1):
            raise DefinitionError(
                f"{type(self).__name__}: save_interval must be a whole number of at least 1, not {save_interval!r}."
            )
        if saver is not None and not isinstance(saver, Saver):
            raise DefinitionError(f"{type(self).__name__}: saver must be a Saver or None, not {saver!r}.")
        if resume and saver is None:
            raise DefinitionError(f"{type(self).__name__}: resume=True goes on where a saver stopped: give it one.")
        self.saver = saver
        self.save_interval = save_interval
        self.next_index: int = 0
        self._early: dict[int, Any] = {}
        self._unsaved = 0
        if resume and saver is not None:
            progress = saver.progress
            if progress.last_index is not None:
                self.next_index = progress.last_index + 1
                self._restore(saver, progress.state)

    def add(self, result: Any, index: int | None = None) -> None:
        """Adds a result.

        Args:
            result: a `BatchMessage` of `dag.stream`, or what `Task.map` yields.
            index: of its batch; None: the message's own, or else the next one.

        Raises:
            DefinitionError: this batch has been added already.
            CascataError, OSError: it cannot be saved.
        """
        if isinstance(result, BatchMessage):
            index, result = result.index if index is None else index, result.payload
        elif index is None:
            index = self.next_index + len(self._early)
        if index < self.next_index or index in self._early:
            raise DefinitionError(
                f"{type(self).__name__}.add: batch {index} is in already; the next one is {self.next_index}. To go on "
                f"with another stream give it first_index=handler.next_index, or begin with a new handler."
            )
        self._early[index] = result
        while self.next_index in self._early:
            self._take(self._early.pop(self.next_index))
            self.next_index += 1
            self._unsaved += 1
            if self.saver is not None and self._unsaved >= self.save_interval:
                self.save()

    def save(self) -> None:
        """Saves what has been taken and is not saved yet. Does nothing without a saver.

        Raises:
            CascataError, OSError: it cannot be saved.
        """
        if self.saver is not None and self._unsaved:
            self._save(self.saver, self.next_index - 1)
            self._unsaved = 0

    def finalize(self) -> None:
        """As `save`: for the end."""
        self.save()

    @abstractmethod
    def get(self) -> Any:
        """What has become of the results that were taken."""

    @abstractmethod
    def _take(self, result: Any) -> None:
        """The next result, in order."""

    @abstractmethod
    def _save(self, saver: Saver, last_index: int) -> None:
        """Saves everything up to this batch."""

    @abstractmethod
    def _restore(self, saver: Saver, state: Mapping[str, Any]) -> None:
        """Takes over what is saved."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finalize()


@public
class ResultsCollector(ResultsHandler):
    """Keeps results in order.

    With a saver the items of the results become rows: a result that is a list or an array gives one for each of its
    items, any other one gives one row. With "append" and "update" what is saved is not kept in memory; "update" begins
    with row 0. With "overwrite" each save writes everything.

    Args: see `ResultsHandler`.
    """

    def __init__(self, saver: Saver | None = None, save_interval: int = 1, *, resume: bool = False) -> None:
        self._results: list[Any] = []
        self._row = 0
        super().__init__(saver, save_interval, resume=resume)

    def get(self) -> Any:
        """The results, one for each batch, in a list. With a saver: the rows that it holds, as an array.

        Raises:
            CascataError, OSError: it cannot be saved, or nothing is.
        """
        if self.saver is None:
            return list(self._results)
        self.save()
        return self.saver.load()

    def _take(self, result: Any) -> None:
        self._results.append(result)

    def _save(self, saver: Saver, last_index: int) -> None:
        np = needs("numpy", "npy", type(self).__name__)
        rows = np.concatenate([np.atleast_1d(np.asarray(each, dtype=saver.dtype)) for each in self._results])
        if saver.approach == "overwrite":
            saver.save(rows, last_index=last_index)
            return
        end = self._row + len(rows)
        indices = slice(self._row, end) if saver.approach == "update" else None
        saver.save(rows, indices, last_index=last_index, state={"row": end})
        self._row = end
        self._results.clear()

    def _restore(self, saver: Saver, state: Mapping[str, Any]) -> None:
        self._row = state.get("row", 0)
        if saver.approach == "overwrite":
            self._results = [saver.load()]


@public
class OnlineSum(ResultsHandler):
    """The sum of all items, of numbers or of arrays, with what rounding loses added up on its own (Neumaier 1974).

    With a saver, the sum so far is saved: with "overwrite" in place of the one before, with "append" behind it.

    Args:
        saver: see `ResultsHandler`.
        save_interval: see `ResultsHandler`.
        resume: see `ResultsHandler`.
        per_item: whether a result that is a list or an array is a batch, whose items (along its first axis) are added;
            otherwise every result is one item.

    Attributes:
        count: items that were added.
    """

    def __init__(
        self, saver: Saver | None = None, save_interval: int = 1, *, resume: bool = False, per_item: bool = True
    ) -> None:
        if saver is not None and saver.approach == "update":
            raise DefinitionError(
                f"{type(self).__name__}: a saver with approach='update' has rows to replace, not this."
            )
        self.count: int = 0
        self._per_item = per_item
        self._sum: Any = 0
        self._lost: Any = 0
        super().__init__(saver, save_interval, resume=resume)

    def get(self) -> Any:
        """The sum so far; 0 when nothing was added."""
        return self._sum + self._lost

    def _take(self, result: Any) -> None:
        if not self._per_item or not (isinstance(result, list | tuple) or getattr(result, "ndim", 0) > 0):
            self._add(result, 1)
        elif not self._add_numbers(result):
            for item in result:
                self._add(item, 1)

    def _add_numbers(self, batch: Any) -> bool:
        """Adds a batch of plain numbers at once; False when it is none."""
        numbers = batch if isinstance(batch, list | tuple) else _numbers_of(batch)
        if numbers is None or not all(type(each) in _NUMBERS for each in (self._sum, self._lost, *numbers)):
            return False
        if all(type(each) is int for each in (self._sum, *numbers)) and self._lost == 0:
            self._sum += sum(numbers)
        else:
            try:
                total = math.fsum((self._sum, self._lost, *numbers))
                self._lost = math.fsum((self._sum, self._lost, *numbers, -total))
                self._sum = total
            except (OverflowError, ValueError):  # infinite, or on its way there; infinities of both signs
                return False
        self.count += len(batch)
        return True

    def _add(self, item: Any, count: int) -> None:
        if isinstance(item, list | tuple | dict | str):
            raise DefinitionError(
                f"{type(self).__name__} adds numbers and arrays, and batch {self.next_index} has an item of type "
                f"{type(item).__name__}: {item!r:.80}"
            )
        self.count += count
        before = self._sum
        self._sum = total = before + item
        # What the rounding of this sum lost, exactly (Knuth, TAOCP 2, 4.2.2).
        part = total - before
        lost = (before - (total - part)) + (item - part)
        if getattr(lost, "ndim", 0):
            lost[lost != lost] = 0  # noqa: PLR0124  # the difference of infinities is none
        elif lost != lost:  # noqa: PLR0124  # ...
            lost = 0
        self._lost = self._lost + lost

    def _save(self, saver: Saver, last_index: int) -> None:
        np = needs("numpy", "npy", type(self).__name__)
        value = np.asarray(self.get())
        state: dict[str, Any] = {"count": self.count}
        if value.ndim == 0:  # exactly; arrays to the last bit of what is in the file
            state |= {"sum": _plain(self._sum), "lost": _plain(self._lost)}
        saver.save(value[None] if saver.approach == "append" else value, last_index=last_index, state=state)

    def _restore(self, saver: Saver, state: Mapping[str, Any]) -> None:
        self.count = state["count"]
        if "sum" in state:
            self._sum, self._lost = state["sum"], state["lost"]
        else:
            saved = saver.load()
            self._sum = self._sum_of(saved[-1] if saver.approach == "append" else saved)

    def _sum_of(self, value: Any) -> Any:
        """The sum, from what `get` gave."""
        return value


@public
class OnlineMean(OnlineSum):
    """The mean of all items, of numbers or of arrays: their sum, as `OnlineSum` has it, by their count.

    A task may give the mean of its batch instead of the items: a `MeanResult(value, count)`.

    Args: see `OnlineSum`.
    """

    def get(self) -> Any:
        """The mean so far.

        Raises:
            DefinitionError: nothing was added.
        """
        if not self.count:
            raise DefinitionError(f"{type(self).__name__}.get: the mean of nothing. Add results first.")
        return super().get() / self.count

    def _take(self, result: Any) -> None:
        if isinstance(result, MeanResult):
            self._add(result.value * result.count, result.count)
        else:
            super()._take(result)

    def _sum_of(self, value: Any) -> Any:
        return value * self.count


def _numbers_of(array: Any) -> list[Any] | None:
    return array.tolist() if array.ndim == 1 and array.dtype.kind in "iuf" else None


def _plain(number: Any) -> Any:
    return number.item() if hasattr(number, "item") else number
