"""Who waits for whom in a run in which nothing moves, and which room would help.

Two kinds of waiting: a node that waits for room waits for the readers of the full channel, one that waits for items
waits for the writers of the empty ones. A full channel is to blame only when its reader waits, by whatever way, for
the very writer that waits for room: then more room lets it go on (an artificial deadlock, Parks 1995). If no channel
is, nothing helps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ...model import GraphSpec
from ...runtime.idle import IdleReport

__all__ = ["room_that_helps", "who_waits"]


def room_that_helps(spec: GraphSpec, reports: Iterable[IdleReport]) -> frozenset[int]:
    """The full channels of which one with more room would let the run move again."""
    blocked: dict[str, frozenset[int]] = {}
    waits_for: dict[str, set[str]] = {}
    for report in reports:
        for node, channels in report.blocked.items():
            blocked[node] = channels
            waits_for.setdefault(node, set()).update(
                reader.node for channel in channels for reader in spec.channels[channel].readers
            )
        for node, channels in report.waiting.items():
            waits_for.setdefault(node, set()).update(
                spec.edges[edge].source.node for channel in channels for edge in spec.channels[channel].edges
            )
    return frozenset(
        channel
        for node, channels in blocked.items()
        for channel in channels
        if any(node in _reached(reader.node, waits_for) for reader in spec.channels[channel].readers)
    )


def _reached(node: str, waits_for: Mapping[str, Iterable[str]]) -> set[str]:
    """What a node waits for, by whatever way, itself included."""
    found = {node}
    queue = [node]
    while queue:
        for other in waits_for.get(queue.pop(), ()):
            if other not in found:
                found.add(other)
                queue.append(other)
    return found


def who_waits(spec: GraphSpec, reports: Iterable[IdleReport]) -> tuple[str, ...]:
    """Who waits for whom, in words, one text for each node that has not ended."""
    lines = []
    for report in reports:
        for node, doing in report.doing.items():
            full = sorted(report.blocked.get(node, ()))
            empty = sorted(report.waiting.get(node, ()))
            if doing in ("ended", "failed"):
                continue
            if full:
                lines.append(f"{node} waits for room in {_listed(spec.channels[each].name for each in full)}")
            elif empty:
                senders = (str(spec.edges[edge].source) for each in empty for edge in spec.channels[each].edges)
                inputs = spec.nodes[node].inputs.items()
                ports = (repr(port) for port, given in inputs if not set(empty).isdisjoint(given.channels))
                lines.append(f"{node} waits on {_listed(ports)} for items of {_listed(senders)}")
            else:
                lines.append(f"{node} is {doing}")
    return tuple(lines)


def _listed(names: Iterable[str]) -> str:
    *others, last = dict.fromkeys(names) or ("?",)
    return f"{', '.join(others)} and {last}" if others else last
