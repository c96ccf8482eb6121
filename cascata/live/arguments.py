"""What `graph.stream(...)` was given: iterables for sources, and options of the run."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any

from ..errors import DefinitionError
from ..model import GraphSpec
from ..options import RUN_OPTIONS, suggestion

__all__ = ["feeds_and_options", "one_source_and_sink", "sinks_of", "sources_of"]


def sources_of(spec: GraphSpec) -> list[str]:
    """The names of the sources of a graph."""
    return [node.name for node in spec.nodes.values() if node.component.at_caller and node.outputs]


def sinks_of(spec: GraphSpec) -> list[str]:
    """The names of the sinks of a graph."""
    return [node.name for node in spec.nodes.values() if node.component.at_caller and node.inputs]


def one_source_and_sink(spec: GraphSpec) -> bool:
    """Whether each item that is sent can have one answer."""
    return len(sources_of(spec)) == len(sinks_of(spec)) == 1


def feeds_and_options(
    spec: GraphSpec, items: tuple[Any, ...], given: Mapping[str, Any], where: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tells iterables from options.

    Args:
        spec: the graph.
        items: what was given without a name: for the only source.
        given: what was given by name.
        where: the call, for error texts.

    Returns:
        Source -> its iterable, and the options, not checked yet.

    Raises:
        DefinitionError: a source has no iterable or two, or what it has is none; a name is neither a source nor an
            option.
    """
    sources = sources_of(spec)
    feeds = {name: value for name, value in given.items() if name in sources}
    options = {name: value for name, value in given.items() if name not in sources}
    for name in options:
        if name not in RUN_OPTIONS:
            raise DefinitionError(
                f"{where}: the graph has no source {name!r}, and there is no such option."
                f"{suggestion(name, [*sources, *RUN_OPTIONS])}"
            )
    if items:
        if len(sources) != 1 or len(items) > 1 or feeds:
            forms = ", ".join(f"{name}=…" for name in sources)
            raise DefinitionError(
                f"{where}: items without a name are for a graph with one source, and are given once; this graph has "
                + (
                    f"{len(sources)}: write `{where}({forms})`."
                    if sources
                    else "none: add one, `graph.items = Source()`."
                )
            )
        feeds = {sources[0]: items[0]}
    missing = [name for name in sources if name not in feeds]
    if missing:
        raise DefinitionError(
            f"{where}: nothing feeds {', '.join(missing)}. Give each source its items: "
            f"`{where}({', '.join(f'{name}=…' for name in sources)})`."
        )
    for name, value in feeds.items():
        if not isinstance(value, Iterable | AsyncIterable) and not hasattr(value, "__getitem__"):
            raise DefinitionError(
                f"{where}: what is to feed {name!r} is no iterable: {type(value).__name__}. Sources take any sync or "
                "async iterable."
            )
    return feeds, options
