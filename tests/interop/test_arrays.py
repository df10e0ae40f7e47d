"""Arrays of PyTorch and JAX on the host enter every public function, with the same bits; others are refused with a remedy."""

from __future__ import annotations

import inspect
import tracemalloc

import numpy as np
import pytest
import xarray as xr

import fisherstats as fs
from tests.core.validation.test_fuzz import ARRAYS, FUNCTIONS, ordinary

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")

MODEL = fs.MLP.random([3, 3, 3], activation="tanh", family=fs.families.Categorical(3), rng=1)


def tensor(array):
    return torch.from_numpy(np.array(array))


def recording(array):
    return tensor(array).requires_grad_(np.asarray(array).dtype.kind == "f")


def strided(array):
    return torch.from_numpy(np.repeat(np.asarray(array), 2, axis=-1))[..., ::2]


def of_jax(array):
    with jax.enable_x64(True):
        return jax.numpy.asarray(np.asarray(array))


@pytest.mark.parametrize("convert", [tensor, recording, strided, of_jax])
def test_every_function_takes_them(convert):
    for name, function in FUNCTIONS.items():
        usual = ordinary(MODEL)
        parameters = inspect.signature(function).parameters.values()
        keywords = {one.name: usual[one.name] for one in parameters if one.default is one.empty}
        keywords |= {"probabilities": np.full((6, 3), 1 / 3)} if name == "empirical_variance" else {}
        keywords |= {"matrix": usual["matrix"]} if name == "functional_variance" else {}
        arrays = [key for key in keywords if key in ARRAYS]
        if not arrays:
            continue
        expected = function(**keywords)
        found = function(**{key: convert(one) if key in arrays else one for key, one in keywords.items()})
        if isinstance(expected, xr.DataArray | xr.Dataset | xr.DataTree):
            xr.testing.assert_equal(found, expected)


def test_nothing_is_copied():
    x = np.random.default_rng(0).normal(size=(400_000, 20))
    model = fs.MLP.random([20, 1], activation=[], family=fs.families.Poisson(), rng=0)
    fs.fisher_information(model, x[:100])
    for given in (torch.from_numpy(x), of_jax(x)):
        tracemalloc.start()
        fs.fisher_information(model, given)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 0.3 * x.nbytes


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        (lambda: torch.zeros((6, 3), device="meta"), r"`x\.detach\(\)\.cpu\(\)\.numpy\(\)`"),
        (lambda: torch.zeros((6, 3), dtype=torch.bfloat16), r"`x\.detach\(\)\.float\(\)\.cpu\(\)\.numpy\(\)`"),
        (lambda: torch.zeros(6, 3).to_sparse(), r"`x\.detach\(\)\.to_dense\(\)\.cpu\(\)\.numpy\(\)`"),
        (lambda: torch.zeros((6, 3), dtype=torch.complex64), "got dtype complex64"),
        (lambda: jax.numpy.ones((6, 3), dtype=jax.numpy.bfloat16), "got dtype bfloat16"),
    ],
)
def test_what_numpy_cannot_read_is_refused(given, remedy):
    with pytest.raises(TypeError, match=remedy):
        fs.fisher_information(MODEL, given())


def test_the_remedies_work():
    for one in (torch.ones((6, 3), dtype=torch.bfloat16), torch.ones(6, 3).to_sparse()):
        dense = one.detach().to_dense() if one.is_sparse else one.detach().float()
        assert fs.fisher_information(MODEL, dense.cpu().numpy()).sizes["param"] == MODEL.n_params
