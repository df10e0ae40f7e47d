"""Conversion of networks trained with other libraries to `MLP`, and of results back to their parameters.

Each converter takes the fitted object of one library and returns the exponential-family network with the same weights,
so that every quantity of this package refers to the user's network. No library is imported before an object of it arrives.
"""

from __future__ import annotations

from fisherstats.interop.accumulation import accumulate
from fisherstats.interop.derivatives import by_name, external_from_torch, from_jax
from fisherstats.interop.flax import from_flax, to_flax
from fisherstats.interop.keras import from_keras
from fisherstats.interop.loading import load_into
from fisherstats.interop.onnx import from_onnx
from fisherstats.interop.safetensors import from_safetensors, read_safetensors, to_safetensors
from fisherstats.interop.sklearn import from_sklearn
from fisherstats.interop.statsmodels import from_statsmodels
from fisherstats.interop.torch import Features, TorchBatches, from_torch, torch_batches
from fisherstats.interop.torch_results import to_torch
from fisherstats.interop.unfolding import ParameterResult, unfolded_information

__all__ = [
    "Features",
    "ParameterResult",
    "TorchBatches",
    "accumulate",
    "by_name",
    "external_from_torch",
    "from_flax",
    "from_jax",
    "from_keras",
    "from_onnx",
    "from_safetensors",
    "from_sklearn",
    "from_statsmodels",
    "from_torch",
    "load_into",
    "read_safetensors",
    "to_flax",
    "to_safetensors",
    "to_torch",
    "torch_batches",
    "unfolded_information",
]
