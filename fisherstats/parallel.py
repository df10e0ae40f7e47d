"""Independent pieces of work, in this process or through a client: a cluster of dask or any executor.

A client is the caller's: none is made here. What all pieces need is sent once. A client computes every piece with one thread, of
BLAS and of this package (the kernels are serial); its result does not depend on where it is computed.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import pickle
import uuid
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

from fisherstats.checks import arguments, clients
from fisherstats.progress import Bar, progress_bar
from fisherstats.streaming import one_blas_thread

__all__ = ["Piece", "completed", "in_order"]

Function = Callable[[Any, Any, int | None], Any]
"""(what all pieces need, what this piece is, threads to use) -> its result; importable by name, so that it can be sent."""

Results = Generator[tuple[int, Any], None, None]
"""(position of the piece, its result)."""

_ATTEMPTS = 3
"""How often what all pieces need is sent to a cluster, if every worker that has it dies."""


class Piece(NamedTuple):
    """One piece of work: what messages call it, and what the function is given."""

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
    """Return the results of all pieces in their order."""
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
    """Yield (position, result) of each piece when it is done; what has not begun is cancelled if the caller stops.

    An error is raised again, of the same type, with the name of its piece in front of the message.
    """
    bar = Bar() if bar is None else bar
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


def _compute(function: Function, shared: Any, argument: Any, num_threads: int | None = 1) -> Any:
    with one_blas_thread():
        return function(shared.value if isinstance(shared, _Sent) else shared, argument, num_threads)


def _here(function: Function, shared: Any, pieces: Sequence[Piece], num_threads: int | None, bar: Bar) -> Results:
    for position, piece in enumerate(pieces):
        bar.begin(piece.name)
        try:
            result = _compute(function, shared, piece.argument, num_threads)
        except Exception as error:
            raise clients.named(piece.name, error) from error
        yield position, result


class _Sent:
    """What all pieces need, for executors: the same object for threads, for processes pickled once and unpickled once in each."""

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


def _in_executor(executor: Any, function: Function, shared: Any, pieces: Sequence[Piece], bar: Bar) -> Results:
    sent = _Sent(shared, uuid.uuid4().hex)
    waiting: dict[concurrent.futures.Future[Any], int] = {}
    try:
        for position, piece in enumerate(pieces):
            try:
                waiting[executor.submit(_compute, function, sent, piece.argument)] = position
            except RuntimeError as error:  # it is shut down, or its processes have died
                clients.cluster_gone(piece.name, error)
        while waiting:
            bar.begin(pieces[min(waiting.values())].name)
            for future in concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED).done:
                position = waiting.pop(future)
                try:
                    result = future.result()
                except (concurrent.futures.BrokenExecutor, concurrent.futures.CancelledError) as error:
                    clients.cluster_gone(pieces[position].name, error)
                except Exception as error:
                    raise clients.named(pieces[position].name, error) from error
                yield position, result
    finally:
        for future in waiting:
            future.cancel()


def _on_cluster(client: Any, function: Function, shared: Any, pieces: Sequence[Piece], bar: Bar) -> Results:
    todo = set(range(len(pieces)))
    attempt = 0
    while todo:
        attempt += 1
        try:
            (sent,) = client.scatter([shared], broadcast=True, hash=False)
        except (TimeoutError, OSError) as error:
            clients.cluster_gone(pieces[min(todo)].name, error)
        # The scheduler computes lost results again; what was sent is gone with the last worker that had it. If that happens
        # again and again, the pieces go one by one to find the one that kills its worker.
        alone = attempt == _ATTEMPTS
        for group in [[position] for position in sorted(todo)] if alone else [sorted(todo)]:
            for position, result in _submitted(client, function, sent, pieces, group, bar):
                todo.remove(position)
                yield position, result
            if alone and todo.intersection(group):
                clients.lost(pieces[group[0]].name)


def _submitted(client: Any, function: Function, sent: Any, pieces: Sequence[Piece], positions: list[int], bar: Bar) -> Results:
    """Yield the results of some pieces, without those that were lost for good."""
    distributed = arguments.optional_module("distributed", extra="distributed")
    waiting = {client.submit(_compute, function, sent, pieces[position].argument, pure=False): position for position in positions}
    try:
        for future in distributed.as_completed(list(waiting)):
            bar.begin(pieces[min(waiting.values())].name)
            position = waiting.pop(future)
            try:
                result = future.result()
            except distributed.KilledWorker as error:
                clients.lost(pieces[position].name, error)
            except concurrent.futures.CancelledError:
                continue
            except Exception as error:
                raise clients.named(pieces[position].name, error) from error
            yield position, result
    finally:
        client.cancel(list(waiting))
