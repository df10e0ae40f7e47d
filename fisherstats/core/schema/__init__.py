"""All variables and coordinates of results: dims, units, symbol, meaning and source key.

Dims in brackets are optional (`per_input`, a pair of estimators); `group` stands for layer, unit or no dim.
"""

from __future__ import annotations

from fisherstats.core.schema.applications import APPLICATIONS
from fisherstats.core.schema.bounds import BOUNDS
from fisherstats.core.schema.decisions import DECISIONS
from fisherstats.core.schema.estimates import ESTIMATES
from fisherstats.core.schema.relative import RELATIVE
from fisherstats.core.schema.row import Variable
from fisherstats.core.schema.scores import SCORES
from fisherstats.core.schema.study import STUDY
from fisherstats.core.schema.training import TRAINING
from fisherstats.core.schema.weights import WEIGHTS

__all__ = ["COORDINATES", "DIAGONAL_ESTIMATORS", "ESTIMATORS", "VARIABLES", "Variable"]

ESTIMATORS = ("score", "hessian")

DIAGONAL_ESTIMATORS = (*ESTIMATORS, "hutchinson_gaussian", "hutchinson_rademacher")
"""Those from labels, and those of the diagonal alone from random probes."""


VARIABLES = {
    **ESTIMATES,
    **BOUNDS,
    **DECISIONS,
    **WEIGHTS,
    **TRAINING,
    **RELATIVE,
    **APPLICATIONS,
    **STUDY,
    **SCORES,
}

COORDINATES = {
    "choice": "chosen input, the largest score first",
    "kink": "unit and input on a kink",
    "direction": "direction in the parameter space, a row of `directions`",
    "epoch": "passes over the training inputs so far",
    "eigenvalue": "position of the eigenvalue, the largest first",
    "network": "one of the networks that are merged",
    "norm": "norm: frobenius, spectral (largest singular value of the matrix form) or trace",
    "param": "index in the parameter vector: layer by layer, row-major, bias last in each row",
    "param_layer": "weight matrix of the parameter",
    "param_unit_out": "row in the weight matrix (unit that receives)",
    "param_unit_in": "column in the weight matrix (unit that sends), -1 for the bias",
    "param_kind": "weight or bias",
    "param_array": "name of the array of parameters",
    "param_entry": "place of the parameter in its array, flattened",
    "param_name": "name of the input that the weight belongs to, the hidden unit that sends, or bias",
    "feature_name": "name of the input, or bias",
    "output_name": "name of the output",
    "input": "row of x",
    "output": "natural parameter of the response",
    "unit": "unit of a layer",
    "unit_layer": "weight matrix that the unit's parameters belong to",
    "unit_out": "row in that weight matrix",
    "layer": "weight matrix",
    "weight_layer": "weight matrix by whose norm a bound is differentiated",
    "scale": "factor of the weight norms",
    "strength": "strength of the penalty, or limit of a constraint",
    "estimator": "score (I-hat-1), hessian (I-hat-2), hutchinson_gaussian, hutchinson_rademacher or empirical",
    "bound": "form of a bound",
    "side": "lower or upper",
    "n_draws": "labels drawn per input",
    "group": "replicates that are computed and kept together",
    "replicates": "number of replicates in the group",
    "piece": "piece of work",
    "feature": "column of x, or unit that sends to a layer, -1 for the bias",
    "tensor": "information I, fourth moment K = E[rrrr], or square covariance M = Cov(rr', rr')",
    "moment": "sample: divisor n - 1; population: divisor n, the law that is uniform on the given inputs",
    "pair": "entry of the matrix: one parameter for its row, one for its column",
}
