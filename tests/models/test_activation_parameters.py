"""Activations with parameters against textbook formulas in fifty digits, and against those of torch where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
from mpmath import mp, mpf

from fisherstats.models.activations import CELU, ELU, HardTanh, LeakyReLU, SmoothedReLU, Softplus, get
from tests.activation_oracles import (
    DTYPES,
    clipped,
    continuous_exponential_linear,
    errors_in_tolerances,
    exponential_linear,
    grid,
    rectifier,
    soft_rectifier,
)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("activation", "slope_left", "oracle"),
    [
        (LeakyReLU(0.25), 0.25, rectifier(mpf("0.25"))),
        (LeakyReLU(3), 3.0, rectifier(mpf(3))),
        (ELU(0.25), 0.25, exponential_linear(mpf(1), mpf("0.25"))),
        (ELU(3), 3.0, exponential_linear(mpf(1), mpf(3))),
    ],
)
def test_parametrised(activation, slope_left, oracle, dtype):
    a = grid("elu", dtype)
    for order, computed in enumerate(activation.evaluate(a, 2)):
        assert computed.dtype == dtype
        assert errors_in_tolerances(oracle, order, a, computed).max() <= 1
    assert list(activation.parameters.values()) == [slope_left]
    assert activation.sup_first == max(1.0, slope_left)
    assert activation.sup_second == (slope_left if activation.name == "elu" else 0.0)
    assert activation.smoothness == "C0"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("activation", "oracle", "suprema", "parameters"),
    [
        (CELU(0.25), continuous_exponential_linear(mpf("0.25")), (1.0, 4.0), {"alpha": 0.25}),
        (CELU(3), continuous_exponential_linear(mpf(3)), (1.0, np.nextafter(1 / 3, 1)), {"alpha": 3.0}),
        (HardTanh(-0.5, 3), clipped(mpf("-0.5"), mpf(3)), (1.0, 0.0), {"lower": -0.5, "upper": 3.0}),
        (HardTanh(1, 2), clipped(mpf(1), mpf(2)), (1.0, 0.0), {"lower": 1.0, "upper": 2.0}),
        (Softplus(0.25), soft_rectifier(mpf("0.25")), (1.0, 0.0625), {"beta": 0.25}),
        (Softplus(8), soft_rectifier(mpf(8)), (1.0, 2.0), {"beta": 8.0}),
    ],
    ids=lambda one: one.name + "".join(f"-{value}" for value in one.parameters.values()) if hasattr(one, "parameters") else "",
)
def test_activations_with_parameters(activation, oracle, suprema, parameters, dtype):
    a = grid("elu", dtype)
    for order, computed in enumerate(activation.evaluate(a, 2)):
        assert computed.dtype == dtype
        assert errors_in_tolerances(oracle, order, a, computed).max() <= 1
        if order:
            assert np.abs(computed).max() <= suprema[order - 1] * (1 + np.finfo(dtype).eps)
            # The largest curvature is that at the kink or at 0, which are among the points.
            assert np.abs(computed).max() == pytest.approx(suprema[order - 1], rel=1e-6)
    assert (activation.sup_first, activation.sup_second) == suprema
    assert dict(activation.parameters) == parameters
    with np.errstate(all="raise"):
        assert np.isfinite(activation.evaluate(np.array([-1e306, 1e306]), 2)).all()


@pytest.mark.parametrize(
    ("activation", "kinks", "smoothness", "piecewise_linear"),
    [
        (CELU(0.5), (0.0,), "C1", False),
        (HardTanh(-2, 0.5), (-2.0, 0.5), "C0", True),
        (Softplus(3), (), "smooth", False),
    ],
)
def test_kinks_of_activations_with_parameters(activation, kinks, smoothness, piecewise_linear):
    assert (activation.kinks, activation.smoothness, activation.piecewise_linear) == (kinks, smoothness, piecewise_linear)
    beside = 1e-9
    for kink in kinks:
        left, right = (activation.evaluate(np.array([kink + side]), 2) for side in (-beside, beside))
        assert np.array_equal(np.round(activation.evaluate(np.array([kink]), 2), 7), np.round(left, 7))
        assert abs(left[0] - right[0]) <= 3 * beside
        assert (abs(left[1] - right[1]) > 0.1) == (smoothness == "C0")
        assert (abs(left[2] - right[2]) > 0.1) == (not piecewise_linear)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("iota", "omega"), [(0.0, 1.0), (0.25, 0.125), (0.5, 4.0)])
def test_smoothed_rectifier(iota, omega, dtype):
    activation = SmoothedReLU(iota, omega)

    def value(a):
        return max(a, iota * a) + omega * mp.log1p(mp.exp(-abs((1 - mpf(iota)) * a / omega)))

    def weight(a):
        return 1 / (1 + mp.exp(-(1 - mpf(iota)) * a / omega))

    oracle = (
        value,
        lambda a: iota + (1 - iota) * weight(a),
        lambda a: (1 - mpf(iota)) ** 2 / omega * weight(a) * weight(-a),
    )
    a = grid("softplus", dtype)
    for order, computed in enumerate(activation.evaluate(a, 2)):
        assert computed.dtype == dtype
        assert errors_in_tolerances(oracle, order, a, computed).max() <= 1
    gap = activation.value(a) - np.maximum(a, iota * a)
    assert gap.min() >= 0
    assert gap.max() == pytest.approx(omega * np.log(2), rel=1e-6)
    assert activation.second(np.zeros(1)) == activation.sup_second
    with np.errstate(all="raise"):
        assert np.isfinite(SmoothedReLU(iota, 1e-3).value(np.array([-1e306, 1e306]))).all()


@pytest.mark.parametrize(
    ("activation", "module"),
    [
        (get("gelu"), lambda nn: nn.GELU()),
        (get("gelu_tanh"), lambda nn: nn.GELU(approximate="tanh")),
        (get("relu6"), lambda nn: nn.ReLU6()),
        (get("hard_swish"), lambda nn: nn.Hardswish()),
        (get("hard_sigmoid"), lambda nn: nn.Hardsigmoid()),
        (get("celu"), lambda nn: nn.CELU()),
        (CELU(0.25), lambda nn: nn.CELU(0.25)),
        (ELU(0.25), lambda nn: nn.ELU(0.25)),
        (HardTanh(-2, 0.5), lambda nn: nn.Hardtanh(-2, 0.5)),
        (LeakyReLU(0.2), lambda nn: nn.LeakyReLU(0.2)),
        # torch takes the identity from beta * a = threshold on.
        (Softplus(3.0), lambda nn: nn.Softplus(3.0, threshold=700)),
        (get("silu"), lambda nn: nn.SiLU()),
        (get("mish"), lambda nn: nn.Mish()),
    ],
    ids=lambda one: repr(one) if hasattr(one, "parameters") else "",
)
def test_values_and_slopes_are_those_of_torch(activation, module):
    torch = pytest.importorskip("torch")
    # Beside the kinks: the conventions there differ.
    a = np.array([-40.3, -7.1, -3.2, -2.9, -1.7, -0.4, -1e-3, 1e-3, 0.3, 0.7, 1.9, 2.9, 3.1, 5.9, 6.1, 30.7])
    points = torch.tensor(a, requires_grad=True)
    values = module(torch.nn)(points)
    (slopes,) = torch.autograd.grad(values.sum(), points)
    found = activation.evaluate(a, 1)
    # torch loses the digits of a tail that decays, and has the sixth of the slope of Hardsigmoid in float32.
    np.testing.assert_allclose(found[0], values.detach().numpy(), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(found[1], slopes.numpy(), rtol=1e-13 if activation.name != "hard_sigmoid" else 1e-7, atol=1e-14)


@pytest.mark.parametrize("name", ["gelu_tanh", "softplus", "silu"])
def test_slopes_by_a_complex_step(name):
    """For analytic activations the imaginary part of the value beside the real line is the slope times the step."""
    value = {
        "gelu_tanh": lambda z: z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))) / 2,
        "softplus": lambda z: np.log(1 + np.exp(z)),
        "silu": lambda z: z / (1 + np.exp(-z)),
    }[name]
    a = np.linspace(-4, 4, 33)
    found = get(name).evaluate(a, 1)
    stepped = value(a + 1e-30j)
    np.testing.assert_allclose(found[0], stepped.real, rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(found[1], stepped.imag / 1e-30, rtol=1e-10, atol=1e-14)
