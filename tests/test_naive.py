"""The oracle is anchored: against high-precision differentiation, known laws, and a published-theory golden table."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

from tests import golden, naive

MP_SELU = (mpmath.mpf("1.0507009873554804934193349852946"), mpmath.mpf("1.6732632423543772848170429916717"))


def _mp_logistic(z):
    return 1 / (1 + mpmath.exp(-z))


def _mp_softplus(z):
    return mpmath.log(1 + mpmath.exp(z))


HIGH_PRECISION = {
    "identity": lambda z: z,
    "tanh": mpmath.tanh,
    "sigmoid": _mp_logistic,
    "softplus": _mp_softplus,
    "log_sigmoid": lambda z: mpmath.log(_mp_logistic(z)),
    "relu": lambda z: max(z, mpmath.mpf(0)),
    "leaky_relu": lambda z: z if z > 0 else z / 100,
    "hard_tanh": lambda z: min(max(z, mpmath.mpf(-1)), mpmath.mpf(1)),
    "elu": lambda z: z if z > 0 else mpmath.exp(z) - 1,
    "selu": lambda z: MP_SELU[0] * (z if z > 0 else MP_SELU[1] * (mpmath.exp(z) - 1)),
    "gelu": lambda z: z * mpmath.ncdf(z),
    "silu": lambda z: z * _mp_logistic(z),
    "mish": lambda z: z * mpmath.tanh(_mp_softplus(z)),
    "erf": mpmath.erf,
    "arctan": mpmath.atan,
    "softsign": lambda z: z / (1 + abs(z)),
    "sin": mpmath.sin,
    "gelu_tanh": lambda z: z / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (z + mpmath.mpf("0.044715") * z**3))),
    "relu6": lambda z: min(max(z, mpmath.mpf(0)), mpmath.mpf(6)),
    "hard_sigmoid": lambda z: min(max(z + 3, mpmath.mpf(0)), mpmath.mpf(6)) / 6,
    "hard_swish": lambda z: z * min(max(z + 3, mpmath.mpf(0)), mpmath.mpf(6)) / 6,
    "celu": lambda z: z if z > 0 else mpmath.exp(z) - 1,
}


def tiny_law(activation, family):
    return naive.input_law(naive.Network.named(golden.WEIGHTS, [activation]), family, {}, golden.INPUT)


# --- activations and network derivatives ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(naive.ACTIVATIONS))
@pytest.mark.parametrize("z", [-4.3, -1.7, -0.6, -0.05, 0.05, 0.4, 0.9, 2.2, 5.1])
def test_activation_derivatives_match_high_precision_differentiation(name, z):
    assert HIGH_PRECISION.keys() == naive.ACTIVATIONS.keys()
    with mpmath.workdps(60):
        value = HIGH_PRECISION[name]
        expected = [float(mpmath.diff(value, mpmath.mpf(z), order, h=mpmath.mpf(10) ** -18)) for order in (0, 1, 2)]
    found = [derivative(z) for derivative in naive.ACTIVATIONS[name]]
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-14)


def _mp_outputs(weights, names, x):
    state = [mpmath.mpf(value) for value in x]
    for layer, weight in enumerate(weights):
        state = [sum(w * s for w, s in zip(row, [*state, mpmath.mpf(1)], strict=True)) for row in weight]
        if layer < len(weights) - 1:
            state = [HIGH_PRECISION[names[layer]](z) for z in state]
    return state


def _mp_derivatives(network, names, x):
    """Central differences at 80 digits with a step of 1e-20: the truncation error is below 1e-35."""
    places = naive.parameters(network)
    step = mpmath.mpf(10) ** -20

    def moved(*shifts):
        weights = [[[mpmath.mpf(w) for w in row] for row in np.asarray(weight).tolist()] for weight in network.weights]
        for index, shift in shifts:
            layer, row, column = places[index]
            weights[layer][row][column] += shift
        return _mp_outputs(weights, names, x)

    n_outputs, count = np.asarray(network.weights[-1]).shape[0], len(places)
    jacobian, hessian = np.zeros((n_outputs, count)), np.zeros((n_outputs, count, count))
    centre = moved()
    up, down = [moved((i, step)) for i in range(count)], [moved((i, -step)) for i in range(count)]
    for a in range(n_outputs):
        for i in range(count):
            jacobian[a, i] = (up[i][a] - down[i][a]) / (2 * step)
            hessian[a, i, i] = (up[i][a] - 2 * centre[a] + down[i][a]) / step**2
    for i in range(count):
        for j in range(i):
            plus, minus = moved((i, step), (j, step)), moved((i, -step), (j, -step))
            for a in range(n_outputs):
                mixed = plus[a] + minus[a] + 2 * centre[a] - up[i][a] - down[i][a] - up[j][a] - down[j][a]
                hessian[a, i, j] = hessian[a, j, i] = mixed / (2 * step**2)
    return jacobian, hessian


@pytest.mark.parametrize(
    ("widths", "names"),
    [
        ((2, 3), []),
        ((2, 2, 2), ["tanh"]),
        ((2, 2, 2, 1), ["mish", "gelu"]),
        ((1, 2, 2, 2, 2), ["sin", "silu", "softsign"]),
        ((2, 2, 1, 2), ["relu", "elu"]),
        ((1, 2, 1, 1, 1, 2), ["erf", "log_sigmoid", "arctan", "tanh"]),
    ],
)
def test_network_derivatives_match_high_precision_differences(widths, names):
    rng = np.random.default_rng(sum(widths) + len(names))
    shapes = zip(widths[1:], widths[:-1], strict=True)
    network = naive.Network.named([rng.normal(size=(n_out, n_in + 1)) for n_out, n_in in shapes], names)
    x = rng.normal(size=widths[0])
    with mpmath.workdps(80):
        jacobian, hessian = _mp_derivatives(network, names, x)
    np.testing.assert_allclose(naive.jacobian(network, x), jacobian, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(naive.hessian(network, x), hessian, rtol=1e-12, atol=1e-13)


# --- laws of the label ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "params", "h", "log_partition"),
    [
        ("bernoulli", {}, [0.7, -1.3], lambda h: sum(mpmath.log(1 + mpmath.exp(z)) for z in h)),
        ("binomial", {"n_trials": 5}, [0.7, -0.2], lambda h: sum(5 * mpmath.log(1 + mpmath.exp(z)) for z in h)),
        ("poisson", {}, [0.7, -1.3], lambda h: sum(mpmath.exp(z) for z in h)),
        ("poisson", {}, [3.4], lambda h: mpmath.exp(h[0])),
        ("categorical", {}, [0.7, -1.3, 0.2], lambda h: mpmath.log(sum(mpmath.exp(z) for z in h))),
        ("categorical_minimal", {}, [0.7, -1.3], lambda h: mpmath.log(1 + sum(mpmath.exp(z) for z in h))),
    ],
)
def test_enumerated_law_has_the_moments_of_its_log_partition(family, params, h, log_partition):
    """Mean, covariance and M = kappa4 + two pairings (Soen & Sun 2021, Lemma 5) from derivatives of F at 60 digits."""
    points, probabilities = naive.law_of_statistic(family, params, h)
    deltas, _ = naive.enumerate_labels(family, params, h)
    n = len(h)

    def cumulant(*indices):
        orders = tuple(indices.count(a) for a in range(n))
        with mpmath.workdps(60):
            point = tuple(mpmath.mpf(z) for z in h)
            return float(mpmath.diff(lambda *z: log_partition(z), point, orders))

    assert math.isclose(probabilities.sum(), 1.0, rel_tol=1e-14)
    np.testing.assert_allclose(probabilities @ points, [cumulant(a) for a in range(n)], rtol=1e-12)
    information = np.array([[cumulant(a, b) for b in range(n)] for a in range(n)])
    np.testing.assert_allclose(naive.natural_information(deltas, probabilities), information, rtol=1e-11, atol=1e-14)
    moment = naive.statistic_moment(deltas, probabilities)
    expected = np.zeros_like(moment)
    for a, b, c, d in np.ndindex(expected.shape):
        pairings = information[a, c] * information[b, d] + information[a, d] * information[b, c]
        expected[a, b, c, d] = cumulant(a, b, c, d) + pairings
    np.testing.assert_allclose(moment, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("covariance", [None, 0.3, [0.5, 2.0], [[1.2, 0.4], [0.4, 0.7]]])
def test_gaussian_quadrature_has_the_moments_of_isserlis(covariance):
    full = np.eye(2) if covariance is None else np.asarray(covariance) * (np.eye(2) if np.ndim(covariance) < 2 else 1)
    precision = np.linalg.inv(full)
    deltas, probabilities = naive.enumerate_labels("gaussian", {"covariance": covariance}, [0.4, -2.0])
    np.testing.assert_allclose(naive.natural_information(deltas, probabilities), precision, rtol=1e-13, atol=1e-14)
    expected = np.einsum("ac,bd->abcd", precision, precision) + np.einsum("ad,bc->abcd", precision, precision)
    np.testing.assert_allclose(naive.statistic_moment(deltas, probabilities), expected, rtol=1e-12, atol=1e-13)
    odd = np.einsum("k,ka,kb,kc->abc", probabilities, deltas, deltas, deltas)
    np.testing.assert_allclose(odd, 0.0, atol=1e-13)


def test_minimal_and_overcomplete_categorical_agree_on_the_parameters():
    """Dropping the last class subtracts its row from the last layer: the rest keeps its information and variances."""
    rng = np.random.default_rng(4)
    hidden, top = rng.normal(size=(2, 3)), rng.normal(size=(3, 3))
    full = naive.input_law(naive.Network.named([hidden, top], ["tanh"]), "categorical", {}, [0.3, -0.8])
    reduced = naive.Network.named([hidden, top[:-1] - top[-1]], ["tanh"])
    minimal = naive.input_law(reduced, "categorical_minimal", {}, [0.3, -0.8])
    shared = len(minimal.information)
    np.testing.assert_allclose(minimal.information, full.information[:shared, :shared], rtol=1e-12, atol=1e-15)
    for name in ("score", "hessian"):
        expected = full.variance(name)[:shared, :shared]
        np.testing.assert_allclose(minimal.variance(name), expected, rtol=1e-11, atol=1e-15)


# --- the golden table ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", sorted(golden.OUTPUTS))
def test_outputs_of_the_tiny_network(activation):
    states, _ = naive.forward(naive.Network.named(golden.WEIGHTS, [activation]), golden.INPUT)
    np.testing.assert_allclose(states[-1], golden.OUTPUTS[activation], atol=golden.PRECISION)


@pytest.mark.parametrize(("activation", "family"), sorted(golden.ROWS))
def test_golden_row(activation, family):
    law = tiny_law(activation, family)
    tensors = [naive.covariance_tensor(law, name, name) for name in ("score", "hessian")]
    variances = [law.variance(name) for name in ("score", "hessian")]
    found = [
        np.trace(law.information),
        *(np.sqrt(np.sum(tensor**2)) for tensor in tensors),
        *(variance.sum() for variance in variances),
        *(np.trace(variance) for variance in variances),
        *naive.frobenius_bounds(law),
    ]
    np.testing.assert_allclose(found, golden.ROWS[activation, family], rtol=0, atol=golden.PRECISION)


def test_golden_diagonals_of_tanh_and_softmax():
    law = tiny_law("tanh", "categorical")
    found = {
        "information": np.diag(law.information),
        "score": np.diag(law.variance("score")),
        "hessian": np.diag(law.variance("hessian")),
    }
    for name, values in golden.DIAGONALS.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=golden.PRECISION)


# --- inner consistency ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", naive.FAMILIES)
def test_both_estimators_are_unbiased_and_the_tensor_holds_every_variance(family):
    rng = np.random.default_rng(11)
    network = naive.Network.named([rng.normal(size=(2, 2)), rng.normal(size=(2, 3))], ["silu"])
    params = {"n_trials": 3, "covariance": [[1.0, 0.3], [0.3, 0.5]]}
    law = naive.input_law(network, family, params, [0.7])
    natural = naive.natural_information(law.deltas, law.probabilities)
    exact = law.jacobian.T @ natural @ law.jacobian
    for name in ("score", "hessian"):
        mean = np.einsum("k,kij->ij", law.probabilities, law.estimator(name))
        np.testing.assert_allclose(mean, exact, rtol=1e-11, atol=1e-13)
        tensor = naive.covariance_tensor(law, name, name)
        np.testing.assert_allclose(np.einsum("ijij->ij", tensor), law.variance(name), rtol=1e-11, atol=1e-14)
    crossed = naive.covariance_tensor(law, "score", "hessian")
    np.testing.assert_allclose(np.einsum("ijij->ij", crossed), law.cross_covariance, rtol=1e-11, atol=1e-14)
    moment = naive.statistic_moment(law.deltas, law.probabilities)
    statement = np.einsum("abcd,ai,bj,ck,dl->ijkl", moment, *[law.jacobian] * 4)
    np.testing.assert_allclose(naive.covariance_tensor(law, "score", "score"), statement, rtol=1e-10, atol=1e-12)
    statement = np.einsum("ab,aij,bkl->ijkl", natural, law.hessian, law.hessian)
    np.testing.assert_allclose(naive.covariance_tensor(law, "hessian", "hessian"), statement, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("family", naive.FAMILIES)
def test_elementwise_bounds_hold_and_are_attained_by_the_unit_gaussian(family):
    rng = np.random.default_rng(12)
    network = naive.Network.named([rng.normal(size=(3, 3)), rng.normal(size=(2, 4))], ["tanh"])
    law = naive.input_law(network, family, {"n_trials": 3}, [0.7, -0.2])
    exact = {
        "information": np.diag(law.information),
        "score": np.diag(law.variance("score")),
        "hessian": np.diag(law.variance("hessian")),
    }
    for name, (lower, upper) in naive.elementwise_bounds(law).items():
        assert np.all(lower <= exact[name] * (1 + 1e-9) + 1e-14)
        assert np.all(exact[name] <= upper * (1 + 1e-9) + 1e-14)
        if family == "gaussian":
            np.testing.assert_allclose(lower, exact[name], rtol=1e-10, atol=1e-13)
            np.testing.assert_allclose(upper, exact[name], rtol=1e-10, atol=1e-13)


def test_backward_recursion_and_block_of_the_first_layer():
    rng = np.random.default_rng(13)
    network = naive.Network.named([rng.normal(size=(3, 3)), rng.normal(size=(2, 4)), rng.normal(size=(2, 3))], ["sin", "erf"])
    x = [0.4, -1.1]
    for layer, recursive in enumerate(naive.backward_information(network, "poisson", {}, x)):
        direct, _ = naive.hidden_information(network, "poisson", {}, x, layer)
        np.testing.assert_allclose(recursive, direct, rtol=1e-12, atol=1e-14)


def test_designs_by_brute_force_over_labels_and_inputs():
    """Two inputs, binary labels, two draws: the variance of the average over every outcome of the whole experiment."""
    rng = np.random.default_rng(14)
    network = naive.Network.named([rng.normal(size=(2, 2)), rng.normal(size=(1, 3))], ["tanh"])
    laws = naive.input_laws(network, "bernoulli", {}, rng.normal(size=(3, 1)))
    information = np.array([np.diag(law.information) for law in laws])
    variance = np.array([np.diag(law.variance("score")) for law in laws])

    def outcomes(chosen):
        """Every joint outcome of two labels for each chosen input, as (probability, average estimate)."""
        states = [(1.0, np.zeros(variance.shape[1]))]
        for index in chosen:
            law, diagonal = laws[index], laws[index].diagonal("score")
            for _ in range(2):
                states = [
                    (p * q, total + d / (2 * len(chosen)))
                    for p, total in states
                    for q, d in zip(law.probabilities, diagonal, strict=True)
                ]
        return states

    def spread(states):
        mean = sum(p * value for p, value in states)
        return sum(p * (value - mean) ** 2 for p, value in states)

    fixed = naive.combine_fixed(variance, n_draws=2)
    np.testing.assert_allclose(fixed, spread(outcomes([0, 1, 2])), rtol=1e-11)
    pairs = [(0, 1), (0, 2), (1, 2)]
    subsampled = spread([(p / 3, value) for pair in pairs for p, value in outcomes(pair)])
    # over all inputs s2_x and mean(V) are the population's; two of three taken without replacement
    law_of_total_variance = (1 - 2 / 3) * information.var(axis=0, ddof=1) / 2 + variance.mean(axis=0) / (2 * 2)
    np.testing.assert_allclose(subsampled, law_of_total_variance, rtol=1e-11)
    chosen = np.array([naive.combine_subsample(information[list(p)], variance[list(p)], 3, 2) for p in pairs])
    np.testing.assert_allclose(chosen.mean(axis=0), law_of_total_variance, rtol=1e-11)
    np.testing.assert_allclose(
        naive.combine_random(information, variance, 2),
        (information.var(axis=0, ddof=1) + variance.mean(axis=0) / 2) / 3,
        rtol=1e-13,
    )


def test_group_mean_is_not_the_mean_of_the_variances():
    law = tiny_law("tanh", "categorical")
    network = naive.Network.named(golden.WEIGHTS, ["tanh"])
    members = naive.groups(network, "model")[0]
    values = law.group_mean("score", members)
    exact = naive.covariance(values, values, law.probabilities)
    entries = np.diag(law.variance("score"))
    assert exact < entries.mean()
    tensor = naive.covariance_tensor(law, "score", "score")
    np.testing.assert_allclose(exact, np.einsum("iijj->", tensor) / len(members) ** 2, rtol=1e-12)
    assert [len(naive.groups(network, by)) for by in ("layer", "unit", "model")] == [2, 4, 1]


def test_empirical_fisher_averaged_over_labels_is_the_information():
    network = naive.Network.named(golden.WEIGHTS, ["tanh"])
    law = tiny_law("tanh", "categorical")
    means = [naive.empirical_fisher(network, "categorical", {}, [golden.INPUT], [label])[0] for label in (0, 1)]
    expected = law.probabilities[0] * means[0] + law.probabilities[1] * means[1]
    np.testing.assert_allclose(expected, law.information, rtol=1e-12, atol=1e-16)
