"""Runs on the portable transport: workers that have nothing in common but a pipe to their parent, and sockets."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import re
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import numpy as np
import pytest

from cascata import Graph, In, Out, Sink, Source, State, component
from cascata.engine.local.portable import PortableRun
from cascata.errors import CascataError, WorkerDied
from cascata.transport.tcp.station import Address, Station
from tests.engine.parts import Count, Endless, Flag, Notes, Pass, count_to, keep
from tests.processes import gone_within
from tests.programs import Script

FAST: Final[dict[str, Any]] = {"start_method": "forkserver"}
"""What a worker does is the same however it was started; this way it starts sooner."""


@pytest.fixture(autouse=True)
def portable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chooses the transport."""
    monkeypatch.setenv("CASCATA_TRANSPORT", "portable")


# What only Linux has is taken away, from this process and its workers; asyncio and multiprocess have what they need.
POOR: Final = """
import asyncio, os, select, selectors, signal, socket, sys
import multiprocess.connection, multiprocess.popen_spawn_posix, multiprocess.resource_tracker, multiprocess.spawn
import multiprocess.util

os.process_cpu_count = os.cpu_count  # since Python 3.13 it asks what is taken away
for module, names in {
    os: "memfd_create eventfd pidfd_open pipe2 sched_getaffinity register_at_fork fork forkpty",
    select: "epoll EPOLLIN EPOLLRDHUP EPOLLOUT EPOLLHUP EPOLLERR EPOLLET",
    signal: "pidfd_send_signal SIGRTMAX SIGRTMIN",
    socket: "SOCK_SEQPACKET SOCK_CLOEXEC MSG_CMSG_CLOEXEC SCM_RIGHTS CMSG_LEN send_fds recv_fds",
}.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
for name in ("fcntl", "resource"):
    sys.modules[name] = None
selectors.DefaultSelector = selectors.SelectSelector
"""

PROGRAM: Final = """
from cascata import *

@component
async def Numbers(count: In[int], out: Out[int]):
    for number in range(count):
        await out.send(number)

@component
async def Square(x: In[int], out: Out[int]):
    await out.send(x * x)

@component
async def Total(x: In[int], count: In[int], total: State[list] = State(list)):
    total.value.append(x)
    if len(total.value) == count:
        print(sum(total.value))

graph = Graph()
graph.numbers, graph.square, graph.total = Numbers, Square * 2, Total
graph.numbers.count < 1_000
graph.total.count < 1_000
graph.numbers.out >> graph.square.x
graph.square.out >> graph.total.x
report = graph.run(num_workers=3)
print(report.start_method, report.num_workers, all(edge.balanced for edge in report.edges))

graph = Graph()
graph.source, graph.square, graph.sink = Source(), Square, Sink()
graph.source.out >> graph.square.x
graph.square.out >> graph.sink.inp
print(list(graph.stream(range(5), num_workers=1)))
"""

PRINTED: Final = ["332833500", "spawn 3 True", "[0, 1, 4, 9, 16]"]


def test_a_script_runs_as_on_linux(script: Script) -> None:
    assert script.prints(PROGRAM) == PRINTED


def test_nothing_is_used_that_only_linux_has(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    script.write("poor/sitecustomize.py", POOR)
    monkeypatch.setenv("PYTHONPATH", str(script.folder / "poor"), prepend=os.pathsep)
    assert script.prints(PROGRAM) == PRINTED


def test_an_unknown_transport_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASCATA_TRANSPORT", "pigeons")
    graph = Graph()
    graph.count = Count
    graph.count.upto < 3
    with pytest.raises(CascataError, match=r"CASCATA_TRANSPORT='pigeons': .*'portable'"):
        graph.run(num_workers=1)


@component
async def Arrays(out: Out[np.ndarray]) -> None:
    for number in range(3):
        await out.send(np.full((700, 500), number, dtype="f8"))


@component
async def Look(x: In[np.ndarray], notes: In[Notes]) -> None:
    x += 1
    notes.add((x.shape, float(x.sum()), x.flags.writeable))


def test_arrays_cross_and_belong_to_who_receives_them(notes: Notes) -> None:
    graph = Graph()
    graph.arrays = Arrays
    graph.look = Look
    graph.look.notes < notes
    graph.arrays.out >> graph.look.x
    graph.run(num_workers=2, **FAST)
    assert notes.read() == [((700, 500), 350_000.0 * (number + 1), True) for number in range(3)]


@component
async def Computes(item: In[int], blocks: In[bool], done: In[Flag], out: Out[int]) -> None:
    if blocks:
        done.wait_blocking()  # as a computation does: the loop does not turn
    await out.send(item)


@component
async def SetAfter(item: In[int], count: In[int], done: In[Flag], seen: State[list[int]] = State(list)) -> None:
    seen.value.append(item)
    if len(seen.value) == count:
        done.set()


@pytest.mark.parametrize("blocking", [0, 1], ids=["beside the home of the stream", "elsewhere"])
def test_a_member_that_blocks_its_loop_holds_up_nobody_else(blocking: int, flags: list[Flag]) -> None:
    graph = Graph()
    graph.count = Count
    graph.computes = Computes * 2
    graph.last = SetAfter
    graph.count.upto < 20
    graph.last.count < 19
    for number, node in enumerate((graph.computes_0, graph.computes_1)):
        node.blocks < (number == blocking)
        graph.pin(node, number)
    for node in (graph.computes, graph.last):
        node.done < flags[0]
    graph.count.number >> graph.computes.item
    graph.computes.out >> graph.last.item
    graph.pin(graph.last, 2)
    report = graph.run(num_workers=3, **FAST)
    assert report.nodes[f"computes_{blocking}"].received <= 1


@component
async def Cuts(x: In[int], out: Out[int]) -> None:
    """Breaks the connections of its worker, as a network does that fails."""
    if x == 3:
        for station in [each for each in gc.get_objects() if isinstance(each, Station)]:
            for link in station._links.values():
                if link.connection is not None:
                    station._loop.call_soon_threadsafe(link.connection.abort, None)
    await asyncio.sleep(0)
    await out.send(x)


def test_a_connection_that_breaks_between_workers_that_live_ends_the_run(notes: Notes) -> None:
    graph = Graph()
    graph.endless = Endless
    graph.cuts = Cuts
    graph.endless.number >> graph.cuts.x
    keep(graph, graph.cuts.out, notes)
    with pytest.raises(CascataError, match=r"connection between worker \d \(\w+\) and worker \d \(\w+\) broke"):
        graph.run(num_workers=3, grace=1.0, **FAST)


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> Iterator[Address]:
    """Where the first worker is said to be: connections are refused there."""
    monkeypatch.setattr("cascata.transport.tcp.station.CONNECT_S", 0.3)  # of the program's own station, and by fork
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = sock.getsockname()
        right = PortableRun._addresses_with
        monkeypatch.setattr(
            PortableRun, "_addresses_with", lambda run, addresses: {**right(run, addresses), 0: address}
        )
        yield address


@pytest.mark.parametrize("asked", [None, range(28_000, 28_400)], ids=["any port", "a range"])
def test_workers_that_cannot_reach_each_other_end_the_run_with_what_was_tried_and_what_to_do(
    unreachable: Address, notes: Notes, monkeypatch: pytest.MonkeyPatch, asked: range | None
) -> None:
    if asked is not None:
        monkeypatch.setenv("CASCATA_PORTS", f"{asked[0]}-{asked[-1]}")
    what_to_do = "let all ports of CASCATA_PORTS=28000-28399 through" if asked else "set CASCATA_PORTS=20000-20100"
    with pytest.raises(CascataError) as caught:
        count_to(3, notes).run(num_workers=2, start_method="fork")
    text = str(caught.value)
    assert re.match(r"worker 1 \(\w+\) could not connect to worker 0 \(\w+\): ", text)
    assert f"127.0.0.1:{unreachable[1]} was tried for " in text
    assert "s, at last: Connection refused" in text
    assert what_to_do in text


def test_a_program_that_cannot_reach_a_worker_ends_its_run(unreachable: Address) -> None:
    graph = Graph()
    graph.numbers = Source()
    graph.same = Pass
    graph.results = Sink()
    graph.numbers.out >> graph.same.item
    graph.same.same >> graph.results.inp
    with pytest.raises(CascataError, match=r"this program could not connect to worker 0 \(same\)"):
        list(graph.stream(range(3), num_workers=1, **FAST))


def test_workers_listen_within_the_range_that_is_asked_for(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASCATA_PORTS", "28000-28399")
    right = PortableRun._addresses_with
    found: set[Address] = set()

    def noted(run: PortableRun, addresses: Mapping[int, Address]) -> dict[int, Address]:
        found.update(addresses.values())
        return right(run, addresses)

    monkeypatch.setattr(PortableRun, "_addresses_with", noted)
    count_to(3, notes).run(num_workers=2, **FAST)
    assert len(found) == 2
    assert all(28_000 <= port <= 28_399 for _, port in found)


def test_a_range_that_is_used_up_ends_the_run_and_says_so(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("CASCATA_PORTS", f"{port}-{port}")
        with pytest.raises(CascataError, match=rf"worker \d \(\w+\) cannot listen .* every port of .*={port}-{port} "):
            count_to(3, notes).run(num_workers=2, **FAST)


def test_nonsense_for_ports_is_refused_before_anything_starts(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASCATA_PORTS", "many")
    with pytest.raises(CascataError, match="CASCATA_PORTS='many' is no range of ports"):
        count_to(3, notes).run(num_workers=2)


@component
async def Tells(notes: In[Notes], out: Out[int]) -> None:
    notes.add(os.getpid())
    while True:
        await out.send(1)


@component
async def Kills(item: In[int], notes: In[Notes]) -> None:
    for pid in notes.read():
        with suppress(ProcessLookupError):  # done before
            os.kill(pid, signal.SIGKILL)


def test_a_worker_that_is_killed_is_named_and_not_the_connection_to_it(notes: Notes) -> None:
    graph = Graph()
    graph.tells = Tells
    graph.kills = Kills
    for node in (graph.tells, graph.kills):
        node.notes < notes
    graph.tells.out >> graph.kills.item
    with pytest.raises(WorkerDied) as caught:
        graph.run(num_workers=2, **FAST)
    assert caught.value.signal == "SIGKILL"
    assert caught.value.nodes == ("tells",)
    assert caught.value.others == ()


def test_workers_end_with_a_parent_that_is_killed(script: Script) -> None:
    lines = script(
        """
        import os, signal
        from cascata import *

        @component
        async def Endless(out: Out[int]):
            print(os.getpid(), flush=True)
            while True:
                await out.send(1)

        @component
        async def Kills(item: In[int], parent: In[int]):
            os.kill(parent, signal.SIGKILL)

        graph = Graph()
        graph.endless, graph.kills = Endless, Kills
        graph.kills.parent < os.getpid()
        graph.endless.out >> graph.kills.item
        graph.run(num_workers=2)
        """
    ).stdout.splitlines()  # ends when nobody holds its output any more
    assert len(lines) == 1
    assert gone_within([int(lines[0])], 2.0)  # it has let go of its output, and is about to be gone


def test_a_system_that_is_short_of_files_is_told_as_that(monkeypatch: pytest.MonkeyPatch, notes: Notes) -> None:
    def pipe(duplex: bool = True) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("cascata.engine.local.portable.Pipe", pipe)
    with pytest.raises(CascataError, match=r"could not (begin|be started).*: .*Too many open files.*ulimit -n"):
        count_to(3, notes).run(num_workers=2)
