"""Kronecker-factored approximations of the Fisher information as operators: products, solutions, samples, determinants."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator

from fisherstats.core.docstrings import documented
from fisherstats.core.validation import arguments
from fisherstats.core.validation import kronecker as checks
from fisherstats.execution import at_once, one_blas_thread
from fisherstats.models.network import MLP
from fisherstats.quantities import _run
from fisherstats.quantities._alignment import over_parameters
from fisherstats.quantities.information.exact import fisher_information
from fisherstats.theory.kronecker_eigenbasis import Eigenbasis, corrected_moments, eigenbases

__all__ = ["KroneckerOperator", "kronecker_operator"]

Array = NDArray[np.floating]

KINDS = ("ekfac", "kfac")


class KroneckerOperator(LinearOperator):
    """A block-diagonal approximation of the Fisher information, made by `kronecker_operator`.

    Parameters
    ----------
    model : MLP
        The network.
    bases : sequence of Eigenbasis
        Eigenvectors and second moments of every layer.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> x = np.random.default_rng(0).normal(size=(100, 3))
    >>> model = fs.MLP.random([3, 5, 4], activation="tanh", family=fs.families.Categorical(4), rng=1)
    >>> operator = fs.kronecker_operator(model, x)
    >>> gradient = np.ones(model.n_params)
    >>> step = operator.solve(gradient, damping=0.1)
    >>> bool(np.allclose(operator @ step + 0.1 * step, gradient))
    True
    """

    def __init__(self, model: MLP, bases: list[Eigenbasis]) -> None:
        # The type stubs declare the base class without arguments.
        super().__init__(dtype=np.dtype(np.float64), shape=(model.n_params,) * 2)  # type: ignore[call-arg]
        self._model = model
        self._bases = bases
        self._slices = model.layer_slices()

    def _columns(self, vectors: Any) -> Any:
        found = over_parameters("vector", vectors, self._model)
        return vectors if found is vectors else found.to_numpy().T

    def dot(self, other: Any) -> Any:
        """Return the product with a vector or with the columns of a matrix."""
        return super().dot(self._columns(other))

    def _of_layers(self, function: Any, vectors: Array) -> Array:
        pairs = zip(self._bases, self._slices, strict=True)
        return np.concatenate([basis.apply(function, vectors[:, part]) for basis, part in pairs], axis=1)

    def _matmat(self, vectors: Array) -> Array:
        given = arguments.real_array("vector", vectors).astype(np.float64)
        return self._of_layers(lambda s: s, given.T).T

    def _matvec(self, vector: Array) -> Array:
        return self._matmat(np.reshape(vector, (-1, 1)))[:, 0]

    def _adjoint(self) -> LinearOperator:
        return self

    def _vectors(self, vectors: Any) -> tuple[Array, bool]:
        given = arguments.real_array("vectors", self._columns(vectors)).astype(np.float64)
        checks.vectors_of(given.shape, self.shape[0])
        return (given[None], True) if given.ndim == 1 else (given.T, False)

    def solve(self, vectors: Any, damping: float) -> Array:
        r"""Return :math:`(F+\lambda)^{-1}v`.

        Parameters
        ----------
        vectors : array_like, shape (P,) or (P, k)
            One vector, or the columns of a matrix.
        damping : float
            The number that is added to every eigenvalue, positive.

        Returns
        -------
        ndarray
            Of the same shape.
        """
        number = arguments.positive_number("damping", damping)
        rows, alone = self._vectors(vectors)
        found = self._of_layers(lambda s: 1 / (s + number), rows)
        return found[0] if alone else found.T

    def sample(self, n_samples: int, damping: float, rng: int | np.random.SeedSequence | np.random.Generator) -> Array:
        r"""Return draws of :math:`N(0,(F+\lambda)^{-1})`.

        Parameters
        ----------
        n_samples : int
            Number of draws.
        damping : float
            The number that is added to every eigenvalue, positive.
        rng : int, SeedSequence or Generator
            Source of randomness.

        Returns
        -------
        ndarray, shape (n_samples, P)
            One draw per row.
        """
        number = arguments.positive_number("damping", damping)
        n_samples = arguments.positive_integer("n_samples", n_samples)
        normal = np.random.default_rng(arguments.seed_sequence(rng)).standard_normal((n_samples, self.shape[0]))
        return self._of_layers(lambda s: 1 / np.sqrt(s + number), normal)

    def log_det(self, damping: float) -> float:
        r"""Return :math:`\log\det(F+\lambda)`.

        Parameters
        ----------
        damping : float
            The number that is added to every eigenvalue, positive.

        Returns
        -------
        float
            The log-determinant over all layers.
        """
        number = arguments.positive_number("damping", damping)
        return float(sum(np.log(basis.moments + number).sum() for basis in self._bases))

    def trace(self) -> float:
        """Return the trace, which for ekfac is that of the exact information."""
        return float(sum(basis.moments.sum() for basis in self._bases))

    def block(self, layer: int) -> Array:
        """Return the dense block of a layer.

        Parameters
        ----------
        layer : int
            Number of the layer, from 0.

        Returns
        -------
        ndarray, shape (size, size)
            Over the parameters of the layer, row-major.
        """
        return self._bases[checks.layer_of(layer, len(self._bases))].dense()


@documented
@one_blas_thread
def kronecker_operator(
    model: MLP,
    x: Any,
    *,
    kind: str = "ekfac",
    engine: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> KroneckerOperator:
    r"""Kronecker-factored approximation of the Fisher information as an operator, with solutions, samples and determinants.

    ``"kfac"`` is :math:`G_l\otimes A_l` for every layer (Martens & Grosse 2015). ``"ekfac"`` keeps its eigenvectors and replaces
    the products of eigenvalues by the exact second moments of the gradient along them (George et al. 2018): of all matrices that
    are diagonal in this basis it is the closest to the exact block in Frobenius norm, and it has its trace. Labels are summed
    exactly.

    Parameters
    ----------
    %(model)s
    x : array_like, DataArray (dims ``input``, ``feature``), array on disk or dask array, shape (n, n_features)
        Inputs, at least one row, finite and real.
    kind : {"ekfac", "kfac"}, default "ekfac"
        With corrected eigenvalues, or without.
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    KroneckerOperator, shape (P, P)
        A `scipy.sparse.linalg.LinearOperator` with ``solve``, ``sample``, ``log_det``, ``trace`` and ``block``. Source keys
        ``kronecker-factors``, ``eigenvalue-correction``.

    Raises
    ------
    %(refused)s

    Notes
    -----
    Cost: the Kronecker factors and an eigendecomposition of each; for ekfac one more pass over the inputs, with a product of
    the derivatives and the eigenvectors. A product or a solution takes four small matrix products per layer. Memory: the
    eigenvectors.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> x = np.random.default_rng(0).normal(size=(100, 3))
    >>> model = fs.MLP.random([3, 5, 4], activation="tanh", family=fs.families.Categorical(4), rng=1)
    >>> operator = fs.kronecker_operator(model, x)
    >>> exact = fs.fisher_information(model, x)
    >>> bool(np.isclose(operator.trace(), exact.sum()))
    True
    """
    word = arguments.choice("kind", kind, KINDS)
    settings: dict[str, Any] = {"engine": engine, "num_threads": num_threads, "progress": progress}
    call = _run.prepare(model, x, **settings)
    tree = cast(xr.DataTree, fisher_information(model, x, view="kfac", **settings))
    bases = eigenbases([(_values(tree, one, "G"), _values(tree, one, "A")) for one in tree.children])
    if word == "kfac":
        return KroneckerOperator(model, bases)

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input)
        return corrected_moments(law, call.network.unit_jacobians(forward, differences=False), forward.inputs, bases)

    means = at_once(call.mean(block, call.block_rows()))
    corrected = [Eigenbasis(one.units, one.inputs, np.maximum(s, 0)) for one, s in zip(bases, means, strict=True)]
    return KroneckerOperator(model, corrected)


def _values(tree: xr.DataTree, layer: str, factor: str) -> Array:
    return cast(xr.DataArray, tree[layer][factor]).values
