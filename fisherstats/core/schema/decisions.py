"""Schema rows for decisions: combinations, plans, intervals, observed and empirical information, definiteness, kinks."""

from __future__ import annotations

from fisherstats.core.schema.row import Variable

__all__ = ["DECISIONS"]

DECISIONS = {
    "combined_information": Variable(
        "information", "[input] param", "I-hat-alpha", "best linear combination of the two estimates", "combination"
    ),
    "combination_weight": Variable(
        "weight", "[input] param", "alpha", "weight of the score estimate in the combination", "combination"
    ),
    "combined_variance": Variable("variance", "[input] param", "V_alpha", "variance of the combined estimate", "combination"),
    "score_estimate": Variable("score", "[input] param", "I-hat-1", "score estimate from these labels", "score-estimator"),
    "hessian_estimate": Variable(
        "hessian", "[input] param", "I-hat-2", "Hessian estimate from these labels", "hessian-estimator"
    ),
    "plan_draws": Variable("draws", "estimator [group]", "N", "draws per input for the target relative error", "draws-needed"),
    "plan_draws_random": Variable(
        "draws", "estimator [group]", "N", "draws per input for the target relative error", "draws-needed-random"
    ),
    "plan_best": Variable("best", "[group]", "", "estimator of the smaller variance, or either", "estimator-variance"),
    "plan_median": Variable(
        "median_draws", "estimator layer", "N", "median over a layer's informed parameters of the draws", "draws-needed"
    ),
    "plan_floor": Variable(
        "floor_cv", "[group]", "sqrt(Var_x I / N_x) / I", "relative error that no number of draws removes", "draws-needed-random"
    ),
    "plan_optimal_draws": Variable("optimal_draws", "estimator [group]", "N*", "cost-optimal draws per input", "optimal-split"),
    "plan_optimal_inputs": Variable(
        "optimal_inputs", "estimator [group]", "N_x", "inputs for the target at the optimal draws", "optimal-split"
    ),
    "standard_error": Variable(
        "standard_error",
        "as the estimate",
        "sqrt(V)",
        "closed-form standard error of the estimate over labels at the given inputs",
        "estimator-variance",
    ),
    "calibration_factor": Variable("factor", "candidate", "c", "mean of the estimates over the candidate", "calibration"),
    "calibration_error": Variable("factor_error", "candidate", "se(c)", "standard error of the factor over calls", "calibration"),
    "calibration_shape": Variable(
        "shape_z", "candidate", "max |z|", "largest z-score of a part of the parameters beyond the factor", "calibration"
    ),
    "calibration_fits": Variable(
        "fits", "candidate", "fits", "whether the estimates are a multiple of the candidate, within chance", "calibration"
    ),
    "calibration_detectable": Variable(
        "detectable", "candidate", "d", "relative deviation of the factor that is found with probability 0.99", "calibration"
    ),
    "calibration_spread": Variable(
        "spread", "", "V-hat / V", "mean squared deviation of the estimates over the closed-form variance", "calibration-spread"
    ),
    "calibration_spread_error": Variable(
        "spread_error", "", "se(V-hat / V)", "standard error of the spread over calls", "calibration-spread"
    ),
    "standard_error_stratified": Variable(
        "standard_error",
        "as the estimate",
        "sqrt(V)",
        "closed-form standard error of the estimate over stratified labels at the given inputs",
        "estimator-variance-stratified",
    ),
    "standard_error_random": Variable(
        "standard_error",
        "as the estimate",
        "sqrt(V)",
        "standard error of the estimate over independent inputs and their labels",
        "estimator-variance-random",
    ),
    "standard_error_subsample": Variable(
        "standard_error",
        "as the estimate",
        "sqrt(V)",
        "standard error of the estimate over subsamples of the inputs of a finite population, and their labels",
        "estimator-variance-subsample",
    ),
    "error_freedom": Variable(
        "degrees_of_freedom",
        "as the estimate",
        "nu",
        "degrees of freedom of the standard error, which is estimated from the inputs (Satterthwaite)",
        "estimator-variance-random",
    ),
    "sampling_share": Variable(
        "sampling_share",
        "as the estimate",
        "kept s2 / (n Var)",
        "part of the squared standard error that is due to the sampled inputs, the rest is due to the labels",
        "estimator-variance-random",
    ),
    "standard_error_of": Variable(
        "standard_error_of",
        "as the estimate",
        "I-hat(theta)",
        "values that the standard error belongs to: if the estimate differs from them, the error is stale",
        "both-estimators",
    ),
    "interval_estimate": Variable(
        "estimate", "[input] [estimator] param [param2]", "I-hat", "estimate of the Fisher information", "both-estimators"
    ),
    "interval_lower": Variable(
        "lower", "[input] [estimator] param [param2]", "", "lower end of the confidence interval", "confidence-interval"
    ),
    "interval_upper": Variable(
        "upper", "[input] [estimator] param [param2]", "", "upper end of the confidence interval", "confidence-interval"
    ),
    "interval_lower_sampled": Variable(
        "lower",
        "[estimator] param [param2]",
        "",
        "lower end of the interval for the value over all inputs",
        "confidence-interval-sampled",
    ),
    "interval_upper_sampled": Variable(
        "upper",
        "[estimator] param [param2]",
        "",
        "upper end of the interval for the value over all inputs",
        "confidence-interval-sampled",
    ),
    "observed": Variable(
        "observed", "[input] param [param2]", "j(theta)", "observed information at the data labels", "observed-information"
    ),
    "observed_z": Variable("z_score", "[input] param", "z", "observed minus expected over its standard error", "observed-z"),
    "kink_input": Variable("input", "kink", "i", "input (its label, or its row) at which the unit is on a kink", "kinks"),
    "kink_layer": Variable("layer", "kink", "l", "weight matrix that feeds the unit", "kinks"),
    "kink_unit": Variable("unit", "kink", "o", "row of that weight matrix", "kinks"),
    "kink_value": Variable("value", "kink", "a", "pre-activation of the unit", "kinks"),
    "kink_place": Variable("at", "kink", "", "kink of the activation that it is on", "kinks"),
    "empirical_variance": Variable(
        "variance", "[input] param", "V_q", "variance of the empirical information of drawn labels", "empirical-variance"
    ),
    "empirical_variance_random": Variable(
        "variance",
        "param",
        "V_q",
        "variance of the empirical information of drawn inputs and labels",
        "empirical-variance-random",
    ),
    "empirical_mean": Variable(
        "empirical",
        "[input] param",
        "I_q(theta)",
        "empirical Fisher information under the given label distributions",
        "empirical-fisher",
    ),
    "bias_positive": Variable("n_positive", "input", "", "positive eigenvalues of I_q(h) - I(h)", "empirical-bias"),
    "bias_negative": Variable("n_negative", "input", "", "negative eigenvalues of I_q(h) - I(h)", "empirical-bias"),
    "bias_zero": Variable("n_zero", "input", "", "zero eigenvalues of I_q(h) - I(h)", "empirical-bias"),
    "bias_smallest": Variable("smallest", "input", "", "smallest eigenvalue of I_q(h) - I(h)", "empirical-bias"),
    "bias_largest": Variable("largest", "input", "", "largest eigenvalue of I_q(h) - I(h)", "empirical-bias"),
    "smallest_eigenvalue": Variable(
        "smallest_eigenvalue", "", "lambda_min", "smallest eigenvalue of the exact information", "information"
    ),
    "total_variance": Variable(
        "total_variance",
        "",
        "S",
        "sum of the variances of all entries of the Hessian estimate, one draw, mean over inputs",
        "definiteness",
    ),
    "sufficient_draws": Variable(
        "sufficient_draws", "", "N", "draws per input that are sufficient for P(I-hat-2 > 0) >= 1 - delta", "definiteness"
    ),
    "definite_probability": Variable(
        "probability", "", "P(I-hat-2 > 0)", "fraction of replicates that are positive definite", "definiteness"
    ),
    "definite_lower": Variable(
        "probability_lower", "", "", "lower end of the 95 % Clopper-Pearson interval of the probability", "definiteness"
    ),
    "definite_upper": Variable(
        "probability_upper", "", "", "upper end of the 95 % Clopper-Pearson interval of the probability", "definiteness"
    ),
}
