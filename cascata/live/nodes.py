"""`Source` and `Sink`: the nodes by which the caller of a run feeds it, and reads its results."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

from ..dsl.component import ComponentType, make_class
from ..dsl.registry import registry
from ..faces import face_of
from ..model import ComponentSpec, InPortSpec, OutPortSpec

__all__ = ["Sink", "Source"]


class CallerType(ComponentType):
    """The class of `Source` and `Sink`: `Source()` is another way to write `Source`."""

    def __call__(self) -> Any:
        return self


def _source(out: object) -> None:
    """Stands for a runner: the caller is it."""


def _sink(inp: object) -> None:
    """Stands for a runner: the caller is it."""


def _declare(name: str, runner: Callable[[object], None], doc: str, **ports: Any) -> Any:
    made = make_class(
        CallerType,
        ComponentSpec(
            name=name,
            module=face_of(__name__),
            qualname=name,
            runner=runner,
            form="plain",
            parameters=tuple(signature(runner).parameters),
            doc=doc,
            at_caller=True,
            **ports,
        ),
    )
    registry.add(made)
    return made


Source: Any = _declare(
    "Source",
    _source,
    """Feeds a graph from outside: what the caller of the run sends leaves by `out`.

    `graph.numbers = Source()`, then `graph.stream(items)`, or `live.numbers.send(item)` inside `graph.open()`.
    """,
    outports=(OutPortSpec("out"),),
)

Sink: Any = _declare(
    "Sink",
    _sink,
    """Hands results out of a graph: what comes to `inp` is read by the caller of the run.

    `graph.results = Sink()`, then `for value in graph.stream(items)`, or `async for value in live.results` inside
    `graph.open()`.
    """,
    inports=(InPortSpec("inp"),),
)
