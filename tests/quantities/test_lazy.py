"""Lazy results: what is computed from a dask array, in whatever pieces and by whomever, has the bits of the result in memory."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time

import dask
import dask.array
import numpy as np
import pytest
import xarray as xr
from threadpoolctl import threadpool_info, threadpool_limits

import fisherstats as fs
from fisherstats import applications
from fisherstats.core.validation import distributions

N_INPUTS = 600


@pytest.fixture(scope="module")
def model() -> fs.MLP:
    return fs.MLP.random([3, 5, 4, 3], activation=["tanh", "softplus"], family=fs.families.Categorical(3), rng=3)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(7).normal(size=(N_INPUTS, 3))


@pytest.fixture(autouse=True)
def small_leaves(monkeypatch):
    """Let a few hundred inputs be several leaves; the result in memory is summed in the same ones."""
    monkeypatch.setattr(fs.execution.Reduction, "leaf_blocks", 2)


Y = np.random.default_rng(1).integers(0, 3, N_INPUTS)
OTHER = fs.MLP.random([3, 5, 4, 3], activation="tanh", family=fs.families.Categorical(3), rng=0)
SMALL = fs.MLP.random([3, 2, 2], activation="tanh", family=fs.families.Gaussian(2), rng=0)
DIRECTION = np.random.default_rng(2).normal(size=OTHER.n_params)
PAIR = ("score", "hessian")

CALLS = {
    "output": fs.output_information,
    "hidden": lambda m, x: fs.hidden_information(m, x, layer=1, estimator="score", n_draws=3, rng=0),
    "hidden, at labels": lambda m, x: fs.hidden_information(m, x, layer=1, estimator="empirical", y=Y[: len(x)]),
    "hidden variance": lambda m, x: fs.hidden_information_variance(m, x, layer=1, n_draws=3),
    "information": fs.fisher_information,
    "information per input": lambda m, x: fs.fisher_information(m, x, per_input=True),
    "block": lambda m, x: fs.fisher_information(m, x, view="block"),
    "block per input": lambda m, x: fs.fisher_information(m, x, view="block", per_input=True),
    "full": lambda m, x: fs.fisher_information(m, x, view="full"),
    "kfac": lambda m, x: fs.fisher_information(m, x, view="kfac"),
    "estimate": lambda m, x: fs.estimate_fisher(m, x, estimator=PAIR, n_draws=4, rng=np.random.default_rng(3)),
    "estimate by counts": lambda m, x: fs.estimate_fisher(m, x, estimator=PAIR, n_draws=17, rng=3),
    "estimate per input": lambda m, x: fs.estimate_fisher(m, x, estimator=PAIR, n_draws=4, rng=3, per_input=True),
    "full estimate": lambda m, x: fs.estimate_fisher(m, x, estimator="hessian", n_draws=4, rng=3, view="full"),
    "empirical": lambda m, x: fs.empirical_fisher(m, x, Y[: len(x)]),
    "empirical per input": lambda m, x: fs.empirical_fisher(m, x, Y[: len(x)], per_input=True),
    "variance": lambda m, x: fs.estimator_variance(m, x, n_draws=3),
    "variance, random": lambda m, x: fs.estimator_variance(m, x, n_draws=3, design="random"),
    "variance, subsample": lambda m, x: fs.estimator_variance(m, x, design="subsample", population=5000),
    "variance, layers": lambda m, x: fs.estimator_variance(m, x, group_by="layer"),
    "variance per input": lambda m, x: fs.estimator_variance(m, x, per_input=True),
    "bounds": lambda m, x: fs.variance_bounds(m, x[:100]),
    "bounds per input": lambda m, x: fs.variance_bounds(m, x[:100], per_input=True),
    "covariance": lambda m, x: fs.estimator_covariance(SMALL, x[:40], estimator="score"),
    "norms": lambda m, x: fs.covariance_norms(m, x[:40]),
    "product": lambda m, x: fs.covariance_product(m, x[:40], estimator="hessian", matrix=np.eye(m.n_params)),
    "functional": lambda m, x: fs.functional_variance(m, x[:100], vector=DIRECTION),
    "extremes": lambda m, x: fs.family_extremes(m, x[:40]),
    "input variance": lambda m, x: fs.input_variance_bounds(m, x[:100]),
    "combination": lambda m, x: fs.combine_estimators(m, x, n_draws=3, rng=0),
    "plan": lambda m, x: fs.plan_draws(m, x, target_cv=0.1),
    "observed": lambda m, x: fs.observed_information(m, x, Y[: len(x)]),
    "kfac error": fs.kfac_error,
    "empirical variance": lambda m, x: fs.empirical_variance(m, x, truth=m),
    "bias signature": lambda m, x: fs.bias_signature(m, x, Y[: len(x)]),
    "neurons": fs.relative_fisher,
    "two layers": lambda m, x: fs.relative_fisher(m, x, subsystem="two_layers"),
    "zone": fs.learning_zone,
    "covariance bounds": lambda m, x: fs.covariance_bounds(m, x[:40]),
    "trace bounds": lambda m, x: fs.trace_bounds(m, x[:40]),
    "off-diagonal bounds": lambda m, x: fs.off_diagonal_bounds(m, x[:40], pairs=[(0, 1)]),
    "derivative bounds": lambda m, x: fs.derivative_bounds(m, x[:40]),
    "intervals": lambda m, x: fs.confidence_intervals(m, x, estimator="score", n_draws=5, rng=0),
    "layer errors": lambda m, x: fs.layer_errors(m, x[:100]),
    "envelopes": fs.information_envelopes,
    "curvature": lambda m, x: fs.efron_curvature(m, x[:50], directions=DIRECTION[None]),
    "tensor": lambda m, x: fs.amari_chentsov(m, x, directions=DIRECTION[None]),
    "propagation": lambda m, x: fs.propagate(fs.LogDet(1.0), m, x[:50], estimator="score", n_draws=3),
    "gradient length": lambda m, x: applications.expected_gradient_length(m, x),
    "pruning": applications.pruning_scores,
    "importance": lambda m, x: applications.importance(m, x),
    "length": lambda m, x: applications.length_element(m, x, DIRECTION),
    "divergence": lambda m, x: applications.output_divergence(m, OTHER, x),
    "norm": applications.fisher_rao_norm,
    "volume": lambda m, x: applications.information_volume(m, x, tau=1.0),
    "maximum likelihood": applications.asymptotic_covariance,
}


NEEDY = fs.MLP.random([3, 4, 2], activation="tanh", family=fs.families.Gaussian(2), rng=3)
SLOPE = np.random.default_rng(4).normal(size=(60, 2))

# Calls that no two inputs could answer: more directions than two inputs give, or a matrix that has to be regular.
NEEDY_CALLS = {
    "eigenvalues": lambda m, x: fs.propagate(fs.LeadingEigenvalues(6), m, x, estimator=PAIR, n_draws=3),
    "sampled eigenvalues": lambda m, x: fs.propagate(
        fs.LeadingEigenvalues(6), m, x, estimator=PAIR, n_draws=3, design="subsample", population=100000
    ),
    "many eigenvalues": lambda m, x: fs.propagate(fs.LeadingEigenvalues(m.n_params - 2), m, x, estimator="score", n_draws=3),
    "solution": lambda m, x: fs.propagate(fs.SolveWith(np.ones(m.n_params), 1e-9), m, x, estimator="score", n_draws=3),
    "log-determinant": lambda m, x: fs.propagate(fs.LogDet(1e-9), m, x, estimator="hessian", n_draws=3),
    "dimension": lambda m, x: fs.propagate(fs.EffectiveDimension(1e-9), m, x, estimator="score", n_draws=3),
    "curvature": lambda m, x: fs.efron_curvature(m, x, directions=np.ones((1, m.n_params))),
    "maximum likelihood": applications.asymptotic_covariance,
    "sandwich": lambda m, x: applications.asymptotic_covariance(m, x, SLOPE, dispersion="pearson"),
    "intervals": lambda m, x: applications.parameter_intervals(m, x, SLOPE, robust=True),
    "lower bound": lambda m, x: applications.cramer_rao_bound(m, x, directions=np.ones((1, m.n_params))),
    "volume": lambda m, x: applications.information_volume(m, x, tau=1e-9),
    "variance over inputs": lambda m, x: fs.estimator_variance(m, x, n_draws=2, design="random", group_by="layer"),
}


def chunked(x: np.ndarray, rows: int) -> xr.DataArray:
    return xr.DataArray(dask.array.from_array(x, chunks=(rows, 2)), dims=("input", "feature"))


def is_lazy(result) -> bool:
    nodes = [node.to_dataset() for node in result.subtree] if isinstance(result, xr.DataTree) else [result]
    sets = [node.to_dataset(name="values") if isinstance(node, xr.DataArray) else node for node in nodes]
    return any(hasattr(one.data, "__dask_graph__") for node in sets for one in node.variables.values())


@pytest.mark.parametrize("name", CALLS)
def test_a_lazy_result_has_the_bits_of_the_one_in_memory(name, model, x):
    expected = CALLS[name](model, x)
    result = CALLS[name](model, chunked(x, 77))
    assert is_lazy(result)
    assert type(result) is type(expected)
    with dask.config.set(scheduler="threads", num_workers=3):
        xr.testing.assert_identical(result.compute(), expected)


@pytest.mark.parametrize("rows", [1, 50, 128, 599, 600])
@pytest.mark.parametrize("name", ["information", "estimate", "estimate per input", "kfac error"])
def test_chunks_change_no_bit(name, rows, model, x):
    with dask.config.set(scheduler="threads"):
        xr.testing.assert_identical(CALLS[name](model, chunked(x, rows)).compute(), CALLS[name](model, x))


def test_single_precision_and_labels_of_inputs_are_kept(model, x):
    narrow = model.as_dtype(np.dtype(np.float32))
    labelled = xr.DataArray(x.astype(np.float32), dims=("input", "feature"), coords={"input": np.arange(N_INPUTS) * 10})
    for name in ("information", "information per input", "estimate per input", "full"):
        expected = CALLS[name](narrow, labelled)
        result = CALLS[name](narrow, labelled.chunk(input=70))
        assert result.dtype == expected.dtype == np.float32
        xr.testing.assert_identical(result.compute(), expected)


def test_lazy_labels_are_read_once(model, x):
    read = []

    def note(block):
        read.append(len(block))
        return block

    y = dask.array.from_array(Y, chunks=200).map_blocks(note, dtype=Y.dtype, meta=np.empty(0, Y.dtype))
    for labels in (y, xr.DataArray(y, dims="input")):
        read.clear()
        result = fs.empirical_fisher(model, chunked(x, 70), labels)
        xr.testing.assert_identical(result.compute(scheduler="sync"), fs.empirical_fisher(model, x, Y))
        assert read == [200, 200, 200]


def test_labels_are_checked_when_the_call_is_made_and_not_in_every_task(model, x, monkeypatch):
    result = fs.empirical_fisher(model, chunked(x, 70), Y)
    checked = []
    monkeypatch.setattr(fs.families.Categorical, "check_labels", lambda *given: checked.append(given))
    for again in (result, pickle.loads(pickle.dumps(result))):
        again.compute(scheduler="sync")
    assert checked == []


@pytest.mark.parametrize("per_input", [False, True])
def test_probabilities_are_checked_when_the_call_is_made_and_not_in_every_task(per_input, model, x, monkeypatch):
    q = np.random.default_rng(0).dirichlet(np.ones(3), size=len(x))
    checked = []
    check = distributions.label_distributions
    monkeypatch.setattr(distributions, "label_distributions", lambda *given: checked.append(given) or check(*given))
    result = fs.empirical_variance(model, chunked(x, 70), q, per_input=per_input)
    made = len(checked)
    assert made <= 2  # of all arguments, and for all tasks
    for again in (result, pickle.loads(pickle.dumps(result))):
        again.compute(scheduler="sync")
    assert len(checked) == made
    expected = fs.empirical_variance(model, x, q, per_input=per_input)
    assert len(checked) == made + 1
    xr.testing.assert_identical(result.compute(), expected)


def test_a_slice_of_a_lazy_result_reads_its_own_inputs_only(model, x, tmp_path):
    read = []

    def note(block):
        read.append(len(block))
        return block

    lazy = dask.array.from_array(x, chunks=(70, 3)).map_blocks(note, dtype=x.dtype, meta=np.empty((0, 0)))
    result, expected = (CALLS["information per input"](model, one) for one in (lazy, x))
    last = slice(-20, None)
    xr.testing.assert_identical(result[last].compute(scheduler="sync"), expected[last])
    assert sum(read) < 200
    result.to_netcdf(tmp_path / "f.nc")
    with xr.open_dataarray(tmp_path / "f.nc") as stored:
        xr.testing.assert_identical(stored.load(), expected)


def test_every_use_of_a_generator_gives_other_draws(model, x):
    drawn = []
    for inputs in (x, chunked(x, 70)):
        rng = np.random.default_rng(3)
        drawn.append([fs.estimate_fisher(model, inputs, estimator="score", n_draws=2, rng=rng) for _ in range(2)])
    for expected, result in zip(*drawn, strict=True):
        xr.testing.assert_identical(result.compute(), expected)
    assert not drawn[0][0].equals(drawn[0][1])


def test_nothing_is_read_before_the_result_is_asked_for(model, x):
    def fail(block):
        raise OSError("the disk is gone")

    broken = dask.array.from_array(x, chunks=(100, 3)).map_blocks(fail, dtype=x.dtype, meta=np.empty((0, 0)))
    for name in ("information", "information per input", "estimate", "bounds", "block"):
        result = CALLS[name](model, broken)
        assert is_lazy(result)
        with pytest.raises(OSError, match="the disk is gone"):
            result.compute()


def test_arguments_are_refused_at_once(model, x):
    lazy = chunked(x, 100)
    for call, message in (
        (lambda: fs.fisher_information(model, lazy, view="ful"), "`view` must be one of"),
        (lambda: fs.estimate_fisher(model, lazy, estimator="score", n_draws=0, rng=0), "`n_draws` must be"),
        (lambda: fs.estimator_variance(model, lazy, design="subsample", population=599), "`population` must be at least the 600"),
        (lambda: fs.fisher_information(model, lazy[:, :2]), "`x` must have 3 columns"),
        (lambda: fs.empirical_fisher(model, lazy, Y[:-1]), "`y`"),
        (lambda: fs.fisher_information(model, lazy, progress="yes"), "`progress` must be True or False"),
        (lambda: fs.fisher_information(model, lazy.data[0, 0]), r"`x` must be 2-D \(input, feature\), got shape \(\)"),
        (lambda: fs.fisher_information(model, lazy.data[:, lazy.data[0] > 0]), r"got shape \(600, nan\)"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_delayed_object_is_refused_in_words(model, x):
    with pytest.raises(TypeError, match=r"`x` must be an array of real numbers, got Delayed\("):
        fs.fisher_information(model, dask.delayed(x))


def test_made_up_inputs_outside_the_natural_domain_do_no_harm(x):
    # A log rate past the range of its fourth moment is refused; here only the given inputs are small enough.
    model = fs.MLP([[[1e4, 0.0]]], activation=[], family=fs.families.Poisson())
    small = 1e-4 * x[:, :1]
    lazy = dask.array.from_array(small, chunks=(100, 1))
    xr.testing.assert_identical(fs.fisher_information(model, lazy).compute(), fs.fisher_information(model, small))


def test_an_error_names_the_block_and_its_inputs(model, x):
    broken = x.copy()
    broken[333, 1] = np.nan
    lazy = dask.array.from_array(broken, chunks=(100, 3))
    message = r"^In block 0, inputs 0 to 511: `x` must be finite, got nan at index \(333, 1\)"
    for name in ("information", "information per input"):
        with pytest.raises(ValueError, match=message):
            CALLS[name](model, lazy).compute(scheduler="threads")


class Twice(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(first, second)


def test_an_error_of_any_kind_keeps_its_words(model, x, monkeypatch):
    def fail(*given):
        raise Twice("out", "of luck")

    result = fs.fisher_information(model, chunked(x, 100))
    monkeypatch.setattr(fs.quantities._evaluation.derivatives, "forward", fail)
    with pytest.raises(RuntimeError, match=r"In block \d, inputs \d+ to \d+: .*of luck"):
        result.compute(scheduler="sync")


# --- a scheduler and worker processes ----------------------------------------------------------------------------------------


@pytest.fixture
def real_leaves(monkeypatch):
    """Worker processes have leaves of the usual size."""
    monkeypatch.undo()


@pytest.fixture(scope="module")
def many() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(30_000, 3))


@pytest.mark.parametrize("name", ["information", "estimate", "variance", "kfac", "empirical per input"])
def test_a_cluster_changes_no_bit(name, model, many, client, real_leaves, monkeypatch):
    monkeypatch.setattr(f"{__name__}.Y", np.random.default_rng(1).integers(0, 3, len(many)))
    result = CALLS[name](model, chunked(many, 7001))
    xr.testing.assert_identical(result.compute(), CALLS[name](model, many))


def test_processes_change_no_bit(model, many, real_leaves):
    result = CALLS["estimate"](model, chunked(many, 7001))
    with dask.config.set({"multiprocessing.context": "spawn"}):
        xr.testing.assert_identical(result.compute(scheduler="processes", num_workers=2), CALLS["estimate"](model, many))


def test_a_killed_worker_changes_no_bit(model, many, client, real_leaves):
    def slowly(block):
        time.sleep(0.3)
        return block

    source = dask.array.from_array(many, chunks=(4096, 3)).map_blocks(slowly, dtype=many.dtype, meta=np.empty((0, 0)))
    killed = []

    def kill() -> None:
        pid = next(iter(client.run(os.getpid).values()))
        time.sleep(1.0)
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

    killer = threading.Thread(target=kill)
    result = CALLS["estimate"](model, source)
    killer.start()
    found = result.compute()
    killer.join()
    assert killed
    assert killed[0] not in client.run(os.getpid).values()
    xr.testing.assert_identical(found, CALLS["estimate"](model, many))


def test_a_poisoned_block_on_a_cluster_is_named(model, many, client, real_leaves):
    broken = many.copy()
    broken[20_000, 2] = np.inf
    with pytest.raises(
        ValueError, match=r"^In block 2, inputs 16384 to 24575: `x` must be finite, got inf at index \(20000, 2\)"
    ):
        CALLS["information"](model, chunked(broken, 7001)).compute()


def test_tasks_take_one_thread_of_blas_and_of_the_package(model, many, real_leaves, monkeypatch):
    asked, blas = [], []
    look = fs.quantities._run.inputs.finite_results

    def note(*given):  # called after a pass, when the pass itself no longer holds BLAS
        blas.extend(one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas")
        look(*given)

    original = fs.execution.thread_pool.run_together
    monkeypatch.setattr(
        fs.execution.thread_pool, "run_together", lambda work, count: (asked.append(count), original(work, count))
    )
    result = CALLS["estimate"](model, chunked(many, 7001))
    monkeypatch.setattr(fs.quantities._run.inputs, "finite_results", note)
    with threadpool_limits(2, user_api="blas"):
        result.compute(scheduler="sync")
    assert set(asked) == {1}
    assert set(blas) == {1}


class Batches:
    """Batches of rows that can be read again."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x

    def __iter__(self):
        return iter(np.split(self.x, [7, 30]))


@pytest.mark.parametrize("name", NEEDY_CALLS)
def test_calls_that_need_more_inputs_than_two(name):
    x = np.random.default_rng(5).normal(size=(60, 3))
    expected = NEEDY_CALLS[name](NEEDY, x)
    delayed = NEEDY_CALLS[name](NEEDY, dask.array.from_array(x, chunks=(20, 3)))
    assert is_lazy(delayed)
    assert delayed.compute().identical(expected)
    assert NEEDY_CALLS[name](NEEDY, Batches(x)).identical(expected)


def test_a_call_that_even_all_inputs_cannot_answer_is_refused_with_the_reason():
    x = np.ones((60, 3))
    with pytest.raises(fs.AssumptionError, match="eigenvalue"):
        fs.propagate(fs.LeadingEigenvalues(6), NEEDY, x, estimator="score", n_draws=3)
    delayed = dask.array.from_array(x, chunks=(20, 3))
    with pytest.raises(fs.AssumptionError, match="eigenvalue"):
        fs.propagate(fs.LeadingEigenvalues(6), NEEDY, delayed, estimator="score", n_draws=3).compute()


def test_x_by_its_name():
    """A lazy x and batches may be given by keyword, like an x in memory, and so may what stands before it."""
    model = fs.MLP.random([3, 2], activation=[], family=fs.families.Categorical(2), rng=0)
    other = fs.MLP.random([3, 2], activation=[], family=fs.families.Categorical(2), rng=1)
    x = np.random.default_rng(0).normal(size=(9, 3))
    for given in (lambda: dask.array.from_array(x, chunks=4), lambda: iter([x[:4], x[4:]])):
        assert (fs.fisher_information(model=model, x=given()) == fs.fisher_information(model, x)).all()
        found = fs.applications.output_divergence(model=model, other=other, x=given())
        assert (found.divergence == fs.applications.output_divergence(model, other, x).divergence).all()
