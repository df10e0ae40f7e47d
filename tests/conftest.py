"""Clients for the tests that need real ones: a scheduler and worker processes of dask, executors."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def local_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A scheduler and two worker processes of one thread each; nannies start killed workers anew."""
    distributed = pytest.importorskip("distributed")
    dask = pytest.importorskip("dask")
    with (
        dask.config.set({"temporary-directory": str(tmp_path_factory.mktemp("dask"))}),  # and not in the checkout
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as cluster,
    ):
        yield cluster


@pytest.fixture
def client(local_cluster: Any) -> Iterator[Any]:
    """A client of the cluster, with both workers up again whatever the test before has killed."""
    distributed = pytest.importorskip("distributed")
    with distributed.Client(local_cluster) as connected:
        connected.wait_for_workers(2, timeout=30)
        yield connected


@pytest.fixture(scope="module")
def processes() -> Iterator[concurrent.futures.Executor]:
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


@pytest.fixture(params=["this process", "threads", "processes", "cluster"])
def anywhere(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Every kind of client."""
    if request.param == "this process":
        yield None
    elif request.param == "cluster":
        yield request.getfixturevalue("client")
    elif request.param == "threads":
        with concurrent.futures.ThreadPoolExecutor(2) as executor:
            yield executor
    else:
        yield request.getfixturevalue("processes")
