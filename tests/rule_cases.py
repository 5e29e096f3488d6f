# ruff: noqa: E501 - a rule is a row of a table
"""Of each rule a test in which it fires and one in which it is judged and silent.

Both are held to it while they run (conftest.pytest_runtest_call): the rule must fire while `judge`, a
function of the engine, is under way; and where it is silent, `judge` must have been called.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Case(NamedTuple):
    """`judge` as module:function, tests as file::name, with the id of their parameters."""

    judge: str
    fires: str
    silent: str


RULE_CASES: Mapping[str, Case] = {
    "JOB-01": Case(
        "rules:judge_job",
        "test_rules.py::test_job_01_fires_for_a_workload_outside_the_edition",
        "test_rules.py::test_job_01_is_silent_for_a_workload_of_the_edition_and_in_whatif[whatif]",
    ),
    "JOB-02": Case(
        "rules:judge_job",
        "test_rules.py::test_job_02_fires_in_closed[user-seed]",
        "test_rules.py::test_job_02_is_silent_for_what_the_division_lets_change[closed-cluster.hosts]",
    ),
    "JOB-03": Case(
        "rules:judge_job",
        "test_rules.py::test_job_03_fires_where_stages_are_left_out[whatif]",
        "test_rules.py::test_job_03_is_silent_where_all_stages_run",
    ),
    "JOB-04": Case(
        "rules:judge_job",
        "test_cluster.py::test_job_04_fires_for_uneven_ranks[closed-error]",
        "test_cluster.py::test_job_04_does_not_fire_for_even_ranks",
    ),
    "JOB-05": Case(
        "rules:judge_job",
        "test_rules.py::test_job_05_fires_for_an_edition_of_the_users_own",
        "test_rules.py::test_job_05_is_silent_for_an_edition_that_is_shipped",
    ),
    "JOB-06": Case(
        "rules:_undeclared_tuning",
        "test_rules.py::test_job_06_fires_where_the_shell_tunes_object_storage[launcher.forward_env-S3DLIO_H2C-S3DLIO_H2C]",
        "test_rules.py::test_job_06_is_silent_where_the_job_holds_the_value[declared]",
    ),
    "ENV-01": Case(
        "preflight:_launcher_findings",
        "test_preflight.py::test_env_01_fires_without_a_launcher",
        "test_preflight.py::test_a_machine_that_is_ready",
    ),
    "ENV-02": Case(
        "preflight:_needs",
        "test_preflight.py::test_env_02_fires_where_the_engine_cannot_say_what_it_needs[lacks]",
        "test_preflight.py::test_a_machine_that_is_ready",
    ),
    "ENV-03": Case(
        "host_rules:judge_memory",
        "test_host_rules.py::test_env_03_counts_the_ranks_of_each_host",
        "test_host_rules.py::test_hosts_in_order_have_no_findings",
    ),
    "ENV-04": Case(
        "host_rules:judge_reach",
        "test_host_rules.py::test_why_a_host_cannot_be_used[refused-ENV-04-no ssh server listens: SAID-systemctl start sshd]",
        "test_host_rules.py::test_hosts_in_order_have_no_findings",
    ),
    "ENV-05": Case(
        "host_rules:judge_software",
        "test_host_rules.py::test_env_05_fires_where_mlps_differs[content]",
        "test_host_rules.py::test_hosts_in_order_have_no_findings",
    ),
    "ENV-06": Case(
        "host_rules:judge_software",
        "test_host_rules.py::test_env_06_fires_where_python_differs[3.11.9-error]",
        "test_host_rules.py::test_hosts_in_order_have_no_findings",
    ),
    "ENV-07": Case(
        "host_rules:judge_mpi",
        "test_host_rules.py::test_env_07_fires_where_mpi4py_loads_another_mpi[/usr/bin/mpirun-libmpi.so.40]",
        "test_host_rules.py::test_env_07_is_silent_where_all_fit[mpich-a launcher of its own-MPICH Version: 5.0.2]",
    ),
    "ENV-08": Case(
        "host_rules:judge_dependencies",
        "test_host_rules.py::test_env_08_and_09_fire_where_the_benchmark_lacks_something",
        "test_host_rules.py::test_hosts_in_order_have_no_findings",
    ),
    "ENV-09": Case(
        "host_rules:judge_dependencies",
        "test_host_rules.py::test_env_08_and_09_fire_where_the_benchmark_lacks_something",
        "test_host_rules.py::test_hosts_in_order_have_no_findings",
    ),
    "ENV-10": Case(
        "host_rules:judge_root",
        "test_host_rules.py::test_env_10_is_about_root_and_open_mpi[changes0-True]",
        "test_host_rules.py::test_env_10_is_about_root_and_open_mpi[changes1-False]",
    ),
    "ENV-11": Case(
        "muster:judge_muster",
        "test_muster.py::test_env_11_fires_with_the_launchers_words_where_nothing_came",
        "test_muster.py::test_a_muster_that_is_complete",
    ),
    "ENV-12": Case(
        "host_rules:judge_open_files",
        "test_host_rules.py::test_env_12_compares_with_the_hard_limit[1255-True]",
        "test_host_rules.py::test_env_12_compares_with_the_hard_limit[1256-False]",
    ),
    "ENV-13": Case(
        "host_rules:_clocks",
        "test_host_rules.py::test_env_13_is_about_clocks[1.4-its clock is 1.4 s ahead of that of this machine]",
        "test_host_rules.py::test_env_13_is_about_clocks[0.9-None]",
    ),
    "ENV-14": Case(
        "host_rules:judge_setting",
        "test_host_rules.py::test_env_14_and_15_warn_of_cores_and_of_shared_memory",
        "test_host_rules.py::test_hosts_in_order_have_no_findings",
    ),
    "ENV-15": Case(
        "host_rules:judge_setting",
        "test_host_rules.py::test_env_14_and_15_warn_of_cores_and_of_shared_memory",
        "test_host_rules.py::test_hosts_in_order_have_no_findings",
    ),
    "ENV-16": Case(
        "host_rules:judge_likeness",
        "test_host_rules.py::test_env_16_tells_of_slower_networks",
        "test_host_rules.py::test_env_16_takes_a_tenth_of_memory_for_alike",
    ),
    "ENV-17": Case(
        "host_rules:judge_allocation",
        "test_preflight.py::test_env_17_fires_outside_of_an_allocation_and_nothing_is_launched",
        "test_preflight.py::test_env_17_does_not_fire_inside_of_one",
    ),
    "PKG-03": Case(
        "preflight:lockfile_findings",
        "test_preflight.py::test_pkg_03_fires_where_a_package_is_not_as_locked",
        "test_preflight.py::test_pkg_03_is_silent_where_all_is_as_locked",
    ),
    "DIR-01": Case(
        "directories:judge_data_dir",
        "test_directories.py::test_dir_01_fires_on_the_host_that_shows_it[missing]",
        "test_directories.py::test_dir_01_is_silent_for_a_directory_that_can_be_written",
    ),
    "DIR-02": Case(
        "directories:judge_results_dir",
        "test_directories.py::test_dir_02_fires_below_a_file",
        "test_directories.py::test_dir_02_is_silent_where_results_dir_can_be_made",
    ),
    "DIR-03": Case(
        "directories:judge_separation",
        "test_directories.py::test_dir_03_fires_also_where_the_directory_is_on_other_hosts_only",
        "test_directories.py::test_exdev_means_two_file_systems",
    ),
    "CAP-01": Case(
        "directories:judge_space",
        "test_directories.py::test_cap_01_counts_the_least_space_of_all_hosts",
        "test_directories.py::test_cap_01_is_silent_with_just_enough_space",
    ),
    "CAP-02": Case(
        "muster:judge_muster",
        "test_muster.py::test_cap_02_names_hosts_as_the_job_does_and_ranks",
        "test_muster.py::test_a_muster_that_is_complete",
    ),
    "CAP-03": Case(
        "directories:judge_separation",
        "test_directories.py::test_cap_03_fires_where_a_link_can_be_made_and_leaves_none",
        "test_directories.py::test_exdev_means_two_file_systems",
    ),
    "RUN-01": Case(
        "rules:judge_outcomes",
        "test_rules.py::test_run_01_and_02_fire[failed]",
        "test_rules.py::test_run_01_and_02_are_silent_for_complete_stages",
    ),
    "RUN-02": Case(
        "rules:judge_outcomes",
        "test_rules.py::test_run_01_and_02_fire[stopped]",
        "test_rules.py::test_run_01_and_02_are_silent_for_complete_stages",
    ),
    "RES-01": Case(
        "stage_rules:judge_stage_result",
        "test_stage_rules.py::test_res_01_fires_where_nothing_moved[no bytes]",
        "test_stage_rules.py::test_res_01_is_silent_where_one_direction_moved",
    ),
    "RES-02": Case(
        "stage_rules:_verification",
        "test_stage_rules.py::test_res_02_fires_for_mismatches_of_any_stage[False]",
        "test_stage_rules.py::test_a_good_result_has_no_findings",
    ),
    "RES-03": Case(
        "stage_rules:_direct",
        "test_stage_rules.py::test_res_03_fires_where_direct_io_was_refused",
        "test_stage_rules.py::test_res_03_is_silent_where_nobody_asked_for_direct_io_or_there_was_no_io",
    ),
    "RES-04": Case(
        "stage_rules:_latencies",
        "test_stage_rules.py::test_res_04_fires_for_a_latency_longer_than_the_stage",
        "test_stage_rules.py::test_a_good_result_has_no_findings",
    ),
    "RES-05": Case(
        "stage_rules:_device",
        "test_stage_rules.py::test_res_05_fires_where_the_device_moved_other_bytes[disturbed]",
        "test_stage_rules.py::test_res_05_is_silent[within 2 %]",
    ),
    "RES-06": Case(
        "stage_rules:_drift",
        "test_stage_rules.py::test_res_06_fires_where_throughput_drifts[rose]",
        "test_stage_rules.py::test_res_06_is_silent[below 10 %]",
    ),
    "RES-07": Case(
        "stage_rules:_capacity",
        "test_stage_rules.py::test_res_07_fires_where_no_rate_was_confirmed[none]",
        "test_stage_rules.py::test_res_07_is_silent_for_a_capacity_though_the_storage_was_overloaded_to_find_it",
    ),
    "RES-08": Case(
        "stage_rules:judge_rooflines",
        "test_stage_rules.py::test_res_08_fires_where_before_and_after_disagree",
        "test_stage_rules.py::test_res_08_is_silent[within 10 %]",
    ),
    "RES-09": Case(
        "stage_rules:_load",
        "test_stage_rules.py::test_res_09_fires_where_the_storage_was_overloaded[bare]",
        "test_stage_rules.py::test_res_09_is_silent_where_it_kept_up[{'overloaded': False, 'backlog_max': 7}]",
    ),
    "RES-10": Case(
        "stage_rules:judge_stage_result",
        "test_stage_rules.py::test_res_10_fires_alone_where_no_storage_was_touched[noop]",
        "test_stage_rules.py::test_a_good_result_has_no_findings",
    ),
    "RES-11": Case(
        "stage_rules:_working_set",
        "test_stage_rules.py::test_res_11_fires_for_a_small_working_set[direct]",
        "test_stage_rules.py::test_res_11_is_silent_for_a_large_working_set_and_where_sizes_are_not_known",
    ),
    "RES-12": Case(
        "stage_rules:_core",
        "test_stage_rules.py::test_res_12_fires_where_a_faster_core_was_refused",
        "test_stage_rules.py::test_res_12_is_silent_where_nothing_was_refused",
    ),
    "RES-13": Case(
        "stage_rules:_mount",
        "test_stage_rules.py::test_res_13_fires_where_the_mount_moved_other_bytes[more]",
        "test_stage_rules.py::test_res_13_is_silent[within 2 %]",
    ),
    "RES-14": Case(
        "stage_rules:_network",
        "test_stage_rules.py::test_res_14_fires_where_a_network_file_system_moved_more_than_the_network",
        "test_stage_rules.py::test_res_14_is_silent[carried]",
    ),
    "MON-01": Case(
        "monitor_rules:judge_hosts",
        "test_monitor_rules.py::test_mon_01_a_host_without_facts",
        "test_monitor_rules.py::test_hosts_that_stay_as_they_are",
    ),
    "MON-02": Case(
        "monitor_rules:judge_hosts",
        "test_monitor_rules.py::test_mon_02_fires[before0-after0-error MON-02 node1 cluster.hosts: it was started anew while the job ran]",
        "test_monitor_rules.py::test_hosts_that_stay_as_they_are",
    ),
    "MON-03": Case(
        "monitor_rules:judge_series",
        "test_monitor_rules.py::test_mon_03_fires[hosts0-warning MON-03 n2 monitor: its sampler took no sample; the time series lacks what it would have seen]",
        "test_monitor_rules.py::test_mon_03_does_not_fire_for_whole_series",
    ),
    "MON-04": Case(
        "monitor_rules:judge_cpu",
        "test_monitor_rules.py::test_mon_04_fires_for_busy_hosts_alone",
        "test_monitor_rules.py::test_mon_04_does_not_fire_for_hosts_that_have_processors_left",
    ),
    "TRC-01": Case(
        "stage_rules:_trace",
        "test_stage_rules.py::test_trc_01[broken]",
        "test_stage_rules.py::test_trc_01[clean]",
    ),
    "TRN-01": Case(
        "training_rules:judge_known_size",
        "test_training_rules.py::test_trn_01_fires_for_a_dataset_too_small_for_the_steps[closed]",
        "test_training_rules.py::test_trn_01_is_silent_for_a_dataset_just_large_enough",
    ),
    "TRN-02": Case(
        "training_rules:judge_utilisation",
        "test_training_rules.py::test_trn_02_fires_and_names_the_storage[closed]",
        "test_training_rules.py::test_a_good_job_has_no_findings",
    ),
    "TRN-03": Case(
        "training_rules:_two_verdicts",
        "test_training_rules.py::test_trn_03_fires_where_the_two_utilisations_disagree[89.9-90.1-rules0]",
        "test_training_rules.py::test_trn_03_fires_where_the_two_utilisations_disagree[90.0-90.0-rules3]",
    ),
    "TRN-04": Case(
        "training_rules:_from_memory",
        "test_training_rules.py::test_trn_04_fires_and_names_the_epochs[drop-warning]",
        "test_training_rules.py::test_trn_04_is_silent[all from storage]",
    ),
    "TRN-05": Case(
        "training_rules:_resident",
        "test_training_rules.py::test_trn_05_fires_where_dropped_files_stayed_in_memory[1.5-True]",
        "test_training_rules.py::test_trn_05_fires_where_dropped_files_stayed_in_memory[1.0-False]",
    ),
    "TRN-06": Case(
        "training_rules:_whole",
        "test_training_rules.py::test_trn_06_fires_for_missing_steps",
        "test_training_rules.py::test_a_good_job_has_no_findings",
    ),
    "TRN-07": Case(
        "training_rules:_foreign",
        "test_training_rules.py::test_trn_07_says_who_made_the_dataset",
        "test_training_rules.py::test_a_good_job_has_no_findings",
    ),
    "TRN-08": Case(
        "training_rules:_of_dataset",
        "test_training_rules.py::test_trn_08_fires_for_another_dataset[change0-the job asks for 320 files, 00-generate left 310]",
        "test_training_rules.py::test_a_good_job_has_no_findings",
    ),
    "TRN-09": Case(
        "training_rules:judge_client_memory",
        "test_training_rules.py::test_trn_09_is_about_the_memory_of_a_client[less]",
        "test_training_rules.py::test_trn_09_is_about_the_memory_of_a_client[enough]",
    ),
    "CKP-01": Case(
        "checkpoint_rules:_memory",
        "test_checkpoint_rules.py::test_ckp_01_fires_where_the_accelerators_hold_less[closed]",
        "test_checkpoint_rules.py::test_ckp_01_is_silent_where_they_hold_it_and_where_no_layout_is_known",
    ),
    "CKP-02": Case(
        "checkpoint_rules:_form",
        "test_checkpoint_rules.py::test_ckp_02_fires_for_another_number_of_accelerators[whatif]",
        "test_checkpoint_rules.py::test_a_score_has_no_findings[closed]",
    ),
    "CKP-03": Case(
        "checkpoint_rules:_all_there",
        "test_checkpoint_rules.py::test_ckp_03_fires_for_a_missing_checkpoint[00-write-0-2 checkpoints were to be written, 1 were]",
        "test_checkpoint_rules.py::test_a_good_job_has_no_findings_but_remarks_on_its_form",
    ),
    "CKP-04": Case(
        "checkpoint_rules:_cold",
        "test_checkpoint_rules.py::test_ckp_04_fires_where_pages_were_in_memory[closed]",
        "test_checkpoint_rules.py::test_ckp_04_is_silent[98 %]",
    ),
    "CKP-05": Case(
        "checkpoint_rules:_gap",
        "test_checkpoint_rules.py::test_ckp_05_fires_where_reads_begin_late[whatif]",
        "test_checkpoint_rules.py::test_ckp_05_is_silent[25]",
    ),
    "CKP-06": Case(
        "checkpoint_rules:_form",
        "test_checkpoint_rules.py::test_ckp_06_fires_without_fsync[open]",
        "test_checkpoint_rules.py::test_a_score_has_no_findings[closed]",
    ),
    "CKP-07": Case(
        "checkpoint_rules:_size",
        "test_checkpoint_rules.py::test_ckp_07_fires_for_a_part_of_the_bytes[closed]",
        "test_checkpoint_rules.py::test_a_score_has_no_findings[closed]",
    ),
    "CKP-08": Case(
        "checkpoint_rules:_form",
        "test_checkpoint_rules.py::test_ckp_08_fires_for_another_number_of_checkpoints[3-10-open]",
        "test_checkpoint_rules.py::test_a_score_has_no_findings[closed]",
    ),
    "CKP-09": Case(
        "checkpoint_rules:_per_host",
        "test_checkpoint_rules.py::test_ckp_09_fires_for_few_accelerators_on_a_host[division0-3-severities0]",
        "test_checkpoint_rules.py::test_a_score_has_no_findings[closed]",
    ),
    "CKP-10": Case(
        "checkpoint_rules:_form",
        "test_checkpoint_rules.py::test_ckp_10_fires_where_training_goes_on[whatif]",
        "test_checkpoint_rules.py::test_a_score_has_no_findings[closed]",
    ),
    "VDB-01": Case(
        "vector_form:_scale",
        "test_vector_rules.py::test_vdb_01_fires_for_a_scale_that_is_not_scored[published]",
        "test_vector_rules.py::test_a_score_has_no_findings[closed]",
    ),
    "VDB-02": Case(
        "vector_rules:_same_data",
        "test_vector_rules.py::test_vdb_02_fires_where_other_vectors_were_loaded[data0-vectors: 10000 declared, 9000 loaded, 10000 searched]",
        "test_vector_rules.py::test_a_good_job_has_no_findings_but_remarks_on_its_form",
    ),
    "VDB-03": Case(
        "vector_rules:_stored",
        "test_vector_rules.py::test_vdb_03_fires_where_vectors_are_missing[load0]",
        "test_vector_rules.py::test_a_good_job_has_no_findings_but_remarks_on_its_form",
    ),
    "VDB-04": Case(
        "vector_rules:_built",
        "test_vector_rules.py::test_vdb_04_fires_where_another_index_was_searched[backend1-build kmeans_rounds=10 nlist=100 sample=4000, then nlist=7]",
        "test_vector_rules.py::test_a_good_job_has_no_findings_but_remarks_on_its_form",
    ),
    "VDB-05": Case(
        "vector_form:_form",
        "test_vector_rules.py::test_vdb_05_fires_for_another_number_of_runs[open]",
        "test_vector_rules.py::test_a_score_has_no_findings[closed]",
    ),
    "VDB-06": Case(
        "vector_rules:_recall",
        "test_vector_rules.py::test_vdb_06_fires_where_too_little_was_found[recall1-no query found any of its nearest: recall 0 (Rules 5.3.2)-02-probe]",
        "test_vector_rules.py::test_a_good_job_has_no_findings_but_remarks_on_its_form",
    ),
    "VDB-07": Case(
        "vector_form:_form",
        "test_vector_rules.py::test_vdb_07_fires_for_a_short_run[whatif]",
        "test_vector_rules.py::test_a_score_has_no_findings[closed]",
    ),
    "VDB-08": Case(
        "vector_rules:_truth",
        "test_vector_rules.py::test_vdb_08_fires_for_a_truth_of_others",
        "test_vector_rules.py::test_a_good_job_has_no_findings_but_remarks_on_its_form",
    ),
    "VDB-09": Case(
        "vector_rules:_from_storage",
        "test_vector_rules.py::test_vdb_09_fires_where_nothing_was_read[whatif]",
        "test_vector_rules.py::test_vdb_09_is_silent_where_reads_go_on",
    ),
    "VDB-10": Case(
        "vector_rules:_cold",
        "test_vector_rules.py::test_vdb_10_wants_a_cold_index[1.5-1.5 % of the index were in memory before the run, at most 1 % may be-closed]",
        "test_vector_rules.py::test_vdb_10_is_silent_for_a_cold_index",
    ),
    "VDB-11": Case(
        "vector_rules:_answers",
        "test_vector_rules.py::test_vdb_11_fires_for_answers_that_are_none[answers0-answers are wrong: 1,200 ids of no vector-03-run-0]",
        "test_vector_rules.py::test_a_good_job_has_no_findings_but_remarks_on_its_form",
    ),
    "VDB-12": Case(
        "vector_rules:_unanswered",
        "test_vector_rules.py::test_vdb_12_fires_for_requests_that_failed_or_came_too_late",
        "test_vector_rules.py::test_vdb_12_is_silent_for_what_waits_at_the_very_end",
    ),
    "VDB-13": Case(
        "vector_form:_closed",
        "test_vector_rules.py::test_vdb_13_fires_in_closed_alone[changes0-benchmark.database.backend]",
        "test_vector_rules.py::test_vdb_13_is_silent[DISKANN]",
    ),
    "EXT-01": Case(
        "foreign_metrics:judge_foreign",
        "test_foreign_metrics.py::test_findings_say_who_measured_and_what_is_missing",
        "test_foreign_metrics.py::test_of_a_stage_that_is_not_measured_nobody_says_who_measured_it",
    ),
    "EXT-02": Case(
        "rules:_ignored_keys",
        "test_rules.py::test_ext_02_fires_for_a_key_that_a_foreign_program_does_not_read",
        "test_rules.py::test_ext_02_is_silent_where_nobody_has_set_it",
    ),
    "EXT-03": Case(
        "foreign_metrics:judge_foreign",
        "test_foreign_metrics.py::test_findings_say_who_measured_and_what_is_missing",
        "test_foreign_metrics.py::test_a_stage_with_all_its_numbers_has_only_the_remark_who_measured_them",
    ),
    "EXT-04": Case(
        "foreign_metrics:judge_foreign",
        "test_foreign_metrics.py::test_findings_say_who_measured_and_what_is_missing",
        "test_foreign_metrics.py::test_a_stage_with_all_its_numbers_has_only_the_remark_who_measured_them",
    ),
    "EVD-01": Case(
        "verify:read_and_verify",
        "test_verify.py::test_evd_01_fires_for_a_changed_file[verdict.json]",
        "test_verify.py::test_a_sealed_archive_is_valid",
    ),
    "EVD-02": Case(
        "verify:_compared",
        "test_verify.py::test_a_derived_file_that_was_changed_and_sealed_again[overrides.txt-EVD-02]",
        "test_verify.py::test_a_sealed_archive_is_valid",
    ),
    "EVD-03": Case(
        "verify:_compared",
        "test_verify.py::test_a_derived_file_that_was_changed_and_sealed_again[result.json-EVD-03]",
        "test_verify.py::test_a_sealed_archive_is_valid",
    ),
    "EVD-04": Case(
        "verify:_compared",
        "test_verify.py::test_a_derived_file_that_was_changed_and_sealed_again[verdict.json-EVD-04]",
        "test_verify.py::test_a_sealed_archive_is_valid",
    ),
    "EVD-05": Case(
        "evidence_rules:_window",
        "test_evidence_rules.py::test_evd_05_fires[long ago]",
        "test_evidence_rules.py::test_nothing_is_found_in_what_a_run_leaves",
    ),
    "EVD-06": Case(
        "evidence_rules:_places",
        "test_evidence_rules.py::test_evd_06_fires[other host]",
        "test_evidence_rules.py::test_nothing_is_found_in_what_a_run_leaves",
    ),
    "EVD-07": Case(
        "evidence_rules:_sums",
        "test_evidence_rules.py::test_evd_07_fires[sum of latencies]",
        "test_evidence_rules.py::test_nothing_is_found_in_what_a_run_leaves",
    ),
    "SYS-01": Case(
        "system_rules:_judge_premises",
        "test_system_rules.py::test_one_change_gives_one_rule[SYS-01 product_nodes__0__chassis__rack_units]",
        "test_system_rules.py::test_the_examples_have_no_flaw[onprem]",
    ),
    "SYS-02": Case(
        "system_rules:_judge_premises",
        "test_system_rules.py::test_one_change_gives_one_rule[SYS-02 product_nodes__0__chassis__power]",
        "test_system_rules.py::test_the_examples_have_no_flaw[onprem]",
    ),
    "SYS-03": Case(
        "system_rules:_judge_premises",
        "test_system_rules.py::test_one_change_gives_one_rule[SYS-03 clients__0__chassis__rack_units]",
        "test_system_rules.py::test_the_examples_have_no_flaw[onprem]",
    ),
    "SYS-04": Case(
        "system_rules:_judge_premises",
        "test_system_rules.py::test_one_change_gives_one_rule[SYS-04 clients__0__chassis__power]",
        "test_system_rules.py::test_the_examples_have_no_flaw[onprem]",
    ),
    "SYS-05": Case(
        "system_rules:_judge_premises",
        "test_system_rules.py::test_one_change_gives_one_rule[SYS-05 total_rack_units]",
        "test_system_rules.py::test_the_examples_have_no_flaw[onprem]",
    ),
    "SYS-06": Case(
        "system_rules:_judge_premises",
        "test_system_rules.py::test_one_change_gives_one_rule[SYS-06 product_switches__0__power]",
        "test_system_rules.py::test_the_examples_have_no_flaw[onprem]",
    ),
    "SYS-07": Case(
        "system_rules:_judge_cloud",
        "test_system_rules.py::test_one_change_gives_one_rule[SYS-07 product_switches]",
        "test_system_rules.py::test_the_examples_have_no_flaw[cloud]",
    ),
    "SYS-08": Case(
        "system_rules:_judge_cloud",
        "test_system_rules.py::test_one_change_gives_one_rule[SYS-08 rack_power_supplies]",
        "test_system_rules.py::test_the_examples_have_no_flaw[cloud]",
    ),
    "SYS-09": Case(
        "system_rules:_judge_cloud",
        "test_system_rules.py::test_one_change_gives_one_rule[SYS-09 total_rack_units]",
        "test_system_rules.py::test_the_examples_have_no_flaw[cloud]",
    ),
    "SYS-10": Case(
        "system_rules:_judge_cloud",
        "test_system_rules.py::test_one_change_gives_one_rule[SYS-10 clients__0__chassis__power]",
        "test_system_rules.py::test_the_examples_have_no_flaw[cloud]",
    ),
    "SYS-11": Case(
        "system_rules:_judge_premises",
        "test_system_rules.py::test_one_change_gives_one_rule[SYS-11 total_rack_units]",
        "test_system_rules.py::test_the_examples_have_no_flaw[onprem]",
    ),
    "SYS-12": Case(
        "system_rules:_judge_supplies",
        "test_system_rules.py::test_one_change_gives_one_rule[SYS-12 clients__0__chassis__power__min_psus_active]",
        "test_system_rules.py::test_the_examples_have_no_flaw[onprem]",
    ),
    "SYS-13": Case(
        "system_rules:_judge_solution",
        "test_system_rules.py::test_one_change_gives_one_rule[SYS-13 solution__capabilities__remap_time_in_seconds]",
        "test_system_rules.py::test_the_examples_have_no_flaw[onprem]",
    ),
    "SYS-14": Case(
        "system_rules:_judge_solution",
        "test_system_rules.py::test_one_change_gives_one_rule[SYS-14 solution__architecture__client_footprint]",
        "test_system_rules.py::test_the_examples_have_no_flaw[onprem]",
    ),
    "SYS-15": Case(
        "system_rules:_judge_networks",
        "test_system_rules.py::test_one_change_gives_one_rule[SYS-15 product_nodes__0__networking]",
        "test_system_rules.py::test_the_examples_have_no_flaw[onprem]",
    ),
    "SYS-16": Case(
        "system_rules:_judge_networks",
        "test_system_rules.py::test_one_change_gives_one_rule[SYS-16 clients__0__networking]",
        "test_system_rules.py::test_the_examples_have_no_flaw[onprem]",
    ),
    "SYS-17": Case(
        "system_rules:_judge_networks",
        "test_system_rules.py::test_one_change_gives_one_rule[SYS-17 solution__architecture__storage_location]",
        "test_system_rules.py::test_local_storage_needs_no_networks",
    ),
    "SYS-18": Case(
        "system_rules:judge_system",
        "test_system_rules.py::test_one_change_gives_one_rule[SYS-18 clients__0__quantity]",
        "test_system_rules.py::test_the_examples_have_no_flaw[onprem]",
    ),
    "SYS-19": Case(
        "system_rules:judge_system",
        "test_system_rules.py::test_one_change_gives_one_rule[SYS-19 solution__availability]",
        "test_system_rules.py::test_the_examples_have_no_flaw[onprem]",
    ),
    "SYS-20": Case(
        "system_rules:judge_system",
        "test_system_rules.py::test_one_change_gives_one_rule[SYS-20 clients__0__networking__0__type]",
        "test_system_rules.py::test_the_examples_have_no_flaw[onprem]",
    ),
    "SYS-21": Case(
        "system_rules:_judge_premises",
        "test_system_rules.py::test_one_change_gives_one_rule[SYS-21 clients__0__chassis__power]",
        "test_system_rules.py::test_the_examples_have_no_flaw[onprem]",
    ),
    "SYS-22": Case(
        "system_rules:_judge_solution",
        "test_system_rules.py::test_the_name_must_be_that_of_the_system",
        "test_system_rules.py::test_the_name_of_the_system_itself_is_no_flaw",
    ),
    "SYS-23": Case(
        "system_rules:_judge_solution",
        "test_system_rules.py::test_one_change_gives_one_rule[SYS-23 solution__usable_capacity_tib]",
        "test_system_rules.py::test_the_examples_have_no_flaw[onprem]",
    ),
    "SYS-24": Case(
        "system_clients:judge_clients",
        "test_system_clients.py::test_what_hosts_say_otherwise[quantity]",
        "test_system_clients.py::test_the_hosts_that_are_described",
    ),
    "SYS-25": Case(
        "system_clients:judge_clients",
        "test_system_clients.py::test_what_hosts_say_otherwise[memory]",
        "test_system_clients.py::test_the_hosts_that_are_described",
    ),
    "SYS-26": Case(
        "system_clients:judge_clients",
        "test_system_clients.py::test_what_hosts_say_otherwise[hosts]",
        "test_system_clients.py::test_the_hosts_that_are_described",
    ),
    "SYS-27": Case(
        "system_clients:judge_clients",
        "test_system_clients.py::test_what_hosts_say_otherwise[cores]",
        "test_system_clients.py::test_the_hosts_that_are_described",
    ),
    "SYS-28": Case(
        "system_rules:judge_system",
        "test_system_rules.py::test_one_change_gives_one_rule[SYS-28 product_nodes0]",
        "test_system_rules.py::test_the_examples_have_no_flaw[onprem]",
    ),
    "TREE-02": Case(
        "tree.structure:_judge_top",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[a file beside results]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-03": Case(
        "tree.structure:_judge_systems",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[no pdf]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-04": Case(
        "tree.structure:_judge_systems",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[no description]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-05": Case(
        "tree.structure:_judge_top",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[results in capitals]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-06": Case(
        "tree.structure:_judge_phases",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[no datagen]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-07": Case(
        "tree.structure:_judge_phases",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[five runs of training]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-08": Case(
        "tree.structure:_judge_leaf",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[a name that is no time]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-09": Case(
        "tree.verify:_judge_gaps",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[a long pause]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-10": Case(
        "tree.structure:_judge_leaf",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[no summary]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-11": Case(
        "tree.walk:_junk_of",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[a twin of a Mac]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-12": Case(
        "tree.walk:_keep",
        "test_hostile_tree.py::test_harm_is_one_finding[a link to nothing]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-13": Case(
        "tree.verify:_judge_pool",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[a directory at the top]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-14": Case(
        "tree.structure:_judge_sizes",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[an empty document]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-15": Case(
        "tree.verify:_judge_pool",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[no image]",
        "test_tree_rules.py::test_without_a_pool_of_code_images_nothing_is_said_of_one",
    ),
    "TREE-16": Case(
        "tree.structure:_judge_top",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[code of older rounds]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-17": Case(
        "tree.verify:_read_manifest",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[no YAML]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-18": Case(
        "tree.structure:_judge_top",
        "test_tree_layout.py::test_a_tree_of_an_older_round_is_judged_and_said_to_be_one",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "TREE-19": Case(
        "tree.structure:_judge_tables",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[no results.json]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-01": Case(
        "tree.verify:_judge",
        "test_tree_layout.py::test_a_tree_of_an_older_round_is_judged_and_said_to_be_one",
        "test_tree_rules.py::test_of_runs_that_archives_prove_nothing_is_said_to_be_unproven",
    ),
    "UPS-02": Case(
        "tree.upstream_checkpointing:judge_run",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[text for a number]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-03": Case(
        "tree.upstream_common:judge_types",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[truth value as text]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-04": Case(
        "tree.upstream_common:judge_overrides",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[another command]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-05": Case(
        "tree.upstream_training:_judge_settings",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[a lower threshold]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-06": Case(
        "tree.upstream_training:_judge_fit",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[utilisation beyond its throughput]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-07": Case(
        "tree.upstream_training:_judge_fit",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[an edited bandwidth]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-08": Case(
        "tree.upstream_phases:_judge_order",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[datasize after the runs]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-09": Case(
        "tree.upstream_phases:judge_phases",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[more files than datasize]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-10": Case(
        "tree.upstream_kvcache:_judge_sums",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[a sum over trials]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-11": Case(
        "tree.upstream_kvcache:_judge_missing",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[a missing rank]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-12": Case(
        "tree.upstream_kvcache:_judge_results",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[a short trial]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-13": Case(
        "tree.upstream_common:judge_time",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[the end before the start]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-14": Case(
        "tree.upstream_common:judge_identity",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[metadata of another run]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "UPS-15": Case(
        "tree.verify:_judge",
        "test_tree_rules.py::test_a_flaw_gives_its_rule[nothing to publish]",
        "test_tree_rules.py::test_a_clean_tree_has_no_flaw",
    ),
    "SUB-01": Case(
        "package.verify:_read_archive",
        "test_package_mutations.py::test_a_change_breaks_its_rule[the other division]",
        "test_package_mutations.py::test_a_package_as_it_was_made_has_no_findings",
    ),
    "SUB-02": Case(
        "package.verify:_compared",
        "test_package_mutations.py::test_a_change_breaks_its_rule[overrides]",
        "test_package_mutations.py::test_a_package_as_it_was_made_has_no_findings",
    ),
    "SUB-03": Case(
        "package.verify:_compared",
        "test_package_mutations.py::test_a_change_breaks_its_rule[no table]",
        "test_package_mutations.py::test_a_package_as_it_was_made_has_no_findings",
    ),
    "SUB-04": Case(
        "package.verify:_strangers",
        "test_package_mutations.py::test_a_change_breaks_its_rule[one more file]",
        "test_package_mutations.py::test_a_package_as_it_was_made_has_no_findings",
    ),
    "SUB-05": Case(
        "package.verify:_read_home",
        "test_package_mutations.py::test_a_change_breaks_its_rule[no list]",
        "test_package_mutations.py::test_a_package_as_it_was_made_has_no_findings",
    ),
    "SUB-06": Case(
        "package.verify:_compared",
        "test_package_mutations.py::test_a_change_breaks_its_rule[a table]",
        "test_package_mutations.py::test_a_package_as_it_was_made_has_no_findings",
    ),
    "SUB-07": Case(
        "package.verify:_unlisted",
        "test_package_mutations.py::test_a_change_breaks_its_rule[an archive removed]",
        "test_package_mutations.py::test_a_package_as_it_was_made_has_no_findings",
    ),
    "SUB-08": Case(
        "package.images:read_images",
        "test_package_mutations.py::test_a_change_breaks_its_rule[code]",
        "test_package_mutations.py::test_a_package_as_it_was_made_has_no_findings",
    ),
    "SUB-09": Case(
        "package.verify:_judge_systems",
        "test_package_mutations.py::test_a_change_breaks_its_rule[no pdf]",
        "test_package_mutations.py::test_a_package_as_it_was_made_has_no_findings",
    ),
    "SUB-10": Case(
        "package.plan:collisions",
        "test_package_mutations.py::test_archives_that_take_one_place_are_named",
        "test_package_mutations.py::test_archives_of_two_workloads_take_two_places",
    ),
    "SUB-11": Case(
        "package.write:sizes_of",
        "test_package_mutations.py::test_files_that_are_too_large_are_told",
        "test_package_mutations.py::test_files_of_the_size_that_a_site_takes_are_not_told",
    ),
    "SUB-12": Case(
        "package.plan:without_image",
        "test_package_mutations.py::test_code_that_is_in_no_image_is_told",
        "test_package_mutations.py::test_code_of_an_image_is_not_told",
    ),
}
