"""Schema rows of the intermediate results that a running study stores."""

from __future__ import annotations

from fisherstats.core.schema.row import Variable

__all__ = ["STUDY"]

STUDY = {
    "piece_mark": Variable(
        "mark", "piece", "", "digest of the results of a piece of work, written after them; 0 where it is not done", "model"
    ),
    "group_first": Variable(
        "first_estimate",
        "group estimator param",
        "I-hat(theta)",
        "estimates of the first replicate of a group",
        "both-estimators",
    ),
    "group_squares": Variable(
        "squared_deviation",
        "group estimator param",
        "sum (I-hat - I)^2",
        "sum over the replicates of a group of the squared deviations from the exact information",
        "observed-error",
    ),
    "group_layer_squares": Variable(
        "layer_squared_deviation",
        "group estimator layer",
        "",
        "sum over the replicates of a group of the squared deviations of a layer's mean entry from the exact one",
        "observed-error",
    ),
}
