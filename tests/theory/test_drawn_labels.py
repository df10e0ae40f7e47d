"""The score estimate from few softmax labels: the mean of the squared scores of those labels, one term per label."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from fisherstats.theory import sampling
from tests import naive
from tests.theory.cases import Case, assert_close

CLASSES = [
    Case((3, 4, 5), ("tanh",), "categorical", 3, 1),
    Case((2, 3, 3, 4), ("softplus", "tanh"), "categorical_minimal", 3, 2),
    Case((3, 6), (), "categorical", 2, 3),
]


def drawn_labels(case: Case, seed: int, n_draws: int) -> np.ndarray:
    """Return the labels (n, N) that a call with this seed draws."""
    model = case.model
    law = model.family.at(model.natural_parameters(case.x))
    drawn = sampling.draw(model.family, law, np.random.SeedSequence(seed), 0, n_draws, False)
    residuals = drawn.mean if not model.family.minimal else np.column_stack([drawn.mean, -drawn.mean.sum(axis=1)])
    counts = np.rint(n_draws * (residuals + law.p)).astype(int)
    assert (counts.sum(axis=1) == n_draws).all()
    return np.array([np.repeat(np.arange(len(row)), row) for row in counts])


@pytest.mark.parametrize("engine", ["numpy", "numba"])
@pytest.mark.parametrize("n_draws", [1, 2, 4, 9])
@pytest.mark.parametrize("case", CLASSES, ids=lambda case: case.name)
def test_every_view_is_the_mean_over_the_labels_drawn(case, n_draws, engine):
    labels = drawn_labels(case, 5, n_draws)
    terms = [naive.empirical_fisher(*case.setting, case.x, labels[:, draw]) for draw in range(n_draws)]
    matrix = sum(one for one, _ in terms) / n_draws
    per_input = sum(np.array(each) for _, each in terms) / n_draws

    def estimate(**words):
        return fs.estimate_fisher(case.model, case.x, estimator="score", n_draws=n_draws, rng=5, engine=engine, **words)

    scale = float(np.abs(matrix).max())
    for error in (False, True):
        assert_close(estimate(standard_error=error), np.diag(matrix), scale=scale, rtol=1e-12)
        assert_close(estimate(view="full", standard_error=error), matrix, scale=scale, rtol=1e-12)
    diagonals = np.array([np.diag(one) for one in per_input])
    assert_close(estimate(per_input=True), diagonals, scale=scale, rtol=1e-12)
    assert_close(estimate(view="full", per_input=True), per_input, scale=scale, rtol=1e-12)
    for layer, part in enumerate(case.model.layer_slices()):
        block = estimate(view="block")[f"layer_{layer}"].dataset["information"]
        assert_close(block, matrix[part, part], scale=scale, rtol=1e-12)


def test_labels_of_another_seed_would_be_noticed():
    case = CLASSES[0]
    matrix, _ = naive.empirical_fisher(*case.setting, case.x, drawn_labels(case, 6, 1)[:, 0])
    found = fs.estimate_fisher(case.model, case.x, estimator="score", n_draws=1, rng=5).values
    assert np.abs(found - np.diag(matrix)).max() > 1e-3 * np.abs(matrix).max()


@pytest.mark.parametrize("view", ["diagonal", "full"])
def test_a_product_of_one_part_is_estimated_as_other_products_are(view):
    case = CLASSES[0]
    alone = fs.MLP(case.weights, activation="tanh", family=fs.families.Product([case.model.family]))
    exact = fs.fisher_information(case.model, case.x, view=view).values
    for n_draws in (1, 7, 10**9):
        found = fs.estimate_fisher(alone, case.x, estimator="score", n_draws=n_draws, rng=5, view=view).values
        # A few standard errors, which are of the size of the entries for a single label.
        np.testing.assert_allclose(found, exact, rtol=0, atol=20 / np.sqrt(n_draws) * np.abs(exact).max())
