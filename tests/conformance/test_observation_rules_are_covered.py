"""Which checks and tests hold which rule of observation and live replay, so that none of them goes unnoticed.

`row` is a line of the feature checklist. Rules of the cursor are C1 to C10, of the revision REV1 to REV5, of events E1
to E4, of the log M1 to M6, of gaps G1 to G10, of the live part V1 to V5, of the handle H1 to H5 and O1 to O7; `later`
is what was learnt after them, a to i. A plain name is a check of the conformance suite, which runs on every live log;
with a file it is a test.
"""

from __future__ import annotations

import ast

import pytest

from sightline.testing.conformance import REPLAY_CHECKS
from tests.repo.source import ROOT, parsed

CONNECTION = "tests/js/connection.test.js"
CONSOLE = "tests/browser/test_console.py"
CURSOR = "tests/core/observation/test_cursor.py"
CUTS = "tests/gateway/stream/test_cuts.py"
DEFECTS = "tests/conformance/test_live_log_defects.py"
ENDINGS = "tests/gateway/stream/test_endings.py"
EVENTS = "tests/core/observation/test_events.py"
EXITS = "tests/core/turn/test_driver_exits.py"
FOLD = "tests/core/observation/test_fold.py"
FRAMES = "tests/core/observation/test_remote.py"
GAPS = "tests/core/observation/test_gaps.py"
HANDLE = "tests/core/observation/test_handle.py"
HISTORIES = "tests/core/observation/test_fold_histories.py"
LAW = "tests/core/observation/test_fold_law.py"
MEMORY = "tests/core/stores/test_replay_memory.py"
MERGING = "tests/core/observation/test_merging.py"
OPENINGS = "tests/gateway/stream/test_openings.py"
QUEUE = "tests/core/observation/test_handle_queue.py"
REFUSALS = "tests/gateway/stream/test_refusals.py"
RUNTIME = "tests/core/observation/test_runtime.py"
SERVER_SENT = "tests/gateway/stream/test_server_sent.py"
SESSION = "tests/js/session.test.js"
SLOW = "tests/gateway/stream/test_slow_consumers.py"
WATCHING = "tests/core/observation/test_watching.py"

COVERED: dict[str, tuple[str, ...]] = {
    # The checklist
    "row 1": (
        f"{CURSOR}::test_a_cursor_comes_back_from_its_text",
        f"{CURSOR}::test_a_cursor_is_written_as_the_contract_says",
        f"{CURSOR}::test_its_representation_hides_it",
    ),
    "row 2": (
        f"{CURSOR}::test_a_text_with_a_part_missing_is_no_cursor_and_the_part_is_named",
        f"{CURSOR}::test_only_plain_decimal_digits_within_the_range_are_a_number",
        f"{CURSOR}::test_any_other_text_is_refused_and_never_breaks",
    ),
    "row 3": (f"{CURSOR}::test_a_cursor_of_another_session_is_refused_with_both_names",),
    "row 4": (
        f"{HANDLE}::test_a_bad_cursor_never_reaches_the_log",
        f"{WATCHING}::test_a_cursor_that_is_none_of_the_sessions_reaches_no_log",
        f"{WATCHING}::test_a_kernel_refuses_a_bad_cursor_before_it_looks_for_the_session",
        f"{REFUSALS}::test_a_malformed_cursor_is_refused_before_anything_is_looked_up",
    ),
    "row 5": ("g0_a_cursor_of_another_incarnation_proves_nothing",),
    "row 6": (f"{RUNTIME}::test_the_revision_is_the_stores_count_or_without_a_store_the_turns",),
    "row 7": (
        f"{RUNTIME}::test_an_observation_has_every_part_and_none_of_them_can_be_replaced",
        f"{RUNTIME}::test_it_is_swapped_whole_and_the_one_before_stays_as_it_was",
        f"{RUNTIME}::test_a_loaded_session_is_observed_like_one_that_was_brought",
        f"{RUNTIME}::test_the_policy_is_a_copy_that_readers_cannot_reach_the_session_through",
    ),
    "row 8": (
        f"{RUNTIME}::test_tools_of_one_generation_are_captured_once",
        f"{RUNTIME}::test_a_loaded_sessions_tools_are_captured_once_as_well",
    ),
    "row 9": (
        f"{RUNTIME}::test_tools_that_cannot_be_captured_are_left_out_with_a_warning",
        f"{RUNTIME}::test_a_catalogue_that_cannot_be_made_is_empty_and_says_why",
        f"{RUNTIME}::test_a_session_that_is_not_live_has_no_tools",
    ),
    "row 10": (
        f"{RUNTIME}::test_to_observe_is_to_wait_for_nobody",
        f"{RUNTIME}::test_a_new_handle_tells_nothing_and_stands_at_the_tail",
        f"{HANDLE}::test_a_new_handle_shows_what_is_stored_and_publishes_nothing",
    ),
    "row 11": (f"{RUNTIME}::test_a_frame_switch_is_told_before_its_commit_and_only_when_there_is_one",),
    "row 12": (
        f"{RUNTIME}::test_a_log_that_refuses_fails_no_publication",
        f"{HANDLE}::test_a_log_that_refuses_events_does_not_disturb_the_session_and_observers_get_a_gap",
    ),
    "row 13": (f"{HANDLE}::test_activity_has_the_installed_revision_and_a_commit_its_own",),
    "row 14": (
        f"{QUEUE}::test_input_is_queued_told_and_poked_while_a_turn_runs",
        f"{QUEUE}::test_a_cancel_returns_the_batch_and_is_told_once",
    ),
    "row 15": (
        f"{RUNTIME}::test_a_process_change_is_told_once_with_its_ids",
        f"{RUNTIME}::test_a_record_that_cannot_be_told_fails_nobody",
    ),
    "row 16": (
        f"{WATCHING}::test_a_resume_brings_what_happened_behind_the_cursor_in_order",
        f"{WATCHING}::test_a_resume_that_cannot_be_had_is_a_gap_with_the_session_of_that_moment",
    ),
    "row 17": (
        "g1_the_beginning_of_a_session_that_never_had_events_replays_nothing",
        "g2_a_position_in_a_session_that_never_had_events_is_unavailable",
        "g3_a_position_beyond_the_tail_is_unavailable",
        "g4_a_position_before_the_tail_of_an_emptied_log_is_trimmed",
        "g5_the_tail_of_an_emptied_log_replays_nothing",
        "g6_a_position_whose_next_event_was_dropped_is_trimmed",
        "g7_a_position_whose_next_event_is_there_replays",
        f"{GAPS}::test_a_row_of_the_table",
        f"{GAPS}::test_a_replay_is_given_exactly_when_every_event_behind_the_cursor_is_there",
    ),
    "row 18": ("the_count_is_bounded",),
    "row 19": (
        "the_age_is_bounded_and_the_bound_itself_is_not_too_old",
        "only_what_is_too_old_is_dropped",
        f"{DEFECTS}::test_a_mistake_is_caught_by_the_check_that_is_about_it",
    ),
    "row 20": ("the_bytes_are_bounded", "the_newest_event_is_kept_however_big"),
    "row 21": (
        "what_was_there_comes_first_and_then_what_comes",
        f"{WATCHING}::test_a_subscription_brings_what_was_missed_and_then_what_comes",
    ),
    "row 22": (
        "of_sixty_four_who_publish_at_once_everybody_who_watches_sees_each_event_once",
        "whoever_sleeps_until_woken_misses_nothing_of_what_many_publish_at_once",
        "whoever_begins_at_any_place_sees_every_event_once",
        f"{WATCHING}::test_sixty_four_who_publish_at_once_and_those_who_begin_in_between_lose_and_repeat_nothing",
        f"{DEFECTS}::test_a_mistake_is_caught_by_the_check_that_is_about_it",
    ),
    "row 23": (
        "whoever_fell_behind_is_told_of_how_much_exactly",
        "whoever_is_behind_by_the_whole_bound_has_lost_nothing",
        f"{WATCHING}::test_one_who_fell_behind_is_told_how_much_was_lost_and_goes_no_further",
        f"{WATCHING}::test_one_who_is_behind_by_exactly_the_bound_has_lost_nothing",
    ),
    "row 24": (
        "whoever_fell_behind_goes_on_from_the_last_event_delivered_or_gets_a_gap",
        f"{WATCHING}::test_who_lags_and_finds_its_place_again_sees_everything_once",
        f"{WATCHING}::test_who_falls_behind_in_mid_stream_gets_one_gap_and_goes_on",
    ),
    "row 25": (
        "the_current_cursor_is_never_behind_an_event_of_a_newer_revision",
        f"{WATCHING}::test_what_happens_between_the_snapshot_and_its_registration_is_delivered",
        f"{WATCHING}::test_what_happens_between_a_view_and_its_cursor_is_in_the_one_or_behind_the_other",
        f"{WATCHING}::test_a_session_that_moved_on_while_it_was_loaded_is_met_in_front_of_what_it_lacks",
    ),
    "row 26": (
        "g8_a_lost_range_at_the_end_is_a_gap_and_not_silence",
        "g9_activity_after_a_commit_that_was_never_published_does_not_stand_for_it",
        "a_reservation_that_was_dropped_is_a_lost_range_and_holds_nobody_up",
        "of_many_who_publish_or_die_at_once_everybody_sees_an_unbroken_run_or_a_gap",
        f"{HANDLE}::test_a_commit_that_was_never_published_is_a_gap_and_not_silence",
        f"{WATCHING}::test_a_publication_that_dies_between_reserve_and_publish_is_a_gap_and_no_wedge",
        f"{WATCHING}::test_a_death_in_the_middle_of_a_publication_gives_its_positions_up",
        f"{RUNTIME}::test_what_was_told_to_nobody_is_a_gap_for_all_who_stood_before_it",
    ),
    "row 27": (
        f"{HANDLE}::test_whoever_is_woken_by_an_event_finds_a_view_at_least_as_new",
        f"{HANDLE}::test_positions_are_reserved_then_the_view_is_installed_then_observers_are_told",
        f"{WATCHING}::test_whoever_receives_a_commit_observes_at_least_its_revision",
    ),
    "row 28": (f"{RUNTIME}::test_what_did_not_change_is_not_told",),
    "row 29": (f"{QUEUE}::test_without_a_store_nothing_is_queued_or_cancelled",),
    "row 30": (
        f"{QUEUE}::test_input_is_queued_told_and_poked_while_a_turn_runs",
        f"{QUEUE}::test_no_poll_is_needed_for_what_was_queued_through_a_handle",
    ),
    "row 31": (
        f"{RUNTIME}::test_the_processes_of_the_session_and_its_frame_are_seen_once_and_in_order",
        f"{RUNTIME}::test_without_a_registry_there_are_no_processes",
        f"{RUNTIME}::test_a_scope_that_cannot_be_read_is_named_and_the_other_is_shown",
        f"{RUNTIME}::test_between_frames_only_the_sessions_own_processes_are_seen",
    ),
    "row 32": (
        f"{RUNTIME}::test_only_the_only_owner_gets_the_runtime_back",
        f"{QUEUE}::test_a_loaded_handle_can_be_taken_apart_and_is_loaded_again",
    ),
    "row 33": (
        f"{FRAMES}::test_another_version_is_refused_wherever_it_is_named",
        f"{FRAMES}::test_an_id_or_a_cursor_that_says_nothing_is_refused",
        f"{FRAMES}::test_a_part_of_another_session_or_moment_is_refused",
        f"{FRAMES}::test_a_frame_of_the_wire_is_taken",
        f"{FRAMES}::test_what_is_no_frame_is_refused_and_never_raises_anything_else",
    ),
    "row 117": (
        f"{SERVER_SENT}::test_every_event_and_control_frame_has_an_id_so_that_a_browser_resumes_behind_it",
        f"{SERVER_SENT}::test_the_opening_is_retry_and_the_first_frame_with_its_id",
        f"{OPENINGS}::test_a_fresh_start_shows_the_observation_and_is_caught_up_at_once",
    ),
    "row 118": (
        f"{SESSION}::a gap replaces the state and is not an error",
        f"{SESSION}::a gap in mid-stream goes on from its own snapshot",
        f"{CONNECTION}::a gap as first frame leaves a mark once caught up",
        f"{CUTS}::test_cuts_cost_nobody_a_word",
    ),
    "row 119": (
        f"{CONSOLE}::test_three_tabs_show_the_same_and_closing_one_cancels_nothing",
        f"{WATCHING}::test_to_stop_watching_stops_no_turn_and_leaves_no_trace",
        f"{ENDINGS}::test_a_client_that_leaves_leaves_nothing_behind",
    ),
    # The cursor
    "C1": (f"{CURSOR}::test_a_cursor_is_written_as_the_contract_says",),
    "C2": (f"{CURSOR}::test_a_cursor_comes_back_from_its_text",),
    "C3": (
        f"{CURSOR}::test_a_text_with_a_part_missing_is_no_cursor_and_the_part_is_named",
        f"{CURSOR}::test_a_cursor_of_another_session_is_refused_with_both_names",
    ),
    "C4": (f"{CURSOR}::test_its_representation_hides_it",),
    "C5": (f"{SESSION}::a bare cursor, a foreign or a damaged state is never resumed from",),
    "C6": (f"{WATCHING}::test_a_cursor_that_is_none_of_the_sessions_reaches_no_log",),
    "C7": (
        "g9_a_replay_that_does_not_explain_the_sessions_revision_is_unavailable",
        "g9_a_cursor_from_a_future_that_did_not_happen_is_unavailable",
        f"{GAPS}::test_a_replay_must_explain_the_revision_it_leads_to",
    ),
    "C8": (
        "the_incarnation_is_the_one_it_was_made_with",
        "g0_a_cursor_of_another_incarnation_proves_nothing",
        f"{OPENINGS}::test_a_cursor_from_another_life_or_from_the_future_is_a_gap",
    ),
    "C9": (
        f"{CURSOR}::test_only_plain_decimal_digits_within_the_range_are_a_number",
        f"{CURSOR}::test_the_largest_number_is_in_range",
    ),
    "C10": (f"{CURSOR}::test_a_text_with_a_part_missing_is_no_cursor_and_the_part_is_named",),
    # The revision
    "REV1": (f"{RUNTIME}::test_the_revision_is_the_stores_count_or_without_a_store_the_turns",),
    "REV3": (f"{RUNTIME}::test_the_revision_observers_have_never_falls_when_the_counter_is_another_one",),
    "REV5": (
        f"{HANDLE}::test_activity_has_the_installed_revision_and_a_commit_its_own",
        "each_reserved_position_has_its_own_revision",
    ),
    # Events
    "E1": (f"{QUEUE}::test_a_cancel_returns_the_batch_and_is_told_once",),
    "E2": (f"{RUNTIME}::test_a_process_change_is_told_once_with_its_ids",),
    "E4": (
        f"{FOLD}::test_a_process_stays_until_a_kind_that_ends_it",
        f"{FOLD}::test_a_task_stays_until_a_kind_that_ends_it",
        f"{FOLD}::test_a_batch_is_told_by_its_state_whatever_the_kind",
        f"{EVENTS}::test_an_unknown_kind_is_kept_by_its_name_alone",
        f"{FRAMES}::test_what_is_new_is_let_pass",
    ),
    # The log
    "M1": ("positions_are_dense_from_one_in_order_of_reservation", "sessions_are_counted_apart"),
    "M2": ("the_count_is_bounded", "the_bytes_are_bounded", "one_session_does_not_take_another_ones_room"),
    "M3": (
        "trimming_drops_what_is_old_in_one_session_or_in_all",
        "the_tail_survives_whatever_is_dropped",
        f"{MEMORY}::test_of_sessions_that_were_left_alone_only_so_many_are_remembered",
        f"{MEMORY}::test_a_session_whose_number_is_forgotten_goes_on_beyond_whatever_it_had",
        f"{MEMORY}::test_whoever_was_told_the_floor_is_not_deceived_when_it_rises",
        f"{MEMORY}::test_the_tail_of_a_deleted_session_is_forgotten_and_raises_nothing",
    ),
    "M4": ("the_age_is_bounded_and_the_bound_itself_is_not_too_old",),
    "M5": ("whoever_is_woken_finds_the_event_there", f"{MEMORY}::test_a_log_holds_at_least_one_event_of_a_session"),
    "M6": ("g1_the_beginning_of_a_session_that_never_had_events_replays_nothing",),
    # Gaps
    "G1": ("g1_the_beginning_of_a_session_that_never_had_events_replays_nothing",),
    "G2": ("g2_a_position_in_a_session_that_never_had_events_is_unavailable",),
    "G3": ("g3_a_position_beyond_the_tail_is_unavailable",),
    "G4": ("g4_a_position_before_the_tail_of_an_emptied_log_is_trimmed",),
    "G5": ("g5_the_tail_of_an_emptied_log_replays_nothing",),
    "G6": ("g6_a_position_whose_next_event_was_dropped_is_trimmed",),
    "G7": ("g7_a_position_whose_next_event_is_there_replays",),
    "G8": (
        "g8_a_lost_range_ahead_of_the_position_is_unavailable",
        "g8_a_lost_range_at_the_end_is_a_gap_and_not_silence",
        f"{HANDLE}::test_an_old_tail_cursor_still_proves_that_nothing_happened_after_everything_was_dropped",
    ),
    "G9": ("of_sixty_four_who_publish_at_once_everybody_who_watches_sees_each_event_once",),
    "G10": ("a_gap_leaves_no_subscription", f"{WATCHING}::test_a_gap_leaves_no_subscription"),
    # The live part
    "V1": ("what_was_there_comes_first_and_then_what_comes",),
    "V2": (
        "one_who_fell_behind_the_bounds_gets_a_gap",
        "whoever_fell_behind_is_told_of_how_much_exactly",
        f"{WATCHING}::test_one_who_fell_behind_is_told_how_much_was_lost_and_goes_no_further",
    ),
    "V3": ("one_who_is_just_within_the_bounds_misses_nothing",),
    "V4": (
        "a_forgotten_session_ends_its_subscriptions",
        "a_closed_subscription_sees_and_hears_nothing_more",
        f"{WATCHING}::test_a_watch_ends_when_the_session_is_deleted_after_what_came_before",
    ),
    "V5": (f"{SERVER_SENT}::test_quiet_is_broken_by_a_comment_every_15_seconds",),
    # The handle
    "H1": (f"{RUNTIME}::test_there_is_one_writer_at_a_time_and_waiting_for_it_can_be_given_up",),
    "H2": (f"{RUNTIME}::test_to_observe_is_to_wait_for_nobody",),
    "H3": (f"{RUNTIME}::test_a_new_handle_tells_nothing_and_stands_at_the_tail",),
    "H4": (f"{RUNTIME}::test_only_the_only_owner_gets_the_runtime_back",),
    "H5": (f"{QUEUE}::test_a_turn_has_the_writer_from_its_claim_to_its_end",),
    "O1": (f"{HANDLE}::test_positions_are_reserved_then_the_view_is_installed_then_observers_are_told",),
    "O2": (f"{RUNTIME}::test_what_did_not_change_is_not_told",),
    "O3": (f"{RUNTIME}::test_a_record_that_cannot_be_told_fails_nobody",),
    "O4": (f"{HANDLE}::test_a_commit_that_was_never_published_is_a_gap_and_not_silence",),
    "O5": (f"{WATCHING}::test_what_happens_between_a_view_and_its_cursor_is_in_the_one_or_behind_the_other",),
    "O6": (f"{WATCHING}::test_what_happens_between_the_snapshot_and_its_registration_is_delivered",),
    "O7": (f"{WATCHING}::test_a_resume_that_cannot_be_had_is_a_gap_with_the_session_of_that_moment",),
    # Learnt later
    "later a": (
        "reserved_positions_become_visible_in_order",
        "an_abandoned_reservation_is_lost_only_in_its_turn",
        "a_reservation_that_was_dropped_is_a_lost_range_and_holds_nobody_up",
        "a_reservation_is_settled_once",
        "a_publication_that_waits_for_an_earlier_one_wakes_nobody",
    ),
    "later b": (
        "g9_a_replay_that_does_not_explain_the_sessions_revision_is_unavailable",
        "g9_activity_after_a_commit_that_was_never_published_does_not_stand_for_it",
    ),
    "later c": ("g0_a_cursor_of_another_incarnation_proves_nothing",),
    "later d": (
        "the_current_cursor_is_never_behind_an_event_of_a_newer_revision",
        "the_current_cursor_stands_in_front_of_a_commit_that_was_lost",
        "the_current_cursor_is_the_tail_with_the_given_revision",
    ),
    "later e": (
        f"{RUNTIME}::test_what_did_not_change_is_not_told",
        f"{RUNTIME}::test_what_else_readers_see_is_told_as_a_resident_change",
    ),
    "later f": ("every_watcher_gets_the_same_entries", "a_replay_begins_behind_its_cursor_and_keeps_the_order"),
    "later g": (
        f"{WATCHING}::test_who_lags_and_finds_its_place_again_sees_everything_once",
        f"{WATCHING}::test_who_falls_behind_in_mid_stream_gets_one_gap_and_goes_on",
        f"{WATCHING}::test_a_publication_that_was_lost_is_a_gap_in_the_watch",
        f"{WATCHING}::test_a_watch_from_a_cursor_needs_no_snapshot",
    ),
    "later h": (f"{WATCHING}::test_what_happens_between_a_view_and_its_cursor_is_in_the_one_or_behind_the_other",),
    "later i": (f"{SESSION}::a gap replaces the state and is not an error",),
    # The fold
    "fold": (
        f"{LAW}::test_a_snapshot_and_the_events_after_it_are_every_later_snapshot",
        f"{HISTORIES}::test_whoever_begins_in_the_middle_ends_where_everybody_ends",
        f"{HISTORIES}::test_every_snapshot_on_the_way_is_the_one_that_the_server_has_there",
        f"{HISTORIES}::test_the_browsers_fold_comes_to_the_same",
        f"{HISTORIES}::test_every_kind_and_activity_of_the_wire_is_among_what_is_drawn",
        f"{FOLD}::test_nothing_that_has_ended_comes_back_with_a_kind_of_the_living",
    ),
    "merging": (
        f"{HISTORIES}::test_joined_deltas_add_up_to_what_the_single_ones_do",
        f"{MERGING}::test_only_neighbours_that_belong_together_are_joined",
        f"{MERGING}::test_what_is_joined_stands_where_its_last_part_stood",
        f"{MERGING}::test_whoever_stands_between_two_parts_gets_those_that_come_after",
        f"{MEMORY}::test_who_comes_back_gets_fewer_larger_events_and_what_is_live_as_it_comes",
    ),
}

ALL = {
    *(f"row {number}" for number in (*range(1, 34), *range(117, 120))),
    *(f"C{number}" for number in range(1, 11)),
    *(f"REV{number}" for number in (1, 3, 5)),
    *(f"E{number}" for number in (1, 2, 4)),
    *(f"M{number}" for number in range(1, 7)),
    *(f"G{number}" for number in range(1, 11)),
    *(f"V{number}" for number in range(1, 6)),
    *(f"H{number}" for number in range(1, 6)),
    *(f"O{number}" for number in range(1, 8)),
    *(f"later {letter}" for letter in "abcdefghi"),
    "fold",
    "merging",
}


def is_there(name: str) -> bool:
    file, _, test = name.partition("::")
    if not test:
        return name in {check.__name__ for check in REPLAY_CHECKS}
    path = ROOT / file
    if not path.exists():
        return False
    if path.suffix == ".js":
        return f'test("{test}", ' in path.read_text(encoding="utf-8")
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return any(isinstance(node, functions) and node.name == test for node in parsed(path).body)


def test_every_rule_has_its_place() -> None:
    assert COVERED.keys() == ALL


@pytest.mark.parametrize("rule", COVERED)
def test_every_check_and_test_that_holds_a_rule_is_there(rule: str) -> None:
    assert COVERED[rule]
    assert [name for name in COVERED[rule] if not is_there(name)] == []


def test_every_check_of_live_logs_holds_a_rule() -> None:
    held = {name for names in COVERED.values() for name in names}
    plain = {
        "a_lost_range_is_still_a_gap_after_the_log_was_emptied",
        "a_lost_range_is_a_gap_for_whoever_stands_before_it",
        "a_subscription_goes_on_when_everything_before_it_was_dropped",
        "a_take_is_no_larger_than_asked_but_never_empty_while_there_is_something",
        "a_wake_may_begin_and_end_subscriptions",
        "behind_says_whether_there_is_something",
        "one_who_found_nothing_is_woken_once",
        "one_who_has_not_looked_yet_is_not_woken",
        "subscriptions_are_counted_by_session",
        "what_is_trimmed_by_age_is_lost_as_well",
        "a_forgotten_session_is_as_if_it_had_never_been",
    }
    """Promises of the port itself that no rule asks for."""
    assert {check.__name__ for check in REPLAY_CHECKS} - held == plain
