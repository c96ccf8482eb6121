"""The tasks of the tests. Workers import them from here."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cascata.workflow import DAG, SinkQueue, SourceQueue, Task

__all__ = [
    "ENGINES",
    "Ask",
    "Combine",
    "Die",
    "Gather",
    "Keep",
    "Note",
    "Prefactor",
    "Refuse",
    "Same",
    "Square",
    "SquareLater",
    "Sum",
    "Unclosed",
    "Wait",
    "contract_dag",
]

ENGINES: Final[dict[str, dict[str, Any]]] = {
    "inline": {"engine": "inline"},
    "1 worker": {"num_workers": 1},
    "2 workers": {"num_workers": 2},
    "3 workers": {"num_workers": 3},
}


class Square(Task):
    def do(self, batch: Sequence[int]) -> list[int]:
        return [x**2 for x in batch]


class Same(Task):
    def do(self, batch: Any) -> Any:
        return batch


class SquareLater(Task):
    async def do(self, batch: Sequence[int]) -> list[int]:
        await asyncio.sleep(0)
        return [x**2 for x in batch]


class Prefactor(Task):
    def do(self, batch: Sequence[int], factor: int = 1) -> list[int]:
        return [factor * x for x in batch]


class Combine(Task):
    def do(self, a: list[int], b: list[int]) -> dict[str, list[int]]:
        return {"a": a, "b": b}


class Sum(Task):
    def do(self, batch: dict[str, list[int]]) -> list[int]:
        return [a + b for a, b in zip(batch["a"], batch["b"], strict=True)]


class Gather(Task):
    """Gives what it got, as it is: one tuple for all inputs."""

    def do(self, *batches: Any) -> tuple[Any, ...]:
        return batches


class Wait(Task):
    """Takes longer for some batches than for others, so that members of a group overtake each other."""

    def do(self, batch: list[int]) -> list[int]:
        time.sleep(0.003 * (batch[0] % 3))
        return batch


class Ask(Task):
    """Fails at a number that it is told of."""

    def __init__(self, bad: int) -> None:
        self.bad = bad

    def do(self, batch: list[int]) -> list[int]:
        if self.bad in batch:
            raise ValueError(f"{self.bad} is bad")
        return batch


class Die(Task):
    def do(self, batch: list[int]) -> list[int]:
        if 7 in batch:
            os.kill(os.getpid(), signal.SIGKILL)
        return batch


class Note(Task):
    """Takes its time, and writes down the first number of each batch when it is done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def do(self, batch: list[int]) -> list[int]:
        time.sleep(0.003)
        (self.folder / str(batch[0])).touch()
        return batch


class Refuse(Task):
    """Cannot be set up."""

    def setup(self) -> None:
        raise OSError("no such model")

    def do(self, batch: list[int]) -> list[int]:
        return batch


class Unclosed(Task):
    """Fails when it is torn down."""

    def teardown(self) -> None:
        raise OSError("it cannot be closed")

    def do(self, batch: list[int]) -> list[int]:
        return batch


class Keep(Task):
    """Writes down when it begins and ends, and adds what `setup` made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made = 0

    def setup(self) -> None:
        self.made = 100
        self.note("setup")

    def teardown(self) -> None:
        self.note("teardown")

    def note(self, what: str) -> None:
        number = len(list(self.folder.iterdir()))
        while True:
            try:
                (self.folder / f"{number}_{what}").touch(exist_ok=False)
                return
            except FileExistsError:
                number += 1

    def do(self, batch: list[int]) -> list[int]:
        return [x + self.made for x in batch]


def contract_dag() -> tuple[DAG, tuple[SourceQueue, ...], tuple[SinkQueue, ...]]:
    """Two sources, five tasks, two sinks."""
    dag = DAG()
    source_n1, source_1 = dag.add_source()
    source_n2, source_2 = dag.add_source()
    prefactor = dag.add(Prefactor(), inputs=source_n1, task_kwargs={"factor": 2})
    square_1 = dag.add(Square(), inputs=prefactor)
    square_2 = dag.add(Square(), inputs=source_n2)
    combined = dag.add(Combine(), inputs=(square_1, square_2))
    summed = dag.add(Sum(), inputs=combined)
    return dag, (source_1, source_2), (dag.add_sink(summed), dag.add_sink(square_2))
