"""Moments of the families against 50-digit arithmetic, enumeration and quadrature of the joint law."""

from __future__ import annotations

import itertools

import mpmath as mp
import numpy as np
import pytest

from fisherstats.models.families import Bernoulli, Binomial, Categorical, Gaussian, Poisson

LOGITS = np.concatenate(
    [
        np.linspace(-700, 700, 57),
        np.linspace(-4, 4, 81),
        [-1e-9, -1e-30, 1e-300, 1e-12, 1e-5],
        [1.3169578969248166, 1.3169, 1.31696, 1.3169579, -1.316957897],  # around the zero of the fourth cumulant
    ]
)
RATES = 10.0 ** np.linspace(-12, 12, 49)


def relative_error(got, wanted):
    """Largest relative error against mpmath numbers; what is below the range of float64 must be met by an exact 0."""
    errors = []
    for g, w in zip(got, wanted, strict=True):
        errors.append(abs(mp.mpf(float(g)) - w) / abs(w) if abs(w) > 1e-320 else mp.mpf(float(g) != 0))
    return float(max(errors))


def scalar_moments(family, h):
    one = np.ones((len(h), 1, 1))
    law = family.at(h[:, None])
    return {
        "mean": law.mean[:, 0],
        "variance": law.diagonal(one)[:, 0],
        "third": law.third_moment(one, one)[:, 0],
        "cumulant4": law.cumulant(4)[:, 0, 0, 0, 0],
        "fourth": law.fourth_moment(one)[:, 0],
        "square_variance": law.square_variance(one)[:, 0],
        "product_variance": law.product_variance(one, one)[:, 0, 0],
        "quadratic_variance": law.quadratic_variance(one),
    }


def exact_scalar_moments(terms):
    """Moments of a discrete law from (probability, value) pairs, by their definitions."""
    mean = mp.fsum(w * y for w, y in terms)
    central = [mp.fsum(w * (y - mean) ** k for w, y in terms) for k in range(5)]
    square_variance = mp.fsum(w * ((y - mean) ** 2 - central[2]) ** 2 for w, y in terms)
    return {
        "mean": mean,
        "variance": central[2],
        "third": central[3],
        "cumulant4": central[4] - 3 * central[2] ** 2,
        "fourth": central[4],
        "square_variance": square_variance,
        "product_variance": square_variance,
        "quadratic_variance": square_variance,
    }


@pytest.mark.parametrize("n_trials", [1, 2, 7])
def test_binomial_moments_have_full_relative_accuracy(n_trials):
    family = Bernoulli() if n_trials == 1 else Binomial(n_trials)
    got = scalar_moments(family, LOGITS)
    wanted = []
    # Definitions cancel by up to e^1400 here, hence the digits; what remains is right to far more than 50 of them.
    with mp.workdps(1300):
        for h in LOGITS:
            p, q = 1 / (1 + mp.exp(-mp.mpf(h))), 1 / (1 + mp.exp(mp.mpf(h)))
            terms = [(mp.binomial(n_trials, y) * p**y * q ** (n_trials - y), y) for y in range(n_trials + 1)]
            wanted.append({name: +value for name, value in exact_scalar_moments(terms).items()})
        for name, values in got.items():
            assert relative_error(values, [one[name] for one in wanted]) < 1e-12, name


def test_large_binomial_moments_have_full_relative_accuracy():
    n = 10**6
    got = scalar_moments(Binomial(n), LOGITS)
    with mp.workdps(400):
        for name, form in {
            "variance": lambda v, p: n * v,
            "third": lambda v, p: n * v * (1 - 2 * p),
            "cumulant4": lambda v, p: n * v * (1 - 6 * v),
            "fourth": lambda v, p: 3 * n**2 * v**2 + n * v * (1 - 6 * v),
            "square_variance": lambda v, p: 2 * n**2 * v**2 + n * v * (1 - 6 * v),
        }.items():
            ps = [1 / (1 + mp.exp(-mp.mpf(h))) for h in LOGITS]
            assert relative_error(got[name], [form(p * (1 - p), p) for p in ps]) < 1e-12, name


def test_poisson_moments_have_full_relative_accuracy():
    h = np.log(RATES)
    got = scalar_moments(Poisson(), h)
    with mp.workdps(50):
        rates = [mp.exp(mp.mpf(x)) for x in h]
        for name in ("mean", "variance", "third", "cumulant4"):
            assert relative_error(got[name], rates) < 1e-12
        assert relative_error(got["fourth"], [r + 3 * r**2 for r in rates]) < 1e-12
        for name in ("square_variance", "product_variance", "quadratic_variance"):
            assert relative_error(got[name], [r + 2 * r**2 for r in rates]) < 1e-12


@pytest.mark.parametrize(("n_trials", "y"), [(1, 0), (1, 1), (7, 0), (7, 3), (7, 7)])
def test_binomial_residuals_keep_their_accuracy(n_trials, y):
    law = Binomial(n_trials).at(LOGITS[:, None])
    got = law.residual(np.full((len(LOGITS), 1), float(y)))[:, 0]
    with mp.workdps(400):
        wanted = [y - n_trials / (1 + mp.exp(-mp.mpf(h))) for h in LOGITS]
        # At the extremes of the support nothing may cancel; inside it the difference y - n p is as exact as p.
        scale = wanted if y in (0, n_trials) else [mp.mpf(1)] * len(wanted)
        errors = [abs(mp.mpf(float(g)) - w) / abs(s) for g, w, s in zip(got, wanted, scale, strict=True)]
    assert max(errors) < 1e-12


def categorical_cases():
    rng = np.random.default_rng(3)
    for classes, spread in itertools.product((2, 3, 6), (0.0, 0.1, 2.0, 30.0, 300.0)):
        logits = spread * rng.standard_normal((4, classes))
        if spread == 300.0:
            logits = np.clip(logits, -350, 350)
        yield logits, rng.standard_normal((4, classes, 1)), rng.standard_normal((4, classes, 1))


def test_categorical_moments_have_full_relative_accuracy():
    names = ("variance", "fourth", "square_variance", "third", "product", "quadratic", "information", "residual")
    worst = dict.fromkeys(names, 0.0)
    for logits, u, s in categorical_cases():
        n, classes = logits.shape
        law = Categorical(classes).at(logits)
        a = u * u.swapaxes(1, 2) + s * s.swapaxes(1, 2)
        got = {
            "variance": law.diagonal(u)[:, 0],
            "fourth": law.fourth_moment(u)[:, 0],
            "square_variance": law.square_variance(u)[:, 0],
            "third": law.third_moment(u, s)[:, 0],
            "product": law.product_variance(u, s)[:, 0, 0],
            "quadratic": law.quadratic_variance(a),
            "information": law.information()[:, 0, 0],
            "residual": law.residual(np.argmax(logits, axis=1)),
        }
        for row in range(n):
            with mp.workdps(700):
                h = [mp.mpf(float(x)) for x in logits[row]]
                total = mp.fsum(mp.exp(x) for x in h)
                p = [mp.exp(x) / total for x in h]
                qu, qs = (_centred(p, z[row, :, 0]) for z in (u, s))
                var, cov = _mean(p, [x * x for x in qu]), _mean(p, [x * y for x, y in zip(qu, qs, strict=True)])
                f = _centred(p, _quadratic_forms(p, a[row]))
                fourth = _mean(p, [x**4 for x in qu])
                third = [x * x * y for x, y in zip(qu, qs, strict=True)]
                wanted = {
                    "variance": (var, var),
                    "fourth": (fourth, fourth),
                    "square_variance": (_mean(p, [(x * x - var) ** 2 for x in qu]), fourth),
                    "third": (_mean(p, third), _mean(p, [abs(x) for x in third])),
                    "product": (_mean(p, [(x * y - cov) ** 2 for x, y in zip(qu, qs, strict=True)]), None),
                    "quadratic": (_mean(p, [x * x for x in f]), _mean(p, [x * x for x in _quadratic_forms(p, a[row])])),
                    "information": (p[0] * (1 - p[0]),) * 2,
                }
                product_scale = _mean(p, [(x * y) ** 2 for x, y in zip(qu, qs, strict=True)])
                wanted["product"] = (wanted["product"][0], product_scale)
                for name, (value, scale) in wanted.items():
                    worst[name] = max(worst[name], float(abs(mp.mpf(float(got[name][row])) - value) / scale))
                top = int(np.argmax(logits[row]))
                residual = 1 - p[top]
                worst["residual"] = max(
                    worst["residual"], float(abs(mp.mpf(float(got["residual"][row, top])) - residual) / residual)
                )
    assert max(worst.values()) < 1e-12, worst


def _mean(p, values):
    return mp.fsum(w * x for w, x in zip(p, values, strict=True))


def _centred(p, values):
    values = [mp.mpf(x) if isinstance(x, mp.mpf) else mp.mpf(float(x)) for x in values]
    mean = _mean(p, values)
    return [x - mean for x in values]


def _quadratic_forms(p, a):
    classes = range(len(p))
    forms = []
    for k in classes:
        d = [(1 if k == j else 0) - p[j] for j in classes]
        forms.append(mp.fsum(d[i] * mp.mpf(float(a[i, j])) * d[j] for i in classes for j in classes))
    return forms


COVARIANCE = np.array([[2.0, 0.6, -0.3], [0.6, 1.0, 0.2], [-0.3, 0.2, 0.5]])
FAMILIES = [
    Bernoulli(),
    Bernoulli(4),
    Binomial(3, 3),
    Poisson(2),
    Categorical(2),
    Categorical(4),
    Categorical(4, minimal=True),
    Gaussian(),
    Gaussian(2, covariance=[0.5, 2.0]),
    Gaussian(3, covariance=COVARIANCE),
]


def joint_law(family, h):
    """Weights (K,) and statistics (K, T) that reproduce every moment up to order 8 of the joint law at one h."""
    if isinstance(family, Categorical):
        logits = np.append(h, 0.0) if family.minimal else h
        weights = np.exp(logits - logits.max())
        return weights / weights.sum(), family.statistic(np.arange(family.n_classes))
    if isinstance(family, Gaussian):
        nodes, node_weights = np.polynomial.hermite_e.hermegauss(8)
        z = np.array(list(itertools.product(nodes, repeat=family.n_outputs)))
        weights = np.array([np.prod(w) for w in itertools.product(node_weights, repeat=family.n_outputs)])
        covariance = np.asarray(family.covariance)
        full = covariance if covariance.ndim == 2 else np.diag(np.broadcast_to(covariance, family.n_outputs))
        labels = h + z @ np.linalg.cholesky(full).T
        return weights / weights.sum(), labels @ np.linalg.inv(full)
    top = {"bernoulli": 1, "binomial": 3, "poisson": 45}[family.name]
    labels = np.array(list(itertools.product(range(top + 1), repeat=family.n_outputs)), dtype=float)
    log_prob = [family.log_prob(h[None], y[None])[0] for y in labels]
    return np.exp(log_prob), labels


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_moments_equal_those_of_the_enumerated_joint_law(family):
    rng = np.random.default_rng(11)
    n, outputs = 3, family.n_outputs
    h = rng.standard_normal((n, outputs))
    u, v, s = (rng.standard_normal((n, outputs, k)) for k in (4, 3, 4))
    a = rng.standard_normal((n, 2, outputs, outputs))
    a = a + a.swapaxes(2, 3)
    s_group = rng.standard_normal((n, 2, outputs))
    law = family.at(h)
    for row in range(n):
        w, t = joint_law(family, h[row])
        assert w.sum() == pytest.approx(1, abs=1e-13)
        mean = w @ t
        delta = t - mean
        information = (delta * w[:, None]).T @ delta
        du, dv, ds = (delta @ x[row] for x in (u, v, s))
        variance = w @ du**2
        forms = np.einsum("ki,gij,kj->kg", delta, a[row], delta)
        product = du[:, :, None] * dv[:, None, :]
        product_mean = np.einsum("k,kij->ij", w, product)
        pairs = {
            "mean": (law.mean, mean),
            "information": (law.information(), information),
            "product": (law.product(u), information @ u[row]),
            "diagonal": (law.diagonal(u), variance),
            "own_diagonal": (law.own_diagonal(), np.diag(information)),
            "own_square_variance": (law.own_square_variance(), w @ (delta**2 - w @ delta**2) ** 2),
            "fourth_moment": (law.fourth_moment(u), w @ du**4),
            "square_variance": (law.square_variance(u), w @ (du**2 - variance) ** 2),
            "third_moment": (law.third_moment(u, s), w @ (du**2 * ds)),
            "product_variance": (law.product_variance(u, v), np.einsum("k,kij->ij", w, (product - product_mean) ** 2)),
            "quadratic_mean": (law.quadratic_mean(a), w @ forms),
            "quadratic_variance": (law.quadratic_variance(a), w @ (forms - w @ forms) ** 2),
            "quadratic_third": (
                law.quadratic_third_moment(a, s_group),
                np.einsum("k,kg,kg->g", w, forms, delta @ s_group[row].T),
            ),
            "one form": (law.quadratic_variance(a[:, 1]), (w @ (forms - w @ forms) ** 2)[1]),
            "one form, mean": (law.quadratic_mean(a[:, 0]), (w @ forms)[0]),
            "one form, third": (
                law.quadratic_third_moment(a[:, 0], s_group[:, 0]),
                w @ (forms[:, 0] * (delta @ s_group[row, 0])),
            ),
        }
        for name, (got, wanted) in pairs.items():
            np.testing.assert_allclose(got[row], wanted, rtol=1e-11, atol=1e-12, err_msg=name)
    rows_u, rows_v = law.rows(u), law.rows(v)
    np.testing.assert_allclose(np.einsum("nrk,nrm->nkm", rows_u, rows_v), u.swapaxes(1, 2) @ law.product(v), atol=1e-13)
    np.testing.assert_allclose(np.einsum("nrk,nrk->nk", rows_u, rows_u), law.diagonal(u), rtol=1e-14)


def log_partition(family, *h):
    if isinstance(family, Categorical):
        return mp.log(mp.fsum(mp.exp(x) for x in ((*h, 0) if family.minimal else h)))
    if family.name == "poisson":
        return mp.fsum(mp.exp(x) for x in h)
    return getattr(family, "n_trials", 1) * mp.fsum(mp.log1p(mp.exp(x)) for x in h)


@pytest.mark.parametrize(
    "family", [Bernoulli(2), Binomial(5, 2), Poisson(2), Categorical(3), Categorical(3, minimal=True)], ids=repr
)
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_cumulants_are_derivatives_of_the_log_partition(family, order):
    h = np.array([[0.3, -0.9, 1.2][: family.n_outputs]])
    got = family.cumulant(h, order)[0]
    for index in itertools.combinations_with_replacement(range(family.n_outputs), order):
        orders = tuple(index.count(output) for output in range(family.n_outputs))
        with mp.workdps(50):
            point = tuple(mp.mpf(float(x)) for x in h[0])
            wanted = float(mp.diff(lambda *x: log_partition(family, *x), point, orders))
        for permuted in set(itertools.permutations(index)):
            assert got[permuted] == pytest.approx(wanted, rel=1e-12, abs=1e-14)


def test_gaussian_cumulants():
    family, h = Gaussian(3, covariance=COVARIANCE), np.array([[0.3, -0.9, 1.2]])
    np.testing.assert_allclose(family.cumulant(h, 1)[0], np.linalg.solve(COVARIANCE, h[0]), rtol=1e-13)
    np.testing.assert_allclose(family.cumulant(h, 2)[0], np.linalg.inv(COVARIANCE), rtol=1e-13)
    assert not family.cumulant(h, 3).any()
    assert family.cumulant(h, 4).shape == (1, 3, 3, 3, 3)


def is_positive_zero(array):
    return not array.any() and not np.signbit(array).any()


def test_what_theory_says_is_zero_is_zero():
    one = np.ones((1, 1, 1))
    fair = Bernoulli().at(np.zeros((1, 1)))
    assert is_positive_zero(fair.square_variance(one))
    assert is_positive_zero(fair.third_moment(one, one))
    assert is_positive_zero(fair.third_moment(one, -one))
    gaussian = Gaussian(2).at(np.ones((1, 2)))
    u = np.ones((1, 2, 1))
    assert is_positive_zero(gaussian.third_moment(u, -u))
    assert is_positive_zero(gaussian.quadratic_third_moment(np.ones((1, 2, 2)), np.ones((1, 2))))
    classes = Categorical(3).at(np.array([[0.3, -1.0, 40.0]]))
    shift = np.full((1, 3, 1), 1.7)
    for moment in (classes.diagonal, classes.fourth_moment, classes.square_variance):
        assert is_positive_zero(moment(shift))
    assert is_positive_zero(classes.third_moment(shift, -shift))
    assert is_positive_zero(classes.quadratic_variance(shift * shift.swapaxes(1, 2)))


def test_two_classes_are_a_bernoulli_output():
    h = np.linspace(-30, 30, 13)[:, None]
    u = np.ones((13, 1, 1))
    one, two = Bernoulli().at(h), Categorical(2, minimal=True)
    # The reference class of the minimal form is the last, so that its only logit is that of class 0.
    for moment in ("diagonal", "fourth_moment"):
        np.testing.assert_allclose(getattr(two.at(h), moment)(u), getattr(one, moment)(u), rtol=1e-12)


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_float32_is_kept_and_close(family):
    rng = np.random.default_rng(5)
    h, u = rng.standard_normal((3, family.n_outputs)), rng.standard_normal((3, family.n_outputs, 2))
    single, double = family.at(h.astype(np.float32)), family.at(h)
    for moment in ("product", "diagonal", "rows", "fourth_moment", "square_variance"):
        got = getattr(single, moment)(u.astype(np.float32))
        wanted = getattr(double, moment)(u)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, wanted, rtol=2e-4, atol=1e-6 * np.abs(wanted).max())
    for order in (1, 2, 3, 4):
        assert single.cumulant(order).dtype == np.float32


def test_second_moment_of_data_labels():
    rng = np.random.default_rng(6)
    law = Gaussian(3).at(np.zeros((2, 3)))
    delta, weights, u = rng.standard_normal((2, 5, 3)), rng.random((2, 5)), rng.standard_normal((2, 3, 4))
    projected = delta @ u
    weighted, plain = law.second_moment_of(delta, weights), law.second_moment_of(delta)
    np.testing.assert_allclose(weighted.diagonal(u), np.einsum("nr,nrk->nk", weights, projected**2), rtol=1e-13)
    np.testing.assert_allclose(plain.diagonal(u), (projected**2).sum(axis=1), rtol=1e-13)
    np.testing.assert_allclose((plain.rows(u) ** 2).sum(axis=1), plain.diagonal(u), rtol=1e-14)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Bernoulli(2).at(np.zeros(2)), r"`h` must have shape \(n, 2\)"),
        (lambda: Bernoulli(2).mean(np.zeros((3, 1))), r"`h` must have shape \(n, 2\).*got shape \(3, 1\)"),
        (lambda: Poisson().at(np.array([[1.0], [400.0]])), r"`h` must stay below 353\.\d.*got 400.0 at index \(1, 0\)"),
        (lambda: Poisson().at(np.array([[50.0]], dtype=np.float32)), r"`h` must stay below 43\.\d.*float32"),
        (lambda: Poisson().cumulant(np.zeros((1, 1)), 5), r"`order` must be 1, 2, 3 or 4, got 5"),
        (lambda: Categorical(3).at(np.array([[0.0, np.nan, 0.0]])), r"`h` must be finite"),
    ],
)
def test_natural_parameters_are_checked(call, message):
    with pytest.raises(ValueError, match=message):
        call()
