"""Nodes that read and write files. They do so in a thread of their worker, so that a slow disk stops nobody else."""

from __future__ import annotations

import codecs
import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TextIO

from .. import log
from ..dsl import In, Out, Stream, component

__all__ = ["ReadCsv", "ReadJsonLines", "ReadLines", "WalkDirectory", "WriteJsonLines"]


@component(thread=True)
def WalkDirectory(root: In[str | os.PathLike[str]], out: Out[str], pattern: In[str] = "*") -> Iterator[str]:
    """Sends the path of every file under a folder, as a text that begins with the folder.

        graph.sources = WalkDirectory
        graph.sources.root < "src"
        graph.sources.pattern < "*.py"

    Files come folder by folder, in the order of their names. Links to folders are not followed. A folder inside that
    cannot be read is logged, and left out.

    Args:
        root: the folder, or a stream of folders.
        pattern: which the name of a file must match: `*`, `?` and `[a-z]` as in a shell.
        out: the paths.

    Raises:
        OSError: the root is no folder, or cannot be read.
    """
    os.scandir(
        root
    ).close()  # raises what is wrong with the root itself, which `os.walk` would take for an empty folder
    for folder, folders, names in os.walk(root, onerror=lambda error: log.warning("left out: %s", error)):
        folders.sort()
        for name in sorted(names):
            if fnmatch(name, pattern):
                yield os.path.join(folder, name)  # noqa: PTH118  # a text, which is what travels


@component(thread=True)
def ReadLines(
    path: In[str | os.PathLike[str]], out: Out[str], encoding: In[str] = "utf-8-sig", undecodable: In[str] = "strict"
) -> Iterator[str]:
    r"""Sends the lines of a file, without their ends.

        graph.lines = ReadLines
        graph.lines.path < "access.log"
        graph.lines.undecodable < "replace"

    Args:
        path: of the file, or a stream of paths.
        encoding: of the text. The default is UTF-8, with or without a mark at its beginning.
        undecodable: what becomes of bytes that are no text: "strict" raises; "replace", "backslashreplace", "ignore"
            and "surrogateescape" put something in their place, as Python's error handlers of these names do.
        out: the lines. They end at `\n`, `\r\n` or `\r`.

    Raises:
        OSError: the file cannot be read.
        ValueError: it cannot be decoded; the text names the file and the line.
        LookupError: there is no such encoding or error handler.
    """
    for _, line in _numbered_lines(path, encoding, undecodable):
        yield line


@component(thread=True)
def ReadJsonLines(
    path: In[str | os.PathLike[str]],
    out: Out[Any],
    encoding: In[str] = "utf-8-sig",
    undecodable: In[str] = "strict",
    malformed: In[str] = "raise",
) -> Iterator[Any]:
    """Sends what the lines of a file say, each of which is one piece of JSON. Empty lines are passed over.

        graph.records = ReadJsonLines
        graph.records.path < "records.jsonl"

    Args:
        path: of the file, or a stream of paths.
        encoding: of the text. The default is UTF-8, with or without a mark at its beginning.
        undecodable: what becomes of bytes that are no text, as with `ReadLines`.
        malformed: what becomes of a line that is no JSON: "raise", or "skip", which logs it and goes on.
        out: a value for each line.

    Raises:
        OSError: the file cannot be read.
        ValueError: it cannot be decoded, or a line is malformed; the text names the file and the line. Or `malformed`
            is neither of the two words.
        LookupError: there is no such encoding or error handler.
    """
    refuse = _refusing(malformed)
    for number, line in _numbered_lines(path, encoding, undecodable):
        if not line or line.isspace():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:  # the latter from brackets in brackets, a thousand deep
            refuse(f"{os.fspath(path)}, line {number}: no JSON: {error}")
        else:
            yield value


@component(thread=True)
def ReadCsv(
    path: In[str | os.PathLike[str]],
    out: Out[dict[str, str]],
    delimiter: In[str] = ",",
    columns: In[Sequence[str] | None] = None,
    encoding: In[str] = "utf-8-sig",
    undecodable: In[str] = "strict",
    malformed: In[str] = "raise",
) -> Iterator[dict[str, str]]:
    """Sends the rows of a table, each as a dict of column to text.

        graph.rows = ReadCsv
        graph.rows.path < "prices.csv"
        graph.rows.delimiter < ";"

    Args:
        path: of the file, or a stream of paths.
        delimiter: one character between two cells.
        columns: names of the columns, for a file whose first row is not their names.
        encoding: of the text. The default is UTF-8, with or without a mark at its beginning.
        undecodable: what becomes of bytes that are no text, as with `ReadLines`.
        malformed: what becomes of a row with more or fewer cells than there are columns: "raise", or "skip", which logs
            it and goes on.
        out: the rows. Empty lines are passed over.

    Raises:
        OSError: the file cannot be read.
        ValueError: it cannot be decoded, a column is there twice, or a row is malformed; the text names the file and
            the line. Or `malformed` is neither of the two words.
        TypeError: the delimiter is not one character.
        LookupError: there is no such encoding or error handler.
    """
    refuse = _refusing(malformed)
    name = os.fspath(path)
    names = None if columns is None else list(columns)
    with _opened(path, encoding, undecodable, newline="") as file:
        rows = csv.reader(file, delimiter=delimiter)
        try:
            for row in rows:
                if not row:
                    continue
                if names is None:
                    names = row
                    _check_names(name, names)
                elif len(row) == len(names):
                    yield dict(zip(names, row, strict=True))
                else:
                    refuse(f"{name}, line {rows.line_num}: {len(row)} cells for {len(names)} columns")
        except UnicodeDecodeError as error:
            raise _undecodable(error, name, rows.line_num + 1) from error
        except csv.Error as error:
            raise ValueError(f"{name}, line {rows.line_num}: {error}") from error


@component(thread=True, keeps=True)
def WriteJsonLines(
    inp: Stream[Any],
    path: In[str | os.PathLike[str]],
    out: Out[int],
    append: In[bool] = False,
    default: In[Callable[[Any], Any] | None] = None,
) -> int:
    """Writes each item as a line of JSON, in UTF-8.

        graph.save = WriteJsonLines
        graph.save.path < "found.jsonl"
        graph.save.default < dataclasses.asdict

    A line is in the file as soon as it is written. When the run fails, the lines before are there. Two nodes, or
    members of a group, must not write the same file.

    Args:
        inp: the items.
        path: of the file, which is made if it is not there.
        append: whether the lines follow what is in the file, or replace it.
        default: makes something that JSON knows of what it does not, as for `json.dumps`.
        out: at the end, how many lines were written.

    Raises:
        OSError: the file cannot be written.
        TypeError: an item is nothing that JSON knows.
        ValueError: an item contains itself.
    """
    written = 0
    with Path(path).open("a" if append else "w", encoding="utf-8", buffering=1) as file:
        for item in inp:
            try:
                file.write(json.dumps(item, ensure_ascii=False, default=default) + "\n")
            except UnicodeEncodeError:  # half a character, which UTF-8 cannot say, and JSON's own escapes can
                file.write(json.dumps(item, default=default) + "\n")
            written += 1
    return written


def _opened(path: str | os.PathLike[str], encoding: str, undecodable: str, newline: str | None = None) -> TextIO:
    codecs.lookup_error(undecodable)  # else it would be looked up when the first byte is wrong
    return Path(path).open(encoding=encoding, errors=undecodable, newline=newline)


def _numbered_lines(path: str | os.PathLike[str], encoding: str, undecodable: str) -> Iterator[tuple[int, str]]:
    read = 0
    with _opened(path, encoding, undecodable) as file:
        try:
            for line in file:
                read += 1
                yield read, line.removesuffix("\n")
        except UnicodeDecodeError as error:
            raise _undecodable(error, os.fspath(path), read + 1) from error


def _undecodable(error: UnicodeDecodeError, name: str, line: int) -> ValueError:
    return ValueError(
        f"{name}, line {line} or soon after it: {error}. Name another `encoding`, or put something in place of such "
        'bytes with `undecodable`, "replace" for example'
    )


def _check_names(name: str, columns: Sequence[str]) -> None:
    twice = sorted({each for each in columns if columns.count(each) > 1})
    if twice:
        raise ValueError(
            f"{name}: several columns are named {', '.join(map(repr, twice))}, and a row can keep one of each name. "
            "Take the first row out, and name them with `columns`"
        )


def _refusing(malformed: str) -> Callable[[str], None]:
    """What is done with the text about a malformed piece of a file."""

    def refuse(text: str) -> None:
        raise ValueError(f'{text}. `malformed < "skip"` leaves such lines out')

    def skip(text: str) -> None:
        log.warning("skipped: %s", text)

    found = {"raise": refuse, "skip": skip}.get(malformed)
    if found is None:
        raise ValueError(f'\'malformed\' must be "raise" or "skip", not {malformed!r}')
    return found
