"""Norms of the derivatives and their bounds by weight norms, against dense derivatives and index loops of the statement."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import fisherstats as fs
from tests import naive
from tests.theory.cases import CASES, per_case
from tests.theory.test_linked import LINKED, derivatives, network

Array = np.ndarray

SMALL = [case for case in CASES if case.model.n_params <= 60]


def dense(model: fs.MLP, plain: naive.Network, x: Array) -> tuple[list[Array], dict[tuple[int, int], Array]]:
    """dh/dW_l as (T, P_l) and d2h/dW_l dW_m as (T, P_l, P_m) of one input."""
    _, J, H = derivatives(model, plain, x)
    slices = model.layer_slices()
    blocks = {(left, right): H[:, a, b] for left, a in enumerate(slices) for right, b in enumerate(slices)}
    return [J[:, part] for part in slices], blocks


def norms(matrix: Array) -> tuple[float, float]:
    """Frobenius norm, and largest singular value with the outputs for rows."""
    unfolded = matrix.reshape(len(matrix), -1)
    return float(np.linalg.norm(unfolded)), float(np.linalg.norm(unfolded, ord=2))


def largest_on_unit_vectors(block: Array, starts: int = 3) -> float:
    """A value of the tensor (T, P, Q) on unit vectors, by alternating maximisation: a lower bound of its spectral norm."""
    rng, best = np.random.default_rng(0), 0.0
    for _ in range(starts):
        v, w = rng.normal(size=block.shape[1]), rng.normal(size=block.shape[2])
        for _ in range(60):
            u = block @ (w / max(np.linalg.norm(w), 1e-300)) @ (v / max(np.linalg.norm(v), 1e-300))
            v = np.einsum("tpq,t,q->p", block, u, w)
            v /= max(np.linalg.norm(v), 1e-300)
            w = np.einsum("tpq,t,p->q", block, u, v)
            w /= max(np.linalg.norm(w), 1e-300)
        best = max(best, float(np.linalg.norm(np.einsum("tpq,p,q->t", block, v, w))))
    return best


def stated_bounds(model: fs.MLP, plain: naive.Network, x: Array, kind: str) -> tuple[list[float], Array]:
    """The statement factor by factor: B, A and D bounded one by one by weight norms and suprema."""
    L, widths = model.n_layers, model.widths
    states, _ = naive.forward(plain, x)
    h = [math.sqrt(1 + sum(value**2 for value in states[layer])) for layer in range(L)]
    s = [float(np.linalg.norm(kernel, "fro" if kind == "frobenius" else 2)) for kernel in model.kernels]
    slope, bend = (np.ones(widths[-1]), np.zeros(widths[-1]))
    if model.family.link is not None:
        _, slope, bend = (one[0] for one in model.family.link.evaluate(np.asarray(states[-1])[None], 2))
    c1 = [*(one.sup_first for one in model.activations), np.abs(slope).max()]
    c2 = [*(one.sup_second for one in model.activations), np.abs(bend).max()]

    def B(layer: int) -> float:  # dh_L/dh_layer; the identity above the last layer multiplies row by row
        return math.prod(c1[layer:L]) * math.prod(s[layer:L])

    def A(k: int, layer: int) -> float:
        return math.prod(c1[layer:k]) * math.prod(s[layer + 1 : k + 1])

    def G(layer: int) -> float:
        if layer == L - 1:
            return float(np.linalg.norm(slope)) if kind == "frobenius" else c1[-1]
        return B(layer + 1) * c1[layer]

    second = np.zeros((L, L))
    for left in range(L):
        for right in range(left, L):
            total = 0.0
            for k in range(right, L):
                curved = c2[k]
                if k == left == L - 1 and kind == "frobenius":
                    curved = float(np.linalg.norm(bend))
                total += curved * B(k + 1) * A(k, left) * A(k, right) * h[left] * h[right]
            if left < right:
                reach = c1[right - 1] * A(right - 1, left)
                if kind == "frobenius" and right == left + 1:
                    reach *= math.sqrt(widths[right])
                if kind == "spectral":
                    reach *= math.sqrt(min(widths[left + 1 : right + 1]))
                total += G(right) * reach * h[left]
            second[left, right] = second[right, left] = total
    return [G(layer) * h[layer] for layer in range(L)], second


def check(model: fs.MLP, plain: naive.Network, x: Array) -> None:
    found = fs.derivative_bounds(model, x, per_input=True, covariance=False)
    for at, row in enumerate(x):
        one = found.isel(input=at)
        first, second = dense(model, plain, row)
        scale = max(np.abs(block).max() for block in second.values()) * 1e-12 + 1e-13
        stated = {kind: stated_bounds(model, plain, row, kind) for kind in ("frobenius", "spectral", "tensor")}
        for side, norm in enumerate(("frobenius", "spectral")):
            np.testing.assert_allclose(one.first_exact.sel(norm=norm), [norms(J)[side] for J in first], rtol=1e-11)
            np.testing.assert_allclose(one.first_upper.sel(norm=norm), stated[norm][0], rtol=1e-12)
            np.testing.assert_allclose(one.second_upper.sel(norm=norm), stated[norm][1], rtol=1e-12)
            for (left, right), block in second.items():
                exact = one.second_exact.sel(norm=norm, layer=left, layer2=right).item()
                np.testing.assert_allclose(exact, norms(block)[side], rtol=1e-9, atol=scale)
        np.testing.assert_allclose(one.tensor_upper, stated["tensor"][1], rtol=1e-12)
        for (left, right), block in second.items():
            if left <= right:
                tensor = one.tensor_upper.values[left, right] * (1 + 1e-12)
                assert largest_on_unit_vectors(block) <= tensor
                # The matrix with the upper layer's parameters for rows has a norm above the tensor's and below the bound.
                assert np.linalg.norm(block.transpose(2, 0, 1).reshape(block.shape[2], -1), ord=2) <= tensor


@per_case(SMALL)
def test_norms_and_bounds(case):
    check(case.model, case.network, case.x[:1])


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("family", LINKED, ids=lambda one: one.name)
def test_derivatives_go_through_the_link(family, depth):
    model, plain, x = network(family, depth)
    check(model, plain, x[:1])


@per_case([case for case in SMALL if 1 < case.n_inputs < 5])
def test_the_whole_derivatives_enter_the_covariance_bounds(case):
    """From dense J and H: Theorems 7 and 8, and their spectral forms; a Gaussian's M has the norm of 2 on symmetric matrices."""
    model = fs.MLP(case.weights, activation=list(case.activations), family=fs.families.Gaussian(case.widths[-1]))
    found = fs.derivative_bounds(model, case.x, n_draws=3, per_input=True)
    T = case.widths[-1]
    for at, row in enumerate(case.x):
        _, J, H = derivatives(model, case.network, row)
        upper = {kind: stated_bounds(model, case.network, row, kind) for kind in ("frobenius", "spectral")}
        for side, norm in enumerate(("frobenius", "spectral")):
            M, information = (math.sqrt(2 * T * (T + 1)), math.sqrt(T)) if side == 0 else (2, 1)
            exact = [norms(J)[side] ** 4 * M / 3, norms(H)[side] ** 2 * information / 3]
            weights = [
                sum(value**2 for value in upper[norm][0]) ** 2 * M / 3,
                np.square(upper[norm][1]).sum() * information / 3,
            ]
            one = found.isel(input=at).sel(norm=norm)
            np.testing.assert_allclose(one.covariance_from_derivatives, exact, rtol=1e-9, atol=1e-14)
            np.testing.assert_allclose(one.covariance_from_weights, weights, rtol=1e-11)
    beneath = fs.covariance_bounds(model, case.x, n_draws=3).sel(norm=list(found.norm.values))
    mean = fs.derivative_bounds(model, case.x, n_draws=3)
    np.testing.assert_array_equal(mean.covariance_exact, beneath.exact)
    np.testing.assert_array_equal(mean.covariance_upper, beneath.upper)
    scaled = found.mean("input") / case.n_inputs
    for name in ("covariance_from_derivatives", "covariance_from_weights", "covariance_gradient"):
        np.testing.assert_allclose(mean[name], scaled[name], rtol=1e-12)
    for name in ("first_exact", "first_upper", "second_exact", "second_upper", "tensor_upper", "second_gradient"):
        np.testing.assert_allclose(mean[name], found[name].mean("input"), rtol=1e-12)


def test_weight_norms():
    rng = np.random.default_rng(3)
    for depth, n_out in itertools.product(range(4), (1, 3)):
        widths = [2, *rng.integers(1, 5, depth).tolist(), n_out]
        chosen = rng.choice(fs.activations.NAMES, depth).tolist()
        model = fs.MLP.random(widths, activation=chosen, family=fs.families.Gaussian(n_out), rng=rng)
        found = fs.weight_norms(model)
        for layer, (weight, kernel) in enumerate(zip(model.weights, model.kernels, strict=True)):
            values = np.sqrt(np.maximum(np.linalg.eigvalsh(kernel @ kernel.T), 0))
            one = found.sel(layer=layer)
            np.testing.assert_allclose(one.frobenius, math.sqrt(sum(number**2 for number in kernel.ravel())), rtol=1e-14)
            np.testing.assert_allclose(one.spectral, values.max(), rtol=1e-12)
            np.testing.assert_allclose(one.nuclear, values.sum(), rtol=1e-7)
            np.testing.assert_allclose(one.stable_rank, (values**2).sum() / values.max() ** 2, rtol=1e-12)
            np.testing.assert_allclose(one.bias, math.sqrt(sum(number**2 for number in weight[:, -1])), rtol=1e-14)
            np.testing.assert_allclose(one.largest_row, max(math.sqrt((row**2).sum()) for row in kernel), rtol=1e-14)
        plain = naive.Network.named(model.weights, chosen)
        x = rng.normal(size=2)
        for norm in ("frobenius", "spectral"):
            first, _ = stated_bounds(model, plain, x, norm)
            states, _ = naive.forward(plain, x)
            size = [math.sqrt(1 + sum(value**2 for value in state)) for state in states[:-1]]
            np.testing.assert_allclose(found.derivative_factor.sel(norm=norm), np.array(first) / size, rtol=1e-12)
        np.testing.assert_array_equal(found.sup_first, [*(one.sup_first for one in model.activations), 1])
        np.testing.assert_array_equal(found.sup_second, [*(one.sup_second for one in model.activations), 0])


def test_a_kernel_of_zeros():
    model = fs.MLP([np.zeros((2, 3)), np.ones((1, 3))], activation="tanh", family=fs.families.Gaussian())
    found = fs.weight_norms(model)
    assert found.stable_rank.values[0] == 0
    bounds = fs.derivative_bounds(model, np.ones((1, 2)))
    assert all(np.isfinite(value).all() for name, value in bounds.items() if not name.endswith("ratio"))
    # At a = 0 the tanh does not bend: the exact block is 0, its bound is not.
    assert bounds.second_ratio.sel(norm="spectral").values[0, 0] == np.inf
