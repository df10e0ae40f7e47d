"""Out-of-core calls: lazily over the chunks of a dask array, or over an iterable of batches.

This module is independent of the quantity that is computed. A call is evaluated in three stages: once with two placeholder rows,
for the dims, attributes and block sizes of its result; once per leaf of inputs, where it runs up to its pass over them; and once
with the totals of all leaves, which gives the result. Leaves are summed in order, so the result is bitwise that of x in memory.
"""

from __future__ import annotations

import copy
import functools
import inspect
import itertools
import math
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np
import xarray as xr

from fisherstats.core.arrays import overflow_is_inf
from fisherstats.core.validation import arguments, inputs, remedies
from fisherstats.execution import Batches, Part, PassEnded, Passes, PassShape, RecordedPasses, as_announced, one_blas_thread
from fisherstats.models.columns import columns_in_order, response_in_order
from fisherstats.models.network import MLP
from fisherstats.quantities import _labels, _run
from fisherstats.quantities._run import Call

__all__ = ["in_pieces"]

P = ParamSpec("P")
R = TypeVar("R")
Labelled = xr.DataArray | xr.Dataset | xr.DataTree
Totals = tuple[Callable[[list[Any], list[Any]], None], list[Any]]
"""The reduction that adds the totals of further leaves, and the totals."""

_CHUNK_BYTES = 2**27
"""A chunk of a result with one row per input is halved while it is larger, but has at least one group of blocks."""

_DENSE_PARAMETERS = 2000
"""For networks with more parameters the template uses two inputs only, as more would take long."""

_BESIDE_X = {"y": Call.data_labels, "probabilities": Call.label_distributions}
"""Arguments with an entry per input, and their validators."""


def in_pieces(*, per_input: bool | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function of (model, x, ...) accept a lazy x or batches of rows; `per_input` if it always returns a row per input."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        place = list(signature.parameters).index("x")
        computed = overflow_is_inf(one_blas_thread(function))  # also between the passes
        takes = tuple(signature.parameters)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            x = args[place] if len(args) > place else kwargs.get("x")
            if "on_kink" in kwargs:
                arguments.choice("on_kink", kwargs["on_kink"], ("raise", "ignore"))
            whole = isinstance(x, np.ndarray | Part) or kwargs.get("store") is not None
            lazy = not whole and _is_lazy(x)
            if whole or not (lazy or inputs.gives_batches(x)):
                with inputs.overflow_named(), arguments.answered(), remedies.as_called(takes):
                    return computed(*args, **kwargs)
            with arguments.answered(), remedies.as_called(takes):
                return in_parts(lazy, x, args, kwargs)

        def in_parts(lazy: bool, x: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
            given = dict(signature.bind(*args, **kwargs).arguments)
            del given["x"]
            if isinstance(given.get("rng"), np.random.Generator):
                given["rng"] = arguments.seed_sequence(given["rng"])
            for name in _BESIDE_X.keys() & given.keys():
                if hasattr(given[name], "__dask_graph__"):
                    given[name] = given[name].compute()  # once, not in every task
            asked = _Asked(call, given, remedies.taken())
            known = arguments.boolean("per_input", given.get("per_input", False)) if per_input is None else per_input
            if not lazy:
                return cast(R, _over_batches(asked, cast(Iterable[Any], x), known))
            arguments.boolean("progress", given.get("progress", False))
            given["progress"] = False
            if given.get("num_threads") is None and "num_threads" in signature.parameters:
                given["num_threads"] = 1  # the scheduler runs tasks in its own threads
            return cast(R, _over_chunks(asked, x, known))

        return call

    return decorate


def _is_lazy(x: Any) -> bool:
    data = x.data if isinstance(x, xr.DataArray | xr.Variable) and x.chunks is not None else x
    return isinstance(getattr(data, "dtype", None), np.dtype) and hasattr(data, "__dask_graph__") and hasattr(data, "rechunk")


@dataclass(frozen=True)
class _Asked:
    """A call without its x."""

    function: Callable[..., Any]
    given: dict[str, Any]
    taken: Collection[str] | None = None
    """The arguments of the public function that makes this call, see `remedies`."""

    def of(self, part: Part) -> Any:
        """Return the result for the given rows."""
        with remedies.as_called(self.taken):
            return self.function(**self.given, x=part)

    def pass_over(self, part: Part) -> Totals:
        """Return the totals of the next pass over the inputs for the given rows."""
        try:
            self.of(part)
        except PassEnded as ended:
            return ended.combine, ended.totals
        raise AssertionError("the call made no further pass over its inputs")


# --- batches -------------------------------------------------------------------------------------------------------------------


def _over_batches(asked: _Asked, batches: Iterable[Any], per_input: bool) -> Any:
    """Return the result over batches of rows, read once per pass."""
    given = {name: one for name, one in asked.given.items() if name in _BESIDE_X and one is not None}
    # Labels of the inputs are kept only where they are needed, so that memory does not grow with the inputs.
    keeps_labels = per_input or any(isinstance(one, xr.DataArray) for one in given.values())
    reader = _Reader(asked.function.__name__, batches, keeps_labels, asked.given["model"])
    first = reader.peek()
    n_features = first.shape[1] if first.ndim == 2 else 0
    model = asked.given["model"]
    given = {name: response_in_order(one, model) for name, one in given.items()} if isinstance(model, MLP) else given
    beside = {name: arguments.array_like(name, _labels.unlabelled_response(one)) for name, one in given.items()}
    asked = replace(asked, given=asked.given | beside)
    n_labels = next((len(one) if one.ndim else 1 for one in beside.values()), None)
    source = Batches(reader, n_features, first.dtype, n_labels)
    # Until the rows are counted, given labels determine their number; otherwise it is whatever the checks expect.
    n_inputs = 2 if n_labels is None else n_labels
    known: list[list[Any]] = []
    input_labels = None
    while True:
        shape = (n_inputs, n_features) if first.ndim == 2 else first.shape
        part = Part(source, cast(Any, shape), first.dtype, input_labels=input_labels, passes=Passes(known))
        try:
            return asked.of(part)
        except PassEnded as ended:
            if not known:
                input_labels = inputs.batch_labels(reader.labels, source.n_read)
                for one in given.values():
                    _labels.unlabelled_response(one, input_labels)  # raises if they are for other inputs
            known.append(ended.totals)
            n_inputs = source.n_read


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
        data, own = _labels.unlabelled(columns_in_order(batch, self._model) if isinstance(self._model, MLP) else batch)
        if keep and own is not None:
            self.labels.append(own.copy())  # it may be a view of those of many more inputs
        return data[:] if isinstance(batch, xr.DataArray | xr.Variable) else data  # data in a file are read here


# --- lazy results --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Lazy:
    """A call over a dask array, as sent to every task."""

    asked: _Asked
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    input_labels: np.ndarray | None
    checked: np.ndarray | None = None

    def part(self, source: Any, first: int, n_present: int, passes: Passes | None) -> Part:
        """Return the x of one part of the call."""
        return Part(source, self.shape, self.dtype, first, n_present, self.input_labels, passes, self.checked)

    def with_checked(self, name: str) -> _Lazy:
        """Return the same call with one further argument marked as validated, so that tasks skip its check."""
        given = self.asked.given
        checked = _BESIDE_X[name](_run.prepare(given["model"], self.part(None, 0, 0, None)), given[name])
        return replace(self, asked=replace(self.asked, given=given | {name: checked}), checked=checked)


def _over_chunks(asked: _Asked, x: Any, per_input: bool) -> Labelled:
    """Return the lazy result over a dask-backed x."""
    dask = arguments.optional_module("dask", extra="distributed")
    model = asked.given["model"]
    data, input_labels = _labels.unlabelled(columns_in_order(x, model) if isinstance(model, MLP) else x)
    arguments.unmasked("x", data)
    data = as_announced(data)
    lazy = _Lazy(asked, data.shape, data.dtype, input_labels)
    template, passes = _template(lazy, data)
    name = asked.function.__name__
    given = {key: one.fingerprint if isinstance(one, MLP) else one for key, one in asked.given.items()}
    token = dask.base.tokenize(name, given, data.name, input_labels)
    for beside in _BESIDE_X:
        if given.get(beside) is not None:
            lazy = lazy.with_checked(beside)
    sent = dask.delayed(lazy, name=f"{name}-call-{token}", traverse=False)
    graph = _Graph(name, token, sent, data, input_labels)
    if per_input:
        return graph.rows(template, passes)
    known: list[Any] = []
    for number, shape in enumerate(passes):
        known.append(graph.totals(number, shape, known))
    return graph.result(template, known)


def _template(lazy: _Lazy, data: Any) -> tuple[Labelled, list[PassShape]]:
    """Return a result of the same dims, coordinates and attributes, and how its passes are cut, without reading x."""
    known = len(lazy.shape) == 2 and not np.isnan(lazy.shape).any()  # else x is rejected
    few, n_columns = (min(2, lazy.shape[0]), lazy.shape[1]) if known else (2, 0)
    several = [few, min(lazy.shape[0], _rows_of_full_rank(lazy.asked.given["model"]))] if known else [few]
    refusal: Exception | None = None
    # Two inputs may give a singular information, and random ones may be unsuitable (outside the natural domain, say):
    # then more of them are tried, and finally the first rows of x, which have to be read.
    for n_rows, random in [*((count, True) for count in several), *((count, False) for count in several)]:
        recorded = RecordedPasses()
        with warnings.catch_warnings(), np.errstate(all="ignore"), _labels.unchecked():
            warnings.simplefilter("ignore")
            rows = np.random.default_rng(0).normal(size=(n_rows, n_columns)).astype(lazy.dtype) if random else data[:n_rows]
            try:
                return lazy.asked.of(lazy.part(np.asarray(rows), 0, n_rows, recorded)), recorded.shapes
            except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
                if not recorded.shapes:  # an argument was rejected
                    raise
                refusal = error
    assert refusal is not None
    raise refusal


def _rows_of_full_rank(model: Any) -> int:
    """Return enough inputs for a regular information of a network, where its dense matrix is small enough to be used."""
    if not isinstance(model, MLP) or model.n_params > _DENSE_PARAMETERS:
        return 2
    return 2 + 2 * -(-model.n_params // model.widths[-1])


class _Graph:
    """The tasks of one call; their keys name the function, the pass and the inputs."""

    def __init__(self, name: str, token: str, sent: Any, data: Any, input_labels: np.ndarray | None) -> None:
        self._array = arguments.optional_module("dask.array", extra="distributed")
        self._graphs = arguments.optional_module("dask.highlevelgraph", extra="distributed")
        self._delayed = arguments.optional_module("dask.delayed", extra="distributed")
        self._name = name
        self._token = token
        self._sent = sent
        self._data = data
        self._input_labels = input_labels

    def _key(self, what: str) -> str:
        return f"{self._name}-{what}-{self._token}"

    def _graph(self, what: str, tasks: dict[Any, tuple[Any, ...]], *needed: Any) -> Any:
        """Return a graph with one more layer of tasks (function, arguments or keys ...) on top of its dependencies."""
        return self._graphs.HighLevelGraph.from_collections(self._key(what), tasks, dependencies=[self._sent, *needed])

    def _task(self, what: str, task: tuple[Any, ...], *needed: Any) -> Any:
        return self._delayed.Delayed(self._key(what), self._graph(what, {self._key(what): task}, *needed))

    def _leaves(self, rows: int) -> tuple[Any, list[tuple[int, int, int, Any]]]:
        """Return x rechunked to the given number of rows, and (number, first input, inputs, key) of each chunk."""
        cut = self._data.rechunk({0: rows, 1: -1})
        sizes = cut.chunks[0]
        firsts = np.cumsum([0, *sizes[:-1]]).tolist()
        return cut, [(block, *one, (cut.name, block, 0)) for block, one in enumerate(zip(firsts, sizes, strict=True))]

    def totals(self, number: int, shape: PassShape, known: Sequence[Any]) -> Any:
        """Return the task that holds the totals of a pass over all inputs."""
        cut, leaves = self._leaves(shape.leaf_rows)
        known_keys = [one.key for one in known]
        pieces = {
            self._key(f"pass-{number}-inputs-{first}-to-{first + size - 1}"): (
                _pass,
                self._sent.key,
                known_keys,
                rows,
                first,
                block,
            )
            for block, first, size, rows in leaves
        }
        what, keys = f"pass-{number}-total", list(pieces)
        tasks: dict[Any, tuple[Any, ...]]
        if shape.joins:
            tasks = {self._key(what): (_joined, keys)}
        else:
            sums = [keys[0], *[self._key(f"pass-{number}-sum-{block}") for block in range(1, len(keys))]]
            tasks = {sums[block]: (_added, sums[block - 1], keys[block]) for block in range(1, len(keys))}
            tasks[self._key(what)] = (_totals_alone, sums[-1])
        return self._delayed.Delayed(self._key(what), self._graph(what, {**pieces, **tasks}, cut, *known))

    def result(self, template: Labelled, known: Sequence[Any]) -> Labelled:
        """Return the lazy result computed from the totals of all passes."""
        done = self._task("result", (_finished, self._sent.key, [one.key for one in known]), *known)
        lazily = {}
        for key, variable in _variables(template).items():
            what = f"value-{key[0]}-{key[1]}"
            graph = self._graph(what, {(self._key(what), *[0] * variable.ndim): (_value, done.key, *key)}, done)
            chunks = tuple((size,) for size in variable.shape)
            values = self._array.Array(graph, self._key(what), chunks, dtype=variable.dtype)
            lazily[key] = (variable.dims, values, variable.attrs)
        return _rebuilt(template, lazily)

    def rows(self, template: Labelled, passes: Sequence[PassShape]) -> Labelled:
        """Return the lazy result with one chunk of rows per chunk of inputs."""
        kept = {key: one for key, one in _variables(template).items() if "input" in one.dims}
        bytes_per_input = sum(one.nbytes // one.sizes["input"] for one in kept.values())
        cut, leaves = self._leaves(_chunk_rows(passes, bytes_per_input))
        done = {
            self._key(f"inputs-{first}-to-{first + size - 1}"): (_rows, self._sent.key, rows, first, block)
            for block, first, size, rows in leaves
        }
        lazily = {}
        for key, variable in kept.items():
            what, axis = f"value-{key[0]}-{key[1]}", variable.dims.index("input")
            after = [0] * (variable.ndim - axis - 1)
            tasks = {(self._key(what), *[0] * axis, block, *after): (_value, one, *key) for block, one in enumerate(done)}
            chunks = [(size,) for size in variable.shape]
            chunks[axis] = cut.chunks[0]
            graph = self._graph(what, {**done, **tasks}, cut)
            values = self._array.Array(graph, self._key(what), tuple(chunks), dtype=variable.dtype)
            lazily[key] = (variable.dims, values, variable.attrs)
        inputs_of_x = np.arange(self._data.shape[0]) if self._input_labels is None else self._input_labels
        return _rebuilt(template, lazily, inputs_of_x)


def _chunk_rows(passes: Sequence[PassShape], bytes_per_input: int) -> int:
    """Return the inputs in a chunk of a result per input: whole groups of blocks of every pass."""
    unit = math.lcm(*[one.rows for one in passes])
    rows = math.lcm(*[one.leaf_rows for one in passes])
    while rows % (2 * unit) == 0 and rows * bytes_per_input > _CHUNK_BYTES:
        rows //= 2
    return rows


# --- tasks: module-level functions, so that they can be pickled -------------------------------------------------------------


def _pass(lazy: _Lazy, known: list[list[Any]], rows: np.ndarray, first: int, block: int) -> Totals:
    with inputs.naming_block(block, first, len(rows)):
        return lazy.asked.pass_over(lazy.part(rows, first, len(rows), Passes(known)))


def _rows(lazy: _Lazy, rows: np.ndarray, first: int, block: int) -> Any:
    with inputs.naming_block(block, first, len(rows)):
        return lazy.asked.of(lazy.part(rows, first, len(rows), None))


def _added(total: Totals, piece: Totals) -> Totals:
    combine, arrays = total
    arrays = copy.deepcopy(arrays)  # task results must not be mutated
    combine(arrays, piece[1])
    return combine, arrays


def _totals_alone(total: Totals) -> list[Any]:
    return total[1]


def _joined(pieces: list[Totals]) -> list[Any]:
    return [one for _, totals in pieces for one in totals]


def _finished(lazy: _Lazy, known: list[list[Any]]) -> Any:
    return lazy.asked.of(lazy.part(None, 0, lazy.shape[0], Passes(known)))


def _value(result: Labelled, node: str, name: str) -> np.ndarray:
    return _variables(result)[node, name].to_numpy()


# --- decomposing labelled results ----------------------------------------------------------------------------------------------

_SELF = ""
"""Placeholder name for the variable of a DataArray."""


def _nodes(result: Labelled) -> dict[str, Any]:
    """Return the Datasets of a result, or the DataArray itself, by path."""
    return {one.path: one.to_dataset() for one in result.subtree} if isinstance(result, xr.DataTree) else {"/": result}


def _variables(result: Labelled) -> dict[tuple[str, str], xr.Variable]:
    """Return the variables of a result that depend on x by (node, name): data, and coordinates that are quantities."""
    found: dict[tuple[str, str], xr.Variable] = {}
    for path, node in _nodes(result).items():
        own = {_SELF: node} if isinstance(node, xr.DataArray) else node.data_vars
        beside = {name: one for name, one in node.coords.items() if name not in node.dims and one.dtype.kind == "f"}
        found |= {(path, str(name)): one.variable for name, one in (*own.items(), *beside.items())}
    return found


def _rebuilt(
    template: Labelled, lazily: Mapping[tuple[str, str], tuple[Any, ...]], inputs_of_x: np.ndarray | None = None
) -> Labelled:
    """Return the result with its variables replaced, and with the labels of all inputs."""

    def coordinates(path: str, node: Any) -> dict[str, Any]:
        found = {name: lazily.get((path, name), one.variable) for name, one in node.coords.items()}
        if inputs_of_x is not None and "input" in found:
            found["input"] = ("input", inputs_of_x, node.coords["input"].attrs)
        return found

    if isinstance(template, xr.DataArray):
        dims, data, attrs = lazily["/", _SELF]
        return xr.DataArray(data, coordinates("/", template), dims, template.name, attrs)
    datasets = {
        path: xr.Dataset(
            {name: lazily.get((path, name), one.variable) for name, one in node.data_vars.items()},
            coordinates(path, node),
            node.attrs,
        )
        for path, node in _nodes(template).items()
    }
    return datasets["/"] if isinstance(template, xr.Dataset) else xr.DataTree.from_dict(datasets)
