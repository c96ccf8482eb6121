"""The search for the best placement of blocks on workers.

    several orders of the blocks ── cut into k runs ──> local search ──> branch and bound (small graphs)

What is better is said by one key, compared from left to right (see `Placement.key`). Local search is that
of Kernighan and Lin (1970) and Fiduccia and Mattheyses (1982): single moves, and series of moves of which
the first ones may be for the worse. Everything is counted in whole numbers and bounded by counts, never
by a clock: the same graph gives the same plan everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, combinations, pairwise

from .network import flow_order
from .placement import TOLERANCE, Key, Placement, Problem

__all__ = ["solve"]

_EXACT_BLOCKS = 14  # up to here branch and bound is tried after the local search ...
_EXACT_STEPS = 2_000  # ... for this many steps at most (about 10 ms)
_FEW_BLOCKS = 24  # up to here every pair of blocks is tried as an exchange, and every move in a series
_SHORTLIST = 4  # beyond: the moves that are tried from each worker, at each step of a series
_FINALISTS = 2  # starts that are followed to the end, after all of them have climbed
_ROUNDS = 6  # series at the most, with many blocks
_SERIES = 40  # moves in one series
_PATIENCE = 10  # moves without a new best before a series is given up


def solve(problem: Problem, hint: Sequence[int] | None = None) -> Placement:
    """The best placement found; it exists, since the blocks can fill the workers.

    Args:
        problem: what is to be placed.
        hint: a placement to begin with; many blocks begin with nothing else.
    """
    climbed = []
    others = [] if hint is not None and len(problem.weights) > _FEW_BLOCKS else _starts(problem)
    for start in chain([] if hint is None else [hint], others):
        placement = Placement.of(problem, start)
        _fill_empty(placement)
        _climb(placement)
        climbed.append(placement)
    climbed.sort(key=Placement.key)
    for placement in climbed[:_FINALISTS]:
        _improve(placement)
    best = min(climbed, key=Placement.key)
    if len(problem.weights) <= _EXACT_BLOCKS:
        _Exact(best).search()
    _tidy(best)
    return best


def _tidy(placement: Placement) -> None:
    """Puts the members of a group on its workers in their order, where that changes nothing else."""
    problem = placement.problem
    for group in range(problem.groups):
        members = [
            block
            for block, spread in enumerate(problem.spread)
            if spread == ((group, 1),) and problem.pins[block] is None
        ]
        before = [placement.where[block] for block in members]
        key = placement.key()
        for block, worker in zip(members, sorted(before), strict=True):
            placement.move(block, worker)
        if placement.key() > key:
            for block, worker in zip(members, before, strict=True):
                placement.move(block, worker)


# ── where to begin ────────────────────────────────────────────────────────────────────────────────────────


def _starts(problem: Problem) -> Iterator[list[int]]:
    flow = flow_order(problem.feeds)
    seen = set()
    for order in (flow, list(range(len(flow))), _grown_order(problem)):
        if tuple(order) not in seen:
            seen.add(tuple(order))
            yield _cut_to_workers(problem, order)
    yield _one_by_one(problem, flow)


def _grown_order(problem: Problem) -> list[int]:
    """Blocks in an order in which each is joined to those before it as closely as possible."""
    left = dict.fromkeys(range(len(problem.weights)), 0)
    order: list[int] = []
    while left:
        block = max(left, key=lambda each: (left[each], -each))
        del left[block]
        order.append(block)
        for number in problem.nets_of[block]:
            for other in problem.nets[number].nodes:
                if other in left:
                    left[other] += problem.nets[number].cost
    return order


def _cut_to_workers(problem: Problem, order: Sequence[int]) -> list[int]:
    """An order cut into one run for each worker. Who wants a worker of its own gets one, if there are enough."""
    alone = [block for block in order if problem.alone[block]]
    others = [block for block in order if not problem.alone[block]]
    rest = problem.workers - len(alone)
    if alone and min(1, len(others)) <= rest <= len(others):
        runs = [[block] for block in alone] + cut(problem, others, rest)
    else:
        runs = cut(problem, order, problem.workers)
    where = [0] * len(order)
    for run, worker in zip(runs, _workers_of(problem, runs), strict=True):
        for block in run:
            where[block] = worker
    for block, pin in enumerate(problem.pins):
        if pin is not None:
            where[block] = pin
    return where


def _workers_of(problem: Problem, runs: Sequence[Sequence[int]]) -> list[int]:
    """A worker for each run: the one to which most of its weight is pinned."""
    wishes = sorted(
        (-sum(problem.weights[block] for block in run if problem.pins[block] == worker), number, worker)
        for number, run in enumerate(runs)
        for worker in {problem.pins[block] for block in run}
        if worker is not None
    )
    worker_of: dict[int, int] = {}
    for _, number, worker in wishes:
        if number not in worker_of and worker not in worker_of.values():
            worker_of[number] = worker
    free = iter(sorted(set(range(problem.workers)) - set(worker_of.values())))
    return [worker_of[number] if number in worker_of else next(free) for number in range(len(runs))]


def cut(problem: Problem, order: Sequence[int], runs: int) -> list[list[int]]:
    """Cuts an order into `runs` runs, none empty: balanced first, then with the fewest crossing edges.

    Dynamic programming over the places of the cuts, with no run heavier than the tolerance allows.
    """
    if runs <= 0:
        return []
    size = len(order)
    weights = [problem.weights[block] for block in order]
    least = _least_heaviest(weights, runs)
    limit = least + least // TOLERANCE
    before = [0, *accumulate(weights)]
    ends, starts = _spans(problem, order)
    # best[end]: (crossing edges, sum of squares, -start of the last run) for the runs cut so far; late cuts win ties
    best: dict[int, tuple[int, int, int]] = {0: (0, 0, 0)}
    history = []
    for run in range(1, runs + 1):
        following: dict[int, tuple[int, int, int]] = {}
        for end in range(run, size - (runs - run) + 1) if run < runs else (size,):
            if before[size] - before[end] > (runs - run) * limit:
                continue
            crossing = 0  # nets that begin before this run and end in it
            for start in range(end - 1, -1, -1):
                load = before[end] - before[start]
                if load > limit:
                    break
                for cost in ends[start]:  # each begins earlier, and was not in the run so far
                    crossing += cost
                for last, cost in starts[start]:
                    if last < end:
                        crossing -= cost
                if start in best:
                    found = (best[start][0] + crossing, best[start][1] + load * load, -start)
                    if end not in following or found < following[end]:
                        following[end] = found
        history.append(following)
        best = following
    cuts = [size]
    for step in reversed(history):
        cuts.append(-step[cuts[-1]][2])
    cuts.reverse()
    return [list(order[start:end]) for start, end in pairwise(cuts)]


def _spans(problem: Problem, order: Sequence[int]) -> tuple[list[list[int]], list[list[tuple[int, int]]]]:
    """The nets by place: at its last place, the cost of each; at its first place, (last place, cost) of each."""
    place = {block: at for at, block in enumerate(order)}
    ends: list[list[int]] = [[] for _ in order]
    starts: list[list[tuple[int, int]]] = [[] for _ in order]
    for net in problem.nets:
        at = [place[block] for block in net.nodes if block in place]
        if len(at) > 1:
            ends[max(at)].append(net.cost)
            starts[min(at)].append((max(at), net.cost))
    return ends, starts


def _least_heaviest(weights: Sequence[int], runs: int) -> int:
    """The least weight of the heaviest run, when weights in this order are cut into runs."""
    low, high = max(*weights, -(-sum(weights) // runs)), sum(weights)
    while low < high:
        limit = (low + high) // 2
        needed, load = 1, 0
        for weight in weights:
            if load + weight > limit:
                needed, load = needed + 1, 0
            load += weight
        low, high = (low, limit) if needed <= runs else (limit + 1, high)
    return low


def _one_by_one(problem: Problem, order: Sequence[int]) -> list[int]:
    """Each block where it is best at its turn: pinned ones first, then the heavy, then along the flow."""
    placement = Placement(problem)
    turn = {block: at for at, block in enumerate(order)}
    for block in sorted(order, key=lambda each: (problem.pins[each] is None, -problem.weights[each], turn[each])):
        pin = problem.pins[block]
        if pin is None:
            best: tuple[Key, int] | None = None
            for worker in range(problem.workers):
                placement.put(block, worker)
                found = (placement.key(), worker)
                best = found if best is None else min(best, found)
                placement.take(block)
            assert best is not None
            pin = best[1]
        placement.put(block, pin)
    return placement.where


def _fill_empty(placement: Placement) -> None:
    """Gives each empty worker the block that is the cheapest to move."""
    for worker in placement.empty_workers():
        choices = []
        for block in range(len(placement.where)):
            if placement.may_leave(block):
                before = placement.move(block, worker)
                choices.append((placement.key(), block))
                placement.move(block, before)
        placement.move(min(choices)[1], worker)


# ── local search ──────────────────────────────────────────────────────────────────────────────────────────


def _improve(placement: Placement) -> None:
    rounds = _ROUNDS if len(placement.where) > _FEW_BLOCKS else len(placement.where)
    for _ in range(rounds):
        if not (_exchange_pairs(placement) or _series(placement)):
            return
        _climb(placement)


def _climb(placement: Placement) -> None:
    """Single moves for the better, until there is none."""
    key = placement.key()
    improved = True
    while improved:
        improved = False
        for block in range(len(placement.where)):
            if not placement.may_leave(block):
                continue
            home = placement.where[block]
            for worker in placement.targets(block):
                placement.move(block, worker)
                found = placement.key()
                if found < key:
                    key, home, improved = found, worker, True
            if placement.where[block] != home:
                placement.move(block, home)


def _exchange_pairs(placement: Placement) -> bool:
    """Exchanges pairs of blocks for the better; says whether one was found."""
    if len(placement.where) > _FEW_BLOCKS:
        return False
    key = placement.key()
    improved = False
    free = [block for block, pin in enumerate(placement.problem.pins) if pin is None]
    for one, other in combinations(free, 2):
        here, there = placement.where[one], placement.where[other]
        if here == there:
            continue
        placement.move(one, there)
        placement.move(other, here)
        found = placement.key()
        if found < key:
            key, improved = found, True
        else:
            placement.move(one, here)
            placement.move(other, there)
    return improved


def _series(placement: Placement) -> bool:
    """One series of moves, each the best there is though it be for the worse, ended at its best point.

    Returns:
        Whether the placement is better than before; otherwise it is as before.
    """
    best, best_length = placement.key(), 0
    moved: list[tuple[int, int]] = []  # (block, where it came from)
    while len(moved) < min(_SERIES, best_length + _PATIENCE):
        done = {block for block, _ in moved}
        choice: tuple[Key, int, int] | None = None
        for block, worker in _candidates(placement, done):
            before = placement.move(block, worker)
            found = (placement.key(), block, worker)
            placement.move(block, before)
            choice = found if choice is None else min(choice, found)
        if choice is None:
            break
        key, block, worker = choice
        moved.append((block, placement.move(block, worker)))
        if key < best:
            best, best_length = key, len(moved)
    while len(moved) > best_length:
        placement.move(*moved.pop())
    return best_length > 0


def _candidates(placement: Placement, done: set[int]) -> list[tuple[int, int]]:
    """The moves (block, worker) to try next in a series."""
    few = len(placement.where) <= _FEW_BLOCKS
    blocks = range(len(placement.where)) if few else placement.at_the_border()
    moves = [
        (block, worker)
        for block in blocks
        if block not in done and placement.may_leave(block)
        for worker in placement.targets(block)
    ]
    if few:
        return moves
    ranked = sorted(moves, key=lambda move: -placement.fewer_crossing(*move))
    room = [_SHORTLIST] * placement.problem.workers
    found = []
    for block, worker in ranked:
        home = placement.where[block]
        if room[home]:
            room[home] -= 1
            found.append((block, worker))
    return found


# ── small graphs: nothing better exists ───────────────────────────────────────────────────────────────────


class _Exact:
    """Branch and bound: tries every placement that can still beat the best, within a number of steps."""

    def __init__(self, best: Placement) -> None:
        self._target = best
        self._best = best.key()
        self._found: list[int] | None = None
        self._problem = best.problem
        self._order = _grown_order(best.problem)
        self._trial = Placement(best.problem)
        self._steps = 0
        self._named = {pin for pin in best.problem.pins if pin is not None}

    def search(self) -> None:
        """Brings the placement that it was made with to the best that was found."""
        self._extend(0)
        if self._found is not None:
            self._target.load_placed(self._found)

    def _extend(self, depth: int) -> None:
        trial = self._trial
        empty = trial.empty_workers()
        if depth == len(self._order):
            if not empty:
                self._best, self._found = trial.key(), list(trial.where)
            return
        if len(empty) > len(self._order) - depth:
            return
        block = self._order[depth]
        pin = self._problem.pins[block]
        if pin is None:
            unnamed = [worker for worker in empty if worker not in self._named]
            workers = [worker for worker in range(self._problem.workers) if worker not in unnamed[1:]]  # all alike
        else:
            workers = [pin]
        for worker in workers:
            if self._steps >= _EXACT_STEPS:
                return
            self._steps += 1
            trial.put(block, worker)
            if trial.key() < self._best:
                self._extend(depth + 1)
            trial.take(block)
