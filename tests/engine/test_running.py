"""The ways to run a graph, on every engine: again, at once, awaited, in the background, with a time limit."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cascata import CascataError, Graph, In, Out, component
from cascata.engine.choice import is_portable
from cascata.errors import ComponentError, DefinitionError, RunTimeout
from cascata.options import StartMethod
from tests.engine.parts import PATIENCE_S, Count, Endless, Flag, Keep, Notes, Pass, count_to, keep
from tests.speed import in_time

Options = dict[str, Any]


def test_a_graph_can_be_run_again(engine: Options, notes: Notes) -> None:
    graph = count_to(10, notes)
    first = graph.run(**engine)
    second = graph.run(**engine)
    assert notes.read() == [*range(10)] * 2
    assert first.edges == second.edges


def test_a_graph_can_be_run_again_on_other_engines_and_with_other_values(notes: Notes) -> None:
    graph = count_to(2, notes)
    graph.run(engine="inline")
    graph.count.upto < 3
    graph.run(num_workers=2)
    graph.run(num_workers=1, start_method="fork")
    assert notes.read() == [0, 1, 0, 1, 2, 0, 1, 2]


def test_a_graph_can_be_run_twice_at_once_from_two_threads(engine: Options, notes: Notes) -> None:
    graph = count_to(500, notes)
    with ThreadPoolExecutor(2) as threads:
        reports = [each.result() for each in [threads.submit(graph.run, **engine) for _ in range(2)]]
    assert sorted(notes.read()) == sorted([*range(500)] * 2)
    assert [report.nodes["keep"].received for report in reports] == [500, 500]


def test_two_runs_at_once_are_told_apart(engine: Options, tmp_path: Path) -> None:
    """One fails while the other one goes on."""
    good, bad = Graph(), Graph()
    flag = Flag(str(tmp_path / "failed"))
    good.waits = WaitsFor
    good.waits.flag < flag
    keep(good, good.waits.out, Notes(str(tmp_path / "good")))
    bad.fails = Fails
    with ThreadPoolExecutor(2) as threads:
        going = threads.submit(good.run, **engine)
        failing = threads.submit(bad.run, **engine)
        with pytest.raises(ComponentError):
            failing.result()
        flag.set()
        going.result()
    assert Notes(str(tmp_path / "good")).read() == ["done"]


@component
async def WaitsFor(flag: In[Flag], out: Out[str]) -> None:
    await flag.wait()
    await out.send("done")


@component
async def Fails() -> None:
    raise ValueError("as asked")


# --- inside a running loop --------------------------------------------------------------------------


def test_run_async_does_not_block_the_loop(engine: Options, notes: Notes, flags: list[Flag]) -> None:
    """The graph ends only after the loop has turned often while it ran."""
    graph = Graph()
    graph.waits = WaitsFor
    graph.waits.flag < flags[0]
    keep(graph, graph.waits.out, notes)

    async def heartbeat() -> None:
        for _ in range(20):
            await asyncio.sleep(0.001)
        flags[0].set()

    async def main() -> Any:
        beating = asyncio.ensure_future(heartbeat())
        report = await graph.run_async(**engine)
        assert beating.done()
        return report

    report = asyncio.run(main())
    assert notes.read() == ["done"]
    assert report.nodes["keep"].received == 1


def test_runs_can_be_awaited_side_by_side(engine: Options, notes: Notes) -> None:
    graph = count_to(100, notes)

    async def main() -> list[Any]:
        return await asyncio.gather(*(graph.run_async(**engine) for _ in range(3)))

    reports = asyncio.run(main())
    assert sorted(notes.read()) == sorted([*range(100)] * 3)
    assert [report.nodes["keep"].received for report in reports] == [100] * 3


def test_run_works_where_a_loop_runs_already(engine: Options, notes: Notes) -> None:
    """As in a notebook."""
    graph = count_to(10, notes)

    async def cell() -> Any:
        first = graph.run(**engine)
        await asyncio.sleep(0)
        return first, graph.run(**engine)

    for report in asyncio.run(cell()):
        assert report.nodes["keep"].received == 10
    assert notes.read() == [*range(10)] * 2


def test_a_failure_comes_out_of_run_async_and_of_run_in_a_loop(engine: Options) -> None:
    graph = Graph()
    graph.fails = Fails

    async def main() -> None:
        with pytest.raises(ComponentError, match="as asked"):
            await graph.run_async(**engine)
        with pytest.raises(ComponentError, match="as asked"):
            graph.run(**engine)

    asyncio.run(main())


@component
async def Sleeps(flag: In[Flag], notes: In[Notes]) -> None:
    flag.set()
    try:
        await asyncio.sleep(PATIENCE_S)
    finally:
        notes.add("cancelled")


@pytest.mark.parametrize("how", ["cancel", "wait_for", "timeout", "sibling"])
def test_a_run_that_is_awaited_can_be_cancelled(engine: Options, notes: Notes, flags: list[Flag], how: str) -> None:
    graph = Graph()
    graph.sleeps = Sleeps
    graph.sleeps.flag < flags[0]
    graph.sleeps.notes < notes
    graph.other = Pass
    graph.other.item < 1

    async def fails() -> None:
        await flags[0].wait()
        raise LookupError("sibling")

    async def main() -> None:
        if how == "cancel":
            running = asyncio.ensure_future(graph.run_async(**engine))
            await flags[0].wait()
            running.cancel()
            await running
        elif how == "wait_for":
            await asyncio.wait_for(graph.run_async(**engine), 0.3)
        elif how == "timeout":
            async with asyncio.timeout(0.3):
                await graph.run_async(**engine)
        else:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(graph.run_async(**engine))
                tasks.create_task(fails())

    expected: dict[str, type[BaseException]] = {"cancel": asyncio.CancelledError, "sibling": ExceptionGroup}
    with pytest.raises(expected.get(how, TimeoutError)):
        asyncio.run(main())
    # On a busy machine the time may be up before the node has begun.
    assert notes.read() == (["cancelled"] if flags[0].is_set() else [])


def test_a_run_can_be_cancelled_at_once(engine: Options, notes: Notes) -> None:
    """Before its workers are up."""
    graph = count_to(10_000_000, notes)

    async def main() -> None:
        running = asyncio.ensure_future(graph.run_async(**engine))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())


# --- in the background ------------------------------------------------------------------------------


def test_start_returns_at_once_and_join_gives_the_report(engine: Options, notes: Notes, flags: list[Flag]) -> None:
    graph = Graph()
    graph.waits = WaitsFor
    graph.waits.flag < flags[0]
    keep(graph, graph.waits.out, notes)
    graph.start(**engine)
    assert notes.read() == []
    flags[0].set()
    report = graph.join()
    assert notes.read() == ["done"]
    assert report.nodes["keep"].received == 1


def test_join_raises_what_failed(engine: Options) -> None:
    graph = Graph()
    graph.fails = Fails
    graph.start(**engine)
    with pytest.raises(ComponentError, match="as asked"):
        graph.join()


def test_stop_ends_sources_at_their_next_send_and_everything_sent_arrives(
    engine: Options, notes: Notes, flags: list[Flag]
) -> None:
    graph = Graph()
    graph.endless = Endless
    graph.endless.notes < notes
    graph.first = Pass
    graph.second = Pass * 2
    graph.last = Watches
    graph.last.flag < flags[0]
    graph.last.notes < notes
    graph.endless >> graph.first >> graph.second
    graph.second.same >> graph.last.number
    graph.start(**engine)
    flags[0].wait_blocking()
    graph.stop()
    report = graph.join()
    kept = notes.read()
    (sent,) = [each[1] for each in kept if isinstance(each, tuple)]
    assert sorted(each for each in kept if isinstance(each, int)) == [*range(sent)]
    assert report.nodes["endless"].sent == sent
    assert report.nodes["last"].received == sent
    assert all(edge.delivered == edge.sent for edge in report.edges)


@component
async def SendsUntil(over: In[Flag], number: Out[int]) -> None:
    sent = 0
    while not over.is_set():
        await number.send(sent)
        sent += 1


@component
async def Watches(number: In[int], flag: In[Flag], notes: In[Notes]) -> None:
    notes.add(number)
    if number == 300:
        flag.set()


def test_stop_before_the_workers_are_up_stops_them_too(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.endless = Endless
    graph.endless.notes < notes
    keep(graph, graph.endless.number, notes)
    graph.start(**engine)
    graph.stop()
    report = graph.join()
    assert report.nodes["endless"].sent == report.nodes["keep"].received


def test_stop_wakes_a_source_that_waits_for_room(engine: Options, notes: Notes, flags: list[Flag]) -> None:
    """Its reader holds on to an item until the source has ended."""
    graph = Graph()
    graph.source = SetsFlagAtItsEnd
    graph.reader = WaitsWithItem
    for node in (graph.source, graph.reader):
        node.full < flags[0]
        node.ended < flags[1]
    graph.source.out >> graph.reader.item
    graph.start(**engine)
    flags[0].wait_blocking()
    graph.stop()
    report = graph.join()
    assert report.nodes["source"].sent == report.nodes["reader"].received


@component
async def SetsFlagAtItsEnd(full: In[Flag], ended: In[Flag], out: Out[int]) -> None:
    try:
        while True:
            sending = asyncio.ensure_future(out.send(1))
            await asyncio.wait([sending], timeout=0.1)
            if not sending.done():
                full.set()
            await sending
    finally:
        ended.set()


@component
async def WaitsWithItem(item: In[int], full: In[Flag], ended: In[Flag]) -> None:
    await ended.wait()


def test_stop_ends_a_run_that_is_being_joined(engine: Options, notes: Notes, flags: list[Flag]) -> None:
    graph = Graph()
    graph.endless = SendsUntil
    graph.endless.over < flags[1]
    graph.last = Watches
    graph.last.flag < flags[0]
    graph.last.notes < notes
    graph.endless.number >> graph.last.number
    graph.start(**engine)

    def stop() -> None:
        flags[0].wait_blocking()
        try:
            graph.stop()
        finally:
            flags[1].set()  # it ends in any case

    with ThreadPoolExecutor(1) as threads:
        stopping = threads.submit(stop)
        report = graph.join()
        stopping.result()
    assert report.nodes["last"].received == report.nodes["endless"].sent


def test_stop_twice_is_stop(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.endless = Endless
    keep(graph, graph.endless.number, notes)
    graph.start(**engine)
    graph.stop()
    graph.stop()
    graph.join()


def test_stop_stops_a_source_that_nobody_reads(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.endless = Endless
    graph.endless.notes < notes
    graph.start(**engine)
    graph.stop()
    graph.join()
    assert notes.read()[0][0] == "endless stopped at"


@pytest.mark.parametrize("options", [{"engine": "inline"}, {"num_workers": 1}], ids=["inline", "1 worker"])
def test_stop_is_heard_soon_by_a_source_that_never_waits(options: Options) -> None:
    """Its loop turns, but is never idle: other threads of its process must get their turn all the same."""
    graph = Graph()
    graph.endless = Endless
    for _ in range(40):
        began = time.monotonic()
        graph.start(**options)
        graph.stop()
        graph.join()
        assert in_time(1.0, since=began)


def test_stop_after_the_end_does_no_harm(engine: Options, notes: Notes) -> None:
    graph = count_to(3, notes)
    graph.start(**engine)
    deadline = time.monotonic() + PATIENCE_S
    while len(notes.read()) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    graph.stop()
    graph.join()
    assert notes.read() == [0, 1, 2]


def test_started_runs_are_joined_in_their_order(engine: Options, notes: Notes, flags: list[Flag]) -> None:
    graph = Graph()
    graph.waits = WaitsFor
    graph.waits.flag < flags[0]
    keep(graph, graph.waits.out, notes)
    graph.start(**engine)
    graph.waits.flag < flags[1]
    graph.start(**engine)
    flags[0].set()
    graph.join()
    assert notes.read() == ["done"]
    flags[1].set()
    graph.join()
    assert notes.read() == ["done", "done"]


@pytest.mark.parametrize("verb", ["stop", "join"])
def test_what_was_not_started_cannot_be_stopped_or_joined(notes: Notes, verb: str) -> None:
    graph = count_to(1, notes)
    with pytest.raises(CascataError, match="nothing was started"):
        getattr(graph, verb)()


def test_a_started_run_can_be_joined_from_another_thread(engine: Options, notes: Notes) -> None:
    graph = count_to(3, notes)
    graph.start(**engine)
    joined: list[Any] = []
    thread = threading.Thread(target=lambda: joined.append(graph.join()))
    thread.start()
    thread.join()
    assert joined[0].nodes["keep"].received == 3


# --- time limits ------------------------------------------------------------------------------------


@component
async def WaitsForEver(flag: In[Flag]) -> None:
    await flag.wait()


@pytest.mark.skipif(is_portable(), reason="a new interpreter takes longer to start than the run has")
def test_a_timeout_tells_what_each_worker_was_doing(engine: Options, notes: Notes, flags: list[Flag]) -> None:
    graph = Graph()
    graph.waits = WaitsFor
    graph.waits.flag < flags[0]
    graph.starves = Keep
    graph.starves.notes < notes
    graph.waits.out >> graph.starves.item
    for timeout in (0.5, 2.0, 8.0):  # more, on a machine where workers have not begun yet
        began = time.monotonic()
        with pytest.raises(RunTimeout) as caught:
            graph.run(**engine, timeout=timeout)
        assert timeout <= time.monotonic() - began
        assert in_time(timeout + 2.0, since=began)
        told = caught.value.doing
        together = "\n".join(told.values())
        if "starting" not in together:
            break
    assert isinstance(caught.value, TimeoutError)
    assert set(told) == set(range(min(2, engine.get("num_workers", 1))))
    assert "waits: working" in together
    assert "starves: waiting for items on 'item'" in together
    for line in told.values():
        assert line in str(caught.value)


def test_a_timeout_that_does_not_pass_changes_nothing(engine: Options, notes: Notes) -> None:
    count_to(3, notes).run(**engine, timeout=30)
    assert notes.read() == [0, 1, 2]


@component
async def BlocksTheLoop(flag: In[Flag]) -> None:
    flag.wait_blocking()


@pytest.mark.skipif(is_portable(), reason="a new interpreter takes longer to start than the run has")
def test_a_timeout_shows_where_a_loop_is_blocked(workers: Options, flags: list[Flag]) -> None:
    graph = Graph()
    graph.blocks = BlocksTheLoop
    graph.blocks.flag < flags[0]
    graph.other = WaitsForEver
    graph.other.flag < flags[0]
    with pytest.raises(RunTimeout) as caught:
        graph.run(**workers, timeout=2.0, grace=0.2)  # in which the workers must have begun
    (told,) = [line for line in caught.value.doing.values() if "blocked" in line]
    assert "wait_blocking" in told
    assert "parts.py" in told
    assert told in str(caught.value)


def test_join_of_a_started_run_times_out(engine: Options, flags: list[Flag]) -> None:
    graph = Graph()
    graph.waits = WaitsForEver
    graph.waits.flag < flags[0]
    graph.start(**engine, timeout=0.2)
    with pytest.raises(RunTimeout):
        graph.join()


# --- options ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_workers": 0}, "num_workers"),
        ({"num_worker": 2}, "Did you mean 'num_workers'"),
        ({"engine": "threads"}, "processes, inline, ray"),
        ({"timeout": -1}, "timeout"),
        ({"start_method": "thread"}, "forkserver"),
        ({"on_error": "ignore"}, "'raise' or 'skip'"),
    ],
)
@pytest.mark.parametrize("verb", ["run", "start", "run_async"])
def test_a_wrong_option_is_named_whatever_the_entry_point(verb: str, options: Options, text: str, notes: Notes) -> None:
    graph = count_to(1, notes)
    with pytest.raises(DefinitionError, match=text) as caught:
        if verb == "run_async":
            asyncio.run(graph.run_async(**options))
        else:
            getattr(graph, verb)(**options)
    assert f"graph.{verb}" in str(caught.value)
    assert notes.read() == []


def test_exactly_as_many_workers_run_as_asked_for(notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 10
    graph.first = Pass
    graph.second = Pass
    graph.count >> graph.first >> graph.second
    keep(graph, graph.second.same, notes)
    for num_workers in (1, 2, 3, 4):
        report = graph.run(num_workers=num_workers)
        assert report.num_workers == num_workers
        assert len({node.worker for node in report.nodes.values()}) == num_workers
    assert graph.run(num_workers=9).num_workers == 4


def test_a_pinned_node_runs_where_it_is_pinned(notes: Notes) -> None:
    graph = count_to(10, notes)
    graph.pin(graph.count, 1)
    graph.pin(graph.keep, 0)
    report = graph.run(num_workers=2)
    assert (report.nodes["count"].worker, report.nodes["keep"].worker) == (1, 0)
    assert notes.read() == [*range(10)]


def test_a_breakpoint_stops_where_it_stands_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    stops: list[tuple[str, threading.Thread]] = []
    monkeypatch.setattr("sys.breakpointhook", lambda: stops.append((seen[0], threading.current_thread())))
    seen: list[str] = []

    @component
    async def Stops() -> None:
        seen.append("here")
        breakpoint()  # noqa: T100  # what this test is about

    graph = Graph()
    graph.stops = Stops
    graph.run(engine="inline")
    assert stops == [("here", threading.main_thread())]


def test_a_graph_without_nodes_says_so() -> None:
    with pytest.raises(DefinitionError, match="has no nodes"):
        Graph().run()


def test_a_report_travels(engine: Options, notes: Notes) -> None:
    import pickle

    report = count_to(3, notes).run(**engine)
    assert pickle.loads(pickle.dumps(report)) == report
    assert report.engine == engine.get("engine", "processes")
    assert 0 < report.wall_s < 30


@pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])
def test_every_start_method_runs_a_graph(notes: Notes, start_method: StartMethod) -> None:
    report = count_to(300, notes).run(num_workers=2, start_method=start_method)
    assert notes.read() == [*range(300)]
    assert report.start_method == start_method
