"""The product of families: independent heads of one network, each with its own family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fisherstats.core.arrays import as_array
from fisherstats.core.forks import cached_property
from fisherstats.core.validation import arguments
from fisherstats.core.validation import families as checks
from fisherstats.models.families.base import Draw, Family, Law, RowProducts
from fisherstats.models.families.block_moments import ListedBlocks
from fisherstats.models.families.draw_blocks import DrawsLabels, draw_labels
from fisherstats.models.families.links import Link, joined_link
from fisherstats.models.families.moments import MomentLaw

__all__ = ["Product", "ProductLaw"]


def _slices(sizes: Sequence[int]) -> list[slice]:
    ends = np.cumsum(sizes).tolist()
    return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def label_columns(family: Family) -> int:
    """Return the number of columns of a label: one for class numbers, one per output unless the family says otherwise."""
    return 1 if family.labels_are_classes else getattr(family, "n_label_columns", family.n_outputs)


class ProductLaw(MomentLaw):
    """Law of the concatenated statistics of all parts: block-diagonal cumulants."""

    def __init__(self, h: np.ndarray, families: Sequence[Family]) -> None:
        self.families = families
        self.slices = _slices([family.n_outputs for family in families])
        self.parts: list[Law] = [family.at(h[:, piece]) for family, piece in zip(families, self.slices, strict=True)]
        super().__init__(h, ListedBlocks(self.parts, self.slices), None)

    def carried_out_by(self, contractions: Any) -> None:
        """Use a module as backend of the contractions."""
        super().carried_out_by(contractions)
        for part in self.parts:
            part.carried_out_by(contractions)

    @cached_property
    def mean(self) -> np.ndarray:
        """E[t], shape (n, T)."""
        return np.concatenate([part.mean for part in self.parts], axis=1)

    def own_diagonal(self) -> np.ndarray:
        """Return Var(t_a), shape (n, T)."""
        return np.concatenate([part.own_diagonal() for part in self.parts], axis=1)

    def own_square_variance(self) -> np.ndarray:
        """Return Var(delta_a^2), shape (n, T)."""
        return np.concatenate([part.own_square_variance() for part in self.parts], axis=1)

    def own_third_moment(self) -> np.ndarray:
        """Return E[delta_a^3], shape (n, T)."""
        return np.concatenate([part.own_third_moment() for part in self.parts], axis=1)

    def own_product_variance(self) -> np.ndarray:
        """Return those of the parts, and I_aa I_bb for outputs of two parts, shape (n, T, T)."""
        own = self.own_diagonal()
        variance: np.ndarray = own[:, :, None] * own[:, None, :]
        for part, piece in zip(self.parts, self.slices, strict=True):
            variance[:, piece, piece] = part.own_product_variance()
        return variance

    def own_root_pairs(self) -> np.ndarray:
        """Return those of the parts, as a part has no row along the outputs of another, shape (n, T)."""
        return np.concatenate([part.own_root_pairs() for part in self.parts], axis=1)

    def own_products(self) -> RowProducts:
        """Return the concatenated rows of all parts, with variances if all parts provide them."""
        found = [part.own_products() for part in self.parts]
        diagonals = [diagonal for _, diagonal in found if diagonal is not None]
        if len(diagonals) < len(found):
            return self.own_rows(), None
        rows = np.zeros_like(self.h, shape=(len(self.h), sum(one.shape[1] for one, _ in found), self.h.shape[1]))
        starts = _slices([one.shape[1] for one, _ in found])
        for (one, _), start, piece in zip(found, starts, self.slices, strict=True):
            rows[:, start, piece] = one
        return rows, np.concatenate(diagonals, axis=1)

    def information(self) -> np.ndarray:
        """Return I(h), block-diagonal, shape (n, T, T)."""
        return self.cumulant(2)

    def cumulant(self, order: int) -> np.ndarray:
        """Return the cumulant tensor of t, non-zero within the parts only, shape (n, T, ..., T)."""
        order = checks.cumulant_order(order)
        if order == 1:
            return self.mean
        n, outputs = self.h.shape
        tensor = np.zeros_like(self.h, shape=(n, *(outputs,) * order))
        for part, piece in zip(self.parts, self.slices, strict=True):
            tensor[(slice(None), *(piece,) * order)] = part.cumulant(order)
        return tensor

    def residual(self, y: np.ndarray) -> np.ndarray:
        """Return t(y) - E[t], shape (n, T), for checked labels (n, columns)."""
        pieces = split_labels(self.families, y)
        return np.concatenate([part.residual(piece) for part, piece in zip(self.parts, pieces, strict=True)], axis=1)

    def labels(self, rng: np.random.Generator, row: int, count: int) -> np.ndarray:
        """Return delta of `count` labels of one input, shape (count, T)."""
        pieces = []
        for family, part in zip(self.families, self.parts, strict=True):
            if isinstance(part, DrawsLabels):
                pieces.append(part.labels(rng, row, count))
            else:
                h = part.h[row : row + 1].astype(np.float64)
                drawn = family.sample(h, rng, count)[:, 0]
                pieces.append(family.at(np.repeat(h, count, axis=0)).residual(drawn))
        return np.concatenate(pieces, axis=1)

    def draw(self, rng: np.random.Generator, n_draws: int, second_moment: bool, first_input: int = 0) -> Draw:
        """Return the means over n_draws labels per input: each part's own draw, or label by label for the second moment."""
        if len(self.parts) == 1:
            return self.parts[0].draw(rng, n_draws, second_moment, first_input)
        if second_moment:
            return draw_labels(rng, self, n_draws, second_moment)
        # A rejection sampler advances a stream by an unknown number of steps, so each part has its own stream.
        keys = rng.integers(0, 2**64, (len(self.parts), 2), dtype=np.uint64)
        streams = [np.random.Generator(np.random.Philox(key=key)) for key in keys]
        means = [part.draw(own, n_draws, False, first_input).mean for part, own in zip(self.parts, streams, strict=True)]
        return Draw(np.concatenate(means, axis=1), None)


def split_labels(families: Sequence[Family], y: np.ndarray) -> list[np.ndarray]:
    """Return the labels of each part from labels (..., columns) side by side: class numbers as integers (...)."""
    pieces = []
    for family, columns in zip(families, _slices([label_columns(family) for family in families]), strict=True):
        piece = as_array(y)[..., columns]
        pieces.append(piece[..., 0].astype(np.int64) if family.labels_are_classes else piece)
    return pieces


@dataclass(frozen=True)
class Product(Family):
    """Independent heads, each with its own family: t and h are concatenated over the parts, F(h) is the sum over the parts.

    Parameters
    ----------
    families : list of Family
        The parts, in the order of the network's outputs.

    Notes
    -----
    Labels are (n, columns), the label columns of the parts side by side; a categorical part takes one column of class numbers.
    Links: those of the parts. Draws: the mean alone is drawn by each part separately; the second moment mixes the parts and
    needs all labels, in slabs of bounded memory.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherstats.models.families import Bernoulli, Poisson
    >>> Product([Bernoulli(), Poisson()]).mean(np.zeros((1, 2)))
    array([[0.5, 1. ]])
    """

    name: ClassVar[str] = "product"
    families: Sequence[Family]

    def __post_init__(self) -> None:
        object.__setattr__(self, "families", checks.family_parts(self.families, Family))
        object.__setattr__(self, "bounded", all(family.bounded for family in self.families))

    @property
    def n_outputs(self) -> int:
        """Number of natural parameters of all parts."""
        return sum(family.n_outputs for family in self.families)

    @property
    def n_label_columns(self) -> int:
        """Number of label columns of all parts."""
        return sum(label_columns(family) for family in self.families)

    @property
    def link(self) -> Link | None:
        """Links of the parts side by side; None if all are identities."""
        return joined_link([(family.link, family.n_outputs) for family in self.families])

    def parameters(self) -> dict[str, Any]:
        """Return what defines the family, in plain values."""
        return {"name": self.name, "n_outputs": self.n_outputs, "families": [family.parameters() for family in self.families]}

    def at(self, h: np.ndarray) -> ProductLaw:
        """Return the law of t at natural parameters h (n, T)."""
        return ProductLaw(checks.natural_parameters(h, self.n_outputs), self.families)

    def log_prob(self, h: np.ndarray, y: Any) -> np.ndarray:
        """Return the sum of the log probabilities of the parts, shape (n,)."""
        h, labels = checks.natural_parameters(h, self.n_outputs), self.check_labels(y, len(h))
        slices = _slices([family.n_outputs for family in self.families])
        pieces = zip(self.families, slices, split_labels(self.families, labels), strict=True)
        return np.stack([family.log_prob(h[:, piece], label) for family, piece, label in pieces]).sum(axis=0)

    def sample(self, h: np.ndarray, rng: int | np.random.SeedSequence | np.random.Generator, n_draws: int) -> np.ndarray:
        """Return labels of all parts side by side, float64, shape (n_draws, n, columns)."""
        generator = arguments.generator(rng)
        h = checks.natural_parameters(h, self.n_outputs)
        slices = _slices([family.n_outputs for family in self.families])
        drawn = [family.sample(h[:, piece], generator, n_draws) for family, piece in zip(self.families, slices, strict=True)]
        columns = [y[:, :, None] if family.labels_are_classes else y for family, y in zip(self.families, drawn, strict=True)]
        return np.concatenate(columns, axis=2).astype(np.float64)

    def check_labels(self, y: Any, n: int) -> np.ndarray:
        """Return the labels of n inputs as a float64 array (n, columns) if each part takes its own."""
        labels = checks.label_array(y, n, self.n_label_columns)
        for family, columns in zip(self.families, _slices([label_columns(one) for one in self.families]), strict=True):
            family.check_labels(labels[:, columns.start] if family.labels_are_classes else labels[:, columns], n)
        return labels

    def statistic(self, y: np.ndarray) -> np.ndarray:
        """Return the statistics of the parts side by side, shape (..., T)."""
        pieces = zip(self.families, split_labels(self.families, y), strict=True)
        return np.concatenate([family.statistic(label) for family, label in pieces], axis=-1)

    def draw_scheme(self, second_moment: bool, n_draws: int) -> str:
        """Return the key in `draws.DRAW_SCHEMES` of what is drawn."""
        if second_moment and len(self.families) > 1:
            return "labels"
        schemes = {family.draw_scheme(second_moment, n_draws) for family in self.families}
        return schemes.pop() if len(schemes) == 1 else "parts"
