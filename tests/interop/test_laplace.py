"""Laplace's approximation equals that of laplace-torch on the same networks."""

from __future__ import annotations

import numpy as np
import pytest

import fisherstats as fs
from fisherstats.applications import laplace as ours
from fisherstats.interop import from_torch

torch = pytest.importorskip("torch")
library = pytest.importorskip("laplace")

X, AT = np.random.default_rng(0).normal(size=(40, 3)), np.random.default_rng(1).normal(size=(5, 3))
STRUCTURES = {"full": ("all", "full"), "diagonal": ("all", "diag"), "kfac": ("all", "kron"), "last_layer": ("last_layer", "full")}


def network(n_out, bias):
    torch.manual_seed(0)
    layers = [torch.nn.Linear(3, 6, bias=bias), torch.nn.Tanh(), torch.nn.Linear(6, n_out, bias=bias)]
    return torch.nn.Sequential(*layers).double().eval()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("likelihood", ["classification", "regression"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_predictions_and_evidence(structure, likelihood):
    # Kronecker factors of laplace-torch leave biases apart: without biases both have the same.
    net = network(3 if likelihood == "classification" else 2, bias=structure != "kfac")
    rng = np.random.default_rng(2)
    if likelihood == "classification":
        y, loss = rng.integers(0, 3, 40), torch.nn.CrossEntropyLoss()
        labels = torch.from_numpy(y)
    else:
        y, loss = rng.normal(size=(40, 2)), torch.nn.MSELoss()
        labels = torch.from_numpy(y)
    weights, shape = STRUCTURES[structure]
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.from_numpy(X), labels), batch_size=40)
    torch.set_default_dtype(torch.float64)
    try:
        from laplace.curvature import CurvlinopsGGN

        theirs = library.Laplace(
            net, likelihood, subset_of_weights=weights, hessian_structure=shape, prior_precision=1.7, backend=CurvlinopsGGN
        )
        theirs.fit(data)
        mean, covariance = theirs._glm_predictive_distribution(torch.from_numpy(AT))
        evidence = float(theirs.log_marginal_likelihood())
    finally:
        torch.set_default_dtype(torch.float32)
    family = fs.families.Gaussian(2) if likelihood == "regression" else None
    model = from_torch(net, loss=loss, family=family)
    found = ours(model, X, y, structure=structure, prior_precision=1.7)
    predicted = found.predict(AT)
    np.testing.assert_allclose(predicted.predictor, mean.detach().numpy(), rtol=1e-10)
    np.testing.assert_allclose(predicted.covariance, covariance.detach().numpy(), rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(found.log_evidence, evidence, rtol=1e-8)
