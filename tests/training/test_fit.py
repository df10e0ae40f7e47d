"""The loop: data, reproducibility, history, callbacks, and what is kept when a training ends early."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs
from fisherstats import training
from tests.refusals import pattern, refused

F = fs.families
RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 3))
Y = RNG.integers(0, 2, 50)
MODEL = fs.MLP.random([3, 4, 2], activation="tanh", family=F.Categorical(2), rng=0)
USUAL = {"optimizer": training.Adam(0.02), "epochs": 3, "batch_size": 16, "rng": 0}


def fit(model=MODEL, x=X, y=Y, **settings):
    return training.fit(model, x, y, **(USUAL | settings))


# --- what is learned -------------------------------------------------------------------------------------------------


def test_it_learns_handwritten_digits():
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    order = np.random.default_rng(0).permutation(len(digits.data))
    x, y = digits.data[order] / 16, digits.target[order]
    model = fs.MLP.random([64, 32, 10], activation="tanh", family=F.Categorical(10), rng=0)
    fitted = fit(
        model, x[:1400], y[:1400], optimizer=training.Adam(0.005), epochs=15, batch_size=50, validation=(x[1400:], y[1400:])
    )
    history = fitted.history
    assert history.validation_accuracy[-1] > 0.93
    assert np.all(np.diff(history.loss[:5]) < 0)
    h = fitted.model.natural_parameters(x[1400:])
    np.testing.assert_allclose(history.validation_loss[-1], -F.Categorical(10).log_prob(h, y[1400:]).mean(), rtol=1e-13)
    assert history.validation_accuracy[-1] == np.mean(h.argmax(axis=1) == y[1400:])


def test_full_batch_descent_reaches_the_maximum_likelihood_of_a_linear_model():
    x = np.column_stack([X, np.ones(50)])
    y = X @ [1.0, -2.0, 0.5] + 0.3
    model = fs.MLP([np.zeros((1, 4))], activation=[], family=F.Gaussian(1))
    fitted = fit(model, X, y, optimizer=training.SGD(0.4), epochs=400, batch_size=10**9)
    np.testing.assert_allclose(fitted.model.weights[0][0], np.linalg.lstsq(x, y, rcond=None)[0], rtol=1e-10)
    assert fitted.history.gradient_norm[-1] < 1e-10


def test_the_given_network_is_not_changed_and_the_result_is_frozen():
    before = MODEL.fingerprint
    fitted = fit()
    assert fs.MLP(MODEL.weights, activation="tanh", family=MODEL.family).fingerprint == before
    assert fitted.model.fingerprint != before
    assert type(fitted.model) is fs.MLP
    assert not fitted.model.weights[0].flags.writeable
    assert fitted.model.activations == MODEL.activations


def test_float32_stays_float32():
    narrow = MODEL.as_dtype(np.dtype(np.float32))
    restraints = [training.Frobenius(0.1), training.Spectral(0.1), training.GroupWise(0.1), training.SpectralProjection(2)]
    for optimizer in (training.Adam(), training.SGD(0.1, momentum=0.9, nesterov=True)):
        assert fit(narrow, X.astype(np.float32), optimizer=optimizer, penalty=restraints).model.dtype == np.float32
    assert fit(narrow).model.dtype == np.float64
    wide, short = fit().history.loss, fit(narrow, X.astype(np.float32)).history.loss
    np.testing.assert_allclose(wide, short, rtol=1e-5)


def test_integers_are_converted_batch_by_batch():
    counts = RNG.integers(0, 255, (50, 3), dtype=np.uint8)
    assert fit(x=counts).model == fit(x=counts.astype(float)).model


# --- reproducible ----------------------------------------------------------------------------------------------------


def test_a_seed_repeats_and_threads_change_no_bit():
    assert fit().model == fit(rng=np.random.SeedSequence(0), num_threads=1).model == fit(num_threads=2).model
    assert fit(rng=1).model != fit().model
    generator = np.random.default_rng(0)
    assert fit(rng=generator).model != fit(rng=generator).model
    assert fit().history.identical(fit().history)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "optimizer", [training.SGD(0.1, momentum=0.9), training.SGD(0.1, momentum=0.9, nesterov=True), training.Adam()]
)
def test_threads_that_share_a_step_change_no_bit(optimizer, dtype):
    # Wide enough for products, rows and updates to be cut into several pieces.
    wide = fs.MLP.random([700, 120, 60, 3], activation="tanh", family=fs.families.Categorical(3), rng=0).as_dtype(dtype)
    x, y = np.random.default_rng(0).normal(size=(300, 700)).astype(dtype), np.arange(300) % 3
    for size in (128, 300):
        one, three = (fit(wide, x, y, optimizer=optimizer, epochs=2, batch_size=size, num_threads=n) for n in (1, 3))
        assert one.model == three.model
        assert one.history.equals(three.history)


def test_every_epoch_shuffles_anew_and_the_last_batch_is_smaller():
    first, second = (training.batches(10, 4, rng=0, epoch=epoch) for epoch in (1, 2))
    assert [len(rows) for rows in first] == [4, 4, 2]
    assert sorted(np.concatenate(first)) == sorted(np.concatenate(second)) == list(range(10))
    assert not np.array_equal(np.concatenate(first), np.concatenate(second))
    orders = np.array([np.concatenate(training.batches(4, 4, rng=seed, epoch=1)) for seed in range(400)])
    # Each input is first with probability 1/4: 5 standard deviations of a count are 43, a false alarm in a million.
    assert np.all(np.abs(np.bincount(orders[:, 0], minlength=4) - 100) < 43)


# --- the history -----------------------------------------------------------------------------------------------------


def test_the_history_holds_what_happened(tmp_path):
    history = fit(penalty=training.Frobenius(0.1), epochs=2, batch_size=50).history
    assert dict(history.sizes) == {"epoch": 2, "layer": 2}
    assert history.epoch.values.tolist() == [1, 2]
    assert set(history) == {"loss", "penalty", "accuracy", "gradient_norm", "weight_norm", "spectral_norm"}
    h = MODEL.natural_parameters(X)
    np.testing.assert_allclose(history.loss[0], -MODEL.family.log_prob(h, Y).mean(), rtol=1e-13)
    np.testing.assert_allclose(history.penalty[0], 0.05 * sum((k**2).sum() for k in MODEL.kernels), rtol=1e-13)
    assert history.accuracy[0] == np.mean(h.argmax(axis=1) == Y)
    fitted = fit(epochs=1)
    for layer, kernel in enumerate(fitted.model.kernels):
        np.testing.assert_allclose(fitted.history.weight_norm[0, layer], np.linalg.norm(kernel), rtol=1e-14)
        np.testing.assert_allclose(fitted.history.spectral_norm[0, layer], np.linalg.norm(kernel, 2), rtol=1e-14)
    made = json.loads(history.attrs["provenance"])
    assert made["optimizer"] == "Adam(learning_rate=0.02, betas=(0.9, 0.999), epsilon=1e-08)"
    assert made["penalties"] == ["Frobenius(strength=0.1, biases=False)"]
    assert made["model"] == MODEL.fingerprint
    assert "accuracy" not in fit(fs.MLP.random([3, 1], activation=[], family=F.Poisson(), rng=0)).history
    history.to_netcdf(tmp_path / "history.nc")
    assert xr.load_dataset(tmp_path / "history.nc").identical(history)


def test_labelled_inputs_and_labels_are_taken():
    x = xr.DataArray(X, dims=["input", "feature"], coords={"input": np.arange(50)})
    y = xr.DataArray(Y, dims=["input"], coords={"input": np.arange(50)})
    assert fit(x=x, y=y).model == fit().model
    with pytest.raises(ValueError, match="same order"):
        fit(x=x, y=y[::-1])


def test_callbacks_are_joined_along_the_epochs(tmp_path):
    seen = []
    callbacks = [
        training.record(lambda model: fs.estimator_variance(model, X)),
        training.record(
            lambda model: fs.estimate_fisher(model, X, estimator="score", n_draws=2, rng=0), prefix="estimated_", every=2
        ),
        lambda epoch, model: seen.append((epoch, model.fingerprint)),
        lambda epoch, model: {"twice": 2 * epoch, "bias": xr.DataArray(model.weights[0][:, -1], dims="unit")},
    ]
    fitted = fit(callbacks=callbacks)
    history = fitted.history
    assert [epoch for epoch, _ in seen] == [1, 2, 3]
    assert seen[-1][1] == fitted.model.fingerprint
    last = fs.estimator_variance(fitted.model, X)
    assert np.array_equal(history.variance[-1], last.variance)
    assert history.variance.dims == ("epoch", "estimator", "param")
    assert history.variance.attrs["long_name"] == last.variance.attrs["long_name"]
    assert "provenance" not in history.variance.attrs
    estimate = fs.estimate_fisher(fitted.model, X, estimator="score", n_draws=2, rng=0)
    assert np.array_equal(history.estimated_information[-1], estimate)
    assert np.array_equal(history.estimated_standard_error[-1], estimate.standard_error)
    assert np.isnan(history.estimated_information[1]).all()
    assert history.twice.values.tolist() == [2, 4, 6]
    assert np.array_equal(history.bias[-1], fitted.model.weights[0][:, -1])
    assert history.param_layer.equals(last.param_layer)
    history.to_netcdf(tmp_path / "history.nc")
    assert xr.load_dataset(tmp_path / "history.nc").identical(history)


# --- what is kept when a training ends early -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupt_or_an_error_in_a_callback_carries_what_was_done(kind):
    def stop(epoch, model):
        if epoch == 2:
            raise kind("enough")

    with pytest.raises(kind, match="enough") as caught:
        fit(callbacks=[lambda epoch, model: {"seen": epoch}, stop])
    kept = caught.value.fitted
    assert kept.model == fit(epochs=2).model
    assert kept.history.seen.values.tolist() == [1, 2]
    assert np.array_equal(kept.history.loss, fit(epochs=2).history.loss)
    assert "`fitted`" in caught.value.__notes__[0]


def test_an_interrupt_within_an_epoch_keeps_the_last_whole_one():
    class Interrupted(training.SGD):
        def start(self, model):
            steps, step = super().start(model), 0

            class Steps(training.Steps):
                def step(self, gradient, batch):
                    nonlocal step
                    step += 1
                    if step == 7:
                        raise KeyboardInterrupt
                    return steps.step(gradient, batch)

            return Steps()

    with pytest.raises(KeyboardInterrupt) as caught:
        fit(optimizer=Interrupted(0.1))
    kept = caught.value.fitted
    assert kept.model == fit(optimizer=training.SGD(0.1), epochs=1).model
    assert kept.history.epoch.values.tolist() == [1]


def test_before_the_first_epoch_the_network_is_the_given_one():
    with pytest.raises(fs.TrainingDiverged) as caught:
        fit(x=1e200 * X, model=fs.MLP.random([3, 2], activation=[], family=F.Gaussian(2), rng=0), y=np.zeros((50, 2)))
    assert caught.value.fitted.model == fs.MLP.random([3, 2], activation=[], family=F.Gaussian(2), rng=0)
    assert caught.value.fitted.history.sizes["epoch"] == 0


def diverging(**settings):
    model = fs.MLP.random([3, 1], activation=[], family=F.Gaussian(1), rng=0)
    return fit(model, X, X.sum(axis=1), optimizer=training.SGD(200.0), epochs=200, batch_size=25, **settings)


def test_a_diverging_loss_stops_with_the_last_finite_network():
    with pytest.raises(fs.TrainingDiverged, match=r"^Training stopped in epoch (\d+), step (\d+): the loss is ") as caught:
        diverging()
    kept = caught.value.fitted
    epoch = int(re.search(r"epoch (\d+)", str(caught.value))[1])
    assert kept.history.epoch.values.tolist() == list(range(1, epoch))
    assert np.isfinite(kept.history.loss).all()
    assert all(np.isfinite(weight).all() for weight in kept.model.weights)


class Blowing(training.Optimizer):
    """Moves the parameters to infinity in the last step."""

    def start(self, model):
        class Steps(training.Steps):
            def step(self, gradient, batch):
                return np.full_like(gradient, np.inf if batch.number == 3 else 0)

        return Steps()


class Leaping(training.Optimizer):
    """Moves the parameters so far in the last step that outputs overflow."""

    def start(self, model):
        class Steps(training.Steps):
            def step(self, gradient, batch):
                return np.full_like(gradient, 1e308 if batch.number == 3 else 0)

        return Steps()


def huge_inputs():
    return fit(fs.MLP(np.zeros((1, 1, 4)).tolist(), activation=[], family=F.Gaussian(1)), X * 1e160, np.ones(50))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: fit(optimizer=Blowing(), epochs=1),
            "Training stopped in epoch 1, step 4: a weight is no longer finite after it. Lower",
        ),
        (
            lambda: fit(optimizer=Leaping(), epochs=1, validation=(X, Y)),
            "Training stopped in epoch 1, step 4: the outputs of the network have left the domain of the family at validation "
            "inputs (",
        ),
        (huge_inputs, "Training stopped in epoch 1, step 1: the gradient has the norm inf. Lower the `learning_rate`"),
        (
            lambda: fit(fs.MLP([[[0.0] * 3 + [800.0]]], activation=[], family=F.Exponential()), y=np.ones(50)),
            "Training stopped in epoch 1, step 1: the outputs of the network have left the domain of the family (",
        ),
    ],
    ids=["weight", "validation", "gradient", "domain"],
)
def test_what_is_no_longer_finite_is_named(call, message):
    with pytest.raises(fs.TrainingDiverged, match=pattern(message)):
        call()


# --- what is refused -------------------------------------------------------------------------------------------------

F_MODEL = fs.MLP.random([3, 1], activation=[], family=F.Poisson(), rng=0)


@refused(
    [
        (lambda: fit(model=3), TypeError, "`model` must be a fisherstats.MLP, got 3;"),
        (lambda: fit(x=X[:, :2]), ValueError, "`x` must have 3 columns, the inputs of the first layer, got shape (50, 2)."),
        (
            lambda: fit(x=pytest.importorskip("dask.array").from_array(X)),
            TypeError,
            "`x` must be an array in memory to train on, got ",
        ),
        (lambda: fit(y=Y[:9]), ValueError, "`y` must"),
        (lambda: fit(y=Y + 1), ValueError, "`y` must"),
        (lambda: fit(F_MODEL, y=Y - 1), ValueError, "`y` must"),
        (lambda: fit(F_MODEL, y=Y + 0.5), ValueError, "`y` must"),
        (lambda: fit(epochs=0), ValueError, "`epochs` must be a positive integer, got 0."),
        (lambda: fit(batch_size=2.5), ValueError, "`batch_size` must be a positive integer, got 2.5."),
        (
            lambda: fit(rng=None),
            ValueError,
            "`rng` must be a non-negative int, a numpy SeedSequence or a numpy Generator, got None;",
        ),
        (
            lambda: fit(optimizer="adam"),
            TypeError,
            "`optimizer` must be an optimiser such as fisherstats.training.Adam() or fisherstats.training.SGD(0.1), got 'adam'.",
        ),
        (
            lambda: fit(optimizer=training.Adam),
            TypeError,
            "`optimizer` must be .*; call it, as in fisherstats.training.Adam().",
        ),
        (
            lambda: fit(penalty=[training.Frobenius(1), 1e-4]),
            TypeError,
            "`penalty` must be None, a penalty such as fisherstats.training.Frobenius(1e-4), or a list of penalties, got 0.0001.",
        ),
        (
            lambda: fit(penalty=training.Frobenius([1, 2, 3])),
            ValueError,
            "`strength` must be one number, or one for each of the 2 layers, got 3.",
        ),
        (
            lambda: fit(callbacks=print),
            TypeError,
            "`callbacks` must be a list of functions of (epoch, model), got .*; put one into a",
        ),
        (lambda: fit(callbacks=[3]), TypeError, "`callbacks[0]` must be a function of (epoch, model), got 3."),
        (
            lambda: fit(callbacks=[lambda epoch, model: model.weights[0]]),
            TypeError,
            "`callbacks[0]` must return a named DataArray, a Dataset, a dict of numbers and DataArrays, or None, got an array of",
        ),
        (lambda: fit(callbacks=[lambda epoch, model: {"a": [1, 2]}]), TypeError, "`callbacks[0]` must return a named DataArray,"),
        (
            lambda: fit(callbacks=[lambda epoch, model: {"loss": 1}]),
            ValueError,
            "`callbacks[0]` must return unique names, got 'loss', which the history holds already; rename it, or use "
            "fisherstats.training.record(function, prefix=...).",
        ),
        (
            lambda: fit(callbacks=[training.record(lambda model: {"a": 1})] * 2),
            ValueError,
            "`callbacks[1]` must return unique names, got 'a', which the history holds already;",
        ),
        (
            lambda: fit(callbacks=[lambda epoch, model: {"epoch": 1}]),
            ValueError,
            "`callbacks[0]` must return unique names, got 'epoch', which the history adds itself;",
        ),
        (
            lambda: fit(
                callbacks=[
                    lambda epoch, model, shift=shift: {
                        f"a{shift}": xr.DataArray([1, 2], dims="p", coords={"output": ("p", [shift, 1])})
                    }
                    for shift in (0, 1)
                ]
            ),
            ValueError,
            "`callbacks[1]` must return coordinates consistent with the others recorded, got a conflict (",
        ),
        (lambda: training.record(3), TypeError, "`function` must be a function of a model, got 3."),
        (lambda: training.record(len, prefix=1), TypeError, "`prefix` must be text, got 1."),
        (lambda: training.record(len, every=0), ValueError, "`every` must be a positive integer, got 0."),
        (lambda: fit(validation=X), TypeError, "`validation` must be a pair (x, y) of inputs and labels, got an array of"),
        (lambda: fit(validation=(X[:, :1], Y)), ValueError, "`validation`: `x` must have 3 columns"),
        (lambda: fit(validation=(X, Y[:3])), ValueError, "`validation`: `y` must have shape"),
        (lambda: training.SGD(0), ValueError, "`learning_rate` must be a finite number above 0, got 0."),
        (lambda: training.SGD(0.1, momentum=1), ValueError, "`momentum` must be a number of at least 0 and below 1, got 1."),
        (
            lambda: training.SGD(0.1, nesterov=True),
            ValueError,
            "`nesterov` must be False without momentum, got True with momentum=0.0; set momentum=0.9, say.",
        ),
        (lambda: training.Adam(-1), ValueError, "`learning_rate` must be a finite number above 0, got -1."),
        (lambda: training.Adam(betas=0.9), ValueError, "`betas` must be two numbers of at least 0 and below 1, got 0.9."),
        (lambda: training.Adam(betas=(0.9, 1)), ValueError, "`betas[1]` must be a number of at least 0 and below 1, got 1."),
        (lambda: training.Adam(epsilon=0), ValueError, "`epsilon` must be a finite number above 0, got 0."),
        (
            lambda: training.Frobenius(-1),
            ValueError,
            "`strength` must be a finite number of at least 0, or one per layer, got -1.",
        ),
        (lambda: training.Spectral([1, np.inf]), ValueError, "`strength[1]` must be a finite number of at least 0, got inf."),
        (lambda: training.Spectral([]), ValueError, "`strength` must be a finite number of at least 0, or one per layer, got an"),
        (lambda: training.Spectral(1, iterations=0), ValueError, "`iterations` must be a positive integer, got 0."),
        (lambda: training.SpectralProjection(0), ValueError, "`limit` must be a number above 0, or one per layer, got 0."),
        (lambda: training.GroupWise(1, by="row"), ValueError, "`by` must be one of 'unit', 'feature', 'layer', got 'row'."),
        (lambda: training.batches(10, 0, rng=0, epoch=1), ValueError, "`batch_size` must be a positive integer, got 0."),
    ]
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=pattern(message)):
        call()


def test_a_progress_bar_needs_tqdm_alone(capsys):
    pytest.importorskip("tqdm")
    assert fit(progress=True).model == fit().model
    assert "step" in capsys.readouterr().err
