"""Keep compiled kernels of the test run apart from all others.

numba does not notice that a function called from another file has changed. A cache directory named after the source of
all kernels can hold nothing stale. It has to be named before numba is imported, hence here and not in a fixture.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from pathlib import Path

import pytest

_root = Path(__file__).parent
_digest = hashlib.sha256()
for _source in sorted(_root.glob("fisherstats/engines/*.py")):
    _digest.update(_source.read_bytes())
os.environ["NUMBA_CACHE_DIR"] = str(_root / ".numba_cache" / _digest.hexdigest()[:16])

os.environ.setdefault("KERAS_BACKEND", "torch")  # of the backends the one that other tests need anyway

_LONG_SERIES = {
    "tests/applications/test_acquisition.py::test_both_scores_over_all_labels": 4,
    "tests/applications/test_acquisition.py::test_nothing_of_the_size_of_pool_times_parameters": 2,
    "tests/core/validation/test_memory.py::test_under_a_limit_a_call_is_refused_or_done": 6,
    "tests/core/validation/test_paths.py::test_every_path_of_a_study": 2,
    "tests/device/test_calls.py::test_every_function_agrees": 4,
    "tests/device/test_calls.py::test_the_main_quantities_agree_for_every_family": 6,
    "tests/device/test_closed_form.py::test_forms_of_a_law": 3,
    "tests/device/test_closed_form.py::test_forms_of_a_network": 3,
    "tests/device/test_families.py::test_moments_of_every_family": 3,
    "tests/device/test_training.py::test_every_family": 3,
    "tests/device/test_training.py::test_every_optimiser_with_normalisation": 3,
    "tests/device/test_training.py::test_float32": 3,
    "tests/device/test_training.py::test_layers_without_bias": 3,
    "tests/device/test_training.py::test_transfers_of_a_step": 4,
    "tests/engines/test_engines.py::test_kernel_equals_its_definition": 2,
    "tests/engines/test_engines.py::test_kernel_takes_any_memory_layout": 2,
    "tests/execution/test_clients.py::test_every_client_gives_the_same_bits": 8,
    "tests/execution/test_processes.py::test_a_fork_while_another_thread_loads_or_compiles_the_kernels": 2,
    "tests/execution/test_streaming.py::test_chunks_change_no_bit": 15,
    "tests/execution/test_streaming.py::test_threads_change_no_bit": 3,
    "tests/models/test_activations.py::test_value_slope_and_curvature_to_eight_roundings": 3,
    "tests/models/test_external.py::test_the_numbers_are_those_of_the_perceptron": 2,
    "tests/models/test_families_collapsed.py::test_draws_have_the_promised_moments": 4,
    "tests/models/test_families_collapsed.py::test_sums_and_labels_have_one_law": 3,
    "tests/models/test_families_draws.py::test_draws_have_the_promised_moments": 4,
    "tests/models/test_families_user.py::test_they_pass_the_tests_of_families": 6,
    "tests/models/test_samplers.py::test_many_trials_of_a_rare_outcome": 3,
    "tests/models/test_samplers.py::test_moments_of_many_trials": 5,
    "tests/models/test_samplers.py::test_single_labels_of_a_binomial_family": 3,
    "tests/plotting/test_figures.py::test_damaged_results_are_drawn_or_refused": 4,
    "tests/plotting/test_figures.py::test_keywords_and_settings": 4,
    "tests/plotting/test_figures.py::test_no_figure_takes_the_result_of_another": 4,
    "tests/plotting/test_figures.py::test_no_other_result_is_drawn": 4,
    "tests/quantities/bounds/test_variance.py::test_no_bound_is_violated_at_the_ends_of_a_family": 8,
    "tests/quantities/information/test_accumulator.py::test_two_passes": 2,
    "tests/quantities/information/test_monte_carlo.py::test_estimates_of_separate_calls": 4,
    "tests/quantities/information/test_monte_carlo.py::test_fixed_design": 8,
    "tests/quantities/information/test_monte_carlo.py::test_hidden_information": 3,
    "tests/quantities/information/test_monte_carlo.py::test_power_against_unrelated_labels": 2,
    "tests/quantities/test_labels.py::test_round_trips": 4,
    "tests/quantities/test_lazy.py::test_a_cluster_changes_no_bit": 3,
    "tests/quantities/test_lazy.py::test_chunks_change_no_bit": 2,
    "tests/quantities/test_streams.py::test_draws_of_the_estimators": 2,
    "tests/quantities/test_streams.py::test_every_function_that_draws_per_input": 3,
    "tests/quantities/test_tiles.py::test_a_stored_view_equals_the_one_in_memory": 3,
    "tests/quantities/test_without_bias.py::test_the_information_of_batches_chunks_and_stores": 3,
    "tests/quantities/test_without_bias.py::test_variances_and_bounds": 2,
    "tests/quantities/uncertainty/test_error_propagation.py::test_replicates": 6,
    "tests/study/test_cli.py::TestInterrupt::test_while_computing": 2,
    "tests/study/test_clients.py::test_every_client_gives_the_same_store": 4,
    "tests/study/test_damage.py::test_damaged_stores": 2,
    "tests/study/test_resume.py::TestResume::test_stopped_between_pieces": 3,
    "tests/study/test_store.py::TestDisk::test_no_room_for_the_results": 2,
    "tests/study/test_streams.py::test_other_commands": 3,
    "tests/study/test_study.py::TestData::test_other_tasks": 8,
    "tests/study/test_study.py::TestFiles::test_a_failure_while_writing_leaves_the_earlier_study": 2,
    "tests/study/test_users_files.py::TestBefore::test_files_in_a_study": 3,
    "tests/test_benchmarks.py::test_every_workload_runs_and_agrees": 5,
    "tests/test_public_names.py::test_it_is_imported_first_in_a_new_process": 4,
    "tests/testing/test_check_family.py::test_our_families_pass": 10,
    "tests/theory/test_bounds.py::test_attained_extremes_lie_within_the_certified_ones": 3,
    "tests/theory/test_bounds.py::test_never_wider_than_the_statement_read_literally": 3,
    "tests/theory/test_covariances.py::test_norms": 2,
    "tests/theory/test_empirical_truth.py::test_fixed_random_and_per_input": 5,
    "tests/theory/test_linked.py::test_views_of_the_estimates_agree_and_are_unbiased": 2,
    "tests/theory/test_many_classes.py::test_no_array_over_pairs_of_classes": 3,
    "tests/theory/test_margins.py::test_float32_bounds_are_rounded_outwards": 3,
    "tests/theory/test_observed.py::test_labels_of_the_model_have_standard_normal_scores": 3,
    "tests/theory/test_propagation.py::test_all_labels": 4,
    "tests/theory/test_relative.py::test_every_row_of_the_table": 2,
    "tests/theory/test_tensor_bounds.py::test_norms_and_their_bounds": 2,
    "tests/theory/test_weights.py::test_norms_and_bounds": 4,
    "tests/training/test_gradient.py::test_blocks_add_up_and_threads_change_no_bit": 2,
}
"""Tests that make the same check of many networks, families or functions and take long: every k-th belongs to the ordinary run,
the others to the validation."""

_SLOW = {
    "tests/device/test_calls.py::test_every_closed_form_runs_on_a_device",
    "tests/engines/test_kernel_cache.py::test_a_file_where_the_folder_should_be",
    "tests/engines/test_kernel_cache.py::test_a_missing_file_is_written_again",
    "tests/engines/test_kernel_cache.py::test_damaged_files_on_a_full_disk",
    "tests/engines/test_kernel_cache.py::test_files_that_two_processes_have_exchanged_are_not_taken",
    "tests/engines/test_kernel_cache.py::test_processes_that_write_at_the_same_time",
    "tests/engines/test_kernel_cache.py::test_what_is_cut_short_is_compiled_anew",
    "tests/engines/test_kernel_cache.py::test_without_a_home_no_folder_of_its_name_is_made",
    "tests/execution/test_processes.py::test_a_fork_during_calls_in_other_threads_gives_a_child_that_works",
    "tests/execution/test_processes.py::test_dask_inside_dask",
    "tests/execution/test_processes.py::test_joblib",
    "tests/execution/test_sources.py::test_labels_are_kept_without_the_inputs",
    "tests/execution/test_sources.py::test_memory_is_flat_in_the_number_of_generated_inputs",
    "tests/execution/test_tasks.py::TestDeadWorkers::test_a_piece_that_kills_every_worker_is_named",
    "tests/execution/test_tasks.py::TestDeadWorkers::test_the_only_worker_that_has_the_data_is_killed",
    "tests/quantities/bounds/test_covariance.py::test_no_bound_is_violated_on_random_networks",
    "tests/quantities/bounds/test_variance.py::test_no_bound_is_violated_on_random_networks",
    "tests/quantities/test_lazy.py::test_processes_change_no_bit",
    "tests/quantities/test_tiles.py::test_memory_is_bounded",
    "tests/study/test_clients.py::TestCommandLine::test_scheduler",
    "tests/study/test_clients.py::TestCommandLine::test_workers",
    "tests/study/test_clients.py::test_a_killed_worker_changes_nothing",
    "tests/study/test_clients.py::test_going_on_with_another_client",
    "tests/study/test_resume.py::TestKilled::test_a_few_times",
    "tests/study/test_resume.py::TestResume::test_stopped_between_the_results_and_their_mark",
    "tests/study/test_resume.py::TestResume::test_torn_files_of_a_kill_are_taken_away",
    "tests/study/test_store.py::TestDisk::test_a_real_limit",
    "tests/study/test_store.py::TestDisk::test_no_room_for_a_piece",
    "tests/study/test_streams.py::test_a_stream_without_accents",
    "tests/study/test_study.py::TestData::test_piecewise_linear_network",
    "tests/study/test_users_files.py::TestPlaces::test_from_within",
    "tests/study/test_users_files.py::TestPlaces::test_the_folder_itself",
    "tests/study/test_users_files.py::test_equal_studies_are_equal_files",
    "tests/test_benchmarks.py::test_the_benchmark_of_a_device_runs_and_agrees",
    "tests/test_benchmarks.py::test_the_time_of_the_import_is_measured",
    "validation/adam_second_moment/test_adam_second_moment.py::test_the_watched_moment_is_corrected_for_its_start",
    "validation/mnist_relative/test_mnist_relative.py::test_a_tiny_run_makes_its_tables_and_figures",
}
"""Tests of other processes, damaged caches and killed runs that take longest, each with shorter relatives in the ordinary run:
they belong to the validation."""

_EXAMPLES_NEED = {
    "accumulation.py": "torch",
    "keras.py": "keras",
    "onnx.py": "onnx",
    "safetensors.py": "safetensors",
    "statsmodels.py": "statsmodels",
    "torch.py": "torch",
    "torch_results.py": "torch",
    "unfolding.py": "torch",
    "external_from_torch": "torch",
    "from_jax": "jax",
}
"""Modules of fisherstats/interop, or functions there, -> the library that their examples import."""


@pytest.hookimpl(tryfirst=True)  # before the deselection by markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave most of the long series to the validation; skip examples of libraries that are not installed, by name."""
    seen: dict[str, int] = {}
    for item in items:
        series = item.nodeid.partition("[")[0]
        if series in _LONG_SERIES:
            seen[series] = seen.get(series, -1) + 1
            if seen[series] % _LONG_SERIES[series]:
                item.add_marker(pytest.mark.validation)
        if series in _SLOW:
            item.add_marker(pytest.mark.validation)
        names = (item.path.name, item.name.rpartition(".")[2]) if item.path.parent == _root / "fisherstats" / "interop" else ()
        library = next((_EXAMPLES_NEED[name] for name in names if name in _EXAMPLES_NEED), None)
        if library is not None and importlib.util.find_spec(library) is None:
            item.add_marker(pytest.mark.skip(reason=f"could not import {library!r}"))


def pytest_itemcollected(item: pytest.Item) -> None:
    """Skip the examples of files of networks where their library is not installed."""
    if item.name.startswith("fisherstats.models.network.MLP.") and item.name.endswith((".save", ".load")):
        found = importlib.util.find_spec("safetensors") is not None
        item.add_marker(pytest.mark.skipif(not found, reason="could not import 'safetensors'"))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Collect tests/gpu alone for `-m gpu`: machines with a device often lack what other test files import."""
    wanted = _root / "tests" / "gpu"
    alone = config.getoption("markexpr").strip() == "gpu"
    return (
        True
        if alone and wanted not in (collection_path, *collection_path.parents) and collection_path not in wanted.parents
        else None
    )
