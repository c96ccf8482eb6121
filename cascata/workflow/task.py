"""A task: what is done to each batch, and `map`, which does it to all data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Unpack

from ..faces import public
from ..options import Engine, MapKwargs
from .mapping import run_map
from .task_base import TaskBase

__all__ = ["Task"]


@public
class Task(TaskBase):
    """Base of tasks. A subclass says in `do` what becomes of a batch.

        class SquareTask(Task):
            def do(self, batch: list[int]) -> list[int]:
                return [x**2 for x in batch]

    The instance travels to the workers as it is when the DAG starts, and each of them has a copy of its own. What is
    expensive to make, or cannot travel (a model, a connection), is made in `setup`.
    """

    def map(
        self,
        data: Iterable[Any],
        batch_size: int | None = None,
        num_workers: int | None = None,
        engine: Engine = "processes",
        *,
        in_parallel: bool = True,
        task_kwargs: Mapping[str, Any] | None = None,
        prebatched: bool = False,
        **options: Unpack[MapKwargs],
    ) -> Iterator[Any]:
        """Does the task for all data, batch by batch.

        The data are read as they are needed, a few batches ahead of what was yielded. Works also where a loop already
        runs in this thread. Closing the iterator ends the workers.

        Args:
            data: any iterable.
            batch_size: items in a batch; None: chosen by the cores, the length of the data when they have one, and the
                measured time: the first batches are small, later ones are about 75 ms of work.
            num_workers: worker processes; None: one for each core, and no more than there are batches.
            engine: "processes", "inline", or "ray".
            in_parallel: False is the same as `engine="inline"`.
            task_kwargs: keyword arguments of `do`.
            prebatched: whether the items of `data` are batches already.
            **options: of the run, see `cascata.options.RUN_OPTIONS`.

        Yields:
            What `do` returned for each batch, in order.

        Raises:
            DefinitionError: (at once) an argument is not allowed.
            ComponentError: `do` raised.
            CascataError: any other failure of the run.
        """
        return run_map(
            self,
            data,
            batch_size=batch_size,
            num_workers=num_workers,
            engine=engine if in_parallel else "inline",
            task_kwargs=task_kwargs,
            prebatched=prebatched,
            options=options,
        )
