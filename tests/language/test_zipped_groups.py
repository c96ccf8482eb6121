"""Groups whose members zip several streams, on every engine."""

from __future__ import annotations

from typing import Any

import pytest

from cascata import Graph
from tests.engine.parts import Count, KeepPair, Notes

Options = dict[str, Any]


def zipping(left: int, right: int, size: int, notes: Notes) -> Graph:
    graph = Graph()
    graph.left = Count
    graph.right = Count
    graph.left.upto < left
    graph.right.upto < right
    graph.members = KeepPair * size
    graph.members.notes < notes
    graph.left.number >> graph.members.left
    graph.right.number >> graph.members.right
    return graph


@pytest.mark.parametrize(("left", "right"), [(400, 400), (7, 400), (400, 7), (0, 5)])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_members_that_share_two_streams_lose_no_pair(
    engine: Options, notes: Notes, size: int, left: int, right: int
) -> None:
    """As many calls as the shorter stream has items, whoever makes them, and no item twice."""
    report = zipping(left, right, size, notes).run(**engine, timeout=10)
    pairs = notes.read()
    assert len(pairs) == min(left, right)
    assert len({first for first, _ in pairs}) == len({second for _, second in pairs}) == len(pairs)
    assert all(edge.balanced for edge in report.edges)


def test_groups_of_the_same_size_are_zipped_member_to_member(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.left = Count * 2
    graph.right = Count * 2
    graph.members = KeepPair * 2
    graph.members.notes < notes
    graph.left.upto < 100
    for member, upto in enumerate([100, 40]):
        graph.nodes[f"right_{member}"].upto < upto
    graph.left.number >> graph.members.left
    graph.right.number >> graph.members.right
    graph.run(**engine, timeout=10)
    assert sorted(notes.read()) == sorted((each, each) for upto in (100, 40) for each in range(upto))
