"""The loops that take items and call the runner.

    run_triggers ─┬─ one group of one port ────> _run_single ──┐
                  ├─ one group, zipped ────────> _run_zipped ──┤
                  ├─ ... of `live.call`s ──────> _Zip ─────────┼──> call, give ──> runner, and what it returns
                  └─ more groups, or samples ──> _Sampling ────┘
    run_once: a runner without triggers

    _run_single: starve ──> take a batch, one call an item ──> release ──> let the loop turn after a time slice
                   ▲                                                                    │
                   └────────────────────────────────────────────────────────────────────┘

A call that does not suspend costs no turn of the loop: items are taken in batches, as many as fit
into a short time by the measure of the last batch, and never more than half of the capacity, so
that writers refill while the rest is worked on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from time import perf_counter
from typing import Any

from ..channel.base import Reader
from ..channel.local import LocalChannel
from ..channel.turns import SLICE_S, turns
from ..channel.zip_by_call import Arrival, ZipByCall
from ..errors import CascataError
from ..model import MISSING
from .failures import Failures
from .live_calls.lineage import Lineage
from .live_calls.paths import ports_on_the_way
from .node_state import NodeState, batch_size
from .ports.outport import Send
from .ports.stream import Stream
from .runner_calls import Calls

__all__ = ["run_once", "run_triggers"]


async def run_once(node: NodeState, calls: Calls, streams: Mapping[str, Stream]) -> None:
    """Calls the runner of a node without triggers.

    Args:
        node: it.
        calls: makes the call.
        streams: the in-ports that the runner reads itself.
    """
    call, give = calls.caller((), ())
    began = perf_counter()
    try:
        with node.looping():
            value = await call()
            if value is not None:
                await give(value)
    except BaseException as error:
        # Where in its streams a runner could go on is not known: so it is not skipped, and when it is routed, it ends.
        last_read = {port: stream.last for port, stream in streams.items() if stream.last is not MISSING}
        await calls.failures.go_on(error, last_read, skip=not streams)
    finally:
        node.in_hand_s += perf_counter() - began


def run_triggers(node: NodeState, calls: Calls) -> Coroutine[Any, Any, None]:
    """Runs the node until its trigger groups have ended.

    What is awaited is the loop itself: each coroutine around it costs at every wait.
    """
    spec = node.spec
    if len(spec.triggers) == 1 and not spec.sampled:
        (ports,) = spec.triggers
        call, give = calls.caller(ports, ports)
        if calls.journal is not None and not calls.concurrent:
            call = calls.journal.journaling(ports, call, give)
        return _run_group(node, calls, ports, call, give, None)
    return _Sampling(node, calls).run()


def _run_group(
    node: NodeState,
    calls: Calls,
    ports: tuple[str, ...],
    call: Callable[..., Awaitable[Any]],
    give: Send,
    lock: asyncio.Lock | None,
) -> Coroutine[Any, Any, None]:
    lineage = node.host.lineage
    failures = calls.failures
    zips = (
        lineage is not None
        and len(ports) > 1
        and calls.journal is None
        and len(ports_on_the_way(node.spec, lineage.way, ports)) == len(ports)
    )
    if node.ends.takes_with_others and not zips:  # else the edges of each partner are noted when it comes
        call = failures.noting(ports, call)
    if lineage is not None:
        call = lineage.calling(node, ports, call, give, failures.go_on)
        if zips:
            return _Zip(node, failures, ports, call, give, lineage, lock or asyncio.Lock()).run()
    if len(ports) == 1:
        return _run_single(node, failures, ports[0], call, give, lock)
    return _run_zipped(node, failures, ports, call, give, lock)


async def _run_single(
    node: NodeState,
    failures: Failures,
    port: str,
    call: Callable[[Any], Awaitable[Any]],
    give: Send,
    lock: asyncio.Lock | None,
) -> None:
    reader = node.readers[port]
    items = reader.items
    take = items.popleft
    release = reader.release
    clock = perf_counter
    most = node.spec.inputs[port].port.capacity
    if not isinstance(reader, LocalChannel):
        most = max(1, most // 2)  # so that writers elsewhere refill while the rest is worked on
    batch = 1
    its = turns()
    with node.looping():
        while items or await node.starve(reader, port):
            if lock is not None:
                await lock.acquire()
            began = clock()
            taken = left = min(batch, len(items))
            item = None
            try:
                if taken == 1:
                    item = take()
                    release()
                    left = 0
                    value = await call(item)
                    if value is not None:
                        await give(value)
                else:
                    reader.taking()
                    for left in range(taken - 1, -1, -1):  # noqa: B007  # it is read below
                        item = take()
                        value = await call(item)
                        if value is not None:
                            await give(value)
                        if not items:
                            break
            except BaseException as error:
                await failures.go_on(error, {port: item})
            finally:
                taken -= left
                node.received += taken
                release()
                ended = clock()
                node.in_hand_s += ended - began
                if lock is not None:
                    lock.release()
            each = (ended - began) / (taken or 1)
            reader.worked(each)
            batch = batch_size(each, most)
            if ended - its.turned > SLICE_S:
                await node.turn()


async def _run_zipped(
    node: NodeState,
    failures: Failures,
    ports: tuple[str, ...],
    call: Callable[..., Awaitable[Any]],
    give: Send,
    lock: asyncio.Lock | None,
) -> None:
    readers = [node.readers[port] for port in ports]
    clock = perf_counter
    most = max(1, min(node.spec.inputs[port].port.capacity for port in ports) // 2)
    batch = 1
    its = turns()
    with node.looping():
        while True:
            for reader, port in zip(readers, ports, strict=True):
                if not reader.items and not await node.starve(reader, port):
                    return
            ready = min(len(reader.items) for reader in readers)
            if not ready:
                continue  # a member of the same group took an item while this one waited for another port
            if lock is not None:
                await lock.acquire()
            began = clock()
            taken = left = min(batch, ready)
            values: list[Any] = []
            for reader in readers:
                reader.taking()
            try:
                while left and all(reader.items for reader in readers):
                    values = [reader.items.popleft() for reader in readers]
                    left -= 1
                    value = await call(*values)
                    if value is not None:
                        await give(value)
            except BaseException as error:
                await failures.go_on(error, dict(zip(ports, values, strict=False)))
            finally:
                taken -= left
                node.received += taken * len(readers)
                for reader in readers:
                    reader.release()
                ended = clock()
                node.in_hand_s += ended - began
                if lock is not None:
                    lock.release()
            each = (ended - began) / (taken or 1)
            for reader in readers:
                reader.worked(each)
            batch = batch_size(each, most)
            if ended - its.turned > SLICE_S:
                await node.turn()


class _Zip:
    """A synchronised group in a run opened for calls: items are zipped by the call that they belong to (`ZipByCall`).

    Each port has a task that takes from it (`_follow`). The task whose item completes a group makes the call; one at a
    time.

    Args:
        node: whose group it is.
        failures: of the node.
        ports: of the group; items of calls can come to each.
        call: makes a call of the runner.
        give: sends what that returns.
        lineage: of the worker.
        alone: held during a call.
    """

    def __init__(
        self,
        node: NodeState,
        failures: Failures,
        ports: tuple[str, ...],
        call: Callable[..., Awaitable[Any]],
        give: Send,
        lineage: Lineage,
        alone: asyncio.Lock,
    ) -> None:
        self._node = node
        self._failures = failures
        self._ports = ports
        self._call = call
        self._give = give
        self._lineage = lineage
        self._alone = alone
        self._meeting = ZipByCall(ports)
        self._room = asyncio.Event()  # set when an item that belongs to no call has met its partners
        self._ended: set[str] = set()  # the ports to which nothing comes any more
        self._met = 0  # groups that are complete and whose call has not ended
        # Done when no further group can be complete.
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Runs until a port has ended and nothing of it waits, or all have ended."""
        tasks = [asyncio.ensure_future(self._follow(port)) for port in self._ports]
        try:
            pending: set[asyncio.Future[Any]] = {*tasks, self._over}
            while not self._over.done():
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    if (error := each.result()) is not None:
                        raise error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._ignore(self._meeting.clear())

    async def _follow(self, port: str) -> BaseException | None:
        """Takes what comes to a port.

        Returns:
            What ends the node, if something does. Not raised: a task that raises `SystemExit` ends its loop.
        """
        reader = self._node.readers[port]
        most = self._node.spec.inputs[port].port.capacity
        its = turns()
        try:
            with self._node.looping():
                while reader.items or await self._node.starve(reader, port):
                    item = reader.items.popleft()
                    came = (item, reader.last_edges())
                    reader.release()
                    self._node.received += 1
                    await self._take(port, came, most)
                    if perf_counter() - its.turned > SLICE_S:
                        await self._node.turn()
        except BaseException as error:
            return error
        self._ended.add(port)
        self._look()
        self._node.rested()
        return None

    async def _take(self, port: str, came: Arrival, most: int) -> None:
        """An item has come: makes the call of a complete group, or waits while too many wait for partners."""
        item, _ = came
        calls = self._lineage.calls_of(item)
        met = self._meeting.add(port, calls, came)
        if met is None:
            self._lineage.wait(item)
        self._ignore(self._meeting.forget(self._lineage.oldest))
        if met is not None:
            self._met += 1
            if not calls:
                self._room.set()
            async with self._alone:
                await self._make(met)
            self._met -= 1
            self._look()
            return
        # Items of calls are bounded by the callers that wait. Of the others no more than the port's capacity wait here:
        # the rest stays in the channel, as at any zip, so that its writers wait.
        while not calls and self._meeting.waiting(port) >= most:
            self._room.clear()
            parked = -1 - self._ports.index(port)
            with self._node.waiting_for_a_loop(parked):
                await self._room.wait()

    async def _make(self, met: Sequence[Arrival]) -> None:
        node = self._node
        items = [item for item, _ in met]
        began = perf_counter()
        self._failures.note([edges for _, edges in met])
        try:
            value = await self._call(*items)
            if value is not None:
                await self._give(value)
        except BaseException as error:
            await self._failures.go_on(error, dict(zip(self._ports, items, strict=True)))
        finally:
            self._failures.note(None)
            node.in_hand_s += perf_counter() - began

    def _look(self) -> None:
        """Ends the group, if no further one can be complete: a port has ended, and nothing of it waits; or all have."""
        if self._met or self._over.done():
            return
        if len(self._ended) == len(self._ports) or any(self._meeting.empty(port) for port in self._ended):
            self._over.set_result(None)

    def _ignore(self, gone: Sequence[Arrival]) -> None:
        """Counts items without partners as dropped."""
        self._node.received -= len(gone)
        for _, edges in gone:
            self._node.ignored.update(edges)


class _Sampling:
    """A node with several trigger groups, or with ports that are sampled for their latest value.

    Each group has a loop of its own; one call of the runner at a time. A call sees the items of its
    own group, the latest value of each sampled port, and of the other groups' ports the last item taken
    (before there was one: the port's default, or None).
    """

    def __init__(self, node: NodeState, calls: Calls) -> None:
        self._node = node
        self._calls = calls
        self._lock = asyncio.Lock()  # held during a call
        self._latest: dict[str, Any] = {}  # port -> what a call sees that was not made for an item of it
        for ports in node.spec.triggers:
            for port in ports:
                default = node.spec.inputs[port].port.default
                self._latest[port] = None if default is MISSING else default
        self._sampled = {port: node.readers[port] for port in node.spec.sampled}
        self._waiting_for_first = set(self._sampled)
        self._all_sampled = asyncio.Event()  # set when each sampled port has had a value

    async def run(self) -> None:
        samplers = [asyncio.ensure_future(self._sample(port, reader)) for port, reader in self._sampled.items()]
        groups = [asyncio.ensure_future(self._run_group(ports)) for ports in self._node.spec.triggers]
        try:
            pending: set[asyncio.Future[None]] = {*samplers, *groups}
            while not all(group.done() for group in groups):
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    each.result()
        finally:
            for each in (*samplers, *groups):
                each.cancel()
            await asyncio.gather(*samplers, *groups, return_exceptions=True)

    def _draw(self, port: str, reader: Reader) -> None:
        """Takes all that has come to a sampled port, and keeps the latest."""
        items = reader.items
        if items:
            self._node.received += len(items)
            latest = items[-1]
            if self._node.host.lineage is not None:
                (latest,), _ = self._node.host.lineage.begin(latest, batched=True)
                self._node.host.lineage.drop(items)  # what is sampled makes no call
            self._latest[port] = latest
            items.clear()
            reader.release()
            self._waiting_for_first.discard(port)
            if not self._waiting_for_first:
                self._all_sampled.set()

    async def _sample(self, port: str, reader: Reader) -> None:
        """Follows a sampled port to its end."""
        while await reader.wait():
            self._draw(port, reader)
            await asyncio.sleep(0)
        self._node.rested()
        if port in self._waiting_for_first:
            raise CascataError(
                f"in-port {self._node.name}.{port} is sampled, but it ended before its first value: the runner can "
                f"never run. Give it a value (`{self._node.name}.{port} < value`), or put it into a trigger group "
                f"with `sync` or `clk`"
            )

    async def _run_group(self, ports: tuple[str, ...]) -> None:
        """Runs the loop of one trigger group, from when each sampled port has had a value."""
        seen = {*self._latest, *self._sampled} - set(ports)
        others = [name for name in self._node.spec.component.parameters if name in seen]
        call, give = self._calls.caller((*ports, *others), ports)
        if self._sampled:
            await self._all_sampled.wait()

        async def run(*items: Any) -> Any:
            for port, reader in self._sampled.items():
                self._draw(port, reader)
            self._latest.update(zip(ports, items, strict=True))
            return await call(*items, *(self._latest[name] for name in others))

        await _run_group(self._node, self._calls, ports, run, give, self._lock)
