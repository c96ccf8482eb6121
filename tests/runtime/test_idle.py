"""When nothing is on its way between workers that rest."""

from __future__ import annotations

from cascata.runtime.idle import Rest, nothing_on_its_way


def rest(
    sent: dict[int, int] | None = None, received: dict[int, int] | None = None, awaited: set[int] | None = None
) -> Rest:
    return Rest(sent or {}, received or {}, frozenset(awaited or ()))


def test_nobody_waits_for_anything() -> None:
    assert nothing_on_its_way([])
    assert nothing_on_its_way([rest({1: 5}), rest(received={1: 3})])


def test_what_was_sent_and_not_received_is_on_its_way_to_who_waits_for_it() -> None:
    assert not nothing_on_its_way([rest({1: 5}), rest(received={1: 4}, awaited={1})])
    assert nothing_on_its_way([rest({1: 5}), rest(received={1: 5}, awaited={1})])


def test_what_several_workers_received_of_an_edge_is_counted_together() -> None:
    readers = [rest(received={1: 2}, awaited={1}), rest(received={1: 3}, awaited={1})]
    assert nothing_on_its_way([rest({1: 5}), *readers])
    assert not nothing_on_its_way([rest({1: 6}), *readers])


def test_every_edge_that_is_waited_for_counts() -> None:
    reader = rest(received={1: 1, 2: 1}, awaited={1, 2})
    assert nothing_on_its_way([rest({1: 1}), rest({2: 1}), reader])
    assert not nothing_on_its_way([rest({1: 1}), rest({2: 2}), reader])
