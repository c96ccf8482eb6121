"""Which wires lead back, and in which layer each box stands: the first step of a layered drawing.

Layered drawing goes back to Sugiyama, Tagawa and Toda (1981): layers, then orders within them, then coordinates.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

__all__ = ["Arc", "backward", "layers"]


class Arc(NamedTuple):
    """A wire from box to box, by number. `weak`: the first to be taken for the one that closes a cycle."""

    source: int
    target: int
    weak: bool = False


def backward(count: int, arcs: Sequence[Arc]) -> set[int]:
    """The numbers of the arcs that lead back, so that the others have no cycle. Loops of one box are among them.

    For each arc u → v that leads back there is a way from v to u along the others.
    """
    loops = {number for number, arc in enumerate(arcs) if arc.source == arc.target}
    back = loops | _closing(count, arcs, [n for n, arc in enumerate(arcs) if n not in loops and not arc.weak])
    ahead = _targets(count, (arc for number, arc in enumerate(arcs) if number not in back and not arc.weak))
    for number, arc in enumerate(arcs):
        if not arc.weak or number in loops:
            continue
        if _reaches(ahead, arc.target, arc.source):
            back.add(number)
        else:
            ahead[arc.source].append(arc.target)
    return back


def _targets(count: int, arcs: Iterable[Arc]) -> list[list[int]]:
    ahead: list[list[int]] = [[] for _ in range(count)]
    for arc in arcs:
        ahead[arc.source].append(arc.target)
    return ahead


def _closing(count: int, arcs: Sequence[Arc], considered: Sequence[int]) -> set[int]:
    """The arcs that lead to a box from which the search came: boxes that nothing feeds are searched first."""
    leaving: list[list[int]] = [[] for _ in range(count)]
    fed = [False] * count
    for number in considered:
        leaving[arcs[number].source].append(number)
        fed[arcs[number].target] = True
    found: set[int] = set()
    state = [0] * count  # 1: on the way that the search goes, 2: done
    for root in sorted(range(count), key=fed.__getitem__):
        if state[root]:
            continue
        state[root] = 1
        way = [(root, iter(leaving[root]))]
        while way:
            box, rest = way[-1]
            following = next(rest, None)
            if following is None:
                state[box] = 2
                way.pop()
            elif state[target := arcs[following].target] == 1:
                found.add(following)
            elif state[target] == 0:
                state[target] = 1
                way.append((target, iter(leaving[target])))
    return found


def _reaches(ahead: Sequence[Sequence[int]], start: int, end: int) -> bool:
    seen, ready = {start}, [start]
    while ready:
        box = ready.pop()
        if box == end:
            return True
        fresh = [each for each in ahead[box] if each not in seen]
        seen.update(fresh)
        ready += fresh
    return False


def layers(count: int, arcs: Sequence[Arc], first: Collection[int] = (), last: Collection[int] = ()) -> list[int]:
    """The layer of each box: arcs lead to later layers, and are as short as moving single boxes can make them.

    Args:
        count: of boxes.
        arcs: without a cycle.
        first: boxes that stand in the first layer; no arc leads to them.
        last: boxes that stand in the last layer; no arc leads from them.
    """
    before: list[list[int]] = [[] for _ in range(count)]
    after: list[list[int]] = [[] for _ in range(count)]
    for arc in arcs:
        before[arc.target].append(arc.source)
        after[arc.source].append(arc.target)
    order = _topological(before, after)
    layer = [0] * count
    for box in order:
        layer[box] = max((layer[each] + 1 for each in before[box]), default=int(bool(last) and box in last))
    fixed = {*first, *last}
    end = max(layer, default=0)
    for box in last:
        layer[box] = end
    moved = True
    while moved:  # each move makes the arcs shorter, so there is an end
        moved = False
        for box in reversed(order):  # a box with more arcs ahead of it than behind it moves ahead
            if box not in fixed and len(after[box]) > len(before[box]):
                moved |= _move(layer, box, min(layer[each] for each in after[box]) - 1)
        for box in order:
            if box not in fixed and len(before[box]) > len(after[box]):
                moved |= _move(layer, box, max(layer[each] for each in before[box]) + 1)
    used: Mapping[int, int] = {each: number for number, each in enumerate(sorted(set(layer)))}
    return [used[each] for each in layer]


def _move(layer: list[int], box: int, where: int) -> bool:
    changed = layer[box] != where
    layer[box] = where
    return changed


def _topological(before: Sequence[Sequence[int]], after: Sequence[Sequence[int]]) -> list[int]:
    waiting = [len(each) for each in before]
    order = [box for box, count in enumerate(waiting) if not count]
    for box in order:  # grows while it is walked
        for each in after[box]:
            waiting[each] -= 1
            if not waiting[each]:
                order.append(each)
    return order
