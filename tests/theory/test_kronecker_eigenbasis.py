"""K-FAC and EK-FAC as operators, against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs

F = fs.families


def assert_close(found, expected, tolerance):
    size = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * size)


X = np.random.default_rng(0).normal(size=(40, 3))
MODELS = {
    "categorical": fs.MLP.random([3, 5, 4], activation="tanh", family=F.Categorical(4), rng=1),
    "minimal": fs.MLP.random([3, 5, 3], activation="tanh", family=F.Categorical(4, minimal=True), rng=1),
    "gaussian": fs.MLP.random([3, 4, 4, 2], activation="gelu", family=F.Gaussian(2), rng=2),
    "gamma": fs.MLP.random([3, 4, 1], activation="tanh", family=F.Gamma(2.0), rng=3),
    "no bias": fs.MLP.random([3, 5, 4], activation="tanh", family=F.Categorical(4), rng=1, bias=False),
}
names = pytest.mark.parametrize("name", MODELS)
kinds = pytest.mark.parametrize("kind", ["kfac", "ekfac"])


def dense(model, kind):
    """Block by block, from the factors and the exact block."""
    tree, blocks = fs.fisher_information(model, X, view="kfac"), fs.fisher_information(model, X, view="block")
    found = []
    for name in tree.children:
        G, A = tree[name]["G"].values, tree[name]["A"].values
        if kind == "kfac":
            found.append(np.kron(G, A))
            continue
        basis = np.kron(np.linalg.eigh(G)[1], np.linalg.eigh(A)[1])
        moments = np.diag(basis.T @ blocks[name]["information"].values @ basis)
        found.append((basis * moments) @ basis.T)
    sizes = np.cumsum([0, *(len(one) for one in found)])
    whole = np.zeros((sizes[-1], sizes[-1]))
    for start, end, one in zip(sizes[:-1], sizes[1:], found, strict=True):
        whole[start:end, start:end] = one
    return whole, found


@kinds
@names
def test_products_solutions_determinants(name, kind):
    model = MODELS[name]
    operator, (whole, blocks) = fs.kronecker_operator(model, X, kind=kind), dense(model, kind)
    vectors = np.random.default_rng(1).normal(size=(model.n_params, 3))
    assert_close(operator @ vectors, whole @ vectors, 1e-10)
    assert_close(operator @ vectors[:, 0], whole @ vectors[:, 0], 1e-10)
    damped = whole + 0.3 * np.eye(len(whole))
    assert_close(operator.solve(vectors, 0.3), np.linalg.solve(damped, vectors), 1e-10)
    assert_close(operator.solve(vectors[:, 1], 0.3), np.linalg.solve(damped, vectors[:, 1]), 1e-10)
    assert_close(operator.log_det(0.3), np.linalg.slogdet(damped)[1], 1e-10)
    assert_close(operator.trace(), np.trace(whole), 1e-10)
    for layer, one in enumerate(blocks):
        assert_close(operator.block(layer), one, 1e-10)


@names
def test_the_correction_is_the_closest_in_its_basis(name):
    """In Frobenius norm: never further than K-FAC, and any change of a moment is further."""
    model = MODELS[name]
    exact = fs.fisher_information(model, X, view="block")
    plain, corrected = (fs.kronecker_operator(model, X, kind=kind) for kind in ("kfac", "ekfac"))
    for layer, child in enumerate(exact.children):
        block = exact[child]["information"].values
        error = np.linalg.norm(block - corrected.block(layer))
        assert error <= np.linalg.norm(block - plain.block(layer)) * (1 + 1e-9) + 1e-12 * np.linalg.norm(block)
        # The exact block minus its projection is orthogonal to it.
        assert abs(np.vdot(block - corrected.block(layer), corrected.block(layer))) < 1e-10 * np.linalg.norm(block) ** 2
        square = np.linalg.norm(block) ** 2 - np.linalg.norm(corrected.block(layer)) ** 2
        np.testing.assert_allclose(error**2, square, atol=1e-12 * np.linalg.norm(block) ** 2)


@kinds
def test_samples_have_the_inverse_as_covariance(kind):
    """20,000 draws: variances along 39 directions, z beyond 5.5 with probability 1e-6; 6 % off gives z = 6."""
    model = MODELS["categorical"]
    operator = fs.kronecker_operator(model, X, kind=kind)
    draws = operator.sample(20_000, 0.2, 0)
    directions = np.random.default_rng(2).normal(size=(39, model.n_params))
    expected = np.einsum("kp,pk->k", directions, operator.solve(directions.T, 0.2))
    ratio = np.square(draws @ directions.T).mean(axis=0) / expected
    assert np.abs(ratio - 1).max() < 5.5 * np.sqrt(2 / 20_000)


def test_one_input_is_exact():
    model, x = MODELS["categorical"], X[:1]
    exact = fs.fisher_information(model, x, view="block")
    for kind in ("kfac", "ekfac"):
        operator = fs.kronecker_operator(model, x, kind=kind)
        for layer, child in enumerate(exact.children):
            assert_close(operator.block(layer), exact[child]["information"].values, 1e-10)


def test_float32_networks_and_labelled_vectors():
    model = MODELS["categorical"]
    single = fs.kronecker_operator(model.as_dtype(np.float32), X.astype(np.float32))
    double = fs.kronecker_operator(model, X)
    exact = fs.fisher_information(model, X)
    np.testing.assert_allclose(single @ exact.values, double @ exact.values, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(double @ exact, double @ exact.values)
    shuffled = exact.isel(param=np.random.default_rng(0).permutation(exact.size))
    np.testing.assert_array_equal(double.solve(shuffled, 0.1), double.solve(exact.values, 0.1))


def test_refusals():
    operator = fs.kronecker_operator(MODELS["categorical"], X)
    for damping in (0.0, -1.0):
        with pytest.raises(ValueError, match="`damping` must be"):
            operator.solve(np.ones(operator.shape[0]), damping)
    with pytest.raises(ValueError, match=r"`vectors` must have shape \(44,\) or \(44, k\)"):
        operator.solve(np.ones(5), 0.1)
    with pytest.raises(ValueError, match="`layer` must be an integer from 0 to 1"):
        operator.block(2)
    with pytest.raises(ValueError, match="`kind` must be one of 'ekfac', 'kfac'"):
        fs.kronecker_operator(MODELS["categorical"], X, kind="ekfc")
