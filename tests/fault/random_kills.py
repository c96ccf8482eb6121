"""Kills and stops what a run has started, and the program itself, at random moments; looks for hangs and leftovers.

    python -m tests.fault.random_kills --kills 10000

    lane, one of several ── forks ──> program: runs graph after graph, and says what came of each
      │                                  ├── fork server ── workers
      └── at a random moment: a signal to one of these ──┘

A lane adopts orphans: what outlives its program is seen. A kill counts when it reached a process that lived. What may
follow it is one of these, and nothing else:

- the right result, with a ledger that balances;
- one honest error, within `timeout` and `grace`, with nothing left of the run; the program's next run is right again;
- after the program itself was killed: none of its processes lives any longer.

Each lane has a random generator of its own, made of the seed and the lane's number. docs/crashes.md shows
the table that this prints.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import gc
import json
import os
import pickle
import random
import select
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from cascata.engine.local import forkserver
from cascata.errors import CascataError, ComponentError, DeadlockError, LedgerError
from tests import leaks
from tests.fault.killed_graphs import ITEMS, Double, DoubleAgain, between, chain, feed, note
from tests.processes import below, lives, read

__all__ = ["Tally", "campaign"]

GRACE_S: Final = 1.0
STOPPED_S: Final = 8.0
"""The `timeout` of runs in which something is stopped for good, in seconds."""
TIMEOUT_S: Final = 60.0
"""The `timeout` of all other runs, in seconds: none of them is to reach it."""
HANG_S: Final = 45.0
"""Seconds beyond `timeout` after which a run hangs."""
GONE_S: Final = 10.0
"""Seconds that the processes of a program that was killed have to go; the kernel tells them at once."""
RUNS: Final = 40
"""Runs of one program, which starts a fork server for each and keeps nothing."""

VICTIMS: Final = {
    ("worker", "kill"): 45,
    ("worker", "stop and go on"): 8,
    ("worker", "stop"): 6,
    ("fork server", "kill"): 10,
    ("fork server", "stop and go on"): 4,
    ("fork server", "stop"): 4,
    ("program", "kill"): 12,
    ("program", "stop and go on"): 3,
    ("program", "stop, then kill"): 3,
}
"""Whom a signal goes to, and which; with weights."""

WAYS: Final = {"forkserver": 60, "fork": 20, "spawn": 2, "portable": 15}
"""How workers start; with weights. `portable` is the transport without shared memory, under the fork server."""

ENTRIES: Final = {"run": 50, "restart": 20, "stream": 15, "open": 15}
"""What the program calls; with weights. `restart` is a run one node of which starts again when its worker dies."""

PHASES: Final = ("start", "middle", "end")


# --- the program ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Order:
    """One run, as the lane tells its program.

    Attributes:
        entry: one of `ENTRIES`.
        way: one of `WAYS`.
        workers: how many.
        timeout: of the run, in seconds.
    """

    entry: str
    way: str
    workers: int
    timeout: float

    def options(self) -> dict[str, Any]:
        return {
            "num_workers": self.workers,
            "start_method": "forkserver" if self.way == "portable" else self.way,
            "timeout": self.timeout,
            "grace": GRACE_S,
        }


def wrong_ledger(report: Any, entry: str) -> list[str]:
    """What does not add up in the report of a run that succeeded."""
    wrong = [
        f"{edge}"
        for edge in report.edges
        if edge.sent != edge.delivered + edge.failed + edge.dropped + edge.undelivered
        or edge.undelivered
        or edge.dropped
    ]
    if entry in {"run", "restart"}:
        nodes = report.nodes
        failed = nodes["double"].failed
        arrived = nodes["check_order"].received  # of an item in hand, the result may have left: docs/failures.md
        if nodes["numbers"].sent != ITEMS or not ITEMS - failed <= arrived <= ITEMS or failed > 1:
            wrong.append(f"{nodes['numbers'].sent} sent, {arrived} arrived, {failed} failed")
        if failed and (entry == "run" or nodes["dead"].received != failed):
            wrong.append(f"{failed} failed")
    return wrong


async def call_all(options: dict[str, Any], phase: str) -> list[str]:
    """Calls, many at once, until all have their answers."""
    async with between().open(**options) as live:
        note(phase, 1)
        for first in range(0, 200, 20):
            numbers = range(first, first + 20)
            answers = await asyncio.gather(*(live.call(number) for number in numbers))
            if answers != [2 * number for number in numbers]:
                return [f"calls of {numbers} were answered by {answers}"]
        note(phase, 2)
    return wrong_ledger(live.report, "open")


def obey(order: Order, phase: str) -> tuple[str, str, list[str]]:
    """Runs what is ordered. Returns how it ended, the text of its error, and what is wrong with that."""
    options = order.options()
    try:
        if order.entry == "stream":
            results = list(between().stream(feed(phase), **options))
            wrong = (
                [] if results == [2 * number for number in range(ITEMS)] else ["results are missing, or out of order"]
            )
        elif order.entry == "open":
            wrong = asyncio.run(call_all(options, phase))
        else:
            report = chain(phase, DoubleAgain if order.entry == "restart" else Double).run(**options)
            wrong = wrong_ledger(report, order.entry)
    except CascataError as error:
        kind = type(error).__name__
        return kind, str(error), ["that is no error of a death"] if isinstance(error, NEVER) else []
    return "result", "", wrong


NEVER: Final = (LedgerError, DeadlockError, ComponentError)
"""Errors that a death does not make: counts that are wrong, a stall, a fault of the component's."""


def program(orders: int, answers: int, phase: str, *, keep_server: bool) -> None:
    """A program that does as it is told, until it is told no more. Its orders and answers are lines of JSON."""
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    with forkserver.needed() if keep_server else contextlib.nullcontext():
        for line in os.fdopen(orders):
            order = Order(**json.loads(line))
            if order.way == "portable":
                os.environ["CASCATA_TRANSPORT"] = "portable"
            else:
                os.environ.pop("CASCATA_TRANSPORT", None)
            before = held(keep_server=keep_server)
            try:
                end, text, wrong = obey(order, phase)
            except BaseException as error:  # the lane counts whatever it is
                end, text, wrong = type(error).__name__, "".join(traceback.format_exception(error)), ["not of cascata"]
            left = left_since(before, keep_server=keep_server)
            os.write(answers, (json.dumps([end, text, wrong, left]) + "\n").encode())


def held(*, keep_server: bool) -> Counter[str]:
    """What this process holds: living processes below it, threads, descriptors. `tests.leaks` finds more, and slowly.

    A kept fork server is not counted, nor are its sockets: a run may have started it, or another one.
    """
    found = Counter(f"thread {each.name}" for each in threading.enumerate())
    for pid in below(os.getpid()):
        command = read(f"/proc/{pid}/cmdline").replace("\0", " ")
        if lives(pid) and not (keep_server and SERVER in command):
            found[f"process {pid}: {command[:200]}"] += 1
    for fd in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with contextlib.suppress(OSError):  # that of this listing
            target = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115
            if not (keep_server and (target.startswith("socket:") or "cascata-server" in target)):
                found[f"descriptor of {target}"] += 1
    return found


def left_since(before: Counter[str], *, keep_server: bool) -> list[str]:
    """What is held that was not, after `GONE_S` at most: what was killed is reaped meanwhile, garbage collected."""
    deadline = time.monotonic() + GONE_S
    pause = 0.002
    while left := held(keep_server=keep_server) - before:
        if time.monotonic() > deadline:
            return sorted(left)
        gc.collect()
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
    return []


SERVER: Final = "from cascata.engine.local.forkserver"
"""What the command of a fork server has in it."""


# --- the lane ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """What came of the kills.

    Attributes:
        kills: (victim, signal) -> phase -> how many.
        ends: (victim, signal) -> how the run ended -> how often.
        problems: hangs, leftovers, wrong ledgers, wrong errors: kind -> what was seen.
        missed: signals that came too late, or had nobody to go to.
    """

    kills: dict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    ends: dict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    problems: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    missed: int = 0

    @property
    def count(self) -> int:
        return sum(each.total() for each in self.kills.values())

    def add(self, other: Tally) -> None:
        for mine, theirs in ((self.kills, other.kills), (self.ends, other.ends)):
            for key, counter in theirs.items():
                mine[key].update(counter)
        for kind, seen in other.problems.items():
            self.problems[kind] += seen
        self.missed += other.missed

    def table(self) -> str:
        """The table of docs/crashes.md."""
        rows = [
            "| signal | while it starts | in the middle | at its end | what came of the run |",
            "|---|---|---|---|---|",
        ]
        for (victim, what), phases in sorted(self.kills.items(), key=lambda item: list(VICTIMS).index(item[0])):
            ends = ", ".join(f"{end} {count}" for end, count in self.ends[victim, what].most_common())
            rows.append(f"| {victim}: {what} | {' | '.join(str(phases[phase]) for phase in PHASES)} | {ends} |")
        return "\n".join(rows)


class Lane:
    """Starts programs one after the other, and does to them what chance says.

    Args:
        choose: its random generator.
        folder: for its files.
    """

    def __init__(self, choose: random.Random, folder: Path) -> None:
        self.choose = choose
        self.tally = Tally()
        self.phase = folder / "phase"
        self.phase.write_bytes(b"\0")
        self.lasts: dict[tuple[str, str], float] = defaultdict(
            lambda: 0.2
        )  # seconds; learned from those that end early
        self.pid = 0
        self.way = ""
        self.left_to_run = 0

    def turn(self) -> None:
        """One run, and at most one signal."""
        if not self.pid or not self.left_to_run:
            self.end_program()
            self.begin_program()
        self.left_to_run -= 1
        way = self.way = self.pick(WAYS)
        entry = self.pick({**ENTRIES, "restart": 0} if way in {"fork", "spawn"} else ENTRIES)
        victim, what = self.pick({"forkserver": VICTIMS, "portable": NOT_FOR_GOOD}.get(way, NO_SERVER))
        timeout = STOPPED_S if what == "stop" else TIMEOUT_S
        order = Order(entry, way, self.choose.choice((1, 2, 2, 3)), timeout)
        kind = (entry, way)
        told = f"{victim}: {what}; {order}"
        self.phase.write_bytes(b"\0")
        os.write(self.orders, (json.dumps(asdict(order)) + "\n").encode())
        began = time.monotonic()
        phase, stopped = self.strike_soon(victim, what, self.choose.uniform(0, self.lasts[kind]))
        if stopped is None:
            self.tally.missed += 1
            self.judge(self.answer(timeout + HANG_S), ("nobody", ""), told)
            self.lasts[kind] = 0.8 * self.lasts[kind] + 0.2 * (time.monotonic() - began)
            return
        self.tally.kills[victim, what][phase] += 1
        if victim == "program" and "kill" in what:
            self.tally.ends[victim, what]["nothing is left"] += 1
            self.bury(told)
            return
        answer = self.answer(timeout + HANG_S)
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.judge(answer, (victim, what), f"{told}, at its {phase}")

    def pick(self, weights: dict[Any, int]) -> Any:
        return self.choose.choices([*weights], [*weights.values()])[0]

    def strike_soon(self, victim: str, what: str, seconds: float) -> tuple[str, list[int] | None]:
        """As `strike`, after some seconds, or as soon as there is somebody. Returns the phase of the run as well.

        One of four comes shortly after the last item was sent: chance alone hardly ever meets the end of a run.
        """
        if self.choose.random() < 0.25:
            while not select.select([self.answers], [], [], 0.001)[0] and self.phase.read_bytes()[0] < 2:
                pass
            seconds = self.choose.uniform(0, 0.02)
        while True:
            if select.select([self.answers], [], [], seconds)[0]:
                return "", None  # it is over
            phase = PHASES[self.phase.read_bytes()[0]]
            stopped = self.strike(victim, what)
            if stopped is not None:
                return phase, stopped
            seconds = self.choose.uniform(0, 0.02)

    def strike(self, victim: str, what: str) -> list[int] | None:
        """Sends the signal. Returns who is stopped since, or None when there was nobody to send it to."""
        pids = [self.pid] if victim == "program" else self.processes(victim)
        if what == "stop" and self.way != "fork":
            pids = [pid for pid in pids if not self.is_still_the_program(pid)]
        if not pids:
            return None
        pid = self.choose.choice(pids)
        try:
            if what == "kill":
                os.kill(pid, signal.SIGKILL)
                return []
            os.kill(pid, signal.SIGSTOP)
            if what == "stop":
                return [pid]
            time.sleep(self.choose.uniform(0, 0.3))
            os.kill(pid, signal.SIGKILL if "kill" in what else signal.SIGCONT)
        except ProcessLookupError:
            return None
        return []

    def is_still_the_program(self, pid: int) -> bool:
        """Whether a process is between `vfork` and `exec`: until then it is its program, which stands still with it."""
        return read(f"/proc/{pid}/cmdline") == read(f"/proc/{self.pid}/cmdline")

    def processes(self, victim: str) -> list[int]:
        """The living ones of that kind; a resource tracker of the standard library is neither."""
        found = []
        for pid in below(self.pid):
            command = read(f"/proc/{pid}/cmdline")
            state, parent = (*read(f"/proc/{pid}/stat").rpartition(")")[2].split(), "Z", "0")[:2]
            # Until it has become an interpreter of its own, the server has the command of its program.
            is_server = int(parent) == self.pid and (SERVER in command or self.way in {"forkserver", "portable"})
            if state not in "ZX" and "resource_tracker" not in command and is_server == (victim == "fork server"):
                found.append(pid)
        return found

    def answer(self, seconds: float) -> list[Any] | None:
        """What the program says of its run; None when it hangs, or has died."""
        if not select.select([self.answers], [], [], seconds)[0]:
            return None
        line = b""
        while not line.endswith(b"\n"):
            more = os.read(self.answers, 65536)
            if not more:
                return ["died", "", ["the program died of it"], []]
            line += more
        answer: list[Any] = json.loads(line)
        return answer

    def judge(self, answer: list[Any] | None, struck: tuple[str, str], told: str) -> None:
        if answer is None:
            self.found("hangs", f"{told}: {self.stacks()}")
            self.kill_all()
            return
        end, text, wrong, left = answer
        if struck[0] != "nobody":
            self.tally.ends[struck][end] += 1
        elif end != "result":
            self.found("undisturbed runs that failed", f"{told}: {end} {text} {wrong}")
        if what_is_wrong := [*wrong, *unexpected(end, struck)]:
            self.found("wrong ends", f"{told}: {end} {what_is_wrong} {text}")
        if left:
            self.found("leftovers", f"{told}: {left}")
        if end == "died":
            self.kill_all()

    def found(self, kind: str, what: str) -> None:
        self.tally.problems[kind].append(what)
        print(f"{kind}: {what}", file=sys.stderr, flush=True)

    def stacks(self) -> str:
        """Has a program that hangs write its stacks to stderr; returns which processes there are."""
        tree = [self.pid, *below(self.pid)]
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGUSR1)
            time.sleep(0.5)
        return " ".join(f"{pid}:{read(f'/proc/{pid}/wchan')}" for pid in tree if lives(pid))

    def begin_program(self) -> None:
        orders_r, self.orders = os.pipe()
        self.answers, answers_w = os.pipe()
        keep_server = self.choose.random() < 0.9
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            code = 1
            try:
                os.setsid()
                os.close(self.orders)
                os.close(self.answers)
                program(orders_r, answers_w, str(self.phase), keep_server=keep_server)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(orders_r)
        os.close(answers_w)
        self.left_to_run = RUNS

    def end_program(self) -> None:
        """Lets it end by itself."""
        if not self.pid:
            return
        os.close(self.orders)
        self.orders = -1
        self.bury("a program that has done all it was told")

    def bury(self, told: str) -> None:
        """Waits for the end of the program and of what it has started: nothing may outlive it."""
        deadline = time.monotonic() + GONE_S
        while (left := [pid for pid in below(os.getpid()) if lives(pid)]) and time.monotonic() < deadline:
            reap()
            time.sleep(0.002)
        if left:
            commands = [read(f"/proc/{pid}/cmdline")[:200] for pid in left if lives(pid)]
            self.found("leftovers", f"{told}: {commands}")
        self.kill_all()

    def kill_all(self) -> None:
        for pid in below(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while any(lives(pid) for pid in below(os.getpid())):
            reap()
            time.sleep(0.002)
        reap()
        for fd in (self.orders, self.answers):
            if fd >= 0:
                os.close(fd)
        self.pid = 0


NO_SERVER: Final = {key: weight for key, weight in VICTIMS.items() if key[0] != "fork server"}

NOT_FOR_GOOD: Final = {key: weight for key, weight in VICTIMS.items() if key != ("fork server", "stop")}
"""Of the portable transport, which starts workers by spawn where it is needed. Under a fork server that is kept, and
stands still for good, a thread that asks it for a worker waits until that server is ended."""


def unexpected(end: str, struck: tuple[str, str]) -> list[str]:
    """What should not follow a signal."""
    victim, what = struck
    if end == "result" or victim == "nobody":
        return []
    if "go on" in what:
        return ["it was stopped for a moment only"]
    if victim == "worker" and what == "kill" and end != "WorkerDied":
        return ["a killed worker is WorkerDied"]
    if what == "stop" and end != "RunTimeout":
        return ["what does not answer is ended by the timeout"]
    return []


def reap() -> None:
    """Frees this process of children that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


# --- the campaign -----------------------------------------------------------------------------------


def campaign(kills: int, seed: int, lanes: int, *, aloud: bool = False) -> Tally:
    """Goes on until so many signals have reached somebody.

    Args:
        kills: how many.
        seed: of the random generators.
        lanes: how many programs run side by side.
        aloud: whether to print how far it is, to stderr.

    Returns:
        What came of them.
    """
    whole = Tally()
    children: dict[int, int] = {}
    for number in range(lanes):
        told_r, told_w = os.pipe()
        pid = os.fork()
        if not pid:
            code = 1
            try:
                os.close(told_r)
                live_in_lane(random.Random(f"{seed}-{number}"), -(-kills // lanes), told_w, aloud and not number)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(told_w)
        children[pid] = told_r
    for pid, told_r in children.items():
        with os.fdopen(told_r, "rb") as told:
            data = told.read()
        os.waitpid(pid, 0)
        if not data:
            whole.problems["lanes that broke"].append(f"process {pid}")
        else:
            whole.add(pickle.loads(data))
    return whole


def live_in_lane(choose: random.Random, kills: int, told: int, aloud: bool) -> None:
    leaks.adopt_orphans()
    with tempfile.TemporaryDirectory() as folder:
        lane = Lane(choose, Path(folder))
        shown = 0
        while lane.tally.count < kills:
            lane.turn()
            if aloud and lane.tally.count >= shown + 100:
                shown = lane.tally.count
                print(f"one lane: {shown} of {kills}", file=sys.stderr, flush=True)
        lane.end_program()
    with os.fdopen(told, "wb") as file:
        tally = lane.tally
        pickle.dump(Tally({**tally.kills}, {**tally.ends}, {**tally.problems}, tally.missed), file)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fault.random_kills", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000, help="signals that reach somebody")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lanes", type=int, default=4, help="programs side by side")
    chosen = parser.parse_args()
    began = time.monotonic()
    tally = campaign(chosen.kills, chosen.seed, chosen.lanes, aloud=True)
    print(tally.table())
    print(
        f"\n{tally.count} signals in {time.monotonic() - began:.0f} s, {tally.missed} more came too late; "
        + ", ".join(f"{kind}: {len(tally.problems[kind])}" for kind in ("hangs", "leftovers", "wrong ends"))
    )
    others = {kind: seen for kind, seen in tally.problems.items() if kind not in {"hangs", "leftovers", "wrong ends"}}
    for kind, seen in others.items():
        print(f"{kind}: {len(seen)}")
    return 1 if any(tally.problems.values()) else 0


if __name__ == "__main__":
    from tests.fault import random_kills  # as a module: its components are then found by name

    sys.exit(random_kills.main())
