"""The engine that runs a graph on a Ray cluster: Ray places, starts and kills; cascata's frames carry the items.

Run (a thread of its own, with an event loop)
  ├─ joins a cluster, or starts one; decides the plan; asks for an actor for each worker
  ├─ tells every actor where the others are: they connect by themselves
  ├─ listens to each actor: a call that waits a moment for messages, again and again
  └─ events ──> Supervisor ──> instructions, carried out by calls, until all actors are gone
"""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from .. import log
from ..errors import CascataError, WorkerDied
from ..model import GraphSpec, Plan
from ..observe.board import Board, BoardShape
from ..observe.log import worker_level
from ..observe.report import RunReport
from ..options import RunOptions
from ..plan import measured, partition
from ..transport.handshake import new_secret
from ..transport.homes import home_of
from . import definitions, supervisor
from .caller import Caller
from .ray_cluster import (
    check_demands,
    default_workers,
    demands,
    import_ray,
    joined,
    options_of,
    pins_by_resources,
    short_of,
)
from .ray_worker import GROUPS, HEARD_S, Place, WorkerActor
from .supervised import SupervisedRun
from .worker_life import Setup, modules_of

__all__ = ["RayRun"]

SHORT_S: Final = 5.0
"""Seconds that a worker may wait for resources which others use."""

BOOT_S: Final = 60.0
"""Seconds that Ray may take to start an actor which has its resources."""

DOUBT_S: Final = 2.0
"""Seconds in which an actor that cannot be reached may turn up again."""


class _Actor:
    """The driver's side of one worker."""

    def __init__(self, index: int, handle: Any) -> None:
        self.index = index
        self.handle = handle
        self.place: Place | None = None
        self.heard: asyncio.Task[None] | None = None
        self.over = False

    def tell(self, command: bytes) -> None:
        if not self.over:
            self.handle.tell.options(concurrency_group="tell").remote(command)

    def __str__(self) -> str:
        if self.place is None:
            return f"actor of worker {self.index}"
        return f"actor {self.place.actor} on node {self.place.node} ({self.place.host}), process {self.place.pid}"


class RayRun(SupervisedRun):
    """One run on a Ray cluster. `main` is its whole life; `post` tells it something, from any thread.

    Args:
        spec: the graph, checked.
        options: of the run.
        caller: has the graph's sources and sinks, if there are any.

    Raises:
        CascataError: Ray is not installed.
    """

    def __init__(self, spec: GraphSpec, options: RunOptions, caller: Caller | None = None) -> None:
        super().__init__(spec, Plan((), {}, frozenset()), options, caller)
        self._ray = import_ray()
        self._actors: list[_Actor] = []
        self._board: Board | None = None
        self._placed: dict[str, int] = {}

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
        payload = definitions.dump(self._spec)  # what cannot be sent should fail before anything is started
        cluster = joined(ray, options.address, options.runtime_env)
        await loop.run_in_executor(None, cluster.__enter__)
        try:
            self._decide()
            began = time.perf_counter()
            spec = self._spec
            shape = BoardShape(len(spec.nodes), len(spec.edges), len(spec.channels), len(self._plan.parts))
            board = self._board = Board(shape)
            try:
                self._limit_time()
                try:
                    await self._start(payload, shape)
                    await self._supervise(board)
                finally:
                    await self._clean_up()
                return self._outcome(board, time.perf_counter() - began, "ray", None)
            finally:
                board.close()
        finally:
            await loop.run_in_executor(None, cluster.__exit__, None, None, None)

    def _decide(self) -> None:
        """The plan: as elsewhere, but nodes that ask for different resources do not share a worker."""
        spec, options = self._spec, self._options
        workers = options.num_workers or default_workers(self._ray, spec)
        pins = pins_by_resources(spec, min(workers, len(spec.nodes)))
        pinned = replace(spec, pins={**pins, **spec.pins})
        self._plan = partition(pinned, workers, *measured(options.plan_from))
        self._supervisor = supervisor.Supervisor(spec, self._plan, options.grace)
        self._placed = {node: worker for worker, nodes in enumerate(self._plan.parts) for node in nodes}

    # -- starting

    async def _start(self, payload: bytes, shape: BoardShape) -> None:
        ray, plan, options = self._ray, self._plan, self._options
        asked = demands(ray, self._spec, plan)
        check_demands(ray, plan, asked)
        kind = ray.remote(concurrency_groups=GROUPS)(WorkerActor)
        environment = {} if options.runtime_env is None else {"runtime_env": options.runtime_env}
        secret = new_secret()
        for index, demand in enumerate(asked):
            handle = kind.options(
                max_restarts=0,
                max_task_retries=0,
                scheduling_strategy="SPREAD",
                name=None,
                **options_of(demand),
                **environment,
            ).remote(index, secret)
            self._actors.append(_Actor(index, handle))
        await self._placing(asked)
        addresses = {actor.index: actor.place.address for actor in self._actors if actor.place is not None}
        whole = ray.put(payload)
        for actor in self._actors:
            log.info("ray: worker %d (%s) is %s", actor.index, ", ".join(plan.workers[actor.index]), actor)
            setup = Setup(
                index=actor.index,
                nodes=plan.workers[actor.index],
                crossing=plan.crossing,
                shape=shape,
                skip_errors=options.on_error == "skip",
                grace=options.grace,
                debug=options.debug,
                calls=self._caller is not None and self._caller.calls,
                log_level=worker_level(),
                authkeys={},
                environment={},
                thread_cap=1,
                tracked=False,
                modules=modules_of(self._spec),
            )
            actor.handle.run.remote(setup, plan, whole, addresses)
            actor.heard = self._spawn(self._listen(actor))

    async def _placing(self, asked: Sequence[Mapping[str, float]]) -> None:
        """Waits until every actor is there."""
        began = time.monotonic()
        waiting = {asyncio.ensure_future(self._place(actor)): actor for actor in self._actors}
        try:
            while waiting:
                done, _ = await asyncio.wait(waiting, timeout=1.0, return_when=asyncio.FIRST_EXCEPTION)
                for each in done:
                    del waiting[each]
                    each.result()
                waited = time.monotonic() - began
                for actor in waiting.values():
                    lacking = short_of(self._ray, asked[actor.index]) if waited > SHORT_S else ""
                    if lacking or waited > BOOT_S:
                        nodes = ", ".join(self._plan.workers[actor.index])
                        why = f"others use {lacking} of the cluster" if lacking else "Ray has not started its actor"
                        raise CascataError(
                            f"worker {actor.index} ({nodes}) has no place after {waited:.0f} s: {why}. Wait until "
                            f"they are free, ask for less with @component(resources=...), or use fewer workers"
                        )
        finally:
            for each in waiting:
                each.cancel()

    async def _place(self, actor: _Actor) -> None:
        try:
            actor.place = await actor.handle.place.remote()
        except self._ray.exceptions.RayError as problem:
            raise CascataError(
                f"worker {actor.index} could not be started on Ray: {_first_line(problem)}. Its node needs the same "
                f"Python and the same cascata as this program (runtime_env= can bring them)"
            ) from problem

    # -- what workers say

    async def _listen(self, actor: _Actor) -> None:
        """Hears an actor until it has nothing more to say, or is gone."""
        assert self._board is not None
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
            if counts:
                self._board.merge(counts)
            for message in messages:
                if message is not None:
                    self._hear(actor.index, pickle.loads(message))
            if messages and messages[-1] is None:
                break
        actor.over = True
        self._ray.kill(actor.handle)
        self._events.put_nowait(supervisor.Exited(actor.index, code))

    def _hear(self, part: int, message: tuple[Any, ...]) -> None:
        match message:
            case ("lost", peer, why):
                self._spawn(self._confirm_loss(part, peer, why))
            case ("refused", text):
                log.warning("worker %d: %s", part, text)
            case ("unread", counts):
                self._unread.update(counts)
            case _:
                super()._hear(part, message)

    async def _confirm_loss(self, worker: int, peer: int, why: str) -> None:
        """A connection broke: the death of one of its ends tells itself; else the network is to blame."""
        await asyncio.sleep(DOUBT_S)
        ends = self._actors[worker], self._actors[peer]
        if any(actor.over for actor in ends):
            return
        error = CascataError(
            f"the connection between worker {worker} ({ends[0]}) and worker {peer} ({ends[1]}) broke: {why}. Both "
            f"are alive: look at the network between their nodes"
        )
        self._events.put_nowait(supervisor.Failed(None, error))

    # -- what workers are told

    def _send(self, worker: int, command: bytes) -> None:
        self._actors[worker].tell(command)

    def _kill(self, worker: int) -> None:
        self._ray.kill(self._actors[worker].handle)

    def _home(self, channel: int) -> int:
        return home_of(self._spec.channels[channel], self._placed)

    def _end_writing(self, channel: int) -> None:
        self._tell(self._home(channel), b"end_writing %d" % channel)

    def _end_reading(self, channel: int) -> None:
        self._tell(self._home(channel), b"end_reading %d" % channel)

    def _grow(self, channel: int, capacity: int, extra: int) -> None:
        self._tell(self._home(channel), b"give_room %d %d" % (channel, extra))

    # -- its end

    async def _clean_up(self) -> None:
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
        for error in self._supervisor.errors:
            if isinstance(error, WorkerDied):
                error.add_note(f"it was {self._actors[error.worker]}")


def _first_line(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {str(problem).strip().splitlines()[0] if str(problem).strip() else ''}"
