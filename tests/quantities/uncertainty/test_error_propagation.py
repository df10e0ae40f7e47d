"""The delta method against replicates: spread of the functional, mean of what its linear term leaves, and what is refused.

z-scores as in `test_monte_carlo`: fewer than 2,000 of them, |z| > 7.5 refused, seeds fixed.
"""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from fisherstats.theory.error_propagation import Spectrum
from tests.quantities.information.test_monte_carlo import FAMILIES, LARGEST_Z, worst, z_of_mean
from tests.refusals import pattern, refused

X = np.array([[0.8, -1.1], [-0.3, 0.6]])
REPLICATES, N_DRAWS = 2000, 4000
LINKED = {"exponential": fs.families.Exponential(), "mean-and-variance": fs.families.GaussianMeanVariance()}
CASES = ["gaussian-2", "bernoulli-3", "binomial-1", "categorical-3", "poisson-1", *LINKED]
WORDS = ["solve", "log_det", "dimension", "eigenvalue"]


def model_of(name):
    family = {**FAMILIES, **LINKED}[name]
    return fs.MLP.random([2, 2, family.n_outputs], activation="tanh", family=family, rng=20)


def functional_of(word, n_params):
    return {
        "solve": fs.SolveWith(np.linspace(-1, 1, n_params), 0.4),
        "log_det": fs.LogDet(0.4),
        "dimension": fs.EffectiveDimension(0.4),
        "eigenvalue": fs.LeadingEigenvalues(1),
    }[word]


def values_of(word, matrices):
    """Return the functional of a stack of matrices, (R, k)."""
    eye = np.eye(matrices.shape[-1])
    if word == "solve":
        g = np.linspace(-1, 1, len(eye))
        return np.linalg.solve(matrices + 0.4 * eye, np.broadcast_to(g[:, None], (len(matrices), len(eye), 1)))[..., 0]
    values = np.linalg.eigvalsh(matrices)
    if word == "eigenvalue":
        return values[:, -1:]
    each = np.log(values + 0.4) if word == "log_det" else values / (values + 0.4)
    return each.sum(axis=1, keepdims=True)


def linear_terms(word, exact, errors):
    """Return D phi[E] by a central difference along each error."""
    step = 1e-5
    return (values_of(word, exact + step * errors) - values_of(word, exact - step * errors)) / (2 * step)


@pytest.fixture(scope="module", params=CASES)
def replicates(request):
    """Estimates of the mean over two inputs, (estimator, replicate, P, P), each from labels of its own."""
    model = model_of(request.param)
    rows = np.tile(X, (REPLICATES, 1))
    estimates = fs.estimate_fisher(
        model, rows, estimator=("score", "hessian"), n_draws=N_DRAWS, rng=5, view="full", per_input=True
    ).values
    shape = (REPLICATES, len(X), 2, model.n_params, model.n_params)
    return model, estimates.reshape(shape).mean(axis=1).swapaxes(0, 1), fs.fisher_information(model, X, view="full").values


def scores(replicates, word, position, n_claimed=N_DRAWS, bias_claimed=1.0):
    """Return z-scores of the variance of phi and of the mean of phi less its linear term."""
    model, estimates, exact = replicates
    functional = functional_of(word, model.n_params)
    result = fs.propagate(functional, model, X, estimator=("score", "hessian")[position], n_draws=n_claimed)
    value, error, bias = (np.atleast_1d(result[one].values) for one in ("value", "standard_error", "bias"))
    # Where the bias is not small beside the standard error the linear term alone is not the variance.
    kept = (error > 1e-9 * np.abs(value).max()) & (np.abs(bias) < 0.1 * error)
    found = values_of(word, estimates[position]) - value
    rest = found - linear_terms(word, exact, estimates[position] - exact)
    spread = (found - bias) / np.where(kept, error, 1)
    biased = np.abs(bias) > 1e-6 * max(np.abs(bias).max(), error.max())
    return np.concatenate([
        z_of_mean(spread[:, kept] ** 2, 1.0, 2.0),
        z_of_mean(rest[:, biased], bias_claimed * bias[biased]),
    ])  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("position", [0, 1])
def test_replicates(replicates, word, position):
    assert worst(scores(replicates, word, position)) < LARGEST_Z


@pytest.mark.parametrize("word", WORDS)
def test_power(replicates, word):
    """Half as many labels again, or half the bias, and the same test refuses."""
    assert worst(scores(replicates, word, 0, n_claimed=3 * N_DRAWS // 2)) > LARGEST_Z
    assert worst(scores(replicates, word, 0, bias_claimed=0.5)) > LARGEST_Z


# Labels and scaling


def test_results_scale_with_labels():
    model = model_of("categorical-3")
    once, often = (fs.propagate(fs.LogDet(0.4), model, X, estimator="score", n_draws=n) for n in (1, 100))
    np.testing.assert_allclose(often.standard_error, once.standard_error / 10, rtol=1e-13)
    np.testing.assert_allclose(often.bias, once.bias / 100, rtol=1e-13)
    assert once.bias < 0


@pytest.mark.parametrize("word", WORDS)
def test_dims(word):
    model = model_of("categorical-3")
    functional = functional_of(word, model.n_params)
    own = {"solve": ("param",), "eigenvalue": ("eigenvalue",)}.get(word, ())
    single = fs.propagate(functional, model, X, estimator="hessian", n_draws=3)
    pair = fs.propagate(functional, model, X, estimator=["score", "hessian"], n_draws=3)
    assert single["bias"].dims == own
    assert pair["standard_error"].dims == ("estimator", *own)
    assert pair["value"].dims == own
    np.testing.assert_array_equal(pair["bias"].sel(estimator="hessian"), single["bias"])


def test_the_last_layer_has_no_hessian_noise():
    model = fs.MLP.random([3, 3], activation=[], family=fs.families.Categorical(3), rng=0)
    result = fs.propagate(fs.LogDet(0.1), model, np.eye(3), estimator=("score", "hessian"), n_draws=1)
    assert result.standard_error.values[1] == 0.0
    assert result.bias.values[1] == 0.0
    assert result.standard_error.values[0] > 0


def test_float32_is_near_float64():
    model = model_of("categorical-3")
    single = fs.MLP([w.astype(np.float32) for w in model.weights], activation="tanh", family=model.family)
    for word in WORDS:
        functional = functional_of(word, model.n_params)
        low = fs.propagate(functional, single, X.astype(np.float32), estimator=("score", "hessian"), n_draws=2)
        high = fs.propagate(functional, single, X, estimator=("score", "hessian"), n_draws=2)
        for name in low.data_vars:
            assert low[name].dtype == np.float32
            scale = float(np.abs(high[name]).max())
            np.testing.assert_allclose(low[name], high[name], rtol=1e-4, atol=1e-4 * scale)


def test_blocks_do_not_matter():
    model = model_of("poisson-1")
    x = np.random.default_rng(1).normal(size=(300, 2))
    one, two = (fs.propagate(fs.LogDet(0.4), model, x, estimator="score", n_draws=2, num_threads=n) for n in (1, 2))
    assert one.identical(two)


def test_spectrum_has_no_negative_eigenvalue():
    flat = np.ones((4, 4))
    assert Spectrum.of(flat).values.min() >= 0


MODEL = model_of("categorical-3")
WIDE = fs.MLP.random([40, 40, 2], activation="tanh", family=fs.families.Categorical(2), rng=0)


def call(functional, model=MODEL, x=X, **more):
    return fs.propagate(functional, model, x, **({"estimator": "score", "n_draws": 1} | more))


@refused(
    [
        (lambda: call("log_det"), TypeError, "`functional` must be SolveWith(g, damping), LogDet(tau)"),
        (lambda: fs.LogDet(0), ValueError, "`tau` must be a finite number above 0, got 0."),
        (lambda: fs.EffectiveDimension(-1), ValueError, "`tau` must be a finite number above 0, got -1."),
        (lambda: fs.SolveWith([1.0], 0.0), ValueError, "`damping` must be a finite number above 0, got 0.0."),
        (
            lambda: call(fs.SolveWith([1.0], 1.0)),
            ValueError,
            "`g` must have shape (15,), one number per parameter, got shape (1,).",
        ),
        (lambda: fs.LeadingEigenvalues(0), ValueError, "`k` must be a positive integer, got 0."),
        (lambda: call(fs.LeadingEigenvalues(16)), ValueError, "`k` must be at most 15, the number of parameters, got 16."),
        (lambda: call(fs.LeadingEigenvalues(10)), fs.AssumptionError, "The expansion of an eigenvalue needs it to be simple"),
        (lambda: call(fs.LogDet(1), n_draws=0), ValueError, "`n_draws` must be a positive integer, got 0."),
        (lambda: call(fs.LogDet(1), estimator="empirical"), ValueError, "`estimator` must be one of 'score', 'hessian', got"),
        (
            lambda: call(fs.LogDet(1), WIDE, np.zeros((1, 40))),
            fs.SizeError,
            "`propagate` decomposes the whole matrix of 23,722,272 bytes and is offered up to 1,000",
        ),
    ]
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=pattern(message)):
        call()


def test_directions_without_information_are_none_for_a_tiny_damping():
    """tanh 3-4-2 softmax: 26 parameters and rank 21; a direction that is none adds log(tau) and no error, and no dimension."""
    model = fs.MLP.random([3, 4, 2], activation="tanh", family=fs.families.Categorical(2), rng=0)
    x = np.random.default_rng(0).normal(size=(30, 3))
    eigenvalues = np.linalg.eigvalsh(fs.fisher_information(model, x, view="full").values)[5:]
    asked = {"estimator": "score", "n_draws": 10}
    for tau in (1e-20, 1e-60, 1e-140):
        logs = fs.propagate(fs.LogDet(tau), model, x, **asked)
        shares = fs.propagate(fs.EffectiveDimension(tau), model, x, **asked)
        np.testing.assert_allclose(logs.value, np.log(eigenvalues).sum() + 5 * np.log(tau), rtol=1e-9)
        np.testing.assert_allclose(shares.value, 21, rtol=1e-12)
        assert shares.standard_error < 1e-9
        np.testing.assert_allclose(
            logs.standard_error, fs.propagate(fs.LogDet(1e-18), model, x, **asked).standard_error, rtol=1e-6
        )
        volume = fs.applications.information_volume(model, x, tau=tau)
        np.testing.assert_allclose(volume.effective_dimension, 21, rtol=1e-12)
        np.testing.assert_allclose(volume.log_det, (logs.value - 26 * np.log(tau)) / 2, rtol=1e-9)
    for functional in (fs.LogDet(1e-300), fs.EffectiveDimension(5e-324)):
        with pytest.raises(ValueError, match=r"^`tau` must be at least 1e-150 where the information"):
            fs.propagate(functional, model, x, **asked)
