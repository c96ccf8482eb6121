"""A DAG of batch tasks: builds a graph, and starts and stops it.

add_source ──> (handle, queue)      handles connect nodes; queues say where data go in and come out
add(task, inputs=handles) ──> handle
add_sink(handle) ──> queue
"""

from __future__ import annotations

import keyword
import re
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, Unpack

from ..dsl import Graph
from ..dsl.draft import RESERVED_NODE_NAMES
from ..dsl.operators import is_whole
from ..errors import CascataError, DefinitionError, SerializationError
from ..faces import public
from ..live import Source
from ..options import RunKwargs
from ..plan.partition import available_cpus
from ..records import dataclass
from .batches import BatchMessage
from .nodes import BATCHES, RESULTS, WORK, join_class, sink_class, task_class
from .session import Session
from .streaming import Way, stream_through
from .task_base import TaskBase

if TYPE_CHECKING:
    from ..observe.report import RunReport

__all__ = ["DAG", "NodeHandle", "SinkQueue", "SourceQueue"]

Q = TypeVar("Q", "SourceQueue", "SinkQueue")

_REFUSED: Final = {"on_error": "raise", "on_worker_death": "fail"}
"""Options by which a batch could vanish, with the only value that is allowed."""


@dataclass(frozen=True, slots=True)
class _Named:
    """Something of a DAG that has a name."""

    name: str
    dag: DAG

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


@public
class NodeHandle(_Named):
    """A source or a task of a DAG: what `inputs` of further tasks and sinks name."""

    __slots__ = ()


@public
class SourceQueue(_Named):
    """Where a data stream goes into a DAG."""

    __slots__ = ()


@public
class SinkQueue(_Named):
    """Where batches come out of a DAG."""

    __slots__ = ()


@public
class DAG:
    """Tasks, connected without cycles.

        dag = DAG()
        source, numbers = dag.add_source()
        squares = dag.add_sink(dag.add(SquareTask(), inputs=source))
        with dag:
            dag.start()
            for q_idx, msg in dag.stream(range(100), source_queues=numbers, sink_queues=squares):
                print(msg.index, msg.payload)

    Args:
        queue_size: batches that wait before a node, at most, unless the node says otherwise.
        max_cores: worker processes, at most; None: as many as there are cores.

    Attributes:
        graph: the graph that it is. Its sources and sinks are the DAG's; every task is a node or a group.

    Raises:
        DefinitionError: an argument is not allowed.
    """

    def __init__(self, queue_size: int = 128, max_cores: int | None = None) -> None:
        _check_whole("DAG", "queue_size", queue_size)
        if max_cores is not None:
            _check_whole("DAG", "max_cores", max_cores)
        self.graph: Graph = Graph()
        self._queue_size = queue_size
        self._max_cores = max_cores
        self._inputs: dict[str, tuple[str, ...]] = {}  # of sources (none), tasks and sinks, in the order of definition
        self._sources: list[SourceQueue] = []
        self._sinks: list[SinkQueue] = []
        self._session: Session | None = None

    # ---- building

    def add_source(self, name: str | None = None) -> tuple[NodeHandle, SourceQueue]:
        """Adds a source.

        Args:
            name: of its node; None: `source_1` and so on.

        Returns:
            Its handle, for `inputs`, and its queue, for `stream`.

        Raises:
            DefinitionError: the name is taken or cannot be one, or the DAG is running.
        """
        name = self._claim("dag.add_source", name, f"source_{len(self._sources) + 1}")
        self.graph.add(Source(), name)
        self._inputs[name] = ()
        queue = SourceQueue(name, self)
        self._sources.append(queue)
        return NodeHandle(name, self), queue

    def add(
        self,
        task: TaskBase,
        *,
        inputs: NodeHandle | Iterable[NodeHandle],
        task_kwargs: Mapping[str, Any] | None = None,
        transform: Callable[[Any], Any] | None = None,
        name: str | None = None,
        queue_size: int | None = None,
        n_workers: int = 1,
        n_cpu_per_worker: int = 1,
    ) -> NodeHandle:
        """Adds a task.

        Args:
            task: an instance of a `Task`.
            inputs: handles of the nodes that feed it, one or several. Batches of several inputs are put together by
                their index; `do` gets them in this order.
            task_kwargs: keyword arguments of `do`.
            transform: a function that each payload goes through before `do` gets it.
            name: of its node; None: the task's class in small letters, with a number when it is taken.
            queue_size: batches that wait before it, at most; None: the DAG's.
            n_workers: members of the node, each of which takes whichever batch comes next.
            n_cpu_per_worker: cores that a member uses, for engines that place by resources.

        Returns:
            Its handle.

        Raises:
            DefinitionError: an argument is not allowed, or the DAG is running.
        """
        _check_task(task)
        if transform is not None and not callable(transform):
            raise DefinitionError(f"dag.add: transform must be a function of one payload, not {transform!r}.")
        if task_kwargs is not None and not isinstance(task_kwargs, Mapping):
            raise DefinitionError(f"dag.add: task_kwargs must be a dict of keyword arguments, not {task_kwargs!r}.")
        size = self._queue_size if queue_size is None else queue_size
        for what, number in (("queue_size", size), ("n_workers", n_workers), ("n_cpu_per_worker", n_cpu_per_worker)):
            _check_whole("dag.add", what, number)
        return self._add_task(
            task,
            self._names_of(inputs),
            task_kwargs=task_kwargs,
            transform=transform,
            name=name,
            size=size,
            members=n_workers,
            cpus=n_cpu_per_worker,
        )

    def _add_task(
        self,
        task: TaskBase,
        inputs: tuple[str, ...],
        *,
        task_kwargs: Mapping[str, Any] | None,
        transform: Callable[[Any], Any] | None = None,
        name: str | None = None,
        size: int,
        members: int,
        cpus: int = 1,
        timed: bool = False,
    ) -> NodeHandle:
        name = self._claim("dag.add", name, re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(task).__name__).lower())
        several, is_group = len(inputs) > 1, members > 1
        component = task_class(task, size, cpus)
        node = self.graph.add(component * members if is_group else component, name)
        aligned = inputs if several and not is_group else ()
        joined = several and is_group
        getattr(node, WORK).set(
            {
                "name": name,
                "task": task,
                "kwargs": dict(task_kwargs or {}),
                "transform": transform,
                "aligned": aligned,
                "joined": joined,
                "timed": timed,
            }
        )
        entry = node
        if joined:  # members share batches: the parts of one must be put together before
            entry = self.graph.add(join_class(size), self._free(f"{name}_join"))
            getattr(entry, WORK).set({"name": str(entry), "inputs": inputs})
            getattr(entry, RESULTS) >> getattr(node, BATCHES)
        for each in dict.fromkeys(inputs):
            self._out(each) >> getattr(entry, BATCHES)
        self._inputs[name] = inputs
        return NodeHandle(name, self)

    def add_sink(self, input: NodeHandle, name: str | None = None, queue_size: int | None = None) -> SinkQueue:
        """Adds a sink, where the batches of a node come out.

        Args:
            input: the node's handle.
            name: of the sink's node; None: `sink_1` and so on.
            queue_size: batches that wait in it, at most; None: the DAG's.

        Returns:
            Its queue, for `stream`.

        Raises:
            DefinitionError: an argument is not allowed, or the DAG is running.
        """
        size = self._queue_size if queue_size is None else queue_size
        _check_whole("dag.add_sink", "queue_size", size)
        if not isinstance(input, NodeHandle):
            raise DefinitionError(f"dag.add_sink: a sink has one input, a handle of dag.add, not {input!r}.")
        (source,) = self._names_of(input)
        name = self._claim("dag.add_sink", name, f"sink_{len(self._sinks) + 1}")
        self._connect_sink(self.graph, source, name, size)
        self._inputs[name] = (source,)
        queue = SinkQueue(name, self)
        self._sinks.append(queue)
        return queue

    def _connect_sink(self, graph: Graph, source: str, name: str, queue_size: int) -> None:
        graph.add(sink_class(queue_size), name)
        self._out(source, graph) >> getattr(graph, name).inp

    def _out(self, name: str, graph: Graph | None = None) -> Any:
        node = getattr(self.graph if graph is None else graph, name)
        return node.out if not self._inputs[name] else getattr(node, RESULTS)

    def _names_of(self, inputs: object) -> tuple[str, ...]:
        handles: list[Any] = list(inputs) if isinstance(inputs, Iterable) else [inputs]
        for each in handles:
            if not isinstance(each, NodeHandle):
                hint = " That is where data go in: inputs name the handle." if isinstance(each, SourceQueue) else ""
                raise DefinitionError(
                    f"inputs of a task or a sink are what dag.add and the first of what dag.add_source returned, "
                    f"not {each!r}.{hint}"
                )
            if each.dag is not self:
                raise DefinitionError(f"{each!r} belongs to another DAG.")
        if not handles:
            raise DefinitionError("a task has at least one input: a handle of dag.add_source or dag.add.")
        return tuple(each.name for each in handles)

    def _claim(self, where: str, name: str | None, otherwise: str) -> str:
        """The name of a new node: the one that is asked for, or one like `otherwise` that is free."""
        if self._session is not None and self._session.alive:
            raise DefinitionError(f"{where}: the DAG is running: stop it before you add to it.")
        return self._free(otherwise) if name is None else name

    def _free(self, name: str) -> str:
        name = name.strip("_") or "task"
        taken = {*self.graph._views, *RESERVED_NODE_NAMES, *keyword.kwlist}
        candidates = (name if number == 1 else f"{name}_{number}" for number in range(1, len(taken) + 2))
        return next(each for each in candidates if each not in taken)

    # ---- running

    def start(self, **options: Unpack[RunKwargs]) -> None:
        """Starts the workers, which stay until `stop`, and returns when they are ready.

        Args:
            **options: as for `graph.run`: `engine`, `num_workers` and more.

        Raises:
            DefinitionError: the DAG or an option is wrong, or it is running already.
            DeadlockError: the graph cannot run to its end.
            CascataError: it cannot be started.
        """
        if self._session is not None and self._session.alive:
            raise DefinitionError("dag.start: the DAG is running already. Stop it first, with dag.stop().")
        if not self._sources:
            raise DefinitionError("dag.start: the DAG has no source. Add one with dag.add_source().")
        given: dict[str, Any] = {**options}
        for name, only in _REFUSED.items():
            if given.get(name, only) != only:
                raise DefinitionError(
                    f"dag.start: {name}={given[name]!r} would lose batches, and those that wait for them would wait "
                    f"for ever. Catch in `do` what a task can go on after."
                )
        if self._max_cores is not None:
            asked = given.get("num_workers")
            if asked is None:
                given["num_workers"] = min(self._max_cores, available_cpus())
            elif is_whole(asked, self._max_cores + 1):
                raise DefinitionError(f"dag.start: num_workers={asked} is more than the max_cores={self._max_cores}.")
        graph = self.graph.copy()
        sinks = [queue.name for queue in self._sinks]
        # A task that nothing reads would be at work on batches that nobody counts.
        for name in self._leaves():
            sinks.append(_end_of(name))
            self._connect_sink(graph, name, sinks[-1], self._queue_size)
        session = Session(graph, [queue.name for queue in self._sources], sinks, given)
        try:
            session.start()
        except SerializationError as error:
            error.add_note("A task makes what cannot travel in its `setup`, which is called in the worker.")
            raise
        self._session = session

    def stop(self) -> RunReport | None:
        """Stops the workers, when everything that is inside has gone to its end. May be called again.

        Returns:
            The report of the run; None when it failed, or nothing was started.

        Raises:
            CascataError: the run failed, and no stream has told so.
        """
        if self._session is None:
            return None
        self._session.stop()
        return self._session.report

    @property
    def discarded(self) -> Mapping[str, int]:
        """Batches that came out of sinks that their stream did not name, by sink, since the last start."""
        counted = Counter() if self._session is None else self._session.discarded
        return {queue.name: counted[queue.name] for queue in self._sinks}

    def stream(
        self,
        *data: Iterable[Any],
        source_queues: SourceQueue | Sequence[SourceQueue] | None = None,
        sink_queues: SinkQueue | Sequence[SinkQueue] | None = None,
        batch_size: int = 10,
        prebatched: bool = False,
        max_inflight: int = 16,
        sink_wait: float = 0.01,
        ordered: bool = False,
        strict: bool = True,
        first_index: int = 0,
    ) -> Generator[tuple[int, BatchMessage], None, None]:
        """Streams data through the DAG, and yields what comes out.

        Data are read as there is room, in the caller's thread. Works also where a loop already runs in this thread.
        When it is left early (`break`, or `close`), what is inside goes to its end and is dropped; the next stream
        waits for that. Several streams at once, in several threads, do not mix.

        Args:
            *data: an iterable for each source.
            source_queues: where they go in; None: all sources, in the order in which they were added.
            sink_queues: what is yielded; None: all sinks that the sources lead to. What comes out elsewhere is
                discarded and counted.
            batch_size: items in a batch; the last one may be shorter.
            prebatched: whether the items of `data` are batches already.
            max_inflight: batches inside the DAG, at most. A batch is inside until all of its messages were taken here.
            sink_wait: accepted for compatibility; nothing polls.
            ordered: whether messages come in the order of their batches, those of one batch in the order of the sinks;
                otherwise as they are ready.
            strict: whether data must be equally long; otherwise the shortest ends the stream.
            first_index: of the first batch.

        Yields:
            The index of a sink in `sink_queues`, and the batch that came out there.

        Raises:
            DefinitionError: (at once) an argument is not allowed.
            CascataError: (at once) the DAG is not running.
            StreamLengthError: the data are not equally long.
            ComponentError: a task raised: the DAG has ended.
            CascataError: any other failure of the run.
        """
        where = "dag.stream"
        _check_whole(where, "max_inflight", max_inflight)
        if not sink_wait >= 0:
            raise DefinitionError(f"{where}: sink_wait must be a number of seconds, not {sink_wait!r}.")
        sources = self._queues_of(source_queues, self._sources, SourceQueue, "source")
        sinks = None if sink_queues is None else self._queues_of(sink_queues, self._sinks, SinkQueue, "sink")
        if len(data) != len(sources):
            raise DefinitionError(
                f"{where}: {len(data)} data streams for {len(sources)} sources ({', '.join(sources) or 'none'}): give "
                f"one iterable for each, in the order of source_queues."
            )
        way = Way(sources, self._reached(sources, sinks))
        if self._session is None or not self._session.alive:
            self._tell_why_not_running()
        assert self._session is not None
        return stream_through(
            self._session,
            way,
            data,
            batch_size=batch_size,
            prebatched=prebatched,
            max_inflight=max_inflight,
            ordered=ordered,
            strict=strict,
            first_index=first_index,
        )

    def _tell_why_not_running(self) -> None:
        if self._session is not None and self._session.error is not None:
            self._session.raise_error()
            raise CascataError(
                "dag.stream: the DAG has failed, and its workers have ended. Call dag.start() to begin anew."
            ) from self._session.error
        raise CascataError("dag.stream: the DAG is not running. Call dag.start() first.")

    def _queues_of(self, given: Any, known: Sequence[Q], kind: type[Q], word: str) -> list[str]:
        if given is None:
            return [queue.name for queue in known]
        queues = list(given) if isinstance(given, Iterable) else [given]
        for each in queues:
            if not isinstance(each, kind):
                hint = (
                    " That is a handle, for inputs: the queue is the second of what add_source returns."
                    if isinstance(each, NodeHandle)
                    else ""
                )
                raise DefinitionError(
                    f"dag.stream: {word}_queues takes what dag.add_{word} returned, not {each!r}.{hint}"
                )
            if each.dag is not self:
                raise DefinitionError(f"dag.stream: {each!r} in {word}_queues belongs to another DAG.")
        names = [each.name for each in queues]
        if twice := [name for name, times in Counter(names).items() if times > 1]:
            raise DefinitionError(f"dag.stream: {word}_queues names {', '.join(twice)} twice.")
        return names

    def _reached(self, sources: Sequence[str], sinks: Sequence[str] | None) -> dict[str, int | None]:
        """The sinks that batches of these sources come to, with their indices among `sinks` (None: all of them)."""
        reached = set(sources)
        for name, inputs in self._inputs.items():  # inputs stand before what they feed
            if not inputs:
                continue
            fed = [each in reached for each in inputs]
            if all(fed):
                reached.add(name)
            elif any(fed):
                dry = [each for each in dict.fromkeys(inputs) if each not in reached]
                raise DefinitionError(
                    f"dag.stream: {name} would wait for ever for {', '.join(dry)}, which no source of this stream "
                    f"feeds. Give data for every source that leads to it."
                )
        ends = [queue.name for queue in self._sinks if queue.name in reached]
        sinks = ends if sinks is None else sinks
        for name in sinks:
            if name not in reached:
                raise DefinitionError(f"dag.stream: nothing that goes into {', '.join(sources)} comes to {name}.")
        ends = ends + [_end_of(name) for name in self._leaves() if name in reached]
        return {name: sinks.index(name) if name in sinks else None for name in ends}

    def _leaves(self) -> list[str]:
        """Sources and tasks that feed nothing."""
        sinks = {queue.name for queue in self._sinks}
        feeding = {each for inputs in self._inputs.values() for each in inputs}
        return [name for name in self._inputs if name not in sinks and name not in feeding]

    # ---- its end

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._session is not None:
            self._session.cancel()
        else:
            self.stop()

    def __del__(self) -> None:
        session = getattr(self, "_session", None)
        if session is not None and session.alive:
            text = f"{self!r} was not stopped: call dag.stop(), or use `with`"
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)
            session.abandon()

    def __repr__(self) -> str:
        state = "running" if self._session is not None and self._session.alive else "not running"
        return f"<DAG of {', '.join(self._inputs) or 'nothing'}; {state}>"


def _end_of(name: str) -> str:
    return f"end_of_{name}"


def _check_task(task: object) -> None:
    if not isinstance(task, TaskBase):
        hint = f"write `{task.__name__}()`" if isinstance(task, type) else "derive its class from Task"
        raise DefinitionError(f"dag.add: {task!r} is no instance of a Task: {hint}.")


def _check_whole(where: str, what: str, value: object) -> None:
    if not is_whole(value, 1):
        raise DefinitionError(f"{where}: {what} must be a whole number of at least 1, not {value!r}.")
