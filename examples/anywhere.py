"""The same graph in this process, on its cores, and on a cluster: the engine is an argument.

    numbers ──> factors_0, factors_1, ... ──> tally
                (whichever is free)

Each node says where it ran: the process, and the machine.

    python examples/anywhere.py                              local processes
    python examples/anywhere.py --engine inline              this process
    python examples/anywhere.py --engine ray                 a Ray cluster: RAY_ADDRESS, or one started for this run
    python examples/anywhere.py --engine ray --address auto  the Ray cluster of this machine
"""

import argparse
import os
import socket
from collections import Counter
from collections.abc import Iterator

from cascata import Graph, In, Out, State, component


def here() -> str:
    """The process and the machine that this runs on."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def told(node: str) -> Iterator[str]:
    """State that says where its node runs, when it begins."""
    print(f"{node}: {here()}", flush=True)
    yield node


@component
def Numbers(first: In[int], count: In[int], number: Out[int], place: State[str] = State(told)) -> Iterator[int]:
    """Sends the odd numbers from `first` on."""
    yield from range(first | 1, (first | 1) + 2 * count, 2)


@component
def Factors(number: In[int], found: Out[tuple[int, int]], place: State[str] = State(told)) -> tuple[int, int]:
    """Sends a number with the number of its prime factors, by trial division."""
    rest, factors, divisor = number, 0, 3
    while divisor * divisor <= rest:
        while rest % divisor == 0:
            rest //= divisor
            factors += 1
        divisor += 2
    return number, factors + (rest > 1)


def tallied() -> Iterator[Counter[int]]:
    """A count that is printed when the stream has ended."""
    counts: Counter[int] = Counter()
    yield counts
    for factors, numbers in sorted(counts.items()):
        print(f"{numbers:>6,} numbers with {factors} prime factor{'s' if factors > 1 else ''}", flush=True)


@component
async def Tally(
    found: In[tuple[int, int]], counts: State[Counter[int]] = State(tallied), place: State[str] = State(told)
) -> None:
    """Counts numbers by their factors."""
    counts.value[found[1]] += 1


def main() -> None:
    """Reads the command line, runs the graph, prints its report."""
    parser = argparse.ArgumentParser(description="Counts prime factors, wherever you say.")
    parser.add_argument("--engine", default="processes", choices=("inline", "processes", "ray"))
    parser.add_argument("--workers", type=int, default=3, help="processes or actors (default: %(default)s)")
    parser.add_argument("--address", help="of a Ray cluster")
    parser.add_argument("--count", type=int, default=2_000, help="numbers (default: %(default)s)")
    options = parser.parse_args()

    graph = Graph()
    graph.numbers = Numbers
    graph.factors = Factors * 2
    graph.tally = Tally

    graph.numbers.first < 10**9
    graph.numbers.count < options.count
    graph.numbers.number >> graph.factors.number
    graph.factors.found >> graph.tally.found
    graph.numbers.place < "numbers"
    for number, factors in enumerate(graph.factors):
        factors.place < f"factors_{number}"
    graph.tally.place < "tally"

    report = graph.run(engine=options.engine, num_workers=options.workers, address=options.address)
    print(f"\n{report}")


main()
