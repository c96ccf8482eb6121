"""What nodes, groups and subgraphs have in common: ports as attributes, and `>>` between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from ..errors import DefinitionError, Failure
from ..model import ERRORS, MISSING, OutPortSpec
from ..options import suggestion
from .draft import NodeDraft, VertexDraft
from .operators import show
from .ports import InPort, OutPort, Port, Receiver, ports_of
from .wiring import connect, is_free

__all__ = ["Unit", "Vertex", "node_text"]

P = TypeVar("P", bound=InPort | OutPort)


class Vertex(Receiver):
    """A node, a group or a subgraph: what `graph.name` gives."""

    __slots__ = ("__weakref__", "_label", "_ports")

    _label: str
    _ports: Mapping[str, Port]

    def _init(self, label: str, ports: Mapping[str, Port]) -> None:
        object.__setattr__(self, "_label", label)
        object.__setattr__(self, "_ports", ports)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # also while a copy or a pickle is still being made
            raise AttributeError(name)
        port = self._ports.get(name)
        if port is None:
            raise AttributeError(f"{self._what()} has no port {name!r}.{suggestion(name, self._ports)}")
        return port

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
            return
        port = getattr(self, name)
        if value is port:  # the end of `a.out >>= b.inp`
            return
        if isinstance(port, InPort):
            raise DefinitionError(f"`{port} = ...` gives it no value: write `{port} < value` or `{port}.set(value)`.")
        raise DefinitionError(f"`{self._label}.{name} = ...`: a name that {self._what()} has cannot be replaced.")

    def __dir__(self) -> Iterable[str]:
        return [*super().__dir__(), *self._ports]

    def __rshift__(self, other: object) -> Any:
        if not isinstance(other, Vertex):
            raise self._misuse(">>", other)
        written = f"{self} >> {other}"
        source, target = self._only_free(OutPort, written), other._only_free(InPort, written)
        connect(source.ref, target.ref, None)
        return other

    def _receiving_port(self, written: str) -> InPort:
        return self._only_free(InPort, written)

    def _only_free(self, kind: type[P], written: str) -> P:
        """The one free in-port or out-port that `written` can mean."""
        word = "in-port" if issubclass(kind, InPort) else "out-port"
        all_of_them = [port for port in self._ports.values() if isinstance(port, kind)]
        free = [port for port in all_of_them if is_free(port.ref)]
        if len(free) == 1:
            return free[0]
        if not all_of_them:
            raise DefinitionError(f"`{written}`: {self._what()} has no {word}.")
        if not free:
            why = "all connected, or with a constant or a default" if word == "in-port" else "all connected"
            raise DefinitionError(
                f"`{written}`: {self._what()} has no free {word}. {_names(all_of_them)}: {why}. Name the port."
            )
        raise DefinitionError(
            f"`{written}`: {self._what()} has {len(free)} free {word}s, {_names(free)}. Name one of them."
        )

    def _right_form(self, symbol: str, other: object) -> str:
        inp = next((str(p) for p in self._ports.values() if isinstance(p, InPort)), f"{self}.inp")
        out = next((str(p) for p in self._ports.values() if isinstance(p, OutPort)), f"{self}.out")
        if isinstance(other, type):
            return f"Add the component first: `graph.name = {other.__name__}`, then `{self} >> graph.name`."
        if symbol == ">>" and isinstance(other, InPort):
            return f"Name the out-port as well: `{out} >> {other}`."
        if symbol == ">>" and isinstance(other, int):
            return f"Name the ports of a batch: `{out} >> {other} >= inp`."
        if symbol == ">>=":
            target = f"{other}.inp" if isinstance(other, Vertex) else "inp"
            return f"Nodes are connected by `{self} >> other`; for everything in one list write `{out} >>= {target}`."
        if symbol.startswith((">>", "<<")):
            return f"Nodes are connected by `{self} >> other`, ports by `{out} >> inp`."
        return f"{self} is {self._what()}: a value goes to one of its in-ports, `{inp} < value`."

    def _what(self) -> str:
        raise NotImplementedError

    def __str__(self) -> str:
        return self._label


class Unit(Vertex):
    """A node or a group of nodes: what has a runner."""

    __slots__ = ("_draft", "_errors")

    _draft: VertexDraft
    _errors: OutPort

    def _attach(self, draft: VertexDraft) -> None:
        self._init(draft.name, ports_of(draft))
        self._draft = draft
        self._errors = OutPort(draft, OutPortSpec(ERRORS, Failure))

    def clk(self, *ports: Any) -> None:
        """Each of the ports on its own triggers the runner. The others are sampled.

        Args:
            *ports: in-ports of this node, as ports or by name.

        Raises:
            DefinitionError: one is not an in-port of this node, or triggers already.
        """
        self._trigger("clk", [(port,) for port in ports])

    def sync(self, *ports: Any) -> None:
        """The ports, zipped, trigger the runner. Further calls, and tuples, name further groups.

        Args:
            *ports: in-ports of this node, as ports or by name, or tuples of them for several groups.

        Raises:
            DefinitionError: one is not an in-port of this node, or triggers already.
        """
        tuples = [each for each in ports if isinstance(each, tuple | list)]
        if tuples and len(tuples) != len(ports):
            raise DefinitionError(
                f"{self}.sync(...) mixes ports and groups of ports. "
                f"Write `{self}.sync(p, q)` for one group, `{self}.sync((p, q), (r, s))` for several."
            )
        self._trigger("sync", [tuple(each) for each in tuples] if tuples else [ports])

    def _trigger(self, method: str, groups: list[tuple[Any, ...]]) -> None:
        if not groups or not all(groups):
            raise DefinitionError(
                f"{self}.{method}(...) names in-ports that trigger the runner. {self._what()} has: {self._inports()}."
            )
        seen = {name for member in self._draft.members for group in member.triggers for name in group}
        named: list[tuple[str, ...]] = []
        for group in groups:
            for each in (names := tuple(self._inport_name(method, port) for port in group)):
                if each in seen:
                    raise DefinitionError(f"{self}.{method}(...): {self}.{each} triggers the runner already.")
                seen.add(each)
            named.append(names)
        for member in self._draft.members:
            member.triggers.extend(named)

    def _inport_name(self, method: str, port: Any) -> str:
        if isinstance(port, str):
            port = self._ports.get(port, port)
        if isinstance(port, InPort) and self._ports.get(port.name) is port:
            if port.spec.stream:
                raise DefinitionError(
                    f"{self}.{method}({port}): its runner reads this stream itself, so that it triggers nothing."
                )
            return port.name
        if isinstance(port, str):
            known = [each.name for each in self._ports.values() if isinstance(each, InPort)]
            raise DefinitionError(
                f"{self}.{method}({port!r}): not an in-port of {self._what()}.{suggestion(port, known)}"
            )
        raise DefinitionError(
            f"{self}.{method}({show(port)}): not an in-port of {self._what()}, which has: {self._inports()}."
        )

    def _inports(self) -> str:
        return _names([each for each in self._ports.values() if isinstance(each, InPort)]) or "none"

    @property
    def errors(self) -> OutPort:
        """The out-port of what fails: `node.errors >> other.inp` gets a `Failure` for each item, and the run goes on.

        It need not be connected, and `a >> b` between nodes never means it.
        """
        return self._errors

    def ordered(self) -> Any:
        """For groups only.

        Raises:
            DefinitionError: always, on a node.
        """
        raise DefinitionError(
            f"{self}.ordered(): results of one node keep the order of its inputs as it is; ordered() is for groups."
        )


def _names(ports: Iterable[Port]) -> str:
    return ", ".join(map(str, ports))


def node_text(node: NodeDraft) -> str:
    """A node with its constants and defaults, for `repr`."""
    inputs = []
    for port in node.spec.inports:
        value = node.constants.get(port.name, port.default)
        inputs.append(port.name if value is MISSING else f"{port.name}={show(value)}")
    outputs = ", ".join(port.name for port in node.spec.outports)
    return f"{node.name}: {node.spec.name}({', '.join(inputs)})" + (f" -> {outputs}" if outputs else "")
