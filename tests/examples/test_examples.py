"""Each example runs by itself, on real input, and what it prints adds up."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(script: str, *arguments: str, cwd: Path) -> str:
    """What the example prints. It has nothing to say on stderr, and leaves with 0."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / script, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def number(pattern: str, text: str) -> int:
    """The number that the pattern's group finds, which occurs once."""
    (found,) = re.findall(pattern, text)
    return int(found.replace(",", ""))


def test_every_example_is_tested() -> None:
    tested = "".join(each.read_text("utf-8") for each in Path(__file__).parent.glob("test_*.py"))
    assert [each.name for each in EXAMPLES.glob("*.py") if f'"{each.name}"' not in tested] == []


def test_the_quick_start_prints_5_to_14_in_order(tmp_path: Path) -> None:
    assert run("quickstart.py", cwd=tmp_path) == "".join(f"{each}\n" for each in range(5, 15))


def test_the_census_parses_over_500_files_of_the_standard_library_and_its_counts_add_up(tmp_path: Path) -> None:
    text = run("stdlib_census.py", "--limit", "700", "--workers", "2", cwd=tmp_path)
    parsed, unparsed = number(r"([\d,]+) files parsed", text), number(r"([\d,]+) could not be", text)
    found, counted = number(r"([\d,]+) files found", text), number(r"([\d,]+) counted", text)
    assert parsed > 500
    assert parsed + unparsed == counted == found <= 700
    assert found == 700 or found == sum(1 for _ in Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    assert re.search(r"Most imported modules\n +importers\n +\d+  \w+\n", text)
    assert "on 2 workers (processes" in text
    assert "* bottleneck: parse_" in text


@pytest.fixture
def source_tree(tmp_path: Path) -> Path:
    """Three sound files, three malformed ones, one that is not there, and some that are none of the census's matter."""
    root = tmp_path / "tree"
    texts = {
        "simple.py": b"import os.path, sys\nfrom os.path import join\n",
        "package/__init__.py": b"from . import branches\nfrom ..elsewhere import thing\n",
        "package/branches.py": b"""\
import sys
from . import sibling
from .sibling import thing

class Outer:
    def method(self, x):
        if x and self or not x:
            return [y for y in x if y if x]
        elif x:
            return 1 if x else 2
        def inner():
            while x:
                try:
                    import json
                except ValueError:
                    pass
        return inner

async def matched(x):
    async for y in x:
        match y:
            case 1 | 2:
                pass
            case _:
                pass
    return lambda: x or y
""",
        "bad/syntax.py": b"def f(:\n",
        "bad/undecodable.py": "x = 'é'\n".encode("latin-1"),
        "bad/null.py": b"x = '\0'\n",
        "package/notes.txt": b"def f(:\n",
        "site-packages/installed.py": b"def f(:\n",
        ".hidden/secret.py": b"def f(:\n",
        "__pycache__/cached.py": b"def f(:\n",
    }
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    (root / "bad" / "dangling.py").symlink_to("nowhere.py")
    return root


@pytest.mark.parametrize("engine", ["processes", "inline"])
def test_the_census_of_a_small_tree_is_exact_and_names_each_malformed_file(
    source_tree: Path, tmp_path: Path, engine: str
) -> None:
    text = run("stdlib_census.py", "--root", str(source_tree), "--engine", engine, "--workers", "2", cwd=tmp_path)
    head, _, rest = text.partition("Could not be parsed\n")
    assert (
        head
        == """\
3 files parsed, 4 could not be
lines: 30, classes: 1, functions: 3 (mean complexity 5.3)

Largest modules
  lines
     26  package/branches.py
      2  package/__init__.py
      2  simple.py

Most complex functions
  complexity
           9  Outer.method (package/branches.py:6)
           4  matched (package/branches.py:19)
           3  Outer.method.inner (package/branches.py:11)

Most imported modules
  importers
          2  package
          2  sys
          1  elsewhere
          1  json
          1  os.path
          1  package.sibling

"""
    )
    named, _, _ = rest.partition("\n\n")
    reasons = dict(re.findall(r"^  (\S+): (.*)$", named, re.MULTILINE))
    assert sorted(reasons) == ["bad/dangling.py", "bad/null.py", "bad/syntax.py", "bad/undecodable.py"]
    assert "(line 1)" in reasons["bad/syntax.py"]
    assert "utf-8" in reasons["bad/undecodable.py"]
    assert "null bytes" in reasons["bad/null.py"]
    assert "FileNotFoundError" in reasons["bad/dangling.py"]
    assert "7 files found, 7 counted" in rest


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse a file's name that is no text")
def test_the_census_prints_the_name_of_a_file_that_no_encoding_knows(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    Path(os.fsdecode(os.fsencode(root) + b"/odd_\xff.py")).write_bytes(b"def f(:\n")
    text = run("stdlib_census.py", "--root", str(root), "--engine", "inline", cwd=tmp_path)
    assert r"odd_\udcff.py: invalid syntax (line 1)" in text


def test_the_census_refuses_a_root_that_is_no_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "stdlib_census.py", "--root", "nowhere"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert "--root: nowhere is no folder" in done.stderr


@pytest.mark.parametrize("engine", ["processes", "inline"])
def test_followed_files_are_counted_to_the_last_line_and_waited_for_at_the_same_time(
    tmp_path: Path, engine: str
) -> None:
    arguments = ("--files", "20", "--lines", "10", "--pause", "0.02", "--engine", engine)
    text = run("tail_and_count.py", *arguments, cwd=tmp_path)
    assert number(r"^([\d,]+) lines\n", text) == 20 * 10
    assert sum(int(each) for each in re.findall(r"^  [A-Z]+ +(\d+)$", text, re.MULTILINE)) == 20 * 10
    ((waited, took),) = re.findall(r"waited ([\d.]+) s in sum, which took ([\d.]+) s", text)
    assert float(waited) > 3 * float(took)
    assert "41 nodes on 1 worker: " in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("engine", ["inline", "processes"])
def test_the_same_graph_says_where_it_runs_on_each_engine(tmp_path: Path, engine: str) -> None:
    text = run("anywhere.py", "--engine", engine, "--count", "200", cwd=tmp_path)
    places = dict(re.findall(r"^(\w+): process (\d+) on ", text, re.MULTILINE))
    assert places.keys() == {"numbers", "factors_0", "factors_1", "tally"}
    assert len(set(places.values())) == (1 if engine == "inline" else 3)
    assert sum(int(each) for each in re.findall(r"^ +(\d+) numbers with", text, re.MULTILINE)) == 200
