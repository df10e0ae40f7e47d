"""Conversion of PyTorch modules to networks, and of batches of pairs to batches of rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.validation import interop as checks
from fisherstats.core.validation import interop_torch as torch_checks
from fisherstats.core.validation.arguments import optional_module
from fisherstats.interop._families import Loss, family_of
from fisherstats.interop._torch_reading import head_of, host, read
from fisherstats.interop.derivatives import external_from_torch
from fisherstats.models.external import ExternalNetwork
from fisherstats.models.families import Family
from fisherstats.models.network import MLP

__all__ = ["Features", "TorchBatches", "from_torch", "pair", "torch_batches"]

#: losses of torch.nn -> what they take (a key of `_families._LOSSES`)
_LOSSES = {
    "CrossEntropyLoss": "logits of classes",
    "NLLLoss": "log-probabilities of classes",
    "BCEWithLogitsLoss": "logits",
    "BCELoss": "probabilities",
    "MSELoss": "means of unit variance",
    "GaussianNLLLoss": "means with a variance of its own argument",
    "PoissonNLLLoss": "logarithms of means",
}


def from_torch(
    module: Any, *, family: Family | None = None, loss: Any = None, head: str | None = None, example: Any = None
) -> MLP | ExternalNetwork | tuple[Features, MLP]:
    r"""Convert a PyTorch module to the equivalent exponential-family network.

    Read are Linear with and without bias, Flatten, Identity, every Dropout, BatchNorm1d, the activations that this package has,
    and a softmax, log-softmax, sigmoid or exponential at the end, in any nesting of Sequential or called by a forward of one's
    own, which is traced by `torch.fx`. BatchNorm1d at its running statistics is folded: before an activation into the Linear
    before it, after an activation (or at the inputs) into the Linear after it.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode (``module.eval()``) where that matters. Its weights are copied; float32 is kept. It is not changed.
    family : Family, optional
        The family whose natural parameters the last Linear gives. Needed where neither `loss` nor a softmax at the end says it.
    loss : torch.nn loss, optional
        The loss it was trained with: CrossEntropyLoss or NLLLoss (`Categorical`), BCEWithLogitsLoss or BCELoss (`Bernoulli`),
        MSELoss (`Gaussian` of unit variance, or the given one), PoissonNLLLoss (`Poisson`), GaussianNLLLoss (the given
        `Gaussian`).
    head : str, optional
        Name of the part of a larger network that is read, such as ``"classifier"``.
    example : array or tensor, optional
        A few inputs. With them and a `family`, a module that is no perceptron is read by its derivatives, as
        `external_from_torch` does.

    Returns
    -------
    MLP, ExternalNetwork, or (Features, MLP) with `head`
        The network; with a head also the function that makes its inputs from those of the module.

    Raises
    ------
    TypeError
        If `module` is no torch.nn.Module.
    ValueError
        If a step is no part of a perceptron (its name and place are given), the module is in training mode where it matters,
        parameters are shared, not finite or not float32 or float64, the family is not said, or family, loss and end contradict.
    MissingExtra
        If PyTorch is not installed.

    Notes
    -----
    torch computes Softplus as the identity above its threshold, which differs from the exact function by 2e-9 at most.
    Results go back to the names of the module with `to_torch`.

    Examples
    --------
    >>> import torch
    >>> from fisherstats.interop import from_torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    >>> from_torch(net, loss=torch.nn.CrossEntropyLoss())
    MLP(3-4-2, activation=relu, family=Categorical(n_classes=2, minimal=False), 26 parameters)
    """
    torch_checks.module_object(module)
    if head is None:
        try:
            chain, features = read(module), None
        except ValueError:
            if example is None or family is None:
                raise
            return external_from_torch(module, family, example)
    else:
        part = head_of(module, head)
        chain = read(part, f"{head}.")
        features = Features(module, head, chain.flattens)
    chosen = family_of(chain.n_outputs, None if chain.end is None else chain.end.function, _known(loss), family)
    network = chain.network(chosen)
    return network if features is None else (features, network)


def _known(loss: Any) -> Loss | None:
    """Return a loss of torch.nn as one of this package."""
    if loss is None:
        return None
    name = loss.__name__ if isinstance(loss, type) else type(loss).__name__
    module = loss.__module__ if isinstance(loss, type) else type(loss).__module__
    if isinstance(loss, type) or module != "torch.nn.modules.loss" or name not in _LOSSES:
        checks.unknown_loss(loss, [f"an instance of torch.nn.{one}" for one in _LOSSES])
    for option, neutral in (("weight", None), ("pos_weight", None), ("label_smoothing", 0.0), ("log_input", True)):
        value = getattr(loss, option, neutral)
        if value is not neutral and value != neutral:
            checks.no_likelihood(f"torch.nn.{name}", option, value)
    return Loss(f"torch.nn.{name}", _LOSSES[name])


class Features:
    """The function that makes the inputs of a head: it runs the module, and returns what arrives at the head.

    Parameters
    ----------
    module : torch.nn.Module
        The whole network, in evaluation mode.
    head : str
        Name of the part of it.
    flattens : bool
        Whether the head flattens its inputs.
    """

    def __init__(self, module: Any, head: str, flattens: bool) -> None:
        self._module = module
        self._head = head
        self._flattens = flattens

    def __call__(self, x: Any) -> NDArray[Any]:
        """Return the inputs of the head, (n, features), for a batch of inputs of the module.

        Parameters
        ----------
        x : array or tensor
            A batch of inputs, of any shape that the module takes; numbers with a fraction are converted to its precision.

        Returns
        -------
        ndarray, shape (n, features)
            What arrives at the head, without a gradient.
        """
        torch = optional_module("torch", extra="interop")
        for name, part in self._module.named_modules():
            if part.training and type(part).__name__.startswith(("BatchNorm", "InstanceNorm", "RReLU")):
                torch_checks.in_evaluation(f"`{name}`", type(part).__name__)
            if part.training and "Dropout" in type(part).__name__ and getattr(part, "p", 0) > 0:
                torch_checks.in_evaluation(f"`{name}`", type(part).__name__)
        arrived: list[Any] = []
        left: list[Any] = []
        part = self._module.get_submodule(self._head)
        hooks = [
            part.register_forward_pre_hook(lambda _, given: arrived.append(given[0])),
            part.register_forward_hook(lambda _, given, result: left.append(result)),
        ]
        try:
            with torch.no_grad():
                output = self._module(self._tensor(torch, x))
        finally:
            for hook in hooks:
                hook.remove()
        torch_checks.head_ends(self._head, len(arrived), len(left) == 1 and _holds(torch, output, left[0]))
        made = host(arrived[0])
        return made.reshape(len(made), -1) if self._flattens else made

    def _tensor(self, torch: Any, x: Any) -> Any:
        first = next(self._module.parameters())
        tensor = torch.as_tensor(x, device=first.device)
        return tensor.to(first.dtype) if tensor.is_floating_point() else tensor


def _holds(torch: Any, output: Any, wanted: Any) -> bool:
    """Return whether an output is a tensor, or holds it."""
    if isinstance(output, torch.Tensor):
        return output.shape == wanted.shape and bool(torch.equal(output, wanted))
    values = output.values() if hasattr(output, "values") else output if isinstance(output, tuple | list) else []
    return any(_holds(torch, one, wanted) for one in values)


class TorchBatches:
    """Batches of rows made from a loader of pairs (x, y), read again in every pass.

    Parameters
    ----------
    batches : iterable
        Of pairs or of rows.
    features : callable, optional
        Applied to the x of every batch.
    """

    def __init__(self, batches: Iterable[Any], features: Any = None) -> None:
        self._batches = batches
        self._features = features

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for number, batch in enumerate(self._batches):
            x = pair(batch, number)[0]
            rows = x if self._features is None else self._features(x)
            array = host(rows) if hasattr(rows, "detach") else np.asarray(rows)
            yield array.reshape(len(array), -1) if array.ndim > 2 else array

    @property
    def labels(self) -> NDArray[Any]:
        """The labels of all batches in one array, collected by a pass over them."""
        found = []
        for number, batch in enumerate(self._batches):
            y = pair(batch, number)[1]
            if y is None:
                torch_checks.pairs(number, batch)
            found.append(host(y) if hasattr(y, "detach") else np.asarray(y))
        return np.concatenate(found)


def pair(batch: Any, number: int) -> tuple[Any, Any]:
    """Return the x and y of a batch, None for a y that is not there."""
    if isinstance(batch, tuple | list) and len(batch) in (1, 2):
        return batch[0], batch[1] if len(batch) == 2 else None
    if not hasattr(batch, "shape"):
        torch_checks.pairs(number, batch)
    return batch, None


def torch_batches(batches: Any, *, features: Features | None = None) -> TorchBatches:
    """Read a DataLoader of pairs (x, y) as batches of rows, which every function of this package takes as its `x`.

    Parameters
    ----------
    batches : torch.utils.data.DataLoader or iterable
        Of pairs or of rows, in the same order in every pass. Arrays with more dimensions are flattened to rows.
    features : Features, optional
        As `from_torch` returns it with a head; applied to every batch.

    Returns
    -------
    TorchBatches
        Iterable of arrays (n, features); its attribute `labels` collects the labels, for the argument `y`.

    Raises
    ------
    TypeError
        If a batch is neither rows nor a pair.
    ValueError
        If the loader shuffles.

    Examples
    --------
    >>> import torch
    >>> from fisherstats.interop import torch_batches
    >>> data = torch.utils.data.TensorDataset(torch.zeros(5, 2, 2), torch.arange(5))
    >>> batches = torch_batches(torch.utils.data.DataLoader(data, batch_size=3))
    >>> [one.shape for one in batches], batches.labels
    ([(3, 4), (2, 4)], array([0, 1, 2, 3, 4]))
    """
    sampler = type(getattr(batches, "sampler", None)).__name__
    if sampler in ("RandomSampler", "WeightedRandomSampler", "SubsetRandomSampler"):
        torch_checks.in_order(f"a {sampler}")
    return TorchBatches(batches, features)
