"""Families of output laws: p(y | h) = pi(y) exp(t(y)' h - F(h))."""

from __future__ import annotations

from fisherstats.model.families.base import Draw, Family, Law, MatrixRoot, SecondMoment
from fisherstats.model.families.categorical import Categorical
from fisherstats.model.families.draws import DRAW_SCHEMES
from fisherstats.model.families.gaussian import Gaussian
from fisherstats.model.families.independent import Bernoulli, Binomial, Poisson

__all__ = [
    "DRAW_SCHEMES",
    "Bernoulli",
    "Binomial",
    "Categorical",
    "Draw",
    "Family",
    "Gaussian",
    "Law",
    "MatrixRoot",
    "Poisson",
    "SecondMoment",
]
