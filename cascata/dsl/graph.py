"""The graph that users write: nodes as attributes, and the verbs. What it holds is in `graph_base`.

A verb is thin. What does its work lies in rooms below this one, and is imported when it is called.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeAlias, Unpack, overload

from ..errors import CascataError, DefinitionError
from ..faces import public
from ..interrupts import Interrupts
from ..model import GraphSpec, Plan
from ..options import Engine, Measured, OnError, OnWorkerDeath, RunKwargs, RunOptions, StartMethod, suggestion
from .component import Component, Replicas
from .draft import RESERVED_NODE_NAMES
from .graph_base import GraphBase
from .inject import home_of, inject

__all__ = ["Graph"]

if TYPE_CHECKING:
    from os import PathLike

    import networkx as nx

    from ..draw import Drawing
    from ..engine.run import Run
    from ..live.opened import Live
    from ..observe.report import RunReport

    class _Anything(Any):  # type: ignore[misc]  # being anything is what it is for
        """What `graph.name` is to a type checker, which cannot know its ports.

        Were it plain `Any`, like what `__setattr__` takes, then pyright would go on with the type that was
        assigned: after `graph.a = A` it would take `graph.a` to be a class. mypy does so for all but `Any`.
        """

else:
    _Anything = Any


Items: TypeAlias = Iterable[Any] | AsyncIterable[Any]


@public
class Graph(GraphBase):
    """A graph of components.

        graph = Graph()
        graph.numbers = Numbers              # adds a node
        graph.double = Double * 4            # adds a group of four
        graph.numbers.out >> graph.double.x  # connects
        graph.numbers.count < 10             # gives an in-port a value
        report = graph.run(num_workers=2)

    Where a graph is made at the top level of a module or notebook, what is assigned there is also a name
    of that module: `numbers.out >> double.x`.
    """

    __slots__ = ("_started",)

    _started: deque[Run]

    def _begin(self, home: dict[str, Any] | None) -> None:
        super()._begin(home)
        self._started = deque()

    # ---- nodes as attributes

    def __setattr__(self, name: str, value: Any) -> None:
        """Adds a node (`Class`), a group (`Class * n`) or a copy of a graph under a name.

        Raises:
            DefinitionError: the name is taken or reserved, or the value is none of these.
        """
        if name.startswith("_"):
            object.__setattr__(self, name, value)
            return
        vertex = self._add(name, value)
        frame = sys._getframe(1)
        if self._home is not None and home_of(frame) is self._home:
            inject(self._home, name, vertex, stacklevel=2)

    def __getattr__(self, name: str) -> _Anything:
        if name.startswith("_"):  # also while a copy or a pickle is still being made
            raise AttributeError(name)
        if name not in self._views:
            near = suggestion(name, [*self._views, *RESERVED_NODE_NAMES])
            hint = near if near.startswith(" Did") else suggestion(name, self._views)
            raise AttributeError(f"the graph has no node {name!r}.{hint}")
        vertex: _Anything = self._views[name]
        return vertex

    def __delattr__(self, name: str) -> None:
        raise DefinitionError(f"`del graph.{name}`: what was added to a graph stays. Begin with a new Graph().")

    def __dir__(self) -> Iterable[str]:
        return [*super().__dir__(), *self._views]

    def add(self, value: type[Component] | Replicas | Graph, name: str) -> _Anything:
        """`graph.name = value`, for names that are made by a program. Injects no name.

        Args:
            value: a component class, `Class * n`, or another graph, of which a copy is added.
            name: of the node.

        Returns:
            The node, group or subgraph.

        Raises:
            DefinitionError: the name is taken or reserved, or the value is none of these.
        """
        node: _Anything = self._add(name, value)
        return node

    # ---- verbs: what does their work is imported when they are called

    def check(self) -> None:
        """Checks that the graph can run to its end.

        Raises:
            DeadlockError: it cannot; every finding is in `issues`.
            DefinitionError: as `resolve` does.
        """
        from ..check.deadlock import check

        check(self.resolve())

    def check_deadlocks(self) -> None:
        """`check` under its other name."""
        self.check()

    def shard(self, num_workers: int, *, plan_from: Measured | None = None) -> Plan:
        """The plan for so many workers: which node runs on which, and why.

        Args:
            num_workers: at least 1.
            plan_from: the report of an earlier run, whose busy times and traffic balance the plan.

        Raises:
            DefinitionError: the number is not allowed, a pin names a worker that is not there, or as
                `resolve` does.
        """
        from ..plan import measured, partition

        options = RunOptions.of({"num_workers": num_workers, "plan_from": plan_from}, "graph.shard")
        return partition(self.resolve(), num_workers, *measured(options.plan_from))

    def to_json(self) -> dict[str, Any]:
        """The graph as a dict for `json.dumps`, as docs/saving.md describes it. `Graph.from_json` reads it.

        Groups and subgraphs are kept as such, and components go by their names. The same graph gives the same dict.

        Raises:
            DefinitionError: JSON cannot hold a constant or an initializer's argument (it would not come back equal and
                of the same type), a component cannot be found by its name, or a line `out >> n` was never finished.
        """
        from ..serial import write
        from .saving import outline_of

        return write(outline_of(self._draft))

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | str | bytes) -> Self:
        """The graph that `to_json` saved. Its modules are imported, so load only what you trust.

        Args:
            data: the dict, or its JSON text.

        Raises:
            DefinitionError: it is no saved graph or one of another version, a component is unknown, or what it says
                cannot be said in a graph; the text names the place and the nearest name.
        """
        from ..serial import read
        from .saving import build

        graph = cls.__new__(cls)
        graph._begin(home_of(sys._getframe(1)))
        build(graph, read(data))
        return graph

    def to_networkx(self) -> nx.MultiDiGraph[str]:
        """The graph as networkx knows it: members of groups and nodes of subgraphs are nodes, ports are attributes.

        Raises:
            DefinitionError: as `resolve` does.
        """
        from ..serial.networks import to_networkx

        return to_networkx(self.resolve())

    def to_dot(self, *, plan: Plan | None = None, num_workers: int | None = None) -> str:
        """The graph in the language of Graphviz. Arguments and errors are those of `draw`."""
        from ..draw import to_dot

        return to_dot(self.resolve(), self._plan_for("graph.to_dot", plan, num_workers))

    def to_mermaid(self, *, plan: Plan | None = None, num_workers: int | None = None) -> str:
        """The graph as a Mermaid flowchart, for Markdown. Arguments and errors are those of `draw`."""
        from ..draw import to_mermaid

        return to_mermaid(self.resolve(), self._plan_for("graph.to_mermaid", plan, num_workers))

    def draw(
        self, file: str | PathLike[str] | None = None, *, plan: Plan | None = None, num_workers: int | None = None
    ) -> Drawing:
        """Draws the graph. An SVG needs no other package.

        Args:
            file: ends in .svg or .png; None: draw only.
            plan: what `graph.shard(n)` gave: nodes are coloured by worker.
            num_workers: the same for a plan that is made now.

        Returns:
            The picture: the text of the SVG, which notebooks show as a picture.

        Raises:
            DefinitionError: the file's name ends otherwise, the plan is of another graph, both plan and num_workers
                are given, or as `resolve` and `shard` do.
            CascataError: a PNG is asked for, and the extra `cascata[draw]` is not installed, or no font is.
            OSError: the file cannot be written.
        """
        from ..draw import draw

        return draw(self.resolve(), self._plan_for("graph.draw", plan, num_workers), file)

    def _plan_for(self, where: str, plan: Plan | None, num_workers: int | None) -> Plan | None:
        if plan is not None and num_workers is not None:
            raise DefinitionError(f"{where}: give it a plan, or num_workers to make one, not both.")
        return plan if num_workers is None else self.shard(num_workers)

    def _repr_svg_(self) -> str | None:
        """What notebooks show; None, and so the text, while the graph cannot be resolved yet."""
        try:
            return str(self.draw())
        except DefinitionError:
            return None

    def _prepare(self, options: Mapping[str, Any], where: str) -> tuple[GraphSpec, RunOptions]:
        from ..check.deadlock import check

        checked = RunOptions.of(options, where)
        if not self._draft.nodes:
            raise DefinitionError(f"{where}: the graph has no nodes. Add one: `graph.name = MyComponent`.")
        spec = self.resolve()
        check(spec)
        return spec, checked

    def run(self, **options: Unpack[RunKwargs]) -> RunReport:
        """Runs the graph to its end. Works also where a loop already runs in this thread.

        Args:
            **options: see `cascata.options.RUN_OPTIONS`: `num_workers`, `engine`, `timeout` and more.

        Returns:
            The report of the run.

        Raises:
            DefinitionError: an option or the graph is wrong.
            DeadlockError: the graph cannot run to its end.
            CascataError: the first failure of the run, the others in `others`.
        """
        with Interrupts() as interrupts:
            spec, checked = self._prepare(options, "graph.run")
            from ..engine.boot import run

            return run(spec, checked, interrupts)

    async def run_async(self, **options: Unpack[RunKwargs]) -> RunReport:
        """As `run`, inside a running loop. When it is cancelled, the run is cancelled, and nothing is left of it."""
        spec, checked = self._prepare(options, "graph.run_async")
        from ..engine.boot import run_async

        return await run_async(spec, checked)

    def start(self, **options: Unpack[RunKwargs]) -> Run:
        """Starts a run and returns at once; `join` waits for it. May be called several times.

        Args:
            **options: as for `run`.

        Returns:
            The run, with `stop(within=)`, `cancel()`, `join()` and `state`.

        Raises:
            DefinitionError: an option or the graph is wrong.
            DeadlockError: the graph cannot run to its end.
        """
        with Interrupts() as interrupts:
            spec, checked = self._prepare(options, "graph.start")
            from ..engine.run import start

            run = start(spec, checked, interrupts)
        self._started.append(run)
        return run

    def stop(self, within: float | None = None) -> None:
        """Stops what was started and not yet joined: sources end, what is in flight arrives. Returns at once.

        A source ends at its next send. One that waits for something else is cancelled there after half of the time:
        its `finally` blocks run, and what they send is sent. A component that declares a parameter
        `stopping: Stopping` gets an event to await instead. What is left at the end of the time is cancelled, and
        killed after `grace` if it resists. `join` then gives the report.

        Args:
            within: seconds that all this has; None: the `grace` of the run. `float("inf")`: as long as it takes.

        Raises:
            DefinitionError: `within` is no number of seconds.
            CascataError: nothing was started.
        """
        if not self._started:
            raise CascataError("graph.stop(): nothing was started. Call graph.start() first.")
        for handle in list(self._started):
            handle.stop(within)

    def join(self) -> RunReport:
        """Waits for the oldest run that was started and not yet joined.

        Returns:
            Its report.

        Raises:
            SystemExit: SIGTERM came, and has stopped the run: in the main thread, with status 143.
            CascataError: nothing was started, or the first failure of the run.
        """
        if not self._started:
            raise CascataError("graph.join(): nothing was started that is not joined yet. Call graph.start() first.")
        run = self._started[0]  # it stays there until it has ended: `stop` must find it while this waits
        try:
            return run.join()
        finally:
            if run in self._started:
                self._started.remove(run)

    def open(self, **options: Unpack[RunKwargs]) -> Live:
        """Runs the graph while a block lasts, fed and read by the tasks of the running event loop.

            async with graph.open(num_workers=2) as live:
                await live.numbers.send(21)       # `graph.numbers = Source()`
                live.numbers.close()
                async for value in live.results:  # `graph.results = Sink()`
                    ...
            report = live.report

        Args:
            **options: as for `run`.

        Returns:
            What `async with` takes. Entering it starts the run and does not wait for its workers. Leaving the block
            closes the sources, and waits for the run's end; leaving it by an exception cancels the run.

        Raises:
            DefinitionError: an option or the graph is wrong.
            DeadlockError: the graph cannot run to its end.
        """
        spec, checked = self._prepare(options, "graph.open")
        from ..live.opened import Live

        return Live(spec, checked, calls=True)

    @overload
    def stream(self, *items: Items, **options: Unpack[RunKwargs]) -> Generator[Any, None, None]: ...
    @overload
    def stream(
        self,
        *,
        num_workers: int | None = ...,
        engine: Engine = ...,
        progress: bool = ...,
        timeout: float | None = ...,
        start_method: StartMethod | None = ...,
        grace: float = ...,
        on_error: OnError = ...,
        on_worker_death: OnWorkerDeath = ...,
        plan_from: Measured | None = ...,
        slow_after: float = ...,
        debug: bool = ...,
        address: str | None = ...,
        runtime_env: dict[str, Any] | None = ...,
        **sources: Items,
    ) -> Generator[Any, None, None]: ...
    def stream(self, *items: Any, **given: Any) -> Generator[Any, None, None]:
        """Runs the graph on items, and yields its results: `for value in graph.stream(range(100)): ...`.

        Works in any thread, also where an event loop runs already. The run begins with the first result that is asked
        for. Iterables are read in a thread of their own, so they may block.

        Args:
            *items: for a graph with one source: any sync or async iterable.
            **given: source -> iterable, for a graph with several; and options, as for `run`.

        Returns:
            A generator: of what comes to the only sink, or of pairs `(name of sink, value)` where there are several.
            Closing it (`contextlib.closing`, or leaving a loop over it) before its end cancels the run; then, as at
            its end, nothing is left. It raises what an iterable raises, and the first failure of the run.

        Raises:
            DefinitionError: an option, the graph or what feeds it is wrong.
            DeadlockError: the graph cannot run to its end.
        """
        from ..live.flow import stream

        return stream(*self._flow(items, given, "graph.stream"))

    @overload
    def astream(self, *items: Items, **options: Unpack[RunKwargs]) -> AsyncGenerator[Any, None]: ...
    @overload
    def astream(
        self,
        *,
        num_workers: int | None = ...,
        engine: Engine = ...,
        progress: bool = ...,
        timeout: float | None = ...,
        start_method: StartMethod | None = ...,
        grace: float = ...,
        on_error: OnError = ...,
        on_worker_death: OnWorkerDeath = ...,
        plan_from: Measured | None = ...,
        slow_after: float = ...,
        debug: bool = ...,
        address: str | None = ...,
        runtime_env: dict[str, Any] | None = ...,
        **sources: Items,
    ) -> AsyncGenerator[Any, None]: ...
    def astream(self, *items: Any, **given: Any) -> AsyncGenerator[Any, None]:
        """As `stream`, for `async for` in a running event loop, which is never blocked.

        Leave it early within `contextlib.aclosing`: else the run is cancelled only when the loop gets to it.
        """
        from ..live.flow import astream

        return astream(*self._flow(items, given, "graph.astream"))

    def _flow(
        self, items: tuple[Any, ...], given: Mapping[str, Any], where: str
    ) -> tuple[GraphSpec, RunOptions, dict[str, Any]]:
        from ..live.arguments import feeds_and_options

        feeds, options = feeds_and_options(self.resolve(), items, given, where)
        return *self._prepare(options, where), feeds
