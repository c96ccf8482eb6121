"""Component classes: what `@component` makes of a function. Their instances are the nodes of a graph."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, overload

from ..errors import DefinitionError
from ..model import ComponentSpec, InPortSpec, OutPortSpec, StateSpec
from .declare import build_spec
from .draft import NodeDraft
from .operators import Operand
from .registry import inport_text, port_text, registry, signature_text
from .vertex import Unit, node_text

if TYPE_CHECKING:
    from .group import Replicas

__all__ = ["Component", "ComponentType", "component", "make_class", "make_node"]


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
        from .group import Replicas  # a group is made of components, so that module imports this one

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
        self.spec = spec

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


class Component(Unit, metaclass=ComponentType):
    """Base of every component class. An instance is a node of a graph: `graph.name = MyComponent` makes it.

    Attributes:
        spec: the component as declared.
    """

    __slots__ = ()

    spec: ClassVar[ComponentSpec]
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


def make_node(draft: NodeDraft) -> Component:
    """The node that users touch, for its draft."""
    node = object.__new__(draft.component)
    node._attach(draft)
    return node


@overload
def component(function: Callable[..., Any], /) -> type[Component]: ...
@overload
def component(**options: Any) -> Callable[[Callable[..., Any]], type[Component]]: ...
def component(function: Any = None, /, **options: Any) -> Any:
    """Turns a function into a component class. Stands on top of the other decorators.

    Parameters of the function are matched to ports by name, and ports are declared by `@inport`,
    `@outport` and `@persist`, by annotations (`In`, `Out`, `State`), or both.

    Args:
        function: the runner: `async def`, plain `def`, and both with `yield`. What it yields or returns
            goes to the only out-port.
        **options: see `cascata.options.COMPONENT_OPTIONS`: `concurrency`, `ordered`, `thread`, `timeout`,
            `retries`, `backoff`, `on_worker_death`, `keeps`, `resources`.

    Returns:
        The component class, with the function's name, module and documentation.

    Raises:
        DefinitionError: parameters and ports do not match (the text names them and the nearest name), a
            name is reserved, or an option is unknown or not allowed.
    """
    if function is not None:
        return _make_class(function, options, sys._getframe(1))
    return lambda function: _make_class(function, options, sys._getframe(1))


def _make_class(function: Any, options: Mapping[str, Any], frame: types.FrameType) -> type[Component]:
    made = make_class(ComponentType, build_spec(function, options, frame))
    registry.add(made)
    return made


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
