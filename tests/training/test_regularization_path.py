"""Errors by layer and the path of penalties: the numbers of other functions, what is kept when it ends early, figures."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs
from fisherstats import training
from tests.refusals import pattern, refused

F = fs.families
RNG = np.random.default_rng(0)
X, X_OTHER = RNG.normal(size=(40, 3)), RNG.normal(size=(7, 3))
Y, Y_OTHER = RNG.integers(0, 3, 40), RNG.integers(0, 3, 7)
MODEL = fs.MLP.random([3, 4, 5, 3], activation=["tanh", "gelu"], family=F.Categorical(3), rng=0)
TRAINING = {"optimizer": training.Adam(0.02), "epochs": 2, "batch_size": 16, "rng": 0}
NORMALIZATION = training.BatchNormalization(momentum=0.3)
USUAL = TRAINING | {"penalty": training.Frobenius, "strengths": [0.0, 0.3]}


def path(model=MODEL, x=X, y=Y, **settings) -> xr.Dataset:
    return fs.regularization_path(model, x, y, **(USUAL | settings))


def fitted(strength: float, model=MODEL, penalty=training.Frobenius, normalization=None) -> fs.MLP:
    return training.fit(model, X, Y, penalty=penalty(strength), normalization=normalization, **TRAINING).model


# --- errors by layer -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [F.Categorical(3), F.Poisson(3), F.Gaussian(3)], ids=lambda family: family.name)
def test_every_number_is_what_the_entries_say(family) -> None:
    model = fs.MLP.random([3, 4, 5, 3], activation=["tanh", "gelu"], family=family, rng=0)
    found = fs.layer_errors(model, X, n_draws=3, target_cv=0.2)
    bounds, one_draw = fs.variance_bounds(model, X, n_draws=3), fs.estimator_variance(model, X)
    information = fs.fisher_information(model, X)
    for layer in range(3):
        mine = information.param_layer.values == layer
        mean = math.fsum(information.values[mine]) / mine.sum()
        np.testing.assert_allclose(found.information[layer], mean, rtol=1e-13)
        for name in ("score", "hessian"):
            at = {"estimator": name, "layer": layer}
            entries = one_draw.variance.sel(estimator=name).values[mine]
            variance = math.fsum(entries) / mine.sum()
            np.testing.assert_allclose(found.variance.sel(at), variance / 3, rtol=1e-12)
            np.testing.assert_allclose(found.relative_error.sel(at), math.sqrt(variance / 3) / mean, rtol=1e-12)
            for side in ("lower", "upper"):
                np.testing.assert_allclose(found[side].sel(at), bounds[side].sel(estimator=name).values[mine].mean(), rtol=1e-12)
            draws = float(found.draws.sel(at))
            assert draws == 1 or math.sqrt(variance / (draws - 1)) > 0.2 * mean  # one less is not enough
            assert math.sqrt(variance / draws) <= 0.2 * mean
    assert (found.lower <= found.variance * (1 + 1e-12)).all()
    assert (found.variance <= found.upper * (1 + 1e-12)).all()
    assert float(found.variance.sel(estimator="hessian", layer=2)) == 0.0
    assert float(found.draws.sel(estimator="hessian", layer=2)) == 1.0


def test_a_layer_without_information() -> None:
    model = fs.MLP([[[0.0, 0.0]], [[0.0, 0.0]]], activation="tanh", family=F.Gaussian())
    found = fs.layer_errors(model, np.ones((1, 1)))
    assert found.information[0] == found.relative_error.sel(layer=0).max() == 0.0
    # x = 0 reaches nothing, and the second layer sees no weight: a variance without information needs two outputs that differ.
    assert np.isfinite(found.draws.sel(layer=1)).all()


def test_as_a_callback_it_becomes_a_history() -> None:
    callback = training.record(lambda model: fs.layer_errors(model, X))
    run = training.fit(MODEL, X, Y, callbacks=[callback], **TRAINING)
    last = fs.layer_errors(run.model, X)
    for name in last.data_vars:
        assert run.history[name].dims[0] == "epoch"
        np.testing.assert_array_equal(run.history[name][-1], last[name])


# --- the path --------------------------------------------------------------------------------------------------------


PENALTIES = [training.Frobenius, training.Spectral, training.GroupWise]


@pytest.mark.parametrize(
    ("penalty", "normalization"),
    [*itertools.product(PENALTIES, [None, NORMALIZATION]), (training.SpectralProjection, None)],
    ids=lambda one: "plain" if one is None else getattr(one, "__name__", "normalised"),
)
def test_every_strength_is_a_training_of_its_own(penalty, normalization) -> None:
    strengths = [2.0, 0.5]
    settings = {"penalty": penalty, "normalization": normalization, "x_eval": X_OTHER, "validation": (X_OTHER, Y_OTHER)}
    found = path(strengths=strengths, n_draws=2, target_cv=0.3, **settings)
    assert found.strength.values.tolist() == strengths
    for strength in strengths:
        model, one = fitted(strength, penalty=penalty, normalization=normalization), found.sel(strength=strength)
        errors = fs.layer_errors(model, X_OTHER, n_draws=2, target_cv=0.3)
        for name in errors.data_vars:
            np.testing.assert_array_equal(one[name], errors[name])
        norms = fs.weight_norms(model)
        for name in ("frobenius", "spectral"):
            np.testing.assert_allclose(one[name], norms[name], rtol=1e-14)
        for prefix, x, y in (("", X, Y), ("validation_", X_OTHER, Y_OTHER)):
            h = model.natural_parameters(x)
            np.testing.assert_allclose(one[f"{prefix}log_likelihood"], model.family.log_prob(h, y).mean(), rtol=1e-13)
            assert one[f"{prefix}accuracy"] == np.mean(h.argmax(axis=1) == y)


def test_a_normalised_path_is_that_of_the_folded_networks_bit_for_bit() -> None:
    found = path(strengths=[0.1], normalization=NORMALIZATION, validation=(X_OTHER, Y_OTHER)).isel(strength=0)
    run = training.fit(
        MODEL, X, Y, penalty=training.Frobenius(0.1), normalization=NORMALIZATION, validation=(X_OTHER, Y_OTHER), **TRAINING
    )
    errors, norms, last = fs.layer_errors(run.model, X), fs.weight_norms(run.model), run.history.isel(epoch=-1)
    for name in errors.data_vars:
        np.testing.assert_array_equal(found[name], errors[name])
    for name in ("frobenius", "spectral"):
        np.testing.assert_array_equal(found[name], norms[name])
    assert found.validation_log_likelihood == -last.validation_loss
    assert found.validation_accuracy == last.validation_accuracy
    assert json.loads(found.attrs["provenance"])["normalization"] == repr(NORMALIZATION)
    plain = path(strengths=[0.1], normalization=None)
    assert "normalization" not in json.loads(plain.attrs["provenance"])
    assert plain.identical(path(strengths=[0.1]))
    assert not np.array_equal(plain.variance[0], found.variance)


def test_weight_decay_shrinks_norms_and_absolute_errors() -> None:
    found = path(strengths=[0.0, 0.005, 0.02], epochs=30)
    assert (found.frobenius.diff("strength") < 0).all()
    assert (found.log_likelihood.diff("strength") < 0).all()
    assert (found.variance.sel(layer=[0, 1]).diff("strength") < 0).all()


def test_a_warm_start_goes_on_from_the_strength_before() -> None:
    found = path(strengths=[0.3, 0.0], warm_start=True)
    model = fitted(0.0, fitted(0.3))
    np.testing.assert_array_equal(found.variance[1], fs.layer_errors(model, X).variance)
    assert not np.array_equal(found.variance[1], path(strengths=[0.3, 0.0]).variance[1])
    np.testing.assert_array_equal(found.variance[0], path(strengths=[0.3]).variance[0])
    found = path(strengths=[0.3, 0.0], warm_start=True, normalization=NORMALIZATION)
    model = fitted(0.0, fitted(0.3, normalization=NORMALIZATION), normalization=NORMALIZATION)
    np.testing.assert_array_equal(found.variance[1], fs.layer_errors(model, X).variance)


def test_a_function_may_return_several_penalties() -> None:
    both = path(penalty=lambda strength: [training.Frobenius(strength), training.SpectralProjection(1.0)])
    assert (both.spectral <= 1).all()
    made = json.loads(both.attrs["provenance"])
    assert made["penalties"][1] == ("[Frobenius(strength=0.3, biases=False), SpectralProjection(limit=1.0, iterations=100)]")
    assert made["optimizer"].startswith("Adam(")
    assert made["warm_start"] is False


def test_labels_that_are_no_classes_have_no_accuracy() -> None:
    model = fs.MLP.random([3, 4, 1], activation="tanh", family=F.Poisson(), rng=0)
    found = path(model, X, RNG.poisson(1.0, 40), strengths=[0.1])
    assert "accuracy" not in found
    assert found.log_likelihood.attrs["units"] == "nat"
    assert len(fs.plotting.regularization_path(found).axes) == 5


def test_an_equal_path_is_identical_and_is_stored(tmp_path) -> None:
    found = path(num_threads=1)
    assert found.identical(path(num_threads=2, rng=np.random.SeedSequence(0)))
    found.to_netcdf(tmp_path / "path.nc")
    assert xr.load_dataset(tmp_path / "path.nc").identical(found)
    for array in found.data_vars.values():
        assert {"long_name", "units", "symbol", "source", "assumptions", "provenance"} <= set(array.attrs)
    single = path(MODEL.as_dtype(np.dtype(np.float32)), X.astype(np.float32))
    assert {one.dtype for one in single.data_vars.values()} == {np.dtype(np.float32)}
    np.testing.assert_allclose(single.variance, found.variance, rtol=1e-3)


def test_the_errors_are_in_the_precision_of_their_own_inputs() -> None:
    model, x = MODEL.as_dtype(np.dtype(np.float32)), X.astype(np.float32)
    found = path(model, x, strengths=[0.1], x_eval=X_OTHER).isel(strength=0)
    errors = fs.layer_errors(training.fit(model, x, Y, penalty=training.Frobenius(0.1), **TRAINING).model, X_OTHER)
    for name in errors.data_vars:
        assert errors[name].dtype == found[name].dtype == np.float64
        np.testing.assert_array_equal(found[name], errors[name])
    assert found.log_likelihood.dtype == found.frobenius.dtype == np.float32


def test_kinks_are_refused_or_ignored() -> None:
    model = fs.MLP([[[0.0, 0.0]], [[0.0, 0.0]]], activation="relu", family=F.Bernoulli())
    x, y = np.zeros((2, 1)), np.array([0, 1])
    settings = {"optimizer": training.SGD(0.1), "strengths": [0.1]}
    with pytest.raises(fs.AssumptionError, match="input 0, layer 0, unit 0") as caught:
        path(model, x, y, **settings)
    assert caught.value.path.sizes["strength"] == 0
    assert path(model, x, y, on_kink="ignore", **settings).sizes["strength"] == 1
    with pytest.raises(fs.AssumptionError, match=r"^strength 0\.1: `x_eval`: .*input 1, layer 0, unit 0"):
        path(
            fs.MLP([[[1.0, 0.0]], [[0.0, 0.0]]], activation="relu", family=F.Bernoulli()),
            x + 1,
            y,
            x_eval=[[1.0], [0.0]],
            optimizer=training.SGD(1e-300),
            strengths=[0.1],
        )


# --- what is kept when it ends early ---------------------------------------------------------------------------------


def test_a_divergence_carries_the_strengths_that_are_done() -> None:
    model = fs.MLP.random([3, 1], activation=[], family=F.Gaussian(1), rng=0)
    settings = {"model": model, "y": X.sum(axis=1), "optimizer": training.SGD(0.1), "epochs": 300}
    with pytest.raises(fs.TrainingDiverged) as caught:
        path(strengths=[0.0, 1.0, 1e4, 2.0], **settings)
    done = caught.value.path
    np.testing.assert_array_equal(done.variance, path(strengths=[0.0, 1.0], **settings).variance)
    assert done.strength.values.tolist() == [0.0, 1.0]
    assert set(caught.value.fitted.history) >= {"loss"}  # how far the strength came that ended it
    assert any("`path`" in note for note in caught.value.__notes__)


def test_an_interrupt_carries_the_strengths_that_are_done() -> None:
    class Interrupted(training.Frobenius):
        def start(self, model):
            if self.strength == 0.2:
                raise KeyboardInterrupt
            return super().start(model)

    with pytest.raises(KeyboardInterrupt) as caught:
        path(penalty=Interrupted, strengths=[0.1, 0.2, 0.3])
    np.testing.assert_array_equal(caught.value.path.variance, path(strengths=[0.1]).variance)
    with pytest.raises(KeyboardInterrupt) as caught:
        path(penalty=Interrupted, strengths=[0.2])
    assert caught.value.path.sizes["strength"] == 0


# --- refusals --------------------------------------------------------------------------------------------------------


def asking(**words):
    return lambda: path(**words)


GRID = "`strengths` must be a list of at least one number, got shape "
CLASS = "`penalty` must return the penalty for a strength, such as the class fisherstats.training.Frobenius"
FACTORY = f"{CLASS} or `lambda strength: ...`, got "


@refused(
    [
        (
            asking(strengths=0.1),
            ValueError,
            "`strengths` must be a list of at least one number, got shape (); use [0.1] for one.",
        ),
        (asking(strengths=[]), ValueError, "`strengths` must be a list of at least one number, got shape (0,);"),
        (asking(strengths=[0.1, -1]), ValueError, "`strengths` must be at least 0, got -1.0 at index 1."),
        (asking(strengths=[np.nan]), ValueError, "`strengths` must be at least 0, got nan at index 0."),
        (asking(strengths=[1, 1.0]), ValueError, "`strengths` must not repeat a number, got [1, 1.0]."),
        (asking(strengths=["a"]), TypeError, "`strengths` must hold float64, float32, integers or bool, got dtype"),
        (asking(strengths=[np.inf]), ValueError, "`strength` must be a finite number of at least 0, or one per layer, got inf."),
        (
            asking(penalty=training.Frobenius(0.1)),
            TypeError,
            FACTORY + "Frobenius(strength=0.1, biases=False).",
        ),
        (asking(penalty=None), TypeError, FACTORY + "None."),
        (
            asking(penalty=lambda strength: strength),
            TypeError,
            "`penalty` must return a penalty or a list of them for the strength 0.0, got 0.0.",
        ),
        (asking(warm_start=1), ValueError, "`warm_start` must be True or False, got 1."),
        (asking(n_draws=0), ValueError, "`n_draws` must be a positive integer, got 0."),
        (asking(target_cv=0), ValueError, "`target_cv` must be a finite number above 0, got 0."),
        (asking(on_kink="skip"), ValueError, "`on_kink` must be one of 'raise', 'ignore', got 'skip'."),
        (asking(epochs=0), ValueError, "`epochs` must be a positive integer, got 0."),
        (
            asking(validation=X),
            TypeError,
            "`validation` must be a pair (x, y) of inputs and labels, got an array of shape (40, 3)",
        ),
        (asking(x_eval=X[0]), ValueError, "`x_eval`: `x` must be 2-D (input, feature), got shape (3,);"),
        (asking(x_eval=X[:, :2]), ValueError, "`x_eval`: `x` must have 3 columns"),
        (asking(validation=(X[:, :2], Y)), ValueError, "`validation`: `x` must have 3 columns"),
        (asking(validation=(X, Y[:3])), ValueError, "`validation`: `y` must have shape (40,), one class number per input"),
        (asking(optimizer=training.Adam), TypeError, "`optimizer` must be an optimiser such as fisherstats.training.Adam()"),
        (lambda: fs.layer_errors(MODEL, X, target_cv=-1), ValueError, "`target_cv` must be a finite number above 0, got -1."),
        (lambda: fs.layer_errors(X, X), TypeError, "`model` must be a fisherstats.MLP, got an array of shape (40, 3)"),
    ]
)
def test_refusals(call, error, message) -> None:
    with pytest.raises(error, match=pattern(message)):
        call()


class Untouched(training.Optimizer):
    """Whoever starts it has begun to train."""

    def start(self, model):
        raise AssertionError("a training has begun")


def normalised(**words):
    return asking(optimizer=Untouched(), **({"normalization": NORMALIZATION} | words))


LINEAR = fs.MLP.random([3, 3], activation=[], family=F.Categorical(3), rng=0)


@refused(
    [
        (
            normalised(penalty=lambda s: [training.Frobenius(s), training.SpectralProjection(s)] if s else training.Frobenius(0)),
            ValueError,
            "`penalty` must not constrain the kernels with `normalization`, got SpectralProjection(limit=0.3, iterations=100):",
        ),
        (normalised(batch_size=13), ValueError, "`batch_size` must leave two inputs or more in every minibatch with"),
        (normalised(model=LINEAR), ValueError, "`normalization` must be None for a network without hidden layers"),
        (
            normalised(normalization=training.BatchNormalization),
            TypeError,
            "`normalization` must be None or fisherstats.training.BatchNormalization(), got",
        ),
    ]
)
def test_what_cannot_be_normalised_is_refused_before_any_training(call, error, message) -> None:
    with pytest.raises(error, match=pattern(message)):
        call()
    with pytest.raises(AssertionError, match="a training has begun"):
        normalised()()


# --- figures ---------------------------------------------------------------------------------------------------------


def test_the_figure_of_a_path_shows_its_numbers() -> None:
    found = path(strengths=[0.3, 0.0], validation=(X_OTHER, Y_OTHER))
    figure = fs.plotting.regularization_path(found)
    assert len(figure.axes) == 5
    fit_panel, score, _, relative, last = figure.axes
    ordered = found.sortby("strength")
    np.testing.assert_array_equal(fit_panel.lines[0].get_ydata(), ordered.accuracy)
    np.testing.assert_array_equal(fit_panel.lines[1].get_ydata(), ordered.validation_accuracy)
    one = ordered.sel(estimator="score", layer=0)
    np.testing.assert_array_equal(score.lines[0].get_ydata(), np.sqrt(one.variance))
    np.testing.assert_array_equal(score.lines[1].get_ydata(), np.sqrt(one.upper))
    np.testing.assert_array_equal(relative.lines[0].get_ydata(), one.relative_error)
    assert [label.get_text() for label in last.get_xticklabels()] == ["0", "0.3"]
    assert last.get_title(loc="left") == "Hessian estimator (exact in layer 2)"
    assert len(last.lines) == 2
    assert "<svg" in fs.plotting.as_svg(figure)


def test_the_figure_of_a_training_shows_its_numbers() -> None:
    callback = training.record(lambda model: fs.layer_errors(model, X))
    history = training.fit(MODEL, X, Y, callbacks=[callback], **TRAINING).history
    figure = fs.plotting.training_errors(history)
    information, _, hessian, ratio, last = figure.axes
    np.testing.assert_array_equal(information.lines[1].get_ydata(), history.information.sel(layer=1))
    one = history.sel(estimator="hessian", layer=0)
    np.testing.assert_array_equal(hessian.lines[0].get_ydata(), np.sqrt(one.variance))
    one = history.sel(estimator="score", layer=0)
    np.testing.assert_allclose(ratio.lines[0].get_ydata(), one.upper / one.variance, rtol=1e-14)
    assert last.get_title(loc="left") == "Hessian estimator (exact in layer 2)"
    assert len(last.lines) == 2
    assert "<svg" in fs.plotting.as_svg(figure)
