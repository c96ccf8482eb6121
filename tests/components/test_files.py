"""WalkDirectory, ReadLines, ReadJsonLines, ReadCsv, WriteJsonLines: on real files."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from cascata import Graph
from cascata.components import Filter, ReadCsv, ReadJsonLines, ReadLines, Take, WalkDirectory, WriteJsonLines
from cascata.errors import ComponentError
from tests.components.helpers import around, through
from tests.engine.parts import Each, Notes, keep

Options = dict[str, Any]


@dataclasses.dataclass
class Point:
    """Something that JSON does not know."""

    x: int
    y: int


def reading(component: Any, path: Path, notes: Notes, **constants: Any) -> Graph:
    graph = Graph()
    graph.read = component
    graph.read.path < path
    for port, value in constants.items():
        getattr(graph.read, port).set(value)
    keep(graph, graph.read.out, notes)
    return graph


def file(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "file"
    path.write_bytes(data)
    return path


# --- WalkDirectory ----------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for name in ("b/two.py", "b/c/three.py", "a/one.py", "a/notes.txt", "zero.py", ".hidden.py"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (root / "empty").mkdir()
    return root


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        (None, [".hidden.py", "zero.py", "a/notes.txt", "a/one.py", "b/two.py", "b/c/three.py"]),
        ("*.py", [".hidden.py", "zero.py", "a/one.py", "b/two.py", "b/c/three.py"]),
        ("[a-z]*.txt", ["a/notes.txt"]),
        ("nothing", []),
    ],
)
def test_every_file_is_found_in_the_order_of_names(
    engine: Options, notes: Notes, tree: Path, pattern: str | None, names: list[str]
) -> None:
    graph = Graph()
    graph.walk = WalkDirectory
    graph.walk.root < tree
    if pattern is not None:
        graph.walk.pattern < pattern
    keep(graph, graph.walk.out, notes)
    graph.run(**engine)
    assert notes.read() == [str(tree / name) for name in names]
    assert all(type(path) is str for path in notes.read())


def test_links_are_not_followed_round_in_circles(tree: Path) -> None:
    (tree / "a" / "again").symlink_to(tree, target_is_directory=True)
    assert len(WalkDirectory.test(root=tree)["out"]) == 6


@pytest.mark.parametrize(("root", "error"), [("nowhere", FileNotFoundError), ("zero.py", NotADirectoryError)])
def test_a_root_that_is_no_folder_is_an_error(tree: Path, root: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=root):
        WalkDirectory.test(root=tree / root)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_cannot_be_read_is_logged_and_left_out(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tree / "b").chmod(0)
    try:
        with caplog.at_level(logging.WARNING, "cascata"):
            found = WalkDirectory.test(root=tree, pattern="*.py")["out"]
    finally:
        (tree / "b").chmod(0o700)
    assert [Path(each).name for each in found] == [".hidden.py", "zero.py", "one.py"]
    assert "left out" in caplog.text


def test_a_walk_is_stopped_when_nobody_wants_more(engine: Options, notes: Notes, tree: Path) -> None:
    graph = Graph()
    graph.walk = WalkDirectory
    graph.walk.root < tree
    graph.first = Take
    graph.first.n < 1
    graph.walk.out >> graph.first.inp
    keep(graph, graph.first.out, notes)
    before = threading.active_count()
    graph.run(**engine)
    assert notes.read() == [str(tree / ".hidden.py")]
    assert threading.active_count() == before


# --- ReadLines --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"one", ["one"]),
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\r\n\r\ntwo\rthree", ["one", "", "two", "three"]),
        (b"\xef\xbb\xbfmarked\n", ["marked"]),
        ("grün\n".encode(), ["grün"]),
        (b"x" * 100_000 + b"\ny\n", ["x" * 100_000, "y"]),
    ],
    ids=["empty", "no end", "ends", "all kinds of ends", "marked", "not ASCII", "long"],
)
def test_lines_come_without_their_ends(
    engine: Options, notes: Notes, tmp_path: Path, data: bytes, lines: list[str]
) -> None:
    reading(ReadLines, file(tmp_path, data), notes).run(**engine)
    assert notes.read() == lines


def test_the_lines_of_many_files_come_one_file_after_the_other(engine: Options, notes: Notes, tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number:02}.txt").write_text("".join(f"{number}.{line}\n" for line in range(number)))
    graph = Graph()
    graph.walk = WalkDirectory
    graph.walk.root < str(tmp_path)
    graph.walk.pattern < "*.txt"
    graph.read = ReadLines
    graph.walk.out >> graph.read.path
    keep(graph, graph.read.out, notes)
    graph.run(**engine)
    assert notes.read() == [f"{number}.{line}" for number in range(20) for line in range(number)]


def test_bytes_that_are_no_text_are_an_error_that_says_where(engine: Options, notes: Notes, tmp_path: Path) -> None:
    path = file(tmp_path, b"fine\n" * 3 + b"\xff\n")
    with pytest.raises(ComponentError) as raised:
        reading(ReadLines, path, notes).run(**engine)
    for part in (f"{path}, line ", "or soon after it", "can't decode byte 0xff", "`undecodable`"):
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("undecodable", "line"), [("replace", "a\ufffdb"), ("ignore", "ab"), ("backslashreplace", "a\\xffb")]
)
def test_bytes_that_are_no_text_can_be_replaced(tmp_path: Path, undecodable: str, line: str) -> None:
    assert ReadLines.test(path=file(tmp_path, b"a\xffb"), undecodable=undecodable) == {"out": [line]}


def test_another_encoding(tmp_path: Path) -> None:
    path = file(tmp_path, "grün".encode("latin-1"))
    assert ReadLines.test(path=path, encoding="latin-1") == {"out": ["grün"]}


@pytest.mark.parametrize("component", [ReadLines, ReadJsonLines, ReadCsv])
def test_a_file_that_is_not_there_or_an_unknown_word_is_an_error(tmp_path: Path, component: Any) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        component.test(path=tmp_path / "nowhere")
    with pytest.raises(LookupError, match="unknown encoding: klingon"):
        component.test(path=file(tmp_path, b""), encoding="klingon")
    with pytest.raises(LookupError, match="unknown error handler name 'shrug'"):
        component.test(path=file(tmp_path, b""), undecodable="shrug")


def test_files_that_cannot_be_read_can_be_skipped(engine: Options, notes: Notes, tmp_path: Path) -> None:
    good = file(tmp_path, b"good\n")
    graph = Graph()
    graph.paths = Each
    graph.paths.items < [str(tmp_path / "nowhere"), str(good)]
    graph.read = ReadLines
    graph.paths.item >> graph.read.path
    keep(graph, graph.read.out, notes)
    report = graph.run(**engine, on_error="skip")
    assert notes.read() == ["good"]
    assert report.nodes["read"].failed == 1


# --- ReadJsonLines ----------------------------------------------------------------------------------


def test_a_value_for_each_line(engine: Options, notes: Notes, tmp_path: Path) -> None:
    path = file(tmp_path, b'\xef\xbb\xbf{"a": [1, 2.5]}\n\n  \nnull\r\n"text"\n12')
    reading(ReadJsonLines, path, notes).run(**engine)
    assert notes.read() == [{"a": [1, 2.5]}, None, "text", 12]


@pytest.mark.parametrize("line", [b"{", b"{} {}", b"'a'", b"[" * 200_000], ids=["open", "two", "quotes", "deep"])
def test_a_malformed_line_is_named_or_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture, line: bytes) -> None:
    path = file(tmp_path, b"1\n\n" + line + b"\n2\n")
    with pytest.raises(ValueError, match=rf'{path}, line 3: no JSON: .*`malformed < "skip"`'):
        ReadJsonLines.test(path=path)
    with caplog.at_level(logging.WARNING, "cascata"):
        assert ReadJsonLines.test(path=path, malformed="skip") == {"out": [1, 2]}
    assert f"skipped: {path}, line 3: no JSON" in caplog.text


@pytest.mark.parametrize("component", [ReadJsonLines, ReadCsv])
def test_what_becomes_of_malformed_lines_is_one_of_two_words(tmp_path: Path, component: Any) -> None:
    with pytest.raises(ValueError, match="'malformed' must be \"raise\" or \"skip\", not 'ignore'"):
        component.test(path=file(tmp_path, b""), malformed="ignore")


# --- ReadCsv ----------------------------------------------------------------------------------------


def test_rows_are_dicts_of_texts(engine: Options, notes: Notes, tmp_path: Path) -> None:
    path = file(tmp_path, b'\xef\xbb\xbf\nname,price\r\nsalt,"1,50"\r\n\r\n"two\nlines",2\r\n')
    reading(ReadCsv, path, notes).run(**engine)
    assert notes.read() == [{"name": "salt", "price": "1,50"}, {"name": "two\nlines", "price": "2"}]


def test_another_delimiter_and_columns_that_the_file_does_not_name(tmp_path: Path) -> None:
    path = file(tmp_path, b"1;2\n3;4\n")
    assert ReadCsv.test(path=path, delimiter=";", columns=["a", "b"]) == {
        "out": [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    }
    assert ReadCsv.test(path=path, delimiter=";") == {"out": [{"1": "3", "2": "4"}]}
    with pytest.raises(TypeError, match="delimiter"):
        ReadCsv.test(path=path, delimiter="::")


@pytest.mark.parametrize(("row", "cells"), [(b"1", 1), (b"1,2,3", 3)])
def test_a_row_of_another_length_is_named_or_skipped(tmp_path: Path, row: bytes, cells: int) -> None:
    path = file(tmp_path, b"a,b\n0,0\n" + row + b"\n9,9\n")
    with pytest.raises(ValueError, match=rf"{path}, line 3: {cells} cells for 2 columns"):
        ReadCsv.test(path=path)
    assert ReadCsv.test(path=path, malformed="skip") == {"out": [{"a": "0", "b": "0"}, {"a": "9", "b": "9"}]}


def test_a_column_that_is_there_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"several columns are named 'a', 'b'.*`columns`"):
        ReadCsv.test(path=file(tmp_path, b"b,a,b,a,c\n1,2,3,4,5\n"))


@pytest.mark.parametrize("data", [b"", b"a,b\n"], ids=["empty", "names only"])
def test_a_table_without_rows_sends_nothing(tmp_path: Path, data: bytes) -> None:
    assert ReadCsv.test(path=file(tmp_path, data)) == {"out": []}


def test_a_cell_that_is_too_long_says_where_it_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line 2: field larger than field limit"):
        ReadCsv.test(path=file(tmp_path, b"a\n" + b"x" * 200_000 + b"\n"))


def test_a_table_with_bytes_that_are_no_text_says_where_they_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"or soon after it: .*`undecodable`"):
        ReadCsv.test(path=file(tmp_path, b"a\n\xff\n"))


# --- WriteJsonLines ---------------------------------------------------------------------------------


def test_what_is_written_is_read_again(engine: Options, notes: Notes, tmp_path: Path) -> None:
    items = [1, "grün", {"a": [None, True]}, "line\nend", "half \ud800"]
    path = tmp_path / "out.jsonl"
    sent, report = through(WriteJsonLines, items, notes, engine, path=path)
    assert sent == [5]
    assert report.nodes["node"].received == 5
    text = path.read_text("utf-8")
    assert text.count("\n") == 5
    assert "grün" in text
    assert ReadJsonLines.test(path=path) == {"out": items}


def test_a_file_is_replaced_or_continued(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    for constants, lines in (({}, [1]), ({}, [2]), ({"append": True}, [2, 3])):
        assert WriteJsonLines.test(inp=lines[-1:], path=path, **constants) == {"out": [1]}
        assert ReadJsonLines.test(path=path) == {"out": lines}


def test_nothing_to_write_makes_an_empty_file(engine: Options, notes: Notes, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    assert through(WriteJsonLines, [], notes, engine, path=path)[0] == [0]
    assert path.read_bytes() == b""


def test_what_json_does_not_know_is_an_error_or_made_known(engine: Options, notes: Notes, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with pytest.raises(ComponentError, match="Point is not JSON serializable"):
        around(WriteJsonLines, [1, Point(1, 2)], notes, path=path).run(**engine)
    assert path.read_text() == "1\n"
    through(WriteJsonLines, [Point(1, 2)], notes, engine, path=path, default=dataclasses.asdict)
    assert json.loads(path.read_text()) == {"x": 1, "y": 2}


def test_a_line_is_in_the_file_as_soon_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    seen: list[str] = []

    def looking() -> Any:
        for number in range(3):
            yield number
            seen.append(path.read_text())

    WriteJsonLines.test(inp=looking(), path=path)
    assert seen == ["0\n", "0\n1\n", "0\n1\n2\n"]


def test_a_file_that_cannot_be_written_is_an_error(notes: Notes, tmp_path: Path) -> None:
    with pytest.raises(ComponentError, match="nowhere"):
        around(WriteJsonLines, [1], notes, path=tmp_path / "nowhere" / "out.jsonl").run(engine="inline")


def test_files_go_through_a_graph(engine: Options, notes: Notes, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(f'{{"n": {number}}}\n' for number in range(1000)))
    graph = Graph()
    graph.read = ReadJsonLines
    graph.read.path < source
    graph.odd = Filter
    graph.odd.fn < (lambda record: record["n"] % 2)
    graph.save = WriteJsonLines
    graph.save.path < target
    graph.read.out >> graph.odd.inp
    graph.odd.out >> graph.save.inp
    keep(graph, graph.save.out, notes)
    graph.run(**engine)
    assert notes.read() == [500]
    assert [record["n"] for record in ReadJsonLines.test(path=target)["out"]] == [*range(1, 1000, 2)]
