"""Bounds of the covariance tensors against dense ones: every form is what it says.

The second construction knows no closed form: Jacobians and Hessians by index loops, M by summation over labels.
"""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs
from tests import golden, naive
from tests.theory.cases import CASES, Case

Array = np.ndarray

SMALL = [case for case in CASES if sum(w.size for w in case.weights) <= 24 and case.n_inputs <= 5 and case.widths[-1] <= 4]
ESTIMATORS = ("score", "hessian")


@pytest.fixture(params=SMALL, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def close(found: object, expected: object, scale: float = 0.0, tolerance: float = 1e-10) -> None:
    """Relative to the largest expected number, or to `scale` where everything cancels."""
    wanted = np.asarray(expected, dtype=float)
    finite = np.isfinite(wanted)
    size = max(np.abs(wanted[finite]).max(initial=0), scale, 1e-300)
    values = np.asarray(found)
    assert values.shape == wanted.shape
    np.testing.assert_array_equal(np.isfinite(values), finite)
    np.testing.assert_allclose(values[finite], wanted[finite], rtol=0, atol=tolerance * size)


def symmetric_basis(outputs: int) -> Array:
    """An orthonormal basis of the symmetric matrices as the columns of a (T^2, k) matrix."""
    columns = []
    for a in range(outputs):
        for b in range(a, outputs):
            matrix = np.zeros((outputs, outputs))
            matrix[a, b] = matrix[b, a] = 1 if a == b else np.sqrt(0.5)
            columns.append(matrix.ravel())
    return np.array(columns).T


def response(law: naive.InputLaw) -> tuple[Array, Array]:
    """I (T, T) and M unfolded (T^2, T^2)."""
    outputs = law.deltas.shape[1]
    moment = naive.statistic_moment(law.deltas, law.probabilities).reshape(outputs**2, outputs**2)
    return naive.natural_information(law.deltas, law.probabilities), moment


def three_norms(matrix: Array) -> Array:
    return np.array([np.linalg.norm(matrix), max(np.linalg.eigvalsh(matrix)[-1], 0), np.trace(matrix)])


def naive_norm_bounds(law: naive.InputLaw) -> Array:
    """The forms of `covariance_bounds`, (bound, estimator, norm), from the dense J and H."""
    J, H = law.jacobian, law.hessian.reshape(len(law.hessian), -1)
    information, M = response(law)
    basis = symmetric_basis(len(J))
    first, second = basis.T @ np.kron(J @ J.T, J @ J.T) @ basis, H @ H.T
    s_J, s_H = np.linalg.svd(J, compute_uv=False)[0], np.linalg.svd(H, compute_uv=False)[0]
    norm_J, norm_H = np.linalg.norm(J), np.linalg.norm(H)
    norms_M, norms_I = three_norms(M), three_norms(information)
    schwarz = [np.linalg.norm(J @ J.T) ** 2 * norms_M[0], np.linalg.norm(second) * norms_I[0]]
    nothing = np.inf
    response_forms = [norms_M[1] * three_norms(first), norms_I[1] * three_norms(second)]
    return np.array(
        [
            [[norm_J**4 * norms_M[0], nothing, nothing], [norm_H**2 * norms_I[0], nothing, nothing]],
            [[schwarz[0], nothing, schwarz[0]], [schwarz[1], nothing, schwarz[1]]],
            [s_J**4 * norms_M, s_H**2 * norms_I],
            [[one[0], nothing, one[2]] for one in response_forms],
        ]
    )


def paired(s: Array, values: Array) -> tuple[float, float]:
    """Theorem D.2: sum_t s_t lambda_{n-t+1} and sum_t s_t lambda_t of ascending spectra."""
    return float(s @ values[::-1]), float(s @ values)


def naive_trace_bounds(law: naive.InputLaw, printed: bool) -> tuple[Array, Array]:
    """Lower and upper forms (bound, [information, score, hessian]) from vJac and dHes with one row per parameter."""
    J = law.jacobian
    information, M = response(law)
    outputs, n_params = J.shape
    basis = symmetric_basis(outputs)
    vJac = np.array([np.outer(J[:, i], J[:, i]).ravel() for i in range(n_params)])
    dHes = np.array([law.hessian[:, i, i] for i in range(n_params)])
    lower, upper = np.zeros((4, 3)), np.full((4, 3), np.inf)
    for at, (rows, R) in enumerate([(J.T, information), (vJac, M), (dHes, information)]):
        s, values = np.linalg.eigvalsh(rows.T @ rows).clip(0), np.linalg.eigvalsh(R).clip(0)
        # `derivative` and `response` are about symmetric matrices, like `svec`.
        s_sym, values_sym = s, values
        if at == 1:
            s_sym, values_sym = (np.linalg.eigvalsh(basis.T @ X @ basis).clip(0) for X in (rows.T @ rows, R))
            lower[3, at], upper[3, at] = paired(s_sym, values_sym)
        lower[:2, at] = s_sym[0] * values.sum(), values_sym[0] * s.sum()
        upper[:2, at] = s[-1] * values.sum(), values[-1] * s.sum()
        lower[2, at], upper[2, at] = paired(s, values)
        if printed:
            lower[:2, at] = 0
            lower[3, at], upper[3, at] = 0, np.inf
            norm_J, norm_H = np.linalg.norm(J), np.linalg.norm(dHes)
            upper[0, at] = (norm_J, norm_J**2, norm_H)[at] * values.sum()
            upper[1, at] = (norm_J**2, norm_J**4, norm_H**2)[at] * values[-1]
            top = slice(len(s) - outputs, None)
            lower[2, at], upper[2, at] = paired(s[top], values[top])
    return lower, upper


# --- the same numbers from dense tensors -------------------------------------------------------------------------------


def scales(law: naive.InputLaw) -> Array:
    """What rounding is relative to, per estimator: |J|^4 E|r|^4; |H|^2 tr I or, where H is 0, the oracle's rounding of J' I J."""
    fourth = law.probabilities @ np.sum(law.deltas**2, axis=1) ** 2
    trace = np.trace(naive.natural_information(law.deltas, law.probabilities))
    score = np.sum(law.jacobian**2) ** 2 * fourth
    return np.array([score, np.sum(law.hessian**2) * trace + 1e-12 * score])


@pytest.mark.parametrize("case", [case for case in SMALL if case.model.n_params <= 18], ids=lambda case: case.name)
def test_norms_and_their_bounds(case: Case) -> None:
    """Exact norms from the dense P^4 tensor, bounds from dense J and H, over the inputs and for each."""
    mean = fs.covariance_bounds(case.model, case.x, n_draws=3, on_kink="ignore")
    own = fs.covariance_bounds(case.model, case.x, n_draws=3, per_input=True, on_kink="ignore")
    assert mean.exact.dims == ("estimator", "norm")
    assert own.upper_by_form.dims == ("input", "bound", "estimator", "norm")
    forms = np.array([naive_norm_bounds(law) for law in case.laws]) / 3
    size = case.model.n_params**2
    tensors = {
        name: [naive.covariance_tensor(law, name, name, 3).reshape(size, size) for law in case.laws] for name in ESTIMATORS
    }
    for at, name in enumerate(ESTIMATORS):
        scale = max(scales(law)[at] for law in case.laws) / 1e3
        close(own.exact.sel(estimator=name), [three_norms(tensor) for tensor in tensors[name]], scale)
        close(mean.exact.sel(estimator=name), three_norms(sum(tensors[name]) / case.n_inputs**2), scale)
        close(own.upper_by_form.sel(estimator=name), forms[:, :, at], scale)
        close(mean.upper_by_form.sel(estimator=name), forms[:, :, at].sum(axis=0) / case.n_inputs**2, scale)
        close(own.upper.sel(estimator=name), forms[:, :, at].min(axis=1), scale)
        close(mean.upper.sel(estimator=name), forms[:, :, at].min(axis=1).sum(axis=0) / case.n_inputs**2, scale)


@pytest.mark.parametrize("form", ["corrected", "printed"])
def test_traces_and_their_bounds(case: Case, form: str) -> None:
    mean = fs.trace_bounds(case.model, case.x, n_draws=3, form=form, on_kink="ignore")
    own = fs.trace_bounds(case.model, case.x, n_draws=3, form=form, per_input=True, on_kink="ignore")
    sides = [np.array(side) for side in zip(*[naive_trace_bounds(law, form == "printed") for law in case.laws], strict=True)]
    information = [np.trace(law.information) for law in case.laws]
    close(own.information_exact, information)
    close(mean.information_exact, np.mean(information))
    for side, forms in zip(("lower", "upper"), sides, strict=True):
        size = np.abs(forms[np.isfinite(forms)]).max()
        close(own[f"information_{side}_by_form"], forms[:, :, 0], size * 1e-2)
        close(mean[f"information_{side}_by_form"], forms[:, :, 0].mean(axis=0), size * 1e-2)
        for at, name in enumerate(ESTIMATORS, start=1):
            scale = max(scales(law)[at - 1] for law in case.laws) / 1e3
            close(own[f"{side}_by_form"].sel(estimator=name), forms[:, :, at] / 3, scale)
            close(mean[f"{side}_by_form"].sel(estimator=name), forms[:, :, at].sum(axis=0) / (3 * case.n_inputs**2), scale)
    for name in ESTIMATORS:
        variances = [np.trace(law.variance(name)) / 3 for law in case.laws]
        scale = max(scales(law).max() for law in case.laws) * 1e-5
        close(own.exact.sel(estimator=name), variances, scale)
        close(mean.exact.sel(estimator=name), np.sum(variances) / case.n_inputs**2, scale)


def test_single_entries_and_their_bounds(case: Case) -> None:
    n_params = case.model.n_params
    rng = np.random.default_rng(n_params)
    # Anywhere, on the diagonal, and in the last row, whose bias has no derivative of a layer input.
    pairs = np.concatenate([rng.integers(n_params, size=(30, 2)), [[2, 2]], [[n_params - 1, 0], [0, n_params - 2]]])
    mean = fs.off_diagonal_bounds(case.model, case.x, pairs=pairs, n_draws=3, on_kink="ignore")
    own = fs.off_diagonal_bounds(case.model, case.x, pairs=pairs, n_draws=3, per_input=True, on_kink="ignore")
    np.testing.assert_array_equal(mean.param.values, pairs[:, 0])
    np.testing.assert_array_equal(mean.param2.values, pairs[:, 1])
    expected = np.array([[law.variance(name)[tuple(pairs.T)] for name in ESTIMATORS] for law in case.laws]) / 3
    forms = np.array([naive_entry_bounds(law, pairs) for law in case.laws]) / 3
    for at, name in enumerate(ESTIMATORS):
        scale = max(scales(law)[at] for law in case.laws) / 1e3
        close(own.exact.sel(estimator=name), expected[:, at], scale)
        close(mean.exact.sel(estimator=name), expected[:, at].sum(axis=0) / case.n_inputs**2, scale)
        close(own.upper_by_form.sel(estimator=name), forms[:, :, at], scale)
        close(mean.upper_by_form.sel(estimator=name), forms[:, :, at].sum(axis=0) / case.n_inputs**2, scale)


def naive_entry_bounds(law: naive.InputLaw, pairs: Array) -> Array:
    """The forms of `off_diagonal_bounds`, (bound, estimator, pair)."""
    information, M = response(law)
    largest, J = np.linalg.eigvalsh(M)[-1], law.jacobian
    forms = np.full((3, 2, len(pairs)), np.inf)
    for at, (i, j) in enumerate(pairs):
        u, v = J[:, i], J[:, j]
        first, second = law.deltas @ u, law.deltas @ v
        fourth = np.sqrt((law.probabilities @ first**4) * (law.probabilities @ second**4))
        forms[0, 0, at] = (u @ u) * (v @ v) * largest
        forms[1, 0, at] = np.sum(((np.outer(u, v) + np.outer(v, u)) / 2) ** 2) * largest
        forms[2, 0, at] = max(fourth - (u @ information @ v) ** 2, 0)
        forms[0, 1, at] = np.sum(law.hessian[:, i, j] ** 2) * np.linalg.eigvalsh(information)[-1]
    return forms


@pytest.mark.parametrize("case", [case for case in SMALL if case.n_inputs > 1], ids=lambda case: case.name)
def test_the_variance_over_inputs_and_its_bound(case: Case) -> None:
    bounds = fs.input_variance_bounds(case.model, case.x)
    information = case.information
    close(bounds.exact.sel(moment="sample"), information.var(axis=0, ddof=1))
    close(bounds.exact.sel(moment="population"), information.var(axis=0))
    close(bounds.second_moment, np.mean(information**2, axis=0))
    lemma = np.mean(
        [np.sum(law.jacobian**2, axis=0) ** 2 * np.linalg.eigvalsh(response(law)[0])[-1] ** 2 for law in case.laws],
        axis=0,
    )
    close(bounds.upper.sel(moment="population"), lemma)
    close(bounds.upper.sel(moment="sample"), lemma * case.n_inputs / (case.n_inputs - 1))


@pytest.mark.parametrize("key", golden.ROWS, ids="-".join)
def test_theorems_7_and_8_of_the_golden_table(key: tuple[str, str]) -> None:
    family = {"categorical": fs.families.Categorical(2), "gaussian": fs.families.Gaussian(2)}[key[1]]
    model = fs.MLP([np.array(weight) for weight in golden.WEIGHTS], activation=key[0], family=family)
    bounds = fs.covariance_bounds(model, np.array([golden.INPUT]))
    claimed = golden.ROWS[key]
    for name in ESTIMATORS:
        one = bounds.sel(estimator=name)
        printed = float(one.upper_by_form.sel(bound="theorem", norm="frobenius"))
        assert abs(printed - getattr(claimed, f"{name}_frobenius_bound")) <= golden.PRECISION
        assert abs(float(one.exact.sel(norm="frobenius")) - getattr(claimed, f"{name}_frobenius")) <= golden.PRECISION
        assert abs(float(one.exact.sel(norm="trace")) - getattr(claimed, f"{name}_variance_all")) <= golden.PRECISION


# --- extremes of the families ------------------------------------------------------------------------------------------


def test_extremes_enclose_every_direction(case: Case) -> None:
    found = fs.family_extremes(case.model, case.x)
    rng = np.random.default_rng(0)
    u = rng.normal(size=(case.widths[-1], 500))
    u /= np.linalg.norm(u, axis=0)
    for at, law in enumerate(case.laws):
        values = np.linalg.eigvalsh(response(law)[0])
        along = law.deltas @ u
        second, fourth = law.probabilities @ along**2, law.probabilities @ along**4
        own = found.isel(input=at)
        np.testing.assert_allclose(
            own.certified.sel(tensor="information"), [max(values[0], 0), values[-1]], atol=1e-10 * values[-1]
        )
        directions = {"information": second, "fourth_moment": fourth, "square_covariance": fourth - second**2}
        for tensor, attained in directions.items():
            room = 1e-12 * fourth.max()
            for one in (own.certified, *own.by_statement):
                low, high = (float(one.sel(tensor=tensor, side=side)) for side in ("lower", "upper"))
                assert low - room <= attained.min()
                assert attained.max() <= high + room
        quartic = directions["square_covariance"]
        # An iteration of fixed length comes close, and stays within what is certified.
        assert own.attained.sel(side="upper") >= quartic.max() * 0.99 - room
        assert own.attained.sel(side="lower") <= quartic.min() + 0.02 * quartic.max() + room
        certified = own.certified.sel(tensor="square_covariance")
        assert own.attained.sel(side="upper") <= certified.sel(side="upper") + room
        assert own.attained.sel(side="lower") >= certified.sel(side="lower") - room
        radius = np.sum(law.deltas**2, axis=1).max()
        if np.isfinite(own.squared_radius):
            np.testing.assert_allclose(own.squared_radius, radius, rtol=1e-12)
        else:
            assert case.family in ("poisson", "gaussian")


def test_where_the_statements_apply() -> None:
    """0 and inf where a statement says nothing; m, 2 m, 2, 1 and 2 where it speaks."""
    x = np.random.default_rng(0).normal(size=(4, 2))

    def said(family: object) -> xr.DataArray:
        model = fs.MLP.random([2, 3, family.n_outputs], activation="tanh", family=family, rng=1)
        return fs.family_extremes(model, x).by_statement

    classes = said(fs.families.Categorical(3))
    p = np.exp(fs.MLP.random([2, 3, 3], activation="tanh", family=fs.families.Categorical(3), rng=1).natural_parameters(x))
    p /= p.sum(axis=1, keepdims=True)
    m = np.minimum(p.max(axis=1), 1 - np.sum(p**2, axis=1))
    upper = classes.sel(side="upper")
    np.testing.assert_allclose(upper.sel(bound="theorem_5_2", tensor="information"), m, rtol=1e-12)
    np.testing.assert_allclose(upper.sel(bound="theorem_5_2", tensor="square_covariance"), 2 * m, rtol=1e-12)
    assert np.all(upper.sel(bound="corollary_r_1", tensor="information") == 2)
    assert np.all(classes.sel(side="lower") == 0)
    assert np.isinf(upper.sel(bound="proposition_5_1")).all()
    unit = said(fs.families.Gaussian(3))
    assert np.all(unit.sel(bound="proposition_5_1", tensor="information") == 1)
    assert np.all(unit.sel(bound="proposition_5_1", tensor="square_covariance") == 2)
    for bound in ("proposition_4_3", "corollary_r_1", "theorem_5_2"):
        assert np.isinf(unit.sel(bound=bound, side="upper")).all()
    scaled = said(fs.families.Gaussian(2, covariance=4.0))
    assert np.all(scaled.sel(side="lower") == 0)
    assert np.isinf(scaled.sel(side="upper")).all()


def test_a_product_adds_up_the_radii_of_its_parts() -> None:
    parts = [fs.families.Categorical(3), fs.families.Bernoulli(2)]
    both = fs.families.Product(parts)
    model = fs.MLP.random([2, 5], activation=[], family=both, rng=0)
    x = np.random.default_rng(0).normal(size=(3, 2))
    alone = [
        fs.family_extremes(fs.MLP([model.weights[0][rows]], activation=[], family=part), x).squared_radius.values
        for part, rows in zip(parts, (slice(0, 3), slice(3, 5)), strict=True)
    ]
    np.testing.assert_allclose(fs.family_extremes(model, x).squared_radius, sum(alone), rtol=1e-14)
