"""Nothing overlaps, nothing is cut off, and wires lead from port to port around what is in their way."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations, pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cascata import Graph
from cascata.draw.labels import labels
from cascata.draw.layers import Arc, backward, layers
from cascata.draw.layout import Box, Curve, Wire, lay_out
from cascata.draw.metrics import text_width
from cascata.draw.order import Item, join, put_in_order
from cascata.draw.scene import Place, Scene, set_scene
from cascata.draw.sketch import Sketch, sketch
from tests.serial.graphs import Scale, everything, graphs

some_graphs = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def scene_of(graph: Graph) -> tuple[Sketch, Scene]:
    drawn = sketch(graph.resolve())
    return drawn, set_scene(drawn)


def overlap(one: Place, other: Place) -> bool:
    return (
        one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    )


def contains(outer: Place, inner: Place) -> bool:
    return (
        outer.x <= inner.x
        and outer.y <= inner.y
        and inner.x + inner.width <= outer.x + outer.width + 0.01
        and inner.y + inner.height <= outer.y + outer.height + 0.01
    )


def points(curves: Iterable[Curve]) -> list[tuple[float, float]]:
    return [curve.at(step / 20) for curve in curves for step in range(21)]


# --- pictures of graphs -----------------------------------------------------------------------------


@some_graphs
@given(graphs())
def test_units_do_not_overlap_and_lie_within_the_picture(graph: Graph) -> None:
    _, scene = scene_of(graph)
    picture = Place(0, 0, scene.width, scene.height)
    assert all(contains(picture, place) for place in [*scene.units.values(), *scene.frames.values()])
    assert not [pair for pair in combinations(scene.units.values(), 2) if overlap(*pair)]


@some_graphs
@given(graphs())
def test_frames_hold_what_is_in_them_and_nothing_else(graph: Graph) -> None:
    drawn, scene = scene_of(graph)
    for name, frame in scene.frames.items():
        inside = {unit for unit, each in drawn.units.items() if name in around(drawn, each.frame)}
        assert all(contains(frame, scene.units[unit]) for unit in inside)
        assert not [unit for unit, place in scene.units.items() if unit not in inside and overlap(frame, place)]


def around(drawn: Sketch, frame: str | None) -> list[str]:
    return [] if frame is None else [frame, *around(drawn, drawn.frames[frame].parent)]


@some_graphs
@given(graphs())
def test_wires_lead_from_port_to_port_without_a_gap(graph: Graph) -> None:
    drawn, scene = scene_of(graph)
    for number, link in enumerate(drawn.links):
        curves = scene.curves[number]
        source, target = scene.units[link.source.node], scene.units[link.target.node]
        ends = (
            (source.x + source.width, source.y + scene.shapes[link.source.node].outs[link.source.port]),
            (target.x, target.y + scene.shapes[link.target.node].ins[link.target.port]),
        )
        assert near((curves[0].x0, curves[0].y0), ends[0])
        assert near((curves[-1].x3, curves[-1].y3), ends[1])
        assert all(near((one.x3, one.y3), (two.x0, two.y0)) for one, two in pairwise(curves))


def near(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return abs(one[0] - other[0]) < 0.01 and abs(one[1] - other[1]) < 0.01


@some_graphs
@given(graphs())
def test_wires_lie_within_the_picture_and_pass_no_unit(graph: Graph) -> None:
    _, scene = scene_of(graph)
    for curves in scene.curves.values():
        for x, y in points(curves):
            assert -0.01 <= x <= scene.width + 0.01
            assert -0.01 <= y <= scene.height + 0.01
            for place in scene.units.values():
                assert not (
                    place.x + 1 < x < place.x + place.width - 1 and place.y + 1 < y < place.y + place.height - 1
                )


@some_graphs
@given(graphs())
def test_every_label_has_its_place(graph: Graph) -> None:
    drawn, scene = scene_of(graph)
    found = list(labels(drawn, scene))
    assert [label.text for label in found] == [" ".join(link.marks) for link in drawn.links if link.marks]


def test_labels_stand_on_their_wires_and_on_nothing_else() -> None:
    drawn, scene = scene_of(everything())
    found = list(labels(drawn, scene))
    places = [Place(each.x - each.width / 2, each.y - 8, each.width, 16) for each in found]
    assert not [pair for pair in combinations(places, 2) if overlap(*pair)]
    assert not [place for place in places for unit in scene.units.values() if overlap(place, unit)]


def test_a_chain_is_straight_and_in_one_line() -> None:
    graph = Graph()
    names = [f"node_{index}" for index in range(6)]
    for name in names:
        graph.add(Scale, name)
    for one, other in pairwise(names):
        getattr(graph, one) >> getattr(graph, other)
    _, scene = scene_of(graph)
    assert len({place.y for place in scene.units.values()}) == 1
    assert all(len(curves) == 1 and curves[0].y0 == curves[0].y3 for curves in scene.curves.values())


def test_parts_that_nothing_links_stand_side_by_side() -> None:
    graph = Graph()
    for index in range(40):
        graph.add(Scale, f"node_{index}")
    _, scene = scene_of(graph)
    assert 400 < scene.width < 1200
    assert scene.height < 2000


# --- its steps --------------------------------------------------------------------------------------


def has_cycle(count: int, arcs: list[Arc]) -> bool:
    left = set(range(count))
    while True:
        free = {box for box in left if not any(arc.target == box and arc.source in left for arc in arcs)}
        if not free:
            return bool(left)
        left -= free


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.booleans()), max_size=20))
def test_without_the_arcs_that_lead_back_there_is_no_cycle(pairs: list[tuple[int, int, bool]]) -> None:
    arcs = [Arc(*each) for each in pairs]
    back = backward(7, arcs)
    ahead = [arc for number, arc in enumerate(arcs) if number not in back]
    assert not has_cycle(7, ahead)
    for number in back:  # and none is too many
        assert has_cycle(7, [*ahead, arcs[number]])
    where = layers(7, ahead)
    assert all(where[arc.source] < where[arc.target] for arc in ahead)
    assert set(where) == set(range(max(where) + 1))


def test_the_arc_into_a_seeded_port_is_the_one_that_leads_back() -> None:
    assert backward(3, [Arc(0, 1, weak=True), Arc(1, 2), Arc(2, 0)]) == {0}
    assert backward(3, [Arc(0, 1), Arc(1, 2), Arc(2, 0)]) == {2}
    assert backward(2, [Arc(0, 1, weak=True)]) == set()  # seeded, and in no cycle


def test_what_feeds_late_stands_late() -> None:
    arcs = [Arc(0, 1), Arc(1, 2), Arc(3, 2)]
    assert layers(4, arcs) == [0, 1, 2, 1]


def test_crossings_that_can_be_avoided_are() -> None:
    left, right = [Item(10, box=each) for each in range(3)], [Item(10, box=each) for each in range(3, 6)]
    for one, other in ((0, 2), (1, 0), (2, 1)):
        join(left[one], 5, right[other], 5)
    ordered = [list(left), list(right)]
    put_in_order(ordered)
    assert [item.right[0].other for item in ordered[0]] == ordered[1]


@given(st.data())
def test_boxes_of_a_column_are_alike_unless_one_is_out_of_proportion(data: st.DataObject) -> None:
    widths = data.draw(st.lists(st.sampled_from([100.0, 140.0, 400.0]), min_size=1, max_size=5))
    boxes = [Box(50, 50), *(Box(width, 50) for width in widths)]
    lay_out(boxes, [Wire(0, 25, number, 25) for number in range(1, len(boxes))])
    expected = {100.0: 140.0 if 140.0 in widths else 100.0, 140.0: 140.0, 400.0: 400.0}
    assert [box.width for box in boxes[1:]] == [expected[width] for width in widths]


def test_texts_are_measured_rather_too_wide() -> None:
    assert text_width("wide", 10) > text_width("till", 10)
    assert text_width("name", 10, bold=True) > text_width("name", 10)
    assert text_width("e\u0301", 10) == text_width("e", 10)
    assert text_width("数", 10) == 10
