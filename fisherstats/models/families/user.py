"""Base class of user-defined families, given by a log-partition, a sufficient statistic and a sampler."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from fisherstats.core.validation import families as checks
from fisherstats.models.families.base import Draw, Family
from fisherstats.models.families.differentiation import cumulant_tensors
from fisherstats.models.families.draw_blocks import draw_labels
from fisherstats.models.families.moments import CumulantMoments, MomentLaw

__all__ = ["LogPartitionFamily", "LogPartitionLaw"]

MOST_OUTPUTS = 6


class LogPartitionLaw(MomentLaw):
    """Law whose cumulants are derivatives of a log-partition.

    Attributes
    ----------
    accuracy : dict of int to float
        For the orders 1 to 4, the largest measured error of a cumulant tensor, relative to the product of standard deviations
        that belongs to the entry; 0 for an order that the family provides in closed form. An estimate from neighbouring radii,
        not a bound.
    """

    def __init__(self, h: np.ndarray, family: LogPartitionFamily) -> None:
        self.family = family
        # Equal rows, as in the filled-up blocks of random streams, are differentiated once.
        exact, row = np.unique(h.astype(np.float64), axis=0, return_inverse=True)
        given = [family.cumulants(exact, order) for order in range(1, 5)]
        tensors, errors = [one for one in given if one is not None], [np.zeros(0)] * 4
        if len(tensors) < 4:
            checks.exact_cumulants_needed(h.shape[1], MOST_OUTPUTS, family.name)
            numerical, errors = cumulant_tensors(family.log_partition, exact)
            finite = np.all([np.isfinite(error).reshape(len(exact), -1).all(axis=1) for error in errors], axis=0)
            if not finite.all():
                checks.no_stable_difference(h, int(np.argmin(finite[row])), family.name)
            tensors = [numerical[k] if one is None else np.asarray(one) for k, one in enumerate(given)]
            errors = [errors[k] if one is None else np.zeros(0) for k, one in enumerate(given)]
        self._mean = tensors[0][row].astype(h.dtype)
        deviation = np.sqrt(np.maximum(np.einsum("naa->na", tensors[1]), np.finfo(np.float64).tiny))
        self.accuracy = {order: _relative(errors[order - 1], deviation, order) for order in range(1, 5)}
        rounding = max(64 * h.shape[1] * float(np.finfo(h.dtype).eps), 8 * self.accuracy[2]) if h.shape[1] > 1 else 0.0
        super().__init__(h, CumulantMoments(*(tensor[row].astype(h.dtype) for tensor in tensors[1:]), rounding=rounding), None)

    @property
    def mean(self) -> np.ndarray:
        """E[t] = grad F(h), shape (n, T)."""
        return self._mean

    def information(self) -> np.ndarray:
        """Return I(h) = Hes F(h), shape (n, T, T)."""
        n, outputs = self.h.shape
        return self.moments.product(np.broadcast_to(np.eye(outputs, dtype=self.h.dtype), (n, outputs, outputs)))

    def residual(self, y: np.ndarray) -> np.ndarray:
        """Return t(y) - E[t], shape (n, T)."""
        return (self.family.statistic(y) - self._mean).astype(self.h.dtype)

    def labels(self, rng: np.random.Generator, row: int, count: int) -> np.ndarray:
        """Return delta of `count` labels of one input, shape (count, T)."""
        drawn = self.family.sample(self.h[row : row + 1].astype(np.float64), rng, count)[:, 0]
        return self.family.statistic(drawn) - self._mean[row].astype(np.float64)

    def draw(self, rng: np.random.Generator, n_draws: int, second_moment: bool, first_input: int = 0) -> Draw:
        """Return the means over n_draws labels per input, drawn label by label."""
        return draw_labels(rng, self, n_draws, second_moment)


def _relative(error: np.ndarray, deviation: np.ndarray, order: int) -> float:
    if not error.size:  # exact
        return 0.0
    scale = np.ones(len(deviation))
    for axis in range(order):
        scale = scale[..., None] * deviation.reshape(len(deviation), *(1,) * axis, -1)
    return float((error / scale).max(initial=0.0))


class LogPartitionFamily(Family):
    """Base class of a user's own family p(y | h) = exp(t(y)' h - F(h) + log pi(y)).

    A subclass defines `name`, `n_outputs`, `log_partition`, `statistic`, `sample` and `check_labels`. Cumulants up to order four
    are derivatives of F: Cauchy's integral on complex circles, accurate to about 1e-12, where `log_partition` takes complex h and
    is analytic, else central differences, whose fourth order is accurate to about 1e-6; `accuracy` of the law holds the measured
    errors. `fisherstats.testing.check_family` tests the complete family.

    Attributes
    ----------
    n_outputs : int
        Number of natural parameters T, at most 6 unless `cumulants` is given.
    n_label_columns : int
        Number of columns of a label; 1 unless set.

    Notes
    -----
    Set `link` where h cannot take every real value, and `bounded = False` where t(y) can. Draws: all labels, in slabs of bounded
    memory.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherstats.core.validation.families import label_array
    >>> class Rayleigh(LogPartitionFamily):
    ...     name, n_outputs, bounded = "rayleigh", 1, False
    ...
    ...     def log_partition(self, h):
    ...         return -np.log(-h[..., 0])
    ...
    ...     def log_base(self, y):
    ...         return np.log(2 * y[..., 0])
    ...
    ...     def statistic(self, y):
    ...         return y**2
    ...
    ...     def sample(self, h, rng, n_draws):
    ...         return np.sqrt(rng.standard_exponential((n_draws, *h.shape)) / -h)
    ...
    ...     def check_labels(self, y, n):
    ...         return label_array(y, n, 1)
    >>> law = Rayleigh().at(np.array([[-2.0]]))
    >>> law.mean.round(12), law.accuracy[4] < 1e-9
    (array([[0.5]]), True)
    """

    n_label_columns: ClassVar[int] = 1

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """Number of natural parameters T."""

    @abstractmethod
    def log_partition(self, h: np.ndarray) -> np.ndarray:
        """Return F(h).

        Parameters
        ----------
        h : numpy.ndarray
            Natural parameters (..., T), real or complex.

        Returns
        -------
        numpy.ndarray
            F of shape (...). A branch of its imaginary part may be chosen freely on each small circle, but must not jump.
        """

    def cumulants(self, h: np.ndarray, order: int) -> np.ndarray | None:
        """Return the exact cumulant tensor (n, T, ..., T) of the order, 1 to 4, or None to compute it numerically.

        Parameters
        ----------
        h : numpy.ndarray
            Natural parameters (n, T).
        order : int
            Order of the tensor.

        Returns
        -------
        numpy.ndarray or None
            Derivatives of F of that order.
        """
        return None

    def log_base(self, y: np.ndarray) -> np.ndarray | float:
        """Return log pi(y) for checked labels, shape (n,) or a number; 0 unless overridden."""
        return 0.0

    def parameters(self) -> dict[str, Any]:
        """Return what defines the family, in plain values."""
        return {"name": self.name, "n_outputs": self.n_outputs}

    def at(self, h: np.ndarray) -> LogPartitionLaw:
        """Return the law of t at natural parameters h (n, T)."""
        return LogPartitionLaw(checks.natural_parameters(h, self.n_outputs), self)

    def log_prob(self, h: np.ndarray, y: Any) -> np.ndarray:
        """Return t(y)' h - F(h) + log pi(y), shape (n,)."""
        h = checks.natural_parameters(h, self.n_outputs)
        labels = self.check_labels(y, len(h))
        h = h.astype(np.float64)
        linear = (self.statistic(labels) * h).sum(axis=1)
        return linear - np.real(self.log_partition(h)) + self.log_base(labels)

    def draw_scheme(self, second_moment: bool, n_draws: int) -> str:
        """Return the key in `draws.DRAW_SCHEMES` of what is drawn."""
        return "labels"
