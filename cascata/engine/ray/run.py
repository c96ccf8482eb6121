"""The engine that runs a graph on a Ray cluster: Ray places, starts and kills; cascata's frames carry the items.

Run (a thread of its own, with an event loop)
  ├─ joins a cluster, or starts one; decides the plan; asks for an actor for each worker
  ├─ tells every actor where the others are: they connect by themselves
  ├─ listens to each actor: a call that waits a moment for messages, again and again
  └─ events ──> Supervisor ──> instructions, carried out by calls, until all actors are gone
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final, TextIO

from ... import log
from ...errors import CascataError, WorkerDied
from ...model import GraphSpec, Plan
from ...observe.board import Board
from ...observe.report import RunReport
from ...options import RunOptions
from ...plan import measured, partition
from ...transport.tcp.handshake import new_secret
from ...transport.tcp.station import Address
from ..caller_part import Caller
from ..protocol.messages import Failed, Locate, Printed, ToWorker, read, write
from ..supervision.events import Exited, Ready
from ..supervision.supervisor import Phase
from ..supervision.watchdog import WorkerWatch
from ..tcp_workers import StationedRun
from ..worker import definitions
from ..worker.stationed import StationedSetup
from .actor import GROUPS, HEARD_S, Place, WorkerActor
from .cluster import (
    check_demands,
    default_workers,
    demands,
    import_ray,
    joined,
    options_of,
    pins_by_resources,
    short_of,
    words,
)

__all__ = ["RayRun"]

SHORT_S: Final = 5.0
"""Seconds that a worker may wait for resources which others use."""

WISH_S: Final = 2.0
"""Seconds after which a worker that asks for no CPU, and was to have one, does without."""

GONE_S: Final = 2.0
"""Seconds that Ray has to end an actor in, before the run does not wait any longer for that."""

START_TRIES: Final = 3
"""Times that an actor is started whose node is lost on the way."""

BOOT_S: Final = 60.0
"""Seconds that Ray may take to start an actor which has its resources."""

DOUBT_S: Final = 2.0
"""Seconds in which an actor that cannot be reached may turn up again."""


class _Actor:
    """The driver's side of one worker.

    Args:
        index: of the worker.
        demand: what it asks for.
        handle: of Ray.
    """

    def __init__(self, index: int, demand: Mapping[str, float], handle: Any) -> None:
        self.index = index
        self.demand = demand
        self.handle = handle
        self.place: Place | None = None
        self.over = False

    def tell(self, message: ToWorker) -> None:
        if not self.over:
            self.handle.tell.options(concurrency_group="tell").remote(write(message))

    def __str__(self) -> str:
        if self.place is None:
            return f"actor of worker {self.index}"
        return f"actor {self.place.actor} on node {self.place.node} ({self.place.host}), process {self.place.pid}"


class RayRun(StationedRun):
    """One run on a Ray cluster. `main` is its whole life; `post` tells it something, from any thread.

    Args:
        spec: the graph, checked.
        options: of the run.
        caller: has the graph's sources and sinks, if there are any.
        alone: the nodes that start again when their worker dies; each has a worker of its own.

    Raises:
        CascataError: Ray is not installed.
    """

    def __init__(
        self,
        spec: GraphSpec,
        options: RunOptions,
        caller: Caller | None = None,
        alone: AbstractSet[str] = frozenset(),
    ) -> None:
        until_there_is_a_cluster = Plan((tuple(spec.nodes),), {}, frozenset())
        super().__init__(spec, until_there_is_a_cluster, options, caller, alone)
        self._handlers[Printed] = self._on_printed
        self._ray = import_ray()
        self._actors: list[_Actor] = []
        self._kind: Any = None
        self._secret = new_secret()
        self._wished: AbstractSet[int] = frozenset()  # workers that can do without their CPU
        self._begin_actor: Callable[[_Actor, CascataError | None], None]

    async def main(self) -> RunReport:
        """Runs the graph to its end. What this run started of Ray is stopped, and nothing else.

        Returns:
            The report.

        Raises:
            CascataError: the first failure, with the others in `.others`; or the cluster cannot be joined, or has not
                what a component asks for.
            CancelledError: the run was cancelled from outside.
        """
        loop = self._begin()
        options, ray = self._options, self._ray
        self._limit_time()
        # What cannot be sent should fail before anything is started.
        payload = await self._apart("packing what its workers need", lambda: definitions.dump(self._spec))
        cluster = joined(ray, options.address, options.runtime_env)
        # In this thread, which lives as long as the run: the kernel ends the processes of a local cluster with the
        # thread that has started them.
        cluster.__enter__()
        try:
            return await self._run(payload)
        finally:
            await loop.run_in_executor(None, cluster.__exit__, None, None, None)

    async def _run(self, payload: bytes) -> RunReport:
        self._decided(self._made_plan())
        asked, self._wished = demands(self._ray, self._spec, self._plan)
        check_demands(self._ray, self._plan, dict(enumerate(asked)))
        began = time.perf_counter()
        plan = self._plan
        board = self._board = Board(self._shape)
        self._watch = self._watch_over(board)
        try:
            self._seat_caller(board, self._ray.util.get_node_ip_address(), self._secret)
            for index, demand in enumerate(asked):
                self._actors.append(_Actor(index, demand, self._made_actor(index, demand)))
            self._begin_actor = partial(self._have_it_begin, payload)
            starting = self._spawn(self._start())
            await self._supervise(board)
            starting.cancel()
        finally:
            await self._clean_up()
        report = self._outcome(board, time.perf_counter() - began, "ray", None)
        if not plan.caller:
            board.close()  # a caller that was left behind may count still
        return report

    def _made_plan(self) -> Plan:
        """The plan: as elsewhere, but nodes that ask for different resources do not share a worker."""
        spec, options = self._spec, self._options
        alone = self._alone
        workers = max(options.num_workers or default_workers(self._ray, spec), len(alone) + 1 if alone else 1)
        pins = pins_by_resources(spec, min(workers, len(spec.nodes)), alone)
        return partition(replace(spec, pins={**pins, **spec.pins}), workers, *measured(options.plan_from), alone=alone)

    def _watch_over(self, board: Board) -> WorkerWatch:
        here = self._ray.get_runtime_context().get_node_id()

        def pid_of(worker: int) -> int:
            place = self._actors[worker].place
            return place.pid if place is not None and place.node == here else 0  # elsewhere it means nothing

        return WorkerWatch(
            self._spec,
            self._plan,
            self._options.slow_after,
            board,
            ask=lambda worker: self._tell(Locate(worker)),
            signal_to=None,
            pid_of=pid_of,
        )

    # -- starting

    def _made_actor(self, index: int, demand: Mapping[str, float]) -> Any:
        if self._kind is None:
            self._kind = self._ray.remote(concurrency_groups=GROUPS)(WorkerActor)
        environment = {} if self._options.runtime_env is None else {"runtime_env": self._options.runtime_env}
        return self._kind.options(
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
            name=None,
            **options_of(demand),
            **environment,
        ).remote(index, self._plan.workers[index], self._secret, self._ports)

    async def _start(self) -> None:
        """Has the actors begin when all of them have a place; what hinders it ends the run."""
        try:
            await self._placing(self._actors, self._wished)
            await self._seated.wait()
            for actor in self._actors:
                self._begin_actor(actor, None)
            self._open_station(self._reachable())
        except (CascataError, self._ray.exceptions.RayError) as problem:
            self._events.put_nowait(Failed(None, problem))

    def _reachable(self) -> Mapping[int, Address]:
        return self._addresses_with({a.index: a.place.address for a in self._actors if a.place is not None})

    def _have_it_begin(self, payload: bytes, actor: _Actor, death: CascataError | None) -> None:
        log.info("ray: worker %d (%s) is %s", actor.index, ", ".join(self._plan.workers[actor.index]), actor)
        # The definitions as they are: who begins must not wait for Ray's object store.
        setup = StationedSetup(**self._setup_of(actor.index, death), authkeys={}, environment={}, thread_cap=1)
        begun = actor.handle.run.remote(setup, payload, self._reachable())
        self._spawn(self._see_that_it_begins(actor, begun))
        # From now on it is asked to stop before it is killed: commands wait until it can hear them.
        self._events.put_nowait(Ready(actor.index))
        self._spawn(self._listen(actor))

    def _restart(self, worker: int, death: CascataError) -> None:
        super()._restart(worker, death)
        demand = self._actors[worker].demand
        actor = self._actors[worker] = _Actor(worker, demand, self._made_actor(worker, demand))
        self._spawn(self._start_again(actor, death))

    async def _start_again(self, actor: _Actor, death: CascataError) -> None:
        """Has an actor begin in the place of one that died; where it can have no place, the run ends."""
        try:
            await self._placing([actor], self._wished)
            if not actor.over:
                self._begin_actor(actor, death)
        except (CascataError, self._ray.exceptions.RayError) as problem:
            if not actor.over:  # else it was killed on the way
                problem.add_note(f"it was to start again: {death}")
                self._events.put_nowait(Failed(None, problem))

    async def _see_that_it_begins(self, actor: _Actor, begun: Any) -> None:
        """A call that Ray loses would be a wait without an end. A death is told by `_listen`."""
        try:
            await asyncio.wait_for(_awaited(begun), BOOT_S)
        except (TimeoutError, self._ray.exceptions.RayTaskError) as problem:
            nodes = ", ".join(self._plan.workers[actor.index])
            why = _first_line(problem) if str(problem) else f"it has not begun after {BOOT_S:.0f} s"
            error = CascataError(f"worker {actor.index} ({nodes}), {actor}, could not begin: {why}")
            error.__cause__ = problem
            self._events.put_nowait(Failed(None, error))
        except self._ray.exceptions.RayError:
            pass

    async def _placing(self, actors: Sequence[_Actor], wished: AbstractSet[int]) -> None:
        """Waits until all of these are there. One that only wished for a CPU does without when others use them."""
        began = time.monotonic()
        waiting = {asyncio.ensure_future(self._place(actor)): actor for actor in actors}
        try:
            while waiting:
                done, _ = await asyncio.wait(waiting, timeout=1.0, return_when=asyncio.FIRST_EXCEPTION)
                for each in done:
                    del waiting[each]
                    each.result()
                waited = time.monotonic() - began
                for each, actor in list(waiting.items()):
                    lacking = short_of(self._ray, actor.demand) if waited > WISH_S else {}
                    if "CPU" in lacking and actor.index in wished:
                        del waiting[each]
                        each.cancel()
                        self._ray.kill(actor.handle)
                        actor.demand = {what: amount for what, amount in actor.demand.items() if what != "CPU"}
                        actor.handle = self._made_actor(actor.index, actor.demand)
                        waiting[asyncio.ensure_future(self._place(actor))] = actor
                    elif (lacking and waited > SHORT_S) or waited > BOOT_S:
                        check_demands(self._ray, self._plan, {actor.index: actor.demand})  # a node may have been lost
                        raise self._no_place(actor, waited, words(lacking))
        finally:
            for each in waiting:
                each.cancel()

    async def _place(self, actor: _Actor) -> None:
        """Waits until an actor is there. When its node is lost meanwhile, it starts on another one."""
        for attempt in range(START_TRIES):
            try:
                found = await actor.handle.place.remote()
            except self._ray.exceptions.RayError as problem:
                lost = isinstance(problem, self._ray.exceptions.ActorDiedError) and "creation task" not in str(problem)
                if lost and attempt < START_TRIES - 1 and not actor.over:
                    actor.handle = self._made_actor(actor.index, actor.demand)
                    continue
                raise CascataError(
                    f"worker {actor.index} could not be started on Ray: {_first_line(problem)} Its node needs the same "
                    f"Python and the same cascata as this program (runtime_env= can bring them)"
                ) from problem
            if isinstance(found, CascataError):
                raise found
            actor.place = found
            return

    def _no_place(self, actor: _Actor, waited: float, lacking: str) -> CascataError:
        nodes = ", ".join(self._plan.workers[actor.index])
        why = f"others use {lacking} of the cluster" if lacking != "nothing" else "Ray has not started its actor"
        if self._lives[actor.index]:  # Ray takes its time to forget a node
            why += ", or the node that it was on is lost, and no other has what it needs"
        return CascataError(
            f"worker {actor.index} ({nodes}) has no place after {waited:.0f} s: {why}. Wait until they are free, ask "
            f"for less with @component(resources=...), or use fewer workers"
        )

    # -- what workers say

    async def _listen(self, actor: _Actor) -> None:
        """Hears an actor until it has nothing more to say, or is gone."""
        code: int | None = 0
        doubt: float | None = None
        listen = actor.handle.listen.options(concurrency_group="listen")
        while True:
            try:
                messages, counts = await listen.remote()
            except self._ray.exceptions.ActorUnavailableError:
                # What a death looks like at first. It may be no more than a full network.
                doubt = doubt or time.monotonic()
                if time.monotonic() - doubt < DOUBT_S:
                    await asyncio.sleep(HEARD_S)
                    continue
                code = None
                break
            except self._ray.exceptions.RayError:
                code = None
                break
            doubt = None
            if actor.over:  # these are words of an earlier life
                return
            if counts:
                self._count(actor.index, counts)
            for message in messages:
                if message is not None:
                    self._hear(read(message))
            if None in messages:  # what its threads print may come after that
                break
        self._bury(actor, code)

    def _bury(self, actor: _Actor, code: int | None) -> None:
        if not actor.over:
            actor.over = True
            self._ray.kill(actor.handle)
            self._events.put_nowait(Exited(actor.index, code, time.monotonic()))

    def _on_printed(self, message: Printed) -> None:
        _print(sys.stdout if message.stream == 1 else sys.stderr, message.text)

    def _in_words(self, part: int) -> str:
        if part == len(self._actors):
            return f"{super()._in_words(part)} ({self._ray.util.get_node_ip_address()})"
        return f"worker {part} ({', '.join(self._plan.workers[part])}; {self._actors[part]})"

    async def _confirm_loss(self, part: int, peer: int, error: CascataError) -> None:
        await asyncio.sleep(HEARD_S)  # a death tells itself, most often
        ends = [self._actors[each] for each in (part, peer) if each < len(self._actors)]
        answers = await asyncio.gather(*(self._answers(actor) for actor in ends))
        for actor, alive in zip(ends, answers, strict=True):
            if not alive:
                self._bury(actor, None)
        if not all(answers) or self._supervisor.phase not in (Phase.RUNNING, Phase.DRAINING):
            return
        self._events.put_nowait(Failed(None, error))

    async def _look_for(self, worker: int) -> None:
        actor = self._actors[worker]
        await asyncio.sleep(HEARD_S)
        if actor.place is not None and not await self._answers(actor):
            self._bury(actor, None)

    async def _answers(self, actor: _Actor) -> bool:
        """Whether an actor can be reached."""
        if actor.over:
            return False
        try:
            await asyncio.wait_for(_awaited(actor.handle.place.remote()), DOUBT_S)
        except (TimeoutError, self._ray.exceptions.RayError):
            return False
        return True

    # -- what workers are told

    def _send(self, message: ToWorker) -> None:
        self._actors[message.worker].tell(message)

    def _kill(self, worker: int) -> None:
        self._bury(self._actors[worker], None)

    # -- its end

    async def _clean_up(self) -> None:
        self._end_caller()
        for actor in self._actors:
            if not actor.over:
                actor.over = True
                self._ray.kill(actor.handle)
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._close_station()
        gone = [asyncio.ensure_future(self._gone(actor)) for actor in self._actors]
        if gone:
            await asyncio.wait(gone, timeout=GONE_S)
        for error in self._supervisor.errors:
            if isinstance(error, WorkerDied):
                error.add_note(f"it was {self._actors[error.worker]}")

    async def _gone(self, actor: _Actor) -> None:
        """Returns when an actor that was killed is gone."""
        while True:
            try:
                await actor.handle.place.remote()
            except self._ray.exceptions.ActorUnavailableError:
                await asyncio.sleep(HEARD_S / 10)
            except self._ray.exceptions.RayError:
                return


async def _awaited(answer: Any) -> Any:
    """What Ray gives can be awaited, and nothing more."""
    return await answer


def _first_line(problem: BaseException) -> str:
    """An error of Ray's in one line."""
    text = str(problem).strip()
    return f"{type(problem).__name__}: {text.splitlines()[0] if text else ''}"


def _print(stream: TextIO | None, text: str) -> None:
    """What a component prints appears where this program prints."""
    if stream is not None:
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.write(text)
            stream.flush()
