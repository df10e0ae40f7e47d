"""Conversion of networks trained with other libraries to `MLP`, and of results back to their parameters.

Each converter takes the fitted object of one library and returns the exponential-family network with the same weights,
so that every quantity of this package refers to the user's network. No library is imported before an object of it arrives.
"""

from __future__ import annotations

from fisherstats.interop.sklearn import from_sklearn
from fisherstats.interop.torch import Features, TorchBatches, from_torch, torch_batches
from fisherstats.interop.torch_results import to_torch
from fisherstats.interop.unfolding import UnfoldedInformation, unfolded_information

__all__ = [
    "Features",
    "TorchBatches",
    "UnfoldedInformation",
    "from_sklearn",
    "from_torch",
    "to_torch",
    "torch_batches",
    "unfolded_information",
]
