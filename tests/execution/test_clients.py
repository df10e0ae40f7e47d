"""Sweeps, paths and replicates through every kind of client: the same bits, and errors that name what failed."""

from __future__ import annotations

import concurrent.futures
from typing import Any

import numpy as np
import pytest

import fisherstats as fs
from fisherstats import training
from fisherstats.core.errors import AssumptionError, TrainingDiverged

distributed = pytest.importorskip("distributed")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
Y = RNG.integers(0, 3, 40)
MODEL = fs.MLP.random([3, 5, 3], activation="tanh", family=fs.families.Categorical(3), rng=1)
SINGLE = fs.MLP([[[1.0, 0.0]], [[1.0, 0.0]]], activation="tanh", family=fs.families.Gaussian())


def sweep(**more: Any) -> Any:
    return fs.norm_sweep(MODEL, X, scales=[0.5, 1.0, 2.0], **more)


def path(penalty: Any = training.Frobenius, strengths: Any = (0.0, 0.1, 1.0), **more: Any) -> Any:
    settings: dict[str, Any] = {"optimizer": training.Adam(0.02), "epochs": 2, "batch_size": 16, "rng": 0} | more
    return fs.regularization_path(MODEL, X, Y, penalty=penalty, strengths=strengths, **settings)


def definite(**more: Any) -> Any:
    inputs = np.array([[-1.5], [-0.5], [0.3], [0.8], [2.0]])
    return fs.definiteness(SINGLE, inputs, n_draws=40, rng=0, n_replicates=35, **more)


LOOPS = {
    "norm_sweep": sweep,
    "path, Frobenius": path,
    "path, spectral": lambda **more: path(training.Spectral, validation=(X[:9], Y[:9]), x_eval=X[:7], **more),
    "path, several": lambda **more: path(lambda s: [training.Frobenius(s), training.SpectralProjection(1 + s)], **more),
    "path, normalised": lambda **more: path(normalization=training.BatchNormalization(), **more),
    "definiteness": definite,
}


@pytest.mark.parametrize("loop", LOOPS)
def test_every_client_gives_the_same_bits(anywhere, loop) -> None:
    expected = LOOPS[loop](num_threads=2)
    assert LOOPS[loop](client=anywhere).identical(expected)
    if loop == "definiteness":
        assert 0 < float(expected.probability) < 1  # or else replicates could be lost unseen


def test_labelled_inputs_travel_too(client) -> None:
    xr = pytest.importorskip("xarray")
    labelled = xr.DataArray(X, dims=["input", "feature"], coords={"input": np.arange(40) * 3})
    found = fs.norm_sweep(MODEL, labelled, scales=[0.5, 2.0], client=client)
    assert found.identical(fs.norm_sweep(MODEL, labelled, scales=[0.5, 2.0]))


class TestErrors:
    def test_a_kink_names_its_scale(self, client) -> None:
        model = fs.MLP([[[1.0, -1.0]], [[1.0, 0.0]]], activation="relu", family=fs.families.Gaussian())
        message = r"^scale 1: .*kink"
        for where in (None, client):
            with pytest.raises(AssumptionError, match=message):
                fs.norm_sweep(model, np.array([[1.0]]), scales=[0.5, 1.0, 2.0], client=where)

    def test_a_training_that_diverges_names_its_strength_and_keeps_the_others(self, anywhere) -> None:
        with (
            np.errstate(all="ignore"),
            pytest.raises(TrainingDiverged, match=r"^strength 1e\+200: Training stopped in epoch 1, step 1") as caught,
        ):
            path(strengths=[0.1, 1e200], optimizer=training.SGD(10.0), client=anywhere)
        done = caught.value.path.strength.values.tolist()
        assert done == [0.1] if anywhere is None else done in ([0.1], [])
        assert caught.value.fitted.model.n_params == MODEL.n_params

    def test_warm_starts_wait_for_each_other(self) -> None:
        with (
            concurrent.futures.ThreadPoolExecutor(1) as executor,
            pytest.raises(ValueError, match="`client` must be None with warm_start=True: each training starts from"),
        ):
            path(warm_start=True, client=executor)

    @pytest.mark.parametrize("loop", ["norm_sweep", "path, Frobenius", "definiteness"])
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ("tcp://10.0.0.1:8786", r"`client` must be None, .* got 'tcp://10\.0\.0\.1:8786'; pass distributed\.Client\('tcp:"),
            (4, r"`client` must be None, a distributed\.Client or an executor with a method `submit`, .*, got 4\."),
        ],
    )
    def test_what_is_no_client(self, loop, given, message) -> None:
        with pytest.raises(TypeError, match=message):
            LOOPS[loop](client=given)

    def test_a_cluster_is_no_client(self, local_cluster) -> None:
        with pytest.raises(TypeError, match=r"; pass its client, cluster\.get_client\(\)\.$"):
            sweep(client=local_cluster)

    def test_a_closed_client(self, local_cluster) -> None:
        connected = distributed.Client(local_cluster)
        connected.close()
        with pytest.raises(ValueError, match="`client` must be connected to its scheduler, got one that is closed"):
            sweep(client=connected)
