"""How it is measured: every case once a round, round after round, and the median of the rounds.

    warm-up: each case once, to size it  ──>  round 1: a b c …  ──>  round 2: … c b a  ──>  medians, lowest, highest
                                                                                      └──> ratios, round by round

Cases that are compared stand in the same round, so that whatever else the machine does meets both of them; a ratio
is the median of the rounds' ratios. Before each case the machine is watched for a moment in which nothing of this
runs: what is busy then is others'.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

__all__ = ["UNITS", "Case", "Key", "Results", "Settings", "Spread", "machine", "measure"]

Sample = Mapping[str, float]

UNITS: Final[Mapping[str, str]] = {
    "rate": "items/s",
    "whole": "items/s",
    "median": "s",
    "p99": "s",
    "run": "s",
    "process": "s",
    "bare": "s",
    "added": "s",
    "channel_items": "items/s",
    "item": "s",
    "component": "s",
    "span": "s",
    "memory": "B",
    "speed": "B/s",
}
"""The unit of each metric, whichever case takes it. bench/README.md says what they mean."""

WATCH_S: Final = 0.05
"""Seconds in which the machine is watched before a case."""

QUIET: Final = 0.15
"""Share of all cores that others may keep busy while something is measured: a clock of 10 ms cannot tell less."""

FORMAT: Final = 1
"""Version of the JSON."""


@dataclass(frozen=True, slots=True)
class Key:
    """What a case is: its suite, what is measured, the kind of items ("" for none), and the capacity (0 for none)."""

    suite: str
    what: str
    kind: str = ""
    capacity: int = 0

    def __str__(self) -> str:
        parts = [self.suite, self.what, self.kind, f"capacity {self.capacity}" if self.capacity else ""]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Case:
    """Something to measure.

    Attributes:
        key: what it is.
        take: measures it once with so many items, and returns values by metric.
        items: for the warm-up, and for every round when the case has no "rate" to size it by.
    """

    key: Key
    take: Callable[[int], Sample]
    items: int


@dataclass(frozen=True, slots=True)
class Settings:
    """How much is measured.

    Attributes:
        rounds: how often each case is measured.
        seconds: how long a case with a "rate" is to move items in a round.
        items: so many items in every case instead; None: as the cases and `seconds` say.
        patience: how many seconds in all to wait for a machine that others keep busy.
    """

    rounds: int
    seconds: float
    items: int | None = None
    patience: float = 0.0


@dataclass(frozen=True, slots=True)
class Spread:
    """Values of the same thing: their median, the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@dataclass(slots=True)
class Results:
    """What was measured.

    Attributes:
        settings: how much was asked for.
        machine: what it was measured on.
        load_before: the load averages of 1, 5 and 15 minutes before anything was measured.
        samples: for each case, one mapping of metric to value a round.
        items: for each case, the items of a round.
        others_busy: for each case, one value a round: the share of all cores that was busy just before, when
            nothing of this ran; 0 where the system does not tell.
    """

    settings: Settings
    machine: Mapping[str, Any]
    load_before: tuple[float, ...]
    samples: dict[Key, list[Sample]] = field(default_factory=dict)
    items: dict[Key, int] = field(default_factory=dict)
    others_busy: dict[Key, list[float]] = field(default_factory=dict)

    @property
    def noisy(self) -> float:
        """The share of all measurements that began on a machine which others kept busy."""
        found = [busy > QUIET for values in self.others_busy.values() for busy in values]
        return sum(found) / len(found) if found else 0.0

    def values(self, key: Key, metric: str) -> list[float]:
        """One value a round; empty when the case was not measured."""
        return [sample[metric] for sample in self.samples.get(key, ())]

    def spread(self, key: Key, metric: str) -> Spread | None:
        values = self.values(key, metric)
        return Spread.of(values) if values else None

    def ratio(self, key: Key, other: Key, metric: str) -> Spread | None:
        """Of the rounds' ratios; None when one of the two was not measured."""
        pairs = zip(self.values(key, metric), self.values(other, metric), strict=False)
        ratios = [mine / theirs for mine, theirs in pairs]
        return Spread.of(ratios) if ratios else None

    def to_dict(self) -> dict[str, Any]:
        """Fit for JSON."""
        cases = []
        for key, samples in self.samples.items():
            metrics = {}
            for metric in samples[0]:
                values = self.values(key, metric)
                found = Spread.of(values)
                metrics[metric] = {
                    "unit": UNITS[metric],
                    "median": found.median,
                    "low": found.low,
                    "high": found.high,
                    "rounds": values,
                }
            cases.append(
                {
                    "suite": key.suite,
                    "what": key.what,
                    "kind": key.kind,
                    "capacity": key.capacity,
                    "items": self.items[key],
                    "others_busy": self.others_busy[key],
                    "metrics": metrics,
                }
            )
        return {
            "format": FORMAT,
            "machine": dict(self.machine),
            "settings": {
                "rounds": self.settings.rounds,
                "seconds": self.settings.seconds,
                "items": self.settings.items,
                "patience": self.settings.patience,
            },
            "load_before": list(self.load_before),
            "noisy": self.noisy,
            "cases": cases,
        }


def measure(cases: Sequence[Case], settings: Settings, say: Callable[[str], None]) -> Results:
    """Measures all cases, interleaved.

    Args:
        cases: in the order in which they are shown.
        settings: how much is measured.
        say: told what is going on, a line each time.

    Raises:
        Exception: what a case raised; figures with holes in them are worth nothing.
    """
    results = Results(settings, machine(), os.getloadavg())
    began = time.perf_counter()
    for case in cases:
        items = settings.items or case.items
        if settings.items is None:  # else nobody looks at how fast it is
            sample = case.take(items)
            if "rate" in sample:
                items = max(items, round(sample["rate"] * settings.seconds))
        results.items[case.key] = items
        results.samples[case.key] = []
        results.others_busy[case.key] = []
    patience = settings.patience
    for number in range(settings.rounds):
        say(f"{number} of {settings.rounds} rounds after {time.perf_counter() - began:.0f} s")
        for case in cases[:: -1 if number % 2 else 1]:
            waits = time.perf_counter()
            busy = _others_busy()
            while busy > QUIET and time.perf_counter() - waits < patience:
                busy = _others_busy()
            patience -= time.perf_counter() - waits
            results.others_busy[case.key].append(busy)
            results.samples[case.key].append(case.take(results.items[case.key]))
    return results


def _others_busy() -> float:
    """The share of all cores that is busy while this process sleeps for a moment."""

    def ticks() -> tuple[int, int]:
        values = [int(each) for each in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
        return sum(values), values[3] + values[4]  # all, idle and waiting for a disk

    try:
        all_before, idle_before = ticks()
        time.sleep(WATCH_S)
        all_after, idle_after = ticks()
    except OSError:
        return 0.0
    passed = all_after - all_before
    return 1 - (idle_after - idle_before) / passed if passed else 0.0


def machine() -> dict[str, Any]:
    """What this machine is, without its name."""
    import cascata

    cpu = platform.processor() or platform.machine()
    memory = 0.0
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (OSError, ValueError):
        pass
    return {
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(memory, 1),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "cascata": cascata.__version__,
    }
