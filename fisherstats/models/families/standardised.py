"""Independent statistics divided by their standard deviations: the same moments along rescaled directions.

A fourth power of a direction times a fourth moment overflows or underflows where heads differ by 80 orders of magnitude, though
their product does not. With variances of 1 the directions carry the scale.
"""

from __future__ import annotations

import numpy as np

from fisherstats.core.forks import cached_property
from fisherstats.models.families.base import Law
from fisherstats.models.families.block_moments import ListedBlocks
from fisherstats.models.families.independent import IndependentLaw
from fisherstats.models.families.moments import MomentLaw
from fisherstats.models.families.product import ProductLaw

__all__ = ["at_unit_variance"]


class StandardisedLaw(IndependentLaw):
    """Law of the standardised statistics of another law; a constant statistic has the moments of 0."""

    def __init__(self, law: IndependentLaw) -> None:
        super().__init__(law.h)
        self._law = law

    def _per_variance(self, values: np.ndarray, times: int) -> np.ndarray:
        variance = self._law.variance
        for _ in range(times):
            values = np.where(variance > 0, values / np.where(variance > 0, variance, 1), 0)
        return values

    @cached_property
    def variance(self) -> np.ndarray:
        """1, or 0."""
        return np.where(self._law.variance > 0, np.ones_like(self._law.variance), 0)

    @cached_property
    def third_cumulant(self) -> np.ndarray:
        """Skewness."""
        return self._per_variance(self._law.third_cumulant, 1) / np.sqrt(np.where(self._law.variance > 0, self._law.variance, 1))

    @cached_property
    def fourth_cumulant(self) -> np.ndarray:
        """Excess kurtosis."""
        return self._per_variance(self._law.fourth_cumulant, 2)

    @cached_property
    def fourth_central(self) -> np.ndarray:
        """Kurtosis."""
        return self._per_variance(self._law.fourth_central, 2)

    @cached_property
    def variance_of_square(self) -> np.ndarray:
        """Kurtosis minus 1."""
        return self._per_variance(self._law.variance_of_square, 2)

    mean = _heads = residual = None  # type: ignore[assignment]  # there is no label of it


class _JoinedLaw(MomentLaw):
    """Law of the concatenated statistics of several laws."""

    mean = residual = draw = None  # type: ignore[assignment]  # there is no label of it


def at_unit_variance(law: Law, *directions: np.ndarray) -> tuple[Law, list[np.ndarray]]:
    """Return a law whose moments along other directions are those of `law` along the given ones; itself where heads depend."""
    if isinstance(law, IndependentLaw):
        return StandardisedLaw(law), [law.rows(u) for u in directions]
    if not isinstance(law, ProductLaw):
        return law, list(directions)
    parts = [
        at_unit_variance(part, *(u[:, piece] for u in directions)) for part, piece in zip(law.parts, law.slices, strict=True)
    ]
    joined = _JoinedLaw(law.h, ListedBlocks([part[0] for part in parts], law.slices), None)
    return joined, [np.concatenate(one, axis=1) for one in zip(*(part[1] for part in parts), strict=True)]
