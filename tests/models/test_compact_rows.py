"""The short root of the softmax information and of its estimates, against exact fractions."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import numpy as np
import pytest

import fisherstats as fs
from fisherstats.engines import numba_kernels, primitives
from fisherstats.models.families.categorical import CategoricalLaw, DrawnClasses, WeightedClasses

LOGITS = {
    "even": [0.0, 0.0, 0.0, 0.0],
    "last class certain": [-300.0, -100.0, -30.0, 0.0],
    "first class certain": [0.0, -30.0, -100.0, -300.0],
    "middle class certain": [-40.0, 0.0, -35.0, -200.0],
    "two classes of five": [-50.0, 0.0, -1.0, -60.0, -700.0],
    "one class cannot be": [0.0, -800.0, -1.0],
}
WEIGHTS = {"of the law": None, "one class drawn": 1, "all drawn": 7, "fewer drawn": 2}


@pytest.fixture(params=[primitives, numba_kernels], ids=["primitives", "kernels"])
def contractions(request):
    return request.param


def exact_square(weights, p, u):
    """Return sum_k w_k ((e_k - p).u)^2 of one input and column in exact arithmetic."""
    weights, p, u = ([Fraction(float(one)) for one in values] for values in (weights, p, u))
    mean = sum((p_k * u_k for p_k, u_k in zip(p, u, strict=True)), Fraction(0)) / sum(p)
    return float(sum(w_k * (u_k - mean) ** 2 for w_k, u_k in zip(weights, u, strict=True)))


def moment(law, kind):
    """Return the second moment under the law, or under weights as the draws give them."""
    if kind is None:
        return law, law.p
    counts = np.zeros_like(law.p)
    if kind == 2:  # the most probable class twice in some inputs, two others else
        first, second = np.argsort(law.p, axis=1)[:, [-1, 0]].T
        counts[np.arange(len(counts)), first] += 1
        counts[np.arange(len(counts)), np.where(np.arange(len(counts)) % 2, first, second)] += 1
        return DrawnClasses.of(law, counts / 2, 2), counts / 2
    if kind == 1:
        counts[np.arange(len(counts)), law.p.argmax(axis=1)] = 5
    else:
        counts += np.arange(1, counts.shape[1] + 1)
    weights = counts / counts.sum(axis=1, keepdims=True)
    return WeightedClasses(law, weights, weights - law.p), weights


@pytest.mark.parametrize("kind", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("logits", LOGITS.values(), ids=LOGITS)
def test_squares_and_rows_keep_their_relative_accuracy(contractions, logits, kind):
    law = CategoricalLaw(np.array([logits]), minimal=False)
    law.contractions = contractions
    second, weights = moment(law, kind)
    # What happens to the most probable class is only ever seen as differences from it.
    u = np.random.default_rng(0).integers(-9, 10, size=(1, len(logits), 6)).astype(float)
    wanted = np.array([exact_square(weights[0], law.p[0], u[0, :, column]) for column in range(6)])
    rows = second.compact_rows(u)
    assert rows.shape[1] == (2 if kind == 2 else len(logits) - (kind is None))
    scale = np.random.default_rng(1).integers(1, 9, size=(1, 6)) * 0.25
    scaled, squares = second.scaled_rows(u, scale)
    np.testing.assert_allclose(scaled, rows * scale, rtol=1e-15)
    for found in (second.diagonal(u)[0], np.square(rows).sum(axis=1)[0], squares[0] / scale[0] ** 2):
        np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-300)


@pytest.mark.parametrize("kind", WEIGHTS.values(), ids=WEIGHTS)
def test_products_of_rows_are_covariances(contractions, kind):
    rng = np.random.default_rng(1)
    law = CategoricalLaw(rng.normal(size=(5, 4)), minimal=False)
    law.contractions = contractions
    second, weights = moment(law, kind)
    u = rng.normal(size=(5, 4, 3))
    centred = u - np.einsum("nk,nkc->nc", law.p, u)[:, None]
    rows = second.compact_rows(u)
    wanted = np.einsum("nk,nkc,nkd->ncd", weights, centred, centred)
    np.testing.assert_allclose(np.matmul(rows.swapaxes(1, 2), rows), wanted, rtol=0, atol=1e-14)
    # The rows of directions that all inputs share are the same as those of one copy for each.
    shared = np.broadcast_to(u[:1], u.shape)
    np.testing.assert_array_equal(second.compact_rows(shared), second.compact_rows(shared.copy()))
    np.testing.assert_allclose(second.compact_rows(u[:, :-1] - u[:, -1:]), rows, rtol=0, atol=1e-14)


@pytest.mark.parametrize("minimal", [False, True])
@pytest.mark.parametrize("kind", WEIGHTS.values(), ids=WEIGHTS)
def test_what_is_at_the_outputs_themselves(contractions, kind, minimal):
    law = CategoricalLaw(np.random.default_rng(2).normal(size=(6, 4 - minimal)), minimal)
    law.contractions = contractions
    second, weights = moment(law, kind)
    residuals = np.eye(4) - law.p[:, None]
    wanted = np.einsum("nk,nka,nkb->nab", weights, residuals, residuals)[:, : 4 - minimal, : 4 - minimal]
    rows = second.own_rows()
    np.testing.assert_allclose(np.matmul(rows.swapaxes(1, 2), rows), wanted, rtol=0, atol=1e-14)
    np.testing.assert_allclose(second.own_diagonal(), np.diagonal(wanted, axis1=1, axis2=2), rtol=1e-13)


def test_a_class_that_is_nearly_certain_keeps_its_digits_at_the_outputs(contractions):
    law = CategoricalLaw(np.array([[0.0, -60.0, -70.0]]), minimal=False)
    law.contractions = contractions
    others = np.exp(-60) + np.exp(-70)
    np.testing.assert_allclose(law.own_diagonal(), [[others, np.exp(-60), np.exp(-70)]], rtol=1e-13)
    drawn = DrawnClasses.of(law, np.array([[1.0, 0, 0]]), 1)
    np.testing.assert_allclose(drawn.own_rows(), [[[others, -np.exp(-60), -np.exp(-70)]]], rtol=1e-13)


@pytest.mark.parametrize("engine", ["numpy", "numba"])
@pytest.mark.parametrize("view", ["diagonal", "full"])
@pytest.mark.parametrize("spread", [0, 2.0**-40, 1e-6])
@pytest.mark.parametrize("n_classes", [3, 5, 66])
def test_live_classes_that_nearly_coincide_beside_a_dead_one(n_classes, spread, view, engine):
    rng = np.random.default_rng(n_classes)
    last = np.zeros((n_classes, 5))
    last[:-1, :4] = rng.normal(size=4) + spread * rng.normal(size=(n_classes - 1, 4))
    last[-1, 4] = -80
    model = fs.MLP([rng.normal(size=(4, 3)), last], activation="tanh", family=fs.families.Categorical(n_classes))
    found = fs.fisher_information(model, [[0.3, -0.5]], view=view, engine=engine).values
    found = (found if view == "diagonal" else np.diagonal(found))[:12]

    with mpmath.workdps(60):
        x = mpmath.matrix([0.3, -0.5, 1])
        h = [mpmath.tanh(a) for a in mpmath.matrix(model.weights[0].tolist()) * x]
        odds = [mpmath.exp(logit) for logit in mpmath.matrix(last.tolist()) * mpmath.matrix([*h, 1])]
        p = [one / mpmath.fsum(odds) for one in odds]
        expected = []
        for unit in range(4):
            mean = mpmath.fdot(p, last[:, unit])
            variance = mpmath.fsum(q * (mpmath.mpf(w) - mean) ** 2 for q, w in zip(p, last[:, unit], strict=True))
            expected += [float(variance * (1 - h[unit] ** 2) ** 2 * one**2) for one in x]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
