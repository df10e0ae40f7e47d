"""Accumulation of per-example scores of networks of any size: the diagonal Fisher information with its standard errors."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fisherstats._version import __version__
from fisherstats.core.docstrings import documented
from fisherstats.core.schema import COORDINATES
from fisherstats.core.validation import accumulator as checks
from fisherstats.core.validation import arguments
from fisherstats.execution import one_blas_thread
from fisherstats.quantities import _labels
from fisherstats.quantities.information import score_files
from fisherstats.theory import score_accumulation
from fisherstats.theory.score_accumulation import Moments

__all__ = ["ScoreAccumulator"]


class ScoreAccumulator:
    r"""The diagonal Fisher information from per-example scores of any network, with standard errors, in one pass.

    A score is the gradient of :math:`\log p(y|x,\theta)` by the parameters for *one* example and label. With labels drawn from
    the model the mean of the squared scores is the score estimate of the Fisher information (2024, eq 2), with labels of the data
    the empirical Fisher information.

    Parameters
    ----------
    shapes : mapping of str to tuple of int, optional
        Shape of each array of parameters by its owner's name; without it the first batch fixes them. A slash in a name makes a
        group of the result.
    n_draws : int, optional
        Labels per example, N. With it scores have an axis of draws after that of the examples; without it there is no such axis,
        and one label per example.

    Notes
    -----
    Memory: 16 bytes per parameter, 24 with two draws or more; a batch in C order is read in place, once for its sums and once
    before for nan, in other orders 256 examples of an array are copied at a time. Sums are float64 whatever the scores are.

    Bits: examples are taken in leaves of 256, counted from the start of each batch, so that splitting a stream of examples into
    batches at multiples of 256 changes no bit of the result, nor does the memory order or the library of the arrays. Other
    batches and `merge` change it by rounding only (relative errors near 1e-13).

    **Scores that were averaged or summed over a batch cannot be recognised**, and their squares are not the Fisher information: a
    mean over B examples makes it about B times too small, and its standard error is wrong as well. Take gradients per example (in
    PyTorch ``torch.func.vmap(torch.func.grad(...))``, in JAX ``jax.vmap(jax.grad(...))``) of the log-likelihood itself, not of a
    loss with ``reduction="mean"``. Signs do not matter. A penalty on the weights or dropout is no part of a score.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> scores = fs.ScoreAccumulator()
    >>> scores.update({"weight": np.array([[1.0, 2.0], [3.0, 0.0]]), "bias": np.array([1.0, 1.0])})
    >>> scores.update({"weight": np.array([[1.0, 1.0]]), "bias": np.array([2.0])})
    >>> found = scores.result()
    >>> found["parameters/weight"].mean_square.values.round(4)
    array([3.6667, 1.6667])
    >>> found["layers"].total.values.round(4), found["layers"].standard_error.values.round(4)
    (array([5.3333, 2.    ]), array([2.0276, 1.    ]))
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]] | None = None, *, n_draws: int | None = None) -> None:
        self._n_draws = None if n_draws is None else arguments.positive_integer("n_draws", n_draws)
        self._shapes = None if shapes is None else checks.layout(shapes)
        self._moments = self._empty()
        self._unfinished = False

    @property
    def shapes(self) -> dict[str, tuple[int, ...]] | None:
        """Shapes of the arrays of parameters by name; None before the first batch."""
        return None if self._shapes is None else dict(self._shapes)

    @property
    def n_draws(self) -> int | None:
        """Labels per example, None if the scores have no axis of draws."""
        return self._n_draws

    @property
    def n_inputs(self) -> int:
        """Number of examples so far."""
        return self._moments.n_inputs

    def _empty(self) -> Moments:
        sizes = [] if self._shapes is None else [int(np.prod(one, dtype=np.int64)) for one in self._shapes.values()]
        return Moments.empty(sizes, self._n_draws or 1)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        checks.whole(self._unfinished)
        self._unfinished = True
        yield
        self._unfinished = False

    def update(self, scores: Mapping[str, Any]) -> None:
        r"""Add the scores of a batch of examples.

        Parameters
        ----------
        scores : mapping of str to array
            For each array of parameters the scores of the batch, shape (batch, \*shape), with `n_draws` (batch, draws, \*shape):
            not averaged, not summed. Arrays of numpy, or of another library on the host; those of PyTorch may record gradients.
            All arrays of parameters are required in every batch.

        Raises
        ------
        TypeError, ValueError
            If a name is missing or unknown, a shape or the number of draws differs from what was fixed, the batch is empty, an
            array is on a device or not of real numbers, or a score is nan, inf or at least 1e75 in magnitude. The batch is
            refused as a whole.

        Notes
        -----
        Cost: about four to seven times that of a copy of float32 scores, with the state read and written once per leaf. Squared
        deviations of scores below 1e-77 underflow to 0.

        Examples
        --------
        >>> import numpy as np
        >>> import fisherstats as fs
        >>> scores = fs.ScoreAccumulator({"weight": (2,)}, n_draws=3)
        >>> scores.update({"weight": np.ones((10, 3, 2))})
        >>> scores
        ScoreAccumulator(1 arrays, 2 parameters, n_draws=3, n_inputs=10)
        """
        checks.whole(self._unfinished)
        shapes, arrays = checks.batch(scores, self._shapes, self._n_draws)
        if self._shapes is None:
            self._shapes = shapes
            self._moments = self._empty()
        with self._changing():
            one_blas_thread(self._moments.add)([*arrays.values()])

    def merge(self, other: ScoreAccumulator) -> None:
        """Add the examples of another accumulator, which is left as it is.

        Parameters
        ----------
        other : ScoreAccumulator
            Of the same arrays of parameters, in any order, and the same number of draws.

        Raises
        ------
        TypeError, ValueError
            If it is no other accumulator, or its arrays of parameters or number of draws differ.

        Notes
        -----
        The result is that of one accumulator with all examples, up to rounding.

        Examples
        --------
        >>> import numpy as np
        >>> import fisherstats as fs
        >>> first, second = fs.ScoreAccumulator(), fs.ScoreAccumulator()
        >>> first.update({"weight": np.array([[1.0], [2.0]])})
        >>> second.update({"weight": np.array([[3.0]])})
        >>> first.merge(second)
        >>> first.n_inputs, first.result()["parameters/weight"].mean_square.values.round(4)
        (3, array([4.6667]))
        """
        checks.mergeable(other, ScoreAccumulator, self)
        checks.whole(other._unfinished)
        if other._shapes is None:
            return
        if self._shapes is None:
            self._shapes = dict(other._shapes)
            self._moments = self._empty()
        there = [*other._shapes]
        with self._changing():
            self._moments.merge(other._moments, [there.index(name) for name in self._shapes])

    @documented
    def result(self, *, design: str = "random", population: int | None = None) -> xr.DataTree:
        r"""Return the diagonal Fisher information, the totals of its arrays, their standard errors and how sure their order is.

        Parameters
        ----------
        design : {"random", "fixed", "subsample"}, default "random"
            What the standard errors are of. ``random``: examples are independent draws, estimated from their spread, which covers
            labels as well. ``fixed``: labels at the given examples. ``subsample``: examples drawn without replacement from
            `population`, and their labels. The last two need two draws per example at least.
        population : int, optional
            Size of the finite population, for ``design="subsample"``.

        Returns
        -------
        DataTree
            ``parameters/NAME`` for each array of parameters: ``mean_square`` and ``standard_error``, in its shape, dims
            ``dim_0``, ``dim_1``, ... ``layers``: ``total``, ``standard_error`` and ``position`` (0 for the largest total), dims
            layer; ``covariance`` of the totals and ``probability_larger``, dims (layer, layer2);
            ``order_probability_lower`` and ``order_probability_upper``. Units of 1, source keys ``score-estimator``,
            ``estimator-variance-random``, ``estimator-variance`` or ``estimator-variance-subsample``, and
            ``ranking-probability``.

        Raises
        ------
        ValueError
            If there are fewer than two examples (one for "fixed"), fewer than two draws per example where they are needed, or a
            population smaller than the sample.

        Notes
        -----
        Variances are unbiased whatever the law of the scores: :math:`s^2/n` over examples, :math:`v/(nN)` over labels, with the
        sample variances of the squared scores. For few examples, or a mean dominated by few of them, they are rough themselves.

        ``probability_larger`` is :math:`\Phi((t_a-t_b)/\mathrm{sd})`: the totals are nearly normal for many examples. The
        probability that the whole order is right is not computed but enclosed, for every joint law: at most the smallest
        probability of two neighbours in it, at least 1 less the sum of the complements. Nothing is simulated.

        Examples
        --------
        >>> import numpy as np
        >>> import fisherstats as fs
        >>> draws = np.random.default_rng(0).normal(size=(100, 4, 3)) * [1.0, 1.0, 2.0]
        >>> scores = fs.ScoreAccumulator(n_draws=4)
        >>> scores.update({"a": draws[:, :, :1], "b": draws[:, :, 1:]})
        >>> layers = scores.result(design="fixed")["layers"]
        >>> str(layers.layer[layers.position == 0].item()), bool(layers.order_probability_lower > 0.99)
        ('b', True)
        """
        checks.whole(self._unfinished)
        n, n_draws = self.n_inputs, self._n_draws or 1
        population = checks.answerable(design, population, n, n_draws)
        shapes = self._shapes or {}
        provenance = {"package": f"fisherstats {__version__}", "n_inputs": n, "n_draws": n_draws, "design": design}
        provenance |= {} if population is None else {"population": population}

        def variance(moments: Sequence[NDArray[np.floating]]) -> NDArray[np.floating]:
            return score_accumulation.variance_of_mean(moments, n, n_draws, design, population)

        nodes = {"layers": _of_layers([*shapes], self._moments.totals, variance(self._moments.totals), design, provenance)}
        for (name, shape), kept in zip(shapes.items(), self._moments.parameters, strict=True):
            dims = [f"dim_{number}" for number in range(len(shape))]
            entries: list[_labels.Entry] = [
                ("score_mean_square", dims, kept[0].reshape(shape).copy()),
                (f"score_error_{design}", dims, np.sqrt(variance(kept)).reshape(shape)),
            ]
            nodes[f"parameters/{name}"] = _labels.dataset(entries, {}, provenance)
        root = xr.Dataset(attrs={"provenance": _labels.as_text(provenance)})
        return xr.DataTree.from_dict({"/": root, **nodes})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the sums to a file in the safetensors format, from which accumulation can go on.

        Nothing is pickled, and other programs can read the tensors ``mean_square/NAME``, in the shapes of the parameters. The
        file appears when it is complete; one that an earlier call wrote is replaced, and any other file is left alone.

        Parameters
        ----------
        path : str or path
            The file, in a folder that exists; ``.safetensors`` is the usual ending.

        Raises
        ------
        ValueError
            If there is a file that this method did not write.
        OSError
            If the file cannot be written.
        MissingExtra
            If safetensors is not installed (extra ``interop``).

        Examples
        --------
        >>> import tempfile, pathlib
        >>> import numpy as np
        >>> import fisherstats as fs
        >>> scores = fs.ScoreAccumulator()
        >>> scores.update({"weight": np.ones((5, 2, 3))})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     scores.save(pathlib.Path(folder, "scores.safetensors"))
        ...     fs.ScoreAccumulator.load(pathlib.Path(folder, "scores.safetensors"))
        ScoreAccumulator(1 arrays, 6 parameters, n_draws=None, n_inputs=5)
        """
        checks.whole(self._unfinished)
        score_files.save(path, self._shapes, self._n_draws, self._moments)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read sums that `save` wrote, bit by bit.

        Parameters
        ----------
        path : str or path
            The file.

        Returns
        -------
        ScoreAccumulator
            The accumulator as it was.

        Raises
        ------
        ValueError
            If the file does not exist, does not hold accumulated scores, was changed or is damaged, or was written by a later
            version of the format.
        MissingExtra
            If safetensors is not installed (extra ``interop``).

        Examples
        --------
        >>> import tempfile, pathlib
        >>> import numpy as np
        >>> import fisherstats as fs
        >>> scores = fs.ScoreAccumulator(n_draws=2)
        >>> scores.update({"weight": np.ones((5, 2, 3))})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     scores.save(pathlib.Path(folder, "scores.safetensors"))
        ...     fs.ScoreAccumulator.load(pathlib.Path(folder, "scores.safetensors")).n_inputs
        5
        """
        shapes, n_draws, moments = score_files.load(path)
        found = cls(n_draws=n_draws)
        found._shapes, found._moments = shapes, moments
        return found

    def __repr__(self) -> str:
        sizes = [one[0].size for one in self._moments.parameters]
        inside = "no layout yet" if self._shapes is None else f"{len(sizes)} arrays, {sum(sizes)} parameters"
        return f"ScoreAccumulator({inside}, n_draws={self._n_draws}, n_inputs={self.n_inputs})"


def _of_layers(
    names: Sequence[str],
    totals: Sequence[NDArray[np.floating]],
    covariance: NDArray[np.floating],
    design: str,
    provenance: Mapping[str, Any],
) -> xr.Dataset:
    """Return the totals of the arrays of parameters, their errors, and how sure their order is."""
    mean = totals[0].copy()
    order = np.argsort(-mean, kind="stable")
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    pairwise = score_accumulation.pairwise_probability(mean, covariance)
    lower, upper = score_accumulation.order_probability(pairwise, order)
    attrs = {"long_name": COORDINATES["param_array"]}
    coords = {dim: (dim, np.array(names), attrs) for dim in ("layer", "layer2")}
    entries: list[_labels.Entry] = [
        ("score_total", ["layer"], mean),
        (f"score_total_error_{design}", ["layer"], np.sqrt(np.diag(covariance))),
        (f"score_total_covariance_{design}", ["layer", "layer2"], covariance),
        ("score_position", ["layer"], position),
        ("score_probability_larger", ["layer", "layer2"], pairwise),
        ("score_order_lower", [], np.array(lower)),
        ("score_order_upper", [], np.array(upper)),
    ]
    return _labels.dataset(entries, coords, provenance)
