"""Sees that a worker's event loop stands still, and says in the log where.

    worker: loop ── every 0.1 s ──> its beat on the stats board
    parent: looks at the beats; when one stands still for `slow_after` seconds, it asks
              the worker's control thread ── it answers ──> the node, and the line that blocks
              the kernel, by a signal     ── faulthandler answers: C code holds the interpreter ──> its stacks
              the kernel, for the state   ── nobody answers ──> the process is stopped, or waits for a disk

Inline, a thread of the same process looks and asks; while C code holds the interpreter, it cannot.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import math
import os
import re
import signal
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final

from ... import log
from ...interrupts import begin
from ...model import GraphSpec, Plan
from ...observe import stacks
from ...observe.board import Board
from ...records import dataclass
from ...runtime.idle import LOOK_S
from ...runtime.worker import Worker

__all__ = [
    "Answer",
    "InlineWatch",
    "LoopClock",
    "Silence",
    "WorkerWatch",
    "gives_stacks",
    "stacks_to",
    "state_of",
    "where_it_stands",
]

_LEAST_S: Final = 5 * LOOK_S
"""Less than a few beats is no silence."""

_BOOT_S: Final = 5.0
"""Who has not begun is not named before: an interpreter and its imports take their time."""

_ANSWER_S: Final = 0.5
"""Seconds that a worker's control thread, and then its faulthandler, have to answer."""

_FRAMES: Final = 6
"""Lines of a stack that are shown: the innermost."""

_OURS: Final = str(Path(__file__).parents[2] / "runtime")

_STACKS_SIGNAL: Final[int | None] = getattr(signal, "SIGRTMAX", 0) - 1 if hasattr(signal, "SIGRTMAX") else None
"""What makes a worker's faulthandler write its stacks: a number that nobody else is likely to use."""


@dataclass(frozen=True, slots=True)
class Silence:
    """A worker stands still, or does no longer.

    Attributes:
        worker: its index.
        seconds: for how long.
        over: whether it answers again.
        began: whether it has ever given a sign of life before.
    """

    worker: int
    seconds: float
    over: bool
    began: bool = True


class LoopClock:
    """Decides from beats who stands still: told once for each silence, and once when it is over. Reads no clock.

    Args:
        slow_after: seconds without a beat that are a silence.
    """

    def __init__(self, slow_after: float) -> None:
        self.slow_after = max(slow_after, _LEAST_S)
        self.interval = min(1.0, self.slow_after / 5)
        """Seconds between two looks."""
        self._looked: float | None = None
        self._seen: dict[int, tuple[int, float]] = {}
        self._told: set[int] = set()

    def look(self, beats: Mapping[int, int], now: float) -> list[Silence]:
        """What is to be told.

        Args:
            beats: worker -> its beat, of those that are to be watched; 0 before its first one.
            now: seconds on a clock that does not go back.
        """
        # Who looks may have stood still itself (Ctrl-Z, a laptop that slept): that time tells nothing.
        missed = 0.0 if self._looked is None else max(0.0, now - self._looked - 2 * self.interval)
        self._looked = now
        found: list[Silence] = []
        for worker, beat in beats.items():
            before, since = self._seen.get(worker, (beat, now))
            since = min(since + missed, now)
            if beat != before:
                if worker in self._told:
                    self._told.discard(worker)
                    found.append(Silence(worker, now - since, over=True, began=before != 0))
                since = now
            elif (
                now - since >= (self.slow_after if beat else max(self.slow_after, _BOOT_S)) and worker not in self._told
            ):
                self._told.add(worker)
                found.append(Silence(worker, now - since, over=False, began=beat != 0))
            self._seen[worker] = (beat, since)
        return found


# -- in the process that stands still


@dataclass(frozen=True, slots=True)
class Answer:
    """Where a loop stands.

    Attributes:
        node: whose code it runs; None when that is not known.
        stack: the lines, the innermost last.
        debugged: whether a debugger waits there.
    """

    node: str | None
    stack: str
    debugged: bool = False


def where_it_stands(worker: Worker, loop: asyncio.AbstractEventLoop, thread: int | None) -> Answer:
    """Asked from another thread: what the loop runs now.

    Args:
        worker: whose nodes may be at work.
        loop: the loop that stands still.
        thread: in which it runs.
    """
    frames = stacks.summary(stacks.threads().get(thread or 0, ()))
    ours = max((at for at, frame in enumerate(frames) if frame.filename.startswith(_OURS)), default=-1)
    stack = "".join(traceback.format_list((frames[ours + 1 :] or frames)[-_FRAMES:]))
    debugged = any(frame.filename.endswith(("/bdb.py", "/pdb.py", "/pydevd.py")) for frame in frames)
    return Answer(worker.node_of(asyncio.current_task(loop)), stack, debugged)


def stacks_to(fd: int) -> None:
    """Makes faulthandler write this process's stacks to an fd when `WorkerWatch` asks for them."""
    if _STACKS_SIGNAL is not None:
        faulthandler.register(_STACKS_SIGNAL, file=fd, all_threads=True)


# -- in the process that looks


class WorkerWatch:
    """Watches the workers of a run from the process that started them.

    Args:
        spec: the graph.
        plan: which node runs on which worker.
        slow_after: seconds without a sign of life after which a worker is named.
        board: where the beats are.
        ask: asks a worker's control thread where its loop stands; `answered` is to be called with the answer.
        signal_to: sends a worker a signal; None where there are no signals to send.
        pid_of: the process id of a worker.
        begins: says what a worker is at that has not begun; None: nothing is said of these.
    """

    def __init__(
        self,
        spec: GraphSpec,
        plan: Plan,
        slow_after: float,
        board: Board,
        ask: Callable[[int], None],
        signal_to: Callable[[int, int], None] | None,
        pid_of: Callable[[int], int],
        begins: Callable[[int], str] | None = None,
    ) -> None:
        self._spec = spec
        self._plan = plan
        self._board = board
        self._ask = ask
        self._signal_to = signal_to
        self._pid_of = pid_of
        self._begins = begins
        self._clock = LoopClock(slow_after)
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        self._stacks_r = self.stacks_w = -1
        if signal_to is not None:
            self._stacks_r, self.stacks_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        """`stacks_w` is for `stacks_to` in each worker. Not blocking: a worker must not wait for who reads."""

    async def watch(self, workers: Callable[[], Collection[int]]) -> None:
        """Looks and tells until it is cancelled.

        Args:
            workers: those that are not yet to end.
        """
        if math.isinf(self._clock.slow_after):
            return
        while True:
            await asyncio.sleep(self._clock.interval)
            beats = {worker: self._board.beat(worker) for worker in workers()}
            for silence in self._clock.look(beats, time.monotonic()):
                if not silence.began and self._begins is None:
                    continue
                if silence.over:
                    _tell_of_its_end(silence)
                elif silence.began:
                    await self._tell_where(silence)
                else:
                    await self._tell_how_it_begins(silence, self._begins)

    async def _tell_how_it_begins(self, silence: Silence, begins: Callable[[int], str] | None) -> None:
        worker = silence.worker
        pid = self._pid_of(worker)
        what = "" if begins is None else begins(worker)
        if (stopped := state_of(pid)) is not None:
            what = f"its process ({pid}) {stopped}"
        elif gives_stacks(pid) and (stacks := await self._stacks(worker)):
            what += f". Its threads are at\n{stacks}"
        _tell(silence, f"{what}. It runs {', '.join(self._plan.workers[worker])}" if "\n" not in what else what)

    def answered(self, worker: int, answer: Answer) -> None:
        """A worker's control thread has answered."""
        waiting = self._answers.pop(worker, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    async def _tell_where(self, silence: Silence) -> None:
        worker = silence.worker
        waiting = self._answers[worker] = asyncio.get_running_loop().create_future()
        self._ask(worker)
        await asyncio.wait([waiting], timeout=_ANSWER_S)
        self._answers.pop(worker, None)
        runs = f"It runs {', '.join(self._plan.workers[worker])}"
        if waiting.done():
            _tell_answer(silence, waiting.result(), self._spec)
        elif (stopped := state_of(self._pid_of(worker))) is not None:
            _tell(silence, f"its process {stopped}. {runs}")
        elif stacks := await self._stacks(worker):
            _tell(silence, f"C code holds its interpreter. {runs}. Its threads are at\n{stacks}")
        else:
            _tell(silence, f"nothing in it does. {runs}")

    async def _stacks(self, worker: int) -> str:
        """What faulthandler writes."""
        if _STACKS_SIGNAL is None or self._signal_to is None:
            return ""
        self._read()  # what came too late the last time
        self._signal_to(worker, _STACKS_SIGNAL)
        written = b""
        for _ in range(10):
            await asyncio.sleep(_ANSWER_S / 10)
            more = self._read()
            if written and not more:
                break
            written += more
        return _innermost(written.decode(errors="replace"))

    def _read(self) -> bytes:
        try:
            return os.read(self._stacks_r, 1 << 16)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Gives back its fds."""
        for fd in (self._stacks_r, self.stacks_w):
            if fd >= 0:
                os.close(fd)


def _innermost(stacks: str) -> str:
    """The innermost lines of each thread in what faulthandler wrote, that of our own control thread left out."""
    shown = []
    for thread in re.split(r"\n{2,}", stacks.strip()):
        lines = thread.splitlines()
        if not any("obeying.py" in line and line.endswith(" in obey") for line in lines):
            shown.append("\n".join(lines[: _FRAMES + 1]))
    return "\n".join(shown) + "\n" if shown else ""


def state_of(pid: int) -> str | None:
    """Why a process cannot answer at all, by its state in the kernel; None when it can."""
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text()
        match stat[stat.rindex(")") + 2]:
            case "T" | "t":
                return "is stopped (SIGSTOP, or a debugger)"
            case "D":
                return "waits in the kernel, for a disk or a network file system"
    return None


def gives_stacks(pid: int) -> bool:
    """Whether a process has a handler for the signal that asks for its stacks; else that signal would end it."""
    with contextlib.suppress(OSError):
        found = re.search(r"^SigCgt:\s*([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        return found is not None and _STACKS_SIGNAL is not None and bool(int(found[1], 16) >> (_STACKS_SIGNAL - 1) & 1)
    return False


def _tell(silence: Silence, what: str, node: str | None = None, component: str | None = None) -> None:
    before = log.current.set(log.Where(node, component, silence.worker))
    try:
        how = "does not answer for" if silence.began else "has not begun after"
        log.warning("worker %d %s %.1f s: %s", silence.worker, how, silence.seconds, what.rstrip("\n"))
    finally:
        log.current.reset(before)


def _tell_answer(silence: Silence, answer: Answer, spec: GraphSpec) -> None:
    if answer.debugged:
        return
    if answer.node is None:
        _tell(silence, f"its event loop is blocked at\n{answer.stack}")
    else:
        blocks = f"node {answer.node!r} blocks its event loop at\n{answer.stack}"
        _tell(silence, blocks, answer.node, spec.nodes[answer.node].component.name)


def _tell_of_its_end(silence: Silence) -> None:
    before = log.current.set(log.Where(worker=silence.worker))
    try:
        how = "answers again" if silence.began else "has begun"
        log.warning("worker %d %s, after %.1f s", silence.worker, how, silence.seconds)
    finally:
        log.current.reset(before)


class InlineWatch:
    """Watches the loop of a run in this process, from a thread of its own. Made in the thread of that loop.

    Args:
        worker: the run's.
        spec: the graph.
        slow_after: seconds without a sign of life after which the loop is reported.
    """

    def __init__(self, worker: Worker, spec: GraphSpec, slow_after: float) -> None:
        self._worker = worker
        self._spec = spec
        self._clock = LoopClock(slow_after)
        self._loop = asyncio.get_running_loop()
        self._loops_thread = threading.get_ident()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        if not math.isinf(slow_after):
            self._thread = threading.Thread(target=self._watch, name="cascata-watch", daemon=True)
            begin(self._thread)

    def _watch(self) -> None:
        while not self._over.wait(self._clock.interval):
            for silence in self._clock.look({0: self._worker.board.beat(0)}, time.monotonic()):
                if silence.over:
                    _tell_of_its_end(silence)
                else:
                    _tell_answer(silence, where_it_stands(self._worker, self._loop, self._loops_thread), self._spec)

    def stop(self) -> None:
        """Ends the thread, and waits for it."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
