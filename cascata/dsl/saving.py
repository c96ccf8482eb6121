"""Between a graph and its outline, which is what is saved: reading a draft, and writing it all again.

A saved graph is built by the same operations that a user writes, so that it passes the same checks.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import DefinitionError
from ..model import ERRORS, Endpoint
from ..options import suggestion
from .component import Component, Replicas
from .draft import GraphDraft, NodeDraft, PortRef, SubgraphDraft
from .graph_base import GraphBase
from .group import Group
from .ports import InPort, OutPort, Port, StatePort
from .registry import registry
from .vertex import Unit, Vertex

if TYPE_CHECKING:
    from ..serial import GraphOutline, NodeOutline, Settings

__all__ = ["build", "outline_of"]

P = TypeVar("P", bound=Port)

_MAIN = "__main__"


# ---- from a draft


def outline_of(draft: GraphDraft) -> GraphOutline:
    """What was said about a graph. Values are taken by reference.

    Raises:
        DefinitionError: a line `out >> n` was never finished, or a component cannot be found by its name.
    """
    from ..serial import ConnectionOutline, GraphOutline, SubgraphOutline

    draft.check_finished()
    return GraphOutline(
        nodes=tuple(_nodes(draft)),
        connections=tuple(
            ConnectionOutline(_endpoint(each.source), _endpoint(each.target), each.batch, each.broadcast)
            for each in draft.links
        ),
        subgraphs=tuple(
            SubgraphOutline(name, each.nodes, _endpoints(each.exports)) for name, each in draft.subgraphs.items()
        ),
        exports=_endpoints(draft.exports),
        pins=dict(draft.pins),
    )


def _nodes(draft: GraphDraft) -> Iterable[NodeOutline]:
    from ..serial import NodeOutline

    for node in draft.nodes.values():
        if node.group is None:
            yield NodeOutline(node.name, _reference(node), (_said_to(node),))
        elif node.member == 0:  # members are added together, so that this is where the group was added
            group = draft.groups[node.group]
            settings = tuple(map(_said_to, group.members))
            yield NodeOutline(group.name, _reference(node), settings, len(settings), group.ordered)


def _said_to(node: NodeDraft) -> Settings:
    from ..serial import Settings

    return Settings(dict(node.constants), dict(node.state_args), tuple(node.triggers))


def _endpoint(ref: PortRef) -> Endpoint:
    return Endpoint(ref.vertex.name, ref.name)


def _endpoints(refs: Mapping[str, PortRef]) -> dict[str, Endpoint]:
    return {name: _endpoint(ref) for name, ref in refs.items()}


def _reference(node: NodeDraft) -> str:
    """`module:Name` of a node's class, if that is how it can be found again."""
    spec = node.spec
    if _found(spec.module, spec.qualname) is not node.component:
        raise DefinitionError(
            f"{node.name}: its component cannot be saved: {spec.qualname} of {spec.module} is another class by now, or "
            f"cannot be reached by this name. Define it at the top level of a module, once, before `graph.{node.name}`."
        )
    return f"{spec.module}:{spec.qualname}"


# ---- components by name


def _found(module: str, qualname: str) -> type[Component] | None:
    """The component class of a name, among the names of its module first, then among those that were defined."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if isinstance(found, type) and issubclass(found, Component):
        return found
    try:
        return registry[module, qualname]
    except KeyError:
        return None


def _component(reference: str, where: str) -> type[Component]:
    module, _, qualname = reference.partition(":")
    try:
        importlib.import_module(module)  # waits for another thread that is importing it
    except Exception as error:  # whatever a module of the user does when it is imported
        known = sorted({each.spec.module for each in registry.values()})
        hint = "" if isinstance(error, ModuleNotFoundError) else f" ({type(error).__name__}: {error})"
        raise DefinitionError(
            f"{where}: the module {module!r} of its component {qualname!r} cannot be imported{hint}."
            f"{suggestion(module, known)}"
        ) from error
    found = _found(module, qualname)
    if found is None and module == _MAIN and qualname in registry:
        found = registry[qualname]  # what a script defined may be in a module by now
    if found is None:
        known = [each.spec.qualname for each in registry.values() if module in (_MAIN, each.spec.module)]
        elsewhere = [f"{each.spec.module}:{qualname}" for each in registry.values() if each.spec.qualname == qualname]
        hint = f" There is {' and '.join(elsewhere)}." if elsewhere else suggestion(qualname, sorted(known))
        raise DefinitionError(f"{where}: the module {module!r} has no component {qualname!r}.{hint}")
    return found


# ---- to a graph


def build(graph: GraphBase, outline: GraphOutline) -> None:
    """Adds everything of an outline to an empty graph.

    Raises:
        DefinitionError: a component is unknown, a name is taken or reserved, a port is not there, or anything
            else that writing the graph by hand would have raised.
    """
    draft = graph._draft
    for node in outline.nodes:
        where = f"the saved node {node.name!r}"
        component = _component(node.component, where)
        vertex = graph._add(node.name, component if node.size is None else Replicas(component, node.size))
        if isinstance(vertex, Group) and node.ordered:
            vertex.ordered()
        for member, settings in zip(vertex if isinstance(vertex, Group) else [vertex], node.settings, strict=True):
            _say(member, settings, where)
    for each in outline.connections:
        where = f"the saved connection {each.source} to {each.target}"
        source, target = _port(graph, each.source, OutPort, where), _port(graph, each.target, InPort, where)
        if each.broadcast and each.batch is not None:
            raise DefinitionError(f"{where} cannot be a broadcast and batched.")
        if each.broadcast:
            source.broadcast() >> target
        else:
            source.connect(target, batch=each.batch)
    for name, port in outline.exports.items():
        graph.export(_port(graph, port, InPort | OutPort, f"the saved export {name!r}"), name)
    for node_name, worker in outline.pins.items():
        graph.pin(node_name, worker)
    for subgraph in outline.subgraphs:
        where = f"the saved subgraph {subgraph.name!r}"
        for name in subgraph.nodes:
            if name not in draft.nodes:
                raise DefinitionError(f"{where}: there is no node {name!r}.{suggestion(name, draft.nodes)}")
        exports = {
            name: _port(graph, port, InPort | OutPort, f"{where}, export {name!r}").ref
            for name, port in subgraph.exports.items()
        }
        draft.claim(subgraph.name)
        draft.subgraphs[subgraph.name] = SubgraphDraft(subgraph.nodes, exports)
    graph._show_all()


def _say(node: Unit, settings: Settings, where: str) -> None:
    for name, value in settings.constants.items():
        _port_of(node, name, InPort, where).set(value)
    for name, given in settings.states.items():
        _port_of(node, name, StatePort, where).set(given)
    for group in settings.triggers:
        node.sync(*group)


def _port(graph: GraphBase, port: Endpoint, kind: Any, where: str) -> Any:
    vertex = graph._views.get(port.node)
    if not isinstance(vertex, Unit):
        names = [name for name, each in graph._views.items() if isinstance(each, Unit)]
        raise DefinitionError(f"{where}: there is no node {port.node!r}.{suggestion(port.node, names)}")
    return _port_of(vertex, port.port, kind, where)


def _port_of(vertex: Vertex, name: str, kind: Any, where: str) -> Any:
    found = vertex.errors if name == ERRORS and isinstance(vertex, Unit) else vertex._ports.get(name)
    if not isinstance(found, kind):
        words = {InPort: "in-port", OutPort: "out-port", StatePort: "state"}
        known = [each for each, port in vertex._ports.items() if isinstance(port, kind)]
        raise DefinitionError(f"{where}: {vertex} has no {words.get(kind, 'port')} {name!r}.{suggestion(name, known)}")
    return found
