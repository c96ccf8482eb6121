"""Resolved graphs for the tests of the rooms that read nothing else, made without the graph language."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from cascata.model import (
    MISSING,
    ChannelSpec,
    ComponentSpec,
    EdgeSpec,
    Endpoint,
    GraphSpec,
    InPortSpec,
    InputSpec,
    NodeSpec,
    OutPortSpec,
    OutputSpec,
)

__all__ = ["chain", "spec"]

Wire = tuple[Sequence[str], Sequence[str]]


async def _runner(**ports: Any) -> None:
    """What no test here runs."""


def _wire(text: str) -> Wire:
    writers, _, readers = text.partition(" >> ")
    return writers.split(", "), readers.split(", ")


def _endpoint(text: str) -> Endpoint:
    node, _, port = text.partition(".")
    return Endpoint(node, port)


def spec(
    nodes: Iterable[str],
    *wires: str,
    groups: Mapping[str, Sequence[str]] | None = None,
    pins: Mapping[str, int] | None = None,
    restartable: Iterable[str] = (),
    unfed: Iterable[str] = (),
    constants: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
    seeds: Mapping[str, Any] | None = None,
    triggers: Mapping[str, Sequence[Sequence[str]]] | None = None,
) -> GraphSpec:
    """A graph of channels written as `"a.out, b.out >> c.x"`; ports are written `"node.port"`.

    Without `triggers`, all connected or unfed in-ports of a node form one group; with it, the others are sampled.
    """
    channels: list[ChannelSpec] = []
    edges: list[EdgeSpec] = []
    reads: dict[str, dict[str, list[int]]] = {name: {} for name in nodes}
    sends: dict[str, dict[str, list[int]]] = {name: {} for name in reads}
    for number, (writers, readers) in enumerate(map(_wire, wires)):
        first = len(edges)
        for source in map(_endpoint, writers):
            sends[source.node].setdefault(source.port, []).append(len(edges))
            edges.append(EdgeSpec(len(edges), source, number))
        ends = tuple(map(_endpoint, readers))
        for end in ends:
            reads[end.node].setdefault(end.port, []).append(number)
        channels.append(ChannelSpec(number, readers[0], 10, ends, tuple(range(first, len(edges)))))
    for text in (*unfed, *(constants or {}), *(defaults or {})):
        end = _endpoint(text)
        reads[end.node].setdefault(end.port, [])
    group_of = {member: (group, at) for group, members in (groups or {}).items() for at, member in enumerate(members)}
    made = {}
    for name, read in reads.items():
        inputs = {
            port: InputSpec(
                InPortSpec(port, default=(defaults or {}).get(f"{name}.{port}", MISSING)),
                constant=(constants or {}).get(f"{name}.{port}", MISSING),
                seed=(seeds or {}).get(f"{name}.{port}", MISSING),
                channels=tuple(found),
            )
            for port, found in read.items()
        }
        outputs = {port: OutputSpec(OutPortSpec(port), tuple(found)) for port, found in sends[name].items()}
        streams = [port for port, each in inputs.items() if each.constant is MISSING and each.port.default is MISSING]
        fires = tuple(map(tuple, (triggers or {}).get(name, [streams] if streams else [])))
        group, member = group_of.get(name, (None, 0))
        made[name] = NodeSpec(
            name,
            ComponentSpec(
                name="Component",
                module="tests.plan.specs",
                qualname="Component",
                runner=_runner,
                form="async",
                parameters=(*inputs, *outputs),
                inports=tuple(each.port for each in inputs.values()),
                outports=tuple(each.port for each in outputs.values()),
                options={"on_worker_death": "restart" if name in restartable else "fail"},
            ),
            inputs,
            outputs,
            triggers=fires,
            sampled=tuple(port for port in streams if not any(port in each for each in fires)),
            group=group,
            member=member,
        )
    return GraphSpec(
        made,
        tuple(channels),
        tuple(edges),
        {group: tuple(members) for group, members in (groups or {}).items()},
        dict(pins or {}),
    )


def chain(names: Sequence[str]) -> list[str]:
    """The wires of a chain."""
    return [f"{one}.out >> {other}.x" for one, other in pairwise(names)]
