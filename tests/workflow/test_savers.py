"""Savers: three ways to save, files that others read, and what a kill leaves."""

from __future__ import annotations

import builtins
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cascata.errors import CascataError, DefinitionError
from cascata.workflow import NumpySaver, Progress, ResultsCollector
from tests.workflow.saving import KINDS, Kind

np = pytest.importorskip("numpy", reason="numpy is not installed")


def test_append_puts_rows_behind_those_that_are_there_also_for_another_saver(kind: Kind, path: Path) -> None:
    kind.make(path).save([[1, 2]], last_index=0)
    saver = kind.make(path)
    saver.save([[3, 4], [5, 6]], last_index=1)
    assert kind.read(path).tolist() == saver.load().tolist() == [[1, 2], [3, 4], [5, 6]]
    assert saver.progress == Progress(3, 1)


def test_overwrite_replaces_everything(kind: Kind, path: Path) -> None:
    saver = kind.make(path, approach="overwrite")
    saves: list[list[Any]] = [[1, 2, 3], [[0.5, 0.5]], [[0.25, 0.5]]]
    for index, rows in enumerate(saves):
        saver.save(rows, last_index=index, state={"at": index})
        assert kind.read(path).tolist() == rows
        assert saver.progress == Progress(len(rows), index, {"at": index})


def test_update_replaces_rows_that_are_there(kind: Kind, path: Path) -> None:
    kind.make(path).save(np.zeros((6, 2)), last_index=4)
    saver = kind.make(path, approach="update")
    saver.save([[1, 1], [2, 2]], slice(1, 3))
    saver.save([[3, 3]], [5])
    assert kind.read(path)[:, 0].tolist() == [0, 1, 2, 0, 0, 3]
    assert saver.progress == Progress(6, 4)
    with pytest.raises(CascataError, match="there"):
        saver.save([[1, 1]], [6])
    with pytest.raises(DefinitionError, match="indices="):
        saver.save([[1, 1]])


def test_nothing_can_be_loaded_or_updated_before_the_first_save(kind: Kind, path: Path) -> None:
    saver = kind.make(path, approach="update")
    assert saver.progress == Progress()
    with pytest.raises(CascataError, match="nothing at"):
        saver.load()
    with pytest.raises(CascataError, match="nothing at"):
        saver.save([1], [0])


@pytest.mark.parametrize(
    ("rows", "says"), [([[1, 2, 3]], "shape"), ([[1j, 2j]], "complex"), ([[1], [1, 2]], "numbers")]
)
def test_rows_that_do_not_fit_are_refused_and_change_nothing(kind: Kind, path: Path, rows: Any, says: str) -> None:
    saver = kind.make(path)
    saver.save([[1.0, 2.0]], last_index=0)
    with pytest.raises(CascataError, match=says):
        saver.save(rows)
    assert kind.read(path).tolist() == [[1, 2]]
    assert saver.progress == Progress(1, 0)


def test_an_unknown_approach_is_refused_with_the_nearest_one(kind: Kind, path: Path) -> None:
    with pytest.raises(DefinitionError, match="Did you mean 'append'"):
        kind.make(path, approach="appendd")


def test_a_file_of_numpys_own_grows(path: Path) -> None:
    np.save(path.with_suffix(".npy"), np.asfortranarray(np.ones((2, 3))))
    saver = NumpySaver(path.with_suffix(".npy"))
    saver.save(np.zeros((1, 3)))
    saver.save(np.zeros((1, 3)))
    assert np.load(path.with_suffix(".npy"))[:, 0].tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("name", [*KINDS])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    name: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = KINDS[name].packages[-1]
    real = builtins.__import__

    def missing(wanted: str, *args: Any, **kwargs: Any) -> Any:
        if wanted.partition(".")[0] == package:
            raise ImportError(wanted)
        return real(wanted, *args, **kwargs)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(CascataError, match=rf"needs the package '{package}'.*pip install 'cascata\[{name}\]'"):
        KINDS[name].make(path)


# --- kills ------------------------------------------------------------------------------------------

ENDLESS = """
import sys
from itertools import count
from cascata.workflow import *

saver = {kind}(sys.argv[1], approach="append")
handler = ResultsCollector(saver, resume=True)
print(handler.next_index, flush=True)
for index in count(handler.next_index):
    handler.add([[index, index * 10], [index, index * 10]])
    print(index, flush=True)
"""


def killed_after(script: str, path: Path, lines: int) -> list[int]:
    """What the script had printed when it was killed, behind the first lines."""
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(lines):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        return [int(line) for line in child.stdout.read().split()]


def test_a_killed_program_leaves_a_readable_file_and_the_next_one_goes_on_behind_its_last_batch(
    kind: Kind, path: Path
) -> None:
    script = ENDLESS.format(kind=kind.make.__name__)
    for _ in range(2):
        killed_after(script, path, 20)
        found = kind.read(path)
        assert len(found) >= 38
        assert found[:, 0].tolist() == [number // 2 for number in range(len(found))]
    saver = kind.make(path)
    handler = ResultsCollector(saver, resume=True)
    last = handler.next_index
    assert last >= 38
    handler.add([[last, last * 10], [last, last * 10]])
    found = kind.read(path)
    assert found[:, 0].tolist() == [number // 2 for number in range(2 * last + 2)]
    assert found[:, 1].tolist() == [number // 2 * 10 for number in range(2 * last + 2)]
