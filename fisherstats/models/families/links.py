r"""Links h = g(z): from the real-valued outputs z of a network to a natural domain that is a proper subset of R^T.

A link acts on each output separately. With J_z and H_z the derivatives of z, those of h are :math:`J_h = g'(z) J_z` and
:math:`H_h^a = g_a'(z) H_z^a + g_a''(z) J_z^a J_z^{a\top}`, so g comes with two derivatives, accurate in both tails.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, log_expit

from fisherstats.core.validation import families as checks

__all__ = ["Link", "joined_link"]


def _identity(z: np.ndarray) -> list[np.ndarray]:
    return [z, np.ones_like(z), np.zeros_like(z)]


def _exp(z: np.ndarray) -> list[np.ndarray]:
    h = np.exp(z)
    return [h, h, h]


def _negative_exp(z: np.ndarray) -> list[np.ndarray]:
    h = -np.exp(z)
    return [h, h, h]


def _negative_half_exp(z: np.ndarray) -> list[np.ndarray]:
    h = -np.exp(z) / 2
    return [h, h, h]


def _log_sigmoid(z: np.ndarray) -> list[np.ndarray]:
    below, above = expit(-z), expit(z)
    return [log_expit(z), below, -below * above]


# name of g -> z -> [g(z), g'(z), g''(z)]
FUNCTIONS = {
    "identity": _identity,
    "exp": _exp,
    "negative_exp": _negative_exp,
    "negative_half_exp": _negative_half_exp,
    "log_sigmoid": _log_sigmoid,
}


@dataclass(frozen=True)
class Link:
    """A link h = g(z), one function per output.

    Parameters
    ----------
    functions : tuple of str
        Name of g for every output: "identity", "exp" (h = e^z), "negative_exp" (h = -e^z), "negative_half_exp"
        (h = -e^z / 2) or "log_sigmoid" (h = -log(1 + e^-z)).

    Examples
    --------
    >>> import numpy as np
    >>> link = Link(("identity", "negative_exp"))
    >>> link.evaluate(np.zeros((1, 2)), 1)
    (array([[ 0., -1.]]), array([[ 1., -1.]]))
    """

    functions: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "functions", checks.link_functions(self.functions, FUNCTIONS))

    @property
    def name(self) -> str:
        """The function if all outputs share one, else the functions in the order of the outputs."""
        return self.functions[0] if len(set(self.functions)) == 1 else ", ".join(self.functions)

    def evaluate(self, z: np.ndarray, order: int = 0) -> tuple[np.ndarray, ...]:
        """Return h = g(z) and its derivatives up to the given order, each output's own.

        Parameters
        ----------
        z : numpy.ndarray
            Outputs of the network (n, T), float32 or float64.
        order : int, default 0
            Number of derivatives, 0 to 2.

        Returns
        -------
        tuple of numpy.ndarray
            (h,), (h, g') or (h, g', g''), each (n, T) in the type of z. Where e^z is past the range of that type h is
            infinite, or 0, and no family takes it as a natural parameter.
        """
        results = [np.empty_like(z) for _ in range(order + 1)]
        # Values that overflow or underflow are outside the natural domain, and `Family.at` raises with value and input.
        with np.errstate(over="ignore", under="ignore"):
            for function in set(self.functions):
                columns = [number for number, one in enumerate(self.functions) if one == function]
                for result, value in zip(results, FUNCTIONS[function](z[:, columns]), strict=False):
                    result[:, columns] = value
        return tuple(results)


def joined_link(links: list[tuple[Link | None, int]]) -> Link | None:
    """Return the joint link of concatenated outputs from (link, number of outputs); None if all are identities."""
    if all(link is None for link, _ in links):
        return None
    functions = [("identity",) * outputs if link is None else link.functions for link, outputs in links]
    return Link(tuple(function for part in functions for function in part))
