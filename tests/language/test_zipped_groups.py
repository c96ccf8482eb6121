"""Groups whose members zip several streams, on every engine."""

from __future__ import annotations

from typing import Any

import pytest

from cascata import Graph
from cascata.errors import DeadlockError
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


@pytest.mark.parametrize("size", [2, 3])
def test_members_that_would_zip_two_streams_that_they_share_are_refused(notes: Notes, size: int) -> None:
    """What one member takes of one stream, another would need for the other: pairs would be lost."""
    with pytest.raises(DeadlockError, match="share the streams of left and right") as caught:
        zipping(10, 10, size, notes).run(engine="inline")
    assert len(caught.value.issues) == 1
    assert "in a node before the group" in caught.value.issues[0]


@pytest.mark.parametrize(("left", "right"), [(40, 40), (7, 40), (0, 5)])
def test_a_group_of_one_shares_nothing(engine: Options, notes: Notes, left: int, right: int) -> None:
    zipping(left, right, 1, notes).run(**engine, timeout=10)
    assert notes.read() == [(each, each) for each in range(min(left, right))]


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
