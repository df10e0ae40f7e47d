"""Extremes of a family at each input, and bounds of the variance over inputs of the information."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats.core import margins
from fisherstats.core.arrays import double
from fisherstats.core.docstrings import documented
from fisherstats.core.validation import bounds as checks
from fisherstats.core.validation import inputs as finite
from fisherstats.models.families.extremes import information_extremes
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _layout, _run, _views
from fisherstats.quantities._computation import Computation
from fisherstats.quantities._streams import streamed
from fisherstats.theory import assembly, fisher, law_extremes
from fisherstats.theory.forward_rounding import SENSITIVITY, forward_rounding
from fisherstats.theory.law_extremes import STATEMENTS, TENSORS
from fisherstats.theory.tensor_bounds import tightness
from fisherstats.theory.variance_inequalities import attained_extremes

__all__ = ["family_extremes", "input_variance_bounds"]

Array = NDArray[np.floating]


@documented
@streamed(per_input=True)
def family_extremes(
    model: MLP, x: Any, *, engine: str | None = None, num_threads: int | None = None, progress: bool = False
) -> Computation[xr.Dataset]:
    r"""Extremes over unit vectors of I(h), the fourth moment K and M = Cov(rr', rr') at each input (2024, Proposition 4.3).

    Certified extremes, and those given by the statements: :math:`\tilde\lambda_{max}(K)\le B\lambda_{max}(I)\le B^2` where
    :math:`\|r\|^2\le B` (Proposition 4.3), B = 2 for classes (Corollary R.1); :math:`\lambda_{max}(I)\le m` and
    :math:`\tilde\lambda_{max}(M)\le2m` for classes with :math:`m=\min(\max_kp_k,1-\|p\|^2)` (Theorem 5.2); 1 and 2 for a
    Gaussian of unit variance (Proposition 5.1).

    Parameters
    ----------
    %(model)s
    %(x)s
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset
        ``certified (input, tensor, side)``, tensor = information, fourth_moment, square_covariance (exact for the information
        up to rounding outwards); ``attained (input, side)``, extremes of M attained by an iteration; ``by_statement (input,
        bound, tensor, side)``, 0 below and inf above where a statement does not apply or gives no bound; ``ratio (input, bound,
        tensor)``, its upper end over the certified one; ``squared_radius (input)``, the largest :math:`\|r\|^2`, inf where t is
        unbounded. Units of 1, source key ``family-extremes``.

    Raises
    ------
    %(refused)s

    Notes
    -----
    Assumptions: those of each statement; the values are with respect to natural parameters. Proposition 4.3 bounds M by Corollary
    4.2, :math:`B\lambda_{max}(I)-\lambda_{min}(I)^2`; the certified extreme is the smallest of this bound, those of the other
    statements, and the largest eigenvalue of M on symmetric matrices, as none is always the tightest. Certified extremes include
    an outward margin for rounding. Only certified values enter bounds anywhere in the package; attained ones are informative.
    Cost: eigenvalue problems of the size of the outputs (C x C for classes; T (T + 1) / 2 for families without a closed form), 60
    iterations for the attained extremes.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]], activation=[], family=fs.families.Categorical(3))
    >>> found = fs.family_extremes(model, np.array([[1.0]])).sel(input=0, side="upper")
    >>> found.attained.round(6).item(), found.certified.sel(tensor="square_covariance").round(6).item()
    (0.055556, 0.111111)
    >>> found.by_statement.sel(bound="theorem_5_2", tensor="square_covariance").round(6).item()
    0.666667
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress, in_double=True)

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input)
        certified, said = law_extremes.certified_extremes(law), law_extremes.statements(law)
        attained = attained_extremes(law, certified[:, 2, 1])
        room = SENSITIVITY * forward_rounding(call.model, forward)[:, None]
        certified = np.stack([certified[..., 0] * (1 - room), certified[..., 1] * (1 + room)], axis=2)
        return [certified, np.stack(attained, axis=1), said, margins.above(law_extremes.squared_radius(law))]

    keys = ["extremes_certified", "extremes_attained", "extremes_by_statement", "extremes_ratio", "squared_radius"]
    coords = _labels.coordinates(tensor=list(TENSORS), side=["lower", "upper"], bound=list(STATEMENTS)) | call.input_coordinate()
    yield (layout := _layout.dataset(keys, coords, call.provenance(), call.dtype))
    certified, attained, said, radius = yield from call.stack(block, call.block_rows(), infinite=True)
    ratio = tightness(np.broadcast_to(certified[:, None, :, 1], said.shape[:3]), said[..., 1])
    certified, said = (
        np.stack([margins.outwards(one[..., side], call.dtype, word) for side, word in enumerate(("lower", "upper"))], axis=-1)
        for one in (certified, said)
    )
    attained, ratio = (margins.nearest(one, call.dtype) for one in (attained, ratio))
    return layout, [certified, attained, said, ratio, margins.outwards(radius, call.dtype, "upper")]


@documented
@streamed()
def input_variance_bounds(
    model: MLP, x: Any, *, engine: str | None = None, num_threads: int | None = None, progress: bool = False
) -> Computation[xr.Dataset]:
    r"""Certified bound of the variance over inputs of the diagonal information, with the exact one (2024, Lemma 4.8).

    :math:`\mathrm{Var}_x(I(\theta_i|x))\le E_x[I(\theta_i|x)^2]\le E_x[\|\partial_ih\|^4\lambda_{max}^2(I(h|x))]`.

    Parameters
    ----------
    %(model)s
    x : array_like, DataArray (dims ``input``, ``feature``), array on disk or iterable of batches, shape (n, n_features)
        Inputs, at least two rows, finite and real; from a dask array the result is lazy.
    %(engine)s
    %(num_threads)s
    %(progress)s

    Returns
    -------
    Dataset
        ``exact, upper, ratio (moment, param)``: for moment = "population" the variance under the uniform distribution on the
        given inputs and the lemma for that distribution, for "sample" the variance with divisor n - 1 and the bound times n / (n
        - 1); ``second_moment (param)``, the mean square in between. Units of 1, source key ``input-variance-bound``.

    Raises
    ------
    TypeError, ValueError
        If `model` is not an `MLP`, or `x` is not a finite real matrix with at least two rows and one column per input of the
        network.

    Notes
    -----
    Assumptions: none on the activations. It is the part of the variance under random inputs that no number of labels removes
    (`estimator_variance` with ``design="random"``). Cost: that of `fisher_information`.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[1.0, 0.0]]], activation=[], family=fs.families.Gaussian())
    >>> bounds = fs.input_variance_bounds(model, np.array([[1.0], [3.0]]))
    >>> bounds.exact.sel(moment="population").values, bounds.upper.sel(moment="population").values.round(9)
    (array([16.,  0.]), array([41.,  1.]))
    """
    call = _run.prepare(model, x, engine=engine, num_threads=num_threads, progress=progress, in_double=True)
    checks.several_inputs("a variance over inputs", call.n_inputs)
    _views.check(call, "diagonal", False, 8)

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input)
        G = call.network.jacobians(forward, differences=False)
        information = fisher.unit_factors(law, forward, G)
        largest = (information_extremes(law)[1] * (1 + SENSITIVITY * forward_rounding(call.model, forward)))[:, None]
        norms = [np.einsum("nto,nto->no", G_l, G_l) * largest for G_l in G]
        squares = [[np.square(double(one)) for one in factors] for factors in (information, norms)]
        sums = [assembly.diagonal(one, forward.inputs, 4, call.sizes, False) for one in squares]
        return [*assembly.moments_over_inputs(information, forward.inputs, 2), *sums]

    n, dtype = call.n_inputs, call.dtype
    keys = ["input_variance_exact", "input_variance_upper", "input_variance_ratio", "input_second_moment"]
    coords = _labels.param_coordinates(model) | _labels.coordinates(moment=["sample", "population"])
    yield (layout := _layout.dataset(keys, coords, call.provenance(), dtype))
    _, _, deviations, square_sum, bound_sum = yield from call.mean(block, call.block_rows(), combine=assembly.merge_moments)
    exact: Array
    upper: Array
    exact, upper = (np.stack([one / (n - 1), one / n]) for one in (deviations, bound_sum))
    exact, upper = margins.nearest(exact, dtype), margins.outwards(margins.above(upper, call.terms(False) + 64), dtype, "upper")
    finite.finite_results([exact, upper], dtype)
    return layout, [exact, upper, margins.nearest(tightness(exact, upper), dtype), margins.nearest(square_sum / n, dtype)]
