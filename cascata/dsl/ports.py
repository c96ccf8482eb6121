"""Ports of nodes and groups, and the operators on them.

    port < value          a constant for an in-port, or the arguments of a state's initializer
    out >> inp            connect; returns `out`, so that `a.out >> b.x >> c.y` fans out
    out >>= inp           everything as one list at the end
    out >> 3 >= inp       lists of 3, the rest at the end

Everything else that Python lets one write with them raises with the right form.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Self

from ..errors import DefinitionError
from ..model import MISSING, InPortSpec, OutPortSpec, StateArgs, StateSpec
from .annotations import type_text
from .draft import Batch, NodeDraft, PortRef, VertexDraft
from .operators import Operand, Statement, show
from .wiring import connect

__all__ = [
    "Broadcast",
    "InPort",
    "OutPort",
    "Port",
    "Receiver",
    "StatePort",
    "missing_state_args",
    "ports_of",
    "state_args",
]


class Port(Operand):
    """Base of ports: what has a name on a node."""

    __slots__ = ("_vertex", "name")

    def __init__(self, vertex: VertexDraft, name: str) -> None:
        self._vertex = vertex
        self.name: str = name

    def __str__(self) -> str:
        return f"{self._vertex.name}.{self.name}"


class Receiver(Operand):
    """What may stand on the right of `out >>`: an in-port, or something that has one free in-port."""

    __slots__ = ()

    def _receiving_port(self, written: str) -> InPort:
        """The in-port that `written` means. Raises `DefinitionError` when there is not exactly one."""
        raise NotImplementedError


class InPort(Port, Receiver):
    """An in-port of a node, or of every member of a group."""

    __slots__ = ("spec",)

    def __init__(self, vertex: VertexDraft, spec: InPortSpec) -> None:
        super().__init__(vertex, spec.name)
        self.spec: InPortSpec = spec

    @property
    def ref(self) -> PortRef:
        """The port in the draft of its graph."""
        return PortRef(self._vertex, self.spec, self.name)

    def set(self, value: Any) -> None:
        """Gives the port a constant: `port < value` in other words. On a connected port it is delivered first.

        Args:
            value: one value, whatever it is: a list or an array is one value too. It is not copied.

        Raises:
            DefinitionError: the value is a port, a node or a component.
        """
        if isinstance(value, Operand | Statement):
            raise self._misuse("<", value)
        for member in self._vertex.members:
            member.constants[self.name] = value

    def __lt__(self, value: object) -> Statement:
        self.set(value)
        return Statement(f"{self} < {show(value)}")

    def _receiving_port(self, written: str) -> InPort:
        return self

    def _right_form(self, symbol: str, other: object) -> str:
        if isinstance(other, Operand):
            out = f"{other}.out" if not isinstance(other, Port | Broadcast | Batched) else str(other)
            return f"{self} is an in-port, and wiring goes from an out-port to an in-port: `{out} >> {self}`."
        return (
            f"{self} is an in-port: to give it a value write `{self} < value` or `{self}.set(value)`, "
            f"to connect it write `out >> {self}`."
        )

    def __repr__(self) -> str:
        kind = ", a stream" if self.spec.stream else ""
        text = f"<in-port {self}{_type_text(self.spec)}{kind}, capacity {self.spec.capacity}"
        values = [each.constants[self.name] for each in self._vertex.members if self.name in each.constants]
        if values:
            same = all(value is values[0] for value in values)
            text += f", constant {', '.join(map(show, values[:1] if same else values))}"
        elif self.spec.default is not MISSING:
            text += f", default {show(self.spec.default)}"
        return text + _links_text(self.ref) + ">"


class OutPort(Port):
    """An out-port of a node, or of every member of a group."""

    __slots__ = ("spec",)

    def __init__(self, vertex: VertexDraft, spec: OutPortSpec) -> None:
        super().__init__(vertex, spec.name)
        self.spec: OutPortSpec = spec

    @property
    def ref(self) -> PortRef:
        """The port in the draft of its graph."""
        return PortRef(self._vertex, self.spec, self.name)

    def connect(self, target: Any, batch: Batch = None) -> Any:
        """Connects to an in-port, or to the only free in-port of a node.

        Args:
            target: an in-port, or a node, group or subgraph that has one free in-port.
            batch: None for item by item, a number for lists of so many items (the rest at the end), "all"
                for everything as one list at the end.

        Returns:
            This port when the target is a port, and the target when it is a node: as `>>` does.

        Raises:
            DefinitionError: the target is neither, is of another graph, has no or several free in-ports, is
                connected to this port already, or the types do not fit.
        """
        port, result = self._target(target, ">>")
        connect(self.ref, port.ref, batch)
        return result

    def broadcast(self) -> Broadcast:
        """`out.broadcast() >> group.x`: every member of the group gets every item."""
        return Broadcast(self)

    def _target(self, target: object, symbol: str) -> tuple[InPort, Any]:
        """The in-port that is meant, and what `>>` gives back: this port, or the node that was named."""
        if not isinstance(target, Receiver):
            raise self._misuse(symbol, target)
        port = target._receiving_port(f"{self} {symbol} {target}")
        return port, self if port is target else target

    def __rshift__(self, other: object) -> Any:
        if isinstance(other, int) and not isinstance(other, bool):
            return Batched(self, other)
        return self.connect(other)

    def __irshift__(self, other: object) -> Self:
        port, _ = self._target(other, ">>=")
        connect(self.ref, port.ref, "all")
        return self  # Python assigns it back: `a.out >>= b.inp` is `a.out = a.out.__irshift__(b.inp)`

    def _right_form(self, symbol: str, other: object) -> str:
        if symbol.startswith(">>") or symbol == "<<":
            if isinstance(other, type):
                return f"Add the component first: `graph.name = {other.__name__}`, then `{self} >> graph.name.port`."
            return f"{self} is an out-port: write `{self} >> inp`, or `{self} >> node` when it has one free in-port."
        if symbol == ">=" and isinstance(other, InPort):
            return f"For batches write `{self} >> 3 >= {other}`, for everything in one list `{self} >>= {other}`."
        return (
            f"{self} is an out-port, and values go to in-ports, each in a line of its own: `inp < value`. "
            f"To connect write `{self} >> inp`."
        )

    def __repr__(self) -> str:
        return f"<out-port {self}{_type_text(self.spec)}{_links_text(self.ref)}>"


class Broadcast(Operand):
    """`out.broadcast()`: what is connected to it gets every item, on each member of a group."""

    __slots__ = ("_out",)

    def __init__(self, out: OutPort) -> None:
        self._out = out

    def __rshift__(self, other: object) -> Any:
        port, result = self._out._target(other, ">>")
        connect(self._out.ref, port.ref, None, broadcast=True)
        return self if result is self._out else result

    def _right_form(self, symbol: str, other: object) -> str:
        return f"Write `{self} >> group.port`."

    def __str__(self) -> str:
        return f"{self._out}.broadcast()"

    def __repr__(self) -> str:
        return str(self)


class Batched(Operand):
    """`out >> n`, the first half of `out >> n >= inp`."""

    __slots__ = ("_note", "_out", "_size")

    def __init__(self, out: OutPort, size: int) -> None:
        if size < 1:
            raise DefinitionError(f"`{out} >> {size}`: a batch holds at least one item. Write `{out} >> 3 >= inp`.")
        self._out = out
        self._size = size
        # Python evaluates a line that stops here without a word; resolving the graph names it.
        out.ref.vertex.graph.unfinished.append(str(self))

    def __ge__(self, other: object) -> Statement:
        port, _ = self._out._target(other, ">=")
        connect(self._out.ref, port.ref, self._size)
        unfinished = self._out.ref.vertex.graph.unfinished
        if str(self) in unfinished:
            unfinished.remove(str(self))
        return Statement(f"{self} >= {port}")

    def _right_form(self, symbol: str, other: object) -> str:
        return f"Write `{self} >= inp` for lists of {self._size}."

    def __str__(self) -> str:
        return f"{self._out} >> {self._size}"

    def __repr__(self) -> str:
        return str(self)


class StatePort(Port):
    """State of a node: `node.state < args` sets the arguments of its initializer."""

    __slots__ = ("spec",)

    def __init__(self, vertex: VertexDraft, spec: StateSpec) -> None:
        super().__init__(vertex, spec.name)
        self.spec: StateSpec = spec

    def set(self, args: Any) -> None:
        """Sets the arguments of the initializer: `node.state < args` in other words.

        Args:
            args: a tuple of positional arguments, a dict of keyword arguments, or one argument. A single
                argument that is itself a tuple or a dict is written `((1, 2),)`.

        Raises:
            DefinitionError: the initializer does not take these arguments.
        """
        if isinstance(args, Operand | Statement):
            raise self._misuse("<", args)
        given = state_args(args)
        problem = _does_not_fit(self.spec.initializer, given)
        if problem:
            raise DefinitionError(
                f"`{self} < {show(args)}`: {_name(self.spec.initializer)} makes this state, and not so: {problem}. "
                "A tuple is positional arguments, a dict is keyword arguments, anything else is one argument."
            )
        for member in self._vertex.members:
            member.state_args[self.name] = given

    def __lt__(self, args: object) -> Statement:
        self.set(args)
        return Statement(f"{self} < {show(args)}")

    def _right_form(self, symbol: str, other: object) -> str:
        return f"{self} is state, not a port: `{self} < args` sets the arguments of its initializer."

    def __repr__(self) -> str:
        return f"<state {self}: {_name(self.spec.initializer)}>"


def state_args(value: Any) -> StateArgs:
    """The arguments of an initializer: a tuple is positional ones, a dict keyword ones, anything else one."""
    if isinstance(value, StateArgs):
        return value
    if isinstance(value, tuple):
        return StateArgs(args=tuple(value))
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return StateArgs(kwargs=dict(value))
    return StateArgs(args=(value,))


def missing_state_args(node: NodeDraft, spec: StateSpec) -> str | None:
    """What is wrong when a state is made with the arguments that the node has for it, or None."""
    problem = _does_not_fit(spec.initializer, node.state_args.get(spec.name, StateArgs()))
    if problem is None:
        return None
    return (
        f"{node.name}.{spec.name}: the initializer {_name(spec.initializer)} needs arguments: {problem}. "
        f"Write `{node.name}.{spec.name} < args`."
    )


def _does_not_fit(initializer: Callable[..., Any], given: StateArgs) -> str | None:
    try:
        signature = inspect.signature(initializer)
    except (TypeError, ValueError):  # builtins such as `int` have none: the call itself will tell
        return None
    try:
        signature.bind(*given.args, **given.kwargs)
    except TypeError as error:
        return str(error)
    return None


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


def _type_text(spec: InPortSpec | OutPortSpec) -> str:
    return "" if spec.type is Any else f": {type_text(spec.type)}"


def _links_text(ref: PortRef) -> str:
    found = [str(link) for link in ref.vertex.graph.links if ref in (link.source, link.target)]
    return f", {', '.join(found)}" if found else ""


def ports_of(vertex: VertexDraft) -> dict[str, Port]:
    """The ports and states of a node or group, by name, in the order of the runner's parameters."""
    spec = vertex.spec
    ports: dict[str, Port] = {}
    ports.update((each.name, InPort(vertex, each)) for each in spec.inports)
    ports.update((each.name, OutPort(vertex, each)) for each in spec.outports)
    ports.update((each.name, StatePort(vertex, each)) for each in spec.states)
    return ports
