"""The errors for graphs that cannot be sent to a worker: which node, which value, and what to do."""

from __future__ import annotations

import inspect
import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from ...errors import SerializationError, in_words
from ...model import MISSING, GraphSpec, NodeSpec
from ...transport.codec.locating import Found, bound_in
from ...transport.codec.process_bound import Bound
from .by_value import MAIN

__all__ = ["explain", "given_to", "refused_global", "refused_value"]


def given_to(node: NodeSpec) -> Iterator[tuple[str, str | None, Any]]:
    """What a node brings along: what it is in words, its port or state, and the value."""
    for port, given in node.inputs.items():
        for value in (given.constant, given.seed):
            if value is not MISSING:
                yield f"the value of {node.name}.{port}", port, value
    for state, arguments in node.state_args.items():
        for value in (*arguments.args, *arguments.kwargs.values()):
            yield f"an argument for the state {node.name}.{state}", state, value
    yield f"the runner of {node.component.name}", None, node.component.runner
    for each in node.component.states:
        yield f"the initializer of the state {node.name}.{each.name}", each.name, each.initializer


def explain(spec: GraphSpec, problem: Exception, problem_of: Callable[[Any], Exception | None]) -> SerializationError:
    """The error for a graph that cannot be sent: which value of which node it is.

    Args:
        spec: the graph.
        problem: why it cannot be sent.
        problem_of: says of a value why it cannot be.
    """
    for node in spec.nodes.values():
        for what, port, value in given_to(node):
            if value is node.component.runner:
                continue
            if (why := problem_of(value)) is not None:
                found = bound_in(value, what, why)
                if found is not None:
                    return refused_value(node, port, found)
                return _refused(what, node.name, port, value, problem)
        if (why := problem_of(node.component)) is not None:
            what = f"the component {node.component.name} of node {node.name!r}"
            runner = node.component.runner
            if isinstance(why, Bound):
                found = bound_in(runner, f"the runner of {node.component.name}", why)
                if found is not None:
                    return refused_value(node, None, found)
            if isinstance(runner, types.FunctionType) and not _of_a_module(runner):
                return SerializationError(
                    f"{what} was defined in a namespace that is no module (it calls itself {runner.__module__!r}), and "
                    f"what it uses there cannot be sent to a worker: {in_words(problem)}. Define it in a module, or in "
                    f"`__main__`, as a script and a notebook do; or run with engine='inline': it has no border",
                    node=node.name,
                    type=type(runner).__name__,
                )
            return _refused(what, node.name, None, node.component.runner, problem)
    return SerializationError(f"the graph cannot be sent to a worker: {in_words(problem)}")


def refused_global(node: NodeSpec, name: str, found: Found) -> SerializationError:
    """The error for a global that a node uses."""
    return SerializationError(
        f"node {node.name!r} ({node.component.name}) uses the global {name!r} of {_script()}, which cannot be sent to "
        f"a worker: {found.text}. Or run with engine='inline': it has no border",
        node=node.name,
        type=found.type,
    )


def _script() -> str:
    file = getattr(sys.modules[MAIN], "__file__", None)
    return "the script" if file is None else os.path.basename(file)  # noqa: PTH119  # pathlib is not loaded yet


def refused_value(node: NodeSpec, port: str | None, found: Found) -> SerializationError:
    """The error for what a node brings along."""
    return SerializationError(
        f"the component {node.component.name} of node {node.name!r} cannot be sent to a worker: {found.text}. Or run "
        f"with engine='inline': it has no border",
        node=node.name,
        port=port,
        type=found.type,
    )


def _of_a_module(function: types.FunctionType) -> bool:
    home = sys.modules.get(function.__module__)
    inner: Any = inspect.unwrap(function)  # a decorator's function calls itself as what it wraps, and lives elsewhere
    return getattr(home, "__dict__", None) is getattr(inner, "__globals__", None)


def _refused(what: str, node: str, port: str | None, value: Any, problem: Exception) -> SerializationError:
    kind = type(value).__name__
    return SerializationError(
        f"{what}, of type {kind}, cannot be sent to a worker: {in_words(problem)}. Make it in the worker: as "
        f"state (@persist(name, initializer)), or inside the component; or run with engine='inline': it has no border",
        node=node,
        port=port,
        type=kind,
    )
