"""What users see on every engine, on Ray: tests of other rooms. `CASCATA_RAY=all` runs all of them."""

from __future__ import annotations

from tests.engine import (
    test_accounts,
    test_call_options,
    test_component_errors,
    test_debug,
    test_ending,
    test_failures,
    test_groups,
    test_identity,
    test_ledger,
    test_runner_forms,
    test_running,
    test_sending,
    test_serialization_errors,
    test_state,
    test_streams,
    test_triggers,
)
from tests.language import (
    test_batches,
    test_broadcast,
    test_copies,
    test_cycles,
    test_no_longer_moving,
    test_ordered,
    test_subgraphs,
    test_zipped_groups,
)
from tests.live import test_call, test_open, test_stream
from tests.on_ray.borrowed import ON_RAY, borrowed
from tests.workflow import test_dag, test_streaming

pytestmark = ON_RAY

globals().update(borrowed(test_accounts))
globals().update(borrowed(test_call_options))
globals().update(borrowed(test_component_errors))
globals().update(borrowed(test_debug))
globals().update(borrowed(test_ending))
globals().update(borrowed(test_failures))
globals().update(borrowed(test_groups))
globals().update(borrowed(test_identity))
globals().update(borrowed(test_ledger))
globals().update(borrowed(test_runner_forms))
globals().update(borrowed(test_running))
globals().update(borrowed(test_sending))
globals().update(borrowed(test_serialization_errors))
globals().update(borrowed(test_state))
globals().update(borrowed(test_streams))
globals().update(borrowed(test_triggers))
globals().update(borrowed(test_batches))
globals().update(borrowed(test_broadcast))
globals().update(borrowed(test_copies))
globals().update(borrowed(test_cycles))
globals().update(borrowed(test_no_longer_moving))
globals().update(borrowed(test_ordered))
globals().update(borrowed(test_subgraphs))
globals().update(borrowed(test_zipped_groups))
globals().update(borrowed(test_call))
globals().update(borrowed(test_open))
globals().update(borrowed(test_stream))
globals().update(borrowed(test_dag))
globals().update(borrowed(test_streaming))
