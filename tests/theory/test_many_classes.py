"""Moments of classes without an array over pairs of classes: against 60 digits, and by the memory that calls take."""

from __future__ import annotations

import itertools
import tracemalloc

import mpmath as mp
import numpy as np
import pytest
import xarray as xr

import fisherstats as fs
from fisherstats.engines import numba_kernels
from fisherstats.models.families import Categorical, Multinomial, Product
from fisherstats.models.families.extremes import quartic_extremes, quartic_gradient
from fisherstats.models.families.quadratic_forms import along_root, class_squares, form_moments, white_norm
from fisherstats.models.families.spectra import quartic_spectrum
from fisherstats.theory.variance_inequalities import law_bounds

LOGITS = {
    "spread": [0.3, -1.2, 0.8, 0.1],
    "nearly one-hot": [40.0, 0.0, -3.0, 1.0],
    "one-hot but for 1e-130": [300.0, 0.0, -3.0, 1.0],
    "equal": [0.0, 0.0, 0.0, 0.0],
    "nearly equal": [1e-9, 0.0, -2e-9, 3e-9],
    "two halves": [5.0, 5.0 + 1e-7, -20.0, -30.0],
}
RNG = np.random.default_rng(0)
DIRECTIONS, WEIGHTS, SLOPE = RNG.normal(size=(4, 3)), RNG.random(3), RNG.normal(size=4)


def probabilities(logits):
    odds = [mp.exp(mp.mpf(h)) for h in logits]
    return [one / mp.fsum(odds) for one in odds]


def values_of_labels(family, logits, squares, s):
    """Return probability, f and s.delta of every label, with 60 digits."""
    outputs, classes = family.n_outputs, family.n_classes
    p = probabilities(logits)
    trials = getattr(family, "n_trials", 1)
    found = []
    for label in itertools.product(range(classes), repeat=trials):
        delta = [label.count(a) - trials * p[a] for a in range(outputs)]
        f = mp.mpf(0)
        for weights, u in squares:
            columns = np.eye(outputs) if u is None else u[:outputs]
            for w, column in zip(np.broadcast_to(weights, columns.shape[1]), columns.T, strict=True):
                f += mp.mpf(w) * mp.fdot([mp.mpf(c) for c in column], delta) ** 2
        found.append((mp.fprod(p[k] for k in label), f, mp.fdot([mp.mpf(c) for c in s[:outputs]], delta)))
    return found


def exact_moments(labels):
    mean = mp.fsum(p * f for p, f, _ in labels)
    return mean, mp.fsum(p * (f - mean) ** 2 for p, f, _ in labels), mp.fsum(p * (f - mean) * z for p, f, z in labels)


FORMS = {
    "outputs": [(np.array([1.7]), None)],
    "weighted outputs": [(np.array([1.7, 0.2, 3.1, 0.4]), None)],
    "directions": [(WEIGHTS, DIRECTIONS)],
    "one weight": [(WEIGHTS[:1], DIRECTIONS)],
    "layers together": [(WEIGHTS, DIRECTIONS), (WEIGHTS[:1], DIRECTIONS[:, :2]), (np.array([0.6]), None)],
}


def given(squares, outputs):
    parts = []
    for weights, u in squares:
        w = weights[: outputs if u is None else len(weights)]
        parts.append((w[None], None if u is None else u[None, :outputs]))
    return parts


@pytest.mark.parametrize("engine", [None, numba_kernels], ids=["definition", "kernels"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("logits", LOGITS)
@pytest.mark.parametrize("family", [Categorical(4), Categorical(4, minimal=True), Multinomial(3, 4)], ids=repr)
def test_sums_of_squares_have_the_moments_of_enumerated_labels(family, logits, form, engine):
    h = np.array(LOGITS[logits])
    h = h - h[-1] if family.n_outputs < 4 else h
    law = family.at(h[None, : family.n_outputs])
    if engine is not None:
        law.carried_out_by(engine)
    squares = given(FORMS[form], family.n_outputs)
    mean, variance, third = form_moments(law, squares, SLOPE[None, : family.n_outputs])
    with mp.workdps(400):
        labels = values_of_labels(family, h.tolist(), [(w[0], None if u is None else u[0]) for w, u in squares], SLOPE)
        exact = exact_moments(labels)
        size = mp.fsum(p * f**2 for p, f, _ in labels)
        spread = mp.sqrt(mp.fsum(p * z**2 for p, _, z in labels))
        assert abs(mean[0] - exact[0]) <= 1e-12 * exact[0]
        # Where f hardly differs between the likely labels, rounding of the directions is what is left.
        slack = 0 if form == "outputs" and family.n_outputs == 4 and "n_trials" not in family.parameters() else 1e-30 * size
        assert abs(variance[0] - exact[1]) <= 1e-12 * exact[1] + slack
        assert abs(third[0] - exact[2]) <= 1e-12 * mp.sqrt(exact[1]) * spread + mp.sqrt(slack) * spread


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("logits", LOGITS)
@pytest.mark.parametrize("minimal", [False, True])
def test_the_sum_of_squares_of_every_class(minimal, logits, form):
    family, h = Categorical(4, minimal=minimal), np.array(LOGITS[logits])
    h = h - h[-1] if minimal else h
    squares = given(FORMS[form], family.n_outputs)
    found = class_squares(family.at(h[None, : family.n_outputs]), squares)[0]
    with mp.workdps(400):
        labels = values_of_labels(family, h.tolist(), [(w[0], None if u is None else u[0]) for w, u in squares], SLOPE)
        for one, (_, f, _) in zip(found, labels, strict=True):
            assert abs(one - f) <= 1e-13 * f


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("minimal", [False, True])
def test_the_norm_of_a_whitened_form_is_that_of_the_matrix(form, minimal):
    law = Categorical(4, minimal=minimal).at(np.array([LOGITS["spread"][: 4 - minimal]]))
    squares = given(FORMS[form], 4 - minimal)
    A = sum(
        w[0, 0] * np.eye(4 - minimal) if u is None and w.shape[1] == 1 else np.diag(w[0]) if u is None else (u[0] * w[0]) @ u[0].T
        for w, u in squares
    )
    information = law.information()[0]
    np.testing.assert_allclose(white_norm(law, squares), np.trace(A @ information @ A @ information), rtol=1e-13)


@pytest.mark.parametrize("logits", LOGITS)
@pytest.mark.parametrize("family", [Categorical(4), Categorical(4, minimal=True), Multinomial(3, 4)], ids=repr)
def test_products_of_pairs_of_rows_of_the_root(family, logits):
    h = np.array(LOGITS[logits])
    h = h - h[-1] if family.n_outputs < 4 else h
    found = family.at(h[None, : family.n_outputs]).own_root_pairs()[0]
    with mp.workdps(400):
        p = probabilities(h.tolist())
        for a, one in enumerate(found):
            squares = [p[k] * ((k == a) - p[a]) ** 2 for k in range(4)]
            pairs = getattr(family, "n_trials", 1) ** 2 * mp.fsum(x * y for x, y in itertools.combinations(squares, 2))
            assert abs(one - pairs) <= 1e-12 * pairs + 1e-300


@pytest.mark.parametrize("logits", LOGITS)
@pytest.mark.parametrize("family", [Categorical(4), Categorical(4, minimal=True), Categorical(2)], ids=repr)
def test_bounds_at_the_outputs_are_those_along_them(family, logits):
    law = family.at(np.array([LOGITS[logits][: family.n_outputs]]))
    bounded = law_bounds(law, np.full(1, 1e-15))
    # Along given directions 1 - 2 p is what is left of sums, where p is nearly 1/2.
    rtol = 1e-5 if logits in ("two halves", "nearly equal") else 1e-11
    for bound in (bounded.of_variance, bounded.of_square_variance):
        own, along = bound(None), bound(law._outputs)
        np.testing.assert_allclose(own.exact, along.exact, rtol=rtol, atol=1e-30)
        assert [list(own.lower), list(own.upper)] == [list(along.lower), list(along.upper)]
        # Each form on its side, and at these logits as tight as along the outputs.
        for form, one in own.lower.items():
            assert (one <= own.exact).all()
            if logits == "spread":
                np.testing.assert_allclose(one, along.lower[form], rtol=1e-9, atol=1e-12)
        for form, one in own.upper.items():
            assert (own.exact <= one).all()
            if logits == "spread":
                np.testing.assert_allclose(one, along.upper[form], rtol=1e-9, atol=1e-12)
        lower, upper = own.tightest()
        assert (lower <= own.exact).all()
        assert (own.exact <= upper).all()


@pytest.mark.parametrize("logits", LOGITS)
@pytest.mark.parametrize("minimal", [False, True])
def test_products_of_probes_with_the_root(minimal, logits):
    family, h = Categorical(4, minimal=minimal), np.array(LOGITS[logits])
    h = h - h[-1] if minimal else h
    probes = np.array([[1.0, -1.0, -1.0, 1.0], [0.3, 2.0, -0.1, 1.2]])
    found = along_root(family.at(h[None, : family.n_outputs]), probes[None])[0]
    with mp.workdps(400):
        p = probabilities(h.tolist())
        for xi, rows in zip(probes, found, strict=True):
            for a, one in enumerate(rows):
                terms = [mp.mpf(x) * mp.sqrt(p[k]) * ((k == a) - p[a]) for k, x in enumerate(xi)]
                assert abs(one - mp.fsum(terms)) <= 1e-15 * mp.fsum(abs(term) for term in terms)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("logits", LOGITS)
@pytest.mark.parametrize("family", [Categorical(4), Categorical(4, minimal=True), Categorical(2), Multinomial(3, 4)], ids=repr)
def test_the_variance_at_an_output_is_a_polynomial(family, logits, dtype):
    h = np.array(LOGITS[logits][: family.n_classes], dtype=dtype)
    h = h - h[-1] if family.n_outputs < family.n_classes else h
    found = family.at(h[None, : family.n_outputs]).own_square_variance()[0]
    trials = getattr(family, "n_trials", 1)
    with mp.workdps(400):
        for p, one in zip(probabilities(h.tolist()), found, strict=False):
            exact = trials * p * (1 - p) * (1 - 2 * p) ** 2 + 2 * trials * (trials - 1) * (p * (1 - p)) ** 2
            assert abs(one - exact) <= 32 * np.finfo(dtype).eps * exact + np.finfo(dtype).tiny


@pytest.mark.parametrize("logits", LOGITS)
@pytest.mark.parametrize("family", [Categorical(4), Categorical(4, minimal=True), Multinomial(3, 4)], ids=repr)
def test_variances_of_products_of_pairs_of_directions(family, logits):
    h = np.array(LOGITS[logits])
    h = h - h[-1] if family.n_outputs < 4 else h
    small = np.exp2([0.0, -200.0, 200.0])
    u, v = DIRECTIONS * small, DIRECTIONS[::-1] * small
    law = family.at(h[None, : family.n_outputs])
    found = law.product_variance(u[None, : family.n_outputs], v[None, : family.n_outputs])[0]
    with mp.workdps(400):
        p, trials = probabilities(h.tolist()), getattr(family, "n_trials", 1)
        for (i, a), (j, b) in itertools.product(enumerate(u.T), enumerate(v.T)):
            values = []
            for column in (a, b):
                kept = [mp.mpf(c) if k < family.n_outputs else mp.mpf(0) for k, c in enumerate(column)]
                values.append([one - mp.fdot(p, kept) for one in kept])
            q, r = values
            covariance = mp.fsum(w * x * y for w, x, y in zip(p, q, r, strict=True))
            one = mp.fsum(w * (x * y - covariance) ** 2 for w, x, y in zip(p, q, r, strict=True))
            squares = [mp.fsum(w * x * x for w, x in zip(p, side, strict=True)) for side in (q, r)]
            exact = trials * one + trials * (trials - 1) * (squares[0] * squares[1] + covariance**2)
            # Where the product of both hardly varies, rounding of the directions is what is left.
            size = mp.sqrt(mp.fsum(w * (x * y) ** 2 for w, x, y in zip(p, q, r, strict=True)))
            if 1e-290 < exact < 1e300:
                assert abs(mp.sqrt(found[i, j]) - mp.sqrt(exact)) <= 1e-12 * mp.sqrt(exact) + 1e-15 * size


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("logits", LOGITS)
@pytest.mark.parametrize("family", [Categorical(4), Categorical(4, minimal=True), Categorical(2), Multinomial(3, 4)], ids=repr)
def test_variances_of_products_of_two_outputs(family, logits, dtype):
    h = np.array(LOGITS[logits][: family.n_classes], dtype=dtype)
    h = h - h[-1] if family.n_outputs < family.n_classes else h
    found, trials = family.at(h[None, : family.n_outputs]).own_product_variance()[0], getattr(family, "n_trials", 1)
    with mp.workdps(400):
        p = probabilities(h.tolist())
        for a, b in itertools.product(range(family.n_outputs), repeat=2):
            residuals = [((k == a) - p[a], (k == b) - p[b]) for k in range(len(p))]
            v_a, v_b = (mp.fsum(w * pair[side] ** 2 for w, pair in zip(p, residuals, strict=True)) for side in (0, 1))
            covariance = mp.fsum(w * x * y for w, (x, y) in zip(p, residuals, strict=True))
            one = mp.fsum(w * (x * y - covariance) ** 2 for w, (x, y) in zip(p, residuals, strict=True))
            exact = trials * one + trials * (trials - 1) * (v_a * v_b + covariance**2)
            assert abs(found[a, b] - exact) <= 64 * np.finfo(dtype).eps * exact + 4 * np.finfo(dtype).tiny


LAWS = [
    Multinomial(3, 17),
    Multinomial(2, 18, minimal=True),
    Product([Categorical(3), Multinomial(4, 3), Categorical(3, minimal=True)]),
]


@pytest.mark.parametrize("family", LAWS, ids=repr)
def test_gradients_and_extremes_without_the_fourth_moments(family):
    rng = np.random.default_rng(2)
    law = family.at(rng.normal(size=(5, family.n_outputs)))
    u = rng.normal(size=(5, family.n_outputs, 6))
    along = np.einsum("nabcd,nbk,nck,ndk->nak", law.cumulant(4), u, u, u) + 2 * law.diagonal(u)[:, None] * law.product(u)
    np.testing.assert_allclose(quartic_gradient(law, u), along, rtol=1e-11, atol=1e-12)
    (smallest, largest), (_, upper) = quartic_extremes(law), quartic_spectrum(law)
    assert ((upper[:, -1] * (1 - 1e-12) <= largest) & (largest <= 2 * upper[:, -1])).all()
    of_squares = law.square_variance(u / np.sqrt(np.square(u).sum(axis=1, keepdims=True)))
    assert ((smallest[:, None] <= of_squares) & (of_squares <= largest[:, None])).all()


@pytest.mark.parametrize("family", [*LAWS, Categorical(5), Categorical(5, minimal=True)], ids=repr)
def test_bounds_at_the_outputs_of_counts_and_parts(family):
    law = family.at(np.random.default_rng(3).normal(size=(4, family.n_outputs)))
    pairs = law.product_variance(law._outputs, law._outputs)
    np.testing.assert_allclose(law.own_product_variance(), pairs, rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(law.own_third_moment(), law.third_moment(law._outputs, law._outputs), rtol=1e-11, atol=1e-15)
    bounded = law_bounds(law, np.full(4, 1e-15))
    for bound in (bounded.of_variance, bounded.of_square_variance):
        own, along = bound(None), bound(law._outputs)
        np.testing.assert_allclose(own.exact, along.exact, rtol=1e-11)
        for side in ("lower", "upper"):
            mine, theirs = getattr(own, side), getattr(along, side)
            assert list(mine) == list(theirs)
            for form, one in mine.items():
                np.testing.assert_allclose(one, theirs[form], rtol=1e-9, atol=1e-12)
        assert not any(failed.any() for failed in own.failed().values())


CLASSES = 1500
FAMILIES = {
    "classes": Categorical(CLASSES),
    "minimal": Categorical(CLASSES, minimal=True),
    "counts": Multinomial(3, CLASSES),
    "parts": Product([Categorical(CLASSES // 2), Categorical(CLASSES // 2)]),
}
CALLS = {
    "plan_draws": lambda m, x: fs.plan_draws(m, x, target_cv=0.1),
    "plan_draws layer": lambda m, x: fs.plan_draws(m, x, target_cv=0.1, level="layer"),
    "plan_draws trace": lambda m, x: fs.plan_draws(m, x, target_cv=0.1, level="trace"),
    "estimator_variance": lambda m, x: fs.estimator_variance(m, x),
    "estimator_variance score": lambda m, x: fs.estimator_variance(m, x, estimators=["score"]),
    "estimator_variance probes": lambda m, x: fs.estimator_variance(
        m, x, estimators=["hutchinson_gaussian", "hutchinson_rademacher"]
    ),
    "estimator_variance unit": lambda m, x: fs.estimator_variance(m, x, group_by="unit"),
    "estimator_variance layer": lambda m, x: fs.estimator_variance(m, x, group_by="layer"),
    "estimator_variance model": lambda m, x: fs.estimator_variance(m, x, group_by="model"),
    "layer_errors": lambda m, x: fs.layer_errors(m, x),
    "layer_errors score": lambda m, x: fs.layer_errors(m, x, estimators=["score"]),
    "variance_bounds": lambda m, x: fs.variance_bounds(m, x),
    "family_extremes": lambda m, x: fs.family_extremes(m, x),
    "combine_estimators": lambda m, x: fs.combine_estimators(m, x, n_draws=3, rng=0),
    "expected_gradient_length": lambda m, x: fs.applications.expected_gradient_length(m, x, score="squared_norm"),
    "expected norm": lambda m, x: fs.applications.expected_gradient_length(m, x, score="norm"),
    "probes": lambda m, x: fs.estimate_fisher(m, x, estimator="hutchinson_rademacher", n_draws=3, rng=0),
    "hessian": lambda m, x: fs.estimate_fisher(m, x, estimator="hessian", n_draws=3, rng=0),
    "score": lambda m, x: fs.estimate_fisher(m, x, estimator="score", n_draws=3, rng=0),
}


@pytest.mark.parametrize("widths", [[2], [2, 4]], ids=str)
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("law", FAMILIES)
def test_no_array_over_pairs_of_classes(law, name, widths):
    drawn = name in ("score", "probes", "combine_estimators", "expected norm")
    if law in ("counts", "parts") and drawn:
        pytest.skip("through arrays over pairs of outputs")
    model = fs.MLP.random([*widths, FAMILIES[law].n_outputs], activation="tanh", family=FAMILIES[law], rng=0)
    x = np.random.default_rng(0).normal(size=(2, 2))
    CALLS[name](model, x)
    tracemalloc.start()
    try:
        CALLS[name](model, x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * CLASSES**2 / 2


MODEL = fs.MLP.random([3, 5, 4], activation="tanh", family=Categorical(4), rng=0)
X = np.random.default_rng(1).normal(size=(20, 3))
CHOOSING = {
    "plan_draws": lambda m, **more: fs.plan_draws(m, X, target_cv=0.1, **more),
    "plan_draws layer": lambda m, **more: fs.plan_draws(m, X, target_cv=0.1, level="layer", design="random", **more),
    "layer_errors": lambda m, **more: fs.layer_errors(m, X, **more),
    "variance_bounds": lambda m, **more: fs.variance_bounds(m, X, **more),
    "variance_bounds per input": lambda m, **more: fs.variance_bounds(m, X[:3], per_input=True, **more),
}


@pytest.mark.parametrize("chosen", [["score"], ["hessian"], ["hessian", "score"]], ids=str)
@pytest.mark.parametrize("name", CHOOSING)
def test_chosen_estimators_have_the_numbers_that_they_have_together(name, chosen):
    both, some = CHOOSING[name](MODEL), CHOOSING[name](MODEL, estimators=chosen)
    assert some.estimator.values.tolist() == chosen
    expected = both.sel(estimator=chosen)
    if len(chosen) == 1 and "best" in some:
        assert (some.best == chosen[0]).all()
        expected, some = expected.drop_vars("best"), some.drop_vars("best")
    if "attained" in expected and "score" not in chosen:
        assert "attained" not in some
        expected = expected.drop_vars(["attained", "side"])
    xr.testing.assert_allclose(some, expected, rtol=1e-13)


@pytest.mark.parametrize("name", CHOOSING)
def test_kinks_do_not_matter_to_the_score_alone(name):
    model = fs.MLP([np.zeros((2, 4)), np.ones((4, 3))], activation="relu", family=Categorical(4))
    with pytest.raises(fs.AssumptionError, match="kink"):
        CHOOSING[name](model)
    CHOOSING[name](model, estimators=["score"])
    with pytest.raises(ValueError, match="`estimators`"):
        CHOOSING[name](model, estimators=["empirical"])
