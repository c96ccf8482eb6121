"""What a task is in a graph: a node with one in-port, one out-port, and the task as its state.

    inputs ── merged ──> batches ──> [ align by index ] ──> transform ──> task.do ──> results

All inputs of a task come in by one in-port; each batch carries the name of the node that sent it. A batch that has
come from every input goes on, so what waits here is never more than the batches that are inside the DAG. Members of a
group share their batches, so that two parts of one batch would not meet: a node of its own puts them together first.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from ..dsl.component import Component, ComponentType, make_class
from ..live import Sink
from ..model import ComponentSpec, InPortSpec, OutPortSpec, StateSpec
from ..options import COMPONENT_OPTIONS
from .batches import Batch

if TYPE_CHECKING:
    from ..dsl import State
    from .task_base import TaskBase

__all__ = ["BATCHES", "RESULTS", "WORK", "Timed", "join_class", "sink_class", "task_class"]

BATCHES: Final = "batches"
RESULTS: Final = "results"
WORK: Final = "work"


class Align:
    """Puts the parts of batches together that come from several inputs.

    Args:
        inputs: the nodes that they come from, in the order of the task's arguments. A node may stand there twice.
    """

    __slots__ = ("_inputs", "_parts", "_wanted")

    def __init__(self, inputs: Sequence[str]) -> None:
        self._inputs = tuple(inputs)
        self._wanted = len(set(inputs))
        self._parts: dict[tuple[int, int], dict[str, Any]] = {}

    def take(self, batch: Batch) -> tuple[Any, ...] | None:
        """The payloads of all inputs, when this part was the last one that lacked; else None."""
        key = (batch.stream, batch.number)
        parts = self._parts.setdefault(key, {})
        parts[batch.origin] = batch.payload
        if len(parts) < self._wanted:
            return None
        del self._parts[key]
        return tuple(parts[origin] for origin in self._inputs)


class Timed:
    """What a task made of a batch, and the seconds of work that it took."""

    __slots__ = ("result", "seconds")

    def __init__(self, result: Any, seconds: float) -> None:
        self.result: Any = result
        self.seconds: float = seconds

    def __reduce__(self) -> tuple[Any, ...]:
        return Timed, (self.result, self.seconds)


class Work:
    """A task at work in one node."""

    __slots__ = ("_align", "_do", "_joined", "_kwargs", "_name", "_timed", "_transform")

    def __init__(
        self,
        name: str,
        task: TaskBase,
        kwargs: Mapping[str, Any],
        transform: Callable[[Any], Any] | None,
        align: Align | None,
        *,
        joined: bool,
        timed: bool,
    ) -> None:
        self._name = name
        self._do = task.do
        self._kwargs = kwargs
        self._transform = transform
        self._align = align
        self._joined = joined
        self._timed = timed

    def take(self, batch: Batch) -> Batch | Awaitable[Batch] | None:
        """Does the task for a batch; None while parts of it are missing."""
        payloads: Sequence[Any] | None
        if self._align is not None:
            payloads = self._align.take(batch)
            if payloads is None:
                return None
        else:
            payloads = batch.payload if self._joined else (batch.payload,)
        if self._transform is not None:
            payloads = [self._transform(each) for each in payloads]
        began = perf_counter()
        result = self._do(*payloads, **self._kwargs)
        if inspect.isawaitable(result):
            return self._finish(batch, result, began)
        return self._sent(batch, result, began)

    async def _finish(self, batch: Batch, result: Awaitable[Any], began: float) -> Batch:
        return self._sent(batch, await result, began)

    def _sent(self, batch: Batch, result: Any, began: float) -> Batch:
        if self._timed:
            result = Timed(result, perf_counter() - began)
        return Batch(batch.number, result, self._name, batch.stream)


def _working(
    *,
    name: str,
    task: TaskBase,
    kwargs: Mapping[str, Any],
    transform: Callable[[Any], Any] | None,
    aligned: Sequence[str],
    joined: bool,
    timed: bool,
) -> Iterator[Work]:
    """The state of a task's node: from the task's `setup` to its `teardown`."""
    task = copy.copy(task)  # members on one worker, and all nodes of an inline run, were given the same object
    task.setup()
    try:
        yield Work(name, task, kwargs, transform, Align(aligned) if aligned else None, joined=joined, timed=timed)
    finally:
        task.teardown()


def _run_task(batches: Batch, work: State[Work]) -> Any:
    return work.value.take(batches)


def _run_join(batches: Batch, work: State[tuple[str, Align]]) -> Batch | None:
    name, align = work.value
    payloads = align.take(batches)
    return None if payloads is None else Batch(batches.number, payloads, name, batches.stream)


def _joining(name: str, inputs: Sequence[str]) -> tuple[str, Align]:
    return name, Align(inputs)


def _class(
    name: str, module: str, doc: str | None, runner: Any, initializer: Any, capacity: int, resources: Any
) -> type[Component]:
    spec = ComponentSpec(
        name=name,
        module=module,
        qualname=name,
        runner=runner,
        form="plain",
        parameters=(BATCHES, WORK),
        inports=(InPortSpec(BATCHES, capacity=capacity),),
        outports=(OutPortSpec(RESULTS),),
        states=(StateSpec(WORK, initializer),),
        options={each.name: each.default for each in COMPONENT_OPTIONS.values()} | {"resources": resources},
        doc=doc,
    )
    return make_class(ComponentType, spec)


def task_class(task: TaskBase, capacity: int, cpus: int) -> type[Component]:
    """The component class for a task. Its state `work` takes the arguments of `work_args`.

    Args:
        task: the task.
        capacity: batches sent to it and not yet taken.
        cpus: cores that one member uses, for engines that place by resources.
    """
    kind = type(task)
    resources = {"CPU": cpus} if cpus != 1 else None
    return _class(kind.__name__, kind.__module__, kind.__doc__, _run_task, _working, capacity, resources)


def join_class(capacity: int) -> type[Component]:
    """The component class that puts batches of several inputs together for a group. Its state takes (name, inputs)."""
    return _class("Join", __name__, "Puts the parts of a batch together.", _run_join, _joining, capacity, None)


def sink_class(capacity: int) -> type[Component]:
    """A `Sink` in which so many batches may wait."""
    (port,) = Sink.spec.inports
    return make_class(ComponentType, replace(Sink.spec, inports=(replace(port, capacity=capacity),)))
