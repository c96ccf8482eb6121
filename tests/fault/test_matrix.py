"""What can go wrong, when and where: exactly one error each, as the crash matrix says it (see matrix.py)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.fault.matrix import Cell, cells, covering, run, table

CHOSEN = cells() if os.environ.get("CASCATA_MATRIX_ALL") else covering()


@pytest.mark.parametrize("cell", CHOSEN, ids=str)
def test_a_fault_ends_in_exactly_one_error_that_names_it(cell: Cell, tmp_path: Path) -> None:
    assert run(cell, tmp_path) == []


def test_the_page_shows_the_matrix() -> None:
    assert table() in (ROOT / "docs" / "crashes.md").read_text("utf-8")


def test_the_cells_that_are_run_have_every_two_things_together() -> None:
    def pairs(some: list[Cell]) -> set[tuple[str, str]]:
        return {
            pair
            for cell in some
            for pair in ((cell.fault, cell.moment), (cell.moment, cell.place), (cell.fault, cell.place))
        }

    assert pairs(covering()) == pairs(cells())
    assert len(covering()) < len(cells()) / 3
