"""Networks with layers without bias, beside the same networks with biases of 0: every shared parameter has the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

import fisherstats as fs

F = fs.families

_FULL = F.Gaussian(2, covariance=[[1.3, -0.5], [-0.5, 0.6]])
_LINKED = F.Product([F.Bernoulli(), F.Categorical(2)])
CASES: dict[str, tuple[fs.families.Family, Sequence[Any], list[int], tuple[bool, ...]]] = {
    "categorical, none": (F.Categorical(3), ["tanh", "gelu"], [4, 5, 3, 3], (False, False, False)),
    "bernoulli, last": (F.Bernoulli(2), ["softplus"], [3, 4, 2], (False, True)),
    "poisson, ends": (F.Poisson(2), ["tanh", "sigmoid"], [3, 4, 3, 2], (True, False, True)),
    "gaussian, linear": (F.Gaussian(2), [], [3, 2], (False,)),
    "categorical, hidden": (F.Categorical(3), ["relu", "tanh"], [4, 3, 3, 3], (True, True, False)),
    "full covariance, one feature": (_FULL, ["silu", "gelu_tanh"], [1, 3, 3, 2], (False, False, True)),
    "product, deep": (_LINKED, ["tanh", "celu", "sin"], [2, 3, 2, 3, 3], (False, True, False, False)),
    "link": (F.Gamma(2.0, 2), ["tanh"], [3, 3, 2], (False, False)),
}


@dataclass(frozen=True)
class Pair:
    bare: fs.MLP
    zero: fs.MLP
    kept: np.ndarray
    """Which parameters of `zero` are those of `bare`."""
    x: np.ndarray
    y: np.ndarray

    @classmethod
    def named(cls, name: str, n: int = 11) -> Pair:
        family, activation, widths, bias = CASES[name]
        seed = list(CASES).index(name)
        bare = fs.MLP.random(widths, activation=activation, family=family, rng=seed, bias=bias)
        return cls.of(bare, np.random.default_rng(seed).normal(size=(n, widths[0])))

    @classmethod
    def of(cls, bare: fs.MLP, x: np.ndarray) -> Pair:
        weights = [
            matrix if biased else np.column_stack([matrix, np.zeros(len(matrix))])
            for matrix, biased in zip(bare.weights, bare.bias, strict=True)
        ]
        zero = fs.MLP(weights, activation=bare.activations, family=bare.family).named(bare.feature_names, bare.output_names)
        kept = [np.ones(matrix.shape, bool) for matrix in weights]
        for one, biased in zip(kept, bare.bias, strict=True):
            one[:, -1] &= biased
        y = zero.family.sample(zero.natural_parameters(x), np.random.default_rng(1), 1)[0]
        return cls(bare, zero, np.concatenate([one.ravel() for one in kept]), x, y)

    def widened(self, vector: np.ndarray) -> np.ndarray:
        """The vector over the parameters of `zero`, 0 for the others."""
        wide = np.zeros(self.kept.shape)
        wide[self.kept] = vector
        return wide

    def widened_matrix(self, matrix: np.ndarray) -> np.ndarray:
        wide = np.zeros((len(self.kept),) * 2)
        wide[np.ix_(self.kept, self.kept)] = matrix
        return wide

    def agree(self, found: Any, wide: Any, rtol: float = 1e-11) -> None:
        """Require the entries of the shared parameters and all coordinates of them to be equal."""
        if isinstance(found, xr.DataTree):
            assert set(found.children) == set(wide.children)
            own = [self.kept[part] for part in self.zero.layer_slices()]
            for name in found.children:
                chosen = own[int(name.split("_")[1])]
                _agree(found[name].to_dataset(), wide[name].to_dataset(), chosen, rtol)
        else:
            _agree(found, wide, self.kept, rtol)


def _agree(found: Any, wide: Any, kept: np.ndarray, rtol: float) -> None:
    wide = wide.isel({dim: np.flatnonzero(kept) for dim in wide.dims if str(dim).startswith("param")})
    features = [dim for dim in wide.dims if str(dim).startswith("feature")]
    if any(found.sizes[dim] < wide.sizes[dim] for dim in features):
        wide = wide.isel({dim: slice(0, -1) for dim in features})  # without that of the bias
    if isinstance(found, xr.DataArray):
        found, wide = found.to_dataset(name="found"), wide.to_dataset(name="found")
    for name, values in found.data_vars.items():
        _close(values.values, wide[name].values, rtol, name)
    for name, coordinate in found.coords.items():
        if str(name) not in coordinate.dims and coordinate.dtype.kind != "f":
            assert np.array_equal(coordinate.values, wide[name].values), name
        elif coordinate.dtype.kind == "f":
            _close(coordinate.values, wide[name].values, rtol, name)


def _close(found: np.ndarray, wide: np.ndarray, rtol: float, name: Any) -> None:
    finite = np.abs(wide[np.isfinite(wide)]) if wide.dtype.kind == "f" else np.zeros(0)
    scale = max(float(finite.max()) if finite.size else 0.0, 1e-3)
    np.testing.assert_allclose(found, wide, rtol=rtol, atol=1e-14 * scale, err_msg=str(name))
