"""Independent outputs drawn as sums of labels or label by label, and the base class of their families."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from fisherstats.core.arrays import as_array
from fisherstats.core.validation import families as checks
from fisherstats.models.families.base import Draw, Family
from fisherstats.models.families.draw_blocks import draw_labels
from fisherstats.models.families.independent import IndependentLaw
from fisherstats.models.families.links import Link

__all__ = ["HeadsFamily", "SummedLaw"]


class SummedLaw(IndependentLaw):
    """Law of T independent statistics whose sums over N labels have a known distribution that can be sampled directly."""

    _heads = None  # type: ignore[assignment]  # there is no outcome to count

    @abstractmethod
    def sum_residual(self, rng: np.random.Generator, n_draws: int, first_input: int) -> np.ndarray:
        """Return (1/N) sum_k delta_k of n_draws labels from the law of their sum, float64, shape (n, T)."""

    @abstractmethod
    def labels(self, rng: np.random.Generator, row: int, count: int) -> np.ndarray:
        """Return delta = t(y) - E[t] of `count` labels of one input, float64, shape (count, T)."""

    def draw(self, rng: np.random.Generator, n_draws: int, second_moment: bool, first_input: int = 0) -> Draw:
        """Return the means over n_draws labels per input: from sums, or label by label for the second moment."""
        if second_moment:
            return draw_labels(rng, self, n_draws, second_moment)
        checks.draw_count(n_draws)
        return Draw(self.sum_residual(rng, n_draws, first_input).astype(self.h.dtype), None)


class HeadsFamily(Family):
    """Common base of the families of T independent outputs with natural domain h < 0."""

    bounded: ClassVar[bool] = False
    n_outputs: int
    support: ClassVar[str]

    @property
    def link(self) -> Link:
        """Link from the network's outputs to the natural domain."""
        return Link(("negative_exp",) * self.n_outputs)

    def parameters(self) -> dict[str, Any]:
        """Return what defines the family, in plain values."""
        return {"name": self.name, "n_outputs": self.n_outputs}

    def natural(self, h: np.ndarray) -> np.ndarray:
        """Return h as an array (n, T) if all of it is below 0."""
        h = checks.natural_parameters(h, self.n_outputs)
        checks.natural_domain(h, h < 0, "below 0", self.name)
        return h

    def check_labels(self, y: Any, n: int) -> np.ndarray:
        """Return the labels of n inputs as a float64 array (n, T) if all are in the support."""
        return checks.labels_within(checks.label_array(y, n, self.n_outputs), self.support, self.name)

    def statistic(self, y: np.ndarray) -> np.ndarray:
        """Return t(y) = y as floating-point numbers."""
        y = as_array(y)
        return y if y.dtype.kind == "f" else y.astype(np.float64)

    def draw_scheme(self, second_moment: bool, n_draws: int) -> str:
        """Return the key in `draws.DRAW_SCHEMES` of what is drawn."""
        return "labels" if second_moment else "label_sums"
