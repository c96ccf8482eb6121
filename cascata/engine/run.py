"""The ways to run a graph: wait for it, await it, or start it and come back.

    run ────────┐
    run_async ──┼──> Run: the engine's `main` in a thread of its own (inline: in the caller's, where it can)
    start ──────┘

A run on processes has a thread of its own, with an event loop: it works whether or not the caller's
thread has one, and the kernel ties workers to the thread that started them, so that this one must
live as long as they do.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures.thread  # noqa: F401  # its hook at the interpreter's exit must be registered before ours, which runs first then
import os
import sys
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any, Protocol

from ..errors import CascataError, DefinitionError
from ..interrupts import HEARD_S, Interrupts, begin, could_not_begin, until
from ..model import GraphSpec
from ..observe.report import RunReport
from ..options import RunOptions, check_seconds
from ..plan import measured, partition
from ..runtime.worker import SWITCH_S
from . import run_at_import, sigterm
from .caller_part import Caller
from .choice import is_portable, start_method_of
from .inline import InlineRun
from .rewrite.batching import share_batches
from .rewrite.cycles import separate
from .rewrite.ordering import put_in_order
from .rewrite.restartable import restartable
from .supervision.events import CancelAsked, Event, KillAsked, StopAsked
from .supervision.supervisor import RunState

__all__ = ["OpenRun", "Run", "run", "run_async", "start"]

_active: set[Run] = set()


class _Engine(Protocol):
    """What every engine gives: its life as a coroutine, and an ear for events."""

    @property
    def state(self) -> RunState: ...

    async def main(self) -> RunReport: ...

    def post(self, event: Event) -> None: ...


def _refuse_what_a_caller_holds(spec: GraphSpec) -> None:
    held = [node.name for node in spec.nodes.values() if node.component.at_caller]
    if held:
        raise DefinitionError(
            f"{', '.join(held)}: sources are fed, and sinks are read, by the caller of the run: use "
            f"`graph.stream(items)`, `graph.astream(items)` or `async with graph.open()`, not `graph.run`, "
            f"`run_async` or `start`"
        )


def _engine(spec: GraphSpec, options: RunOptions, caller: Caller | None = None) -> _Engine:
    if caller is None:
        _refuse_what_a_caller_holds(spec)
    for name in ("address", "runtime_env"):
        if getattr(options, name) is not None and options.engine != "ray":
            raise CascataError(f"option {name}= says something about a Ray cluster: add engine='ray', or leave it out")
    if options.engine != "inline":
        run_at_import.check(spec, imports=options.engine == "ray" or start_method_of(options) != "fork")
    run_at_import.let_threads_pass()
    spec = separate(put_in_order(share_batches(spec)))
    if options.engine == "inline":
        return InlineRun(spec, options, caller)
    alone = restartable(spec, every=options.on_worker_death == "restart")
    if options.engine == "processes":
        weights, traffic = measured(options.plan_from)
        plan = partition(spec, options.num_workers, weights, traffic, alone=alone)
        if is_portable():
            from .local.portable import PortableRun

            return PortableRun(spec, plan, options, caller, alone)
        from .local.linux import ProcessRun  # what it imports is on Linux only

        return ProcessRun(spec, plan, options, caller, alone)
    from .ray.run import RayRun

    return RayRun(spec, options, caller, alone)


class Run:
    """A started run.

    Args:
        spec: the graph, checked.
        options: of the run.
        caller: has the graph's sources and sinks, if there are any.
        patience: seconds that the program has to come to its end when SIGTERM has ended the run.
    """

    def __init__(
        self, spec: GraphSpec, options: RunOptions, caller: Caller | None = None, *, patience: float | None = None
    ) -> None:
        self._engine = _engine(spec, options, caller)
        self._grace = options.grace
        self.patience = options.grace if patience is None else patience
        self.future: Future[RunReport] = Future()
        self.future.set_running_or_notify_cancel()
        self._thread = threading.Thread(target=self._live, name="cascata-run", daemon=True)
        _active.add(self)
        sigterm.watch(self)
        try:
            begin(self._thread)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):  # it began meanwhile, or never will: nobody else can end it
                self.cancel()
                wait([self.future], timeout=self._grace)
            if self._thread.ident is None:  # there are no more threads to be had
                _active.discard(self)
                self.future.set_exception(error)
                sigterm.over(self, self.future)
            raise

    def _live(self) -> None:
        interval = sys.getswitchinterval()
        if isinstance(self._engine, InlineRun):
            # The caller's thread shares the interpreter with busy loops then: see `SWITCH_S`.
            sys.setswitchinterval(min(interval, SWITCH_S))
        try:
            try:
                result = _run_in_new_loop(self._engine, self._engine.main())
            finally:
                sys.setswitchinterval(interval)
        except BaseException as error:  # everything goes to whoever waits
            _active.discard(self)
            self.future.set_exception(error)
        else:
            _active.discard(self)
            self.future.set_result(result)
        sigterm.over(self, self.future)

    def stop(self, within: float | None = None) -> None:
        """Drains: sources end, what is in flight arrives, and `join` gives the report. Returns at once.

        A source ends at its next send. One that waits for something else is cancelled there after half of the time;
        its `finally` blocks run, and what they send is sent. One that declares `stopping: Stopping` is told, and
        decides by itself. What is left at the end of the time is cancelled, and killed after `grace` if it resists.

        Args:
            within: seconds that it has; None: the `grace` of the run.

        Raises:
            DefinitionError: that is no number of seconds.
        """
        check_seconds(within, "stop")
        self._engine.post(StopAsked(within))

    @property
    def state(self) -> RunState:
        """How far it has come: "starting", "running", "draining", "ended", "failed" or "cancelled"."""
        if not self.future.done():
            return self._engine.state
        error = self.future.exception()
        if error is None:
            return "ended"
        return "cancelled" if isinstance(error, asyncio.CancelledError) else "failed"

    def cancel(self) -> None:
        """Ends the run in order: nodes are cancelled, state is torn down. Returns at once."""
        self._engine.post(CancelAsked())

    def kill(self) -> None:
        """Ends the run at once. Returns at once."""
        self._engine.post(KillAsked())

    def join(self) -> RunReport:
        """Waits for the end of the run, blocking. Ctrl-C cancels in order, a second one kills.

        Returns:
            The report.

        Raises:
            CascataError: what failed first.
            SystemExit: SIGTERM came, and the run has been stopped: in the main thread, with status 143.
            KeyboardInterrupt: the user pressed Ctrl-C. What any other signal handler raises is raised as well,
                after the run was cancelled.
            CancelledError: the run was cancelled.
        """
        try:
            with Interrupts(self):
                return self.wait()
        finally:
            sigterm.leave()

    def wait(self) -> RunReport:
        """As `join`, where Ctrl-C has been seen to."""
        arrived: BaseException | None = None
        while not self.future.done():
            try:
                until(lambda seconds: wait([self.future], seconds).done)
            except BaseException as error:  # of a signal handler of the program's
                if arrived is None:
                    arrived = error
                    self.cancel()
                else:
                    self.kill()
        self._thread.join()
        if arrived is not None:
            raise arrived
        return self.future.result()

    async def join_async(self) -> RunReport:
        """As `join`, awaited. Cancelled: cancels the run, and waits for its end."""
        waiting = asyncio.wrap_future(self.future)
        try:
            while not waiting.done():  # a signal may have left no more than a note: the loop looks now and then
                await asyncio.wait([waiting], timeout=HEARD_S)
            return await waiting
        except asyncio.CancelledError:
            if waiting.done():
                raise
            self.cancel()
            while not waiting.done():
                try:
                    await asyncio.wait([waiting])
                except asyncio.CancelledError:
                    self.kill()
            waiting.exception() if not waiting.cancelled() else None
            raise
        finally:
            if self.future.done():
                self._thread.join()


def run(spec: GraphSpec, options: RunOptions, interrupts: Interrupts) -> RunReport:
    """Runs a graph and waits for its end. Works in any thread, also where an event loop runs already."""
    if options.engine == "inline" and not _loop_is_running():
        engine = _engine(spec, options)
        interrupts.give_back()  # the loop has a handler of its own
        try:
            return _run_in_new_loop(engine, _Here(engine, options.grace).main())
        finally:
            sigterm.leave()
    started = Run(spec, options)
    interrupts.end(started)
    try:
        return started.wait()
    finally:
        sigterm.leave()


async def run_async(spec: GraphSpec, options: RunOptions) -> RunReport:
    """Runs a graph without blocking the running loop. Cancelled: the run is cancelled, and has ended."""
    try:
        if options.engine == "inline":
            return await _Here(_engine(spec, options), options.grace).main()
        return await Run(spec, options).join_async()
    finally:
        await sigterm.leave_async()


def start(spec: GraphSpec, options: RunOptions, interrupts: Interrupts) -> Run:
    """Starts a run in the background."""
    started = Run(spec, options, patience=0)
    interrupts.end(started)
    return started


class OpenRun:
    """A run whose sources and sinks are held in the running loop.

    Args:
        spec: the graph, checked.
        options: of the run.
        calls: whether it is opened for calls (`runtime.live_calls.answers`).
        totals: source -> how many items it will send, where that is known.

    Attributes:
        caller: has the sources and sinks.
        ended: done when nothing of the run is left, with its report or what failed.
    """

    def __init__(
        self, spec: GraphSpec, options: RunOptions, *, calls: bool = False, totals: Mapping[str, int] | None = None
    ) -> None:
        self.caller = Caller(calls=calls)
        self.caller.totals.update(totals or {})
        self._run: Run | None = None
        self.ended: asyncio.Future[RunReport]
        if options.engine == "inline":
            engine = self._engine = _engine(spec, options, self.caller)
            self.ended = asyncio.ensure_future(_Here(engine, options.grace).main())
        else:
            self._run = Run(spec, options, self.caller)
            self._engine = self._run._engine
            self.ended = asyncio.wrap_future(self._run.future)

    def stop(self, within: float | None = None) -> None:
        """As `Run.stop`."""
        check_seconds(within, "live.stop")
        self._engine.post(StopAsked(within))

    def leave(self) -> None:
        """Its caller feeds it no more: what sends of itself is stopped; what was sent has as long as it takes."""
        self._engine.post(StopAsked(None, unhurried=True))

    @property
    def state(self) -> RunState:
        """As `Run.state`."""
        if not self.ended.done():
            return self._engine.state
        if self.ended.cancelled() or isinstance(self.ended.exception(), asyncio.CancelledError):
            return "cancelled"
        return "ended" if self.ended.exception() is None else "failed"

    def cancel(self) -> None:
        """Ends the run in order. Returns at once."""
        self._engine.post(CancelAsked())

    def kill(self) -> None:
        """Ends the run at once. Returns at once."""
        self._engine.post(KillAsked())

    async def wait(self) -> None:
        """Waits for the end, whatever it is. Cancelled: cancels the run, then kills it; returns when it has ended.

        Raises:
            CancelledError: it was cancelled meanwhile.
        """
        cancelled: asyncio.CancelledError | None = None
        while not self.ended.done():
            try:
                await asyncio.wait([self.ended], timeout=HEARD_S)
            except asyncio.CancelledError as error:
                if cancelled is None:
                    self.cancel()
                else:
                    self.kill()
                cancelled = error
        if self._run is not None:
            self._run._thread.join()
        if cancelled is not None:
            raise cancelled


def _loop_is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run_in_new_loop(engine: _Engine, main: Coroutine[Any, Any, RunReport]) -> RunReport:
    runner = asyncio.Runner()
    try:
        runner.get_loop()
    except OSError as problem:
        main.close()
        raise could_not_begin(problem) from problem
    try:
        return runner.run(main)
    finally:
        if getattr(engine, "abandoned", False):
            loop = runner.get_loop()
            for task in asyncio.all_tasks(loop):
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # the run's error says it
            loop.close()  # what resists cancellation would keep `Runner.close` waiting for ever
        else:
            runner.close()


class _Here:
    """A run in the caller's own loop, as SIGTERM finds it."""

    def __init__(self, engine: _Engine, patience: float) -> None:
        self._engine = engine
        self.patience = patience

    def stop(self, within: float | None = None) -> None:
        self._engine.post(StopAsked(within))

    def cancel(self) -> None:
        self._engine.post(CancelAsked())

    def kill(self) -> None:
        self._engine.post(KillAsked())

    async def main(self) -> RunReport:
        """Runs it to its end."""
        ended: Future[RunReport] = Future()
        sigterm.watch(self)
        try:
            report = await self._engine.main()
        except BaseException as error:
            ended.set_exception(error)
            raise
        else:
            ended.set_result(report)
            return report
        finally:
            sigterm.over(self, ended)


def _end_all() -> None:
    """At the interpreter's exit: a run that nobody joined ends in order rather than with the process."""
    for each in list(_active):
        each.cancel()
    for each in list(_active):
        each._thread.join(each._grace + 1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_active.clear)  # those of the parent are the parent's to end


# Before the threads of executors are waited for: those of a run that goes on would wait for ever. `atexit` is too
# late for that, and this hook, which `concurrent.futures` uses as well, has no public name.
with suppress(RuntimeError):  # it is exiting: what runs now is waited for by nobody
    getattr(threading, "_register_atexit", atexit.register)(_end_all)
