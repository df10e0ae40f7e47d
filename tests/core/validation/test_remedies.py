"""What messages advise exists: arguments are those of the function that was called, and following them helps."""

from __future__ import annotations

import ast
import concurrent.futures
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import fisherstats as fs
from fisherstats.core.validation import remedies
from tests.device.calls import CALLS

applications = fs.applications
MODEL = fs.MLP([[[1.0, 1.0, 0.0], [1.0, -1.0, 0.0]], [[1.0, 1.0, 0.0]]], activation="relu", family=fs.families.Bernoulli())
X = np.random.default_rng(0).normal(size=(12, 2))
X[7] = 0.0
Y = np.arange(12) % 2
DRAWN: dict[str, Any] = {"n_draws": 3, "rng": 1}
TRAINING: dict[str, Any] = {"optimizer": fs.training.SGD(0.01), "epochs": 1, "batch_size": 12, "rng": 1}
VECTOR = np.linspace(-1.0, 1.0, MODEL.n_params)
HESSIAN: dict[str, Any] = {"information": "hessian", **DRAWN}

AT_A_KINK: dict[Callable[..., Any], tuple[tuple[Any, ...], dict[str, Any]]] = {
    fs.combine_estimators: ((MODEL, X), DRAWN),
    fs.confidence_intervals: ((MODEL, X), {"estimator": "hessian", **DRAWN}),
    fs.covariance_bounds: ((MODEL, X), {}),
    fs.covariance_norms: ((MODEL, X), {}),
    fs.covariance_product: ((MODEL, X), {"matrix": np.eye(MODEL.n_params), "estimator": "hessian"}),
    fs.definiteness: ((MODEL, X), {**DRAWN, "n_replicates": 2}),
    fs.derivative_bounds: ((MODEL, X), {}),
    fs.efron_curvature: ((MODEL, X), {"directions": VECTOR}),
    fs.estimate_fisher: ((MODEL, X), {"estimator": "hessian", **DRAWN}),
    fs.estimator_covariance: ((MODEL, X), {"estimator": "hessian"}),
    fs.estimator_variance: ((MODEL, X), {}),
    fs.functional_variance: ((MODEL, X), {"vector": VECTOR}),
    fs.layer_errors: ((MODEL, X), {}),
    fs.norm_sweep: ((MODEL, X), {"scales": [1.0]}),
    fs.observed_information: ((MODEL, X, Y), {}),
    fs.off_diagonal_bounds: ((MODEL, X), {"pairs": [(0, 1)]}),
    fs.plan_draws: ((MODEL, X), {"target_cv": 0.1}),
    fs.propagate: ((fs.LogDet(0.1), MODEL, X), {"estimator": "hessian", "n_draws": 3}),
    fs.regularization_path: (
        (MODEL, np.zeros((12, 2)), Y),
        {"penalty": fs.training.Frobenius, "strengths": [0.1], **TRAINING},
    ),
    fs.trace_bounds: ((MODEL, X), {}),
    fs.variance_bounds: ((MODEL, X), {}),
    applications.asymptotic_covariance: ((MODEL, X, Y), {"hessian": "observed"}),
    applications.consolidation_penalty: ((MODEL, MODEL, X), HESSIAN),
    applications.importance: ((MODEL, X), HESSIAN),
    applications.parameter_intervals: ((MODEL, X, Y), {"hessian": "observed"}),
    applications.prediction_intervals: ((MODEL, X, Y), {"at": X[:3], "hessian": "observed"}),
    applications.pruning_scores: ((MODEL, X), HESSIAN),
}
"""Every public function that takes second derivatives of the network."""


class Batches:
    """Gives the rows in two batches, as often as asked."""

    def __iter__(self):
        return iter([X[:5], X[5:]])


def public() -> dict[str, Callable[..., Any]]:
    """Every public function."""
    found = {}
    for module in (fs, applications, fs.training, fs.testing, fs.interop):
        found |= {f"{module.__name__}.{name}": getattr(module, name) for name in module.__all__}
    return {name: one for name, one in found.items() if inspect.isfunction(one)}


def advised(message: str) -> dict[str, str]:
    """Return the arguments that a message advises."""
    return dict(re.findall(r"`(\w+)='(\w+)'`", message))


def refusal(function: Callable[..., Any], args: tuple[Any, ...], words: dict[str, Any]) -> str:
    with pytest.raises(fs.AssumptionError, match="kink") as caught:
        function(*args, **words)
    return str(caught.value)


def test_the_table_has_every_function_that_says_what_it_does_at_a_kink():
    wanted = {name: one for name, one in public().items() if {"on_kink", "hessian"} & set(inspect.signature(one).parameters)}
    assert set(wanted.values()) == set(AT_A_KINK)


@pytest.mark.parametrize("function", AT_A_KINK, ids=lambda one: one.__name__)
def test_the_advice_at_a_kink_can_be_followed(function):
    args, words = AT_A_KINK[function]
    message = refusal(function, args, words)
    advice, takes = advised(message), set(inspect.signature(function).parameters)
    assert set(advice) == takes & {"on_kink", "estimator", "estimators", "information", "hessian"}
    for name, value in advice.items():
        function(*args, **words | {name: value})
    assert len(fs.kink_report(MODEL, X).kink) == 2  # the message names it


@pytest.mark.parametrize("name", CALLS)
def test_no_other_function_advises_what_it_does_not_take(name):
    function = public()[f"fisherstats.{name.split()[0]}"]
    said = ""
    try:
        CALLS[name](MODEL, X, None)
    except fs.AssumptionError as error:
        said = str(error)
    except ValueError:
        pass  # of more outputs than one
    assert set(advised(said)) <= set(inspect.signature(function).parameters)


@pytest.mark.parametrize("function", [fs.estimator_variance, applications.importance, applications.asymptotic_covariance])
def test_lazy_calls_and_batches_advise_the_same(function):
    (model, _, *more), words = AT_A_KINK[function]
    ends = [refusal(function, (model, x, *more), words).partition("Use ")[2] for x in (X, Batches())]
    with pytest.raises(fs.AssumptionError, match="kink") as caught:
        function(model, dask.array.from_array(X, chunks=5), *more, **words).compute()
    assert {*ends, str(caught.value).partition("Use ")[2]} == {ends[0]}


def test_pieces_in_other_threads_advise_what_was_called():
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        message = refusal(fs.norm_sweep, (MODEL, X), {"scales": [1.0], "client": executor})
    assert set(advised(message)) == {"on_kink"}
    message = refusal(fs.norm_sweep, (MODEL, dask.array.from_array(X, chunks=5)), {"scales": [1.0]})
    assert set(advised(message)) == {"on_kink"}


def test_nothing_is_left_behind():
    refusal(fs.estimator_variance, (MODEL, X), {})
    assert remedies.taken() is None
    with remedies.as_called(("on_kink",)), remedies.as_called(("estimator",)):
        assert remedies.taken() == ("on_kink",)


def texts() -> dict[str, str]:
    """Every piece of text in the modules that word messages, with where it is, docstrings apart."""
    found = {}
    for path in sorted(Path(remedies.__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        skipped = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
                found[f"{path.name}:{node.lineno}:{node.col_offset}"] = node.value
    return found


def test_every_function_of_a_library_that_a_message_names_exists():
    libraries = {"fisherstats": fs, "numpy": np, "np": np, "pandas": pd, "xarray": xr, "MLP": fs.MLP}
    named = re.compile(rf"\b({'|'.join(libraries)})((?:\.[A-Za-z_]\w*)+)")
    found = {(root, path, place) for place, text in texts().items() for root, path in named.findall(text)}
    assert len(found) > 20
    missing = []
    for root, path, place in found:
        value = libraries[root]
        for name in path[1:].split("."):
            value = getattr(value, name, None)
        if value is None and path not in (".model", ".model."):
            missing.append((root + path, place))
    assert not missing
