"""The decorators, and what becomes of a decorated function: checks, a frozen `ComponentSpec`, and a class of it.

`@inport`, `@outport` and `@persist` note what they say on the function; `@component`, which stands on
top, reads the notes and the annotations, matches them to the parameters by name, and takes the notes off.
"""

from __future__ import annotations

import dis
import inspect
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, Final, TypeVar, Unpack, overload

from ..errors import DefinitionError
from ..faces import face_of, public
from ..model import DEFAULT_CAPACITY, MISSING, ComponentSpec, InPortSpec, OutPortSpec, RunnerForm, StateSpec
from ..options import COMPONENT_OPTIONS, ComponentKwargs, check_options, suggestion
from ..records import dataclass
from .annotations import Hint, Kind, State, read_hint, scopes_of
from .component import Component, ComponentType, make_class
from .operators import is_whole
from .registry import registry

__all__ = ["RESERVED_PORT_NAMES", "build_spec", "check_port_name", "component", "inport", "outport", "persist"]

F = TypeVar("F", bound=Callable[..., Any])

RESERVED_PORT_NAMES: Final = ("clk", "errors", "ordered", "spec", "sync", "test", "test_async")
"""Names that a node uses itself. Names that begin with an underscore cannot be port names either."""

_A: Final[Mapping[Kind, str]] = {
    "in-port": "an in-port",
    "out-port": "an out-port",
    "state": "a state",
    "stopping": "what tells of a stop",
}
_NOTES: Final = "__cascata_declared__"


@dataclass(frozen=True, slots=True)
class _Declared:
    """What one decorator says. `type` is Any when it says nothing about it."""

    kind: Kind
    name: str
    type: Any = Any
    capacity: int = DEFAULT_CAPACITY
    default: Any = MISSING
    initializer: Any = MISSING
    stream: bool = False


@overload
def component(function: Callable[..., Any], /) -> type[Component]: ...
@overload
def component(**options: Unpack[ComponentKwargs]) -> Callable[[Callable[..., Any]], type[Component]]: ...
@public
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


@public
def inport(
    name: str,
    *,
    capacity: int = DEFAULT_CAPACITY,
    default: Any = MISSING,
    type: Any = Any,
    stream: bool = False,
) -> Callable[[F], F]:
    """Declares an in-port: the runner's parameter of this name receives one item.

    Args:
        name: of the port and of the parameter.
        capacity: at most this many items are sent and not yet taken; at least 1.
        default: a value of its own, replaced by a constant or a connection.
        type: of the items; without it, the parameter's annotation.
        stream: whether the runner reads the items itself, as with `Stream[...]`: the parameter is an iterator.

    Raises:
        DefinitionError: the name cannot be a port's, the capacity is not a whole number of at least 1, or
            the decorator does not stand on a function.
    """
    check_port_name(name, "@inport")
    if not is_whole(capacity, 1):
        raise DefinitionError(
            f"@inport({name!r}): capacity must be a whole number of at least 1, not {capacity!r}: "
            "it counts the items sent and not yet taken."
        )
    return _noting(_Declared("in-port", name, type, capacity, default, stream=stream), "@inport")


@public
def outport(name: str, *, type: Any = Any) -> Callable[[F], F]:
    """Declares an out-port: the parameter of this name has `await port.send(item)`.

    The parameter may be left out when the out-port is the only one and the runner yields or returns what
    it sends.

    Args:
        name: of the port and of the parameter.
        type: of the items; without it, what `Out[...]` says in the annotation.

    Raises:
        DefinitionError: the name cannot be a port's, or the decorator does not stand on a function.
    """
    check_port_name(name, "@outport")
    return _noting(_Declared("out-port", name, type), "@outport")


@public
def persist(name: str, initializer: Callable[..., Any]) -> Callable[[F], F]:
    """Declares state of an instance: the parameter of this name has `get()`, `set(value)` and `value`.

    Args:
        name: of the state and of the parameter.
        initializer: makes the value in the worker before the first item, as in `State`.

    Raises:
        DefinitionError: the name cannot be used, the initializer cannot be called, or the decorator does
            not stand on a function.
    """
    check_port_name(name, "@persist")
    State(initializer)  # checks it
    return _noting(_Declared("state", name, initializer=initializer), "@persist")


def check_port_name(name: object, where: str) -> None:
    """Raises `DefinitionError` when `name` cannot name a port."""
    if not isinstance(name, str):
        raise DefinitionError(f'{where} takes the name of the port: write {where}("name"), not {where}({name!r}).')
    if not name.isidentifier():
        raise DefinitionError(f"{where}({name!r}): the name of a port is the name of a parameter.")
    if name in RESERVED_PORT_NAMES or name.startswith("_"):
        raise DefinitionError(
            f"{where}({name!r}): a node uses this name itself. These cannot be names of ports: "
            f"{', '.join(RESERVED_PORT_NAMES)}, and names that begin with an underscore."
        )


def _noting(declared: _Declared, where: str) -> Callable[[F], F]:
    def note(function: F) -> F:
        if isinstance(function, type):
            raise DefinitionError(
                f"{where}({declared.name!r}) stands above @component of {function.__name__}: "
                "@component must be topmost."
            )
        if not inspect.isfunction(function):
            raise DefinitionError(f"{where}({declared.name!r}) stands on {function!r}, which is not a function.")
        vars(function).setdefault(_NOTES, []).append(declared)
        return function

    return note


@dataclass(slots=True)
class _Builder:
    """Matches parameters to declarations, one parameter at a time."""

    where: str
    declared: dict[str, _Declared]
    inports: list[InPortSpec] = field(default_factory=list)
    outports: list[OutPortSpec] = field(default_factory=list)
    states: list[StateSpec] = field(default_factory=list)
    stopping: list[str] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    blocking: list[str] = field(default_factory=list)

    def add(self, name: str, hint: Hint, default: Any) -> None:
        """One parameter: what its annotation says, and its default (MISSING: none)."""
        noted = self.declared.get(name)
        said = hint.kind or ("state" if isinstance(default, State) else None)
        kind = noted.kind if noted is not None else said
        if kind is None:
            self.unmatched.append(name)
            return
        if noted is None and kind == "stopping":
            self._add_stopping(name, default)
            return
        if noted is None:
            check_port_name(name, f"{self.where}: {kind} ")
            noted = _Declared(kind, name)
        elif said is not None and said != kind:
            raise DefinitionError(
                f"{self.where}: {name!r} is declared as {_A[kind]} above the function and as {_A[said]} by its "
                "annotation or default. Keep one of them."
            )
        if kind == "in-port":
            self._add_inport(noted, hint, default)
        elif kind == "out-port":
            self._add_outport(noted, hint, default)
        else:
            self._add_state(noted, hint, default)

    def _add_stopping(self, name: str, default: Any) -> None:
        if default is not MISSING:
            raise DefinitionError(
                f"{self.where}: {name!r} tells of a stop and has a default ({default!r}): the run gives it its value. "
                f"Write `{name}: Stopping`."
            )
        self.stopping.append(name)

    def _add_inport(self, noted: _Declared, hint: Hint, default: Any) -> None:
        if isinstance(default, State):
            raise DefinitionError(
                f"{self.where}: in-port {noted.name!r} has a State as its default. "
                f"For state write `{noted.name}: State[...] = {default!r}`."
            )
        if default is not MISSING and noted.default is not MISSING:
            raise DefinitionError(
                f"{self.where}: in-port {noted.name!r} has two defaults, {noted.default!r} in @inport and "
                f"{default!r} in the signature. Keep one of them."
            )
        given = noted.default if default is MISSING else default
        stream = noted.stream or hint.stream
        if stream and given is not MISSING:
            raise DefinitionError(
                f"{self.where}: in-port {noted.name!r} is a stream and has a default ({given!r}), which only a port "
                "that receives one item can have. Leave it out, or give the value to a port of its own."
            )
        if noted.stream and hint.kind == "in-port" and not hint.stream:
            raise DefinitionError(
                f"{self.where}: in-port {noted.name!r} is declared as a stream above the function and as one item by "
                f"its annotation. Write `{noted.name}: Stream[...]`."
            )
        # A plain annotation of a stream's parameter is the type of the iterator, not of its items.
        said = hint.type if hint.stream or not stream else Any
        self.inports.append(
            InPortSpec(noted.name, said if noted.type is Any else noted.type, noted.capacity, given, stream)
        )

    def _add_outport(self, noted: _Declared, hint: Hint, default: Any) -> None:
        if default is not MISSING:
            raise DefinitionError(
                f"{self.where}: out-port {noted.name!r} has a default ({default!r}), and only in-ports can have one."
            )
        # A plain annotation of an out-port's parameter is the type of the port object, not of its items.
        said = hint.type if hint.kind == "out-port" else Any
        if hint.blocking:
            self.blocking.append(noted.name)
        self.outports.append(OutPortSpec(noted.name, said if noted.type is Any else noted.type))

    def _add_state(self, noted: _Declared, hint: Hint, default: Any) -> None:
        if default is not MISSING and not isinstance(default, State):
            raise DefinitionError(
                f"{self.where}: state {noted.name!r} has the default {default!r}. "
                f"Give it what makes the value: `{noted.name}: State[...] = State(initializer)`."
            )
        if default is not MISSING and noted.initializer is not MISSING:
            raise DefinitionError(
                f"{self.where}: state {noted.name!r} has two initializers, one in @persist and {default!r} in the "
                "signature. Keep one of them."
            )
        initializer = noted.initializer if default is MISSING else default.initializer
        if initializer is MISSING:
            raise DefinitionError(
                f"{self.where}: state {noted.name!r} has nothing that makes its value. "
                f"Write `{noted.name}: State[...] = State(initializer)`."
            )
        self.states.append(StateSpec(noted.name, initializer, hint.type if hint.kind == "state" else Any))

    def match(self, parameters: Sequence[str], *, outport_is_used: bool) -> None:
        """What is left over on either side: named, with the nearest name on the other side."""
        orphans = [each for each in self.declared.values() if each.name not in parameters]
        unsaid = [each for each in orphans if each.kind == "out-port"]
        if outport_is_used and len(unsaid) == 1 and not self.outports and not self.unmatched:
            orphans.remove(unsaid[0])
            self.outports.append(OutPortSpec(unsaid[0].name, unsaid[0].type))
        problems = [
            f"parameter {name!r} has no port.{suggestion(name, [o.name for o in orphans])}"
            if orphans
            else f"parameter {name!r} has no port: declare it, with @inport({name!r}) or `{name}: In[...]`."
            for name in self.unmatched
        ]
        problems += [
            f"{orphan.kind} {orphan.name!r} has no parameter.{suggestion(orphan.name, self.unmatched or parameters)}"
            for orphan in orphans
        ]
        if problems:
            raise DefinitionError(f"{self.where}: {' '.join(problems)}")


def build_spec(function: Any, options: Mapping[str, Any], frame: types.FrameType) -> ComponentSpec:
    """Reads a decorated function.

    Args:
        function: with the notes of the decorators below `@component` on it.
        options: what `@component(...)` was given.
        frame: from which it is declared, for annotations that are texts.

    Raises:
        DefinitionError: parameters and ports do not match, or an option or a declaration is wrong.
    """
    if not inspect.isfunction(function):
        what = f"{function.__name__}, a class" if isinstance(function, type) else repr(function)
        raise DefinitionError(f"@component stands on a function, not on {what}.")
    where = f"@component of {function.__name__}"
    checked = check_options(options, COMPONENT_OPTIONS, where)
    builder = _Builder(where, _take_notes(function, where))
    signature = _signature(function)
    scopes = scopes_of(function, frame)
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise DefinitionError(
                f"{where}: parameter {parameter.name!r} is positional-only, and ports are matched by name. "
                "Leave out the `/` in the signature."
            )
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
            raise DefinitionError(
                f"{where}: {stars}{parameter.name} matches no port: ports are matched to parameters by name. "
                "Name each port as a parameter of its own."
            )
        default = MISSING if parameter.default is parameter.empty else parameter.default
        annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
        builder.add(parameter.name, read_hint(annotation, function, scopes), default)
    form = _form(function)
    yields = form in ("generator", "async_generator")
    builder.match(tuple(signature.parameters), outport_is_used=yields or _returns_a_value(function))
    if yields and len(builder.outports) != 1:
        names = ", ".join(port.name for port in builder.outports)
        raise DefinitionError(
            f"{where}: it yields, and what it yields goes to its only out-port, but it has "
            f"{f'{len(builder.outports)} ({names})' if names else 'none'}. "
            "Declare exactly one out-port, or send with `await port.send(item)`."
        )
    if checked["thread"] and form in ("async", "async_generator"):
        raise DefinitionError(
            f"{where}: thread=True runs a plain `def` in a thread, and this is an `async def`. "
            "Write `def`, where `port.send(item)` is a blocking call, or leave thread=True away."
        )
    if builder.blocking and not checked["thread"]:
        raise DefinitionError(
            f"{where}: out-port {builder.blocking[0]!r} is a BlockingOut, whose `send` blocks, and only a runner in a "
            f"thread may block. Write `{builder.blocking[0]}: Out[...]`, or @component(thread=True)."
        )
    _check_streams(where, [port.name for port in builder.inports if port.stream], form, checked)
    return ComponentSpec(
        name=function.__name__,
        module=face_of(function.__module__),
        qualname=function.__qualname__,
        runner=function,
        form=form,
        parameters=tuple(signature.parameters),
        keyword_only=frozenset(p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY),
        inports=tuple(builder.inports),
        outports=tuple(builder.outports),
        states=tuple(builder.states),
        options=checked,
        doc=function.__doc__,
        stopping=tuple(builder.stopping),
    )


def _check_streams(where: str, streams: Sequence[str], form: RunnerForm, options: Mapping[str, Any]) -> None:
    """Raises `DefinitionError` for what a runner that reads streams cannot be or have."""
    if not streams:
        return
    port = streams[0]
    if form in ("plain", "generator") and not options["thread"]:
        raise DefinitionError(
            f"{where}: in-port {port!r} is a stream, and a plain `def` cannot wait for its items. Write `async def` "
            f"and `async for item in {port}`, or @component(thread=True) and `for item in {port}`."
        )
    for option, why in (
        ("concurrency", "its items are read by one call"),
        ("retries", "what an attempt has read cannot be read again"),
        ("timeout", "its items are read by one call, which takes as long as the stream"),
    ):
        if options[option] != COMPONENT_OPTIONS[option].default:
            raise DefinitionError(
                f"{where}: option {option!r} is for a runner that is called for each item, and in-port {port!r} is a "
                f"stream: {why}. Receive one item (`{port}: In[...]`), or leave the option away."
            )


def _take_notes(function: Callable[..., Any], where: str) -> dict[str, _Declared]:
    # They come off again so that a definition on its way to a worker does not carry them.
    declared: dict[str, _Declared] = {}
    for each in reversed(vars(function).pop(_NOTES, [])):
        if each.name in declared:
            raise DefinitionError(f"{where}: {each.name!r} is declared twice. Every port and state has its own name.")
        declared[each.name] = each
    return declared


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    if sys.version_info >= (3, 14):  # annotations are evaluated when asked for, and may name what is not there
        import annotationlib

        return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
    return inspect.signature(function)


def _form(function: Callable[..., Any]) -> RunnerForm:
    # A plain wrapper around a coroutine function returns what that one returns, so the inner one decides.
    for each in (function, inspect.unwrap(function)):
        if inspect.isasyncgenfunction(each):
            return "async_generator"
        if inspect.iscoroutinefunction(each):
            return "async"
        if inspect.isgeneratorfunction(each):
            return "generator"
    return "plain"


def _returns_a_value(function: Callable[..., Any]) -> bool:
    """Whether a `return` in the code gives something else than a bare None."""
    before: dis.Instruction | None = None
    for instruction in dis.get_instructions(inspect.unwrap(function)):
        if instruction.opname == "RETURN_VALUE":
            if before is None or before.opname != "LOAD_CONST" or before.argval is not None:
                return True
        elif instruction.opname == "RETURN_CONST" and instruction.argval is not None:
            return True
        before = instruction
    return False
