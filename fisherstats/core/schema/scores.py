"""Schema rows of accumulated per-example scores."""

from __future__ import annotations

from fisherstats.core.schema.row import Variable

__all__ = ["SCORES"]

_ARRAY = "as the array of parameters"
_RANKING = "ranking-probability"

_SOURCES = {
    "random": "estimator-variance-random",
    "fixed": "estimator-variance",
    "subsample": "estimator-variance-subsample",
}


def _errors(design: str, source: str) -> dict[str, Variable]:
    symbol = "sqrt(Var-hat)"
    return {
        f"score_error_{design}": Variable(
            "standard_error", _ARRAY, symbol, "estimated standard error of the mean squared score", source
        ),
        f"score_total_error_{design}": Variable(
            "standard_error", "layer", symbol, "estimated standard error of the total of an array of parameters", source
        ),
        f"score_total_covariance_{design}": Variable(
            "covariance", "layer layer2", "Cov-hat", "estimated covariance of the totals of arrays of parameters", source
        ),
    }


SCORES = {
    "score_mean_square": Variable(
        "mean_square",
        _ARRAY,
        "I-hat-1(theta)",
        "mean over inputs of the squared score, the score estimate of the diagonal Fisher information",
        "score-estimator",
    ),
    "score_total": Variable(
        "total", "layer", "tr I-hat-1", "sum of the mean squared scores of an array of parameters", "score-estimator"
    ),
    **{key: row for design, source in _SOURCES.items() for key, row in _errors(design, source).items()},
    "score_position": Variable("position", "layer", "place", "place of the total, 0 for the largest", "score-estimator"),
    "score_probability_larger": Variable(
        "probability_larger",
        "layer layer2",
        "Phi((t_a - t_b) / sd)",
        "probability that the total of the first array is the larger one, normal approximation",
        _RANKING,
    ),
    "score_order_lower": Variable(
        "order_probability_lower",
        "",
        "1 - sum_k Phi(-z_k)",
        "lower limit of the probability that the order of all totals is right, normal approximation",
        _RANKING,
    ),
    "score_order_upper": Variable(
        "order_probability_upper",
        "",
        "min_k Phi(z_k)",
        "upper limit of the probability that the order of all totals is right, normal approximation",
        _RANKING,
    ),
}
