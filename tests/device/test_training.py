"""Training on the stand-in for a device, against the host."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs
from fisherstats import engines
from tests.device.arrays import DeviceArray, called, fit_cupy, no_transfers, to_device, transfers
from tests.device.calls import data, inputs
from tests.device.trainings import DAMPED, FAMILIES, OPTIMIZERS, RESTRAINTS, kept, network, numbers_of, trained

training = fs.training
NORMALIZED = training.BatchNormalization()
STEPS = pytest.mark.parametrize("steps", [6, pytest.param(200, marks=pytest.mark.validation)])
LARGE = 2**40


@pytest.fixture(autouse=True)
def device(monkeypatch):
    """The stand-in is the device that cupy would be used for."""
    monkeypatch.setattr(engines, "gpu_status", lambda: (True, "stand-in"))
    monkeypatch.setattr(engines, "gpu_array", lambda: to_device(np.zeros(0)))


def agree(found, wanted, rtol=1e-10):
    wanted, found = numbers_of(wanted), numbers_of(found)
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert type(found[name]) is np.ndarray
        assert found[name].dtype == array.dtype, name
        np.testing.assert_allclose(found[name], array, rtol=rtol, atol=rtol * np.abs(array).max(initial=0), err_msg=name)


def compare(model, steps=6, rtol=1e-10, **settings):
    wanted = trained(model, "numpy", steps, **settings)
    transfers.clear()
    found = trained(model, "cupy", steps, **settings)
    assert len(transfers) > steps
    assert any(np.any(one != other) for one, other in zip(wanted.model.weights, model.weights, strict=True))
    agree(found, wanted, rtol)
    return found


# --- the same networks and histories ---------------------------------------------------------------------------------


@STEPS
@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_every_family(family, steps):
    compare(network(family), steps, optimizer=OPTIMIZERS["Adam"])


@STEPS
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser(name, steps):
    compare(network(), steps, optimizer=OPTIMIZERS[name])


@STEPS
@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if "hessian" not in name])
def test_every_optimiser_with_normalisation(name, steps):
    # Conjugate gradients end where their residual does.
    rtol = 1e-9 if "cg" in name else 1e-10
    compare(network(activation="relu", widths=(3, 5, 4)), steps, rtol, optimizer=DAMPED[name], normalization=NORMALIZED)


@pytest.mark.parametrize("name", ["diagonal, hessian", "natural, hessian"])
def test_the_hessian_estimate_with_normalisation(name):
    compare(network(widths=(3, 4, 3)), 3, optimizer=OPTIMIZERS[name], normalization=NORMALIZED)


@STEPS
@pytest.mark.parametrize("name", RESTRAINTS)
def test_every_penalty(name, steps):
    model = network()
    compare(model, steps, penalty=RESTRAINTS[name](model), optimizer=OPTIMIZERS["Nesterov"])


@pytest.mark.parametrize("name", ["Adam", "natural", "natural, cg", "natural, cg, hessian", "Kronecker", "relative"])
def test_layers_without_bias(name):
    penalty = [training.Frobenius(0.1), training.GroupWise(0.01), training.Spectral(0.1), training.SpectralProjection(0.9)]
    compare(network(widths=(3, 5, 4), bias=[False, True, False]), 6, optimizer=OPTIMIZERS[name], penalty=penalty)
    if "hessian" not in name:
        settings = {"optimizer": DAMPED[name], "normalization": NORMALIZED}
        compare(network(widths=(3, 5), bias=[True, False]), 6, 1e-9, **settings)


def test_a_linked_family_with_all_of_it():
    model = network(fs.families.Exponential(2), "softplus", (3, 4, 4))
    penalty = [training.Frobenius(0.1), training.Spectral([0.1, 0.0, 0.2])]
    compare(model, 30, optimizer=OPTIMIZERS["Kronecker"], penalty=penalty, normalization=NORMALIZED)


def test_wide_layers_are_solved_by_their_metrics_or_in_the_span_of_the_inputs():
    for name in ("natural", "relative"):
        compare(network(widths=(3, 8)), 4, optimizer=OPTIMIZERS[name], batch_size=2, n=8)
        compare(network(widths=(3, 2)), 4, optimizer=OPTIMIZERS[name], batch_size=20, n=40)


def test_a_kernel_of_zeros_has_no_penalty_and_no_direction():
    model = fs.MLP([np.zeros((4, 4))], activation=[], family=fs.families.Categorical(4))
    compare(model, 6, penalty=training.Spectral(0.1))


def test_a_minibatch_of_several_blocks():
    compare(network(), 6, n=300, batch_size=150)
    compare(network(), 4, n=300, batch_size=150, optimizer=OPTIMIZERS["natural"])


@pytest.mark.parametrize("name", ["Adam", "natural", "natural, cg", "diagonal", "Kronecker", "relative"])
def test_float32(name):
    model = network(activation="relu", widths=(3, 5, 4)).as_dtype(np.dtype(np.float32))
    x = inputs(24).astype(np.float32)
    settings = {"optimizer": OPTIMIZERS[name], "epochs": 2, "batch_size": 8, "rng": 5, "normalization": NORMALIZED}
    settings["penalty"] = [training.Frobenius(0.1), training.Spectral(0.1), training.GroupWise(0.01)]
    y = data(model, x)
    found = training.fit(model, to_device(x), y, **settings)
    assert found.model.dtype == np.float32
    agree(found, training.fit(model, x, y, **settings), 2e-4)


# --- how often the device is waited for ------------------------------------------------------------------------------


def waits(monkeypatch, n, batch_size, widths=(3, 5), **settings):
    """Return the transfers of a step beside those of an epoch, which are the same however many steps it has."""
    monkeypatch.setattr("tests.device.arrays.MEMORY", LARGE)
    counts = []
    for inputs_of in (n, 2 * n):
        transfers.clear()
        trained(network(widths=widths), "cupy", 1, n=inputs_of, batch_size=batch_size, **settings)
        counts.append(len(transfers))
    extra, steps = counts[1] - counts[0], n // batch_size
    assert extra % steps == 0
    return extra // steps


PER_STEP = {
    **dict.fromkeys(["SGD", "momentum", "Nesterov", "Adam"], 1),
    # the checks of the block, those of the solver
    **dict.fromkeys(["natural", "natural, empirical"], 3),
    # the natural parameters that labels are drawn for
    "natural, score": 4,
    # two scalars of every diagonal beside the checks
    "diagonal": 3,
    "diagonal, score": 4,
    "natural, hessian": 4,
    "diagonal, hessian": 4,
    # the traces
    "Kronecker": 4,
    "Kronecker, score": 5,
    "relative": 2,
}


@pytest.mark.parametrize("name", PER_STEP)
def test_transfers_of_a_step(name, monkeypatch):
    settings = {"optimizer": OPTIMIZERS[name]}
    if hasattr(OPTIMIZERS[name], "update_every"):
        settings["optimizer"] = dataclasses.replace(OPTIMIZERS[name], update_every=1)
    found = {
        waits(monkeypatch, 16, 8, **settings),
        waits(monkeypatch, 64, 8, **settings),
        waits(monkeypatch, 64, 32, **settings),
        waits(monkeypatch, 64, 32, (3, 9, 7), **settings),
    }
    assert found == {PER_STEP[name]}


@pytest.mark.parametrize("name", [name for name in RESTRAINTS if name not in ("SpectralProjection", "several")])
def test_penalties_and_normalisation_wait_for_nothing(name, monkeypatch):
    settings = {"penalty": RESTRAINTS[name](network()), "normalization": NORMALIZED}
    assert waits(monkeypatch, 16, 8, **settings) == waits(monkeypatch, 64, 32, **settings) == 1


@pytest.mark.parametrize(
    ("more", "count"),
    [
        ({}, 2),
        ({"normalization": NORMALIZED}, 3),
        ({"validation": (inputs(9), np.zeros(9, int))}, 4),
        ({"penalty": training.SpectralProjection(1e3)}, 2 + 3 + 2),
    ],
)
def test_transfers_of_an_epoch(more, count, monkeypatch):
    monkeypatch.setattr("tests.device.arrays.MEMORY", LARGE)
    counts = []
    for steps in (3, 6):
        transfers.clear()
        trained(network(), "cupy", steps, **more)
        counts.append(len(transfers))
    assert counts[1] - counts[0] == 3 + count


def test_an_inverse_that_serves_waits_for_nothing(monkeypatch):
    for kind in (training.KroneckerNaturalGradient, training.RelativeNaturalGradient, training.DiagonalNaturalGradient):
        assert waits(monkeypatch, 64, 8, optimizer=kind(0.1, update_every=100)) == 1


def test_a_projection_waits_once_per_iteration(monkeypatch):
    for limit, most in ((1e3, 2), (0.5, 2 + 2 * 5)):
        penalty = training.SpectralProjection(limit, iterations=5)
        monkeypatch.setattr("tests.device.arrays.MEMORY", LARGE)
        counts = []
        for n in (16, 32):
            transfers.clear()
            trained(network(), "cupy", 1, n=n, batch_size=8, penalty=penalty)
            counts.append(len(transfers))
        assert 4 <= counts[1] - counts[0] <= 2 * most


def test_conjugate_gradients_wait_once_per_iteration(monkeypatch):
    monkeypatch.setattr("tests.device.arrays.MEMORY", LARGE)
    model = fs.MLP([np.zeros((1, 3))], activation=[], family=fs.families.Gaussian())
    x = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 2.0]])
    newton = training.NaturalGradient(1.0, damping=0, solver="cg")
    counts = []
    for epochs in (1, 2):
        transfers.clear()
        training.fit(model, to_device(x), [1.0, 2.0, 0.0, 1.0], optimizer=newton, epochs=epochs, batch_size=4, rng=0)
        counts.append(len(transfers))
    # The step; the checks of the forward pass; the length of the gradient; three iterations at most; and two at the epoch's end.
    assert counts[1] - counts[0] <= 3 + 3 + 2


# --- where inputs and labels lie -------------------------------------------------------------------------------------


def test_inputs_and_labels_on_the_device_stay_there(monkeypatch):
    monkeypatch.setattr("tests.device.arrays.MEMORY", LARGE)
    model, x = network(), inputs(24)
    y = data(model, x)
    settings = {"optimizer": OPTIMIZERS["Adam"], "epochs": 2, "batch_size": 8, "rng": 5}
    wanted = training.fit(model, x, y, validation=(x[:9], y[:9]), **settings)
    moved = []
    monkeypatch.setattr(DeviceArray, "get", lambda self, get=DeviceArray.get: moved.append(self.shape) or get(self))
    there = to_device(x)
    for given in (there, xr.DataArray(there, dims=("input", "feature"))):
        for labels in (y, to_device(y), xr.DataArray(to_device(y), dims="input")):
            agree(training.fit(model, given, labels, validation=(to_device(x[:9]), to_device(y[:9])), **settings), wanted)
    agree(training.fit(model, x, y, validation=(x[:9], y[:9]), engine="cupy", **settings), wanted)
    assert (24, 3) not in moved
    # Labels are looked at on the host before the first step.
    assert moved.count((24,)) == 4


def test_an_x_on_the_device_may_be_brought_back():
    model, x = network(), inputs(24)
    y = data(model, x)
    settings = {"optimizer": OPTIMIZERS["natural"], "epochs": 2, "batch_size": 8, "rng": 5}
    host = training.fit(model, x, y, engine="numpy", **settings)
    assert training.fit(model, to_device(x), to_device(y), engine="numpy", **settings).model == host.model
    assert json.loads(host.history.attrs["provenance"])["engine"] == "numpy"
    found = training.fit(model, to_device(x), y, **settings)
    assert json.loads(found.history.attrs["provenance"])["engine"] == "cupy"
    assert json.loads(training.fit(model, x, y, **settings).history.attrs["provenance"])["engine"] == "numba"


@pytest.mark.parametrize("name", ["Adam", "diagonal", "Kronecker"])
def test_inputs_that_do_not_fit_on_the_device_are_gathered_on_the_host(name, monkeypatch, tmp_path):
    model, x = network(), inputs(400)
    y = data(model, x)
    settings = {"optimizer": OPTIMIZERS[name], "epochs": 1, "batch_size": 40, "rng": 5}
    wanted = training.fit(model, x, y, **settings, validation=(x, y))
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    agree(training.fit(model, mapped, y, engine="cupy", validation=(mapped, y), **settings), wanted)
    monkeypatch.setattr("tests.device.arrays.MEMORY", 2 * x.nbytes - 1)
    whole = []
    monkeypatch.setattr(
        "tests.device.arrays.DeviceArray.__init__", lambda self, own: whole.append(own.shape) or vars(self).update(own=own)
    )
    agree(training.fit(model, x, y, engine="cupy", validation=(x, y), **settings), wanted)
    assert x.shape not in whole
    monkeypatch.setattr("tests.device.arrays.MEMORY", 2 * x.nbytes)
    agree(training.fit(model, x, y, engine="cupy", validation=(x, y), **settings), wanted)
    assert x.shape in whole


def test_integers_and_other_byte_orders_are_taken():
    model, counts = network(), np.random.default_rng(0).integers(0, 9, (24, 3))
    y = data(model, counts.astype(float))
    settings = {"optimizer": OPTIMIZERS["Adam"], "epochs": 1, "batch_size": 8, "rng": 5, "engine": "cupy"}
    wanted = training.fit(model, counts.astype(float), y, **settings)
    for x in (counts, to_device(counts), counts.astype(np.uint8), counts.astype(">f8")):
        agree(training.fit(model, x, y, **settings), wanted, 0)


def test_what_users_see_is_of_the_host():
    seen = []
    model = network()
    found = trained(model, "cupy", callbacks=[lambda epoch, one: seen.append(one)], validation=(inputs(5), [0, 1, 2, 3, 0]))
    for one in (*seen, found.model):
        assert type(one) is fs.MLP
        assert all(type(matrix) is np.ndarray and not matrix.flags.writeable for matrix in one.weights)
    assert seen[-1] == found.model
    assert {"validation_loss", "validation_accuracy", "accuracy"} <= set(found.history)


def test_optimisers_of_users_are_given_arrays_of_the_device():
    class Halved(training.Optimizer):
        def start(self, model):
            assert isinstance(model.weights[0], DeviceArray)

            class Steps(training.Steps):
                def step(self, gradient, batch):
                    given = (gradient, batch.x, batch.y, batch.rows, *batch.model.weights)
                    assert all(isinstance(one, DeviceArray) for one in given)
                    assert len(batch.x) == len(batch.y) == len(batch.rows) == 8
                    with no_transfers():
                        return -0.5 * gradient

            return Steps()

    found = trained(network(), "cupy", optimizer=Halved())
    agree_on_weights = zip(found.model.weights, trained(network(), None, optimizer=training.SGD(0.5)).model.weights, strict=True)
    assert all(np.allclose(one, other, rtol=1e-12) for one, other in agree_on_weights)


def test_a_path_of_penalties_is_trained_on_the_device():
    model, x = network(), inputs(24)
    y = data(model, x)
    settings = {"optimizer": OPTIMIZERS["Adam"], "epochs": 2, "batch_size": 8, "rng": 5, "strengths": [0.0, 0.1]}
    settings |= {"penalty": training.Frobenius, "validation": (x[:9], y[:9]), "x_eval": x[:3]}
    wanted = fs.regularization_path(model, x, y, **settings)
    transfers.clear()
    for given, labels in ((x, y), (to_device(x), to_device(y))):
        found = fs.regularization_path(model, given, labels, engine="cupy", **settings)
        for name in wanted.data_vars:
            np.testing.assert_allclose(found[name], wanted[name], rtol=1e-9, err_msg=name)
    assert len(transfers) > 2 * 2 * 6


# --- what is refused, and what ends a training -----------------------------------------------------------------------


def same_end(kind, call):
    """Return the exceptions of device and host, which carry the same words."""
    ends = []
    for engine in ("cupy", "numpy"):
        with pytest.raises(kind) as caught:
            call(engine)
        ends.append(caught.value)
    assert str(ends[0]) == str(ends[1])
    return ends


FAR = fs.MLP([np.full((2, 4), 300.0)], activation=[], family=fs.families.Poisson(2))
DEEP = network(fs.families.Exponential(2), "identity", (3, 4))
DIVERGING = {
    "domain": (FAR, {}),
    "loss": (network(fs.families.Gaussian(4)), {"optimizer": training.SGD(1e90)}),
    "later": (network(fs.families.Gaussian(4), "identity", (3, 5, 5)), {"optimizer": training.SGD(0.7), "steps": 60}),
    "link": (DEEP, {"optimizer": training.SGD(30.0), "steps": 30}),
    "normalised": (network(activation="identity"), {"optimizer": training.SGD(1e200), "normalization": NORMALIZED, "steps": 9}),
}


@pytest.mark.parametrize("name", DIVERGING)
def test_a_training_that_diverges(name):
    model, settings = DIVERGING[name]

    def call(engine):
        given = {"steps": 6, **settings}
        x = inputs(24)
        y = np.ones((24, model.widths[-1])) if not model.family.labels_are_classes else np.zeros(24, int)
        steps = given.pop("steps")
        given = {"optimizer": training.SGD(0.1), **given}
        return training.fit(model, x, y, epochs=-(-steps // 3), batch_size=8, rng=0, engine=engine, **given)

    found, wanted = same_end(fs.TrainingDiverged, call)
    agree(found.fitted, wanted.fitted)
    assert type(found.fitted.model.weights[0]) is np.ndarray
    assert (wanted.fitted.history.sizes["epoch"] > 0) == (name == "later")


def test_an_error_in_a_callback_and_an_interrupt_carry_what_was_done():
    def stop(epoch, model):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        trained(network(), "cupy", 9, callbacks=[stop])
    agree(caught.value.fitted, trained(network(), None, 6))


@pytest.mark.parametrize("name", ["natural, hessian", "natural, cg, hessian", "diagonal, hessian"])
def test_an_information_that_is_not_positive_definite(name):
    optimizer = dataclasses.replace(OPTIMIZERS[name], damping=0.0, n_draws=1)
    number = re.compile(r"eigenvalue is \S+")
    ends = []
    for engine in ("cupy", "numpy"):
        with pytest.raises(fs.AssumptionError, match="`damping` must make the hessian information") as caught:
            trained(network(), engine, optimizer=optimizer)
        ends.append(number.sub("", str(caught.value)))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("name", ["natural", "Kronecker", "relative"])
def test_a_singular_information(name):
    optimizer = dataclasses.replace(OPTIMIZERS[name], damping=0.0)
    model = network(fs.families.Gaussian(2), "relu")
    with pytest.raises(fs.AssumptionError, match="positive definite, got 0 where its smallest eigenvalue"):
        trained(model, "cupy", optimizer=optimizer, batch_size=2)


@pytest.mark.parametrize("name", ["natural", "natural, cg", "diagonal", "Kronecker", "relative"])
def test_an_information_where_pre_activations_are_infinite(name):
    model = fs.MLP([np.full((2, 4), 1e200), np.ones((1, 3))], activation="tanh", family=fs.families.Gaussian())

    def call(engine):
        settings = {"optimizer": OPTIMIZERS[name], "epochs": 1, "batch_size": 4, "rng": 0}
        return training.fit(model, 1e200 * inputs(4), np.ones(4), engine=engine, **settings)

    found, _ = same_end(ValueError, call)
    assert str(found).startswith("`model` must give finite pre-activations")


def test_a_matrix_that_does_not_fit_on_the_device(monkeypatch):
    model = network(widths=(3, 20, 10))
    for optimizer in (training.NaturalGradient(0.1, damping=0), training.RelativeNaturalGradient(0.1, damping=0)):
        monkeypatch.setattr("tests.device.arrays.MEMORY", 2**14)
        with pytest.raises(fs.SizeError, match="are available"):
            trained(model, "cupy", optimizer=optimizer)


def test_bad_inputs_and_labels_are_refused_with_the_words_of_the_host():
    model, x = network(), inputs(24)
    y = data(model, x)
    settings = {"optimizer": OPTIMIZERS["SGD"], "epochs": 1, "batch_size": 8, "rng": 0}
    broken, wrong = x.copy(), y.copy()
    broken[17, 1], wrong[20] = np.inf, 4
    for given, labels in ((broken, y), (x, wrong), (x[:, :2], y), (x, y[:5])):
        wanted, _ = same_end(ValueError, lambda engine, g=given, l=labels: training.fit(model, g, l, engine=engine, **settings))
        with pytest.raises(ValueError, match=re.escape(str(wanted))):
            training.fit(model, to_device(given), to_device(labels), **settings)
    with pytest.raises(ValueError, match=re.escape("`x` must be finite, got inf at index (17, 1)")):
        training.fit(model, x, y, validation=(to_device(broken), y), engine="cupy", **settings)


def test_cupy_has_every_function_with_these_arguments():
    pytest.importorskip("cupy")
    called.clear()
    for optimizer in OPTIMIZERS.values():
        trained(network(), "cupy", 1, optimizer=optimizer, normalization=NORMALIZED)
    trained(network(), "cupy", 1, penalty=[one for make in RESTRAINTS.values() for one in np.atleast_1d(make(network()))])
    assert len(called) > 50
    fit_cupy(called)


def test_functions_of_users_stay_on_the_host():
    def cube(a):
        yield a**3
        yield 3 * a**2

    mine = fs.activations.Activation("cube", cube, sup_first=1.0, sup_second=1.0)
    model = fs.MLP.random([3, 4, 2], activation=mine, family=fs.families.Bernoulli(2), rng=1)
    with pytest.raises(fs.EngineUnavailable, match="the activation 'cube'"):
        trained(model, "cupy")
    with pytest.raises(ValueError, match="`engine` must be one of"):
        trained(model, "torch")


def test_kept_is_what_makes_a_network_again():
    model = network()
    assert fs.MLP(model.weights, **kept(model)) == model
