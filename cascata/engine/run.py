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
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from types import FrameType
from typing import Any, Final, Protocol

from ..errors import CascataError, DefinitionError
from ..interrupts import Interrupts, begin, could_not_begin, until
from ..model import GraphSpec
from ..observe.report import RunReport
from ..options import RunOptions
from ..plan import measured, partition
from ..runtime.worker import SWITCH_S
from . import importing, supervisor
from .batching import share_batches
from .boot import is_portable, start_method_of
from .caller import Caller
from .cycles import separate
from .inline import InlineRun
from .ordering import put_in_order
from .restart import restartable

__all__ = ["OpenRun", "Run", "run", "run_async", "start"]

EXIT_ON_SIGTERM: Final = 128 + signal.SIGTERM

_active: set[Run] = set()


class _Engine(Protocol):
    """What every engine gives: its life as a coroutine, and an ear for events."""

    async def main(self) -> RunReport: ...

    def post(self, event: supervisor.Event) -> None: ...


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
        importing.check(spec, imports=options.engine == "ray" or start_method_of(options) != "fork")
    importing.let_threads_pass()
    spec = separate(put_in_order(share_batches(spec)))
    if options.engine == "inline":
        return InlineRun(spec, options, caller)
    alone = restartable(spec, every=options.on_worker_death == "restart")
    if options.engine == "processes":
        weights, traffic = measured(options.plan_from)
        plan = partition(spec, options.num_workers, weights, traffic, alone=alone)
        if is_portable():
            from .portable import PortableRun

            return PortableRun(spec, plan, options, caller, alone)
        from .processes import ProcessRun  # what it imports is on Linux only

        return ProcessRun(spec, plan, options, caller, alone)
    from .ray import RayRun

    return RayRun(spec, options, caller, alone)


class Run:
    """A started run.

    Args:
        spec: the graph, checked.
        options: of the run.
        caller: has the graph's sources and sinks, if there are any.
    """

    def __init__(self, spec: GraphSpec, options: RunOptions, caller: Caller | None = None) -> None:
        self._engine = _engine(spec, options, caller)
        self._grace = options.grace
        self.future: Future[RunReport] = Future()
        self.future.set_running_or_notify_cancel()
        self._thread = threading.Thread(target=self._live, name="cascata-run", daemon=True)
        _active.add(self)
        try:
            begin(self._thread)
        except CascataError:
            _active.discard(self)
            raise
        except KeyboardInterrupt:  # it began meanwhile, or never will: nobody else can end it in order
            self.cancel()
            wait([self.future], timeout=self._grace)
            raise
        except BaseException:  # there are no more threads to be had
            _active.discard(self)
            raise

    def _live(self) -> None:
        interval = sys.getswitchinterval()
        if isinstance(self._engine, InlineRun):
            # The caller's thread shares the interpreter with busy loops then: see `SWITCH_S`.
            sys.setswitchinterval(min(interval, SWITCH_S))
        try:
            try:
                result = _run_in_new_loop(self._engine)
            finally:
                sys.setswitchinterval(interval)
        except BaseException as error:  # everything goes to whoever waits
            _active.discard(self)
            self.future.set_exception(error)
        else:
            _active.discard(self)
            self.future.set_result(result)

    def stop(self, within: float | None = None) -> None:
        """Drains: sources end at their next send, what is in flight arrives. Returns at once.

        Args:
            within: seconds after which what is left is cancelled; None: never.
        """
        self._engine.post(supervisor.StopAsked(within))

    def cancel(self) -> None:
        """Ends the run in order: nodes are cancelled, state is torn down. Returns at once."""
        self._engine.post(supervisor.CancelAsked())

    def kill(self) -> None:
        """Ends the run at once. Returns at once."""
        self._engine.post(supervisor.KillAsked())

    def join(self) -> RunReport:
        """Waits for the end of the run, blocking. Ctrl-C cancels in order, a second one kills.

        Returns:
            The report.

        Raises:
            CascataError: what failed first.
            KeyboardInterrupt: the user pressed Ctrl-C. What any other signal handler raises is raised as well,
                after the run was cancelled.
            CancelledError: the run was cancelled.
        """
        with Interrupts(self):
            return self.wait()

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
            return await asyncio.shield(waiting)
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
        return _run_in_new_loop(engine)
    started = Run(spec, options)
    interrupts.end(started)
    with _SigtermDrains(started, options.grace):
        return started.wait()


async def run_async(spec: GraphSpec, options: RunOptions) -> RunReport:
    """Runs a graph without blocking the running loop. Cancelled: the run is cancelled, and has ended."""
    if options.engine == "inline":
        return await _engine(spec, options).main()
    return await Run(spec, options).join_async()


def start(spec: GraphSpec, options: RunOptions, interrupts: Interrupts) -> Run:
    """Starts a run in the background."""
    started = Run(spec, options)
    interrupts.end(started)
    return started


class OpenRun:
    """A run whose sources and sinks are held in the running loop.

    Args:
        spec: the graph, checked.
        options: of the run.
        calls: whether it is opened for calls (`runtime.answers`).
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
            self.ended = asyncio.ensure_future(engine.main())
        else:
            self._run = Run(spec, options, self.caller)
            self._engine = self._run._engine
            self.ended = asyncio.wrap_future(self._run.future)

    def cancel(self) -> None:
        """Ends the run in order. Returns at once."""
        self._engine.post(supervisor.CancelAsked())

    def kill(self) -> None:
        """Ends the run at once. Returns at once."""
        self._engine.post(supervisor.KillAsked())

    async def wait(self) -> None:
        """Waits for the end, whatever it is. Cancelled: cancels the run, then kills it; returns when it has ended.

        Raises:
            CancelledError: it was cancelled meanwhile.
        """
        cancelled: asyncio.CancelledError | None = None
        while not self.ended.done():
            try:
                await asyncio.wait([self.ended])
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


def _run_in_new_loop(engine: _Engine) -> RunReport:
    runner = asyncio.Runner()
    try:
        runner.get_loop()
    except OSError as problem:
        raise could_not_begin(problem) from problem
    try:
        return runner.run(engine.main())
    finally:
        if getattr(engine, "abandoned", False):
            loop = runner.get_loop()
            for task in asyncio.all_tasks(loop):
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # the run's error says it
            loop.close()  # what resists cancellation would keep `Runner.close` waiting for ever
        else:
            runner.close()


class _SigtermDrains:
    """While a run that was started in the main thread goes on, SIGTERM drains it, then ends the program with 143.

    A handler that the program has set is left alone.
    """

    def __init__(self, run: Run, grace: float) -> None:
        self._run = run
        self._grace = grace
        self._before: Callable[[int, FrameType | None], Any] | int | None = None
        self._installed = False
        self._came = False

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._before = signal.signal(signal.SIGTERM, self._on_sigterm)
            self._installed = True

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:  # as `signal` calls it
        self._came = True
        self._run.stop(within=self._grace)

    def __exit__(self, *_: object) -> None:
        if self._installed:
            signal.signal(signal.SIGTERM, self._before)
        if self._came:
            raise SystemExit(EXIT_ON_SIGTERM)


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
