"""Activations against textbook formulas in fifty digits, their suprema and their kinks."""

from __future__ import annotations

import hashlib
import itertools
import pickle
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from fisherstats.models.activations import (
    CELU,
    ELU,
    NAMES,
    Activation,
    HardTanh,
    LeakyReLU,
    SmoothedReLU,
    Softplus,
    get,
)
from fisherstats.models.families import Gaussian
from fisherstats.models.network import MLP
from tests.activation_oracles import DIGITS, DTYPES, ORACLES, errors_in_tolerances, grid

EXPECTED_NAMES = (
    *("tanh", "sigmoid", "softplus", "log_sigmoid", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "mish"),
    *("erf", "arctan", "softsign", "sin", "hard_tanh", "identity"),
    *("gelu_tanh", "relu6", "hard_sigmoid", "hard_swish", "celu"),
)


@pytest.mark.parametrize("name", NAMES)
def test_oracle_derivatives_are_derivatives(name):
    value, first, second = ORACLES[name]
    with mp.workdps(DIGITS):
        for x in map(mpf, ("-37.1", "-3.3", "-1.2", "-0.4", "0.3", "0.9", "2.1", "5.7")):
            assert mp.almosteq(mp.diff(value, x), first(x), rel_eps=mpf("1e-20"), abs_eps=mpf("1e-35"))
            assert mp.almosteq(mp.diff(first, x), second(x), rel_eps=mpf("1e-20"), abs_eps=mpf("1e-35"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_value_slope_and_curvature_to_eight_roundings(name, dtype):
    a = grid(name, dtype)
    before = a.copy()
    results = get(name).evaluate(a, 2)
    assert np.array_equal(a, before)
    for order, computed in enumerate(results):
        assert computed.dtype == dtype
        assert computed.shape == a.shape
        ratios = errors_in_tolerances(ORACLES[name], order, a, computed)
        worst = int(np.argmax(ratios))
        assert ratios[worst] <= 1, f"order {order}: {ratios[worst]:.2f} tolerances at {a[worst]!r}"


def test_the_measure_of_error_sees_a_cancelled_tail():
    a = np.linspace(10, 15, 11)
    cancelled = 1 - np.tanh(a) ** 2
    assert errors_in_tolerances(ORACLES["tanh"], 1, a, cancelled).max() > 100


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_finite_and_silent_at_the_largest_and_smallest_numbers(name, dtype):
    numbers = np.finfo(dtype)
    largest = numbers.max if name != "selu" else numbers.max / 2  # selu itself exceeds its argument there
    magnitudes = np.array([largest, largest**0.5 * 2, 1e30, numbers.tiny, numbers.smallest_subnormal], dtype)
    a = np.concatenate([magnitudes, -magnitudes])
    with np.errstate(all="raise"):
        results = get(name).evaluate(a, 2)
    assert all(np.isfinite(result).all() for result in results)


@pytest.mark.parametrize("name", NAMES)
def test_lower_orders_are_the_same_numbers(name):
    activation = get(name)
    a = np.linspace(-6, 6, 60).reshape(3, 4, 5)
    full = activation.evaluate(a, 2)
    for order in (0, 1):
        lower = activation.evaluate(a, order)
        assert len(lower) == order + 1
        assert all(np.array_equal(one, other) for one, other in zip(lower, full, strict=False))
    for one, other in zip((activation.value(a), activation.first(a), activation.second(a)), full, strict=True):
        assert np.array_equal(one, other)
    assert not any(np.shares_memory(result, a) for result in full)
    assert not any(np.shares_memory(one, other) for one, other in itertools.combinations(full, 2))


def supremum(function: Callable[[Any], Any], at: float, width: float) -> Any:
    """Largest |function| near a grid maximum, by ternary search in thirty digits."""
    with mp.workdps(30):
        low, high = mpf(at) - width, mpf(at) + width
        for _ in range(80):
            third = (high - low) / 3
            if abs(function(low + third)) < abs(function(high - third)):
                low += third
            else:
                high -= third
        return max(abs(function(point)) for point in (mpf(at), low, high))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_suprema_are_least_upper_bounds(name, order):
    activation = get(name)
    bound = (activation.sup_first, activation.sup_second)[order - 1]
    a, step = np.linspace(-50, 50, 200_001, retstep=True)
    a = np.concatenate([a, activation.kinks])
    size = np.abs(activation.evaluate(a, order)[order])
    assert size.max() <= bound * (1 + 1e-15)
    assert size.max() >= bound - 1e-6
    # The bound itself, in exact arithmetic: never below the supremum and no more than two roundings above it.
    exact = supremum(ORACLES[name][order], float(a[np.argmax(size)]), step)
    assert mpf(bound) >= exact * (1 - mpf("1e-27"))
    assert mpf(bound) <= exact * (1 + 2 * mpf(2) ** -52)


@pytest.mark.parametrize("name", NAMES)
def test_smoothness_agrees_with_the_limits_on_both_sides(name):
    activation = get(name)
    beside = mpf("1e-40")
    with mp.workdps(60):
        for kink in activation.kinks:
            jumps = [abs(function(kink + beside) - function(kink - beside)) > 1e-20 for function in ORACLES[name]]
            assert not jumps[0]
            assert jumps[1] == (activation.smoothness == "C0")
            assert any(jumps)
            if activation.smoothness == "C1":
                assert jumps[2]


@pytest.mark.parametrize("name", [name for name in NAMES if get(name).smoothness != "C0"])
def test_the_slope_is_continuous(name):
    a, step = np.linspace(-12, 12, 240_001, retstep=True)
    activation = get(name)
    value, first = activation.evaluate(a, 1)
    assert np.abs(np.diff(value)).max() <= activation.sup_first * step + 1e-14
    assert np.abs(np.diff(first)).max() <= activation.sup_second * step + 1e-14


@pytest.mark.parametrize("name", [name for name in NAMES if not get(name).kinks])
def test_the_curvature_is_continuous_without_kinks(name):
    a, step = np.linspace(-12, 12, 240_001, retstep=True)
    # No third derivative among these activations exceeds 3 (erf at 0: 4 / sqrt pi = 2.26).
    assert np.abs(np.diff(get(name).second(a))).max() <= 3 * step


@pytest.mark.parametrize(
    ("name", "point", "slope", "curvature"),
    [
        ("relu", 0.0, 0.0, 0.0),
        ("relu", -0.0, 0.0, 0.0),
        ("leaky_relu", 0.0, 0.01, 0.0),
        ("elu", 0.0, 1.0, 1.0),
        ("softsign", 0.0, 1.0, 2.0),
        ("softsign", -0.0, 1.0, 2.0),
        ("hard_tanh", -1.0, 0.0, 0.0),
        ("hard_tanh", 1.0, 1.0, 0.0),
        ("relu6", 0.0, 0.0, 0.0),
        ("relu6", 6.0, 1.0, 0.0),
        ("hard_sigmoid", -3.0, 0.0, 0.0),
        ("hard_sigmoid", 3.0, 1 / 6, 0.0),
        ("hard_swish", -3.0, 0.0, 0.0),
        ("hard_swish", 3.0, 1.5, 1 / 3),
        ("celu", 0.0, 1.0, 1.0),
    ],
)
def test_slope_and_curvature_from_the_left_at_a_kink(name, point, slope, curvature):
    activation = get(name)
    assert point in activation.kinks
    _, first, second = activation.evaluate(np.array([point]), 2)
    assert (first[0], second[0]) == (slope, curvature)


def test_kinks_and_smoothness_of_all():
    kinked = {name: (get(name).kinks, get(name).smoothness) for name in NAMES if get(name).kinks}
    assert kinked == {
        "relu": ((0.0,), "C0"),
        "leaky_relu": ((0.0,), "C0"),
        "selu": ((0.0,), "C0"),
        "hard_tanh": ((-1.0, 1.0), "C0"),
        "relu6": ((0.0, 6.0), "C0"),
        "hard_sigmoid": ((-3.0, 3.0), "C0"),
        "hard_swish": ((-3.0, 3.0), "C0"),
        "celu": ((0.0,), "C1"),
        "elu": ((0.0,), "C1"),
        "softsign": ((0.0,), "C1"),
    }
    assert {get(name).smoothness for name in NAMES if name not in kinked} == {"smooth"}


@pytest.mark.parametrize("name", NAMES)
def test_piecewise_linear_means_exact_zeros(name):
    activation = get(name)
    assert activation.piecewise_linear == (name in {"relu", "leaky_relu", "hard_tanh", "identity", "relu6", "hard_sigmoid"})
    curvature = activation.second(np.linspace(-3, 3, 61))
    assert activation.piecewise_linear == (not curvature.any())


def test_names_are_complete():
    assert sorted(NAMES) == sorted(EXPECTED_NAMES)
    assert set(ORACLES) == set(NAMES)
    assert all(get(name).name == name for name in NAMES)


@pytest.mark.parametrize(
    "activation",
    [*map(get, NAMES), LeakyReLU(0.2), ELU(0.5), CELU(0.5), HardTanh(0, 2), Softplus(2.0), SmoothedReLU(0.1, 2.0)],
    ids=repr,
)
def test_survives_pickling(activation):
    copy = pickle.loads(pickle.dumps(activation))
    assert copy == activation
    assert hash(copy) == hash(activation)
    assert type(copy) is type(activation)
    a = np.linspace(-2, 2, 9)
    assert np.array_equal(copy.second(a), activation.second(a))
    for other in (copy, deepcopy(activation), replace(activation) if type(activation) is Activation else activation):
        assert dict(other.parameters) == dict(activation.parameters)
        assert repr(other) == repr(activation)


def test_parameters_are_read_only():
    given = {"shift": 1.0}
    activation = own(parameters=given)
    given["shift"] = 2.0
    assert activation.parameters["shift"] == 1.0
    for one in (activation, LeakyReLU(0.2), pickle.loads(pickle.dumps(ELU(0.5)))):
        with pytest.raises(TypeError, match="does not support item assignment"):
            one.parameters["slope"] = 3.0
    with pytest.raises(AttributeError, match="cannot assign"):
        activation.parameters = {}


def test_a_fingerprint_is_that_of_the_plain_numbers():
    """A golden digest: results of earlier versions name their model by it."""
    weights = [np.ones((1, 2)), np.ones((1, 2))]
    digest = hashlib.sha256()
    for matrix in weights:
        digest.update(repr(((1, 2), "<f8")).encode() + matrix.tobytes())
    digest.update(b"[('leaky_relu', {'slope': 0.2})]{'name': 'gaussian', 'n_outputs': 1, 'covariance': 1.0}")
    model = MLP(weights, activation=LeakyReLU(0.2), family=Gaussian())
    assert model.fingerprint == digest.hexdigest() == pickle.loads(pickle.dumps(model)).fingerprint


def test_equality_sees_the_parameters():
    assert LeakyReLU(0.01) == get("leaky_relu")
    assert LeakyReLU(0.02) != get("leaky_relu")
    assert ELU(1) == get("elu")
    assert CELU() == get("celu")
    assert Softplus() == get("softplus") != Softplus(2.0)
    assert HardTanh(-1, 1) == get("hard_tanh") != HardTanh(-1, 2)
    assert repr(LeakyReLU(0.02)) == "<Activation leaky_relu(slope=0.02)>"


def test_objects_pass_through():
    own = Activation("cubic_free", get("sin").formula, sup_first=1.0, sup_second=1.0)
    assert get(own) is own


def test_scalar_arrays_keep_their_dtype():
    for name, dtype in itertools.product(NAMES, DTYPES):
        for result in get(name).evaluate(np.array(0.5, dtype), 2):
            assert (result.shape, result.dtype) == ((), dtype)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: get("geul"), ValueError, r"`activation` must be one of .* got 'geul'\. Did you mean 'gelu'\?"),
        (lambda: get(LeakyReLU), TypeError, r"Activation object such as LeakyReLU\(0\.2\), got .*; call the class"),
        (lambda: get("relu").evaluate(np.zeros(2), 3), ValueError, r"`order` must be 0, 1 or 2, .* got 3\."),
        (lambda: get("relu").evaluate(np.zeros(2), True), ValueError, r"`order` must be 0, 1 or 2, .* got True\."),
        (
            lambda: get("relu").value(np.zeros(2, int)),
            TypeError,
            r"`a` must be an array of float32 or float64, got dtype int64",
        ),
        (lambda: get("relu").value([0.0]), TypeError, r"`a` must be an array of float32 or float64, got \[0\.0\]"),
        (lambda: LeakyReLU(0), ValueError, r"`slope` must be a finite number above 0, got 0\."),
        (lambda: ELU(-1.0), ValueError, r"`alpha` must be a finite number above 0, got -1\.0\."),
        (lambda: CELU(0), ValueError, r"`alpha` must be a finite number above 0, got 0\."),
        (lambda: CELU(1e-320), ValueError, r"`sup_second` must be a finite bound of at least 0, got inf;"),
        (lambda: Softplus(-1), ValueError, r"`beta` must be a finite number above 0, got -1\."),
        (lambda: HardTanh(1, 1), ValueError, r"`lower` must be below `upper`, both finite numbers, got 1 and 1\."),
        (lambda: HardTanh(0, np.inf), ValueError, r"`lower` must be below `upper`, both finite numbers, got 0 and inf\."),
        (
            lambda: SmoothedReLU(1.0),
            ValueError,
            r"`iota` must be at least 0 and below 1, the slope on the right, got 1\.0\.",
        ),
        (lambda: SmoothedReLU(-0.1), ValueError, r"`iota` must be a finite number of at least 0, got -0\.1\."),
        (lambda: SmoothedReLU(0.1, 0), ValueError, r"`omega` must be a finite number above 0, got 0\."),
        (lambda: own(smoothness="C3"), ValueError, r"`smoothness` must be one of .* got 'C3'\."),
        (lambda: own(smoothness="C1"), ValueError, r"`kinks` must hold .* got kinks=\(\) with smoothness='C1'\."),
        (lambda: own(kinks=(0.0,)), ValueError, r"`kinks` must hold .* got kinks=\(0\.0,\) with smoothness='smooth'\."),
        (
            lambda: own(sup_first=float("inf")),
            ValueError,
            r"`sup_first` must be a finite bound of at least 0, got inf;",
        ),
        (lambda: own(sup_second=-1.0), ValueError, r"`sup_second` must be a finite bound of at least 0, got -1\.0;"),
        (
            lambda: own(piecewise_linear=True),
            ValueError,
            r"`sup_second` must be 0 for a piecewise linear .* got 1\.0\.",
        ),
    ],
)
def test_error_messages(call, error, message):
    with pytest.raises(error, match=message):
        call()


def own(**description: Any) -> Activation:
    return Activation("own", get("sin").formula, **({"sup_first": 1.0, "sup_second": 1.0} | description))
