"""What a picture shows of a graph, whatever draws it: units, their pins, links between them, frames around them.

    GraphSpec, Plan? ── sketch ──> Sketch ──> SVG, DOT, Mermaid

A *unit* is a node, or a group as one. A *pin* is a port of a unit. A *link* stands for all edges between two pins that
are of one kind. A *frame* is a subgraph.
"""

from __future__ import annotations

import inspect
import re
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final, Literal

from ..errors import DefinitionError
from ..model import ERRORS, MISSING, EdgeSpec, Endpoint, GraphSpec, NodeSpec, Plan
from ..records import dataclass

__all__ = ["Frame", "InPin", "Link", "OutPin", "Sketch", "Unit", "sketch"]

_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")

_VALUE: Final = 22
"""Characters of a constant in a picture."""

Fires = Literal["all", "alone", "together", "sampled", "read"]
"""How an in-port that is fed makes its unit run, or does not."""

_HINT: Final = 200
"""Characters of a value or a line of documentation in a hint."""


@dataclass(frozen=True, slots=True)
class InPin:
    """An in-port as drawn.

    Attributes:
        feed: a stream; a value of its own; nothing.
        fires: how it makes its unit run: like all streams of the unit ("all"), on its own ("alone"), together with
            others ("together", numbered by `zip`), or not at all: "sampled" is read for its latest value, "read" is a
            stream that the runner reads itself. None: it is not fed by a stream.
        value: its constant or seed as a short text, with the sign that says which.
        hint: more, to be shown on request.
    """

    name: str
    feed: Literal["stream", "value", "nothing"]
    fires: Fires | None = None
    zip: int = 0
    value: str = ""
    seeded: bool = False
    hint: str = ""


@dataclass(frozen=True, slots=True)
class OutPin:
    """An out-port as drawn."""

    name: str
    connected: bool
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Unit:
    """A node, or a group. `members` are the names of its nodes; `workers` is where each runs, when there is a plan."""

    name: str
    component: str
    members: tuple[str, ...]
    is_group: bool
    ins: tuple[InPin, ...]
    outs: tuple[OutPin, ...]
    workers: tuple[int, ...] = ()
    ordered: bool = False
    frame: str | None = None
    hint: str = ""

    @property
    def worker(self) -> int | None:
        """The worker that runs all of it, if there is one."""
        return self.workers[0] if len(set(self.workers)) == 1 else None


@dataclass(frozen=True, slots=True)
class Link:
    """A connection as drawn. The endpoints name units.

    Attributes:
        marks: what is special about it, in a word each.
        sampled: the in-port is read for its latest value.
        seeded: the in-port has a first value, which is how cycles begin.
        worker: the worker in which it stays, when there is a plan and there is one.
    """

    source: Endpoint
    target: Endpoint
    marks: tuple[str, ...] = ()
    sampled: bool = False
    seeded: bool = False
    worker: int | None = None
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """A subgraph: a border around its units. `exports` maps a unit's port to the names under which it is exposed."""

    name: str
    parent: str | None
    exports: Mapping[Endpoint, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Sketch:
    """Everything that a picture shows. Frames come after the frames that they are in."""

    units: Mapping[str, Unit]
    links: tuple[Link, ...]
    frames: Mapping[str, Frame]
    workers: int = 0


def sketch(spec: GraphSpec, plan: Plan | None = None) -> Sketch:
    """What to draw of a graph.

    Args:
        spec: the resolved graph.
        plan: of this graph, for workers to be told apart.

    Raises:
        DefinitionError: the plan is of another graph.
    """
    worker_of = _workers(spec, plan)
    frames, frame_of = _frames(spec)
    vertices = _vertices(spec)
    units = {}
    for name, members in vertices.items():
        unit = _unit(name, [spec.nodes[each] for each in members], spec)
        workers = tuple(worker_of[each] for each in members if each in worker_of)
        units[name] = replace(unit, workers=workers, frame=frame_of.get(members[0]))
    links = tuple(_links(spec, units, worker_of))
    return Sketch(units, links, frames, len(plan.workers) if plan is not None else 0)


def _workers(spec: GraphSpec, plan: Plan | None) -> dict[str, int]:
    if plan is None:
        return {}
    worker_of = {name: worker for worker, names in enumerate(plan.workers) for name in names}
    strangers = sorted((worker_of.keys() | set(plan.caller)) ^ spec.nodes.keys())
    if strangers:
        raise DefinitionError(
            f"the plan is not of this graph as it is now: {', '.join(strangers[:3])} "
            f"{'is' if len(strangers) == 1 else 'are'} in one of them only. Make it anew: graph.shard(num_workers)."
        )
    return worker_of


def _frames(spec: GraphSpec) -> tuple[dict[str, Frame], dict[str, str]]:
    """The frames, outer ones first, and the innermost frame of each node."""
    by_size = sorted(spec.subgraphs.items(), key=lambda each: (-len(each[1].nodes), len(each[0])))
    frame_of: dict[str, str] = {}
    frames = {}
    for name, subgraph in by_size:
        if not subgraph.nodes:
            continue
        exports: dict[Endpoint, tuple[str, ...]] = {}
        for export, port in subgraph.exports.items():
            exports[port] = (*exports.get(port, ()), export)
        frames[name] = Frame(name, frame_of.get(subgraph.nodes[0]), exports)
        frame_of.update(dict.fromkeys(subgraph.nodes, name))
    return frames, frame_of


def _vertices(spec: GraphSpec) -> dict[str, tuple[str, ...]]:
    vertices: dict[str, tuple[str, ...]] = {}
    for node in spec.nodes.values():
        if node.group is None:
            vertices[node.name] = (node.name,)
        else:
            vertices[node.group] = spec.groups[node.group]
    return vertices


# ── units ─────────────────────────────────────────────────────────────────────────────────────────────────


def _unit(name: str, members: list[NodeSpec], spec: GraphSpec) -> Unit:
    first = members[0]
    component = first.component
    hint = [f"{name}: {component.qualname} of {component.module}"]
    if first.group is not None:
        hint.append(f"a group of {len(members)}{', in order' if name in spec.ordered else ''}")
        if any((each.triggers, each.sampled) != (first.triggers, first.sampled) for each in members):
            hint.append("its members are triggered in different ways: this is the first one's")
    hint += [line for line in (component.doc or "").strip().splitlines()[:1] if line]
    options = {"concurrency": 1, "thread": False, "timeout": None, "retries": 0, "on_worker_death": "fail"}
    told = [f"{key}={value!r}" for key, none in options.items() if (value := component.options.get(key, none)) != none]
    hint += [", ".join(told)] if told else []
    hint += [f"state: {', '.join(each.name for each in component.states)}"] if component.states else []
    hint += [f"{each.name} is pinned to worker {spec.pins[each.name]}" for each in members if each.name in spec.pins]
    return Unit(
        name,
        component.name,
        tuple(each.name for each in members),
        first.group is not None,
        tuple(_inpin(port.name, members) for port in component.inports),
        tuple(
            OutPin(name, any(name in each.outputs and each.outputs[name].edges for each in members), hint)
            for name, hint in _outports(members).items()
        ),
        ordered=name in spec.ordered,
        hint="\n".join(_cut(each, _HINT) for each in hint),
    )


def _outports(members: list[NodeSpec]) -> dict[str, str]:
    """The out-ports of a unit with what is said of them; that of failures, where a member has connected it."""
    hints = {port.name: f"{port.name}{_type(port.type)}" for port in members[0].component.outports}
    if any(ERRORS in each.outputs for each in members):
        hints[ERRORS] = f"{ERRORS}: items that failed"
    return hints


def _inpin(name: str, members: list[NodeSpec]) -> InPin:
    fed = [each.inputs[name] for each in members]
    hint = f"{name}{_type(fed[0].port.type)}, capacity {fed[0].port.capacity}"
    if any(each.channels for each in fed):
        seeds = [each.seed for each in fed if each.seed is not MISSING]
        fires, number = _fires(name, next(node for node in members if node.inputs[name].channels))
        reads = {
            "all": "",
            "alone": ", triggers on its own",
            "together": ", triggers together with others",
            "sampled": ", sampled: its latest value is read",
            "read": ", a stream that the runner reads",
        }[fires]
        first = f", first {_short(seeds, _HINT)}" if seeds else ""
        value = f"first {_short(seeds, _VALUE)}" if seeds else ""
        return InPin(name, "stream", fires, number, value, bool(seeds), f"{hint}{reads}{first}")
    constants = [each.constant for each in fed if each.constant is not MISSING]
    if len(constants) < len(fed):
        return InPin(name, "nothing", hint=f"{hint}: nothing feeds it")
    default = ", its default" if all(each.constant is each.port.default for each in fed) else ""
    hint = f"{hint} = {_short(constants, _HINT)}{default}"
    return InPin(name, "value", value=f"= {_short(constants, _VALUE)}", hint=hint)


def _fires(port: str, node: NodeSpec) -> tuple[Fires, int]:
    if port in node.sampled:
        return "sampled", 0
    if node.inputs[port].port.stream:
        return "read", 0
    if len(node.triggers) == 1 and not node.sampled:
        return "all", 0
    number = next((number for number, group in enumerate(node.triggers) if port in group), 0)
    return ("together" if len(node.triggers[number]) > 1 else "alone"), number


def _type(annotation: Any) -> str:
    return "" if annotation is Any else f": {inspect.formatannotation(annotation).replace('typing.', '')}"


def _short(values: list[Any], limit: int) -> str:
    """The values of the members of a unit, which are mostly one and the same."""
    if all(each is values[0] for each in values):
        return _repr(values[0], limit)
    texts = [_repr(each, limit) for each in values]
    return texts[0] if len(set(texts)) == 1 else _cut(", ".join(texts), limit)


class _Shower(reprlib.Repr):
    """Shows a function by its name, and no addresses: a graph has the same picture each time."""

    def repr_instance(self, x: Any, level: int) -> str:  # as `reprlib` calls it
        if isinstance(x, type | FunctionType | BuiltinFunctionType | MethodType):
            return x.__qualname__.rpartition("<locals>.")[2]
        return _ADDRESS.sub("", repr(x))


def _repr(value: Any, limit: int) -> str:
    shower = _Shower()
    shower.maxstring = shower.maxlong = limit
    try:
        text = shower.repr(value)
    except Exception:  # a value of the user may have any idea of how to show itself
        text = f"<{type(value).__name__}>"
    return _cut(" ".join(text.split()), limit)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


# ── links ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class _Strand:
    """The edges between two pins that are of one kind."""

    edge: EdgeSpec
    whole: bool  # the readers are the whole unit, one stream for all
    pairs: list[tuple[int, int | None]]  # member to member; to None when `whole`
    capacity: int


def _links(spec: GraphSpec, units: Mapping[str, Unit], worker_of: Mapping[str, int]) -> Iterable[Link]:
    strands: dict[tuple[Any, ...], _Strand] = {}
    for edge in spec.edges:
        channel = spec.channels[edge.channel]
        sender, reader = spec.nodes[edge.source.node], spec.nodes[channel.readers[0].node]
        source = Endpoint(sender.group or sender.name, edge.source.port)
        target = Endpoint(reader.group or reader.name, channel.readers[0].port)
        whole = len(channel.readers) > 1
        strand = strands.setdefault((source, target, edge.batch, whole), _Strand(edge, whole, [], channel.capacity))
        strand.pairs.append((sender.member, None if whole else reader.member))
    for (source, target, batch, _), strand in strands.items():
        sending, taking = units[source.node], units[target.node]
        pin = next(each for each in taking.ins if each.name == target.port)
        how, ways = _ways(strand, sending, taking)
        hint = f"{source} → {target}, capacity {strand.capacity}"
        if batch is not None:
            hint += ", everything in one list" if batch == "all" else f", in lists of {batch}"
        for marks, told, pairs in ways:
            workers = _touched(pairs, sending, taking, worker_of)
            yield Link(
                source,
                target,
                (*((f"[{batch}]",) if batch is not None else ()), *marks),
                sampled=pin.fires == "sampled",
                seeded=pin.seeded,
                worker=next(iter(workers)) if len(workers) == 1 else None,
                hint=f"{hint}{told or how}",
            )


Way = tuple[tuple[str, ...], str, list[tuple[int, int | None]]]


def _ways(strand: _Strand, sending: Unit, taking: Unit) -> tuple[str, list[Way]]:
    """How a strand is drawn: mostly as one link; as one for each pair when members were wired one by one."""
    senders, takers = range(len(sending.members)), range(len(taking.members))
    pairs = strand.pairs
    if strand.whole:
        how = ", each item to whichever member is free"
        if {sender for sender, _ in pairs} == set(senders):
            return how, [((), "", pairs)]
        ways: list[Way] = [
            ((f"from {sending.members[sender]}",), f", from {sending.members[sender]}{how}", [(sender, None)])
            for sender, _ in pairs
        ]
        return how, ways
    if len(takers) == 1 and {sender for sender, _ in pairs} == set(senders):
        return "", [((), "", pairs)]
    if len(pairs) == len(senders) * len(takers):
        return ", every item to each member", [(("broadcast",), "", pairs)]
    if len(senders) == len(takers) and set(pairs) == {(each, each) for each in senders}:
        return ", member to member", [((), "", pairs)]
    ways = []
    for sender, taker in pairs:
        assert taker is not None  # for the type checker: only a whole unit has no number
        marks = [f"from {sending.members[sender]}"] if sending.is_group else []
        marks += [f"to {taking.members[taker]}"] if taking.is_group else []
        ways.append((tuple(marks), ", " + " ".join(marks), [(sender, taker)]))
    return "", ways


def _touched(
    pairs: list[tuple[int, int | None]], sending: Unit, taking: Unit, worker_of: Mapping[str, int]
) -> set[int | None]:
    """The workers that a link has to do with; None for the caller."""
    if not worker_of:
        return set()
    members = {sending.members[sender] for sender, _ in pairs}
    for _, taker in pairs:
        members.update(taking.members if taker is None else [taking.members[taker]])
    return {worker_of.get(each) for each in members}
