"""Activations of the hidden layers: sigma, sigma', sigma'', their suprema and their kinks.

Each formula is a generator that yields the value, the first and the second derivative, so that a higher derivative
costs nothing until it is asked for and shares the exponentials before it. All are written for relative accuracy: a
derivative that decays is never a difference of numbers that do not. The measured error of a function f (sigma, sigma'
or sigma'') is within ``8 eps (|f(a)| + |a f'(a)|)``, of the size that rounding the pre-activation itself would cause,
down to where numbers underflow.

At a kink, a point without a second derivative, the formulas give the slope and the curvature from the left.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, ndtr

from fisherstats.checks.activations import (
    activation_name,
    consistent_description,
    derivative_order,
    pre_activation_dtype,
)
from fisherstats.checks.arguments import positive_number

__all__ = ["ELU", "NAMES", "Activation", "LeakyReLU", "get"]

Array = NDArray[np.floating[Any]]
Formula = Callable[..., Iterator[Array]]


@dataclass(frozen=True, repr=False)
class Activation:
    r"""An activation :math:`\sigma` with its first two derivatives and what the theorems need to know of them.

    The bounds of Theorem 4.1 and of the derivatives of the network hold for any activation whose suprema
    :math:`c_1=\sup|\sigma'|` and :math:`c_2=\sup|\sigma''|` are given here; several common ones have
    :math:`c_1>1`. The Hessian form of the information needs :math:`\sigma\in C^2` away from the kinks.

    Parameters
    ----------
    name : str
        The word by which it is known.
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
        The numbers that tell it from others with the same formula; part of the provenance of a result. Copied, and read-only
        afterwards.

    Raises
    ------
    ValueError
        If the description contradicts itself, such as a C0 activation without kinks.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherstats.model.activations import get
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
        >>> from fisherstats.model.activations import get
        >>> get("relu").evaluate(np.array([-1.0, 0.0, 2.0]), 1)
        (array([0., 0., 2.]), array([0., 0., 1.]))
        """
        derivative_order(order)
        pre_activation_dtype(a)
        # A tail that underflows has the limit 0, which is what it then gets.
        with np.errstate(under="ignore"):
            return tuple(itertools.islice(self.formula(a, **self.parameters), order + 1))

    def value(self, a: Array) -> Array:
        """Return sigma(a).

        Examples
        --------
        >>> import numpy as np
        >>> from fisherstats.model.activations import get
        >>> get("hard_tanh").value(np.array([-3.0, 0.5]))
        array([-1. ,  0.5])
        """
        return self.evaluate(a, 0)[0]

    def first(self, a: Array) -> Array:
        """Return sigma'(a), from the left at a kink.

        Examples
        --------
        >>> import numpy as np
        >>> from fisherstats.model.activations import get
        >>> get("hard_tanh").first(np.array([-1.0, 1.0]))
        array([0., 1.])
        """
        return self.evaluate(a, 1)[1]

    def second(self, a: Array) -> Array:
        """Return sigma''(a), from the left at a kink.

        Examples
        --------
        >>> import numpy as np
        >>> from fisherstats.model.activations import get
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
    >>> from fisherstats.model.activations import LeakyReLU
    >>> LeakyReLU(0.25).value(np.array([-2.0, 2.0]))
    array([-0.5,  2. ])
    """

    def __init__(self, slope: float = 0.01) -> None:
        slope = positive_number("slope", slope)
        super().__init__(
            "leaky_relu",
            _leaky_relu,
            sup_first=max(1.0, slope),
            sup_second=0.0,
            smoothness="C0",
            kinks=(0.0,),
            piecewise_linear=True,
            parameters={"slope": slope},
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
    >>> from fisherstats.model.activations import ELU
    >>> ELU(2.0).first(np.array([0.0, 1.0]))
    array([2., 1.])
    >>> ELU().smoothness, ELU(2.0).smoothness
    ('C1', 'C0')
    """

    def __init__(self, alpha: float = 1.0) -> None:
        alpha = positive_number("alpha", alpha)
        super().__init__(
            "elu",
            _elu,
            sup_first=max(1.0, alpha),
            sup_second=alpha,
            smoothness="C1" if alpha == 1 else "C0",
            kinks=(0.0,),
            parameters={"alpha": alpha},
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
    >>> from fisherstats.model.activations import ELU, get
    >>> get("leaky_relu")
    <Activation leaky_relu(slope=0.01)>
    >>> get(ELU(0.5))
    <Activation elu(alpha=0.5)>
    """
    if isinstance(activation, Activation):
        return activation
    return _BY_NAME[activation_name(activation, NAMES)]


# Piecewise linear


def _identity(a: Array) -> Iterator[Array]:
    yield a.copy()
    yield np.ones_like(a)
    yield np.zeros_like(a)


def _relu(a: Array) -> Iterator[Array]:
    yield np.maximum(a, 0)
    yield (a > 0).astype(a.dtype)
    yield np.zeros_like(a)


def _leaky_relu(a: Array, slope: float) -> Iterator[Array]:
    yield np.where(a > 0, a, slope * a)
    yield np.where(a > 0, 1, np.full_like(a, slope))
    yield np.zeros_like(a)


def _hard_tanh(a: Array) -> Iterator[Array]:
    yield np.clip(a, -1, 1)
    yield ((a > -1) & (a <= 1)).astype(a.dtype)
    yield np.zeros_like(a)


# Exponentials


def _elu(a: Array, alpha: float, scale: float = 1.0) -> Iterator[Array]:
    negative = np.minimum(a, 0)
    # expm1 keeps the value near 0, exp the derivatives in the tail: neither follows from the other.
    yield scale * np.maximum(a, 0) + scale * alpha * np.expm1(negative)
    curvature = scale * alpha * np.exp(negative)
    yield np.where(a > 0, scale, curvature)
    yield np.where(a > 0, 0, curvature)


def _exponential_odds(a: Array) -> tuple[Array, Array]:
    """Return p = min(e^a, 1) and q = min(e^-a, 1), so that p / q = e^a and nothing overflows."""
    decay = np.exp(-np.abs(a))
    return np.maximum(decay, a >= 0), np.maximum(decay, a <= 0)


def _sigmoid(a: Array) -> Iterator[Array]:
    p, q = _exponential_odds(a)
    total = p + q
    value = p / total
    yield value
    first = value * (q / total)
    yield first
    # 1 - 2 sigma = -tanh(a / 2), which keeps its relative accuracy near 0.
    yield -first * np.tanh(a / 2)


def _softplus(a: Array) -> Iterator[Array]:
    p, q = _exponential_odds(a)
    yield np.maximum(a, 0) + np.log1p(p * q)
    total = p + q
    first = p / total
    yield first
    yield first * (q / total)


def _log_sigmoid(a: Array) -> Iterator[Array]:
    for sign, derivative in zip((-1, 1, -1), _softplus(-a), strict=True):
        yield sign * derivative


def _silu(a: Array) -> Iterator[Array]:
    p, q = _exponential_odds(a)
    total = p + q
    sigmoid, complement = p / total, q / total
    yield a * sigmoid
    yield sigmoid * (1 + a * complement)
    yield sigmoid * complement * (2 + a * (complement - sigmoid))


def _mish(a: Array) -> Iterator[Array]:
    # The gate tanh(log(1 + e^a)) and its derivatives are homogeneous rational functions of p and q, as p / q = e^a.
    p, q = _exponential_odds(a)
    numerator = p * (p + 2 * q)
    denominator = numerator + 2 * q * q
    gate = numerator / denominator
    yield a * gate
    kernel = 4 * p * q * q / (denominator * denominator)
    gate_first = kernel * (p + q)
    yield gate + a * gate_first
    cubic = 2 * q * q * (p + q) - p * p * (3 * q + 2 * p)
    yield 2 * gate_first + a * kernel * (cubic / denominator)


def _tanh(a: Array) -> Iterator[Array]:
    value = np.tanh(a)
    yield value
    # 1 - value^2 would lose the digits of a small slope.
    decay = np.exp(-np.abs(a))
    decay *= decay
    first = 1 + decay
    first *= first
    first = 4 * decay / first
    yield first
    yield -2 * value * first


# The normal distribution


def _erf(a: Array) -> Iterator[Array]:
    yield erf(a)
    # Beyond 30 the density is 0 in either precision; squares of huge numbers would overflow.
    bounded = np.clip(a, -30, 30)
    first = 2 / math.sqrt(math.pi) * np.exp(-bounded * bounded)
    yield first
    yield -2 * bounded * first


def _gelu(a: Array) -> Iterator[Array]:
    distribution = ndtr(a)
    yield a * distribution
    # Beyond 40 the density is 0 in either precision; squares of huge numbers would overflow.
    bounded = np.clip(a, -40, 40)
    square = bounded * bounded
    density = np.exp(-square / 2) / math.sqrt(2 * math.pi)
    yield distribution + bounded * density
    yield density * (2 - square)


# Algebraic and trigonometric


def _arctan(a: Array) -> Iterator[Array]:
    yield np.arctan(a)
    # A square that overflows is only divided by, and the slope has then underflown to 0.
    with np.errstate(over="ignore"):
        first = 1 / (1 + a * a)
    yield first
    yield -2 * first * (a * first)


def _softsign(a: Array) -> Iterator[Array]:
    shrinkage = 1 / (1 + np.abs(a))
    yield a * shrinkage
    first = shrinkage * shrinkage
    yield first
    curvature = 2 * first * shrinkage
    yield np.where(a > 0, -curvature, curvature)


def _sin(a: Array) -> Iterator[Array]:
    value = np.sin(a)
    yield value
    yield np.cos(a)
    yield -value


# Klambauer, Unterthiner, Mayr and Hochreiter (2017): the fixed point of mean 0 and variance 1.
_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805

# Suprema that are no floating-point number are rounded up, so that the bounds which use them stay bounds.
_ALL = (
    Activation("tanh", _tanh, sup_first=1.0, sup_second=0.769800358919501),  # 4 / (3 sqrt 3)
    Activation("sigmoid", _sigmoid, sup_first=0.25, sup_second=0.09622504486493763),  # 1 / (6 sqrt 3)
    Activation("softplus", _softplus, sup_first=1.0, sup_second=0.25),
    Activation("log_sigmoid", _log_sigmoid, sup_first=1.0, sup_second=0.25),
    Activation("relu", _relu, sup_first=1.0, sup_second=0.0, smoothness="C0", kinks=(0.0,), piecewise_linear=True),
    LeakyReLU(),
    ELU(),
    Activation(
        "selu",
        _elu,
        sup_first=1.758099340847377,  # scale * alpha
        sup_second=1.758099340847377,
        smoothness="C0",
        kinks=(0.0,),
        parameters={"alpha": _SELU_ALPHA, "scale": _SELU_SCALE},
    ),
    Activation("gelu", _gelu, sup_first=1.128904145185155, sup_second=0.7978845608028654),  # at sqrt 2; sqrt(2 / pi)
    Activation("silu", _silu, sup_first=1.099839320128867, sup_second=0.5),  # at 2.39936; at 0
    Activation("mish", _mish, sup_first=1.088498161251728, sup_second=0.6442046372369725),  # at 1.49057; at -0.08793
    Activation("erf", _erf, sup_first=1.1283791670955128, sup_second=0.9678828980765735),  # 2/sqrt pi; sqrt(8/(pi e))
    Activation("arctan", _arctan, sup_first=1.0, sup_second=0.649519052838329),  # sqrt 27 / 8
    Activation("softsign", _softsign, sup_first=1.0, sup_second=2.0, smoothness="C1", kinks=(0.0,)),
    Activation("sin", _sin, sup_first=1.0, sup_second=1.0),
    Activation(
        "hard_tanh",
        _hard_tanh,
        sup_first=1.0,
        sup_second=0.0,
        smoothness="C0",
        kinks=(-1.0, 1.0),
        piecewise_linear=True,
    ),
    Activation("identity", _identity, sup_first=1.0, sup_second=0.0, piecewise_linear=True),
)
_BY_NAME = {one.name: one for one in _ALL}

NAMES: tuple[str, ...] = tuple(_BY_NAME)
"""The words that `get` understands."""
