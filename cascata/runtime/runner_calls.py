"""One call of a runner: every form of it, and every option, behind one awaitable function of the items.

    items ──> [ a free slot ] ──> [ attempts ] ──> [ timeout ] ──> [ form, thread ] ──> runner ──> out-ports
              _concurrent         _attempts        _once           _drive, _in_thread
              concurrency=        retries=         timeout=        thread=

A runner's parameters are items (from trigger ports), fixed values (constants, out-ports, state) and
sampled values. `bind` puts the fixed ones in their places, so that a call needs only the items. A
runner without options pays for none: its call is the function itself.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, closing
from typing import Any, Final

from ..channel import unawaited
from ..model import ComponentSpec
from .failures import Failures
from .live_calls.lineage import Taken
from .node_state import NodeState
from .node_stop import NodeStop
from .order.buffered_sends import ATTEMPT_BYTES, ATTEMPT_ITEMS, SEND_LESS, BufferedSends, Order, Turn
from .order.ordered import RESULTS, NumberedCall
from .ports.outport import PlainPort, Send
from .ports.return_values import sending
from .ports.stop_event import StopEvent
from .ports.stream import Stream
from .restart import NodeJournal
from .threads import BlockingPort, CallThread, Handover

__all__ = ["Calls"]

LONGEST_PAUSE_S: Final = 60.0
"""Seconds between two attempts, at most, however often the pause was doubled."""

_SENT_TOO_MUCH: Final = (
    f"it was not tried again: it had sent {ATTEMPT_ITEMS} items or {ATTEMPT_BYTES >> 20} MB, as much as an attempt may "
    f"hold back, so that what it sent had to leave. {SEND_LESS}"
)


def bind(spec: ComponentSpec, varying: Sequence[str], fixed: Mapping[str, Any]) -> Callable[..., Any]:
    """A function of the varying parameters, in the order given, that calls the runner.

    Args:
        spec: the component.
        varying: names of parameters that differ from call to call.
        fixed: the other parameters with their values.
    """
    runner = spec.runner
    positional = [name for name in spec.parameters if name not in spec.keyword_only]
    if not spec.keyword_only and list(varying) == positional[: len(varying)]:
        rest = tuple(fixed[name] for name in positional[len(varying) :])
        if not rest:
            return runner
        if len(varying) == 1 and len(rest) == 1:
            (only,) = rest
            return lambda item: runner(item, only)
        if len(varying) == 1 and len(rest) == 2:
            second, third = rest
            return lambda item: runner(item, second, third)
        return lambda *items: runner(*items, *rest)
    names = tuple(varying)
    given = {name: fixed[name] for name in spec.parameters if name not in names}
    return lambda *items: runner(**given, **dict(zip(names, items, strict=True)))


class Calls:
    """Makes the calls of a node's runner, by the options of its component.

    Args:
        node: whose runner it is.
        stop: tells when the node is to stop.
        failures: of the node.
        journal: of a node that may start again.
        fixed: the parameters that are the same for every call: constants, state, out-ports.
        stack: ends what the calls need (threads) with the node.
    """

    def __init__(
        self,
        node: NodeState,
        stop: NodeStop,
        failures: Failures,
        journal: NodeJournal | None,
        fixed: Mapping[str, Any],
        stack: AsyncExitStack,
    ) -> None:
        options = node.spec.component.options
        self.failures = failures
        self.journal = journal
        self._node = node
        self._stop = stop
        self._buffers = stop.buffers
        self._spec = node.spec.component
        self._fixed = fixed
        self._timeout: float | None = options.get("timeout")
        self._retries: int = options.get("retries", 0)
        self._backoff: float = options.get("backoff", 0.1)
        self._ordered: bool = options.get("ordered", True)
        self._concurrency: int = options.get("concurrency", 1)
        self._threads: list[CallThread] = []
        if options.get("thread"):
            for index in range(self._concurrency):
                thread = CallThread(f"{node.name}-{index}")
                stack.push_async_callback(thread.close)
                self._threads.append(thread)
        node.in_threads = bool(self._threads)
        self._order = Order() if self._ordered else None
        self._free = asyncio.Semaphore(self._concurrency)  # slots for concurrent calls
        self._handover: Handover | None = None  # of a threaded runner that yields, while it does
        self._consuming: asyncio.Task[Any] | None = None  # the loop that starts concurrent calls
        self._failed: BaseException | None = None  # what the first concurrent call raised that ends the node

    def caller(self, varying: Sequence[str], ports: Sequence[str]) -> tuple[Callable[..., Awaitable[Any]], Send]:
        """A function of the varying parameters that makes a call.

        Args:
            varying: names of the parameters that differ from call to call.
            ports: those of them whose items are named when a call fails.

        Returns:
            The function, whose awaited value, when it is not None, is to be given to the second one, which sends it.
        """
        if self._node.spec.role == "in order":
            return self._in_order(varying, ports), _nothing
        simple = self._timeout is None and not self._retries
        if simple and self._concurrency == 1:
            return self._drive(varying, self._node.outports)
        if self._concurrency > 1:
            return self._concurrent(varying, ports), _nothing
        attempt = self._attempts(varying, ports)

        async def call(*items: Any) -> None:
            await attempt(*items)

        return call, _nothing

    # -- the form of the runner

    def _drive(
        self, varying: Sequence[str], outports: Mapping[str, Any], thread: CallThread | None = None
    ) -> tuple[Callable[..., Awaitable[Any]], Send]:
        """Makes any form of runner awaitable, on the given out-ports."""
        spec = self._spec
        send: Send | None = next(iter(outports.values())).send if len(outports) == 1 else None
        if thread is None and self._threads:
            thread = self._threads[0]
        if thread is not None:
            return self._in_thread(varying, outports, send, thread)
        if spec.form in ("plain", "generator"):
            refuse = self._node.lost_sends.refuse
            outports = {name: PlainPort(name, port, refuse) for name, port in outports.items()}
        call = bind(spec, varying, {**self._fixed, **outports})
        known = {type(None)}  # types of what was returned and is no awaitable
        result = sending(spec, send, known)

        async def run_plain(*items: Any) -> Any:
            value = call(*items)
            return value if type(value) in known or not inspect.isawaitable(value) else await value

        async def run_async_generator(*items: Any) -> None:
            async with aclosing(call(*items)) as values:
                async for value in values:
                    await result(value)

        async def run_generator(*items: Any) -> None:
            with closing(call(*items)) as values:
                for value in values:
                    await result(value)

        forms: dict[str, Callable[..., Awaitable[Any]]] = {
            "async": call,
            "plain": run_plain,
            "async_generator": run_async_generator,
            "generator": run_generator,
        }
        return forms[spec.form], result

    def _in_thread(
        self, varying: Sequence[str], outports: Mapping[str, Any], send: Send | None, thread: CallThread
    ) -> tuple[Callable[..., Awaitable[Any]], Send]:
        spec = self._spec
        blocking = {
            name: BlockingPort(f"{self._node.name}.{name}", port.send, thread, self._stop.unwinds)
            for name, port in outports.items()
        }
        waiting = {
            name: value.blocking(thread) for name, value in self._fixed.items() if isinstance(value, Stream | StopEvent)
        }
        call = bind(spec, varying, {**self._fixed, **waiting, **blocking})
        result = sending(spec, send, set())

        async def run(*items: Any) -> Any:
            return await thread.run(lambda: call(*items))

        async def run_generator(*items: Any) -> None:
            detector = next(iter(outports.values())).detector if outports else None
            handover = self._handover = Handover(self._node.rested, detector)

            async def make() -> BaseException | None:
                try:
                    await thread.run(lambda: handover.fill(lambda: call(*items)))
                except BaseException as error:  # returned: a task that raises SystemExit ends its loop
                    return error
                return None

            making = asyncio.ensure_future(make())
            try:
                while values := await handover.take():
                    for value in values:
                        await result(value)
            finally:
                self._handover = None
                handover.abandon()
                await asyncio.gather(making, return_exceptions=True)  # which a second cancellation does not cut short
            if (error := making.result()) is not None:
                raise error

        return run_generator if spec.form == "generator" else run, result

    # -- timeout and retries

    def _attempts(self, varying: Sequence[str], ports: Sequence[str]) -> Callable[..., Awaitable[None]]:
        """Calls with `timeout` and `retries`. What an attempt sent leaves only when it succeeded.

        An attempt that has sent as much as it may hold back is the last one: what it sent leaves, and so does what it
        sends from then on.

        Returns:
            A function that makes a call, and returns when all that it sent has left. When it has failed and the run
            goes on without its items, what it sent before it failed leaves, unless that was kept for a retry.
            What it sent before the stop of the run ended it leaves in any case.
        """
        targets = self._node.outports
        count = len(ports)

        async def attempt(
            *items: Any,
            thread: CallThread | None = None,
            edges: Sequence[Mapping[int, int]] | None = None,
            turn: Turn | None = None,
            make_buffered: Callable[[], BufferedSends] | None = None,
        ) -> None:
            whose = unawaited.Attempt()  # its sends are told from those of other calls
            unawaited.attempt.set(whose)
            for number in itertools.count(1):
                buffered: BufferedSends | None = None
                if make_buffered is not None:
                    buffered = make_buffered()
                elif self._retries or (turn is not None and not turn.due):
                    buffered = BufferedSends(self._buffers, targets, turn, retries=self._retries > 0)
                driven = self._drive(varying, targets if buffered is None else buffered.ports(), thread)
                again = False
                try:
                    try:
                        await self._once(*driven, items, ports)
                    except BaseException as error:
                        self._node.lost_sends.excuse()
                        final = buffered is not None and buffered.final
                        again = number <= self._retries and isinstance(error, Exception) and not final
                        if not again:
                            given = dict(zip(ports, items[:count], strict=True))
                            if not await self._goes_on(error, given, number, edges, final=final):
                                await self._let_leave(buffered, error)
                                raise
                            if buffered is not None:
                                buffered.fail()
                    if buffered is not None and not again:
                        await buffered.leave()
                except BaseException:
                    if buffered is not None:
                        await buffered.drop()
                    raise
                if not again:
                    self._node.lost_sends.ended(whose)
                    whose.end()
                    return
                if buffered is not None:
                    await buffered.drop()
                from random import uniform  # most runs have no retries: they need not load it

                pause = min(self._backoff * 2.0 ** min(number - 1, 64), LONGEST_PAUSE_S)
                await asyncio.sleep(pause * uniform(0.5, 1.0))

        return attempt

    async def _let_leave(self, buffered: BufferedSends | None, error: BaseException) -> None:
        """Ended by the drain of the run, an attempt is not tried again: what it has sent is in flight, and leaves."""
        if buffered is not None and buffered.due and self._stop.drained_by(error):
            await buffered.leave()

    async def _goes_on(
        self,
        error: BaseException,
        given: Mapping[str, Any],
        attempts: int,
        edges: Sequence[Mapping[int, int]] | None,
        *,
        final: bool,
    ) -> bool:
        """Whether the run goes on without the items of a call that has failed for good.

        Args:
            error: of its last attempt.
            given: its items, by port.
            attempts: how many there were.
            edges: see `Failures.take`.
            final: whether there could have been more attempts, had the call sent less.
        """
        node = self._node
        if final:
            node.remark = _SENT_TOO_MUCH
            error.add_note(_SENT_TOO_MUCH)
        elif attempts > 1:
            error.add_note(f"this was the last of {attempts} attempts")
        goes_on = await self.failures.take(error, given, attempts, edges)
        if goes_on:
            node.remark = ""
        return goes_on

    async def _once(
        self, call: Callable[..., Awaitable[Any]], give: Send, items: Sequence[Any], ports: Sequence[str]
    ) -> None:
        """One attempt.

        Raises:
            TimeoutError: it took longer than `timeout`, whether it could be stopped then or not.
        """
        if self._timeout is None:
            value = await call(*items)
            if value is not None:
                await give(value)
            return
        deadlines = self._node.host.deadlines
        loop = asyncio.get_running_loop()
        watched = deadlines.begin(self._node, self._timeout, ports, items)
        try:
            async with asyncio.timeout(self._timeout) as limit:
                value = await call(*items)
                due = limit.when()
                if due is not None and loop.time() > due:  # it blocked the loop, which could not cancel it in time
                    raise self._too_long()
                if value is not None:
                    await give(value)
        except TimeoutError as error:
            if limit.expired():
                raise self._too_long() from error
            raise
        finally:
            deadlines.end(watched)
        if limit.expired():  # it has suppressed its cancellation
            raise self._too_long()

    def _too_long(self) -> TimeoutError:
        return TimeoutError(f"the call took longer than the component's timeout of {self._timeout:g} s")

    # -- members of an ordered group

    def _in_order(self, varying: Sequence[str], ports: Sequence[str]) -> Callable[..., Awaitable[None]]:
        """Calls with numbered items: what a call sends leaves with the number of its item, and so does its end."""
        node = self._node
        results = node.outports[RESULTS]
        detectors = {port.name: node.host.detector(node.name, port.name) for port in self._spec.outports}
        attempt = self._attempts(varying, ports)
        retries = self._retries > 0

        async def call(numbered: tuple[int, Any], *others: Any) -> None:
            number, item = numbered

            def make_buffered() -> BufferedSends:
                return NumberedCall(self._buffers, results, number, detectors, retries=retries)

            try:
                await attempt(item, *others, make_buffered=make_buffered)
            except BaseException:
                self._node.in_hand = {ports[0]: item}
                raise

        return call

    # -- concurrency

    def _concurrent(self, varying: Sequence[str], ports: Sequence[str]) -> Callable[..., Awaitable[None]]:
        """Starts a call and returns, once a slot is free. `join` waits for the last ones."""
        count = len(ports)
        idle = deque(self._threads)
        lineage = self._node.host.lineage
        journal = self.journal

        order = self._order
        attempt = self._attempts(varying, ports)

        async def work(
            items: tuple[Any, ...],
            edges: Sequence[Mapping[int, int]],
            turn: Turn | None,
            taken: Taken | None,
            begun: int,
        ) -> None:
            thread = idle.popleft() if idle else None
            try:
                await attempt(*items, thread=thread, edges=edges, turn=turn)
                if turn is not None and order is not None:
                    order.leave(turn)
                if journal is not None:
                    await journal.end(begun)
            except BaseException as error:  # the node ends, since no later call can get its turn
                if self._failed is None:
                    self._failed = error
                    self._node.in_hand = given = dict(zip(ports, items[:count], strict=True))
                    self.failures.count(error, given, edges)
                if self._consuming is not None:
                    self._consuming.cancel()
            finally:
                if thread is not None:
                    idle.append(thread)
                self._free.release()
                if taken is not None:
                    taken.give_back()

        async def start(*items: Any) -> None:
            self._consuming = asyncio.current_task()
            if self._failed is not None:
                raise self._failed
            edges = self.failures.edges_in_hand(ports)  # now: when it waits for a slot, other items may be taken
            await self._free.acquire()
            begun = 0 if journal is None else await journal.begin()  # after the slot: what waits for one is not in hand
            turn = None if order is None else order.enter()
            taken = None if lineage is None else lineage.current
            if taken is not None:
                taken.hold()
            task = asyncio.ensure_future(work(items, edges, turn, taken, begun))
            self._node.calls.append(task)
            task.add_done_callback(self._node.calls.remove)
            task.add_done_callback(lambda _: self._node.rested())

        return start

    @property
    def concurrent(self) -> bool:
        """Whether several calls may be in flight."""
        return self._concurrency > 1

    @property
    def running(self) -> bool:
        """Whether concurrent calls are under way, or what a thread has yielded is being sent."""
        return bool(self._node.calls) or (self._handover is not None and self._handover.sending)

    async def join(self) -> None:
        """Waits for the calls that are still running. Cancelled, or after a failure: cancels them.

        Raises:
            BaseException: what the first failed call raised.
        """
        self._consuming = None
        while self._node.calls and self._failed is None:
            await asyncio.wait(list(self._node.calls), return_when=asyncio.FIRST_COMPLETED)
        if self._failed is not None:
            raise self._failed

    async def abandon(self) -> None:
        """Cancels the calls that are still running, and waits for their ends.

        Raises:
            BaseException: what the first failed call raised.
        """
        self._consuming = None
        running = list(self._node.calls)
        for task in running:
            task.cancel()
        if running:
            await asyncio.gather(*running, return_exceptions=True)  # which a second cancellation does not cut short
        if self._failed is not None:
            raise self._failed


async def _nothing(value: Any) -> None:
    """Stands for what sends a returned value, where the call has sent it already."""
    raise AssertionError(f"a call with options sends what it returns itself, not {value!r}")
