"""Schema rows of the applications of the Fisher information."""

from __future__ import annotations

from fisherstats.core.schema.row import Variable

__all__ = ["APPLICATIONS"]

APPLICATIONS = {
    "asymptotic_covariance": Variable(
        "covariance",
        "param param2",
        "phi (n I)^+",
        "asymptotic covariance of the maximum likelihood estimate",
        "asymptotic-covariance",
    ),
    "asymptotic_covariance_robust": Variable(
        "covariance",
        "param param2",
        "H^-1 (sum s s') H^-1",
        "sandwich covariance of the maximum likelihood estimate",
        "sandwich",
    ),
    "asymptotic_error": Variable(
        "standard_error",
        "param",
        "se",
        "asymptotic standard error, infinite where the parameter is not estimable",
        "asymptotic-covariance",
    ),
    "asymptotic_error_robust": Variable(
        "standard_error", "param", "se", "robust standard error, infinite where the parameter is not estimable", "sandwich"
    ),
    "estimable": Variable(
        "estimable",
        "param",
        "",
        "whether the unit vector of the parameter is in the range of the information",
        "asymptotic-covariance",
    ),
    "dispersion": Variable("dispersion", "", "phi", "factor of the covariance", "asymptotic-covariance"),
    "information_rank": Variable("information_rank", "", "", "rank of the information", "asymptotic-covariance"),
    "degrees_of_freedom": Variable(
        "degrees_of_freedom",
        "",
        "",
        "independent numbers in the labels minus the rank of their derivative",
        "asymptotic-covariance",
    ),
    "score_statistic": Variable(
        "score_statistic",
        "",
        "s' Cov s",
        "score statistic of the given parameters, 0 at a maximum of the likelihood",
        "asymptotic-covariance",
    ),
    "cramer_rao": Variable(
        "bound",
        "[param or direction]",
        "v' (n I)^+ v",
        "smallest variance of an unbiased estimate, infinite where there is none",
        "cramer-rao",
    ),
    "parameter_estimate": Variable("estimate", "param", "theta", "parameter of the network", "model"),
    "parameter_lower": Variable("lower", "param", "", "lower end of the confidence interval", "wald-interval"),
    "parameter_upper": Variable("upper", "param", "", "upper end of the confidence interval", "wald-interval"),
    "five_information": Variable(
        "information", "definition param", "F", "what is called the diagonal Fisher information", "five-fishers"
    ),
    "five_error": Variable("standard_error", "definition param", "se", "standard error over subsets or labels", "five-fishers"),
    "five_bias": Variable("bias", "definition param", "E[F] - I", "expectation minus the exact value", "five-fishers"),
    "five_distance": Variable(
        "distance", "definition", "|F - I| / |I|", "distance from the exact diagonal over its norm", "five-fishers"
    ),
    "five_ratio": Variable("trace_ratio", "definition", "tr F / tr I", "trace over the exact trace", "five-fishers"),
    "five_passes": Variable(
        "backward_passes", "definition", "", "rows that are backpropagated in one evaluation", "five-fishers"
    ),
    "laplace_deviation": Variable(
        "standard_deviation", "param", "sd", "posterior standard deviation of the parameter", "laplace"
    ),
    "laplace_log_likelihood": Variable(
        "log_likelihood", "", "log p(y|theta)", "log-likelihood of all labels at the estimate", "laplace-evidence", "nat"
    ),
    "laplace_evidence": Variable(
        "log_evidence", "", "log p(y)", "log marginal likelihood of all labels", "laplace-evidence", "nat"
    ),
    "laplace_log_det": Variable(
        "log_det_ratio",
        "",
        "log det(1 + n I / Lambda)",
        "log-determinant of posterior over prior precision",
        "laplace-evidence",
        "nat",
    ),
    "laplace_effective": Variable(
        "effective_parameters", "", "tr(n I Sigma)", "number of parameters that the labels determine", "laplace-evidence"
    ),
    "laplace_predictor": Variable("predictor", "input output", "z", "output of the network at the estimate", "model"),
    "laplace_covariance": Variable(
        "covariance", "input output output2", "J Sigma J'", "posterior covariance of the output", "laplace-prediction"
    ),
    "laplace_lower": Variable("lower", "input output", "", "lower end of the interval of the output", "laplace-prediction"),
    "laplace_upper": Variable("upper", "input output", "", "upper end of the interval of the output", "laplace-prediction"),
    "laplace_mean": Variable(
        "response_mean", "input output", "E[E[t|h]]", "mean of the statistic over the posterior", "laplace-prediction"
    ),
    "laplace_mean_deviation": Variable(
        "response_mean_deviation",
        "input output",
        "sd(E[t|h])",
        "posterior standard deviation of the mean of the statistic",
        "laplace-prediction",
    ),
    "laplace_response_variance": Variable(
        "response_variance", "input output", "Var(t)", "variance of the statistic of a new response", "laplace-prediction"
    ),
    "laplace_response_lower": Variable(
        "response_lower", "input output", "", "lower end of the interval of a new response", "laplace-prediction"
    ),
    "laplace_response_upper": Variable(
        "response_upper", "input output", "", "upper end of the interval of a new response", "laplace-prediction"
    ),
    "predicted_output": Variable("predictor", "input output", "z", "output of the network", "model"),
    "predicted_output_error": Variable(
        "predictor_standard_error", "input output", "se(z)", "standard error of the output", "prediction-interval"
    ),
    "predicted_output_lower": Variable(
        "predictor_lower", "input output", "", "lower end of the interval of the output", "prediction-interval"
    ),
    "predicted_output_upper": Variable(
        "predictor_upper", "input output", "", "upper end of the interval of the output", "prediction-interval"
    ),
    "predicted_mean": Variable("predicted_mean", "input output", "E[t]", "mean of the sufficient statistic", "model"),
    "predicted_mean_error": Variable(
        "mean_standard_error", "input output", "se(E[t])", "standard error of the mean", "prediction-interval"
    ),
    "predicted_mean_lower": Variable(
        "mean_lower", "input output", "", "lower end of the interval of the mean", "prediction-interval"
    ),
    "predicted_mean_upper": Variable(
        "mean_upper", "input output", "", "upper end of the interval of the mean", "prediction-interval"
    ),
    "consolidation_penalty": Variable(
        "penalty", "", "lambda/2 sum F delta^2", "penalty with the chosen importances", "consolidation", "nat"
    ),
    "consolidation_exact": Variable(
        "exact", "", "lambda/2 sum F delta^2", "penalty with the exact information", "consolidation", "nat"
    ),
    "consolidation_error": Variable(
        "standard_error", "", "se", "standard error that the importances put on the penalty", "consolidation", "nat"
    ),
    "gradient_squared_norm": Variable(
        "squared_norm",
        "input",
        "tr I(theta|x)",
        "expected squared length of the gradient over labels of the model",
        "expected-gradient-length",
    ),
    "gradient_squared_norm_deviation": Variable(
        "squared_norm_deviation",
        "input",
        "sd |dl|^2",
        "standard deviation of the squared length of the gradient over labels of the model",
        "expected-gradient-length",
    ),
    "gradient_norm": Variable(
        "norm", "input", "E|dl|", "expected length of the gradient over labels of the model", "expected-gradient-length"
    ),
    "gradient_norm_standard_error": Variable(
        "norm_standard_error",
        "input",
        "se",
        "standard error of the expected length, 0 where it is exact",
        "expected-gradient-length",
    ),
    "chosen_position": Variable("position", "choice", "", "row of the pool", "expected-gradient-length"),
    "chosen_score": Variable("score", "choice", "", "score of the chosen input", "expected-gradient-length"),
    "squared_length": Variable(
        "squared_length", "layer", "d' I d", "squared length of the layer's part of the step", "length-element"
    ),
    "total_squared_length": Variable("total_squared_length", "", "d' I d", "squared length of the step", "length-element"),
    "divergence": Variable("divergence", "layer", "KL", "exact divergence when the layer moves alone", "bregman", "nat"),
    "total_divergence": Variable("total_divergence", "", "KL", "exact divergence of the whole step", "bregman", "nat"),
    "length_error": Variable(
        "standard_error", "layer", "se", "standard error of the score estimate of the squared length", "length-element"
    ),
    "total_length_error": Variable(
        "total_standard_error", "", "se", "standard error of the score estimate of the squared length", "length-element"
    ),
    "output_divergence": Variable(
        "divergence", "[input]", "KL[p|p']", "exact divergence of the other network's law from the first", "bregman", "nat"
    ),
    "output_reverse": Variable(
        "reverse", "[input]", "KL[p'|p]", "exact divergence of the first network's law from the other", "bregman", "nat"
    ),
    "output_jeffreys": Variable("jeffreys", "[input]", "(h'-h)'(eta'-eta)", "sum of both divergences", "bregman", "nat"),
    "output_quadratic": Variable(
        "quadratic", "[input]", "(h'-h)' I(h) (h'-h) / 2", "quadratic approximation of the divergence", "bregman", "nat"
    ),
    "fisher_rao_norm": Variable("norm", "", "sqrt(theta' I theta)", "Fisher-Rao norm of the parameters", "fisher-rao-norm"),
    "fisher_rao_squared": Variable("squared", "", "theta' I theta", "squared Fisher-Rao norm", "fisher-rao-norm"),
    "fisher_rao_error": Variable(
        "standard_error", "", "se", "standard error of the score estimate of the squared norm", "fisher-rao-norm"
    ),
    "volume_eigenvalues": Variable("eigenvalues", "eigenvalue", "lambda", "eigenvalues of the information", "information-volume"),
    "volume_rank": Variable("information_rank", "", "", "rank of the information", "information-volume"),
    "volume_log_volume": Variable(
        "log_volume", "", "log det(I) / 2", "log of the volume element over the rank", "information-volume"
    ),
    "volume_effective_rank": Variable("effective_rank", "", "(tr I)^2 / tr I^2", "effective rank", "information-volume"),
    "volume_effective_dimension": Variable(
        "effective_dimension", "", "tr I (I + tau)^-1", "effective dimension", "information-volume"
    ),
    "volume_log_det": Variable(
        "log_det", "", "log det(1 + I/tau) / 2", "log of the regularised volume element", "information-volume"
    ),
    "leading_eigenvalues": Variable(
        "eigenvalues", "eigenvalue", "lambda", "largest eigenvalues of the information", "eigenpairs"
    ),
    "leading_eigenvectors": Variable("eigenvectors", "eigenvalue param", "q", "their eigenvectors, of length one", "eigenpairs"),
    "eigenpair_residual": Variable(
        "residual", "eigenvalue", "|I q - lambda q|", "distance to an exact eigenvalue, at most", "eigenpairs"
    ),
    "eigenvalue_error": Variable(
        "standard_error", "eigenvalue", "se", "standard error of q' I-hat q for the score estimate", "eigenpairs"
    ),
    "pruning_score": Variable(
        "score", "param", "theta^2 F / 2", "rise of the loss without the parameter, to second order", "pruning", "nat"
    ),
    "pruning_error": Variable("standard_error", "param", "se", "standard error of the score", "pruning", "nat"),
    "pruning_rank": Variable("pruning_rank", "param", "", "position of the parameter in the order of the scores", "pruning"),
    "merged_parameters": Variable("merged", "param", "theta-bar", "parameter of the merged network", "fisher-merging"),
    "merged_error": Variable(
        "standard_error", "param", "se", "standard error that the importances put on the parameter", "fisher-merging"
    ),
    "merged_share": Variable("share", "network param", "F_k / sum F", "share of each network in the parameter", "fisher-merging"),
}
