"""Independent tasks, run in this process or through a client: a dask cluster or any executor.

Clients are created by the caller, never here. Data shared by all tasks are sent once. A client computes every task with one
thread, of BLAS and of this package (the kernels are serial); its result does not depend on where it is computed.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import pickle
import uuid
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

from fisherstats.core.progress import Bar, progress_bar
from fisherstats.core.validation import arguments, clients, remedies
from fisherstats.execution import one_blas_thread

__all__ = ["Piece", "completed", "in_order"]

Function = Callable[[Any, Any, int | None], Any]
"""(shared data, data of this task, threads to use) -> its result; importable by name, so that it can be pickled."""

Results = Generator[tuple[int, Any], None, None]
"""(position of the task, its result)."""

_ATTEMPTS = 3
"""How often the shared data are sent to a cluster, if every worker that holds them dies."""


class Piece(NamedTuple):
    """One task: its name in messages, and the arguments of the function."""

    name: str
    argument: Any


def in_order(
    function: Function,
    shared: Any,
    pieces: Sequence[Piece],
    *,
    client: Any = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> list[Any]:
    """Return the results of all tasks in order."""
    with progress_bar(len(pieces), progress, "piece") as bar:
        found = dict(completed(function, shared, pieces, client=client, num_threads=num_threads, bar=bar))
    return [found[position] for position in range(len(pieces))]


def completed(
    function: Function,
    shared: Any,
    pieces: Sequence[Piece],
    *,
    client: Any = None,
    num_threads: int | None = None,
    bar: Bar | None = None,
) -> Results:
    """Yield (position, result) of each task when it is done; pending tasks are cancelled if the caller stops.

    An error is re-raised with the same type and the name of its task in front of the message; if several tasks fail, it is that
    of the first in order.
    """
    bar = Bar() if bar is None else bar
    function = remedies.carried(function)
    if client is None:
        stream = _here(function, shared, pieces, num_threads, bar)
    elif hasattr(client, "scatter"):
        stream = _on_cluster(client, function, shared, pieces, bar)
    else:
        stream = _in_executor(client, function, shared, pieces, bar)
    with contextlib.closing(stream):
        for position, result in stream:
            bar.update()
            yield position, result


@one_blas_thread
def _compute(function: Function, shared: Any, argument: Any, num_threads: int | None = 1) -> Any:
    return function(shared.value if isinstance(shared, _Sent) else shared, argument, num_threads)


def _here(function: Function, shared: Any, pieces: Sequence[Piece], num_threads: int | None, bar: Bar) -> Results:
    for position, piece in enumerate(pieces):
        bar.begin(piece.name)
        try:
            result = _compute(function, shared, piece.argument, num_threads)
        except Exception as error:
            clients.failed(piece.name, error)
        yield position, result


class _Sent:
    """Data shared by all tasks of an executor: the same object for threads, else pickled once, and unpickled once per process."""

    def __init__(self, value: Any, token: str) -> None:
        self.value = value
        self._token = token
        self._pickled: bytes | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        if self._pickled is None:
            self._pickled = pickle.dumps(self.value, protocol=pickle.HIGHEST_PROTOCOL)
        return _received, (self._token, self._pickled)


_last_received: list[tuple[str, _Sent]] = []


def _received(token: str, pickled: bytes) -> _Sent:
    for known, sent in _last_received:
        if known == token:
            return sent
    sent = _Sent(pickle.loads(pickled), token)
    _last_received[:] = [(token, sent)]
    return sent


class _Failure:
    """The failure that ends the run: that of the first task, in order, of those known to have failed.

    Earlier tasks are waited for, as one of them may fail too, so that the error does not depend on timing.
    """

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = pieces
        self._position = len(pieces)
        self._report: Callable[[], NoReturn] | None = None

    def note(self, position: int, report: Callable[[str, Any], NoReturn], error: BaseException) -> None:
        """Record that a task has failed, and the function that raises its error."""
        if position < self._position:
            self._position, self._report = position, functools.partial(report, self._pieces[position].name, error)

    def before(self, positions: Iterable[int]) -> list[int]:
        """Return the tasks that are still needed, in order."""
        return sorted(one for one in positions if one < self._position)

    def take_unwanted(self, waiting: dict[Any, int]) -> list[Any]:
        """Remove the futures that are no longer needed from `waiting`."""
        unwanted = [future for future, position in waiting.items() if position > self._position]
        for future in unwanted:
            del waiting[future]
        return unwanted

    def report(self) -> None:
        """Raise the error, if there is one."""
        if self._report is not None:
            self._report()


def _in_executor(executor: Any, function: Function, shared: Any, pieces: Sequence[Piece], bar: Bar) -> Results:
    sent = _Sent(shared, uuid.uuid4().hex)
    failure = _Failure(pieces)
    waiting: dict[concurrent.futures.Future[Any], int] = {}
    try:
        for position, piece in enumerate(pieces):
            try:
                waiting[executor.submit(_compute, function, sent, piece.argument)] = position
            except RuntimeError as error:  # it is shut down, or its processes have died
                failure.note(position, clients.cluster_gone, error)
                break
        while waiting:
            bar.begin(pieces[min(waiting.values())].name)
            for future in concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED).done:
                position = waiting.pop(future)
                try:
                    result = future.result()
                except (concurrent.futures.BrokenExecutor, concurrent.futures.CancelledError) as error:
                    failure.note(position, clients.cluster_gone, error)
                except Exception as error:
                    failure.note(position, clients.failed, error)
                else:
                    yield position, result
            for future in failure.take_unwanted(waiting):
                future.cancel()
    finally:
        for future in waiting:
            future.cancel()
    failure.report()


def _on_cluster(client: Any, function: Function, shared: Any, pieces: Sequence[Piece], bar: Bar) -> Results:
    failure = _Failure(pieces)
    todo = set(range(len(pieces)))
    attempt = 0
    while todo:
        attempt += 1
        try:
            (sent,) = client.scatter([shared], broadcast=True, hash=False)
        except (TimeoutError, OSError) as error:
            clients.cluster_gone(pieces[min(todo)].name, error)
        # The scheduler recomputes lost results; sent data are lost with the last worker that held them. If that happens
        # repeatedly, the tasks are submitted one by one to find the one that kills its worker.
        alone = attempt == _ATTEMPTS
        for group in [[position] for position in sorted(todo)] if alone else [sorted(todo)]:
            for position, result in _submitted(client, function, sent, pieces, failure.before(group), failure, bar):
                todo.remove(position)
                yield position, result
            if alone and failure.before(todo.intersection(group)):
                clients.lost(pieces[group[0]].name)
        todo = set(failure.before(todo))
    failure.report()


def _submitted(
    client: Any, function: Function, sent: Any, pieces: Sequence[Piece], positions: list[int], failure: _Failure, bar: Bar
) -> Results:
    """Yield the results of some tasks, without those that were lost permanently."""
    distributed = arguments.optional_module("distributed", extra="distributed")
    waiting = {client.submit(_compute, function, sent, pieces[position].argument, pure=False): position for position in positions}
    done = distributed.as_completed(list(waiting))
    try:
        while waiting:
            future = next(done)
            if future not in waiting:
                continue
            bar.begin(pieces[min(waiting.values())].name)
            position = waiting.pop(future)
            try:
                result = future.result()
            except distributed.KilledWorker as error:
                failure.note(position, clients.lost, error)
            except concurrent.futures.CancelledError:
                continue
            except Exception as error:
                failure.note(position, clients.failed, error)
            else:
                yield position, result
            if unwanted := failure.take_unwanted(waiting):
                client.cancel(unwanted)
    finally:
        client.cancel(list(waiting))
