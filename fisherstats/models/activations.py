"""Activations of the hidden layers, with first and second derivatives, their suprema, and kinks.

Each formula is a generator that yields the value, the first and the second derivative, so that a higher derivative
is only computed on request and shares the exponentials of the lower ones (see `activation_formulas`). All are written for
relative accuracy: a decaying derivative is never computed as a difference of numbers that do not decay. The measured error of a
function f (sigma, sigma' or sigma'') is within ``8 eps (|f(a)| + |a f'(a)|)``, comparable to the effect of rounding the
pre-activation itself, down to the underflow limit.

At a kink, a point without a second derivative, the formulas give the slope and the curvature from the left.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.margins import rounded_up
from fisherstats.core.validation.activations import (
    activation_name,
    consistent_description,
    derivative_order,
    interval,
    leak,
    pre_activation_dtype,
)
from fisherstats.core.validation.arguments import positive_number
from fisherstats.models import activation_formulas

__all__ = ["CELU", "ELU", "NAMES", "Activation", "HardTanh", "LeakyReLU", "SmoothedReLU", "Softplus", "get"]

Array = NDArray[np.floating[Any]]
Formula = Callable[..., Iterator[Array]]


@dataclass(frozen=True, repr=False)
class Activation:
    r"""An activation :math:`\sigma` with its first two derivatives and their properties used by the theorems.

    The bounds of Theorem 4.1 and of the derivatives of the network hold for any activation whose suprema
    :math:`c_1=\sup|\sigma'|` and :math:`c_2=\sup|\sigma''|` are given here; several common ones have
    :math:`c_1>1`. The Hessian form of the information needs :math:`\sigma\in C^2` away from the kinks.

    Parameters
    ----------
    name : str
        Name of the activation.
    formula : callable
        Takes pre-activations of any shape, and the parameters by keyword; yields the value, the first and the second
        derivative in turn, each of the same shape and dtype. A module-level function keeps models picklable.
    sup_first, sup_second : float
        Upper bounds of :math:`|\sigma'|` and :math:`|\sigma''|` over the real line without the kinks.
    smoothness : {"smooth", "C2", "C1", "C0"}, default "smooth"
        How often sigma is continuously differentiable.
    kinks : tuple of float, default ()
        The points at which sigma'' does not exist.
    piecewise_linear : bool, default False
        Whether sigma'' is exactly 0 wherever it exists.
    parameters : mapping, default {}
        The parameters of the formula; part of the provenance of a result. Copied, and read-only
        afterwards.

    Raises
    ------
    ValueError
        If the description contradicts itself, such as a C0 activation without kinks.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherstats.models.activations import get
    >>> tanh = get("tanh")
    >>> value, first, second = tanh.evaluate(np.array([0.0, 1.0]), 2)
    >>> first.round(4)
    array([1.  , 0.42])
    >>> tanh.sup_first, round(tanh.sup_second, 4)
    (1.0, 0.7698)
    """

    name: str
    formula: Formula
    sup_first: float
    sup_second: float
    smoothness: Literal["C0", "C1", "C2", "smooth"] = "smooth"
    kinks: tuple[float, ...] = ()
    piecewise_linear: bool = False
    parameters: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        consistent_description(self.smoothness, self.kinks, self.sup_first, self.sup_second, self.piecewise_linear)
        object.__setattr__(self, "parameters", MappingProxyType(dict(self.parameters)))

    def __getstate__(self) -> dict[str, Any]:
        # A read-only view cannot be pickled.
        return {**self.__dict__, "parameters": dict(self.parameters)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, parameters=MappingProxyType(state["parameters"]))

    def evaluate(self, a: Array, order: int) -> tuple[Array, ...]:
        """Return (sigma(a), sigma'(a), sigma''(a)) up to the derivative of the given order.

        Parameters
        ----------
        a : array of float32 or float64, any shape
            Finite pre-activations; not modified.
        order : {0, 1, 2}
            The highest derivative wanted.

        Returns
        -------
        tuple of `order` + 1 arrays
            Each of the shape and dtype of `a`, and none of them a view of it.

        Raises
        ------
        TypeError
            If `a` is not an array of float32 or float64.
        ValueError
            If `order` is not 0, 1 or 2.

        Examples
        --------
        >>> import numpy as np
        >>> from fisherstats.models.activations import get
        >>> get("relu").evaluate(np.array([-1.0, 0.0, 2.0]), 1)
        (array([0., 0., 2.]), array([0., 0., 1.]))
        """
        derivative_order(order)
        pre_activation_dtype(a)
        # A tail that underflows is set to its limit 0.
        with np.errstate(under="ignore"):
            return tuple(itertools.islice(self.formula(a, **self.parameters), order + 1))

    def value(self, a: Array) -> Array:
        """Return sigma(a).

        Examples
        --------
        >>> import numpy as np
        >>> from fisherstats.models.activations import get
        >>> get("hard_tanh").value(np.array([-3.0, 0.5]))
        array([-1. ,  0.5])
        """
        return self.evaluate(a, 0)[0]

    def first(self, a: Array) -> Array:
        """Return sigma'(a), from the left at a kink.

        Examples
        --------
        >>> import numpy as np
        >>> from fisherstats.models.activations import get
        >>> get("hard_tanh").first(np.array([-1.0, 1.0]))
        array([0., 1.])
        """
        return self.evaluate(a, 1)[1]

    def second(self, a: Array) -> Array:
        """Return sigma''(a), from the left at a kink.

        Examples
        --------
        >>> import numpy as np
        >>> from fisherstats.models.activations import get
        >>> get("softsign").second(np.array([0.0, 1.0]))
        array([ 2.  , -0.25])
        """
        return self.evaluate(a, 2)[2]

    def __repr__(self) -> str:
        parameters = ", ".join(f"{key}={number!r}" for key, number in self.parameters.items())
        return f"<Activation {self.name}({parameters})>" if parameters else f"<Activation {self.name}>"


class LeakyReLU(Activation):
    r"""The leaky rectifier: a for a > 0, slope * a otherwise.

    Parameters
    ----------
    slope : float, default 0.01
        The slope on the left, above 0.

    Raises
    ------
    ValueError
        If `slope` is not a finite number above 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherstats.models.activations import LeakyReLU
    >>> LeakyReLU(0.25).value(np.array([-2.0, 2.0]))
    array([-0.5,  2. ])
    """

    def __init__(self, slope: float = 0.01) -> None:
        slope = positive_number("slope", slope)
        super().__init__(
            "leaky_relu",
            activation_formulas.leaky_relu,
            sup_first=max(1.0, slope),
            sup_second=0.0,
            smoothness="C0",
            kinks=(0.0,),
            piecewise_linear=True,
            parameters={"slope": slope},
        )


class SmoothedReLU(Activation):
    r"""The smoothed leaky rectifier :math:`\omega\log(e^{\iota a/\omega}+e^{a/\omega})` (2017, table of subsystems).

    It is above max(a, iota * a), by at most omega * log 2.

    Parameters
    ----------
    iota : float, default 0.0
        The slope far on the left, at least 0 and below 1.
    omega : float, default 1.0
        The width of the bend, above 0; the leaky rectifier is the limit of omega to 0.

    Raises
    ------
    ValueError
        If `iota` is not in [0, 1), or `omega` is not a finite number above 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherstats.models.activations import SmoothedReLU
    >>> SmoothedReLU(iota=0.5, omega=0.1).first(np.array([-9.0, 0.0, 9.0]))
    array([0.5 , 0.75, 1.  ])
    """

    def __init__(self, iota: float = 0.0, omega: float = 1.0) -> None:
        iota, omega = leak("iota", iota), positive_number("omega", omega)
        super().__init__(
            "smoothed_relu",
            activation_formulas.smoothed_relu,
            sup_first=1.0,
            sup_second=(1 - iota) ** 2 / (4 * omega),
            parameters={"iota": iota, "omega": omega},
        )


class ELU(Activation):
    r"""The exponential linear unit: a for a > 0, alpha * (e^a - 1) otherwise.

    Continuously differentiable for alpha = 1 only.

    Parameters
    ----------
    alpha : float, default 1.0
        Minus the limit on the left, above 0.

    Raises
    ------
    ValueError
        If `alpha` is not a finite number above 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherstats.models.activations import ELU
    >>> ELU(2.0).first(np.array([0.0, 1.0]))
    array([2., 1.])
    >>> ELU().smoothness, ELU(2.0).smoothness
    ('C1', 'C0')
    """

    def __init__(self, alpha: float = 1.0) -> None:
        alpha = positive_number("alpha", alpha)
        super().__init__(
            "elu",
            activation_formulas.elu,
            sup_first=max(1.0, alpha),
            sup_second=alpha,
            smoothness="C1" if alpha == 1 else "C0",
            kinks=(0.0,),
            parameters={"alpha": alpha},
        )


class CELU(Activation):
    r"""The continuously differentiable exponential linear unit: a for a > 0, alpha * (e^(a / alpha) - 1) otherwise.

    Parameters
    ----------
    alpha : float, default 1.0
        Minus the limit on the left, above 0.

    Raises
    ------
    ValueError
        If `alpha` is not a finite number above 0, or so small that the curvature 1 / alpha is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherstats.models.activations import CELU
    >>> CELU(2.0).second(np.array([0.0, 1.0]))
    array([0.5, 0. ])
    """

    def __init__(self, alpha: float = 1.0) -> None:
        alpha = positive_number("alpha", alpha)
        super().__init__(
            "celu",
            activation_formulas.celu,
            sup_first=1.0,
            sup_second=rounded_up(1 / Fraction(alpha)),
            smoothness="C1",
            kinks=(0.0,),
            parameters={"alpha": alpha},
        )


class HardTanh(Activation):
    r"""The identity between two bounds, constant beyond; `hard_tanh` has the bounds -1 and 1, `relu6` 0 and 6.

    Parameters
    ----------
    lower, upper : float, default -1.0 and 1.0
        The bounds, `lower` below `upper`.

    Raises
    ------
    ValueError
        If `lower` is not below `upper`, or one of them is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherstats.models.activations import HardTanh, get
    >>> HardTanh(-2, 2).value(np.array([-3.0, 1.5]))
    array([-2. ,  1.5])
    >>> HardTanh() == get("hard_tanh")
    True
    """

    def __init__(self, lower: float = -1.0, upper: float = 1.0) -> None:
        lower, upper = interval(lower, upper)
        super().__init__(
            "hard_tanh",
            activation_formulas.hard_tanh,
            sup_first=1.0,
            sup_second=0.0,
            smoothness="C0",
            kinks=(lower, upper),
            piecewise_linear=True,
            # The default has none, so that networks with "hard_tanh" keep their fingerprints.
            parameters={} if (lower, upper) == (-1, 1) else {"lower": lower, "upper": upper},
        )


class Softplus(Activation):
    r"""The soft rectifier :math:`\log(1+e^{\beta a})/\beta`.

    Parameters
    ----------
    beta : float, default 1.0
        The slope of the derivative at 0 is beta / 4, above 0; the rectifier is the limit of a large beta.

    Raises
    ------
    ValueError
        If `beta` is not a finite number above 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherstats.models.activations import Softplus, get
    >>> Softplus(4.0).second(np.array([0.0]))
    array([1.])
    >>> Softplus() == get("softplus")
    True
    """

    def __init__(self, beta: float = 1.0) -> None:
        beta = positive_number("beta", beta)
        super().__init__(
            "softplus",
            activation_formulas.softplus,
            sup_first=1.0,
            sup_second=beta / 4,
            # The default has none, so that networks with "softplus" keep their fingerprints.
            parameters={} if beta == 1 else {"beta": beta},
        )


def get(activation: str | Activation) -> Activation:
    """Return the activation of that name, or the activation itself.

    Parameters
    ----------
    activation : str or Activation
        One of `NAMES`, or an object such as ``LeakyReLU(0.2)``.

    Returns
    -------
    Activation
        With its derivatives, suprema and kinks.

    Raises
    ------
    ValueError
        If no activation has that name; the message suggests the nearest.
    TypeError
        If it is neither a name nor an activation.

    Examples
    --------
    >>> from fisherstats.models.activations import ELU, get
    >>> get("leaky_relu")
    <Activation leaky_relu(slope=0.01)>
    >>> get(ELU(0.5))
    <Activation elu(alpha=0.5)>
    """
    if isinstance(activation, Activation):
        return activation
    return _BY_NAME[activation_name(activation, NAMES)]


def _of_lines(name: str, formula: Formula, kinks: tuple[float, ...], sup_first: float = 1.0, **parameters: float) -> Activation:
    """Return a piecewise linear activation with kinks."""
    return Activation(name, formula, sup_first, 0.0, "C0", kinks, piecewise_linear=True, parameters=parameters)


# Klambauer, Unterthiner, Mayr and Hochreiter (2017): the fixed point of mean 0 and variance 1.
_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805

# Suprema that are no floating-point number are rounded up, so that the bounds which use them stay bounds.
_ALL = (
    Activation("tanh", activation_formulas.tanh, sup_first=1.0, sup_second=0.769800358919501),  # 4 / (3 sqrt 3)
    Activation("sigmoid", activation_formulas.sigmoid, sup_first=0.25, sup_second=0.09622504486493763),  # 1 / (6 sqrt 3)
    Softplus(),
    Activation("log_sigmoid", activation_formulas.log_sigmoid, sup_first=1.0, sup_second=0.25),
    _of_lines("relu", activation_formulas.relu, (0.0,)),
    LeakyReLU(),
    ELU(),
    Activation(
        "selu",
        activation_formulas.elu,
        sup_first=1.758099340847377,  # scale * alpha
        sup_second=1.758099340847377,
        smoothness="C0",
        kinks=(0.0,),
        parameters={"alpha": _SELU_ALPHA, "scale": _SELU_SCALE},
    ),
    Activation(
        "gelu", activation_formulas.gelu, sup_first=1.128904145185155, sup_second=0.7978845608028654
    ),  # at sqrt 2; sqrt(2 / pi)
    Activation("silu", activation_formulas.silu, sup_first=1.099839320128867, sup_second=0.5),  # at 2.39936; at 0
    Activation(
        "mish", activation_formulas.mish, sup_first=1.088498161251728, sup_second=0.6442046372369725
    ),  # at 1.49057; at -0.08793
    Activation(
        "erf", activation_formulas.erf, sup_first=1.1283791670955128, sup_second=0.9678828980765735
    ),  # 2/sqrt pi; sqrt(8/(pi e))
    Activation("arctan", activation_formulas.arctan, sup_first=1.0, sup_second=0.649519052838329),  # sqrt 27 / 8
    Activation("softsign", activation_formulas.softsign, sup_first=1.0, sup_second=2.0, smoothness="C1", kinks=(0.0,)),
    Activation("sin", activation_formulas.sin, sup_first=1.0, sup_second=1.0),
    HardTanh(),
    Activation("identity", activation_formulas.identity, sup_first=1.0, sup_second=0.0, piecewise_linear=True),
    # At 1.41850; at 0, sqrt(2 / pi).
    Activation("gelu_tanh", activation_formulas.gelu_tanh, sup_first=1.128993068658772, sup_second=0.7978845608028654),
    _of_lines("relu6", activation_formulas.hard_tanh, (0.0, 6.0), lower=0.0, upper=6.0),
    _of_lines("hard_sigmoid", activation_formulas.hard_sigmoid, (-3.0, 3.0), sup_first=rounded_up(Fraction(1, 6))),
    Activation(
        "hard_swish",
        activation_formulas.hard_swish,
        sup_first=1.5,
        sup_second=rounded_up(Fraction(1, 3)),
        smoothness="C0",
        kinks=(-3.0, 3.0),
    ),
    CELU(),
)
_BY_NAME = {one.name: one for one in _ALL}

NAMES: tuple[str, ...] = tuple(_BY_NAME)
"""The names that `get` accepts."""
