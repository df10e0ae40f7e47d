"""Networks read from scikit-learn give scikit-learn's own predictions."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from fisherstats.interop import from_sklearn

neural_network = pytest.importorskip("sklearn.neural_network")
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

# Training is stopped early on purpose: the weights need not be good, only fitted.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ACTIVATIONS = ["identity", "logistic", "tanh", "relu"]


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(40, 5))


def classes(x: np.ndarray, n_classes: int) -> np.ndarray:
    return np.argsort(np.argsort(x @ np.arange(1.0, 6.0))) * n_classes // len(x)


def fit(estimator, x, y):
    return estimator.set_params(solver="lbfgs", max_iter=15, max_fun=200, random_state=0).fit(x, y)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_softmax_is_categorical(x, activation):
    estimator = fit(neural_network.MLPClassifier((7, 4), activation=activation), x, classes(x, 3))
    model = from_sklearn(estimator)
    assert model.family == fs.families.Categorical(3)
    assert model.widths == (5, 7, 4, 3)
    mean = model.family.mean(model.natural_parameters(x))
    np.testing.assert_allclose(mean, estimator.predict_proba(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_two_classes_are_one_bernoulli(x, activation):
    estimator = fit(neural_network.MLPClassifier((6,), activation=activation), x, classes(x, 2))
    model = from_sklearn(estimator)
    assert model.family == fs.families.Bernoulli(1)
    mean = model.family.mean(model.natural_parameters(x))
    np.testing.assert_allclose(mean[:, 0], estimator.predict_proba(x)[:, 1], rtol=0, atol=1e-12)


def test_multilabel_is_one_bernoulli_per_label(x):
    y = (x[:, :3] > 0).astype(int)
    estimator = fit(neural_network.MLPClassifier((6,), activation="tanh"), x, y)
    model = from_sklearn(estimator)
    assert model.family == fs.families.Bernoulli(3)
    mean = model.family.mean(model.natural_parameters(x))
    np.testing.assert_allclose(mean, estimator.predict_proba(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_regression_is_gaussian_with_unit_variance(x, n_outputs):
    y = np.squeeze(np.tanh(x[:, :n_outputs]))
    estimator = fit(neural_network.MLPRegressor(hidden_layer_sizes=(6,), activation="logistic"), x, y)
    model = from_sklearn(estimator)
    assert model.family == fs.families.Gaussian(n_outputs)
    h = model.natural_parameters(x)
    np.testing.assert_allclose(h, estimator.predict(x).reshape(len(x), -1), rtol=0, atol=1e-12)
    np.testing.assert_allclose(model.family.information(h)[0], np.eye(n_outputs), rtol=0, atol=1e-15)


def test_the_user_may_give_the_variance(x):
    estimator = fit(neural_network.MLPRegressor(hidden_layer_sizes=(4,)), x, x[:, :2])
    family = fs.families.Gaussian(2, covariance=[[2.0, 0.5], [0.5, 1.0]])
    assert from_sklearn(estimator, family=family).family == family


def test_poisson_regression(x):
    if "loss" not in neural_network.MLPRegressor().get_params():
        pytest.skip("this scikit-learn has no Poisson loss")
    y = np.random.default_rng(1).poisson(np.exp(0.3 * x[:, 0]))
    estimator = fit(neural_network.MLPRegressor(loss="poisson", hidden_layer_sizes=(4,), activation="tanh"), x, y)
    model = from_sklearn(estimator)
    assert model.family == fs.families.Poisson(1)
    mean = model.family.mean(model.natural_parameters(x))
    np.testing.assert_allclose(mean[:, 0], estimator.predict(x), rtol=1e-12, atol=0)


def test_single_precision_is_kept(x):
    estimator = fit(neural_network.MLPClassifier((4,)), x.astype(np.float32), classes(x, 3))
    assert from_sklearn(estimator).dtype == estimator.coefs_[0].dtype


def test_the_weights_are_copied(x):
    estimator = fit(neural_network.MLPClassifier((4,)), x, classes(x, 3))
    model = from_sklearn(estimator)
    before = model.fingerprint
    estimator.coefs_[0] += 1.0
    assert from_sklearn(estimator).fingerprint != before
    assert model.natural_parameters(x).shape == (40, 3)
    assert not np.array_equal(model.weights[0][:, :-1], estimator.coefs_[0].T)


class TestRefusals:
    def test_not_fitted(self):
        with pytest.raises(ValueError, match=r"`estimator` must be fitted, got an unfitted MLPClassifier; call"):
            from_sklearn(neural_network.MLPClassifier())

    def test_class_instead_of_instance(self):
        with pytest.raises(TypeError, match="got the class MLPClassifier"):
            from_sklearn(neural_network.MLPClassifier)

    @pytest.mark.parametrize("wrong", [None, "model.pkl", np.zeros((3, 3)), {"coefs_": []}])
    def test_no_estimator_at_all(self, wrong):
        with pytest.raises(TypeError, match=f"`estimator` must be a fitted .*, got {type(wrong).__name__}"):
            from_sklearn(wrong)

    def test_linear_model_names_the_way(self, x):
        with pytest.raises(TypeError, match=r"got LogisticRegression; a linear model is MLP\.from_arrays"):
            from_sklearn(LogisticRegression().fit(x, classes(x, 2)))

    def test_pipeline_names_its_last_step(self, x):
        pipeline = make_pipeline(StandardScaler(), neural_network.MLPClassifier((3,), solver="lbfgs", max_iter=5))
        with pytest.raises(TypeError, match=r"got Pipeline; pass the last step, `pipeline\[-1\]`"):
            from_sklearn(pipeline.fit(x, classes(x, 2)))

    def test_unknown_hidden_activation(self, x):
        estimator = fit(neural_network.MLPClassifier((3,)), x, classes(x, 3))
        estimator.activation = "swish"
        with pytest.raises(ValueError, match=r"`estimator\.activation` must be one of 'identity', .*, got 'swish'"):
            from_sklearn(estimator)

    def test_unknown_output(self, x):
        estimator = fit(neural_network.MLPClassifier((3,)), x, classes(x, 3))
        estimator.out_activation_ = "probit"
        with pytest.raises(ValueError, match=r"`estimator\.out_activation_` must be one of .*, got 'probit'"):
            from_sklearn(estimator)

    def test_family_with_another_mean(self, x):
        estimator = fit(neural_network.MLPClassifier((3,)), x, classes(x, 3))
        with pytest.raises(ValueError, match="`family` must be a Categorical for an estimator whose output function"):
            from_sklearn(estimator, family=fs.families.Gaussian(3))

    def test_family_of_another_size(self, x):
        estimator = fit(neural_network.MLPRegressor(hidden_layer_sizes=(3,)), x, x[:, 0])
        with pytest.raises(ValueError, match="must have 2 rows"):
            from_sklearn(estimator, family=fs.families.Gaussian(2))
