"""A part of what all engines promise, once more on the portable transport.

Everything runs on it by `CASCATA_TRANSPORT=portable python -m pytest tests/engine tests/language tests/live`, which
takes its time: there each worker is a new interpreter.
"""

from __future__ import annotations

from typing import Any

import pytest

from cascata.engine.local import run as local_run
from tests.engine.test_groups import *  # noqa: F403  # its tests are collected here, too, and get this module's engine
from tests.engine.test_sending import *  # noqa: F403
from tests.engine.test_serialization_errors import *  # noqa: F403
from tests.engine.test_worker_death import *  # noqa: F403
from tests.language.test_broadcast import *  # type: ignore[assignment]  # noqa: F403  # helpers of one name
from tests.language.test_cycles import *  # noqa: F403
from tests.live.test_open import *  # noqa: F403

del test_it_is_named_under_every_start_method, test_other_start_methods_name_it_alike  # noqa: F821  # each takes long


@pytest.fixture(autouse=True)
def on_portable(monkeypatch: pytest.MonkeyPatch) -> None:
    """With workers from the fork server: what they do is the same however they were started."""
    monkeypatch.setenv("CASCATA_TRANSPORT", "portable")
    monkeypatch.setattr(local_run, "start_method_of", lambda _: "forkserver")


@pytest.fixture
def engine() -> dict[str, Any]:
    return {"num_workers": 2}


@pytest.fixture
def workers(engine: dict[str, Any]) -> dict[str, Any]:
    return engine
