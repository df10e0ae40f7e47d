"""The exponential-family multilayer perceptron."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fisherstats.core.arrays import common_dtype, like, read_only
from fisherstats.core.forks import cached_property
from fisherstats.core.validation import arguments, capacity, inputs, networks
from fisherstats.models import activations, network_files
from fisherstats.models.activations import Activation
from fisherstats.models.columns import columns_in_order
from fisherstats.models.families import Family
from fisherstats.models.html import perceptron_table

__all__ = ["MLP", "kernel_view"]


class MLP:
    r"""Exponential-family network :math:`p(y|x,\theta)=\pi(y)\exp\{t(y)^\top h_L(x)-F(h_L(x))\}`.

    Layers are :math:`a_{l+1}=W_l\bar h_l`, :math:`\bar h_l=(h_l^\top,1)^\top`, :math:`h_{l+1}=\sigma_l(a_{l+1})` for
    :math:`l<L-1` and :math:`h_L=a_L`, the natural parameters of the family. In a layer without bias :math:`\bar h_l=h_l`.

    Parameters
    ----------
    weights : sequence of array_like, shape (n_out, n_in + 1)
        One matrix per layer; the last column is the bias, and a layer without bias has a matrix of shape (n_out, n_in).
        Copied, and read-only afterwards. float32 is kept only if every matrix is float32; integers become float64.
    activation : str, Activation or sequence of them
        The activation of all hidden layers, or one per hidden layer.
    family : Family
        Family of the response distribution, with as many natural parameters as the last layer has rows.
    feature_names, output_names : sequence of str, optional
        Names of the inputs and of the outputs. Columns of a labelled x, or y, are then reordered to match or refused, and results
        have the names as well as the numbers.
    bias : bool or sequence of bool, default True
        Whether the layers have a bias, one answer for all or one per layer.

    Raises
    ------
    TypeError, ValueError
        If shapes do not chain, a weight is not finite, a name is unknown, or the last layer does not fit the family.

    Notes
    -----
    The parameter vector is the concatenation of `W_l.ravel()` in row-major order, bias last in each row. A layer without bias
    has no parameter in its place: neither in the results, nor in training.

    Examples
    --------
    >>> import fisherstats as fs
    >>> model = fs.MLP([[[0.5, -0.5, 0.1]]], activation="tanh", family=fs.families.Bernoulli())
    >>> model.n_params
    3
    >>> model.natural_parameters([[1.0, 2.0]])
    array([[-0.4]])
    """

    weights: tuple[NDArray[np.floating], ...]
    activations: tuple[Activation, ...]
    family: Family
    feature_names: tuple[str, ...] | None = None
    output_names: tuple[str, ...] | None = None
    bias: tuple[bool, ...]

    def __init__(
        self,
        weights: Sequence[ArrayLike],
        *,
        activation: str | Activation | Sequence[str | Activation],
        family: Family,
        feature_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
        bias: bool | Sequence[bool] = True,
    ) -> None:
        matrices, biased = networks.weight_matrices(weights, bias)
        dtype = common_dtype(*matrices)
        n_hidden = len(matrices) - 1
        if isinstance(activation, Sequence) and not isinstance(activation, str):
            chosen = [activations.get(one) for one in activation]
            networks.activation_count(chosen, n_hidden)
        else:
            chosen = [activations.get(activation)] * n_hidden
        networks.family_object(family, Family, matrices[-1].shape[0])
        self.__dict__["weights"] = tuple(read_only(matrix.astype(dtype)) for matrix in matrices)
        self.__dict__["activations"] = tuple(chosen)
        self.__dict__["family"] = family
        self.__dict__["bias"] = biased
        self.__dict__["feature_names"] = networks.names("feature_names", feature_names, self.widths[0])
        self.__dict__["output_names"] = networks.names("output_names", output_names, matrices[-1].shape[0])

    @classmethod
    def from_arrays(
        cls,
        kernels: Sequence[ArrayLike],
        biases: Sequence[ArrayLike | None],
        *,
        activation: str | Activation | Sequence[str | Activation],
        family: Family,
        feature_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
    ) -> Self:
        """Build the network from kernels of shape (n_out, n_in) and biases of shape (n_out,).

        Parameters
        ----------
        kernels, biases : sequence of array_like
            One kernel and one bias vector per layer, None for a layer without bias.
        activation, family, feature_names, output_names
            As for `MLP`.

        Returns
        -------
        MLP
            The network with weights ``[kernel | bias]``.

        Examples
        --------
        >>> import fisherstats as fs
        >>> model = fs.MLP.from_arrays([[[0.5, -0.5]]], [[0.1]], activation=[], family=fs.families.Bernoulli())
        >>> model.weights[0].tolist()
        [[0.5, -0.5, 0.1]]
        """
        return cls(
            networks.biases_fit(kernels, biases),
            activation=activation,
            family=family,
            feature_names=feature_names,
            output_names=output_names,
            bias=[one is not None for one in biases],
        )

    @classmethod
    @arguments.answered()
    def random(
        cls,
        widths: Sequence[int],
        *,
        activation: str | Activation | Sequence[str | Activation],
        family: Family,
        rng: int | np.random.SeedSequence | np.random.Generator,
        bias: bool | Sequence[bool] = True,
    ) -> Self:
        r"""Draw a network with independent weights :math:`N(0, 1/(n_{in}+1))`, biases included; :math:`N(0, 1/n_{in})` without.

        Parameters
        ----------
        widths : sequence of int
            Inputs, hidden units ..., outputs.
        activation, family
            As for `MLP`.
        rng : int, SeedSequence or Generator
            Source of randomness; the same int gives the same network.
        bias
            As for `MLP`.

        Returns
        -------
        MLP
            A float64 network.

        Examples
        --------
        >>> import fisherstats as fs
        >>> fs.MLP.random([3, 4, 2], activation="tanh", family=fs.families.Categorical(2), rng=0).n_params
        26
        """
        sizes = networks.widths(widths)
        biased = networks.bias_flags(bias, len(sizes) - 1)
        shapes = [(n_out, n_in + one) for (n_in, n_out), one in zip(itertools.pairwise(sizes), biased, strict=True)]
        numbers = sum(rows * columns for rows, columns in shapes)
        capacity.fits("`widths`", 8 * numbers, 8 * numbers, "use narrower layers.")
        generator = np.random.default_rng(arguments.seed_sequence(rng))
        weights = [generator.standard_normal(shape) / np.sqrt(shape[1]) for shape in shapes]
        return cls(weights, activation=activation, family=family, bias=biased)

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """Inputs, hidden units ..., outputs."""
        return (self.weights[0].shape[1] - self.bias[0], *(matrix.shape[0] for matrix in self.weights))

    @property
    def unit_widths(self) -> tuple[int, ...]:
        """Inputs, then units of every layer."""
        return self.widths

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """The shape (units, inputs) of every weight matrix, the bias column included."""
        return [(matrix.shape[0], matrix.shape[1]) for matrix in self.weights]

    def record(self) -> dict[str, Any]:
        """Return what the provenance of a result says of the structure."""
        biased = {} if all(self.bias) else {"bias": list(self.bias)}
        return {"widths": list(self.widths), **biased, "activations": [one.name for one in self.activations]}

    @property
    def n_layers(self) -> int:
        """Number of weight matrices, L."""
        return len(self.weights)

    @cached_property
    def n_params(self) -> int:
        """Length of the parameter vector, P."""
        return sum(matrix.size for matrix in self.weights)

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """Precision of the weights."""
        return self.weights[0].dtype

    @cached_property
    def kernels(self) -> tuple[NDArray[np.floating], ...]:
        """Weight matrices without the bias column, each contiguous in memory."""
        kernels = zip(self.weights, self.bias, strict=True)
        return tuple(read_only(matrix[:, :-1]) if biased else matrix for matrix, biased in kernels)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of weights, activations, family, names and missing biases, for provenance."""
        digest = hashlib.sha256()
        for matrix in self.weights:
            digest.update(repr((matrix.shape, matrix.dtype.str)).encode())
            digest.update(matrix.tobytes())
        digest.update(repr([(one.name, dict(one.parameters)) for one in self.activations]).encode())
        digest.update(repr(self.family.parameters()).encode())
        if self.feature_names or self.output_names:
            digest.update(repr((self.feature_names, self.output_names)).encode())
        if not all(self.bias):
            digest.update(repr(("bias", self.bias)).encode())
        return digest.hexdigest()

    def layer_slices(self) -> list[slice]:
        """Return the slice of the parameter vector that each weight matrix occupies."""
        ends = itertools.accumulate(matrix.size for matrix in self.weights)
        return [slice(end - matrix.size, end) for end, matrix in zip(ends, self.weights, strict=True)]

    def as_dtype(self, dtype: np.dtype[np.floating]) -> MLP:
        """Return the network in another precision, float32 or float64 (itself if unchanged)."""
        dtype = networks.precision(dtype)
        if dtype == self.dtype:
            return self
        return self.with_weights([matrix.astype(dtype) for matrix in self.weights])

    def with_weights(self, weights: Sequence[ArrayLike]) -> MLP:
        """Return a network with other weights, and the same activations, family, names and layers without bias.

        Parameters
        ----------
        weights : sequence of array_like
            As for `MLP`.

        Returns
        -------
        MLP
            The network.

        Examples
        --------
        >>> import fisherstats as fs
        >>> model = fs.MLP([[[1.0, 0.0]]], activation=[], family=fs.families.Poisson(), feature_names=["age"])
        >>> model.with_weights([[[2.0, 0.0]]]).feature_names
        ('age',)
        """
        return MLP(
            weights,
            activation=self.activations,
            family=self.family,
            feature_names=self.feature_names,
            output_names=self.output_names,
            bias=self.bias,
        )

    def named(self, feature_names: Sequence[str] | None = None, output_names: Sequence[str] | None = None) -> MLP:
        """Return the network with names of its inputs and of its outputs; None keeps the current ones.

        Parameters
        ----------
        feature_names, output_names : sequence of str, optional
            As for `MLP`.

        Returns
        -------
        MLP
            The network.

        Examples
        --------
        >>> import fisherstats as fs
        >>> model = fs.MLP([[[1.0, 0.0]]], activation=[], family=fs.families.Poisson())
        >>> model.named(["age"]).feature_names
        ('age',)
        """
        return MLP(
            self.weights,
            activation=self.activations,
            family=self.family,
            feature_names=self.feature_names if feature_names is None else feature_names,
            output_names=self.output_names if output_names is None else output_names,
            bias=self.bias,
        )

    def in_double(self) -> MLP:
        """Return the network in float64, with the fingerprint of the original."""
        wide = self.as_dtype(np.dtype(np.float64))
        wide.__dict__["fingerprint"] = self.fingerprint
        return wide

    def beside(self, other: Any) -> MLP:
        """Return the network with its weights on the device of an array; itself for None."""
        if other is None:
            return self
        moved = object.__new__(MLP)
        # With the fingerprint, which is that of the weights on the host.
        moved.__dict__.update(
            self.__dict__,
            fingerprint=self.fingerprint,
            weights=tuple(like(one, other) for one in self.weights),
            kernels=tuple(like(one, other) for one in self.kernels),
        )
        return moved

    def natural_parameters(self, x: Any) -> NDArray[np.floating]:
        """Return h_L(x), shape (n, T), for a matrix of inputs.

        Parameters
        ----------
        x : array_like or DataArray (dims ``input``, ``feature``), shape (n, n_features)
            Inputs, at least one row, finite and real.

        Returns
        -------
        ndarray, shape (n, T)
            Natural parameters of the response at each input.
        """
        x = columns_in_order(x, self)
        if hasattr(x, "dims") and hasattr(x, "transpose"):  # an HDF5 dataset has scales of that name
            inputs.labelled_input(x.dims)
            x = x.transpose("input", "feature")
        h = arguments.real_array("x", x)
        inputs.input_matrix(h.shape, h.dtype, self.widths[0])
        pre_activations = []
        # Values that overflow become infinite or nan, and are refused at the end.
        with np.errstate(over="ignore", invalid="ignore"):
            for layer, activation in enumerate(self.activations):
                pre_activations.append(self._through(h, layer))
                h = activation.value(pre_activations[-1])
            output = self._through(h, -1)
            natural = output if self.family.link is None else self.family.link.evaluate(output, 0)[0]
        inputs.finite_pass(pre_activations, natural, 0)
        return natural

    def _through(self, h: NDArray[np.floating], layer: int) -> NDArray[np.floating]:
        """Return the pre-activations of a layer for the output of the layer below."""
        weight = self.weights[layer]
        return h @ weight[:, :-1].T + weight[:, -1] if self.bias[layer] else h @ weight.T

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to a file in the safetensors format, with everything but the numbers as JSON in its metadata.

        Nothing is pickled, and other programs can read the tensors ``layers.0.weight``, (n_out, n_in), and ``layers.0.bias``. The
        file appears when it is complete; one that an earlier call wrote is replaced, and any other file is left alone.

        Parameters
        ----------
        path : str or path
            The file, in a folder that exists; ``.safetensors`` is the usual ending.

        Raises
        ------
        ValueError
            If there is a file that this method did not write, or the family or an activation is not one of the package.
        OSError
            If the file cannot be written.
        MissingExtra
            If safetensors is not installed.

        Examples
        --------
        >>> import tempfile, pathlib
        >>> import fisherstats as fs
        >>> model = fs.MLP.random([3, 4, 2], activation="tanh", family=fs.families.Categorical(2), rng=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(pathlib.Path(folder, "model.safetensors"))
        ...     fs.MLP.load(pathlib.Path(folder, "model.safetensors")) == model
        True
        """
        network_files.save(path, self)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a network that `save` wrote: the same numbers, bit by bit, and the same fingerprint.

        Parameters
        ----------
        path : str or path
            The file.

        Returns
        -------
        MLP
            The network.

        Raises
        ------
        ValueError
            If the file does not exist, does not hold a network, was changed or is damaged, or was written by a later version of
            the format.
        MissingExtra
            If safetensors is not installed.

        Examples
        --------
        >>> import tempfile, pathlib
        >>> import fisherstats as fs
        >>> model = fs.MLP([[[1.0, 0.5]]], activation=[], family=fs.families.Poisson(), feature_names=["age"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(pathlib.Path(folder, "model.safetensors"))
        ...     fs.MLP.load(pathlib.Path(folder, "model.safetensors")).feature_names
        ('age',)
        """
        loaded: Self = network_files.load(path, cls.from_arrays)
        return loaded

    def __setattr__(self, name: str, value: Any) -> None:
        networks.frozen(name)

    def __delattr__(self, name: str) -> None:
        networks.frozen(name)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.weights, self.activations, self.family, self.feature_names, self.output_names, self.bias)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MLP):
            return NotImplemented
        return self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def _repr_html_(self) -> str:
        return perceptron_table(self)

    def __repr__(self) -> str:
        names = list(dict.fromkeys(one.name for one in self.activations))
        shape = "-".join(str(width) for width in self.widths)
        biased = "" if all(self.bias) else f"bias={list(self.bias) if any(self.bias) else False}, "
        kinds = f"activation={', '.join(names) or 'none'}, family={self.family!r}"
        return f"MLP({shape}, {kinds}, {biased}{self.n_params} parameters)"


def _rebuild(
    weights: Any, chosen: Any, family: Family, features: Any = None, outputs: Any = None, bias: Sequence[bool] | bool = True
) -> MLP:
    """Unpickle through the constructor, so that the arrays are read-only again."""
    return MLP(weights, activation=chosen, family=family, feature_names=features, output_names=outputs, bias=bias)


def kernel_view(model: MLP, layer: int) -> NDArray[np.floating]:
    """Return the current weight matrix of a layer without the bias column, if it has one, as a view."""
    return model.weights[layer][:, : model.widths[layer]]
