"""Maximum likelihood training with penalties on the weights and recording of any labelled quantity during training.

`fit` is the loop; `SGD`, `Adam` and the natural gradients (`NaturalGradient`, `DiagonalNaturalGradient`,
`KroneckerNaturalGradient`, `RelativeNaturalGradient`) are the optimisers, `Frobenius`, `Spectral`, `GroupWise` and
`SpectralProjection` regularise or constrain the weights, `BatchNormalization` normalises hidden layers. `Optimizer` and `Penalty`
are the base classes for user-defined ones.
"""

from __future__ import annotations

from fisherstats.training.batches import batches
from fisherstats.training.fitting import Fitted, fit
from fisherstats.training.history import record
from fisherstats.training.natural import DiagonalNaturalGradient, KroneckerNaturalGradient, NaturalGradient
from fisherstats.training.normalization import BatchNormalization
from fisherstats.training.optimizers import SGD, Adam, Batch, Optimizer, Steps
from fisherstats.training.penalties import Frobenius, GroupWise, Penalty, Restraint, Spectral, SpectralProjection
from fisherstats.training.relative import RelativeNaturalGradient

__all__ = [
    "SGD",
    "Adam",
    "Batch",
    "BatchNormalization",
    "DiagonalNaturalGradient",
    "Fitted",
    "Frobenius",
    "GroupWise",
    "KroneckerNaturalGradient",
    "NaturalGradient",
    "Optimizer",
    "Penalty",
    "RelativeNaturalGradient",
    "Restraint",
    "Spectral",
    "SpectralProjection",
    "Steps",
    "batches",
    "fit",
    "record",
]
