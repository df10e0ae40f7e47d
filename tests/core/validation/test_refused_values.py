"""Values that reach past a range, break their announcement or are truth values are refused by the name of their argument."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

import fisherstats as fs

CATEGORICAL = fs.families.Categorical(2)
MODEL = fs.MLP.random([3, 4, 2], activation="tanh", family=CATEGORICAL, rng=0)
X = np.random.default_rng(0).normal(size=(20, 3))
Y = np.arange(20) % 2


@pytest.mark.parametrize("level", ["parameter", "layer", "trace"])
@pytest.mark.parametrize("target", [1e-300, 1e-160])
def test_targets_whose_square_is_no_number_are_refused(target, level):
    with pytest.raises(
        ValueError, match="`target_cv` must be so large that its square times that of the information is a number"
    ):
        fs.plan_draws(MODEL, X, target_cv=target, level=level)


def test_large_targets_take_one_draw():
    assert (fs.plan_draws(MODEL, X, target_cv=1e200).draws == 1).all()


@pytest.mark.parametrize("costs", [(1e308, 1e-308), (5e-324, 1e300)])
def test_costs_whose_ratio_is_past_the_range_are_refused(costs):
    with pytest.raises(ValueError, match="`cost_input` and `cost_draw` must be within a factor of 1e200 of each other"):
        fs.plan_draws(MODEL, X, target_cv=0.1, design="random", cost_input=costs[0], cost_draw=costs[1])


def test_large_costs_of_one_ratio_give_one_plan():
    plans = [fs.plan_draws(MODEL, X, target_cv=0.1, design="random", cost_input=c, cost_draw=c) for c in (1.0, 1e308, 1e-308)]
    for plan in plans[1:]:
        np.testing.assert_array_equal(plan.optimal_draws, plans[0].optimal_draws)


@pytest.mark.parametrize("value", [True, np.True_])
def test_a_truth_value_is_no_covariance(value):
    with pytest.raises(ValueError, match="`covariance` must be a finite number above 0, got True"):
        fs.families.Gaussian(covariance=value)


def test_on_kink_is_read_where_it_is_not_used():
    with pytest.raises(ValueError, match="`on_kink` must be one of 'raise', 'ignore', got 'ingore'"):
        fs.applications.consolidation_penalty(MODEL, MODEL, X, on_kink="ingore")


class Reader:
    """A file whose rows are not what it announces."""

    def __init__(self, given):
        self.shape, self.dtype, self.given = X.shape, X.dtype, given

    def __len__(self):
        return len(X)

    def __getitem__(self, rows):
        return self.given(X[rows])


def fitted(x):
    return fs.training.fit(MODEL, x, Y, optimizer=fs.training.SGD(0.1), epochs=1, batch_size=5, rng=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda rows: rows[:-1], "`x` must return the rows that it declares"),
        (lambda rows: rows[:, :2], "`x` must return the rows that it declares"),
        (lambda rows: rows.astype(np.float32), "`x` must return the rows that it declares"),
        (lambda rows: rows * np.nan, "`x` must be finite, got nan at index"),
        (lambda rows: np.ma.masked_less(rows, 100.0), "`x` must have no masked entries"),
    ],
)
def test_a_training_says_what_is_wrong_with_rows(given, message):
    with pytest.raises(ValueError, match=message):
        fitted(Reader(given))


def test_a_memory_map_with_nan_is_refused_in_a_training(tmp_path):
    rows = np.memmap(tmp_path / "x", dtype=float, mode="w+", shape=X.shape)
    rows[:] = X
    rows[13, 2] = np.nan
    with pytest.raises(ValueError, match=r"`x` must be finite, got nan at index \(13, 2\)"):
        fitted(rows)


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_matrices_of_numpy_are_their_arrays():
    np.testing.assert_array_equal(fs.fisher_information(MODEL, np.matrix(X)), fs.fisher_information(MODEL, X))
    np.testing.assert_array_equal(MODEL.natural_parameters(np.matrix(X)), MODEL.natural_parameters(X))


@pytest.mark.parametrize("kind", [scipy.sparse.csr_matrix, scipy.sparse.coo_array])
def test_sparse_matrices_are_told_how_to_become_dense(kind):
    for call in (MODEL.natural_parameters, fitted, lambda x: fs.fisher_information(MODEL, x)):
        with pytest.raises(TypeError, match=r"make a sparse matrix dense with `x.toarray"):
            call(kind(X))


def test_datasets_of_hdf5_are_read(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "data.h5", "w") as file:
        x = file.create_dataset("x", data=X)
        np.testing.assert_array_equal(fs.fisher_information(MODEL, x), fs.fisher_information(MODEL, X))
        np.testing.assert_array_equal(MODEL.natural_parameters(x), MODEL.natural_parameters(X))
        for found, wanted in zip(fitted(x).model.weights, fitted(X).model.weights, strict=True):
            np.testing.assert_array_equal(found, wanted)
