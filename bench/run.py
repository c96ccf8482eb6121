"""Measures cascata, and what it is compared with, in one run.

    python bench/run.py                     some minutes; a table
    python bench/run.py --quick             a minute, on a slow machine two
    python bench/run.py --json FILE         writes everything that was measured as well
    python bench/run.py --plot FILE.png     draws it
    python bench/run.py --only edge graph   some of the suites

Measures the tree that this file is in, whatever is installed. No figure decides about the exit status.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses the command line, measures, and shows."""
    # Workers and the interpreters that are started get the tree from here, compiled, as it is when it is installed.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    sys.path.insert(0, str(ROOT))
    # Not at the top: processes of `multiprocessing` import this file again, and need nothing of it.
    from bench.measure import Settings, measure
    from bench.suites import ALL_SIZES, ALONE, CAPACITIES, SLOW, SUITES, TARGETS, Scope, cases
    from bench.tables import outcome, show

    parser = argparse.ArgumentParser(description="Measures cascata and what it is compared with, in one run.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and items: a minute, on a slow machine two")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured to this file")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw what was measured, as a PNG (needs matplotlib)")
    parser.add_argument("--only", nargs="+", choices=list(SUITES), metavar="SUITE", help=f"of {', '.join(SUITES)}")
    parser.add_argument("--rounds", type=int, help="measurements of each case (5; quick: 3)")
    parser.add_argument(
        "--patience", type=float, default=0.0, metavar="S", help="seconds to wait, in all, while others use the machine"
    )
    parser.add_argument("--items", type=int, help=argparse.SUPPRESS)  # so many in every case: to see that it works
    given = parser.parse_args(arguments)
    for name, least in (("rounds", 1), ("items", 20)):
        if getattr(given, name) is not None and getattr(given, name) < least:
            parser.error(f"--{name} must be at least {least}")

    scope = (
        Scope(dicts=(100,), delays=40, round_trips=1_000, files=20, sizes=("1 MiB",), copied=200 << 20)
        if given.quick
        else Scope(
            CAPACITIES, delays=1_000, round_trips=10_000, files=600, sizes=ALL_SIZES, copied=2 << 30, chains=(10, 50)
        )
    )
    settings = Settings(rounds=3, seconds=0.07) if given.quick else Settings(rounds=5, seconds=0.5)
    settings = replace(settings, rounds=given.rounds or settings.rounds, items=given.items, patience=given.patience)
    left_out = (*ALONE, *(SLOW if given.quick else ()))
    names = given.only or [name for name in SUITES if name not in left_out]
    results = measure(cases(names, scope), settings, lambda line: print(line, file=sys.stderr, flush=True))
    found = results.to_dict()
    if given.plot is not None:
        from bench.plot import draw

        draw(found, given.plot)
    if given.json is not None:
        found["targets"] = [
            {"text": target.text, "least": target.least, "most": target.most}
            | {"median": reached.median, "low": reached.low, "high": reached.high}
            for target in TARGETS
            if (reached := outcome(results, target)) is not None
        ]
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(show(results), end="")


if __name__ == "__main__":
    main()
