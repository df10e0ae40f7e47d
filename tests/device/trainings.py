"""Trainings with every optimiser, penalty and normalisation, as settings of `training.fit`."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import fisherstats as fs
from tests.device.calls import data, inputs

__all__ = ["DAMPED", "FAMILIES", "OPTIMIZERS", "RESTRAINTS", "consolidation", "network", "numbers_of", "trained"]

families, training = fs.families, fs.training

FAMILIES = [
    families.Bernoulli(2),
    families.Binomial(5, 2),
    families.Poisson(2),
    families.Categorical(4),
    families.Categorical(4, minimal=True),
    families.Multinomial(3, 3),
    families.Multinomial(3, 3, minimal=True),
    families.Gaussian(2, covariance=[0.5, 2.0]),
    families.Gaussian(2, covariance=[[1.3, -0.5], [-0.5, 0.6]]),
    families.GaussianMeanVariance(),
    families.GammaShapeRate(),
    families.NegativeBinomial(2.5, 2),
    families.Geometric(2),
    families.Exponential(2),
    families.Gamma(2.5, 2),
    families.InverseGaussian(1.5, 2),
    families.Laplace(0.5, 2),
    families.Weibull(1.5, 2),
    families.Dirichlet(3),
    families.Product([families.Bernoulli(), families.Categorical(3), families.Exponential(), families.GaussianMeanVariance()]),
]

OPTIMIZERS: dict[str, Any] = {
    "SGD": training.SGD(0.01),
    "momentum": training.SGD(0.01, momentum=0.9),
    "Nesterov": training.SGD(0.01, momentum=0.9, nesterov=True),
    "Adam": training.Adam(0.01),
    "natural": training.NaturalGradient(0.02, damping=0.1),
    "natural, score": training.NaturalGradient(0.02, "score", n_draws=2, damping=0.1),
    "natural, hessian": training.NaturalGradient(0.02, "hessian", n_draws=20, damping=20.0, update_every=3),
    "natural, empirical": training.NaturalGradient(0.02, "empirical", damping=0.1, update_every=2),
    "natural, cg": training.NaturalGradient(0.02, damping=0.1, solver="cg", tolerance=1e-12),
    "natural, cg, score": training.NaturalGradient(0.02, "score", n_draws=2, damping=0.1, solver="cg", tolerance=1e-12),
    "natural, cg, hessian": training.NaturalGradient(0.02, "hessian", n_draws=20, damping=20.0, solver="cg", tolerance=1e-12),
    "diagonal": training.DiagonalNaturalGradient(0.02, damping=0.1),
    "diagonal, score": training.DiagonalNaturalGradient(0.02, "score", n_draws=2, damping=0.1),
    "diagonal, hessian": training.DiagonalNaturalGradient(0.02, "hessian", n_draws=20, damping=20.0),
    "diagonal, empirical": training.DiagonalNaturalGradient(0.02, "empirical", damping=0.1),
    "Kronecker": training.KroneckerNaturalGradient(0.02, damping=0.1),
    "Kronecker, score": training.KroneckerNaturalGradient(0.02, "score", n_draws=2, damping=0.1, update_every=2),
    "Kronecker, empirical": training.KroneckerNaturalGradient(0.02, "empirical", damping=0.1),
    "relative": training.RelativeNaturalGradient(0.02, damping=0.1, update_every=2),
}

DAMPED = {
    name: dataclasses.replace(one, damping=max(one.damping, 1.0)) if hasattr(one, "damping") else one
    for name, one in OPTIMIZERS.items()
}
"""For normalised layers, whose information is singular but for the damping: with less, 200 steps make 1e-6 of a last bit."""


def consolidation(model: Any) -> Any:
    importance = np.linspace(0, 2, model.n_params)
    return fs.applications.Consolidation(fs.MLP([w + 1 for w in model.weights], **kept(model)), importance, 0.1)


RESTRAINTS: dict[str, Any] = {
    "Frobenius": lambda model: training.Frobenius(0.1, biases=True),
    "GroupWise": lambda model: [training.GroupWise(0.01, by=by) for by in ("unit", "feature", "layer")],
    "Spectral": lambda model: training.Spectral(0.1),
    "SpectralProjection": lambda model: training.SpectralProjection(0.9),
    "Consolidation": consolidation,
    "several": lambda model: [training.Frobenius(0.01), training.Spectral(0.01), training.SpectralProjection([np.inf, 0.9])],
}


def kept(model: Any) -> dict[str, Any]:
    return {"activation": model.activations, "family": model.family}


def network(family: Any = FAMILIES[3], activation: str = "tanh", widths: tuple[int, ...] = (3, 5), bias: Any = True) -> Any:
    return fs.MLP.random([*widths, family.n_outputs], activation=activation, family=family, rng=2, bias=bias)


def trained(model: Any, engine: str | None, steps: int = 9, n: int = 24, batch_size: int = 8, **settings: Any) -> Any:
    """Train for so many steps; the labels are drawn from the model."""
    x = inputs(n)
    per_epoch = -(-n // batch_size)
    given = {"optimizer": OPTIMIZERS["SGD"], "batch_size": batch_size, "rng": 5, **settings}
    return training.fit(model, x, data(model, x), epochs=-(-steps // per_epoch), engine=engine, **given)


def numbers_of(fitted: Any) -> dict[str, np.ndarray]:
    """Return weights and history of a training."""
    weights = {f"weights {layer}": matrix for layer, matrix in enumerate(fitted.model.weights)}
    return weights | {str(name): one.values for name, one in fitted.history.data_vars.items()}
