"""Paths that users give: text or objects, and `~` is the home directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fisherstats as fs
from fisherstats import cli, study
from fisherstats.core.validation import arguments

CONFIG = """
data = {{ {data}, task = "regression" }}
model = {{ hidden = [3], epochs = 2 }}
analysis = {{ inputs = 4, n_draws = [2], replicates = 2 }}
"""


class Where:
    """Anything with a path, as `os.DirEntry` is; some give bytes."""

    def __init__(self, path: str | bytes) -> None:
        self._path = path

    def __fspath__(self) -> Any:
        return self._path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own home directory, and an empty folder to be in."""
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


@pytest.mark.parametrize("given", ["~/it", Path("~/it"), Where("~/it"), Where(b"~/it")])
def test_whatever_names_a_path(given, home):
    assert arguments.path("store", given, "a path") == home / "it"


@pytest.mark.parametrize("given", ["it", "it~", "a/~/it", "~no such user/it", "./~"])
def test_other_paths_stay_as_they_are(given, home):
    assert arguments.path("store", given, "a path") == Path(given)


@pytest.mark.parametrize("given", [3, b"it", True, ["it"]])
def test_what_is_no_path(given):
    with pytest.raises(TypeError, match="`store` must be the path of a folder, got "):
        arguments.path("store", given, "the path of a folder")


def test_the_store_of_a_dense_view(home):
    pytest.importorskip("zarr")
    pytest.importorskip("dask")
    model = fs.MLP([[[1.0, 2.0]]], activation=[], family=fs.families.Bernoulli())
    for given, name in (("~/new/f.zarr", "new/f.zarr"), (Where("~/g"), "g")):
        found = fs.fisher_information(model, np.ones((3, 1)), view="full", store=given)
        np.testing.assert_array_equal(found, fs.fisher_information(model, np.ones((3, 1)), view="full"))
        assert (home / name).is_dir()
    assert os.listdir() == []


@pytest.mark.parametrize("data", ['source = "~/d.npz"', 'x = "~/x.npy", y = "~/y.csv"'])
def test_every_path_of_a_study(data, home, capsys, monkeypatch):
    for needed in ("sklearn", "matplotlib", "jinja2", "netCDF4", "zarr", "dask"):
        pytest.importorskip(needed)
    names = ("information", "standard_error", "relative_error", "bounds", "sweep")
    monkeypatch.setattr(study.runner, "_figures", lambda tree: dict.fromkeys(names, "<svg></svg>"))
    x, y = np.random.default_rng(0).normal(size=(40, 2)), np.arange(40.0)
    np.savez(home / "d.npz", x=x, y=y)
    np.save(home / "x.npy", x)
    np.savetxt(home / "y.csv", y)
    (home / "c.toml").write_text(CONFIG.format(data=data))
    study.run("~/c.toml", out="~/out", store=Path("~/kept"))
    assert {"kept", "out"} <= {path.name for path in home.iterdir()}
    assert study.finished(Path("~/c.toml"), out=Where("~/out"))
    with pytest.raises(ValueError, match="`store` must be separate from `out`"):
        study.run("~/c.toml", out=home / "out", store="~/out/kept")
    assert cli.main(["study", "~/c.toml", "--out=~/out", "--resume"]) == 0
    assert capsys.readouterr().out == f"The study is complete; the report is {home / 'out' / 'report.html'}\n"
    assert os.listdir() == []
