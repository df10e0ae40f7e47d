"""Checks of external networks: their layers, and what their function returns for a block of inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fisherstats.core.arrays import on_host
from fisherstats.core.validation.arguments import shown

__all__ = [
    "block",
    "curvatures",
    "evaluate_callable",
    "evaluated",
    "expected_only",
    "factors",
    "first_order_only",
    "flat",
    "layer",
    "layers",
    "perceptron_only",
]


def layer(name: Any, shape: Any, factored: Any) -> None:
    """Require a name, a shape of positive integers, and for factors a matrix."""
    if not isinstance(name, str) or not name:
        raise TypeError(f"`name` must be the name of an array of parameters, got {shown(name)}.")
    sizes = isinstance(shape, tuple) and all(isinstance(size, int | np.integer) and size > 0 for size in shape)
    if not sizes:
        raise ValueError(f"`shape` of layer {name!r} must be a tuple of positive integers, got {shown(shape)}.")
    if factored and len(shape) != 2:
        raise ValueError(
            f"`shape` of the factored layer {name!r} must be (units, inputs), got {shape}; leave out `factored=True` and return "
            "its Jacobian."
        )


def evaluate_callable(evaluate: Any) -> None:
    """Require a function."""
    if not callable(evaluate):
        raise TypeError(f"`evaluate` must be a function of a block of inputs that returns (h, parts), got {shown(evaluate)}.")


def layers(given: Any, layer_type: type) -> tuple[Any, ...]:
    """Return the layers of a network, if there is one at least and their names differ."""
    found = tuple(given) if isinstance(given, Sequence) else ()
    if not found or not all(isinstance(one, layer_type) for one in found):
        raise TypeError(f"`layers` must be a sequence of fisherstats.Layer, one at least, got {shown(given)}.")
    names = [one.name for one in found]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(
            f"`layers` must have different names, got {twice[0]!r} twice; a tied weight is one layer with one Jacobian."
        )
    return found


def evaluated(found: Any, n_layers: int) -> tuple[Any, Sequence[Any], Any]:
    """Return h, the parts and the second derivatives (or None) that a function returned."""
    if not isinstance(found, tuple | list) or len(found) not in (2, 3):
        raise TypeError(f"`evaluate` must return (h, parts) or (h, parts, curvatures), got {shown(found)}.")
    h, parts, *rest = found
    if not isinstance(parts, tuple | list) or len(parts) != n_layers:
        got = f"{len(parts)} parts" if isinstance(parts, tuple | list) else shown(parts)
        raise ValueError(f"`evaluate` must return one part for each of the {n_layers} layers, got {got}.")
    return h, parts, rest[0] if rest else None


def curvatures(given: Any, n_layers: int) -> Sequence[Any]:
    """Return the second derivatives of every layer."""
    if not isinstance(given, tuple | list) or len(given) != n_layers:
        raise ValueError(
            f"`evaluate` must return second derivatives (or None) for each of the {n_layers} layers, got {shown(given)}."
        )
    return given


def factors(name: str, part: Any) -> tuple[Any, Any]:
    """Return the two factors of a layer."""
    if not isinstance(part, tuple | list) or len(part) != 2:
        raise ValueError(
            f"`evaluate` must return (G, inputs) for the factored layer {name!r}, got {shown(part)}; for a Jacobian leave out "
            "`factored=True` in its Layer."
        )
    return part[0], part[1]


def _array(what: str, given: Any) -> NDArray[Any]:
    """Return an array of any library on the host."""
    if hasattr(given, "detach"):  # torch refuses arrays that record gradients
        given = given.detach()
    try:
        found = (
            given
            if isinstance(given, np.ndarray)
            else np.from_dlpack(given)
            if hasattr(given, "__dlpack__")
            else np.asarray(given)
        )
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise TypeError(
            f"`evaluate` must return arrays on the host, got {shown(given)} for {what}; move it with `.cpu()`."
        ) from error
    if np.asarray(on_host(found)).dtype.kind != "f":
        raise TypeError(f"`evaluate` must return real floating-point arrays, got dtype {found.dtype} for {what}.")
    return found


def flat(name: str, given: Any, leading: tuple[int, int], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return a Jacobian (n, T, *shape) with the parameters on one axis."""
    found, size = _array(name, given), math.prod(shape)
    if found.shape not in ((*leading, *shape), (*leading, size)):
        raise ValueError(
            f"`evaluate` must return a Jacobian of shape {(*leading, *shape)} for layer {name!r}, (inputs, outputs, *shape), got "
            f"{found.shape}."
        )
    return found.reshape(*leading, size)


def block(what: str, given: Any, shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> NDArray[np.floating]:
    """Return an array of a block, of the given shape, in the precision of the call, if it is finite."""
    found = _array(what, given)
    if found.shape != shape:
        raise ValueError(f"`evaluate` must return {what} of shape {shape}, got {found.shape}.")
    array: NDArray[np.floating] = np.ascontiguousarray(found, dtype=dtype)
    if not np.isfinite(array).all():
        raise ValueError(
            f"`evaluate` must return finite numbers, got {what} with inf or nan; look at the weights and the inputs."
        )
    return array


def first_order_only() -> NoReturn:
    """Refuse second derivatives that a function does not return."""
    raise ValueError(
        "`evaluate` must also return second derivatives, (h, parts, curvatures), for the Hessian estimator of an external "
        "network; use the score estimator, which needs none."
    )


def expected_only(external: bool, hessian: str) -> None:
    """Require the expected information of an external network, whose second derivatives are not known as a whole."""
    if external and hessian != "expected":
        raise ValueError(f"`hessian` must be 'expected' for an ExternalNetwork, whose Hessian is not known, got {hessian!r}.")


def perceptron_only(name: str = "model") -> NoReturn:
    """Refuse a quantity that is defined for multilayer perceptrons."""
    raise TypeError(
        f"`{name}` must be a fisherstats.MLP here, got an ExternalNetwork, which is known by its derivatives alone; read a "
        "perceptron with a reader of fisherstats.interop such as `from_torch`."
    )
