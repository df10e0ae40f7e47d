"""The main job: what it measures, what it writes, and what it refuses."""

from __future__ import annotations

import itertools
import json
import os
import socket

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs
from fisherstats import study
from fisherstats.study import layer_table
from fisherstats.study.setup import load, prepare, read_settings

for needed in ("sklearn", "matplotlib", "jinja2", "tqdm", "netCDF4", "zarr"):
    pytest.importorskip(needed)

SMALL = {
    "model": {"hidden": [6, 5], "epochs": 8},
    "analysis": {"inputs": 24, "n_draws": [1, 9], "replicates": 200},
}
QUICK = {"model": {"hidden": [4], "epochs": 3}, "analysis": {"inputs": 6, "n_draws": [2], "replicates": 2}}


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    return study.run(SMALL, out=None)


@pytest.fixture(scope="module")
def model(tree) -> fs.MLP:
    """The network again, from nothing but the tree."""
    provenance = json.loads(tree.attrs["provenance"])
    widths, flat = provenance["widths"], tree["network/parameters"].values
    sizes = [n_out * (n_in + 1) for n_in, n_out in itertools.pairwise(widths)]
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    weights = [part.reshape(n_out, -1) for part, n_out in zip(parts, widths[1:], strict=True)]
    model = fs.MLP(weights, activation=provenance["activations"], family=fs.families.Categorical(widths[-1]))
    model = model.named(provenance["feature_names"], provenance["output_names"])
    assert model.fingerprint == provenance["model"]
    return model


class TestNumbers:
    def test_the_tree_is_enough_to_repeat_the_results(self, tree, model):
        x = tree["data/x"].values
        np.testing.assert_array_equal(tree["exact/information"].values, fs.fisher_information(model, x).values)
        np.testing.assert_array_equal(tree["variance/variance"].values, fs.estimator_variance(model, x).variance.values)
        bounds = fs.variance_bounds(model, x)
        np.testing.assert_array_equal(tree["bounds/upper"].values, bounds.upper.values)

    def test_layer_table(self, tree, model):
        layers, x = tree["layers"].to_dataset(), tree["data/x"].values
        information = fs.fisher_information(model, x)
        for layer in range(3):
            entries = information.values[information.param_layer.values == layer]
            assert int(layers.n_parameters[layer]) == entries.size
            assert int(layers.n_informed[layer]) == (entries > 0).sum()
            np.testing.assert_allclose(layers.information[layer], entries.mean(), rtol=1e-13)
        grouped = fs.estimator_variance(model, x, group_by="layer").variance.values
        np.testing.assert_array_equal(layers.variance.values, grouped)
        np.testing.assert_allclose(
            layers.standard_error.values, np.sqrt(grouped[:, None] / np.array([1, 9])[:, None]), rtol=1e-14
        )

    def test_observed_errors_agree_with_the_closed_form(self, tree):
        """R s^2/V is chi-square with R degrees of freedom; 10 correlated ratios, |z| < 4.5: false alarms below 1e-4."""
        layers = tree["layers"].to_dataset()
        expected = layers.standard_error.values
        ratio = (layers.observed_standard_error.values[expected > 0] / expected[expected > 0]) ** 2
        assert ratio.size == 10
        z = (ratio - 1) / np.sqrt(2 / 200)
        assert np.abs(z).max() < 4.5
        # Power: errors that are 30 % too large (variance 1.69 times) are caught.
        assert np.abs((1.69 * ratio - 1) / np.sqrt(2 / 200)).min() > 2.5
        assert np.abs((1.69 * ratio - 1) / np.sqrt(2 / 200)).max() > 4.5

    def test_observed_errors_of_parameters(self, tree):
        """Mean over parameters of s^2/V is 1; single parameters are far from normal, so the mean is judged loosely."""
        estimates = tree["estimates"].to_dataset()
        variance = estimates.standard_error.values**2
        ratio = estimates.observed_standard_error.values[variance > 0] ** 2 / variance[variance > 0]
        assert 0.9 < np.median(ratio) < 1.1

    def test_last_layer_hessian_is_exact(self, tree):
        layers = tree["layers"].to_dataset().sel(estimator="hessian", layer=2)
        assert float(layers.draws_for_mean) == float(layers.draws_for_median) == 1
        assert not layers.standard_error.values.any()
        assert not layers.observed_standard_error.values.any()
        assert np.isnan(layers.upper_tightness)

    def test_draws_needed_are_the_smallest_that_reach_the_target(self, tree):
        layers, target = tree["layers"].to_dataset(), 0.1
        errors = {"draws_for_mean": layers.mean_relative_error, "draws_for_median": layers.median_relative_error}
        for name, error in errors.items():
            draws = layers[name].values
            assert (error.values / np.sqrt(draws) <= target * (1 + 1e-12)).all()
            more = draws > 1
            assert more.any()
            assert (error.values[more] / np.sqrt(draws[more] - 1) > target).all()

    def test_median_parameter_is_the_median_of_the_informed(self, tree):
        error = tree["variance/relative_error"]
        layer = error.param_layer.values
        information = tree["exact/information"].values
        assert np.array_equal(np.isnan(error.values[0]), information == 0)
        for one in range(3):
            for estimator in range(2):
                chosen = error.values[estimator][(layer == one) & (information > 0)]
                np.testing.assert_allclose(
                    tree["layers/median_relative_error"].values[estimator, one], np.median(chosen), rtol=1e-15
                )

    def test_bounds_hold(self, tree):
        bounds = tree["bounds"].to_dataset()
        assert (bounds.lower.values <= bounds.exact.values * (1 + 1e-9)).all()
        assert (bounds.upper.values >= bounds.exact.values * (1 - 1e-9)).all()

    def test_expected_ratio_is_the_chi_interval(self):
        rng = np.random.default_rng(3)
        observed = np.sqrt((rng.standard_normal((20000, 50)) ** 2).mean(axis=1))
        low, high = layer_table.expected_ratio(50)
        inside = ((observed > low) & (observed < high)).mean()
        assert abs(inside - 0.95) < 4.5 * np.sqrt(0.95 * 0.05 / 20000)

    def test_no_information_needs_no_number(self):
        error = layer_table.relative_error(np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 2.0]))
        np.testing.assert_array_equal(error, [np.nan, np.nan, 0.0])
        np.testing.assert_array_equal(layer_table.draws_needed(error, 0.1), [np.nan, np.nan, 1.0])


class TestRepeatability:
    def test_equal_seeds_give_identical_trees(self):
        assert study.run(QUICK, out=None).identical(study.run(QUICK, out=None))

    def test_the_seed_matters_and_the_argument_wins(self):
        base = study.run(QUICK, out=None)
        other = study.run(QUICK, out=None, seed=1)
        assert not other.identical(base)
        assert other.identical(study.run({**QUICK, "seed": 1}, out=None))
        assert study.run({**QUICK, "seed": 1}, out=None, seed=0).identical(base)

    def test_more_replicates_do_not_change_the_first(self):
        more = {**QUICK, "analysis": {**QUICK["analysis"], "replicates": 3}}
        first, again = (study.run(config, out=None)["estimates/estimate"].values for config in (QUICK, more))
        np.testing.assert_array_equal(first, again)

    def test_nothing_of_the_machine_is_recorded(self, tree):
        texts = [str(node.attrs) for node in tree.subtree]
        texts += [str(variable.attrs) for node in tree.subtree for variable in node.variables.values()]
        for secret in (socket.gethostname(), os.getcwd(), "seconds", "created"):
            assert not any(secret in text for text in texts)


class TestFiles:
    def test_both_formats_hold_the_tree(self, tmp_path):
        tree = study.run(QUICK, out=tmp_path / "new" / "study")
        assert sorted(path.name for path in (tmp_path / "new" / "study").iterdir()) == [
            ".fisherstats",
            "report.html",
            "study.nc",
            "study.zarr",
        ]
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["study"]
        for name, engine in (("study.nc", "netcdf4"), ("study.zarr", "zarr")):
            with xr.open_datatree(tmp_path / "new" / "study" / name, engine=engine) as opened:
                assert opened.load().identical(tree)

    @pytest.mark.usefixtures("no_figures")
    def test_an_earlier_study_is_replaced(self, tmp_path):
        study.run(QUICK, out=tmp_path / "s")
        tree = study.run(QUICK, out=tmp_path / "s", seed=5)
        with xr.open_datatree(tmp_path / "s" / "study.nc", engine="netcdf4") as opened:
            assert opened.load().identical(tree)
        assert [path.name for path in tmp_path.iterdir()] == ["s"]

    def test_a_directory_with_other_files_is_refused_and_left_alone(self, tmp_path):
        (tmp_path / "thesis.tex").write_text("all of it")
        with pytest.raises(ValueError, match=r"`out` must be empty or hold an earlier study, .* with 'thesis\.tex' in it"):
            study.run(QUICK, out=tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]

    @pytest.mark.usefixtures("no_figures")
    @pytest.mark.parametrize("moment", ["to_netcdf", "to_zarr"])
    def test_a_failure_while_writing_leaves_the_earlier_study(self, tmp_path, monkeypatch, moment):
        study.run(QUICK, out=tmp_path / "s")
        before = (tmp_path / "s" / "study.nc").read_bytes()

        def full(*args, **kwargs):
            raise OSError("no space left on device")

        monkeypatch.setattr(xr.DataTree, moment, full)
        with pytest.raises(OSError, match=r"`out` must be .* \(no space left on device\)\. Everything is computed") as caught:
            study.run(QUICK, out=tmp_path / "s", seed=5)
        assert caught.value.tree.identical(study.run(QUICK, out=None, seed=5))
        assert [path.name for path in tmp_path.iterdir()] == ["s"]
        assert (tmp_path / "s" / "study.nc").read_bytes() == before

    def test_nothing_is_written_without_out(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        study.run(QUICK, out=None)
        assert list(tmp_path.iterdir()) == []


def test_progress_is_off_unless_asked(capsys):
    study.run(QUICK, out=None)
    assert capsys.readouterr() == ("", "")
    study.run(QUICK, out=None, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "replicates, N = 2" in shown.err


class TestData:
    @pytest.fixture
    def arrays(self):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(60, 3))
        return x, (x[:, 0] + 0.5 * x[:, 1] > 0).astype(int)

    def small(self, data, **model):
        model = {"hidden": [4], "epochs": 5, **model}
        return {"data": data, "model": model, "analysis": {"n_draws": [3], "replicates": 2}}

    def test_every_kind_of_file_gives_the_same_study(self, tmp_path, arrays):
        x, y = arrays
        np.savez(tmp_path / "both.npz", x=x, y=y)
        np.save(tmp_path / "x.npy", x)
        np.save(tmp_path / "y.npy", y)
        np.savetxt(tmp_path / "x.csv", x, delimiter=",", header="a,b,c", comments="", fmt="%.17g")
        np.savetxt(tmp_path / "y.csv", y, fmt="%d")
        sources = [{"source": "both.npz"}, {"x": "x.npy", "y": "y.npy"}, {"x": "x.csv", "y": "y.csv"}]
        results = []
        for number, data in enumerate(sources):
            lines = [f"{key} = {json.dumps(value)}" for key, value in data.items()]
            config = tmp_path / f"{number}.toml"
            config.write_text(
                "\n".join(["[data]", *lines, "[model]", "hidden = [4]", "epochs = 5"])
                + "\n[analysis]\nn_draws = [3]\nreplicates = 2\n"
            )
            results.append(study.run(config, out=None))
        exact = [result["exact/information"].values for result in results]
        np.testing.assert_array_equal(exact[0], exact[1])
        np.testing.assert_array_equal(exact[0], exact[2])
        assert json.loads(results[0].attrs["provenance"])["family"]["name"] == "bernoulli"
        assert results[0].sizes == results[1].sizes

    @pytest.mark.parametrize(
        ("task", "family", "response"),
        [
            ("regression", "gaussian", lambda x: x[:, 0] ** 2),
            ("regression", "gaussian", lambda x: x[:, :2] ** 3),
            ("count", "poisson", lambda x: np.floor(np.exp(x[:, 0]))),
            ("classification", "bernoulli", lambda x: (x > 0).astype(int)),
        ],
        ids=["one response", "two responses", "counts", "multilabel"],
    )
    def test_other_tasks(self, tmp_path, arrays, task, family, response):
        x = arrays[0]
        np.savez(tmp_path / "d.npz", x=x, y=response(x))
        settings = self.small({"source": str(tmp_path / "d.npz"), "task": task})
        tree = study.run(settings, out=tmp_path / "out")
        assert json.loads(tree.attrs["provenance"])["family"]["name"] == family
        assert "<h1>" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")

    def test_piecewise_linear_network(self, tmp_path):
        """Every second derivative on the diagonal is 0, so the Hessian estimator is exact in all layers."""
        config = {**QUICK, "model": {**QUICK["model"], "activation": "relu"}}
        tree = study.run(config, out=tmp_path / "out")
        assert not tree["layers"].sel(estimator="hessian")["standard_error"].values.any()
        assert (tree["layers/draws_for_median"].sel(estimator="hessian").values == 1).all()

    def test_training_never_sees_the_analysed_inputs(self, tree):
        settings = read_settings(SMALL)
        data = load(settings)
        assert sorted([*data.train, *data.held_out]) == list(range(1797))
        experiment = prepare(settings, data)
        np.testing.assert_array_equal(experiment.x, tree["data/x"].values)


class TestRefusals:
    @pytest.mark.parametrize(
        ("config", "message"),
        [
            (3, r"`config` must be None, the path of a TOML file or a mapping with the same keys, got 3\."),
            ({"modle": {}}, r"got 'modle'\. Did you mean 'model'\?"),
            ({"model": {"hiden": [3]}}, r"in \[model\], got 'hiden'\. Did you mean 'hidden'\?"),
            ({"model": [1]}, r"`model` must be a table with the keys hidden, activation, epochs, got \[1\]\."),
            ({"model": {"hidden": 3}}, r"`model\.hidden` must be a list of hidden layer widths, got 3; write .* \[3\]\."),
            ({"model": {"hidden": []}}, r"`model\.hidden` must list at least one hidden layer width"),
            ({"model": {"hidden": [3, 0]}}, r"`model\.hidden\[1\]` must be a positive integer, got 0\."),
            ({"model": {"activation": "tahn"}}, r"`model\.activation` must be one of .* Did you mean 'tanh'\?"),
            ({"model": {"epochs": 2.5}}, r"`model\.epochs` must be a positive integer, got 2\.5\."),
            ({"analysis": {"n_draws": 10}}, r"`analysis\.n_draws` must be a list of numbers of draws per input, got 10"),
            ({"analysis": {"n_draws": [10, 1]}}, r"`analysis\.n_draws` must list increasing numbers of draws per input"),
            ({"analysis": {"n_draws": []}}, r"`analysis\.n_draws` must list increasing"),
            ({"analysis": {"n_draws": [True]}}, r"`analysis\.n_draws\[0\]` must be a positive integer, got True"),
            ({"analysis": {"replicates": 0}}, r"`analysis\.replicates` must be a positive integer, got 0\."),
            ({"analysis": {"target_standard_error": 0}}, r"`analysis\.target_standard_error` must be a finite number"),
            ({"analysis": {"inputs": 450}}, r"`analysis\.inputs` must be at most 449, .* got 450"),
            ({"seed": -1}, r"`seed` must be an integer of at least 0, got -1\."),
            ({"seed": True}, r"`seed` must be an integer of at least 0, got True\."),
            ({"data": {"source": "digit"}}, r"`data\.source` must be 'digits' or .* Did you mean 'digits'\?"),
            ({"data": {"source": "x.parquet"}}, r"`data\.source` must be 'digits' or the path of an \.npz file"),
            ({"data": {"source": 3}}, r"`data\.source` must be text in UTF-8, got 3\."),
            ({"data": {"source": "none.npz"}}, r"`data\.source` must be an existing file, got 'none\.npz'"),
            ({"data": {"x": "x.npy"}}, r"`data\.y` must name a file too when `data\.x` does"),
            ({"data": {"source": "digits", "x": "x.npy", "y": "y.npy"}}, r"`data` must have either `source`, or `x` and"),
            ({"data": {"task": "classify"}}, r"`data\.task` must be one of .* Did you mean 'classification'\?"),
        ],
    )
    def test_configuration(self, config, message):
        with pytest.raises((ValueError, TypeError), match=message):
            study.run(config, out=None)

    def test_missing_file(self, tmp_path):
        with pytest.raises(ValueError, match=r"`config` must be an existing TOML file, got .*none\.toml', which does not exist"):
            study.run(tmp_path / "none.toml", out=None)

    def test_broken_file(self, tmp_path):
        (tmp_path / "broken.toml").write_text("seed = = 3")
        with pytest.raises(ValueError, match=r"`config` must be valid TOML, got .*broken\.toml' \(.*line 1"):
            study.run(tmp_path / "broken.toml", out=None)

    def test_directory_as_file(self, tmp_path):
        with pytest.raises(ValueError, match="`config` must be a readable TOML file"):
            study.run(tmp_path, out=None)

    @pytest.mark.parametrize(
        ("x", "y", "task", "message"),
        [
            (np.ones((20, 2)), np.ones(19), "classification", r"`y` must have one row for each of the 20 rows of x, got"),
            (np.ones(20), np.ones(20), "classification", r"`x` must be a matrix \(input, feature\) with at least 8 rows"),
            (np.ones((3, 2)), np.arange(3), "classification", r"`x` must be a matrix .* got shape \(3, 2\)"),
            (np.full((20, 2), np.nan), np.arange(20) % 2, "classification", r"`x` must be finite, got nan at index \(0, 0\)"),
            (np.ones((20, 2)), np.ones(20), "classification", r"`y` must hold at least two classes, got only the class 1"),
            (
                np.ones((20, 2)),
                np.linspace(0, 1, 20),
                "classification",
                r"`y` must hold class numbers .* got 0\.05\d* at index 1",
            ),
            (np.ones((20, 2)), -np.arange(20), "count", r"`y` must hold whole numbers of at least 0 .* got -1\.0 at index 1"),
            (np.ones((20, 2)), np.arange(40).reshape(20, 2), "classification", r"zeros and ones, a column per label, got 2"),
            (np.array([["a", "b"]] * 20), np.arange(20) % 2, "classification", r"`x` must hold float64"),
        ],
    )
    def test_data(self, tmp_path, x, y, task, message):
        np.savez(tmp_path / "d.npz", x=x, y=y)
        with pytest.raises((ValueError, TypeError), match=message):
            study.run({"data": {"source": str(tmp_path / "d.npz"), "task": task}}, out=None)

    def test_file_without_the_arrays(self, tmp_path):
        np.savez(tmp_path / "d.npz", features=np.ones(3))
        with pytest.raises(ValueError, match=r"`data\.source` must be a readable file of numbers.*it holds features, and no"):
            study.run({"data": {"source": str(tmp_path / "d.npz")}}, out=None)

    def test_pickled_objects_are_not_opened(self, tmp_path):
        np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
        np.save(tmp_path / "y.npy", np.arange(3))
        with pytest.raises(ValueError, match=r"`data\.x` must be a readable file of numbers"):
            study.run({"data": {"x": str(tmp_path / "x.npy"), "y": str(tmp_path / "y.npy")}}, out=None)

    def test_text_in_a_table(self, tmp_path):
        (tmp_path / "x.csv").write_text("a,b\n1,2\n3,four\n")
        (tmp_path / "y.csv").write_text("1\n2\n")
        with pytest.raises(ValueError, match=r"`data\.x` must be a readable file of numbers, got .*four"):
            study.run({"data": {"x": str(tmp_path / "x.csv"), "y": str(tmp_path / "y.csv")}}, out=None)

    def test_output_that_is_a_file(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ValueError, match=r"`out` must be a directory or a path that does not exist, got .*file'"):
            study.run(QUICK, out=tmp_path / "file")

    def test_output_below_a_file(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ValueError, match="`out` must be in a writeable directory"):
            study.run(QUICK, out=tmp_path / "file" / "study")

    def test_output_of_the_wrong_kind(self):
        with pytest.raises(TypeError, match=r"`out` must be the path of a directory, or None to write nothing, got 3\."):
            study.run(QUICK, out=3)

    def test_progress_of_the_wrong_kind(self):
        with pytest.raises(ValueError, match="`progress` must be True or False, got 'yes'"):
            study.run(QUICK, out=None, progress="yes")
