"""Conversion of trees of parameters of Flax (Linen, NNX), Equinox and Haiku, and of results back to such trees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fisherstats.core.validation import interop as checks
from fisherstats.interop._results import by_name
from fisherstats.interop._trees import chain_of_tree, replaced
from fisherstats.models.activations import Activation
from fisherstats.models.families import Family
from fisherstats.models.network import MLP

__all__ = ["from_flax", "to_flax"]


def from_flax(
    params: Any, *, activation: str | Activation | Sequence[str | Activation], family: Family, layers: Sequence[str] | None = None
) -> MLP:
    """Convert a tree of parameters of dense layers to the equivalent exponential-family network.

    Parameters
    ----------
    params : tree of arrays
        ``{"params": {"Dense_0": {"kernel": ..., "bias": ...}, ...}}`` of Flax Linen, a module or state of NNX, a module of
        Equinox such as `equinox.nn.MLP`, or ``{"linear": {"w": ..., "b": ...}}`` of Haiku. Layers without bias are read as
        such. The arrays are copied; float32 is kept.
    activation : str, Activation or sequence of them
        The activation of all hidden layers, or one per hidden layer: a tree does not hold them. The gelu of `jax.nn` is
        ``"gelu_tanh"`` unless it is called with ``approximate=False``.
    family : Family
        The family whose natural parameters the last layer gives.
    layers : sequence of str, optional
        Names of the layers in order. By default the order of the numbers in their names (``Dense_2`` before ``Dense_10``), or the
        only order in which their shapes chain.

    Returns
    -------
    MLP
        The network.

    Raises
    ------
    TypeError
        If `params` is no tree of arrays.
    ValueError
        If it holds other parameters than those of dense layers, numbers that are not finite, or layers whose order is not known.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> tree = {"params": {"Dense_0": {"kernel": np.ones((3, 4)), "bias": np.zeros(4)}}}
    >>> tree["params"]["Dense_1"] = {"kernel": np.ones((4, 2)), "bias": np.zeros(2)}
    >>> fs.interop.from_flax(tree, activation="relu", family=fs.families.Categorical(2))
    MLP(3-4-2, activation=relu, family=Categorical(n_classes=2, minimal=False), 26 parameters)
    """
    checks.family_instance(family, Family)
    return chain_of_tree(params, layers).network(family, activation)


def to_flax(result: Any, params: Any, what: str = "values", *, layers: Sequence[str] | None = None) -> Any:
    """Return a result as a tree of the same structure as the parameters of the network.

    Parameters
    ----------
    result : DataArray over the parameters, array_like or ParameterResult
        One number for each parameter of the network that was read from the tree.
    params : tree of arrays
        The tree that the network was read from.
    what : {"values", "standard_errors"}, default "values"
        The numbers of the result, or its standard errors.
    layers : sequence of str, optional
        As it was given to `from_flax`.

    Returns
    -------
    tree of arrays
        As `params`, in its precision; leaves that are no parameters (activations, random keys) are kept.

    Raises
    ------
    TypeError, ValueError
        If the result is not of this network's parameters, or has no standard error where one is asked for.

    Examples
    --------
    >>> import numpy as np
    >>> import fisherstats as fs
    >>> tree = {"Dense_0": {"kernel": np.ones((3, 2)), "bias": np.zeros(2)}}
    >>> model = fs.interop.from_flax(tree, activation=[], family=fs.families.Categorical(2))
    >>> exact = fs.fisher_information(model, np.ones((5, 3)))
    >>> fs.interop.to_flax(exact, tree)["Dense_0"]["bias"]
    array([0.25, 0.25])
    """
    return replaced(params, by_name(result, chain_of_tree(params, layers), what))
