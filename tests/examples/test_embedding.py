"""The examples of graphs inside other programs, with real clients: a web service over loopback HTTP, a notebook."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_web_service_answers_each_of_1000_requests_and_the_poisoned_one_alone_fails(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "web_service.py", "--workers", "2"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    first, *rest = done.stdout.splitlines()
    assert re.fullmatch(r"1,000 requests, 50 at a time, on 2 workers: [\d,]+ a second", first)
    assert [line.split(maxsplit=1) for line in rest] == [["999", "right"], ["1", "status 500"]]


CELLS = [
    """
from cascata import *

@component
async def Double(x: In[int], y: Out[int]) -> None:
    await y.send(2 * x)
""",
    """
graph = Graph()
graph.numbers = Source()
graph.double = Double
graph.results = Sink()
numbers.out >> double.x
double.y >> results.inp
""",
    "first = list(graph.stream(range(5), num_workers=2))",
    "graph._repr_svg_()",
    """
live = await graph.open(num_workers=2).__aenter__()
answer = await live.call(21)
""",
    """
await live.numbers.send(1)
live.numbers.close()
rest = [value async for value in live.results]
await live.__aexit__(None, None, None)
""",
    """
@component
async def Double(x: In[int], y: Out[int]) -> None:
    await y.send(20 * x)
graph = Graph()
graph.numbers, graph.double, graph.results = Source(), Double, Sink()
numbers.out >> double.x
double.y >> results.inp
again = [value async for value in graph.astream([1, 2], num_workers=2)]
""",
]


def test_a_notebook_session_streams_opens_calls_and_runs_cells_again(tmp_path: Path) -> None:
    """Cell by cell in the names of `__main__`, with top-level `await` in a loop that runs, as a notebook does."""
    driver = f"""
import ast, asyncio, inspect, sys

async def session(cells):
    names = sys.modules["__main__"].__dict__
    for cell in cells:
        code = compile(cell, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        made = eval(code, names)
        if inspect.iscoroutine(made):
            await made

asyncio.run(session({CELLS!r}))
print(first, answer, rest, again)
"""
    script = tmp_path / "notebook.py"
    script.write_text(driver, "utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "[0, 2, 4, 6, 8] 42 [2] [20, 40]\n"
