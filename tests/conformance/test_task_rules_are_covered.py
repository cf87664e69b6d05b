"""Which checks and tests hold which rule of background tasks, so that none of them goes unnoticed.

`row` is a line of the feature checklist, B1 to B9 the rules of a session's tasks, B10 to B15 the known defects that are
cured, X a known trap. A plain name is a check of the conformance suite, which runs on every store; with a file it is a
test.
"""

from __future__ import annotations

import pytest

from tests.conformance.test_process_rules_are_covered import is_there

ASYNC = "tests/core/tasks/test_async_handles.py"
HTTP = "tests/gateway/test_tasks.py"
KERNEL = "tests/core/kernel/test_tasks.py"
MONITORING = "tests/core/tasks/test_monitoring.py"
MONITORS = "tests/core/kernel/test_monitors.py"
RULES = "tests/core/tasks/test_rules.py"
SQLITE = "tests/core/stores/test_sqlite_tasks.py"
SUBAGENTS = "tests/core/kernel/test_subagents.py"
TELLING = "tests/core/tasks/test_telling.py"

COVERED: dict[str, tuple[str, ...]] = {
    # The checklist
    "row 103": (
        f"{KERNEL}::test_hidden_work_is_drained_with_what_it_began_and_listed_nowhere",
        f"{KERNEL}::test_hidden_work_that_fails_drops_nothing_and_is_told_once_all_has_ended",
        f"{KERNEL}::test_hidden_work_that_waits_for_the_rest_does_not_wait_for_itself",
        f"{KERNEL}::test_who_stops_waiting_for_hidden_work_does_not_stop_it",
        f"{KERNEL}::test_a_drain_waits_for_hidden_work_and_not_for_longer_than_it_may",
    ),
    "row 104": (
        "a_live_id_is_taken_and_one_that_ended_makes_way",
        f"{KERNEL}::test_a_live_id_is_taken_and_free_after_the_end",
        f"{KERNEL}::test_managed_work_is_listed_while_it_goes_on_and_says_what_it_came_to",
    ),
    "row 105": (f"{KERNEL}::test_an_unknown_session_is_found_out_before_that_nobody_works_here",),
    "row 106": (
        f"{KERNEL}::test_what_background_work_may_have_changed_is_read_anew_once_it_is_waited_for",
        f"{KERNEL}::test_a_flag_is_set_also_when_the_work_could_not_be_begun",
    ),
    "row 107": (
        "a_task_is_listed_with_all_that_was_said_of_it",
        "a_live_task_runs_and_waits",
        "a_task_is_forgotten_however_it_stands",
        f"{KERNEL}::test_what_others_do_is_as_they_say",
        f"{KERNEL}::test_what_is_not_listed_changes_silently",
        f"{KERNEL}::test_a_task_is_forgotten_and_observers_hear_of_it",
        f"{HTTP}::test_its_owner_says_how_it_stands_and_observers_follow",
    ),
    "row 108": (
        f"{KERNEL}::test_monitors_are_disarmed_by_their_own_name_before_they_are_cancelled",
        f"{KERNEL}::test_managed_work_is_aborted_and_says_why",
        f"{KERNEL}::test_what_others_do_is_ended_by_their_callback_once",
    ),
    "row 109": (
        f"{KERNEL}::test_what_has_ended_is_not_cancelled",
        f"{KERNEL}::test_all_live_tasks_are_cancelled_although_one_of_them_will_not",
        f"{HTTP}::test_what_has_ended_stays_as_it_ended",
    ),
    "row 110": (
        f"{ASYNC}::test_a_session_sees_its_live_handles_and_its_live_tasks",
        f"{HTTP}::test_ids_are_live_in_a_session_or_the_first_that_is_not_is_named",
    ),
    "row 111": (
        "tasks_are_handed_over_and_their_ends_find_them",
        "tasks_are_handed_over_all_or_none",
        f"{KERNEL}::test_what_is_handed_over_ends_where_it_is_by_then",
        f"{KERNEL}::test_nothing_is_handed_over_to_where_one_of_the_ids_is_live",
        f"{ASYNC}::test_handles_and_tasks_are_handed_over_together",
    ),
    "row 112": (
        f"{ASYNC}::test_what_is_not_referenced_is_cancelled_and_what_is_kept_untouched",
        f"{HTTP}::test_all_live_tasks_are_ended_or_all_but_some",
    ),
    # The rules
    "B1": (
        f"{KERNEL}::test_an_unknown_session_is_found_out_before_that_nobody_works_here",
        f"{KERNEL}::test_what_is_not_listed_changes_silently",
    ),
    "B2": (f"{KERNEL}::test_an_unknown_session_is_found_out_before_that_nobody_works_here",),
    "B3": (f"{KERNEL}::test_what_background_work_may_have_changed_is_read_anew_once_it_is_waited_for",),
    "B4": (f"{KERNEL}::test_what_others_do_is_as_they_say",),
    "B5": (
        f"{KERNEL}::test_monitors_are_disarmed_by_their_own_name_before_they_are_cancelled",
        f"{KERNEL}::test_what_has_ended_is_not_cancelled",
    ),
    "B6": (f"{KERNEL}::test_all_live_tasks_are_cancelled_although_one_of_them_will_not",),
    "B7": (f"{ASYNC}::test_a_session_sees_its_live_handles_and_its_live_tasks",),
    "B8": (
        f"{ASYNC}::test_handles_and_tasks_are_handed_over_together",
        f"{ASYNC}::test_of_both_parts_none_is_handed_over_when_one_cannot_be",
    ),
    "B9": (
        f"{ASYNC}::test_what_is_not_referenced_is_cancelled_and_what_is_kept_untouched",
        f"{ASYNC}::test_a_call_is_asked_to_end_and_aborted_100_ms_later",
        f"{ASYNC}::test_nothing_is_cancelled_where_the_tasks_cannot_be_listed",
    ),
    # The cures
    "B10": ("an_end_is_an_end", f"{KERNEL}::test_what_has_ended_is_not_cancelled"),
    "B11": ("the_same_id_in_another_session_is_another_task",),
    "B12": (
        "tasks_are_handed_over_and_their_ends_find_them",
        f"{KERNEL}::test_what_is_handed_over_ends_where_it_is_by_then",
        f"{KERNEL}::test_a_task_whose_session_is_not_loaded_ends_there",
    ),
    "B13": ("a_late_end_is_of_its_own_registration_only",),
    "B14": (
        f"{KERNEL}::test_without_a_callback_a_wish_lasts_until_its_owner_has_ended",
        f"{HTTP}::test_what_nobody_here_can_end_is_asked_to_end",
    ),
    "B15": (
        f"{SQLITE}::test_after_a_restart_the_list_is_there_and_says_who_lost_its_owner",
        f"{KERNEL}::test_what_died_with_its_program_is_shown_as_that_after_a_restart",
        f"{RULES}::test_a_managed_task_of_an_earlier_life_has_lost_its_owner_unless_it_had_ended",
    ),
    # Further defects of 6.4
    "a crash inside managed work": (f"{KERNEL}::test_work_that_crashes_has_failed",),
    "a revived wish": ("a_wish_is_kept_and_not_taken_back",),
    "an end that is not told": (f"{KERNEL}::test_an_end_that_cannot_be_written_is_written_later_and_told",),
    "a lag that is skipped": (f"{TELLING}::test_a_slow_reader_is_told_how_much_it_lost_and_goes_on",),
    # Traps
    "X29": ("an_end_is_an_end", f"{RULES}::test_a_task_ends_once_and_a_wish_is_never_taken_back"),
    "X30": (f"{KERNEL}::test_what_is_handed_over_ends_where_it_is_by_then",),
    "X31": (
        f"{RULES}::test_no_event_passes_by_a_filter_of_another_session_or_kind",
        f"{RULES}::test_the_end_of_a_task_is_told_also_to_those_who_want_live_ones_only",
        f"{RULES}::test_a_task_that_is_handed_over_is_told_to_each_of_the_two_as_its_own",
        f"{TELLING}::test_each_reader_gets_what_it_wants_in_order_and_nothing_of_others",
    ),
    # Kinds
    "monitors": (
        "monitors_are_kept_as_they_stand",
        f"{MONITORING}::test_after_a_restart_nothing_runs_and_what_is_to_run_again_is_armed",
        f"{MONITORING}::test_a_flood_is_cut_and_said_to_be",
        f"{MONITORS}::test_the_lines_of_a_monitor_wake_its_session_one_wish_at_a_time",
        f"{MONITORS}::test_what_is_written_until_the_turn_has_ended_is_one_wish",
        f"{MONITORS}::test_errors_and_what_only_notifies_are_shown_and_wake_nobody",
        f"{MONITORS}::test_the_exit_code_is_how_it_ended",
        f"{MONITORS}::test_one_that_takes_too_long_is_ended_with_all_it_began",
        f"{MONITORS}::test_stopping_ends_all_that_it_began",
        f"{MONITORS}::test_what_is_armed_begins_with_the_first_turn_of_a_life",
    ),
    "sub-agents": (
        f"{SUBAGENTS}::test_a_sub_agent_works_in_a_session_of_its_own_and_ends_as_its_turn_does",
        f"{SUBAGENTS}::test_one_that_is_kept_waits_between_its_turns",
        f"{SUBAGENTS}::test_ending_one_ends_all_below_it",
        f"{SUBAGENTS}::test_after_a_restart_sub_agents_go_on_and_can_be_ended",
    ),
}

ROWS = {f"row {number}" for number in range(103, 113)}
RULES_OF_TASKS = {f"B{number}" for number in range(1, 16)}
TRAPS = {"X29", "X30", "X31"}


def test_no_rule_is_left_out() -> None:
    assert COVERED.keys() >= ROWS | RULES_OF_TASKS | TRAPS


@pytest.mark.parametrize("rule", COVERED)
def test_every_check_and_test_that_holds_a_rule_is_there(rule: str) -> None:
    assert COVERED[rule]
    assert [name for name in COVERED[rule] if not is_there(name)] == []
