"""Which test stands for which of the situations that users of configurations, commands and packages met.

Each of these was a small script that failed. What it asks for is asked for by the test beside its name.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

CASES = {
    "cli/experiment_entrypoint_warns": "cli/test_running_script.py::"
    "test_an_experiment_takes_plain_arguments_without_a_warning",
    "cli/own_class_by_module": "cli/test_running_script.py::test_a_class_of_the_script_has_both_names",
    "cli/pool_in_entrypoint": "run/test_launching_script.py::test_an_entrypoint_uses_a_pool_of_processes",
    "cli/rest_in_help": "cli/test_running_script.py::test_help_offers_only_what_can_be_set",
    "cli/yaml_from_stdin": "cli/test_yaml_option.py::test_arguments_come_through_a_pipe",
    "cli/yaml_off": "cli/test_yaml_option.py::test_a_word_is_what_is_wanted",
    "cli/yaml_repeated": "cli/test_yaml_option.py::test_the_last_of_several_files_wins",
    "config/async_task": "run/test_launching_script.py::test_the_exit_code_of_a_coroutine_is_that_of_the_task",
    "config/cached_helper": "run/test_launching_script.py::test_a_task_does_what_its_function_does",
    "config/dangling_link_beside_script": "run/test_recorded_code.py::test_only_regular_files_are_code",
    "config/dash_name": "run/test_launching_script.py::test_a_task_may_have_the_name_of_an_option",
    "config/lazy_name_stored": "cli/test_lazy.py::test_a_name_that_is_not_installed_here_is_stored_and_looked_at",
    "config/loose_default": "config/test_inexact_hints.py::test_what_is_equal_to_the_default_is_accepted_in_every_mode",
    "config/no_git_installed": "run/test_recorded_code.py::test_without_git_the_files_are_recorded_and_a_note_says_so",
    "config/not_found_title": "run/test_errors.py::test_an_error_is_caught_as_in_nemo_run",
    "config/optional_float": "cli/test_unions.py::test_the_type_that_fits_is_made",
    "config/pickle_own_class": "run/test_launching_script.py::test_a_task_does_what_its_function_does",
    "config/reset_in_place": "run/test_looking_back.py::test_reset_in_place_runs_the_changed_task_under_a_new_id",
    "config/script_in_package": "run/test_scripts.py::test_a_script_that_will_be_found",
    "config/union_of_classes": "cli/test_unions.py::test_the_type_that_fits_is_made",
    "config/union_reason": "cli/test_unions.py::test_the_message_says_path_type_and_value",
    "config/untracked_copies": "run/test_recorded_code.py::"
    "test_untracked_files_have_a_limit_in_total_and_the_note_says_what_was_left_out",
    "packaging/fifo_in_folder": "packaging/test_odd_files.py::test_a_pipe_is_passed_over",
    "packaging/one_pattern_empty": "packaging/test_odd_files.py::test_one_of_several_patterns_may_match_nothing_yet",
    "packaging/pattern_typo": "packaging/test_odd_files.py::test_a_typing_error_is_named_as_it_was_written",
    "packaging/submodule_subpath": "packaging/test_odd_files.py::test_a_subpath_may_be_or_lie_in_a_submodule",
    "packaging/times_west_of_greenwich": "packaging/test_odd_files.py::"
    "test_packaged_files_can_be_zipped_in_every_time_zone",
    "ux/artifacts_in_direct_run": "run/test_adding.py::test_direct_tasks_find_the_variables_of_any_other_run",
    "ux/from_id_keeps_log_level": "run/test_looking_back.py::test_looking_back_leaves_the_level_of_log_messages",
    "ux/id_makes_no_folder": "run/test_looking_back.py::test_the_id_is_known_before_the_launch_and_makes_nothing",
    "ux/job_state_of_past_experiment": "run/test_looking_back.py::test_jobs_of_a_past_experiment_say_how_they_ended",
    "ux/missing_extra": "test_extras.py::test_a_launch_names_the_command_that_installs_what_is_missing",
    "ux/order_within_a_second": "run/test_store.py::"
    "test_what_was_launched_within_one_second_is_in_the_order_of_its_launch",
    "ux/unreadable_folder": "run/test_store.py::test_a_folder_that_cannot_be_read_is_named_once_and_hides_no_other",
    "ux/workspace_beside_script": "cli/test_running_script.py::"
    "test_a_workspace_file_that_imports_the_script_changes_nothing",
    "ux/workspace_imports_neighbour": "cli/test_running_script.py::test_a_workspace_file_imports_its_neighbours",
}


@pytest.mark.parametrize("case", CASES)
def test_the_test_that_stands_for_a_case_is_there(case: str) -> None:
    file, _, name = CASES[case].partition("::")
    tree = ast.parse((TESTS / file).read_text())
    assert name in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
