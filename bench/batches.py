"""A DAG of one task: caller ──> source ──> task, on a worker ──> sink ──> caller, in batches of small items."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import Any, Final

from bench.items import items, marks, rate
from cascata.workflow import DAG, Task

__all__ = ["BATCH", "dag_stream"]

BATCH: Final = 100


class Pass(Task):
    """Does nothing."""

    def do(self, batch: list[Any]) -> list[Any]:
        return batch


def dag_stream(count: int) -> dict[str, float]:
    """Ints through `dag.stream` in batches of 100. Returns "rate": items a second, as `ray_queue` does."""
    dag = DAG()
    source, _ = dag.add_source()
    dag.add_sink(dag.add(Pass(), inputs=source))

    def arriving() -> Iterator[Any]:
        for _, message in dag.stream(items("ints", count), batch_size=BATCH):
            yield from message.payload

    times = []
    with dag:
        dag.start(num_workers=1)
        at = marks(count)
        for number, _ in enumerate(arriving()):
            if number in at:
                times.append(perf_counter())
    return {"rate": rate(count, times)}
