"""Sums over inputs of (number per unit) x (power of the layer input), against their definition."""

from __future__ import annotations

import numpy as np
import pytest

from fisherstats.theory import assembly

SHAPES = [(5, 450), (3, 6), (2, 4)]
EXPONENTS = {
    "one": [2],
    "the same power": [4, 4, 4],
    "two powers": [2, 2, 4, 4],
    "powers in turns": [2, 4, 2, 4],
}


def blocks(exponents, zero, dtype, sizes=(7, 3, 6)):
    """Return, for each block, factors per layer with their power, None where `zero` (quantity, layer) says so, and the inputs."""
    rng = np.random.default_rng(0)
    found = []
    for n in sizes:
        inputs = [rng.normal(size=(n, n_in)).astype(dtype) for _, n_in in SHAPES]
        factors: list[list[np.ndarray | None]] = [
            [rng.normal(size=(n, n_out)).astype(dtype) for n_out, _ in SHAPES] for _ in exponents
        ]
        for number, layer in zero:
            if number < len(factors):
                factors[number][layer] = None
        found.append((list(zip(factors, exponents, strict=True)), inputs))
    return found


def by_definition(parts, n_quantities):
    expected = np.zeros((n_quantities, sum(n_out * n_in for n_out, n_in in SHAPES)))
    for quantities, inputs in parts:
        for number, (factors, exponent) in enumerate(quantities):
            layers = [
                np.zeros(n_out * n_in) if f is None else np.einsum("no,nd->od", f, h.astype(float) ** exponent).ravel()
                for f, h, (n_out, n_in) in zip(factors, inputs, SHAPES, strict=True)
            ]
            expected[number] += np.concatenate(layers)
    return expected


def summed(parts, group):
    """Return the means over inputs by way of groups of blocks."""
    total = assembly.DiagonalSum(SHAPES)
    for start in range(0, len(parts), group):
        for task in total.tasks(parts[start : start + group], False):
            task()
    total.close()
    (sums,) = total.totals
    return sums / sum(len(inputs[0]) for _, inputs in parts)


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("zero", [(), ((1, 0),), ((0, 0), (0, 1), (0, 2)), ((0, 2), (1, 2), (2, 2), (3, 2))])
@pytest.mark.parametrize("name", EXPONENTS)
def test_sums_of_several_quantities(name, zero, group):
    parts = blocks(EXPONENTS[name], zero, np.float64)
    n = sum(len(inputs[0]) for _, inputs in parts)
    expected = by_definition(parts, len(EXPONENTS[name])) / n
    found = summed(parts, group)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())
    for number, layer in zero:
        if number < len(found):
            end = np.cumsum([n_out * n_in for n_out, n_in in SHAPES])[layer]
            assert not found[number, end - np.prod(SHAPES[layer]) : end].any()


@pytest.mark.parametrize("name", EXPONENTS)
def test_sums_of_a_block_by_itself(name):
    parts = blocks(EXPONENTS[name], ((0, 1),), np.float64, (9,))
    total = assembly.DiagonalSum(SHAPES)
    (sums,) = total.of_block(*parts[0])
    np.testing.assert_array_equal(sums / 9, summed(parts, 1))


def test_a_power_past_the_range_of_float32_does_not_spoil_what_is_summed_beside_it():
    parts = blocks([4, 4], (), np.float32)
    for quantities, inputs in parts:
        inputs[0] *= 1e12  # its fourth power is past 3e38
        for factors, _ in quantities:
            factors[0] *= 1e-30
    expected = by_definition(parts, 2) / 16
    assert np.isfinite(expected).all()
    with np.errstate(over="ignore", invalid="ignore"):
        found = summed(parts, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("numbers", [1, 7, 60, 2**16])
def test_moments_over_inputs_in_tiles(numbers, monkeypatch):
    rng = np.random.default_rng(0)
    factors, inputs = [rng.normal(size=(9, 4)), rng.normal(size=(9, 1))], [rng.normal(size=(9, 5)), rng.normal(size=(9, 3))]
    values = [(f[:, :, None] * np.square(h)[:, None, :]).reshape(9, -1) for f, h in zip(factors, inputs, strict=True)]
    monkeypatch.setattr(assembly, "_CACHED", numbers)
    n, mean, deviations = assembly.moments_over_inputs(factors, inputs, 2)
    whole = np.concatenate(values, axis=1)
    np.testing.assert_array_equal(n, [9])
    np.testing.assert_allclose(mean, whole.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(deviations, np.square(whole - whole.mean(axis=0)).sum(axis=0), rtol=1e-14)
