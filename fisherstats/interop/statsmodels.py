"""Conversion of linear, generalized linear and discrete models of statsmodels to networks of one layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fisherstats.core.validation import interop as checks
from fisherstats.core.validation import interop_statsmodels as glm_checks
from fisherstats.interop._chain import Chain, Dense, Layer
from fisherstats.models.families import (
    Bernoulli,
    Categorical,
    Family,
    Gamma,
    Gaussian,
    InverseGaussian,
    NegativeBinomial,
    Poisson,
)
from fisherstats.models.network import MLP

__all__ = ["from_statsmodels"]

Converted = tuple[Family, float, float]
"""The family, and (a, c) with which the linear predictor eta gives the network's output z = a eta + c."""

#: (family, link) of statsmodels -> the same from the dispersion of the results and the parameter of the family
_FAMILIES: dict[tuple[str, str], Callable[[float, Any], Converted]] = {
    ("Binomial", "Logit"): lambda scale, family: (Bernoulli(1), 1.0, 0.0),
    ("Poisson", "Log"): lambda scale, family: (Poisson(1), 1.0, 0.0),
    ("Gaussian", "Identity"): lambda scale, family: (Gaussian(1, covariance=scale), 1.0, 0.0),
    # mean k e^-z, with the shape k = 1 / dispersion
    ("Gamma", "Log"): lambda scale, family: (Gamma(1 / scale), -1.0, -float(np.log(scale))),
    # mean r e^z, with r = 1 / alpha
    ("NegativeBinomial", "Log"): lambda scale, family: (NegativeBinomial(1 / family.alpha), 1.0, float(np.log(family.alpha))),
    # mean sqrt(lambda / 2) e^(-z/2), with lambda = 1 / dispersion
    ("InverseGaussian", "Log"): lambda scale, family: (InverseGaussian(1 / scale), -2.0, -float(np.log(2 * scale))),
}

#: model of statsmodels -> its family and link in the table above
_MODELS = {
    "OLS": ("Gaussian", "Identity"),
    "WLS": ("Gaussian", "Identity"),
    "Logit": ("Binomial", "Logit"),
    "Poisson": ("Poisson", "Log"),
    "NegativeBinomial": ("NegativeBinomial", "Log"),
}


def from_statsmodels(results: Any) -> MLP:
    r"""Convert the results of a linear, generalized linear or discrete model to the equivalent network of one layer.

    Of a GLM: Binomial with logit (`Bernoulli`), Poisson with log (`Poisson`), Gaussian with identity (`Gaussian`, its variance
    the estimated scale), and with the log link Gamma, InverseGaussian (their shape one over the scale) and NegativeBinomial
    (``1 / alpha`` successes). The last three have the output :math:`z=a\eta+c` for the linear predictor :math:`\eta`, so that
    their weights are the coefficients times a = -1, -2 and 1, and the intercept has c added. Of the other models OLS and WLS with
    equal weights (`Gaussian`), Logit, Poisson, NegativeBinomial of the second kind (its alpha is part of the family), and
    MNLogit (`Categorical`, the logit of the first class 0).

    Parameters
    ----------
    results : results of a statsmodels model
        What ``sm.GLM(...).fit()``, ``sm.OLS(...).fit()`` or ``sm.Logit(...).fit()`` returns. A constant column becomes the bias;
        without one the layer has none.

    Returns
    -------
    MLP
        The network of one layer, with the names of the other columns as `feature_names`: its inputs are these columns.

    Raises
    ------
    TypeError
        If `results` are not those of such a model.
    ValueError
        If model, family or link are not in this package, the model has an offset, an exposure or weights, or several trials per
        response.

    Examples
    --------
    >>> import numpy as np
    >>> import statsmodels.api as sm
    >>> from fisherstats.interop import from_statsmodels
    >>> x, y = np.column_stack([np.ones(4), [0.0, 1.0, 2.0, 3.0]]), [1, 0, 2, 3]
    >>> model = from_statsmodels(sm.GLM(y, x, family=sm.families.Poisson()).fit())
    >>> model
    MLP(1-1, activation=none, family=Poisson(n_outputs=1), 2 parameters)
    >>> model.feature_names
    ('x1',)
    """
    results = getattr(results, "_results", results)
    kinds = {f"{one.__module__.partition('.')[0]}.{one.__name__}" for one in type(results).__mro__}
    if not kinds & {f"statsmodels.{one}Results" for one in ("GLM", "Regression", "Discrete")}:
        checks.not_from(
            "results", results, "the results of a statsmodels model such as `sm.GLM(...).fit()` or `sm.OLS(...).fit()`"
        )
    model = results.model
    coefficients = np.asarray(results.params, dtype=np.float64)
    if not np.isfinite(coefficients).all():
        glm_checks.finite_coefficients(coefficients)
    glm_checks.plain(model)
    if type(model).__name__ == "MNLogit":
        return _of_classes(model, coefficients)
    family, link, of_family = type(model).__name__, "", model
    if "statsmodels.GLMResults" in kinds:
        of_family = model.family
        family, link = type(of_family).__name__, type(of_family.link).__name__
    elif family in _MODELS:
        family, link = _MODELS[family]
        if family == "NegativeBinomial":
            glm_checks.second_kind(model.loglike_method)
            coefficients, of_family = coefficients[:-1], _Dispersed(coefficients[-1])
    if (family, link) not in _FAMILIES:
        glm_checks.unknown_family(family, link, [*_FAMILIES], [*_MODELS, "MNLogit"])
    chosen, factor, shift = _FAMILIES[family, link](float(results.scale), of_family)
    glm_checks.scale_is_of_a_likelihood(family, float(results.scale))
    constant, kept, names = _columns(model)
    weights = factor * coefficients[kept]
    if constant is None:
        glm_checks.no_constant_needed(family, shift)
        return _without_bias(weights, chosen, names)
    bias = factor * coefficients[constant] * float(np.asarray(model.exog)[0, constant]) + shift
    return MLP([np.append(weights, bias)[None]], activation=[], family=chosen, feature_names=names)


def _without_bias(weights: Any, family: Family, names: list[str]) -> MLP:
    return Chain([Layer(Dense("exog", weights[None], None, "params"))], None, False).network(family, [], feature_names=names)


@dataclass(frozen=True)
class _Dispersed:
    """The parameter of a negative binomial family, where it was estimated."""

    alpha: float


def _columns(model: Any) -> tuple[int | None, list[int], list[str]]:
    """Return the place of a constant column if there is one, and the places and names of the others."""
    exog = np.asarray(model.exog)
    constants = [at for at in range(exog.shape[1]) if exog[0, at] != 0 and np.all(exog[:, at] == exog[0, at])]
    constant = constants[0] if constants else None
    kept = [at for at in range(exog.shape[1]) if at != constant]
    if not kept:
        glm_checks.a_column(model.exog_names)
    return constant, kept, [str(model.exog_names[at]) for at in kept]


def _of_classes(model: Any, coefficients: Any) -> MLP:
    """Return the network of a multinomial logit: the logits of all classes, that of the first one 0."""
    constant, kept, names = _columns(model)
    rows = np.vstack([np.zeros(len(coefficients)), coefficients.T])
    family = Categorical(len(rows))
    if constant is None:
        layer = Layer(Dense("exog", rows[:, kept], None, "params"))
        return Chain([layer], None, False).network(family, [], feature_names=names)
    bias = rows[:, constant] * float(np.asarray(model.exog)[0, constant])
    return MLP([np.column_stack([rows[:, kept], bias])], activation=[], family=family, feature_names=names)
