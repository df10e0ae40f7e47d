"""Random networks of every family, their inputs, and what else calls need: labels, directions, another network."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import fisherstats as fs
from fisherstats import activations, families

__all__ = ["FAMILIES", "MAIN", "NETWORKS", "Given", "inputs"]


class Rayleigh(families.LogPartitionFamily):
    """A family as users write it."""

    name, n_outputs, bounded = "rayleigh", 1, False
    link = families.Link(("negative_exp",))

    def log_partition(self, h: Any) -> Any:
        return -np.log(-h[..., 0])

    def log_base(self, y: Any) -> Any:
        return np.log(2 * y[..., 0])

    def statistic(self, y: Any) -> Any:
        return y**2

    def sample(self, h: Any, rng: Any, n_draws: Any) -> Any:
        return np.sqrt(np.random.default_rng(rng).standard_exponential((n_draws, *h.shape)) / -h)

    def check_labels(self, y: Any, n: Any) -> Any:
        found = np.asarray(y, dtype=np.float64).reshape(n, 1)
        if not (found > 0).all():
            raise ValueError("labels must be positive")
        return found

    def __repr__(self) -> str:
        return "Rayleigh()"


def _bump(a: Any) -> Any:
    bell = np.exp(-(a**2) / 2)
    yield a * bell
    yield (1 - a**2) * bell
    yield (a**3 - 3 * a) * bell


BUMP = activations.Activation("bump", _bump, sup_first=1.0, sup_second=1.4)

FAMILIES: list[Any] = [
    families.Categorical(3),
    families.Categorical(4, minimal=True),
    families.Gaussian(2),
    families.Gaussian(2, covariance=[0.5, 2.0]),
    families.Gaussian(2, covariance=[[2.0, 0.5], [0.5, 1.0]]),
    families.GaussianMeanVariance(),
    families.Bernoulli(1),
    families.Bernoulli(3),
    families.Binomial(7),
    families.Binomial(100, 2),
    families.Binomial(2**44, 2),
    families.Multinomial(1, 3),
    families.Multinomial(50, 3),
    families.Multinomial(7, 3, minimal=True),
    families.Poisson(1),
    families.Poisson(3),
    families.NegativeBinomial(2.5, 2),
    families.Geometric(2),
    families.Exponential(2),
    families.Gamma(0.4, 2),
    families.Gamma(1e20, 2),
    families.GammaShapeRate(),
    families.InverseGaussian(2.0, 2),
    families.Laplace(0.0, 2),
    families.Weibull(1.5, 2),
    families.Dirichlet(3),
    families.Product([families.Poisson(2)]),
    families.Product([families.Categorical(3), families.Poisson()]),
    families.Product([families.Gaussian(2), families.NegativeBinomial(3.0)]),
    families.Product([families.Dirichlet(3), families.Multinomial(5, 3)]),
    families.Product([families.Product([families.Poisson(2), families.Bernoulli(2)]), families.Exponential()]),
    Rayleigh(),
]


def _named(family: Any) -> str:
    return "".join(repr(family).split()).replace("n_outputs=", "").replace("array", "")


def _random(family: Any, hidden: list[int], activation: Any, rng: int = 2) -> fs.MLP:
    return fs.MLP.random([3, *hidden, family.n_outputs], activation=activation, family=family, rng=rng)


def _scaled(model: fs.MLP, factor: float) -> fs.MLP:
    return model.with_weights([factor * one for one in model.weights])


def _kinked() -> fs.MLP:
    """A network with a pre-activation of exactly 0 at every input."""
    weights = [np.array([[1.0, -1.0, 2.0, 0.5], [0.0, 0.0, 0.0, 0.0]]), np.array([[1.0, -1.0, 0.2], [0.3, 0.4, -0.1]])]
    return fs.MLP(weights, activation="relu", family=families.Bernoulli(2))


_THREE = families.Categorical(3)
MAIN: dict[str, fs.MLP] = {
    "Categorical(3)|tanh": _random(_THREE, [4], "tanh"),
    "Gaussian(2,full)|relu": _random(families.Gaussian(2, covariance=[[1.3, -0.5], [-0.5, 0.6]]), [4], "relu"),
    "Poisson(2)|gelu": _random(families.Poisson(2), [4], "gelu"),
    "Categorical(3)|deep": _random(_THREE, [4, 3, 4], ["tanh", "softplus", "sigmoid"]),
    "Gaussian(2)|none": _random(families.Gaussian(2), [], []),
    "Bernoulli(2)|small": fs.MLP.random([2, 2, 2], activation="tanh", family=families.Bernoulli(2), rng=2),
    "Product|named": _random(families.Product([families.Bernoulli(), families.Categorical(2)]), [4], "softplus").named(
        ["first", "second", "third"], ["one", "two", "three"]
    ),
}
"""Every call is made with these, with all options."""

NETWORKS: dict[str, fs.MLP] = {
    **{f"{_named(family)}|tanh": _random(family, [4], "tanh") for family in FAMILIES[1:]},
    **{f"Categorical(3)|{name}": _random(_THREE, [4, 3], name) for name in activations.NAMES if name != "tanh"},
    "Categorical(3)|ELU": _random(_THREE, [4], activations.ELU(0.5)),
    "Categorical(3)|LeakyReLU": _random(_THREE, [4], activations.LeakyReLU(0.2)),
    "Categorical(3)|SmoothedReLU": _random(_THREE, [4], activations.SmoothedReLU(0.1, 0.5)),
    "Categorical(3)|bump": _random(_THREE, [4], BUMP),
    "Categorical(3)|none": _random(_THREE, [], []),
    "Poisson(1)|none": _random(families.Poisson(1), [], []),
    "Poisson(2)|relu": _random(families.Poisson(2), [4], "relu"),
    "Gaussian(2)|gelu": _random(families.Gaussian(2), [4], "gelu"),
    "Gaussian(2)|relu,deep": _random(families.Gaussian(2), [4, 3, 4], "relu"),
    "Dirichlet(3)|deep": _random(families.Dirichlet(3), [3, 3, 3], ["tanh", "sin", "erf"]),
    "Bernoulli(2)|kinked": _kinked(),
    "Categorical(3)|saturated": _scaled(_random(_THREE, [4], "tanh"), 30.0),
    "Gaussian(2)|zero": _scaled(_random(families.Gaussian(2), [4], "tanh"), 0.0),
}
"""Every call is made with these, with some of its options each."""


def inputs(model: fs.MLP, n: int = 24) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(n, model.widths[0]))


@dataclass(frozen=True)
class Given:
    """A network with its inputs in memory, and what calls take beside them, made when it is first asked for."""

    model: fs.MLP
    x: np.ndarray

    def of(self, wanted: Any) -> Any:
        """Return an argument: a function of this is called with it, anything else is itself."""
        return wanted(self) if isinstance(wanted, Callable) and hasattr(wanted, "of_network") else wanted  # type: ignore[arg-type]

    @functools.cached_property
    def labels(self) -> np.ndarray:
        return self.model.family.sample(self.model.natural_parameters(self.x), 5, 1)[0]

    @functools.cached_property
    def other(self) -> fs.MLP:
        """A network beside this one."""
        return self.model.with_weights([one * 0.9 + 0.01 for one in self.model.weights])

    @property
    def direction(self) -> np.ndarray:
        return np.linspace(-1, 1, self.model.n_params)

    @property
    def directions(self) -> np.ndarray:
        return np.stack([self.direction, self.direction**2])

    @property
    def form(self) -> np.ndarray:
        one = np.cos(np.arange(self.model.n_params))
        return np.outer(one, one)

    @property
    def probabilities(self) -> np.ndarray:
        return np.full((len(self.x), self.model.widths[-1]), 1 / self.model.widths[-1])
