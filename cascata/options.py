"""Every option of a run and of a component: a table of name, default, check and text, and the same for type checkers.

Checking, error texts and documentation read the tables. `RunKwargs` and `ComponentKwargs` stand for `**options` where
an editor completes them and a type checker looks at them: `def run(self, **options: Unpack[RunKwargs])`. An option is
a row of a table, a line of such a dict and, for runs, a field of `RunOptions` and a line of `Graph.stream`; a test
holds them together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, Protocol, TypeAlias, TypedDict, get_args

from .errors import DefinitionError
from .records import dataclass

__all__ = [
    "COMPONENT_OPTIONS",
    "RUN_OPTIONS",
    "ComponentKwargs",
    "Engine",
    "MapKwargs",
    "Measured",
    "OnError",
    "OnWorkerDeath",
    "Option",
    "RunKwargs",
    "StartMethod",
]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was most likely meant to be, or None."""
    from difflib import get_close_matches  # only for a mistake

    found = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def suggestion(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?`, or the list of known names when none is near."""
    known = list(known)
    near = nearest(name, known)
    if near is not None:
        return f" Did you mean {near!r}?"
    return f" There are: {', '.join(known)}." if known else " There are none."


@dataclass(frozen=True, slots=True)
class Option:
    """One option: `accepts(value)` says whether a value is allowed, `wants` says in words what is."""

    name: str
    default: Any
    accepts: Callable[[Any], bool]
    wants: str
    text: str


def _is_int(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 and not math.isnan(value)


def check_seconds(value: Any, where: str) -> None:
    """Raises `DefinitionError` when a value is no number of seconds, and not None."""
    if value is not None and not _is_seconds(value):
        raise DefinitionError(f"{where}: within must be a number of seconds, or None, not {value!r}.")


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _one_of(*values: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in values


Engine: TypeAlias = Literal["processes", "inline", "ray"]
StartMethod: TypeAlias = Literal["fork", "forkserver", "spawn"]
OnError: TypeAlias = Literal["raise", "skip"]
OnWorkerDeath: TypeAlias = Literal["fail", "restart"]

ENGINES: Final = get_args(Engine)
START_METHODS: Final = get_args(StartMethod)

RUN_OPTIONS: Final[Mapping[str, Option]] = {
    option.name: option
    for option in (
        Option(
            "num_workers",
            None,
            lambda value: value is None or _is_int(value, 1),
            "a whole number of at least 1, or None",
            "Workers to run on; None: as many as there are cores, and never more than nodes.",
        ),
        Option("engine", "processes", _one_of(*ENGINES), f"one of {', '.join(ENGINES)}", "What runs the workers."),
        Option("progress", False, _is_bool, "True or False", "Show a live line per component."),
        Option(
            "timeout",
            None,
            lambda value: value is None or _is_seconds(value),
            "a number of seconds, or None",
            "Seconds after which the run is ended with RunTimeout; None: never.",
        ),
        Option(
            "start_method",
            None,
            lambda value: value is None or _one_of(*START_METHODS)(value),
            f"one of {', '.join(START_METHODS)}, or None",
            "How worker processes start; None: forkserver where there is one, else spawn.",
        ),
        Option(
            "grace",
            5.0,
            _is_seconds,
            "a number of seconds",
            "Seconds that code which resists cancellation has before its worker is killed.",
        ),
        Option(
            "on_error",
            "raise",
            _one_of(*get_args(OnError)),
            "'raise' or 'skip'",
            "What a failing item does: end the run, or be counted and logged.",
        ),
        Option(
            "on_worker_death",
            "fail",
            _one_of(*get_args(OnWorkerDeath)),
            "'fail' or 'restart'",
            "What the death of a worker does: end the run, or start its nodes again.",
        ),
        Option(
            "plan_from",
            None,
            lambda value: value is None or (hasattr(value, "nodes") and hasattr(value, "edges")),
            "the report of an earlier run, or None",
            "Balance the plan by the busy times and the traffic of an earlier run.",
        ),
        Option(
            "slow_after",
            5.0,
            _is_seconds,
            "a number of seconds",
            "Seconds after which a worker that does not answer is named in the log.",
        ),
        Option("debug", False, _is_bool, "True or False", "Find items that are changed after they were sent."),
        Option(
            "address",
            None,
            lambda value: value is None or isinstance(value, str),
            "a text, or None",
            "Address of the Ray cluster.",
        ),
        Option(
            "runtime_env",
            None,
            lambda value: value is None or isinstance(value, dict),
            "a dict, or None",
            "Ray's runtime environment.",
        ),
    )
}

COMPONENT_OPTIONS: Final[Mapping[str, Option]] = {
    option.name: option
    for option in (
        Option(
            "concurrency",
            1,
            lambda value: _is_int(value, 1),
            "a whole number of at least 1",
            "Calls of the runner in flight at once.",
        ),
        Option("ordered", True, _is_bool, "True or False", "Whether results keep the order of their inputs."),
        Option("thread", False, _is_bool, "True or False", "Run a plain `def` in a thread of the worker."),
        Option(
            "timeout",
            None,
            lambda value: value is None or (_is_seconds(value) and value > 0),
            "a number of seconds above 0, or None",
            "Seconds that one item may take.",
        ),
        Option(
            "retries",
            0,
            lambda value: _is_int(value, 0),
            "a whole number of at least 0",
            "Further attempts at an item whose runner raised.",
        ),
        Option(
            "backoff",
            0.1,
            _is_seconds,
            "a number of seconds",
            "Seconds before the first retry; doubled for each further one, with jitter.",
        ),
        Option(
            "on_worker_death",
            "fail",
            _one_of(*get_args(OnWorkerDeath)),
            "'fail' or 'restart'",
            "What the death of its worker does to the node.",
        ),
        Option(
            "keeps",
            None,
            lambda value: value is None or _is_bool(value),
            "True, False or None",
            "Whether it keeps items for later or puts several together, so that `live.call` is refused; None: whoever "
            "reads a stream may.",
        ),
        Option(
            "resources",
            None,
            lambda value: value is None or isinstance(value, dict),
            "a dict of resource name to amount, or None",
            "For engines that place by resources.",
        ),
    )
}


class Measured(Protocol):
    """What `plan_from` takes: the report of an earlier run."""

    @property
    def nodes(self) -> Mapping[str, Any]:
        """Node name to what it did."""
        ...

    @property
    def edges(self) -> tuple[Any, ...]:
        """The ledger of each edge."""
        ...


class MapKwargs(TypedDict, total=False):
    """The options of a run that `Task.map` passes on; the other ones are parameters of its own."""

    progress: bool
    timeout: float | None
    start_method: StartMethod | None
    grace: float
    on_error: OnError
    on_worker_death: OnWorkerDeath
    plan_from: Measured | None
    slow_after: float
    debug: bool
    address: str | None
    runtime_env: dict[str, Any] | None


class RunKwargs(MapKwargs, total=False):
    """The options of a run, as they are given: to `graph.run`, `start`, `open`, `stream` and the like.

    What a program of yours passes on is declared with it: `def job(**options: Unpack[RunKwargs])`.
    """

    num_workers: int | None
    engine: Engine


class ComponentKwargs(TypedDict, total=False):
    """The options of a component, as `@component(...)` takes them."""

    concurrency: int
    ordered: bool
    thread: bool
    timeout: float | None
    retries: int
    backoff: float
    on_worker_death: OnWorkerDeath
    keeps: bool | None
    resources: dict[str, Any] | None


def check_options(given: Mapping[str, Any], table: Mapping[str, Option], where: str) -> dict[str, Any]:
    """Checks options against their table and fills in the defaults.

    Args:
        given: option name to value.
        table: `RUN_OPTIONS` or `COMPONENT_OPTIONS`.
        where: the call, for error texts: "graph.run", "@component of Foo".

    Returns:
        Every option of the table with its value.

    Raises:
        DefinitionError: an option is unknown (the nearest name is suggested) or its value is not allowed.
    """
    for name, value in given.items():
        option = table.get(name)
        if option is None:
            raise DefinitionError(f"{where}: unknown option {name!r}.{suggestion(name, table)}")
        if not option.accepts(value):
            raise DefinitionError(f"{where}: option {name!r} must be {option.wants}, not {value!r}. {option.text}")
    return {name: given.get(name, option.default) for name, option in table.items()}


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of one run, checked. One field for each row of `RUN_OPTIONS`."""

    num_workers: int | None
    engine: str
    progress: bool
    timeout: float | None
    start_method: str | None
    grace: float
    on_error: str
    on_worker_death: str
    plan_from: Any
    slow_after: float
    debug: bool
    address: str | None
    runtime_env: dict[str, Any] | None

    @classmethod
    def of(cls, given: Mapping[str, Any], where: str) -> RunOptions:
        """Checked options. Raises `DefinitionError` as `check_options` does."""
        return cls(**check_options(given, RUN_OPTIONS, where))
