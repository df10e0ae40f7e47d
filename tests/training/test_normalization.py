"""Batch normalisation in training, and the network that it folds into."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

import fisherstats as fs
from fisherstats import training
from fisherstats.core.errors import AssumptionError, TrainingDiverged
from fisherstats.training.likelihood import Labelled
from fisherstats.training.normalization import NormalizedTrainee
from tests import naive
from tests.refusals import pattern, refused
from tests.training import peers

F = fs.families
RNG = np.random.default_rng(12)
X = RNG.normal(size=(45, 4)) * [1.0, 3.0, 0.2, 1.0] + [0.0, 2.0, -1.0, 5.0]
Y = RNG.integers(0, 3, 45)
SETTINGS = training.BatchNormalization()

ACTIVATIONS = {
    "tanh": np.tanh,
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "softplus": lambda a: np.log(1 + np.exp(a)),
    "relu": lambda a: np.where(a.real > 0, a, 0),
}
FAMILIES = {
    "categorical": (F.Categorical(3), lambda n: RNG.integers(0, 3, n)),
    "bernoulli": (F.Bernoulli(2), lambda n: RNG.integers(0, 2, (n, 2))),
    "poisson": (F.Poisson(2), lambda n: RNG.integers(0, 5, (n, 2))),
    "gaussian": (F.Gaussian(2, covariance=[[2.0, 0.5], [0.5, 1.0]]), lambda n: RNG.normal(size=(n, 2))),
    "exponential, linked": (F.Exponential(1), lambda n: RNG.exponential(size=(n, 1))),
}


def network(widths, activation="tanh", family=None, rng=3):
    return fs.MLP.random(widths, activation=activation, family=family or F.Categorical(widths[-1]), rng=rng)


def trainee_of(model, settings=SETTINGS):
    """A network in the middle of its training: scales, shifts and running statistics of no special value."""
    rng = np.random.default_rng(7)
    trainee = NormalizedTrainee(model, settings)
    trainee.parameters[model.n_params :] = rng.uniform(0.4, 1.6, len(trainee.parameters) - model.n_params)
    for mean, variance in zip(trainee.means, trainee.variances, strict=True):
        mean[:] = rng.normal(size=len(mean))
        variance[:] = rng.uniform(0.3, 2.0, len(variance))
    return trainee


def data_of(model, x, y):
    return Labelled(x, model.family.check_labels(y, len(x)), model.dtype, 1)


def same_state(model, trainee):
    plain = peers.Normalized(model, trainee.settings.momentum, trainee.settings.epsilon)
    plain.assign(trainee.parameters)
    plain.means = [mean.copy() for mean in trainee.means]
    plain.variances = [variance.copy() for variance in trainee.variances]
    return plain


# --- the gradient and the folded network -----------------------------------------------------------------------------


@pytest.mark.parametrize("activations", [["tanh"], ["sigmoid", "softplus"], ["relu", "tanh", "relu"]], ids="-".join)
@pytest.mark.parametrize("name", FAMILIES)
def test_the_gradient_is_the_derivative_of_the_loss_of_the_minibatch(name, activations):
    family, draw = FAMILIES[name]
    model = network([4, *[3, 5, 4][: len(activations)], family.n_outputs], activations, family)
    y, rows = draw(9), np.array([4, 0, 2, 8, 7, 5])
    trainee, x = trainee_of(model), X[:9]
    plain, functions = same_state(model, trainee), [ACTIVATIONS[one] for one in activations]
    data = data_of(model, x, y)
    theta = trainee.parameters.copy()

    def loss(vector):
        output, _ = plain.output(vector, x[rows], functions)
        natural = output if family.link is None else family.link.evaluate(output, 0)[0]
        return -family.log_prob(natural, data.y[rows]).mean()

    folded, (found, _), gradient = trainee.differentiate(data, rows)
    step = 1e-4
    directions = np.eye(len(theta)) * step
    # Central differences of the 4th order; their error here is below 1e-11.
    expected = [
        (8 * (loss(theta + d) - loss(theta - d)) - (loss(theta + 2 * d) - loss(theta - 2 * d))) / (12 * step) for d in directions
    ]
    np.testing.assert_allclose(gradient, expected, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found, loss(theta), rtol=1e-13)
    # What an optimiser sees has the outputs of the minibatch.
    output, _ = plain.output(theta, x[rows], functions)
    natural = output if family.link is None else family.link.evaluate(output, 0)[0]
    np.testing.assert_allclose(fs.MLP(folded.weights, activation=activations, family=family).natural_parameters(x[rows]), natural)
    assert np.array_equal(trainee.parameters, theta)


@pytest.mark.parametrize("activations", [["tanh"], ["sigmoid", "relu"], ["relu", "tanh", "softplus"]], ids="-".join)
def test_the_folded_network_is_the_one_in_evaluation(activations):
    model = network([4, *[3, 5, 4][: len(activations)], 3], activations)
    trainee = trainee_of(model, training.BatchNormalization(momentum=0.3, epsilon=1e-3))
    functions = [ACTIVATIONS[one] for one in activations]
    expected = same_state(model, trainee).evaluated(X, functions)
    np.testing.assert_allclose(trainee.frozen().natural_parameters(X), expected, rtol=1e-12, atol=1e-12)
    plain = same_state(model, trainee)
    plain.follow(X[:20], functions)
    trainee.differentiate(data_of(model, X, Y), np.arange(20))
    np.testing.assert_allclose(trainee.frozen().natural_parameters(X), plain.evaluated(X, functions), rtol=1e-12, atol=1e-12)
    assert type(trainee.frozen()) is fs.MLP


@pytest.mark.parametrize(
    ("optimizer", "update"),
    [(training.SGD(0.2, momentum=0.8), peers.sgd(0.2, 0.8)), (training.Adam(0.03), peers.adam(0.03))],
    ids=["sgd", "adam"],
)
def test_a_fit_is_the_descent_of_the_definitions(optimizer, update):
    model = network([4, 5, 3, 3], ["tanh", "relu"])
    functions = [np.tanh, ACTIVATIONS["relu"]]
    plain, memory, losses = peers.Normalized(model), {}, []
    order = [rows for epoch in range(1, 6) for rows in training.batches(45, 14, rng=2, epoch=epoch)]
    for step, rows in enumerate(order, start=1):
        losses.append(peers.cross_entropy(plain.output(plain.vector(), X[rows], functions)[0], Y[rows]))
        plain.follow(X[rows], functions)
        gradient = plain.gradient(X[rows], Y[rows], functions, peers.cross_entropy)
        for layer, own in enumerate([*model.layer_slices()]):  # weight decay of the kernels before folding
            kernel = [*plain.kernels, plain.last[:, :-1]][layer]
            gradient[own].reshape(len(kernel), -1)[:, :-1] += 0.01 * kernel
        plain.assign(plain.vector() - update(gradient, memory, step))
    seen = []
    fitted = training.fit(
        model,
        X,
        Y,
        optimizer=optimizer,
        penalty=training.Frobenius(0.01),
        normalization=SETTINGS,
        epochs=5,
        batch_size=14,
        rng=2,
        callbacks=[lambda epoch, model: seen.append(model)],
        validation=(X, Y),
    )
    logits = plain.evaluated(X, functions)
    np.testing.assert_allclose(fitted.model.natural_parameters(X), logits, rtol=1e-10, atol=1e-11)
    sizes = [len(rows) for rows in order[:4]]
    expected = np.average(np.reshape(losses, (5, 4)), axis=1, weights=sizes)
    np.testing.assert_allclose(fitted.history.loss, expected, rtol=1e-11)
    np.testing.assert_allclose(fitted.history.validation_loss[-1], peers.cross_entropy(logits, Y), rtol=1e-10)
    assert seen[-1] == fitted.model
    assert all(type(one) is fs.MLP for one in seen)
    norms = [np.linalg.norm(kernel) for kernel in fitted.model.kernels]
    np.testing.assert_allclose(fitted.history.weight_norm[-1], norms, rtol=1e-12)
    assert json.loads(fitted.history.attrs["provenance"])["normalization"] == repr(SETTINGS)


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_loss_curves_and_evaluation_are_those_of_pytorch(name):
    torch = pytest.importorskip("torch")
    model = network([4, 6, 5, 3], "relu")
    linear = [torch.nn.Linear(n_in, n_out) for n_in, n_out in itertools.pairwise(model.widths)]
    normal = [torch.nn.BatchNorm1d(width) for width in model.widths[1:-1]]
    hidden = [(one, two, torch.nn.ReLU()) for one, two in zip(linear, normal, strict=False)]
    network_there = torch.nn.Sequential(*itertools.chain(*hidden), linear[-1]).double()
    peers.into_pytorch(linear, model.weights)
    with torch.no_grad():
        for one, weight in zip(normal, model.weights, strict=False):
            one.bias.copy_(torch.tensor(weight[:, -1]))
    ours, theirs = {
        "sgd": (training.SGD(0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
        "momentum": (training.SGD(0.05, momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)),
        "adam": (training.Adam(0.01), lambda p: torch.optim.Adam(p, lr=0.01)),
    }[name]
    decayed, others = [one.weight for one in linear], [one.bias for one in linear]
    others += [p for one in normal for p in one.parameters()]
    optimizer = theirs([{"params": decayed, "weight_decay": 1e-3}, {"params": others}])
    settings = {"epochs": 60, "batch_size": 13, "rng": 3}
    expected = peers.pytorch_losses(network_there, optimizer, X, Y, **settings)
    fitted = training.fit(model, X, Y, optimizer=ours, normalization=SETTINGS, penalty=training.Frobenius(1e-3), **settings)
    np.testing.assert_allclose(fitted.history.loss, expected, rtol=0, atol=1e-6 if name == "adam" else 1e-8)
    network_there.eval()
    evaluated = network_there(torch.tensor(X)).detach().numpy()
    np.testing.assert_allclose(fitted.model.natural_parameters(X), evaluated, rtol=1e-5 if name == "adam" else 1e-8, atol=1e-7)


# --- natural gradients -----------------------------------------------------------------------------------------------

CASES = {
    "categorical": (F.Categorical(3), [4, 3, 3], ["tanh"], RNG.integers(0, 3, 7), {}),
    "bernoulli": (F.Bernoulli(2), [4, 3, 2, 2], ["sigmoid", "softplus"], RNG.integers(0, 2, (7, 2)), {}),
    "gaussian": (F.Gaussian(2), [4, 3, 2], ["softplus"], RNG.normal(size=(7, 2)), {"covariance": 1.0}),
}
KINDS = [("exact", None), ("score", 3), ("hessian", 40), ("empirical", None)]


class Situation:
    """A minibatch of a normalised network, and the Jacobian of the folded weights at fixed statistics by complex steps."""

    def __init__(self, name, copies=1):
        family, widths, self.activations, y, self.params = CASES[name]
        self.name = name
        self.model = network(widths, self.activations, family)
        self.x, self.y = np.tile(X[:7], (copies, 1)), np.concatenate([y] * copies)
        self.trainee = trainee_of(self.model)
        data = data_of(self.model, self.x, self.y)
        self.folded, _, _ = self.trainee.differentiate(data, np.arange(len(self.x)))
        rng = np.random.Generator(np.random.Philox(key=5))
        self.batch = training.Batch(self.folded, data, np.arange(len(self.x)), 0, rng)
        self.gradient = np.random.default_rng(1).normal(size=self.trainee.n_params)
        plain = same_state(self.model, self.trainee)
        vector = self.trainee.parameters.copy()
        functions = [ACTIVATIONS[one] for one in self.activations]
        _, self.statistics = plain.output(vector, self.x, functions)

        def weights(theta):
            kernels, shifts, last, scales = plain.unpacked(theta)
            parts = []
            for kernel, shift, scale, (mean, variance) in zip(kernels, shifts, scales, self.statistics, strict=True):
                factor = scale / np.sqrt(variance + 1e-5)
                parts.append(np.column_stack([factor[:, None] * kernel, shift - factor * mean]).ravel())
            return np.concatenate([*parts, last.ravel()])

        np.testing.assert_allclose(weights(vector), np.concatenate([one.ravel() for one in self.folded.weights]), rtol=1e-13)
        self.J = np.array([weights(vector + step).imag for step in 1e-30j * np.eye(len(vector))]).T / 1e-30
        self.vector, self.plain = vector, plain

    def matrix(self, information, n_draws):
        """The information in the parameters: index loops for exact and empirical, the public estimators for the others."""
        model = fs.MLP(self.folded.weights, activation=self.activations, family=self.model.family)
        plain = naive.Network.named(model.weights, self.activations)
        if information in ("score", "hessian"):
            seed = np.random.SeedSequence(int(np.random.Generator(np.random.Philox(key=5)).integers(2**63)))
            drawn = {"estimator": information, "n_draws": n_draws, "rng": seed, "view": "full"}
            found = fs.estimate_fisher(model, self.x, **drawn).values
        elif information == "empirical":
            found = naive.empirical_fisher(plain, self.name, self.params, self.x, self.y)[0]
        else:
            laws = naive.input_laws(plain, self.name, self.params, self.x)
            found = np.mean([np.einsum("k,kpq->pq", law.probabilities, law.score) for law in laws], axis=0)
        return self.J.T @ found @ self.J

    def step(self, optimizer):
        return optimizer.start(self.trainee).step(self.gradient, self.batch)


@pytest.mark.parametrize("copies", [1, 6], ids=["in the span of the rows", "whole matrix"])
@pytest.mark.parametrize(("information", "n_draws"), KINDS)
@pytest.mark.parametrize("name", CASES)
def test_steps_are_those_of_dense_linear_algebra(name, information, n_draws, copies):
    here = Situation(name, copies)
    assert (len(here.x) * here.model.family.n_outputs < len(here.vector)) == (copies == 1)
    matrix = here.matrix(information, n_draws)
    damping = 0.3 + max(0.0, -float(np.linalg.eigvalsh(matrix)[0]))
    settings = {"information": information, "n_draws": n_draws, "damping": damping}
    expected = -0.2 * np.linalg.solve(matrix + damping * np.eye(len(matrix)), here.gradient)
    np.testing.assert_allclose(here.step(training.NaturalGradient(0.2, **settings)), expected, rtol=1e-10, atol=1e-11)
    here = Situation(name, copies)
    by_products = here.step(training.NaturalGradient(0.2, **settings, solver="cg", tolerance=1e-12))
    np.testing.assert_allclose(by_products, expected, rtol=1e-9, atol=1e-10)
    here = Situation(name, copies)
    diagonal = here.step(training.DiagonalNaturalGradient(0.2, **settings))
    np.testing.assert_allclose(diagonal, -0.2 * here.gradient / (np.diag(matrix) + damping), rtol=1e-10)


def test_the_information_is_singular_along_one_direction_per_unit():
    here = Situation("categorical")
    n_units = sum(map(len, here.trainee.scales))
    eigenvalues = np.linalg.eigvalsh(here.J.T @ here.J)
    assert eigenvalues[n_units - 1] < 1e-12 < 1e-3 < eigenvalues[n_units]
    with pytest.raises(AssumptionError, match="`damping` must make the exact information of every minibatch positive definite"):
        here.step(training.NaturalGradient(0.2, damping=0))


def parts_of(here):
    """Positions of kernel, shift and scale of each hidden layer and of the last, as (units, inputs) index arrays."""
    kernels, shifts, last, scales = here.plain.unpacked(np.arange(len(here.vector)))
    hidden = zip(kernels, shifts, scales, strict=True)
    return [*itertools.chain(*((one, two[:, None], three[:, None]) for one, two, three in hidden)), last]


@pytest.mark.parametrize("name", CASES)
def test_kronecker_steps_are_those_of_the_factors_of_each_part(name):
    """Per input, the information of a part is (G' S G) (x) (h h'): the factors are read off blocks of one input at a time."""
    here, damping = Situation(name), 0.05
    change = here.step(training.KroneckerNaturalGradient(0.2, damping=damping))
    plain = naive.Network.named(here.folded.weights, here.activations)
    states = [naive.forward(plain, x)[0] for x in here.x]
    laws = naive.input_laws(plain, name, here.params, here.x)
    each = [here.J.T @ np.einsum("k,kpq->pq", law.probabilities, law.score) @ here.J for law in laws]
    for number, places in enumerate(parts_of(here)):
        units, k = places.shape
        layer, kind = divmod(number, 3)
        A, G = np.zeros((k, k)), np.zeros((units, units))
        for state, own in zip(states, each, strict=True):
            h = {0: state[layer], 1: np.ones(1), 2: np.ones(1)}[kind] if number < 3 * len(here.activations) else None
            h = np.append(state[-2], 1.0) if h is None else h
            A += np.outer(h, h) / len(here.x)
            # tr over inputs of (S (x) h h') is S |h|^2.
            block = own[np.ix_(places.ravel(), places.ravel())].reshape(units, k, units, k)
            G += np.einsum("idjd->ij", block) / (h @ h) / len(here.x)
        pi = np.sqrt(np.trace(A) / k / (np.trace(G) / units))
        A, G = A + pi * np.sqrt(damping) * np.eye(k), G + np.sqrt(damping) / pi * np.eye(units)
        expected = -0.2 * np.linalg.solve(np.kron(G, A), here.gradient[places.ravel()])
        np.testing.assert_allclose(change[places.ravel()], expected, rtol=1e-9, atol=1e-12)


RESPONSES = {
    "tanh": lambda a: 1 - np.tanh(a) ** 2,
    "sigmoid": lambda a: np.exp(-a) / (1 + np.exp(-a)) ** 2,
    "softplus": lambda a: 1 / (1 + np.exp(-a)) ** 2,
    "relu": lambda a: (a > 0).astype(float),
}


@pytest.mark.parametrize("copies", [1, 2], ids=["in the span of the inputs", "whole matrices"])
@pytest.mark.parametrize("activations", [["tanh"], ["relu", "sigmoid"], ["softplus", "relu"]], ids="-".join)
def test_relative_steps_are_those_of_each_neuron_with_its_scale_and_shift(activations, copies):
    model = network([4, *[5, 3][: len(activations)], 3], activations)
    x, y = np.tile(X[:4], (copies, 1)), np.tile(Y[:4], copies)
    trainee, data, damping = trainee_of(model), data_of(model, x, y), 0.02
    folded, _, _ = trainee.differentiate(data, np.arange(len(x)))
    gradient = np.random.default_rng(1).normal(size=trainee.n_params)
    batch = training.Batch(folded, data, np.arange(len(x)), 0, np.random.default_rng(0))
    change = training.RelativeNaturalGradient(0.3, damping=damping).start(trainee).step(gradient, batch)
    plain = same_state(model, trainee)
    kernels, shifts, last, scales = plain.unpacked(trainee.parameters)
    places = plain.unpacked(np.arange(trainee.n_params))
    h = x
    for layer, (kernel, shift, scale) in enumerate(zip(kernels, shifts, scales, strict=True)):
        z = h @ kernel.T
        deviation = np.sqrt(z.var(axis=0) + 1e-5)
        a = scale * (z - z.mean(axis=0)) / deviation + shift
        for unit in range(len(kernel)):
            # Derivatives of a by kernel, shift and scale at fixed mean and deviation.
            by = scale[unit] / deviation[unit] * h, np.ones((len(h), 1)), (z - z.mean(axis=0))[:, [unit]] / deviation[unit]
            features = np.column_stack(by)
            metric = np.einsum("i,id,iq->dq", RESPONSES[activations[layer]](a[:, unit]), features, features) / len(h)
            own = np.concatenate([places[0][layer][unit], [places[1][layer][unit]], [places[3][layer][unit]]])
            expected = -0.3 * np.linalg.solve(metric + damping * np.eye(len(own)), gradient[own])
            np.testing.assert_allclose(change[own], expected, rtol=1e-9, atol=1e-11)
        h = ACTIVATIONS[activations[layer]](a)
    h_bar = np.column_stack([h, np.ones(len(h))])
    p = np.exp(h_bar @ last.T)
    p /= p.sum(axis=1, keepdims=True)
    for unit in range(3):
        metric = np.einsum("i,id,iq->dq", p[:, unit] * (1 - p[:, unit]), h_bar, h_bar) / len(h)
        own = places[2][unit]
        expected = -0.3 * np.linalg.solve(metric + damping * np.eye(len(own)), gradient[own])
        np.testing.assert_allclose(change[own], expected, rtol=1e-9, atol=1e-11)


ALL = [
    training.SGD(0.1, momentum=0.5),
    training.Adam(0.02),
    training.NaturalGradient(0.1, damping=0.1, update_every=2),
    training.NaturalGradient(0.1, "score", 2, damping=0.1, solver="cg", update_every=2),
    training.DiagonalNaturalGradient(0.1, "score", 1, damping=0.1),
    training.KroneckerNaturalGradient(0.1, damping=0.1, update_every=2),
    training.RelativeNaturalGradient(0.1, damping=0.1, update_every=3),
]


@pytest.mark.parametrize("optimizer", ALL, ids=repr)
def test_every_optimizer_learns_and_can_be_repeated(optimizer):
    model = network([4, 6, 5, 3], "relu")
    settings = {"optimizer": optimizer, "normalization": SETTINGS, "epochs": 30, "batch_size": 15, "rng": 1}
    y = (X[:, 0] > 0).astype(int) + (X[:, 2] > -1)
    first, second = (training.fit(model, X, y, **settings, num_threads=threads) for threads in (1, 2))
    assert first.model == second.model
    assert first.history.loss[-1] < 0.85 * first.history.loss[0]
    information = fs.fisher_information(first.model, X)
    assert np.isfinite(information).all()


@pytest.mark.parametrize("optimizer", ALL[2:], ids=repr)
def test_a_kept_inverse_does_not_move_with_the_network(optimizer):
    here = Situation("gaussian")
    kept = training.NaturalGradient if isinstance(optimizer, training.NaturalGradient) else type(optimizer)
    fields = {name: getattr(optimizer, name) for name in optimizer.__dataclass_fields__} | {"update_every": 5}
    steps = kept(**fields).start(here.trainee)
    first = np.array(steps.step(here.gradient, here.batch))
    here.trainee.parameters[:] *= 1.3
    moved, _, _ = here.trainee.differentiate(here.batch.data, here.batch.rows)
    later = training.Batch(moved, here.batch.data, here.batch.rows, 1, here.batch.rng)
    np.testing.assert_array_equal(steps.step(here.gradient, later), first)


def test_the_length_of_a_kernel_changes_nothing_but_epsilon():
    model = network([4, 5, 3], "relu")
    longer = fs.MLP([np.column_stack([3 * model.kernels[0], model.weights[0][:, -1]]), model.weights[1]], **kept(model))
    fine = training.BatchNormalization(momentum=1.0, epsilon=1e-300)
    found = []
    for one in (model, longer):
        trainee = NormalizedTrainee(one, fine)
        _, (loss, _), gradient = trainee.differentiate(data_of(one, X, Y), np.arange(45))
        found.append((loss, trainee.frozen().natural_parameters(X), gradient[: model.weights[0].size].reshape(5, 5)))
    (loss, outputs, gradient), (loss_3, outputs_3, gradient_3) = found
    np.testing.assert_allclose([loss_3], [loss], rtol=1e-12)
    np.testing.assert_allclose(outputs_3, outputs, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(3 * gradient_3[:, :-1], gradient[:, :-1], rtol=1e-9, atol=1e-13)
    # A kernel's gradient is orthogonal to it, and so its length never shrinks.
    np.testing.assert_allclose((gradient[:, :-1] * model.kernels[0]).sum(axis=1), 0, atol=1e-14)


def kept(model):
    return {"activation": model.activations, "family": model.family}


def test_float32_stays_float32():
    model = network([4, 6, 5, 3], "relu")
    settings = {"optimizer": training.SGD(0.1), "normalization": SETTINGS, "epochs": 3, "batch_size": 15, "rng": 1}
    narrow = training.fit(model.as_dtype(np.dtype(np.float32)), X.astype(np.float32), Y, **settings)
    wide = training.fit(model, X, Y, **settings)
    assert narrow.model.dtype == np.float32
    np.testing.assert_allclose(narrow.model.natural_parameters(X.astype(np.float32)), wide.model.natural_parameters(X), atol=1e-4)


def test_a_unit_that_is_constant_over_the_minibatch_has_the_value_of_its_shift():
    model = network([4, 5, 3], "relu")
    trainee = trainee_of(model)
    _, (loss, _), gradient = trainee.differentiate(data_of(model, np.ones((6, 4)), Y[:6]), np.arange(6))
    plain = same_state(model, trainee)
    output, _ = plain.output(plain.vector(), np.ones((6, 4)), [ACTIVATIONS["relu"]])
    np.testing.assert_allclose(loss, peers.cross_entropy(output, Y[:6]), rtol=1e-13)
    assert np.isfinite(gradient).all()


def test_what_leaves_the_float_range_stops_the_training():
    with pytest.raises(TrainingDiverged, match="epoch 1, step 1: the variance of a unit over the minibatch is no longer finite"):
        training.fit(
            network([4, 5, 3]), 1e200 * X, Y, optimizer=training.SGD(0.1), normalization=SETTINGS, epochs=1, batch_size=15, rng=0
        )


def fit(model=None, **settings):
    given = {"optimizer": training.SGD(0.1), "normalization": SETTINGS, "epochs": 1, "batch_size": 15, "rng": 0} | settings
    return training.fit(model or network([4, 5, 3]), X, Y, **given)


@refused(
    [
        (
            lambda: fit(normalization=True),
            TypeError,
            "`normalization` must be None or fisherstats.training.BatchNormalization(), got True.",
        ),
        (
            lambda: fit(normalization=training.BatchNormalization),
            TypeError,
            "`normalization` must be None or fisherstats.training.BatchNormalization(), got .*; call it.",
        ),
        (
            lambda: fit(network([4, 3])),
            ValueError,
            "`normalization` must be None for a network without hidden layers, as it normalises these only.",
        ),
        (
            lambda: fit(batch_size=11),
            ValueError,
            "`batch_size` must leave two inputs or more in every minibatch with `normalization`, as one has no variance, got 11 "
            "for 45 inputs; use another size, or leave an input out.",
        ),
        (lambda: fit(batch_size=1), ValueError, "`batch_size` must leave two inputs or more in every minibatch"),
        (
            lambda: fit(penalty=training.SpectralProjection(1)),
            ValueError,
            "`penalty` must not constrain the kernels with `normalization`, got SpectralProjection(limit=1.0, iterations=100): "
            "folding",
        ),
        (
            lambda: training.BatchNormalization(momentum=0),
            ValueError,
            "`momentum` must be a number above 0 and at most 1, got 0.",
        ),
        (lambda: training.BatchNormalization(momentum=1.5), ValueError, "`momentum` must be a number above 0 and at most 1, got"),
        (lambda: training.BatchNormalization(epsilon=0), ValueError, "`epsilon` must be a finite number above 0, got 0."),
    ]
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=pattern(message)):
        call()
