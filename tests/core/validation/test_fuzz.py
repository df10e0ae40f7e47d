"""Odd values for any argument of the public functions: an answer, or a refusal that names the argument; nothing else.

Calls are made from the signatures, each with ordinary arguments but for one or two. What holds inf or nan beyond what the schema
says of them is refused by the builder of labelled results, so that here a result is right if it is there.
"""

from __future__ import annotations

import inspect
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import xarray as xr

import fisherstats as fs

X = np.random.default_rng(0).normal(size=(6, 3))
HEADS = [
    ("tanh", fs.families.Categorical(3)),
    ("relu", fs.families.Bernoulli()),
    ("softplus", fs.families.Poisson()),
    ("gelu", fs.families.Gaussian(2)),
    ("sigmoid", fs.families.GaussianMeanVariance()),
]
MODELS = [fs.MLP.random([3, 3, one.n_outputs], activation=name, family=one, rng=1) for name, one in HEADS]
MODELS.append(MODELS[0].as_dtype(np.float32))

REFUSALS = (
    TypeError,
    ValueError,
    fs.EngineUnavailable,
    fs.MissingExtra,
    fs.TrainingDiverged,
)

EXTREME = [np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, 1e160, 1e-200, -0.0, 1e15]

ODD_ARRAYS = [
    lambda a, rng: a.astype(np.float16),
    lambda a, rng: a.astype(np.longdouble),
    lambda a, rng: a.astype(complex),
    lambda a, rng: a.astype(object),
    lambda a, rng: np.zeros(a.shape, "M8[s]"),
    lambda a, rng: a > 0,
    lambda a, rng: a.astype(np.int8),
    lambda a, rng: a.astype("f4"),
    lambda a, rng: a.astype(">f8"),
    lambda a, rng: np.asfortranarray(a),
    lambda a, rng: a[::-1],
    lambda a, rng: a[:0],
    lambda a, rng: a[..., :0],
    lambda a, rng: np.where(rng.permutation(a.size).reshape(a.shape) == 0, rng.choice(EXTREME), a),
    lambda a, rng: a * rng.choice([1e-300, 1e300, 1e160, 1e-160, 1e30, -1, 0]),
    lambda a, rng: a[None],
    lambda a, rng: a[0],
    lambda a, rng: np.ma.masked_array(a, mask=rng.random(a.shape) < 0.2),
    lambda a, rng: pd.DataFrame(a) if a.ndim == 2 else pd.Series(a.reshape(-1)),
    lambda a, rng: xr.DataArray(a),
    lambda a, rng: scipy.sparse.csr_array(a) if a.ndim == 2 else a,
    lambda a, rng: a.tolist(),
]
ODD_VALUES = [
    *(None, True, np.True_, 0, -1, 2, 0.5, 1e-300, 1e300, 1e308, 5e-324, 2**63, 2**70, np.nan, np.inf, -np.inf, 1j),
    *("a", "", b"x", "score", "full", np.str_("hessian"), np.int64(2), np.float32(0.3), np.float16(2), np.longdouble(1)),
    *([], {}, (), set(), object(), np.array(2), np.array([1, 2]), pd.NA, pd.NaT, np.datetime64("2020"), len, slice(2), float),
]


def ordinary(model):
    """Return a usual value of every argument that has no default or is often given."""
    n = model.n_params
    classes = isinstance(model.family, fs.families.Categorical)
    return {
        "model": model,
        "family": model.family,
        "h": model.natural_parameters(X),
        "anchor": model,
        "other": model,
        "models": [model, model],
        "importances": [np.ones(n), np.ones(n)],
        "x": X,
        "at": X,
        "y": np.arange(6) % 2 if classes else np.ones((6, model.family.n_outputs)),
        "directions": np.ones((2, n)),
        "delta": np.ones(n),
        "importance": np.ones(n),
        "matrix": np.eye(n),
        "pairs": np.array([[0, 1], [1, 2]]),
        "metric": np.eye(2),
        "jacobian": np.ones((2, 4)),
        "weights": [np.ones((2, 4)) / 3],
        "activation": "tanh",
        "functional": fs.LogDet(1.0),
        "optimizer": fs.training.SGD(0.1),
        "penalty": lambda strength: fs.training.Frobenius(strength),
        "estimator": "score",
        "n_draws": 2,
        "rng": 0,
        "layer": 1,
        "target_cv": 0.1,
        "scales": [0.5, 1.0, 2.0],
        "strengths": [0.1, 0.2],
        "epochs": 1,
        "batch_size": 3,
        "tau": 1.0,
        "k": 1,
        "size": 2,
        "n_replicates": 20,
        "engine": "numpy",
    }


ARRAYS = ("x", "h", "at", "y", "directions", "delta", "importance", "matrix", "pairs", "metric", "jacobian")
NOT_ODD = ("progress", "client", "store", "penalty")  # what needs more installed, writes files, or is the user's own code
LEFT_OUT = {"family_extremes", "explain", "with_standard_error", "scale_estimate"}


def functions():
    """Return the public functions that can be called with the values above, by name."""
    found = {name: getattr(fs, name) for name in fs.__all__ if inspect.isfunction(getattr(fs, name))}
    found |= {name: getattr(fs.applications, name) for name in fs.applications.__all__ if name not in ("Merged", "Laplace")}
    found["fit"] = fs.training.fit
    return {name: found[name] for name in sorted(found) if name not in LEFT_OUT}


FUNCTIONS = functions()


def odd_call(seed):
    """Return a function and its keywords, of which one or two are odd."""
    rng = np.random.default_rng(seed)
    name = list(FUNCTIONS)[rng.integers(len(FUNCTIONS))]
    usual = ordinary(MODELS[rng.integers(len(MODELS))])
    usual["penalty"] = usual["penalty"] if name == "regularization_path" else None
    parameters = inspect.signature(FUNCTIONS[name]).parameters.values()
    keywords = {one.name: usual[one.name] for one in parameters if one.default is one.empty or one.name == "engine"}
    names = [one.name for one in parameters if one.name not in NOT_ODD]
    for chosen in rng.choice(names, size=rng.integers(1, 3)):
        if chosen in ARRAYS and chosen in keywords and rng.random() < 0.8:
            array = np.array(usual[chosen], dtype=float)
            with np.errstate(all="ignore"):
                keywords[chosen] = ODD_ARRAYS[rng.integers(len(ODD_ARRAYS))](array, rng)
        else:
            keywords[chosen] = ODD_VALUES[rng.integers(len(ODD_VALUES))]
    return name, keywords


def outcome(name, keywords):
    """Return what is wrong with the outcome of a call, None if nothing is."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = FUNCTIONS[name](**keywords)
    except REFUSALS as error:
        named = re.search(r"`\w+", str(error)) or "twice differentiable" in str(error)
        return None if named else f"names no argument: {error!r}"
    except Exception as error:
        return f"{error!r}"
    if isinstance(found, np.ndarray) and not np.isfinite(found).all():
        return "inf or nan"
    return None


def wrong(seeds):
    found = {}
    for seed in seeds:
        name, keywords = odd_call(seed)
        problem = outcome(name, keywords)
        if problem is not None:
            odd = {key: value for key, value in keywords.items() if key not in ("model", "optimizer")}
            found[seed] = f"{name}({odd}): {problem}"[:600]
    return found


@pytest.mark.parametrize("part", range(3))
def test_odd_calls_are_answered_or_refused_by_name(part):
    assert wrong(range(100 * part, 100 * (part + 1))) == {}


@pytest.mark.validation
@pytest.mark.parametrize("part", range(20))
def test_many_odd_calls_are_answered_or_refused_by_name(part):
    assert wrong(range(1000 + 200 * part, 1000 + 200 * (part + 1))) == {}
