"""Two streams of numbers through a DAG of batch tasks: (2a)² + b², batch by batch, and b² on the side.

    a ──> prefactor ──> square ───┐
                                  ├──> combine ──> sum ──> (2a)² + b²
    b ──> square ─────────────────┘
             └────────────────────────────────────────────> b²

The two squares are on their way at the same time; batches that belong together meet in `combine` by their index,
whoever comes first.

    python examples/batch_dag.py [--items 4] [--batch-size 2] [--engine processes]
"""

from __future__ import annotations

import argparse

from cascata.workflow import DAG, Task


class PrefactorTask(Task):
    """Multiplies by a factor."""

    def do(self, batch: list[int], factor: int = 1) -> list[int]:
        return [factor * x for x in batch]


class SquareTask(Task):
    """Squares."""

    def do(self, batch: list[int]) -> list[int]:
        return [x**2 for x in batch]


class CombineTask(Task):
    """Gets a batch of each input, and passes them on as one."""

    def do(self, left: list[int], right: list[int]) -> dict[str, list[int]]:
        return {"left": left, "right": right}


class SumTask(Task):
    """Adds in pairs."""

    def do(self, batch: dict[str, list[int]]) -> list[int]:
        return [a + b for a, b in zip(batch["left"], batch["right"], strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--items", type=int, default=4, help="numbers in each stream")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--engine", default="processes")
    given = parser.parse_args()

    dag = DAG()
    a, source_a = dag.add_source("a")
    b, source_b = dag.add_source("b")
    prefactor = dag.add(PrefactorTask(), inputs=a, task_kwargs={"factor": 2})
    square_a = dag.add(SquareTask(), inputs=prefactor)
    square_b = dag.add(SquareTask(), inputs=b)
    combined = dag.add(CombineTask(), inputs=(square_a, square_b))
    summed = dag.add(SumTask(), inputs=combined)
    sums, squares = dag.add_sink(summed), dag.add_sink(square_b)

    numbers = range(1, given.items + 1)
    others = range(given.items + 1, 2 * given.items + 1)
    with dag:
        dag.start(engine=given.engine)
        for q_idx, msg in dag.stream(
            numbers,
            others,
            source_queues=(source_a, source_b),
            sink_queues=(sums, squares),
            batch_size=given.batch_size,
            ordered=True,
        ):
            print(f"{('sum', 'square')[q_idx]:6}  batch {msg.index}  {msg.payload}")
        print(dag.stop())


main()
