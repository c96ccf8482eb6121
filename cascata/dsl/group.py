"""Several nodes under one name: groups (`Class * n`) and subgraphs (`graph.name = other_graph`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from .component import Component
from .draft import GroupDraft
from .ports import Port
from .vertex import Unit, Vertex, node_text

__all__ = ["Group", "Subgraph", "make_group", "make_subgraph"]


class Group(Unit):
    """A group of nodes. Its ports stand for the port of every member; the members are `graph.name_0 …`."""

    __slots__ = ("_members",)

    _draft: GroupDraft
    _members: tuple[Component, ...]

    def ordered(self) -> Group:
        """Results of the group leave in the order in which their inputs entered.

        Members work side by side as before; a member whose results are ahead of their turn waits, so that at most the
        capacity of its in-port is kept for each member. What a call sends leaves when its turn has come.

        Returns:
            The group.

        Raises:
            DefinitionError: (when the graph is run) the members do not all read one stream, or are wired one by one.
        """
        self._draft.ordered = True
        return self

    def __iter__(self) -> Iterator[Component]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, index: int) -> Component:
        return self._members[index]

    def __contains__(self, node: object) -> bool:
        return any(node is member for member in self._members)

    def _what(self) -> str:
        return f"{self._label} ({self._draft.spec.name} * {len(self)})"

    def __repr__(self) -> str:
        return f"<group {self._label} of {len(self)}: {', '.join(node_text(each) for each in self._draft.members)}>"


class Subgraph(Vertex):
    """A copy of another graph inside this one. Its ports are those that the other graph exports."""

    __slots__ = ()

    def _what(self) -> str:
        return f"{self._label} (a subgraph)"

    def __repr__(self) -> str:
        exports = ", ".join(f"{name} = {port}" for name, port in self._ports.items())
        return f"<subgraph {self._label}: {exports or 'exports no port'}>"


def make_group(draft: GroupDraft, members: Iterable[Component]) -> Group:
    """The group that users touch, for its draft."""
    group = Group()
    group._attach(draft)
    object.__setattr__(group, "_members", tuple(members))
    return group


def make_subgraph(label: str, ports: Mapping[str, Port]) -> Subgraph:
    """The subgraph that users touch: its exported ports by name."""
    subgraph = Subgraph()
    subgraph._init(label, ports)
    return subgraph
