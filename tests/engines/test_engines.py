"""Every kernel against its definition, and the choice of engine."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence

import numpy as np
import pytest

import fisherstats as fs
from fisherstats import engines
from fisherstats.engines import numba_kernels, primitives

KERNELS = numba_kernels.__all__


def arguments(name: str, n: int, classes: int, columns: int, dtype: type, concentration: float) -> list[np.ndarray]:
    rng = np.random.default_rng([n, classes, columns])
    shift = rng.normal(size=(n, classes))
    shift -= shift.mean(axis=1, keepdims=True)  # a constant added to the columns moves nothing
    made = {
        "p": rng.dirichlet(np.full(classes, concentration), n),
        "w": rng.multinomial(7, np.full(classes, 1 / classes), n) / 7,
        "u": rng.normal(size=(n, classes, columns)),
        "s": rng.normal(size=(n, classes, columns)),
        "kernel": rng.normal(size=(columns, classes)),
        "slopes": rng.random((n, classes)),
        "chain": rng.normal(size=(n if concentration == 1.0 else 1, classes, columns + 1)),
        "above": rng.normal(size=(n, 2, columns)),
        "scale": rng.random((n, columns + 1)),
        "rows": rng.normal(size=(n, 2, columns)),
        "goes_on": n > 1,
        "shift": shift[: n if concentration == 1.0 else 0],
        "scales": [rng.normal(size=(n, classes)) for _ in range(2)],
        "diagonals": rng.normal(size=(n, columns)),
        "uniforms": rng.random((n, columns)),
        "counts": rng.multinomial(7, np.full(classes, 1 / classes), n),
        "n_draws": 7,
        "logits": rng.normal(scale=1 / concentration, size=(n, classes)),
        "classes": rng.integers(0, classes, (n, 2)),
        "roots": rng.random((n, 2)),
    }
    words = inspect.signature(getattr(primitives, name)).parameters
    return [each(made[word], lambda one: one if one.dtype.kind == "i" else one.astype(dtype)) for word in words]


def each(given, function):
    if isinstance(given, list):
        return [function(one) for one in given]
    return function(given) if isinstance(given, np.ndarray) else given


def of(module, name: str, given: list[np.ndarray]) -> Sequence[np.ndarray]:
    result = getattr(module, name)(*given)
    return result if isinstance(result, tuple | list) else (result,)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("n", "classes", "columns"), [(1, 2, 1), (3, 10, 7), (16, 3, 40), (2, 70, 3)])
@pytest.mark.parametrize("concentration", [1.0, 0.02])
@pytest.mark.parametrize("differences", [False, True])
def test_kernel_equals_its_definition(name, dtype, n, classes, columns, concentration, differences):
    given = arguments(name, n, classes, columns, dtype, concentration)
    expected = of(primitives, name, given)
    if differences and {"p", "w"} & set(inspect.signature(getattr(primitives, name)).parameters):
        given = [one[:, :-1] - one[:, -1:] if np.ndim(one) == 3 else one for one in given]
    scales = of(primitives, name, [each(one, np.abs) for one in given])
    for found, wanted, scale in zip(of(numba_kernels, name, given), expected, scales, strict=True):
        assert found.dtype == dtype
        size = max(1.0, np.abs(wanted).max(initial=0), np.abs(scale).max(initial=0))
        np.testing.assert_allclose(found, wanted, rtol=0, atol=64 * np.finfo(dtype).eps * size)
    for found, wanted in zip(of(primitives, name, given), expected, strict=True):
        np.testing.assert_allclose(
            found, wanted, rtol=0, atol=256 * np.finfo(dtype).eps * max(1.0, np.abs(wanted).max(initial=0))
        )


@pytest.mark.parametrize("name", KERNELS)
def test_kernel_takes_any_memory_layout(name):
    given = arguments(name, 4, 5, 6, np.float64, 1.0)
    other = [each(one, np.asfortranarray) for one in given]
    for found, wanted in zip(of(numba_kernels, name, other), of(numba_kernels, name, given), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", [name for name in KERNELS if "u" in inspect.signature(getattr(primitives, name)).parameters])
def test_kernel_takes_directions_that_all_inputs_share(name):
    given = arguments(name, 4, 5, 6, np.float64, 1.0)
    shared = [np.broadcast_to(one[:1], one.shape) if np.ndim(one) == 3 else one for one in given]
    for found, wanted in zip(of(numba_kernels, name, shared), of(numba_kernels, name, each(shared, np.copy)), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_every_kernel_has_a_definition_with_the_same_arguments():
    for name in KERNELS:
        assert list(inspect.signature(getattr(primitives, name)).parameters) == list(
            inspect.signature(getattr(numba_kernels, name)).parameters
        )


@pytest.mark.parametrize(
    ("family", "asked", "ran"),
    [
        (fs.families.Categorical(3), None, "numba"),
        (fs.families.Categorical(3), "numpy", "numpy"),
        (fs.families.Categorical(3), "numba", "numba"),
        (fs.families.Poisson(3), None, "numba"),
        (fs.families.Poisson(3), "numpy", "numpy"),
    ],
)
def test_what_ran_is_written_on_the_result(family, asked, ran):
    model = fs.MLP.random([2, 4, 3], activation="tanh", family=family, rng=0)
    x = np.random.default_rng(0).normal(size=(5, 2))
    result = fs.fisher_information(model, x, engine=asked)
    assert json.loads(result.attrs["provenance"])["engine"] == ran
    assert fs.explain(model, engine=asked).startswith(f"Engine: {ran}.")


def test_engines_agree_through_the_public_face():
    model = fs.MLP.random([3, 5, 4, 4], activation="softplus", family=fs.families.Categorical(4), rng=0)
    x = np.random.default_rng(0).normal(size=(40, 3))
    for call in (
        lambda engine: fs.fisher_information(model, x, engine=engine),
        lambda engine: fs.estimate_fisher(model, x, estimator=("score", "hessian"), n_draws=4, rng=0, engine=engine),
        lambda engine: fs.estimator_variance(model, x, engine=engine).variance,
        lambda engine: fs.estimator_variance(model, x, engine=engine).cross_covariance,
        lambda engine: fs.variance_bounds(model, x, engine=engine).upper,
    ):
        np.testing.assert_allclose(call("numba"), call("numpy"), rtol=1e-11, atol=1e-18)


def test_cupy_is_refused_with_the_reason():
    model = fs.MLP.random([2, 3], activation=[], family=fs.families.Categorical(3), rng=0)
    with pytest.raises(fs.EngineUnavailable, match=r"`engine='cupy'` is not available: .+\. Use engine=None"):
        fs.fisher_information(model, np.zeros((1, 2)), engine="cupy")


def test_unknown_engine_is_refused_with_a_suggestion():
    with pytest.raises(ValueError, match="Did you mean 'numba'"):
        engines.resolve("nubma")
