"""Variables that may hold inf or nan, and the meaning of these values; no other result may hold them."""

from __future__ import annotations

__all__ = ["INFINITE", "UNDEFINED"]

_NOTHING = "the form, or every form, gives no bound"
_ONLY_BOUND = "only the exact value is 0"
_NO_NUMBER = "no number is enough"
_NOT_ESTIMABLE = "the parameter or the output is not estimable"

INFINITE = {
    "calibration_shape": "the estimates have no spread and are no multiple of the candidate",
    "error_freedom": "the error has no part that is estimated from the inputs",
    "interval_upper_sampled": "no input of the sample sees the parameter, or the end is past the range",
    "upper": _NOTHING,
    "upper_by_form": _NOTHING,
    "attained": _NOTHING,
    "information_upper": _NOTHING,
    "ratio": _ONLY_BOUND,
    "envelope_lower_ratio": _ONLY_BOUND,
    "envelope_upper_ratio": _ONLY_BOUND,
    "lumped_ratio": "only the lower end is 0",
    "norm_bound_upper": _NOTHING,
    "norm_bound_upper_by_form": _NOTHING,
    "norm_bound_ratio": _ONLY_BOUND,
    "entry_upper": _NOTHING,
    "entry_upper_by_form": _NOTHING,
    "entry_ratio": _ONLY_BOUND,
    "input_variance_upper": _NOTHING,
    "input_variance_ratio": _ONLY_BOUND,
    "extremes_certified": _NOTHING,
    "extremes_by_statement": _NOTHING,
    "extremes_ratio": "the statement gives no bound, or only the certified limit is 0",
    "squared_radius": "the sufficient statistic is unbounded",
    "derivatives_first_ratio": _ONLY_BOUND,
    "derivatives_first_ratio_printed": _ONLY_BOUND,
    "derivatives_second_ratio": _ONLY_BOUND,
    "derivatives_covariance_ratio": _ONLY_BOUND,
    "derivatives_covariance_upper": _NOTHING,
    "derivatives_covariance_from_derivatives": _NOTHING,
    "derivatives_covariance_from_weights": _NOTHING,
    "sweep_upper": _NOTHING,
    "layers_upper": _NOTHING,
    "layers_relative_error": "only the information is 0",
    "layers_draws": _NO_NUMBER,
    "draws_for_mean": _NO_NUMBER,
    "draws_for_median": _NO_NUMBER,
    "upper_tightness": _ONLY_BOUND,
    "plan_draws": _NO_NUMBER,
    "plan_draws_random": _NO_NUMBER,
    "plan_median": _NO_NUMBER,
    "plan_floor": "only the information is 0",
    "plan_optimal_draws": "the inputs add no variance",
    "plan_optimal_inputs": _NO_NUMBER,
    "curvature_squared": "a direction bends natural parameters that it does not move",
    "observed_z": "a deviation is certain",
    "sufficient_draws": _NO_NUMBER,
    "asymptotic_error": _NOT_ESTIMABLE,
    "asymptotic_error_robust": _NOT_ESTIMABLE,
    "cramer_rao": "no unbiased estimate has a finite variance",
    "parameter_lower": _NOT_ESTIMABLE,
    "parameter_upper": _NOT_ESTIMABLE,
    "predicted_output_error": _NOT_ESTIMABLE,
    "predicted_output_lower": _NOT_ESTIMABLE,
    "predicted_output_upper": _NOT_ESTIMABLE,
    "predicted_mean_error": _NOT_ESTIMABLE,
    "predicted_mean_lower": _NOT_ESTIMABLE,
    "predicted_mean_upper": _NOT_ESTIMABLE,
    "training_weight_norm": "the square of the norm is past the range",
    "training_spectral_norm": "the square of the norm is past the range",
    "gradient_norm_standard_error": "one draw has no standard error",
} | {
    f"{what}_{form}_{end}": _ONLY_BOUND if end == "ratio" else _NOTHING
    for what in ("trace", "information")
    for form in ("corrected", "printed")
    for end in ("upper", "ratio", "upper_by_form")
}
"""Schema key -> meaning of inf."""

UNDEFINED = {
    "five_distance": "the information is 0",
    "five_ratio": "the information is 0",
    "calibration_factor": "the candidate is 0",
    "calibration_error": "the candidate is 0",
    "calibration_shape": "the candidate is 0",
    "calibration_detectable": "the candidate is 0",
    "calibration_spread": "the estimator has no variance",
    "calibration_spread_error": "the estimator has no variance",
    "kronecker_relative_error": "the block is 0",
    "relative_error": "the information is 0",
    "layer_mean_error": "the information is 0",
    "layer_median_error": "no parameter is informed",
    "draws_for_mean": "the information is 0",
    "draws_for_median": "no parameter is informed",
    "lower_tightness": "no variance is positive",
    "upper_tightness": "no variance is positive",
    "sweep_relative": "the information is 0",
    "sweep_exponent": "the variance is 0",
    "sweep_information_exponent": "the information is 0",
    "sweep_predicted": "no exponent is known",
    "zone_largest": "the unit is an output",
    "score_statistic": "no labels were given",
    "pruning_error": "the information is empirical",
    "training_accuracy": "no label is right or wrong",
    "validation_accuracy": "no label is right or wrong",
    "path_accuracy": "no label is right or wrong",
    "path_validation_accuracy": "no label is right or wrong",
}
"""Schema key -> meaning of nan."""
