"""Draws of labels from the model, one random stream per fixed group of inputs.

A stream is a Philox generator whose key comes from the seed and whose counter carries the number of the group, so any thread can
create any stream and adding inputs changes none of the earlier ones. If an input needs a fixed number of uniform numbers, it has
its own range of the counter instead.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import identity, like, on_device, on_host
from fisherstats.core.validation.families import few_classes
from fisherstats.execution import STREAM_ROWS
from fisherstats.models.families import Bernoulli, Categorical, Draw, Family, Law, MatrixRoot, SecondMoment, samplers
from fisherstats.models.families.categorical import CategoricalLaw, DrawnClasses, WeightedClasses
from fisherstats.models.families.quadratic_forms import along_root
from fisherstats.models.families.stratified import StratifiedLaw

__all__ = ["PROBES", "SAMPLINGS", "draw", "draw_probes", "label_law", "labels", "residuals", "seed_record", "stratifiable"]

Array = NDArray[np.floating]

PROBES = ("hutchinson_gaussian", "hutchinson_rademacher")
"""Estimators of the diagonal from random probes; the position of a name is part of the key of its streams."""

SAMPLINGS = ("iid", "stratified")
"""How the labels of an input are drawn: independently, or one from each of N equal slices of the distribution function."""

_RESIDUAL_WORD, _UNIFORM_WORD, _SLICE_WORD = 1 + len(PROBES), 2 + len(PROBES), 3 + len(PROBES)
"""Labels use streams with the word 0."""

_NUMBERS_PER_STEP = 4
"""Numbers that Philox generates per increment of its counter."""

_SLAB = 2**20
"""Numbers in a slab of probes."""


def stratifiable(family: Family) -> bool:
    """Return whether labels can be stratified: whether the response is one of finitely many classes."""
    return isinstance(family, Categorical) or (isinstance(family, Bernoulli) and family.n_outputs == 1)


def label_law(family: Family, law: Law, sampling: str, n_draws: int) -> Law:
    """Return the law whose variances, divided by N, are those of means over N labels that are drawn in this way."""
    if sampling == "iid":
        return law
    few_classes(stratifiable(family), str(family))
    stratified = StratifiedLaw(law.h, law.minimal if isinstance(law, CategoricalLaw) else True, n_draws)
    stratified.carried_out_by(law.contractions)
    return stratified


def draw(
    family: Family,
    law: Law,
    seed: np.random.SeedSequence,
    first_input: int,
    n_draws: int,
    second_moment: bool,
    sampling: str = "iid",
) -> Draw:
    """Return (1/N) sum r and, if asked for, (1/N) sum r r' over N labels of each input of a block.

    `first_input` must be a multiple of `STREAM_ROWS`. The means come from the same labels; the family decides which variables are
    drawn (counts, a Wishart matrix, sums, labels).
    """
    if on_device(law.h):
        drawn = draw(family, family.at(on_host(law.h)), seed, first_input, n_draws, second_moment, sampling)
        return _moved(drawn, law if sampling == "iid" else label_law(family, law, sampling, n_draws))
    if sampling != "iid":
        stratified = label_law(family, law, sampling, n_draws)
        assert isinstance(stratified, StratifiedLaw)
        of_slices = functools.partial(_uniforms, seed=seed, first_input=first_input, word=_SLICE_WORD)
        return stratified.draw_stratified(of_slices, second_moment)
    if isinstance(law, CategoricalLaw):

        def sample(totals: NDArray[np.int64], p: Array) -> NDArray[np.int64]:
            drawn = [
                samplers.multinomial(generator, np.broadcast_to(totals[0], len(rows)), rows)
                for generator, rows, _ in _groups(p, seed, first_input)
            ]
            return np.concatenate(drawn)[: len(p)]

        uniforms = functools.partial(_uniforms, seed=seed, first_input=first_input)
        return law.draw_from(sample, uniforms, n_draws, second_moment)

    def of_stream(generator: np.random.Generator, h: Array, first: int) -> Draw:
        own = family.at(h)
        own.carried_out_by(law.contractions)
        return own.draw(generator, n_draws, second_moment, first)

    groups = [of_stream(*one) for one in _groups(law.h, seed, first_input)]
    mean = np.concatenate([group.mean for group in groups])[: len(law.h)]
    roots = [group.second.own_rows() for group in groups if group.second is not None]
    return Draw(mean, MatrixRoot(np.concatenate(roots)[: len(law.h)]) if second_moment else None)


def _moved(drawn: Draw, law: Law) -> Draw:
    """Return a draw made on the host, moved to the device of its law."""
    second = drawn.second
    if isinstance(second, DrawnClasses) and isinstance(law, CategoricalLaw):
        second = DrawnClasses(law, *(like(one, law.h) for one in (second.weights, second.classes, second.roots)))
    elif isinstance(second, WeightedClasses) and isinstance(law, CategoricalLaw):
        second = WeightedClasses(law, like(second.weights, law.h), like(second.shift, law.h))
    elif isinstance(second, MatrixRoot):
        second = MatrixRoot(like(second.root, law.h))
    return Draw(like(drawn.mean, law.h), second)


def _groups(
    rows: Array, seed: np.random.SeedSequence, first_input: int, word: int = 0
) -> Iterator[tuple[np.random.Generator, Array, int]]:
    """Yield (stream, its rows, index of their first input); one generator is reset from stream to stream.

    A short last group is padded, so that inputs appended later do not change its labels.
    """
    # Given a key instead of a seed, numpy would also request entropy from the system, which is slower than the draws of a stream.
    stream = np.random.Philox(seed)
    state, generator = stream.state, np.random.Generator(stream)
    for start in range(0, len(rows), STREAM_ROWS):
        state["state"]["counter"][:] = 0, 0, (first_input + start) // STREAM_ROWS, word
        stream.state = state
        own = rows[start : start + STREAM_ROWS]
        missing = STREAM_ROWS - len(own)
        yield generator, np.concatenate([own, np.repeat(own[-1:], missing, axis=0)]) if missing else own, first_input + start


def _uniforms(shape: tuple[int, int], seed: np.random.SeedSequence, first_input: int, word: int = _UNIFORM_WORD) -> Array:
    """Return uniform numbers (n, N) for the inputs of a block: every input has its own part of one stream."""
    n, count = shape
    steps = -(-count // _NUMBERS_PER_STEP)
    # Created at the required position: creating a stream and then advancing it takes twice as long.
    stream = np.random.Philox(seed, counter=np.array([first_input * steps, steps, 0, word], dtype=np.uint64))
    return np.random.Generator(stream).random((n, _NUMBERS_PER_STEP * steps))[:, :count]


def labels(
    family: Family, h: Array, seed: np.random.SeedSequence, first_input: int, n_draws: int, sampling: str = "iid"
) -> NDArray[Any]:
    """Return N labels of each input of a block, (n, N) of class numbers or (n, N, T), for natural parameters on the host.

    `first_input` must be a multiple of `STREAM_ROWS`. Independent labels come from streams of their own; stratified ones are
    those of the estimators.
    """
    if sampling != "iid":
        stratified = label_law(family, family.at(h), sampling, n_draws)
        assert isinstance(stratified, StratifiedLaw)
        of_slices = functools.partial(_uniforms, seed=seed, first_input=first_input, word=_SLICE_WORD)
        classes = stratified.labels(of_slices)
        # As a categorical law the first class is a success.
        return classes if family.labels_are_classes else 1.0 - classes[:, :, None]
    drawn = []
    for generator, rows, _ in _groups(h, seed, first_input, _RESIDUAL_WORD):
        # Input by input: a sampler that rejects candidates would let the labels of one depend on those that follow it.
        y = np.concatenate([family.sample(rows[row : row + 1], generator, n_draws) for row in range(len(rows))], axis=1)
        drawn.append(np.moveaxis(y, 0, 1))
    return np.concatenate(drawn)[: len(h)]


def residuals(family: Family, law: Law, seed: np.random.SeedSequence, first_input: int, n_draws: int) -> Array:
    """Return r = t(y) - E[t] of N independent `labels` of each input of a block, (n, N, T)."""
    h = on_host(law.h)
    y, repeated = labels(family, h, seed, first_input, n_draws), np.repeat(h, n_draws, axis=0)
    y = family.check_labels(y.reshape(len(repeated), *y.shape[2:]), len(repeated))
    return like(family.at(repeated).residual(y).reshape(len(h), n_draws, -1), law.h)


def draw_probes(law: Law, seed: np.random.SeedSequence, first_input: int, n_draws: int, estimator: str) -> SecondMoment:
    r"""Return :math:`\frac1N\sum_m(\Lambda^\top\xi_m)(\Lambda^\top\xi_m)^\top` over N probes of each input of a block.

    :math:`\Lambda` is the family's root of I(h), `Law.rows`; the entries of a probe are standard normal or signs. The streams are
    separate from those of the labels, and `first_input` must be a multiple of `STREAM_ROWS`.
    """
    n, outputs = law.h.shape
    word, gaussian = 1 + PROBES.index(estimator), estimator == PROBES[0]
    groups: list[Array] = []
    if isinstance(law, CategoricalLaw):
        for generator, h, _ in _groups(on_host(law.h), seed, first_input, word):
            of_group = CategoricalLaw(h, law.minimal)
            along = functools.partial(along_root, of_group)
            groups.append(_probed(generator, along, (*of_group.p.shape, outputs), n_draws, gaussian, h.dtype))
    else:
        root = on_host(law.rows(np.broadcast_to(identity(outputs, law.h), (n, outputs, outputs))))
        for generator, rows, _ in _groups(root, seed, first_input, word):
            along = functools.partial(_products, rows)
            groups.append(_probed(generator, along, rows.shape, n_draws, gaussian, root.dtype))
    return MatrixRoot(like(np.concatenate(groups)[:n], law.h))


def _products(root: Array, probes: Array) -> Array:
    return np.matmul(probes, root)


def _probed(
    generator: np.random.Generator,
    along: Callable[[Array], Array],
    shape: tuple[int, ...],
    n_draws: int,
    gaussian: bool,
    dtype: np.dtype[Any],
) -> Array:
    """Return rows whose squares sum to the mean over probes, (n, at most N or T, T); slab by slab, in bounded memory.

    `along` gives the products of probes (n, N, rank) with the root, (n, N, T), whose shape is that of one root per input.
    """
    n, rank, outputs = shape
    slab = max(1, _SLAB // (STREAM_ROWS * rank))
    kept = np.zeros((n, 0, outputs), dtype=dtype)
    for first in range(0, n_draws, slab):
        drawn = (STREAM_ROWS, min(slab, n_draws - first), rank)
        probes = generator.standard_normal(drawn) if gaussian else 2.0 * generator.integers(0, 2, drawn, dtype=np.int8) - 1.0
        kept = np.concatenate([kept, along(probes[:n].astype(dtype))], axis=1)
        if kept.shape[1] > outputs:
            kept = np.asarray(np.linalg.qr(kept, mode="r"))  # as many rows as outputs, with the same sum of squares
    scaled: Array = kept / np.sqrt(n_draws)
    return scaled.astype(dtype, copy=False)


def seed_record(seed: np.random.SeedSequence) -> dict[str, Any]:
    """Return what identifies a seed, for provenance."""
    entropy: Any = seed.entropy
    return {
        "entropy": int(entropy) if isinstance(entropy, int | np.integer) else [int(word) for word in entropy or ()],
        "spawn_key": [int(word) for word in seed.spawn_key],
    }
