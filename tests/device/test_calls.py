"""Every public function on the stand-in for a device, against the host."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import re

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs
from fisherstats import engines
from fisherstats.core import arrays
from fisherstats.models.families.user import LogPartitionFamily
from tests.device.arrays import DeviceArray, called, fit_cupy, no_transfers, to_device, transfers
from tests.device.calls import CALLS, CORE, NETWORKS, WITHOUT_BIAS, inputs, numbers
from tests.device.closed_forms import ON_THE_HOST, defined, recorded
from tests.device.test_closed_form import all_forms


@pytest.fixture(autouse=True)
def device(monkeypatch):
    """The stand-in is the device that cupy would be used for."""
    monkeypatch.setattr(engines, "gpu_status", lambda: (True, "stand-in"))
    monkeypatch.setattr(engines, "gpu_array", lambda: to_device(np.zeros(0)))


INVERSES = [
    name for name in CALLS if name.split(".")[-1].split()[0] in ("asymptotic_covariance", "cramer_rao_bound", "propagate")
]
"""Inverses of information with condition numbers of 1e6 and more: with OpenBLAS 0.3.27 (numpy 2.1) device and host, whose
matrices lie otherwise in memory, differ by 1e-11 of the largest entry."""


def agree(found, wanted, rtol=1e-12):
    wanted, found = numbers(wanted), numbers(found)
    assert found.keys() == wanted.keys()
    assert wanted
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype, name
        size = np.abs(array[np.isfinite(array)]).max(initial=0)
        np.testing.assert_allclose(found[name], array, rtol=rtol, atol=rtol * size + 1e-15, err_msg=name)


def accepted(call, model):
    """Return what the host gives, or None where the function is not for this network."""
    try:
        return call(model, inputs(), None)
    except (ValueError, fs.AssumptionError, np.linalg.LinAlgError):
        return None


MANY_STEPS = {"norm_sweep": 5, "regularization_path": 5, "derivative_bounds": 1, "derivative_bounds printed": 1}
MANY_STEPS |= {
    "variance_bounds": 5,
    "variance_bounds per input": 1,
    "off_diagonal_bounds": 1,
    "estimate_fisher full of a sample": 2,
}
"""What makes many steps, with the number of the one network that it is compared for; families with long series, of which the
Dirichlet distributions have the longest, take minutes on the emulated device."""


@functools.cache
def compared(name, n_networks):
    """Return what device and host give for a few networks, and the closed forms that were called with arrays of the device."""
    pairs, functions = [], set()
    start = MANY_STEPS.get(name, sorted(CALLS).index(name))
    for model in NETWORKS[start % len(NETWORKS) :] + NETWORKS[: start % len(NETWORKS)]:
        wanted = accepted(CALLS[name], model)
        if wanted is not None:
            with recorded(functions):
                found = CALLS[name](model, inputs(), "cupy")
            pairs.append((found, wanted))
        if len(pairs) == (1 if name in MANY_STEPS else n_networks):
            break
    return pairs, functions


SEVERAL = [*NETWORKS, *WITHOUT_BIAS]

OF_EVERY_FAMILY = ("estimate_fisher both", "estimator_variance per input", "variance_bounds", "fisher_operator")
"""These use every moment of a family; the other calls of `CORE` use the same moments in other views."""


@pytest.mark.parametrize("number", range(len(SEVERAL)), ids=lambda number: SEVERAL[number].family.name)
def test_the_main_quantities_agree_for_every_family(number):
    """Each view with a third of the networks, and so with four of them."""
    model, x = SEVERAL[number], inputs(9)
    for at, (name, call) in enumerate(CORE.items()):
        if name in OF_EVERY_FAMILY or at % 3 == number % 3:
            agree(call(model, x, "cupy"), call(model, x, None))


@pytest.mark.validation
@pytest.mark.parametrize("model", [*NETWORKS, *WITHOUT_BIAS], ids=lambda model: model.family.name)
def test_all_main_quantities_agree_for_every_family(model):
    for call in CORE.values():
        agree(call(model, inputs(), "cupy"), call(model, inputs(), None))


@pytest.mark.parametrize("name", CALLS)
def test_every_function_agrees(name):
    pairs, functions = compared(name, 1 if name in CORE else 2)
    assert pairs
    assert not functions & ON_THE_HOST
    for found, wanted in pairs:
        agree(found, wanted, 1e-10 if name in INVERSES else 1e-12)


ALL = [name for name in CALLS if name != "norm_sweep"]  # variance_bounds, three times
OF_A_LAW = ("layer_errors", "variance_bounds", "fisher_information kfac", "fisher_information kfac per input")
OF_A_LAW += ("estimate_fisher hessian full errors", "fisher_operator", "information_envelopes", "empirical_variance classes")
OF_A_LAW += ("information_envelopes of classes",)
OF_A_LAW += ("family_extremes", "definiteness")
"""What has forms of its own for a few families."""


def test_every_closed_form_runs_on_a_device(tmp_path):
    """But for what is done to results on the host, once per call; the list holds all of it.

    A cheap network is asked for everything, and others for the forms of their family, until no form is left.
    """
    functions, rest = set(), defined() - ON_THE_HOST
    general = fs.MLP.random([3, 2], activation=[], family=fs.families.GammaShapeRate(), rng=3)
    with recorded(functions):
        all_forms()
        fs.variance_bounds(general, inputs(3), engine="cupy")
        fs.fisher_information(NETWORKS[0], inputs(), view="full", store=tmp_path / "it.zarr", engine="cupy")
        for number, names in ((5, ALL), (1, OF_A_LAW), (0, OF_A_LAW), (2, OF_A_LAW), (11, OF_A_LAW)):
            for name in names:
                if rest - functions and accepted(CALLS[name], NETWORKS[number]) is not None:
                    CALLS[name](NETWORKS[number], inputs(), "cupy")
    functions = {one for one in functions if not one.endswith(("__init__", "__post_init__", "parameters"))}
    assert defined() - functions == ON_THE_HOST
    assert functions <= defined() | {one for one in functions if "<" in one}


def test_cupy_has_every_function_with_these_arguments():
    """Importing cupy and asking for signatures needs no device."""
    pytest.importorskip("cupy")
    for name in CALLS:
        compared(name, 1 if name in CORE else 2)
    all_forms()
    assert len(called) > 100
    fit_cupy(called)


def test_every_method_is_one_of_cupy():
    cupy = pytest.importorskip("cupy")
    own = {name for name in dir(DeviceArray) if not name.startswith("_")} - {"own"}
    assert own <= set(dir(cupy.ndarray))


@pytest.mark.parametrize("view", ["full", "block"])
def test_a_view_on_disk(view, tmp_path):
    model, x = NETWORKS[0], inputs(40)
    found = fs.fisher_information(model, x, view=view, store=tmp_path / "it.zarr", engine="cupy")
    agree(found.compute(), fs.fisher_information(model, x, view=view))


def test_a_lazy_result_is_computed_on_the_device():
    da, dask = pytest.importorskip("dask.array"), pytest.importorskip("dask")
    model, x = NETWORKS[0], inputs(80)
    found = fs.fisher_information(model, da.from_array(x, chunks=(30, 3)), engine="cupy")
    transfers.clear()
    with dask.config.set(scheduler="synchronous"):
        found = found.compute()
    assert transfers
    agree(found, fs.fisher_information(model, x))


def test_no_function_with_an_engine_is_left_out():
    offered = set()
    for prefix, module in (("", fs), ("applications.", fs.applications)):
        for name in module.__all__:
            function = getattr(module, name)
            if inspect.isfunction(function) and "engine" in inspect.signature(function).parameters:
                offered.add(prefix + name)
    computed_nowhere = {"explain"}  # explains what an engine would do
    assert {name.split()[0] for name in CALLS} == offered - computed_nowhere


def test_nothing_leaves_the_device_within_a_block():
    model, x = NETWORKS[0], inputs(64)
    transfers.clear()
    fs.estimator_variance(model, x, engine="cupy")
    assert set(transfers) == {"get"}
    few = len(transfers)
    transfers.clear()
    fs.estimator_variance(model, np.tile(x, (4, 1)), engine="cupy")
    blocks = 3 * 64 // 16
    # One look at the checks of every further block, and as many results as before.
    assert len(transfers) == few + blocks
    transfers.clear()
    fs.estimate_fisher(model, x, estimator="score", n_draws=3, rng=1, engine="cupy", standard_error=False)
    # Beside these, the natural parameters that the labels of a block are drawn for.
    assert len(transfers) == 2 * 64 // 16 + 1


@pytest.mark.parametrize("labelled", [False, True])
def test_an_x_on_the_device_stays_there(labelled):
    model, x = NETWORKS[0], inputs()
    there = to_device(x)
    if labelled:
        there = xr.DataArray(there, dims=("input", "feature"), coords={"input": np.arange(18) + 5})
    found = fs.fisher_information(model, there)
    wanted = fs.fisher_information(model, x)
    agree(found, wanted)
    assert isinstance(found.data, np.ndarray)
    assert json.loads(found.attrs["provenance"])["engine"] == "cupy"
    assert json.loads(wanted.attrs["provenance"])["engine"] == "numba"


def test_work_for_the_host_takes_an_x_on_the_device():
    model, x = NETWORKS[1], inputs()
    agree(fs.fisher_information(model, to_device(x), engine="numpy"), fs.fisher_information(model, x, engine="numpy"))
    report = fs.kink_report(NETWORKS[0], to_device(x), tolerance=0.1)
    assert report.identical(fs.kink_report(NETWORKS[0], x, tolerance=0.1))


def test_float32_stays_float32():
    model = NETWORKS[1].as_dtype(np.dtype(np.float32))
    x = inputs().astype(np.float32)
    for name, call in CORE.items():
        wanted, found = numbers(call(model, x, "numpy")), numbers(call(model, x, "cupy"))
        for key, array in wanted.items():
            assert found[key].dtype == array.dtype, name
            size = np.abs(array[np.isfinite(array)]).max()
            np.testing.assert_allclose(found[key], array, rtol=1e-4, atol=1e-5 * size, err_msg=name)


def test_the_number_of_blocks_changes_rounding_only(monkeypatch):
    model, x = NETWORKS[0], inputs(50)
    small = fs.estimate_fisher(model, x, estimator="score", n_draws=3, rng=1, engine="cupy")
    monkeypatch.setattr("tests.device.arrays.MEMORY", 2**40)
    transfers.clear()
    large = fs.estimate_fisher(model, x, estimator="score", n_draws=3, rng=1, engine="cupy")
    assert len(transfers) < 6
    agree(large, small)


class Rayleigh(LogPartitionFamily):
    name, n_outputs, bounded = "rayleigh", 1, False

    def log_partition(self, h):
        return -np.log(-h[..., 0])

    statistic = sample = check_labels = log_partition


def outside():
    x = inputs(40)
    x[33, 2] = np.nan
    return x


def huge():
    x = inputs(40)
    x[35] = 1e200
    return x


def on_a_kink(n=40):
    x = inputs(n)
    x[34] = 0
    return x


TANH = fs.MLP.random([3, 4, 2], activation="tanh", family=fs.families.Exponential(2), rng=1)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda e: fs.fisher_information(NETWORKS[0], outside(), engine=e), ValueError),
        (lambda e: fs.fisher_information(TANH, huge(), engine=e), ValueError),
        (lambda e: fs.fisher_information(_deep(), huge(), engine=e), ValueError),
        (lambda e: fs.estimator_variance(_kinked(), on_a_kink(), engine=e), fs.AssumptionError),
        (lambda e: fs.fisher_information(_linear(fs.families.Poisson()), 200 * np.abs(inputs(40)), engine=e), ValueError),
        (lambda e: fs.fisher_information(_linear(fs.families.Exponential()), 300 * np.abs(inputs(40)), engine=e), ValueError),
    ],
)
def test_what_the_host_refuses_is_refused_with_the_same_words(call, error):
    with pytest.raises(error) as wanted:
        call("numpy")
    with pytest.raises(error) as found:
        call("cupy")
    # Blocks differ, and with them how many more are counted in a block.
    words = re.compile(r"\(\d+ such units in this block\)")
    assert words.sub("", str(found.value)) == words.sub("", str(wanted.value))


def _deep():
    return fs.MLP([np.full((2, 4), 1e120), np.full((1, 3), 1.0)], activation="identity", family=fs.families.Bernoulli())


def _kinked():
    weights = [np.array([[1.0, 1.0, 1.0, 0.0], [1.0, -1.0, 2.0, 0.5]]), np.array([[1.0, -1.0, 0.2]])]
    return fs.MLP(weights, activation="relu", family=fs.families.Bernoulli())


def _linear(family):
    return fs.MLP([np.ones((1, 4))], activation=[], family=family)


def test_functions_of_users_are_refused():
    model = fs.MLP.random([3, 1], activation=[], family=Rayleigh(), rng=1)
    with pytest.raises(fs.EngineUnavailable, match="the family 'rayleigh', whose functions work on host arrays"):
        fs.fisher_information(model, inputs(), engine="cupy")
    product = fs.families.Product([fs.families.Bernoulli(), Rayleigh()])
    with pytest.raises(fs.EngineUnavailable, match="the family 'rayleigh'"):
        fs.fisher_information(fs.MLP.random([3, 2], activation=[], family=product, rng=1), to_device(inputs()))

    def cube(a):
        yield a**3
        yield 3 * a**2

    mine = fs.activations.Activation("cube", cube, sup_first=1.0, sup_second=1.0)
    model = fs.MLP.random([3, 4, 2], activation=mine, family=fs.families.Bernoulli(2), rng=1)
    with pytest.raises(fs.EngineUnavailable, match="the activation 'cube'"):
        fs.fisher_information(model, inputs(), engine="cupy")


def test_a_machine_without_a_device_says_so(monkeypatch):
    monkeypatch.setattr(engines, "gpu_status", lambda: (False, "cupy is not installed"))
    for x, engine in ((inputs(), "cupy"), (to_device(inputs()), None)):
        with pytest.raises(fs.EngineUnavailable, match="`engine='cupy'` is not available: cupy is not installed"):
            fs.fisher_information(NETWORKS[0], x, engine=engine)


def test_checks_are_noted_only_where_a_list_waits_for_them():
    bad = to_device(np.array([True, False]))
    assert not arrays.holds(bad)
    with arrays.noted_checks() as noted, no_transfers():
        assert arrays.holds(bad)
    assert len(noted) == 1
    assert not arrays.all_held(noted)
    assert arrays.all_held([])


def test_gpu_status_gives_a_reason_or_a_name(monkeypatch):
    monkeypatch.setenv("FISHERSTATS_DISABLE_GPU", "1")
    assert importlib.import_module("fisherstats.core.arrays").gpu_status.__wrapped__() == (
        False,
        "it is disabled by the environment variable FISHERSTATS_DISABLE_GPU",
    )
