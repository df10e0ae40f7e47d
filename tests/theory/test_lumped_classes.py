"""Ends of the exact diagonal of a classifier from its most probable classes."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs

X = np.random.default_rng(0).normal(size=(9, 4))


def model_of(widths, activation="tanh", minimal=False, scale=1.0, seed=0):
    family = fs.families.Categorical(widths[-1] + minimal, minimal=minimal)
    model = fs.MLP.random(widths, activation=activation, family=family, rng=seed)
    return model.with_weights([scale * one for one in model.weights])


@pytest.mark.parametrize("minimal", [False, True])
@pytest.mark.parametrize("widths", [[4, 3], [4, 5, 6], [4, 6, 5, 20], [4, 5, 5, 5, 12]], ids=str)
@pytest.mark.parametrize("n_kept", [1, 2, 3])
def test_the_exact_diagonal_lies_within(widths, minimal, n_kept):
    for scale in (0.5, 2.0, 4.0):
        model = model_of(widths, minimal=minimal, scale=scale)
        for per_input in (False, True):
            exact = fs.fisher_information(model, X, per_input=per_input).values
            ends = fs.information_envelopes(model, X, n_classes_kept=n_kept, per_input=per_input)
            assert (ends.information_lower.values <= exact).all()
            assert (exact <= ends.information_upper.values).all()
            layers = ends.param_layer.values
            near = layers >= model.n_layers - 2
            for end in (ends.information_lower, ends.information_upper):
                np.testing.assert_allclose(end.values[..., near], exact[..., near], rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("minimal", [False, True])
def test_the_lower_end_is_the_information_of_the_lumped_response(minimal):
    """By index loops: a response that only tells which kept class it is, or that it is another one; below the last two layers."""
    n_kept, model = 2, model_of([4, 5, 4, 6], minimal=minimal)
    first = slice(0, model.weights[0].size)
    lower = fs.information_envelopes(model, X, n_classes_kept=n_kept, per_input=True).information_lower.values
    n_classes = model.family.n_classes
    for i, x in enumerate(X):
        h = model.natural_parameters(x[None])[0]
        logits = np.append(h, 0.0) if minimal else h
        p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        scores = np.array([score(model, x, label) for label in range(n_classes)])
        kept = np.argsort(-p)[:n_kept]
        rest = np.setdiff1d(np.arange(n_classes), kept)
        expected = sum(p[c] * scores[c] ** 2 for c in kept)
        expected += p[rest].sum() * (p[rest] @ scores[rest] / p[rest].sum()) ** 2
        np.testing.assert_allclose(lower[i][first], expected[first], rtol=1e-9, atol=1e-14)


def score(model, x, label):
    """Derivative of the log-probability of a class, by complex steps."""
    values, step = [], 1e-30
    for layer, weights in enumerate(model.weights):
        for place in np.ndindex(weights.shape):
            moved = [one.astype(complex) for one in model.weights]
            moved[layer][place] += 1j * step
            h = x.astype(complex)
            for depth, one in enumerate(moved):
                h = one @ np.append(h, 1.0)
                h = np.tanh(h) if depth < len(moved) - 1 else h
            logits = np.append(h, 0.0) if model.family.minimal else h
            shift = logits.real.max()
            values.append((logits[label] - shift - np.log(np.exp(logits - shift).sum())).imag / step)
    return np.array(values)


def test_more_classes_are_closer_and_all_of_them_exact():
    model = model_of([4, 6, 5, 8], scale=2.0)
    exact = fs.fisher_information(model, X).values
    widths = []
    for n_kept in (1, 3, 6, 8):
        ends = fs.information_envelopes(model, X, n_classes_kept=n_kept)
        widths.append(float((ends.information_upper - ends.information_lower).sum()))
    assert widths == sorted(widths, reverse=True)
    np.testing.assert_allclose(ends.information_lower, exact, rtol=1e-9)
    np.testing.assert_allclose(ends.information_upper, exact, rtol=1e-9)


def test_float32_ends_are_rounded_outwards():
    model = model_of([4, 6, 5, 8], scale=2.0)
    exact = fs.fisher_information(model.as_dtype(np.float32).as_dtype(np.float64), X.astype("f4").astype("f8")).values
    ends = fs.information_envelopes(model.as_dtype(np.float32), X.astype("f4"), n_classes_kept=2)
    assert ends.information_lower.dtype == np.float32
    assert (ends.information_lower.values.astype("f8") <= exact).all()
    assert (exact <= ends.information_upper.values.astype("f8")).all()


def test_refusals():
    model = model_of([4, 3])
    with pytest.raises(ValueError, match="`n_classes_kept` must be at most 3"):
        fs.information_envelopes(model, X, n_classes_kept=4)
    with pytest.raises(ValueError, match="`n_classes_kept` must be a positive integer"):
        fs.information_envelopes(model, X, n_classes_kept=0)
    with pytest.raises(ValueError, match="two kinds of envelopes"):
        fs.information_envelopes(model, X, n_classes_kept=2, rank=1)
