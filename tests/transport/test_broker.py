"""The home of a channel: a pure machine, so that any order of frames is a plain test."""

from __future__ import annotations

from collections import defaultdict, deque

from hypothesis import given
from hypothesis import strategies as st

from cascata.transport.tcp.broker import Broker, initial_credits
from cascata.transport.tcp.stream_frames import Frame, Kind

HOME = 0


class World:
    """A broker, its writers and readers, and what is on its way between them: in order from each to each."""

    def __init__(self, capacity: int, writers: int, readers: int) -> None:
        self.capacity = capacity
        self.out: dict[int, deque[Frame]] = defaultdict(deque)  # to each worker
        self.writers = {edge: readers + edge for edge in range(writers)}
        self.credits = {edge: initial_credits(capacity, writers) for edge in range(writers)}
        self.wanting: set[int] = set()
        self.sent = dict.fromkeys(range(writers), 0)
        self.asking: set[int] = set()
        self.held: dict[int, deque[Frame]] = {reader: deque() for reader in range(readers)}
        self.taken: list[tuple[int, int]] = []
        self.broker = Broker(HOME, capacity, self.writers, list(range(readers)), lambda to, f: self.out[to].append(f))

    def put(self, edge: int) -> None:
        if self.credits[edge]:
            self.credits[edge] -= 1
            self.sent[edge] += 1
            self.broker.handle(self.writers[edge], Frame(Kind.DATA, edge, 1, self.sent[edge]))
        elif edge not in self.wanting and len(self.writers) > 1:
            self.wanting.add(edge)
            self.broker.handle(self.writers[edge], Frame(Kind.WANT, edge, 3))

    def ask(self, reader: int) -> None:
        if reader not in self.asking:
            self.asking.add(reader)
            self.broker.handle(reader, Frame(Kind.ASK, HOME))

    def take(self, reader: int) -> None:
        if self.held[reader]:
            frame = self.held[reader].popleft()
            self.taken.append((frame.id, frame.seq))
            self.broker.handle(reader, Frame(Kind.GIVE, HOME, 1))

    def arrive(self, worker: int) -> None:
        """The next frame on its way to a worker gets there."""
        if not self.out[worker]:
            return
        frame = self.out[worker].popleft()
        if frame.kind == Kind.DATA:
            self.asking.discard(worker)
            self.held[worker].append(frame)
        elif frame.kind == Kind.CREDIT:
            self.credits[frame.id] += frame.amount
            self.wanting.discard(frame.id)
        elif frame.kind == Kind.RECALL and self.credits[frame.id]:
            back, self.credits[frame.id] = self.credits[frame.id], 0
            self.broker.handle(worker, Frame(Kind.BACK, frame.id, back))

    def in_the_channel(self) -> int:
        return sum(self.sent.values()) - len(self.taken)

    def settle(self) -> None:
        while any(self.out.values()):
            for worker in list(self.out):
                self.arrive(worker)


steps = st.lists(st.tuples(st.sampled_from(["put", "ask", "take", "arrive"]), st.integers(0, 4)), max_size=80)


@given(st.integers(1, 7), st.integers(1, 3), st.integers(1, 2), steps)
def test_capacity_is_strict_and_reached_and_nothing_is_lost(
    capacity: int, writers: int, readers: int, schedule: list[tuple[str, int]]
) -> None:
    world = World(capacity, writers, readers)
    for step, number in schedule:
        match step:
            case "put":
                world.put(number % writers)
            case "ask":
                world.ask(number % readers)
            case "take":
                world.take(number % readers)
            case "arrive":
                world.arrive(number % (writers + readers))
        assert world.in_the_channel() <= capacity
    # One writer alone can fill what is left, whatever the others held.
    for _ in range(3 * capacity):
        world.put(0)
        world.settle()
    assert world.in_the_channel() == capacity
    # And all of it can be taken, each writer's in its order.
    while world.in_the_channel():
        for reader in range(readers):
            world.ask(reader)
            world.settle()
            world.take(reader)
    for edge in range(writers):
        assert sorted(seq for which, seq in world.taken if which == edge) == list(range(1, world.sent[edge] + 1))


def test_it_is_over_when_every_end_has_gone_and_what_was_under_way_is_back() -> None:
    posted: list[tuple[int, Frame]] = []
    broker = Broker(0, 10, {0: 2}, [0, 1], lambda to, frame: posted.append((to, frame)))
    broker.handle(1, Frame(Kind.ASK, 0))
    broker.handle(2, Frame(Kind.DATA, 0, 3, 3, b"pickle"))
    assert posted[-1][0] == 1
    frame = posted[-1][1]
    broker.handle(2, Frame(Kind.CLOSE, 0))
    broker.handle(0, Frame(Kind.DONE, 0, 0, 0))
    broker.handle(1, Frame(Kind.DONE, 0, 0, 0))  # it had not heard of the frame that is on its way
    over = [broker.over]
    broker.handle(1, frame._replace(kind=Kind.RETURN))
    over.append(broker.over)
    assert over == [False, True]
    assert [(edge, left.items, left.sent) for edge, left in broker.unread().items()] == [(0, 3, 3)]
