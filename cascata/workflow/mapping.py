"""`Task.map`: one task, many batches, results in order."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..dsl.operators import is_whole
from ..errors import DefinitionError
from ..options import RunOptions
from ..plan.partition import available_cpus
from .dag import DAG
from .nodes import Timed
from .sizing import BatchSize

if TYPE_CHECKING:
    from .task_base import TaskBase

__all__ = ["run_map"]


def run_map(
    task: TaskBase,
    data: Iterable[Any],
    *,
    batch_size: int | None,
    num_workers: int | None,
    engine: str,
    task_kwargs: Mapping[str, Any] | None,
    prebatched: bool,
    options: Mapping[str, Any],
) -> Generator[Any, None, None]:
    """As `Task.map`. Arguments are checked at once; workers start with the first result that is asked for."""
    where = f"{type(task).__name__}.map"
    for what, value in (("batch_size", batch_size), ("num_workers", num_workers)):
        if value is not None and not is_whole(value, 1):
            raise DefinitionError(f"{where}: {what} must be a whole number of at least 1, or None, not {value!r}.")
    if not isinstance(data, Iterable):
        raise DefinitionError(f"{where}: the data are {data!r}, which cannot be iterated over.")
    if prebatched and batch_size is not None:
        raise DefinitionError(f"{where}: the data are batches already (prebatched=True): leave batch_size away.")
    RunOptions.of({"engine": engine, **options}, where)
    length = _length(data)
    workers = 1 if engine == "inline" else num_workers or available_cpus()
    if length is not None and num_workers is None:
        workers = min(workers, max(1, -(-length // (batch_size or 1))))
    if prebatched:
        batches: Iterator[Any] = iter(data)
        sizer = None
    elif batch_size is not None:
        batches = _batches(iter(data), batch_size)
        sizer = None
    else:
        sizer = BatchSize(workers, length)
        batches = _sized(iter(data), sizer)
    return _results(task, batches, sizer, workers, task_kwargs, {"engine": engine, **options})


def _results(
    task: TaskBase,
    batches: Iterator[Any],
    sizer: BatchSize | None,
    workers: int,
    task_kwargs: Mapping[str, Any] | None,
    options: dict[str, Any],
) -> Generator[Any, None, None]:
    lengths: dict[int, int] = {}

    def noted() -> Iterator[Any]:
        for number, batch in enumerate(batches):
            if sizer is not None:
                lengths[number] = len(batch)
            yield batch

    with DAG() as dag:
        source, data = dag.add_source()
        size = workers + 1
        node = dag._add_task(task, (source.name,), task_kwargs=task_kwargs, size=size, members=workers, timed=True)
        results = dag.add_sink(node)
        if options["engine"] != "inline":
            options.setdefault("num_workers", workers)
        dag.start(**options)
        # Each worker has one batch in hand and one that waits.
        through = dag.stream(
            noted(),
            source_queues=data,
            sink_queues=results,
            prebatched=True,
            ordered=True,
            max_inflight=2 * workers + 1,
        )
        for _, message in through:
            timed: Timed = message.payload
            if sizer is not None:
                sizer.measured(lengths.pop(message.index), timed.seconds)
            yield timed.result


def _length(data: Iterable[Any]) -> int | None:
    try:
        return len(data)  # type: ignore[arg-type]  # that is the question
    except TypeError:
        return None


def _batches(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while batch := list(islice(items, size)):
        yield batch


def _sized(items: Iterator[Any], sizer: BatchSize) -> Iterator[list[Any]]:
    while batch := list(islice(items, sizer.next())):
        sizer.taken(len(batch))
        yield batch
