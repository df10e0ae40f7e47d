"""Per-example scores of PyTorch and JAX are accumulated as those of numpy."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs
from tests.theory.cases import Case


def scores(*lead):
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(*lead, *shape)).astype(np.float32) for name, shape in {"w": (3, 7), "c": (1100,)}.items()}


def accumulated(given, n_draws=None):
    found = fs.ScoreAccumulator(n_draws=n_draws)
    found.update(given)
    return found


def test_arrays_of_torch():
    torch = pytest.importorskip("torch")
    given = scores(30, 2)
    tensors = {name: torch.tensor(one, requires_grad=True) for name, one in given.items()}
    tensors["c"] = tensors["c"].transpose(0, 2).contiguous().transpose(0, 2)
    xr.testing.assert_identical(accumulated(tensors, 2).result(), accumulated(given, 2).result())
    with pytest.raises(
        TypeError, match=r"`scores\['w'\]` must be an array .*convert it first, in PyTorch with `.float\(\).cpu\(\)`"
    ):
        fs.ScoreAccumulator().update({"w": torch.ones(3, 2, dtype=torch.bfloat16)})
    with pytest.raises(TypeError, match=r"`scores\['w'\]` must be .*\.cpu\(\)`"):
        fs.ScoreAccumulator().update({"w": torch.ones(3, 2, device="meta")})


def test_gradients_of_torch_agree_with_the_closed_form():
    torch = pytest.importorskip("torch")
    case = Case((2, 3, 1), ("tanh",), "bernoulli", 5, 1)
    kernels = [torch.tensor(one[:, :-1]) for one in case.weights]
    biases = [torch.tensor(one[:, -1]) for one in case.weights]
    parameters = {f"{part}{layer}": one for part, many in (("w", kernels), ("b", biases)) for layer, one in enumerate(many)}

    def log_prob(parameters, x, y):
        hidden = torch.tanh(parameters["w0"] @ x + parameters["b0"])
        return -torch.nn.functional.binary_cross_entropy_with_logits(parameters["w1"] @ hidden + parameters["b1"], y)

    per_example = torch.func.vmap(torch.func.grad(log_prob), in_dims=(None, 0, 0))
    y = np.array([[0.0], [1.0], [1.0], [0.0], [1.0]])
    found = accumulated(per_example(parameters, torch.tensor(case.x), torch.tensor(y))).result()
    wanted = fs.empirical_fisher(case.model, case.x, y).empirical
    for layer in range(2):
        own = wanted[wanted.param_layer == layer]
        np.testing.assert_allclose(
            found[f"parameters/w{layer}"].mean_square.values.ravel(), own[own.param_kind == "weight"], rtol=1e-12
        )
        np.testing.assert_allclose(found[f"parameters/b{layer}"].mean_square, own[own.param_kind == "bias"], rtol=1e-12)


def test_arrays_of_jax():
    jax = pytest.importorskip("jax")
    given = scores(30)
    arrays = {name: jax.numpy.asarray(one) for name, one in given.items()}
    xr.testing.assert_identical(accumulated(arrays).result(), accumulated(given).result())
