"""Kronecker factors of each layer's block, and their distance from the exact block, against index loops and dense blocks."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

import fisherstats as fs
from fisherstats.core.validation import capacity
from fisherstats.theory import kronecker
from tests import naive
from tests.refusals import pattern
from tests.theory.cases import CASES, assert_close, per_case
from tests.theory.test_linked import LINKED, UNLINKED, network

F = fs.families
POISSON = fs.MLP([[[1.0, 0.0]]], activation=[], family=fs.families.Poisson())
CLASSES = fs.MLP.random([3, 4, 3], activation="tanh", family=fs.families.Categorical(3), rng=0)
X = np.random.default_rng(0).normal(size=(6, 3))


def naive_factors(case, layer):
    """A and G of every input (n, ., .), entry by entry from their definitions."""
    inputs, units = [], []
    for x, law in zip(case.x, case.laws, strict=True):
        extended = np.append(naive.forward(case.network, x)[0][layer], 1.0)
        slopes = naive.output_slopes(case.network, x)[layer]
        information = naive.natural_information(law.deltas, law.probabilities)
        inputs.append([[left * right for right in extended] for left in extended])
        unit = np.zeros((slopes.shape[1],) * 2)
        for o, p in np.ndindex(unit.shape):
            for a, b in np.ndindex(information.shape):
                unit[o, p] += slopes[a, o] * information[a, b] * slopes[b, p]
        units.append(unit)
    return np.array(inputs), np.array(units)


def dense_blocks(model, x):
    return [child.information.values for child in fs.fisher_information(model, x, view="block").children.values()]


def products(tree, at=()):
    """The Kronecker product of the factors of every layer."""
    return [np.kron(child.G.values[at], child.A.values[at]) for child in tree.children.values()]


@per_case()
@pytest.mark.parametrize("per_input", [False, True])
def test_factors(case, per_input):
    tree = fs.fisher_information(case.model, case.x, view="kfac", per_input=per_input)
    assert list(tree.children) == [f"layer_{layer}" for layer in range(case.n_layers)]
    leading = ("input",) if per_input else ()
    for layer, child in enumerate(tree.children.values()):
        assert child.A.dims == (*leading, "feature", "feature2")
        assert child.G.dims == (*leading, "unit", "unit2")
        for found, expected in zip((child.A, child.G), naive_factors(case, layer), strict=True):
            assert_close(found, expected if per_input else expected.mean(axis=0), rtol=1e-11)
            np.testing.assert_array_equal(found, np.swapaxes(found.values, -1, -2))


@per_case()
def test_error_against_the_block_of_all_labels(case):
    found = fs.kfac_error(case.model, case.x)
    information = sum(law.information for law in case.laws) / case.n_inputs
    places = naive.parameters(case.network)
    for layer in range(case.n_layers):
        members = [index for index, place in enumerate(places) if place.layer == layer]
        block = information[np.ix_(members, members)]
        A, G = (factor.mean(axis=0) for factor in naive_factors(case, layer))
        product = np.zeros_like(block)
        for row, one in enumerate(members):
            for column, two in enumerate(members):
                first, second = places[one], places[two]
                product[row, column] = G[first.unit_out, second.unit_out] * A[first.unit_in, second.unit_in]
        norm, error = np.linalg.norm(block), np.linalg.norm(block - product)
        assert float(found.norm[layer]) == pytest.approx(norm, rel=1e-12, abs=0)
        assert float(found.error[layer]) == pytest.approx(error, rel=1e-12, abs=1e-12 * norm)
        if norm > 0:
            assert float(found.relative_error[layer]) == pytest.approx(error / norm, rel=1e-11, abs=1e-12)
        else:
            assert np.isnan(found.relative_error[layer])


def test_the_comparison_can_fail():
    """Most networks with several inputs are far from a Kronecker product, and so from an error that is only rounding."""
    errors = [float(fs.kfac_error(case.model, case.x).relative_error.max()) for case in CASES if case.n_inputs > 1]
    assert np.median(errors) > 0.1


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("family", LINKED + UNLINKED, ids=lambda one: one.name)
def test_every_family(family, depth):
    model, _, x = network(family, depth)
    found = fs.kfac_error(model, x)
    tree = fs.fisher_information(model, x, view="kfac")
    for layer, (block, product) in enumerate(zip(dense_blocks(model, x), products(tree), strict=True)):
        norm = np.linalg.norm(block)
        assert float(found.norm[layer]) == pytest.approx(norm, rel=1e-12)
        assert float(found.error[layer]) == pytest.approx(np.linalg.norm(block - product), rel=1e-12, abs=1e-12 * norm)
    single = fs.fisher_information(model, x, view="kfac", per_input=True)
    blocks = fs.fisher_information(model, x, view="block", per_input=True)
    for at in range(len(x)):
        for child, product in zip(blocks.children.values(), products(single, at), strict=True):
            block = child.information.values[at]
            np.testing.assert_allclose(product, block, rtol=0, atol=1e-13 * np.abs(block).max())


@per_case(CASES[::3])
def test_exact_for_one_input(case):
    found = fs.kfac_error(case.model, case.x[:1])
    np.testing.assert_array_equal(found.error, 0.0)
    tree = fs.fisher_information(case.model, case.x[:1], view="kfac")
    for block, product in zip(dense_blocks(case.model, case.x[:1]), products(tree), strict=True):
        np.testing.assert_allclose(product, block, rtol=0, atol=1e-13 * np.abs(block).max())


def test_exact_for_linear_networks_with_a_gaussian_response():
    model = fs.MLP.random([5, 6, 4, 3], activation="identity", family=fs.families.Gaussian(3), rng=0)
    x = np.random.default_rng(0).normal(size=(300, 5))
    assert float(fs.kfac_error(model, x).relative_error.max()) < 1e-13


@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-4])
def test_a_small_error_keeps_its_digits(spread):
    """For inputs close to each other the error is of the order of the squared spread, the block of the order of one."""
    x = 0.7 + spread * np.array([0.0, 1.0, -0.3, 2.0])
    with mpmath.workdps(60):
        exact = [mpmath.mpf(value) for value in x]
        rates, n = [mpmath.exp(value) for value in exact], len(exact)
        outer = [mpmath.matrix([[value * value, value], [value, 1]]) for value in exact]
        block = sum((rate * matrix for rate, matrix in zip(rates, outer, strict=True)), mpmath.zeros(2)) / n
        product = sum(rates) / n * sum(outer, mpmath.zeros(2)) / n
        expected = float(mpmath.mnorm(block - product, "f"))
    # What is left is the rounding of exp itself, relative to its change between inputs.
    found = float(fs.kfac_error(POISSON, x[:, None]).error[0])
    assert found == pytest.approx(expected, rel=1e-14 + 1e-14 / spread)


def test_a_tiny_information_does_not_underflow():
    """In its far tail a Bernoulli response has the variance exp(-h) of a Poisson response, and the same relative error."""
    x = np.array([[0.0], [1.0], [-0.5]])
    tail = fs.MLP([[[1.0, 400.0]]], activation=[], family=fs.families.Bernoulli())
    found = fs.kfac_error(tail, x)
    assert 0 < float(found.norm[0]) < 1e-160
    mirrored = fs.MLP([[[-1.0, 0.0]]], activation=[], family=fs.families.Poisson())
    assert float(found.relative_error[0]) == pytest.approx(float(fs.kfac_error(mirrored, x).relative_error[0]), rel=1e-12)


def test_tiles_of_units(monkeypatch):
    whole = fs.kfac_error(CLASSES, X)
    monkeypatch.setattr(kronecker, "_TILE", 40)
    np.testing.assert_allclose(fs.kfac_error(CLASSES, X).error, whole.error, rtol=1e-13)
    np.testing.assert_allclose(fs.kfac_error(CLASSES, X).norm, whole.norm, rtol=1e-13)


def test_a_block_of_zeros():
    """A rectifier that no input reaches: its layer's block is 0, and so is the approximation."""
    model = fs.MLP([[[1.0, -9.0]], [[1.0, 0.0]]], activation="relu", family=fs.families.Bernoulli())
    found = fs.kfac_error(model, np.array([[0.0], [1.0]]))
    assert found.error.values.tolist() == [0.0, 0.0]
    assert float(found.norm[0]) == 0.0
    assert np.isnan(found.relative_error[0])
    assert float(found.norm[1]) > 0


def test_factors_are_labelled_like_the_parameters():
    """An entry of the block is found in the factors by the row and column of its two parameters."""
    tree = fs.fisher_information(CLASSES, X[:1], view="kfac")
    full = fs.fisher_information(CLASSES, X[:1], view="full")
    last = tree["layer_1"]
    for index in (20, 24, 30):
        one = full.isel(param=index)
        for other in (18, 24, 26):
            two = one.isel(param2=other)
            row, column = int(one.param_unit_out), int(one.param_unit_in)
            row2, column2 = int(two.param2_unit_out), int(two.param2_unit_in)
            product = last.G.sel(unit=row, unit2=row2) * last.A.sel(feature=column, feature2=column2)
            assert float(product) == pytest.approx(float(two), rel=1e-12)
    assert float(last.A.sel(feature=-1, feature2=-1)) == 1.0


@pytest.mark.parametrize("engine", ["numpy", "numba"])
@pytest.mark.parametrize("family", [F.Categorical(140), F.Multinomial(3, 140), F.Bernoulli(140), F.Gaussian(140)], ids=repr)
def test_many_outputs(family, engine):
    """The factor of the last layer is formed in panels, from one row per input or none."""
    model = fs.MLP.random([3, 4, family.n_outputs], activation="tanh", family=family, rng=0)
    x = np.random.default_rng(1).normal(size=(60, 3))
    information = family.at(model.natural_parameters(x)).information()
    found = fs.fisher_information(model, x, view="kfac", engine=engine)["layer_1"].G.values
    np.testing.assert_allclose(found, information.mean(axis=0), rtol=1e-13, atol=1e-16)
    single = fs.fisher_information(model, x, view="kfac", per_input=True, engine=engine)["layer_1"].G.values
    np.testing.assert_allclose(single, information, rtol=1e-13, atol=1e-16)
    if not information[0, 0, 1]:
        assert not np.signbit(found).any()
        assert not np.signbit(single).any()


@pytest.mark.parametrize("family", [F.Categorical(70), F.Multinomial(3, 70), F.Bernoulli(70), F.Gaussian(70)], ids=repr)
def test_error_of_many_outputs(family, monkeypatch):
    """The matrices over the outputs are formed in tiles of their rows."""
    monkeypatch.setattr(kronecker, "_TILE", 5000)
    model = fs.MLP.random([3, 4, family.n_outputs], activation="tanh", family=family, rng=0)
    x = np.random.default_rng(1).normal(size=(6, 3))
    found = fs.kfac_error(model, x)
    tree = fs.fisher_information(model, x, view="kfac")
    for layer, (block, product) in enumerate(zip(dense_blocks(model, x), products(tree), strict=True)):
        norm = np.linalg.norm(block)
        assert float(found.norm[layer]) == pytest.approx(norm, rel=1e-12)
        assert float(found.error[layer]) == pytest.approx(np.linalg.norm(block - product), rel=1e-12, abs=1e-12 * norm)


def test_a_class_that_is_nearly_certain_keeps_its_digits():
    model = fs.MLP([[[0.0, 0.0], [0.0, -60.0], [0.0, -70.0]]], activation=[], family=fs.families.Categorical(3))
    found = fs.fisher_information(model, [[1.0]], view="kfac")["layer_0"].G.values
    two, three = np.exp(-60), np.exp(-70)
    wanted = [[two + three, -two, -three], [-two, two, -two * three], [-three, -two * three, three]]
    np.testing.assert_allclose(found, wanted, rtol=1e-13)


def test_single_precision():
    weights, x = [weight.astype(np.float32) for weight in CLASSES.weights], X.astype(np.float32)
    single = fs.MLP(weights, activation="tanh", family=fs.families.Categorical(3))
    double = fs.MLP([weight.astype(np.float64) for weight in weights], activation="tanh", family=fs.families.Categorical(3))
    for per_input in (False, True):
        found = fs.fisher_information(single, x, view="kfac", per_input=per_input)
        expected = fs.fisher_information(double, x.astype(np.float64), view="kfac", per_input=per_input)
        for name, child in found.children.items():
            for key in ("A", "G"):
                assert child[key].dtype == np.float32
                np.testing.assert_allclose(child[key], expected[name][key], rtol=0, atol=2e-6 * float(abs(child[key]).max()))
    error, wanted = fs.kfac_error(single, x), fs.kfac_error(double, x.astype(np.float64))
    for key in ("error", "norm", "relative_error"):
        assert error[key].dtype == np.float32
        np.testing.assert_allclose(error[key], wanted[key], rtol=1e-5)


# --- refusals --------------------------------------------------------------------------------------------------------

ONLY = "`view` must be one of 'diagonal', 'block', 'full', got 'kfac'."


@pytest.mark.parametrize(
    "call",
    [
        lambda: fs.estimate_fisher(CLASSES, X, estimator="score", n_draws=1, rng=0, view="kfac"),
        lambda: fs.empirical_fisher(CLASSES, X, np.zeros(6, dtype=int), view="kfac"),
        lambda: fs.observed_information(CLASSES, X, np.zeros(6, dtype=int), view="kfac"),
    ],
    ids=["estimate", "empirical", "observed"],
)
def test_the_view_is_that_of_the_exact_information(call):
    with pytest.raises(ValueError, match=pattern(ONLY)):
        call()


def test_a_misspelt_view():
    with pytest.raises(ValueError, match=pattern("`view` must be one of .*'kfac', got 'kfc'. Did you mean 'kfac'?")):
        fs.fisher_information(CLASSES, X, view="kfc")


@pytest.mark.parametrize(
    ("arguments", "words", "message"),
    [
        ((CLASSES, X[0]), {}, "`x` must be 2-D (input, feature), got shape (3,)"),
        (("model", X), {}, "`model` must be a fisherstats.MLP, got 'model'"),
        ((CLASSES, np.full((2, 3), math.inf)), {}, "`x` must be finite, got inf at index (0, 0)"),
        ((CLASSES, X), {"num_threads": 0}, "`num_threads` must be a positive integer, got 0."),
        ((CLASSES, X), {"engine": "Numba"}, "`engine` must be one of"),
    ],
    ids=["vector", "model", "infinite", "threads", "engine"],
)
def test_the_error_checks_its_arguments(arguments, words, message):
    with pytest.raises((TypeError, ValueError), match=pattern(message)):
        fs.kfac_error(*arguments, **words)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x: fs.fisher_information(CLASSES, x, view="kfac", per_input=True),
            "`view='kfac'` with `per_input=True` needs 316,800 bytes (309.4 KiB) .* use per_input=False, fewer inputs or",
        ),
        (lambda x: fs.kfac_error(CLASSES, x), "`kfac_error` needs 110,400 bytes (107.8 KiB) .* use fewer inputs."),
    ],
    ids=["factors", "error"],
)
def test_what_does_not_fit(call, message, monkeypatch):
    monkeypatch.setattr(capacity, "available_bytes", lambda *needed: 2**16)
    with pytest.raises(fs.SizeError, match=pattern(message)):
        call(np.zeros((600, 3)))
