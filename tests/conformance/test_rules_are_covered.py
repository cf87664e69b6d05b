"""Which checks and tests hold which rule, so that none of them goes unnoticed.

Rules of the queue are Q1 to Q30, of the commit T8 to T10; `row` is a line of the feature checklist, X a known trap. A
plain name is a check of the conformance suite, which runs on every store; with a file it is a test. A rule of which a
store knows only a part is here and in ELSEWHERE.
"""

from __future__ import annotations

import ast
from typing import get_args, get_type_hints

import pytest

from sightline.queue.model import NothingClaimed
from sightline.testing.conformance import STORE_CHECKS
from tests.repo.source import ROOT, parsed

CHECKPOINTS = "tests/core/turn/test_driver_checkpoints.py"
CLAIMING = "tests/core/queue/test_claiming.py"
COMMANDS = "tests/core/turn/test_driver_commands.py"
COMMIT = "tests/core/turn/test_commit.py"
DRIVER = "tests/core/turn/test_driver.py"
ENDING = "tests/core/queue/test_runner_end.py"
EXITS = "tests/core/turn/test_driver_exits.py"
FAILING = "tests/core/queue/test_runner_failures.py"
FAILURES = "tests/core/turn/test_driver_failures.py"
GATE = "tests/core/queue/test_runner_gate.py"
IDS = "tests/core/test_ids.py"
LEASING = "tests/core/session/test_leasing.py"
MATERIALIZING = "tests/core/queue/test_materializing.py"
MIGRATIONS = "tests/core/stores/test_sqlite_migrations.py"
MODEL = "tests/core/queue/test_model.py"
OPENING = "tests/core/stores/test_sqlite_opening.py"
RESTART = "tests/core/stores/test_sqlite_restart.py"
RULES = "tests/core/queue/test_rules.py"
RUNNER = "tests/core/queue/test_runner.py"
WRITER = "tests/core/stores/test_sqlite_writer.py"

COVERED: dict[str, tuple[str, ...]] = {
    # Enqueue
    "Q1": (
        "the_same_key_brings_the_same_work_once",
        "a_key_is_remembered_while_its_work_is_held_and_after_it_ended",
        "a_replay_finds_the_work_as_it_stands",
    ),
    "Q2": ("a_key_belongs_to_its_session", "the_same_key_in_two_sessions_is_two_keys_also_afterwards"),
    "Q3": (
        "a_key_with_other_content_is_refused",
        "a_key_with_other_content_is_refused_also_when_its_work_has_been_forgotten",
        f"{RULES}::test_two_drafts_have_the_same_fingerprint_exactly_when_their_author_chose_the_same",
        f"{RULES}::test_a_change_of_anything_its_author_chose_is_another_fingerprint",
        f"{RULES}::test_a_fingerprint_is_the_same_in_every_release",
    ),
    "Q4": (
        "a_replay_finds_the_work_as_it_ended_also_when_it_has_been_forgotten",
        "a_replay_of_forgotten_work_brings_nothing_back",
        "a_replay_of_forgotten_work_keeps_the_times_of_the_first",
        "a_key_is_forgotten_only_when_it_is_old_and_its_work_is_gone",
        "a_replay_keeps_a_key_young",
        "a_replay_keeps_a_key_young_also_while_its_work_is_there",
        "the_oldest_keys_are_forgotten_first_and_no_more_than_were_asked_for",
        "a_cancel_by_key_is_answered_also_when_the_work_has_been_forgotten",
        "work_cancelled_before_it_came_stays_cancelled_when_it_has_been_forgotten",
        "the_keys_of_a_session_end_with_it",
        f"{RULES}::test_what_is_left_of_a_batch_and_its_draft_come_again_are_the_batch",
        f"{MIGRATIONS}::test_keys_bring_the_work_they_brought_before",
    ),
    "Q5": (
        "work_that_no_queue_should_hold_is_refused_and_not_stored",
        f"{RULES}::test_a_draft_holds_something_under_a_key_that_says_something",
    ),
    "Q6": (f"{IDS}::test_an_id_is_a_uuid_of_version_seven", f"{IDS}::test_two_processes_do_not_make_the_same_ids"),
    "Q7": (
        "sequences_grow_and_are_never_used_again",
        "fencing_tokens_grow_with_every_claim_and_claim_ids_never_repeat",
        f"{MIGRATIONS}::test_no_sequence_is_used_again_also_where_its_work_is_gone",
    ),
    # Order and eligibility
    "Q8": (
        "work_is_taken_in_order_of_its_sequence",
        "delayed_work_is_available_at_its_time_not_before",
        "held_work_is_taken_by_nobody_else",
        "a_claim_ends_at_its_expiry_not_before",
        f"{CLAIMING}::test_whatever_is_in_the_queue_only_its_eligible_head_decides",
    ),
    "Q9": (
        "at_an_idle_session_either_delivery_starts_a_claim",
        "at_a_checkpoint_only_urgent_work_is_taken_and_a_patient_head_blocks",
        f"{CLAIMING}::test_the_head_is_taken_where_its_delivery_allows",
    ),
    "Q10": (
        "a_delayed_head_does_not_block_what_is_behind_it",
        "at_a_checkpoint_only_urgent_work_is_taken_and_a_patient_head_blocks",
        f"{CLAIMING}::test_a_head_that_is_held_or_delayed_does_not_block",
    ),
    "Q11": ("exclusive_work_is_taken_alone",),
    "Q12": (
        "joining_neighbours_are_taken_together_up_to_the_first_that_differs",
        "joining_stops_at_exclusive_work_and_at_another_delivery",
        "a_claim_is_no_larger_than_its_limit",
    ),
    "Q13": ("merge_keys_mean_what_they_say", f"{CLAIMING}::test_a_key_of_never_joins_nothing_not_even_its_like"),
    "Q14": (
        "neighbours_are_neighbours_among_what_is_eligible",
        f"{CLAIMING}::test_neighbours_are_neighbours_among_what_is_eligible",
    ),
    "Q15": ("the_reasons_why_nothing_is_taken_are_told_apart", f"{CLAIMING}::test_a_claim_of_no_batches_takes_none"),
    # Claims
    "Q16": (
        "of_many_claimers_at_once_each_piece_of_work_gets_one",
        "a_claim_that_meets_a_busy_lane_takes_nothing",
        "a_claim_under_a_lease_that_is_lost_is_refused_and_takes_nothing",
    ),
    "Q17": (
        "a_claim_takes_the_head_and_says_everything_about_it",
        "fencing_tokens_grow_with_every_claim_and_claim_ids_never_repeat",
    ),
    "Q18": (
        "the_token_proves_a_claim_and_its_id_alone_does_not",
        "a_claim_is_renewed_by_its_token_and_not_by_its_id_alone",
        f"{IDS}::test_tokens_differ_and_chance_stays_within_its_bounds",
    ),
    "Q19": (
        "a_claim_takes_the_head_and_says_everything_about_it",
        "a_claim_ends_at_its_expiry_not_before",
        "a_claim_without_any_time_can_be_taken_over_at_once",
        f"{CLAIMING}::test_a_claim_that_has_just_expired_no_longer_holds",
    ),
    "Q20": ("held_work_is_taken_by_nobody_else", "what_was_claimed_under_the_ruling_lease_stays_held"),
    "Q21": (
        "the_next_group_is_taken_by_its_ids_in_their_order",
        "another_selection_than_the_next_group_takes_nothing",
        "a_selection_that_failed_leaves_the_fencing_as_it_was",
        "a_selection_that_failed_acquires_no_lease",
        "an_empty_selection_takes_nothing",
        "a_turn_that_was_begun_is_selected_whole_or_not_at_all",
        "a_selection_that_nobody_could_have_says_why",
        f"{CLAIMING}::test_a_selection_takes_exactly_itself_or_nothing",
    ),
    # Their ends
    "Q22": (
        "a_late_owner_whom_nobody_superseded_may_commit",
        "a_claim_that_expired_and_nobody_took_over_can_be_renewed",
        "a_commit_under_a_lease_that_expired_and_nobody_took_over_stands",
    ),
    "Q23": (
        "of_a_claim_that_holds_a_part_of_what_it_names_nothing_is_completed",
        "if_one_claim_of_several_is_lost_none_is_completed",
        f"{WRITER}::test_a_commit_that_is_refused_late_spoils_nothing_of_what_waited_with_it",
    ),
    "Q24": (
        "a_commit_completes_its_whole_claim_or_nothing",
        "of_a_claim_that_holds_a_part_of_what_it_names_nothing_is_completed",
        "one_commit_completes_a_claim_once",
    ),
    "Q25": ("a_commit_completes_only_claims_of_its_own_session",),
    "Q26": (
        "work_is_listed_by_sequence_the_newest_of_it",
        "the_pending_list_leaves_out_what_is_held_or_ended_but_not_what_is_delayed",
    ),
    "Q27": ("a_claim_is_renewed_as_often_as_its_turn_needs_and_then_committed",),
    "Q28": ("abandoned_work_is_pending_at_once_and_keeps_its_turn", "work_given_back_frees_the_lane_with_it"),
    "Q29": ("a_command_that_failed_is_settled_and_the_next_work_runs",),
    "Q30": (
        "a_command_runs_after_the_work_before_it_and_before_the_work_behind_it",
        "a_reset_leaves_the_queue_and_other_sessions_alone",
        "the_transcript_begins_anew_after_a_reset",
        "messages_are_paged_after_a_reset_as_if_nothing_had_been_before",
    ),
    # The commit
    "T8": (
        "a_repeated_commit_may_differ_in_ids_times_and_the_expected_revision",
        f"{COMMIT}::test_another_attempt_that_says_the_same_is_the_same",
        f"{COMMIT}::test_an_attempt_that_says_something_else_is_another",
    ),
    "T9": (
        "a_commit_from_another_revision_writes_nothing",
        "a_commit_that_does_not_advance_leaves_the_head_where_it_is_and_ends_its_work",
    ),
    "T10": (
        "the_same_commit_again_gets_the_first_result_and_writes_nothing",
        "a_repeated_commit_is_answered_after_its_lease_is_gone_and_frees_nobodys_lane",
        "a_turn_committed_before_a_reset_is_still_known_after_it",
    ),
    # The checklist
    "row 34": (
        f"{MODEL}::test_the_words_are_the_fields_own_and_others_are_an_error",
        f"{OPENING}::test_words_that_nobody_knows_are_an_error_and_never_a_default",
    ),
    "row 35": (
        f"{MATERIALIZING}::test_the_key_of_a_command_says_which_command_it_is",
        f"{MODEL}::test_a_draft_is_alone_and_for_now_unless_told_otherwise",
    ),
    "row 36": (
        "enqueued_work_is_pending_and_comes_back_whole",
        "every_kind_of_work_comes_back_as_it_was_given",
        "sequences_grow_and_are_never_used_again",
    ),
    "row 37": (
        "the_same_key_brings_the_same_work_once",
        "a_key_is_remembered_while_its_work_is_held_and_after_it_ended",
    ),
    "row 38": ("a_key_with_other_content_is_refused",),
    "row 39": ("a_replay_finds_the_work_as_it_ended_also_when_it_has_been_forgotten",),
    "row 40": ("delayed_work_is_available_at_its_time_not_before", "work_that_names_no_time_is_available_at_once"),
    "row 41": (
        "at_an_idle_session_either_delivery_starts_a_claim",
        f"{CLAIMING}::test_the_head_is_taken_where_its_delivery_allows",
    ),
    "row 42": (
        "at_a_checkpoint_only_urgent_work_is_taken_and_a_patient_head_blocks",
        "a_command_waits_for_an_idle_session_and_is_taken_alone",
    ),
    "row 43": ("at_a_checkpoint_only_urgent_work_is_taken_and_a_patient_head_blocks",),
    "row 44": ("exclusive_work_is_taken_alone",),
    "row 45": ("joining_neighbours_are_taken_together_up_to_the_first_that_differs",),
    "row 46": ("a_claim_is_no_larger_than_its_limit", "the_reasons_why_nothing_is_taken_are_told_apart"),
    "row 47": (
        "a_claim_takes_the_head_and_says_everything_about_it",
        f"{MODEL}::test_a_claim_is_protected_for_fifteen_minutes",
    ),
    "row 48": ("fencing_tokens_grow_with_every_claim_and_claim_ids_never_repeat",),
    "row 49": ("of_many_claimers_at_once_each_piece_of_work_gets_one",),
    "row 50": (
        "a_renewed_claim_is_the_same_claim_with_a_later_expiry",
        "a_claim_that_was_taken_over_cannot_be_renewed_and_its_successor_is_not_extended",
        "a_clock_that_went_back_never_shortens_a_claim",
    ),
    "row 51": (
        "abandoned_work_is_pending_at_once_and_keeps_its_turn",
        "a_stale_claim_cannot_give_back_what_another_holds",
        "a_claim_that_was_taken_over_gives_back_neither_the_work_nor_the_lane_of_its_successor",
        "of_a_claim_that_holds_a_part_of_what_it_names_that_part_is_given_back",
    ),
    "row 52": (
        "a_commit_writes_the_turn_and_ends_its_work",
        "one_commit_ends_the_claims_of_a_turn_and_of_its_checkpoints_under_one_lease",
    ),
    "row 53": ("a_superseded_owner_changes_nothing", "a_commit_under_a_lease_that_is_lost_writes_nothing"),
    "row 54": ("a_commit_completes_its_whole_claim_or_nothing",),
    "row 55": ("a_late_owner_whom_nobody_superseded_may_commit",),
    "row 56": (
        "pending_work_can_be_cancelled",
        "work_that_is_held_or_has_ended_cannot_be_cancelled",
        "the_pending_list_leaves_out_what_is_held_or_ended_but_not_what_is_delayed",
    ),
    "row 57": (
        "another_selection_than_the_next_group_takes_nothing",
        "a_selection_that_failed_leaves_the_fencing_as_it_was",
    ),
    "row 58": (
        f"{MATERIALIZING}::test_at_a_checkpoint_each_input_is_one_transient_message_of_its_lines",
        f"{MATERIALIZING}::test_input_that_says_and_shows_nothing_is_no_message",
        f"{MATERIALIZING}::test_at_a_checkpoint_a_wake_is_a_cause_and_a_command_is_nothing",
    ),
    "row 59": (
        f"{MATERIALIZING}::test_stored_pictures_are_parts_among_the_texts_in_their_order",
        f"{MATERIALIZING}::test_a_message_of_which_no_picture_is_left_is_its_text",
        f"{MATERIALIZING}::test_accepted_input_has_its_senders_own_key",
    ),
    "row 60": (
        f"{MATERIALIZING}::test_a_turn_has_the_items_of_all_inputs_in_order",
        f"{MATERIALIZING}::test_of_options_and_trace_ids_the_first_that_is_there_counts",
        f"{MATERIALIZING}::test_a_turn_of_wakes_alone_has_an_input_without_items_and_its_causes",
    ),
    "row 61": (f"{MATERIALIZING}::test_a_command_is_found_only_where_it_is_alone",),
    "row 62": (
        f"{MATERIALIZING}::test_a_wake_is_a_batch_of_its_own_as_early_as_can_be_and_once_for_each_event",
        "a_wake_is_enqueued_once_for_each_event_of_its_process",
        "each_wake_is_taken_alone_and_by_one",
    ),
    "row 67": ("a_command_that_failed_is_settled_and_the_next_work_runs",),
    "row 113": (
        "the_same_commit_again_gets_the_first_result_and_writes_nothing",
        "another_content_under_the_same_turn_is_a_conflict",
        "a_commit_that_does_not_advance_is_stamped_like_any_other",
        "a_reset_is_done_once_however_often_it_is_committed",
    ),
    "row 114": ("a_commit_from_another_revision_writes_nothing", "a_reset_that_is_refused_leaves_the_transcript"),
    # The session lease
    "7.7": (
        "a_lease_says_whose_it_is_and_until_when",
        "while_one_owner_has_the_lane_another_is_told_who_and_until_when",
        "a_lease_ends_at_its_expiry_not_before",
        "an_owner_may_begin_again_and_what_it_had_before_is_lost",
        "generations_grow_from_owner_to_owner_and_across_releases",
        "a_renewed_lease_is_the_same_lease_with_a_later_expiry",
        "a_lease_that_expired_and_nobody_took_over_can_be_renewed",
        "a_lease_that_was_taken_over_is_lost_and_its_successor_is_not_touched",
        "a_lease_is_proved_by_its_token_and_its_generation_together",
        "a_released_lane_is_free_at_once_and_its_lease_is_lost",
        "a_clock_that_went_back_never_shortens_a_lease",
        "a_lease_ends_with_its_session",
        "a_claim_can_bring_the_lease_it_is_taken_under",
        "with_nothing_to_take_no_lease_is_acquired",
        "a_busy_lane_is_told_only_when_there_would_be_something_to_take",
        "what_was_claimed_under_a_lease_that_was_taken_over_is_free_for_the_new_owner",
        "a_commit_frees_the_lane",
        "the_lease_is_looked_at_after_the_head_and_before_the_claims",
        "work_claimed_under_a_lease_is_ready_again_when_that_lease_has_ended",
        f"{LEASING}::test_at_every_moment_at_most_the_newest_lease_rules_and_generations_only_grow",
        f"{OPENING}::test_leases_of_a_former_owner_are_void_and_their_generations_stay",
    ),
    # Traps
    "X11": ("a_claim_is_renewed_as_often_as_its_turn_needs_and_then_committed",),
    "X13": ("a_command_that_failed_is_settled_and_the_next_work_runs",),
    "X14": (
        "a_replay_finds_the_work_as_it_ended_also_when_it_has_been_forgotten",
        "a_wake_is_enqueued_once_for_each_event_of_its_process",
    ),
    "X15": ("sequences_grow_and_are_never_used_again",),
    "X16": (
        "at_a_checkpoint_only_urgent_work_is_taken_and_a_patient_head_blocks",
        "a_delayed_head_does_not_block_what_is_behind_it",
    ),
    "X17": ("merge_keys_mean_what_they_say",),
    "X18": (
        f"{MATERIALIZING}::test_two_pictures_of_one_id_stay_two_pictures",
        f"{MATERIALIZING}::test_whatever_pictures_are_called_everybody_sees_their_own",
    ),
    "X26": (
        "work_that_was_given_back_or_has_ended_cannot_be_renewed",
        "of_a_claim_that_holds_a_part_of_what_it_names_nothing_is_extended",
        "a_lease_that_was_taken_over_is_lost_and_its_successor_is_not_touched",
    ),
    "X36": ("a_commit_from_another_revision_writes_nothing",),
    "X37": (
        "the_same_commit_again_gets_the_first_result_and_writes_nothing",
        "a_caller_that_was_cancelled_leaves_then_to_be_called_all_the_same",
    ),
    "X38": (
        "a_turn_that_is_taken_again_is_the_same_turn_with_the_same_members",
        "a_turn_that_is_taken_again_is_whole_whatever_the_limit",
        "a_turn_whose_lease_was_taken_over_is_taken_whole_and_before_what_came_later",
        f"{MIGRATIONS}::test_work_that_was_held_waits_for_its_next_attempt_as_the_same_turn",
    ),
}

ELSEWHERE: dict[str, tuple[str, ...]] = {
    # What the driver of turns and of commands makes of it
    "Q27": (f"{DRIVER}::test_a_turn_longer_than_its_claim_is_committed_all_the_same",),
    "Q28": (
        f"{FAILURES}::test_a_turn_that_cannot_be_committed_is_given_back_and_run_again_as_the_same_turn",
        f"{EXITS}::test_work_is_given_back_when_the_process_ends_in_mid_claim",
    ),
    "Q29": (
        f"{COMMANDS}::test_a_refresh_that_expects_another_generation_is_settled_as_failed_and_blocks_nothing",
        f"{COMMANDS}::test_tools_that_cannot_be_read_fail_the_command_with_the_reason",
    ),
    "Q30": (f"{COMMANDS}::test_a_reset_waits_for_what_was_queued_before_it_and_rules_what_comes_after",),
    "T9": (
        # Nothing is committed before the end, so that a turn never moves the head under itself.
        f"{CHECKPOINTS}::test_input_for_the_running_turn_is_taken_in_and_kept_once",
        f"{DRIVER}::test_a_turn_longer_than_its_claim_is_committed_all_the_same",
    ),
    "row 63": (f"{CHECKPOINTS}::test_input_for_the_running_turn_is_taken_in_and_kept_once",),
    "row 64": (
        f"{FAILURES}::test_a_turn_that_cannot_be_committed_is_given_back_and_run_again_as_the_same_turn",
        f"{EXITS}::test_a_kernel_that_stops_hands_its_work_back_uncharged_and_retracts_what_it_showed",
        f"{EXITS}::test_work_is_given_back_when_the_process_ends_in_mid_claim",
    ),
    "row 65": (f"{DRIVER}::test_a_turn_longer_than_its_claim_is_committed_all_the_same",),
    "row 66": (
        f"{COMMANDS}::test_a_receipt_says_where_the_command_stands_in_the_queue",
        f"{COMMANDS}::test_without_a_store_a_command_is_applied_before_it_is_answered",
    ),
    "row 67": (f"{COMMANDS}::test_a_refresh_that_expects_another_generation_is_settled_as_failed_and_blocks_nothing",),
    "row 68": (f"{COMMANDS}::test_one_drive_runs_a_command_and_the_turn_behind_it",),
    # The runner
    "row 69": (
        f"{GATE}::test_the_start_asks_for_whatever_is_there_and_the_first_poll_follows_at_once",
        f"{GATE}::test_a_poll_asks_for_whatever_is_ready_after_each_interval",
        f"{RUNNER}::test_a_poke_asks_for_its_session_without_any_time_going_by",
    ),
    "row 70": (f"{GATE}::test_a_submitted_session_is_held_in_flight_until_its_completion",),
    "row 71": (
        f"{RUNNER}::test_a_completion_asks_for_its_session_again_and_traces_nothing",
        f"{GATE}::test_a_submitted_session_is_held_in_flight_until_its_completion",
    ),
    "row 72": (
        f"{GATE}::test_another_session_passes_the_gate_by_its_name",
        f"{RUNNER}::test_while_one_session_is_in_flight_pokes_and_polls_serve_all_others",
    ),
    "row 73": (f"{RUNNER}::test_a_burst_of_pokes_during_a_drive_is_one_more_drive_that_knows_all_reasons",),
    "row 74": (
        f"{FAILING}::test_whatever_a_host_raises_costs_one_drive_and_takes_nobody_else_down",
        f"{GATE}::test_the_loop_survives_whatever_the_host_raises",
    ),
    "row 75": (
        f"{RUNNER}::test_a_session_that_is_never_completed_is_driven_again_with_a_warning",
        f"{GATE}::test_a_session_that_is_never_completed_opens_the_gate_again_with_a_warning",
    ),
    "row 76": (f"{ENDING}::test_stopping_cancels_the_drives_and_waits_for_them",),
    "row 77": (
        f"{RUNNER}::test_sessions_share_the_permits_and_all_get_their_turn",
        f"{RUNNER}::test_a_busy_session_goes_to_the_back_of_the_line_after_each_turn",
    ),
    "row 78": (
        f"{FAILING}::test_a_failed_drive_is_tried_eight_times_with_growing_pauses_and_then_left",
        f"{FAILING}::test_contended_work_is_asked_for_as_long_as_it_takes",
    ),
    # Traps
    "X7": (f"{RUNNER}::test_while_one_session_is_in_flight_pokes_and_polls_serve_all_others",),
    "X8": (f"{RUNNER}::test_a_session_that_is_never_completed_is_driven_again_with_a_warning",),
    "X9": (f"{RUNNER}::test_a_burst_of_pokes_during_a_drive_is_one_more_drive_that_knows_all_reasons",),
    "X10": (f"{FAILING}::test_whatever_a_host_raises_costs_one_drive_and_takes_nobody_else_down",),
    "X11": (f"{DRIVER}::test_a_turn_longer_than_its_claim_is_committed_all_the_same",),
    "X12": (
        f"{FAILURES}::test_a_turn_that_cannot_be_committed_is_given_back_and_run_again_as_the_same_turn",
        f"{EXITS}::test_work_is_given_back_when_the_process_ends_in_mid_claim",
    ),
    "X13": (f"{COMMANDS}::test_a_refresh_that_expects_another_generation_is_settled_as_failed_and_blocks_nothing",),
    "X19": (f"{COMMANDS}::test_one_drive_runs_a_command_and_the_turn_behind_it",),
    "X28": (
        f"{FAILURES}::test_a_claim_whose_answer_was_lost_is_given_back_and_taken_again",
        f"{EXITS}::test_a_drain_hands_back_also_what_was_being_claimed_when_its_time_was_up",
    ),
    "X36": (f"{FAILURES}::test_a_session_recovers_when_a_commit_succeeded_and_nobody_was_ever_told",),
    "X37": (
        f"{EXITS}::test_a_commit_under_way_is_seen_through_when_the_process_ends",
        f"{FAILURES}::test_a_commit_whose_answer_was_lost_is_committed_once_and_told_once",
    ),
    "X38": (f"{RESTART}::test_a_turn_that_died_with_its_process_is_run_again_as_the_same_turn_and_committed_once",),
}
"""Rules that are held, or held as well, by what stands above the stores."""

ALL = {
    *(f"Q{number}" for number in range(1, 31)),
    *(f"T{number}" for number in range(8, 11)),
    *(f"row {number}" for number in (*range(34, 79), 113, 114)),
    "7.7",
    *(f"X{number}" for number in (*range(7, 20), 26, 28, *range(36, 39))),
}


def is_there(name: str) -> bool:
    file, _, test = name.rpartition("::")
    if not file:
        return name in {check.__name__ for check in STORE_CHECKS}
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    path = ROOT / file
    return path.exists() and any(isinstance(node, functions) and node.name == test for node in parsed(path).body)


def test_every_rule_has_its_place() -> None:
    assert COVERED.keys() | ELSEWHERE.keys() == ALL


@pytest.mark.parametrize("rule", COVERED)
def test_every_check_and_test_that_holds_a_rule_is_there(rule: str) -> None:
    named = COVERED[rule] + ELSEWHERE.get(rule, ())
    assert COVERED[rule]
    assert [name for name in named if not is_there(name)] == []


@pytest.mark.parametrize("rule", [rule for rule in ELSEWHERE if rule not in COVERED])
def test_every_test_that_holds_a_rule_above_the_stores_is_there(rule: str) -> None:
    assert ELSEWHERE[rule]
    assert [name for name in ELSEWHERE[rule] if not is_there(name)] == []


@pytest.mark.parametrize("reason", get_args(get_type_hints(NothingClaimed)["reason"]))
def test_every_reason_for_taking_nothing_is_asked_for_by_a_check(reason: str) -> None:
    suites = ROOT / "core" / "sightline" / "testing" / "conformance"
    said = {
        node.value
        for path in suites.glob("*.py")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert reason in said
