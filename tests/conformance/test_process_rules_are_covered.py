"""Which checks and tests hold which rule of the process registry, so that none of them goes unnoticed.

`row` is a line of the feature checklist, P1 to P28 the rules of the registry, X a known trap. A plain name is a check
of the conformance suite, which runs on every store; with a file it is a test.
"""

from __future__ import annotations

import ast

import pytest

from sightline.testing.conformance import STORE_CHECKS
from tests.repo.source import ROOT, parsed

AGREEMENT = "tests/conformance/test_process_agreement.py"
AWAITING = "tests/core/process/test_awaiting.py"
KERNEL = "tests/core/kernel/test_processes.py"
DESK = "tests/core/kernel/test_process_desk.py"
LEASING = "tests/core/process/test_leasing.py"
REGISTRATION = "tests/core/process/test_registration.py"
RULES = "tests/core/process/test_rules.py"
RUNNER = "tests/core/process/test_runner.py"
SCHEMAS = "tests/core/process/test_schemas.py"
SEMANTICS = "tests/core/process/test_semantics.py"
SQLITE = "tests/core/stores/test_sqlite_processes.py"
WAKING = "tests/core/process/test_waking.py"
WORKER = "tests/core/process/test_worker.py"

COVERED: dict[str, tuple[str, ...]] = {
    # The checklist
    "row 79": (
        f"{RUNNER}::test_it_looks_at_the_start_and_at_the_first_tick_which_is_at_once",
        f"{RUNNER}::test_a_poke_is_a_look_at_once",
        f"{RUNNER}::test_it_polls_at_every_interval",
        f"{RUNNER}::test_a_late_poll_delays_those_after_it",
    ),
    "row 80": (
        f"{RUNNER}::test_many_pokes_before_a_look_are_one",
        f"{RUNNER}::test_ten_pokes_during_a_look_are_one_look_afterwards",
    ),
    "row 81": (f"{RUNNER}::test_a_look_that_fails_is_logged_and_the_next_one_comes",),
    "row 82": (f"{RUNNER}::test_an_inline_runner_runs_what_was_there_and_what_its_driver_registers",),
    "row 83": (
        "the_same_registration_finds_the_process_it_made",
        "the_same_registration_finds_a_process_that_has_ended",
        "an_id_that_comes_with_other_content_is_refused",
    ),
    "row 84": (
        "every_process_has_the_core_types_behind_its_own",
        f"{REGISTRATION}::test_the_core_types_are_added_behind_the_declared_ones",
        f"{REGISTRATION}::test_a_core_type_that_is_declared_stays_as_declared",
    ),
    "row 85": (
        "an_undeclared_type_is_refused",
        "a_payload_that_its_type_does_not_allow_is_refused_with_the_place",
        "a_payload_that_is_too_large_or_no_json_is_refused",
        "ends_and_cancels_need_a_key",
        "a_replay_finds_the_event_and_writes_nothing",
        "a_replay_key_with_other_content_is_refused",
        "a_process_ends_once",
        f"{SCHEMAS}::test_the_error_points_at_the_value_that_is_wrong",
        f"{SCHEMAS}::test_schemas_mean_what_the_standard_says",
    ),
    "row 86": (
        "events_are_numbered_from_one_and_read_in_order",
        "events_that_come_at_once_get_numbers_without_holes",
        "each_process_counts_its_own_events",
    ),
    "row 87": (
        f"{SEMANTICS}::test_a_pointer_finds_what_is_there",
        f"{SEMANTICS}::test_a_pointer_that_finds_nothing_is_an_error_and_nothing_present",
        f"{SEMANTICS}::test_the_whole_and_constants_are_taken_as_they_are",
        f"{SEMANTICS}::test_a_template_is_filled_in_once",
        f"{SEMANTICS}::test_every_number_is_something",
        f"{SEMANTICS}::test_what_is_empty_is_nothing",
    ),
    "row 88": (
        "a_wake_is_put_out_with_the_event_that_asked_for_it",
        "a_replay_asks_for_the_identical_wake",
        f"{SEMANTICS}::test_the_id_of_a_wake_is_the_same_for_the_same_wish_only",
        f"{SEMANTICS}::test_the_id_of_a_wake_is_the_same_in_every_release",
    ),
    "row 89": (
        "wakes_are_put_out_in_order_and_read_in_pages",
        "an_end_may_wake_and_the_refused_one_does_not",
        f"{SQLITE}::test_a_wake_whose_server_died_behind_the_event_is_in_the_outbox_once",
        "a_wake_is_delivered_once_and_for_good",
        "a_wake_of_a_session_that_is_not_there_is_discarded",
        f"{WAKING}::test_what_was_there_at_the_start_is_delivered_in_order_over_all_pages",
        f"{WAKING}::test_a_wake_that_fails_is_tried_again_and_keeps_its_place",
        f"{KERNEL}::test_a_process_wakes_its_session_and_the_turn_shows_its_cause",
    ),
    "row 90": (
        f"{AWAITING}::test_an_end_between_the_look_and_the_wait_is_not_missed",
        f"{AWAITING}::test_an_end_that_nobody_told_of_is_found_within_a_second",
    ),
    "row 91": ("a_signal_is_heard_once_and_only_from_those_who_see_the_process",),
    "row 92": (
        "a_request_to_cancel_is_logged_and_the_process_goes_on",
        "a_request_to_cancel_what_has_ended_is_nothing",
        "a_cancel_before_the_first_run_waits_for_it",
        f"{WORKER}::test_a_cancel_before_the_run_ends_the_process_without_one",
    ),
    "row 93": (
        "who_is_granted_a_process_sees_it_as_it_stands",
        "a_grant_that_is_made_again_names_the_process_anew",
        "a_grant_is_taken_away_once_and_the_process_goes_on",
        "processes_are_handed_over_with_their_names",
        "processes_are_handed_over_all_or_none",
        "a_process_handed_over_to_where_it_is_stays_there",
    ),
    "row 94": ("what_is_not_kept_is_taken_away_and_cancelled_if_nobody_else_sees_it",),
    "row 95": ("the_end_of_a_session_is_reported", "a_session_that_is_deleted_leaves_no_grants"),
    "row 96": (
        "a_process_lease_says_whose_it_is_and_until_when",
        "while_one_owner_has_a_process_another_is_told_who_and_until_when",
        "a_process_whose_lease_expired_is_taken_over_with_a_larger_fencing",
        "an_owner_that_begins_again_loses_what_it_had_before",
        "a_process_lease_that_is_renewed_is_the_same_with_a_later_expiry",
        "a_process_lease_that_expired_cannot_be_renewed",
        "a_process_lease_is_proved_by_all_its_parts",
        "a_released_process_is_free_at_once_and_its_fencing_goes_on",
        "each_process_has_a_lease_of_its_own",
    ),
    "row 97": (
        "the_end_under_a_lease_ends_the_lease_and_wakes_all_at_once",
        "a_superseded_worker_writes_nothing",
        "a_refused_end_leaves_the_lease_as_it_was",
        f"{WORKER}::test_a_late_end_of_a_superseded_worker_changes_nothing",
    ),
    "row 98": (
        "of_many_workers_at_once_one_gets_the_process",
        f"{WORKER}::test_two_workers_and_one_process_make_one_run",
        f"{SQLITE}::test_two_workers_and_one_process_a_thousand_times",
    ),
    "row 99": (
        "a_process_whose_lease_expired_is_taken_over_with_a_larger_fencing",
        f"{SQLITE}::test_after_a_restart_a_rerunnable_process_is_taken_over_at_once",
        f"{WORKER}::test_a_process_whose_worker_died_is_run_again_by_the_next",
    ),
    "row 100": (f"{WORKER}::test_a_parent_that_awaits_its_child_lets_it_run_with_one_permit",),
    "row 101": (
        f"{WORKER}::test_a_process_that_is_done_elsewhere_is_left_alone",
        "there_is_no_lease_of_what_is_not_there_or_over_or_elsewhere",
        "a_worker_finds_what_nobody_has_in_pages_by_id",
        "an_end_gives_the_process_its_status_and_output",
    ),
    "row 102": (
        "attempts_are_counted_unless_they_are_handed_back",
        f"{WORKER}::test_trouble_leaves_the_process_claimable_and_uncharged",
        f"{WORKER}::test_a_process_of_another_profile_or_of_a_strange_kind_stays_claimable",
    ),
    # Registration
    "P1": ("every_process_has_the_core_types_behind_its_own",),
    "P2": (
        "what_no_registry_should_hold_is_refused",
        f"{REGISTRATION}::test_what_no_registry_should_hold_is_refused",
        f"{SEMANTICS}::test_a_declaration_that_could_not_be_followed_is_refused",
    ),
    "P3": (
        "an_id_that_comes_with_other_content_is_refused",
        "another_cause_does_not_make_another_registration",
        f"{REGISTRATION}::test_a_change_of_anything_its_author_chose_is_another_registration",
        f"{REGISTRATION}::test_two_registrations_are_the_same_when_their_author_chose_the_same",
        f"{REGISTRATION}::test_the_hash_of_a_registration_is_the_same_in_every_release",
    ),
    "P4": (
        "a_process_is_registered_and_granted_at_once_or_not_at_all",
        "a_registration_that_is_repeated_brings_no_grant_back",
        "nothing_is_granted_to_a_session_that_was_deleted",
    ),
    "P5": ("a_process_is_registered_with_all_that_was_said_of_it",),
    # The log
    "P6": (
        "ends_and_cancels_need_a_key",
        "a_request_to_cancel_is_logged_and_the_process_goes_on",
        "a_signal_is_heard_once_and_only_from_those_who_see_the_process",
    ),
    "P7": ("a_process_ends_once", "of_many_ends_at_once_one_counts", "an_end_may_wake_and_the_refused_one_does_not"),
    "P8": ("events_are_numbered_from_one_and_read_in_order",),
    "P9": ("an_end_gives_the_process_its_status_and_output",),
    "P10": (
        "a_wake_is_put_out_with_the_event_that_asked_for_it",
        f"{SQLITE}::test_a_wake_whose_server_died_behind_the_event_is_in_the_outbox_once",
    ),
    "P11": ("a_wake_is_put_out_with_the_event_that_asked_for_it",),
    "P13": (
        f"{AWAITING}::test_what_has_ended_is_told_at_once",
        f"{AWAITING}::test_an_end_between_the_look_and_the_wait_is_not_missed",
        f"{AWAITING}::test_a_process_that_is_not_there_is_not_waited_for",
        f"{AWAITING}::test_who_stops_waiting_leaves_nothing_behind",
    ),
    "P14": (
        "a_signal_is_heard_once_and_only_from_those_who_see_the_process",
        "what_has_ended_hears_no_new_signal",
    ),
    "P15": (
        "a_request_to_cancel_is_logged_and_the_process_goes_on",
        "a_request_to_cancel_what_has_ended_is_nothing",
    ),
    "P16": (
        f"{DESK}::test_everything_of_a_session_is_asked_to_end",
        f"{KERNEL}::test_a_session_cancels_what_it_sees_and_nothing_else",
    ),
    "P17": (
        f"{RULES}::test_of_handles_that_are_named_the_first_that_does_not_show_is_told",
        f"{DESK}::test_what_is_granted_twice_is_still_seen_when_one_grant_ends",
    ),
    # Grants
    "P18": (
        "a_grant_that_is_made_again_names_the_process_anew",
        "nothing_is_granted_of_what_or_to_whom_is_not_there",
        "a_grant_is_taken_away_once_and_the_process_goes_on",
    ),
    "P19": (
        "a_grant_is_of_one_scope_however_its_session_is_called",
        f"{SEMANTICS}::test_two_targets_that_read_alike_are_woken_apart",
    ),
    "P20": (
        "processes_are_handed_over_all_or_none",
        "to_hand_over_nothing_is_nothing",
        f"{DESK}::test_a_process_that_is_handed_over_leaves_one_session_and_comes_to_the_other",
    ),
    "P21": ("who_is_granted_a_process_sees_it_as_it_stands", "how_far_a_process_is_shows_wherever_it_does"),
    "P22": (
        "the_end_of_a_session_is_reported",
        "a_session_that_is_deleted_leaves_no_grants",
        f"{DESK}::test_a_deleted_session_says_what_became_of_its_processes_and_those_end_at_once",
    ),
    "P23": (
        "what_is_not_kept_is_taken_away_and_cancelled_if_nobody_else_sees_it",
        "what_was_asked_to_end_before_is_asked_again_without_a_second_event",
    ),
    "P24": (
        f"{RULES}::test_a_summary_is_a_handle_of_a_process_in_json",
        f"{REGISTRATION}::test_a_handle_tells_what_kind_of_process_it_is_and_its_name",
    ),
    # Leases
    "P26": (
        "a_process_whose_lease_expired_is_taken_over_with_a_larger_fencing",
        "a_released_process_is_free_at_once_and_its_fencing_goes_on",
    ),
    "P27": (
        "an_owner_that_begins_again_loses_what_it_had_before",
        f"{LEASING}::test_of_all_leases_that_were_ever_given_one_at_most_can_write",
    ),
    "P28": ("there_is_no_lease_of_what_is_not_there_or_over_or_elsewhere",),
    "dispositions": (
        "only_who_does_the_work_tells_the_end",
        "an_owner_bound_process_is_not_taken_over",
        "an_owner_bound_process_whose_owner_is_gone_is_abandoned_with_the_evidence",
        "nothing_is_abandoned_without_evidence",
        f"{SQLITE}::test_after_a_restart_an_owner_bound_process_is_abandoned_and_others_are_untouched",
    ),
    # Traps
    "X20": (f"{SQLITE}::test_a_wake_whose_server_died_behind_the_event_is_in_the_outbox_once",),
    "X21": ("there_is_no_lease_of_what_is_not_there_or_over_or_elsewhere",),
    "X22": ("a_worker_finds_what_is_of_its_profile", "attempts_are_counted_unless_they_are_handed_back"),
    "X23": ("the_end_under_a_lease_ends_the_lease_and_wakes_all_at_once",),
    "X24": (
        f"{WORKER}::test_a_parent_that_awaits_its_child_lets_it_run_with_one_permit",
        f"{WORKER}::test_no_more_run_at_one_time_than_there_are_permits_and_all_are_run",
        f"{WORKER}::test_many_live_rows_cost_one_query_for_each_page",
    ),
    "X25": (f"{AWAITING}::test_an_end_between_the_look_and_the_wait_is_not_missed",),
    "X26": ("a_process_lease_that_expired_cannot_be_renewed", "a_process_lease_is_proved_by_all_its_parts"),
    "X27": (
        "a_superseded_worker_writes_nothing",
        "an_owner_bound_process_whose_owner_is_gone_is_abandoned_with_the_evidence",
    ),
    "X28": (
        f"{WORKER}::test_what_an_engine_raises_is_the_failure_of_its_process",
        f"{WORKER}::test_an_output_that_cannot_be_stored_is_a_failure",
        f"{WORKER}::test_trouble_leaves_the_process_claimable_and_uncharged",
        f"{WORKER}::test_a_worker_that_stops_gives_back_what_another_may_run",
    ),
    "X30": ("a_process_handed_over_while_it_runs_ends_where_it_is_then",),
    "X32": (
        f"{SEMANTICS}::test_a_template_is_filled_in_once",
        f"{SEMANTICS}::test_a_template_never_shows_a_value_where_no_place_for_it_was",
        f"{SEMANTICS}::test_every_number_is_something",
    ),
    "X33": ("of_wakes_with_one_key_the_first_is_put_out_for_good",),
    "all of it": (f"{AGREEMENT}::TestSqliteAgreesWithMemoryAboutProcesses",),
}

ROWS = {f"row {row}" for row in range(79, 103)}
"""Those of the registry, its runner and its workers; the others are of background tasks."""
RULES_OF_THE_REGISTRY = {f"P{rule}" for rule in range(1, 29)} - {"P12", "P25"}
"""Without acknowledgements, which an outbox does not need, and without grants that are none."""
TRAPS = {f"X{trap}" for trap in (*range(20, 29), 30, 32, 33)}


def test_every_rule_has_its_place() -> None:
    assert COVERED.keys() >= ROWS | RULES_OF_THE_REGISTRY | TRAPS


@pytest.mark.parametrize("rule", COVERED)
def test_every_check_and_test_that_holds_a_rule_is_there(rule: str) -> None:
    assert COVERED[rule]
    assert [name for name in COVERED[rule] if not is_there(name)] == []


def is_there(name: str) -> bool:
    path, _, test = name.partition("::")
    if not test:
        return any(check.__name__ == name for check in STORE_CHECKS)
    defined = {
        node.name for node in parsed(ROOT / path).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assigned = {
        target.id
        for node in parsed(ROOT / path).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return test in defined | assigned
