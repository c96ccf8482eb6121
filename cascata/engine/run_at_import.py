"""Runs that begin while a module is being imported.

    job.py:  graph.run() ──> worker: imports job, for its components ──> graph.run() ──> worker: imports job ──> ...

A worker imports the modules of its components. One that runs its graph when it is imported would run it again in each
worker, and in each of theirs, without end. So a run is refused where it can only be such a copy, before any process is
started for it:

- here, while a module is being imported that the run's workers would have to import;
- in a fork server, in a worker that still loads its definitions, in a thread that those have started, and after its
  nodes have ended (`atexit`);
- in a worker that imports for an item what its own run was begun by;
- in a process that is still being made: a child of `multiprocessing` that imports the main module, or a program that
  was started in place of an interpreter.

A runner may run graphs of its own. `inline` starts no processes, and `fork` imports nothing again: these run.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType, ModuleType
from typing import Any, Final, Literal

from ..errors import CascataError, RunAtImport
from ..model import GraphSpec
from ..observe import stacks
from .worker.surroundings import loaded

__all__ = [
    "BOOTS",
    "begun_by",
    "check",
    "executable",
    "importing",
    "is_fork_server",
    "is_frozen",
    "let_threads_pass",
    "loading",
    "work_is_over",
]

BOOTS: Final = "CASCATA_FORK_SERVER_BOOTS"
"""In the environment of a fork server that boots. A program that finds it was started in place of an interpreter."""

_FORKING: Final = "--multiprocessing-fork"
"""Stands in `sys.argv` of a child that spawn has started, until it has become what it is to be."""

_PACKAGES: Final = ("multiprocess", "multiprocessing")

WHAT_TO_DO: Final = (
    'Put the call under `if __name__ == "__main__":`, or into a function that is called later; or move the components '
    "into a module that runs nothing when it is imported"
)


class _Worker:
    """What this process is, if it is a worker."""

    def __init__(self) -> None:
        self.phase: Literal["none", "fork server", "loading", "at work", "over"] = "none"
        self.modules: frozenset[str] = frozenset()
        """Those of the components of its run."""
        self.begun_by: frozenset[str] = frozenset()
        """Those that were being imported when its run began, or a run around that."""
        self.threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        """Those that its nodes have not started: they were there when its definitions had been loaded."""


_here: Final = _Worker()


# -- told by a worker about itself


def is_fork_server() -> None:
    """This process is the fork server: it runs no graph, nor does a thread that its start has left in it."""
    os.environ.pop(BOOTS, None)
    _here.phase = "fork server"


@contextmanager
def loading(modules: Iterable[str], begun: frozenset[str]) -> Iterator[None]:
    """Inside, this process loads the definitions of its run, and must not begin one.

    Args:
        modules: of the components of its run.
        begun: what `begun_by` was in the process that began its run.
    """
    _here.phase = "loading"
    _here.modules = frozenset(modules)
    _here.begun_by = begun
    yield
    _here.threads = weakref.WeakSet(threading.enumerate())
    _here.threads.discard(threading.current_thread())
    _here.phase = "at work"


def work_is_over() -> None:
    """The nodes of this worker have ended: what runs now is what modules have left to the interpreter's exit."""
    _here.phase = "over"


# -- what is being imported


def importing() -> dict[str, str]:
    """The modules that are being imported, in any thread, each with the line that it has come to.

    Those of the calling thread come last, the innermost at the end.
    """
    found: dict[str, str] = {}
    others = stacks.threads()
    others.pop(threading.get_ident(), None)
    for stack in (*others.values(), _own_stack(sys._getframe())):
        found |= {name: where for name, _, where in reversed(list(_on_stack(stack)))}
    return found


def begun_by() -> frozenset[str]:
    """The modules that a run which begins now is begun by: for its workers, which must not begin it again."""
    return _here.begun_by.union(importing())


def let_threads_pass() -> None:
    """What the calling thread is importing counts as imported from now on.

    The threads of a run import by name what they pickle and unpickle. They would wait for the end of an import, and
    that for them. What is there of such a module by now is what its graph was made of.
    """
    for _, module, _ in _on_stack(_own_stack(sys._getframe(1))):
        spec = getattr(module, "__spec__", None)
        if spec is not None:
            spec._initializing = False


def _own_stack(frame: FrameType | None) -> Iterator[FrameType]:
    """The frames of this thread from one on, the innermost first."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def _on_stack(stack: Iterable[FrameType]) -> Iterator[tuple[str, ModuleType, str]]:
    """The modules whose bodies are being run on a stack, the innermost first, each with its line."""
    for frame in stack:
        code = frame.f_code
        name = frame.f_globals.get("__name__")
        if code.co_name == "<module>" and isinstance(name, str) and name != "__main__":
            module = sys.modules.get(name)
            # What is typed into a module, as in a debugger, has its globals as well, and is of no file.
            if (
                module is not None
                and _own(module, "__dict__") is frame.f_globals
                and (
                    getattr(_own(module, "__spec__"), "_initializing", False)
                    or code.co_filename == frame.f_globals.get("__file__")
                )
            ):
                yield name, module, f"line {frame.f_lineno} of {code.co_filename}"


def _own(module: Any, name: str) -> Any:
    """An attribute of a module, which is not loaded for this if it is a lazy one."""
    try:
        return object.__getattribute__(module, name)
    except AttributeError:
        return None


# -- refusing


def check(spec: GraphSpec, *, imports: bool) -> None:
    """Refuses a run that begins where it would be begun again and again. Call it before anything is started.

    Args:
        spec: the graph.
        imports: whether its workers import the modules of its components: those that are forked have them.

    Raises:
        RunAtImport: it is one.
        CascataError: the interpreter is ending.
    """
    if not threading.main_thread().is_alive():
        raise CascataError(
            "a run on worker processes cannot begin any more when the interpreter is ending: in an `atexit` function, "
            "or in a thread that goes on when the main thread has ended. Begin it before; or run with engine='inline'"
        )
    found = importing()
    if (why := _still_being_made()) is not None:
        raise _refused(found, why)
    if _here.phase != "none":
        _check_in_a_worker(spec, found)
    if imports and found:
        _check_modules(spec, found)


def _still_being_made() -> str | None:
    """Why this process must not begin anything yet; None: it may."""
    if BOOTS in os.environ or _FORKING in sys.argv:
        return (
            f"this process was started to become a worker, and runs a program instead: {sys.executable!r} begins the "
            f"program again. Leave `start_method` out, which forks where a program is frozen; with "
            f"start_method='spawn', let the program begin with `from multiprocess.spawn import freeze_support; "
            f"freeze_support()`; where `sys.executable` is no interpreter, name one by `multiprocess.set_executable`"
        )
    for package in _PACKAGES:
        process = loaded(f"{package}.process")
        if process is not None and getattr(process.current_process(), "_inheriting", False):
            return (
                f"a child of {package} that is being set up imports what it needs of its parent, and must not begin "
                f"a run meanwhile. {WHAT_TO_DO}"
            )
    return None


def _check_in_a_worker(spec: GraphSpec, found: dict[str, str]) -> None:
    if _here.phase == "loading":
        raise _refused(
            found, f"a worker imports it for the components of its graph, and must not run one. {WHAT_TO_DO}"
        )
    if _here.phase in ("fork server", "over"):
        raise _refused({}, f"a graph is run by the workers of that graph, when they begin or exit. {WHAT_TO_DO}")
    if again := {name: where for name, where in found.items() if name in _here.begun_by}:
        raise _refused(again, f"a worker of that run imports it, for an item or in a component. {WHAT_TO_DO}")
    if threading.current_thread() in _here.threads and not _here.modules.isdisjoint(_modules(spec)):
        raise _refused({}, f"a thread that an import has started runs a graph, also in its workers. {WHAT_TO_DO}")


def _check_modules(spec: GraphSpec, under: dict[str, str]) -> None:
    if "site" in under:
        raise _refused(under, "every interpreter does so when it starts, those of the workers as well. " + WHAT_TO_DO)
    for module, nodes in _modules(spec).items():
        parts = module.split(".")
        if any(".".join(parts[: length + 1]) in under for length in range(len(parts))):
            raise _refused(
                under,
                f"each of its workers imports {'it' if module == list(under)[-1] else repr(module)} for "
                f"{', '.join(nodes)}, and would run the graph again. {WHAT_TO_DO}",
            )


def _modules(spec: GraphSpec) -> dict[str, list[str]]:
    """The modules that a worker imports for a graph, as far as they can be told at once, each with its nodes."""
    found: dict[str, list[str]] = {}

    def add(node: str, *things: Any) -> None:
        for thing in things:
            for module in (getattr(thing, "__module__", None), type(thing).__module__):
                if isinstance(module, str) and node not in found.setdefault(module, []):
                    found[module].append(node)

    for node in spec.nodes.values():
        component = node.component
        found.setdefault(component.module, []).append(node.name)
        add(node.name, component.runner, *(state.initializer for state in component.states))
        for given in node.inputs.values():
            add(node.name, given.constant, given.seed)
        for arguments in node.state_args.values():
            add(node.name, *arguments.args, *arguments.kwargs.values())
    return found


def _refused(under: dict[str, str], why: str) -> RunAtImport:
    name, where = list(under.items())[-1] if under else (None, "")
    begin = "" if name is None else f"module {name!r} runs a graph when it is imported ({where}): "
    return RunAtImport(begin + why, module=name, where=where)


# -- programs that are no interpreters


def executable() -> str:
    """The interpreter that `multiprocess` would start.

    Raises:
        FileNotFoundError: none is known.
    """
    spawn = loaded("multiprocess.spawn")
    found = sys.executable if spawn is None else spawn.get_executable()
    if not found:
        raise FileNotFoundError(
            errno.ENOENT, "no Python interpreter to start processes with is known (sys.executable is empty)"
        )
    return os.fsdecode(found)


def is_frozen() -> bool:
    """Whether an interpreter cannot be started: the program is one file with its own, as PyInstaller makes it."""
    return bool(getattr(sys, "frozen", False)) and executable() == sys.executable


def no_server() -> CascataError:
    """The error for a frozen program that is to have a fork server."""
    return CascataError(
        f"start_method='forkserver': this program is frozen, and {sys.executable!r} is no interpreter that could "
        f"become a fork server: it would begin the program again. Leave start_method out: workers are forked then"
    )
