"""The examples of the graph language: subgraphs, feedback, batches, types."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import unicodedata
from itertools import accumulate
from pathlib import Path

import pytest

from tests.examples.test_examples import EXAMPLES, number, run

ENGINES = pytest.mark.parametrize("engine", ["processes", "inline"])


# --- subgraph ---------------------------------------------------------------------------------------


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two packages that can be imported."""
    for name, text in {
        "first/__init__.py": "alpha = beta\nif alpha: gamma\n",
        "first/sub/part.py": "alpha(alpha)\r\n# \xff beta\n",
        "first/notes.txt": "alpha alpha alpha\n",
        "second/__init__.py": "alpha = delta\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("latin-1"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path) + os.pathsep + os.environ["PYTHONPATH"])
    return tmp_path


@ENGINES
def test_the_same_graph_counts_two_packages(packages: Path, engine: str) -> None:
    options = ("--left", "first", "--right", "second", "--top", "2", "--engine", engine)
    text = run("subgraph.py", *options, cwd=packages)
    assert text.startswith(
        """\
first: 7 names, 3 of them different
second: 2 names, 2 of them different

in both: 1, most of all
           first  second
  alpha    571.4   500.0

most typical of first
           first  second
  beta     285.7     0.0
  gamma    142.9     0.0

most typical of second
           first  second
  delta      0.0   500.0
  alpha    571.4   500.0
"""
    ), text
    assert "left_walk" in text
    assert "right_walk" in text


def test_the_vocabularies_of_the_standard_library_are_compared(tmp_path: Path) -> None:
    text = run("subgraph.py", cwd=tmp_path)
    assert number(r"asyncio: ([\d,]+) names", text) > 1000
    assert re.search(r"most typical of asyncio\n.*\n  loop ", text)


def test_a_package_that_is_none_is_refused(tmp_path: Path) -> None:
    assert "nosuchthing is no package" in refused("subgraph.py", "--left", "nosuchthing", cwd=tmp_path)


def refused(script: str, *arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / script, *arguments], capture_output=True, text=True, cwd=cwd, check=False
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    return done.stderr


# --- feedback ---------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """300 folders under one, and a chain of 30; a link back to the root; files in some of them."""
    root = tmp_path / "tree"
    deep = root
    for number_ in range(300):
        (root / "wide" / str(number_)).mkdir(parents=True)
    for number_ in range(30):
        deep = deep / f"deep{number_}"
        deep.mkdir()
        (deep / "file").write_bytes(b"x" * number_)
    (root / "link").symlink_to(root, target_is_directory=True)
    return root


@ENGINES
def test_a_walk_by_feedback_finds_what_os_walk_finds(tree: Path, tmp_path: Path, engine: str) -> None:
    text = run("feedback_walk.py", "--root", str(tree), "--engine", engine, cwd=tmp_path)
    assert f"{tree}\n332 folders, 31 files, " in text
    assert "os.walk finds 332 folders and 31 files: the same ones" in text
    assert f"29        1  {'/'.join([str(tree), *(f'deep{n}' for n in range(30))])}\n" in text


def test_a_walk_through_the_standard_library_ends(tmp_path: Path) -> None:
    text = run("feedback_walk.py", cwd=tmp_path)
    assert number(r"\n([\d,]+) folders, ", text) > 20
    assert "os.walk finds " in text  # not that they agree: other programs may be writing there


def test_a_walk_refuses_a_root_that_is_no_folder(tmp_path: Path) -> None:
    assert "nowhere is no folder" in refused("feedback_walk.py", "--root", "nowhere", cwd=tmp_path)


@ENGINES
def test_the_fibonacci_numbers_come_in_order_and_end_by_themselves(tmp_path: Path, engine: str) -> None:
    text = run("fibonacci.py", "--digits", "30", "--shown", "8", "--engine", engine, cwd=tmp_path)
    assert text.startswith("1 1 2 3 5 8 13 21 ...\n")
    numbers = [one for one, _ in accumulate(range(200), lambda pair, _: (pair[1], sum(pair)), initial=(1, 1))]
    numbers = [each for each in numbers if each < 10**30]
    assert number(r"([\d,]+) Fibonacci numbers; the last has 30 digits", text) == len(numbers)
    assert f":\n{numbers[-1]}\n" in text
    counted = {int(digit): int(count) for digit, count in re.findall(r"^ +([1-9]) +(\d+) +[\d.]+%", text, re.MULTILINE)}
    assert counted == {digit: sum(str(each)[0] == str(digit) for each in numbers) for digit in range(1, 10)}


def test_fibonacci_refuses_what_python_does_not_write(tmp_path: Path) -> None:
    assert "from 1 to 4000" in refused("fibonacci.py", "--digits", "5000", cwd=tmp_path)
    assert "the last has 1 digits:\n8\n" in run("fibonacci.py", "--digits", "1", "--engine", "inline", cwd=tmp_path)


# --- batches ----------------------------------------------------------------------------------------


@ENGINES
def test_words_come_in_batches_and_all_at_once(tmp_path: Path, engine: str) -> None:
    path = tmp_path / "text"
    path.write_text("One two, two three!\n\nthree one; it's two\n")
    text = run("batching.py", "--file", "text", "--size", "3", "--engine", engine, cwd=tmp_path)
    assert text.startswith(
        """\
8 words, 4 different ones, 1 of them used once
median length: 3 letters; longest: three, it's, one, two
most common: two (3), one (2), three (2), it's (1)

             words    new
        1 to       3      2  #################################
        4 to       6      1  #################
        7 to       8      1  #########################
"""
    ), text


def test_the_vocabulary_of_the_readme_grows(tmp_path: Path) -> None:
    text = run("batching.py", cwd=tmp_path)
    words, different = number(r"^([\d,]+) words", text), number(r"([\d,]+) different ones", text)
    new = [int(each) for each in re.findall(r"^ +[\d,]+ to +[\d,]+ +(\d+)", text, re.MULTILINE)]
    assert words > 500
    assert len(new) == -(-words // 100)
    assert sum(new) == different


# --- types ------------------------------------------------------------------------------------------


@ENGINES
def test_the_characters_of_some_blocks_are_counted(tmp_path: Path, engine: str) -> None:
    text = run("typed_pipeline.py", "--last", "0x3FF", "--workers", "2", "--engine", engine, cwd=tmp_path)
    named = [chr(code) for code in range(0x400) if unicodedata.name(chr(code), None)]
    assert number(r"([\d,]+) characters with names", text) == len(named)
    letters = sum(unicodedata.category(each)[0] == "L" for each in named)
    assert re.search(rf"^  letter +{letters} ", text, re.MULTILINE)
    assert "most common words: " in text
    assert "2 workers (processes" in text if engine == "processes" else "(inline)" in text


def test_a_wire_that_does_not_fit_is_named_with_both_types(tmp_path: Path) -> None:
    text = run("typed_pipeline.py", "--first", "65", "--last", "90", "--engine", "inline", cwd=tmp_path)
    assert "`spans.span >> tally.character`: spans.span sends Span, and tally.character takes Character" in text
    assert "26 characters with names" in text


def test_all_of_unicode_goes_through_the_typed_pipeline(tmp_path: Path) -> None:
    text = run("typed_pipeline.py", cwd=tmp_path)
    assert number(r"([\d,]+) characters with names", text) > 100_000


# --- order ------------------------------------------------------------------------------------------


def test_the_ordered_group_writes_in_the_order_of_reading(tmp_path: Path) -> None:
    text = run("ordered_group.py", "--limit", "20", cwd=tmp_path)
    assert "20 files" in text
    assert "in the order in which they were read: True" in text


# --- failures ---------------------------------------------------------------------------------------


def test_a_poison_item_costs_itself(tmp_path: Path) -> None:
    text = run("poison_item.py", "--limit", "20", cwd=tmp_path)
    assert "20 modules compiled" in text
    assert "broken.py: SyntaxError" in text
    assert "poison.py: WorkerDied: worker 1 was killed by SIGKILL" in text
    assert "sent 22 = delivered 20 + failed 2" in text
