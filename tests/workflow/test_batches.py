"""`batch_generator`: data streams cut into batches side by side."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from cascata.errors import DefinitionError, StreamLengthError
from cascata.workflow import batch_generator


def test_streams_are_cut_side_by_side_and_the_last_batch_may_be_shorter() -> None:
    made = list(batch_generator(range(5), "abcde", batch_size=2))
    assert made == [(0, ([0, 1], ["a", "b"])), (1, ([2, 3], ["c", "d"])), (2, ([4], ["e"]))]
    assert list(batch_generator([], batch_size=3)) == []
    assert list(batch_generator([1, 2], first_index=7)) == [(7, ([1],)), (8, ([2],))]


def test_batches_that_are_made_already_pass_as_they_are() -> None:
    batches = [(1, 2), "xyz", {3}]
    assert [payloads for _, payloads in batch_generator(iter(batches), prebatched=True)] == [(b,) for b in batches]


def test_streams_are_read_one_batch_at_a_time() -> None:
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in count():
            taken.append(number)
            yield number

    made = batch_generator(numbers(), batch_size=3)
    assert taken == []
    next(made)
    assert taken == [0, 1, 2]


@pytest.mark.parametrize("prebatched", [False, True])
@pytest.mark.parametrize("lazy", [False, True])
def test_streams_of_different_lengths_are_refused_with_the_shorter_one_and_how_many(
    *, prebatched: bool, lazy: bool
) -> None:
    long, short = [1, 2, 3, 4, 5], [1, 2, 3]
    with pytest.raises(StreamLengthError, match=r"data stream 2 gave 3 .*data stream 1 gave (at least )?[45]"):
        list(batch_generator(iter(long) if lazy else long, short, batch_size=2, prebatched=prebatched))
    made = list(batch_generator(iter(long), short, batch_size=2, strict=False, prebatched=prebatched))
    assert [payload for _, (_, payload) in made] == ([1, 2, 3] if prebatched else [[1, 2], [3]])
    assert [payload for _, (payload, _) in made] == ([1, 2, 3] if prebatched else [[1, 2], [3]])


def test_lengths_that_are_known_are_compared_before_anything_is_read() -> None:
    with pytest.raises(StreamLengthError, match="data stream 1 gave 2 items, and data stream 2 gave 3"):
        batch_generator([1, 2], [1, 2, 3])


@pytest.mark.parametrize("size", [0, -1, 1.5, True, None])
def test_a_size_that_is_none_is_refused(size: object) -> None:
    with pytest.raises(DefinitionError, match="batch_size must be a whole number of at least 1"):
        batch_generator([1], batch_size=size)  # type: ignore[arg-type]


def test_no_stream_and_what_is_no_stream_are_refused() -> None:
    with pytest.raises(DefinitionError, match="there is no data stream"):
        batch_generator()
    with pytest.raises(DefinitionError, match="data stream 2 is 5, of type int"):
        batch_generator([1], 5)  # type: ignore[arg-type]
