"""Component classes: what `@component` makes of a function. Their instances are the nodes of a graph."""

from __future__ import annotations

import inspect
from typing import Any

from ..errors import DefinitionError
from ..model import MISSING, ComponentSpec, InPortSpec, OutPortSpec, StateSpec
from .annotations import type_text
from .draft import Declared, NodeDraft
from .operators import Operand, is_whole, show
from .vertex import Unit, node_text

__all__ = ["Component", "ComponentType", "Replicas", "make_class", "make_node", "signature_text"]


class ComponentType(type):
    """The class of component classes: `MyComponent * 4`, and a `repr` that shows the ports."""

    spec: ComponentSpec

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Instances are made by a graph.

        Raises:
            DefinitionError: always.
        """
        raise DefinitionError(
            f"{cls.__name__}(...) makes no node: write `graph.name = {cls.__name__}` to add one to a graph, "
            f"or `{cls.__name__}.test(...)` to call it once."
        )

    def __mul__(cls, size: int) -> Replicas:
        return Replicas(cls, size)  # type: ignore[arg-type]  # this is the class of nothing but component classes

    __rmul__ = __mul__

    @property
    def __signature__(cls) -> inspect.Signature:
        if "spec" not in vars(cls):
            raise AttributeError("__signature__")
        return inspect.signature(cls.spec.runner)

    def __repr__(cls) -> str:
        if "spec" not in vars(cls):
            return super().__repr__()
        return f"<component {cls.__name__}{signature_text(cls.spec)}>"


class PortAttribute(Operand):
    """A port on a component class: shown by `help`, and giving the port of a node."""

    __slots__ = ("spec",)

    def __init__(self, spec: InPortSpec | OutPortSpec | StateSpec) -> None:
        self.spec: InPortSpec | OutPortSpec | StateSpec = spec

    def __get__(self, node: Component | None, owner: type) -> Any:
        return self if node is None else node._ports[self.spec.name]

    def _right_form(self, symbol: str, other: object) -> str:
        return (
            f"{self} is what a component declares; the port is there on a node of it: `graph.name = MyComponent`, "
            f"then `graph.name.{self.spec.name}`."
        )

    def __str__(self) -> str:
        return self.spec.name

    def __repr__(self) -> str:
        if isinstance(self.spec, InPortSpec):
            return f"<in-port {inport_text(self.spec)}>"
        if isinstance(self.spec, OutPortSpec):
            return f"<out-port {port_text(self.spec)}>"
        return f"<state {port_text(self.spec)}>"


class Component(Declared, Unit, metaclass=ComponentType):
    """Base of every component class. An instance is a node of a graph: `graph.name = MyComponent` makes it.

    Attributes:
        spec: the component as declared.
    """

    __slots__ = ()

    _draft: NodeDraft

    @classmethod
    def test(cls, /, **values: Any) -> dict[str, list[Any]]:
        """Calls the runner once, outside any graph.

        Works in every place, also where a loop already runs in this thread. The options `retries`,
        `timeout` and `concurrency` have no part in it.

        Args:
            **values: a value for each in-port (defaults apply); for a stream, an iterable of its items; for a
                state, arguments of its initializer.

        Returns:
            Out-port to the list of what was sent to it.

        Raises:
            TypeError: a value is missing, or its name is unknown.
            ComponentError: the runner returns a value, and there is not exactly one out-port.
            Exception: whatever the runner or an initializer raises.
        """
        from .trial import run_once_blocking  # brings asyncio along, which a definition does not need

        return run_once_blocking(cls.spec, values)

    @classmethod
    async def test_async(cls, /, **values: Any) -> dict[str, list[Any]]:
        """As `test`, inside a running loop. When it is cancelled, the runner is, and its state is torn down."""
        from .trial import run_once

        return await run_once(cls.spec, values)

    def _what(self) -> str:
        return f"{self._label} ({type(self).__name__})"

    def __repr__(self) -> str:
        return f"<node {node_text(self._draft)}>"


class Replicas:
    """`MyComponent * n`: what makes a group when a graph gets it.

    Raises:
        DefinitionError: n is not a whole number of at least 1.
    """

    __slots__ = ("component", "size")

    def __init__(self, component: type[Component], size: int) -> None:
        if not is_whole(size, 1):
            raise DefinitionError(
                f"{component.__name__} * {size!r}: a group has a whole number of members, at least 1: "
                f"write `graph.name = {component.__name__} * 4`."
            )
        self.component: type[Component] = component
        self.size: int = size

    def __repr__(self) -> str:
        return f"{self.component.__name__} * {self.size}"


def make_node(draft: NodeDraft) -> Component:
    """The node that users touch, for its draft."""
    node: Component = object.__new__(draft.component)  # type: ignore[assignment]  # nothing else is declared
    node._attach(draft)
    return node


def make_class(kind: type[ComponentType], spec: ComponentSpec) -> type[Component]:
    """The component class of a spec. The registry does not know it: that is for what can be found by its name."""
    ports: tuple[InPortSpec | OutPortSpec | StateSpec, ...] = (*spec.inports, *spec.outports, *spec.states)
    namespace: dict[str, Any] = {each.name: PortAttribute(each) for each in ports}
    namespace |= {
        "__slots__": (),
        "__module__": spec.module,
        "__qualname__": spec.qualname,
        "__doc__": spec.doc,
        "spec": spec,
    }
    made: Any = kind(spec.name, (Component,), namespace)
    component_class: type[Component] = made
    return component_class


def port_text(port: InPortSpec | OutPortSpec | StateSpec) -> str:
    """A port with its type, when it has one."""
    return port.name if port.type is Any else f"{port.name}: {type_text(port.type)}"


def inport_text(port: InPortSpec) -> str:
    """An in-port as declared: `value: float = 2.0 (capacity 32)`, `values: float (stream, capacity 100)`."""
    text = port_text(port)
    if port.default is not MISSING:
        text += f" = {show(port.default)}"
    return f"{text} ({'stream, ' if port.stream else ''}capacity {port.capacity})"


def signature_text(spec: ComponentSpec) -> str:
    """The ports of a component: `(value: float (capacity 100)) -> result: float`."""
    outs = ", ".join(map(port_text, spec.outports))
    return f"({', '.join(map(inport_text, spec.inports))}) -> {outs or 'nothing'}"
