"""Public quantities from computations: for an x in memory, over an iterable of batches, or over the chunks of a dask array.

Nothing in this module depends on the quantity that is computed.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np
import xarray as xr

from fisherstats.core.validation import arguments, inputs, remedies
from fisherstats.execution import Batches, Part, Pass
from fisherstats.models.columns import columns_in_order, response_in_order
from fisherstats.models.external import ExternalNetwork
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels
from fisherstats.quantities._chunks import over_chunks
from fisherstats.quantities._computation import (
    BESIDE_X,
    Asked,
    Computation,
    filled,
    plan_of,
    resumed,
    steps_of,
    within,
    without_layout,
)

__all__ = ["plan_of", "steps_of", "streamed"]

P = ParamSpec("P")
R = TypeVar("R")


def streamed(*, per_input: bool | None = None) -> Callable[[Callable[P, Computation[R]]], Callable[P, R]]:
    """Turn a computation over (model, x, ...) into a function that accepts an x in memory, batches of rows, or a dask array.

    `per_input` if it always returns a row per input.
    """

    def decorate(computation: Callable[P, Computation[R]]) -> Callable[P, R]:
        signature = inspect.signature(computation)
        place = list(signature.parameters).index("x")
        takes = tuple(signature.parameters)

        @functools.wraps(computation)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            x = args[place] if len(args) > place else kwargs.get("x")
            if "on_kink" in kwargs:
                arguments.choice("on_kink", kwargs["on_kink"], ("raise", "ignore"))
            whole = isinstance(x, np.ndarray | Part) or kwargs.get("store") is not None
            lazy = not whole and _is_lazy(x)
            if whole or not (lazy or inputs.gives_batches(x)):
                return within(takes, lambda: filled(computation(*args, **kwargs)))
            with arguments.answered(), remedies.as_called(takes):
                return in_parts(lazy, x, args, kwargs)

        def in_parts(lazy: bool, x: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
            given = dict(signature.bind(*args, **kwargs).arguments)
            del given["x"]
            if isinstance(given.get("rng"), np.random.Generator):
                given["rng"] = arguments.seed_sequence(given["rng"])
            for name in BESIDE_X.keys() & given.keys():
                if hasattr(given[name], "__dask_graph__"):
                    given[name] = given[name].compute()  # once, not in every task
            asked = Asked(call, given, remedies.taken())
            known = arguments.boolean("per_input", given.get("per_input", False)) if per_input is None else per_input
            if not lazy:
                return cast(R, _over_batches(asked, cast(Iterable[Any], x), known))
            arguments.boolean("progress", given.get("progress", False))
            if "progress" in takes:
                given["progress"] = False
            if given.get("num_threads") is None and "num_threads" in takes:
                given["num_threads"] = 1  # the scheduler runs tasks in its own threads
            return cast(R, over_chunks(asked, x, known))

        call.__annotations__ = computation.__annotations__ | {"return": _returned(computation)}
        call.__signature__ = signature.replace(return_annotation=call.__annotations__["return"])  # type: ignore[attr-defined]
        return call

    return decorate


def _returned(computation: Callable[..., Any]) -> str:
    """Return the annotation of the result inside that of a computation."""
    return str(computation.__annotations__["return"]).removeprefix("Computation[").removesuffix("]")


def _is_lazy(x: Any) -> bool:
    data = x.data if isinstance(x, xr.DataArray | xr.Variable) and x.chunks is not None else x
    return isinstance(getattr(data, "dtype", None), np.dtype) and hasattr(data, "__dask_graph__") and hasattr(data, "rechunk")


# --- batches -------------------------------------------------------------------------------------------------------------------


def _over_batches(asked: Asked, batches: Iterable[Any], per_input: bool) -> Any:
    """Return the result over batches of rows, read once per pass."""
    given = {name: one for name, one in asked.given.items() if name in BESIDE_X and one is not None}
    # Labels of the inputs are kept only where they are needed, so that memory does not grow with the inputs.
    keeps_labels = per_input or any(isinstance(one, xr.DataArray) for one in given.values())
    reader = _Reader(asked.function.__name__, batches, keeps_labels, asked.given["model"])
    first = reader.peek()
    model = asked.given["model"]
    in_rows = first.ndim == 2 or (first.ndim > 0 and isinstance(model, ExternalNetwork))
    row_shape = first.shape[1:] if in_rows else (0,)
    given = {name: response_in_order(one, model) for name, one in given.items()} if isinstance(model, MLP) else given
    beside = {name: arguments.array_like(name, _labels.unlabelled_response(one)) for name, one in given.items()}
    asked = replace(asked, given=asked.given | beside)
    n_labels = next((len(one) if one.ndim else 1 for one in beside.values()), None)
    source = Batches(reader, row_shape, first.dtype, n_labels)

    def computation(n_inputs: int, input_labels: np.ndarray | None) -> Computation[Any]:
        shape = (n_inputs, *row_shape) if in_rows else first.shape
        return asked.steps(Part(source, shape, first.dtype, input_labels=input_labels))

    def driven() -> Any:
        # Until the rows are counted, given labels determine their number; otherwise it is whatever the checks expect.
        step = resumed(computation(2 if n_labels is None else n_labels, None), [])
        assert isinstance(step, Pass)
        totals = step.answer()
        input_labels = inputs.batch_labels(reader.labels, source.n_read)
        for one in given.values():
            _labels.unlabelled_response(one, input_labels)  # raises if they are for other inputs
        return filled(without_layout(computation(source.n_read, input_labels), totals))

    return within(asked.taken, driven)


class _Reader:
    """Iterates over batches, repeatedly if their iterable allows it."""

    def __init__(self, caller: str, batches: Iterable[Any], keeps_labels: bool, model: Any) -> None:
        self._model = model
        self.labels: list[np.ndarray] = []
        """Labels of the inputs in the batches of the first pass that have any."""
        self._keeps_labels = keeps_labels
        self._caller = caller
        self._batches = batches
        self._once = iter(batches) is batches
        self._begun: Iterator[Any] | None = None
        self._first: list[Any] = []

    def peek(self) -> np.ndarray:
        """Return the first batch."""
        self._begun = iter(self._batches)
        self._first = list(itertools.islice(self._begun, 1))
        inputs.some_batch(self._first)
        inputs.rows_alone(self._first[0], 0)
        return arguments.array_like("x", self._bare(self._first[0]))

    def __iter__(self) -> Iterator[Any]:
        begun, self._begun = self._begun, None
        if begun is not None:
            return map(functools.partial(self._bare, keep=self._keeps_labels), itertools.chain(self._first, begun))
        if self._once:
            inputs.read_again(self._caller)
        return map(self._bare, self._batches)

    def _bare(self, batch: Any, keep: bool = False) -> Any:
        ordered = columns_in_order(batch, self._model) if isinstance(self._model, MLP) else batch
        data, own = _labels.unlabelled(ordered, isinstance(self._model, ExternalNetwork))
        if keep and own is not None:
            self.labels.append(own.copy())  # it may be a view of those of many more inputs
        return data[:] if isinstance(batch, xr.DataArray | xr.Variable) else data  # data in a file are read here
