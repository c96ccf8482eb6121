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

TOLD_BY_THE_SYSTEM = ("a_killed_worker",)
"""Names the signal, which nobody tells on another machine: `test_failures_on_ray` has these."""

# Between the names of tests: what is chosen; `but`: what allows seconds in which an actor does not even start.
for tests in (
    borrowed(test_accounts, "counts_balance"),
    borrowed(test_call_options),
    borrowed(
        test_component_errors,
        "the_cause_is_the_original",
        "an_error_that_cannot_travel",
        but=("whatever_a_runner_raises", "what_fails_while_it_is_cancelled"),
    ),
    borrowed(test_debug),
    borrowed(test_ending),
    borrowed(test_failures, "what_was_in_hand"),
    borrowed(test_groups),
    borrowed(test_identity),
    borrowed(test_ledger),
    borrowed(test_runner_forms),
    borrowed(test_running, but=("a_timeout_",)),
    borrowed(test_sending),
    borrowed(test_serialization_errors, "lambdas_and"),
    borrowed(
        test_state, "state_is_torn_down_when_another_node_fails", but=("state_is_torn_down_when_the_run_times_out",)
    ),
    borrowed(test_streams),
    borrowed(test_triggers),
    borrowed(test_batches, "members_of_a_group_fill_one_batch"),
    borrowed(test_broadcast, "every_member_gets"),
    borrowed(test_copies),
    borrowed(test_cycles, "fibonacci"),
    borrowed(test_no_longer_moving, "the_smallest_of_the_full_ports"),
    borrowed(test_ordered, "order_is_kept_when_items_cost_work"),
    borrowed(test_subgraphs),
    borrowed(test_zipped_groups),
    borrowed(test_call, "one_that_fails", but=TOLD_BY_THE_SYSTEM),
    borrowed(test_open, "leaving_by_an_exception", but=TOLD_BY_THE_SYSTEM),
    borrowed(test_stream, "sources_are_named", but=TOLD_BY_THE_SYSTEM),
    borrowed(test_dag, "the_dag_of_the_contract", "members_of_a_node"),
    borrowed(test_streaming, "a_task_that_raises"),
):
    globals().update(tests)
