"""Conversion of scikit-learn's multilayer perceptrons."""

from __future__ import annotations

from typing import Any

import numpy as np

from fisherstats.core.validation import interop
from fisherstats.core.validation.arguments import optional_module
from fisherstats.models.families import Bernoulli, Categorical, Family, Gaussian, Poisson
from fisherstats.models.network import MLP

__all__ = ["from_sklearn"]

#: scikit-learn's name of a hidden activation -> the name in this package
_ACTIVATION = {"identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}

#: scikit-learn's output function, the mean as a function of the last layer -> the family with that mean
_FAMILY: dict[str, type[Categorical | Bernoulli | Gaussian | Poisson]] = {
    "softmax": Categorical,
    "logistic": Bernoulli,
    "identity": Gaussian,
    "exp": Poisson,
}


def from_sklearn(estimator: Any, *, family: Family | None = None) -> MLP:
    r"""Convert a fitted `MLPClassifier` or `MLPRegressor` to the equivalent exponential-family network.

    The estimator's output function is the mean :math:`\eta(h_L)` of a family in its natural parameters, which determines
    the family: softmax is `Categorical` (class k is ``estimator.classes_[k]``), logistic is `Bernoulli` with one output
    for two classes and one per label for multilabel data, the exponential of ``loss="poisson"`` is `Poisson`, identity
    is `Gaussian`. Squared error does not determine the variance of the response: it is 1 unless given by `family`.

    Parameters
    ----------
    estimator : sklearn.neural_network.MLPClassifier or MLPRegressor
        Fitted. Its weights are copied; float32 is kept.
    family : Family, optional
        Replaces the default by another of the same kind, such as ``fs.families.Gaussian(n, covariance=...)``.

    Returns
    -------
    MLP
        The network with weights ``[coefs_[l].T | intercepts_[l]]``, ``feature_names_in_`` for its `feature_names` where the
        estimator was fitted to a frame, and its classes for `output_names`.

    Raises
    ------
    TypeError
        If `estimator` is not a scikit-learn `MLPClassifier` or `MLPRegressor`.
    ValueError
        If it is not fitted, or if `family` has another mean function or size than its output.
    MissingExtra
        If scikit-learn is not installed.

    Notes
    -----
    Steps before the perceptron in a pipeline (scaling, for instance) are not part of the network: the inputs `x` of
    this package are the inputs of the perceptron. Penalties and early stopping are not recorded in the network.

    Examples
    --------
    >>> from fisherstats.interop import from_sklearn
    >>> from sklearn.neural_network import MLPClassifier
    >>> x, y = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1, 0]
    >>> estimator = MLPClassifier((3,), activation="tanh", solver="lbfgs", random_state=0).fit(x, y)
    >>> from_sklearn(estimator)
    MLP(2-3-1, activation=tanh, family=Bernoulli(n_outputs=1), 13 parameters)
    """
    library = optional_module("sklearn.neural_network", extra="study")
    interop.fitted_perceptron(estimator, (library.MLPClassifier, library.MLPRegressor))
    interop.activation_known(estimator.activation, list(_ACTIVATION))
    output = estimator.out_activation_
    if output not in _FAMILY:
        interop.output_unknown(output, list(_FAMILY))
    if family is None:
        family = _FAMILY[output](estimator.n_outputs_)
    else:
        interop.family_matches_output(family, _FAMILY[output], output)
    return MLP(
        [np.column_stack([kernel.T, bias]) for kernel, bias in zip(estimator.coefs_, estimator.intercepts_, strict=True)],
        activation=_ACTIVATION[estimator.activation],
        family=family,
        feature_names=getattr(estimator, "feature_names_in_", None),
        output_names=_output_names(estimator, output),
    )


def _output_names(estimator: Any, output: str) -> list[str] | None:
    """Return the classes as names of the outputs: all of a softmax, the positive one of a single logistic output."""
    classes = getattr(estimator, "classes_", None)
    if classes is None or isinstance(classes, list) or len(set(map(str, classes))) < len(classes):
        return None
    if output == "logistic" and estimator.n_outputs_ == 1:
        return [str(classes[-1])]
    return [str(one) for one in classes] if len(classes) == estimator.n_outputs_ else None
