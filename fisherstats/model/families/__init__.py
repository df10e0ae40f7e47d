"""Families of output laws: p(y | h) = pi(y) exp(t(y)' h - F(h))."""

from __future__ import annotations

from fisherstats.model.families.base import Draw, Family, Law, MatrixRoot, SecondMoment
from fisherstats.model.families.categorical import Categorical
from fisherstats.model.families.counts import Geometric, NegativeBinomial
from fisherstats.model.families.dirichlet import Dirichlet
from fisherstats.model.families.draws import DRAW_SCHEMES
from fisherstats.model.families.gaussian import Gaussian
from fisherstats.model.families.independent import Bernoulli, Binomial, Poisson
from fisherstats.model.families.links import Link
from fisherstats.model.families.multinomial import Multinomial
from fisherstats.model.families.positive import Exponential, Gamma, InverseGaussian, Laplace, Weibull
from fisherstats.model.families.product import Product
from fisherstats.model.families.two_parameter import GammaShapeRate, GaussianMeanVariance
from fisherstats.model.families.user import LogPartitionFamily

__all__ = [
    "DRAW_SCHEMES",
    "Bernoulli",
    "Binomial",
    "Categorical",
    "Dirichlet",
    "Draw",
    "Exponential",
    "Family",
    "Gamma",
    "GammaShapeRate",
    "Gaussian",
    "GaussianMeanVariance",
    "Geometric",
    "InverseGaussian",
    "Laplace",
    "Law",
    "Link",
    "LogPartitionFamily",
    "MatrixRoot",
    "Multinomial",
    "NegativeBinomial",
    "Poisson",
    "Product",
    "SecondMoment",
    "Weibull",
]
