"""Whatever is killed or stopped, and whenever: no hang, nothing left, no wrong ledger. A share of `random_kills`."""

from __future__ import annotations

import os
from typing import Final

import pytest

from tests.fault import random_kills

KILLS: Final = int(os.environ.get("CASCATA_KILLS", "6"))
SEED: Final = int(os.environ.get("CASCATA_KILLS_SEED", "1"))


@pytest.mark.timeout(0 if "CASCATA_KILLS" in os.environ else 240)
def test_random_kills_and_stops_leave_no_hang_no_leftover_and_no_wrong_ledger() -> None:
    tally = random_kills.campaign(KILLS, SEED, lanes=2)
    assert tally.problems == {}, f"seed {SEED}"
    assert tally.count >= KILLS
