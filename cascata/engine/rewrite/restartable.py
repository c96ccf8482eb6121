"""Nodes that start again when their worker dies: which can, and the journal that outlives them.

What such a node has in hand when its worker dies has failed; all else that was sent to it still arrives. For that it
has a worker of its own, all its edges cross, and what it has received lies in memory that the parent holds as well.
"""

from __future__ import annotations

import mmap
import os
import pickle
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...errors import CascataError, ComponentError, DefinitionError
from ...model import MISSING, GraphSpec, NodeSpec

if TYPE_CHECKING:
    from ...transport.linux.journal_memory import Region

__all__ = ["cause", "make_journal", "open_journal", "restartable"]


def restartable(spec: GraphSpec, *, every: bool) -> frozenset[str]:
    """The nodes that start again when their worker dies.

    Args:
        spec: the graph, as it is run.
        every: whether the run asks for it: then every node that can. Else those whose component does.

    Raises:
        DefinitionError: a component asks for it, and its node cannot; the text says why.
    """
    found = set()
    for name, node in spec.nodes.items():
        asked = node.component.options.get("on_worker_death") == "restart"
        if not (every or asked):
            continue
        why = _why_not(spec, node)
        if why is None:
            found.add(name)
        elif asked:
            raise DefinitionError(
                f"node {name!r}: {node.component.name} is declared with on_worker_death='restart', but {why}. "
                f"Leave the option away, or give the node one in-port that is fed item by item"
            )
    return frozenset(found)


def _why_not(spec: GraphSpec, node: NodeSpec) -> str | None:
    """Why a node cannot start again, or None."""
    if node.component.at_caller:
        return "the caller of the run holds it"
    if node.role == "reorders" or not node.triggers:
        return "its runner is called once: to call it again would begin it anew"
    if any(given.port.stream for given in node.inputs.values()):
        return "its runner reads a stream itself, and nobody knows where in it to go on"
    if len(node.triggers) > 1 or node.sampled:
        return "it has several trigger groups or sampled in-ports, whose latest values would be lost"
    if any(node.name in cycle.nodes for cycle in spec.cycles):
        return "it is in a cycle, of which nobody could tell any more when it has come to its end"
    for given in node.inputs.values():
        if given.channels and given.seed is not MISSING:
            return "one of its in-ports begins with a value, which would come again"
        edges = [spec.edges[edge] for channel in given.channels for edge in spec.channels[channel].edges]
        if len(given.channels) > 1 and any(edge.batch is not None for edge in edges):
            return "one of its in-ports receives batches beside single items"
    return None


def _regions(spec: GraphSpec, nodes: Sequence[str]) -> dict[int, int]:
    """Channel -> bytes, for each channel that a node reads."""
    from ...transport.linux.journal_memory import region_size  # what it imports is on Linux only

    (name,) = nodes
    node = spec.nodes[name]
    size = region_size(node.component.options.get("concurrency", 1))
    return {channel: size for given in node.inputs.values() for channel in given.channels}


def cause(death: bytes | None) -> BaseException | None:
    """Why a worker was started again, unpickled: what its item fails with."""
    if death is None:
        return None
    error: CascataError = pickle.loads(death)
    if isinstance(error, ComponentError) and error.__cause__ is not None:
        return error.__cause__  # its time was over
    return error


def make_journal(spec: GraphSpec, nodes: Sequence[str]) -> int:
    """A memory file for the journal of a worker with these nodes. The caller closes it."""
    fd = os.memfd_create("cascata-journal", os.MFD_CLOEXEC)
    os.ftruncate(fd, sum(_regions(spec, nodes).values()))
    return fd


def open_journal(fd: int, spec: GraphSpec, nodes: Sequence[str]) -> dict[int, Region]:
    """The parts of a journal, mapped; the fd is left open."""
    from ...transport.linux.journal_memory import Region

    memory = memoryview(mmap.mmap(fd, 0))
    concurrency = spec.nodes[nodes[0]].component.options.get("concurrency", 1)
    regions: dict[int, Region] = {}
    at = 0
    for channel, size in _regions(spec, nodes).items():
        regions[channel] = Region(memory[at : at + size], concurrency)
        at += size
    return regions
