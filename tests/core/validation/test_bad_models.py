"""Networks, families and activations that cannot be are refused: the right exception, what is required, what arrived."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

import fisherstats as fs
from tests.refusals import DTYPE, MASKED, SEED, SPARSE, changed, masked, pattern, refused

Bernoulli, Binomial, Categorical, Gaussian, Poisson = (
    getattr(fs.families, name) for name in ("Bernoulli", "Binomial", "Categorical", "Gaussian", "Poisson")
)
WEIGHTS = [np.ones((4, 4)), np.ones((2, 5))]
KERNELS = [np.ones((4, 3)), np.ones((2, 4))]
BIASES = [np.ones(4), np.ones(2)]
MODEL = fs.MLP(WEIGHTS, activation="tanh", family=Categorical(2))


def mlp(weights=WEIGHTS, activation="tanh", family=None):
    return fs.MLP(weights, activation=activation, family=family or Categorical(2))


def joined(kernels=KERNELS, biases=BIASES):
    return fs.MLP.from_arrays(kernels, biases, activation="tanh", family=Categorical(2))


def random(widths=(3, 4, 2), rng=0):
    return fs.MLP.random(widths, activation="tanh", family=Categorical(2), rng=rng)


MATRIX = " must be a matrix of shape (n_out, n_in + 1) with n_out, n_in at least 1 and the bias in the last column, got shape "
LIST = (
    "`weights` must be a list of matrices, one per layer, each of shape (n_out, n_in + 1) with the bias in the last column, got "
)
WIDTHS = "`widths` must list at least two layer widths (inputs, hidden units ..., outputs), got "

MODELS = [
    (lambda: mlp(np.ones((2, 3))), TypeError, LIST + "an array of shape (2, 3) and dtype float64; put a single"),
    (lambda: mlp(iter(WEIGHTS)), TypeError, LIST + "<list_iterator"),
    (lambda: mlp({0: WEIGHTS[0]}), TypeError, LIST + "{0: array([[1., 1., 1., 1.], [1.,"),
    (lambda: mlp([]), ValueError, "`weights` must hold at least one matrix, got an empty list."),
    (lambda: mlp([1.0, 2.0]), ValueError, "`weights[0]`" + MATRIX + "()."),
    (lambda: mlp([[1.0, 2.0]]), ValueError, "`weights[0]`" + MATRIX + "(2,)."),
    (lambda: mlp([np.ones((0, 4))]), ValueError, "`weights[0]`" + MATRIX + "(0, 4)."),
    (lambda: mlp([np.ones((4, 1))]), ValueError, "`weights[0]`" + MATRIX + "(4, 1)."),
    (lambda: mlp([[[1, 2], [3]]]), ValueError, "`weights[0]` must be a rectangular array of real numbers, got [[1, 2], [3]]."),
    (
        lambda: mlp([np.ones((4, 4)), np.ones((2, 4))]),
        ValueError,
        "`weights[1]` must have 5 columns, the 4 outputs of weights[0] and one bias, got shape (2, 4); use MLP.from_arrays",
    ),
    (
        lambda: mlp([WEIGHTS[0], changed(WEIGHTS[1], np.nan, (0, 2))]),
        ValueError,
        "`weights[1]` must be finite, got nan at index (0, 2); remove",
    ),
    (
        lambda: mlp([changed(WEIGHTS[0], -np.inf), WEIGHTS[1]]),
        ValueError,
        "`weights[0]` must be finite, got -inf at index (2, 1); remove",
    ),
    (lambda: mlp([WEIGHTS[0] * 1j, WEIGHTS[1]]), TypeError, "`weights[0]`" + DTYPE.format("complex128")),
    (lambda: mlp([WEIGHTS[0].astype(object), WEIGHTS[1]]), TypeError, "`weights[0]`" + DTYPE.format("object")),
    (lambda: mlp([[["1", "2"]]]), TypeError, "`weights[0]`" + DTYPE.format("<U1")),
    (lambda: mlp([np.zeros((4, 4), "M8[s]")]), TypeError, "`weights[0]`" + DTYPE.format("datetime64[s]")),
    (lambda: mlp([np.ones((4, 4), "f2")]), TypeError, "`weights[0]`" + DTYPE.format("float16")),
    (lambda: mlp([[[2**70, 1]]]), TypeError, "`weights[0]`" + DTYPE.format("object")),
    (
        lambda: mlp([scipy.sparse.csr_array(WEIGHTS[0]), WEIGHTS[1]]),
        TypeError,
        "`weights[0]`" + SPARSE.format("(4, 4)", "`weights[0].toarray()`"),
    ),
    (lambda: mlp([masked(WEIGHTS[0], (1, 2)), WEIGHTS[1]]), ValueError, "`weights[0]`" + MASKED.format("(1, 2)")),
    (
        lambda: fs.MLP.from_arrays(np.ones((2, 3)), [], activation=[], family=Bernoulli()),
        TypeError,
        "`kernels` must be a list with one array per layer, got an array",
    ),
    (lambda: joined(biases=[np.ones(4)]), ValueError, "`biases` must hold one vector per kernel, got 2 kernels and 1 biases."),
    (
        lambda: joined(kernels=[np.ones((3, 4)), np.ones((4, 2))]),
        ValueError,
        "`biases[0]` must have shape (3,) to go with kernels[0] of shape (3, 4) (n_out, n_in), got shape (4,); transpose",
    ),
    (lambda: joined(biases=[np.ones(4), [1, np.nan]]), ValueError, "`biases[1]` must be finite, got nan at index (1,)"),
    (
        lambda: mlp(activation="tahn"),
        ValueError,
        "`activation` must be one of 'tanh', 'sigmoid', .*, got 'tahn'. Did you mean 'tanh'?",
    ),
    (lambda: mlp(activation=["ReLU"]), ValueError, "`activation` must be one of .*, got 'ReLU'. Did you mean 'relu'?"),
    (
        lambda: mlp(activation=fs.activations.LeakyReLU),
        TypeError,
        "`activation` must be .* or an Activation object such as LeakyReLU(0.2), got <class '.*'>; call the class, LeakyReLU(),",
    ),
    (lambda: mlp(activation=np.tanh), TypeError, "`activation` must be one of .*, got <ufunc 'tanh'>."),
    (lambda: mlp(activation=None), TypeError, "`activation` must be one of .*, got None."),
    (lambda: mlp(activation={"tanh": 1}), TypeError, "`activation` must be one of .*, got {'tanh': 1}."),
    (
        lambda: mlp(activation=["tanh", "relu"]),
        ValueError,
        "`activation` must name one activation for each of the 1 hidden layers, got 2; a single",
    ),
    (
        lambda: mlp(activation=[]),
        ValueError,
        "`activation` must name one activation for each of the 1 hidden layers, got 0; a single",
    ),
    (lambda: fs.activations.get("rleu"), ValueError, "`activation` must be one of .*, got 'rleu'. Did you mean 'relu'?"),
    (lambda: fs.activations.LeakyReLU(0), ValueError, "`slope` must be a finite number above 0, got 0."),
    (lambda: fs.activations.ELU(np.nan), ValueError, "`alpha` must be a finite number above 0, got nan."),
    (lambda: mlp(family="categorical"), TypeError, "`family` must be a family object such as .*, got 'categorical'."),
    (lambda: mlp(family=Categorical), TypeError, "`family` must be a family object such as .*, got <class"),
    (
        lambda: mlp(family=Categorical(3)),
        ValueError,
        "`weights[-1]` must have 3 rows, one per natural parameter of Categorical(n_classes=3, minimal=False), got 2 rows;",
    ),
    (lambda: random([3]), ValueError, WIDTHS + "[3]."),
    (lambda: random(3), ValueError, WIDTHS + "3."),
    (lambda: random([3, 0, 2]), ValueError, "`widths[1]` must be a positive integer, got 0."),
    (lambda: random([3, 2.5, 2]), ValueError, "`widths[1]` must be a positive integer, got 2.5."),
    (
        lambda: random([10**6, 10**6, 2]),
        fs.SizeError,
        "`widths` needs 8,000,024,000,016 bytes (7.3 TiB) and .* are available; use narrower layers.",
    ),
    (lambda: random(rng=None), ValueError, SEED.format("None")),
    (lambda: random(rng=1.0), ValueError, SEED.format("1.0")),
    (lambda: random(rng=-1), ValueError, SEED.format("-1")),
    (lambda: random(rng="a"), ValueError, SEED.format("'a'")),
    (lambda: random(rng=True), ValueError, SEED.format("True")),
    (lambda: random(rng=np.random.RandomState(0)), ValueError, SEED.format("RandomState(MT19937) .*")),
    (lambda: Categorical(1), ValueError, "`n_classes` must be at least 2, got 1; with one class nothing is random."),
    (lambda: Categorical(2.5), ValueError, "`n_classes` must be a positive integer, got 2.5."),
    (lambda: Categorical(3, minimal="yes"), ValueError, "`minimal` must be True or False, got 'yes'."),
    (lambda: Poisson(0), ValueError, "`n_outputs` must be a positive integer, got 0."),
    (lambda: Binomial(2**64), ValueError, "`n_trials` must be a positive integer below 2**63, got 18446744073709551616."),
    (lambda: Gaussian(2, covariance=[[1, np.nan], [0, 1]]), ValueError, "`covariance` must be finite, got nan at index (0, 1)"),
    (lambda: Gaussian(1, covariance=-1), ValueError, "`covariance` must be a finite number above 0, got -1."),
    (lambda: Gaussian(2, covariance=[1, -1]), ValueError, "`covariance` must hold variances above 0, got -1.0 at output 1."),
    (
        lambda: Gaussian(2, covariance=np.eye(3)),
        ValueError,
        "`covariance` must be None, a number, or have shape (2,) or (2, 2) for `n_outputs` = 2, got shape (3, 3).",
    ),
    (
        lambda: Gaussian(2, covariance=[[1, 0.5], [0.4, 1]]),
        ValueError,
        "`covariance` must be symmetric, got 0.5 at (0, 1) but 0.4 at (1, 0).",
    ),
    (
        lambda: Gaussian(2, covariance=[[1, 2], [2, 1]]),
        ValueError,
        "`covariance` must be positive definite, got a smallest eigenvalue of -1.",
    ),
    (lambda: Gaussian(2, covariance=masked([1.0, 2.0], (1,))), ValueError, "`covariance`" + MASKED.format("(1,)")),
    (lambda: Gaussian(2, covariance="eye"), TypeError, "`covariance` must be an array of real numbers, got 'eye'."),
    (
        lambda: setattr(MODEL, "weights", ()),
        AttributeError,
        "`weights` cannot be set: an MLP is frozen; build another with MLP(weights,",
    ),
    (lambda: setattr(MODEL, "other", ()), AttributeError, "`other` cannot be set: an MLP is frozen"),
    (lambda: delattr(MODEL, "weights"), AttributeError, "`weights` cannot be set: an MLP is frozen"),
    (lambda: MODEL.weights[0].__setitem__((0, 0), 1.0), ValueError, "assignment destination is read-only"),
]


@refused(MODELS)
def test_refused(call, error, message):
    with pytest.raises(error, match=pattern(message)) as refusal:
        call()
    assert refusal.type is error
