"""`progress=True`: what is read from the stats board, and when and where it is shown."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from typing import Any

import pytest

from cascata import Graph
from cascata.observe.board import DELIVERED, Board, BoardShape
from cascata.observe.progress import Line, Meter, table
from tests.engine.parts import Count, Pass
from tests.live.parts import Double, doubling


def board_of(graph: Graph) -> tuple[Any, Board]:
    spec = graph.resolve()
    return spec, Board(BoardShape(len(spec.nodes), len(spec.edges), len(spec.channels), 1))


def test_rates_and_the_bottleneck_are_those_of_the_last_seconds() -> None:
    spec, board = board_of(doubling())
    meter = Meter(spec, board, {"numbers": 1000})
    assert [line.rate for line in meter.look(100.0)] == [0.0, 0.0, 0.0]
    for second in range(1, 6):
        board.publish_node(0, 0, 100 * second, 0, 0, 0.0, 0.0, 0.0)
        board.publish_node(1, 90 * second, 90 * second, 0, 0, 0.25 * second, 0.0, 0.0)
        lines = meter.look(100.0 + second)
    numbers, node, results = lines
    assert (numbers.items, numbers.rate, numbers.total, numbers.left_s) == (500, 100.0, 1000, 5.0)
    assert (node.items, node.rate, node.busy, node.bottleneck) == (450, 90.0, 0.25, True)
    assert (results.items, results.bottleneck, results.left_s) == (0, False, None)
    board.close()


def test_what_waits_is_what_was_sent_and_not_delivered_of_the_fullest_channel() -> None:
    spec, board = board_of(doubling())
    board.set_sent(0, 7, 0)
    board.set_outcome(0, 0, DELIVERED, 3)
    board.set_sent(1, 500, 0)  # a reader tells its count a little later: never more than there is room for
    _, node, results = Meter(spec, board).look(0.0)
    assert (node.waiting, node.capacity) == (4, 10)
    assert (results.waiting, results.capacity) == (100, 100)
    board.close()


def test_a_group_is_one_line_and_what_was_made_for_the_run_is_none() -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 3
    graph.double = Double * 3
    graph.count.number >> graph.double.x
    spec, board = board_of(graph)
    assert [(line.name, line.members) for line in Meter(spec, board).look(0.0)] == [("count", 1), ("double", 3)]
    board.close()


def test_the_table_tells_it_all() -> None:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=100)
    line = Line("double", 3, 450, 90.0, 5, 10, 0.25, bottleneck=True, total=1000)
    console.print(table([line, Line("source", 1, 12, 4.0, 0, 0, 0.0)]))
    text = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO of above
    assert "▶  double ×3  450 of 1,000       90  5/10 ████░░░░   25%  0:06" in text
    assert "source" in text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("entry", ["run", "run_async", "start", "open", "stream", "astream"])
@pytest.mark.parametrize("options", [{"engine": "inline"}, {"num_workers": 2}], ids=["inline", "2 workers"])
def test_every_way_to_run_shows_it_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, entry: str, options: dict[str, Any]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    graph = Graph()
    graph.count = Count
    graph.count.upto < 20
    graph.again = Pass
    graph.count.number >> graph.again.item
    options = {**options, "progress": True}

    async def opened() -> None:
        async with doubling().open(**options) as live:
            await live.numbers.send(1)

    async def streamed() -> None:
        assert [value async for value in doubling().astream(range(20), **options)] == list(range(0, 40, 2))

    match entry:
        case "run":
            graph.run(**options)
        case "run_async":
            asyncio.run(graph.run_async(**options))
        case "start":
            graph.start(**options)
            graph.join()
        case "open":
            asyncio.run(opened())
        case "stream":
            assert list(doubling().stream(range(20), **options)) == list(range(0, 40, 2))
        case _:
            asyncio.run(streamed())
    shown = terminal.getvalue()
    assert "component" in shown
    assert "items/s" in shown
    assert ("again" if entry in {"run", "run_async", "start"} else "numbers") in shown
    assert ("20 of 20" in shown) == (entry in {"stream", "astream"})
    assert shown.rstrip().endswith("\x1b[?25h")  # the cursor is there again


def test_nothing_is_shown_and_rich_is_not_loaded_where_nobody_looks() -> None:
    code = (
        "import sys\nfrom tests.live.parts import doubling\n"
        "print(list(doubling().stream([1], engine='inline', progress=True)), 'rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[2] False\n", "")
