"""Checks of modules and results that come from PyTorch or go back to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from fisherstats.core.validation.arguments import shown

__all__ = [
    "any_batch",
    "batch_normalizes",
    "head_ends",
    "head_found",
    "in_evaluation",
    "in_order",
    "labels_given",
    "module_object",
    "no_hooks",
    "not_uninitialised",
    "one_precision",
    "outputs_of_family",
    "pairs",
    "seed_or_data",
    "untraceable",
]


_WRAPPERS = {"OptimizedModule": "_orig_mod", "DataParallel": "module", "DistributedDataParallel": "module"}
"""Modules of torch around another one, and the attribute that is the other one."""


def module_object(module: Any) -> None:
    """Require an instance of torch.nn.Module, recognised by the modules of its classes."""
    if isinstance(module, type):
        raise TypeError(f"`module` must be a torch.nn.Module, got the class {module.__name__}; pass an instance of it.")
    wrapper = next((one.__name__ for one in type(module).__mro__ if one.__name__ in _WRAPPERS), None)
    if wrapper is not None:
        raise TypeError(
            f"`module` must be the module itself, got {wrapper} around it; give the one inside, `module.{_WRAPPERS[wrapper]}`."
        )
    if any(str(one.__module__).partition(".")[0] == "keras" for one in type(module).__mro__):
        raise TypeError(
            f"`module` must be a torch.nn.Module of one's own layers, got the Keras model {type(module).__name__}; read it with "
            "`fisherstats.interop.from_keras`, and write its results with `fisherstats.interop.to_safetensors`."
        )
    names = [f"{one.__module__}.{one.__name__}" for one in type(module).__mro__]
    if "torch.nn.modules.module.Module" not in names:
        advice = ""
        if hasattr(module, "keys"):
            advice = (
                "; load the state into its module with `module.load_state_dict(state)`, or read a file of it with "
                "`fisherstats.interop.from_safetensors`"
            )
        raise TypeError(f"`module` must be a torch.nn.Module, got {shown(module)}{advice}.")


def in_evaluation(place: str, kind: str) -> None:
    """Refuse a layer that acts differently in training."""
    raise ValueError(
        f"`module` must be in evaluation mode, got {kind} at {place} in training mode, which makes its outputs random or "
        "dependent on "
        "the batch; call `module.eval()` first."
    )


def batch_normalizes(place: str) -> NoReturn:
    """Refuse a batch normalisation without running statistics."""
    raise ValueError(
        f"`module` must normalise by running statistics, got a BatchNorm at {place} with track_running_stats=False, whose "
        "outputs "
        "depend on the batch."
    )


def no_hooks(place: str, kind: str) -> None:
    """Refuse a layer with forward hooks."""
    raise ValueError(
        f"`module` must have no forward hooks on its layers, which may change their outputs, got some on {kind} at {place}; "
        "remove "
        "them for the reading, and register them again after it."
    )


def not_uninitialised(place: str, kind: str) -> NoReturn:
    """Refuse a layer whose weights do not exist."""
    raise ValueError(
        f"`module` must have numbers for weights, got {kind} at {place} without any (lazy, on the meta device, or computed by a "
        "reparametrisation); run it once, or remove the reparametrisation first."
    )


def one_precision(found: Mapping[str, str], allowed: Mapping[str, Any]) -> str:
    """Return the dtype that all parameters have."""
    if not found:
        raise ValueError("the network must have parameters, got none.")
    first = next(iter(found.values()))
    for name, dtype in found.items():
        if dtype not in allowed or dtype != first:
            raise ValueError(
                f"the parameters must be all float32 or all float64, got {dtype} for {name!r}; convert them, with "
                "`module.double()` for a torch module."
            )
    return first


def untraceable(kind: str, error: Exception) -> NoReturn:
    """Refuse a module whose forward cannot be written as one chain of calls."""
    raise ValueError(
        f"`module` must have a forward that torch.fx can trace, got {kind}, where it fails ({type(error).__name__}: "
        f"{shown(str(error))}); read the part that is a perceptron with `head=...`, or build the network with MLP.from_arrays."
    ) from error


def head_found(head: Any, names: Sequence[str]) -> NoReturn:
    """Refuse a name that no part of the module has."""
    listed = ", ".join(map(repr, names)) or "none"
    raise ValueError(f"`head` must be the name of a part of the module ({listed}), got {shown(head)}.")


def head_ends(head: str, calls: int, alone: bool) -> None:
    """Require the head to be called once per batch, and to give the output of the whole network."""
    if calls != 1:
        raise ValueError(f"`head` must be called once in a pass through the module, got {calls} calls of {head!r}.")
    if not alone:
        raise ValueError(
            f"`head` must give the output of the module, got {head!r}, after which the module changes it; choose the last part "
            "of it."
        )


def in_order(sampler: str) -> NoReturn:
    """Refuse batches that are others in every pass."""
    raise ValueError(
        f"`batches` must give the same rows in every pass, got a loader with {sampler}; make one with shuffle=False."
    )


def pairs(number: int, got: Any) -> NoReturn:
    """Require batches of rows and labels."""
    kind = f"{type(got).__name__} of {len(got)}" if isinstance(got, tuple | list | dict) else type(got).__name__
    raise TypeError(f"`batches` must give pairs (x, y) or rows, got a {kind} in batch {number}; map it to one of them.")


def outputs_of_family(shape: tuple[int, ...], n: int, n_outputs: int, family: str) -> None:
    """Require natural parameters of the family from a module."""
    if shape != (n, n_outputs):
        raise ValueError(
            f"`module` must give natural parameters of {family}, shape ({n}, {n_outputs}) for {n} examples, got shape {shape}."
        )


def seed_or_data(rng: Any, n_draws: int, of_data: bool) -> None:
    """Require a seed for labels that are drawn, and none, nor several draws, for those of the data."""
    if not of_data and rng is None:
        raise ValueError("`rng` must be given with labels='model', from which they are drawn, got None.")
    if of_data and (rng is not None or n_draws != 1):
        raise ValueError(
            f"`rng` and `n_draws` go with labels='model'; with labels='data' each example has the one label of the loader, got "
            f"n_draws={n_draws}."
        )


def labels_given(labels: Any) -> None:
    """Require pairs in the loader where labels of the data are asked for."""
    if labels is None:
        raise ValueError("`batches` must be pairs (x, y) with labels='data', got a batch without labels.")


def any_batch(n_inputs: int) -> None:
    """Require at least one example."""
    if n_inputs == 0:
        raise ValueError("`batches` must hold at least one example, got none.")
