"""Inverse information of a fitted network, model-based or robust, from which covariances, intervals and bounds follow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import like, on_host, power_of_two
from fisherstats.core.validation import applications as checks
from fisherstats.core.validation import arguments, networks
from fisherstats.core.validation import external as external_checks
from fisherstats.execution import PassShape, Steps, Work
from fisherstats.models.derivatives import Forward
from fisherstats.models.external import ExternalNetwork
from fisherstats.models.families import Gaussian
from fisherstats.models.families.base import Law
from fisherstats.models.families.residuals import squared_residuals, varying_numbers
from fisherstats.models.network import MLP
from fisherstats.quantities import _run
from fisherstats.quantities._run import Call
from fisherstats.theory import assembly, covariance_tensors, maximum_likelihood, observed
from fisherstats.theory.maximum_likelihood import Inverse

__all__ = ["Asymptotics", "Inference", "double_call", "triangle_rows"]

Array = NDArray[np.floating]

_BLOCK_NUMBERS = 2**21


@dataclass(frozen=True)
class Asymptotics:
    """Asymptotic distribution of the parameters of a fitted network, given its data."""

    inverse: Inverse
    """W with the asymptotic covariance W W' on the estimable subspace, dispersion included."""
    dispersion: float
    degrees: int
    """Number of components of the labels that can vary, minus the rank of their derivative."""
    score_statistic: float
    """s' Cov s of the sum s of all scores; nan without labels."""


def double_call(model: Any, x: Any, any_network: bool = False, **common: Any) -> Call:
    """Return a validated call in float64: the solution may lose all digits of float32."""
    if not (any_network and isinstance(model, ExternalNetwork)):
        networks.model_object(model, MLP)
    return _run.prepare(model.as_dtype(np.dtype(np.float64)), x, any_network=any_network, **common)


@dataclass(frozen=True)
class Inference:
    """A validated request for the inverse information of all labels, or for the sandwich covariance."""

    call: Call
    data_labels: Any
    hessian: str
    robust: bool
    dispersion: float | str | None

    @classmethod
    def of(
        cls, model: MLP, x: Any, y: Any, hessian: str, robust: bool, dispersion: float | str | None, **common: Any
    ) -> Inference:
        """Validate the arguments of a public function."""
        call = double_call(model, x, any_network=True, **common)
        arguments.choice("hessian", hessian, ("expected", "observed"))
        external_checks.expected_only(isinstance(model, ExternalNetwork), hessian)
        arguments.boolean("robust", robust)
        dispersion = checks.dispersion(dispersion)
        needs = {
            "hessian='observed'": hessian == "observed",
            "robust=True": robust,
            "dispersion='pearson'": dispersion == "pearson",
        }
        for what, needed in needs.items():
            if needed:
                checks.labels_needed(what, y)
        n_numbers = model.n_params**2
        call.fits("the asymptotic covariance", n_numbers, 6, "use leading_eigenpairs, or a network of fewer parameters.")
        return cls(call, None if y is None else call.data_labels(y), hessian, robust, dispersion)

    @property
    def estimated(self) -> bool:
        """Whether the dispersion is estimated from the residuals."""
        of_gaussian = self.dispersion is None and self.data_labels is not None and isinstance(self.call.model.family, Gaussian)
        return self.dispersion == "pearson" or (of_gaussian and not self.robust)

    @property
    def provenance(self) -> dict[str, Any]:
        """The provenance of results."""
        return self.call.provenance(hessian=self.hessian, robust=self.robust, dispersion=self.dispersion)

    @property
    def later(self) -> list[PassShape]:
        """The shapes of the passes after the first."""
        call = self.call
        shapes = []
        if self.hessian == "observed" and call.model.n_layers > 1:
            if not call.model.bias[0]:
                shapes.append(call.mean_shape(call.block_rows()))
            shapes.append(call.mean_shape(call.block_rows(_run.DENSE_ROWS, True)))
        elif self.hessian == "observed" and call.model.family.link is not None:
            shapes.append(call.mean_shape(triangle_rows(call)))
        return [*shapes, *([call.mean_shape(triangle_rows(call))] if self.robust else [])]

    def steps(self) -> Steps[Asymptotics]:
        """Return the asymptotic distribution of the parameters."""
        call, data_labels = self.call, self.data_labels
        sums = yield from _sums(call, data_labels, self.estimated)
        R, unit, certain, certain_unit, score, (count, numbers, squares), first_lost = sums
        expected = yield Work(maximum_likelihood.inverse_of_triangle, (R, unit))
        rank = expected.rank
        if certain.any():
            every = [R.copy(), unit.copy()]
            maximum_likelihood.merge_triangles(every, [certain, certain_unit])
            rank = maximum_likelihood.inverse_of_triangle(*every).rank
        n_numbers = round(numbers / count * call.n_inputs)
        degrees = n_numbers - rank
        if self.estimated:
            checks.residual_degrees(degrees, n_numbers, rank)
            checks.dispersion_within_range(float(squares), float(first_lost[0]), call.model.widths[-1])
            factor = float(squares) / degrees
        else:
            factor = 1.0 if self.dispersion is None else float(self.dispersion)
        inverse = expected
        if self.hessian == "observed":
            inverse = yield from _observed_inverse(call, data_labels, expected, unit)
        statistic = np.nan if data_labels is None else _statistic(score, inverse, factor)
        root = np.sqrt(factor) * inverse.root
        if self.robust:
            root = yield from _robust_root(call, data_labels, inverse)
        return Asymptotics(replace(inverse, root=root), factor, degrees, statistic)


def _statistic(score: Array, inverse: Inverse, factor: float) -> float:
    square = float(np.sum(np.square(score @ inverse.root)))
    return square / factor if square else 0.0


def triangle_rows(call: Call) -> int:
    """Return rows of a block: enough for the factorisation to be tall, few enough for its dense rows to be small."""
    outputs = call.model.widths[-1] + 1
    rows = max(16, _BLOCK_NUMBERS // (outputs * call.model.n_params))
    return min(512, rows)


def _sums(call: Call, data_labels: Any, pearson: bool) -> Steps[list[Array]]:
    """Return two roots of matrices over the parameters (R and units each), the sum of the scores, three numbers, and one more.

    The first root is that of the information of all labels, the second compensates for rows of it whose variance is too small
    relative to the others to count in its rank. The numbers are the number of inputs, the number of label components that can
    vary, and the sum of squared Pearson residuals if requested; the last is the index of the first output with a variance of 0,
    counted over all inputs, infinite if there is none.
    """

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input)
        triangle = maximum_likelihood.triangle(call.network.root_rows(forward, law), forward.inputs)
        variance = law.own_diagonal()
        lost = variance == 0
        certain = _certain_rows(call, forward, law, (variance < _FAINT).any(axis=1))
        score, squares = np.zeros_like(law.h, shape=call.model.n_params), np.zeros_like(law.h, shape=1)
        if data_labels is not None:
            y = like(data_labels[first_input : first_input + len(x)], law.h)
            score = covariance_tensors.dense_jacobian(_score_rows(call, forward, law.residual(y)), forward.inputs)[:, 0].sum(
                axis=0
            )
            if pearson:
                squares = squared_residuals(law, y)
                checks.possible_labels(squares, law.h, first_input)
        numbers = [np.ones_like(law.h, shape=len(x)), varying_numbers(law), squares]
        places = first_input * lost.shape[1] + np.arange(lost.size, like=law.h).reshape(lost.shape)
        first = np.where(lost, places, np.inf).min().reshape(1)
        return [*triangle, *certain, score, np.stack([one.sum() for one in numbers]), first]

    return (yield from call.mean(block, triangle_rows(call), combine=_merge_all, infinite=True))


def _merge_all(total: list[Array], part: list[Array]) -> None:
    maximum_likelihood.merge_triangles(total[:2], part[:2])
    if part[2].any():
        maximum_likelihood.merge_triangles(total[2:4], part[2:4])
    for into, array in zip(total[4:6], part[4:6], strict=True):
        np.add(into, array, out=into)
    np.minimum(total[6], part[6], out=total[6])


_FAINT = 1e-12
"""Variances below this may be at rounding level relative to those of other labels, or may underflow."""

_CERTAIN = 30.0
"""Natural parameters are clipped here for such labels: the range of Cov(t), and so their share of the rank, is unchanged."""


def _certain_rows(call: Call, forward: Forward, law: Law, faint: Any) -> list[Array]:
    """Return a triangular factor of the rows of these inputs at clipped natural parameters, with variances of normal size."""
    n_params = call.model.n_params
    if call.rows.device is not None or not faint.any():  # avoids a device synchronisation
        return [np.zeros_like(law.h, shape=(n_params, n_params)), np.ones_like(law.h, shape=n_params)]
    milder = call.model.family.at(np.clip(law.h, -_CERTAIN, _CERTAIN))
    rows = [one * faint[:, None, None] for one in call.network.root_rows(forward, milder)]
    return maximum_likelihood.triangle(rows, forward.inputs)


def _score_rows(call: Call, forward: Forward, residual: Array) -> list[Array]:
    return [factors[:, None, :] for factors in call.network.gradients(forward, residual)]


def _robust_root(call: Call, data_labels: Any, inverse: Inverse) -> Steps[Array]:
    r"""Return W R', R'R the sum of W's s'W over the scores s of all labels: the sandwich covariance is its square."""

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input)
        residual = law.residual(like(data_labels[first_input : first_input + len(x)], law.h))
        scores = covariance_tensors.dense_jacobian(_score_rows(call, forward, residual), forward.inputs)[:, 0]
        return maximum_likelihood.triangle_of(scores @ like(inverse.root, scores))

    R, unit = yield from call.mean(block, triangle_rows(call), combine=maximum_likelihood.merge_triangles)
    return inverse.root @ (R * unit).T


def _observed_inverse(call: Call, data_labels: Any, expected: Inverse, unit: Array) -> Steps[Inverse]:
    """Return the inverse of minus the Hessian of the log-likelihood: that of the expected one, corrected for the labels."""
    if call.model.n_layers > 1:
        change, rounding = yield from _label_terms(call, data_labels, expected.scale, unit)
        inverse = expected
        change, errors = maximum_likelihood.change_of_label(inverse, change, rounding)
    elif call.model.family.link is None:
        return expected
    else:
        inverse, change, errors = yield from _signed_terms(call, data_labels)
    corrected, smallest, precision = yield Work(maximum_likelihood.corrected, (inverse, change, errors))
    checks.maximum(smallest, precision)
    return corrected


def _label_terms(call: Call, data_labels: Any, scale: Array, unit: Array) -> Steps[tuple[Array, float]]:
    r"""Return the sum over inputs of :math:`-\sum_ar_aH^a` in units of `scale` on both sides, and the rounding of an entry.

    The inputs are rescaled by powers of two, and the first kernel inversely: the network is unchanged.
    """
    first = slice(0, call.model.weights[0].size)
    ratio = yield from _input_units(call, unit[first].reshape(call.model.weights[0].shape))
    weights = [np.asarray(on_host(one)) for one in call.model.weights]
    activation, family, bias = call.model.activations, call.model.family, call.model.bias
    same = MLP([weights[0] * ratio, *weights[1:]], activation=activation, family=family, bias=bias)
    scaled, slices = call.of(same, call.network.name), call.model.layer_slices()

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = scaled.network.forward(x / like(ratio[: x.shape[1]], x), first_input, order=2)
        scaled.network.refuse_kinks(forward, "raise", first_input)
        residual = law.residual(like(data_labels[first_input : first_input + len(x)], law.h))
        G = scaled.network.jacobians(forward, differences=False)
        terms = observed.deviation_blocks(scaled.network.hessian_blocks(forward, G, residual[:, None, :]), forward.inputs)
        _, rounding = observed.deviation_factors(scaled.network.curvatures(forward, G), residual)
        return [*terms.values(), assembly.diagonal(rounding, forward.inputs, 2, call.sizes, False)]

    *parts, rounding = yield from scaled.mean(block, call.block_rows(_run.DENSE_ROWS, True))
    pairs = assembly.layer_pairs(len(slices))
    change = assembly.full_matrix(dict(zip(pairs, parts, strict=True)), slices) * call.n_inputs
    size = scale.copy()
    size[first] /= np.tile(ratio, len(weights[0]))
    change = change / size[:, None] / size
    of_sums = float((rounding * call.n_inputs / size / size).max())
    return change, max(of_sums, len(size) * float(np.finfo(np.float64).eps * np.abs(change).max()))


def _input_units(call: Call, units: Array) -> Steps[Array]:
    """Return powers of two near the largest values of the inputs of the first layer, 1 for its bias."""
    if call.model.bias[0]:
        ratio: Array = units[np.argmax(units[:, -1])] / units[:, -1].max()
        return ratio

    def larger(total: list[Array], part: list[Array]) -> None:
        np.maximum(total[0], part[0], out=total[0])

    def block(x: Array, first_input: int) -> list[Array]:
        return [np.abs(x).max(axis=0)]

    (largest,) = yield from call.mean(block, call.block_rows(), combine=larger)
    return np.asarray(power_of_two(largest))


def _signed_terms(call: Call, data_labels: Any) -> Steps[tuple[Inverse, Array, Array]]:
    r"""Return the same for one layer with a link, where the information is :math:`\sum_iM_i\otimes\bar x_i\bar x_i^\top`.

    The T x T matrices :math:`M_i` are indefinite in general: the positive and the negative parts have separate roots, and no
    product of two long columns is formed. Returns the inverse of the positive part, and the correction by the negative one.
    """

    def block(x: Array, first_input: int) -> list[Array]:
        forward, law = call.network.forward(x, first_input, order=2)
        residual = law.residual(like(data_labels[first_input : first_input + len(x)], law.h))
        values, vectors = np.linalg.eigh(observed.output_information(law, forward, residual))
        rows = (np.sqrt(np.abs(values))[:, None, :] * vectors).swapaxes(1, 2)
        parts = [np.where((sign * values > 0)[:, :, None], rows, 0) for sign in (1, -1)]
        return [one for part in parts for one in maximum_likelihood.triangle([part], forward.inputs)]

    R, unit, negative, negative_unit = yield from call.mean(block, triangle_rows(call), combine=_merge_both)
    inverse = maximum_likelihood.inverse_of_triangle(R, unit)
    basis = np.concatenate([inverse.root, inverse.null], axis=1)
    along = (negative * negative_unit) @ basis
    size = np.linalg.norm(basis * inverse.scale[:, None], axis=0)
    reach = np.linalg.norm(negative * (negative_unit / inverse.scale))
    rounding = len(size) * np.finfo(np.float64).eps * reach * size
    length = np.linalg.norm(along, axis=0)
    errors = length[:, None] * rounding + rounding[:, None] * length + np.outer(rounding, rounding)
    return inverse, 0.0 - along.T @ along, errors


def _merge_both(total: list[Array], part: list[Array]) -> None:
    maximum_likelihood.merge_triangles(total[:2], part[:2])
    maximum_likelihood.merge_triangles(total[2:], part[2:])
