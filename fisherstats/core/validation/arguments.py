"""Checks of single arguments: options, counts, numbers, seeds."""

from __future__ import annotations

import contextlib
import contextvars
import difflib
import functools
import importlib
import math
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from fisherstats.core.arrays import finite_sum
from fisherstats.core.errors import MissingExtra
from fisherstats.core.validation.other_libraries import array_advice

__all__ = [
    "answered",
    "array_like",
    "boolean",
    "choice",
    "exactly_one",
    "fraction",
    "generator",
    "level",
    "non_negative_number",
    "only_with",
    "optional_module",
    "parameter_vector",
    "path",
    "positive_integer",
    "positive_number",
    "real_array",
    "real_dtype",
    "real_number",
    "reworded",
    "seed_sequence",
    "shown",
    "symmetric_matrix",
    "unmasked",
    "words",
]


def shown(value: Any) -> str:
    """Return a short text of the value received, for the end of a message; a path is given in full."""
    if isinstance(getattr(value, "ndim", None), int) and value.ndim and hasattr(value, "dtype"):
        kind = "an array" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        return f"{kind} of shape {tuple(value.shape)} and dtype {value.dtype}"
    try:
        if isinstance(value, os.PathLike):
            return repr(os.fspath(value))
        if isinstance(value, np.ndarray):
            value = value[()]
        if isinstance(value, np.str_ | np.bytes_):
            value = value.item()
        # The repr of numpy's scalars names their type as well.
        text = " ".join((str if isinstance(value, np.number | np.bool_) else repr)(value).split())
    except Exception:  # a repr may fail in any way, and the message is about something else
        text = f"an object of type {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def reworded(error: Exception, message: str) -> Exception:
    """Return an error with another message, of the same type or of its nearest base class that takes only a message.

    numpy's MemoryError, for one, takes a shape and a dtype.
    """
    for kind in type(error).__mro__:
        if kind is Exception:
            break
        try:
            again = kind(message)
        except Exception:
            continue
        if isinstance(again, Exception):
            return again
    return RuntimeError(f"{message} ({type(error).__name__})")


def choice(name: str, value: Any, allowed: Iterable[str | None]) -> Any:
    """Return `value` if it is one of the allowed words, else suggest the nearest one."""
    words = list(allowed)
    for word in words:
        if value is word or (isinstance(value, str) and value == word):
            return word
    listed = ", ".join(repr(word) for word in words)
    message = f"`{name}` must be one of {listed}, got {shown(value)}."
    if isinstance(value, str):
        near = difflib.get_close_matches(value.lower(), [word for word in words if word], n=1, cutoff=0.5)
        if near:
            message += f" Did you mean {near[0]!r}?"
    raise ValueError(message)


def positive_integer(name: str, value: Any) -> int:
    """Return `value` as an int of at least one that a 64-bit integer can hold; booleans and fractions are refused."""
    try:
        number = operator.index(value) if not isinstance(value, bool | np.bool_) else 0
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"`{name}` must be a positive integer, got {shown(value)}.")
    if number >= 2**63:
        raise ValueError(f"`{name}` must be a positive integer below 2**63, got {shown(value)}.")
    return number


def real_number(value: Any) -> float:
    """Return `value` as a float; nan for truth values, text, complex numbers, arrays and anything else that is not a number."""
    if isinstance(value, bool | str | bytes | bytearray) or getattr(getattr(value, "dtype", None), "kind", "f") not in "iuf":
        return math.nan
    try:
        return float(value) if np.ndim(value) == 0 else math.nan
    except (TypeError, ValueError, OverflowError):
        return math.nan


def positive_number(name: str, value: Any) -> float:
    """Return `value` as a finite float above zero."""
    number = real_number(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"`{name}` must be a finite number above 0, got {shown(value)}.")
    return number


def non_negative_number(name: str, value: Any) -> float:
    """Return `value` as a finite float of at least zero."""
    number = real_number(value)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"`{name}` must be a finite number of at least 0, got {shown(value)}.")
    return number


def fraction(name: str, value: Any) -> float:
    """Return `value` as a float strictly between 0 and 1."""
    number = real_number(value)
    if not 0 < number < 1:
        raise ValueError(f"`{name}` must be a number between 0 and 1, both excluded, got {shown(value)}.")
    return number


def level(name: str, value: Any) -> float:
    """Return a nominal coverage, so far below 1 that its quantiles are finite."""
    number = fraction(name, value)
    if (1 + number) / 2 == 1:
        raise ValueError(f"`{name}` must be below 1 by more than rounding, got {shown(value)}; the interval would be infinite.")
    return number


def boolean(name: str, value: Any) -> bool:
    """Return `value` if it is a bool."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"`{name}` must be True or False, got {shown(value)}.")
    return bool(value)


def real_array(name: str, value: Any) -> np.ndarray:
    """Return `value` as an array of finite float32 or float64 numbers; integers and bool become float64."""
    if type(value) is np.ndarray and value.dtype in (np.float64, np.float32) and finite_sum(value):
        return value
    array = array_like(name, value)
    real_dtype(name, array.dtype)
    if array.dtype.kind in "iub":
        array = array.astype(np.float64)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        place = f" at index {index}" if index else ""
        raise ValueError(f"`{name}` must be finite, got {array[index]}{place}; remove or impute it before the call.")
    return array


def real_dtype(name: str, dtype: np.dtype[Any]) -> None:
    """Require float64, float32, integers or bool, in either byte order."""
    if dtype.kind not in "iub" and dtype.newbyteorder("=") not in (np.float32, np.float64):
        raise TypeError(
            f"`{name}` must hold float64, float32, integers or bool, got dtype {dtype}; convert it with "
            "`.astype(float)` if that loses nothing."
        )


_advancing: contextvars.ContextVar[list[Callable[[], Any]] | None] = contextvars.ContextVar("advancing", default=None)


@contextlib.contextmanager
def answered() -> Iterator[None]:
    """Advance the generators of a call when it succeeds, so that a refused call leaves them unchanged."""
    if _advancing.get() is not None:  # part of another call
        yield
        return
    advancing: list[Callable[[], Any]] = []
    token = _advancing.set(advancing)
    try:
        yield
    finally:
        _advancing.reset(token)
    for advance in advancing:
        advance()


def _child(rng: np.random.Generator) -> np.random.SeedSequence:
    """Return the seed sequence that the generator's own would spawn; a generator without one is sampled."""
    parent = getattr(rng.bit_generator, "seed_seq", None)
    advance: Callable[[], Any]
    if isinstance(parent, np.random.SeedSequence):
        key = (*parent.spawn_key, parent.n_children_spawned)
        child = np.random.SeedSequence(parent.entropy, spawn_key=key, pool_size=parent.pool_size)
        advance = functools.partial(parent.spawn, 1)
    else:
        before = rng.bit_generator.state
        words = rng.integers(2**32, size=4, dtype=np.uint32).tolist()
        after, rng.bit_generator.state = rng.bit_generator.state, before
        child = np.random.SeedSequence(words)
        advance = functools.partial(setattr, rng.bit_generator, "state", after)
    waiting = _advancing.get()
    if waiting is None:
        advance()
    else:
        waiting.append(advance)
    return child


def seed_sequence(rng: Any) -> np.random.SeedSequence:
    """Return the seed sequence of `rng`: an int, a SeedSequence or a Generator (which is advanced by a spawn)."""
    if isinstance(rng, np.random.SeedSequence):
        return rng
    if isinstance(rng, np.random.Generator):
        return _child(rng)
    if not isinstance(rng, bool | np.bool_):
        try:
            number = operator.index(rng)
        except TypeError:
            number = -1
        if number >= 0:
            return np.random.SeedSequence(number)
    raise ValueError(
        f"`rng` must be a non-negative int, a numpy SeedSequence or a numpy Generator, got {shown(rng)}; "
        "pass an int such as rng=0 for reproducible draws."
    )


def generator(rng: Any) -> np.random.Generator:
    """Return a generator for `rng`: itself if it is one, else a new one from an int or a SeedSequence."""
    return rng if isinstance(rng, np.random.Generator) else np.random.default_rng(seed_sequence(rng))


def optional_module(module: str, extra: str) -> ModuleType:
    """Import an optional library, or name the extra that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(
            f"This needs `{module}`, which could not be imported ({error}); install it with `pip install 'fisherstats[{extra}]'`."
        ) from error


def array_like(name: str, value: Any) -> np.ndarray:
    """Return `value` as an array of any dtype; ragged lists, masked entries and objects that are not arrays are refused."""
    if isinstance(value, Mapping):  # numpy makes an array of the names of some
        raise TypeError(f"`{name}` must be an array of real numbers, got {shown(value)}{array_advice(name, value)}.")
    unmasked(name, value)
    if hasattr(value, "detach") and hasattr(value, "requires_grad"):
        value = value.detach()  # PyTorch gives numpy no array that records gradients
    try:
        array = np.asarray(value)
    except ValueError as error:
        advice = array_advice(name, value)
        raise ValueError(f"`{name}` must be a rectangular array of real numbers, got {shown(value)}{advice}.") from error
    except (TypeError, RuntimeError) as error:
        advice = array_advice(name, value)
        raise TypeError(
            f"`{name}` must be an array on the host, got {shown(value)}, which numpy cannot read: {error}{advice}"
        ) from error
    if array.ndim == 0 and array.dtype.kind in "OSU":
        raise TypeError(f"`{name}` must be an array of real numbers, got {shown(value)}{array_advice(name, value)}.")
    return array


def unmasked(name: str, value: Any) -> None:
    """Refuse masked entries: without the mask the underlying values would be used."""
    parts = enumerate(value) if isinstance(value, list | tuple) else [(None, value)]
    for position, part in parts:
        if isinstance(getattr(part, "_meta", None), np.ma.MaskedArray):
            raise ValueError(
                f"`{name}` must have no masked entries, got a dask array of masked arrays; fill them, or leave them out."
            )
        if isinstance(part, np.ma.MaskedArray) and np.ma.is_masked(part):
            first = tuple(int(i) for i in np.argwhere(np.ma.getmaskarray(part))[0])
            index = first if position is None else (position, *first)
            raise ValueError(f"`{name}` must have no masked entries, got one at index {index}; fill them, or leave them out.")


def path(name: str, value: Any, kind: str) -> Path:
    """Return a path, in which ``~`` stands for the home directory."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"`{name}` must be {kind}, got {shown(value)}.")
    return Path(os.path.expanduser(os.fsdecode(value)))


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
    if isinstance(value, Iterable) and not isinstance(value, Sequence):
        raise TypeError(f"`{name}` must be one of {', '.join(map(repr, known))} or a list of them, got {shown(value)}.")
    given = list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
    if not given:
        raise ValueError(f"`{name}` must name at least one of {', '.join(map(repr, known))}, got {shown(value)}.")
    chosen = [choice(name, one, known) for one in given]
    if len(set(chosen)) != len(chosen):
        raise ValueError(f"`{name}` must not repeat a word, got {shown(value)}.")
    return chosen


def exactly_one(**values: Any) -> None:
    """Require exactly one of several arguments."""
    given = [name for name, value in values.items() if value is not None]
    if len(given) != 1:
        listed = " and ".join(f"`{name}`" for name in values)
        raise ValueError(f"Exactly one of {listed} must be given, got {' and '.join(given) or 'none'}.")


def parameter_vector(name: str, value: Any, n_params: int) -> np.ndarray:
    """Return a finite vector over the parameters."""
    array = real_array(name, value)
    if array.shape != (n_params,):
        raise ValueError(f"`{name}` must have shape ({n_params},), one number per parameter, got shape {array.shape}.")
    return array


def symmetric_matrix(name: str, value: Any, n_params: int) -> np.ndarray:
    """Return a finite symmetric matrix over the parameters."""
    array = real_array(name, value)
    if array.shape != (n_params, n_params):
        raise ValueError(f"`{name}` must have shape ({n_params}, {n_params}), got shape {array.shape}.")
    apart = np.abs(array - array.T)
    if apart.max() > 1e-12 * max(np.abs(array).max(), np.finfo(array.dtype).tiny):
        row, column = (int(i) for i in np.unravel_index(np.argmax(apart), apart.shape))
        raise ValueError(
            f"`{name}` must be symmetric, got {array[row, column]} at ({row}, {column}) and {array[column, row]} at "
            f"({column}, {row}); use (X + X.T) / 2."
        )
    return array
