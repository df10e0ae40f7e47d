"""Natural gradient steps equal to dense linear algebra with matrices computed in another way."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

import fisherstats as fs
from fisherstats import training
from fisherstats.core.errors import AssumptionError, SizeError
from fisherstats.training.likelihood import Labelled
from fisherstats.training.network import Trainee
from tests import naive
from tests.refusals import pattern, refused

F = fs.families
RNG = np.random.default_rng(3)
N = 7
X = RNG.normal(size=(N, 3))
COUNTS = RNG.integers(0, 4, (N, 2))
CASES = {
    "categorical": (F.Categorical(3), [3, 4, 3], ["tanh"], RNG.integers(0, 3, N), {}),
    "bernoulli": (F.Bernoulli(2), [3, 3, 3, 2], ["sigmoid", "softplus"], RNG.integers(0, 2, (N, 2)), {}),
    "poisson": (F.Poisson(2), [3, 3, 2], ["relu"], COUNTS, {}),
    "gaussian": (F.Gaussian(2), [3, 4, 2], ["softplus"], RNG.normal(size=(N, 2)), {"covariance": 1.0}),
    "exponential": (F.Exponential(), [3, 3, 1], ["tanh"], RNG.exponential(size=(N, 1)), None),
}
"""The last one has a link, for which there are no index loops: the public functions are what it is compared with."""


def network(name, scale=0.7):
    family, widths, activations, y, params = CASES[name]
    weights = np.random.default_rng(len(name))
    matrices = [scale * weights.normal(size=(n_out, n_in + 1)) for n_in, n_out in itertools.pairwise(widths)]
    return fs.MLP(matrices, activation=activations, family=family), y, params


def batch_of(model, y, x=X, seed=5, number=0):
    data = Labelled(x, model.family.check_labels(y, len(x)), model.dtype, 1)
    rng = np.random.Generator(np.random.Philox(key=seed))
    return training.Batch(Trainee(model), data, np.arange(len(x)), number, rng)


def step(optimizer, model, y, gradient, **settings):
    batch = batch_of(model, y, **settings)
    return optimizer.start(batch.model).step(gradient, batch)


def expected_matrix(name, model, y, information, n_draws, x=X):
    """The whole matrix: index loops for exact and empirical, the public estimators with the seed that the step draws."""
    _, _, activations, _, params = CASES[name]
    if information in ("score", "hessian"):
        seed = np.random.SeedSequence(int(np.random.Generator(np.random.Philox(key=5)).integers(2**63)))
        found = fs.estimate_fisher(model, x, estimator=information, n_draws=n_draws, rng=seed, view="full")
        return found.values
    if params is None:
        if information == "exact":
            return fs.fisher_information(model, x, view="full").values
        return fs.empirical_fisher(model, x, y, view="full").empirical.values
    plain = naive.Network.named(model.weights, activations)
    if information == "empirical":
        return naive.empirical_fisher(plain, name, params, x, y)[0]
    laws = naive.input_laws(plain, name, params, x)
    return np.mean([np.einsum("k,kpq->pq", law.probabilities, law.score) for law in laws], axis=0)


KINDS = [("exact", None), ("score", 3), ("hessian", 40), ("empirical", None)]


@pytest.mark.parametrize("copies", [1, 4], ids=["in the span of the rows", "whole matrix"])
@pytest.mark.parametrize(("information", "n_draws"), KINDS)
@pytest.mark.parametrize("name", CASES)
def test_steps_are_those_of_dense_linear_algebra(name, information, n_draws, copies):
    model, y, _ = network(name)
    x, y = np.tile(X, (copies, 1)), np.concatenate([y] * copies)
    assert (len(x) * model.family.n_outputs < model.n_params) == (copies == 1)
    gradient = np.random.default_rng(1).normal(size=model.n_params)
    matrix = expected_matrix(name, model, y, information, n_draws, x)
    damping = 0.3 + max(0.0, -float(np.linalg.eigvalsh(matrix)[0]))
    settings = {"information": information, "n_draws": n_draws, "damping": damping}
    expected = -0.2 * np.linalg.solve(matrix + damping * np.eye(len(matrix)), gradient)
    dense = step(training.NaturalGradient(0.2, **settings), model, y, gradient, x=x)
    np.testing.assert_allclose(dense, expected, rtol=1e-10, atol=1e-11)
    cg = step(training.NaturalGradient(0.2, **settings, solver="cg", tolerance=1e-12), model, y, gradient, x=x)
    np.testing.assert_allclose(cg, expected, rtol=1e-9, atol=1e-10)
    diagonal = step(training.DiagonalNaturalGradient(0.2, **settings), model, y, gradient, x=x)
    np.testing.assert_allclose(diagonal, -0.2 * gradient / (np.diag(matrix) + damping), rtol=1e-10)


@pytest.mark.parametrize(("information", "n_draws"), [kind for kind in KINDS if kind[0] != "hessian"])
@pytest.mark.parametrize("name", ["categorical", "bernoulli", "poisson", "gaussian"])
def test_kronecker_steps_are_those_of_dense_linear_algebra(name, information, n_draws):
    model, y, params = network(name)
    gradient, damping = np.random.default_rng(1).normal(size=model.n_params), 0.05
    plain = naive.Network.named(model.weights, CASES[name][2])
    middles = middle_matrices(plain, name, params, model, y, information, n_draws)
    change = step(training.KroneckerNaturalGradient(0.2, information, n_draws, damping), model, y, gradient)
    for layer, own in enumerate(model.layer_slices()):
        n_out, n_in = model.weights[layer].shape
        A, G = np.zeros((n_in, n_in)), np.zeros((n_out, n_out))
        for x, S in zip(X, middles, strict=True):
            # With the bias of a unit as parameter the Jacobian is the slope by its pre-activation.
            slopes = naive.jacobian(plain, x)[:, own].reshape(len(S), n_out, n_in)
            states, _ = naive.forward(plain, x)
            h_bar = np.append(states[layer], 1.0)
            A += np.outer(h_bar, h_bar) / N
            G += slopes[:, :, -1].T @ S @ slopes[:, :, -1] / N
        pi = np.sqrt(np.trace(A) / len(A) / (np.trace(G) / len(G)))
        A += pi * np.sqrt(damping) * np.eye(len(A))
        G += np.sqrt(damping) / pi * np.eye(len(G))
        expected = -0.2 * np.linalg.solve(np.kron(G, A), gradient[own])
        np.testing.assert_allclose(change[own], expected, rtol=1e-10, atol=1e-12)


def middle_matrices(plain, name, params, model, y, information, n_draws):
    """The T x T matrix of each input; that of drawn labels from the last layer's biases in the public estimate."""
    if information == "score":
        seed = np.random.SeedSequence(int(np.random.Generator(np.random.Philox(key=5)).integers(2**63)))
        found = fs.estimate_fisher(model, X, estimator="score", n_draws=n_draws, rng=seed, view="full", per_input=True)
        n_in = model.weights[-1].shape[1]
        last = np.arange(model.n_params - model.weights[-1].size + n_in - 1, model.n_params, n_in)
        return found.values[:, last[:, None], last]
    middles = []
    for x, label in zip(X, y, strict=True):
        states, _ = naive.forward(plain, x)
        points, probabilities = naive.law_of_statistic(name, params, states[-1])
        if information == "exact":
            middles.append(naive.natural_information(points - probabilities @ points, probabilities))
        else:
            delta = naive.sufficient_statistic(name, params, label, len(states[-1])) - probabilities @ points
            middles.append(np.outer(delta, delta))
    return middles


@pytest.mark.parametrize(("information", "n_draws"), KINDS)
def test_batches_of_many_blocks_see_the_same_labels(information, n_draws):
    """The products pass through all inputs at once, the matrices block by block."""
    model, _, _ = network("categorical")
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(700, 3)), rng.integers(0, 3, 700)
    gradient = rng.normal(size=model.n_params)
    settings = {"information": information, "n_draws": n_draws, "damping": 1.0}
    dense = step(training.NaturalGradient(0.2, **settings), model, y, gradient, x=x)
    cg = step(training.NaturalGradient(0.2, **settings, solver="cg", tolerance=1e-13), model, y, gradient, x=x)
    np.testing.assert_allclose(cg, dense, rtol=1e-9, atol=1e-11)


def test_one_full_step_solves_a_linear_gaussian_model():
    y = RNG.normal(size=(N, 2))
    covariance = np.array([[1.0, 0.6], [0.6, 2.0]])
    model = fs.MLP([RNG.normal(size=(2, 4))], activation=[], family=F.Gaussian(2, covariance=covariance))
    solution = np.linalg.lstsq(np.column_stack([X, np.ones(N)]), y, rcond=None)[0].T
    for settings in ({}, {"solver": "cg", "tolerance": 1e-13}, {"information": "hessian", "n_draws": 1}):
        optimizer = training.NaturalGradient(1.0, damping=0, **settings)
        fitted = training.fit(model, X, y, optimizer=optimizer, epochs=1, batch_size=N, rng=0)
        np.testing.assert_allclose(fitted.model.weights[0], solution, rtol=1e-10, atol=1e-10)
    factored = training.KroneckerNaturalGradient(1.0, damping=0)
    fitted = training.fit(model, X, y, optimizer=factored, epochs=1, batch_size=N, rng=0)
    np.testing.assert_allclose(fitted.model.weights[0], solution, rtol=1e-10, atol=1e-10)


def test_steps_of_one_over_t_average_the_fits_of_all_batches():
    """With new labels for each step, after t steps the covariance is the inverse information of t batches: Fisher efficiency."""
    model = fs.MLP([RNG.normal(size=(2, 4))], activation=[], family=F.Gaussian(2))
    design = np.column_stack([X, np.ones(N)])
    fits = []
    for t in range(1, 21):
        y = RNG.normal(size=(N, 2))
        fits.append(np.linalg.lstsq(design, y, rcond=None)[0].T)
        optimizer = training.NaturalGradient(1 / t, damping=0)
        model = training.fit(model, X, y, optimizer=optimizer, epochs=1, batch_size=N, rng=0).model
        np.testing.assert_allclose(model.weights[0], np.mean(fits, axis=0), rtol=1e-10, atol=1e-10)


def test_steps_do_not_depend_on_linear_coordinates_of_the_inputs():
    model, y, _ = network("poisson", scale=0.3)
    model = fs.MLP([model.weights[0][:2]], activation=[], family=F.Poisson(2))
    mix = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, -1.0], [0.5, 0.0, 3.0]])
    other = fs.MLP.from_arrays(
        [model.kernels[0] @ np.linalg.inv(mix)], [model.weights[0][:, -1]], activation=[], family=F.Poisson(2)
    )
    natural = {"optimizer": training.NaturalGradient(0.5, damping=0), "epochs": 3, "batch_size": N, "rng": 0}
    here, there = training.fit(model, X, y, **natural).model, training.fit(other, X @ mix.T, y, **natural).model
    np.testing.assert_allclose(here.kernels[0], there.kernels[0] @ mix, rtol=1e-9)


@pytest.mark.parametrize(
    "optimizer",
    [
        training.NaturalGradient(0.1, "score", 2, damping=0.1, update_every=2),
        training.NaturalGradient(0.1, "score", 2, damping=0.1, solver="cg"),
        training.NaturalGradient(0.05, "hessian", 30, damping=2.0),
        training.DiagonalNaturalGradient(0.1, "score", 1, damping=0.1),
        training.KroneckerNaturalGradient(0.1, "score", 1, damping=0.1),
        training.RelativeNaturalGradient(0.1, damping=0.1, update_every=2),
    ],
    ids=repr,
)
def test_fits_can_be_repeated_and_learn(optimizer):
    model, y, _ = network("categorical")
    settings = {"optimizer": optimizer, "epochs": 12, "batch_size": 4, "rng": 11}
    first, second = (training.fit(model, X, y, **settings, num_threads=threads) for threads in (1, 2))
    assert first.model == second.model
    assert first.history.loss[-1] < 0.9 * first.history.loss[0]
    if getattr(optimizer, "n_draws", None):
        assert (
            training.fit(model, X, y, **(settings | {"rng": 12, "batch_size": N})).model
            != training.fit(model, X, y, **(settings | {"batch_size": N})).model
        )


def test_an_information_serves_for_as_many_steps_as_asked():
    model, y, _ = network("gaussian")
    gradient = np.random.default_rng(1).normal(size=model.n_params)
    for solver in ("dense", "cg"):
        optimizer = training.NaturalGradient(0.2, damping=0.1, update_every=3, solver=solver)
        batch = batch_of(model, y)
        steps = optimizer.start(batch.model)
        changes = []
        for number in range(4):
            numbered = training.Batch(batch.model, batch.data, batch.rows, number, batch.rng)
            changes.append(np.array(steps.step(gradient, numbered)))
            batch.model.parameters[:] *= 1.1
        np.testing.assert_array_equal(changes[0], changes[1])
        np.testing.assert_array_equal(changes[0], changes[2])
        assert not np.allclose(changes[0], changes[3], rtol=1e-3)


@pytest.mark.parametrize("settings", [{}, {"solver": "cg", "tolerance": 1e-5}], ids=["dense", "cg"])
def test_float32_stays_float32(settings):
    model, y, _ = network("categorical")
    narrow, x = model.as_dtype(np.dtype(np.float32)), X.astype(np.float32)
    chosen = [training.NaturalGradient(0.1, damping=0.1, **settings), training.KroneckerNaturalGradient(0.1, damping=0.1)]
    for optimizer in [*chosen, training.RelativeNaturalGradient(0.1), training.DiagonalNaturalGradient(0.1)]:
        fitted = training.fit(narrow, x, y, optimizer=optimizer, epochs=2, batch_size=4, rng=0)
        assert fitted.model.dtype == np.float32
        wide = training.fit(model, X, y, optimizer=optimizer, epochs=2, batch_size=4, rng=0)
        np.testing.assert_allclose(fitted.model.weights[0], wide.model.weights[0], rtol=2e-2, atol=2e-3)


# --- what is refused -------------------------------------------------------------------------------------------------


@refused(
    [
        (lambda: training.NaturalGradient(0), ValueError, "`learning_rate` must be a finite number above 0, got 0."),
        (
            lambda: training.NaturalGradient(1, "scores"),
            ValueError,
            "`information` must be one of 'exact', 'score', 'hessian', 'empirical', got 'scores'. Did you mean 'score'?",
        ),
        (
            lambda: training.NaturalGradient(1, "score"),
            ValueError,
            "`n_draws` must be given with information='score', got None; n_draws=1 is one label per input.",
        ),
        (
            lambda: training.DiagonalNaturalGradient(1, n_draws=2),
            ValueError,
            "`n_draws` goes with information='score' or 'hessian' only, got n_draws=2 with information='exact'; leave",
        ),
        (
            lambda: training.KroneckerNaturalGradient(1, "hessian", 1),
            ValueError,
            "`information` must be one of 'exact', 'score', 'empirical', got 'hessian'.",
        ),
        (lambda: training.NaturalGradient(1, "score", 0), ValueError, "`n_draws` must be a positive integer, got 0."),
        (lambda: training.NaturalGradient(1, damping=-1), ValueError, "`damping` must be a finite number of at least 0, got -1."),
        (lambda: training.NaturalGradient(1, solver="lu"), ValueError, "`solver` must be one of 'dense', 'cg', got 'lu'."),
        (lambda: training.NaturalGradient(1, update_every=0), ValueError, "`update_every` must be a positive integer, got 0."),
        (
            lambda: training.NaturalGradient(1, tolerance=0),
            ValueError,
            "`tolerance` must be a number between 0 and 1, both excluded, got 0.",
        ),
        (lambda: training.RelativeNaturalGradient(-1), ValueError, "`learning_rate` must be a finite number above 0, got -1."),
        (
            lambda: training.RelativeNaturalGradient(1, damping=np.inf),
            ValueError,
            "`damping` must be a finite number of at least 0, got inf.",
        ),
        (
            lambda: training.RelativeNaturalGradient(1, update_every=1.5),
            ValueError,
            "`update_every` must be a positive integer, got 1.5.",
        ),
    ]
)
def test_settings_are_refused(call, error, message):
    with pytest.raises(error, match=pattern(message)):
        call()


@pytest.mark.parametrize("solver", ["dense", "cg"])
def test_an_indefinite_information_is_refused(solver):
    model, y, _ = network("gaussian", scale=2.0)
    matrix = expected_matrix("gaussian", model, y, "hessian", 1)
    values, vectors = np.linalg.eigh(matrix)
    assert values[0] < -0.1
    optimizer = training.NaturalGradient(1.0, "hessian", 1, damping=0.01, solver=solver)
    text = r"`damping` must make the hessian information of every minibatch positive definite, got 0\.01 where its smallest "
    with pytest.raises(AssumptionError, match=text + r"eigenvalue is -.* or less, in step 5; raise `damping`") as caught:
        step(optimizer, model, y, vectors[:, 0], number=4)
    stated = float(re.search(r"is (-[\d.e+-]+) or", str(caught.value))[1])
    assert stated == pytest.approx(values[0], rel=0.05)
    step(training.NaturalGradient(1.0, "hessian", 1, damping=-1.01 * values[0], solver=solver), model, y, vectors[:, 0])


@pytest.mark.parametrize(
    "optimizer",
    [
        training.NaturalGradient(1.0, damping=0),
        training.NaturalGradient(1.0, damping=1e-16),
        training.KroneckerNaturalGradient(1.0, damping=0),
        training.RelativeNaturalGradient(1.0, damping=0),
        training.RelativeNaturalGradient(1.0, damping=1e-17),
    ],
    ids=repr,
)
def test_a_singular_information_is_refused(optimizer):
    model, y, _ = network("gaussian")
    with pytest.raises(AssumptionError, match=r"positive definite, got \S+ where its smallest eigenvalue is .* in step 1"):
        training.fit(model, X[:2], y[:2], optimizer=optimizer, epochs=1, batch_size=2, rng=0)


def test_units_of_any_scale_are_not_taken_for_singular():
    x = X * [1.0, 1e9, 1e-9]
    model = fs.MLP([np.zeros((1, 4))], activation=[], family=F.Gaussian(1))
    y = X @ [1.0, 2.0, 3.0] + 1
    for optimizer in (training.NaturalGradient(1.0, damping=0), training.RelativeNaturalGradient(1.0, damping=0)):
        fitted = training.fit(model, x, y, optimizer=optimizer, epochs=1, batch_size=N, rng=0)
        np.testing.assert_allclose(fitted.model.weights[0][0] * [1, 1e9, 1e-9, 1], [1, 2, 3, 1], rtol=1e-6)


def test_a_diagonal_that_is_not_positive_is_refused():
    model, y, _ = network("gaussian", scale=2.0)
    optimizer = training.DiagonalNaturalGradient(1.0, "hessian", 1, damping=1e-9)
    with pytest.raises(AssumptionError, match="smallest eigenvalue is -"):
        step(optimizer, model, y[:1], np.ones(model.n_params), x=X[:1])


def test_a_matrix_that_does_not_fit_is_refused():
    model = fs.MLP([np.zeros((1000, 2001))], activation=[], family=F.Gaussian(1000))
    x, y, gradient = np.ones((1, 2000)), np.zeros((1, 1000)), np.ones(model.n_params)
    with pytest.raises(SizeError, match=r"`NaturalGradient` with solver='dense' needs .* use solver='cg', smaller batches"):
        step(training.NaturalGradient(1.0, damping=0), model, y, gradient, x=x)
    # One input's information has a rank of 1000 for two million parameters.
    step(training.NaturalGradient(1.0, damping=0.1), model, y, gradient, x=x)


@pytest.mark.parametrize(("information", "n_draws"), [kind for kind in KINDS if kind[0] != "hessian"])
@pytest.mark.parametrize("name", CASES)
def test_fewer_rows_than_parameters_give_the_same_step(name, information, n_draws, monkeypatch):
    model, y, _ = network(name)
    assert 2 * model.family.n_outputs < model.n_params
    gradient = np.random.default_rng(1).normal(size=model.n_params)
    optimizer = training.NaturalGradient(0.2, information, n_draws, damping=0.01)
    in_span = step(optimizer, model, y[:2], gradient, x=X[:2])
    monkeypatch.setattr("fisherstats.training.natural.span_solver", None)
    with pytest.raises(TypeError, match="not callable"):
        step(optimizer, model, y[:2], gradient, x=X[:2])
    cg = training.NaturalGradient(0.2, information, n_draws, damping=0.01, solver="cg", tolerance=1e-13)
    np.testing.assert_allclose(in_span, step(cg, model, y[:2], gradient, x=X[:2]), rtol=1e-9, atol=1e-9)


def test_conjugate_gradients_that_do_not_end_are_refused():
    model, y, _ = network("categorical")
    optimizer = training.NaturalGradient(1.0, damping=0, solver="cg", tolerance=1e-15)
    with pytest.raises(AssumptionError, match=r"`tolerance` must be within reach|positive definite"):
        step(optimizer, model, y, np.ones(model.n_params))
