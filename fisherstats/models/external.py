"""Networks of other libraries, given by a function that evaluates natural parameters and derivatives at a block of inputs."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fisherstats.core.validation import external as checks
from fisherstats.core.validation import networks
from fisherstats.models.families import Family
from fisherstats.models.html import external_table

__all__ = ["ExternalForward", "ExternalNetwork", "Layer"]

Array = NDArray[np.floating]
Evaluate = Callable[[Any], Any]


@dataclass(frozen=True)
class Layer:
    """One array of parameters of an external network.

    Parameters
    ----------
    name : str
        The name its owner uses, such as ``"conv1.weight"``.
    shape : tuple of int
        Its shape there.
    factored : bool, default False
        For a matrix (units, inputs) that acts once on each example: derivatives are given as factors, those of the
        pre-activations and the inputs of the layer, instead of as a Jacobian.

    Examples
    --------
    >>> import fisherstats as fs
    >>> fs.Layer("fc.weight", (10, 128), factored=True).size
    1280
    """

    name: str
    shape: tuple[int, ...]
    factored: bool = False

    def __post_init__(self) -> None:
        checks.layer(self.name, self.shape, self.factored)

    @property
    def size(self) -> int:
        """Number of parameters."""
        return math.prod(self.shape)

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """The shape (units, inputs) of the layer: with a Jacobian, a unit for each entry and one input, which is 1."""
        return (self.shape[0], self.shape[1]) if self.factored else (self.size, 1)


@dataclass
class ExternalForward:
    """Natural parameters and derivatives of an external network at a block of inputs."""

    natural: Array
    """h, (n, T)."""
    inputs: list[Array]
    """Layer inputs, (n, d); ones where there is a Jacobian."""
    jacobians: list[Array]
    """G, (n, T, units)."""
    curvatures: list[Array | None] | None
    """S, (n, T, units), the second derivatives along each unit; None where they are 0."""
    link_slope: None = None
    own_outputs: bool = False
    """Whether the last layer's G is the identity."""
    pre_activations: tuple[Array, ...] = ()
    hidden: Array | None = None


class ExternalNetwork:
    r"""A network of any library and architecture, evaluated by a function of the user.

    Closed forms of first order need only natural parameters and their derivatives: for each layer a Jacobian
    :math:`\partial h/\partial\theta_l`, or for a matrix that acts once on each example its two factors. A Jacobian is a layer
    with a unit for each parameter and the constant input 1, so every theorem holds as it stands.

    Parameters
    ----------
    evaluate : callable
        ``evaluate(x)`` for a block of inputs returns ``(h, parts)`` or ``(h, parts, curvatures)``: natural parameters h (n, T);
        one part per layer, a Jacobian (n, T, \*shape), or for a factored layer ``(G, inputs)`` of shapes (n, T, units) and
        (n, inputs); and the diagonal second derivatives, (n, T, \*shape), for a factored layer (n, T, units) in the
        pre-activations, or None where they are 0. Without them the Hessian estimator is refused. Arrays of other libraries on the
        host are accepted. It must be deterministic (dropout off) and treat examples independently.
    family : Family
        Response distribution; T is its number of outputs.
    layers : sequence of Layer
        The arrays of parameters, in the order of `parts`.
    dtype : dtype, default float64
        Precision of the results.
    fingerprint : str, optional
        Identifies the parameters in the provenance of results; without it only family and layers do.
    output_names : sequence of str, optional
        Names of the outputs.

    Notes
    -----
    x may have any shape (n, ...); it is evaluated in blocks of a fixed number of inputs, cut so that the largest array of
    derivatives stays near the cache.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> theta = np.array([[1.0, -1.0]])
    >>> network = fs.ExternalNetwork(
    ...     lambda x: (x @ theta.T, [(np.ones((len(x), 1, 1)), x)]),
    ...     family=fs.families.Bernoulli(),
    ...     layers=[fs.Layer("weight", (1, 2), factored=True)],
    ... )
    >>> fs.fisher_information(network, np.array([[1.0, 1.0], [2.0, 2.0]])).values
    array([0.625, 0.625])
    """

    feature_names = None

    def __init__(
        self,
        evaluate: Evaluate,
        *,
        family: Family,
        layers: Sequence[Layer],
        dtype: DTypeLike = np.float64,
        fingerprint: str | None = None,
        output_names: Sequence[str] | None = None,
    ) -> None:
        checks.evaluate_callable(evaluate)
        networks.family_object(family, Family, None)
        self.evaluate = evaluate
        self.family = family
        self.layers = checks.layers(layers, Layer)
        self.dtype = networks.precision(np.dtype(dtype))
        self.output_names = networks.names("output_names", output_names, family.n_outputs)
        text = repr((family.parameters(), [(one.name, one.shape, one.factored) for one in self.layers], fingerprint))
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """The shape (units, inputs) of every layer."""
        return [one.matrix_shape for one in self.layers]

    @property
    def widths(self) -> tuple[int, ...]:
        """Inputs of the first layer, units of every layer, outputs."""
        return (self.shapes[0][1], *(units for units, _ in self.shapes), self.family.n_outputs)

    @property
    def unit_widths(self) -> tuple[int, ...]:
        """Inputs of the first layer, then units of every layer."""
        return self.widths[:-1]

    @property
    def n_layers(self) -> int:
        """Number of arrays of parameters."""
        return len(self.layers)

    @property
    def n_params(self) -> int:
        """Length of the parameter vector, P."""
        return sum(one.size for one in self.layers)

    def layer_slices(self) -> list[slice]:
        """Return the slice of the parameter vector that each layer occupies."""
        ends = itertools.accumulate(one.size for one in self.layers)
        return [slice(end - one.size, end) for end, one in zip(ends, self.layers, strict=True)]

    def record(self) -> dict[str, Any]:
        """Return what the provenance says of the structure."""
        return {"layers": [one.name for one in self.layers]}

    def as_dtype(self, dtype: np.dtype[np.floating]) -> ExternalNetwork:
        """Return the network with results in another precision, float32 or float64."""
        if dtype == self.dtype:
            return self
        found = object.__new__(ExternalNetwork)
        found.__dict__.update(self.__dict__, dtype=networks.precision(dtype))
        return found

    def in_double(self) -> ExternalNetwork:
        """Return the network with results in float64."""
        return self.as_dtype(np.dtype(np.float64))

    def beside(self, other: Any) -> ExternalNetwork:
        """Return the network: it is evaluated where its function does."""
        return self

    def forward(self, x: Array) -> ExternalForward:
        """Evaluate the network at a block of inputs."""
        h, parts, curvatures = checks.evaluated(self.evaluate(x), len(self.layers))
        n, T = len(x), self.family.n_outputs
        natural = checks.block("h", h, (n, T), self.dtype)
        inputs, jacobians = [], []
        for layer, part in zip(self.layers, parts, strict=True):
            units, n_inputs = layer.matrix_shape
            if layer.factored:
                G, h_l = checks.factors(layer.name, part)
                inputs.append(checks.block(f"inputs of {layer.name}", h_l, (n, n_inputs), self.dtype))
            else:
                G = checks.flat(layer.name, part, (n, T), layer.shape)
                inputs.append(np.ones((n, 1), self.dtype))
            jacobians.append(checks.block(layer.name, G, (n, T, units), self.dtype))
        return ExternalForward(natural, inputs, jacobians, self._curvatures(curvatures, n, T))

    def _curvatures(self, given: Any, n: int, T: int) -> list[Array | None] | None:
        if given is None:
            return None
        found: list[Array | None] = []
        for layer, one in zip(self.layers, checks.curvatures(given, len(self.layers)), strict=True):
            if one is not None and not layer.factored:
                one = checks.flat(layer.name, one, (n, T), layer.shape)
            found.append(None if one is None else checks.block(layer.name, one, (n, T, layer.matrix_shape[0]), self.dtype))
        return found

    def _repr_html_(self) -> str:
        return external_table(self)

    def __repr__(self) -> str:
        return f"ExternalNetwork({len(self.layers)} layers, family={self.family!r}, {self.n_params} parameters)"
