"""Checks of the arguments of training, and the errors that stop it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.errors import AssumptionError, TrainingDiverged
from fisherstats.core.validation.arguments import array_like, positive_integer, real_dtype, real_number, shown
from fisherstats.core.validation.clients import named

__all__ = [
    "callback_coordinates",
    "callback_name",
    "callback_result",
    "callbacks",
    "decay",
    "diverged",
    "draws_of",
    "function_of_model",
    "grid",
    "in_memory",
    "indefinite",
    "limits",
    "nesterov_momentum",
    "normalizable",
    "normalization_object",
    "optimizer_object",
    "penalties",
    "penalties_of",
    "per_layer",
    "prefix_text",
    "strengths",
    "two_decays",
    "unsolved",
    "validation_pair",
    "weight_of_latest",
    "within",
]


def decay(name: str, value: Any) -> float:
    """Return `value` as a float in [0, 1)."""
    number = real_number(value)
    if not 0 <= number < 1:
        raise ValueError(f"`{name}` must be a number of at least 0 and below 1, got {shown(value)}.")
    return number


def two_decays(name: str, value: Any) -> tuple[float, float]:
    """Return two floats in [0, 1)."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise ValueError(f"`{name}` must be two numbers of at least 0 and below 1, got {shown(value)}.")
    return decay(f"{name}[0]", value[0]), decay(f"{name}[1]", value[1])


def nesterov_momentum(nesterov: bool, momentum: float) -> None:
    """Require momentum where Nesterov momentum is requested."""
    if nesterov and not momentum:
        raise ValueError("`nesterov` must be False without momentum, got True with momentum=0.0; set momentum=0.9, say.")


def strengths(name: str, value: Any) -> float | tuple[float, ...]:
    """Return one finite number of at least 0, or a tuple of them, one per layer."""
    return _numbers(name, value, lambda number: 0 <= number < math.inf, "a finite number of at least 0")


def limits(name: str, value: Any) -> float | tuple[float, ...]:
    """Return one number above 0, or a tuple of them, one per layer; inf is no limit."""
    return _numbers(name, value, lambda number: number > 0, "a number above 0")


def _numbers(name: str, value: Any, accepted: Callable[[float], bool], required: str) -> float | tuple[float, ...]:
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) and np.ndim(value) == 1:
        if len(value) == 0:
            raise ValueError(f"`{name}` must be {required}, or one per layer, got an empty list.")
        return tuple(_number(f"{name}[{layer}]", one, accepted, required) for layer, one in enumerate(value))
    return _number(name, value, accepted, f"{required}, or one per layer")


def _number(name: str, value: Any, accepted: Callable[[float], bool], required: str) -> float:
    number = real_number(value)
    if not accepted(number):
        raise ValueError(f"`{name}` must be {required}, got {shown(value)}.")
    return number


def per_layer(name: str, value: Any, n_layers: int) -> list[float]:
    """Return one number for each layer of a network."""
    if not isinstance(value, tuple):
        return [value] * n_layers
    if len(value) != n_layers:
        raise ValueError(f"`{name}` must be one number, or one for each of the {n_layers} layers, got {len(value)}.")
    return list(value)


def optimizer_object(optimizer: Any, kind: type) -> None:
    """Require an optimiser."""
    if not isinstance(optimizer, kind):
        called = "; call it, as in fisherstats.training.Adam()" if isinstance(optimizer, type) else ""
        raise TypeError(
            "`optimizer` must be an optimiser such as fisherstats.training.Adam() or fisherstats.training.SGD(0.1), got "
            f"{shown(optimizer)}{called}."
        )


def penalties(penalty: Any, kind: type) -> list[Any]:
    """Return no penalty, one or several as a list."""
    given = [] if penalty is None else list(penalty) if isinstance(penalty, list | tuple) else [penalty]
    for one in given:
        if not isinstance(one, kind):
            raise TypeError(
                "`penalty` must be None, a penalty such as fisherstats.training.Frobenius(1e-4), or a list of penalties, got "
                f"{shown(one)}."
            )
    return given


def weight_of_latest(name: str, value: Any) -> float:
    """Return `value` as a float in (0, 1]."""
    return _number(name, value, lambda number: 0 < number <= 1, "a number above 0 and at most 1")


def normalization_object(normalization: Any, kind: type) -> None:
    """Require settings of a normalisation, or None."""
    if normalization is not None and not isinstance(normalization, kind):
        called = "; call it" if isinstance(normalization, type) else ""
        raise TypeError(
            f"`normalization` must be None or fisherstats.training.BatchNormalization(), got {shown(normalization)}{called}."
        )


def normalizable(bias: Sequence[bool], n_inputs: int, batch_size: int, constraints: Sequence[str]) -> None:
    """Require a hidden layer, biases of all of them, two inputs in every minibatch, and no constraint on the kernels."""
    if len(bias) < 2:
        raise ValueError("`normalization` must be None for a network without hidden layers, as it normalises these only.")
    if not all(bias[:-1]):
        raise ValueError(
            "`model` must have a bias in every hidden layer with `normalization`, as the means of minibatches are folded into "
            f"it, got a network with `bias={list(bias)}`; give layer {list(bias).index(False)} a bias, which may be 0."
        )
    smallest = n_inputs % batch_size or batch_size
    if smallest == 1:
        raise ValueError(
            "`batch_size` must leave two inputs or more in every minibatch with `normalization`, as one has no variance, got "
            f"{batch_size} for {n_inputs} inputs; use another size, or leave an input out."
        )
    if constraints:
        raise ValueError(
            f"`penalty` must not constrain the kernels with `normalization`, got {constraints[0]}: folding rescales them, and a "
            "constraint would not be preserved; use a penalty such as fisherstats.training.Frobenius(1e-4)."
        )


def grid(name: str, value: Any) -> NDArray[np.float64]:
    """Return different numbers of at least 0, in the given order; inf is one of them."""
    array = array_like(name, value)
    real_dtype(name, array.dtype)
    numbers = array.astype(np.float64)
    if numbers.ndim != 1 or not numbers.size:
        raise ValueError(f"`{name}` must be a list of at least one number, got shape {numbers.shape}; use [0.1] for one.")
    refused = ~(numbers >= 0)
    if refused.any():
        position = int(np.argmax(refused))
        raise ValueError(f"`{name}` must be at least 0, got {numbers[position]} at index {position}.")
    if np.unique(numbers).size < numbers.size:
        raise ValueError(f"`{name}` must not repeat a number, got {shown(value)}.")
    return numbers


def penalties_of(factory: Any, numbers: NDArray[np.float64], kind: type) -> list[Any]:
    """Return the result of a function for each strength, each a penalty or a list of them."""
    if isinstance(factory, kind) or not callable(factory):
        raise TypeError(
            "`penalty` must return the penalty for a strength, such as the class fisherstats.training.Frobenius or "
            f"`lambda strength: ...`, got {shown(factory)}."
        )
    made = [factory(strength) for strength in numbers.tolist()]
    for strength, one in zip(numbers.tolist(), made, strict=True):
        several = one if isinstance(one, list | tuple) and one else [one]
        if not all(isinstance(each, kind) for each in several):
            raise TypeError(f"`penalty` must return a penalty or a list of them for the strength {strength}, got {shown(one)}.")
    return made


def callbacks(value: Any) -> list[Callable[..., Any]]:
    """Return the callbacks as a list of functions."""
    if callable(value) or not isinstance(value, Iterable) or isinstance(value, str | Mapping):
        raise TypeError(f"`callbacks` must be a list of functions of (epoch, model), got {shown(value)}; put one into a list.")
    given = list(value)
    for position, one in enumerate(given):
        if not callable(one):
            raise TypeError(f"`callbacks[{position}]` must be a function of (epoch, model), got {shown(one)}.")
    return given


def function_of_model(value: Any) -> None:
    """Require a function."""
    if not callable(value):
        raise TypeError(f"`function` must be a function of a model, got {shown(value)}.")


def prefix_text(value: Any) -> None:
    """Require text."""
    if not isinstance(value, str):
        raise TypeError(f"`prefix` must be text, got {shown(value)}.")


def callback_coordinates(position: int, why: str) -> NoReturn:
    """Refuse coordinates that contradict those of the history."""
    raise ValueError(
        f"`callbacks[{position}]` must return coordinates consistent with the others recorded, got a conflict ({why}); "
        "rename them, or leave them out."
    )


def callback_result(what: str, value: Any) -> NoReturn:
    """Refuse a return value of a callback that a history cannot hold."""
    raise TypeError(
        f"`{what}` must return a named DataArray, a Dataset, a dict of numbers and DataArrays, or None, got {shown(value)}."
    )


def callback_name(position: int, name: str, why: str) -> NoReturn:
    """Refuse a name that the history cannot hold a second time."""
    raise ValueError(
        f"`callbacks[{position}]` must return unique names, got {name!r}, which {why}; rename it, or use "
        "fisherstats.training.record(function, prefix=...)."
    )


def validation_pair(value: Any) -> tuple[Any, Any]:
    """Return inputs and labels to validate with."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise TypeError(f"`validation` must be a pair (x, y) of inputs and labels, got {shown(value)}.")
    return value[0], value[1]


@contextlib.contextmanager
def within(argument: str) -> Iterator[None]:
    """Prefix messages, which call its inputs `x` and its labels `y`, with the name of the argument."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise named(f"`{argument}`", error) from error


def in_memory(x: Any) -> None:
    """Refuse a lazy x: minibatches read single rows in random order."""
    if hasattr(x, "__dask_graph__"):
        raise TypeError(
            f"`x` must be an array in memory to train on, got {shown(x)}; load it with `x.compute()`, or pass a numpy memory map."
        )


def diverged(epoch: int, step: int, what: str) -> NoReturn:
    """Stop a training whose numbers have left the floating-point range."""
    raise TrainingDiverged(
        f"Training stopped in epoch {epoch}, step {step}: {what}. Lower the `learning_rate`, or scale the inputs to order one."
    )


def draws_of(information: str, n_draws: Any) -> int | None:
    """Return the number of labels per input where the information is estimated from drawn labels; refuse it elsewhere."""
    drawn = information in ("score", "hessian")
    if drawn and n_draws is None:
        raise ValueError(f"`n_draws` must be given with information={information!r}, got None; n_draws=1 is one label per input.")
    if not drawn and n_draws is not None:
        raise ValueError(
            f"`n_draws` goes with information='score' or 'hessian' only, got n_draws={shown(n_draws)} with "
            f"information={information!r}; leave `n_draws` out."
        )
    return None if n_draws is None else positive_integer("n_draws", n_draws)


def indefinite(what: str, damping: float, step: int, curvature: float) -> NoReturn:
    """Refuse a damped information that is not positive definite; `curvature` is at least an eigenvalue without the damping."""
    raise AssumptionError(
        f"`damping` must make the {what} of every minibatch positive definite, got {damping:g} where its smallest eigenvalue is "
        f"{curvature:.2g} or less, in step {step}; raise `damping`, or use larger batches, more draws or information='exact'."
    )


def unsolved(what: str, step: int, tolerance: float) -> NoReturn:
    """Stop where conjugate gradients do not converge."""
    raise AssumptionError(
        f"`tolerance` must be within reach of conjugate gradients, got {tolerance:g} with the {what} of step {step}; raise "
        "`tolerance` or `damping`, or use solver='dense'."
    )
