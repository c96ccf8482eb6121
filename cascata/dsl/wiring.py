"""Connecting: which connections are allowed, which port of a node is meant, and which wires a link stands for."""

from __future__ import annotations

from collections.abc import Iterator
from types import GenericAlias
from typing import Any, get_args, get_origin

from ..errors import DefinitionError
from ..model import MISSING, Endpoint, OutPortSpec
from .annotations import type_text
from .draft import Batch, Link, PortRef
from .operators import is_whole

__all__ = ["connect", "is_free", "wires_of"]


def connect(source: PortRef, target: PortRef, batch: Batch, *, broadcast: bool = False) -> None:
    """Connects an out-port to an in-port.

    Raises:
        DefinitionError: the ports are of two graphs, their types do not fit, the batch is not one, or they
            are connected already.
    """
    graph = source.vertex.graph
    link = Link(source, target, _checked_batch(batch, source, target), broadcast)
    if graph is not target.vertex.graph:
        raise DefinitionError(
            f"`{link}` connects two graphs: {source.vertex.name} is a node of one and {target.vertex.name} of another. "
            "To use one graph in the other, add it (`graph.sub = other`) and wire the nodes of the copy "
            f"(`graph.sub_{target.vertex.name}`) or what it exports (`other.export(port, name)`)."
        )
    _check_types(link)
    wires = list(wires_of(link))
    for wire in wires:
        if wire in graph.wires:
            raise DefinitionError(
                f"`{link}`: {wire[0]} is connected to {_together(wire[1])} already. "
                "A second connection would deliver every item twice."
            )
    graph.wires.update(wires)
    for outlet, readers in wires:
        graph.wired.add(outlet)
        graph.wired.update(readers)
    graph.links.append(link)


def wires_of(link: Link) -> Iterator[tuple[Endpoint, tuple[Endpoint, ...]]]:
    """The wires that a link stands for: an out-port, and the in-ports that share its items.

    Groups of the same size are wired member to member; otherwise every member of the target takes from
    one stream, each item going to whichever is free. A broadcast is a wire of its own for each member.
    """
    sources, targets = link.source.endpoints, link.target.endpoints
    if link.broadcast:
        yield from ((source, (target,)) for source in sources for target in targets)
    elif len(sources) == len(targets):
        yield from ((source, (target,)) for source, target in zip(sources, targets, strict=True))
    else:
        yield from ((source, targets) for source in sources)


def is_free(ref: PortRef) -> bool:
    """Whether a port has no connection, constant or default. A group's port is free when it is so on all members."""
    if not ref.vertex.graph.wired.isdisjoint(ref.endpoints):
        return False
    if isinstance(ref.port, OutPortSpec):
        return True
    return ref.port.default is MISSING and all(ref.name not in member.constants for member in ref.vertex.members)


def _checked_batch(batch: Any, source: PortRef, target: PortRef) -> Batch:
    if batch is None or is_whole(batch, 1) or (isinstance(batch, str) and batch == "all"):
        checked: Batch = batch
        return checked
    raise DefinitionError(
        f"{source} to {target}: a batch is a whole number of at least 1, or 'all', not {batch!r}. "
        f"Write `{source} >> 3 >= {target}` or `{source} >>= {target}`."
    )


def _fits_in_lists(link: Link, taken: Any) -> bool:
    """Whether items go as a list where a list of something wider is taken: nobody else holds this list."""
    from ..check.types import assignable

    return (
        link.batch is not None
        and get_origin(taken) is list
        and all(assignable(link.source.port.type, each) for each in get_args(taken))
    )


def _check_types(link: Link) -> None:
    sent, taken = link.source.port.type, link.target.port.type
    if link.batch is not None:
        sent = GenericAlias(list, (sent,))
    if sent is Any or taken is Any:
        return
    from ..check.types import assignable  # a graph without annotations never needs it

    if not assignable(sent, taken) and not _fits_in_lists(link, taken):
        batched = " in batches" if link.batch is not None else ""
        raise DefinitionError(
            f"`{link}`: {link.source} sends {type_text(sent)}{batched}, and {link.target} takes {type_text(taken)}."
        )


def _together(readers: tuple[Endpoint, ...]) -> str:
    return " and ".join(map(str, readers))
