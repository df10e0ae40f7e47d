"""Results and weights back to PyTorch, under the names of the module's state."""

from __future__ import annotations

from typing import Any

from fisherstats.core.validation import interop_torch as torch_checks
from fisherstats.core.validation.arguments import optional_module
from fisherstats.interop._owners import chain_of
from fisherstats.interop._results import by_name

__all__ = ["to_torch"]


def to_torch(result: Any, module: Any, what: str = "values", *, head: str | None = None) -> dict[str, Any]:
    """Return a result as tensors under the names and in the shapes of a module's parameters.

    Parameters
    ----------
    result : DataArray over the parameters, array_like or ParameterResult
        One number for each parameter of the network that was read from the module, in its order or labelled: an exact diagonal,
        an estimate, an empirical Fisher. Where BatchNorm1d was folded, what `unfolded_information` returns, since the diagonal
        of the folded network does not determine the information of gamma.
    module : torch.nn.Module
        The module that the network was read from.
    what : {"values", "standard_errors"}, default "values"
        The numbers of the result, or its standard errors.
    head : str, optional
        The part of the module that was read.

    Returns
    -------
    dict of str to torch.Tensor
        With keys of ``module.state_dict()``, on the device and in the precision of the parameters.

    Raises
    ------
    TypeError, ValueError
        If the result is not of this network's parameters, or has no standard error where one is asked for, or the module
        normalises and the result is of the folded network.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> import fisherstats as fs
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    >>> model = fs.interop.from_torch(net, loss=torch.nn.CrossEntropyLoss())
    >>> exact = fs.fisher_information(model, np.ones((5, 3), dtype=np.float32))
    >>> {name: tuple(one.shape) for name, one in fs.interop.to_torch(exact, net).items()}
    {'0.weight': (4, 3), '0.bias': (4,), '2.weight': (2, 4), '2.bias': (2,)}
    """
    torch_checks.module_object(module)
    torch = optional_module("torch", extra="interop")
    parameters = dict(module.named_parameters())
    found = by_name(result, chain_of(module, head), what)
    return {
        name: torch.as_tensor(one, dtype=parameters[name].dtype, device=parameters[name].device) for name, one in found.items()
    }
