"""For each rule a test where it fires, and one where it is judged and has nothing to say.

Some tests are both: they have a case of either kind.
"""

from __future__ import annotations

from collections.abc import Mapping

# Rule id -> (the test where it fires, the test where it is silent), file::function.
CASES: Mapping[str, tuple[str, str]] = {
    "JOB-01": (
        "test_rules.py::test_job_01_fires_for_a_workload_outside_the_edition",
        "test_rules.py::test_job_01_is_silent_for_a_workload_of_the_edition_and_in_whatif",
    ),
    "JOB-02": (
        "test_rules.py::test_job_02_fires_in_closed",
        "test_rules.py::test_job_02_is_silent_for_an_override_to_the_official_value",
    ),
    "JOB-03": (
        "test_rules.py::test_job_03_fires_where_stages_are_left_out",
        "test_rules.py::test_job_03_is_silent_where_all_stages_run",
    ),
    "JOB-04": (
        "test_cluster.py::test_job_04_fires_for_uneven_ranks",
        "test_cluster.py::test_job_04_does_not_fire_for_even_ranks",
    ),
    "JOB-05": (
        "test_rules.py::test_job_05_fires_for_an_edition_of_ones_own",
        "test_rules.py::test_job_05_is_silent_for_the_edition_that_mlps_ships",
    ),
    "JOB-06": (
        "test_rules.py::test_job_06_fires_where_the_shell_tunes_object_storage",
        "test_rules.py::test_job_06_is_silent_where_the_job_holds_the_value",
    ),
    "ENV-01": (
        "test_preflight.py::test_env_01_fires_without_a_launcher",
        "test_preflight.py::test_a_machine_that_is_ready",
    ),
    "ENV-02": (
        "test_preflight.py::test_env_02_fires_where_the_engine_cannot_say_what_it_needs",
        "test_preflight.py::test_a_machine_that_is_ready",
    ),
    "ENV-03": (
        "test_host_rules.py::test_env_03_counts_the_ranks_of_each_host",
        "test_host_rules.py::test_hosts_in_order_have_no_findings",
    ),
    "ENV-04": (
        "test_host_rules.py::test_why_a_host_cannot_be_used",
        "test_host_rules.py::test_hosts_in_order_have_no_findings",
    ),
    "ENV-05": (
        "test_host_rules.py::test_env_05_fires_where_mlps_differs",
        "test_host_rules.py::test_hosts_in_order_have_no_findings",
    ),
    "ENV-06": (
        "test_host_rules.py::test_env_06_fires_where_python_differs",
        "test_host_rules.py::test_hosts_in_order_have_no_findings",
    ),
    "ENV-07": (
        "test_host_rules.py::test_env_07_fires_where_the_program_is_of_another_mpi",
        "test_host_rules.py::test_env_07_is_silent_where_all_fit",
    ),
    "ENV-08": (
        "test_host_rules.py::test_env_08_and_09_fire_where_the_benchmark_lacks_something",
        "test_host_rules.py::test_hosts_in_order_have_no_findings",
    ),
    "ENV-09": (
        "test_host_rules.py::test_env_08_and_09_fire_where_the_benchmark_lacks_something",
        "test_host_rules.py::test_hosts_in_order_have_no_findings",
    ),
    "ENV-10": (
        "test_host_rules.py::test_env_10_is_about_root_and_open_mpi",
        "test_host_rules.py::test_env_10_is_about_root_and_open_mpi",
    ),
    "ENV-11": (
        "test_muster.py::test_env_11_fires_where_ranks_are_elsewhere",
        "test_muster.py::test_a_muster_that_is_complete",
    ),
    "ENV-12": (
        "test_host_rules.py::test_env_12_compares_with_the_hard_limit",
        "test_host_rules.py::test_hosts_in_order_have_no_findings",
    ),
    "ENV-13": (
        "test_host_rules.py::test_env_13_is_about_clocks",
        "test_host_rules.py::test_hosts_in_order_have_no_findings",
    ),
    "ENV-14": (
        "test_host_rules.py::test_env_14_and_15_warn_of_cores_and_of_shared_memory",
        "test_host_rules.py::test_hosts_in_order_have_no_findings",
    ),
    "ENV-15": (
        "test_host_rules.py::test_env_14_and_15_warn_of_cores_and_of_shared_memory",
        "test_host_rules.py::test_env_15_is_not_about_this_machine",
    ),
    "ENV-16": (
        "test_host_rules.py::test_env_16_says_how_hosts_differ",
        "test_host_rules.py::test_env_16_takes_a_tenth_of_memory_for_alike",
    ),
    "ENV-17": (
        "test_preflight.py::test_env_17_fires_outside_of_an_allocation_and_nothing_is_launched",
        "test_preflight.py::test_env_17_does_not_fire_inside_of_one",
    ),
    "PKG-03": (
        "test_preflight.py::test_pkg_03_fires_where_a_package_is_not_as_locked",
        "test_preflight.py::test_pkg_03_is_silent_where_all_is_as_locked",
    ),
    "DIR-01": (
        "test_directories.py::test_dir_01_fires_on_the_host_that_shows_it",
        "test_directories.py::test_dir_01_says_nothing_of_a_host_without_facts",
    ),
    "DIR-02": (
        "test_directories.py::test_dir_02_fires_below_a_file",
        "test_directories.py::test_dir_02_is_silent_where_results_dir_can_be_made",
    ),
    "DIR-03": (
        "test_directories.py::test_dir_03_fires_where_both_are_one",
        "test_directories.py::test_cap_03_is_silent_on_two_file_systems",
    ),
    "CAP-01": (
        "test_directories.py::test_cap_01_counts_the_least_space_of_all_hosts",
        "test_directories.py::test_cap_01_is_silent_with_just_enough_space",
    ),
    "CAP-02": (
        "test_muster.py::test_cap_02_names_hosts_as_the_job_does_and_ranks",
        "test_muster.py::test_a_muster_that_is_complete",
    ),
    "CAP-03": (
        "test_directories.py::test_cap_03_fires_where_a_link_can_be_made_and_leaves_none",
        "test_directories.py::test_cap_03_is_silent_on_two_file_systems",
    ),
    "RUN-01": (
        "test_rules.py::test_run_01_and_02_fire",
        "test_rules.py::test_run_01_and_02_are_silent_for_complete_stages",
    ),
    "RUN-02": (
        "test_rules.py::test_run_01_and_02_fire",
        "test_rules.py::test_run_01_and_02_are_silent_for_complete_stages",
    ),
    "RES-01": (
        "test_stage_rules.py::test_res_01_fires_where_nothing_moved",
        "test_stage_rules.py::test_res_01_is_silent_where_one_direction_moved",
    ),
    "RES-02": (
        "test_stage_rules.py::test_res_02_fires_for_mismatches_of_any_stage",
        "test_stage_rules.py::test_a_good_result_has_no_findings",
    ),
    "RES-03": (
        "test_stage_rules.py::test_res_03_fires_where_direct_io_was_refused",
        "test_stage_rules.py::test_res_03_is_silent_where_nobody_asked_for_direct_io_or_there_was_no_io",
    ),
    "RES-04": (
        "test_stage_rules.py::test_res_04_fires_for_a_latency_longer_than_the_stage",
        "test_stage_rules.py::test_res_04_is_silent_without_operations",
    ),
    "RES-05": (
        "test_stage_rules.py::test_res_05_fires_where_the_device_moved_other_bytes",
        "test_stage_rules.py::test_res_05_is_silent",
    ),
    "RES-06": (
        "test_stage_rules.py::test_res_06_fires_where_throughput_drifts",
        "test_stage_rules.py::test_res_06_is_silent",
    ),
    "RES-07": (
        "test_stage_rules.py::test_res_07_fires_where_no_rate_was_confirmed",
        "test_stage_rules.py::test_res_07_is_silent_for_a_capacity_though_the_storage_was_overloaded_to_find_it",
    ),
    "RES-08": (
        "test_stage_rules.py::test_res_08_fires_where_before_and_after_disagree",
        "test_stage_rules.py::test_res_08_is_silent",
    ),
    "RES-09": (
        "test_stage_rules.py::test_res_09_fires_where_the_storage_was_overloaded",
        "test_stage_rules.py::test_res_09_is_silent_where_it_kept_up",
    ),
    "RES-10": (
        "test_stage_rules.py::test_res_10_fires_alone_where_no_storage_was_touched",
        "test_stage_rules.py::test_res_10_is_silent_for_stages_that_are_not_measured",
    ),
    "RES-11": (
        "test_stage_rules.py::test_res_11_fires_for_a_small_working_set",
        "test_stage_rules.py::test_res_11_is_silent_for_a_large_working_set_and_where_sizes_are_not_known",
    ),
    "RES-12": (
        "test_stage_rules.py::test_res_12_fires_where_a_faster_core_was_refused",
        "test_stage_rules.py::test_res_12_is_silent_where_nothing_was_refused",
    ),
    "RES-13": (
        "test_stage_rules.py::test_res_13_fires_where_the_mount_moved_other_bytes",
        "test_stage_rules.py::test_res_13_is_silent",
    ),
    "RES-14": (
        "test_stage_rules.py::test_res_14_fires_where_a_network_file_system_moved_more_than_the_network",
        "test_stage_rules.py::test_res_14_is_silent",
    ),
    "MON-01": (
        "test_monitor_rules.py::test_mon_01_a_host_without_facts",
        "test_monitor_rules.py::test_hosts_that_stay_as_they_are",
    ),
    "MON-02": (
        "test_monitor_rules.py::test_mon_02_fires",
        "test_monitor_rules.py::test_mon_02_does_not_fire",
    ),
    "MON-03": (
        "test_monitor_rules.py::test_mon_03_fires",
        "test_monitor_rules.py::test_mon_03_does_not_fire_for_whole_series",
    ),
    "MON-04": (
        "test_monitor_rules.py::test_mon_04_fires_for_busy_hosts_alone",
        "test_monitor_rules.py::test_mon_04_fires_for_busy_hosts_alone",
    ),
    "TRC-01": ("test_stage_rules.py::test_trc_01", "test_stage_rules.py::test_trc_01"),
    "TRN-01": (
        "test_training_rules.py::test_trn_01_fires_for_a_dataset_too_small_for_the_steps",
        "test_training_rules.py::test_trn_01_is_silent_for_a_dataset_that_is_large_enough",
    ),
    "TRN-02": (
        "test_training_rules.py::test_trn_02_fires_and_names_the_storage",
        "test_training_rules.py::test_a_good_job_has_no_findings",
    ),
    "TRN-03": (
        "test_training_rules.py::test_trn_03_fires_where_the_two_utilisations_disagree",
        "test_training_rules.py::test_a_good_job_has_no_findings",
    ),
    "TRN-04": (
        "test_training_rules.py::test_trn_04_fires_and_names_the_epochs",
        "test_training_rules.py::test_trn_04_is_silent",
    ),
    "TRN-05": (
        "test_training_rules.py::test_trn_05_fires_where_dropped_files_stayed_in_memory",
        "test_training_rules.py::test_trn_05_is_silent_where_nothing_was_dropped",
    ),
    "TRN-06": (
        "test_training_rules.py::test_trn_06_fires_for_a_missing_epoch",
        "test_training_rules.py::test_a_good_job_has_no_findings",
    ),
    "TRN-07": (
        "test_training_rules.py::test_trn_07_says_who_made_the_dataset",
        "test_training_rules.py::test_a_good_job_has_no_findings",
    ),
    "TRN-08": (
        "test_training_rules.py::test_trn_08_fires_for_another_dataset",
        "test_training_rules.py::test_trn_08_is_silent_where_nobody_looked_at_the_dataset",
    ),
    "TRN-09": (
        "test_training_rules.py::test_trn_09_is_about_the_memory_of_a_client",
        "test_training_rules.py::test_trn_09_is_about_the_memory_of_a_client",
    ),
    "CKP-01": (
        "test_checkpoint_rules.py::test_ckp_01_fires_where_the_accelerators_hold_less",
        "test_checkpoint_rules.py::test_ckp_01_is_silent_where_they_hold_it_and_where_no_layout_is_known",
    ),
    "CKP-02": (
        "test_checkpoint_rules.py::test_ckp_02_fires_for_another_number_of_accelerators",
        "test_checkpoint_rules.py::test_ckp_02_is_silent_where_no_number_is_asked_for",
    ),
    "CKP-03": (
        "test_checkpoint_rules.py::test_ckp_03_fires_for_a_missing_checkpoint",
        "test_checkpoint_rules.py::test_a_good_job_has_no_findings_but_remarks_on_its_form",
    ),
    "CKP-04": (
        "test_checkpoint_rules.py::test_ckp_04_fires_where_pages_were_in_memory",
        "test_checkpoint_rules.py::test_ckp_04_is_silent",
    ),
    "CKP-05": (
        "test_checkpoint_rules.py::test_ckp_05_fires_where_reads_begin_late",
        "test_checkpoint_rules.py::test_ckp_05_is_silent",
    ),
    "CKP-06": (
        "test_checkpoint_rules.py::test_ckp_06_fires_without_fsync",
        "test_checkpoint_rules.py::test_ckp_06_is_silent_where_nothing_is_written",
    ),
    "CKP-07": (
        "test_checkpoint_rules.py::test_ckp_07_fires_for_a_part_of_the_bytes",
        "test_checkpoint_rules.py::test_a_score_has_no_findings",
    ),
    "CKP-08": (
        "test_checkpoint_rules.py::test_ckp_08_fires_for_another_number_of_checkpoints",
        "test_checkpoint_rules.py::test_ckp_08_is_silent",
    ),
    "CKP-09": (
        "test_checkpoint_rules.py::test_ckp_09_fires_for_few_accelerators_on_a_host",
        "test_checkpoint_rules.py::test_a_score_has_no_findings",
    ),
    "CKP-10": (
        "test_checkpoint_rules.py::test_ckp_10_fires_where_training_goes_on",
        "test_checkpoint_rules.py::test_a_score_has_no_findings",
    ),
    "VDB-01": (
        "test_vector_rules.py::test_vdb_01_fires_for_a_scale_that_is_not_scored",
        "test_vector_rules.py::test_a_score_has_no_findings",
    ),
    "VDB-02": (
        "test_vector_rules.py::test_vdb_02_fires_where_other_vectors_were_loaded",
        "test_vector_rules.py::test_vdb_02_takes_a_file_as_it_is",
    ),
    "VDB-03": (
        "test_vector_rules.py::test_vdb_03_fires_where_vectors_are_missing",
        "test_vector_rules.py::test_vdb_03_is_silent_where_the_index_was_there",
    ),
    "VDB-04": (
        "test_vector_rules.py::test_vdb_04_fires_where_nothing_was_built",
        "test_vector_rules.py::test_vdb_04_lets_searches_differ",
    ),
    "VDB-05": (
        "test_vector_rules.py::test_vdb_05_fires_for_another_number_of_runs",
        "test_vector_rules.py::test_a_score_has_no_findings",
    ),
    "VDB-06": (
        "test_vector_rules.py::test_vdb_06_fires_where_too_little_was_found",
        "test_vector_rules.py::test_vdb_06_is_silent_for_what_was_asked_for_and_for_sweeps",
    ),
    "VDB-07": (
        "test_vector_rules.py::test_vdb_07_fires_for_a_short_run",
        "test_vector_rules.py::test_a_score_has_no_findings",
    ),
    "VDB-08": (
        "test_vector_rules.py::test_vdb_08_fires_for_a_truth_of_a_part",
        "test_vector_rules.py::test_a_good_job_has_no_findings_but_remarks_on_its_form",
    ),
    "VDB-09": (
        "test_vector_rules.py::test_vdb_09_fires_where_nothing_was_read",
        "test_vector_rules.py::test_vdb_09_is_silent_where_reads_go_on",
    ),
    "VDB-10": (
        "test_vector_rules.py::test_vdb_10_wants_a_cold_index",
        "test_vector_rules.py::test_vdb_10_is_silent_for_a_cold_index",
    ),
    "VDB-11": (
        "test_vector_rules.py::test_vdb_11_fires_for_answers_that_are_none",
        "test_vector_rules.py::test_a_good_job_has_no_findings_but_remarks_on_its_form",
    ),
    "VDB-12": (
        "test_vector_rules.py::test_vdb_12_fires_for_requests_that_failed_or_came_too_late",
        "test_vector_rules.py::test_vdb_12_is_silent_for_what_waits_at_the_very_end",
    ),
    "VDB-13": (
        "test_vector_rules.py::test_vdb_13_fires_in_closed_alone",
        "test_vector_rules.py::test_vdb_13_is_silent",
    ),
    "EXT-01": (
        "test_foreign_metrics.py::test_findings_say_who_measured_and_what_is_missing",
        "test_foreign_metrics.py::test_a_stage_that_is_not_measured_has_no_numbers_of_anybody",
    ),
    "EXT-02": (
        "test_rules.py::test_ext_02_fires_for_a_key_that_the_program_does_not_read",
        "test_rules.py::test_ext_02_is_silent_for_a_key_that_it_reads",
    ),
    "EXT-03": (
        "test_foreign_metrics.py::test_findings_say_who_measured_and_what_is_missing",
        "test_foreign_metrics.py::test_a_stage_that_is_whole_has_no_finding_but_who_measured",
    ),
    "EXT-04": (
        "test_foreign_metrics.py::test_findings_say_who_measured_and_what_is_missing",
        "test_foreign_metrics.py::test_a_stage_that_is_whole_has_no_finding_but_who_measured",
    ),
    "EVD-01": (
        "test_verify.py::test_evd_01_fires_for_a_changed_file",
        "test_verify.py::test_a_sealed_archive_is_valid",
    ),
    "EVD-02": (
        "test_verify.py::test_a_changed_job_is_found",
        "test_verify.py::test_a_sealed_archive_is_valid",
    ),
    "EVD-03": (
        "test_verify.py::test_aggregates_and_notes_are_recomputed",
        "test_verify.py::test_a_sealed_archive_is_valid",
    ),
    "EVD-04": (
        "test_verify.py::test_a_derived_file_that_was_changed_and_sealed_again",
        "test_verify.py::test_a_sealed_archive_is_valid",
    ),
    "EVD-05": (
        "test_evidence_rules.py::test_evd_05_fires",
        "test_evidence_rules.py::test_evd_05_allows_what_clocks_of_hosts_differ",
    ),
    "EVD-06": (
        "test_evidence_rules.py::test_evd_06_fires",
        "test_evidence_rules.py::test_nothing_is_found_in_what_a_run_leaves",
    ),
    "EVD-07": (
        "test_evidence_rules.py::test_evd_07_fires",
        "test_evidence_rules.py::test_evd_07_allows_less_in_the_timeline_than_in_all",
    ),
    "SYS-01": (
        "test_system_rules.py::test_one_change_gives_one_rule",
        "test_system_rules.py::test_the_examples_have_no_flaw",
    ),
    "SYS-02": (
        "test_system_rules.py::test_one_change_gives_one_rule",
        "test_system_rules.py::test_the_examples_have_no_flaw",
    ),
    "SYS-03": (
        "test_system_rules.py::test_one_change_gives_one_rule",
        "test_system_rules.py::test_the_examples_have_no_flaw",
    ),
    "SYS-04": (
        "test_system_rules.py::test_one_change_gives_one_rule",
        "test_system_rules.py::test_the_examples_have_no_flaw",
    ),
    "SYS-05": (
        "test_system_rules.py::test_one_change_gives_one_rule",
        "test_system_rules.py::test_the_examples_have_no_flaw",
    ),
    "SYS-06": (
        "test_system_rules.py::test_one_change_gives_one_rule",
        "test_system_rules.py::test_the_examples_have_no_flaw",
    ),
    "SYS-07": (
        "test_system_rules.py::test_one_change_gives_one_rule",
        "test_system_rules.py::test_the_examples_have_no_flaw",
    ),
    "SYS-08": (
        "test_system_rules.py::test_one_change_gives_one_rule",
        "test_system_rules.py::test_the_examples_have_no_flaw",
    ),
    "SYS-09": (
        "test_system_rules.py::test_one_change_gives_one_rule",
        "test_system_rules.py::test_the_examples_have_no_flaw",
    ),
    "SYS-10": (
        "test_system_rules.py::test_one_change_gives_one_rule",
        "test_system_rules.py::test_the_examples_have_no_flaw",
    ),
    "SYS-11": (
        "test_system_rules.py::test_one_change_gives_one_rule",
        "test_system_rules.py::test_the_examples_have_no_flaw",
    ),
    "SYS-12": (
        "test_system_rules.py::test_one_change_gives_one_rule",
        "test_system_rules.py::test_the_examples_have_no_flaw",
    ),
    "SYS-13": (
        "test_system_rules.py::test_one_change_gives_one_rule",
        "test_system_rules.py::test_the_examples_have_no_flaw",
    ),
    "SYS-14": (
        "test_system_rules.py::test_one_change_gives_one_rule",
        "test_system_rules.py::test_the_examples_have_no_flaw",
    ),
    "SYS-15": (
        "test_system_rules.py::test_one_change_gives_one_rule",
        "test_system_rules.py::test_the_examples_have_no_flaw",
    ),
    "SYS-16": (
        "test_system_rules.py::test_one_change_gives_one_rule",
        "test_system_rules.py::test_the_examples_have_no_flaw",
    ),
    "SYS-17": (
        "test_system_rules.py::test_one_change_gives_one_rule",
        "test_system_rules.py::test_the_examples_have_no_flaw",
    ),
    "SYS-18": (
        "test_system_rules.py::test_one_change_gives_one_rule",
        "test_system_rules.py::test_the_examples_have_no_flaw",
    ),
    "SYS-19": (
        "test_system_rules.py::test_one_change_gives_one_rule",
        "test_system_rules.py::test_the_examples_have_no_flaw",
    ),
    "SYS-20": (
        "test_system_rules.py::test_one_change_gives_one_rule",
        "test_system_rules.py::test_the_examples_have_no_flaw",
    ),
    "SYS-21": (
        "test_system_rules.py::test_one_change_gives_one_rule",
        "test_system_rules.py::test_the_examples_have_no_flaw",
    ),
    "SYS-22": (
        "test_system_rules.py::test_the_name_must_be_that_of_the_system",
        "test_system_rules.py::test_the_name_must_be_that_of_the_system",
    ),
    "SYS-23": (
        "test_system_rules.py::test_one_change_gives_one_rule",
        "test_system_rules.py::test_the_examples_have_no_flaw",
    ),
    "SYS-24": (
        "test_system_clients.py::test_what_hosts_say_otherwise",
        "test_system_clients.py::test_the_hosts_that_are_described",
    ),
    "SYS-25": (
        "test_system_clients.py::test_what_hosts_say_otherwise",
        "test_system_clients.py::test_the_hosts_that_are_described",
    ),
    "SYS-26": (
        "test_system_clients.py::test_what_hosts_say_otherwise",
        "test_system_clients.py::test_the_hosts_that_are_described",
    ),
    "SYS-27": (
        "test_system_clients.py::test_what_hosts_say_otherwise",
        "test_system_clients.py::test_the_hosts_that_are_described",
    ),
    "SYS-28": (
        "test_system_rules.py::test_one_change_gives_one_rule",
        "test_system_rules.py::test_the_examples_have_no_flaw",
    ),
    "TREE-02": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-03": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-04": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-05": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-06": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-07": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-08": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-09": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-10": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-11": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-12": (
        "test_hostile_tree.py::test_harm_is_one_finding",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-13": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-14": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-15": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_layout.py::test_a_tree_of_an_older_round_is_judged_and_said_to_be_one",
    ),
    "TREE-16": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-17": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-18": (
        "test_tree_layout.py::test_a_tree_of_v2_is_read_as_one_of_v3",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-19": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-01": (
        "test_tree_layout.py::test_a_tree_of_v2_is_read_as_one_of_v3",
        "test_package_mutations.py::test_a_package_has_the_structure_of_the_rules_and_reports_its_tables",
    ),
    "UPS-02": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-03": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-04": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-05": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-06": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-07": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-08": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-09": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-10": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-11": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-12": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-13": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-14": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-15": (
        "test_tree_rules.py::test_a_flaw_gives_its_rule",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "SUB-01": (
        "test_package_mutations.py::test_a_change_breaks_its_rule",
        "test_package_mutations.py::test_a_package_as_it_was_made_has_no_findings",
    ),
    "SUB-02": (
        "test_package_mutations.py::test_a_change_breaks_its_rule",
        "test_package_mutations.py::test_a_package_as_it_was_made_has_no_findings",
    ),
    "SUB-03": (
        "test_package_mutations.py::test_a_change_breaks_its_rule",
        "test_package_mutations.py::test_a_package_as_it_was_made_has_no_findings",
    ),
    "SUB-04": (
        "test_package_mutations.py::test_a_change_breaks_its_rule",
        "test_package_mutations.py::test_a_package_as_it_was_made_has_no_findings",
    ),
    "SUB-05": (
        "test_package_mutations.py::test_a_change_breaks_its_rule",
        "test_package_mutations.py::test_a_package_as_it_was_made_has_no_findings",
    ),
    "SUB-06": (
        "test_package_mutations.py::test_a_change_breaks_its_rule",
        "test_package_mutations.py::test_a_package_as_it_was_made_has_no_findings",
    ),
    "SUB-07": (
        "test_package_mutations.py::test_a_change_breaks_its_rule",
        "test_package_mutations.py::test_a_package_as_it_was_made_has_no_findings",
    ),
    "SUB-08": (
        "test_package_mutations.py::test_a_change_breaks_its_rule",
        "test_package_mutations.py::test_a_package_as_it_was_made_has_no_findings",
    ),
    "SUB-09": (
        "test_package_mutations.py::test_a_change_breaks_its_rule",
        "test_package_mutations.py::test_a_package_as_it_was_made_has_no_findings",
    ),
    "SUB-10": (
        "test_package_mutations.py::test_archives_that_take_one_place_are_named",
        "test_package_mutations.py::test_archives_that_take_one_place_are_named",
    ),
    "SUB-11": (
        "test_package_mutations.py::test_files_that_are_too_large_are_told",
        "test_package_mutations.py::test_files_that_are_too_large_are_told",
    ),
    "SUB-12": (
        "test_package_mutations.py::test_code_that_is_in_no_image_is_told",
        "test_package_mutations.py::test_code_that_is_in_no_image_is_told",
    ),
}
