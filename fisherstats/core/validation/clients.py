"""Checks of clients, and the errors of failed tasks."""

from __future__ import annotations

from typing import Any, NoReturn

from fisherstats.core.errors import WorkerLost
from fisherstats.core.validation.arguments import reworded, shown

__all__ = ["client", "cluster_gone", "failed", "lost", "named", "no_warm_start", "unreachable"]


def client(value: Any) -> None:
    """Require None, a client of a cluster or an executor that accepts tasks."""
    if value is None:
        return
    if not callable(getattr(value, "submit", None)):
        hint = ""
        if isinstance(value, str):
            hint = f"; pass distributed.Client({value!r})"
        elif hasattr(value, "get_client"):
            hint = "; pass its client, cluster.get_client()"
        raise TypeError(
            "`client` must be None, a distributed.Client or an executor with a method `submit`, such as those of "
            f"concurrent.futures, got {shown(value)}{hint}."
        )
    if getattr(value, "asynchronous", False):
        raise TypeError("`client` must be a blocking client, got an asynchronous one; make it without asynchronous=True.")
    if getattr(value, "status", "running") == "closed":
        raise ValueError("`client` must be connected to its scheduler, got one that is closed.")


def no_warm_start(client: Any, warm_start: bool) -> None:
    """Refuse to distribute trainings of which each starts from the result of the previous one."""
    if client is not None and warm_start:
        raise ValueError(
            "`client` must be None with warm_start=True: each training starts from the network of the previous one, so they "
            "cannot run in parallel; leave out one of the two."
        )


def failed(piece: str, error: Exception) -> NoReturn:
    """Re-raise an error with the name of the task in which it was raised."""
    raise named(piece, error) from error


def named(piece: str, error: Exception) -> Exception:
    """Return an error of the same type whose message begins with the name of the task in which it was raised."""
    again = reworded(error, f"{piece}: {error}")
    # Attributes of the error, such as the network of a training that diverged, are kept.
    again.__dict__.update(error.__dict__)
    return again


def lost(piece: str, error: Exception | None = None) -> NoReturn:
    """Return the error for workers that died while running a task."""
    raise WorkerLost(
        f"{piece}: abandoned, as the workers that computed it died one after another, usually for lack of memory: use "
        "fewer workers or ones with more memory."
    ) from error


def cluster_gone(piece: str, error: BaseException) -> NoReturn:
    """Return the error for an executor or a cluster that accepts no more tasks."""
    raise WorkerLost(
        f"{piece}: not computed, as `client` has stopped or lost its workers ({type(error).__name__}: {error}); make a new "
        "one and call again."
    ) from error


def unreachable(option: str, address: str, error: BaseException) -> NoReturn:
    """Return the error for a scheduler that does not respond."""
    raise ValueError(f"`{option}` must be the address of a running dask scheduler, got {address!r} ({error}).") from error
