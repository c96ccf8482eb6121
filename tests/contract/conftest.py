"""Which kinds of channels a test is for."""

from __future__ import annotations

from typing import Final

import pytest

from tests.contract.kinds import KINDS, Kind
from tests.coroutines import pytest_pyfunc_call

__all__ = ["pytest_pyfunc_call"]

SLOW: Final = ("forkserver", "spawn")
"""How a process was started makes no difference to a channel that it has: these show the core of the contract."""

QUICK: Final = {name: kind for name, kind in KINDS.items() if not name.endswith(SLOW) and "multiprocessing" not in name}


def kinds(chosen: dict[str, Kind]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("kind", chosen.values(), ids=chosen)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `kind` runs for all kinds; `quick_kind`, `edge_kind`, ... for some."""
    choices = {
        "kind": KINDS,
        "far_kind": {name: kind for name, kind in KINDS.items() if name not in QUICK},
        "quick_kind": QUICK,
        "edge_kind": {name: kind for name, kind in QUICK.items() if not name.startswith("public")},
        "public_kind": {name: kind for name, kind in QUICK.items() if name.startswith("public")},
        "cancelling_kind": {name: kind for name, kind in QUICK.items() if kind.cancels},
        "crossing_kind": {name: kind for name, kind in QUICK.items() if kind.crosses},
        "inner_kind": {name: kind for name, kind in QUICK.items() if not kind.crosses},
    }
    for name, chosen in choices.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, chosen.values(), ids=chosen)
