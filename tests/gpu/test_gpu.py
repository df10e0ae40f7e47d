"""The public functions on a real device, against the host; it needs numpy, scipy, numba, cupy, xarray and pytest only."""

from __future__ import annotations

import json

import numpy as np
import pytest

import fisherstats as fs
from fisherstats.core import arrays
from fisherstats.quantities import _run
from fisherstats.training.likelihood import labelled
from fisherstats.training.network import Trainee
from tests.device.calls import CALLS, CORE, NETWORKS, inputs, numbers
from tests.device.trainings import DAMPED, FAMILIES, OPTIMIZERS, RESTRAINTS, network, numbers_of, trained

pytestmark = pytest.mark.gpu

USABLE, REASON = arrays.gpu_status()

ITERATED = ("covariance_norms", "family_extremes", "propagate eigenvalues", "applications.leading_eigenpairs", "kfac_error")
"""What ends where an iteration stops, or is a root of what cancels: to a thousandth of the digits less."""


@pytest.fixture(autouse=True)
def device():
    if not USABLE:
        pytest.skip(f"no GPU: {REASON}")


def agree(found, wanted, rtol=1e-12):
    wanted, found = numbers(wanted), numbers(found)
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert isinstance(found[name], np.ndarray)
        assert found[name].dtype == array.dtype
        size = np.abs(array[np.isfinite(array)]).max(initial=0)
        np.testing.assert_allclose(found[name], array, rtol=rtol, atol=rtol * size + 1e-15, err_msg=name)


def accepted(call, model):
    try:
        return call(model, inputs(), None)
    except (ValueError, fs.AssumptionError, np.linalg.LinAlgError):
        return None


@pytest.mark.parametrize("model", NETWORKS, ids=lambda model: model.family.name)
@pytest.mark.parametrize("name", CORE)
def test_the_main_quantities_agree_for_every_family(name, model):
    agree(CORE[name](model, inputs(), "cupy"), CORE[name](model, inputs(), None))


@pytest.mark.parametrize("name", [name for name in CALLS if name not in CORE])
def test_every_function_agrees(name):
    compared = 0
    for model in NETWORKS:
        wanted = accepted(CALLS[name], model)
        if wanted is not None:
            agree(CALLS[name](model, inputs(), "cupy"), wanted, 1e-9 if name.startswith(ITERATED) else 1e-12)
            compared += 1
    assert compared


@pytest.fixture(scope="module")
def digits():
    model = fs.MLP.random([784, 80, 80, 80, 10], activation="tanh", family=fs.families.Categorical(10), rng=0)
    return model, np.random.default_rng(1).normal(size=(3000, 784))


@pytest.mark.parametrize("name", ["fisher_information diagonal", "estimate_fisher both", "estimator_variance", "fisher_operator"])
def test_a_network_for_digits(name, digits):
    model, x = digits
    agree(CORE[name](model, x, "cupy"), CORE[name](model, x, None))


def test_dense_views_of_a_network_of_some_size():
    model = fs.MLP.random([64, 48, 48, 10], activation="tanh", family=fs.families.Categorical(10), rng=0)
    x = np.random.default_rng(1).normal(size=(500, 64))
    for name in ("fisher_information full", "fisher_information block", "fisher_information kfac", "relative_fisher"):
        agree(CALLS[name](model, x, "cupy"), CALLS[name](model, x, None))


def test_an_x_on_the_device_stays_there(digits):
    import cupy

    model, x = digits
    found = fs.fisher_information(model, cupy.asarray(x))
    agree(found, fs.fisher_information(model, x))
    assert json.loads(found.attrs["provenance"])["engine"] == "cupy"


def test_float32(digits):
    model, x = digits
    model, x = model.as_dtype(np.dtype(np.float32)), x.astype(np.float32)
    agree(fs.fisher_information(model, x, engine="cupy"), fs.fisher_information(model, x), rtol=1e-4)


@pytest.mark.parametrize("model", NETWORKS, ids=lambda model: model.family.name)
def test_moments_do_not_wait_for_the_device(model):
    import cupy
    import cupyx

    h = model.natural_parameters(inputs())
    u = cupy.asarray(np.random.default_rng(0).normal(size=(*h.shape, 3)))
    natural = cupy.asarray(h)
    with arrays.noted_checks() as noted, cupyx.allow_synchronize(False):
        law = model.family.at(natural)
        found = law.diagonal(u), law.square_variance(u), law.third_moment(u, u)
    assert arrays.all_held(noted)
    host = model.family.at(h)
    for one, other in zip(found, (host.diagonal(u.get()), host.square_variance(u.get())), strict=False):
        np.testing.assert_allclose(one.get(), other, rtol=1e-12, atol=1e-13 * np.abs(other).max())


def test_what_is_refused_is_refused_with_the_words_of_the_host(digits):
    model, x = digits
    broken = x.copy()
    broken[2500, 3] = np.inf
    with pytest.raises(ValueError, match=r"`x` must be finite, got inf at index \(2500, 3\)"):
        fs.fisher_information(model, broken, engine="cupy")
    import cupy

    with pytest.raises(ValueError, match=r"`x` must be finite, got inf at index \(2500, 3\)"):
        fs.fisher_information(model, cupy.asarray(broken))


def test_memory_stays_bounded(digits):
    import cupy

    model, _ = digits
    x = np.random.default_rng(2).normal(size=(200_000, 784)).astype(np.float32)
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    fs.fisher_information(model.as_dtype(np.dtype(np.float32)), x, engine="cupy")
    assert pool.total_bytes() < 0.5 * cupy.cuda.Device().mem_info[1]


def same_training(model, rtol=1e-9, **settings):
    found, wanted = (numbers_of(trained(model, engine, 30, **settings)) for engine in ("cupy", "numpy"))
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert isinstance(found[name], np.ndarray)
        np.testing.assert_allclose(found[name], array, rtol=rtol, atol=rtol * np.abs(array).max(), err_msg=name)


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_training_of_every_family(family):
    same_training(network(family), optimizer=OPTIMIZERS["Adam"])


@pytest.mark.parametrize("normalization", [None, fs.training.BatchNormalization()])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_with_every_optimiser(name, normalization):
    # Conjugate gradients end where their residual does.
    optimizer = OPTIMIZERS[name] if normalization is None else DAMPED[name]
    same_training(network(), 1e-7 if "cg" in name else 1e-9, optimizer=optimizer, normalization=normalization)


@pytest.mark.parametrize("name", RESTRAINTS)
def test_training_with_every_penalty(name):
    # The singular value of a projection has settled to 1e-9.
    same_training(network(), 1e-7 if name in ("SpectralProjection", "several") else 1e-9, penalty=RESTRAINTS[name](network()))


def test_training_of_a_network_for_digits(digits):
    import cupy

    model, x = digits
    y = np.random.default_rng(3).integers(0, 10, len(x))
    settings = {"optimizer": fs.training.Adam(), "epochs": 2, "batch_size": 500, "rng": 0, "validation": (x[:700], y[:700])}
    wanted = fs.training.fit(model, x, y, **settings)
    found = fs.training.fit(model, cupy.asarray(x), cupy.asarray(y), **settings)
    agree(found.history, wanted.history, 1e-9)
    for one, other in zip(found.model.weights, wanted.model.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)


def test_a_gradient_does_not_wait_for_the_device(digits):
    import cupy
    import cupyx

    model, x = digits
    y = np.random.default_rng(3).integers(0, 10, len(x))
    call = _run.prepare(model, cupy.asarray(x))
    data, trainee = labelled(call, y, np.dtype(float)), Trainee(call.model)
    rows = cupy.arange(0, len(x), 3)
    data.gradient(trainee, rows)  # kernels are compiled
    with arrays.noted_checks() as noted, cupyx.allow_synchronize(False):
        (loss, _), gradient, square = data.gradient(trainee, rows)
    host = labelled(_run.prepare(model, x), y, np.dtype(float))
    (wanted, _), slope, _ = host.gradient(Trainee(model), rows.get())
    assert arrays.all_held(noted)
    np.testing.assert_allclose(float(loss), wanted, rtol=1e-12)
    np.testing.assert_allclose(gradient.get(), slope, rtol=1e-9, atol=1e-12 * np.abs(slope).max())
    np.testing.assert_allclose(float(square), slope @ slope, rtol=1e-9)
