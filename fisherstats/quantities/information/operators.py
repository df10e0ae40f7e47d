"""The Fisher information as a linear operator, for products with vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator

from fisherstats.core.docstrings import documented
from fisherstats.core.validation import arguments
from fisherstats.execution import at_once
from fisherstats.models import derivatives
from fisherstats.models.families import Law
from fisherstats.models.network import MLP
from fisherstats.quantities import _run
from fisherstats.quantities._alignment import over_parameters
from fisherstats.quantities._run import Call

__all__ = ["fisher_operator"]

Array = NDArray[np.floating]

_KEPT_BYTES = 2**28
"""Maximum size of the cached forward pass of an operator; above it, every product repeats the forward pass."""

_PRODUCT_ROWS = 512


class _InformationOperator(LinearOperator):
    """v -> mean over inputs of J' I(h) J v, block by block, linearised once if the forward pass of all inputs is small enough."""

    def __init__(self, call: Call) -> None:
        # The type stubs declare the base class without arguments.
        super().__init__(dtype=call.rows.dtype, shape=(call.model.n_params,) * 2)  # type: ignore[call-arg]
        self._call = call
        self._kept: dict[int, tuple[derivatives.Forward, Law]] = {}
        widths = call.model.widths
        numbers = widths[0] + 3 * sum(widths[1:-1]) + 4 * widths[-1]
        self._keeps = call.n_inputs * numbers * call.rows.dtype.itemsize <= _KEPT_BYTES

    def _columns(self, vectors: Any) -> Any:
        """Return vectors, or one, over the first axis; labelled ones in the order of the network."""
        found = over_parameters("vector", vectors, self._call.model)
        return vectors if found is vectors else found.to_numpy().T

    def dot(self, other: Any) -> Any:
        """Return the product with a vector or with the columns of a matrix."""
        return super().dot(self._columns(other))

    def matvec(self, vector: Any) -> Any:
        """Return the product with a vector."""
        return super().matvec(self._columns(vector))

    def matmat(self, vectors: Any) -> Any:
        """Return the product with the columns of a matrix."""
        return super().matmat(self._columns(vectors))

    def _linearised(self, x: Array, first_input: int) -> tuple[derivatives.Forward, Law]:
        if first_input not in self._kept:
            linearised = self._call.network.forward(x, first_input, by_units=True)
            if not self._keeps:
                return linearised
            self._kept[first_input] = linearised
        return self._kept[first_input]

    def _matmat(self, vectors: Array) -> Array:
        call = self._call
        directions = arguments.real_array("vector", vectors).astype(call.rows.dtype, copy=False)
        # A block holds the factors of all columns that are processed together.
        count = max(1, call.block_numbers // (call.block_rows(_PRODUCT_ROWS, n_rows=1) * sum(call.model.widths[1:])))
        if directions.shape[1] <= count:
            return self._products(directions)
        starts = range(0, directions.shape[1], count)
        return np.concatenate([self._products(directions[:, start : start + count]) for start in starts], axis=1)

    def _products(self, directions: Array) -> Array:
        call = self._call

        def block(x: Array, first_input: int) -> tuple[list[Any], list[Array]]:
            forward, law = self._linearised(x, first_input)
            columns = [call.network.product_factors(forward, law, direction) for direction in directions.T]
            return [(factors, 1) for factors in columns], forward.inputs

        return np.ascontiguousarray(at_once(call.diagonal_mean(block, preferred=_PRODUCT_ROWS, n_rows=1)).T)

    def _matvec(self, vector: Array) -> Array:
        return self._matmat(np.reshape(vector, (-1, 1)))[:, 0]

    def _adjoint(self) -> LinearOperator:
        return self


@documented
def fisher_operator(
    model: MLP, x: Any, *, engine: str | None = None, num_threads: int | None = None, progress: bool = False
) -> LinearOperator:
    r"""Fisher information as a linear operator: :math:`v\mapsto\frac1n\sum_iJ_i^\top I(h_i)J_iv`, no array of size P^2.

    Parameters
    ----------
    %(model)s
    x : array_like, DataArray (dims ``input``, ``feature``) or dask array, shape (n, n_features)
        Inputs, at least one row, finite and real.
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    scipy.sparse.linalg.LinearOperator, shape (P, P)
        Symmetric; for `scipy.sparse.linalg.cg`, `eigsh` and the like. Source key ``information``.

    Raises
    ------
    %(refused)s

    Notes
    -----
    Cost of a product: a tangent and a backward pass over the inputs, and in the first product a forward pass. It is cached
    if it takes at most 256 MiB (8 bytes per input, feature and unit, times about three); otherwise, every product
    repeats it, for as many columns as fit in a block. The operator reads x when it is first used.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, -1.0, 0.0]]], activation=[], family=fs.families.Bernoulli())
    >>> x = np.array([[1.0, 1.0], [2.0, 2.0]])
    >>> fs.fisher_operator(model, x) @ np.array([1.0, 0.0, 0.0])
    array([0.625, 0.625, 0.375])
    """
    return _InformationOperator(
        _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress, any_network=True)
    )
