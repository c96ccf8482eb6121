"""Why a graph could never run to its end, as far as its shape tells. Each finding says what to write instead.

Found here: in-ports that nothing feeds, triggers that never fire, and cycles that no item ever enters. What
depends on how many items flow (a reconvergent path with too small a capacity, say) is for the run to find.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..cycles import cycles, feeds_of
from ..errors import DeadlockError, short_repr
from ..model import MISSING, Endpoint, GraphSpec, InputSpec, NodeSpec

__all__ = ["check", "findings"]


def check(spec: GraphSpec) -> None:
    """Says everything that would keep a graph from running to its end.

    Args:
        spec: the resolved graph.

    Raises:
        DeadlockError: there are findings; all of them stand in the text and in `.issues`.
    """
    issues = findings(spec)
    if issues:
        title = "the graph cannot run to its end"
        if len(issues) == 1:
            raise DeadlockError(f"{title}: {issues[0]}", issues=issues)
        raise DeadlockError(
            "\n".join([f"{title}, for {len(issues)} reasons:", *(f"- {each}" for each in issues)]), issues=issues
        )


def findings(spec: GraphSpec) -> tuple[str, ...]:
    """Everything that would keep a graph from running to its end, one text each.

    Args:
        spec: the resolved graph.

    Returns:
        The findings, in the order of definition, cycles last; empty when there are none.
    """
    return (*_ports(spec), *_shared_zips(spec), *_unseeded_cycles(spec))


# ── ports ─────────────────────────────────────────────────────────────────────────────────────────────────


def _ports(spec: GraphSpec) -> Iterator[str]:
    for node in spec.nodes.values():
        own = list(_ports_of(spec, node, node.name))
        members = spec.groups.get(node.group or "", ())
        if not own or not members:
            yield from own
            continue
        # What is wrong with every member of a group is said once, of the group.
        of_group = list(_ports_of(spec, node, node.group or node.name))
        others = [set(_ports_of(spec, spec.nodes[member], node.group or node.name)) for member in members]
        for text, group_text in zip(own, of_group, strict=True):
            if not all(group_text in each for each in others):
                yield text
            elif node.name == members[0]:
                yield f"{group_text} (So it is with each of the {len(members)} members.)"


def _ports_of(spec: GraphSpec, node: NodeSpec, name: str) -> Iterator[str]:
    """The findings about the in-ports of one node, which the texts call `name`."""
    triggers = {port for group in node.triggers for port in group}
    for port, fed in node.inputs.items():
        at = f"{name}.{port}"
        if not _has_writer(spec, fed):
            value = _own_value(fed)
            if value is MISSING:
                waits = " It is sampled, so its node would wait for a first value." if port in node.sampled else ""
                yield (
                    f"{at}: nothing feeds this in-port.{waits} Connect an out-port to it "
                    f"(`some_node.out_port >> graph.{at}`) or give it a value (`graph.{at} < value`)."
                )
            elif port in triggers:
                yield (
                    f"{at}: this in-port is to trigger its node, but all it has is the value {short_repr(value)}, "
                    f"and a value that never changes triggers nothing. Connect an out-port to it "
                    f"(`some_node.out_port >> graph.{at}`) or leave it out of clk and sync."
                )


def _shared_zips(spec: GraphSpec) -> Iterator[str]:
    """Groups whose members zip several streams that they share: what one takes of one, another needs for the other."""
    for group, members in spec.groups.items():
        node = spec.nodes[members[0]]
        for ports in node.triggers:
            shared = [
                port
                for port in ports
                if any(len(spec.channels[channel].readers) > 1 for channel in node.inputs[port].channels)
            ]
            if len(shared) > 1:
                yield (
                    f"{group}: its members share the streams of {' and '.join(shared)}, and zip them: whichever member "
                    f"is free takes the next item of one, and another the next of the other, so that items would be "
                    f"left over without a partner. Zip them in a node before the group, and send it pairs."
                )


def _has_writer(spec: GraphSpec, fed: InputSpec) -> bool:
    return any(spec.channels[channel].edges for channel in fed.channels)


def _own_value(fed: InputSpec) -> Any:
    """What an in-port has without a connection, or MISSING."""
    return next((each for each in (fed.constant, fed.seed, fed.port.default) if each is not MISSING), MISSING)


# ── cycles ────────────────────────────────────────────────────────────────────────────────────────────────


def _unseeded_cycles(spec: GraphSpec) -> Iterator[str]:
    """The cycles that no item enters, each with the port that a first value would start it at.

    A node can run when its sampled in-ports and one of its trigger groups can have a first item. What can
    never run although all of its in-ports are fed waits, directly or not, for a cycle of such nodes. Cycles
    fed from outside are taken to run: whether enough comes in is for the run to find.
    """
    found = cycles(feeds_of(spec))
    if not found:
        return
    search = _Search(spec)
    for component in found:
        if search.is_fed_from_outside(component):
            search.take_as_running(component)
    search.run(spec.nodes)
    while (node := search.first_stuck()) is not None:
        way = search.cycle_before(node)
        seed = way[-1][1]
        links = ", ".join(f"{search.name(source)} >> {search.name(target)}" for source, target in way)
        yield (
            f"{search.name(seed)}: no item ever enters the cycle {links}: each of its nodes waits for the one before. "
            f"Give an in-port of it a first value (`graph.{search.name(seed)} < value`) or feed it from outside."
        )
        search.seed(seed)


class _Search:
    """Which nodes can run, from what has a value at the start."""

    def __init__(self, spec: GraphSpec) -> None:
        self._spec = spec
        self._feeds = feeds_of(spec)
        self._running: set[str] = set()
        self._seeded: set[Endpoint] = set()

    def name(self, port: Endpoint) -> str:
        """A port as users write it: members of a group are wired through the group."""
        return f"{self._spec.nodes[port.node].group or port.node}.{port.port}"

    def is_fed_from_outside(self, component: Iterable[str]) -> bool:
        inside = set(component)
        return any(
            source.node not in inside
            for node in inside
            for port in self._spec.nodes[node].inputs
            for source in self._sources(Endpoint(node, port))
        )

    def take_as_running(self, nodes: Iterable[str]) -> None:
        """Takes it that these nodes run, whatever feeds them."""
        self._running.update(nodes)

    def seed(self, port: Endpoint) -> None:
        """Takes it that an in-port has a first value, and lets run what then can."""
        self._seeded.add(port)
        self.run([port.node])

    def run(self, nodes: Iterable[str]) -> None:
        """Lets run what can of these nodes, and of all that they feed."""
        ready = list(nodes)
        while ready:
            node = ready.pop()
            if node not in self._running and self._can_run(self._spec.nodes[node]):
                self._running.add(node)
                ready += self._feeds[node]

    def first_stuck(self) -> str | None:
        """The first node, in the order of definition, that can never run."""
        return next((node for node in self._spec.nodes if node not in self._running), None)

    def cycle_before(self, node: str) -> list[tuple[Endpoint, Endpoint]]:
        """The cycle for which a stuck node waits: its connections in the direction of flow.

        The last of them leads to the node of the cycle that was defined first.
        """
        way: dict[str, tuple[Endpoint, Endpoint]] = {}  # against the flow
        while node not in way:
            target = self._awaited(self._spec.nodes[node])
            source = self._sources(target)[0]  # as stuck as any other: else the port would not be awaited
            way[node] = (source, target)
            node = source.node
        nodes = list(way)
        cycle = nodes[nodes.index(node) :]
        place = list(self._spec.nodes)
        first = cycle.index(min(cycle, key=place.index))
        return [way[each] for each in reversed(cycle[first:] + cycle[:first])]

    def _sources(self, port: Endpoint) -> list[Endpoint]:
        spec = self._spec
        channels = spec.nodes[port.node].inputs[port.port].channels
        return [spec.edges[edge].source for channel in channels for edge in spec.channels[channel].edges]

    def _can_run(self, node: NodeSpec) -> bool:
        return not self._awaits(node, node.sampled) and (
            not node.triggers or any(not self._awaits(node, group) for group in node.triggers)
        )

    def _awaited(self, node: NodeSpec) -> Endpoint:
        for ports in (node.sampled, *node.triggers):
            awaited = self._awaits(node, ports)
            if awaited:
                return awaited[0]
        raise AssertionError(f"{node.name} is not stuck")

    def _awaits(self, node: NodeSpec, ports: Iterable[str]) -> list[Endpoint]:
        """Those of the in-ports that can never have a first item. One that nothing feeds has its own finding."""
        awaited = []
        for port in ports:
            at = Endpoint(node.name, port)
            sources = self._sources(at)
            if at in self._seeded or _own_value(node.inputs[port]) is not MISSING or not sources:
                continue
            if not any(source.node in self._running for source in sources):
                awaited.append(at)
        return awaited
