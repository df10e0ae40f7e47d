"""Schema rows of the information, its estimates and their errors."""

from __future__ import annotations

from fisherstats.core.schema.row import Variable

__all__ = ["ESTIMATES"]

ESTIMATES = {
    "output_information": Variable(
        "output_information",
        "input output output2",
        "I(h)",
        "Fisher information of the natural parameters at each input",
        "output-information",
    ),
    "hidden_information": Variable(
        "hidden_information",
        "input unit unit2",
        "I(h_l)",
        "Fisher information of a layer's outputs at each input",
        "hidden-information",
    ),
    "hidden_information_estimate": Variable(
        "hidden_information",
        "input unit unit2",
        "I-hat-1(h_l)",
        "score estimate of the Fisher information of a layer's outputs at each input",
        "hidden-information",
    ),
    "hidden_information_empirical": Variable(
        "hidden_information",
        "input unit unit2",
        "I_q(h_l)",
        "empirical Fisher information of a layer's outputs at each input",
        "empirical-fisher",
    ),
    "hidden_information_variance": Variable(
        "variance",
        "input unit unit2",
        "V_1(h_l)",
        "variance of the score estimate of the Fisher information of a layer's outputs",
        "hidden-information-variance",
    ),
    "jacobian": Variable(
        "jacobian", "input output param", "J", "derivative of the output by the parameters at each input", "jacobian"
    ),
    "information": Variable(
        "information",
        "[input] param [param2]",
        "I(theta)",
        "exact Fisher information of the parameters, mean over inputs",
        "information",
    ),
    "kronecker_inputs": Variable(
        "A",
        "[input] feature feature2",
        "A_l",
        "second moment of a layer's inputs and its constant one, mean over inputs",
        "kronecker-factors",
    ),
    "kronecker_units": Variable(
        "G",
        "[input] unit unit2",
        "G_l",
        "Fisher information of a layer's pre-activations, mean over inputs",
        "kronecker-factors",
    ),
    "kronecker_error": Variable(
        "error", "layer", "|B - G (x) A|", "Frobenius distance of the Kronecker product from the exact block", "kronecker-error"
    ),
    "kronecker_norm": Variable("norm", "layer", "|B|", "Frobenius norm of the exact block of a layer", "kronecker-error"),
    "kronecker_relative_error": Variable(
        "relative_error",
        "layer",
        "|B - G (x) A| / |B|",
        "distance over the norm of the exact block (NaN where the block is 0)",
        "kronecker-error",
    ),
    "estimate_score": Variable(
        "information",
        "[input] param [param2]",
        "I-hat-1(theta)",
        "score estimate of the Fisher information",
        "score-estimator",
    ),
    "estimate_hessian": Variable(
        "information",
        "[input] param [param2]",
        "I-hat-2(theta)",
        "Hessian estimate of the Fisher information",
        "hessian-estimator",
    ),
    "estimate_both": Variable(
        "information",
        "[input] estimator param [param2]",
        "I-hat(theta)",
        "score and Hessian estimates of the Fisher information from the same labels",
        "both-estimators",
    ),
    "drawn_labels": Variable("label", "input draw [response]", "y", "label drawn from the model", "drawn-labels", "y"),
    "empirical": Variable(
        "empirical",
        "[input] param [param2]",
        "I_q(theta)",
        "empirical Fisher information at the data labels",
        "empirical-fisher",
    ),
    "expected": Variable(
        "expected", "[input] param [param2]", "I(theta)", "exact Fisher information under the model", "information"
    ),
    "bias": Variable("bias", "[input] param [param2]", "I_q - I", "empirical minus exact Fisher information", "empirical-bias"),
    "variance": Variable(
        "variance", "[input] estimator param", "V_j(theta_i)", "variance of the estimator", "estimator-variance"
    ),
    "variance_stratified": Variable(
        "variance",
        "[input] estimator param",
        "V_j(theta_i)",
        "variance of the estimator with stratified labels",
        "estimator-variance-stratified",
    ),
    "variance_random": Variable(
        "variance",
        "estimator param",
        "V_j(theta_i)",
        "variance of the estimator over random inputs and labels",
        "estimator-variance-random",
    ),
    "variance_exact_labels": Variable(
        "variance",
        "estimator param",
        "V_j(theta_i)",
        "variance over random inputs of the mean exact information, the limit of many labels",
        "estimator-variance-exact-labels",
    ),
    "variance_subsample": Variable(
        "variance",
        "estimator param",
        "V_j(theta_i)",
        "variance of the estimator over a subsample of inputs and their labels",
        "estimator-variance-subsample",
    ),
    "cross_covariance": Variable(
        "cross_covariance",
        "[input] param",
        "C_12(theta_i)",
        "covariance of the score and the Hessian estimator from the same labels",
        "cross-covariance",
    ),
    "cross_covariance_stratified": Variable(
        "cross_covariance",
        "[input] param",
        "C_12(theta_i)",
        "covariance of the score and the Hessian estimator from the same stratified labels",
        "estimator-variance-stratified",
    ),
    "variance_group_stratified": Variable(
        "variance",
        "[input] estimator [group]",
        "V_j",
        "variance of the mean estimated entry of a group of parameters with stratified labels",
        "estimator-variance-stratified",
    ),
    "cross_covariance_group_stratified": Variable(
        "cross_covariance",
        "[input] [group]",
        "C_12",
        "covariance of the two estimators of the mean entry of a group of parameters with stratified labels",
        "estimator-variance-stratified",
    ),
    "variance_group": Variable(
        "variance",
        "[input] estimator [group]",
        "V_j",
        "variance of the mean estimated entry of a group of parameters",
        "group-variance",
    ),
    "cross_covariance_group": Variable(
        "cross_covariance",
        "[input] [group]",
        "C_12",
        "covariance of the two estimators of the mean entry of a group of parameters",
        "group-variance",
    ),
    "information_group": Variable(
        "information",
        "[input] [group]",
        "mean I(theta_i)",
        "exact mean entry of the diagonal Fisher information over a group of parameters",
        "information",
    ),
    "exact": Variable(
        "exact", "[input] estimator param", "V_j(theta_i)", "exact variance of the estimator", "estimator-variance"
    ),
    "lower": Variable("lower", "[input] estimator param", "V_j lower", "largest certified lower bound of the variance", "bounds"),
    "upper": Variable(
        "upper", "[input] estimator param", "V_j upper", "smallest certified upper bound of the variance", "bounds"
    ),
    "ratio": Variable("ratio", "[input] estimator param", "upper / exact", "tightness of the upper bound, 1 is exact", "bounds"),
    "lower_by_form": Variable(
        "lower_by_form",
        "[input] bound estimator param",
        "V_j lower",
        "lower bound by each form (0 where it gives none)",
        "bounds",
    ),
    "upper_by_form": Variable(
        "upper_by_form",
        "[input] bound estimator param",
        "V_j upper",
        "upper bound by each form (inf where it gives none)",
        "bounds",
    ),
    "attained": Variable(
        "attained",
        "[input] side param",
        "|dh|^4 lambda~(M) / N",
        "Theorem 4.1 with quartic extremes attained by an iteration (shown, not certified, never used as a bound)",
        "bounds",
    ),
    "information_lower": Variable(
        "information_lower",
        "[input] param",
        "I(theta_i) lower",
        "largest certified lower bound of the information",
        "information-bounds",
    ),
    "information_exact": Variable("information_exact", "[input] param", "I(theta_i)", "exact Fisher information", "information"),
    "information_upper": Variable(
        "information_upper",
        "[input] param",
        "I(theta_i) upper",
        "smallest certified upper bound of the information",
        "information-bounds",
    ),
    "study_inputs": Variable("x", "input feature", "x", "inputs at which the information is taken", "model"),
    "study_labels": Variable("y", "input [output]", "y", "data labels of the inputs (no quantity of a study uses them)", "model"),
    "parameters": Variable("parameters", "param", "theta", "trained weights and biases", "coordinates"),
    "replicate_estimate": Variable(
        "estimate", "estimator n_draws param", "I-hat(theta)", "estimates of the first replicate", "both-estimators"
    ),
    "observed_standard_error": Variable(
        "observed_standard_error",
        "estimator n_draws param",
        "s",
        "root mean square deviation of the replicates from the exact information",
        "observed-error",
    ),
    "relative_error": Variable(
        "relative_error",
        "estimator param",
        "sqrt(V_j) / I",
        "standard error at one draw per input over the information (NaN where the information is 0)",
        "estimator-variance",
    ),
    "layer_size": Variable("n_parameters", "layer", "P_l", "number of parameters in a layer", "coordinates"),
    "layer_informed": Variable(
        "n_informed", "layer", "", "number of parameters in a layer with positive information", "information"
    ),
    "layer_standard_error": Variable(
        "standard_error",
        "estimator n_draws layer",
        "sqrt(V_j)",
        "closed-form standard error of the mean estimated entry of a layer",
        "group-variance",
    ),
    "layer_observed_error": Variable(
        "observed_standard_error",
        "estimator n_draws layer",
        "s",
        "root mean square deviation of a layer's mean estimated entry from the exact one over the replicates",
        "observed-error",
    ),
    "expected_ratio": Variable(
        "expected_ratio",
        "side",
        "s / sqrt(V_j)",
        "range that holds the ratio of observed to closed-form standard error with probability 0.95 (normal estimates)",
        "observed-error",
    ),
    "layer_mean_error": Variable(
        "mean_relative_error",
        "estimator layer",
        "sqrt(V_j) / I",
        "relative standard error of a layer's mean entry at one draw per input",
        "group-variance",
    ),
    "layer_median_error": Variable(
        "median_relative_error",
        "estimator layer",
        "median sqrt(V_j) / I",
        "median over a layer's informed parameters of the relative standard error at one draw per input",
        "estimator-variance",
    ),
    "draws_for_mean": Variable(
        "draws_for_mean",
        "estimator layer",
        "N",
        "draws per input for the target relative standard error of a layer's mean entry",
        "draws-needed",
    ),
    "draws_for_median": Variable(
        "draws_for_median",
        "estimator layer",
        "N",
        "draws per input for the target relative standard error of a layer's median parameter",
        "draws-needed",
    ),
    "lower_tightness": Variable(
        "lower_tightness",
        "estimator layer",
        "lower / exact",
        "median over a layer's parameters of positive variance",
        "bounds",
    ),
    "upper_tightness": Variable(
        "upper_tightness",
        "estimator layer",
        "upper / exact",
        "median over a layer's parameters of positive variance",
        "bounds",
    ),
    "covariance_score": Variable(
        "covariance", "param param2 [param3 param4]", "Cov(I-hat-1)", "covariance of the score estimator", "covariance-score"
    ),
    "covariance_hessian": Variable(
        "covariance", "param param2 [param3 param4]", "Cov(I-hat-2)", "covariance of the Hessian estimator", "covariance-hessian"
    ),
    "covariance_cross": Variable(
        "covariance",
        "param param2 param3 param4",
        "Cov(I-hat-1, I-hat-2)",
        "covariance of the score with the Hessian estimator from the same labels",
        "covariance-cross",
    ),
    "norm_exact": Variable(
        "exact",
        "[input] estimator norm",
        "|Cov(I-hat_j)|",
        "norm of the matricised covariance of the estimator",
        "covariance-norms",
    ),
    "tensor_spectral_lower": Variable(
        "tensor_spectral_lower",
        "estimator",
        "|Cov|_2sigma lower",
        "attained value of the covariance tensor on unit vectors",
        "tensor-spectral",
    ),
    "tensor_spectral_upper": Variable(
        "tensor_spectral_upper",
        "estimator",
        "|Cov|_2sigma upper",
        "certified bound of the tensor spectral norm",
        "tensor-spectral",
    ),
    "variance_functional": Variable(
        "variance", "[input] estimator", "Var tr(X I-hat_j)", "variance of a linear functional of the estimate", "group-variance"
    ),
    "cross_covariance_functional": Variable(
        "cross_covariance", "[input]", "C_12", "covariance of a linear functional of the two estimates", "group-variance"
    ),
    "information_functional": Variable(
        "information", "[input]", "tr(X I)", "exact value of the linear functional", "information"
    ),
    "estimate_hutchinson_gaussian": Variable(
        "information",
        "[input] param",
        "F-hat(theta)",
        "estimate of the diagonal Fisher information from Gaussian probes",
        "probe-estimator",
    ),
    "estimate_hutchinson_rademacher": Variable(
        "information",
        "[input] param",
        "F-hat(theta)",
        "estimate of the diagonal Fisher information from Rademacher probes",
        "probe-estimator",
    ),
    "estimate_several": Variable(
        "information",
        "[input] estimator param",
        "I-hat(theta)",
        "estimates of the diagonal Fisher information from labels and from random probes",
        "probe-estimator",
    ),
    "standard_error_probes": Variable(
        "standard_error",
        "as the estimate",
        "sqrt(V)",
        "closed-form standard error of the estimate for the given inputs",
        "probe-variance",
    ),
    "variance_probes": Variable(
        "variance",
        "[input] estimator [param or group]",
        "V_j",
        "variance of the estimator from labels or random probes (of its mean entry for a group)",
        "probe-variance",
    ),
    "lumped_lower": Variable(
        "information_lower",
        "[input] param",
        "I_k(theta_i)",
        "lower end of the information, from the most probable classes",
        "lumped-classes",
    ),
    "lumped_upper": Variable(
        "information_upper",
        "[input] param",
        "I_k + P Var_q",
        "upper end of the information, from the most probable classes",
        "lumped-classes",
    ),
    "lumped_ratio": Variable("ratio", "[input] param", "upper/lower", "upper end over the lower one", "lumped-classes"),
    "envelope_lower": Variable(
        "information_lower",
        "[input] param",
        "F lower",
        "lower envelope of the information from the largest eigenpairs of I(h)",
        "class-envelopes",
    ),
    "envelope_upper": Variable(
        "information_upper", "[input] param", "F upper", "upper envelope of the information from diag(p)", "class-envelopes"
    ),
    "envelope_lower_ratio": Variable(
        "lower_ratio", "[input] param", "lower / exact", "tightness of the lower envelope, 1 is exact", "class-envelopes"
    ),
    "envelope_upper_ratio": Variable(
        "upper_ratio", "[input] param", "upper / exact", "tightness of the upper envelope, 1 is exact", "class-envelopes"
    ),
    "nu_20": Variable("nu_20", "[input] direction", "nu_20", "information along the direction, (Jv)' I(h) Jv", "efron-curvature"),
    "nu_11": Variable("nu_11", "[input] direction", "nu_11", "(Jv)' I(h) H[v,v]", "efron-curvature"),
    "nu_02": Variable("nu_02", "[input] direction", "nu_02", "H[v,v]' I(h) H[v,v]", "efron-curvature"),
    "curvature_squared": Variable(
        "curvature_squared",
        "[input] direction",
        "gamma^2",
        "squared statistical curvature along the direction",
        "efron-curvature",
    ),
    "amari_chentsov": Variable(
        "amari_chentsov",
        "direction direction2 direction3",
        "T(u, v, w)",
        "Amari-Chentsov tensor of directions, mean over inputs",
        "amari-chentsov",
    ),
    "propagated": Variable(
        "value", "[param or eigenvalue]", "phi(F)", "functional of the exact Fisher information", "information"
    ),
    "propagated_error": Variable(
        "standard_error",
        "[estimator] [param or eigenvalue]",
        "sqrt(Var(tr X I-hat))",
        "delta-method standard error of the functional of the estimate",
        "delta-method",
    ),
    "propagated_bias": Variable(
        "bias",
        "[estimator] [param or eigenvalue]",
        "E[D2phi[E,E]] / 2",
        "second-order bias of the functional of the estimate",
        "delta-method",
    ),
}
