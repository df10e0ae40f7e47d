"""External networks: the numbers of a perceptron given by factors or Jacobians, under every driver, and what is refused."""

from __future__ import annotations

import inspect
import re

import dask.array
import numpy as np
import pytest
import xarray as xr

import fisherstats as fs
from fisherstats.models import derivatives
from tests.core.validation import test_fuzz

N_INPUTS = 300
F = fs.families


def external(model: fs.MLP, factored: tuple[bool, ...]) -> fs.ExternalNetwork:
    """Return the network as a function that evaluates it, each layer by its factors or by its Jacobian."""

    def evaluate(x):
        forward = derivatives.forward(model, x, 2)
        G, S = derivatives.jacobians_and_curvatures(model, forward)
        parts, curvatures = [], []
        for by_factors, G_l, S_l, h_bar in zip(factored, G, S, forward.inputs, strict=True):
            parts.append((G_l, h_bar) if by_factors else G_l[..., None] * h_bar[:, None, None, :])
            curved = S_l if by_factors or S_l is None else S_l[..., None] * np.square(h_bar)[:, None, None, :]
            curvatures.append(curved)
        return forward.natural, parts, curvatures

    layers = [
        fs.Layer(f"layer{place}", shape, one) for place, (shape, one) in enumerate(zip(model.shapes, factored, strict=True))
    ]
    return fs.ExternalNetwork(evaluate, family=model.family, layers=layers)


MODELS = {
    "categorical": fs.MLP.random([5, 7, 4, 3], activation="tanh", family=F.Categorical(3), rng=0),
    "gaussian": fs.MLP.random([5, 6, 2], activation="softplus", family=F.Gaussian(2), rng=1),
    "linked": fs.MLP.random([5, 4, 1], activation="gelu", family=F.Gamma(2.0), rng=2),
    "poisson": fs.MLP.random([5, 1], activation=[], family=F.Poisson(), rng=3),
}
LABELS = {
    "categorical": np.random.default_rng(5).integers(0, 3, N_INPUTS),
    "gaussian": np.random.default_rng(5).normal(size=(N_INPUTS, 2)),
    "linked": np.random.default_rng(5).gamma(2.0, size=N_INPUTS),
    "poisson": np.random.default_rng(5).poisson(2.0, N_INPUTS),
}
PAIR = ["score", "hessian"]

CALLS = {
    "outputs": lambda m, x, y: fs.output_information(m, x, coordinates="natural"),
    "diagonal": lambda m, x, y: fs.fisher_information(m, x),
    "per input": lambda m, x, y: fs.fisher_information(m, x, per_input=True),
    "block": lambda m, x, y: fs.fisher_information(m, x, view="block"),
    "full": lambda m, x, y: fs.fisher_information(m, x, view="full"),
    "estimate": lambda m, x, y: fs.estimate_fisher(m, x, estimator=PAIR, n_draws=3, rng=1),
    "probes": lambda m, x, y: fs.estimate_fisher(m, x, estimator="hutchinson_gaussian", n_draws=3, rng=1),
    "sampled": lambda m, x, y: fs.estimate_fisher(m, x, estimator="score", n_draws=3, rng=1, design="random"),
    "empirical": lambda m, x, y: fs.empirical_fisher(m, x, y),
    "variance": lambda m, x, y: fs.estimator_variance(m, x),
    "layers": lambda m, x, y: fs.estimator_variance(m, x, group_by="layer"),
    "bounds": lambda m, x, y: fs.variance_bounds(m, x, estimators=["score"]),
    "plan": lambda m, x, y: fs.plan_draws(m, x, target_cv=0.1),
    "intervals": lambda m, x, y: fs.confidence_intervals(m, x, estimator="score", n_draws=3, rng=0),
    "combination": lambda m, x, y: fs.combine_estimators(m, x, n_draws=3, rng=0),
    "importance": lambda m, x, y: fs.applications.importance(m, x),
}


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(7).normal(size=(N_INPUTS, 5))


class Batches:
    def __init__(self, x):
        self.x = x

    def __iter__(self):
        return iter(np.array_split(self.x, 7))


def arrays(result) -> dict[str, np.ndarray]:
    if isinstance(result, xr.DataTree):
        return {f"{name}/{key}": one.values for name, child in result.children.items() for key, one in child.data_vars.items()}
    if isinstance(result, xr.Dataset):
        return {str(key): one.values for key, one in result.data_vars.items() if one.dtype.kind == "f"}
    errors = {"standard_error": result.standard_error.values} if "standard_error" in result.coords else {}
    return {"": result.values} | errors


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("family", MODELS)
def test_the_numbers_are_those_of_the_perceptron(family, name, x):
    model, y = MODELS[family], LABELS[family]
    places = range(model.n_layers)
    expected = arrays(CALLS[name](model, x, y))
    for factored in ([True] * len(places), [False] * len(places), [place % 2 == 0 for place in places]):
        network = external(model, tuple(factored))
        result = CALLS[name](network, x, y)
        found = arrays(result)
        assert found.keys() == expected.keys()
        for key, values in found.items():
            ends = name == "bounds" and key.split("_")[-1] in ("lower", "upper", "form", "ratio")
            # Bounds leave room for the rounding of the forward pass, which is not known of an external network.
            np.testing.assert_allclose(
                values,
                expected[key],
                rtol=1e-9 if ends else 1e-12,
                atol=1e-13 * np.abs(expected[key][np.isfinite(expected[key])]).max(initial=0),
            )
        if factored[0] and not all(factored):
            xr.testing.assert_identical(CALLS[name](network, dask.array.from_array(x, chunks=(50, 5)), y).compute(), result)
            if name != "empirical":
                xr.testing.assert_identical(CALLS[name](network, Batches(x), y), result)


ap = fs.applications
INVERSES = {
    "volume": lambda m, x, y: ap.information_volume(m, x, tau=0.1),
    "bound": lambda m, x, y: ap.cramer_rao_bound(m, x),
    "covariance": lambda m, x, y: ap.asymptotic_covariance(m, x, y)[["standard_error", "degrees_of_freedom"]],
    "sandwich": lambda m, x, y: ap.asymptotic_covariance(m, x, y, robust=True)[["standard_error"]],
    "eigenvalues": lambda m, x, y: ap.leading_eigenpairs(m, x, 3, n_draws=2)[["eigenvalues", "standard_error"]],
}


@pytest.mark.parametrize("name", INVERSES)
@pytest.mark.parametrize("family", ["gaussian", "linked", "poisson"])
def test_inverses_and_spectra_are_those_of_the_perceptron(family, name, x):
    model, y = MODELS[family], LABELS[family]
    expected = INVERSES[name](model, x, y)
    for factored in (True, False):
        found = INVERSES[name](external(model, (factored,) * model.n_layers), x, y)
        for key, values in arrays(found if isinstance(found, xr.Dataset) else found.to_dataset(name="found")).items():
            wanted = arrays(expected if isinstance(expected, xr.Dataset) else expected.to_dataset(name="found"))[key]
            size = np.abs(wanted[np.isfinite(wanted)]).max(initial=0)
            np.testing.assert_allclose(values, wanted, rtol=1e-7, atol=1e-9 * size)


def test_every_public_function_answers_or_says_that_it_needs_a_perceptron():
    """With the usual values of the fuzz, and the network in the place of every perceptron."""
    model = fs.MLP.random([3, 3, 3], activation="tanh", family=F.Categorical(3), rng=1)
    network = external(model, (True, False))
    usual = test_fuzz.ordinary(model) | {"model": network, "anchor": network, "other": network, "models": [network, network]}
    usual["truth"] = network
    answered, refused = set(), {}
    for name, function in test_fuzz.FUNCTIONS.items():
        parameters = inspect.signature(function).parameters.values()
        keywords = {one.name: usual[one.name] for one in parameters if one.default is one.empty}
        if not {"model", "models", "anchor"} & keywords.keys():
            continue
        keywords |= {"probabilities": np.full((6, 3), 1 / 3)} if name == "empirical_variance" else {}
        try:
            function(**keywords)
        except TypeError as error:
            refused[name] = str(error)
        else:
            answered.add(name)
    sentence = r"`(model|models|anchor)` must be a fisherstats.MLP here, got an ExternalNetwork.*"
    assert all(re.fullmatch(sentence, one) for one in refused.values()), refused
    assert answered >= {"fisher_information", "estimate_fisher", "asymptotic_covariance", "information_volume", "plan_draws"}


def test_products_with_vectors(x):
    model = MODELS["categorical"]
    vector = np.random.default_rng(0).normal(size=model.n_params)
    expected = fs.fisher_operator(model, x) @ vector
    found = fs.fisher_operator(external(model, (True, False, True)), x) @ vector
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


def test_kronecker_factors_of_factored_layers(x):
    model = MODELS["categorical"]
    expected, found = (fs.fisher_information(one, x, view="kfac") for one in (model, external(model, (True, True, True))))
    for layer in expected.children:
        for factor in ("A", "G"):
            np.testing.assert_allclose(found[layer][factor].values, expected[layer][factor].values, rtol=1e-12, atol=1e-15)


def images() -> tuple[fs.ExternalNetwork, np.ndarray]:
    W = np.random.default_rng(0).normal(size=(3, 24))

    def evaluate(x):
        flat = x.reshape(len(x), -1)
        return flat @ W.T, [np.einsum("ij,nk->nijk", np.eye(3), flat)]

    network = fs.ExternalNetwork(evaluate, family=F.Categorical(3), layers=[fs.Layer("w", (3, 24))])
    return network, np.random.default_rng(1).normal(size=(60, 2, 3, 4))


def test_inputs_of_any_shape():
    network, x = images()
    found = fs.fisher_information(network, x)
    assert found.param_array.values.tolist() == ["w"] * 72
    assert found.param_entry.values.tolist() == list(range(72))
    xr.testing.assert_identical(fs.fisher_information(network, dask.array.from_array(x, chunks=(7, 1, 3, 2))).compute(), found)
    xr.testing.assert_identical(fs.fisher_information(network, Batches(x)), found)
    labelled = xr.DataArray(x.transpose(1, 0, 2, 3), dims=("channel", "input", "row", "column"))
    np.testing.assert_array_equal(fs.fisher_information(network, labelled), found)
    broken = x.copy()
    broken[7, 1, 2, 3] = np.nan
    with pytest.raises(ValueError, match=r"`x` must be finite, got nan at index \(7, 1, 2, 3\)"):
        fs.fisher_information(network, broken)


def changed(**parts):
    """Return an external network of one layer, with parts of what its function returns replaced."""

    def evaluate(x):
        n = len(x)
        found = {"h": np.zeros((n, 2)), "part": np.ones((n, 2, 3))} | {
            key: make(n) for key, make in parts.items() if key != "whole"
        }
        return parts["whole"](n) if "whole" in parts else (found["h"], [found["part"]])

    return fs.ExternalNetwork(evaluate, family=F.Categorical(2), layers=[fs.Layer("w", (3,))])


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ({"h": lambda n: np.zeros((n, 3))}, ValueError, r"must return h of shape \(20, 2\), got \(20, 3\)"),
        ({"h": lambda n: np.full((n, 2), np.nan)}, ValueError, "must return finite numbers, got h with inf or nan"),
        ({"part": lambda n: np.ones((n, 3, 2))}, ValueError, r"Jacobian of shape \(20, 2, 3\) for layer 'w'.*got \(20, 3, 2\)"),
        ({"part": lambda n: np.ones((n, 2, 3), int)}, TypeError, "floating-point arrays, got dtype int64 for w"),
        ({"part": lambda n: None}, TypeError, "arrays on the host|floating-point"),
        ({"whole": lambda n: np.zeros((n, 2))}, TypeError, r"must return \(h, parts\)"),
        ({"whole": lambda n: (np.zeros((n, 2)), [])}, ValueError, "one part for each of the 1 layers, got 0 parts"),
        ({"whole": lambda n: (np.zeros((n, 2)), np.ones((n, 2, 3)))}, ValueError, "one part for each of the 1 layers"),
    ],
)
def test_what_does_not_fit_is_named(parts, error, message):
    with pytest.raises(error, match=message):
        fs.fisher_information(changed(**parts), np.zeros((20, 2)))


def test_refusals():
    network, x = images()
    with pytest.raises(TypeError, match=r"`model` must be a fisherstats\.MLP here, got an ExternalNetwork"):
        fs.relative_fisher(network, x)
    with pytest.raises(ValueError, match="must also return second derivatives"):
        fs.estimate_fisher(network, x, estimator="hessian", n_draws=1, rng=0)
    with pytest.raises(ValueError, match="inputs on its first axis"):
        fs.fisher_information(network, np.float64(1.0))
    family, layers = F.Categorical(2), [fs.Layer("w", (2, 3))]
    for make, error, message in [
        (lambda: fs.Layer("w", (2, 0)), ValueError, "tuple of positive integers"),
        (lambda: fs.Layer("", (2,)), TypeError, "`name` must be"),
        (lambda: fs.Layer("w", (2, 3, 4), factored=True), ValueError, r"must be \(units, inputs\), got \(2, 3, 4\)"),
        (lambda: fs.ExternalNetwork(None, family=family, layers=layers), TypeError, "`evaluate` must be a function"),
        (
            lambda: fs.ExternalNetwork(len, family=family, layers=[]),
            TypeError,
            "`layers` must be a sequence of fisherstats.Layer",
        ),
        (lambda: fs.ExternalNetwork(len, family=family, layers=layers * 2), ValueError, "got 'w' twice"),
        (lambda: fs.ExternalNetwork(len, family=2, layers=layers), TypeError, "`family` must be a family object"),
        (lambda: fs.ExternalNetwork(len, family=family, layers=layers, dtype="float16"), (TypeError, ValueError), "float32"),
    ]:
        with pytest.raises(error, match=message):
            make()
