"""When an end of a channel looks for what will come, instead of waiting to be woken."""

from __future__ import annotations

from cascata.transport.ends.spinning import LONGEST_S, MOMENT_S, Looks

INSIDE = MOMENT_S / 2
"""After the beginning of a moment, in which it looks."""


def after(vain: int) -> Looks:
    looks = Looks()
    for _ in range(vain):
        looks.in_vain()
    return looks


def test_it_looks_at_every_wait_as_long_as_that_finds_something() -> None:
    looks = after(0)
    for now in (0.1, 0.2003, 7.77):
        assert looks.due(now)
        looks.found()


def test_after_looks_in_vain_it_looks_ever_more_rarely_but_never_stops() -> None:
    shares = []
    for vain in range(1, 12):
        looks = after(vain)
        due = [looks.due(step * MOMENT_S + INSIDE) for step in range(round(4 * LONGEST_S / MOMENT_S))]
        shares.append(sum(due) / len(due))
    assert shares[0] == 0.5
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == MOMENT_S / LONGEST_S


def test_two_who_looked_in_vain_look_in_the_same_moment_again() -> None:
    """However often each of them did: else each would find the other asleep."""
    for one in range(1, 12):
        for other in range(1, 12):
            assert after(one).due(5 * LONGEST_S + INSIDE)
            assert after(other).due(5 * LONGEST_S + INSIDE)


def test_what_is_found_makes_it_look_at_every_wait_again() -> None:
    looks = after(12)
    assert not looks.due(3 * MOMENT_S + INSIDE)
    looks.found()
    assert looks.due(3 * MOMENT_S + INSIDE)
