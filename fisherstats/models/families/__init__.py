"""Families of response distributions: p(y | h) = pi(y) exp(t(y)' h - F(h))."""

from __future__ import annotations

from fisherstats.models.families.base import Draw, Family, Law, MatrixRoot, SecondMoment
from fisherstats.models.families.categorical import Categorical
from fisherstats.models.families.counts import Geometric, NegativeBinomial
from fisherstats.models.families.dirichlet import Dirichlet
from fisherstats.models.families.draws import DRAW_SCHEMES
from fisherstats.models.families.gaussian import Gaussian
from fisherstats.models.families.independent import Bernoulli, Binomial, Poisson
from fisherstats.models.families.links import Link
from fisherstats.models.families.multinomial import Multinomial
from fisherstats.models.families.positive import Exponential, Gamma, InverseGaussian, Laplace, Weibull
from fisherstats.models.families.product import Product
from fisherstats.models.families.two_parameter import GammaShapeRate, GaussianMeanVariance
from fisherstats.models.families.user import LogPartitionFamily

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
