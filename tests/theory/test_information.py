"""Exact information in every view, of outputs and of hidden states, against sums over all labels."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from tests import naive
from tests.theory.cases import CASES, Case, assert_close, per_case


def mean_information(case: Case) -> np.ndarray:
    return sum(law.information for law in case.laws) / case.n_inputs


@per_case()
def test_diagonal(case):
    assert_close(fs.fisher_information(case.model, case.x), case.information.mean(axis=0), rtol=1e-12)


@per_case()
def test_full(case):
    result = fs.fisher_information(case.model, case.x, view="full")
    assert result.dims == ("param", "param2")
    assert_close(result, mean_information(case), rtol=1e-11)


@per_case()
def test_block(case):
    tree = fs.fisher_information(case.model, case.x, view="block")
    expected, places = mean_information(case), naive.parameters(case.network)
    assert list(tree.children) == [f"layer_{layer}" for layer in range(case.n_layers)]
    for layer in range(case.n_layers):
        members = [index for index, place in enumerate(places) if place.layer == layer]
        block = tree[f"layer_{layer}"]["information"]
        assert block["param"].values.tolist() == members
        assert_close(block, expected[np.ix_(members, members)], rtol=1e-11)


@per_case()
def test_per_input(case):
    diagonal = fs.fisher_information(case.model, case.x, per_input=True)
    full = fs.fisher_information(case.model, case.x, view="full", per_input=True)
    tree = fs.fisher_information(case.model, case.x, view="block", per_input=True)
    assert diagonal.dims == ("input", "param")
    assert full.dims == ("input", "param", "param2")
    expected = np.array([law.information for law in case.laws])
    assert_close(diagonal, case.information, rtol=1e-12)
    assert_close(full, expected, rtol=1e-11)
    for child in tree.children.values():
        members = child["param"].values
        assert_close(child["information"], expected[:, members[:, None], members], rtol=1e-11)


@per_case(CASES[::4])
@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_engines(case, engine):
    found = fs.fisher_information(case.model, case.x, view="full", engine=engine)
    assert_close(found, mean_information(case), rtol=1e-11)
    assert_close(fs.fisher_information(case.model, case.x, engine=engine), np.diag(mean_information(case)), rtol=1e-12)


@per_case(CASES[::3])
def test_parameter_coordinates(case):
    result = fs.fisher_information(case.model, case.x)
    places = naive.parameters(case.network)
    assert result["param"].values.tolist() == list(range(len(places)))
    assert result["param_layer"].values.tolist() == [place.layer for place in places]
    assert result["param_unit_out"].values.tolist() == [place.unit_out for place in places]
    assert result["param_unit_in"].values.tolist() == [place.unit_in for place in places]
    kinds = ["bias" if place.unit_in == -1 else "weight" for place in places]
    assert result["param_kind"].values.tolist() == kinds


@per_case()
def test_operator(case):
    operator = fs.fisher_operator(case.model, case.x)
    expected = mean_information(case)
    rng = np.random.default_rng(case.seed)
    vector, block = rng.normal(size=len(expected)), rng.normal(size=(len(expected), 3))
    assert operator.shape == expected.shape
    scale = float(np.max(np.abs(expected) @ np.abs(vector)))
    assert_close(operator @ vector, expected @ vector, scale=scale)
    assert_close(operator.rmatvec(vector), expected @ vector, scale=scale)
    assert_close(operator @ block, expected @ block, scale=float(np.max(np.abs(expected) @ np.abs(block))))


@per_case()
def test_output_information(case):
    result = fs.output_information(case.model, case.x)
    assert result.dims == ("input", "output", "output2")
    expected = np.array([naive.natural_information(law.deltas, law.probabilities) for law in case.laws])
    assert_close(result, expected, rtol=1e-12)


@per_case()
def test_hidden_information(case):
    for layer in range(case.n_layers + 1):
        result = fs.hidden_information(case.model, case.x, layer=layer)
        assert result.dims == ("input", "unit", "unit2")
        expected = np.array([naive.hidden_information(*case.setting, x, layer)[0] for x in case.x])
        assert_close(result, expected, rtol=1e-11)


@per_case()
def test_hidden_information_obeys_the_backward_recursion(case):
    recursive = [naive.backward_information(*case.setting, x) for x in case.x]
    for layer in range(case.n_layers + 1):
        expected = np.array([informations[layer] for informations in recursive])
        assert_close(fs.hidden_information(case.model, case.x, layer=layer), expected, rtol=1e-11)


def test_left_slope_at_a_kink():
    """At a pre-activation that is exactly zero relu has slope zero, so nothing below it carries information."""
    weights = [np.array([[1.0, -1.0, 0.0], [0.5, 0.25, 0.5]]), np.array([[1.0, -2.0, 0.3]])]
    x = np.array([[1.0, 1.0], [2.0, 1.0]])
    model = fs.MLP(weights, activation="relu", family=fs.families.Bernoulli(1))
    laws = naive.input_laws(naive.Network.named(weights, ["relu"]), "bernoulli", {}, x)
    found = fs.fisher_information(model, x, view="full", per_input=True)
    assert_close(found, np.array([law.information for law in laws]), rtol=1e-11)
    np.testing.assert_array_equal(np.diagonal(found[0])[:3], 0.0)
