"""One table of activations: names in other libraries, with their parameters, to those of this package."""

from __future__ import annotations

from typing import Any

from fisherstats.core.validation import interop as checks
from fisherstats.models import activations
from fisherstats.models.activations import ELU, Activation, LeakyReLU, SmoothedReLU, get

__all__ = ["IDENTITY", "NAMES", "activation"]

IDENTITY = get("identity")

NAMES = {
    "identity": "identity",
    "linear": "identity",
    "relu": "relu",
    "relu6": "relu6",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "logistic": "sigmoid",
    "gelu": "gelu",
    "gelu_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "mish": "mish",
    "selu": "selu",
    "softplus": "softplus",
    "softsign": "softsign",
    "log_sigmoid": "log_sigmoid",
    "logsigmoid": "log_sigmoid",
    "hardtanh": "hard_tanh",
    "hard_tanh": "hard_tanh",
    "hardswish": "hard_swish",
    "hard_swish": "hard_swish",
    "hard_silu": "hard_swish",
    "hardsigmoid": "hard_sigmoid",
    "hard_sigmoid": "hard_sigmoid",
    "leaky_relu": "leaky_relu",
    "elu": "elu",
    "celu": "celu",
    "sin": "sin",
    "erf": "erf",
    "atan": "arctan",
    "arctan": "arctan",
}
"""Name of a function in another library -> name in this package."""

_LIMITS = {(-1.0, 1.0): "hard_tanh", (0.0, 6.0): "relu6"}


def activation(place: str, name: str, **parameters: float) -> Activation:
    """Return the activation with the given name in another library; refused where this package has no equal one.

    Parameters
    ----------
    place : str
        Where it stands, for messages.
    name : str
        A key of `NAMES`.
    **parameters : float
        `slope` of leaky_relu, `alpha` of elu and celu, `beta` of softplus, `low` and `high` of hardtanh.

    Returns
    -------
    Activation
        With the same values.
    """
    own = NAMES.get(name)
    if own is None:
        checks.unknown_activation(place, name, sorted(activations.NAMES))
    if own == "leaky_relu" and "slope" in parameters:
        return get("relu") if parameters["slope"] == 0 else LeakyReLU(parameters["slope"])
    if own == "elu" and "alpha" in parameters:
        return ELU(parameters["alpha"])
    if own == "celu":
        alpha = parameters.get("alpha", 1.0)
        return ELU(1.0) if alpha == 1 else _of_class(place, "CELU", alpha)
    if own == "softplus" and parameters.get("beta", 1.0) != 1:
        return SmoothedReLU(omega=1 / parameters["beta"])
    if own == "hard_tanh" and "low" in parameters:
        limits = parameters["low"], parameters["high"]
        if limits not in _LIMITS:
            return _of_class(place, "HardTanh", *limits)
        own = _LIMITS[limits]
    if own not in activations.NAMES:
        checks.unknown_activation(place, name, sorted(activations.NAMES))
    return get(own)


def _of_class(place: str, name: str, *parameters: float) -> Activation:
    """Return an activation of a class that this package may have."""
    found: Any = getattr(activations, name, None)
    if found is None:
        checks.unknown_activation(place, f"{name}{parameters}", sorted(activations.NAMES))
    return found(*parameters)
