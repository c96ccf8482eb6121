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
import inspect
import pickle
import sys
import types
from collections.abc import Iterator
from typing import Any, Final

from ..errors import SerializationError, in_words
from ..model import MISSING, GraphSpec
from ..transport.dilled import dump_with
from .by_value import MAIN, dump_plainly, reduce_definition

__all__ = ["Unsendable", "dump", "load"]


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
    main = sys.modules[MAIN].__dict__
    names = _reached(spec, main)
    while True:
        try:
            payload, by_value = _dumps((main.get("__package__"), names, spec))
        except Exception as problem:
            bad = {name: value for name, value in names.items() if not _sendable(value)}
            if not bad:
                raise _explain(spec, problem) from problem
            for name, value in bad.items():
                names[name] = Unsendable(name, type(value).__name__, f"{in_words(problem)}")
            continue
        # Classes that were met only while pickling (the class of a constant, say) must be found by name as well.
        met = {name: main[name] for name in by_value if name not in names}
        if not met:
            return payload
        for name, value in met.items():
            names[name] = value
            _follow(value, main, names)


def load(payload: bytes) -> GraphSpec:
    """Installs the definitions in this process's `__main__`, and returns the graph.

    Raises:
        Exception: what importing a module of the user's, or unpickling a value, raises.
    """
    package, names, spec = pickle.loads(payload)
    # With it, relative imports inside a component of `python -m package.module` find their package.
    sys.modules[MAIN].__dict__.update(names, __package__=package)
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
    except Exception:  # dill takes more, or tells what is wrong
        by_value.clear()
        return dump_with(reduce, value), by_value


def _sendable(value: Any) -> bool:
    try:
        _dumps(value)
    except Exception:  # whatever it is: the caller has the error of the whole
        return False
    return True


def _reached(spec: GraphSpec, main: dict[str, Any]) -> dict[str, Any]:
    """The names of `__main__` that the components' code reaches."""
    names: dict[str, Any] = {}
    for node in spec.nodes.values():
        _follow(node.component.runner, main, names)
        for state in node.component.states:
            _follow(state.initializer, main, names)
        for given in node.inputs.values():
            _follow(given.constant, main, names)
            _follow(given.seed, main, names)
        for arguments in node.state_args.values():
            for value in (*arguments.args, *arguments.kwargs.values()):
                _follow(value, main, names)
    return names


def _follow(root: Any, main: dict[str, Any], names: dict[str, Any]) -> None:
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
                    if not isinstance(value, type)
                    and any(kind.__module__.startswith("cascata.dsl") for kind in type(value).__mro__)
                    else value
                )
                queue.append(value)
        queue.extend(_parts(thing))


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


def _explain(spec: GraphSpec, problem: Exception) -> SerializationError:
    """The error for a graph that cannot be sent: which value of which node it is."""
    for node in spec.nodes.values():
        for port, given in node.inputs.items():
            for value in (given.constant, given.seed):
                if value is not MISSING and not _sendable(value):
                    return _refused(f"the value of {node.name}.{port}", node.name, port, value, problem)
        for state, arguments in node.state_args.items():
            for value in (*arguments.args, *arguments.kwargs.values()):
                if not _sendable(value):
                    return _refused(f"an argument for the state {node.name}.{state}", node.name, state, value, problem)
        if not _sendable(node.component):
            what = f"the component {node.component.name} of node {node.name!r}"
            runner = node.component.runner
            if isinstance(runner, types.FunctionType) and not _of_a_module(runner):
                return SerializationError(
                    f"{what} was defined in a namespace that is no module (it calls itself {runner.__module__!r}), and "
                    f"what it uses there cannot be sent to a worker: {in_words(problem)}. Define it in a module, or in "
                    f"`__main__`, as a script and a notebook do; or run with engine='inline': it has no border",
                    node=node.name,
                    type=type(runner).__name__,
                )
            return _refused(what, node.name, None, node.component.runner, problem)
    return SerializationError(f"the graph cannot be sent to a worker: {in_words(problem)}")


def _of_a_module(function: types.FunctionType) -> bool:
    home = sys.modules.get(function.__module__)
    inner: Any = inspect.unwrap(function)  # a decorator's function calls itself as what it wraps, and lives elsewhere
    return getattr(home, "__dict__", None) is getattr(inner, "__globals__", None)


def _refused(what: str, node: str, port: str | None, value: Any, problem: Exception) -> SerializationError:
    kind = type(value).__name__
    return SerializationError(
        f"{what}, of type {kind}, cannot be sent to a worker: {in_words(problem)}. Make it in the worker: as "
        f"state (@persist(name, initializer)), or inside the component; or run with engine='inline': it has no border",
        node=node,
        port=port,
        type=kind,
    )
