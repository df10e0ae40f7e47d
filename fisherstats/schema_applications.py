"""Schema rows of what Fisher information is used for."""

from __future__ import annotations

from fisherstats.schema_base import Variable

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
    "information_rank": Variable("rank", "", "", "rank of the information", "asymptotic-covariance"),
    "degrees_of_freedom": Variable(
        "degrees_of_freedom", "", "", "numbers in the labels less the rank of the information", "asymptotic-covariance"
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
    "predicted_mean": Variable("mean", "input output", "E[t]", "mean of the sufficient statistic", "model"),
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
}
