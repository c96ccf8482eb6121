"""A graph on its way to a worker, with the classes and functions of `__main__` that it needs.

    GraphSpec ──> names of __main__ it reaches ──pickle──> payload ──> installed in the worker's __main__ ──> GraphSpec

A worker never runs the user's script. What components of a script (a notebook, a REPL) use by name is found by
following global names through their code, is sent by value, and installed in the worker's own
`__main__`: so that items of these classes pickle by reference, and keep their identity.

What is importable goes by reference: the worker imports its module. dill is asked for what `by_value` leaves to it:
classes of `__main__`, closures, and whatever else pickle cannot take.
"""

from __future__ import annotations

import dis
import pickle
import sys
import types
from collections.abc import Iterator
from typing import Any, Final

from ...errors import SerializationError, in_words
from ...model import GraphSpec, NodeSpec
from ...transport.codec.by_dill import dump_with
from ...transport.codec.process_bound import Bound, watch_what_is_loaded
from .by_value import MAIN, dump_plainly, reduce_definition

__all__ = ["Unsendable", "dump", "load", "refuse_inherited"]


class Unsendable:
    """Stands in a worker's `__main__` for a global that cannot be sent; using it says so."""

    def __init__(self, name: str, kind: str, problem: str) -> None:
        object.__setattr__(self, "_told", (name, kind, problem))

    def _refuse(self, *_: Any, **__: Any) -> Any:
        name, kind, problem = object.__getattribute__(self, "_told")
        raise SerializationError(
            f"the global {name!r} of the script, of type {kind}, cannot be sent to a worker: {problem}. Make it inside "
            f"the component, or as its state: @persist(name, initializer) makes it in the worker",
            type=kind,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return Unsendable, object.__getattribute__(self, "_told")

    def __repr__(self) -> str:
        name, kind, _ = object.__getattribute__(self, "_told")
        return f"<global {name!r} of type {kind}, not sent>"


_SPECIAL: Final = """
getattr setattr delattr call iter next len bool contains getitem setitem delitem enter exit await aiter anext aenter
aexit eq ne lt le gt ge hash int float complex index bytes round abs neg pos invert add radd iadd sub rsub isub mul
rmul imul truediv rtruediv itruediv floordiv rfloordiv ifloordiv mod rmod imod divmod rdivmod pow rpow ipow matmul
rmatmul imatmul and rand iand or ror ior xor rxor ixor lshift rlshift ilshift rshift rrshift irshift
"""

for _name in _SPECIAL.split():
    setattr(Unsendable, f"__{_name}__", Unsendable._refuse)


def dump(spec: GraphSpec) -> bytes:
    """The graph and what it needs of `__main__`, as bytes.

    Raises:
        SerializationError: a constant, a state's argument or a component cannot be sent; it names node and port.
    """
    watch_what_is_loaded()
    main = sys.modules[MAIN].__dict__
    names = _reached(spec, main)
    while True:
        try:
            payload, by_value = _dumps((main.get("__package__"), names, spec))
        except Exception as problem:
            bad = {name: why for name, value in names.items() if (why := _problem(value)) is not None}
            if not bad:
                from .unsendable import explain

                raise explain(spec, problem, _problem) from problem
            for name, why in bad.items():
                value, names[name] = names[name], Unsendable(name, type(names[name]).__name__, in_words(why))
                if isinstance(why, Bound):
                    _refuse_used(spec, main, name, value, why)
            continue
        # Classes that were met only while pickling (the class of a constant, say) must be found by name as well.
        met = {name: main[name] for name in by_value if name not in names}
        if not met:
            return payload
        for name, value in met.items():
            names[name] = value
            _follow(value, main, names)


def refuse_inherited(spec: GraphSpec) -> None:
    """For workers that inherit the memory of this process, so that nothing needs to be sent.

    What they inherit of an open file is its buffer and its place, and of threads, locks and queues a copy: those are
    refused as everywhere. What a forked process can share with its parent, such as the queues of `multiprocessing`
    and sockets, is not.

    Raises:
        SerializationError: the graph uses such a thing.
    """
    from ...transport.codec.locating import first_bound
    from .unsendable import given_to, refused_global, refused_value

    main = sys.modules[MAIN].__dict__
    for node in spec.nodes.values():
        for name, value in _used_by(node, main).items():
            if not _stays_at_home(value) and (found := first_bound(value, name, inherits=True)) is not None:
                raise refused_global(node, name, found)
        for what, port, value in given_to(node):
            if (found := first_bound(value, what, inherits=True)) is not None:
                raise refused_value(node, port, found)


def load(payload: bytes) -> GraphSpec:
    """Installs the definitions in this process's `__main__`, and returns the graph.

    Raises:
        Exception: what importing a module of the user's, or unpickling a value, raises.
    """
    package, names, spec = pickle.loads(payload)
    # With it, relative imports inside a component of `python -m package.module` find their package.
    sys.modules[MAIN].__dict__.update(names, __package__=package)
    watch_what_is_loaded()
    graph: GraphSpec = spec
    return graph


def _dumps(value: Any) -> tuple[bytes, set[str]]:
    """Pickled, and the names of `__main__` that were pickled by value on the way."""
    main = vars(sys.modules[MAIN])
    by_value: set[str] = set()

    def met(thing: Any) -> None:
        if isinstance(thing, type | types.FunctionType) and thing.__module__ == MAIN:
            name, _, inner = thing.__qualname__.partition(".")
            found = main.get(name)
            # The runner of a component is not found by its name, at which the component stands.
            if found is not None and (inner or isinstance(thing, type) or found is thing):
                by_value.add(name)

    def reduce(thing: Any) -> Any:
        met(thing)
        return reduce_definition(thing)

    try:
        return dump_plainly(met, value), by_value
    except Bound:  # for dill as well
        raise
    except Exception:  # dill takes more, or tells what is wrong
        by_value.clear()
        return dump_with(reduce, value), by_value


def _problem(value: Any) -> Exception | None:
    """Why something cannot be sent."""
    try:
        _dumps(value)
    except Exception as problem:
        return problem
    return None


def _refuse_used(spec: GraphSpec, main: dict[str, Any], name: str, value: Any, problem: Bound) -> None:
    """Refuses a global that holds what is bound to this process, if a component's own way leads to it.

    Raises:
        SerializationError: it does. Else whoever uses it in a worker is told there.
    """
    from ...transport.codec.locating import bound_in
    from .unsendable import refused_global

    found = bound_in(value, name, problem)
    for node in spec.nodes.values():
        if found is not None and not found.harmless and name in _used_by(node, main):
            raise refused_global(node, name, found) from problem


def _reached(spec: GraphSpec, main: dict[str, Any]) -> dict[str, Any]:
    """The names of `__main__` that the components' code reaches."""
    names: dict[str, Any] = {}
    for node in spec.nodes.values():
        for root in _roots(node):
            _follow(root, main, names)
    return names


def _used_by(node: NodeSpec, main: dict[str, Any]) -> dict[str, Any]:
    """Of these names, those that a node reaches without a class between: what some method uses, nobody may call."""
    names: dict[str, Any] = {}
    for root in _roots(node):
        _follow(root, main, names, into_classes=False)
    return names


def _roots(node: NodeSpec) -> Iterator[Any]:
    yield node.component.runner
    yield from (state.initializer for state in node.component.states)
    for given in node.inputs.values():
        yield from (given.constant, given.seed)
    for arguments in node.state_args.values():
        yield from (*arguments.args, *arguments.kwargs.values())


def _follow(root: Any, main: dict[str, Any], names: dict[str, Any], *, into_classes: bool = True) -> None:
    """Adds the names of `__main__` that `root` reaches: by code, by class, and by what it holds."""
    seen: set[int] = set()
    queue = [root]
    while queue:
        thing = queue.pop()
        if id(thing) in seen or isinstance(thing, types.ModuleType):
            continue
        seen.add(id(thing))
        for name in _names_used(thing, main):
            if name not in names and name in main:
                value = main[name]
                names[name] = (
                    Unsendable(name, type(value).__name__, "graphs and nodes stay in the process that made them")
                    if _stays_at_home(value)
                    else value
                )
                queue.append(value)
        if into_classes or not isinstance(thing, type):
            queue.extend(_parts(thing))


def _stays_at_home(value: Any) -> bool:
    """Whether something is a graph, a node or the like."""
    return not isinstance(value, type) and any(
        kind.__module__.startswith("cascata.dsl") for kind in type(value).__mro__
    )


_OF_GLOBALS: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
"""Instructions that may read a global; the last one in what Python 3.12 and later evaluate late within a class."""


def _names_used(thing: Any, main: dict[str, Any]) -> Iterator[str]:
    if isinstance(thing, types.FunctionType) and thing.__globals__ is main:
        codes = [thing.__code__]
        while codes:
            code = codes.pop()
            for instruction in dis.get_instructions(code):
                if instruction.opname in _OF_GLOBALS:
                    yield str(instruction.argval)
            codes.extend(each for each in code.co_consts if isinstance(each, types.CodeType))
    elif isinstance(thing, type):
        if thing.__module__ == MAIN:
            yield thing.__qualname__.partition(".")[0]
    else:
        kind = type(thing)
        if kind.__module__ == MAIN:
            yield kind.__qualname__.partition(".")[0]


def _parts(thing: Any) -> Iterator[Any]:
    """What a function or a class of `__main__`, or a small container, holds."""
    if isinstance(thing, types.FunctionType):
        for cell in thing.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:
                continue  # a cell that is not filled yet
        yield from thing.__defaults__ or ()
        yield from (thing.__kwdefaults__ or {}).values()
        if (wrapped := getattr(thing, "__wrapped__", None)) is not None:
            yield wrapped
    elif isinstance(thing, types.MethodType):
        yield thing.__func__
        yield thing.__self__
    elif isinstance(thing, staticmethod | classmethod):
        yield thing.__func__
    elif isinstance(thing, property):
        yield from (each for each in (thing.fget, thing.fset, thing.fdel) if each is not None)
    elif isinstance(thing, type):
        if thing.__module__ == MAIN:
            yield from thing.__bases__
            yield from vars(thing).values()
    elif type(thing).__name__ == "partial" and hasattr(thing, "func"):
        yield thing.func
        yield from (*thing.args, *thing.keywords.values())
    elif isinstance(thing, list | tuple | set | frozenset) and len(thing) <= 1000:
        yield from thing
    elif isinstance(thing, dict) and len(thing) <= 1000:
        yield from thing.values()
    elif type(thing).__module__ == MAIN:
        yield type(thing)
        yield from getattr(thing, "__dict__", {}).values()
