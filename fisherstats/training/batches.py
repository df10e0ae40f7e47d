"""Shuffling of the inputs: one Philox stream per epoch, so that the batches depend only on seed and epoch number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.validation import arguments

__all__ = ["batches", "stream"]

_SHUFFLING = 0


def batches(
    n_inputs: int, batch_size: int, *, rng: int | np.random.SeedSequence | np.random.Generator, epoch: int
) -> list[NDArray[np.int64]]:
    """Return the row numbers of the minibatches of an epoch, in the order in which `fit` takes them.

    Parameters
    ----------
    n_inputs : int
        Number of inputs.
    batch_size : int
        Inputs per batch; the last batch is smaller if `batch_size` does not divide their number.
    rng : int, SeedSequence or Generator
        Source of the shuffling; the same int gives the same batches.
    epoch : int
        Number of the epoch, from 1.

    Returns
    -------
    list of ndarray of int
        Each input occurs exactly once.

    Raises
    ------
    ValueError
        If `n_inputs`, `batch_size` or `epoch` is not a positive integer, or `rng` is not an accepted seed.

    Examples
    --------
    >>> import fisherstats as fs
    >>> [len(rows) for rows in fs.training.batches(10, 4, rng=0, epoch=1)]
    [4, 4, 2]
    """
    n_inputs = arguments.positive_integer("n_inputs", n_inputs)
    size = arguments.positive_integer("batch_size", batch_size)
    epoch = arguments.positive_integer("epoch", epoch)
    order = stream(arguments.seed_sequence(rng), epoch, _SHUFFLING).permutation(n_inputs)
    return [order[start : start + size] for start in range(0, n_inputs, size)]


def stream(seed: np.random.SeedSequence, epoch: int, purpose: int) -> np.random.Generator:
    """Return the random stream of an epoch for one purpose.

    Parameters
    ----------
    seed : SeedSequence
        Seed of the fit.
    epoch : int
        Number of the epoch.
    purpose : int
        0 for the shuffling, 1 for the optimiser.

    Returns
    -------
    numpy.random.Generator
        Independent of all other epochs and purposes.
    """
    key = seed.generate_state(2, np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, epoch, purpose]))
