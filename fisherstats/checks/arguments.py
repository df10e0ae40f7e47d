"""Checks of single arguments: words, counts, numbers, seeds."""

from __future__ import annotations

import difflib
import importlib
import math
import operator
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import numpy as np

from fisherstats.errors import MissingExtra

__all__ = [
    "array_like",
    "boolean",
    "choice",
    "only_with",
    "optional_module",
    "positive_integer",
    "positive_number",
    "real_array",
    "seed_sequence",
    "shown",
    "words",
]


def shown(value: Any) -> str:
    """Return a short text of what arrived, for the end of a message."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def choice(name: str, value: Any, allowed: Iterable[str | None]) -> Any:
    """Return `value` if it is one of the allowed words, else say which word was probably meant."""
    words = list(allowed)
    if any(value is word or (isinstance(value, str) and value == word) for word in words):
        return value
    listed = ", ".join(repr(word) for word in words)
    message = f"`{name}` must be one of {listed}, got {shown(value)}."
    if isinstance(value, str):
        near = difflib.get_close_matches(value.lower(), [word for word in words if word], n=1, cutoff=0.5)
        if near:
            message += f" Did you mean {near[0]!r}?"
    raise ValueError(message)


def positive_integer(name: str, value: Any) -> int:
    """Return `value` as an int of at least one; booleans and fractions are refused."""
    try:
        number = operator.index(value) if not isinstance(value, bool | np.bool_) else 0
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"`{name}` must be a positive integer, got {shown(value)}.")
    return number


def positive_number(name: str, value: Any) -> float:
    """Return `value` as a finite float above zero."""
    try:
        number = float(value) if not isinstance(value, bool | np.bool_ | str) else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"`{name}` must be a finite number above 0, got {shown(value)}.")
    return number


def boolean(name: str, value: Any) -> bool:
    """Return `value` if it is a bool."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"`{name}` must be True or False, got {shown(value)}.")
    return bool(value)


def real_array(name: str, value: Any) -> np.ndarray:
    """Return `value` as an array of finite float32 or float64 numbers; integers and bool become float64."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"`{name}` must be a rectangular array of real numbers, got {shown(value)}.") from error
    if array.dtype.kind in "iub":
        array = array.astype(np.float64)
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(
            f"`{name}` must hold float64, float32, integers or bool, got dtype {array.dtype}; convert it with "
            "`.astype(float)` if that loses nothing."
        )
    if not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"`{name}` must be finite, got {array[index]} at index {index}; remove or impute it before the call.")
    return array


def seed_sequence(rng: Any) -> np.random.SeedSequence:
    """Return the seed sequence of `rng`: an int, a SeedSequence or a Generator (which is advanced by a spawn)."""
    if isinstance(rng, np.random.SeedSequence):
        return rng
    if isinstance(rng, np.random.Generator):
        return rng.bit_generator.seed_seq.spawn(1)[0]  # type: ignore[attr-defined,no-any-return]
    if not isinstance(rng, bool | np.bool_):
        try:
            number = operator.index(rng)
        except TypeError:
            number = -1
        if number >= 0:
            return np.random.SeedSequence(number)
    raise ValueError(
        f"`rng` must be a non-negative int, a numpy SeedSequence or a numpy Generator, got {shown(rng)}; "
        "pass an int such as rng=0 for draws that can be repeated."
    )


def optional_module(module: str, extra: str) -> ModuleType:
    """Import an optional library, or name the extra that brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(
            f"This needs `{module}`, which could not be imported ({error}); install it with `pip install 'fisherstats[{extra}]'`."
        ) from error


def array_like(name: str, value: Any) -> np.ndarray:
    """Return `value` as an array, whatever it holds; ragged lists are refused."""
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"`{name}` must be a rectangular array of real numbers, got {shown(value)}.") from error


def only_with(name: str, value: Any, other: str, other_value: Any, required: str) -> None:
    """Require `value` where `other` has the `required` value, and refuse it elsewhere."""
    if other_value == required and value is None:
        raise ValueError(f"`{name}` must be given with {other}={required!r}, got None.")
    if other_value != required and value is not None:
        raise ValueError(
            f"`{name}` goes with {other}={required!r} only, got {name}={shown(value)} with {other}={other_value!r}; "
            f"leave `{name}` out."
        )


def words(name: str, value: Any, allowed: Iterable[str]) -> list[str]:
    """Return one word, or a sequence of different words, as a list in the order of `value`."""
    known = list(allowed)
    given = [value] if isinstance(value, str) else list(value) if isinstance(value, Iterable) else [value]
    if not given:
        raise ValueError(f"`{name}` must name at least one of {', '.join(map(repr, known))}, got {shown(value)}.")
    chosen = [choice(name, one, known) for one in given]
    if len(set(chosen)) != len(chosen):
        raise ValueError(f"`{name}` must not repeat a word, got {shown(value)}.")
    return chosen
